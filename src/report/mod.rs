//! What people see: a log line and Events for each notice, metrics, and the last notices on the page.

pub mod events;
pub mod facts;
pub mod incidents;
pub mod log;
mod long_name;
pub mod metrics;
pub mod notice;
mod pace;
pub mod recent;
mod remedy_metrics;
pub mod stderr;
pub mod story;
pub mod words;

pub use self::pace::Pace;
