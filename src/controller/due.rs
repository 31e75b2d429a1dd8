//! What is due by time.

use super::core::{Controller, Key};
use super::effects::Effect;
use super::entry::{Entry, GroupState, Stage, want};
use super::kills::settle_by_time;
use crate::ground::clock::Moment;
use crate::sampler::TargetId;

impl Controller {
    /// When to call [`Controller::tick`].
    #[must_use]
    pub fn next_tick(&self) -> Option<Moment> {
        let due = self.due.first().map(|(at, _)| *at);
        debug_assert_eq!(due, self.pods.values().filter_map(|entry| entry.due()).min(), "every change is noted");
        due
    }

    /// Handles what is due by time: deferred or failed evictions, resolutions, and checks of evicted pods that should
    /// have ended.
    pub fn tick(&mut self, now: Moment) {
        let keys: Vec<Key> = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| key.clone()).collect();
        for key in &keys {
            self.eviction_due(now, key);
            self.look_at_warnings(now, key);
            let Some(entry) = self.pods.get_mut(key) else { continue };
            settle_by_time(&mut self.effects, entry, now);
            for i in 0..entry.targets.len() {
                let due = match &mut entry.targets[i].state {
                    GroupState::Resolving { retry_at, .. } if retry_at.is_some_and(|at| at <= now) => {
                        *retry_at = None;
                        true
                    }
                    _ => false,
                };
                if due {
                    let want = want(entry, &entry.targets[i], now);
                    self.effects.push(Effect::Resolve(entry.targets[i].id, want));
                }
            }
            self.note_due(key);
        }
    }

    /// Whether anything waits for [`Controller::heard`].
    #[must_use]
    pub fn waits_for_the_server(&self) -> bool {
        let waits = |e: &Entry| e.failure.as_ref().is_some_and(|f| f.unheard) || e.remedies.is_unheard();
        self.pods.values().any(|e| matches!(e.stage, Stage::Retrying { .. }) && waits(e))
    }

    /// Does something about a target, and then notes when its pod is due.
    pub(super) fn at(&mut self, id: TargetId, something: impl FnOnce(&mut Controller)) {
        let key = self.by_target.get(&id).cloned();
        something(self);
        if let Some(key) = key {
            self.note_due(&key);
        }
    }

    /// Notes when a pod is due next. To be called wherever that may have changed.
    pub(super) fn note_due(&mut self, key: &Key) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let due = entry.due();
        let noted = std::mem::replace(&mut entry.noted_due, due);
        if noted != due {
            if let Some(at) = noted {
                self.due.remove(&(at, key.clone()));
            }
            if let Some(at) = due {
                self.due.insert((at, key.clone()));
            }
        }
    }
}
