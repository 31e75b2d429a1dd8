//! pre-oom-killer evicts opted-in pods before the kernel's OOM killer ends them.
//!
//! The code reads as the data flows; a module calls those to its right, or plain data:
//!
//! ```text
//!  API server ──watch──▶ pods ──▶ guard ──▶ resolve ──▶ sampler ──▶ policy ──▶ evict ──▶ API server
//!                       (async)  (pure)    (readdir)  (own thread)  (pure)    (async)     │
//!                                                                      └────▶ report ◀────┘
//! ```
//!
//! | to change … | look into |
//! |---|---|
//! | flags and environment | [`cli`] |
//! | how the API server is reached, and as whom | [`client`] |
//! | what is kept of a pod, the watch | [`pods`] |
//! | label, annotations, their messages | [`guard`]; numbers: [`units`] |
//! | where a container's cgroup is | [`resolve`] |
//! | what the kernel's files say | [`cgroup`]; files that are slow: `cgroup/slow.rs` |
//! | when memory is looked at, and what is read | [`sampler`] (the thread; what it does with one container: `sampler/target.rs`); the schedule itself: [`schedule::next_look`] |
//! | when a container is over, its deadline, who is never evicted | [`policy`]; how fast it grows: [`growth`] |
//! | what is done about it, and when again | [`controller`] (no clock, no I/O); the eviction itself: `controller/eviction.rs` |
//! | back-off, turn, budgets, minimum age, what keeps dying young | [`restraint`] |
//! | the request, the meaning of its answer | [`evict`] |
//! | what the agent may do, and whether it is confined to its node | [`rights`] |
//! | log lines and Events | [`report`]; how they reach stderr: [`log`] |
//! | `/metrics` and the other pages | [`metrics`], [`http`]; `/api/guards`: [`controller::view`], [`recent`]; `/`: `page.html` |
//! | start, wiring, shutdown | [`agent`] |
//!
//! For people at a desk, behind the default feature `desk`, which the image is built without:
//!
//! | to change … | look into |
//! |---|---|
//! | `check`: manifests before they are applied | `check` |
//! | `status`: all agents of a cluster in one table | `status` |
//! | what of others' text reaches a terminal | `printable` |

pub mod access;
pub mod act;
pub mod agent;
pub mod cgroup;
pub mod cli;
pub mod config;
pub mod controller;
pub mod decide;
pub mod ground;
#[cfg(feature = "plugin")]
pub mod plugin;
pub mod pods;
pub mod report;
pub mod sampler;
pub mod serve;
