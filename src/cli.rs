//! Turns flags and environment into one validated [`Config`]. Reports all problems at once, with exit code 64.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::filter::Targets;

use crate::access::confinement::Confinement;
use crate::act::kubeconfig::readable;
use crate::config::{Config, LogFormat};
use crate::decide::ladder::Allowed;
use crate::decide::restraint::Limits;
use crate::ground::units::{Percent, duration};
use crate::pods::guard::DryRun;

/// A larger burst does not limit anything.
const MOST_BURST: u32 = 10_000;
/// Nobody needs a longer refill or minimum age.
const LONGEST: Duration = Duration::from_secs(3600);
/// A shorter refill does not limit anything.
const LEAST_REFILL: Duration = Duration::from_millis(100);

const NO_NODE: &str = "--node-name (or NODE_NAME) is missing: name the node whose pods are guarded; in a DaemonSet it comes from the downward API (spec.nodeName)";
const CONTEXT_ALONE: &str = "--context is given without --kubeconfig: it names one of a kubeconfig's contexts";

/// The default of `--log`. The libraries log every failed connection at WARN or ERROR; the agent reports the same in
/// its own words.
const LOG: &str = "info,kube=off,tower=off,hyper=off,rustls=off";

/// `EX_USAGE` of sysexits.h: the command line or the environment is wrong.
pub const EXIT_USAGE: u8 = 64;

/// Evicts opted-in Kubernetes pods before the kernel's OOM killer ends them.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

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
    /// Explain what led to a container's last eviction or kill, and what to change
    #[cfg(feature = "plugin")]
    Why(crate::plugin::why::WhyArgs),
    /// Say which threshold or limit each workload needs
    #[cfg(feature = "plugin")]
    Recommend(crate::plugin::recommend::RecommendArgs),
}

/// The name by which kubectl finds the program for `kubectl preoom`.
const PLUGIN: &str = "kubectl-preoom";

/// What the user calls the program, by the first word of the command line.
#[must_use]
pub fn program(first: Option<&String>) -> &'static str {
    let name = first.and_then(|word| Path::new(word).file_name()).and_then(|name| name.to_str());
    if name == Some(PLUGIN) { "kubectl preoom" } else { "pre-oom-killer" }
}

impl Cli {
    /// Parses a command line. As a plugin of kubectl, the program calls itself `kubectl preoom` and hides `run`.
    ///
    /// # Errors
    /// For wrong usage; clap also returns help and version as errors.
    pub fn read(words: Vec<String>) -> Result<Cli, clap::Error> {
        let program = program(words.first());
        let mut command = Cli::command();
        if program != command.get_name() {
            command = command.name(program).bin_name(program).mut_subcommand("run", |run| run.hide(true));
        }
        Cli::from_arg_matches(&command.try_get_matches_from_mut(words)?)
    }
}

/// What a build without the feature `plugin` says about the other commands.
#[cfg(not(feature = "plugin"))]
pub const NO_PLUGIN: &str = "this build of pre-oom-killer, as its image has it, has no commands for people: take the \
                           program of the release, or build it with cargo's default features";

/// Whether to write colours: not if <https://no-color.org> forbids them, and not to a terminal that has none.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the environment is read here")]
pub fn colours(terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether the terminal shows more than ASCII, as the locale says.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the environment is read here")]
pub fn utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// The flags of `run`, as written.
///
/// All are text. clap's own parsers would stop at the first wrong value, and a variable cannot be taken out of a second try as
/// a flag can; users shall see all problems at once.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// Name of the node whose pods are guarded
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Kubeconfig for a run outside a cluster; without it, the pod's own service account is used
    #[arg(long, env = "KUBECONFIG", value_name = "FILE[:FILE…]")]
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
    /// Evictions of containers that started less than this ago are deferred, unless a kill is near; 0s: none is
    /// [default: 60s]
    #[arg(long, env = "PRE_OOM_KILLER_MINIMUM_AGE", value_name = "DURATION")]
    pub minimum_age: Option<String>,
    /// What this agent may do besides evicting, where a pod asks for it: raise, restart (both patch pods/resize)
    /// [default: none]
    #[arg(long, env = "PRE_OOM_KILLER_REMEDIES", value_name = "raise,restart")]
    pub remedies: Option<String>,
    /// Percentage of the machine's memory that stays available after a raise [default: 10]
    #[arg(long, env = "PRE_OOM_KILLER_RAISE_RESERVE", value_name = "PERCENT")]
    pub raise_reserve: Option<String>,
    /// Percentage of the machine's memory that all raises on this node add up to at most [default: 10]
    #[arg(long, env = "PRE_OOM_KILLER_RAISE_BUDGET", value_name = "PERCENT")]
    pub raise_budget: Option<String>,
    /// What makes the next sample of a container due: allocations (the node's, by /proc/vmstat, and time); time alone
    /// [default: allocations]
    #[arg(long, env = "PRE_OOM_KILLER_SAMPLE_BY", value_name = "allocations|time")]
    pub sample_by: Option<String>,
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

impl RunArgs {
    /// Validates all flags.
    ///
    /// # Errors
    /// Every problem. Each is a sentence that names the flag and says what to write.
    pub fn validate(self) -> Result<Config, Vec<String>> {
        let normal = Limits::default();
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080));
        let dry_runs = [("off", DryRun::Off), ("client", DryRun::Client), ("server", DryRun::Server)];
        let modes = [Confinement::None, Confinement::Policy, Confinement::Impersonation].map(|m| (m.as_str(), m));
        let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
        let context = given(self.context);
        let mut flags = Flags { problems: Vec::new() };
        if context.is_some() && given(self.kubeconfig.clone()).is_none() {
            flags.problems.push(CONTEXT_ALONE.into());
        }
        let node = given(self.node_name);
        if node.is_none() {
            flags.problems.push(NO_NODE.into());
        }
        let config = Config {
            node: flags.value(node, String::new(), node_name),
            listen: flags.value(self.listen, any, address),
            dry_run: flags.value(self.dry_run, DryRun::Off, |t| choice("--dry-run", t, dry_runs)),
            confinement: flags.value(self.confinement, Confinement::None, |t| choice("--confinement", t, modes)),
            excluded: namespaces(&given(self.exclude_namespaces).unwrap_or_default()),
            limits: Limits {
                burst: flags.value(self.eviction_burst, normal.burst, |t| count("--eviction-burst", t, 1)),
                rescue_burst: flags.value(self.rescue_burst, normal.rescue_burst, |t| count("--rescue-burst", t, 0)),
                refill: flags
                    .value(self.eviction_refill, normal.refill, |t| span("--eviction-refill", t, LEAST_REFILL)),
                minimum_age: flags
                    .value(self.minimum_age, normal.minimum_age, |t| span("--minimum-age", t, Duration::ZERO)),
            },
            remedies: Allowed {
                raise_reserve: flags.value(self.raise_reserve, Percent::TEN, |t| percentage("--raise-reserve", t)),
                raise_budget: flags.value(self.raise_budget, Percent::TEN, |t| percentage("--raise-budget", t)),
                ..flags.value(self.remedies, Allowed::default(), remedies)
            },
            by_allocations: flags
                .value(self.sample_by, true, |t| choice("--sample-by", t, [("allocations", true), ("time", false)])),
            log_format: flags.value(self.log_format, LogFormat::Auto, |t| choice("--log-format", t, formats)),
            log: flags.value(self.log, LOG.to_owned(), filter),
            kubeconfig: flags.value(self.kubeconfig, Vec::new(), readable),
            context,
            cgroup_root: given(self.cgroup_root).map_or("/sys/fs/cgroup".into(), PathBuf::from),
            pod_uid: given(self.pod_uid),
            pod_name: given(self.pod_name),
            pod_namespace: given(self.pod_namespace),
        };
        if flags.problems.is_empty() { Ok(config) } else { Err(flags.problems) }
    }
}

/// An empty variable counts as not set.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// The problems of the flags that were read so far.
struct Flags {
    problems: Vec<String>,
}

impl Flags {
    /// The value of a flag; `default` if it is not given. If it is wrong, `default` replaces it until all flags are
    /// read.
    fn value<T>(&mut self, text: Option<String>, default: T, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        let Some(text) = given(text) else { return default };
        parse(&text).unwrap_or_else(|problem| {
            self.problems.push(problem);
            default
        })
    }
}

/// What the API server takes as the name of a node: a DNS subdomain (RFC 1123).
fn node_name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(fits)
    };
    let is_name = |text: &str| text.len() <= 253 && text.split('.').all(is_label);
    if is_name(text) {
        return Ok(text.to_owned());
    }
    // The kubelet makes the machine's name lower-case, too.
    let meant = text.trim().trim_end_matches('.').to_lowercase();
    let meant = if is_name(&meant) { format!("\"{meant}\"") } else { "one of `kubectl get nodes`".into() };
    Err(format!(
        "--node-name (or NODE_NAME) \"{text}\": no node can have this name, which has to consist of lower-case letters, digits, - and .: \
         write {meant}"
    ))
}

fn choice<T, const N: usize>(flag: &str, text: &str, choices: [(&str, T); N]) -> Result<T, String> {
    let words = choices.each_ref().map(|(word, _)| *word).join(", ");
    let found = choices.into_iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| value).ok_or_else(|| format!("{flag} \"{text}\": write one of {words}"))
}

fn count(flag: &str, text: &str, least: u32) -> Result<u32, String> {
    let count = text.parse().ok().filter(|n| (least..=MOST_BURST).contains(n));
    count.ok_or_else(|| format!("{flag} \"{text}\": write a number from {least} to {MOST_BURST}"))
}

fn span(flag: &str, text: &str, least: Duration) -> Result<Duration, String> {
    let span = duration(text).filter(|d| (least..=LONGEST).contains(d));
    span.ok_or_else(|| format!("{flag} \"{text}\": write a duration such as 30s, from {least:?} to 1h"))
}

fn percentage(flag: &str, text: &str) -> Result<Percent, String> {
    Percent::parse(text).map_err(|why| format!("{flag} \"{text}\" is {why}: write a percentage such as 10"))
}

/// `raise`, `restart`, or both; in any order, for the pod's annotation orders them.
fn remedies(text: &str) -> Result<Allowed, String> {
    let mut allowed = Allowed::default();
    for word in text.split(',').map(str::trim) {
        match word {
            "raise" => allowed.raise = true,
            "restart" => allowed.restart = true,
            _ => return Err(format!("--remedies \"{text}\": write raise, restart, or raise,restart")),
        }
    }
    Ok(allowed)
}

fn namespaces(text: &str) -> BTreeSet<String> {
    listed(text).map(str::to_owned).collect()
}

/// The parts of a list with commas.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn filter(text: &str) -> Result<String, String> {
    let filter = listed(text).collect::<Vec<_>>().join(",");
    let parsed = match &filter[..] {
        "" => Err("it is empty".to_owned()),
        // Tracing would take a filter by span or field for a target, and log nothing of it.
        filter if filter.contains('[') => Err("it filters by more than target and level".to_owned()),
        filter => filter.parse::<Targets>().map_err(|error| error.to_string()),
    };
    match parsed {
        Ok(_) => Ok(filter),
        Err(error) => Err(format!("--log (or RUST_LOG) \"{text}\": {error}; write `info` or `info,kube=debug`")),
    }
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

/// Splits a command line into the words that clap knows, and a problem for each unknown flag. Unknown flags are then
/// reported with all other problems; clap would report only the first one. A word after an unknown flag counts as its
/// value.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::guard::Remedy;

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
            "--raise-budget=100",
            "--raise-reserve=1Gi",
            "--remedies=raise,evict",
        ] {
            assert_eq!(parse(&["--node-name=n", bad]).unwrap_err().len(), 1, "{bad}");
        }
    }

    #[test]
    fn the_log_is_filtered_by_target_and_level() {
        let log = |text: &str| parse(&["--node-name=n", "--log", text]).map(|config| config.log);
        assert_eq!(log("info"), Ok("info".to_owned()));
        assert_eq!(log(" info , kube=debug,"), Ok("info,kube=debug".to_owned()));
        for bad in [",", "a=b=c", "info,kube[request]=debug", "kube=loud"] {
            let problems = log(bad).unwrap_err();
            assert!(
                matches!(&problems[..], [one] if one.contains("--log") && one.contains("write `info`")),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn remedies_are_allowed_one_by_one() {
        let allowed = |words: &[&str]| parse(&[&["--node-name=n"], words].concat()).unwrap().remedies;
        assert_eq!(allowed(&[]), Allowed::default());
        assert!(allowed(&["--remedies", "restart, raise"]).permits(Remedy::Raise));
        let some = allowed(&["--remedies=restart", "--raise-budget=5"]);
        assert_eq!((some.raise, some.restart, some.resizes()), (false, true, true));
        assert_eq!((some.raise_reserve, some.raise_budget), (Percent::TEN, Percent::parse("5").unwrap()));
    }

    #[test]
    fn all_problems_are_reported_at_once() {
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
