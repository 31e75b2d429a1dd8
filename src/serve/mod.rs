//! What the agent serves: metrics, probes, `/api/guards`, `/api/incidents` and the page.

pub mod http;
pub mod incident;
pub mod past;
mod slots;
pub mod wire;
