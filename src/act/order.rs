//! A request that saves a container: an eviction or, past a disruption budget, a deletion of its pod; a raise of its limit, or
//! its restart. Each has the pod's uid as a precondition.

use k8s_openapi::api::core::v1::Pod as ApiPod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::Resource;
use kube::api::PostParams;
use kube::core::Request;

use super::resize;
use crate::decide::step::Resize;
use crate::pods::PodRef;
use crate::pods::guard::Remedy;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Respects disruption budgets.
    Evict,
    /// Ignores them.
    Delete,
    /// Raises a container's limit.
    Raise,
    /// Restarts a container.
    Restart,
}

impl Act {
    /// The remedy that it belongs to.
    #[must_use]
    pub fn remedy(self) -> Remedy {
        match self {
            Act::Evict | Act::Delete => Remedy::Evict,
            Act::Raise => Remedy::Raise,
            Act::Restart => Remedy::Restart,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its uid is the precondition.
    pub pod: PodRef,
    pub act: Act,
    /// Seconds until SIGKILL; `None`: the pod's own. A termination cannot be shortened once it runs, so the first request
    /// has to carry it.
    pub grace: Option<u32>,
    /// What [`Act::Raise`] and [`Act::Restart`] change.
    pub resize: Option<Resize>,
    /// `dryRun=All`: the server answers as it would otherwise, and changes nothing.
    pub dry_run: bool,
}

/// The HTTP request. It is not made by `Api::evict`, because kube 5.0.0 sends the options, and with them the precondition,
/// under a key that the server ignores.
///
/// # Errors
/// If the names make no valid path.
pub fn request(order: &Order) -> anyhow::Result<http::Request<Vec<u8>>> {
    if let Some(resize) = &order.resize {
        return resize::request(&order.pod, resize, order.dry_run);
    }
    let options = DeleteOptions {
        grace_period_seconds: order.grace.map(i64::from),
        preconditions: Some(Preconditions { uid: Some(order.pod.uid.0.clone()), ..Preconditions::default() }),
        ..DeleteOptions::default()
    };
    let path = ApiPod::url_path(&(), Some(&order.pod.namespace));
    if order.act == Act::Delete {
        // In the body: if a DELETE has one, the server ignores the query (measured), and deletes.
        let dry_run = order.dry_run.then(|| vec!["All".to_owned()]);
        let options = DeleteOptions { dry_run, ..options };
        let request = http::Request::delete(format!("{path}/{}", order.pod.name));
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        return Ok(request.body(serde_json::to_vec(&options)?)?);
    }
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(order.pod.name.clone()),
            namespace: Some(order.pod.namespace.clone()),
            ..ObjectMeta::default()
        },
        delete_options: Some(options),
    };
    // As a query parameter, because admission sees it only there.
    let params = PostParams { dry_run: order.dry_run, ..PostParams::default() };
    let body = serde_json::to_vec(&eviction)?;
    Ok(Request::new(path).create_subresource("eviction", &order.pod.name, &params, body)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::pods::PodUid;

    pub(in crate::act) fn order() -> Order {
        Order {
            pod: PodRef { namespace: "demo".into(), name: "web-1".into(), uid: PodUid("59435a07".into()) },
            act: Act::Evict,
            grace: None,
            resize: None,
            dry_run: false,
        }
    }

    #[test]
    fn the_request_carries_the_precondition_where_the_server_reads_it() {
        let request = request(&order()).unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(
            request.uri().to_string().trim_end_matches(['?', '&']),
            "/api/v1/namespaces/demo/pods/web-1/eviction"
        );
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": "web-1", "namespace": "demo"},
                "deleteOptions": {"preconditions": {"uid": "59435a07"}}
            })
        );
    }

    #[test]
    fn grace_and_dry_run_go_along() {
        let request = request(&Order { grace: Some(5), dry_run: true, ..order() }).unwrap();
        assert!(request.uri().query().unwrap().contains("dryRun=All"));
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["deleteOptions"]["gracePeriodSeconds"], 5);
    }

    #[test]
    fn a_deletion_carries_the_same() {
        let order = Order { act: Act::Delete, grace: Some(5), dry_run: true, ..order() };
        let request = request(&order).unwrap();
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("DELETE", "/api/v1/namespaces/demo/pods/web-1")
        );
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["preconditions"], serde_json::json!({"uid": "59435a07"}));
        assert_eq!(body["gracePeriodSeconds"], 5);
        assert_eq!(body["dryRun"], serde_json::json!(["All"]), "where the server reads it");
    }
}
