//! What a test has of the one server: a namespace of its own, accounts, and what makes pods and budgets.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Resource};
use pre_oom_killer::pods::{PodRef, PodUid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::agent::soon;
use crate::server::{Answer, Server, Who, request};

/// The node of most pods, as the recordings call it.
pub const NODE: &str = "node-host";
/// Another one.
pub const OTHER: &str = "node-other";
/// Of those who have accounts for the recorded requests.
const ACCOUNTS: &str = "accounts";

/// The server with those who ask it.
pub struct Cluster {
    pub server: Server,
    /// Has the rights that the recordings were made with: of the shipped ones, and Events in both groups.
    pub agent: Who,
    /// The same.
    pub throttled: Who,
    /// Has none.
    pub nobody: Who,
}

impl Cluster {
    /// Starts the server, and makes accounts and nodes.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start() -> Result<Cluster, String> {
        let server = Server::start()?;
        for node in [NODE, OTHER] {
            make_node(&server, node);
        }
        create::<Namespace>(&server, None, json!({"metadata": {"name": ACCOUNTS}}));
        let mut subjects = Vec::new();
        for name in ["agent", "throttled", "nobody"] {
            create::<ServiceAccount>(&server, Some(ACCOUNTS), json!({"metadata": {"name": name}}));
            subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": ACCOUNTS}));
        }
        subjects.pop();
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
            {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
        ]);
        create::<ClusterRole>(&server, None, json!({"metadata": {"name": "recorded"}, "rules": rules}));
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "recorded"});
        let binding = json!({"metadata": {"name": "recorded"}, "roleRef": role, "subjects": subjects});
        create::<ClusterRoleBinding>(&server, None, binding);
        let [agent, throttled, nobody] =
            ["agent", "throttled", "nobody"].map(|name| token(&server, ACCOUNTS, name, None));
        let cluster = Cluster { server, agent, throttled, nobody };
        // The authorizer learns of the binding a moment later.
        poll("rights", || (cluster.server.get(&cluster.agent, "/api/v1/pods?limit=1").code == 200).then_some(()));
        Ok(cluster)
    }

    /// A namespace that no other test has.
    pub fn world(&self) -> World<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let ns = format!("t{}", COUNT.fetch_add(1, Ordering::SeqCst));
        self.namespace(&ns);
        World { cluster: self, server: &self.server, ns, node: NODE.into() }
    }

    /// The same with a node of its own, for an agent that is to see these pods alone.
    pub fn world_of_an_agent(&self) -> World<'_> {
        let mut world = self.world();
        world.node = format!("node-{}", world.ns);
        make_node(&self.server, &world.node);
        world
    }

    /// A namespace with its `default` account.
    pub fn namespace(&self, ns: &str) {
        create::<Namespace>(&self.server, None, json!({"metadata": {"name": ns}}));
        create::<ServiceAccount>(&self.server, Some(ns), json!({"metadata": {"name": "default"}}));
    }
}

/// A node with room for what is resized there, and with what its kubelet has to declare for it.
fn make_node(server: &Server, name: &str) {
    create::<Node>(server, None, json!({"metadata": {"name": name}}));
    server.admin(|client| async move {
        let room = json!({"cpu": "64", "memory": "64Gi", "pods": "1000"});
        let features = ["InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers"];
        let status = json!({"capacity": room, "allocatable": room, "declaredFeatures": features});
        let patch = Patch::Merge(json!({"status": status}));
        Api::<Node>::all(client).patch_status(name, &PatchParams::default(), &patch).await
    });
}

/// A namespace of the test's own.
pub struct World<'a> {
    pub cluster: &'a Cluster,
    pub server: &'a Server,
    pub ns: String,
    /// Where its pods are.
    pub node: String,
}

impl World<'_> {
    /// A pod of its own on the world's node, Running and Ready, with the opt-in label and one container; `edit` changes it before
    /// the server knows it. Returns its uid.
    pub fn pod(&self, name: &str, edit: impl FnOnce(&mut Value)) -> String {
        let mut pod = json!({
            "metadata": {"name": name, "labels": {"app": "guarded", "pre-oom-killer": "enabled"}},
            "spec": {
                "nodeName": self.node,
                "terminationGracePeriodSeconds": 30,
                "automountServiceAccountToken": false,
                "containers": [{"name": "app", "image": "example.com/app", "resources": {"limits": {"memory": "100Mi"}}}],
            },
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        edit(&mut pod);
        let status = pod["status"].take();
        let made = create::<Pod>(self.server, Some(&self.ns), pod);
        self.server.admin(|client| async move {
            let patch = Patch::Strategic(json!({"status": status}));
            Api::<Pod>::namespaced(client, &self.ns).patch_status(name, &PatchParams::default(), &patch).await
        });
        made.metadata.uid.expect("the server gives one")
    }

    /// A pod as it is now.
    pub fn get(&self, name: &str) -> Option<Value> {
        let pod =
            self.server.admin(|client| async move { Api::<Pod>::namespaced(client, &self.ns).get_opt(name).await });
        pod.map(|pod| serde_json::to_value(pod).expect("JSON"))
    }

    /// Changes a pod by a merge patch.
    pub fn edit(&self, name: &str, change: Value) {
        self.server.admin(|client| async move {
            let patch = Patch::Merge(change);
            Api::<Pod>::namespaced(client, &self.ns).patch(name, &PatchParams::default(), &patch).await
        });
    }

    /// What names it in a request.
    pub fn pod_ref(&self, name: &str, uid: &str) -> PodRef {
        PodRef { namespace: self.ns.clone(), name: name.into(), uid: PodUid(uid.into()) }
    }

    /// Its removal, as a kubelet asks for it when all containers have ended.
    pub fn remove(&self, name: &str) {
        self.server.admin(|client| async move {
            let now = DeleteParams::default().grace_period(0);
            Api::<Pod>::namespaced(client, &self.ns).delete(name, &now).await
        });
    }

    /// A budget for all pods of the namespace with the label `app: guarded`, and what the disruption controller says of
    /// it; `Null`: nothing yet.
    pub fn budget(&self, name: &str, status: Value) {
        let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}});
        let budget = json!({"metadata": {"name": name}, "spec": spec});
        create::<PodDisruptionBudget>(self.server, Some(&self.ns), budget);
        self.budget_status(name, status);
    }

    /// What the disruption controller says of a budget now.
    pub fn budget_status(&self, name: &str, status: Value) {
        if status.is_null() {
            return;
        }
        self.server.admin(|client| async move {
            let api = Api::<PodDisruptionBudget>::namespaced(client, &self.ns);
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await
        });
    }

    /// Takes a budget away.
    pub fn remove_budget(&self, name: &str) {
        self.server.admin(|client| async move {
            Api::<PodDisruptionBudget>::namespaced(client, &self.ns).delete(name, &DeleteParams::default()).await
        });
    }

    /// An eviction as the agent sends it, changed as told.
    pub fn evict(&self, who: &Who, name: &str, uid: &str, query: &str) -> Answer {
        let options = DeleteOptions {
            preconditions: Some(Preconditions { uid: Some(uid.into()), ..Preconditions::default() }),
            ..DeleteOptions::default()
        };
        let mut eviction = Eviction { delete_options: Some(options), ..Eviction::default() };
        eviction.metadata.name = Some(name.into());
        eviction.metadata.namespace = Some(self.ns.clone());
        let path = format!("/api/v1/namespaces/{}/pods/{name}/eviction{query}", self.ns);
        self.server.send(who, request("POST", &path, &[], &serde_json::to_string(&eviction).expect("JSON")))
    }
}

/// What the disruption controller says of a budget of one that has one healthy pod.
pub fn blocks() -> Value {
    json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1})
}

/// The same where one may go.
pub fn allows() -> Value {
    json!({"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2})
}

/// Makes an object.
pub fn create<K>(server: &Server, namespace: Option<&str>, object: Value) -> K
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let resource = ApiResource::erase::<K>(&());
    let made = server.admin(|client| async move {
        let object: DynamicObject = serde_json::from_value(typed(&resource, object)).expect("an object");
        api(client, &resource, namespace).create(&PostParams::default(), &object).await
    });
    made.try_parse().expect("what the server has made of it")
}

fn typed(resource: &ApiResource, mut object: Value) -> Value {
    object["apiVersion"] = resource.api_version.as_str().into();
    object["kind"] = resource.kind.as_str().into();
    object
}

fn api(client: Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, resource),
        None => Api::all_with(client, resource),
    }
}

/// Whether objects of this kind are in namespaces, as far as the manifests have them.
fn place(object: &Value) -> (ApiResource, Option<String>, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
    (resource, namespace, text(&object["metadata"]["name"]))
}

/// Applies a manifest.
pub fn apply(server: &Server, object: &Value) {
    patch(server, object, &PatchParams::apply("tests").force(), &Patch::Apply(object));
}

/// Changes the object of this kind, namespace and name.
pub fn patch(server: &Server, object: &Value, params: &PatchParams, patch: &Patch<&Value>) {
    let (resource, namespace, name) = place(object);
    server
        .admin(|client| async move { api(client, &resource, namespace.as_deref()).patch(&name, params, patch).await });
}

/// Changes its status.
pub fn patch_status(server: &Server, object: &Value, status: &Value) {
    let (resource, namespace, name) = place(object);
    let patch = Patch::Merge(json!({"status": status}));
    server.admin(|client| async move {
        api(client, &resource, namespace.as_deref()).patch_status(&name, &PatchParams::default(), &patch).await
    });
}

/// Deletes what a manifest names, if it is there.
pub fn delete(server: &Server, object: &Value) {
    let (resource, namespace, name) = place(object);
    server.admin(|client| async move {
        match api(client, &resource, namespace.as_deref()).delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    });
}

/// A token of an account, bound to a pod (name and uid) or not.
pub fn token(server: &Server, namespace: &str, account: &str, pod: Option<(&str, &str)>) -> Who {
    let bound = pod.map(|(name, uid)| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}));
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": [], "expirationSeconds": 3600, "boundObjectRef": bound},
    });
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let answer = server.send(&Who::admin(), request("POST", &path, &[], &body.to_string()));
    let token = answer.json()["status"]["token"].as_str().map(str::to_owned);
    Who::Token(token.unwrap_or_else(|| panic!("no token: {}", answer.text)))
}

/// Asks again and again until there is an answer.
pub fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    while begin.elapsed() < soon() {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited in vain: {what}");
}
