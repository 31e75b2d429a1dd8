//! Requests: may they be made, what does the server do, and what comes back.

use super::*;

impl World<'_> {
    pub(super) fn post(&mut self, number: u64, mut order: Order) {
        match self.bug {
            Some(Bug::DeletesAtOnce) => order.act = Act::Delete,
            Some(Bug::SendsTwice) => {
                self.twins += 1;
                self.send(self.twins, order.clone());
            }
            _ => {}
        }
        self.send(number, order);
    }

    pub(super) fn send(&mut self, number: u64, order: Order) {
        self.count(if order.act == Act::Delete { "sent: deletion" } else { "sent: eviction" });
        if order.dry_run {
            self.count("sent: dry run");
        }
        trace!(self, "sent {number} {order:?}");
        let key = self.key_of(&order.pod);
        self.check_request(&order, key);
        let fate = self.mood.fate(&mut self.rng);
        self.tries.entry(order.pod.uid.0.clone()).or_default().in_flight += 1;
        let lasts = self.lasts(&order.pod.uid.0);
        self.sent.insert(number, Sent { order, key, at: self.now, fate, answer: None, forgotten: false, lasts });
        let wait = match self.rng.u8(0..40) {
            0 => self.between(100, 5000),
            _ => self.between(1, 20),
        };
        self.after(wait, Event::Arrives(number));
        if fate == Fate::Never {
            self.after(ANSWER_WITHIN, Event::Answered(number));
        }
    }

    pub(super) fn lasts(&self, uid: &str) -> Option<f64> {
        let (id, sample, _) = self.last_read.get(uid)?;
        let growth = self.meant.get(id)?.evidence?.growth.filter(|g| *g > 0)?;
        Some(sample.as_ref()?.room()?.0 as f64 / growth as f64)
    }

    pub(super) fn key_of(&self, pod: &PodRef) -> Key {
        let namespace = ["ns0", "ns1", EXCLUDED].into_iter().find(|n| *n == pod.namespace).unwrap_or("");
        (namespace, pod.name.strip_prefix('p').and_then(|n| n.parse().ok()).unwrap_or(u32::MAX))
    }

    /// What the agent may ask for, by what it was told and by what it has just read.
    pub(super) fn check_request(&mut self, order: &Order, key: Key) {
        use Invariant::*;
        let now = self.now;
        let uid = order.pod.uid.0.clone();
        let Some(pod) = self.told.get(&key).filter(|p| p.uid == uid).cloned() else {
            let invariant = if self.unlabelled.contains(&uid) { OptedIn } else { Present };
            return self.fail(invariant, format!("a request for {uid}, of which was told that it is no more"));
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
        let dry = match (self.dry_run, pod.ask.dry) {
            (Dry::Client, _) | (_, Dry::Client) => Dry::Client,
            (Dry::Server, _) | (_, Dry::Server) => Dry::Server,
            _ => Dry::Off,
        };
        if dry == Dry::Client || (dry == Dry::Server) != order.dry_run {
            self.fail(DryRun, format!("{order:?} in a dry run {dry:?}"));
        }
        if order.grace != pod.ask.grace {
            self.fail(AsAsked, format!("{order:?}, asked for was grace {:?}", pod.ask.grace));
        }
        // Over, read at this moment.
        let read = self.last_read.get(&uid).copied().filter(|(id, _, at)| *at == now && self.meant.contains_key(id));
        let Some((id, Some(sample), _)) = read else {
            return self.fail(Over, format!("a request for {uid} without a reading"));
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
        if order.act == Act::Delete {
            let blocked = self.tries.get(&uid).is_some_and(|t| t.blocked);
            if !blocked || !is_past_force(&sample.own, sample.base(), &pod.ask) {
                self.fail(Force, format!("{uid} is deleted, blocked: {blocked}, {sample:?} by {:?}", pod.ask));
            }
        }
        if let Some((closed, not_before)) = self.tries.get(&uid).map(|t| (t.closed, t.not_before)) {
            if let Some(why) = closed.filter(|_| !order.dry_run) {
                self.fail(Once, format!("a request for {uid} after {why}"));
            }
            if now < not_before && order.act == Act::Evict {
                self.fail(Pace, format!("a request for {uid} before {not_before:?}"));
            }
        }
        self.check_age(&pod, &meant, &sample);
    }

    pub(super) fn check_age(&mut self, pod: &Pod, meant: &Meant, sample: &Sample) {
        let of = |c: &&Container| meant.container.is_none() || c.id == meant.container;
        let running = pod.containers.iter().filter(|c| c.running).filter(of);
        let Some(age) = running.map(|c| self.now + c.older - c.started).min() else { return };
        // What is written has whole nanoseconds; a clock is not finer than this.
        if age + millis(1) >= self.limits.minimum_age {
            return;
        }
        let growth = meant.evidence.and_then(|e| e.growth_at_least).unwrap_or(0);
        let bound = millis(500).max(self.takes * 4) + millis(1);
        let near = growth > 0 && sample.room().is_some_and(|r| r.0 as f64 / (growth as f64) < bound.as_secs_f64());
        if !near {
            let text = format!("a request for {}, aged {age:?}, growth {growth}, room {:?}", pod.uid, sample.room());
            self.fail(Invariant::MinimumAge, text);
        }
    }

    pub(super) fn arrives(&mut self, number: u64) {
        let Some(sent) = self.sent.get(&number) else { return };
        let (order, key, fate, at) = (sent.order.clone(), sent.key, sent.fate, sent.at);
        let wire = request(&order).unwrap();
        let mut body: serde_json::Value = serde_json::from_slice(wire.body()).unwrap();
        if self.bug == Some(Bug::LosesThePrecondition) {
            body["deleteOptions"]["preconditions"] = serde_json::Value::Null;
        }
        let options = if order.act == Act::Delete { &body } else { &body["deleteOptions"] };
        let wanted = options["preconditions"]["uid"].as_str().unwrap_or_default().to_owned();
        if wanted.is_empty() || wanted != order.pod.uid.0 {
            self.fail(Invariant::Precondition, format!("a request without its precondition: {body}"));
        }
        let path = format!("/api/v1/namespaces/{}/pods/{}", key.0, name(key));
        let path = if order.act == Act::Delete { path } else { format!("{path}/eviction") };
        let query = wire.uri().query().unwrap_or_default();
        let grace = options["gracePeriodSeconds"].as_u64().map(|g| g as u32);
        if wire.uri().path() != path || query.contains("dryRun=All") != order.dry_run || grace != order.grace {
            self.fail(Invariant::AsAsked, format!("{order:?} became {wire:?}"));
        }
        let dry_run = query.contains("dryRun=All");
        let truth = match fate {
            Fate::LostBefore => None,
            Fate::Turned(kind) => Some(kind),
            Fate::Truth | Fate::LostAfter | Fate::Never => Some(self.decide(key, &order, &wanted, dry_run, at)),
        };
        let (answer, wait) = match (fate, truth) {
            (Fate::LostBefore | Fate::LostAfter, _) | (_, None) => {
                self.count("answer: lost");
                (Answer::Unknown { message: "connection reset".into() }, self.between(1, 100))
            }
            (Fate::Never, _) => {
                self.count("answer: none");
                let sent = self.sent.get_mut(&number).unwrap();
                sent.answer = Some(Answer::Unknown { message: "no answer within 30 s".into() });
                return;
            }
            (_, Some(kind)) => {
                let row = kind.row();
                self.count(row.name);
                let code = StatusCode::from_u16(row.code).unwrap();
                let answer = answer_to(order.act, code, row.retry_after, row.body.as_bytes());
                let slow = self.rng.u8(0..12) == 0;
                (answer, if slow { self.between(500, 20_000) } else { self.between(2, 60) })
            }
        };
        let due = (self.now + wait).min(at + ANSWER_WITHIN);
        let sent = self.sent.get_mut(&number).unwrap();
        sent.answer = Some(match due < at + ANSWER_WITHIN {
            true => answer,
            false => Answer::Unknown { message: "no answer within 30 s".into() },
        });
        self.at(due.max(self.now), Event::Answered(number));
    }

    /// As the server does: the budget before the precondition.
    pub(super) fn decide(&mut self, key: Key, order: &Order, wanted: &str, dry_run: bool, at: Moment) -> Kind {
        let Some(pod) = self.api.get(&key).cloned() else { return Kind::NOT_FOUND };
        if self.rng.u8(0..60) == 0 && !self.quiet {
            return Kind::NAMESPACE_TERMINATING;
        }
        let finished = matches!(pod.phase, "Succeeded" | "Failed");
        let budget = self.bodies.get(&pod.uid).map_or(Budget::Allows, |b| b.budget);
        if order.act == Act::Evict
            && !pod.terminating
            && !finished
            && let Some(kind) = budget.answer()
        {
            return kind;
        }
        if pod.uid != wanted && !wanted.is_empty() {
            return Kind::CONFLICT_UID;
        }
        if pod.uid != order.pod.uid.0 {
            self.fail(Invariant::Precondition, format!("{} was hit in place of {}", pod.uid, order.pod.uid.0));
        }
        if !dry_run && !pod.terminating {
            self.count("evicted");
            trace!(self, "evicted {}", pod.uid);
            self.terminate(key, order.grace);
            self.check_restraint(&pod, at);
        }
        match (order.act, finished) {
            (Act::Evict, _) => Kind::EVICTED,
            (Act::Delete, _) if self.rng.u8(0..8) == 0 => Kind::DELETED_AT_ONCE,
            (Act::Delete, true) => Kind::DELETED_AT_ONCE,
            (Act::Delete, false) => Kind::DELETED,
        }
    }

    /// An eviction that was asked for at this moment has come true.
    pub(super) fn check_restraint(&mut self, pod: &Pod, at: Moment) {
        let i = self.evicted.partition_point(|e| *e <= at);
        self.evicted.insert(i, at);
        for (i, from) in self.evicted.iter().enumerate() {
            for (j, to) in self.evicted.iter().enumerate().skip(i) {
                let span = *to - *from;
                let most = u128::from(self.limits.burst) + span.as_nanos() / self.limits.refill.as_nanos();
                if (j - i + 1) as u128 > most {
                    let text = format!("{} evictions in {span:?} from {from:?}, allowed {most}", j - i + 1);
                    return self.fail(Invariant::Budget, text);
                }
            }
        }
        let owner = pod.owner_key();
        let times = self.owners.entry(owner.clone()).or_default();
        times.insert(times.partition_point(|e| *e <= at), at);
        let mut count = 0;
        for pair in times.windows(2) {
            let gap = pair[1] - pair[0];
            count = if gap >= Duration::from_secs(600) { 0 } else { count + 1 };
            let wait = (10u64 << (count.max(1) - 1).min(16)).min(300);
            if count > 0 && gap < Duration::from_secs(wait) {
                let text = format!("pods of {owner:?} evicted {gap:?} apart, back-off {wait} s: {times:?}");
                return self.fail(Invariant::BackOff, text);
            }
        }
    }

    pub(super) fn answered(&mut self, number: u64) {
        let Some(Sent { order, answer, forgotten, lasts, .. }) = self.sent.remove(&number) else { return };
        let answer = answer.unwrap_or(Answer::Unknown { message: "no answer within 30 s".into() });
        trace!(self, "answered {number} {answer:?}");
        let uid = order.pod.uid.0.clone();
        self.count(match answer.label() {
            "accepted" => "understood: accepted",
            "gone" => "understood: gone",
            "replaced" => "understood: replaced",
            "namespace-terminating" => "understood: namespace terminating",
            "blocked" => "understood: blocked",
            "throttled" => "understood: throttled",
            "refused" => "understood: refused",
            "unauthorized" => "understood: unauthorized",
            "failing" => "understood: failing",
            "unknown" => "understood: unknown",
            _ => "understood: mistake",
        });
        let there = !forgotten && self.told.values().any(|p| p.uid == uid);
        let now = self.now;
        let tries = self.tries.entry(uid.clone()).or_default();
        tries.in_flight = tries.in_flight.saturating_sub(1);
        if there {
            // That a deletion would be accepted says nothing of the budget.
            if order.act == Act::Evict || answer != Answer::Accepted {
                tries.blocked = matches!(answer, Answer::Blocked { .. });
            }
            // A failure is forgiven after ten quiet minutes.
            if now > tries.not_before + Duration::from_secs(600) {
                tries.failures = 0;
            }
            let half = |first: u64, most: u64, n: u32| millis((first << n.min(16)).min(most) / 2);
            let least = match &answer {
                Answer::Accepted if order.dry_run => None,
                Answer::Accepted => {
                    tries.closed = Some("it was accepted");
                    None
                }
                Answer::Gone | Answer::Replaced | Answer::NamespaceTerminating | Answer::Mistake { .. } => {
                    tries.closed = Some("an answer that is final");
                    None
                }
                Answer::Blocked { retry_after, .. } => {
                    // What is asked for counts where there is the time for it.
                    let floor = retry_after.filter(|f| lasts.is_none_or(|l| l > f.as_secs_f64() + 0.001));
                    Some(half(1000, 30_000, tries.failures).max(floor.unwrap_or_default()))
                }
                Answer::Throttled { retry_after } => Some(retry_after.unwrap_or(millis(1000))),
                Answer::Refused { .. } => Some(Duration::from_secs(60)),
                Answer::Unauthorized | Answer::Failing { .. } | Answer::Unknown { .. } => {
                    Some(half(200, 10_000, tries.failures))
                }
            };
            if let Some(least) = least {
                tries.failures += 1;
                tries.not_before = now + least;
            }
        }
        let passed_on = match (self.bug, answer.clone()) {
            (Some(Bug::RetriesARefusalSoon), Answer::Refused { code, message }) => Answer::Failing { code, message },
            (Some(Bug::ForgetsRetryAfter), Answer::Blocked { budget, message, .. }) => {
                Answer::Blocked { budget, message, retry_after: None }
            }
            (Some(Bug::SendsAfterAccepted), Answer::Accepted) => Answer::Failing { code: 500, message: "m".into() },
            (Some(Bug::LosesAnswers), _) if number.is_multiple_of(3) => return,
            (_, answer) => answer,
        };
        self.controller.answered(now, number, &passed_on);
        let before = self.notices.get(&uid).map_or(0, Vec::len);
        self.act();
        if number >= 1 << 40 {
            return; // a planted twin
        }
        let label = answer.label();
        let said = self.notices.get(&uid).map(Vec::as_slice).unwrap_or_default();
        let fresh = answer == Answer::Accepted || !there;
        let told = said.iter().skip(if fresh { before } else { 0 }).any(|(kind, _)| *kind == label);
        if !told && said.len() < 64 {
            let text = format!("{answer:?} for {uid} was not told, only {said:?}");
            self.fail(Invariant::Told, text);
        }
        if !there {
            self.notices.remove(&uid);
        }
    }
}
