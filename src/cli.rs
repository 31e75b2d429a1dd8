//! Flags and environment → one validated [`Config`]; all problems at once, exit 64.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::access::confinement::Confinement;
use crate::decide::restraint::Limits;
use crate::ground::units::duration;
use crate::pods::guard::DryRun;

/// A burst beyond this is no bound any more.
const MOST_BURST: u32 = 10_000;
/// Nor is a wait beyond this one that anybody wants.
const LONGEST: Duration = Duration::from_secs(3600);

/// What is logged where nothing else is asked for. The libraries tell of each connection that failed, at WARN and
/// ERROR, what is told by us in words of our own.
const LOG: &str = "info,kube=off,tower=off,hyper=off,rustls=off";

/// `EX_USAGE` of sysexits.h: what was asked for makes no sense.
pub const EXIT_USAGE: u8 = 64;

/// Evicts opted-in Kubernetes pods before the kernel's OOM killer ends them.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Guard the opted-in pods of this node
    #[command(args_override_self = true)]
    Run(Box<RunArgs>),
    /// Say what will happen to the pods of manifests, and what is wrong with them
    #[cfg(feature = "plugin")]
    Check(crate::plugin::check::CheckArgs),
    /// Show what all agents of a cluster see
    #[cfg(feature = "plugin")]
    Status(crate::plugin::status::StatusArgs),
}

/// As which kubectl finds the program: `kubectl preoom`.
const PLUGIN: &str = "kubectl-preoom";

impl Cli {
    /// Reads a command line. As a plugin of kubectl the program calls itself what people write, and has no `run`.
    ///
    /// # Errors
    /// What clap has to say: wrong usage, but help and the version, too.
    pub fn read(words: Vec<String>) -> Result<Cli, clap::Error> {
        let program = words.first().and_then(|w| Path::new(w).file_name()).and_then(|n| n.to_str()).unwrap_or_default();
        let mut command = Cli::command();
        if program == PLUGIN {
            command =
                command.name("kubectl preoom").bin_name("kubectl preoom").mut_subcommand("run", |run| run.hide(true));
        }
        Cli::from_arg_matches(&command.try_get_matches_from_mut(words)?)
    }
}

/// What a build without the feature `desk` says to those who ask for more than `run`.
#[cfg(not(feature = "plugin"))]
pub const NO_DESK: &str = "this build of pre-oom-killer, as its image has it, has no commands `check` and `status`: take the \
                           program of the release, or build it with cargo's default features";

/// Whether a terminal may be given colours: <https://no-color.org>, and terminals that have none.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the environment is read here")]
pub fn colours(terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The flags of `run`, as written. All are text here, so that all that is wrong with them can be
/// told at once.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// Name of the node whose pods are guarded
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Kubeconfig for a run from a desk; without it, the pod's own service account is used
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<String>,
    /// Context of the kubeconfig; without it, its current one
    #[arg(long, env = "PRE_OOM_KILLER_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// Where the host's /sys/fs/cgroup is mounted [default: /sys/fs/cgroup]
    #[arg(long, env = "PRE_OOM_KILLER_CGROUP_ROOT", value_name = "DIR")]
    pub cgroup_root: Option<String>,
    /// Address and port of /metrics, /healthz, /readyz and /api/guards; a port alone is on all
    /// addresses [default: 8080]
    #[arg(long, env = "PRE_OOM_KILLER_LISTEN", value_name = "[ADDRESS:]PORT")]
    pub listen: Option<String>,
    /// Only try: off; client (send nothing); server (send evictions as dry runs) [default: off]
    #[arg(long, env = "PRE_OOM_KILLER_DRY_RUN", value_name = "off|client|server")]
    pub dry_run: Option<String>,
    /// What is to keep this agent to its own node, as the manifests set it up: none; policy (an
    /// admission policy); impersonation (the agent acts as its node) [default: none]
    #[arg(long, env = "PRE_OOM_KILLER_CONFINEMENT", value_name = "none|policy|impersonation")]
    pub confinement: Option<String>,
    /// Namespaces whose pods are never evicted, separated by commas
    #[arg(long, env = "PRE_OOM_KILLER_EXCLUDE_NAMESPACES", value_name = "NAME,…")]
    pub exclude_namespaces: Option<String>,
    /// Evictions at once on this node [default: 10]
    #[arg(long, env = "PRE_OOM_KILLER_EVICTION_BURST", value_name = "COUNT")]
    pub eviction_burst: Option<String>,
    /// Evictions beyond --eviction-burst of containers that would be killed otherwise [default: 30]
    #[arg(long, env = "PRE_OOM_KILLER_RESCUE_BURST", value_name = "COUNT")]
    pub rescue_burst: Option<String>,
    /// One more eviction, and one more rescue, after each of these [default: 6s]
    #[arg(long, env = "PRE_OOM_KILLER_EVICTION_REFILL", value_name = "DURATION")]
    pub eviction_refill: Option<String>,
    /// Containers that started less than this ago are held, unless their end is near; 0s: none is
    /// [default: 60s]
    #[arg(long, env = "PRE_OOM_KILLER_MINIMUM_AGE", value_name = "DURATION")]
    pub minimum_age: Option<String>,
    /// Form of the log on stderr: text; json; auto (text on a terminal) [default: auto]
    #[arg(long, env = "PRE_OOM_KILLER_LOG_FORMAT", value_name = "auto|text|json")]
    pub log_format: Option<String>,
    /// What is logged, as `info` or `info,kube=debug` [default: info of the agent itself alone]
    #[arg(long, env = "RUST_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// The agent's own pod, from the downward API: never evicted
    #[arg(long, env = "POD_UID", hide = true)]
    pub pod_uid: Option<String>,
    /// The agent's own pod's name: signs its Events
    #[arg(long, env = "POD_NAME", hide = true)]
    pub pod_name: Option<String>,
    /// Its namespace
    #[arg(long, env = "POD_NAMESPACE", hide = true)]
    pub pod_namespace: Option<String>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What `run` does, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The node.
    pub node: String,
    /// None: in the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// None: the current one.
    pub context: Option<String>,
    /// The host's `/sys/fs/cgroup`.
    pub cgroup_root: PathBuf,
    /// Where the pages are.
    pub listen: SocketAddr,
    /// For all pods.
    pub dry_run: DryRun,
    /// What is to keep the agent to its own node.
    pub confinement: Confinement,
    /// Namespaces that are switched off.
    pub excluded: BTreeSet<String>,
    /// How many evictions, how soon.
    pub limits: Limits,
    /// Form of the log.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: String,
    /// The agent's own pod.
    pub pod_uid: Option<String>,
    /// Its name.
    pub pod_name: Option<String>,
    /// Its namespace.
    pub pod_namespace: Option<String>,
}

impl RunArgs {
    /// Validates all flags.
    ///
    /// # Errors
    /// With every problem, each a sentence that names the flag and says what to write.
    pub fn validate(self) -> Result<Config, Vec<String>> {
        // An empty variable is one that is not set.
        let given = |value: Option<String>| value.filter(|v| !v.is_empty());
        let mut problems = Vec::new();
        let node = given(self.node_name).unwrap_or_else(|| {
            problems.push("--node-name (or NODE_NAME) is missing: name the node whose pods are guarded; in a DaemonSet it comes from the downward API (spec.nodeName)".into());
            String::new()
        });
        let listen = given(self.listen).map_or(Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080))), |v| address(&v));
        let listen = listen.unwrap_or_else(|problem| {
            problems.push(problem);
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        });
        let dry_run = match given(self.dry_run).as_deref() {
            None | Some("off") => DryRun::Off,
            Some(text) => text.parse().unwrap_or_else(|()| {
                problems.push(format!("--dry-run \"{text}\": write off, client or server"));
                DryRun::Client
            }),
        };
        let confinement = given(self.confinement).map_or(Ok(Confinement::None), |text| {
            text.parse().map_err(|()| format!("--confinement \"{text}\": write none, policy or impersonation"))
        });
        let confinement = confinement.unwrap_or_else(|problem| {
            problems.push(problem);
            Confinement::None
        });
        let excluded = given(self.exclude_namespaces).unwrap_or_default();
        let excluded = excluded.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect();
        let normal = Limits::default();
        let count = |flag: &str, value: Option<String>, normal, least: u32| {
            value.map_or(Ok(normal), |text| {
                let count = text.parse().ok().filter(|n| (least..=MOST_BURST).contains(n));
                count.ok_or_else(|| format!("{flag} \"{text}\": write a number from {least} to {MOST_BURST}"))
            })
        };
        let burst = count("--eviction-burst", given(self.eviction_burst), normal.burst, 1);
        let rescues = count("--rescue-burst", given(self.rescue_burst), normal.rescue_burst, 0);
        let span = |flag: &str, value: Option<String>, normal, least: Duration| {
            value.map_or(Ok(normal), |text| {
                let span = duration(&text).filter(|d| (least..=LONGEST).contains(d));
                span.ok_or_else(|| format!("{flag} \"{text}\": write a duration such as 30s, from {least:?} to 1h"))
            })
        };
        let refill = span("--eviction-refill", given(self.eviction_refill), normal.refill, Duration::from_millis(100));
        let minimum_age = span("--minimum-age", given(self.minimum_age), normal.minimum_age, Duration::ZERO);
        let mut limits = normal;
        for (value, field) in [(burst, &mut limits.burst), (rescues, &mut limits.rescue_burst)] {
            match value {
                Ok(value) => *field = value,
                Err(problem) => problems.push(problem),
            }
        }
        for (value, field) in [(refill, &mut limits.refill), (minimum_age, &mut limits.minimum_age)] {
            match value {
                Ok(value) => *field = value,
                Err(problem) => problems.push(problem),
            }
        }
        let log_format = match given(self.log_format).as_deref() {
            None | Some("auto") => LogFormat::Auto,
            Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(text) => {
                problems.push(format!("--log-format \"{text}\": write auto, text or json"));
                LogFormat::Auto
            }
        };
        let log = given(self.log).unwrap_or_else(|| LOG.into());
        if let Err(error) = EnvFilter::try_new(&log) {
            problems.push(format!("--log (or RUST_LOG) \"{log}\": {error}; write `info` or `info,kube=debug`"));
        }
        let kubeconfig = given(self.kubeconfig).map(PathBuf::from);
        if let Some(file) = &kubeconfig
            && let Err(error) = std::fs::File::open(file)
        {
            problems.push(format!("--kubeconfig (or KUBECONFIG) {}: {error}", file.display()));
        }
        let context = given(self.context);
        if context.is_some() && kubeconfig.is_none() {
            problems.push("--context is given without --kubeconfig: it names one of a kubeconfig's contexts".into());
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Config {
            node,
            kubeconfig,
            context,
            cgroup_root: given(self.cgroup_root).map_or("/sys/fs/cgroup".into(), PathBuf::from),
            listen,
            dry_run,
            confinement,
            excluded,
            limits,
            log_format,
            log,
            pod_uid: given(self.pod_uid),
            pod_name: given(self.pod_name),
            pod_namespace: given(self.pod_namespace),
        })
    }
}

/// Parts the words of a command line into those that are known and the flags that there are not,
/// so that these can be told with everything else. A word behind an unknown flag is taken for its value.
#[must_use]
pub fn without_unknown_flags(words: impl IntoIterator<Item = String>) -> (Vec<String>, Vec<String>) {
    let command = Cli::command();
    let run = command.find_subcommand("run");
    let flags: BTreeSet<String> = (run.into_iter().flat_map(clap::Command::get_arguments))
        .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
        .chain(["--help".into(), "--version".into()])
        .collect();
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        if !word.starts_with("--") || flags.contains(name) {
            known.push(word);
            continue;
        }
        unknown.push(format!("`{name}`: there is no such flag; see `pre-oom-killer run --help`"));
        if !word.contains('=') {
            words.next_if(|next| !next.starts_with('-'));
        }
    }
    (known, unknown)
}

/// `8080`, `:8080`, `127.0.0.1:8080`, `[::1]:8080`.
fn address(text: &str) -> Result<SocketAddr, String> {
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok(SocketAddr::from((any, port)));
    }
    text.parse().map_err(|_| {
        format!("--listen \"{text}\": write a port such as 8080, or an address and a port such as 127.0.0.1:8080 or [::1]:8080")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Config, Vec<String>> {
        let words = ["pre-oom-killer", "run"].iter().chain(words).map(|w| (*w).to_owned());
        let (known, mut problems) = without_unknown_flags(words);
        #[cfg_attr(not(feature = "plugin"), allow(irrefutable_let_patterns, reason = "then it is the only command"))]
        let Command::Run(args) = Cli::try_parse_from(known).unwrap().command else { panic!("another command") };
        let config = args.validate();
        problems.extend(config.as_ref().err().cloned().unwrap_or_default());
        if problems.is_empty() { config } else { Err(problems) }
    }

    #[test]
    fn a_node_name_is_enough() {
        let config = parse(&["--node-name", "n1"]).unwrap();
        assert_eq!(config.node, "n1");
        assert_eq!(config.listen, "[::]:8080".parse().unwrap());
        assert_eq!(config.cgroup_root, PathBuf::from("/sys/fs/cgroup"));
        assert_eq!((config.dry_run, config.limits), (DryRun::Off, Limits::default()));
        assert_eq!(config.confinement, Confinement::None);
    }

    #[test]
    fn restraint_can_be_set() {
        let words =
            ["--node-name=n", "--eviction-burst=3", "--rescue-burst=0", "--eviction-refill=1m", "--minimum-age=0s"];
        let config = parse(&[&words[..], &["--exclude-namespaces", "kube-system, infra,"]].concat()).unwrap();
        let limits = Limits { burst: 3, rescue_burst: 0, refill: Duration::from_secs(60), minimum_age: Duration::ZERO };
        assert_eq!(config.limits, limits);
        assert_eq!(config.excluded, ["infra".to_owned(), "kube-system".to_owned()].into());
        for bad in [
            "--eviction-burst=0",
            "--rescue-burst=x",
            "--eviction-burst=x",
            "--eviction-refill=0s",
            "--minimum-age=2h",
            "--minimum-age=60",
        ] {
            assert_eq!(parse(&["--node-name=n", bad]).unwrap_err().len(), 1, "{bad}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let problems = parse(&[
            "--nodename",
            "n1",
            "--listen",
            "eighty",
            "--dry-run=yes",
            "--confinement=yes",
            "--log-format",
            "xml",
            "--log",
            "a=b=c",
            "--kubeconfig",
            "/nonexistent",
            "--minimum-age",
            "soon",
            "--verbose",
        ])
        .unwrap_err();
        let all = problems.join("\n");
        for flag in [
            "`--nodename`",
            "--node-name",
            "--listen",
            "--dry-run",
            "--confinement",
            "--log-format",
            "--log ",
            "--kubeconfig",
            "--minimum-age",
            "`--verbose`",
        ] {
            assert!(all.contains(flag), "{flag} in\n{all}");
        }
        assert_eq!(problems.len(), 10, "{all}");
    }

    #[test]
    fn addresses() {
        for (text, address_) in
            [("8080", "[::]:8080"), (":0", "[::]:0"), ("127.0.0.1:80", "127.0.0.1:80"), ("[::1]:80", "[::1]:80")]
        {
            assert_eq!(address(text), Ok(address_.parse().unwrap()), "{text}");
        }
        for text in ["", "65536", "localhost:80", "::1:80:", "-1"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
