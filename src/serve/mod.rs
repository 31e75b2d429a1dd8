//! What the agent serves: metrics, probes, `/api/guards` and the page.

pub mod http;
pub mod wire;
