//! What the controller wants done, and how it reports on a pod: each thing once.

use super::entry::{Entry, MOST_REPORTED, bad_ids};
use crate::act::order::Order;
use crate::act::warn::Warning;
use crate::cgroup::resolve::Want;
use crate::report::notice::{Notice, Subject};
use crate::sampler::{Command, TargetId};

/// What the caller has to do.
#[derive(Debug)]
pub enum Effect {
    /// Find and open these groups; answer with `Controller::resolved`.
    Resolve(TargetId, Want),
    Sampler(Command),
    /// Send this, and answer with `Controller::answered` under the same number.
    Post(u64, Order),
    /// Send this, and answer with `Controller::warned`.
    Warn(TargetId, Box<Warning>),
    Notify(Box<Notice>),
}

pub(super) fn notify_bad_ids(effects: &mut Vec<Effect>, entry: &mut Entry) {
    for (container, problem) in bad_ids(entry) {
        notify(effects, entry, Some(container), Subject::Unresolved(problem));
    }
}

pub(super) fn notice_of(entry: &Entry, container: Option<String>, subject: Subject) -> Notice {
    let (pod, owner) = (entry.pod.id.clone(), entry.pod.owner.clone());
    Notice { pod, owner, container, by_namespace: entry.by_namespace, subject }
}

/// Reports something about a pod, unless it was reported before in the same words.
pub(super) fn notify(effects: &mut Vec<Effect>, entry: &mut Entry, container: Option<String>, subject: Subject) {
    let words = format!("{}: {}", container.as_deref().unwrap_or(""), subject.once());
    if entry.reported.len() >= MOST_REPORTED {
        entry.reported.clear(); // rather twice than never
    }
    if entry.reported.insert(words) {
        effects.push(Effect::Notify(Box::new(notice_of(entry, container, subject))));
    }
}
