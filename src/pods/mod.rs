//! The opted-in pods of this node: what is kept of them, how the API server's list and watch are read, and what a pod's
//! label and annotations ask for.
//!
//! | file | what it knows |
//! |---|---|
//! | `pod.rs` | what the agent keeps of a pod |
//! | `raw.rs` | how to read a pod's JSON: leniently, and within bounds |
//! | `resize.rs` | what a resize needs to know: `resources`, `resizePolicy`, who resized it before |
//! | `bounded.rs` | the most that each part of that JSON may cost |
//! | `framing.rs` | how to cut a response into objects while it comes in |
//! | `watch.rs` | list, then watch; back-off; when to list again |
//! | `change.rs` | what the watch reports |
//! | [`guard`] | label and annotations → a guard, or all that is wrong with them |

mod bounded;
mod change;
mod framing;
pub mod guard;
mod pod;
mod raw;
mod resize;
mod watch;

pub use self::change::{FailureKind, PodChange, WatchFailure};
pub use self::pod::{Container, ContainerId, ContainerKind, Owner, Phase, Pod, PodRef, PodUid, Resized, Resources};
pub use self::watch::watch;
