//! A pod's label and annotations → its [`Guard`], or the list of what is wrong. Pure.
//!
//! A pod with one invalid annotation is never evicted; the report says what to write instead.
//!
//! | file | what it knows |
//! |---|---|
//! | `read.rs` | which annotations there are, and that all problems are reported at once |
//! | `value.rs` | which values each annotation accepts |
//! | `remedies.rs` | the same for the remedies and the warning |
//! | `rule.rs` | what follows from them: thresholds, the spread |
//! | `problem.rs` | the messages to users |
//!
//! A new annotation is: its key in [`ground::keys`] (and in `ALL`), a parser in `value.rs`, a field in `rule.rs`, a line in
//! `read.rs`; where it is about memory, its effect in [`decide::judge`] (a rule that takes time is reset in
//! `controller/choice.rs`, `judge_again`). Outside `src`: `docs/annotations.md`, and the two policies for whole namespaces
//! (`daemonset/chart/templates/policy-namespaces.yaml`, `daemonset/components/namespaces/policy.yaml`).
//!
//! [`ground::keys`]: crate::ground::keys
//! [`decide::judge`]: crate::decide::judge

mod problem;
mod read;
mod remedies;
mod rule;
mod value;

pub use self::problem::{Problem, Warning};
pub use self::read::{Reading, by_namespace, read};
pub use self::rule::{DryRun, Guard, MIN_QUANTITY, Raise, Remedy, Rule, Threshold, WarnUrl};
pub use self::value::NAMESPACE_THRESHOLD;
