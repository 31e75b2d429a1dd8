//! What `status` asks for.

use std::time::Duration;

/// Which pods and agents, and how long to wait for them.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Pods of this namespace; none: of all.
    pub namespace: Option<String>,
    /// Pods of this node; none: of all.
    pub node: Option<String>,
    pub selector: Option<String>,
    /// Where the agents are; none: in the one namespace that has some, or in [`AGENTS_NAMESPACE`].
    ///
    /// [`AGENTS_NAMESPACE`]: super::agents::AGENTS_NAMESPACE
    pub agents_namespace: Option<String>,
    pub timeout: Duration,
}
