//! What people are told.

use pre_oom_killer::decide::ladder::NotPossible;
use pre_oom_killer::pods::guard::Remedy;

use super::*;

impl World<'_> {
    pub(super) fn noticed(&mut self, notice: &Notice) {
        trace!(self, "told of {}: {}", notice.pod.uid.0, notice.subject.words());
        let (kind, count) = match &notice.subject {
            Subject::Evicted { mode: DryRun::Client, .. } => ("dry run", "told: dry run"),
            Subject::Evicted { .. } => ("accepted", "told: accepted"),
            Subject::NotEvicted { answer, .. } => (answer.label(), "told: not evicted"),
            Subject::Deferred { reason, .. } => match reason {
                Reason::Young => ("held", "told: held, young"),
                Reason::Owner => ("held", "told: held, owner"),
                Reason::Turn => ("held", "told: held, turn"),
                Reason::Budget => ("held", "told: held, budget"),
                Reason::Rescues => ("held", "told: held, rescues"),
                Reason::DiesYoung => ("held", "told: held, dies young"),
            },
            Subject::Slow { .. } => ("slow", "told: slow"),
            Subject::Missed { .. } => ("missed", "told: missed"),
            Subject::InvalidGuard(_) => ("invalid", "told: invalid guard"),
            Subject::GuardWarning(_) => ("warning", "told: warning"),
            Subject::NoLimit => ("no limit", "told: no limit"),
            Subject::BeyondLimit => ("beyond limit", "told: beyond limit"),
            Subject::Throttled(_) => ("throttled", "told: throttled"),
            Subject::Unresolved(_) => ("unresolved", "told: unresolved"),
            Subject::Unreadable(_) => ("unreadable", "told: unreadable"),
            Subject::Never(_) => ("never", "told: never"),
            Subject::Raised { .. } => ("raised", "told: raised"),
            Subject::Restarted { .. } => ("restarted", "told: restarted"),
            Subject::GaveUp { .. } => ("gave up", "told: gave up"),
            Subject::Warned { .. } => ("warned", "told: warned"),
            Subject::NotWarned(_) => ("not warned", "told: not warned"),
            Subject::NoRemedy { .. } => ("no remedy", "told: no remedy"),
        };
        match (self.bug, kind) {
            (Some(Bug::SwallowsHeld), "held")
            | (Some(Bug::SwallowsBlocked), "blocked")
            | (Some(Bug::SwallowsRefused), "refused")
            | (Some(Bug::SwallowsEvicted), "accepted") => return,
            _ => {}
        }
        match kind {
            "restarted" => drop(self.restarting.remove(&notice.pod.uid.0)),
            "not warned" => self.told_not_warned(notice),
            _ => {}
        }
        self.count(count);
        self.told_of_rung(notice);
        let is_raise = matches!(&notice.subject, Subject::Evicted { act: Act::Raise, .. });
        if kind == "dry run" && !is_raise {
            // What is only tried takes its token, too.
            self.spend(u64::MAX, &notice.pod.uid.0);
        }
        self.note(notice, kind);
        let again =
            matches!((self.bug, kind), (Some(Bug::RepeatsHeld), "held") | (Some(Bug::CountsKillsTwice), "missed"));
        if again {
            self.note(notice, kind);
        }
    }

    /// What is told of raises and restarts is true.
    fn told_of_rung(&mut self, notice: &Notice) {
        let uid = notice.pod.uid.0.clone();
        let container = notice.container.as_deref().unwrap_or("");
        let part = self.bodies.get(&uid).map(|b| b.name).and_then(|key| self.part(&uid, key, container));
        let instance = self.bodies.get(&uid).and_then(|b| b.containers.get(container)).copied();
        match &notice.subject {
            Subject::Raised { to, .. } => {
                let kernel = instance.and_then(|id| self.memory.get(&id)).and_then(|m| m.limit);
                if kernel.is_some_and(|kernel| kernel != to.0) {
                    self.fail(Invariant::TrulyTold, format!("{notice:?}, the kernel has {kernel:?}"));
                }
                instance.map(|id| self.rungs.begun.remove(&id));
            }
            Subject::GaveUp { after, .. } if *after < millis(10) => self.count("gave up within 10 ms"),
            Subject::NoRemedy { reasons, .. } => {
                let is_lowered = |(_, why): &(Remedy, NotPossible)| *why == NotPossible::Lowered;
                let by_others = part.is_some_and(|part| self.rungs.lowered.contains(&part));
                if reasons.iter().any(is_lowered) && !by_others {
                    self.fail(Invariant::TrulyTold, format!("{notice:?}, though nobody did"));
                }
            }
            _ => {}
        }
    }

    pub(super) fn note(&mut self, notice: &Notice, kind: &'static str) {
        let uid = notice.pod.uid.0.clone();
        if kind == "missed" {
            let missed = self.missed.entry(uid.clone()).or_default();
            *missed += 1;
            let (missed, kills) = (*missed, self.bodies.get(&uid).map(|b| b.kills));
            if kills.is_some_and(|kills| missed > kills) {
                self.fail(Invariant::ToldOnce, format!("{missed} kills told of {uid}, there were {kills:?}"));
            }
            return;
        }
        let container = notice.container.as_deref().unwrap_or("");
        let words = format!("{container}: {}", notice.subject.once());
        let there = self.told.values().any(|p| p.uid == uid);
        let notices = self.notices.entry(uid.clone()).or_default();
        let may_come_again = matches!(kind, "accepted" | "dry run" | "raised" | "restarted" | "gave up" | "warned");
        if there && !may_come_again && notices.iter().any(|(_, w)| *w == words) {
            self.fail(Invariant::ToldOnce, format!("told of {uid} twice: {words}"));
            return;
        }
        notices.push((kind, words));
    }
}
