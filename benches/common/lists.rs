//! What becomes of the same ramps under each list of remedies, side by side. The stand-in's kubelet carries resizes out at
//! the times that were measured on a real node, and evicts at those of its own measurement.

use std::time::Duration;

use standin::Resizes;

use crate::agent::Agent;
use crate::common::{Row, Worse};
use crate::ramp::{By, Ended, Ramp};
use crate::rig::Node;

const MIB: u64 = 1 << 20;
/// In milliseconds, as measured: the quickest of the servers that evictions are tried with.
const ANSWER: u64 = 12;
const LISTS: [(By, &str); 3] =
    [(By::Agent, "evict"), (By::AgentRaise, "raise_evict"), (By::AgentRestart, "restart_evict")];
/// As many of each list: what is raised holds twice its limit in the end.
const AT_ONCE: usize = 4 * LISTS.len();
/// The machine's memory is not what is tried here.
const FLAGS: [&str; 8] =
    ["--eviction-burst", "10000", "--remedies", "raise,restart", "--raise-reserve", "1", "--raise-budget", "99"];

/// The cells: rates in MiB a second (0: flat out), limits in MiB, and the ramps of each list in each cell.
pub struct Plan {
    pub rates: &'static [u64],
    pub limits: &'static [u64],
    pub ramps: usize,
}

/// How many ramps of one list and cell ended in what.
#[derive(Clone, Copy, Default)]
struct Count {
    /// They did not end.
    raised: usize,
    restarted: usize,
    evicted: usize,
    killed: usize,
}

impl Count {
    fn add(&mut self, node: &Node, ended: &Ended) {
        let asked = node.server.requests_to("POST", &format!("/{}/eviction", ended.name));
        let evicted = asked.iter().any(|request| !request.query.contains("dryRun"));
        *match (ended.saved, ended.lives) {
            (false, _) => &mut self.killed,
            (true, true) => &mut self.raised,
            (true, false) if evicted => &mut self.evicted,
            (true, false) => &mut self.restarted,
        } += 1;
    }

    fn saved(self) -> usize {
        self.raised + self.restarted + self.evicted
    }
}

/// All cells: a row for each list.
pub fn run(plan: &Plan) -> Vec<Row> {
    // No neighbours: the small groups stand for more memory than the machine has, so no raise would be allowed.
    let node = Node::tls();
    crate::set_server(&node, ANSWER);
    node.server.resizes(Resizes::default());
    let agent = node.agent(&FLAGS);
    let cells = plan.limits.iter().flat_map(|limit| plan.rates.iter().map(move |rate| (*limit, *rate)));
    cells.flat_map(|(limit, rate)| run_cell(&node, &agent, plan.ramps, limit, rate)).collect()
}

/// Slow ramps side by side, faster ones one after the other.
fn run_all(node: &Node, mut made: Vec<Ramp>, rate: u64) -> Vec<(By, Ended)> {
    let at_once = if rate > 0 && rate <= crate::SLOW { AT_ONCE } else { 1 };
    let mut all = Vec::new();
    while !made.is_empty() {
        let rest = made.split_off(at_once.min(made.len()));
        std::thread::scope(|scope| {
            let running: Vec<_> = made.drain(..).map(|r| scope.spawn(move || (r.by, r.run(node, rate)))).collect();
            all.extend(running.into_iter().map(|r| r.join().expect("a ramp")));
        });
        made = rest;
    }
    all
}

fn run_cell(node: &Node, agent: &Agent, ramps: usize, limit: u64, rate: u64) -> Vec<Row> {
    let by = (0..ramps).flat_map(|_| LISTS.map(|(by, _)| by)).chain([By::Nobody]);
    let made: Vec<Ramp> = by.map(|by| Ramp::prepare(node, agent, by, limit * MIB)).collect();
    std::thread::sleep(Duration::from_secs(5));
    let mut counts = LISTS.map(|_| Count::default());
    let mut to_kill = Duration::ZERO;
    for (by, ended) in run_all(node, made, rate * MIB) {
        match LISTS.iter().position(|(list, _)| *list == by) {
            Some(list) => counts[list].add(node, &ended),
            None => to_kill = ended.from_threshold,
        }
    }
    let rate = if rate == 0 { "flat_out".into() } else { format!("{rate}mib_s") };
    let rows = LISTS.iter().zip(counts).map(|((by, list), count)| {
        let Count { raised, restarted, evicted, killed } = count;
        let share = |count: Count| count.saved() as f64 / ramps as f64;
        let said = format!(
            "without an ending {raised}, restarted {restarted}, evicted {evicted}, killed {killed}; threshold to kill {} ms",
            to_kill.as_millis()
        );
        let name = format!("list_{list}_{rate}_{limit}mib");
        println!("{name:36} {said}");
        let row = Row::new(name, share(count), Worse::Lower).said(said);
        // One ramp is noise.
        let row = if *by == By::Agent { row } else { row.reach((share(counts[0]) - 1.0 / ramps as f64).max(0.0)) };
        row.with("raised", raised).with("restarted", restarted).with("evicted", evicted).with("killed", killed)
    });
    rows.collect()
}
