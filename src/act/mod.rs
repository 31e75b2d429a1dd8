//! What is sent to the API server to save a container, and what its answers mean.
//!
//! | file | what it knows |
//! |---|---|
//! | [`order`] | the request |
//! | `resize.rs` | the one that changes a container in place |
//! | [`answer`] | the meaning of an answer, and when to try again |
//! | [`evict`] | how it is sent, and when once more |
//! | [`warn`] | a warning to the container itself, before any of these |
//! | [`client`] | the connections: as whom, with which token, what to do about a dead one |
//! | [`kubeconfig`] | the address and the credentials of a run outside the cluster, as kubectl takes them |
//! | [`timeouts`] | how long is waited for what |

pub mod answer;
pub mod client;
pub mod evict;
pub mod kubeconfig;
pub mod order;
mod resize;
pub mod timeouts;
pub mod warn;
