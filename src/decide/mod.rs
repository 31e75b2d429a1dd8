//! What is decided about a container: from its samples, its pod and what was done before. Pure, without a clock, I/O or a log.

pub mod allocation;
mod budget;
pub mod class;
pub mod eligibility;
pub mod growth;
pub mod judge;
pub mod ladder;
pub mod past;
pub mod progress;
pub mod restraint;
pub mod schedule;
pub mod step;
pub mod throttle;
pub mod warn;
