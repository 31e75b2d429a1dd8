//! Raises and restarts as the agent asks for them: may they be asked for?

use super::node::used;
use super::*;
use crate::ladder::{NeverRestarted, Resized};

/// The parts of a remedy that is gentler than an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rung {
    Raise,
    /// The question to the disruption budgets before a restart.
    Question,
    Restart,
}

/// Of which pod which container.
pub(super) type Part = (String, &'static str);

/// When a gentle remedy was begun for a container, and what was true then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) at: Moment,
    /// The last that was asked for.
    last: Moment,
    pub(super) rate: i64,
    /// Its growth had been so for a while, its pod would have been evicted at once, and have ended as fast as is known.
    pub(super) could_be_saved: bool,
}

/// What is known of raises and restarts.
#[derive(Default)]
pub(super) struct Rungs {
    /// The lowest limit of each container that the agent was told of.
    lowest: HashMap<Part, u64>,
    /// What our raises may have made of a limit, before the watch shows it; and as which generation, once it is stored.
    pub(super) wanted: HashMap<Part, (u64, Option<i64>)>,
    /// Limits that a container had already.
    had: HashSet<(Part, u64)>,
    /// As which generation of the pod a rung was refused.
    pub(super) refused: HashMap<(Part, Rung), i64>,
    /// The budgets' last answer about a pod, unless it was used: may it be restarted?
    pub(super) allows: HashMap<String, bool>,
    /// When the budgets were asked, under which number, and what excuses the restart.
    pub(super) asked: HashMap<String, (Moment, u64, Excuse)>,
    pub(super) begun: HashMap<u64, Begun>,
    /// When the last rung was begun for a pod.
    pub(super) since: HashMap<String, Moment>,
    /// Limits that somebody else lowered.
    pub(super) lowered: HashSet<Part>,
    /// When the process of a pod was ended by a restart last.
    pub(super) restarted: HashMap<String, Moment>,
    /// When each rung was asked for in the last seconds.
    times: HashMap<(String, Rung), VecDeque<Moment>>,
    /// The longest that a restart took.
    pub(super) slowest: Duration,
}

impl World<'_> {
    /// Which gentle remedy a request belongs to; none: it is an eviction or a deletion.
    pub(super) fn rung(&self, order: &Order) -> Option<Rung> {
        let key = self.key_of(&order.pod);
        match order.act {
            Act::Raise => Some(Rung::Raise),
            Act::Restart => Some(Rung::Restart),
            Act::Evict if order.dry_run => {
                let pod = self.told.get(&key).filter(|p| p.uid == order.pod.uid.0)?;
                let asks = self.dry_run == Dry::Off && pod.ask.dry == Dry::Off && pod.ask.ladder.has("restart");
                asks.then_some(Rung::Question)
            }
            Act::Evict | Act::Delete => None,
        }
    }

    pub(super) fn send_gently(&mut self, number: u64, order: Order, rung: Rung) {
        self.count(match rung {
            Rung::Raise => "sent: raise",
            Rung::Question => "sent: question",
            Rung::Restart => "sent: restart",
        });
        trace!(self, "sent {number} {order:?}");
        let (key, uid, now) = (self.key_of(&order.pod), order.pod.uid.0.clone(), self.now);
        self.check_rate(&uid, rung);
        let mut excuse = Excuse { late: true, lived: Duration::MAX, replaced: true, others: false };
        if let Some((pod, id, sample)) = self.check_ground(&order, key) {
            self.check_rung(&order, rung, &pod, id, &sample);
            if rung == Rung::Question || (rung == Rung::Restart && order.dry_run) {
                excuse = self.excuse(&pod, id, &sample, self.restart_notice(key.0));
                self.check_age(&pod, &excuse, &sample);
            }
            self.begin(&pod, id, rung);
        }
        match rung {
            Rung::Raise => {
                self.rungs.since.insert(uid.clone(), now);
            }
            Rung::Question => {
                self.rungs.since.insert(uid.clone(), now);
                self.rungs.asked.insert(uid.clone(), (now, number, excuse));
                self.spend(number, &uid);
            }
            Rung::Restart if order.dry_run => self.spend(number, &uid),
            Rung::Restart => {}
        }
        let prompt = self.node.prompt;
        let fate = match (rung, prompt) {
            (Rung::Question, true) => Fate::Truth,
            (_, true) => self.node.mood.fate(&mut self.rng),
            _ => self.mood.fate(&mut self.rng),
        };
        let sent =
            Sent { order, key, at: now, fate, answer: None, forgotten: false, lasts: None, excuse, rung: Some(rung) };
        self.sent.insert(number, sent);
        self.travel(number, fate);
    }

    /// Nobody is asked all the time.
    fn check_rate(&mut self, uid: &str, rung: Rung) {
        const SPAN: Duration = Duration::from_secs(10);
        let times = self.rungs.times.entry((uid.to_owned(), rung)).or_default();
        times.push_back(self.now);
        while times.front().is_some_and(|at| *at + SPAN < self.now) {
            times.pop_front();
        }
        if times.len() > 120 {
            let text = format!("{rung:?} was asked for {} times in {SPAN:?} for {uid}", times.len());
            self.fail(Invariant::Pace, text);
        }
    }

    /// When a restart has to begin: what it takes, and the eviction after it, at four times the growth.
    fn restart_notice(&self, namespace: &str) -> Duration {
        let evict = self.eviction_takes(namespace);
        (self.rungs.slowest.max(millis(95)) + evict + millis(30)) * 4
    }

    fn check_rung(&mut self, order: &Order, rung: Rung, pod: &Pod, id: TargetId, sample: &Sample) {
        use Invariant::*;
        let container = pod.containers.iter().find(|c| c.id.is_some() && c.id == self.meant[&id].container);
        let Some(container) = container else {
            return self.fail(Raises, format!("{order:?} for {}, which is no container of it", id.0));
        };
        let part = (pod.uid.clone(), container.name);
        let listed = if rung == Rung::Raise { "raise" } else { "restart" };
        let mine = if rung == Rung::Raise { self.node.raise } else { self.node.restart };
        if !pod.ask.ladder.has(listed) || !mine {
            self.fail(Listed, format!("{order:?} for {pod:?}, which does not list it, or the agent may not: {mine}"));
        }
        if self.rungs.refused.get(&(part.clone(), rung)) == Some(&pod.generation) && !order.dry_run {
            self.fail(RefusalStands, format!("{order:?} again, though nothing has changed in {pod:?}"));
        }
        if order.resize.as_ref().is_some_and(|r| r.container != container.name || r.sidecar) {
            self.fail(Raises, format!("{order:?}, over is {}", container.name));
        }
        match rung {
            Rung::Raise => self.check_raise(order, pod, container, sample),
            Rung::Question => {}
            Rung::Restart => self.check_restart(order, pod, container, sample),
        }
    }

    fn check_raise(&mut self, order: &Order, pod: &Pod, container: &Container, sample: &Sample) {
        use Invariant::Raises;
        let Some(resize) = &order.resize else { return };
        let (to, part) = (resize.limit.0, (pod.uid.clone(), container.name));
        let kernel = sample.own.limit.map_or(u64::MAX, |l| l.0);
        if container.limit.is_none_or(|limit| to <= limit) || to <= kernel {
            self.fail(Raises, format!("{order:?}, but the limit is {kernel}: {container:?}"));
        }
        if pod.ask.ladder.to.is_none_or(|bound| to > bound * MIB) {
            self.fail(Raises, format!("{order:?} beyond its bound: {:?}", pod.ask.ladder));
        }
        if pod.resizing.restarts {
            self.fail(Raises, format!("{order:?} would restart {pod:?}"));
        }
        self.check_request_moves(order, pod, container);
        self.check_node(order, pod, container, kernel);
        if !order.dry_run {
            self.rungs.wanted.insert(part, (to, None));
        }
    }

    /// The request moves with the limit where the QoS class asks for it, and else never.
    fn check_request_moves(&mut self, order: &Order, pod: &Pod, container: &Container) {
        let Some(resize) = &order.resize else { return };
        let wanted = pod.resizing.guaranteed.then_some(resize.limit).filter(|_| container.request == container.limit);
        if resize.request != wanted {
            self.fail(Invariant::Raises, format!("{order:?} with another request: {pod:?}"));
        }
    }

    fn check_node(&mut self, order: &Order, pod: &Pod, container: &Container, kernel: u64) {
        let Some(to) = order.resize.as_ref().map(|r| r.limit.0) else { return };
        let Some(node) = self.node.memory(used(&self.memory, self.now)) else {
            return self.fail(Invariant::RaiseBudget, format!("{order:?} on a node that is not known"));
        };
        let (total, available) = (node.total.0, node.available.0);
        let step = to.saturating_sub(kernel);
        if available < step.saturating_add(total * self.node.reserve / 100) {
            self.fail(Invariant::RaiseBudget, format!("{order:?} from {kernel} leaves too little of {node:?}"));
        }
        let views = self.controller.guards(self.now);
        let seen = views.iter().filter(|v| v.container.is_some()).filter_map(|v| v.memory.as_ref());
        let seen: u64 = seen.map(|m| m.usage).sum();
        if total < seen {
            self.fail(Invariant::RaiseBudget, format!("{order:?} though groups use {seen} of {node:?}"));
        }
        let others = self.raised_but(&pod.uid, container.name);
        let lowest = self.rungs.lowest.get(&(pod.uid.clone(), container.name)).copied().unwrap_or(u64::MAX);
        let own = if pod.resizing.guaranteed { 0 } else { to.saturating_sub(lowest) };
        if (others + own) / 100 > total * self.node.budget / 10_000 + 1 {
            let text = format!("{order:?}, {others} raised beside it, {own} with it, of {total}: {:?}", self.node);
            self.fail(Invariant::RaiseBudget, text);
        }
    }

    /// By how much the limits of all others were raised, as the agent was told or has asked for itself.
    fn raised_but(&self, uid: &str, name: &str) -> u64 {
        let guards = |p: &&Pod| p.label == Label::Enabled && !p.resizing.guaranteed;
        let parts = self.told.values().filter(guards).flat_map(|p| p.containers.iter().map(move |c| (p, c)));
        let raised = parts.filter(|(p, c)| p.uid != uid || c.name != name).map(|(p, c)| {
            let part = (p.uid.clone(), c.name);
            let wanted = self.rungs.wanted.get(&part).map_or(0, |(to, _)| *to);
            let lowest = self.rungs.lowest.get(&part).copied().unwrap_or(u64::MAX);
            c.limit.unwrap_or(0).max(wanted).saturating_sub(lowest)
        });
        raised.sum()
    }

    fn check_restart(&mut self, order: &Order, pod: &Pod, container: &Container, sample: &Sample) {
        use Invariant::{RestartAsks, Restarts};
        let Some(resize) = &order.resize else { return };
        let (to, part) = (resize.limit.0, (pod.uid.clone(), container.name));
        if !pod.resizing.restarts || pod.resizing.never != NeverRestarted::Nobody {
            self.fail(Restarts, format!("{order:?} does not restart {pod:?}"));
        }
        let kernel = sample.own.limit.map_or(0, |l| l.0);
        let near = |limit: u64| to > limit && to <= limit + 64 * 1024;
        // The kernel may have what somebody else has asked for before the agent hears of it.
        if to < kernel || !(container.limit.is_some_and(near) || near(kernel)) {
            self.fail(Restarts, format!("{order:?} is not the smallest step from {kernel}: {container:?}"));
        }
        if self.rungs.had.contains(&(part, to)) {
            self.fail(Restarts, format!("{order:?} with a limit that it had before"));
        }
        self.check_request_moves(order, pod, container);
        if order.dry_run {
            return;
        }
        match self.rungs.allows.remove(&pod.uid) {
            Some(true) => {}
            answer => self.fail(RestartAsks, format!("{order:?}, the budgets' answer was {answer:?}")),
        }
    }

    /// Notes what was true when a gentle remedy was begun.
    fn begin(&mut self, pod: &Pod, id: TargetId, rung: Rung) {
        let (now, lately) = (self.now, millis(1000));
        let Some(instance) = self.meant.get(&id).and_then(|m| m.container) else { return };
        let (Some(looked), Some(memory)) = (self.looked.get(&id), self.memory.get(&instance)) else { return };
        if let Some(begun) = self.rungs.begun.get_mut(&instance)
            && (rung == Rung::Restart || now <= begun.last + lately)
        {
            begun.last = now;
            return;
        }
        let is_steady = memory.changed_at.max(looked.undisturbed) + lately <= now && memory.rate > 0;
        let body = self.bodies.get(&pod.uid);
        let is_free = body.is_some_and(|b| b.obeys && b.budget == Budget::Allows);
        let could_be_saved = is_steady && is_free && !self.slow.contains_key(&instance);
        self.rungs.begun.insert(instance, Begun { at: now, last: now, rate: memory.rate, could_be_saved });
    }

    /// The agent is told of limits.
    pub(super) fn learn_limits(&mut self, pod: &Pod) {
        for c in &pod.containers {
            let Some(limit) = c.limit else { continue };
            let part = (pod.uid.clone(), c.name);
            let first = if pod.resized == Resized::ByUs { c.request.unwrap_or(0) } else { limit };
            let lowest = self.rungs.lowest.entry(part.clone()).or_insert(first);
            *lowest = limit.min(*lowest);
            let shows = |(_, at): &(u64, Option<i64>)| at.is_some_and(|at| at <= pod.generation);
            if self.rungs.wanted.get(&part).is_some_and(shows) {
                self.rungs.wanted.remove(&part);
            }
            self.rungs.had.insert((part, limit));
        }
    }

    pub(super) fn forget_limits(&mut self, uid: &str) {
        self.rungs.lowest.retain(|(of, _), _| of != uid);
        self.rungs.wanted.retain(|(of, _), _| of != uid);
        self.rungs.refused.retain(|((of, _), _), _| of != uid);
    }

    /// The kernel kills a container: would it live if it had been evicted at once?
    pub(super) fn check_gentle(&mut self, pod: &Pod, target: TargetId, instance: u64) {
        let Some(begun) = self.rungs.begun.get(&instance).copied().filter(|b| b.could_be_saved) else { return };
        let (Some(memory), Some(looked)) = (self.memory.get(&instance), self.looked.get(&target)) else { return };
        let since = memory.before.iter().filter(|(until, ..)| *until >= begun.at);
        let fastest = since.clone().map(|(_, rate, _)| *rate).chain([memory.rate]).max().unwrap_or(0);
        let jumped = since.clone().any(|(.., jump)| *jump > 0);
        let grew_more = jumped || fastest as f64 >= 3.9 * begun.rate as f64;
        // An eviction at once takes so long here; and the agent may take its time to decide.
        let had_time = begun.at + EVICTION + millis(25) <= self.now;
        let disturbed = looked.undisturbed > begun.at || self.slow.contains_key(&instance);
        let api = self.api.get(&pod.key).is_some_and(|p| p.uid == pod.uid && p.ask == pod.ask && !p.terminating);
        let is_free = self.bodies.get(&pod.uid).is_some_and(|b| b.budget == Budget::Allows);
        let failed = self.tries.get(&pod.uid).is_some_and(|t| t.evict.failures > 0 || t.blocked.is_some());
        let views = self.controller.guards(self.now);
        let held = views.iter().any(|v| v.uid == pod.uid && v.state == "held");
        if !self.node.prompt || !pod.ask.ladder.has("evict") || !api || !is_free || held || failed {
            return;
        }
        if grew_more || disturbed || !had_time {
            return;
        }
        let text = format!("{} was killed, though an eviction at once would have saved it: {begun:?}", pod.uid);
        self.fail(Invariant::InTime, text);
    }

    /// What has no effect gives way.
    pub(super) fn check_gives_way(&mut self) {
        let late = |v: &pre_oom_killer::serve::wire::GuardView| {
            let since = self.rungs.since.get(&v.uid).copied().unwrap_or_default();
            (v.state == "raising" || v.state == "restarting") && since + LONGEST_RUNG < self.now
        };
        let view = self.controller.guards(self.now).into_iter().find(late);
        if let Some(view) = view {
            self.fail(Invariant::GivesWay, format!("{view:?} since {:?}", self.rungs.since.get(&view.uid)));
        }
    }
}

/// A remedy without an effect has failed after 30 s, whatever happens.
const LONGEST_RUNG: Duration = Duration::from_millis(31_000);
/// In a prompt history an eviction takes so long, from the request to the end.
pub(super) const EVICTION: Duration = Duration::from_millis(100);
