//! Pods that are not guarded although their namespace is, because they were created before its label; and the command that
//! changes that.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Client};
use serde::Serialize;

use crate::ground::keys::{self, ENABLED, LABEL, MIRROR, PREFIX};
use crate::plugin::agents::lists::{AT_ONCE, list_metadata};
use crate::plugin::agents::query::Query;
use crate::pods::Owner;

/// So many pods of a namespace are searched. If there are more, a rollout restart of their owners replaces those, too.
const MOST_PODS: usize = 5000;
/// The kinds that `kubectl rollout restart` knows.
const RESTARTED: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// A workload of a guarded namespace with pods that are not guarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnguardedWorkload {
    pub namespace: String,
    pub owner: String,
    /// How many of its pods.
    pub pods: usize,
    /// The command after which they are guarded; none: a Job's, whose next pods are.
    pub mend: Option<String>,
}

/// Finds them.
///
/// # Errors
/// In words, when namespaces or pods cannot be listed.
pub async fn unguarded(client: &Client, query: &Query) -> Result<Vec<UnguardedWorkload>, String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut params = ListParams::default().labels(&format!("{LABEL}={ENABLED}"));
    if let Some(namespace) = &query.namespace {
        params = params.fields(&format!("metadata.name={namespace}"));
    }
    let found = list_metadata(usize::MAX, &namespaces, params, query.timeout).await;
    let found = found.map_err(|why| match &why {
        why if why.starts_with("403") => format!("{why}; you need permission to list namespaces"),
        _ => why,
    })?;
    let found = found.iter().filter(|namespace| !is_left_out(namespace));
    let asked = found.map(|namespace| unguarded_in(client, query, namespace));
    let all: Vec<Vec<UnguardedWorkload>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    Ok(all.concat())
}

/// The policy for whole namespaces leaves it out, whatever its label says.
fn is_left_out(namespace: &PartialObjectMeta<Namespace>) -> bool {
    let labels = namespace.metadata.labels.as_ref();
    namespace.metadata.name.as_deref() == Some(keys::SYSTEM)
        || labels.and_then(|labels| labels.get(keys::AGENTS.0)).is_some_and(|name| name == keys::AGENTS.1)
}

async fn unguarded_in(
    client: &Client,
    query: &Query,
    namespace: &PartialObjectMeta<Namespace>,
) -> Result<Vec<UnguardedWorkload>, String> {
    let name = namespace.metadata.name.clone().unwrap_or_default();
    let annotations = namespace.metadata.annotations.as_ref();
    let include_jobs = format!("{PREFIX}{}", keys::INCLUDE_JOBS);
    let include_jobs = annotations.and_then(|all| all.get(&include_jobs)).is_some_and(|value| value == "true");
    let pods: Api<Pod> = Api::namespaced(client.clone(), &name);
    // A pod with the label has decided for itself; a pod that has ended needs no guard.
    let labels = query.selector.iter().fold(format!("!{LABEL}"), |labels, more| format!("{labels},{more}"));
    let node = query.node.iter().map(|node| format!(",spec.nodeName={node}"));
    let fields = node.fold("status.phase!=Succeeded,status.phase!=Failed".to_owned(), |fields, more| fields + &more);
    let params = ListParams::default().labels(&labels).fields(&fields);
    let mut owners = BTreeMap::<String, (Owner, String, usize)>::new();
    for pod in list_metadata(MOST_PODS, &pods, params, query.timeout).await? {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let Some(owner) = stamped_owner(&pod, include_jobs) else { continue };
        owners.entry(owner.workload()).or_insert((owner, name, 0)).2 += 1;
    }
    let workloads = owners.into_iter().map(|(workload, (owner, pod, pods))| {
        let mend = command(&name, &workload, &owner, &pod);
        UnguardedWorkload { namespace: name.clone(), owner: workload, pods, mend }
    });
    Ok(workloads.collect())
}

/// The owner of a pod that the policy would stamp if the pod were created now.
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
        template_hash: metadata.labels.as_ref().and_then(|labels| labels.get(keys::TEMPLATE_HASH)).cloned(),
    })
}

fn command(namespace: &str, workload: &str, owner: &Owner, pod: &str) -> Option<String> {
    let (kind, name) = workload.split_once('/')?;
    if kind == "Job" {
        return None;
    }
    Some(if RESTARTED.contains(&kind) && owner.api_version.starts_with("apps/") {
        format!("kubectl -n {namespace} rollout restart {}/{name}", kind.to_lowercase())
    } else {
        // The first of them; the user goes on with the others.
        format!("kubectl -n {namespace} delete pod {pod}")
    })
}
