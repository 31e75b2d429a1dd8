//! The rights that are used, and those that must not be had. Pure.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};

use super::confinement::Confinement;

/// What to do about rights that are always used.
pub const WHAT_TO_DO: &str = "rights are missing (asked for in all namespaces): apply the ClusterRole of this --confinement mode and its binding as they are shipped (README, \"Rights and confinement\"); until then what they are for does not work";
/// What it means that an optional right is missing.
pub const OPTIONAL: &str =
    "this right is needed for the annotation force-delete-threshold alone, which has no effect without it";

/// What a right is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The agent does not work without it.
    Always,
    /// Only `force-delete-threshold` needs it.
    ForceDelete,
}

/// A verb on a resource, in all namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// `create`, `impersonate-on:associated-node:create`.
    pub verb: String,
    /// API group; empty: core.
    pub group: &'static str,
    /// `pods`.
    pub resource: &'static str,
    /// `eviction`, or empty.
    pub subresource: &'static str,
    /// What for.
    pub need: Need,
}

/// verb, group, resource, subresource, what for.
const USED: [(&str, &str, &str, &str, Need); 6] = [
    ("list", "", "pods", "", Need::Always),
    ("watch", "", "pods", "", Need::Always),
    ("create", "", "pods", "eviction", Need::Always),
    ("create", "events.k8s.io", "events", "", Need::Always),
    ("patch", "events.k8s.io", "events", "", Need::Always),
    ("delete", "", "pods", "", Need::ForceDelete),
];

fn used(prefix: &str) -> Vec<Right> {
    let right = |(verb, group, resource, subresource, need): (&str, _, _, _, _)| Right {
        verb: format!("{prefix}{verb}"),
        group,
        resource,
        subresource,
        need,
    };
    USED.into_iter().map(right).collect()
}

/// The rights that are used in this mode.
#[must_use]
pub fn needed(mode: Confinement) -> Vec<Right> {
    match mode {
        Confinement::None | Confinement::Policy => used(""),
        Confinement::Impersonation => {
            let mut rights = used("impersonate-on:associated-node:");
            rights.push(Right {
                verb: "impersonate:associated-node".into(),
                group: "authentication.k8s.io",
                resource: "nodes",
                subresource: "",
                need: Need::Always,
            });
            rights
        }
    }
}

/// Where the agent acts as its node, the account itself has no right on pods: with one, whoever
/// has its token would leave the header out.
#[must_use]
pub fn must_not_have(mode: Confinement) -> Vec<Right> {
    match mode {
        Confinement::None | Confinement::Policy => Vec::new(),
        Confinement::Impersonation => used("").into_iter().filter(|right| right.resource == "pods").collect(),
    }
}

impl Right {
    /// The question whether the one who asks has it.
    #[must_use]
    pub fn review(&self) -> SelfSubjectAccessReview {
        let text = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        let attributes = ResourceAttributes {
            verb: text(&self.verb),
            group: text(self.group),
            resource: text(self.resource),
            subresource: text(self.subresource),
            // As the server itself asks when it impersonates.
            name: (self.resource == "nodes").then(|| "*".to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() }
    }
}

impl std::fmt::Display for Right {
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

/// All of them in one line.
#[must_use]
pub fn list(rights: &[&Right]) -> String {
    rights.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(rights: &[Right]) -> Vec<String> {
        rights.iter().map(ToString::to_string).collect()
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
        assert_eq!(words(&needed(Confinement::Policy)), plain);
        assert_eq!(needed(Confinement::None), needed(Confinement::Policy));
        let acting = needed(Confinement::Impersonation);
        assert!(
            words(&acting[..6]).iter().zip(plain).all(|(a, p)| *a == format!("impersonate-on:associated-node:{p}"))
        );
        assert_eq!(words(&acting[6..]), ["impersonate:associated-node nodes.authentication.k8s.io"]);
        let optional: Vec<_> = needed(Confinement::Policy).into_iter().filter(|r| r.need != Need::Always).collect();
        assert_eq!(words(&optional), ["delete pods"]);
    }

    #[test]
    fn who_acts_as_a_node_has_no_right_on_pods_itself() {
        let none: [Vec<Right>; 2] = [Confinement::None, Confinement::Policy].map(must_not_have);
        assert!(none.iter().all(Vec::is_empty));
        let surplus = words(&must_not_have(Confinement::Impersonation));
        assert_eq!(surplus, ["list pods", "watch pods", "create pods/eviction", "delete pods"]);
    }

    #[test]
    fn a_right_is_asked_for_as_the_server_names_it() {
        let review = serde_json::to_value(needed(Confinement::Policy)[2].review()).unwrap();
        let attributes = serde_json::json!({"verb": "create", "resource": "pods", "subresource": "eviction"});
        assert_eq!(review["spec"], serde_json::json!({"resourceAttributes": attributes}));
        let node = serde_json::to_value(needed(Confinement::Impersonation)[6].review()).unwrap();
        assert_eq!(node["spec"]["resourceAttributes"]["name"], "*");
        assert_eq!(node["spec"]["resourceAttributes"]["group"], "authentication.k8s.io");
    }
}
