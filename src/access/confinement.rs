//! What keeps the agent to its own node.

/// The mode of `--confinement`: what the manifests set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// Nothing: for older servers.
    None,
    /// A `ValidatingAdmissionPolicy`.
    Policy,
    /// The account has no permissions on pods. The agent impersonates its node.
    Impersonation,
}

impl Confinement {
    /// The value of the flag.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Confinement::None => "none",
            Confinement::Policy => "policy",
            Confinement::Impersonation => "impersonation",
        }
    }
}

/// What the agent knows of its confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfinementState {
    /// The server refused the probe, in the words of what confines the agent.
    Holds,
    /// Nothing but the pod's uid stopped the probe.
    DoesNotHold,
    /// The answer shows neither.
    Unclear,
    /// No probe was sent, or there is no answer yet.
    NotAsked,
}

impl ConfinementState {
    /// The word in the log and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ConfinementState::Holds => "holds",
            ConfinementState::DoesNotHold => "does-not-hold",
            ConfinementState::Unclear => "unclear",
            ConfinementState::NotAsked => "not-asked",
        }
    }
}
