//! Evicts opted-in pods before the kernel's OOM killer ends them.
pub mod agent;
pub mod cgroup;
pub mod cli;
pub mod controller;
pub mod evict;
pub mod guard;
pub mod http;
pub mod metrics;
pub mod pods;
pub mod policy;
pub mod report;
pub mod resolve;
pub mod sampler;
pub mod units;
