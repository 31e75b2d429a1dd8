//! Resizes on the server's and the kubelet's side, and their answers.

use super::rungs::Rung;
use super::*;
use crate::ladder::Resized;
use crate::server::turned_resize;

/// The kernel keeps whole pages.
const PAGE: u64 = 4096;

/// An amount as the agent writes it, in bytes.
fn amount(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => MIB,
        "Gi" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok().map(|n| n * unit)
}

impl World<'_> {
    pub(super) fn resize_arrives(&mut self, number: u64) {
        let Some(sent) = self.sent.get(&number) else { return };
        let (order, key, fate) = (sent.order.clone(), sent.key, sent.fate);
        self.check_resize_wire(&order, key);
        let truth = match fate {
            Fate::LostBefore => None,
            Fate::Turned(_) => Some(turned_resize(&mut self.rng)),
            Fate::Nothing => Some(Kind::RESIZED),
            Fate::Truth | Fate::LostAfter | Fate::Never => Some(self.serve_resize(key, &order)),
        };
        let part = order.resize.as_ref().and_then(|r| self.part(&order.pod.uid.0, key, &r.container));
        let stored = truth == Some(Kind::RESIZED) && !matches!(fate, Fate::Nothing);
        if let Some(part) = part.filter(|_| !stored) {
            self.rungs.wanted.remove(&part);
        }
        self.reply(number, truth);
    }

    pub(super) fn part(&self, uid: &str, key: Key, container: &str) -> Option<super::rungs::Part> {
        let pod = [self.told.get(&key), self.api.get(&key)].into_iter().flatten().find(|p| p.uid == uid)?;
        Some((uid.to_owned(), pod.container(container)?.name))
    }

    /// The patch says what was meant, and nothing else.
    fn check_resize_wire(&mut self, order: &Order, key: Key) {
        let wire = request(order).unwrap();
        let body: serde_json::Value = serde_json::from_slice(wire.body()).unwrap();
        if body["metadata"] != serde_json::json!({"uid": order.pod.uid.0}) {
            self.fail(Invariant::Precondition, format!("a resize without its precondition: {body}"));
        }
        let path = format!("/api/v1/namespaces/{}/pods/{}/resize", key.0, name(key));
        let query = wire.uri().query().unwrap_or_default();
        let kind = wire.headers().get("content-type").and_then(|k| k.to_str().ok()).unwrap_or_default();
        let fits = wire.uri().path() == path
            && query.contains("dryRun=All") == order.dry_run
            && query.contains("fieldManager=pre-oom-killer")
            && kind == "application/strategic-merge-patch+json";
        let container = &body["spec"]["containers"][0];
        let memory = |of: &str| container["resources"][of]["memory"].as_str().and_then(amount);
        let resize = order.resize.as_ref();
        let alone = body["spec"]["containers"].as_array().is_some_and(|all| all.len() == 1)
            && body["spec"].as_object().is_some_and(|spec| spec.len() == 1);
        let says = resize.is_some_and(|r| {
            container["name"] == r.container.as_str()
                && memory("limits") == Some(r.limit.0)
                && memory("requests") == r.request.map(|r| r.0)
        });
        if !fits || !alone || !says {
            self.fail(Invariant::AsAsked, format!("{order:?} became {wire:?}: {body}"));
        }
    }

    /// As the server does: the uid before what is allowed.
    fn serve_resize(&mut self, key: Key, order: &Order) -> Kind {
        let Some(pod) = self.api.get(&key).cloned() else { return Kind::NOT_FOUND };
        if pod.uid != order.pod.uid.0 {
            return Kind::RESIZE_UID;
        }
        let Some(resize) = &order.resize else { return Kind::RESIZE_ABOVE_POD };
        let (limit, request) = (resize.limit.0, resize.request.map(|r| r.0));
        let Some(container) = pod.container(&resize.container).filter(|c| c.limit.is_some()) else {
            self.fail(Invariant::Raises, format!("{order:?} of a container without a limit"));
            return Kind::RESIZE_ABOVE_POD;
        };
        if let Some(kind) = self.bodies.get(&pod.uid).and_then(|b| b.refuses) {
            return kind;
        }
        if order.dry_run || container.limit == Some(limit) {
            return Kind::RESIZED;
        }
        let (name, uid) = (container.name, pod.uid.clone());
        self.update(key, |pod| {
            for c in pod.containers.iter_mut().filter(|c| c.name == name) {
                (c.limit, c.request) = (Some(limit), request.or(c.request));
            }
            (pod.generation, pod.resized) = (pod.generation + 1, Resized::ByUs);
        });
        if let Some((_, stored)) = self.rungs.wanted.get_mut(&(uid.clone(), name)) {
            *stored = Some(pod.generation + 1);
        }
        let instance = self.bodies.get(&uid).and_then(|b| b.containers.get(name)).copied();
        if let Some(instance) = instance.filter(|_| !pod.terminating && pod.phase == "Running") {
            match pod.resizing.restarts {
                true => self.kubelet_restarts(&pod, name, instance),
                false => self.kubelet_raises(&uid, name, instance),
            }
        }
        Kind::RESIZED
    }

    /// The pod's group first, then the container's: soon, late, or never.
    fn kubelet_raises(&mut self, uid: &str, name: &'static str, instance: u64) {
        let wait = match self.rng.u8(0..12) {
            0 => self.between(300, 1000),
            1 | 2 => {
                self.count("kubelet: put off");
                return;
            }
            _ => self.between(26, 100),
        };
        self.after(wait / 2, Event::GroupRaised(uid.to_owned()));
        self.after(wait, Event::Raised(uid.to_owned(), name, instance));
    }

    pub(super) fn group_raised(&mut self, uid: &str) {
        let Some(body) = self.bodies.get_mut(uid) else { return };
        let Some(pod) = self.api.get(&body.name).filter(|p| p.uid == uid && !p.terminating) else { return };
        let sum: Option<u64> = pod.containers.iter().map(|c| c.limit).sum();
        if let (Some(Some(limit)), Some(sum)) = (body.limit, sum) {
            body.limit = Some(Some(limit.max(sum)));
        }
    }

    pub(super) fn raised(&mut self, uid: &str, name: &'static str, instance: u64) {
        let Some(body) = self.bodies.get(uid).filter(|b| b.containers.get(name) == Some(&instance)) else { return };
        let pod = self.api.get(&body.name).filter(|p| p.uid == uid && !p.terminating);
        let Some(limit) = pod.and_then(|p| p.container(name)?.limit) else { return };
        self.count("kubelet: raised");
        let now = self.now;
        self.change_memory(instance, |memory| {
            memory.limit = Some(limit / PAGE * PAGE);
            let (usage, rate, top) = (memory.usage(now), memory.rate, memory.top);
            memory.set(now, usage, rate, top);
        });
    }

    /// preStop, SIGTERM, grace, and a new process.
    fn kubelet_restarts(&mut self, pod: &Pod, name: &'static str, instance: u64) {
        let obeys = self.bodies.get(&pod.uid).is_none_or(|b| b.obeys);
        let at_once = self.node.prompt || self.rng.u8(0..4) > 0;
        let stop = if at_once { self.between(35, 60) } else { self.between(60, 3000) };
        let grace = Duration::from_secs(u64::from(pod.grace.unwrap_or(30)).max(1));
        let wait = if obeys { stop } else { stop + grace };
        self.after(wait, Event::Stopped(pod.uid.clone(), name, instance));
        if let Some((at, _, excuse)) = self.rungs.asked.get(&pod.uid).copied() {
            self.check_restraint(pod, at, excuse);
            self.restarting.insert(pod.uid.clone(), at);
        }
    }

    pub(super) fn stopped(&mut self, uid: &str, name: &'static str, instance: u64) {
        let Some(body) = self.bodies.get_mut(uid).filter(|b| b.containers.get(name) == Some(&instance)) else { return };
        if self.api.get(&body.name).is_none_or(|p| p.uid != uid || p.terminating) {
            return;
        }
        body.containers.remove(name);
        self.memory.remove(&instance);
        self.count("kubelet: restarted");
        self.rungs.restarted.insert(uid.to_owned(), self.now);
        if let Some((at, ..)) = self.rungs.asked.get(uid) {
            // It is noticed some time later.
            self.rungs.slowest = self.rungs.slowest.max(self.now - *at + Duration::from_secs(4));
        }
        trace!(self, "stopped {name} of {uid}");
        let wait = self.between(150, 300);
        self.after(wait, Event::Starts(uid.to_owned(), name));
    }

    /// Somebody else changes a limit: below its usage it stays unapplied.
    pub(super) fn resized_by_others(&mut self, key: Key) {
        let (now, percent) = (self.now, self.rng.u64(50..200));
        let Some(pod) = self.api.get(&key) else { return };
        let uid = pod.uid.clone();
        let Some(body) = self.bodies.get(&uid).filter(|b| !b.containers.is_empty()) else { return };
        let which = self.rng.usize(0..body.containers.len());
        let Some((name, instance)) = body.containers.iter().nth(which).map(|(name, id)| (*name, *id)) else { return };
        let Some(memory) = self.memory.get(&instance) else { return };
        let Some(limit) = memory.limit else { return };
        let wanted = (limit * percent / 100 / PAGE * PAGE).clamp(16 * MIB, 512 * MIB);
        if wanted <= memory.usage(now) {
            return;
        }
        if wanted < limit {
            self.rungs.lowered.insert((uid, name));
        }
        self.change_memory(instance, |memory| {
            memory.limit = Some(wanted);
            let (usage, rate, top) = (memory.usage(now), memory.rate, memory.top);
            memory.set(now, usage, rate, top);
        });
        self.update(key, |pod| {
            let whole = pod.resizing.guaranteed;
            for c in pod.containers.iter_mut().filter(|c| c.name == name) {
                c.limit = Some(wanted);
                c.request = c.request.map(|r| if whole { wanted } else { r.min(wanted) });
            }
            (pod.generation, pod.resized) = (pod.generation + 1, pod.resized.max(Resized::ByOthers));
        });
    }

    /// The answer to a raise, to a restart, or to the question before it.
    pub(super) fn gently_answered(&mut self, number: u64, sent: Sent, rung: Rung) {
        let Sent { order, answer, key, .. } = sent;
        let answer = answer.unwrap_or(Answer::Unknown { message: "no answer within 30 s".into() });
        trace!(self, "answered {number} {answer:?}");
        let (uid, now) = (order.pod.uid.0.clone(), self.now);
        self.understood(&answer);
        let is_lost = matches!(answer, Answer::Unknown { .. } | Answer::Unauthorized);
        if !is_lost {
            self.sign_of_life();
        }
        let told = self.told.get(&key).filter(|p| p.uid == uid).map(|p| p.generation);
        let part = order.resize.as_ref().and_then(|r| self.part(&uid, key, &r.container));
        if let (Answer::Refused { code, .. } | Answer::Denied { code, .. }, Some(part), Some(told)) =
            (&answer, part, told)
            && !order.dry_run
            && !sent.forgotten
            && matches!(code, 403 | 422)
        {
            self.rungs.refused.insert((part, rung), told);
        }
        if rung == Rung::Question {
            self.rungs.allows.insert(uid.clone(), answer == Answer::Accepted);
        }
        let passed_on = match (self.bug, &answer) {
            (Some(Bug::RestartsAgainstABudget), Answer::Blocked { .. }) => Answer::Accepted,
            _ => answer.clone(),
        };
        let restarts = |sent: &Sent| sent.rung == Some(Rung::Restart) && sent.at == now && sent.order.pod.uid.0 == uid;
        let refunds = match rung {
            Rung::Raise => None,
            Rung::Question => Some(number),
            Rung::Restart if answer == Answer::Accepted || matches!(answer, Answer::Unknown { .. }) => None,
            Rung::Restart if order.dry_run => Some(number),
            Rung::Restart => self.rungs.asked.get(&uid).map(|(_, number, _)| *number),
        };
        self.controller.answered(now, number, &passed_on);
        self.act();
        let begun = rung == Rung::Question && self.sent.values().any(restarts);
        if let Some(number) = refunds.filter(|_| !begun) {
            self.spent.iter_mut().filter(|s| s.number == number).for_each(|s| s.void = true);
        }
        self.check_held();
    }
}
