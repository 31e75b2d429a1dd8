//! `cargo demo`: three pods with equal limits fill their memory. One is guarded, and ends on SIGTERM before its limit.
//! One lists `raise` before `evict`, and lives on with a higher limit. One is not guarded, and is OOM-killed by the kernel.
//! The flow is that of [`show`]:
//!
//! 1. This program is the agent, too: as `demo run …` it does what `pre-oom-killer run …` does, from the same library. So
//!    cargo builds it all at once, and shows how far it is.
//! 2. The stand-in makes memory cgroups as kubelet does (where that is not allowed: regular files that
//!    look the same) and serves the API. `pods.rs` puts the pods there, each with a process of its own.
//! 3. `agent.rs` starts the agent against the stand-in.
//! 4. The pods fill. Every few milliseconds `pods.rs` looks at them, and `screen.rs` draws them; with `--record`,
//!    `record.rs` makes an SVG of what is drawn.
//! 5. `outcome.rs` says what happened; exit 0 only if that is what was to happen.
//!
//! Whatever is made is removed by a `Drop`, on every way out; `stop.rs` makes errors of signals.

#![expect(clippy::disallowed_methods, reason = "a demo happens in real time")]

mod agent;
mod outcome;
mod pods;
mod record;
mod screen;
mod stop;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::error::ErrorKind::ValueValidation;
use clap::{CommandFactory, Parser};
use pre_oom_killer::cli::{Cli, Command, EXIT_USAGE};
use pre_oom_killer::ground::units::{Bytes, Percent, parse_quantity};
use procfs::{Current, Meminfo};
use standin::cgroups::Tree;
use standin::{Resizes, Standin};

use agent::Agent;
use outcome::Outcome;
use pods::{KUBELET_TAKES, Kind, Pod};
use screen::{Screen, note};
use stop::until;

/// How often the pods are looked at: at the default rate they grow by 0.1Mi meanwhile.
const LOOK: Duration = Duration::from_millis(2);
/// A process holds some of it before it fills: a threshold below could be crossed at once.
const LEAST_THRESHOLD: Bytes = Bytes(8 << 20);
/// Nobody watches a demo for longer, in seconds.
const LONGEST: u64 = 600;

/// Three pods fill their memory: one is evicted in time, one has its limit raised in time, one is OOM-killed.
///
/// The pods are real processes in real memory cgroups with equal limits, and the agent is the real one; the
/// API server and the kubelet are stand-ins in this process. It needs root and a writable cgroup mount:
/// without, groups, processes and the kernel's OOM killer are simulated. Nothing is left behind.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo demo", max_term_width = 100)]
struct Args {
    /// The memory limit of each pod
    #[arg(long, value_name = "QUANTITY", default_value = "256Mi", value_parser = parse_quantity)]
    limit: Bytes,
    /// When the agent is to act, in percent of the limit
    #[arg(long, value_name = "PERCENT", default_value = "60", value_parser = Percent::parse)]
    threshold: Percent,
    /// How much memory each takes in a second
    #[arg(long, value_name = "QUANTITY", default_value = "48Mi", value_parser = parse_quantity)]
    rate: Bytes,
    /// Print only the outcome, as one JSON object on one line
    #[arg(long)]
    json: bool,
    /// Show nothing, and write the terminal to this file as an animated SVG
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    record: Option<PathBuf>,
    /// Simulate also where real groups can be made
    #[arg(long)]
    simulate: bool,
    /// Run this agent instead of the one in this program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
}

impl Args {
    fn threshold(&self) -> Bytes {
        self.threshold.of(self.limit)
    }

    /// What the raised pod holds in the end, above the limit that it began with.
    fn filled(&self) -> Bytes {
        self.limit.plus(Bytes(self.limit.0 / 8))
    }

    /// Up to where its limit may be raised, in whole MiB: the threshold of that is above what it holds in the end.
    fn raise_limit_to(&self) -> Bytes {
        let least = self.threshold.whole_of(self.limit.plus(Bytes(self.limit.0 / 6)));
        Bytes(least.0.next_multiple_of(Bytes::MIB.0))
    }

    fn checked(self) -> Result<Args, clap::Error> {
        let error = |text| Err(Args::command().error(ValueValidation, text));
        if self.threshold() < LEAST_THRESHOLD {
            return error(format!("the threshold is {}, it must be at least {LEAST_THRESHOLD}", self.threshold()));
        }
        if self.rate.0.saturating_mul(LONGEST) < self.limit.0 {
            return error(format!("at --rate {} it takes more than {LONGEST} s to fill {}", self.rate, self.limit));
        }
        Ok(self)
    }
}

fn main() -> ExitCode {
    standin::hog::be_one_if_asked();
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == "run") {
        return match Cli::read(words) {
            Ok(Cli { command: Command::Run(args) }) => pre_oom_killer::agent::command(*args, Vec::new()),
            _ => ExitCode::from(EXIT_USAGE), // the words are ours
        };
    }
    let args = match Args::try_parse().and_then(Args::checked) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print(); // nothing can be done about a closed terminal
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let Err(error) = stop::listen().and_then(|()| show(&args)) else { return ExitCode::SUCCESS };
    note(&format!("{error:#}"));
    stop::code().map_or(ExitCode::FAILURE, ExitCode::from)
}

/// All of it. What it makes ends in reverse: the agent first, the groups last.
fn show(args: &Args) -> anyhow::Result<()> {
    let mut screen = Screen::new(args);
    let binary = args.agent.clone().map_or_else(std::env::current_exe, Ok)?;
    let real = if args.simulate { Err("asked for by --simulate".into()) } else { Tree::real() };
    let tree = match real {
        Ok(tree) => {
            let free = Meminfo::current()?.mem_available.map_or(Bytes(u64::MAX), Bytes);
            let needed = args.threshold().plus(args.filled()).plus(args.limit).plus(LEAST_THRESHOLD);
            ensure!(free > needed, "{needed} of free memory are needed, {free} are there: give a smaller --limit");
            tree
        }
        Err(why) => {
            note(&format!("Simulated: {why}."));
            note("This program plays the processes, their memory, and the kernel's OOM killer.");
            Tree::simulated()
        }
    };
    let server = Standin::start_tls();
    server.set_sigterm_delay(KUBELET_TAKES);
    server.resizes(Resizes::default());
    let mut pods = [Kind::Guarded, Kind::Raised, Kind::Unguarded].map(|kind| Pod::put(&tree, &server, args, kind));
    let mut agent = Agent::start(&binary, &server, tree.root())?;

    screen.title(args, tree.hierarchy())?;
    let begin = Instant::now();
    pods.iter_mut().for_each(|pod| pod.fill(args));
    let longest = Duration::from_secs(15 + args.limit.0.saturating_mul(2) / args.rate.0);
    until(longest, LOOK, || {
        pods.iter_mut().for_each(|pod| pod.look(begin.elapsed(), args, &server));
        agent.check()?;
        let over = pods.iter().all(|pod| pod.is_over(args));
        screen.draw(begin.elapsed(), args, &pods, &agent.last_words(), over)?;
        Ok(over.then_some(()))
    })?;
    let event = until(Duration::from_secs(3), LOOK, || Ok(outcome::event(&server)))?;

    let outcome = Outcome::new(args, tree.hierarchy(), &server, begin, &pods, event);
    screen.finish(&outcome)?;
    if let Some(problem) = outcome.problem() {
        bail!("not as expected: {problem}\n{}", agent.log());
    }
    if let (Some(file), Some(svg)) = (&args.record, screen.svg(&outcome)) {
        std::fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
