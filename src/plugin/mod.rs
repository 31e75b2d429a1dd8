//! The commands that people run on their own machines. The image is built without them (feature `plugin`).

pub mod check;
pub mod sanitize;
pub mod status;
