//! What the agent may do, and whether the API server keeps it to its own node.
//!
//! | file | what it knows |
//! |---|---|
//! | [`confinement`] | the modes of `--confinement`, and the states of each |
//! | [`permissions`] | which permissions the agent needs, and which it must not have |
//! | [`probe`] | what the answer to the probe means |
//! | [`resize`] | the same of the probe of resizes |
//! | `prober.rs` | when to ask, and what to report |

pub mod confinement;
pub mod permissions;
pub mod probe;
mod prober;
pub mod resize;

pub use self::prober::{OwnPod, Prober, probe_forever};
