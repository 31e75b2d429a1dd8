//! Evictions of the past, as Events and agents report them.

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::ListParams;

use crate::plugin::agents::lists::{api_in, list_up_to};
use crate::plugin::agents::query::Query;
use crate::serve::wire::RecentView;

/// So many Events of each reason are searched for the last eviction; an Event lives for an hour.
const MOST_EVENTS: usize = 5000;
/// The reasons of Events about a pod that was evicted or deleted.
const REASONS: [&str; 2] = ["PreOOMEvicted", "PreOOMForceDeleted"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastEviction {
    pub namespace: String,
    /// The pod or its owner as `Kind/name`; a Deployment instead of its ReplicaSet.
    pub of: String,
    /// When, the last time.
    pub at: Timestamp,
    /// What the Event or the agent says about it.
    pub note: String,
}

impl PastEviction {
    /// As an agent remembers it; none: the notice is about something else.
    pub(super) fn from_agent(notice: &RecentView) -> Option<PastEviction> {
        let of = || notice.owner.clone().unwrap_or_else(|| format!("Pod/{}", notice.pod));
        REASONS.contains(&&*notice.reason).then_some(())?;
        let (namespace, at, note) = (notice.namespace.clone(), notice.at.parse().ok()?, notice.words.clone());
        Some(PastEviction { namespace, of: of(), at, note })
    }

    /// As an Event has it; none: it was a dry run, whose Event is of type Normal.
    fn from_event(event: Event) -> Option<PastEviction> {
        // The owner's Event is on a ReplicaSet, and names the Deployment as related.
        let deployment = event.related.filter(|related| related.kind.as_deref() == Some("Deployment"));
        let about = deployment.or(event.regarding)?;
        let at = event.series.map(|s| s.last_observed_time.0).or(event.event_time.map(|t| t.0))?;
        (event.type_.as_deref() == Some("Warning")).then(|| PastEviction {
            namespace: about.namespace.unwrap_or_default(),
            of: format!("{}/{}", about.kind.unwrap_or_default(), about.name.unwrap_or_default()),
            at,
            note: event.note.unwrap_or_default(),
        })
    }
}

/// The evictions that Events report.
///
/// # Errors
/// In words, when Events cannot be listed.
pub async fn evictions(client: &Client, query: &Query) -> Result<Vec<PastEviction>, String> {
    let events = api_in::<Event>(client, query.namespace.as_deref());
    let mut all = Vec::new();
    for reason in REASONS {
        let params = ListParams::default().fields(&format!("reason={reason}"));
        let found = list_up_to(MOST_EVENTS, &events, params, query.timeout).await?;
        all.extend(found.into_iter().filter_map(PastEviction::from_event));
    }
    Ok(all)
}
