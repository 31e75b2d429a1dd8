//! The permissions that the agent needs, and those that it must not have. Pure.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};

use super::confinement::Confinement;

/// What to do if a permission is missing that the agent always needs.
pub const WHAT_TO_DO: &str = "permissions are missing (asked for in all namespaces): apply the ClusterRole of this --confinement mode and its binding as they are shipped (docs/permissions.md); until then, what they are for does not work";
/// What it means that an optional permission is missing.
pub const OPTIONAL: &str =
    "this permission is needed for the annotation force-delete-threshold alone, which has no effect without it";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The agent does not work without it.
    Always,
    /// Only `force-delete-threshold` needs it.
    ForceDelete,
}

/// A verb on a resource, in all namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// For example `create` or `impersonate-on:associated-node:create`.
    pub verb: String,
    /// The API group; empty: core.
    pub group: &'static str,
    pub resource: &'static str,
    /// For example `eviction`; empty: none.
    pub subresource: &'static str,
    pub need: Need,
}

/// Verb, group, resource, subresource, and who needs it.
type Row = (&'static str, &'static str, &'static str, &'static str, Need);

const USED: [Row; 6] = [
    ("list", "", "pods", "", Need::Always),
    ("watch", "", "pods", "", Need::Always),
    ("create", "", "pods", "eviction", Need::Always),
    ("create", "events.k8s.io", "events", "", Need::Always),
    ("patch", "events.k8s.io", "events", "", Need::Always),
    ("delete", "", "pods", "", Need::ForceDelete),
];

/// What the remedies raise and restart need, of the account itself in each mode: a node has no right to it (measured).
const RESIZE: Row = ("patch", "", "pods", "resize", Need::Always);

fn permission(prefix: &str, (verb, group, resource, subresource, need): Row) -> Permission {
    Permission { verb: format!("{prefix}{verb}"), group, resource, subresource, need }
}

fn used(prefix: &str) -> Vec<Permission> {
    USED.into_iter().map(|row| permission(prefix, row)).collect()
}

/// The permissions that the agent needs in this mode; `resizes`: it may raise limits or restart containers.
#[must_use]
pub fn needed(mode: Confinement, resizes: bool) -> Vec<Permission> {
    let mut needed = match mode {
        Confinement::None | Confinement::Policy => used(""),
        Confinement::Impersonation => {
            let mut all = used("impersonate-on:associated-node:");
            all.push(Permission {
                verb: "impersonate:associated-node".into(),
                group: "authentication.k8s.io",
                resource: "nodes",
                subresource: "",
                need: Need::Always,
            });
            all
        }
    };
    needed.extend(resizes.then(|| permission("", RESIZE)));
    needed
}

/// The permissions that the account itself must not have in this mode. If the agent impersonates its node, these are all on
/// pods: with one of them, whoever steals the token could leave the impersonation out. Resizes are the exception where the
/// agent needs them, and a policy confines those.
#[must_use]
pub fn must_not_have(mode: Confinement, resizes: bool) -> Vec<Permission> {
    match mode {
        Confinement::None | Confinement::Policy => Vec::new(),
        Confinement::Impersonation => {
            let resize = (!resizes).then(|| permission("", RESIZE));
            used("").into_iter().chain(resize).filter(|permission| permission.resource == "pods").collect()
        }
    }
}

impl Permission {
    /// The request that asks the API server whether the sender has this permission.
    #[must_use]
    pub fn review(&self) -> SelfSubjectAccessReview {
        let text = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        let attributes = ResourceAttributes {
            verb: text(&self.verb),
            group: text(self.group),
            resource: text(self.resource),
            subresource: text(self.subresource),
            // The server itself checks this name before it lets a request impersonate.
            name: (self.resource == "nodes").then(|| "*".to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() }
    }
}

impl std::fmt::Display for Permission {
    /// `create pods/eviction`, `patch events.events.k8s.io`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        Ok(())
    }
}

#[must_use]
pub fn list(permissions: &[&Permission]) -> String {
    permissions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(permissions: &[Permission]) -> Vec<String> {
        permissions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_used_in_each_mode() {
        let plain = [
            "list pods",
            "watch pods",
            "create pods/eviction",
            "create events.events.k8s.io",
            "patch events.events.k8s.io",
            "delete pods",
        ];
        assert_eq!(words(&needed(Confinement::Policy, false)), plain);
        assert_eq!(needed(Confinement::None, false), needed(Confinement::Policy, false));
        let acting = needed(Confinement::Impersonation, false);
        assert!(
            words(&acting[..6]).iter().zip(plain).all(|(a, p)| *a == format!("impersonate-on:associated-node:{p}"))
        );
        assert_eq!(words(&acting[6..]), ["impersonate:associated-node nodes.authentication.k8s.io"]);
        let optional: Vec<_> =
            needed(Confinement::Policy, false).into_iter().filter(|r| r.need != Need::Always).collect();
        assert_eq!(words(&optional), ["delete pods"]);
    }

    #[test]
    fn who_acts_as_a_node_has_no_permission_on_pods_itself() {
        for resizes in [false, true] {
            let none = [Confinement::None, Confinement::Policy].map(|mode| must_not_have(mode, resizes));
            assert!(none.iter().all(Vec::is_empty));
        }
        let surplus = ["list pods", "watch pods", "create pods/eviction", "delete pods", "patch pods/resize"];
        assert_eq!(words(&must_not_have(Confinement::Impersonation, false)), surplus);
        assert_eq!(words(&must_not_have(Confinement::Impersonation, true)), surplus[..4]);
    }

    /// A node has no right to resize, so the account needs it itself.
    #[test]
    fn a_resize_is_asked_for_by_the_account_itself_in_each_mode() {
        for mode in [Confinement::None, Confinement::Policy, Confinement::Impersonation] {
            let (without, with) = (needed(mode, false), needed(mode, true));
            assert_eq!(with[..without.len()], without, "{mode:?}");
            assert_eq!(words(&with[without.len()..]), ["patch pods/resize"], "{mode:?}");
            assert_eq!(with[without.len()].need, Need::Always);
        }
        let review = serde_json::to_value(permission("", RESIZE).review()).unwrap();
        let attributes = serde_json::json!({"verb": "patch", "resource": "pods", "subresource": "resize"});
        assert_eq!(review["spec"], serde_json::json!({"resourceAttributes": attributes}));
    }

    #[test]
    fn a_permission_is_asked_for_as_the_server_names_it() {
        let review = serde_json::to_value(needed(Confinement::Policy, false)[2].review()).unwrap();
        let attributes = serde_json::json!({"verb": "create", "resource": "pods", "subresource": "eviction"});
        assert_eq!(review["spec"], serde_json::json!({"resourceAttributes": attributes}));
        let node = serde_json::to_value(needed(Confinement::Impersonation, false)[6].review()).unwrap();
        assert_eq!(node["spec"]["resourceAttributes"]["name"], "*");
        assert_eq!(node["spec"]["resourceAttributes"]["group"], "authentication.k8s.io");
    }
}
