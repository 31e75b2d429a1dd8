//! The sampler's reports.

use super::core::{Controller, find, key_of};
use super::effects::notify;
use super::entry::{GroupState, Guarded};
use super::kills::{Counted, counted, group_gone, keep_last_sample};
use super::resolution::FIRST_RESOLVE_RETRY;
use crate::ground::clock::Moment;
use crate::report::notice::Subject;
use crate::sampler::{Report, TargetId, What};

impl Controller {
    /// Handles a report of the sampler.
    pub fn reported(&mut self, now: Moment, report: Report) {
        self.at(report.id, |c| c.take_report(now, report));
    }

    fn take_report(&mut self, now: Moment, report: Report) {
        let id = report.id;
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else {
            return;
        };
        if report.edit != entry.targets[i].edit && !matches!(report.what, What::Gone | What::Killed { .. }) {
            return;
        }
        let container = entry.targets[i].name.container().map(str::to_owned);
        let GroupState::Watched { above, view, unreadable, .. } = &mut entry.targets[i].state else {
            return;
        };
        // The first sample after a file could not be read shows that it can be read again.
        match &report.what {
            What::Unreadable(error) => *unreadable = Some(error.to_string()),
            What::Killed { .. } | What::Gone => {}
            _ => *unreadable = None,
        }
        match report.what {
            What::Above { evidence, .. } | What::Worsened(evidence) => {
                *above = Some(Box::new(evidence));
                self.open.insert(key_of(&entry.pod.id));
            }
            What::Warned(evidence) => self.warn(now, id, evidence),
            What::Dipped => {
                *above = None;
                self.open.insert(key_of(&entry.pod.id));
            }
            What::Killed { count, together, hit, last: last_sample } => {
                let last_sample = last_sample.map(|last_sample| *last_sample).or(view.last());
                let kills = Counted { count, together, hit, last_sample };
                counted(&mut self.effects, entry, now, i, kills, self.settings.dry_run);
            }
            What::Gone => self.group_gone(now, id),
            // The namespace's label also opts in pods that do not suit it, and nobody made a mistake. `status` and
            // `/api/guards` say so in a line, without an Event.
            What::NoLimit | What::BeyondLimit if entry.by_namespace => {}
            // A pod without a limit as a whole is no fault of the guard: each of its containers is guarded by its own
            // limit, and a container without one gets its own Event.
            What::NoLimit if container.is_none() => {}
            What::Throttled(throttled) => notify(&mut self.effects, entry, container, Subject::Throttled(throttled)),
            What::NoLimit => notify(&mut self.effects, entry, container, Subject::NoLimit),
            What::BeyondLimit => notify(&mut self.effects, entry, container, Subject::BeyondLimit),
            What::Unreadable(error) => {
                *above = None;
                notify(&mut self.effects, entry, container, Subject::Unreadable(error.to_string()));
                self.open.insert(key_of(&entry.pod.id));
            }
        }
    }

    fn group_gone(&mut self, now: Moment, id: TargetId) {
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else { return };
        let target = entry.targets.remove(i);
        keep_last_sample(entry, &target, self.settings.dry_run);
        group_gone(entry, &target);
        let pod = entry.pod.id.clone();
        if entry.never.is_some() {
            self.by_target.remove(&id);
        } else {
            // It has ended, or is about to restart under a new id, or its group is being created anew.
            let why = Some("its cgroup is gone".into());
            let retry_at = Some(now + FIRST_RESOLVE_RETRY);
            let state = GroupState::Resolving { since: now, attempt: 0, retry_at, why, had_group: true };
            entry.targets.insert(i, Guarded { state, ..target });
        }
        self.learn_end(now, &pod, id);
        self.open.insert(key_of(&pod));
    }
}
