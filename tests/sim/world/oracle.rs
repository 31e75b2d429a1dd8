//! What docs/restraint.md means for a container here, reckoned from its memory as it truly is: may it have been at its
//! deadline, what did the agent know, and was it asked for in time.

use super::*;

/// A twentieth of the limit is left.
const TIGHT: u64 = 20;
/// Subtracted from what is left, beside what evictions take; as docs/restraint.md says.
const MARGIN: Duration = Duration::from_millis(500);
/// An owner without a young end for so long is forgotten.
pub(super) const QUIET: Duration = Duration::from_secs(600);
/// The server's and the kubelet's times are whole seconds.
pub(super) const ROUNDED: Duration = Duration::from_millis(1001);

impl World<'_> {
    /// Remembers what a target holds.
    pub(super) fn trace_held(&mut self, id: TargetId, sample: Option<&Sample>) {
        let Some(sample) = sample else { return };
        let (now, held) = (self.now, sample.own.net_usage().0);
        let trail = self.trails.entry(id).or_default();
        if trail.back().is_none_or(|(at, _)| *at + millis(500) <= now) {
            trail.push_back((now, held));
        }
        while trail.front().is_some_and(|(at, _)| *at + Duration::from_secs(67) < now) {
            trail.pop_front();
        }
    }

    /// It may be at its deadline: as fast as it grew lately, it will be killed before an eviction would have ended it.
    pub(super) fn may_be_late(&self, id: TargetId, sample: &Sample, takes: Duration) -> bool {
        let is_tight = |level: &Level| {
            let margin = level.margin().map(|margin| margin.0);
            margin.zip(level.limit).is_some_and(|(margin, limit)| margin < limit.0 / TIGHT)
        };
        if is_tight(&sample.own) || sample.pod.as_ref().is_some_and(is_tight) {
            return true;
        }
        let Some(margin) = sample.margin() else { return false };
        let (growth, jumps) = self.growth_at_most(id);
        // One step is no growth; more of them are.
        jumps > 1 || (growth > 0.0 && margin.0 as f64 / growth <= (takes + MARGIN + millis(1)).as_secs_f64())
    }

    /// What the agent may believe that an eviction takes.
    pub(super) fn eviction_takes(&self, namespace: &str) -> Duration {
        self.slowest.get(namespace).copied().unwrap_or_default().max(millis(160))
    }

    /// How fast a target may seem to have grown lately, in bytes a second, and how often what it holds jumped.
    pub(super) fn growth_at_most(&self, id: TargetId) -> (f64, usize) {
        let Some(meant) = self.meant.get(&id) else { return (0.0, 2) };
        // The fast growth is of the last quarter of a second, or of the last looks.
        let samples = self.looked.get(&id).and_then(|l| l.samples.back().copied()).unwrap_or_default();
        let from = samples.min(self.now.saturating_sub(millis(350)));
        let ids: Vec<u64> = match meant.container {
            Some(container) => vec![container],
            None => self.bodies.get(&meant.uid).map_or(Vec::new(), |b| b.containers.values().copied().collect()),
        };
        let (mut rate, mut jumps) = (0, 0);
        for memory in ids.iter().filter_map(|id| self.memory.get(id)) {
            let lately = memory.before.iter().filter(|(until, ..)| *until >= from);
            rate += lately.clone().map(|(_, rate, _)| *rate).chain([memory.rate]).max().unwrap_or(0).max(0);
            jumps += lately.filter(|(.., jump)| *jump > 0).count();
        }
        // Containers that came to the pod's group are as good as steps.
        let came = meant.container.is_none()
            && self.api.get(&meant.key).is_some_and(|p| p.containers.iter().any(|c| c.started + millis(50) >= from));
        ((rate as f64).max(self.slow_at_most(id)), if came { 2 } else { jumps })
    }

    /// The steepest slope that points of the last minute, or of the last seconds, can show, in bytes a second.
    fn slow_at_most(&self, id: TargetId) -> f64 {
        let Some(trail) = self.trails.get(&id) else { return 0.0 };
        let mut most = 0.0f64;
        for (i, (to, later)) in trail.iter().enumerate() {
            // A minute of points five seconds apart; of the last four seconds, points half a second apart.
            let is_seen = |from: &Moment| {
                let span = to.saturating_sub(*from);
                span >= Duration::from_secs(4) || (span >= millis(450) && *from + millis(4_600) >= self.now)
            };
            for (from, earlier) in trail.iter().take(i).filter(|(from, _)| is_seen(from)) {
                most = most.max(1.3 * later.saturating_sub(*earlier) as f64 / (*to - *from).as_secs_f64());
            }
        }
        most
    }

    /// How long a target's container has lived; of the pod's group, its youngest.
    pub(super) fn lived(&self, pod: &Pod, container: Option<u64>) -> Duration {
        let of = |c: &&Container| c.running && (container.is_none() || c.id == container);
        let lived = pod.containers.iter().filter(of).map(|c| self.now + c.older - c.started).min();
        lived.unwrap_or(Duration::MAX)
    }

    /// The wall clock was set forward after a container's start: it may look older than it is.
    pub(super) fn may_look_old(&self, pod: &Pod) -> bool {
        self.stepped.is_some_and(|(at, forward)| forward && pod.containers.iter().any(|c| c.started <= at))
    }

    pub(super) fn excuse(&self, pod: &Pod, id: TargetId, sample: &Sample, takes: Duration) -> Excuse {
        let owner = pod.owner_key();
        let last = self.owners.get(&owner).and_then(|times| times.last()).map(|(at, _)| *at);
        let made_since = |p: &Pod| last.is_none_or(|last| p.made + ROUNDED >= last);
        let mut told = self.told.values();
        // A restart in place is over when the process is there again.
        let is_back = |p: &Pod| self.rungs.restarted.get(&p.uid).is_some_and(|at| last.is_none_or(|last| *at >= last));
        let is_replacement =
            |p: &Pod| p.owner_key() == owner && p.ready && p.never().is_none() && (made_since(p) || is_back(p));
        Excuse {
            late: self.may_be_late(id, sample, takes),
            lived: match self.may_look_old(pod) {
                true => Duration::MAX,
                false => self.lived(pod, self.meant[&id].container),
            },
            replaced: self.stepped.is_some() || told.any(is_replacement),
            others: self
                .told
                .values()
                .any(|p| p.key.0 != pod.key.0 && p.label == Label::Enabled && p.ask.guarded(p).is_some()),
        }
    }

    /// The agent is told of kills in a pod's status.
    pub(super) fn learn_kills(&mut self, pod: &Pod) {
        let Some((names, _)) = pod.ask.guarded(pod).filter(|_| pod.label == Label::Enabled) else { return };
        let killed = pod.containers.iter().filter(|c| names.contains(&c.name)).filter_map(|c| c.killed);
        for Killed { started, ended, .. } in killed {
            self.ended_young(pod.owner_key(), started.0, ended.0);
        }
    }

    pub(super) fn ended_young(
        &mut self,
        owner: (&'static str, String),
        started: SignedDuration,
        ended: SignedDuration,
    ) {
        if ended - started + signed(ROUNDED) < signed(self.limits.minimum_age) {
            let ends = self.young.entry(owner).or_default();
            if !ends.contains(&(started, ended)) {
                ends.push((started, ended));
            }
        }
    }

    /// How many generations of this owner's containers ended young, one after the other, without ten quiet minutes.
    pub(super) fn generations(&self, owner: &(&'static str, String)) -> u32 {
        let (mut generations, mut counted, mut last) = (0, SignedDuration::MIN, SignedDuration::MIN);
        for (started, ended) in self.young.get(owner).into_iter().flatten() {
            if generations > 0 && *ended >= last.saturating_add(signed(QUIET)) {
                (generations, counted) = (0, SignedDuration::MIN);
            }
            if generations == 0 || *started > counted + signed(ROUNDED) {
                (generations, counted) = (generations + 1, *ended);
            }
            last = last.max(*ended);
        }
        if signed(self.now) >= last.saturating_add(signed(QUIET)) { 0 } else { generations }
    }

    /// A container whose eviction was asked for has ended.
    pub(super) fn took(&mut self, uid: &str, namespace: &'static str) {
        let Some(asked) = self.tries.get(uid).and_then(|t| t.sent.first().map(|(at, _)| *at)) else { return };
        // It is noticed some time later, at the next look or by the watch.
        let took = self.now - asked + Duration::from_secs(4);
        let slowest = self.slowest.entry(namespace).or_default();
        *slowest = took.max(*slowest);
    }

    /// The server has shown a sign of life: what had no answer may be asked again.
    pub(super) fn sign_of_life(&mut self) {
        for tries in self.tries.values_mut() {
            for pace in [&mut tries.evict, &mut tries.delete] {
                if pace.unheard {
                    pace.not_before = pace.not_before.min(self.now);
                }
            }
        }
    }
}
