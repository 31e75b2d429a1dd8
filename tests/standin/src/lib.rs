//! A small in-process Kubernetes API server, with a tiny kubelet, for tests, benches and the demo.
//!
//! It answers as a Kubernetes 1.36.2 server was recorded to answer (resizes: a 1.36.3 with its kubelet), for the few
//! resources that pre-oom-killer uses; `tests/recorded.rs`, `recorded_resizes.rs` and `watched_resizes.rs` compare them.
//!
//! | room | what is in it |
//! |---|---|
//! | [`Standin`] (`standin.rs`) | the handle: put pods, bring about trouble, look at the log |
//! | [`answers`] | the table of facts: codes, reasons, causes, messages, and where each was seen |
//! | [`compare`] | what of an answer must agree with a recorded one |
//! | `server.rs`, [`tls`] | the thread, the port, connections; a request is logged and meets its fault here |
//! | `route.rs` | who answers what; bodies |
//! | `who.rs`, `access.rs` | who asks, as whom, and whether they may: RBAC as manifests have it, acting as a node |
//! | `admission.rs` | NodeRestriction, and the policies of the project |
//! | `list.rs`, `watch.rs`, `select.rs` | reading pods |
//! | `resize.rs`, `resize_rules.rs`, `strategic.rs`, `managed.rs` | resizing them: checks in order, what may change, the patch, whose fields |
//! | `pods.rs`, `evict.rs`, `pdb.rs`, `deletion.rs` | changing and evicting them |
//! | `proxy.rs` | a pod's port, through the API server |
//! | `kubelet.rs` | SIGTERM, SIGKILL, the last status |
//! | [`Resizes`] (`resizes.rs`) | whether and how the kubelet carries resizes out |
//! | `kubelet_resize.rs`, `kubelet_restart.rs` | doing that: limits in the pod's and the container's group, a container's restart |
//! | `resize_plan.rs`, `resize_status.rs` | what is left to do, and what the status says of it |
//! | `events.rs` | Events in both groups |
//! | `state.rs`, `log.rs` | the data, and waiting for it to change |
//! | [`slack()`] (`slack.rs`) | longer waits for a busy machine |
//! | [`fault`], [`PodBuilder`] (`builder.rs`, `container.rs`) | trouble on request; pods shaped like real ones |
//! | `quantity.rs` | `384Mi` and the like |
//!
//! Nothing here is for production: it panics when a test misuses it.

mod access;
mod admission;
pub mod answers;
mod builder;
pub mod cgroups;
mod clock;
pub mod compare;
mod container;
mod deletion;
mod events;
mod evict;
pub mod fault;
pub mod hog;
mod kubelet;
mod kubelet_resize;
mod kubelet_restart;
mod list;
mod log;
mod managed;
mod pdb;
mod pods;
mod proxy;
mod quantity;
mod reply;
mod resize;
mod resize_plan;
mod resize_rules;
mod resize_status;
mod resizes;
mod route;
mod select;
mod server;
mod slack;
mod standin;
mod state;
mod strategic;
pub mod tls;
mod watch;
mod who;

pub use access::Grant;
pub use builder::{PodBuilder, pod};
pub use fault::Fault;
pub use log::Request;
pub use pdb::Pdb;
pub use resizes::{Fate, Resizes, Restarted};
pub use slack::slack;
pub use standin::Standin;
