//! pre-oom-killer saves the containers of opted-in pods before the kernel's OOM killer ends them: by a higher limit, a restart in
//! place, or an eviction.
//!
//! The code reads as the data flows; the arrows are data, not imports:
//!
//! ```text
//!  API server ──watch──▶ pods ──▶ cgroup ──▶ sampler ──▶ decide ──▶ controller ──▶ act ──▶ API server
//!                       (async)  (readdir)  (a thread)   (pure)      (pure)      (async)
//!                                                                       └──▶ report ──▶ log, Events, metrics
//! ```
//!
//! | to change … | look into |
//! |---|---|
//! | label, annotations, their messages | [`pods::guard`]; the keys: [`ground::keys`]; numbers: [`ground::units`] |
//! | what is kept of a pod; its JSON; the list and the watch | [`pods`] |
//! | where a container's cgroup is | [`cgroup::resolve`] |
//! | what the kernel's files say, in v1 and in v2 | [`cgroup`]; swap: `cgroup/swap.rs`; a slow `memory.stat`: `cgroup/slow.rs` |
//! | when a container is sampled | [`decide::schedule`]; when that can wait: [`decide::allocation`], `sampler/allocation.rs`; when the kernel's alarm rings: `cgroup/alarms.rs`, `sampler/bells.rs` |
//! | what crawls at `memory.high` | [`decide::throttle`] |
//! | what a sample reads, what is reported of it | [`sampler`]: `reader.rs`, `target.rs` |
//! | when a container is above its threshold, its deadline | [`decide::judge`]; how fast it grows: [`decide::growth`] |
//! | which remedy is tried | [`decide::ladder`]; how far a raise goes: [`decide::step`]; when the next one begins: [`decide::progress`]; followed in the kernel's files: `controller/attempt.rs`; what is remembered: `controller/remedies.rs` |
//! | warnings | [`act::warn`]; where they may go: [`decide::warn`]; when: `controller/warning.rs` |
//! | who is never evicted | [`decide::eligibility`] |
//! | back-off, turn, budgets, minimum age, what keeps dying young | [`decide::restraint`] |
//! | what is done about a pod, and when again | [`controller`]: one file for each kind of input |
//! | the request, its timeouts, what its answer means | [`act`] |
//! | what the agent may do, and whether it is confined to its node | [`access`] |
//! | words of Events and log lines | `report/words.rs`; which there are: `report/notice.rs`; why an eviction is deferred: [`decide::restraint::Reason`] |
//! | metrics | [`report::metrics`] |
//! | `/healthz`, `/readyz`, `/metrics`, the page | [`serve::http`], `serve/page.html`; `/api/guards`: [`serve::wire`], filled by `controller/view.rs` |
//! | flags and environment | [`cli`], [`config`] |
//! | start, wiring, the loop, shutdown | [`agent`] |
//!
//! Three words differ outside, where they are contracts: what is *deferred* here is `held` in Events, metrics and JSON; the
//! *margin* to a kill is `room`; and *above* its threshold is `over`.
//!
//! What people run on their own machines is in `plugin`, behind the default feature `plugin`; the image is built without it:
//!
//! | to change … | look into |
//! |---|---|
//! | `check`: manifests before they are applied | `plugin/check/` |
//! | `status`: all agents of a cluster in one table | `plugin/status/` |
//! | `why`: what led to a container's last incident | `plugin/why/` |
//! | `recommend`: which threshold or limit a workload needs | `plugin/recommend/` |
//! | how these find the agents, and ask them | `plugin/agents/` |
//! | what of others' text reaches a terminal | `plugin/sanitize.rs` |

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
