//! How many pods of a template there are at once: its `replicas`, or what an autoscaler in the input makes of them.

use super::objects::{Object, Template};
use super::tree::Node;

/// A HorizontalPodAutoscaler, or KEDA's ScaledObject.
#[derive(Clone, Copy, Debug)]
pub struct Autoscaler<'a> {
    pub object: Object<'a>,
}

/// How many pods of a template there are at once.
#[derive(Clone, Copy, Debug)]
pub struct Replicas<'a> {
    pub least: i64,
    /// At most.
    pub most: i64,
    /// Where these numbers are from.
    pub from: Source<'a>,
}

/// Where a number of replicas is from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    Written,
    /// Nothing says it, so it is 1.
    Assumed,
    /// The range of this autoscaler.
    Autoscaler(Autoscaler<'a>),
}

impl<'a> Autoscaler<'a> {
    /// The object as an autoscaler, if it is one.
    #[must_use]
    pub fn of(object: Object<'a>) -> Option<Autoscaler<'a>> {
        let known = match object.kind {
            "HorizontalPodAutoscaler" => object.is_of("autoscaling"),
            "ScaledObject" => object.is_of("keda.sh"),
            _ => false,
        };
        known.then_some(Autoscaler { object })
    }

    /// The field with the smallest number of replicas.
    #[must_use]
    pub fn least_field(&self) -> &'static str {
        if self.is_keda() { "minReplicaCount" } else { "minReplicas" }
    }

    fn is_keda(&self) -> bool {
        self.object.kind == "ScaledObject"
    }

    fn scales(&self, workload: Object<'_>) -> bool {
        let target = |key| self.object.node.at(&["spec", "scaleTargetRef", key]).and_then(Node::scalar);
        // KEDA takes a Deployment where no kind is written.
        target("kind").unwrap_or("Deployment") == workload.kind
            && target("name") == Some(workload.name())
            && self.object.may_share_namespace(workload)
    }

    /// Its range; scaled to zero there is nothing to evict.
    fn replicas(self) -> Replicas<'a> {
        let number = |key: &str| self.object.node.at(&["spec", key]).and_then(Node::number);
        // Without a maximum, KEDA takes 100; a HorizontalPodAutoscaler needs one.
        let most = number(if self.is_keda() { "maxReplicaCount" } else { "maxReplicas" }).unwrap_or(100);
        let least = number(self.least_field()).unwrap_or(1).max(1);
        Replicas { least, most: most.max(least), from: Source::Autoscaler(self) }
    }
}

impl<'a> Replicas<'a> {
    /// None: objects of this kind do not say it.
    #[must_use]
    pub fn of(template: &Template<'a>, autoscalers: &[Autoscaler<'a>]) -> Option<Replicas<'a>> {
        let workload = template.object;
        if !matches!(workload.kind, "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController") {
            return None;
        }
        let written = workload.node.at(&["spec", "replicas"]).and_then(Node::number);
        let autoscaler = autoscalers.iter().find(|a| a.scales(workload));
        Some(match (autoscaler, written) {
            // A HorizontalPodAutoscaler leaves what is at zero alone.
            (Some(autoscaler), written) if written != Some(0) || autoscaler.is_keda() => autoscaler.replicas(),
            (_, Some(count)) => Replicas { least: count, most: count, from: Source::Written },
            (_, None) => Replicas { least: 1, most: 1, from: Source::Assumed },
        })
    }
}
