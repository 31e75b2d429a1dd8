//! Requests: may they be made, and what must not have come of all together.

use super::oracle::{QUIET, ROUNDED};
use super::rungs::Rung;
use super::*;

/// A restart is given up after half a minute at most, and its eviction may then be deferred.
const MOST_OF_A_RESTART: Duration = Duration::from_secs(120);

impl World<'_> {
    /// What the agent may ask for, whatever it is, by what it was told and by what it has just read.
    pub(super) fn check_ground(&mut self, order: &Order, key: Key) -> Option<(Pod, TargetId, Sample)> {
        use Invariant::*;
        let now = self.now;
        let uid = order.pod.uid.0.clone();
        let Some(pod) = self.told.get(&key).filter(|p| p.uid == uid).cloned() else {
            let invariant = if self.unlabelled.contains(&uid) { OptedIn } else { Present };
            self.fail(invariant, format!("a request for {uid}, of which was told that it is no more"));
            return None;
        };
        let guarded = pod.ask.guarded(&pod);
        if pod.label != Label::Enabled || guarded.is_none() {
            self.fail(OptedIn, format!("a request for {uid}, which asks for nothing valid: {pod:?}"));
        }
        if let Some(why) = pod.never() {
            self.fail(Eligible, format!("a request for {uid}, which is {why}"));
        }
        if let Some(Tries { in_flight: 1.., .. }) = self.tries.get(&uid) {
            self.fail(Once, format!("a second request for {uid} before the first is answered"));
        }
        self.check_accepted(order, &uid);
        self.check_dry(order, &pod);
        // Over, read at this moment.
        let read = self.last_read.get(&uid).copied().filter(|(id, _, at)| *at == now && self.meant.contains_key(id));
        let Some((id, Some(sample), _)) = read else {
            self.fail(Over, format!("a request for {uid} without a reading"));
            return None;
        };
        if is_over(&sample.own, sample.base(), &pod.ask) != Some(true) {
            self.fail(Over, format!("a request for {uid}, which is not over: {sample:?} by {:?}", pod.ask));
        }
        let meant = self.meant[&id].clone();
        let container = pod.containers.iter().find(|c| meant.container.is_some() && c.id == meant.container);
        let is_guarded = guarded.is_some_and(|(names, group)| match container {
            Some(c) => c.running && names.contains(&c.name),
            None => meant.container.is_none() && group,
        });
        if !is_guarded {
            self.fail(OptedIn, format!("a request for {uid} because of a container that is not guarded"));
        }
        if pod.ask.sustained > 0 && !(meant.sound && meant.evidence.is_some()) {
            self.fail(Over, format!("a request for {uid}, not over for {} s: {:?}", pod.ask.sustained, meant.evidence));
        }
        Some((pod, id, sample))
    }

    /// What an eviction or a deletion has to be, besides.
    pub(super) fn check_request(&mut self, order: &Order, key: Key) -> Option<Excuse> {
        use Invariant::*;
        let now = self.now;
        let uid = order.pod.uid.0.clone();
        let (pod, id, sample) = self.check_ground(order, key)?;
        if !pod.ask.ladder.has("evict") {
            self.fail(Listed, format!("{order:?} for {uid}, which lists {:?}", pod.ask.ladder));
        }
        if order.grace != pod.ask.grace {
            self.fail(AsAsked, format!("{order:?}, asked for was grace {:?}", pod.ask.grace));
        }
        if order.act == Act::Delete {
            let blocked = self.tries.get(&uid).is_some_and(|t| t.blocked.is_some());
            if !blocked || !is_past_force(&sample.own, sample.base(), &pod.ask) {
                self.fail(Force, format!("{uid} is deleted, blocked: {blocked}, {sample:?} by {:?}", pod.ask));
            }
        }
        if let Some(tries) = self.tries.get(&uid) {
            let pace = if order.act == Act::Evict { tries.evict } else { tries.delete };
            if now < pace.not_before {
                self.fail(Pace, format!("a request for {uid} before {:?}", pace.not_before));
            }
        }
        let excuse = self.excuse(&pod, id, &sample, self.eviction_takes(key.0));
        self.check_age(&pod, &excuse, &sample);
        Some(excuse)
    }

    /// None after one that was accepted.
    fn check_accepted(&mut self, order: &Order, uid: &str) {
        let now = self.now;
        // It is awaited, until the watch has shown the pod alive for long enough.
        let by = |at: Moment| at + MARKED_WITHIN;
        let accepted = self.tries.get(uid).and_then(|t| t.accepted);
        let awaited = accepted.filter(|at| now < by(*at) || self.away.is_some_and(|since| since < by(*at)));
        if let Some(at) = awaited.filter(|_| !order.dry_run) {
            self.fail(Invariant::Once, format!("{order:?} after a request that was accepted at {at:?}"));
        }
    }

    fn check_dry(&mut self, order: &Order, pod: &Pod) {
        let dry = match (self.dry_run, pod.ask.dry) {
            (Dry::Client, _) | (_, Dry::Client) => Dry::Client,
            (Dry::Server, _) | (_, Dry::Server) => Dry::Server,
            _ => Dry::Off,
        };
        // The question to the budgets is always one.
        let asks = self.rung(order) == Some(Rung::Question);
        if dry == Dry::Client || (dry == Dry::Server) != order.dry_run && !asks {
            self.fail(Invariant::DryRun, format!("{order:?} in a dry run {dry:?}"));
        }
    }

    pub(super) fn check_age(&mut self, pod: &Pod, excuse: &Excuse, sample: &Sample) {
        if excuse.lived.saturating_add(ROUNDED) >= self.limits.minimum_age {
            return;
        }
        if !excuse.late {
            let text = format!("a request for {}, {excuse:?}, room {:?}", pod.uid, sample.margin());
            self.fail(Invariant::MinimumAge, text);
        }
        let generations = self.generations(&pod.owner_key());
        if generations >= 3 && self.stepped.is_none() {
            let ends = &self.young[&pod.owner_key()];
            let text = format!("a request for {}, after {generations} generations that ended young: {ends:?}", pod.uid);
            self.fail(Invariant::DyingYoung, text);
        }
    }

    /// An eviction after a restart of the same pod that was given up is one disturbance, and has one token.
    pub(super) fn take_the_place_of_a_restart(&mut self, pod: &Pod, at: Moment) {
        let Some(was) = self.restarting.remove(&pod.uid).filter(|was| at.saturating_sub(*was) < MOST_OF_A_RESTART)
        else {
            return;
        };
        if let Some(i) = self.evicted.iter().position(|(e, of, _)| *e == was && *of == pod.key.0) {
            self.evicted.remove(i);
        }
        if let Some(times) = self.owners.get_mut(&pod.owner_key()) {
            times.retain(|(e, _)| *e != was);
        }
    }

    /// An eviction that was asked for at this moment has come true.
    pub(super) fn check_restraint(&mut self, pod: &Pod, at: Moment, excuse: Excuse) {
        let i = self.evicted.partition_point(|(e, ..)| *e <= at);
        self.evicted.insert(i, (at, pod.key.0, excuse));
        self.check_budget(at);
        let owner = pod.owner_key();
        let times = self.owners.entry(owner.clone()).or_default();
        times.insert(times.partition_point(|(e, _)| *e <= at), (at, excuse));
        let mut count = 0;
        let mut found = None;
        for pair in times.windows(2) {
            let ((before, _), (after, excuse)) = (pair[0], pair[1]);
            let gap = after - before;
            count = if gap >= Duration::from_secs(600) { 0 } else { count + 1 };
            let wait = (10u64 << (count.max(1) - 1).min(16)).min(300);
            // At its deadline none waits; a loop does not end by a replacement, a turn does.
            let is_turn = excuse.lived.saturating_add(ROUNDED) >= QUIET;
            let may = excuse.late || (is_turn && excuse.replaced);
            if count > 0 && gap < Duration::from_secs(wait) && !may {
                let invariant = if is_turn { Invariant::Turn } else { Invariant::BackOff };
                found = Some((invariant, format!("pods of {owner:?} evicted {gap:?} apart, wait {wait} s: {times:?}")));
                break;
            }
        }
        if let Some((invariant, text)) = found {
            self.fail(invariant, text);
        }
    }

    /// What may be at most, in any span of time that this moment is in.
    fn check_budget(&mut self, at: Moment) {
        let Limits { burst, rescue_burst, refill, .. } = self.limits;
        let refills = |span: Duration| span.as_nanos() / refill.as_nanos();
        let (burst, rescues) = (u128::from(burst), u128::from(rescue_burst));
        // What could wait, all there is, and what one namespace has of it while others could need it.
        let could_wait: Vec<_> = self.evicted.iter().filter(|(.., e)| !e.late).map(|(at, ..)| *at).collect();
        let all: Vec<_> = self.evicted.iter().map(|(at, ..)| *at).collect();
        let mut bounds = vec![("that could wait", could_wait, burst, 1, 0), ("in all", all, burst + rescues, 2, 0)];
        for namespace in ["ns0", "ns1"] {
            let of = self.evicted.iter().filter(|(_, of, e)| *of == namespace && e.others);
            let of = of.map(|(at, ..)| *at).collect();
            bounds.push(("of a namespace", of, burst + rescues.div_ceil(2), 2, 1));
        }
        for (which, times, at_once, each, more) in bounds {
            for (i, from) in times.iter().enumerate().take_while(|(_, from)| **from <= at) {
                for (j, to) in times.iter().enumerate().skip(i).filter(|(_, to)| **to >= at) {
                    let span = *to - *from;
                    let most = at_once + each * (refills(span) + if span > Duration::ZERO { more } else { 0 });
                    if (j - i + 1) as u128 > most {
                        let text = format!("{} evictions {which} in {span:?} from {from:?}, allowed {most}", j - i + 1);
                        return self.fail(Invariant::Budget, text);
                    }
                }
            }
        }
    }
}
