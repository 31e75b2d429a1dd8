//! Plain data that every other module builds on, without files or connections.

pub mod boxed;
pub mod clock;
pub mod durations;
pub mod keys;
pub mod memory;
pub mod text;
pub mod units;
