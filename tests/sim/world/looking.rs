//! The sampler: the shipped judging of what is read of the memory here.

use super::*;

/// What is read of a target now; `None`: gone.
pub(super) fn sample(
    meant: &HashMap<TargetId, Meant>,
    bodies: &HashMap<String, Body>,
    memory: &HashMap<u64, Memory>,
    now: Moment,
    id: TargetId,
) -> Option<Sample> {
    let meant = meant.get(&id)?;
    let body = bodies.get(&meant.uid)?;
    let (usage, limit) = (Bytes(2 * MIB), body.limit.flatten().map(Bytes));
    let mut whole = Level { usage, most_usage: usage, limit, stat: None, swap_left: Bytes(0) };
    let mut stat = pre_oom_killer::ground::memory::Stat::default();
    for level in body.containers.values().filter_map(|c| Some(memory.get(c)?.level(now))) {
        let more = level.stat.unwrap_or_default();
        whole.usage = whole.usage.plus(level.usage);
        stat.inactive_file = stat.inactive_file.plus(more.inactive_file);
        stat.active_file = stat.active_file.plus(more.active_file);
        stat.dirty = stat.dirty.plus(more.dirty);
        stat.slab_reclaimable = stat.slab_reclaimable.plus(more.slab_reclaimable);
    }
    (whole.stat, whole.most_usage) = (Some(stat), whole.usage);
    let Some(container) = meant.container else {
        return Some(Sample { at: now, until: now, own: whole, pod: None });
    };
    if !body.containers.values().any(|c| *c == container) {
        return None;
    }
    let own = memory.get(&container)?.level(now);
    Some(Sample { at: now, until: now, own, pod: body.limit.is_some().then_some(whole) })
}

/// The containers of a target.
fn containers(meant: &Meant, bodies: &HashMap<String, Body>) -> Vec<u64> {
    let all = || bodies.get(&meant.uid).map_or(Vec::new(), |b| b.containers.values().copied().collect());
    meant.container.map_or_else(all, |id| vec![id])
}

/// The stat of one of a target's containers cannot be read now.
pub(super) fn is_unread(
    meant: &Meant,
    bodies: &HashMap<String, Body>,
    slow: &HashMap<u64, (Moment, bool)>,
    now: Moment,
) -> bool {
    let is_slow = |id: &u64| slow.get(id).is_some_and(|(until, has_stat)| now < *until && !has_stat);
    containers(meant, bodies).iter().any(is_slow)
}

pub(super) fn without_stat(sample: &mut Sample) {
    sample.own.stat = None;
    sample.pod = sample.pod.map(|pod| Level { stat: None, ..pod });
}

impl World<'_> {
    pub(super) fn sample(&self, id: TargetId) -> Option<Sample> {
        sample(&self.meant, &self.bodies, &self.memory, self.now, id)
    }

    pub(super) fn over(&self, id: TargetId, sample: &Sample) -> bool {
        let ask = self.meant.get(&id).and_then(|m| self.told.get(&m.key).filter(|p| p.uid == m.uid)).map(|p| p.ask);
        ask.is_some_and(|ask| is_over(&sample.own, sample.base(), &ask) == Some(true))
    }

    pub(super) fn look(&mut self, id: TargetId) {
        let sample = self.sample(id);
        let over = sample.as_ref().is_some_and(|s| self.over(id, s));
        self.trace_held(id, sample.as_ref());
        let unreadable = self.rng.u16(0..1500) == 0 && !self.quiet;
        let lasts = self.between(1, 300);
        // Stat is not read where the answer cannot depend on it.
        let lazy = self.rng.bool();
        let below = |s: &Sample| {
            let meant = self.meant.get(&id).and_then(|m| self.told.get(&m.key));
            meant.is_some_and(|p| {
                let usage = Ask { signal: crate::pod::Signal::Usage, ..p.ask };
                is_over(&s.own, s.base(), &usage.lowest()) == Some(false)
            })
        };
        let meant = self.meant.get(&id);
        let unread = meant.is_some_and(|m| is_unread(m, &self.bodies, &self.slow, self.now));
        let is_slow = |id: &u64| self.slow.get(id).is_some_and(|(until, _)| self.now < *until);
        let is_slow = !self.quiet && meant.is_some_and(|m| containers(m, &self.bodies).iter().any(is_slow));
        let slow = is_slow.then_some(lasts);
        let read = match sample {
            Some(mut sample) => {
                if lazy && below(&sample) {
                    sample.own.stat = None;
                }
                if let Some(lasts) = slow {
                    sample.until += lasts;
                }
                if unread {
                    without_stat(&mut sample);
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
        } else if self.fine {
            millis(5)
        } else {
            millis(50)
        };
        let now = self.now;
        let full = self.rng.u8(0..50) == 0 && !self.quiet;
        let long = self.meant.get(&id).and_then(|m| self.told.get(&m.key)).map_or(0, |p| p.ask.sustained);
        let Some(looked) = self.looked.get_mut(&id) else { return };
        looked.samples.push_front(now);
        looked.samples.truncate(4);
        if unreadable || full || is_slow {
            looked.undisturbed = now + slow.unwrap_or_default() * 10;
        }
        looked.since = if over && !unreadable { looked.since.or(Some(now)) } else { None };
        if self.tracing
            && let Ok(Some(read)) = &read
        {
            let held = (read.own.usage.0, read.own.stat.map(|s| s.clean_cache().0));
            self.outcome.trace.push(format!("{:>11.3} look at {}: {held:?}", now.as_secs_f64(), id.0));
        }
        let found = looked.target.judge(now, read);
        let sound = looked.since.is_some_and(|since| since + Duration::from_secs(long) <= now);
        let waived = matches!(&found, Some((What::Above { evidence: e, .. } | What::Worsened(e), _)) if e.waived);
        let sound = sound || waived;
        let (mut told, mut report, mut warning) = (None, None, None);
        if let Some(evidence) = looked.target.take_warning() {
            match full {
                true => looked.target.warn_again(),
                false => warning = Some(looked.target.report(What::Warned(evidence))),
            }
        }
        if let Some((what, now_told)) = found
            && !full
        {
            report = Some(looked.target.report(what));
            looked.target.reported(now_told);
            told = Some(now_told);
        }
        if told == Some(Reported::Gone) {
            self.looked.remove(&id);
        } else {
            let next = looked.target.due().max(now + coarse).max(now + slow.unwrap_or_default() * 10);
            looked.scheduled = next;
            self.at(next, Event::Look(id, next));
        }
        for report in warning.into_iter().chain(report) {
            self.report(report, sound);
        }
    }

    /// Through a channel, in order.
    pub(super) fn report(&mut self, report: Report, sound: bool) {
        if self.bug == Some(Bug::LosesOver)
            && matches!(report.what, What::Above { .. })
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
            What::Above { .. } => "report: over",
            What::Worsened(_) => "report: worse",
            What::Dipped => "report: dipped",
            What::NoLimit => "report: no limit",
            What::BeyondLimit => "report: beyond limit",
            What::Killed { .. } => "report: killed",
            What::Unreadable(_) => "report: unreadable",
            What::Gone => "report: gone",
            What::Warned(_) => "report: warned",
            What::Throttled(_) => "report: throttled",
        };
        self.count(what);
        if let Some(meant) = self.meant.get_mut(&report.id).filter(|m| m.edit == report.edit) {
            match &report.what {
                What::Above { evidence, .. } | What::Worsened(evidence) => {
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
