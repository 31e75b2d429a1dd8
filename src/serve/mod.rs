//! What the agent answers to those who ask it: metrics, probes, `/api/guards` and the page.

pub mod http;
pub mod wire;
