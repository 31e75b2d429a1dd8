//! Requests: what does the server do, and what comes back.

use super::oracle::QUIET;
use super::*;

impl World<'_> {
    pub(super) fn post(&mut self, number: u64, mut order: Order) {
        match self.bug {
            Some(Bug::DeletesAtOnce) if order.resize.is_none() => order.act = Act::Delete,
            Some(Bug::SendsTwice) if order.resize.is_none() => {
                self.twins += 1;
                self.send(self.twins, order.clone());
            }
            _ => {}
        }
        self.send(number, order);
    }

    pub(super) fn send(&mut self, number: u64, order: Order) {
        if let Some(rung) = self.rung(&order) {
            return self.send_gently(number, order, rung);
        }
        self.count(if order.act == Act::Delete { "sent: deletion" } else { "sent: eviction" });
        if order.dry_run {
            self.count("sent: dry run");
        }
        trace!(self, "sent {number} {order:?}");
        let key = self.key_of(&order.pod);
        let excuse = self.check_request(&order, key);
        let excuse = excuse.unwrap_or(Excuse { late: true, lived: Duration::MAX, replaced: true, others: false });
        let fate = if self.node.prompt { Fate::Truth } else { self.mood.fate(&mut self.rng) };
        let tries = self.tries.entry(order.pod.uid.0.clone()).or_default();
        tries.in_flight += 1;
        tries.sent.push((self.now, order.act));
        // Nothing came of one that was accepted.
        tries.accepted = None;
        self.spend(number, &order.pod.uid.0);
        let lasts = self.lasts(&order.pod.uid.0);
        let (at, rung) = (self.now, None);
        let sent = Sent { order, key, at, fate, answer: None, forgotten: false, lasts, excuse, rung };
        self.sent.insert(number, sent);
        self.travel(number, fate);
    }

    /// To the server.
    pub(super) fn travel(&mut self, number: u64, fate: Fate) {
        let wait = match self.rng.u8(0..40) {
            _ if self.node.prompt => millis(10),
            0 => self.between(100, 5000),
            _ => self.between(1, 20),
        };
        self.after(wait, Event::Arrives(number));
        if fate == Fate::Never {
            self.after(ANSWER_WITHIN, Event::Answered(number));
        }
    }

    pub(super) fn spend(&mut self, number: u64, uid: &str) {
        if let Some(pod) = self.told.values().find(|p| p.uid == uid) {
            let (uid, owner) = (pod.uid.clone(), pod.owner_key());
            self.spent.push(Spent { at: self.now, number, uid, owner, void: false });
        }
    }

    pub(super) fn lasts(&self, uid: &str) -> Option<f64> {
        let (id, sample, _) = self.last_read.get(uid)?;
        let margin = sample.as_ref()?.margin()?.0 as f64;
        match self.growth_at_most(*id) {
            (_, 1..) => Some(0.0),
            (growth, 0) => (growth > 0.0).then_some(margin / growth),
        }
    }

    /// The same by the last looks.
    fn lasts_as_shown(&self, uid: &str) -> Option<f64> {
        let views = self.controller.guards(self.now);
        let memories = views.iter().filter(|v| v.uid == uid).filter_map(|v| v.memory.as_ref());
        let lasts = memories.filter_map(|m| {
            let growth = m.growth.max(m.slow_growth).filter(|g| *g > 0)?;
            Some(m.room? as f64 / growth as f64)
        });
        lasts.min_by(f64::total_cmp)
    }

    pub(super) fn key_of(&self, pod: &PodRef) -> Key {
        let namespace = ["ns0", "ns1", EXCLUDED].into_iter().find(|n| *n == pod.namespace).unwrap_or("");
        (namespace, pod.name.strip_prefix('p').and_then(|n| n.parse().ok()).unwrap_or(u32::MAX))
    }

    pub(super) fn arrives(&mut self, number: u64) {
        let Some(sent) = self.sent.get(&number) else { return };
        if sent.order.resize.is_some() {
            return self.resize_arrives(number);
        }
        let (order, key, fate, at, excuse) = (sent.order.clone(), sent.key, sent.fate, sent.at, sent.excuse);
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
        // Of a DELETE with a body the server does not read the query.
        let dry_run = match order.act {
            Act::Evict => query.contains("dryRun=All"),
            Act::Delete => options["dryRun"] == serde_json::json!(["All"]),
            Act::Raise | Act::Restart => panic!("{order:?} changes nothing"),
        };
        if wire.uri().path() != path || dry_run != order.dry_run || grace != order.grace {
            self.fail(Invariant::AsAsked, format!("{order:?} became {wire:?}"));
        }
        let truth = match fate {
            Fate::LostBefore => None,
            Fate::Turned(kind) => Some(kind),
            Fate::Nothing => Some(if order.act == Act::Evict { Kind::EVICTED } else { Kind::DELETED }),
            Fate::Truth | Fate::LostAfter | Fate::Never => {
                Some(self.serve(key, &order, &wanted, dry_run, (at, excuse)))
            }
        };
        self.reply(number, truth);
    }

    /// The answer goes back, or is lost.
    pub(super) fn reply(&mut self, number: u64, truth: Option<Kind>) {
        let Some(Sent { fate, at, order, .. }) = self.sent.get(&number) else { return };
        let (fate, at, act) = (*fate, *at, order.act);
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
                let answer = answer_to(act, code, row.retry_after, row.body.as_bytes());
                let slow = self.rng.u8(0..12) == 0 && !self.node.prompt;
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
    pub(super) fn serve(
        &mut self,
        key: Key,
        order: &Order,
        wanted: &str,
        dry_run: bool,
        (at, excuse): (Moment, Excuse),
    ) -> Kind {
        let Some(pod) = self.api.get(&key).cloned() else { return Kind::NOT_FOUND };
        if self.rng.u8(0..60) == 0 && !self.quiet && !self.node.prompt {
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
            self.take_the_place_of_a_restart(&pod, at);
            self.check_restraint(&pod, at, excuse);
        }
        match (order.act, finished) {
            (Act::Evict, _) => Kind::EVICTED,
            (Act::Delete, _) if self.rng.u8(0..8) == 0 => Kind::DELETED_AT_ONCE,
            (Act::Delete, true) => Kind::DELETED_AT_ONCE,
            (Act::Delete, false) => Kind::DELETED,
            (Act::Raise | Act::Restart, _) => panic!("{order:?} changes nothing"),
        }
    }

    pub(super) fn understood(&mut self, answer: &Answer) {
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
    }

    pub(super) fn answered(&mut self, number: u64) {
        let Some(sent) = self.sent.remove(&number) else { return };
        if let Some(rung) = sent.rung {
            return self.gently_answered(number, sent, rung);
        }
        let Sent { order, at, answer, forgotten, lasts, excuse, .. } = sent;
        let answer = answer.unwrap_or(Answer::Unknown { message: "no answer within 30 s".into() });
        trace!(self, "answered {number} {answer:?}");
        let uid = order.pod.uid.0.clone();
        self.understood(&answer);
        let there = !forgotten && self.told.values().any(|p| p.uid == uid);
        let now = self.now;
        // As it was sent, and as it is now: the agent goes by its last look.
        let lasts = [lasts, self.lasts(&uid), self.lasts_as_shown(&uid)];
        let lasts = lasts.into_iter().flatten().min_by(f64::total_cmp);
        let owner = self.spent.iter().find(|s| s.number == number && excuse.lived < QUIET).map(|s| s.owner.clone());
        let owner = owner.map(|owner| (owner, signed(at) - signed(excuse.lived)));
        let tries = self.tries.entry(uid.clone()).or_default();
        tries.in_flight = tries.in_flight.saturating_sub(1);
        if there {
            // What is said of a deletion says nothing of the budget.
            if order.act == Act::Evict {
                let is_blocked = matches!(answer, Answer::Blocked { .. });
                tries.blocked = is_blocked.then(|| tries.blocked.unwrap_or(now));
            }
            let pace = if order.act == Act::Evict { &mut tries.evict } else { &mut tries.delete };
            // A failure is forgiven after ten quiet minutes.
            if now > pace.not_before + Duration::from_secs(600) {
                pace.failures = 0;
            }
            // A try falls into the first quarter of the time that is left.
            let quarter = lasts.map_or(u64::MAX, |l| (l * 250.0) as u64).saturating_sub(1);
            let half =
                |first: u64, most: u64, n: u32| millis((first << n.min(16)).min(most.min(quarter.max(first))) / 2);
            let least = match &answer {
                Answer::Accepted if order.dry_run => None,
                Answer::Accepted => {
                    tries.accepted = Some(now);
                    // Should nothing come of it, that is one more failure.
                    Some(MARKED_WITHIN + half(1000, 30_000, pace.failures))
                }
                Answer::Blocked { retry_after, .. } => {
                    // What is asked for counts where there is the time for it.
                    let floor = retry_after.filter(|f| lasts.is_none_or(|l| l > f.as_secs_f64() + 0.001));
                    Some(half(1000, 30_000, pace.failures).max(floor.unwrap_or_default()))
                }
                Answer::Throttled { retry_after, .. } => Some(retry_after.unwrap_or(millis(1000))),
                Answer::NamespaceTerminating | Answer::Denied { .. } | Answer::Ineffective => {
                    Some(half(1000, 30_000, pace.failures))
                }
                Answer::Refused { .. } | Answer::Mistake { .. } => Some(Duration::from_secs(60)),
                Answer::Gone
                | Answer::Replaced
                | Answer::Unauthorized
                | Answer::Failing { .. }
                | Answer::Unknown { .. } => Some(half(200, 10_000, pace.failures)),
            };
            if let Some(least) = least {
                pace.failures += 1;
                pace.not_before = now + least;
                pace.unheard = matches!(answer, Answer::Unknown { .. } | Answer::Unauthorized);
            }
        }
        if !matches!(answer, Answer::Unknown { .. } | Answer::Unauthorized) {
            self.sign_of_life();
            // It surely did not happen, unless one before it may have.
            let before = |s: &Spent| s.uid == uid && s.number != number && !s.void;
            if answer != Answer::Accepted && !self.spent.iter().any(before) {
                self.spent.iter_mut().filter(|s| s.number == number).for_each(|s| s.void = true);
            }
        }
        if answer == Answer::Accepted
            && !order.dry_run
            && let Some((owner, started)) = owner
        {
            self.ended_young(owner, started, signed(now));
        }
        let passed_on = match (self.bug, answer.clone()) {
            (Some(Bug::KeepsRefunds), answer) if answer != Answer::Accepted => {
                Answer::Unknown { message: "lost".into() }
            }
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
        self.check_held();
        if number >= 1 << 40 {
            return; // a planted twin
        }
        let label = answer.label();
        let said = self.notices.get(&uid).map(Vec::as_slice).unwrap_or_default();
        let fresh = answer == Answer::Accepted || !there;
        let told = said.iter().skip(if fresh { before } else { 0 }).any(|(kind, _)| *kind == label);
        if !told && said.len() < 64 {
            let text = format!("{answer:?} for {uid} was not told, only {said:?}");
            self.fail(Invariant::Reported, text);
        }
        if !there {
            self.notices.remove(&uid);
        }
    }
}
