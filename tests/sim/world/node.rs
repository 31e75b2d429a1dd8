//! The machine's memory, what the agent may do on it, and how its kubelet fares.

use pre_oom_killer::decide::ladder::Allowed;
use pre_oom_killer::ground::memory::NodeMemory;
use pre_oom_killer::ground::units::Percent;

use super::*;

/// What a history's node is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// `None`: it cannot be read.
    total: Option<u64>,
    /// What others than the pods here use.
    other: u64,
    pub(super) raise: bool,
    pub(super) restart: bool,
    /// In per cent of the machine's memory.
    pub(super) reserve: u64,
    pub(super) budget: u64,
    /// The server and the kubelet do all at once, and evictions as fast as the agent assumes; only resizes may fail.
    pub(super) prompt: bool,
    /// How resizes fare, where that is not how the rest does.
    pub(super) mood: Mood,
}

impl Node {
    pub(super) fn random(rng: &mut Rng) -> Node {
        let total = match rng.u8(0..12) {
            0 => None,
            1 => Some(rng.u64(16..64)),
            2..=4 => Some(rng.u64(256..2048)),
            _ => Some(rng.u64(4096..65536)),
        };
        let share = [1, 5, 10, 10, 25, 50];
        Node {
            total: total.map(|mib| mib * MIB),
            other: total.unwrap_or(0) * MIB / 100 * rng.u64(0..100),
            raise: rng.u8(0..10) > 0,
            restart: rng.u8(0..10) > 0,
            reserve: share[rng.usize(0..share.len())],
            budget: share[rng.usize(0..share.len())],
            prompt: rng.bool(),
            mood: Mood::random(rng),
        }
    }

    /// As the agent is told, with a bug or without.
    pub(super) fn allowed(&self, bug: Option<Bug>) -> Allowed {
        let percent = |share: u64| Percent::parse(&share.to_string()).unwrap();
        let (reserve, budget) = match bug {
            Some(Bug::RaisesPastTheBudget) => (1, 99),
            _ => (self.reserve, self.budget),
        };
        Allowed {
            raise: self.raise,
            restart: self.restart,
            raise_reserve: percent(reserve),
            raise_budget: percent(budget),
        }
    }

    /// `/proc/meminfo`, while pods use so much of it.
    pub(super) fn memory(&self, used: u64) -> Option<NodeMemory> {
        let total = self.total?;
        Some(NodeMemory { total: Bytes(total), available: Bytes(total.saturating_sub(self.other + used)) })
    }
}

/// What all processes of the pods here hold.
pub(super) fn used(memory: &HashMap<u64, Memory>, now: Moment) -> u64 {
    memory.values().map(|m| m.usage(now)).sum()
}
