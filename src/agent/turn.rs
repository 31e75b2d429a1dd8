//! The loop: it feeds pod changes, resolutions, reports, answers and requests into the controller, and carries out its
//! effects.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use anyhow::anyhow;
use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::{mpsc, watch as published};
use tokio::task::JoinSet;
use tracing::{Level, debug, info};

use super::signals::{HURRIED, Signals};
use super::tasks::Tasks;
use crate::act::answer::Answer;
use crate::act::client::{Contact, RenewableClient};
use crate::act::evict::evict;
use crate::act::order::Order;
use crate::act::warn::{Warned, warn};
use crate::cgroup::resolve::{Groups, Unresolved, Want, resolve};
use crate::cgroup::{Hierarchy, Machine, StatReader};
use crate::controller::{Controller, Effect};
use crate::ground::clock::{Clock, Moment};
use crate::pods::guard::DryRun;
use crate::pods::{FailureKind, PodChange, WatchFailure, watch};
use crate::report::incidents::Incidents;
use crate::report::metrics::Metrics;
use crate::report::notice::Notice;
use crate::report::recent::Recent;
use crate::report::{self, Pace, events};
use crate::sampler::{Commands, Counters, Report, TargetId, What, read_all};
use crate::serve::http::{AgentState, Question, Unheard, Views};

/// At most so many warnings are sent at once; each takes a second at most.
const MOST_WARNINGS: usize = 64;

/// How many kinds of failure are logged in one outage.
const MOST_TROUBLES: usize = 8;

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

pub(super) struct Agent {
    pub(super) controller: Controller,
    pub(super) clock: Clock,
    pub(super) hierarchy: Hierarchy,
    pub(super) machine: Machine,
    pub(super) stats: StatReader,
    pub(super) writes: RenewableClient,
    /// The agent's own account, where it acts as its node otherwise.
    pub(super) own: RenewableClient,
    pub(super) commands: Commands,
    pub(super) counters: Arc<Counters>,
    pub(super) metrics: Metrics,
    pub(super) notices: events::Queue,
    pub(super) recent: Recent,
    pub(super) incidents: Incidents,
    /// What is still to be reported of this turn.
    pub(super) to_tell: Vec<Notice>,
    /// To be searched for in the next walk.
    pub(super) wants: Vec<(TargetId, Want)>,
    /// At most one walk at a time.
    pub(super) walk: Tasks<Vec<TargetId>, Vec<Result<Groups, Unresolved>>>,
    /// Warnings without an answer yet.
    pub(super) warnings: Tasks<TargetId, Warned>,
    /// Requests without an answer yet.
    pub(super) posts: Tasks<Request, Answer>,
    pub(super) pace: Pace,
    pub(super) contact: Contact,
    pub(super) node: String,
    /// The node's name is not from the downward API.
    pub(super) named_by_hand: bool,
    /// Nothing must be sent.
    pub(super) silent: bool,
    /// Resizes have connections of their own: their account is not the one that evicts.
    pub(super) resizes_by_own: bool,
    /// At most one at a time on each connection. The result says whether the server answered.
    pub(super) pings: JoinSet<bool>,
    /// When the last ping was sent.
    pub(super) pinged_at: Option<Moment>,
    /// Over how many connections at once.
    pub(super) pinged_over: usize,
    /// The last ping was not answered, and neither was anything since.
    pub(super) away: bool,
    /// An eviction may be waiting because the server did not answer.
    pub(super) unanswered: bool,
    /// The pods can be neither listed nor watched.
    pub(super) outage: Option<Outage>,
    pub(super) publish: published::Sender<AgentState>,
}

/// The pods can be neither listed nor watched.
pub(super) struct Outage {
    unheard: Unheard,
    /// The kinds of failure that were logged.
    reported: BTreeSet<FailureKind>,
}

impl Outage {
    fn begin(since: Moment) -> Outage {
        Outage { unheard: Unheard { since, error: String::new() }, reported: BTreeSet::new() }
    }

    /// Each kind of failure is logged once in an outage: "connection refused" must not hide the 403 that follows.
    fn is_news(&mut self, failure: &WatchFailure) -> bool {
        self.unheard.error.clone_from(&failure.words);
        self.reported.len() < MOST_TROUBLES && self.reported.insert(failure.kind)
    }
}

/// A request without an answer yet.
pub(super) struct Request {
    number: u64,
    order: Order,
    since: Moment,
}

impl Agent {
    pub(super) async fn turn(
        mut self,
        reads: Client,
        signals: &mut Signals,
        mut reports: mpsc::Receiver<Report>,
        mut questions: mpsc::Receiver<Question>,
    ) -> anyhow::Result<()> {
        let (contact, counters) = (self.contact.clone(), Arc::clone(&self.counters));
        let mut pods = pin!(watch(reads, &self.node));
        let mut published = false;
        loop {
            self.controller.set_wall(self.wall());
            let tick = self.controller.next_tick();
            let check_server = self.server_check_at().map(|at| self.clock.instant(at));
            let wake = until(tick.map(|at| self.clock.instant(at)));
            tokio::select! {
                biased;
                () = signals.next() => break,
                Some(report) = reports.recv() => self.reported(report),
                Some((request, answer)) = self.posts.next() => self.answered(&request, answer),
                Some((id, answer)) = self.warnings.next() => {
                    self.controller.warned(id, answer.unwrap_or_else(Warned::Failed));
                }
                Some((ids, found)) = self.walk.next() => self.found(ids, found),
                () = contact.made() => self.heard(),
                () = contact.answered() => self.sign_of_life(),
                Some(answered) = self.pings.join_next() => self.away |= !answered.unwrap_or(false),
                Some(change) = pods.next() => self.pod_changed(change),
                // Only if nothing more urgent is ready, because it goes through all pods.
                () = std::future::ready(()), if !published => {
                    self.publish.send_replace(self.state());
                    published = true;
                    continue;
                }
                Some(question) = questions.recv() => self.answer(question),
                () = counters.eviction_near.notified() => self.keep_open(),
                () = wake => self.controller.tick(self.clock.now()),
                () = until(check_server) => self.check_server(),
            }
            published = false;
            self.act();
            self.tell().await;
        }
        self.drain(signals, &mut questions).await
    }

    /// Waits for the outstanding answers.
    async fn drain(mut self, signals: &mut Signals, questions: &mut mpsc::Receiver<Question>) -> anyhow::Result<()> {
        info!(evictions = self.posts.len(), "stopping: waiting for the answers that are due");
        loop {
            tokio::select! {
                biased;
                () = signals.next() => return Err(anyhow!(HURRIED)),
                answered = self.posts.next() => match answered {
                    Some((request, answer)) => self.answered(&request, answer),
                    None => return Ok(()),
                },
                Some(question) = questions.recv() => self.answer(question),
            }
            self.notify_only();
        }
    }

    /// What the wall clock would have shown at [`Moment::ZERO`] at its current setting.
    fn wall(&self) -> Timestamp {
        let now = Timestamp::now();
        jiff::SignedDuration::try_from(self.clock.now())
            .ok()
            .and_then(|since| now.checked_sub(since).ok())
            .unwrap_or(now)
    }

    fn pod_changed(&mut self, change: PodChange) {
        if let PodChange::Failed(failure) = &change {
            self.metrics.watch_restarts.inc();
            let outage = self.outage.get_or_insert_with(|| Outage::begin(self.clock.now()));
            if outage.is_news(failure) {
                tracing::warn!(
                    error = failure.words,
                    "the pods cannot be watched; those known stay guarded, and it is tried again"
                );
            }
        }
        let first_list = matches!(change, PodChange::Listed) && !self.controller.listed();
        self.controller.pod_changed(self.clock.now(), change);
        // In a pod, the node's name is the API server's word; here somebody wrote it.
        if first_list && self.named_by_hand && self.controller.has_no_pods() {
            tracing::warn!(
                "no pod on node {node} has opted in so far; if one should have: is there a node of this name \
                 (`kubectl get nodes`), and has the pod the label pre-oom-killer=enabled?",
                node = self.node
            );
        }
    }

    fn heard(&mut self) {
        if let Some(outage) = self.outage.take() {
            let seconds = self.clock.now().saturating_sub(outage.unheard.since).as_secs();
            info!(seconds, "the API server answers again");
        }
    }

    /// The server answers again, so requests that got no answer need not wait any longer. If a request fails while the
    /// server is there, it keeps its back-off.
    fn sign_of_life(&mut self) {
        if std::mem::take(&mut self.away) {
            self.controller.heard(self.clock.now());
        }
    }

    fn reported(&mut self, report: Report) {
        if let What::Above { evidence, since_last_sample } = &report.what {
            if tracing::enabled!(Level::DEBUG)
                && let Some((pod, container)) = self.controller.name_of(report.id)
            {
                let read_us_ago = self.clock.now().saturating_sub(evidence.at).as_micros() as u64;
                debug!(namespace = pod.namespace, pod = pod.name, container, read_us_ago, "above its threshold");
            }
            self.metrics.verdicts.inc();
            if let Some(since) = since_last_sample {
                self.metrics.detection.observe(since.as_secs_f64());
            }
        }
        self.controller.reported(self.clock.now(), report);
    }

    fn answered(&mut self, request: &Request, answer: Result<Answer, String>) {
        let Request { number, order, since } = request;
        // The request may have been sent, so this counts as no answer.
        let answer = &answer.unwrap_or_else(|message| Answer::Unknown { message });
        let mode = if order.dry_run { DryRun::Server } else { DryRun::Off };
        let asks = order.dry_run && self.controller.asks(*number);
        if !asks {
            self.metrics.answered(order.act, Some(answer), mode);
        }
        self.metrics.eviction.observe(self.clock.now().saturating_sub(*since).as_secs_f64());
        self.controller.answered(self.clock.now(), *number, answer);
        if matches!(answer, Answer::Unknown { .. }) {
            // Find out whether the server does not answer at all, or only this request failed.
            self.unanswered = true;
            self.ping(1);
        }
    }

    fn found(&mut self, ids: Vec<TargetId>, found: Result<Vec<Result<Groups, Unresolved>>, String>) {
        let now = self.clock.now();
        // For the controller, a failed walk has found nothing; it requests another.
        let found = found.unwrap_or_else(|_| ids.iter().map(|_| Err(Unresolved::NotFound)).collect());
        for (id, result) in ids.into_iter().zip(found) {
            self.controller.resolved(now, id, result);
        }
    }

    fn state(&self) -> AgentState {
        AgentState {
            listed: self.controller.listed(),
            opted_in: !self.controller.has_no_pods(),
            unheard: self.outage.as_ref().map(|outage| outage.unheard.clone()),
            counts: self.controller.counts(),
        }
    }

    fn answer(&mut self, question: Question) {
        // The requester may have gone.
        match question {
            Question::Guards(sender) => drop(sender.send(Views {
                state: self.state(),
                guards: self.controller.guards_and_pasts(self.clock.now()),
                recent: self.recent.all(),
            })),
            Question::Incidents(sender) => drop(sender.send(self.incidents.all())),
        }
    }

    /// Carries out the controller's effects until there are no more.
    fn act(&mut self) {
        loop {
            let (stats, clock) = (self.stats.clone(), self.clock);
            let machine = &self.machine;
            let mut read = |_: TargetId, groups: &Groups| read_all(groups, &stats, &|| clock.now());
            self.controller.decide(clock.now(), &mut read, &mut || machine.memory());
            let effects = self.controller.effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
        if self.walk.is_empty() && !self.wants.is_empty() {
            let wants = std::mem::take(&mut self.wants);
            let (hierarchy, machine) = (self.hierarchy.clone(), self.machine.clone());
            let (stats, clock) = (self.stats.clone(), self.clock);
            let (ids, wants): (Vec<_>, Vec<_>) = wants.into_iter().unzip();
            self.walk.spawn_blocking(ids, move || {
                let found = resolve(&hierarchy, &machine, &wants);
                let groups = found.iter().flatten().flat_map(|g| [Some(&g.own), g.pod.as_ref()]).flatten();
                stats.read_first(groups, &|| clock.now());
                found
            });
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Resolve(id, want) => self.wants.push((id, want)),
            // The thread ends only after this side.
            Effect::Sampler(command) => self.commands.send(command),
            Effect::Post(number, order) => self.post(number, order),
            Effect::Warn(id, warning) => {
                if self.warnings.len() < MOST_WARNINGS {
                    self.warnings.spawn(id, async move { warn(&warning).await });
                } else {
                    self.controller.warned(id, Warned::Failed("too many warnings at once".into()));
                }
            }
            Effect::Notify(notice) => self.to_tell.push(*notice),
        }
    }

    /// Reports what has happened. The requests of this turn have begun by then: what is said waits for them, not the other way
    /// round.
    async fn tell(&mut self) {
        if self.to_tell.is_empty() {
            return;
        }
        tokio::task::yield_now().await;
        for notice in std::mem::take(&mut self.to_tell) {
            self.notify(notice);
        }
    }

    fn post(&mut self, number: u64, order: Order) {
        // A node's identity has no right to resize; the agent's own account has (measured).
        let line = if order.resize.is_some() { &self.own } else { &self.writes };
        let (line, sent) = (line.clone(), order.clone());
        let request = Request { number, order, since: self.clock.now() };
        self.posts.spawn(request, async move {
            debug!(namespace = sent.pod.namespace, pod = sent.pod.name, act = ?sent.act, "sends a request");
            evict(line.client(), line.another(), &sent).await
        });
    }

    fn notify(&mut self, notice: Notice) {
        self.metrics.reported(&notice.subject);
        self.recent.keep(Timestamp::now(), &notice);
        self.incidents.keep(Timestamp::now(), &notice);
        if !self.pace.allows(self.clock.now(), &notice) {
            self.metrics.notices_dropped.inc();
            return;
        }
        report::log::log(&notice);
        if !self.notices.put(notice) {
            self.metrics.events_lost.inc();
        }
    }

    /// While stopping, what has happened is reported, but nothing new starts.
    fn notify_only(&mut self) {
        for effect in self.controller.effects() {
            if let Effect::Notify(notice) = effect {
                self.notify(*notice);
            }
        }
    }
}
