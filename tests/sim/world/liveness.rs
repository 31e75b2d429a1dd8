//! What must happen in the end, or in time.

use super::oracle::{QUIET, ROUNDED};
use super::*;

/// A container that is seen to be in danger for less than this had not the time to be evicted: looks, reports and decisions
/// take some of it.
const TIME_ENOUGH: Duration = Duration::from_millis(1500);
/// An eviction takes at least so long; one that is asked for later comes too late.
const TOO_LATE: Duration = Duration::from_millis(250);
/// The longest pace of an answer, with its jitter.
const LONGEST_PACE: Duration = Duration::from_secs(75);
/// By so much may a try be later than the earliest moment for it.
const JITTER: Duration = Duration::from_secs(16);

impl World<'_> {
    /// The kernel kills a container at this moment: was its eviction asked for when there was the time?
    pub(super) fn check_in_time(&mut self, uid: &str, key: Key, name: &'static str, id: u64) {
        let Some(pod) = self.told.get(&key).filter(|p| p.uid == uid).cloned() else { return };
        let is_guarded = pod.ask.guarded(&pod).is_some_and(|(names, _)| names.contains(&name));
        let is_dry = self.dry_run != Dry::Off || pod.ask.dry != Dry::Off;
        if pod.label != Label::Enabled || !is_guarded || pod.never().is_some() || is_dry {
            return;
        }
        let Some(target) = self.meant.iter().find(|(_, m)| m.container == Some(id)).map(|(id, _)| *id) else { return };
        self.check_gentle(&pod, target, id);
        let lately = |at: Moment| at + LONGEST_PACE >= self.now;
        let is_tried = self.rungs.begun.get(&id).is_some_and(|b| lately(b.at));
        if !pod.ask.ladder.has("evict") || is_tried {
            return;
        }
        let (Some(looked), Some(memory)) = (self.looked.get(&target), self.memory.get(&id)) else { return };
        let base = memory.limit.or(self.bodies.get(uid).and_then(|b| b.limit.flatten())).map(Bytes);
        // Since when it was over, past its second threshold, and nothing disturbed the sight of it.
        let from = memory.changed_at.max(looked.undisturbed);
        let since = |is: &dyn Fn(&Level) -> bool| {
            let (mut no, mut yes) = (from, self.now);
            if is(&memory.level(no)) {
                return Some(no);
            }
            if !is(&memory.level(yes)) {
                return None;
            }
            for _ in 0..40 {
                let middle = no + (yes - no) / 2;
                *(if is(&memory.level(middle)) { &mut yes } else { &mut no }) = middle;
            }
            Some(yes)
        };
        let over = since(&|level| is_over(level, base, &pod.ask) == Some(true));
        let critical = since(&|level| is_past_force(level, base, &pod.ask));
        let (now, lived, rate) = (self.now, self.lived(&pod, Some(id)), memory.rate);
        let limit = memory.limit.unwrap_or(0);
        let had_time = |since: Option<Moment>| since.is_some_and(|at| at + TIME_ENOUGH <= now);
        if !had_time(over) || self.is_left(&pod, lived) || self.rescues_may_be_spent() {
            return;
        }
        let tries = self.tries.get(uid);
        let asked = |act: Option<Act>| {
            let lately = |(at, asked): &(Moment, Act)| {
                act.is_none_or(|act| act == *asked) && *at + TOO_LATE <= self.now && self.now <= *at + LONGEST_PACE
            };
            tries.is_some_and(|t| t.sent.iter().any(lately))
        };
        let (was_asked, was_deleted) = (asked(None), asked(Some(Act::Delete)));
        let is_paced = |pace: &Pace| pace.failures > 0 && now <= pace.not_before + JITTER;
        let (waits, delete_waits) = tries.map_or((false, false), |t| (is_paced(&t.evict), is_paced(&t.delete)));
        let blocked = tries.and_then(|t| t.blocked);
        let is_free = tries.is_none_or(|t| t.in_flight == 0 && t.accepted.is_none());
        let text = format!("{name} of {uid}, over since {over:?}, critical since {critical:?}, {rate} B/s to {limit}");
        if !was_asked && is_free && !waits {
            return self.fail(Invariant::Deadline, format!("{text}, was not asked for"));
        }
        self.count("asked for in time");
        let Some(blocked) = blocked.filter(|at| had_time(critical.map(|since| since.max(*at)))) else { return };
        if was_deleted {
            self.count("forced in time");
        } else if is_free && !delete_waits {
            self.fail(Invariant::ForcedInTime, format!("{text}, blocked since {blocked:?}, was not deleted"));
        }
    }

    /// What keeps dying young is left to the kernel.
    fn is_left(&self, pod: &Pod, lived: Duration) -> bool {
        let is_young = |lived: Duration| lived < self.limits.minimum_age + ROUNDED;
        // Where the clock was set, how long it lived is known from when it was first seen, and how others lived is not known.
        let stepped = self.stepped.is_some();
        let seen = pod.containers.iter().map(|c| self.now - c.started).min().unwrap_or_default();
        let ended_young = self.young.get(&pod.owner_key()).is_some_and(|ends| ends.len() >= 2);
        if stepped { is_young(seen) } else { is_young(lived) && ended_young }
    }

    /// Others may have taken what there is for those at their deadline.
    fn rescues_may_be_spent(&self) -> bool {
        let Limits { burst, rescue_burst, refill, .. } = self.limits;
        let since = self.now.saturating_sub(refill * (burst + rescue_burst + 1));
        let spent = self.spent.iter().filter(|s| s.at >= since).count();
        spent >= rescue_burst.div_ceil(2) as usize
    }

    /// Nobody is held by what did not happen.
    pub(super) fn check_held(&mut self) {
        if self.controller.counts().deferred == 0 {
            return;
        }
        let held: Vec<_> = (self.controller.guards(self.now).into_iter())
            .filter(|v| v.state == "held")
            .map(|v| (v.uid, v.why))
            .collect();
        let Limits { burst, refill, .. } = self.limits;
        for (uid, why) in held {
            let Some(pod) = self.told.values().find(|p| p.uid == uid) else { continue };
            let owner = pod.owner_key();
            let spent = |since: Duration| {
                let since = self.now.saturating_sub(since);
                self.spent.iter().filter(move |s| !s.void && s.at >= since)
            };
            let by = |reason: Reason| why.starts_with(&reason.to_string());
            let is_needless = if by(Reason::Owner) || by(Reason::Turn) {
                !spent(QUIET).any(|s| s.owner == owner)
            } else {
                by(Reason::Budget) && spent(refill * (burst + 1)).count() < burst as usize
            };
            if is_needless {
                return self.fail(Invariant::RefundFrees, format!("{uid} is held for nothing: {why}"));
            }
        }
    }

    /// After a sign of life nothing waits that had no answer.
    pub(super) fn check_asked_again(&mut self) {
        let views = self.controller.guards(self.now);
        let waits =
            views.iter().find(|v| v.state == "unknown" && self.tries.get(&v.uid).is_none_or(|t| t.in_flight == 0));
        if let Some(view) = waits {
            let text = format!("{} waits though the server is there: {}", view.uid, view.why);
            self.fail(Invariant::AsksAgain, text);
        }
    }
}
