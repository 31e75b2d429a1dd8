//! What happens to pods and their memory.

use super::rungs::EVICTION;
use super::*;
use crate::ladder::{Ladder, NeverRestarted, Resized, Resizing};
use crate::network::{Network, Warn};

impl World<'_> {
    pub(super) fn step(&mut self) {
        let keys: Vec<Key> = self.api.keys().copied().collect();
        let key = (!keys.is_empty()).then(|| keys[self.rng.usize(0..keys.len())]);
        let Some(key) = key.filter(|_| keys.len() >= MOST_PODS || self.rng.u8(0..9) > 0) else {
            return self.create();
        };
        match self.rng.u8(0..48) {
            40..=41 => self.replicas(),
            42 => self.young_loop(),
            46..=47 => self.climb(),
            43 if self.clock_steps => {
                self.count("event: clock set");
                let forward = self.rng.bool();
                let hour = SignedDuration::from_secs(if forward { 3600 } else { -3600 });
                self.wall += hour;
                self.stepped = Some((self.now, forward));
                trace!(self, "clock set by {hour:?}");
            }
            44 => {
                self.count("event: slow files");
                let (until, has_stat) = (self.now + self.between(500, 10_000), self.rng.bool());
                let uid = &self.api[&key].uid;
                let ids = self.bodies.get(uid).map_or(Vec::new(), |b| b.containers.values().copied().collect());
                self.slow.extend(ids.into_iter().map(|id| (id, (until, has_stat))));
            }
            43 => {}
            45 => {
                self.count("event: moved");
                let network = self.network();
                // Whether a pod is in its node's network never changes.
                self.update(key, |pod| pod.network.address = network.address);
            }
            0 => {
                self.count("event: deleted");
                self.terminate(key, None);
            }
            1 => {
                self.count("event: removed at once");
                let uid = self.api[&key].uid.clone();
                self.removed(key, &uid);
                let wait = self.between(1, 3000);
                self.after(wait, Event::Ends(uid));
            }
            2 => {
                self.count("event: replaced by a namesake");
                let old = self.api[&key].clone();
                self.removed(key, &old.uid);
                let wait = self.between(1, 2000);
                self.after(wait, Event::Ends(old.uid.clone()));
                self.create_as(key, Some(&old), None);
            }
            3..=4 => self.restart(key),
            5..=6 => {
                self.count("event: resized");
                self.resized_by_others(key);
            }
            7..=9 => {
                self.count("event: relabelled");
                let label = [Label::Enabled, Label::Enabled, Label::Other, Label::Absent][self.rng.usize(0..4)];
                self.update(key, |pod| pod.label = label);
            }
            10..=13 => {
                self.count("event: annotated");
                let new = Ask::random(&mut self.rng);
                let whole = self.rng.u8(0..3) == 0;
                self.update(key, |pod| match whole {
                    true => pod.ask = new,
                    false => pod.ask = Ask { threshold: new.threshold, dry: new.dry, ..pod.ask },
                });
            }
            14 => {
                self.count("event: finished");
                let phase = if self.rng.bool() { "Succeeded" } else { "Failed" };
                self.update(key, |pod| {
                    pod.phase = phase;
                    pod.containers.iter_mut().for_each(|c| c.running = false);
                });
                let uid = self.api[&key].uid.clone();
                self.after(millis(20), Event::Ends(uid));
            }
            15..=16 => {
                self.count("event: budget changed");
                let budget = Budget::random(&mut self.rng);
                let uid = self.api[&key].uid.clone();
                if let Some(body) = self.bodies.get_mut(&uid) {
                    body.budget = budget;
                }
            }
            17..=19 => {
                self.count("event: server's mood");
                (self.mood, self.node.mood) = (Mood::random(&mut self.rng), Mood::random(&mut self.rng));
                trace!(self, "mood {:?}, of resizes {:?}", self.mood, self.node.mood);
            }
            20 => {
                self.count("event: watch lost");
                if self.watching {
                    self.watching = false;
                    self.epoch += 1;
                    self.heard_at = self.now;
                    self.say(Word::WatchFailure);
                    let away = if self.rng.bool() { self.between(100, 3000) } else { self.between(3000, 60_000) };
                    self.after(away, Event::WatchIsBack);
                }
            }
            21..=28 => {
                self.count("event: ramp");
                let (rate, share) = (1 << self.rng.u32(17..31), self.rng.u64(40..110));
                let now = self.now;
                self.with_memory(key, |memory| {
                    let usage = memory.usage(now);
                    let top = memory.limit.unwrap_or(256 * MIB) * share / 100;
                    memory.set(now, usage, rate, top.max(usage));
                });
            }
            29..=31 => {
                self.count("event: dip");
                let (percent, now) = (self.rng.u64(5..70), self.now);
                self.with_memory(key, |memory| {
                    let usage = memory.limit.unwrap_or(256 * MIB) * percent / 100;
                    memory.set(now, usage, 0, u64::MAX);
                    (memory.inactive, memory.active) = (memory.inactive.min(usage / 4), memory.active.min(usage / 4));
                });
            }
            32..=36 => {
                self.count("event: burst");
                let (percent, now, then) = (self.rng.u64(60..101), self.now, self.rng.i64(-30..30));
                self.with_memory(key, |memory| {
                    let usage = memory.limit.unwrap_or(256 * MIB) * percent / 100;
                    memory.set(now, usage, then * (MIB as i64) / 4, u64::MAX);
                });
            }
            37..=38 => {
                self.count("event: cache");
                let parts = [self.rng.u64(0..60), self.rng.u64(0..30), self.rng.u64(0..20), self.rng.u64(0..10)];
                let now = self.now;
                self.with_memory(key, |memory| {
                    let usage = memory.usage(now);
                    [memory.inactive, memory.active, memory.dirty, memory.slab] = parts.map(|p| usage * p / 120);
                });
            }
            _ => {
                self.count("event: killed for the node's memory");
                let uid = &self.api[&key].uid;
                if let Some((_, id)) = self.bodies.get(uid).and_then(|b| b.containers.first_key_value()) {
                    let id = *id;
                    self.killed(id, true);
                }
            }
        }
    }

    /// Changes the memory of one of a pod's containers, and foresees a kill.
    pub(super) fn with_memory(&mut self, key: Key, change: impl FnOnce(&mut Memory)) {
        let Some(pod) = self.api.get(&key) else { return };
        let Some(body) = self.bodies.get(&pod.uid).filter(|b| !b.containers.is_empty()) else { return };
        let which = self.rng.usize(0..body.containers.len());
        let Some(id) = body.containers.values().nth(which).copied() else { return };
        self.change_memory(id, change);
    }

    pub(super) fn change_memory(&mut self, id: u64, change: impl FnOnce(&mut Memory)) {
        let Some(memory) = self.memory.get_mut(&id) else { return };
        memory.settle(self.now);
        let (rate, held) = (memory.rate, memory.held(self.now));
        change(memory);
        memory.changed(self.now, rate, held);
        let (at, change) = (memory.killed_at(self.now), memory.change);
        trace!(self, "memory of {id:x}: {} at {}/s, limit {:?}", memory.usage(self.now), memory.rate, memory.limit);
        if let Some(at) = at {
            self.at(at, Event::Kill(id, change));
        }
    }

    pub(super) fn create(&mut self) {
        let namespace = match self.rng.u8(0..16) {
            0 => EXCLUDED,
            n => ["ns0", "ns1"][usize::from(n % 2)],
        };
        let key = (namespace, self.rng.u32(0..8));
        if !self.api.contains_key(&key) {
            self.count("event: created");
            self.create_as(key, None, None);
        }
    }

    /// Old pods of one owner that will leak in step.
    fn replicas(&mut self) {
        self.count("event: replicas in step");
        let rng = &mut self.rng;
        let shape = Shape {
            ask: Ask { threshold: Threshold::Percent(rng.u64(50..85)), ..GUARDED },
            owner: Owner::Deployment(rng.u8(0..2), rng.u8(0..2)),
            limit: rng.u64(64..512) * MIB,
            older: Duration::from_secs(3600),
            looping: false,
        };
        let rate = 1 << rng.u32(19..28);
        let wait = self.between(300, 4000);
        for _ in 0..self.rng.usize(2..6) {
            if let Some(uid) = self.create_shaped(shape) {
                self.after(wait, Event::Ramp(uid, rate));
            }
        }
    }

    /// Old containers with more than one remedy, of which one fills up, at a pace that may rise.
    fn climb(&mut self) {
        self.count("event: climb");
        let rng = &mut self.rng;
        let shape = Shape {
            ask: climbing(rng),
            owner: Owner::None,
            limit: rng.u64(64..512) * MIB,
            older: Duration::from_secs(3600),
            looping: false,
        };
        // From a tenth to the limit in 1 to 15 s.
        let rate = (shape.limit * 9 / 10 * 1000 / rng.u64(1_000..15_000)) as i64;
        let wait = self.between(300, 2000);
        let Some(uid) = self.create_shaped(shape) else { return };
        self.after(wait, Event::Ramp(uid.clone(), rate));
        if self.rng.bool() {
            let (later, times) = (self.between(500, 12_000), self.rng.u64(1100..3800));
            self.after(wait + later, Event::Ramp(uid, rate * times as i64 / 1000));
        }
    }

    /// A pod whose containers die of age 20 s, again and again.
    fn young_loop(&mut self) {
        self.count("event: young loop");
        let rng = &mut self.rng;
        let shape = Shape {
            ask: Ask { threshold: Threshold::Percent(rng.u64(50..85)), ..GUARDED },
            owner: if rng.bool() { Owner::StatefulSet(rng.u8(0..2)) } else { Owner::Deployment(rng.u8(0..2), 0) },
            limit: rng.u64(64..512) * MIB,
            older: Duration::ZERO,
            looping: true,
        };
        self.create_shaped(shape);
    }

    pub(super) fn create_shaped(&mut self, shape: Shape) -> Option<String> {
        let namespace = ["ns0", "ns1"][self.rng.usize(0..2)];
        let free: Vec<u32> = (0..12).filter(|n| !self.api.contains_key(&(namespace, *n))).collect();
        let key = (namespace, *free.first()?);
        self.create_as(key, None, Some(shape));
        Some(self.api[&key].uid.clone())
    }

    /// It leaks from now on, up to its limit.
    pub(super) fn ramp(&mut self, uid: &str, rate: i64) {
        let Some(key) = self.bodies.get(uid).map(|b| b.name).filter(|_| !self.quiet) else { return };
        let now = self.now;
        if self.api.get(&key).is_some_and(|p| p.uid == uid) {
            self.with_memory(key, |memory| memory.set(now, memory.usage(now), rate, u64::MAX));
        }
    }

    /// A new one, with an address that nobody had before.
    fn network(&mut self) -> Network {
        self.addresses += 1;
        Network::random(&mut self.rng, self.addresses)
    }

    pub(super) fn create_as(&mut self, key: Key, like: Option<&Pod>, shape: Option<Shape>) {
        let uid = match self.rng.u8(0..60) {
            0 if !std::mem::replace(&mut self.agent_made, true) => AGENT.to_owned(),
            _ => format!("u{:x}", self.rng.u64(..)),
        };
        let (now, wall, network) = (self.now, self.clock(), self.network());
        let rng = &mut self.rng;
        let limit = match rng.u8(0..10) {
            0 => None,
            _ => Some(rng.u64(16 * 1024..256 * 1024) * 1024),
        };
        let older = Duration::from_secs(match rng.u8(0..3) {
            0 => rng.u64(0..100),
            _ => 3600,
        });
        let names: &[&str] = if rng.u8(0..4) == 0 && shape.is_none() { &["a", "b"] } else { &["a"] };
        let (limit, older) = shape.map_or((limit, older), |s| (Some(s.limit), s.older));
        let ask = shape.map(|s| s.ask).or(like.map(|l| l.ask)).unwrap_or_else(|| Ask::random(rng));
        let resizing = Resizing::random(rng, &ask.ladder);
        let containers: Vec<_> = (names.iter())
            .map(|name| Container {
                name,
                id: Some(rng.u64(..)),
                running: true,
                started: now,
                older,
                stamp: wall - SignedDuration::try_from(older).unwrap(),
                killed: None,
                limit,
                request: resizing.request(limit, rng),
            })
            .collect();
        let mut pod = Pod {
            key,
            uid: uid.clone(),
            node: if rng.u8(0..30) == 0 { "other" } else { NODE },
            label: match rng.u8(0..14) {
                0 => Label::Other,
                1 => Label::Absent,
                _ => Label::Enabled,
            },
            ask,
            mirror: rng.u8(0..30) == 0,
            owner: match rng.u8(0..14) {
                0..=3 => Owner::None,
                4 => Owner::Node,
                5..=7 => Owner::StatefulSet(rng.u8(0..2)),
                _ => Owner::Deployment(rng.u8(0..2), rng.u8(0..2)),
            },
            terminating: false,
            phase: if rng.u8(0..30) == 0 { "Pending" } else { "Running" },
            grace: (rng.u8(0..3) == 0).then(|| rng.u32(0..60)),
            made: now,
            created: wall,
            ready: rng.u8(0..3) == 0,
            containers,
            resizing,
            generation: 1,
            resized: Resized::Never,
            network,
        };
        if let Some(like) = like {
            (pod.owner, pod.label) = (like.owner, like.label);
        }
        if let Some(shape) = shape {
            (pod.owner, pod.label) = (shape.owner, Label::Enabled);
            (pod.node, pod.mirror, pod.phase) = (NODE, false, "Running");
        }
        let sum = limit.map(|l| l * names.len() as u64);
        let body = Body {
            containers: pod.containers.iter().map(|c| (c.name, c.id.unwrap())).collect(),
            limit: match rng.u8(0..3) {
                0 => None,
                1 => Some(None),
                _ => Some(sum),
            },
            budget: if shape.is_some() && rng.u8(0..4) > 0 { Budget::Allows } else { Budget::random(rng) },
            refuses: match rng.u8(0..24) {
                0 => Some(Kind::RESIZE_QUOTA),
                1 => Some(Kind::RESIZE_RANGE),
                2 => Some(Kind::RESIZE_POLICY),
                _ => None,
            },
            shape: shape.filter(|s| s.looping),
            obeys: rng.u8(0..8) > 0,
            kills: 0,
            name: key,
        };
        for id in body.containers.values() {
            let percent = if shape.is_some() { 10 } else { rng.u64(5..70) };
            let usage = limit.unwrap_or(256 * MIB) * percent / 100;
            self.memory.insert(*id, Memory::new(self.now, usage, limit));
        }
        self.bodies.insert(uid.clone(), body);
        trace!(self, "created {pod:?}");
        self.api.insert(key, pod.clone());
        self.notify(None, Some(&pod));
        if let Some(shape) = shape.filter(|s| s.looping) {
            self.after(Duration::ZERO, Event::Ramp(uid.clone(), shape.dies_young()));
        }
        if !pod.ready {
            let wait = self.between(100, 20_000);
            self.after(wait, Event::Ready(uid));
        }
    }

    pub(super) fn ready(&mut self, uid: &str) {
        let Some(key) = self.bodies.get(uid).map(|b| b.name) else { return };
        if self.api.get(&key).is_some_and(|p| p.uid == uid && p.containers.iter().all(|c| c.running)) {
            self.update(key, |pod| pod.ready = true);
        }
    }

    pub(super) fn update(&mut self, key: Key, change: impl FnOnce(&mut Pod)) {
        let Some(pod) = self.api.get_mut(&key) else { return };
        let old = pod.clone();
        change(pod);
        let new = pod.clone();
        trace!(self, "changed {new:?}");
        self.notify(Some(&old), Some(&new));
    }

    /// Ends a pod as a deletion does.
    pub(super) fn terminate(&mut self, key: Key, grace: Option<u32>) {
        let Some(pod) = self.api.get(&key).filter(|p| !p.terminating) else { return };
        let (uid, finished) = (pod.uid.clone(), matches!(pod.phase, "Succeeded" | "Failed"));
        if finished {
            return self.removed(key, &uid);
        }
        let grace = grace.or(pod.grace).unwrap_or(30).max(2);
        self.update(key, |pod| pod.terminating = true);
        let obeys = self.bodies.get(&uid).is_none_or(|b| b.obeys);
        let wait = if obeys && self.node.prompt {
            EVICTION - millis(10)
        } else if obeys {
            self.between(25, 2000)
        } else {
            Duration::from_secs(u64::from(grace) + 2)
        };
        let wait = if !obeys && self.rng.bool() { wait * 3 } else { wait };
        self.after(wait, Event::Ends(uid.clone()));
        let wait = wait + self.between(5, 500);
        self.after(wait, Event::Removed(key, uid));
    }

    pub(super) fn ends(&mut self, uid: &str) {
        if let Some(body) = self.bodies.remove(uid) {
            self.took(uid, body.name.0);
            if let Some(shape) = body.shape {
                self.loops.insert(uid.to_owned(), shape);
            }
            for id in body.containers.values() {
                self.memory.remove(id);
            }
            trace!(self, "ended {uid}");
            let name = body.name;
            if self.api.get(&name).is_some_and(|p| p.uid == uid) {
                self.update(name, |pod| pod.containers.iter_mut().for_each(|c| c.running = false));
            }
        }
    }

    pub(super) fn removed(&mut self, key: Key, uid: &str) {
        if self.api.get(&key).is_some_and(|p| p.uid == uid) {
            let old = self.api.remove(&key).unwrap();
            if let Some(shape) = self.bodies.get(uid).and_then(|b| b.shape).or(self.loops.remove(uid)) {
                let wait = self.between(300, 3000);
                self.after(wait, Event::Replaced(shape));
            }
            trace!(self, "removed {uid}");
            self.notify(Some(&old), None);
        }
    }

    pub(super) fn restart(&mut self, key: Key) {
        self.count("event: restarted");
        let pod = &self.api[&key];
        if pod.terminating || pod.phase != "Running" {
            return;
        }
        let uid = pod.uid.clone();
        let Some(body) = self.bodies.get_mut(&uid) else { return };
        let Some((container, id)) = body.containers.pop_first() else { return };
        self.memory.remove(&id);
        self.took(&uid, key.0);
        if self.api[&key].resizing.never == NeverRestarted::Nobody {
            let wait = self.between(10, 3000);
            self.after(wait, Event::Starts(uid, container));
        }
        self.update(key, |pod| {
            pod.ready = false;
            pod.containers.iter_mut().filter(|c| c.name == container).for_each(|c| c.running = false);
        });
    }

    pub(super) fn starts(&mut self, uid: &str, container: &'static str) {
        let (now, stamp) = (self.now, self.clock());
        let Some(body) = self.bodies.get_mut(uid) else { return };
        let key = body.name;
        let Some(pod) = self.api.get(&key).filter(|p| p.uid == uid && p.phase == "Running" && !p.terminating) else {
            return;
        };
        let limit = pod.container(container).and_then(|c| c.limit);
        if body.containers.contains_key(container) {
            return;
        }
        let id = self.rng.u64(..);
        body.containers.insert(container, id);
        let usage = limit.unwrap_or(256 * MIB) * self.rng.u64(5..90) / 100;
        let shape = body.shape;
        let usage = shape.map_or(usage, |s| s.limit / 10);
        if let Some(shape) = shape {
            self.after(Duration::ZERO, Event::Ramp(uid.to_owned(), shape.dies_young()));
        }
        self.memory.insert(id, Memory::new(now, usage, limit));
        self.update(key, |pod| {
            for c in pod.containers.iter_mut().filter(|c| c.name == container) {
                (c.id, c.running, c.started, c.older, c.stamp) = (Some(id), true, now, Duration::ZERO, stamp);
            }
        });
        let wait = self.between(10, 5_000);
        self.after(wait, Event::Ready(uid.to_owned()));
    }

    pub(super) fn kill(&mut self, id: u64, change: u32) {
        let foreseen = self.memory.get(&id).is_some_and(|m| m.change == change);
        if foreseen {
            self.killed(id, false);
        }
    }

    /// The kernel kills a container.
    pub(super) fn killed(&mut self, id: u64, node_wide: bool) {
        let Some((uid, body)) = self.bodies.iter().find(|(_, b)| b.containers.values().any(|c| *c == id)) else {
            return;
        };
        let (uid, key) = (uid.clone(), body.name);
        let container = *body.containers.iter().find(|(_, c)| **c == id).unwrap().0;
        if !node_wide {
            self.check_in_time(&uid, key, container, id);
        }
        let Some(body) = self.bodies.get_mut(&uid) else { return };
        body.containers.remove(container);
        body.kills += 1;
        self.took(&uid, key.0);
        self.memory.remove(&id);
        self.count(if node_wide { "killed, node-wide" } else { "killed" });
        trace!(self, "killed {container} of {uid}");
        // The sampler may see the counter before the group is gone.
        let target = self.meant.iter().find(|(_, m)| m.container == Some(id)).map(|(id, _)| *id);
        if let Some(looked) = target.and_then(|id| self.looked.get(&id))
            && self.rng.bool()
        {
            let report = looked.target.report(What::Killed {
                count: 1,
                together: false,
                hit: if node_wide { Hit::Node } else { Hit::Own },
                last: None,
            });
            self.report(report, true);
        }
        let (now, stamp) = (self.now, self.clock());
        self.update(key, |pod| {
            for c in pod.containers.iter_mut().filter(|c| c.name == container && pod.uid == uid) {
                let started = signed(c.started) - signed(c.older);
                let killed = Killed { id, started: (started, c.stamp), ended: (signed(now), stamp) };
                (c.running, c.killed) = (false, Some(killed));
                pod.ready = false;
            }
        });
        if self.api.get(&key).is_some_and(|p| p.uid == uid && p.resizing.never != NeverRestarted::Nobody) {
            return;
        }
        let crashes = self.rng.u8(0..4) == 0;
        let wait = if crashes { millis(100) } else { self.between(100, 10_000) };
        self.after(wait, Event::Starts(uid, container));
    }
}

/// More than one remedy, and maybe a warning before them.
fn climbing(rng: &mut Rng) -> Ask {
    let threshold = Threshold::Percent(rng.u64(50..85));
    Ask { threshold, ladder: Ladder::any(rng), warn: Warn::random(rng, threshold), ..GUARDED }
}
