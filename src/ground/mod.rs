//! What every other room stands on: plain data, without a file or a connection.

pub mod clock;
pub mod keys;
pub mod memory;
pub mod text;
pub mod units;
