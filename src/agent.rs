//! Wires everything together; shutdown in two signals.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::StreamExt;
use kube::Client;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tower::timeout::TimeoutLayer;
use tracing::{info, warn};

use crate::cgroup::{Hierarchy, Machine};
use crate::cli::Config;
use crate::controller::{Controller, Effect};
use crate::evict::{ANSWER_WITHIN, Answer, Order, evict};
use crate::guard::DryRun;
use crate::http::{Pages, State, listen, serve};
use crate::metrics::Metrics;
use crate::pods::{PodChange, PodRef, watch};
use crate::policy::Me;
use crate::report::{self, Notice, Subject};
use crate::resolve::{Groups, Unresolved, Want, resolve};
use crate::sampler::{Clock, Command, Report, Sampler, Shared, TargetId, What, read_all};

/// A watch whose response headers never come would hang for ever.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Reports wait here while the loop is busy; the sampler repeats what does not fit.
const REPORTS: usize = 1024;
/// Questions of scrapers and people.
const QUESTIONS: usize = 16;
/// A stopping agent waits so long for the Events that tell of its last evictions.
const EVENTS_FLUSH: Duration = Duration::from_secs(3);

/// Runs the agent until it is told to stop.
///
/// # Errors
/// When it cannot start: no cgroups, no way to an API server, the port is taken.
pub async fn run(config: Config) -> anyhow::Result<()> {
    raise_file_limit();
    let clock = Clock::start();
    let machine = Machine::read().context("cannot read /proc/meminfo")?;
    let hierarchy = Hierarchy::detect(&config.cgroup_root)?;
    let kube = kube_config(&config).await?;
    let server = kube.cluster_url.to_string();
    let reads = client(kube.clone(), HEADERS_WITHIN)?;
    // A pool of its own: an eviction never waits behind a list, and takes as long as it takes.
    let writes = client(kube, ANSWER_WITHIN)?;
    let listener = listen(config.listen)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.node,
        server,
        cgroup = hierarchy.root.display().to_string(),
        hierarchy = ?hierarchy.version,
        listen = listener.local_addr()?.to_string(),
        dry_run = ?config.dry_run,
        "pre-oom-killer starts"
    );

    let shared = Arc::new(Shared::default());
    let metrics = Metrics::new();
    let (commands, obeyed) = std::sync::mpsc::channel();
    let (reported, reports) = mpsc::channel(REPORTS);
    let sampler = Sampler::new(machine, Arc::clone(&shared), reported);
    std::thread::Builder::new().name("sampler".into()).spawn(move || sampler.run(clock, &obeyed))?;

    let (notices, queue) = mpsc::channel(report::QUEUE);
    let events = tokio::spawn(report::write_events(
        writes.clone(),
        config.pod_name.clone().or(Some(config.node.clone())),
        queue,
        metrics.clone(),
    ));
    let (ask, questions) = mpsc::channel(QUESTIONS);
    tokio::spawn(serve(
        listener,
        Pages {
            ask,
            metrics: metrics.clone(),
            shared: Arc::clone(&shared),
            clock,
            cgroup_root: hierarchy.root.clone(),
            node: config.node.clone(),
        },
    ));

    let me = Me { node: config.node, pod_uid: config.pod_uid };
    let agent = Agent {
        controller: Controller::new(me.clone(), config.dry_run, fastrand::u64(..)),
        clock,
        hierarchy,
        machine,
        writes,
        commands,
        shared,
        metrics,
        notices,
        wants: Vec::new(),
        walk: JoinSet::new(),
        posts: JoinSet::new(),
        watch_failing: false,
    };
    agent.turn(reads, &me.node, reports, questions).await?;
    // The queue's sender is gone now: the writer ends when it has written what is left.
    if tokio::time::timeout(EVENTS_FLUSH, events).await.is_err() {
        warn!("stopped before all Events were written");
    }
    info!("pre-oom-killer has stopped");
    Ok(())
}

/// Each container needs up to four descriptors, each pod three more.
fn raise_file_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit of open files");
    }
}

async fn kube_config(config: &Config) -> anyhow::Result<kube::Config> {
    let mut kube = match &config.kubeconfig {
        Some(file) => {
            let options = KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
            let shown = file.display();
            let kubeconfig = Kubeconfig::read_from(file).with_context(|| format!("kubeconfig {shown}"))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .with_context(|| format!("kubeconfig {shown}"))?
        }
        None => kube::Config::incluster()
            .context("not in a cluster (no service account): give --kubeconfig for a run from a desk")?,
    };
    if kube.cluster_url.scheme_str() == Some("http") && kube.root_cert.is_none() {
        // Nothing is to be trusted without TLS; kube would ask for the system's certificates, and
        // fail in an image that has none.
        kube.root_cert = Some(Vec::new());
    }
    // kube repeats a 429 many times on its own; when to try again is ours to say.
    kube.default_retry = false;
    Ok(kube)
}

fn client(kube: kube::Config, headers_within: Duration) -> anyhow::Result<Client> {
    let builder = ClientBuilder::try_from(kube).context("cannot make an API client")?;
    Ok(builder.with_layer(&TimeoutLayer::new(headers_within)).build())
}

type Resolved = Vec<(TargetId, Result<Groups, Unresolved>)>;

struct Agent {
    controller: Controller,
    clock: Clock,
    hierarchy: Hierarchy,
    machine: Machine,
    writes: Client,
    commands: std::sync::mpsc::Sender<Command>,
    shared: Arc<Shared>,
    metrics: Metrics,
    notices: mpsc::Sender<Notice>,
    /// To be found by the next walk.
    wants: Vec<(TargetId, Want)>,
    /// At most one walk at a time.
    walk: JoinSet<Resolved>,
    /// Evictions that await their answer.
    posts: JoinSet<(PodRef, Answer, DryRun, Duration)>,
    watch_failing: bool,
}

impl Agent {
    async fn turn(
        mut self,
        reads: Client,
        node: &str,
        mut reports: mpsc::Receiver<Report>,
        mut questions: mpsc::Receiver<oneshot::Sender<State>>,
    ) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut pods = pin!(watch(reads, node));
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
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                Some(report) = reports.recv() => self.reported(report),
                Some(Ok(answered)) = self.posts.join_next() => self.answered(answered),
                Some(Ok(found)) = self.walk.join_next() => self.found(found),
                Some(change) = pods.next() => self.pod_changed(change),
                Some(question) = questions.recv() => self.answer(question),
                () = wake => self.controller.tick(self.clock.now()),
            }
            self.act();
        }
        info!(evictions = self.posts.len(), "stopping: waiting for the answers that are due");
        loop {
            tokio::select! {
                biased;
                // At once on a second signal.
                _ = terminate.recv() => return Err(anyhow!("stopped by a second signal")),
                _ = interrupt.recv() => return Err(anyhow!("stopped by a second signal")),
                answered = self.posts.join_next() => match answered {
                    Some(Ok(answered)) => self.answered(answered),
                    Some(Err(_)) => {}
                    None => return Ok(()),
                },
                Some(question) = questions.recv() => self.answer(question),
            }
            self.tell_only();
        }
    }

    fn pod_changed(&mut self, change: PodChange) {
        match &change {
            PodChange::Trouble(error) => {
                self.metrics.watch_restarts.inc();
                if !self.watch_failing {
                    warn!(error, "the pods cannot be watched; those known stay guarded, and it is tried again");
                }
                self.watch_failing = true;
            }
            PodChange::Listing => {}
            PodChange::Applied(_) | PodChange::Gone(_) | PodChange::Listed => {
                if self.watch_failing {
                    info!("the pods can be watched again");
                }
                self.watch_failing = false;
            }
        }
        self.controller.pod_changed(self.clock.now(), change);
    }

    fn reported(&mut self, report: Report) {
        if let What::Over { since_last_look, .. } = &report.what {
            self.metrics.verdicts.inc();
            if let Some(since) = since_last_look {
                self.metrics.detection.observe(since.as_secs_f64());
            }
        }
        self.controller.reported(self.clock.now(), report);
    }

    fn answered(&mut self, (pod, answer, mode, took): (PodRef, Answer, DryRun, Duration)) {
        self.metrics.evicted(Some(&answer), mode);
        self.metrics.eviction.observe(took.as_secs_f64());
        self.controller.answered(self.clock.now(), &pod, &answer);
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
            listed: self.controller.listed_at().is_some(),
            counts: self.controller.counts(),
            guards: self.controller.guards(self.clock.now()),
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
            Effect::Post(order) => self.post(order),
            Effect::Tell(notice) => self.tell(*notice),
            Effect::EvictionTakes(takes) => {
                let nanos = u64::try_from(takes.as_nanos()).unwrap_or(u64::MAX);
                self.shared.eviction_takes.store(nanos, Relaxed);
            }
        }
    }

    fn post(&mut self, order: Order) {
        let (client, clock) = (self.writes.clone(), self.clock);
        let began = clock.now();
        let mode = if order.dry_run { DryRun::Server } else { DryRun::Off };
        self.posts.spawn(async move {
            let answer = evict(&client, &order).await;
            (order.pod, answer, mode, clock.now().saturating_sub(began))
        });
    }

    fn tell(&mut self, notice: Notice) {
        report::log(&notice);
        if let Subject::Evicted { mode: DryRun::Client, .. } = notice.subject {
            self.metrics.evicted(None, DryRun::Client);
        }
        if self.notices.try_send(notice).is_err() {
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
