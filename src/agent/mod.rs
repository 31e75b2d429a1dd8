//! Connects all parts, and handles the shutdown in two signals.

mod pings;
mod signals;
mod tasks;
mod turn;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use kube::Client;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch as published};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use self::signals::{HURRIED, Signals};
use self::tasks::Tasks;
use self::turn::Agent;
use crate::access;
use crate::access::confinement::Confinement;
use crate::act::client::{self, Contact, RenewableClient};
use crate::cgroup::{Alarms, Allocations, Hierarchy, Machine, StatReader};
use crate::cli::{EXIT_USAGE, RunArgs};
use crate::config::Config;
use crate::controller::{Controller, Settings};
use crate::decide::eligibility::Scope;
use crate::ground::clock::Clock;
use crate::pods::guard::DryRun;
use crate::report::incidents::Incidents;
use crate::report::metrics::Metrics;
use crate::report::recent::Recent;
use crate::report::{Pace, events, stderr};
use crate::sampler::{AllocationClock, Counters, Sampler, inbox};
use crate::serve::http::{AgentState, Pages, listen, serve};

/// Reports wait here while the loop is busy. The sampler repeats those that do not fit.
const REPORTS: usize = 1024;
/// Requests of scrapers and people.
const QUESTIONS: usize = 16;
/// The most commands that wait for the sampler, which handles them at each wake-up. With more, the loop waits for the sampler.
const COMMANDS: usize = 256;
/// How long a stopping agent waits for the Events about its last evictions.
const EVENTS_FLUSH: Duration = Duration::from_secs(3);

/// The command `run`. `problems` are those already found in its arguments.
pub fn command(args: RunArgs, mut problems: Vec<String>) -> ExitCode {
    let config = match args.validate() {
        Ok(config) if problems.is_empty() => config,
        result => {
            problems.extend(result.err().unwrap_or_default());
            for problem in problems {
                eprintln!("error: {problem}");
            }
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let log = match stderr::start(&config) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: no thread for the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // One for walks of the cgroup tree, which run one at a time; the others for name look-ups and new clients: the
        // second request of a late eviction must not wait for a look-up that hangs.
        .max_blocking_threads(4)
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(config)),
        Err(error) => Err(error.into()),
    };
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    };
    log.flush();
    code
}

/// Runs the agent until a signal stops it.
///
/// # Errors
/// When it cannot start: there are no cgroups, no way to an API server, or the port is taken.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let machine = Machine::open().context("cannot open /proc/meminfo")?;
    run_on(config, machine).await
}

/// [`run`] on a given machine.
///
/// # Errors
/// See [`run`].
// The wiring, in the order of the data: longer than a screen, but without a branch.
pub async fn run_on(config: Config, machine: Machine) -> anyhow::Result<()> {
    raise_file_limit();
    let mut signals = Signals::listen()?;
    let (clock, wall) = (Clock::start(), Timestamp::now());
    let hierarchy = Hierarchy::detect(&config.cgroup_root)?;
    let contact = Contact::default();
    let clients = Clients::of(&config, &contact).await?;
    let listener = listen(config.listen)?;
    announce(&config, &clients, &hierarchy, listener.local_addr()?);

    let (counters, metrics) = (Arc::new(Counters::default()), Metrics::new());
    let (commands, inbox) = inbox(COMMANDS)?;
    let (reporter, reports) = mpsc::channel(REPORTS);
    let stats = StatReader::new();
    let sampler = Sampler::new(stats.clone(), Arc::clone(&counters), reporter)
        .counting(allocation_clock(&config, &hierarchy))
        .listening(Alarms::open(hierarchy.version));
    std::thread::Builder::new().name("sampler".into()).spawn(move || sampler.run(clock, &inbox))?;

    let (notices, queued) = events::queue();
    let instance = config.pod_name.clone().or(Some(config.node.clone()));
    let writer = clients.writes.client().clone();
    let events = tokio::spawn(events::write_events(writer, instance, queued, metrics.clone()));
    tokio::spawn(access::probe_forever(clients.prober(&config), metrics.clone()));

    let (ask, questions) = mpsc::channel(QUESTIONS);
    let (publish, state) = published::channel(AgentState::default());
    let pages = Pages {
        state,
        ask,
        metrics: metrics.clone(),
        counters: Arc::clone(&counters),
        clock,
        cgroup_root: hierarchy.root.clone(),
        node: config.node.clone(),
        dry_run: config.dry_run,
        started: wall,
    };
    serve(listener, pages)?;

    let controller = Controller::new(Settings {
        scope: Scope { node: config.node.clone(), pod_uid: config.pod_uid, excluded: config.excluded },
        dry_run: config.dry_run,
        limits: config.limits,
        remedies: config.remedies,
        wall,
        seed: fastrand::u64(..),
    });
    let agent = Agent {
        controller,
        clock,
        hierarchy,
        machine,
        stats,
        writes: clients.writes,
        own: clients.own,
        commands,
        counters,
        metrics,
        notices,
        recent: Recent::default(),
        incidents: Incidents::default(),
        to_tell: Vec::new(),
        wants: Vec::new(),
        walk: Tasks::new(),
        warnings: Tasks::new(),
        posts: Tasks::new(),
        pace: Pace::default(),
        contact,
        node: config.node,
        named_by_hand: !config.kubeconfig.is_empty(),
        silent: config.dry_run == DryRun::Client,
        resizes_by_own: config.remedies.resizes() && config.confinement == Confinement::Impersonation,
        pings: JoinSet::new(),
        pinged_at: None,
        pinged_over: 0,
        away: false,
        unanswered: false,
        outage: None,
        publish,
    };
    let stopped = agent.turn(clients.reads, &mut signals, reports, questions).await;
    // The queue's other end is gone now, so the writer ends when it has written the rest.
    tokio::select! {
        _ = events => {}
        () = tokio::time::sleep(EVENTS_FLUSH) => warn!("stopped before all Events were written"),
        () = signals.next() => return Err(anyhow!(HURRIED)),
    }
    stopped?;
    info!("pre-oom-killer has stopped");
    Ok(())
}

/// The connections to the API server.
struct Clients {
    server: String,
    reads: Client,
    writes: RenewableClient,
    /// Uses the account itself, to probe its access. The same as `writes` if the account itself acts.
    own: RenewableClient,
}

impl Clients {
    async fn of(config: &Config, contact: &Contact) -> anyhow::Result<Clients> {
        let kube = client::kube_config(config)?;
        let server = kube.cluster_url.to_string();
        let acting = match config.confinement {
            Confinement::None | Confinement::Policy => kube.clone(),
            Confinement::Impersonation => client::as_node(kube.clone(), &config.node),
        };
        let reads = client::reading(acting.clone(), contact)?;
        let writes = client::writing(acting, contact)?;
        let own = match config.confinement {
            Confinement::None | Confinement::Policy => writes.clone(),
            Confinement::Impersonation => client::writing(kube, contact)?,
        };
        Ok(Clients { server, reads, writes, own })
    }

    fn prober(&self, config: &Config) -> access::Prober {
        let own_pod = config.pod_namespace.clone().zip(config.pod_name.clone());
        access::Prober {
            acting: self.writes.client().clone(),
            own: self.own.client().clone(),
            mode: config.confinement,
            resizes: config.remedies.resizes(),
            own_pod: own_pod.map(|(namespace, name)| access::OwnPod { namespace, name }),
            silent: config.dry_run == DryRun::Client,
        }
    }
}

/// The first line of the log.
fn announce(config: &Config, clients: &Clients, hierarchy: &Hierarchy, listen: SocketAddr) {
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.node,
        server = clients.server,
        cgroup = hierarchy.root.display().to_string(),
        hierarchy = ?hierarchy.version,
        listen = listen.to_string(),
        dry_run = config.dry_run.as_str(),
        confinement = config.confinement.as_str(),
        remedies = config.remedies.names(),
        raise_reserve = config.remedies.resizes().then(|| config.remedies.raise_reserve.to_string()),
        raise_budget = config.remedies.resizes().then(|| config.remedies.raise_budget.to_string()),
        "pre-oom-killer starts"
    );
    if config.kubeconfig.is_empty() && config.pod_uid.is_none() {
        warn!("POD_UID is not set (downward API, metadata.uid): this agent cannot tell which pod it is itself");
    }
}

/// The clock that spares samples; `None` where allocations say nothing of what containers are charged.
fn allocation_clock(config: &Config, hierarchy: &Hierarchy) -> Option<AllocationClock> {
    if !config.by_allocations {
        return None;
    }
    match Allocations::open(hierarchy) {
        Ok(allocations) => Some(AllocationClock::new(allocations)),
        Err(reason) => {
            info!(why = %reason, "containers are sampled by time, whatever the node allocates");
            None
        }
    }
}

/// Raises the limit of descriptors: each container needs four to seven, and as many for the pod's group above it.
fn raise_file_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit of open files");
    }
}
