//! What people are told.

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
        self.count(count);
        if kind == "dry run" {
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
        let may_come_again = matches!(kind, "accepted" | "dry run");
        if there && !may_come_again && notices.iter().any(|(_, w)| *w == words) {
            self.fail(Invariant::ToldOnce, format!("told of {uid} twice: {words}"));
            return;
        }
        notices.push((kind, words));
    }
}
