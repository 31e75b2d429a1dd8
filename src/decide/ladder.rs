//! Which remedy is tried: the gentlest that is still in time. Pure.

use crate::ground::units::Percent;
use crate::pods::guard::Remedy;

/// What this agent may do besides evicting, and how far its raises may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub raise: bool,
    pub restart: bool,
    /// The share of the machine's memory that stays available (`MemAvailable`) after a raise.
    pub raise_reserve: Percent,
    /// The most that all raises of the node's containers add up to, as a share of the machine's memory.
    pub raise_budget: Percent,
}

impl Allowed {
    /// Whether this agent may use a remedy at all.
    #[must_use]
    pub fn permits(&self, remedy: Remedy) -> bool {
        match remedy {
            Remedy::Raise => self.raise,
            Remedy::Restart => self.restart,
            Remedy::Evict => true,
        }
    }

    /// Whether any remedy needs the permission to patch pods/resize.
    #[must_use]
    pub fn resizes(&self) -> bool {
        self.raise || self.restart
    }
}

impl Default for Allowed {
    /// Evictions alone.
    fn default() -> Allowed {
        Allowed { raise: false, restart: false, raise_reserve: Percent::TEN, raise_budget: Percent::TEN }
    }
}
