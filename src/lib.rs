//! Evicts opted-in pods before the kernel's OOM killer ends them.
pub mod cgroup;
pub mod evict;
pub mod guard;
pub mod pods;
pub mod policy;
pub mod resolve;
pub mod sampler;
pub mod units;
