//! Memory cgroups, v1 and v2. Descriptors stay open and are read with `pread`.
//!
//! A group that is gone is a value (`None`), not an error: reading a kept descriptor of a removed group gives `ENODEV`,
//! opening one gives `ENOENT`. A read allocates nothing unless it fails.

mod alarms;
mod allocations;
mod error;
mod group;
mod hierarchy;
mod kills;
mod pace;
mod parse;
pub mod resolve;
mod slow;
mod swap;
mod v1;
mod v2;
mod version;

pub use self::alarms::{Alarm, Alarms};
pub use self::allocations::{Allocations, NotCounted};
pub use self::error::{Malformed, ReadError, ReadErrorKind};
pub use self::group::{Group, Machine, peak};
pub use self::hierarchy::{Hierarchy, HierarchyError};
pub use self::kills::{Hit, Kills};
pub use self::pace::{ForPeople, Reading, StatRead};
pub use self::parse::Limit;
pub use self::slow::StatReader;
pub use self::version::Version;
