//! Wires everything together; shutdown in two signals.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{Level, debug, info, warn};

use crate::cgroup::{Hierarchy, Machine};
use crate::cli::Config;
use crate::client::{self, Contact};
use crate::controller::{Controller, Effect, Settings};
use crate::evict::{Answer, Order, evict};
use crate::guard::DryRun;
use crate::http::{Pages, State, listen, serve};
use crate::metrics::Metrics;
use crate::pods::{PodChange, watch};
use crate::policy::{Me, Moment};
use crate::recent::Recent;
use crate::report::{self, Notice};
use crate::resolve::{Groups, Unresolved, Want, resolve};
use crate::rights;
use crate::rights::confinement::Confinement;
use crate::sampler::{Clock, Command, Report, Sampler, Shared, TargetId, What, read_all};

/// Reports wait here while the loop is busy; the sampler repeats what does not fit.
const REPORTS: usize = 1024;
/// Questions of scrapers and people.
const QUESTIONS: usize = 16;
/// So many commands wait for the sampler, which takes them in at each wake-up; more wait here.
const COMMANDS: usize = 1024;
/// While an eviction may come soon its connection is used so often: kube's pool and the API server
/// let one go that was idle for 90 s.
const KEEP_OPEN_EACH: Duration = Duration::from_secs(60);
/// A stopping agent waits so long for the Events that tell of its last evictions.
const EVENTS_FLUSH: Duration = Duration::from_secs(3);
const HURRIED: &str = "stopped by a second signal";

/// Runs the agent until it is told to stop.
///
/// # Errors
/// When it cannot start: no cgroups, no way to an API server, the port is taken.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let machine = Machine::read().context("cannot read /proc/meminfo")?;
    run_on(config, machine).await
}

/// The same on a machine as told.
///
/// # Errors
/// As [`run`].
pub async fn run_on(config: Config, machine: Machine) -> anyhow::Result<()> {
    raise_file_limit();
    let mut signals = Signals::listen()?;
    let clock = Clock::start();
    let wall = Timestamp::now();
    let hierarchy = Hierarchy::detect(&config.cgroup_root)?;
    let kube = client::kube_config(&config).await?;
    let server = kube.cluster_url.to_string();
    let contact = Contact::default();
    let acting = match config.confinement {
        Confinement::None | Confinement::Policy => kube.clone(),
        Confinement::Impersonation => client::as_node(kube.clone(), &config.node),
    };
    let reads = client::reading(acting.clone(), &contact)?;
    let writes = client::writing(acting)?;
    // The account itself is asked about; where it is the one that acts, by the same client.
    let own = match config.confinement {
        Confinement::None | Confinement::Policy => writes.clone(),
        Confinement::Impersonation => client::writing(kube)?,
    };
    let listener = listen(config.listen)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.node,
        server,
        cgroup = hierarchy.root.display().to_string(),
        hierarchy = ?hierarchy.version,
        listen = listener.local_addr()?.to_string(),
        dry_run = config.dry_run.as_str(),
        confinement = config.confinement.as_str(),
        "pre-oom-killer starts"
    );
    if config.kubeconfig.is_none() && config.pod_uid.is_none() {
        warn!("POD_UID is not set (downward API, metadata.uid): this agent cannot tell which pod it is itself");
    }

    let shared = Arc::new(Shared::default());
    let metrics = Metrics::new();
    let (commands, obeyed) = std::sync::mpsc::sync_channel(COMMANDS);
    let (reported, reports) = mpsc::channel(REPORTS);
    let sampler = Sampler::new(machine, Arc::clone(&shared), reported);
    std::thread::Builder::new().name("sampler".into()).spawn(move || sampler.run(clock, &obeyed))?;

    let (notices, queued) = report::queue();
    let signed = config.pod_name.clone().or(Some(config.node.clone()));
    let events = tokio::spawn(report::write_events(writes.clone(), signed, queued, metrics.clone()));
    let me = config.pod_namespace.zip(config.pod_name).map(|(namespace, name)| rights::Me { namespace, name });
    let silent = config.dry_run == DryRun::Client;
    let asker = rights::Asker { acting: writes.clone(), own, mode: config.confinement, me, silent };
    tokio::spawn(rights::find_out(asker, metrics.clone()));
    let (ask, questions) = mpsc::channel(QUESTIONS);
    let pages = Pages {
        ask,
        metrics: metrics.clone(),
        shared: Arc::clone(&shared),
        clock,
        cgroup_root: hierarchy.root.clone(),
        node: config.node.clone(),
        dry_run: config.dry_run,
        started: wall,
    };
    tokio::spawn(serve(listener, pages));

    let agent = Agent {
        controller: Controller::new(Settings {
            me: Me { node: config.node.clone(), pod_uid: config.pod_uid, excluded: config.excluded },
            dry_run: config.dry_run,
            limits: config.limits,
            wall,
            seed: fastrand::u64(..),
        }),
        clock,
        hierarchy,
        machine,
        writes,
        commands,
        shared,
        metrics,
        notices,
        recent: Recent::default(),
        wall,
        wants: Vec::new(),
        walk: JoinSet::new(),
        posts: JoinSet::new(),
        contact,
        node: config.node,
        silent,
        kept_open_at: None,
        unheard_since: None,
    };
    let stopped = agent.turn(reads, &mut signals, reports, questions).await;
    // The queue's other end is gone now: the writer ends when it has written what is left.
    tokio::select! {
        _ = events => {}
        () = tokio::time::sleep(EVENTS_FLUSH) => warn!("stopped before all Events were written"),
        () = signals.next() => return Err(anyhow!(HURRIED)),
    }
    stopped?;
    info!("pre-oom-killer has stopped");
    Ok(())
}

/// SIGTERM and SIGINT, from the start to the end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Each container needs four to six descriptors, and as many for the pod's group above it.
fn raise_file_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit of open files");
    }
}

type Resolved = Vec<(TargetId, Result<Groups, Unresolved>)>;

struct Agent {
    controller: Controller,
    clock: Clock,
    hierarchy: Hierarchy,
    machine: Machine,
    writes: Client,
    commands: std::sync::mpsc::SyncSender<Command>,
    shared: Arc<Shared>,
    metrics: Metrics,
    notices: report::Queue,
    /// For the page.
    recent: Recent,
    /// The wall clock at [`Moment::ZERO`].
    wall: Timestamp,
    /// To be found by the next walk.
    wants: Vec<(TargetId, Want)>,
    /// At most one walk at a time.
    walk: JoinSet<Resolved>,
    /// Requests that await their answer.
    posts: JoinSet<Answered>,
    contact: Contact,
    node: String,
    /// Nothing is to be sent.
    silent: bool,
    /// When the connection for evictions was last used.
    kept_open_at: Option<Moment>,
    /// Since when the pods can be neither listed nor watched.
    unheard_since: Option<Moment>,
}

/// An answer, and how long it took.
struct Answered {
    number: u64,
    order: Order,
    answer: Answer,
    took: Duration,
}

impl Agent {
    async fn turn(
        mut self,
        reads: Client,
        signals: &mut Signals,
        mut reports: mpsc::Receiver<Report>,
        mut questions: mpsc::Receiver<oneshot::Sender<State>>,
    ) -> anyhow::Result<()> {
        let (contact, shared) = (self.contact.clone(), Arc::clone(&self.shared));
        let mut pods = pin!(watch(reads, &self.node));
        loop {
            let tick = self.controller.next_tick();
            let wake = async {
                match tick {
                    Some(at) => tokio::time::sleep_until(self.clock.instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = signals.next() => break,
                Some(report) = reports.recv() => self.reported(report),
                Some(Ok(answered)) = self.posts.join_next() => self.answered(&answered),
                Some(Ok(found)) = self.walk.join_next() => self.found(found),
                () = contact.made() => self.heard(),
                Some(change) = pods.next() => self.pod_changed(change),
                Some(question) = questions.recv() => self.answer(question),
                () = shared.eviction_near.notified() => self.keep_open(),
                () = wake => self.controller.tick(self.clock.now()),
            }
            self.act();
        }
        info!(evictions = self.posts.len(), "stopping: waiting for the answers that are due");
        loop {
            tokio::select! {
                biased;
                () = signals.next() => return Err(anyhow!(HURRIED)),
                answered = self.posts.join_next() => match answered {
                    Some(Ok(answered)) => self.answered(&answered),
                    Some(Err(_)) => {}
                    None => return Ok(()),
                },
                Some(question) = questions.recv() => self.answer(question),
            }
            self.tell_only();
        }
    }

    fn pod_changed(&mut self, change: PodChange) {
        if let PodChange::Trouble(error) = &change {
            self.metrics.watch_restarts.inc();
            if self.unheard_since.is_none() {
                self.unheard_since = Some(self.clock.now());
                warn!(error, "the pods cannot be watched; those known stay guarded, and it is tried again");
            }
        }
        self.controller.pod_changed(self.clock.now(), change);
    }

    fn heard(&mut self) {
        if let Some(since) = self.unheard_since.take() {
            let seconds = self.clock.now().saturating_sub(since).as_secs();
            info!(seconds, "the API server answers again");
        }
    }

    fn reported(&mut self, report: Report) {
        if let What::Over { evidence, since_last_look } = &report.what {
            if tracing::enabled!(Level::DEBUG)
                && let Some((pod, container)) = self.controller.name_of(report.id)
            {
                let read_us_ago = self.clock.now().saturating_sub(evidence.at).as_micros() as u64;
                debug!(namespace = pod.namespace, pod = pod.name, container, read_us_ago, "above its threshold");
            }
            self.metrics.verdicts.inc();
            if let Some(since) = since_last_look {
                self.metrics.detection.observe(since.as_secs_f64());
            }
        }
        self.controller.reported(self.clock.now(), report);
    }

    fn answered(&mut self, answered: &Answered) {
        let Answered { number, order, answer, took } = answered;
        let mode = if order.dry_run { DryRun::Server } else { DryRun::Off };
        self.metrics.answered(order.act, Some(answer), mode);
        self.metrics.eviction.observe(took.as_secs_f64());
        self.controller.answered(self.clock.now(), *number, answer);
    }

    fn found(&mut self, found: Resolved) {
        let now = self.clock.now();
        for (id, result) in found {
            self.controller.resolved(now, id, result);
        }
    }

    fn answer(&mut self, question: oneshot::Sender<State>) {
        // Whoever asked may have gone.
        let _ = question.send(State {
            listed: self.controller.listed(),
            list_age: self.unheard_since.map_or(Duration::ZERO, |since| self.clock.now().saturating_sub(since)),
            counts: self.controller.counts(),
            guards: self.controller.guards(self.clock.now()),
            recent: self.recent.all(),
        });
    }

    /// Does what the controller asks for, until it asks for no more.
    fn act(&mut self) {
        loop {
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
            let (hierarchy, machine) = (self.hierarchy.clone(), self.machine);
            self.walk.spawn_blocking(move || {
                let (ids, wants): (Vec<_>, Vec<_>) = wants.into_iter().unzip();
                let found = resolve(&hierarchy, machine, &wants);
                ids.into_iter().zip(found).collect()
            });
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Resolve(id, want) => self.wants.push((id, want)),
            // The thread ends only after this side.
            Effect::Sampler(command) => drop(self.commands.send(command)),
            Effect::Reread(id, groups) => {
                let now = self.clock.now();
                let read = read_all(&groups, self.machine, now);
                self.controller.reread(now, id, read);
            }
            Effect::Post(number, order) => self.post(number, order),
            Effect::Tell(notice) => self.tell(*notice),
            Effect::EvictionTakes(takes) => {
                let nanos = u64::try_from(takes.as_nanos()).unwrap_or(u64::MAX);
                self.shared.eviction_takes.store(nanos, Relaxed);
            }
        }
    }

    fn post(&mut self, number: u64, order: Order) {
        let (client, clock) = (self.writes.clone(), self.clock);
        let began = clock.now();
        self.posts.spawn(async move {
            let answer = evict(&client, &order).await;
            Answered { number, order, answer, took: clock.now().saturating_sub(began) }
        });
    }

    /// A TCP and TLS handshake takes some of the time that an eviction has.
    fn keep_open(&mut self) {
        let now = self.clock.now();
        if self.silent || self.kept_open_at.is_some_and(|at| now < at + KEEP_OPEN_EACH) {
            return;
        }
        self.kept_open_at = Some(now);
        let (client, node) = (self.writes.clone(), self.node.clone());
        tokio::spawn(async move { client::keep_open(&client, &node).await });
    }

    fn tell(&mut self, notice: Notice) {
        report::log(&notice);
        self.metrics.told(&notice.subject);
        let at = self.wall.saturating_add(self.clock.now()).unwrap_or(Timestamp::MAX);
        self.recent.keep(at, &notice);
        if !self.notices.put(notice) {
            self.metrics.events_lost.inc();
        }
    }

    /// While stopping: what has happened is told, nothing new is begun.
    fn tell_only(&mut self) {
        for effect in self.controller.effects() {
            if let Effect::Tell(notice) = effect {
                self.tell(*notice);
            }
        }
    }
}
