//! What is sent to the API server, and what its answers mean: one file for each remedy.

pub mod client;
pub mod evict;
