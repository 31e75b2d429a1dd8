//! One log line for each notice.

use tracing::{info, warn};

use super::notice::{Notice, Subject};
use crate::pods::Owner;

/// Writes the log line of a notice.
pub fn log(notice: &Notice) {
    let subject = &notice.subject;
    let container = notice.container.as_deref().unwrap_or("");
    let (namespace, pod, uid) = (&notice.pod.namespace, &notice.pod.name, &notice.pod.uid.0);
    let (reason, message) = (subject.reason(), notice.words());
    let owner = notice.owner.as_ref().map(Owner::workload);
    let facts = subject.facts();
    macro_rules! line {
        ($level:ident) => {
            $level!(
                reason,
                namespace,
                pod,
                uid,
                owner,
                container,
                answer = facts.answer.as_deref(),
                cause = facts.cause.as_deref(),
                dry_run = facts.dry_run.as_deref(),
                signal = facts.signal.as_deref(),
                value = facts.value,
                usage = facts.usage,
                limit = facts.limit,
                threshold = facts.threshold,
                growth = facts.growth,
                slow_growth = facts.slow_growth,
                room = facts.room,
                raised_to = facts.raised_to,
                relieved = facts.relieved,
                took_ms = facts.took_ms,
                "{message}"
            )
        };
    }
    match subject {
        Subject::Evicted { .. } | Subject::Raised { .. } | Subject::Restarted { .. } | Subject::Warned { .. } => {
            line!(info)
        }
        _ if subject.is_news() => line!(warn),
        _ => line!(info),
    }
}
