//! The sampler: the shipped judging of what is read of the memory here.

use super::*;

impl World<'_> {
    /// What is read of a target now; `None`: gone.
    pub(super) fn sample(&self, id: TargetId) -> Option<Sample> {
        let meant = self.meant.get(&id)?;
        let body = self.bodies.get(&meant.uid)?;
        let mut whole =
            Level { usage: Bytes(2 * MIB), limit: body.limit.flatten().map(Bytes), stat: None, swap_left: Bytes(0) };
        let mut stat = pre_oom_killer::cgroup::Stat::default();
        for level in body.containers.values().filter_map(|c| Some(self.memory.get(c)?.level(self.now))) {
            let more = level.stat.unwrap_or_default();
            whole.usage = whole.usage.plus(level.usage);
            stat.inactive_file = stat.inactive_file.plus(more.inactive_file);
            stat.active_file = stat.active_file.plus(more.active_file);
            stat.dirty = stat.dirty.plus(more.dirty);
            stat.slab_reclaimable = stat.slab_reclaimable.plus(more.slab_reclaimable);
        }
        whole.stat = Some(stat);
        let Some(container) = meant.container else {
            return Some(Sample { at: self.now, own: whole, pod: None });
        };
        if !body.containers.values().any(|c| *c == container) {
            return None;
        }
        let own = self.memory.get(&container)?.level(self.now);
        Some(Sample { at: self.now, own, pod: body.limit.is_some().then_some(whole) })
    }

    pub(super) fn over(&self, id: TargetId, sample: &Sample) -> bool {
        let ask = self.meant.get(&id).and_then(|m| self.told.get(&m.key).filter(|p| p.uid == m.uid)).map(|p| p.ask);
        ask.is_some_and(|ask| is_over(&sample.own, sample.base(), &ask) == Some(true))
    }

    pub(super) fn look(&mut self, id: TargetId) {
        let sample = self.sample(id);
        let over = sample.as_ref().is_some_and(|s| self.over(id, s));
        let unreadable = self.rng.u16(0..1500) == 0 && !self.quiet;
        // Stat is not read where the answer cannot depend on it.
        let lazy = self.rng.bool();
        let below = |s: &Sample| {
            let meant = self.meant.get(&id).and_then(|m| self.told.get(&m.key));
            meant.is_some_and(|p| {
                let usage = Ask { signal: crate::pod::Signal::Usage, ..p.ask };
                is_over(&s.own, s.base(), &usage) == Some(false)
            })
        };
        let read = match sample {
            Some(mut sample) => {
                if lazy && below(&sample) {
                    sample.own.stat = None;
                }
                if unreadable {
                    let what = ReadErrorKind::Malformed(Malformed::Empty);
                    Err(ReadError { path: "memory.current".into(), what })
                } else {
                    Ok(Some(sample))
                }
            }
            None => Ok(None),
        };
        let still = self.meant.get(&id).and_then(|m| self.memory.get(&m.container?)).is_none_or(|m| m.rate == 0);
        let coarse = if self.healing {
            millis(1000)
        } else if still {
            millis(400)
        } else {
            millis(50)
        };
        let (now, takes) = (self.now, self.takes);
        let full = self.rng.u8(0..50) == 0 && !self.quiet;
        let long = self.meant.get(&id).and_then(|m| self.told.get(&m.key)).map_or(0, |p| p.ask.sustained);
        let Some(looked) = self.looked.get_mut(&id) else { return };
        looked.since = if over && !unreadable { looked.since.or(Some(now)) } else { None };
        let found = looked.target.judge(now, read, takes);
        let sound = looked.since.is_some_and(|since| since + Duration::from_secs(long) <= now);
        let waived = matches!(&found, Some((What::Over { evidence: e, .. } | What::Worse(e), _)) if e.waived);
        let sound = sound || waived;
        let (mut told, mut report) = (None, None);
        if let Some((what, now_told)) = found
            && !full
        {
            report = Some(looked.target.report(what));
            looked.target.told(now_told);
            told = Some(now_told);
        }
        if told == Some(Told::Gone) {
            self.looked.remove(&id);
        } else {
            let next = looked.target.due().max(now + coarse);
            looked.scheduled = next;
            self.at(next, Event::Look(id, next));
        }
        if let Some(report) = report {
            self.report(report, sound);
        }
    }

    /// Through a channel, in order.
    pub(super) fn report(&mut self, report: Report, sound: bool) {
        if self.bug == Some(Bug::LosesOver)
            && matches!(report.what, What::Over { .. })
            && self.lost_over.insert(report.id)
        {
            return;
        }
        let delay = self.between(0, 20);
        self.reported_at = self.reported_at.max(self.now + delay);
        self.at(self.reported_at, Event::Report(report, sound));
    }

    pub(super) fn reported(&mut self, report: Report, sound: bool) {
        trace!(self, "reported {report:?}");
        let what = match &report.what {
            What::Over { .. } => "report: over",
            What::Worse(_) => "report: worse",
            What::Dipped => "report: dipped",
            What::NoLimit => "report: no limit",
            What::BeyondLimit => "report: beyond limit",
            What::Killed { .. } => "report: killed",
            What::Unreadable(_) => "report: unreadable",
            What::Gone => "report: gone",
        };
        self.count(what);
        if let Some(meant) = self.meant.get_mut(&report.id).filter(|m| m.edit == report.edit) {
            match &report.what {
                What::Over { evidence, .. } | What::Worse(evidence) => {
                    (meant.evidence, meant.sound) = (Some(*evidence), sound);
                }
                What::Dipped | What::Unreadable(_) => meant.evidence = None,
                _ => {}
            }
        }
        self.controller.reported(self.now, report);
    }

    pub(super) fn resolved(&mut self, id: TargetId) {
        let there = self.sample(id).is_some();
        let result = match self.rng.u8(0..100) {
            0 if !self.quiet => Err(Unresolved::TooMany),
            _ if there => Ok(GROUPS.clone()),
            _ => Err(Unresolved::NotFound),
        };
        self.count(if result.is_ok() { "resolved" } else { "not resolved" });
        self.controller.resolved(self.now, id, result);
    }
}
