//! Warnings: a request to the container itself, before anything is done about it. A warning never delays anything else: it has
//! its own state, its own task, and its own connection.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::{Controller, Key, find};
use super::effects::{Effect, notice_of, notify};
use super::entry::{Entry, Name};
use crate::act::warn::{Warned, Warning};
use crate::decide::judge::Evidence;
use crate::decide::schedule::time_left;
use crate::decide::warn::address;
use crate::ground::clock::Moment;
use crate::ground::units::Bytes;
use crate::pods::ContainerId;
use crate::pods::guard::DryRun;
use crate::report::notice::Subject;
use crate::sampler::TargetId;

/// A container is warned once in this time.
const EACH: Duration = Duration::from_secs(60);
/// What memory does in this time after a warning counts as its effect.
const EFFECT_WITHIN: Duration = Duration::from_secs(10);

/// The last warning of a container.
#[derive(Debug)]
pub(super) struct LastWarning {
    at: Moment,
    container: String,
    evidence: Evidence,
    /// `None` as long as there is no answer.
    answer: Option<Warned>,
    /// When its effect is looked at; `None` once it was.
    look_at: Option<Moment>,
}

/// The last warning of each of a pod's containers, for [`EACH`]. Not by target: a guard that is invalid for a moment has new
/// targets after it, but its containers were warned already.
pub(super) type Warnings = BTreeMap<ContainerId, LastWarning>;

/// When the effect of a warning is due to be looked at.
pub(super) fn due(warnings: &Warnings) -> Option<Moment> {
    warnings.values().filter_map(|warning| warning.look_at).min()
}

impl Controller {
    /// A target is above its threshold for warnings.
    pub(super) fn warn(&mut self, now: Moment, id: TargetId, evidence: Evidence) {
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else { return };
        let (Ok(guard), None) = (&entry.guard, entry.never) else { return };
        let (Some(url), Name::Container(container, instance)) = (&guard.warn_url, &entry.targets[i].name) else {
            return;
        };
        entry.warnings.retain(|_, last| now < last.at + EACH);
        if entry.warnings.contains_key(instance) {
            return;
        }
        let (container, instance) = (container.clone(), *instance);
        let warning = match address(&entry.pod, url) {
            Ok(to) => Warning {
                to,
                path: url.path.clone(),
                namespace: entry.pod.id.namespace.clone(),
                pod: entry.pod.id.name.clone(),
                container: container.clone(),
                signal: evidence.signal.as_str(),
                value: evidence.value.0,
                threshold: evidence.threshold.0,
                limit: evidence.limit.map(|limit| limit.0),
                growth: evidence.growth,
                time_left_ms: time_left(evidence.margin, evidence.growth.max(evidence.slow_growth))
                    .and_then(|left| u64::try_from(left.as_millis()).ok()),
            },
            Err(why) => {
                notify(&mut self.effects, entry, Some(container), Subject::NotWarned(why.to_string()));
                return;
            }
        };
        let mode = self.settings.dry_run.max(guard.dry_run);
        let sent = mode == DryRun::Off;
        let answer = (!sent).then_some(Warned::NotSent);
        let look_at = sent.then_some(now + EFFECT_WITHIN);
        let last = LastWarning { at: now, container: container.clone(), evidence, answer, look_at };
        entry.warnings.insert(instance, last);
        if sent {
            self.effects.push(Effect::Warn(id, Box::new(warning)));
        } else {
            let subject = Subject::Warned { evidence, answer: Warned::NotSent, relieved: 0 };
            self.effects.push(Effect::Notify(Box::new(notice_of(entry, Some(container), subject))));
        }
    }

    /// Handles the container's answer to a warning.
    pub fn warned(&mut self, id: TargetId, answer: Warned) {
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else { return };
        if let Name::Container(_, instance) = &entry.targets[i].name
            && let Some(last) = entry.warnings.get_mut(instance)
        {
            last.answer = Some(answer);
        }
    }

    /// Reports what memory did after the warnings whose time is over.
    pub(super) fn look_at_warnings(&mut self, now: Moment, key: &Key) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let due = entry.warnings.iter().filter(|(_, w)| w.look_at.is_some_and(|at| at <= now));
        let due: Vec<ContainerId> = due.map(|(instance, _)| *instance).collect();
        for instance in due {
            let relieved = relieved(entry, &instance);
            let Some(last) = entry.warnings.get_mut(&instance) else { continue };
            last.look_at = None;
            let answer = last.answer.clone().unwrap_or(Warned::Failed("no answer".into()));
            let subject = Subject::Warned { evidence: last.evidence, answer, relieved: relieved.unwrap_or(0) };
            let container = last.container.clone();
            self.effects.push(Effect::Notify(Box::new(notice_of(entry, Some(container), subject))));
        }
    }
}

/// By how much the signal has fallen since the warning, in bytes; negative if it has risen. `None`: the container is gone.
fn relieved(entry: &Entry, instance: &ContainerId) -> Option<i64> {
    let before = entry.warnings.get(instance)?.evidence.value;
    let now = entry.of_instance(instance)?.last_sample()?.value?;
    let signed = |bytes: Bytes| i64::try_from(bytes.0).unwrap_or(i64::MAX);
    Some(signed(before).saturating_sub(signed(now)))
}
