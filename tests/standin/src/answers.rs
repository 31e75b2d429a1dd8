//! What the real server answers, as a table: the code, reason, causes, headers and the template of
//! the message. Source of every entry unless it says otherwise: a Kubernetes 1.36.2 API server; the
//! name of an entry is the name of the recorded answer it was taken from (`api-answers/NAME.json`).
//!
//! In a template `{name}` and the like are filled in from the request (`Fact::reply`).

use crate::reply::Reply;
use serde_json::{Map, Value, json};

/// One known answer.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    /// The recorded answer that it was taken from.
    pub recorded: &'static str,
    /// HTTP code (of the answer, or for a watch line of the `Status` in it).
    pub code: u16,
    /// `reason`; empty = absent.
    pub reason: &'static str,
    /// Template of `message`; empty = absent.
    pub message: &'static str,
    /// Templates of `details.kind`, `.name`, `.group`; an empty one is absent.
    pub about: [&'static str; 3],
    /// Templates of the causes: reason, message, field; an empty one is absent.
    pub causes: [Option<[&'static str; 3]>; 3],
    /// Seconds for the header `retry-after` and for `details.retryAfterSeconds`.
    pub retry_after: Option<u32>,
    /// What the answer's body is.
    pub form: Form,
}

/// What the body of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON `Status`.
    Status,
    /// A JSON `Status` that has `details: {}` although nothing is in it.
    EmptyDetails,
    /// HTTP 200 and one line of type ERROR with the `Status`, as a watch gets it.
    WatchLine,
    /// The message alone, as `text/plain`.
    Text,
}

const fn fact(recorded: &'static str, code: u16, reason: &'static str, message: &'static str) -> Fact {
    Fact { recorded, code, reason, message, about: [""; 3], causes: [None; 3], retry_after: None, form: Form::Status }
}

impl Fact {
    const fn about(mut self, kind: &'static str, name: &'static str, group: &'static str) -> Fact {
        self.about = [kind, name, group];
        self
    }
    const fn cause(mut self, reason: &'static str, message: &'static str, field: &'static str) -> Fact {
        let mut next = 0;
        while self.causes[next].is_some() {
            next += 1;
        }
        self.causes[next] = Some([reason, message, field]);
        self
    }
    const fn retry_after(mut self, seconds: u32) -> Fact {
        self.retry_after = Some(seconds);
        self
    }
    const fn form(mut self, form: Form) -> Fact {
        self.form = form;
        self
    }

    /// The `Status` object with `vars` filled in.
    pub fn status(&self, vars: &[(&str, &str)]) -> Value {
        let text = |template: &str| Value::String(fill(template, vars));
        let mut status = Map::new();
        status.insert("kind".into(), "Status".into());
        status.insert("apiVersion".into(), "v1".into());
        status.insert("metadata".into(), json!({}));
        status.insert("status".into(), if self.code < 400 { "Success" } else { "Failure" }.into());
        for (key, template) in [("message", self.message), ("reason", self.reason)] {
            if !template.is_empty() {
                status.insert(key.into(), text(template));
            }
        }
        let mut details = object(&["kind", "name", "group"], &self.about, vars);
        let causes = self.causes.iter().flatten().map(|cause| object(&["reason", "message", "field"], cause, vars));
        let causes: Vec<Value> = causes.map(Value::Object).collect();
        if !causes.is_empty() {
            details.insert("causes".into(), causes.into());
        }
        if let Some(seconds) = self.retry_after {
            details.insert("retryAfterSeconds".into(), seconds.into());
        }
        if !details.is_empty() || self.form == Form::EmptyDetails {
            status.insert("details".into(), Value::Object(details));
        }
        status.insert("code".into(), self.code.into());
        Value::Object(status)
    }

    /// The whole answer with `vars` filled in.
    pub(crate) fn reply(&self, vars: &[(&str, &str)]) -> Reply {
        let reply = match self.form {
            Form::Status | Form::EmptyDetails => Reply::json(self.code, self.status(vars)),
            Form::WatchLine => Reply::line(&json!({"type": "ERROR", "object": self.status(vars)})),
            Form::Text => Reply::text(self.code, fill(self.message, vars)),
        };
        match self.retry_after.filter(|_| self.form != Form::WatchLine) {
            Some(seconds) => reply.header("retry-after", &seconds.to_string()),
            None => reply,
        }
    }
}

fn object(keys: &[&str; 3], templates: &[&str; 3], vars: &[(&str, &str)]) -> Map<String, Value> {
    let filled = keys.iter().zip(templates).map(|(key, template)| (*key, fill(template, vars)));
    filled.filter(|(_, text)| !text.is_empty()).map(|(key, text)| (key.to_owned(), text.into())).collect()
}

/// `template` with each `{key}` of `vars` replaced; what is put in is not looked at again.
fn fill(template: &str, vars: &[(&str, &str)]) -> String {
    let (mut out, mut rest) = (String::new(), template);
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let key = rest.find('}').map(|close| &rest[1..close]);
        match key.and_then(|key| vars.iter().find(|(name, _)| *name == key)) {
            Some((name, value)) => {
                out.push_str(value);
                rest = &rest[name.len() + 2..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

/// The entry named `recorded`, if the table has it.
pub fn find(recorded: &str) -> Option<&'static Fact> {
    // Answers that are the same for all paths were recorded of resizes too, and stand here once.
    let recorded = match recorded {
        "resize-401" => UNAUTHORIZED.recorded,
        "resize-403-rbac" => FORBIDDEN.recorded,
        "resize-404" => NOT_FOUND.recorded,
        recorded => recorded,
    };
    ALL.iter().find(|fact| fact.recorded == recorded)
}

macro_rules! table {
    ($($name:ident = $fact:expr;)*) => {
        $(#[doc = "See the table's head."] pub const $name: Fact = $fact;)*
        /// Every entry of the table.
        pub const ALL: &[Fact] = &[$($name),*];
    };
}

const VAP: &str = "ValidatingAdmissionPolicy 'deny' with binding 'deny' denied request: evictions are not allowed here";
const VAP_MESSAGE: &str = "pods \"{name}\" is forbidden: ValidatingAdmissionPolicy 'deny' with binding 'deny' denied request: evictions are not allowed here";
const UNEXPLAINED: &str = "admission webhook \"guard.facts.example.com\" denied the request without explanation";
const HTTP_500: &str = "failed calling webhook \"guard.facts.example.com\": failed to call webhook: an error on the server (\"unknown\") has prevented the request from succeeding";
const QUOTA: &str = "{subject} is forbidden: exceeded quota: q, requested: limits.memory=100Mi, used: limits.memory=411164Mi, limited: limits.memory=411164Mi";
const QUANTITY: &str = "Invalid value: \"map[spec:map[containers:[map[name:hog resources:map[limits:map[memory:512 MB]]]]]]\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const IMMUTABLE: &str = "Invalid value: \"00000000-0000-0000-0000-000000000000\": field is immutable";
const BUDGET: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const RBAC: &str =
    "{subject} is forbidden: User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {scope}";

table! {
    // Authentication, authorization, throttling: the same for all paths.
    UNAUTHORIZED = fact("evict-401", 401, "Unauthorized", "Unauthorized");
    FORBIDDEN = fact("evict-403-rbac", 403, "Forbidden", RBAC).about("{plural}", "{name}", "{group}");
    FORBIDDEN_PATH = fact("", 403, "Forbidden", "forbidden: User \"{user}\" cannot {verb} path \"{path}\"").form(Form::EmptyDetails);
    THROTTLED = fact("evict-429-apf", 429, "", "Too many requests, please try again later.\n").form(Form::Text).retry_after(1);
    PATH_NOT_FOUND = fact("", 404, "", "404 page not found\n").form(Form::Text);
    RESOURCE_NOT_FOUND = fact("", 404, "NotFound", "the server could not find the requested resource").form(Form::EmptyDetails);
    METHOD_NOT_ALLOWED = fact("evict-get-405", 405, "MethodNotAllowed", "the server does not allow this method on the requested resource").form(Form::EmptyDetails);

    // Objects by name.
    NOT_FOUND = fact("evict-404", 404, "NotFound", "{qualified} \"{name}\" not found").about("{plural}", "{name}", "{group}");
    NAMESPACE_NOT_FOUND = fact("evict-404-namespace", 404, "NotFound", "namespaces \"{namespace}\" not found").about("namespaces", "{namespace}", "");
    NAMESPACE_TERMINATING = fact("evict-403-ns-terminating", 403, "Forbidden", "{qualified} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated")
        .about("{plural}", "{name}", "{group}").cause("NamespaceTerminating", "namespace {namespace} is being terminated", "metadata.namespace");
    ALREADY_EXISTS = fact("event-core-409", 409, "AlreadyExists", "{qualified} \"{name}\" already exists").about("{plural}", "{name}", "{group}");
    CONFLICT_UID = fact("evict-409-uid", 409, "Conflict", "Operation cannot be fulfilled on Pod \"{name}\": the UID in the precondition ({wanted}) does not match the UID in record ({found}). The object might have been deleted and then recreated").about("Pod", "{name}", "");
    CONFLICT_VERSION = fact("evict-409-resourceversion", 409, "Conflict", "Operation cannot be fulfilled on Pod \"{name}\": the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({found}). The object might have been modified").about("Pod", "{name}", "");

    // The body of a request.
    UNSUPPORTED_MEDIA_TYPE = fact("evict-415", 415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media types include: {accepted}");
    NOT_JSON = fact("evict-400-not-json", 400, "BadRequest", "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {error} ({body})");
    WRONG_KIND = fact("evict-400-wrong-kind", 400, "BadRequest", "{given} in version \"{version}\" cannot be handled as a {kind}: converting ({version}.{given}) to ({internal}.{kind}): unknown conversion");
    STRICT_DECODING = fact("evict-unknown-field-strict", 400, "BadRequest", "{kind} in version \"v1\" cannot be handled as a {kind}: strict decoding error: {error}");
    NAME_MISMATCH = fact("evict-400-name-mismatch", 400, "BadRequest", "name in URL does not match name in Eviction object");
    NAMESPACE_MISMATCH = fact("evict-400-namespace-mismatch", 400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request");
    DRY_RUN_UNKNOWN = fact("evict-422-dryrun-unknown", 422, "Invalid", "{options}.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: {value}: supported values: \"All\"")
        .about("{options}", "", "meta.k8s.io").cause("FieldValueNotSupported", "Unsupported value: {value}: supported values: \"All\"", "dryRun");

    // Evictions.
    EVICTED = fact("evict-201", 201, "", "");
    BUDGET_BLOCKS = fact("evict-429-pdb", 429, "TooManyRequests", BUDGET).cause("DisruptionBudget", "The disruption budget {budget} needs {desired} healthy pods and has {healthy} currently", "");
    BUDGET_UNOBSERVED = fact("evict-429-pdb-unobserved", 429, "TooManyRequests", BUDGET).cause("DisruptionBudget", "The disruption budget {budget} is still being processed by the server.", "").retry_after(10);
    BUDGET_SYNC_FAILED = fact("evict-429-pdb-unmanaged", 429, "TooManyRequests", BUDGET).cause("DisruptionBudget", "The disruption budget {budget} does not allow evicting pods currently", "");
    TWO_BUDGETS = fact("evict-500-two-pdbs", 500, "", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.");

    // Refusals of admission, of impersonation, of the Node authorizer.
    POLICY_FORBIDDEN = fact("evict-403-vap-forbidden", 403, "Forbidden", VAP_MESSAGE).about("pods", "{name}", "").cause("", VAP, "");
    POLICY_DEFAULT = fact("evict-422-vap-default", 422, "Invalid", VAP_MESSAGE).about("pods", "{name}", "").cause("", VAP, "");
    POLICY_INVALID = fact("evict-422-vap-invalid", 422, "Invalid", VAP_MESSAGE).about("pods", "{name}", "").cause("", VAP, "");
    POLICY_TOO_LARGE = fact("evict-413-vap-toolarge", 413, "RequestEntityTooLarge", VAP_MESSAGE).about("pods", "{name}", "").cause("", VAP, "");
    POLICY_CEL_ERROR = fact("evict-vap-cel-error", 422, "Invalid", "pods \"{name}\" is forbidden: ValidatingAdmissionPolicy 'deny' with binding 'deny' denied request: expression 'object.noSuch.field == 'x'' resulted in error: no such key: noSuch")
        .about("pods", "{name}", "").cause("", "ValidatingAdmissionPolicy 'deny' with binding 'deny' denied request: expression 'object.noSuch.field == 'x'' resulted in error: no such key: noSuch", "");
    POLICY_OWN_NODE = fact("evict-403-vap-own-node", 403, "Forbidden", "pods \"{name}\" is forbidden: ValidatingAdmissionPolicy 'pre-oom-killer-own-node' with binding 'pre-oom-killer-own-node' denied request: {reason}")
        .about("pods", "{name}", "").cause("", "ValidatingAdmissionPolicy 'pre-oom-killer-own-node' with binding 'pre-oom-killer-own-node' denied request: {reason}", "");
    // Not recorded; seen in a trial of the policy on deletions.
    POLICY_OWN_NODE_DELETE = fact("", 403, "Forbidden", "pods \"{name}\" is forbidden: ValidatingAdmissionPolicy 'pre-oom-killer-own-node-delete' with binding 'pre-oom-killer-own-node-delete' denied request: {reason}")
        .about("pods", "{name}", "").cause("", "ValidatingAdmissionPolicy 'pre-oom-killer-own-node-delete' with binding 'pre-oom-killer-own-node-delete' denied request: {reason}", "");
    // Not recorded; seen in a namespace without pods, by the leg `apiserver`.
    POLICY_NO_PARAMS = fact("", 422, "Invalid", "pods \"{name}\" is forbidden: ValidatingAdmissionPolicy 'pre-oom-killer-own-node' with binding 'pre-oom-killer-own-node' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction")
        .about("pods", "{name}", "").cause("", "ValidatingAdmissionPolicy 'pre-oom-killer-own-node' with binding 'pre-oom-killer-own-node' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction", "");
    NODE_RESTRICTION = fact("evict-403-noderestriction", 403, "Forbidden", "pods \"{name}\" is forbidden: node {node} can only {deed} pods with spec.nodeName set to itself").about("pods", "{name}", "");
    // Not recorded; seen: its words differ from the registry's by one letter.
    NODE_RESTRICTION_NOT_FOUND = fact("", 404, "NotFound", "pod \"{name}\" not found").about("pod", "{name}", "");
    IMPERSONATE_LEGACY = fact("evict-403-impersonate-gate-off", 403, "Forbidden", "users \"{impersonated}\" is forbidden: User \"{user}\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope").about("users", "{impersonated}", "");
    IMPERSONATE_OTHER = fact("evict-403-impersonate-other-node", 403, "Forbidden", "pods \"{name}\" is forbidden: User \"{user}\" cannot impersonate-on:arbitrary-node:create resource \"pods/eviction\" in API group \"\" in the namespace \"{namespace}\"").about("pods", "{name}", "");
    // Not recorded: the form of the others, with what the source of 1.36 asks for.
    IMPERSONATE_NODE = fact("", 403, "Forbidden", "nodes.authentication.k8s.io \"*\" is forbidden: User \"{user}\" cannot {verb} resource \"nodes\" in API group \"authentication.k8s.io\" at the cluster scope").about("nodes", "*", "authentication.k8s.io");
    NODE_AUTHORIZER = fact("list-403-node-authorizer", 403, "Forbidden", "pods is forbidden: User \"system:node:{node}\" cannot {verb} resource \"pods\" in API group \"\" {scope}: can only list/watch pods with spec.nodeName field selector").about("pods", "", "");
    NODE_NO_RELATION = fact("", 403, "Forbidden", "pods \"{name}\" is forbidden: User \"system:node:{node}\" cannot get resource \"pods\" in API group \"\" {scope}: no relationship found between node '{node}' and this object").about("pods", "{name}", "");
    WEBHOOK_DOWN = fact("evict-500-webhook-unreachable", 500, "InternalError", "Internal error occurred: failed calling webhook \"dead.example.com\": failed to call webhook: Post \"https://127.0.0.1:9/x?timeout=2s\": dial tcp 127.0.0.1:9: connect: connection refused")
        .cause("", "failed calling webhook \"dead.example.com\": failed to call webhook: Post \"https://127.0.0.1:9/x?timeout=2s\": dial tcp 127.0.0.1:9: connect: connection refused", "");
    WEBHOOK_TIMEOUT = fact("evict-500-webhook-timeout", 500, "InternalError", "Internal error occurred: failed calling webhook \"slow.example.com\": failed to call webhook: Post \"https://127.0.0.1:35061/x?timeout=8s\": context deadline exceeded")
        .cause("", "failed calling webhook \"slow.example.com\": failed to call webhook: Post \"https://127.0.0.1:35061/x?timeout=8s\": context deadline exceeded", "");
    // Somebody's validating webhook that answers, and says no (1.36.3): the code is the webhook's, 400 if it gives none.
    WEBHOOK_DENIES = fact("evict-400-webhook-denied", 400, "", UNEXPLAINED);
    WEBHOOK_DENIES_DRY_RUN = fact("evict-400-webhook-dryrun", 400, "", UNEXPLAINED);
    WEBHOOK_DENIES_BEFORE_BUDGET = fact("evict-400-webhook-before-pdb", 400, "", UNEXPLAINED);
    WEBHOOK_DENIES_IN_WORDS = fact("evict-400-webhook-message", 400, "", "admission webhook \"guard.facts.example.com\" denied the request: not today: change freeze");
    WEBHOOK_DENIES_WITH_200 = fact("evict-400-webhook-code-200", 400, "", "admission webhook \"guard.facts.example.com\" denied the request: odd");
    WEBHOOK_403 = fact("evict-403-webhook", 403, "", "admission webhook \"guard.facts.example.com\" denied the request: no");
    WEBHOOK_403_REASON = fact("evict-403-webhook-reason", 403, "Forbidden", "admission webhook \"guard.facts.example.com\" denied the request: no");
    WEBHOOK_404 = fact("evict-404-webhook", 404, "NotFound", "admission webhook \"guard.facts.example.com\" denied the request: no such thing");
    WEBHOOK_409 = fact("evict-409-webhook", 409, "Conflict", "admission webhook \"guard.facts.example.com\" denied the request: busy");
    WEBHOOK_429 = fact("evict-429-webhook", 429, "", "admission webhook \"guard.facts.example.com\" denied the request: too many evictions, wait");
    WEBHOOK_429_BEFORE_BUDGET = fact("evict-429-webhook-before-pdb", 429, "", "admission webhook \"guard.facts.example.com\" denied the request: x");
    WEBHOOK_429_REASON = fact("evict-429-webhook-reason", 429, "TooManyRequests", "admission webhook \"guard.facts.example.com\" denied the request: wait").retry_after(7);
    WEBHOOK_500 = fact("evict-500-webhook", 500, "", "admission webhook \"guard.facts.example.com\" denied the request: webhook broke");
    WEBHOOK_503 = fact("evict-503-webhook", 503, "", "admission webhook \"guard.facts.example.com\" denied the request: later");
    WEBHOOK_HTTP_500 = fact("evict-500-webhook-http-500", 500, "InternalError", "Internal error occurred: failed calling webhook \"guard.facts.example.com\": failed to call webhook: an error on the server (\"unknown\") has prevented the request from succeeding").cause("", "failed calling webhook \"guard.facts.example.com\": failed to call webhook: an error on the server (\"unknown\") has prevented the request from succeeding", "");
    WEBHOOK_NOT_JSON = fact("evict-500-webhook-not-json", 500, "InternalError", "Internal error occurred: failed calling webhook \"guard.facts.example.com\": failed to call webhook: couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }").cause("", "failed calling webhook \"guard.facts.example.com\": failed to call webhook: couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }", "");

    // Resizes (1.36.3), by their order. What is wrong with a patch is worded in `resize_rules.rs`; here for faults.
    RESIZE_MEDIA_TYPE = fact("resize-415", 415, "UnsupportedMediaType", "415: Unsupported Media Type").form(Form::EmptyDetails);
    RESIZE_NOT_JSON = fact("resize-400-not-json", 400, "BadRequest", "{error}");
    RESIZE_QUANTITY = fact("resize-422-quantity", 422, "Invalid", " \"\" is invalid: patch: Invalid value: \"map[spec:map[containers:[map[name:hog resources:map[limits:map[memory:512 MB]]]]]]\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'").cause("FieldValueInvalid", QUANTITY, "patch");
    RESIZE_CONFLICT = fact("resize-409-resourceversion", 409, "Conflict", "Operation cannot be fulfilled on {qualified} \"{name}\": the object has been modified; please apply your changes to the latest version and try again").about("{plural}", "{name}", "{group}");
    RESIZE_UID = fact("resize-422-uid", 422, "Invalid", "Pod \"{name}\" is invalid: metadata.uid: Invalid value: \"00000000-0000-0000-0000-000000000000\": field is immutable").about("Pod", "{name}", "").cause("FieldValueInvalid", IMMUTABLE, "metadata.uid").cause("FieldValueInvalid", IMMUTABLE, "metadata.uid");
    RESIZE_UNKNOWN_CONTAINER = fact("resize-422-unknown-container", 422, "Invalid", "Pod \"{name}\" is invalid: [spec.containers[0].image: Required value, spec.containers: Forbidden: containers may not be added or removed on resize]").about("Pod", "{name}", "").cause("FieldValueRequired", "Required value", "spec.containers[0].image").cause("FieldValueForbidden", "Forbidden: containers may not be added or removed on resize", "spec.containers");
    RESIZE_SIDECAR = fact("resize-422-sidecar-under-containers", 422, "Invalid", "Pod \"{name}\" is invalid: [spec.containers[0].image: Required value, spec.initContainers[1].name: Duplicate value: \"side\", spec.containers: Forbidden: containers may not be added or removed on resize]").about("Pod", "{name}", "").cause("FieldValueRequired", "Required value", "spec.containers[0].image").cause("FieldValueDuplicate", "Duplicate value: \"side\"", "spec.initContainers[1].name").cause("FieldValueForbidden", "Forbidden: containers may not be added or removed on resize", "spec.containers");
    RESIZE_BELOW_REQUEST = fact("resize-422-below-request", 422, "Invalid", "Pod \"{name}\" is invalid: spec.containers[0].resources.requests: Invalid value: \"64Mi\": must be less than or equal to memory limit of 32Mi").about("Pod", "{name}", "").cause("FieldValueInvalid", "Invalid value: \"64Mi\": must be less than or equal to memory limit of 32Mi", "spec.containers[0].resources.requests");
    RESIZE_BEST_EFFORT = fact("resize-422-besteffort", 422, "Invalid", "Pod \"{name}\" is invalid: spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing").about("Pod", "{name}", "").cause("FieldValueInvalid", "Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing", "spec");
    RESIZE_GUARANTEED = fact("resize-422-guaranteed-limit-alone", 422, "Invalid", "Pod \"{name}\" is invalid: spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing").about("Pod", "{name}", "").cause("FieldValueInvalid", "Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing", "spec");
    RESIZE_REMOVED = fact("resize-422-remove-limit", 422, "Invalid", "Pod \"{name}\" is invalid: spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed").about("Pod", "{name}", "").cause("FieldValueForbidden", "Forbidden: resource limits cannot be removed", "spec.containers[0].resources.limits");
    RESIZE_POLICY_FIXED = fact("resize-422-resizepolicy", 422, "Invalid", "Pod \"{name}\" is invalid: spec: Forbidden: only cpu and memory resources are mutable").about("Pod", "{name}", "").cause("FieldValueForbidden", "Forbidden: only cpu and memory resources are mutable", "spec");
    RESIZE_OTHER_RESOURCE = fact("resize-422-ephemeral-storage", 422, "Invalid", "Pod \"{name}\" is invalid: spec: Forbidden: only cpu and memory resources are mutable").about("Pod", "{name}", "").cause("FieldValueForbidden", "Forbidden: only cpu and memory resources are mutable", "spec");
    RESIZE_STATIC = fact("resize-422-mirror", 422, "Invalid", "Pod \"{name}\" is invalid: []: Forbidden: static pods cannot be resized").about("Pod", "{name}", "").cause("FieldValueForbidden", "Forbidden: static pods cannot be resized", "[]");
    RESIZE_ABOVE_POD = fact("resize-422-plr-container-above", 422, "Invalid", "Pod \"{name}\" is invalid: spec.resources.containers[1][memory].limits: Invalid value: \"512Mi\": must be less than or equal to pod limits of 256Mi").about("Pod", "{name}", "").cause("FieldValueInvalid", "Invalid value: \"512Mi\": must be less than or equal to pod limits of 256Mi", "spec.resources.containers[1][memory].limits");
    NODE_CAPACITY = fact("resize-403-capacity", 403, "Forbidden", "{subject} is forbidden: node didn't have enough allocatable resources: memory, requested: {requested}, allocatable: {allocatable}").about("{plural}", "{name}", "{group}").cause("NodeCapacity", "", "");
    LIMIT_RANGE = fact("resize-403-limitrange", 403, "Forbidden", "{subject} is forbidden: maximum memory usage per Container is 512Mi, but limit is 600Mi").about("{plural}", "{name}", "{group}");
    LIMIT_RANGE_POD = fact("resize-403-limitrange-pod", 403, "Forbidden", "{subject} is forbidden: maximum memory usage per Pod is 512Mi, but limit is 600Mi").about("{plural}", "{name}", "{group}");
    LIMIT_RANGE_RATIO = fact("resize-403-limitrange-ratio", 403, "Forbidden", "{subject} is forbidden: memory max limit to request ratio per Container is 8, but provided ratio is 9.375000").about("{plural}", "{name}", "{group}");
    QUOTA_LIMITS = fact("resize-403-quota-limits", 403, "Forbidden", QUOTA).about("{plural}", "{name}", "{group}");
    QUOTA_DRY_RUN = fact("resize-403-quota-dryrun", 403, "Forbidden", QUOTA).about("{plural}", "{name}", "{group}");
    QUOTA_REQUESTS = fact("resize-403-quota-requests", 403, "Forbidden", "{subject} is forbidden: exceeded quota: q, requested: limits.memory=100Mi,requests.memory=36Mi, used: limits.memory=411164Mi,requests.memory=568Mi, limited: limits.memory=411164Mi,requests.memory=568Mi").about("{plural}", "{name}", "{group}");
    RESIZE_VAP_BOUND = fact("resize-403-vap-bound", 403, "Forbidden", "{subject} is forbidden: ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: only raises, at most threefold").about("{plural}", "{name}", "{group}").cause("", "ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: only raises, at most threefold", "");
    RESIZE_VAP_CPU = fact("resize-403-vap-cpu", 403, "Forbidden", "{subject} is forbidden: ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: only memory").about("{plural}", "{name}", "{group}").cause("", "ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: only memory", "");
    RESIZE_VAP_DRY_RUN = fact("resize-403-vap-dryrun", 403, "Forbidden", "{subject} is forbidden: ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: has not opted in").about("{plural}", "{name}", "{group}").cause("", "ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: has not opted in", "");
    RESIZE_VAP_NO_CHANGE = fact("resize-403-vap-noop", 403, "Forbidden", "{subject} is forbidden: ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: has not opted in").about("{plural}", "{name}", "{group}").cause("", "ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: has not opted in", "");
    RESIZE_VAP_OPT_IN = fact("resize-403-vap-opt-in", 403, "Forbidden", "{subject} is forbidden: ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: has not opted in").about("{plural}", "{name}", "{group}").cause("", "ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: has not opted in", "");
    RESIZE_VAP_NODE = fact("resize-403-vap-own-node", 403, "Forbidden", "{subject} is forbidden: ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: not on the agent's node").about("{plural}", "{name}", "{group}").cause("", "ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: not on the agent's node", "");
    RESIZE_VAP_UNBOUND = fact("resize-403-vap-unbound-token", 403, "Forbidden", "{subject} is forbidden: ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: not on the agent's node").about("{plural}", "{name}", "{group}").cause("", "ValidatingAdmissionPolicy 'facts-resize-own-node' with binding 'facts-resize-own-node' denied request: not on the agent's node", "");
    // Not recorded: the form of the others, with the project's own policy.
    POLICY_OWN_NODE_RESIZE = fact("", 403, "Forbidden", "{subject} is forbidden: ValidatingAdmissionPolicy 'pre-oom-killer-own-node-resize' with binding 'pre-oom-killer-own-node-resize' denied request: {reason}")
        .about("{plural}", "{name}", "{group}").cause("", "ValidatingAdmissionPolicy 'pre-oom-killer-own-node-resize' with binding 'pre-oom-killer-own-node-resize' denied request: {reason}", "");
    RESIZE_WEBHOOK = fact("resize-400-webhook-denied", 400, "", UNEXPLAINED);
    RESIZE_WEBHOOK_IN_WORDS = fact("resize-400-webhook-message", 400, "", "admission webhook \"guard.facts.example.com\" denied the request: not today: change freeze");
    RESIZE_WEBHOOK_403 = fact("resize-403-webhook", 403, "", "admission webhook \"guard.facts.example.com\" denied the request: no");
    RESIZE_WEBHOOK_429 = fact("resize-429-webhook", 429, "", "admission webhook \"guard.facts.example.com\" denied the request: too many evictions, wait");
    RESIZE_WEBHOOK_500 = fact("resize-500-webhook", 500, "", "admission webhook \"guard.facts.example.com\" denied the request: webhook broke");
    RESIZE_WEBHOOK_HTTP_500 = fact("resize-500-webhook-http-500", 500, "InternalError", "Internal error occurred: failed calling webhook \"guard.facts.example.com\": failed to call webhook: an error on the server (\"unknown\") has prevented the request from succeeding").cause("", HTTP_500, "");

    // Lists.
    FIELD_UNSUPPORTED = fact("pods-list-bad-fieldselector", 400, "BadRequest", "field label not supported: {field}");
    // Not recorded: the form of a selector that does not parse.
    SELECTOR_INVALID = fact("", 400, "BadRequest", "unable to parse requirement: {error}");
    BAD_CONTINUE = fact("pods-list-bad-continue", 400, "BadRequest", "invalid continue token: continue key is not valid: {error}");
    CONTINUE_EXPIRED = fact("list-410-continue", 410, "Expired", "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.");
    LIST_TOO_OLD = fact("list-410-exact", 410, "Expired", "The resourceVersion for the provided list is too old.");
    LIST_FROM_FUTURE = fact("pods-list-future-rv", 504, "Timeout", "Timeout: Too large resource version: {version}, current: {current}").cause("ResourceVersionTooLarge", "Too large resource version", "").retry_after(1);

    // Watches.
    BAD_VERSION = fact("watch-bad-rv", 500, "", "resourceVersion: Invalid value: \"{version}\": strconv.ParseUint: parsing \"{version}\": invalid syntax");
    INITIAL_EVENTS_BAD = fact("watch-initial-events-bad", 422, "Invalid", "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
        .about("ListOptions", "", "meta.k8s.io").cause("FieldValueForbidden", "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan", "resourceVersionMatch");
    INITIAL_EVENTS_UNSUPPORTED = fact("watch-initial-events-unsupported", 500, "InternalError", "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled").form(Form::WatchLine);
    WATCH_TOO_OLD = fact("watch-410", 410, "Expired", "too old resource version: {version} ({current})").form(Form::WatchLine);
    // Not recorded; *seen* (facts.md §3): a plain new watch that ends at once with this line.
    WATCH_FROM_FUTURE = fact("watch-504", 504, "Timeout", "Timeout: Too large resource version: {version}, current: {current}").cause("ResourceVersionTooLarge", "Too large resource version", "").retry_after(1).form(Form::WatchLine);

    // Events.
    EVENT_NO_ACTION = fact("event-v1-422-no-action", 422, "Invalid", "Event \"{name}\" is invalid: action: Required value").about("Event", "{name}", "").cause("FieldValueRequired", "Required value", "action");
    EVENT_NO_TIME = fact("event-v1-422-no-eventtime", 422, "Invalid", "Event \"{name}\" is invalid: eventTime: Required value").about("Event", "{name}", "").cause("FieldValueRequired", "Required value", "eventTime");
    // Not recorded: the other fields that the events.k8s.io validation requires.
    EVENT_REQUIRED = fact("", 422, "Invalid", "Event \"{name}\" is invalid: {field}: Required value").about("Event", "{name}", "").cause("FieldValueRequired", "Required value", "{field}");
    EVENT_NOTE_TOO_LONG = fact("event-v1-422-note-too-long", 422, "Invalid", "Event \"{name}\" is invalid: message: Invalid value: \"\": can have at most 1024 characters").about("Event", "{name}", "").cause("FieldValueInvalid", "Invalid value: \"\": can have at most 1024 characters", "message");
    EVENT_NAMESPACE = fact("event-core-422-namespace", 422, "Invalid", "Event \"{name}\" is invalid: involvedObject.namespace: Invalid value: \"{given}\": does not match event.namespace").about("Event", "{name}", "").cause("FieldValueInvalid", "Invalid value: \"{given}\": does not match event.namespace", "involvedObject.namespace");
    BAD_TIME = fact("event-v1-eventtime-seconds", 400, "BadRequest", "{kind} in version \"v1\" cannot be handled as a {kind}: parsing time \"{time}\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"{rest}\" as \"{layout}\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_once() {
        assert_eq!(fill("a {x} {y} {", &[("x", "{y}"), ("y", "2")]), "a {y} 2 {");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|fact| fact.recorded).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(all, names.len());
    }
}
