//! Which ramps end in an eviction and which in the kernel's kill: by the agent, by a poller of the one
//! container every 5 ms (both live, on real groups), and by pollers every 1 s and 15 s (computed over
//! all phases from the recorded times between the threshold and the kill). And what the ladder's lists make of the same
//! ramps (`lists.rs`).

#![allow(dead_code, reason = "not each benchmark uses all that they share, and the tests the rest")]
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark is the outside world, and a panic its way to say that it cannot be run"
)]

#[path = "../tests/e2e/agent.rs"]
mod agent;
mod common;
#[path = "common/lists.rs"]
mod lists;
#[path = "common/plot.rs"]
mod plot;
#[path = "common/ramp.rs"]
mod ramp;
#[path = "common/rig.rs"]
mod rig;
#[path = "../tests/e2e/world.rs"]
mod world;

use std::time::Duration;

use agent::Agent;
use common::{Args, Row, Worse, finish, percentile};
use ramp::{By, Ended, Ramp};
use rig::{Node, Used};

const MIB: u64 = 1 << 20;
/// Percent of the limit.
const THRESHOLD: u64 = 60;
/// From the arrival of the POST to SIGTERM beyond the answer (medians of a real server: 12 and 30 ms).
const ANSWER_TO_SIGTERM: Duration = Duration::from_millis(18);
/// Ramps up to this rate run side by side; faster ones would take the CPU from each other.
pub const SLOW: u64 = 64 * MIB;

/// How large a run is.
struct Plan {
    rates: &'static [u64],
    limits: &'static [u64],
    answers: &'static [u64],
    ramps: usize,
    saturated: usize,
    cpu: Duration,
    neighbours: usize,
    lists: lists::Plan,
}

const FULL: Plan = Plan {
    rates: &[16, 64, 256, 1_024, 0],
    limits: &[64, 128, 256, 1_024],
    answers: &[12, 150],
    ramps: 8,
    saturated: 20,
    cpu: Duration::from_secs(30),
    neighbours: 110,
    lists: lists::Plan { rates: &[16, 64, 256, 1_024, 0], limits: &[64, 128, 256], ramps: 12 },
};
const QUICK: Plan = Plan {
    rates: &[64, 256, 0],
    limits: &[64, 256],
    answers: &[12],
    ramps: 1,
    saturated: 1,
    cpu: Duration::from_secs(2),
    neighbours: 110,
    lists: lists::Plan { rates: &[64], limits: &[128], ramps: 1 },
};

/// All ramps of one rate, limit and server.
struct Cell {
    rate: u64,
    limit: u64,
    answer: u64,
    agents: Vec<Ended>,
    pollers: Vec<Ended>,
    /// From the threshold to the kill, unguarded.
    recorded: Duration,
}

impl Cell {
    fn name(&self) -> String {
        let rate = if self.rate == 0 { "flat_out".into() } else { format!("{}mib_s", self.rate) };
        format!("saved_{rate}_{}mib_{}ms", self.limit, self.answer)
    }

    /// A poller's share over all phases, each equally likely: saved are those that look early enough.
    fn polled_each(&self, period: Duration, takes: Duration) -> f64 {
        (self.recorded.saturating_sub(takes).as_secs_f64() / period.as_secs_f64()).min(1.0)
    }
}

fn share(ended: &[Ended]) -> f64 {
    ended.iter().filter(|e| e.saved).count() as f64 / ended.len() as f64
}

fn main() {
    rig::be_one_if_asked();
    let args = Args::parse(&["ramps", "lists"]);
    let plan = if args.quick { QUICK } else { FULL };
    if !args.runs("ramps") {
        return finish("save_rate", &args, &lists::run(&plan.lists));
    }
    let node = Node::tls();
    node.quiet(plan.neighbours);
    let agent = node.agent(&["--log", "info,pre_oom_killer=debug", "--eviction-burst", "10000"]);

    let mut cells = Vec::new();
    for &answer in plan.answers {
        set_server(&node, answer);
        for &limit in plan.limits {
            for &rate in plan.rates {
                let cell = run_cell(&node, &agent, &plan, rate, limit, answer);
                println!("{:28} agent {:.2}  5 ms {:.2}", cell.name(), share(&cell.agents), share(&cell.pollers));
                cells.push(cell);
            }
        }
    }
    set_server(&node, plan.answers[0]);
    let saturated = saturated(&node, &agent, plan.saturated);
    drop((agent, node));
    let lists = if args.runs("lists") { lists::run(&plan.lists) } else { Vec::new() };

    let mut rows: Vec<Row> = cells.iter().map(|cell| saved(cell, &cells)).collect();
    rows.extend(faster(&cells));
    rows.extend(times(&cells));
    rows.extend(saturated);
    rows.extend(lists);
    rows.push(cpu_ratio(plan.cpu));
    if !args.quick {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/save-rate.svg");
        std::fs::write(&path, draw(&cells)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    finish("save_rate", &args, &rows);
}

pub fn set_server(node: &Node, answer: u64) {
    let answer = Duration::from_millis(answer);
    node.server.answer_delay(answer);
    node.server.set_sigterm_delay(answer + ANSWER_TO_SIGTERM);
}

fn run_cell(node: &Node, agent: &Agent, plan: &Plan, rate: u64, limit: u64, answer: u64) -> Cell {
    let (bytes, rate_bytes) = (limit * MIB, rate * MIB);
    let mut made: Vec<Ramp> = (0..plan.ramps)
        .flat_map(|_| [By::Agent, By::Poller])
        .chain([By::Nobody])
        .map(|by| Ramp::prepare(node, agent, by, bytes))
        .collect();
    std::thread::sleep(Duration::from_secs(5));
    let side_by_side = rate > 0 && rate_bytes <= SLOW;
    let ended: Vec<(By, Ended)> = if side_by_side {
        std::thread::scope(|scope| {
            let running: Vec<_> = made.drain(..).map(|r| scope.spawn(|| (r.by, r.run(node, rate_bytes)))).collect();
            running.into_iter().map(|r| r.join().expect("a ramp")).collect()
        })
    } else {
        made.drain(..).map(|r| (r.by, r.run(node, rate_bytes))).collect()
    };
    let of = |who: By| ended.iter().filter(|(by, _)| *by == who).map(|(_, e)| e.clone()).collect::<Vec<_>>();
    let recorded = of(By::Nobody)[0].from_threshold;
    let mut agents = of(By::Agent);
    ramp::add_verdicts(agent, node, &mut agents);
    Cell { rate, limit, answer, agents, pollers: of(By::Poller), recorded }
}

/// From a poller's POST to the end of the process, as this run had it.
fn takes(cells: &[Cell], answer: u64) -> Duration {
    let same = cells.iter().filter(|c| c.answer == answer).flat_map(|c| &c.pollers);
    let mut all: Vec<_> = same.filter(|e| e.saved).filter_map(|e| e.from_post).collect();
    percentile(&mut all, 0.5).unwrap_or(Duration::from_millis(answer) + ANSWER_TO_SIGTERM)
}

fn saved(cell: &Cell, cells: &[Cell]) -> Row {
    let takes = takes(cells, cell.answer);
    let [second, stale] = [1, 15].map(|s| cell.polled_each(Duration::from_secs(s), takes));
    let poller = share(&cell.pollers);
    let words = format!(
        "5 ms {poller:.2}, 1 s {second:.2}, 15 s {stale:.2}; threshold to kill {} ms, POST to exit {} ms",
        cell.recorded.as_millis(),
        takes.as_millis()
    );
    Row::new(cell.name(), share(&cell.agents), Worse::Lower)
        .reach((poller - 1.0 / cell.agents.len() as f64).max(0.0))
        .said(words)
        .with("poller_5ms", poller)
        .with("poller_1s_computed", second)
        .with("poller_15s_computed", stale)
        .with("threshold_to_kill_ms", cell.recorded.as_secs_f64() * 1e3)
        .with("post_to_exit_ms", takes.as_secs_f64() * 1e3)
}

/// How many times as fast a ramp the agent saves as a poller each second does: of the rates tried, the fastest of
/// which ⅞ are saved by each. A limit at which the agent saves whatever the filler can do says nothing of its bound.
fn faster(cells: &[Cell]) -> Option<Row> {
    const SAVED: f64 = 0.875;
    let answer = cells.first()?.answer;
    let takes = takes(cells, answer);
    let limits: std::collections::BTreeSet<u64> = cells.iter().map(|c| c.limit).collect();
    let of = |limit: u64| {
        let cells: Vec<&Cell> = cells.iter().filter(|c| c.limit == limit && c.answer == answer).collect();
        let headroom = (limit * MIB * (100 - THRESHOLD) / 100) as f64;
        let rate = |c: &&Cell| headroom / c.recorded.as_secs_f64();
        let fastest = |saved: &dyn Fn(&Cell) -> f64| {
            cells.iter().filter(|c| saved(c) >= SAVED).max_by(|a, b| rate(a).total_cmp(&rate(b))).copied()
        };
        let ours = fastest(&|c| share(&c.agents))?;
        let theirs = fastest(&|c| c.polled_each(Duration::from_secs(1), takes));
        // Where it saves none of those that were tried: at the rate of which it would save so many.
        let theirs = theirs.map_or(headroom / (SAVED + takes.as_secs_f64()), |c| rate(&c));
        Some((limit, rate(&ours) / theirs, ours.rate == 0))
    };
    let all: Vec<_> = limits.into_iter().filter_map(of).collect();
    let bounded = all.iter().filter(|(.., all_saved)| !all_saved).map(|(_, times, _)| *times);
    let worst = bounded.min_by(f64::total_cmp).or(all.iter().map(|(_, times, _)| *times).max_by(f64::total_cmp));
    let words: Vec<_> = all
        .iter()
        .map(|(limit, times, all_saved)| format!("{limit}Mi {times:.0}×{}", if *all_saved { " (all)" } else { "" }))
        .collect();
    let words = format!("fastest ramp of which ⅞ are saved ÷ the same of a 1 s poller: {}", words.join(", "));
    Some(Row::new("saved_times_as_fast", worst, Worse::Lower).reach(8.0).said(words))
}

/// How late verdicts are, as a share of the time that there is: from the threshold to where an eviction comes too late. Of ramps
/// that can be saved; 1 or more: it was lost by the agent's schedule. A verdict by a poller each millisecond is at most a
/// millisecond late.
fn late(cells: &[Cell]) -> Row {
    let can_be_saved = |cell: &&Cell| cell.polled_each(Duration::from_millis(1), takes(cells, cell.answer)) >= 1.0;
    let all = cells.iter().filter(can_be_saved).flat_map(|cell| {
        let there_is = cell.recorded.saturating_sub(takes(cells, cell.answer));
        let late = cell.agents.iter().filter_map(|e| e.detected);
        late.map(move |late| {
            (late.saturating_sub(Duration::from_millis(1)).as_secs_f64() / there_is.as_secs_f64(), late)
        })
    });
    let (mut shares, mut lates): (Vec<f64>, Vec<Duration>) = all.unzip();
    shares.sort_by(f64::total_cmp);
    let at =
        |part: f64| shares.get(((shares.len() as f64 * part) as usize).min(shares.len().saturating_sub(1))).copied();
    let ms = |d: Option<Duration>| d.map_or(f64::NAN, |d| d.as_secs_f64() * 1e3);
    let (half, most) = (ms(percentile(&mut lates, 0.5)), ms(percentile(&mut lates, 0.99)));
    Row::new("detection_late_share_p99", at(0.99), Worse::Higher).reach(0.5).said(format!(
        "verdict later than that of a 1 ms poller ÷ time from the threshold to where an eviction comes too late: {} ramps that can be \
         saved, median {:.3}, the largest {:.2}; in ms: median {half:.2}, p99 {most:.2}",
        shares.len(),
        at(0.5).unwrap_or(f64::NAN),
        shares.last().copied().unwrap_or(f64::NAN),
    ))
}

/// Reaction over the ramps of the agent that are not flat out, and over all.
fn times(cells: &[Cell]) -> Vec<Row> {
    let all: Vec<&Cell> = cells.iter().collect();
    let paced: Vec<&Cell> = all.iter().copied().filter(|c| c.rate > 0).collect();
    let part = |cells: &[&Cell], of: &dyn Fn(&Ended) -> Option<Duration>, part: f64| {
        let mut values: Vec<_> = cells.iter().flat_map(|c| &c.agents).filter_map(of).collect();
        (percentile(&mut values, part).map(|d| d.as_secs_f64() * 1e3), values.len())
    };
    let row = |name: &str, all: &[&Cell], some: &[&Cell], of: &dyn Fn(&Ended) -> Option<Duration>, reach: f64| {
        let ((p99, count), (p50, _)) = (part(all, of, 0.99), part(all, of, 0.5));
        let (of_some, some) = part(some, of, 0.99);
        let [p50, of_some] = [p50, of_some].map(|ms| ms.unwrap_or(f64::NAN));
        (Row::new(name, p99, Worse::Higher).reach(reach).with("of_some_p99_ms", of_some), count, p50, of_some, some)
    };
    let (reaction, ramps, median, paced_p99, of) = row("reaction_p99_ms", &paced, &all, &|e| e.reacted, 2.0);
    let parts = [0, 1, 2].map(|i| part(&paced, &|e| e.parts.map(|parts| parts[i]), 0.99).0.unwrap_or(f64::NAN));
    let reaction = reaction.said(format!(
        "verdict to the POST's head read by the server, TLS, not flat out: {ramps} ramps, median {median:.2} ms; p99 of its parts: sample \
         to loop {:.2}, to the request {:.2}, to the server {:.2} ms; with those flat out, where the filler takes one core of two ({of}): \
         {paced_p99:.2} ms",
        parts[0], parts[1], parts[2]
    ));
    vec![late(cells), reaction]
}

/// The same with no CPU to spare: burners on all cores, the agent with a request of 50m and no limit.
fn saturated(node: &Node, agent: &Agent, ramps: usize) -> Vec<Row> {
    let Some(_burning) = ramp::Burners::start(agent.pid()) else {
        let row = Row::new("detection_saturated_p99_ms", None, Worse::Higher);
        return vec![row.said("no cpu controller that we may write to")];
    };
    [
        (By::Agent, "detection_saturated_p99_ms", "old"),
        (By::AgentYoung, "detection_saturated_young_p99_ms", "younger than the minimum age"),
    ]
    .map(|(by, name, words)| {
        let mut ended: Vec<_> = (0..ramps)
            .map(|_| {
                let ramp = Ramp::prepare(node, agent, by, 256 * MIB);
                std::thread::sleep(Duration::from_millis(500));
                ramp.run(node, 256 * MIB)
            })
            .collect();
        ramp::add_verdicts(agent, node, &mut ended);
        let mut detected: Vec<_> = ended.iter().filter_map(|e| e.detected).collect();
        let p99 = percentile(&mut detected, 0.99).map(|d| d.as_secs_f64() * 1e3);
        let words = format!("256 MiB/s, 256Mi, {words}, all cores burning: {:.2} of {ramps} saved", share(&ended));
        Row::new(name, p99, Worse::Higher).said(words)
    })
    .into()
}

/// The agent's CPU on the quiet mix ÷ that of reading every container's usage each 5 ms.
fn cpu_ratio(window: Duration) -> Row {
    let node = Node::new();
    node.quiet(250);
    let agent = node.agent(&[]);
    std::thread::sleep(Duration::from_secs(2));
    let before = Used::by(agent.pid());
    std::thread::sleep(window);
    let ours = Used::by(agent.pid()).percent_since(before);
    let theirs = ramp::poll_all(&node.usage_files(), window);
    Row::new("cpu_ratio", ours / theirs, Worse::Higher)
        .reach(0.1)
        .said(format!("250 quiet containers: {ours:.2} % of a core ÷ {theirs:.2} % of polling all each 5 ms"))
}

/// Save rate over growth for the four, at 256 MiB.
fn draw(cells: &[Cell]) -> String {
    let shown: Vec<&Cell> = cells.iter().filter(|c| c.limit == 256 && c.answer == cells[0].answer).collect();
    let takes = takes(cells, cells[0].answer);
    let headroom = (256 * MIB * (100 - THRESHOLD) / 100) as f64;
    let at = |c: &Cell| headroom / c.recorded.as_secs_f64() / MIB as f64;
    let line = |of: &dyn Fn(&Cell) -> f64| shown.iter().map(|c| (at(c), of(c))).collect::<Vec<_>>();
    plot::svg(
        "Ramps saved, limit 256Mi, threshold 60 %",
        &[
            ("this agent", line(&|c| share(&c.agents))),
            ("a poller each 5 ms", line(&|c| share(&c.pollers))),
            ("each 1 s (computed)", line(&|c| c.polled_each(Duration::from_secs(1), takes))),
            ("each 15 s (computed)", line(&|c| c.polled_each(Duration::from_secs(15), takes))),
        ],
    )
}
