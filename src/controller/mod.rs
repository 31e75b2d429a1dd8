//! What is known about this node's opted-in pods, and what is done about them. Pod changes, resolutions, the sampler's
//! reports, answers and time go in; effects come out. No clock, no I/O.

mod answers;
mod attempt;
mod choice;
mod core;
mod counts;
mod due;
mod effects;
mod entry;
mod kills;
mod latency;
mod pods;
mod remedies;
mod reports;
mod resolution;
#[cfg(test)]
mod tests;
pub mod view;
mod warning;

pub use self::core::{Controller, Read, Settings};
pub use self::counts::Sizes;
pub use self::effects::Effect;
pub use self::remedies::ReadNode;
