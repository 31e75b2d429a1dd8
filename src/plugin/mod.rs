//! The commands that people run on their own machines. The image is built without them (feature `plugin`).

pub mod agents;
pub mod check;
pub mod recommend;
pub mod sanitize;
pub mod status;
pub mod terminal;
pub mod why;
