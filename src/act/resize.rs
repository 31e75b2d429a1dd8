//! The request that changes a container's memory in place: `PATCH pods/NAME/resize`.

use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use serde_json::{Map, Value, json};

use crate::decide::step::Resize;
use crate::ground::keys::FIELD_MANAGER;
use crate::ground::units::Bytes;
use crate::pods::PodRef;

/// The HTTP request. A strategic merge patch finds the container by its name, and the server checks the uid in it: another pod
/// of that name is never touched (measured: 422). Anything else would be dropped without a word.
///
/// # Errors
/// If the names make no valid path.
pub(super) fn request(pod: &PodRef, resize: &Resize, dry_run: bool) -> anyhow::Result<http::Request<Vec<u8>>> {
    let mut resources = Map::from_iter([("limits".to_owned(), amount(resize.limit))]);
    if let Some(request) = resize.request {
        resources.insert("requests".to_owned(), amount(request));
    }
    let list = if resize.sidecar { "initContainers" } else { "containers" };
    let patch = json!({
        "metadata": {"uid": pod.uid.0},
        "spec": {list: [{"name": resize.container, "resources": resources}]},
    });
    let params = PatchParams { dry_run, field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let path = ApiPod::url_path(&(), Some(&pod.namespace));
    Ok(Request::new(path).patch_subresource("resize", &pod.name, &params, &Patch::Strategic(patch))?)
}

/// In the largest unit that it is a whole number of, as people write it.
fn amount(bytes: Bytes) -> Value {
    const UNITS: [(&str, u32); 3] = [("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let whole = UNITS.into_iter().find(|(_, shift)| bytes.0.is_multiple_of(1 << shift));
    let text = whole.map_or_else(|| bytes.0.to_string(), |(unit, shift)| format!("{}{unit}", bytes.0 >> shift));
    json!({"memory": text})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::PodUid;

    fn sent(resize: &Resize, dry_run: bool) -> (String, String, Value) {
        let pod = PodRef { namespace: "demo".into(), name: "web-1".into(), uid: PodUid("59435a07".into()) };
        let request = request(&pod, resize, dry_run).unwrap();
        assert_eq!(request.method(), "PATCH");
        let kind = request.headers()["content-type"].to_str().unwrap().to_owned();
        (request.uri().to_string(), kind, serde_json::from_slice(request.body()).unwrap())
    }

    fn raise(limit: u64) -> Resize {
        Resize { container: "app".into(), sidecar: false, limit: Bytes(limit), request: None }
    }

    #[test]
    fn it_names_the_pod_by_its_uid_and_changes_the_memory_of_one_container() {
        let (uri, kind, body) = sent(&raise(384 << 20), false);
        assert_eq!(uri, "/api/v1/namespaces/demo/pods/web-1/resize?&fieldManager=pre-oom-killer");
        assert_eq!(kind, "application/strategic-merge-patch+json");
        assert_eq!(
            body,
            json!({"metadata": {"uid": "59435a07"},
                "spec": {"containers": [{"name": "app", "resources": {"limits": {"memory": "384Mi"}}}]}})
        );
        assert!(sent(&raise(1), true).0.contains("dryRun=All"));
    }

    #[test]
    fn a_sidecar_and_a_request_are_where_the_server_wants_them() {
        let resize = Resize { sidecar: true, request: Some(Bytes(1 << 30)), ..raise(1 << 30) };
        let body = sent(&resize, false).2;
        let memory = json!({"memory": "1Gi"});
        assert_eq!(
            body["spec"],
            json!({"initContainers": [{"name": "app", "resources": {"limits": memory, "requests": memory}}]})
        );
    }

    #[test]
    fn amounts_are_exact() {
        for (bytes, text) in [(1 << 30, "1Gi"), (384 << 20, "384Mi"), ((256 << 20) + 1, "268435457"), (5 << 10, "5Ki")]
        {
            assert_eq!(amount(Bytes(bytes)), json!({"memory": text}));
        }
    }
}
