//! Pods of namespaces that are guarded as a whole which are not guarded, because they were made before: and what mends it.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Client};
use serde::Serialize;

use super::ask::{AT_ONCE, PAGE, Query, next_page, within};
use crate::ground::keys;
use crate::ground::keys::MIRROR;
use crate::ground::keys::{ENABLED, LABEL, PREFIX};
use crate::pods::Owner;

/// So many pods of a namespace are looked at: a rollout restart of what they belong to mends the rest, too.
const MOST_PODS: usize = 5000;
/// The chart's policy leaves these namespaces out, whatever their label says.
const SYSTEM: &str = "kube-system";
const AGENTS_OWN: (&str, &str) = ("app.kubernetes.io/name", "pre-oom-killer");
/// What `kubectl rollout restart` knows.
const RESTARTED: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// A workload of a guarded namespace with pods that are not guarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unguarded {
    /// `metadata.namespace`.
    pub namespace: String,
    /// As `Kind/name`.
    pub owner: String,
    /// How many of its pods.
    pub pods: usize,
    /// The command after which they are guarded; none: a Job's, whose next ones are.
    pub mend: Option<String>,
}

/// Finds them.
///
/// # Errors
/// In words, when namespaces or pods cannot be listed.
pub async fn unguarded(client: &Client, query: &Query) -> Result<Vec<Unguarded>, String> {
    let spaces: Api<Namespace> = Api::all(client.clone());
    let mut params = ListParams::default().labels(&format!("{LABEL}={ENABLED}")).limit(PAGE);
    if let Some(namespace) = &query.namespace {
        params = params.fields(&format!("metadata.name={namespace}"));
    }
    let mut found = Vec::new();
    loop {
        let page = within(query.timeout, spaces.list_metadata(&params)).await.map_err(|why| match &why {
            why if why.starts_with("403") => format!("{why}; you need the right to list namespaces"),
            _ => why,
        })?;
        found.extend(page.items.into_iter().filter(|space| !is_left_out(space)));
        match next_page(params, page.metadata) {
            Some(next) => params = next,
            None => break,
        }
    }
    let asked = found.iter().map(|space| of_space(client, query, space));
    let all: Vec<Vec<Unguarded>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    Ok(all.concat())
}

fn is_left_out(space: &PartialObjectMeta<Namespace>) -> bool {
    let labels = space.metadata.labels.as_ref();
    space.metadata.name.as_deref() == Some(SYSTEM)
        || labels.and_then(|labels| labels.get(AGENTS_OWN.0)).is_some_and(|name| name == AGENTS_OWN.1)
}

async fn of_space(
    client: &Client,
    query: &Query,
    space: &PartialObjectMeta<Namespace>,
) -> Result<Vec<Unguarded>, String> {
    let namespace = space.metadata.name.clone().unwrap_or_default();
    let annotations = space.metadata.annotations.as_ref();
    let include_jobs = format!("{PREFIX}{}", keys::INCLUDE_JOBS);
    let include_jobs = annotations.and_then(|all| all.get(&include_jobs)).is_some_and(|value| value == "true");
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    // Whoever has the label has decided; whoever has ended, has.
    let labels = query.selector.iter().fold(format!("!{LABEL}"), |labels, more| format!("{labels},{more}"));
    let node = query.node.iter().map(|node| format!(",spec.nodeName={node}"));
    let fields = node.fold("status.phase!=Succeeded,status.phase!=Failed".to_owned(), |fields, more| fields + &more);
    let mut params = ListParams::default().labels(&labels).fields(&fields).limit(PAGE);
    let (mut owners, mut seen) = (BTreeMap::<String, (Owner, String, usize)>::new(), 0);
    loop {
        let page = within(query.timeout, pods.list_metadata(&params)).await?;
        seen += page.items.len();
        for pod in page.items {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let Some(owner) = stamped_owner(&pod, include_jobs) else { continue };
            owners.entry(owner.workload()).or_insert((owner, name, 0)).2 += 1;
        }
        match next_page(params, page.metadata).filter(|_| seen < MOST_PODS) {
            Some(next) => params = next,
            None => break,
        }
    }
    let told = owners.into_iter().map(|(workload, (owner, pod, pods))| {
        let mend = mend(&namespace, &workload, &owner, &pod);
        Unguarded { namespace: namespace.clone(), owner: workload, pods, mend }
    });
    Ok(told.collect())
}

/// The owner of a pod that would be stamped if it were made now.
fn stamped_owner(pod: &PartialObjectMeta<Pod>, include_jobs: bool) -> Option<Owner> {
    let metadata = &pod.metadata;
    let mirrored = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR));
    if mirrored || metadata.deletion_timestamp.is_some() {
        return None;
    }
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    if owner.kind == "Job" && owner.api_version.starts_with("batch/") && !include_jobs {
        return None;
    }
    Some(Owner {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        template_hash: metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash")).cloned(),
    })
}

fn mend(namespace: &str, workload: &str, owner: &Owner, pod: &str) -> Option<String> {
    let (kind, name) = workload.split_once('/')?;
    if kind == "Job" {
        return None;
    }
    Some(if RESTARTED.contains(&kind) && owner.api_version.starts_with("apps/") {
        format!("kubectl -n {namespace} rollout restart {}/{name}", kind.to_lowercase())
    } else {
        // One after the other.
        format!("kubectl -n {namespace} delete pod {pod}")
    })
}
