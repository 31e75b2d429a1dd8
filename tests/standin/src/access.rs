//! Who may what: grants as RBAC's rules make them, what was taken away on top, and what was used.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One verb on one resource that a manifest gives an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub account: String,
    /// Where; empty = everywhere.
    pub namespace: String,
    /// `create`, `impersonate-on:associated-node:create`, `*`.
    pub verb: String,
    /// API group; empty = core.
    pub group: String,
    /// `pods`, `pods/eviction`, `*`.
    pub resource: String,
    /// `resourceNames`; none = all.
    pub names: Vec<String>,
}

impl std::fmt::Display for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        write!(f, "{} {} ({group})", self.verb, self.resource)?;
        if self.namespace.is_empty() { Ok(()) } else { write!(f, " in {}", self.namespace) }
    }
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub account: &'a str,
    pub verb: &'a str,
    pub group: &'a str,
    /// With its subresource: `pods/eviction`.
    pub resource: &'a str,
    /// Empty = at the cluster scope, so in all of them.
    pub namespace: &'a str,
    pub name: &'a str,
}

impl Grant {
    fn fits(&self, wish: &Wish) -> bool {
        let is = |granted: &str, wanted: &str| granted == "*" || granted == wanted;
        self.account == wish.account
            && (self.namespace.is_empty() || self.namespace == wish.namespace)
            && is(&self.verb, wish.verb)
            && is(&self.group, wish.group)
            && is(&self.resource, wish.resource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == wish.name))
    }
}

#[derive(Default)]
pub(crate) struct Access {
    /// `None`: whoever is known may do everything that was not taken away.
    grants: Option<Vec<Grant>>,
    /// Verb and resource (`create`, `pods/eviction`).
    denied: BTreeSet<(String, String)>,
    used: BTreeSet<Grant>,
}

impl Access {
    pub(crate) fn give(&mut self, grants: Vec<Grant>) {
        self.grants.get_or_insert_default().extend(grants);
    }

    pub(crate) fn revoke(&mut self, grant: &Grant) {
        if let Some(grants) = &mut self.grants {
            grants.retain(|other| other != grant);
        }
    }

    pub(crate) fn deny(&mut self, verb: &str, resource: &str) {
        self.denied.insert((verb.to_owned(), resource.to_owned()));
    }

    pub(crate) fn allow(&mut self, verb: &str, resource: &str) {
        self.denied.remove(&(verb.to_owned(), resource.to_owned()));
    }

    pub(crate) fn denies(&self, verb: &str, resource: &str) -> bool {
        self.denied.contains(&(verb.to_owned(), resource.to_owned()))
    }

    pub(crate) fn may(&self, wish: &Wish) -> bool {
        // `system:basic-user` gives this to everyone who is known.
        let basic = wish.resource == "selfsubjectaccessreviews" && wish.verb == "create";
        let granted = self.grants.as_ref().is_none_or(|grants| grants.iter().any(|grant| grant.fits(wish)));
        (granted || basic) && !self.denies(wish.verb, wish.resource)
    }

    /// As [`may`](Self::may), and remembers what made it possible.
    pub(crate) fn makes_use(&mut self, wish: &Wish) -> bool {
        let may = self.may(wish);
        if may {
            self.used.extend(self.grants.iter().flatten().filter(|grant| grant.fits(wish)).cloned());
        }
        may
    }

    pub(crate) fn grants(&self) -> Vec<Grant> {
        self.grants.clone().unwrap_or_default()
    }

    pub(crate) fn unused(&self) -> Vec<Grant> {
        self.grants.iter().flatten().filter(|grant| !self.used.contains(grant)).cloned().collect()
    }
}

/// What manifests give, and to whom.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    pub accounts: Vec<String>,
    pub grants: Vec<Grant>,
}

/// Reads the ServiceAccounts, (Cluster)Roles and their bindings of a YAML stream; other kinds are passed over.
///
/// # Panics
/// If it is no YAML, or a binding names a role that is not in it.
pub(crate) fn read(yaml: &str) -> Manifests {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("manifests in YAML");
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut rules: BTreeMap<(String, String, String), Value> = BTreeMap::new();
    let mut manifests = Manifests::default();
    for object in &documents {
        let (kind, metadata) = (text(&object["kind"]), &object["metadata"]);
        match kind.as_str() {
            "ServiceAccount" => manifests.accounts.push(account(&metadata["namespace"], &metadata["name"])),
            "ClusterRole" => drop(rules.insert((kind, "".into(), text(&metadata["name"])), object["rules"].clone())),
            "Role" => {
                let key = (kind, text(&metadata["namespace"]), text(&metadata["name"]));
                rules.insert(key, object["rules"].clone());
            }
            _ => {}
        }
    }
    for object in &documents {
        let namespace = match object["kind"].as_str() {
            Some("ClusterRoleBinding") => String::new(),
            Some("RoleBinding") => text(&object["metadata"]["namespace"]),
            _ => continue,
        };
        let role = &object["roleRef"];
        let place = if role["kind"] == "Role" { namespace.clone() } else { String::new() };
        let rules = rules.get(&(text(&role["kind"]), place, text(&role["name"])));
        let rules = rules.unwrap_or_else(|| panic!("a binding of {role}, which is not there"));
        for subject in list(&object["subjects"]).iter().filter(|subject| subject["kind"] == "ServiceAccount") {
            let account = account(&subject["namespace"], &subject["name"]);
            list(rules).iter().for_each(|rule| manifests.grants.extend(grants(rule, &account, &namespace)));
        }
    }
    manifests
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn account(namespace: &Value, name: &Value) -> String {
    let (namespace, name) = (namespace.as_str().unwrap_or("default"), name.as_str().unwrap_or(""));
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Each verb on each resource of each group of a rule.
fn grants(rule: &Value, account: &str, namespace: &str) -> Vec<Grant> {
    let texts = |key: &str| -> Vec<String> {
        list(&rule[key]).iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let (groups, resources, verbs) = (texts("apiGroups"), texts("resources"), texts("verbs"));
    let mut all = Vec::new();
    for (group, resource) in groups.iter().flat_map(|group| resources.iter().map(move |resource| (group, resource))) {
        all.extend(verbs.iter().map(|verb| Grant {
            account: account.to_owned(),
            namespace: namespace.to_owned(),
            verb: verb.clone(),
            group: group.clone(),
            resource: resource.clone(),
            names: texts("resourceNames"),
        }));
    }
    all
}
