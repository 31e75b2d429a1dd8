//! Targets whose cgroups we are looking for.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Controller, find};
use super::effects::{Effect, notify};
use super::entry::{GroupState, SETTLED};
use crate::cgroup::resolve::{Groups, Unresolved};
use crate::ground::clock::Moment;
use crate::report::notice::Subject;
use crate::sampler::{Command, Shown, TargetId, Watch};

/// A group appears 45–130 ms before its container's first instruction, its id in the watch 20–70 ms after (measured). The
/// group is therefore there when we look for it; a missing one comes at once or never.
pub(super) const FIRST_RESOLVE_RETRY: Duration = Duration::from_millis(20);

/// The interval of searches for a container whose group is still missing.
const LAST_RESOLVE_RETRY: Duration = Duration::from_secs(10);

impl Controller {
    /// Handles the result of a search for a target's group.
    pub fn resolved(&mut self, now: Moment, id: TargetId, result: Result<Groups, Unresolved>) {
        self.at(id, |c| c.take_resolution(now, id, result));
    }

    fn take_resolution(&mut self, now: Moment, id: TargetId, result: Result<Groups, Unresolved>) {
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else {
            return;
        };
        let GroupState::Resolving { since, attempt, why, retry_at, had_group } = &mut entry.targets[i].state else {
            return;
        };
        match (result, &entry.guard) {
            (Ok(groups), Ok(guard)) => {
                let (view, latency) = (Arc::<Shown>::default(), self.latencies.of(&entry.pod.id.namespace));
                let watch = Watch { id, groups: groups.clone(), rule: guard.rule, shown: Arc::clone(&view), latency };
                self.effects.push(Effect::Sampler(Command::Watch(Box::new(watch))));
                entry.targets[i].edit = 0;
                entry.targets[i].state = GroupState::Watched { groups, view, above: None, unreadable: None };
            }
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                let waited = now.saturating_sub(*since);
                let back_off = FIRST_RESOLVE_RETRY.saturating_mul(1 << (*attempt).min(16));
                *retry_at = Some(now + back_off.min(LAST_RESOLVE_RETRY));
                *attempt += 1;
                *why = Some(error.to_string());
                // It is no news that a group is gone, or not there yet.
                let news = match error {
                    // The kubelet passes the controller on before it starts a container.
                    Unresolved::NotFound | Unresolved::NotDelegated(_) => waited >= SETTLED && !*had_group,
                    Unresolved::ChargedToPod | Unresolved::TooMany | Unresolved::Unreadable(_) => true,
                };
                if news {
                    let container = entry.targets[i].name.container().map(str::to_owned);
                    notify(&mut self.effects, entry, container, Subject::Unresolved(error.to_string()));
                }
            }
        }
    }
}
