//! What the controller wants done, and how it reports on a pod: each thing once.

use std::sync::Arc;

use super::entry::{Entry, Guarded, MOST_REPORTED, bad_ids};
use crate::act::order::Order;
use crate::act::warn::Warning;
use crate::cgroup::resolve::Want;
use crate::report::notice::{MissReason, Notice, Subject};
use crate::report::story::{Story, Surroundings};
use crate::sampler::{Command, Known, TargetId};

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
    let target = entry.targets.iter().find(|target| target.name.container() == container.as_deref());
    let known = target.filter(|_| subject.is_about_an_eviction()).and_then(Guarded::known);
    notice(entry, container, subject, known, false)
}

/// `known`: what is known of the container that it is about. `filled`: it was killed because it had filled its limit.
pub(super) fn notice(
    entry: &Entry,
    container: Option<String>,
    subject: Subject,
    known: Option<Known>,
    filled: bool,
) -> Notice {
    let (pod, owner) = (entry.pod.id.clone(), entry.pod.owner.clone());
    let story = known.map(|known| {
        let (reason, killed_after) = match &subject {
            Subject::Missed { reason, last_sample, .. } => (Some(*reason), last_sample.as_ref().map(|last| last.1)),
            _ => (None, None),
        };
        let others = entry.targets.iter().filter(|target| target.name.container() != container.as_deref());
        let surroundings = Surroundings {
            signal: entry.guard.as_ref().map(|guard| guard.rule.signal).unwrap_or_default(),
            others: others
                .filter_map(|t| Some((t.name.container()?.to_owned(), t.last_sample()?.sample.own.usage)))
                .collect(),
            of_pod: reason == Some(MissReason::PodLimit),
            of_node: reason == Some(MissReason::NodeWide),
            killed_after,
            filled,
        };
        Arc::new(Story::new(known, surroundings))
    });
    Notice { pod, owner, container, by_namespace: entry.by_namespace, subject, story }
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
