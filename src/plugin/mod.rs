//! What people run themselves, on their own machines; the image is built without it (feature `plugin`).

pub mod check;
pub mod sanitize;
pub mod status;
