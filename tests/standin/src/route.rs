//! From a request to the one who answers it: what it is about, and its body.

use crate::access::Wish;
use crate::answers;
use crate::reply::Reply;
use crate::state::Inner;
use crate::who::Who;
use crate::{events, evict, list, pdb, pods, proxy, resize, watch};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// The user whose token the stand-in gives out.
pub(crate) const USER: &str = "system:serviceaccount:pre-oom-killer:pre-oom-killer";

/// A request whose body has been read.
pub(crate) struct Call {
    /// When its head had been read.
    pub at: Instant,
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub content_type: String,
    pub accept: String,
    pub user_agent: String,
    pub authorization: Option<String>,
    /// The headers `impersonate-…`.
    pub impersonate: Vec<(String, String)>,
    pub body: bytes::Bytes,
    pub about: About,
}

/// What the path names.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// API group; empty = core.
    pub group: String,
    pub namespace: String,
    /// `pods`; empty = the path is no resource.
    pub plural: String,
    pub name: String,
    pub subresource: String,
}

impl About {
    pub(crate) fn parse(path: &str) -> About {
        let mut parts = path.trim_matches('/').split('/');
        let group = match (parts.next(), parts.next()) {
            (Some("api"), Some("v1")) => "",
            (Some("apis"), Some(group)) if parts.next().is_some() => group,
            _ => return About::default(),
        };
        let mut rest = parts.map(str::to_owned);
        let mut about = About { group: group.to_owned(), plural: rest.next().unwrap_or_default(), ..About::default() };
        let mut next = || rest.next().unwrap_or_default();
        if about.plural == "namespaces" {
            (about.namespace, about.plural) = (next(), next());
            if about.plural.is_empty() {
                // The namespaces themselves.
                (about.plural, about.name) = ("namespaces".to_owned(), std::mem::take(&mut about.namespace));
                return about;
            }
        }
        (about.name, about.subresource) = (next(), next());
        about
    }

    pub(crate) fn resource(&self) -> String {
        if self.subresource.is_empty() { self.plural.clone() } else { format!("{}/{}", self.plural, self.subresource) }
    }
}

impl Call {
    /// The first value of a query parameter, else empty.
    pub(crate) fn query(&self, key: &str) -> &str {
        self.query.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.query(key), "1" | "true")
    }

    /// The templates' variables that come from the request, and `more`.
    pub(crate) fn reply(&self, fact: &answers::Fact, more: &[(&str, &str)]) -> Reply {
        self.with_vars("", USER, more, |vars| fact.reply(vars))
    }

    pub(crate) fn with_vars<T>(
        &self,
        verb: &str,
        user: &str,
        more: &[(&str, &str)],
        then: impl FnOnce(&[(&str, &str)]) -> T,
    ) -> T {
        let about = &self.about;
        let verb = if verb.is_empty() { self.verb() } else { verb };
        let dot = if about.group.is_empty() { "" } else { "." };
        let qualified = format!("{}{dot}{}", about.plural, about.group);
        let subject = if about.name.is_empty() { qualified.clone() } else { format!("{qualified} \"{}\"", about.name) };
        let scope = match about.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let resource = about.resource();
        let elsewhere = format!("pod {} is not on node node-host", about.name);
        let mut vars = more.to_vec();
        vars.extend([
            ("name", about.name.as_str()),
            ("namespace", &about.namespace),
            ("group", &about.group),
            ("plural", &about.plural),
            ("qualified", &qualified),
            ("subject", &subject),
            ("resource", &resource),
            ("scope", &scope),
            ("verb", verb),
            ("user", user),
            ("path", &self.path),
            ("node", "node-host"),
            ("deed", "evict"),
            ("impersonated", "system:node:node-host"),
            ("reason", &elsewhere),
            ("budget", "budget"),
            ("desired", "1"),
            ("healthy", "1"),
        ]);
        then(&vars)
    }

    /// The verb that authorization knows.
    pub(crate) fn verb(&self) -> &'static str {
        match (self.method.as_str(), self.about.name.is_empty()) {
            ("GET", true) if self.flag("watch") => "watch",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            _ => "delete",
        }
    }

    /// The body as an object of this kind, checked as the real decoder does; `Null` for an empty one.
    pub(crate) fn object(&self, kind: &str, internal: &str, accepted: &[&str]) -> Result<Value, Reply> {
        let media = self.content_type.split(';').next().unwrap_or("").trim();
        if !media.is_empty() && !accepted.contains(&media) {
            return Err(self.reply(&answers::UNSUPPORTED_MEDIA_TYPE, &[("accepted", &accepted.join(", "))]));
        }
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        let object: Value = serde_json::from_slice(&self.body).map_err(|error| {
            let error = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
            let body = String::from_utf8_lossy(&self.body);
            self.reply(&answers::NOT_JSON, &[("kind", kind), ("error", &error), ("body", &body)])
        })?;
        let given = object["kind"].as_str().unwrap_or(kind);
        if given != kind {
            let version = object["apiVersion"].as_str().unwrap_or("").rsplit('/').next().unwrap_or("");
            let vars = [("kind", kind), ("given", given), ("version", version), ("internal", internal)];
            return Err(self.reply(&answers::WRONG_KIND, &vars));
        }
        Ok(object)
    }

    /// Whether the namespace can take new content: 404 if unknown, 403 if terminating.
    pub(crate) fn namespace_lives(&self, inner: &Inner) -> Result<(), Reply> {
        match inner.read(|state| state.namespaces.get(&self.about.namespace).copied()) {
            Some(false) => Ok(()),
            Some(true) => Err(self.reply(&answers::NAMESPACE_TERMINATING, &[])),
            None => Err(self.reply(&answers::NAMESPACE_NOT_FOUND, &[])),
        }
    }

    /// Whether the query asks for a dry run; `options` names the object in the refusal.
    pub(crate) fn dry_run(&self, options: &str) -> Result<bool, Reply> {
        let all = self.query.iter().filter(|(name, _)| name == "dryRun").map(|(_, value)| value.as_str().into());
        check_dry_run(self, options, &Value::Array(all.collect()))
    }
}

/// `["All"]` or nothing; anything else is refused.
pub(crate) fn check_dry_run(call: &Call, options: &str, values: &Value) -> Result<bool, Reply> {
    match values.as_array() {
        None => Ok(false),
        Some(all) if all.is_empty() => Ok(false),
        Some(all) if all.iter().all(|one| one == "All") => Ok(true),
        Some(_) => Err(call.reply(&answers::DRY_RUN_UNKNOWN, &[("options", options), ("value", &values.to_string())])),
    }
}

/// Answers a request.
pub(crate) async fn answer(inner: &Arc<Inner>, call: &Call) -> Reply {
    match try_answer(inner, call).await {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn try_answer(inner: &Arc<Inner>, call: &Call) -> Result<Reply, Reply> {
    let who = match call.path.as_str() {
        "/version" => return Ok(Reply::json(200, version())),
        "/readyz" | "/livez" | "/healthz" => return Ok(Reply::text(200, "ok".into())),
        _ => call.authorize(inner)?,
    };
    let about = &call.about;
    let parts = (about.group.as_str(), about.plural.as_str(), about.subresource.as_str(), !about.name.is_empty());
    let method = call.method.as_str();
    match (parts, method) {
        (("", "pods", "", false), "GET") if call.flag("watch") => watch::open(inner, call),
        (("", "pods", "", false), "GET") => list::pods(inner, call),
        (("", "pods", "", false), "POST") => pods::create(inner, call),
        (("", "pods", "", true), "GET") => pods::get(inner, call),
        (("", "pods", "", true), "PATCH") => pods::patch(inner, call),
        (("", "pods", "", true), "DELETE") => pods::delete(inner, call, &who),
        (("", "namespaces", "", false), "GET") => list::namespaces(inner, call),
        (("", "pods", "eviction", true), "POST") => evict::evict(inner, call, &who).await,
        (("", "pods", "resize", true), "PATCH") => resize::patch(inner, call, &who).await,
        (("", "pods", "resize", true), "GET") => pods::get(inner, call),
        (("", "pods", "proxy", true), "GET") => proxy::forward(inner, call).await,
        (("policy", "poddisruptionbudgets", "", false), "GET") => Ok(pdb::list(inner, &call.about.namespace)),
        (("" | "events.k8s.io", "events", "", false), "GET") => events::list(inner, call),
        (("" | "events.k8s.io", "events", "", false), "POST") => events::create(inner, call),
        (("" | "events.k8s.io", "events", "", true), "GET") => events::get(inner, call),
        (("" | "events.k8s.io", "events", "", true), "PATCH") => events::patch(inner, call),
        (("authorization.k8s.io", "selfsubjectaccessreviews", "", false), "POST") => access_review(inner, call, &who),
        (("", "pods", "" | "eviction" | "resize", _) | ("" | "events.k8s.io", "events", "", _), _) => {
            Err(call.reply(&answers::METHOD_NOT_ALLOWED, &[]))
        }
        (("" | "events.k8s.io" | "authorization.k8s.io" | "policy" | "coordination.k8s.io", plural, ..), _)
            if !plural.is_empty() =>
        {
            Err(call.reply(&answers::RESOURCE_NOT_FOUND, &[]))
        }
        _ => Err(call.reply(&answers::PATH_NOT_FOUND, &[])),
    }
}

fn access_review(inner: &Inner, call: &Call, who: &Who) -> Result<Reply, Reply> {
    let mut review = call.object("SelfSubjectAccessReview", "authorization", JSON)?;
    let wanted = &review["spec"]["resourceAttributes"];
    let text = |key: &str| wanted[key].as_str().unwrap_or("").to_owned();
    let resource = match text("subresource") {
        subresource if subresource.is_empty() => text("resource"),
        subresource => format!("{}/{subresource}", text("resource")),
    };
    let (verb, group, namespace, name) = (text("verb"), text("group"), text("namespace"), text("name"));
    let wish = Wish {
        account: &who.user,
        verb: &verb,
        group: &group,
        resource: &resource,
        namespace: &namespace,
        name: &name,
    };
    let allowed = inner.read(|state| state.access.may(&wish));
    let status = if allowed {
        json!({"allowed": true, "reason": "RBAC: allowed by the stand-in"})
    } else {
        json!({"allowed": false})
    };
    if let Some(object) = review.as_object_mut() {
        object.entry("metadata").or_insert_with(|| json!({}));
        object.insert("status".into(), status);
    }
    Ok(Reply::json(201, review))
}

/// Media types of ordinary request bodies, as the recorded 415 (evict-415) names them.
pub(crate) const JSON: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The recorded `/version` (version.json).
fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35", "gitVersion": "v1.36.2",
        "gitCommit": "0000000000000000000000000000000000000000", "gitTreeState": "clean",
        "buildDate": "2026-07-01T00:00:00Z", "goVersion": "go1.27.3", "compiler": "gc", "platform": "linux/amd64",
    })
}
