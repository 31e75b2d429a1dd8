//! How far a raise goes, within all its bounds, and the smallest change that restarts a container. Pure.

use super::ladder::{Allowed, Latencies, NotPossible, REACTION};
use crate::ground::memory::{NodeMemory, Sample};
use crate::ground::units::{Bytes, Percent};
use crate::pods::guard::{Raise, Remedy};
use crate::pods::{Container, ContainerKind, Pod};

/// A raise by less than this part of the step that was wanted is not worth a request.
const LEAST_PART: u64 = 4;
/// Limits are written in whole units of this, as people write them.
const UNIT: Bytes = Bytes::MIB;
/// A restart changes the limit by this much. It is the smallest change, and each restart makes a limit that was not used
/// before: the kubelet keeps its back-off by the resources (measured).
const RESTART_STEP: Bytes = Bytes(1);

/// A change of a container's memory, as `PATCH pods/resize` carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resize {
    pub container: String,
    /// It is in `spec.initContainers`.
    pub sidecar: bool,
    pub limit: Bytes,
    /// The request, where it has to change with the limit (Guaranteed).
    pub request: Option<Bytes>,
}

/// What a raise takes into account.
#[derive(Clone, Copy, Debug)]
pub struct RaiseInputs {
    pub raise: Raise,
    /// See [`worst_growth`].
    pub growth: u64,
    /// What the signal has to fall below, as a share of the limit.
    pub threshold: Percent,
    /// What the container holds now, by its signal.
    pub value: Bytes,
    /// The limit that the kernel has. It is above that of the spec where a lowering has failed, which a raise must not carry out.
    pub kernel: Option<Bytes>,
    pub node: NodeMargin,
}

/// By how much the limits of a node may still be raised, and what keeps them from more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMargin {
    pub bytes: Bytes,
    pub limit: NodeLimit,
}

/// What keeps a node from raising further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeLimit {
    Budget,
    Reserve,
    Unknown,
    OtherMachine,
}

impl From<NodeLimit> for NotPossible {
    fn from(limit: NodeLimit) -> NotPossible {
        match limit {
            NodeLimit::Budget => NotPossible::Budget,
            NodeLimit::Reserve => NotPossible::Reserve,
            NodeLimit::Unknown => NotPossible::NodeUnknown,
            NodeLimit::OtherMachine => NotPossible::OtherMachine,
        }
    }
}

/// `raised`: the sum of all raises so far. `used`: what the guarded containers use; a machine with less memory than that is
/// another's view.
#[must_use]
pub fn node_margin(allowed: &Allowed, memory: Option<NodeMemory>, raised: Bytes, used: Bytes) -> NodeMargin {
    let none = |limit| NodeMargin { bytes: Bytes(0), limit };
    let Some(memory) = memory else { return none(NodeLimit::Unknown) };
    if memory.total < used {
        return none(NodeLimit::OtherMachine);
    }
    let budget = allowed.raise_budget.of(memory.total).less(raised);
    let free = memory.available.less(allowed.raise_reserve.of(memory.total));
    match budget <= free {
        true => NodeMargin { bytes: budget, limit: NodeLimit::Budget },
        false => NodeMargin { bytes: free, limit: NodeLimit::Reserve },
    }
}

/// The raise of a container's limit; it gives as much as the growth that was seen needs, within all bounds.
///
/// # Errors
/// Why the limit cannot be raised.
pub fn raise(
    pod: &Pod,
    container: &Container,
    inputs: &RaiseInputs,
    latencies: &Latencies,
) -> Result<Resize, NotPossible> {
    let spec = resizable(container)?;
    let limit = spec.max(inputs.kernel.unwrap_or_default());
    if container.memory.restarts {
        return Err(NotPossible::WouldRestart);
    }
    let most = pod.limit.map_or(inputs.raise.to, |pods| pods.min(inputs.raise.to));
    if limit >= most {
        return Err(if limit >= inputs.raise.to { NotPossible::AtBound } else { NotPossible::PodLimit });
    }
    let wanted = wanted_step(limit, inputs, latencies).min(most.less(limit));
    // Spec and kernel differ while a resize is under way, or before the watch has shown it. The node's memory is that of the
    // kernel's limits, and its budget that of the specs: the difference is missing from one of the two.
    let difference = inputs.kernel.map_or(Bytes(0), |kernel| Bytes(kernel.0.abs_diff(spec.0)));
    let step = wanted.min(inputs.node.bytes.less(difference));
    if step < Bytes((wanted.0 / LEAST_PART).max(1)) {
        return Err(inputs.node.limit.into());
    }
    let raised = limit.plus(step);
    let whole = Bytes(raised.0 / UNIT.0 * UNIT.0);
    Ok(resize(pod, container, if whole > limit { whole } else { raised }))
}

/// How far the limit should go up: by the share that the user wrote; at least so far that the container is below its
/// threshold again, and that another raise and the remedy after it would be in time there.
fn wanted_step(limit: Bytes, inputs: &RaiseInputs, latencies: &Latencies) -> Bytes {
    let by = inputs.raise.by.of(limit);
    let below_again = inputs.threshold.whole_of(inputs.value).plus(UNIT).less(limit);
    let next = latencies.of(Remedy::Raise) + latencies.of(Remedy::Evict) + 2 * REACTION;
    by.max(below_again).max(Bytes::at_rate(inputs.growth, next)).max(UNIT)
}

/// The smallest change of a container's memory, which restarts it. `kernel`: the limit in effect, below which it never goes.
///
/// # Errors
/// Why it would not be restarted.
pub fn restart(pod: &Pod, container: &Container, kernel: Bytes) -> Result<Resize, NotPossible> {
    let limit = resizable(container)?.max(kernel);
    if !container.memory.restarts {
        return Err(NotPossible::WouldNotRestart);
    }
    if pod.never_restarted || container.memory.never_restarted {
        return Err(NotPossible::NeverRestarted);
    }
    Ok(resize(pod, container, limit.plus(RESTART_STEP)))
}

/// Shared memory is most of what it holds: a restart does not free it.
#[must_use]
pub fn is_shared(sample: &Sample) -> bool {
    sample.own.stat.is_some_and(|stat| stat.shmem.times(2) > sample.own.net_usage())
}

/// The limit of a container that can be resized.
fn resizable(container: &Container) -> Result<Bytes, NotPossible> {
    match container.kind {
        ContainerKind::Main | ContainerKind::Sidecar => container.memory.limit.ok_or(NotPossible::NoLimit),
        ContainerKind::Init | ContainerKind::Ephemeral => Err(NotPossible::Ephemeral),
    }
}

fn resize(pod: &Pod, container: &Container, limit: Bytes) -> Resize {
    let memory = container.memory;
    let moves = pod.guaranteed && memory.request == memory.limit;
    Resize {
        container: container.name.clone(),
        sidecar: container.kind == ContainerKind::Sidecar,
        limit,
        // A limit without a request would get one from the server.
        request: moves.then_some(limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::judge::tests::MIB;
    use crate::decide::ladder::tests::MEASURED;
    use proptest::prelude::*;

    /// A pod with one container of this limit, which asks for half of it.
    fn pod(limit: u64) -> (Pod, Container) {
        let text = format!(
            r#"{{"metadata": {{"name": "p"}}, "spec": {{"containers": [{{"name": "app", "resources": {{
                "limits": {{"memory": "{limit}Mi"}}, "requests": {{"memory": "{}Mi"}}}}}}]}}}}"#,
            limit / 2
        );
        let pod = Pod::from_json(&text).unwrap();
        let container = pod.containers[0].clone();
        (pod, container)
    }

    fn inputs(to: u64) -> RaiseInputs {
        RaiseInputs {
            raise: Raise { to: Bytes(to * MIB), by: Percent::parse("25").unwrap() },
            growth: 0,
            threshold: Percent::parse("60").unwrap(),
            value: Bytes(154 * MIB),
            kernel: Some(Bytes(256 * MIB)),
            node: NodeMargin { bytes: Bytes(4096 * MIB), limit: NodeLimit::Budget },
        }
    }

    fn raised(pod: &(Pod, Container), inputs: &RaiseInputs) -> Result<u64, NotPossible> {
        raise(&pod.0, &pod.1, inputs, &MEASURED).map(|resize| {
            assert_eq!(resize.limit.0 % MIB, 0);
            resize.limit.0 / MIB
        })
    }

    #[test]
    fn a_raise_goes_as_far_as_it_has_to_and_may() {
        let pod = pod(256);
        let usual = inputs(1024);
        assert_eq!(raised(&pod, &usual), Ok(320), "a quarter");
        assert_eq!(
            raised(&pod, &RaiseInputs { value: Bytes(240 * MIB), ..usual }),
            Ok(401),
            "60 % of it are above 240"
        );
        let fast = RaiseInputs { growth: 1024 * MIB, ..usual };
        assert_eq!(
            raised(&pod, &fast),
            Ok(256 + 266),
            "another raise takes 70, the eviction after it 160, and 15 each"
        );
        assert_eq!(raised(&pod, &inputs(300)), Ok(300), "no further than the bound");
        assert_eq!(raised(&pod, &inputs(256)), Err(NotPossible::AtBound));
        let lowered = RaiseInputs { kernel: Some(Bytes(512 * MIB)), ..usual };
        assert_eq!(raised(&pod, &lowered), Ok(640), "the kernel has more than the spec: a lowering that failed");
        let unseen = RaiseInputs {
            kernel: Some(Bytes(200 * MIB)),
            node: NodeMargin { bytes: Bytes(100 * MIB), ..usual.node },
            ..usual
        };
        assert_eq!(
            raised(&pod, &unseen),
            Ok(300),
            "the kernel has less than the spec that is known, and gets 100 more"
        );
        let unseen = RaiseInputs { kernel: Some(Bytes(300 * MIB)), ..unseen };
        assert_eq!(raised(&pod, &unseen), Ok(356), "the kernel has more, which the node's sum lacks");
        let node = |bytes: u64, limit| RaiseInputs { node: NodeMargin { bytes: Bytes(bytes * MIB), limit }, ..usual };
        assert_eq!(raised(&pod, &node(20, NodeLimit::Budget)), Ok(276), "no further than the node can");
        assert_eq!(
            raised(&pod, &node(15, NodeLimit::Budget)),
            Err(NotPossible::Budget),
            "less than a quarter of the step"
        );
        assert_eq!(raised(&pod, &node(0, NodeLimit::Reserve)), Err(NotPossible::Reserve));
        assert_eq!(raised(&pod, &node(0, NodeLimit::Unknown)), Err(NotPossible::NodeUnknown));
    }

    #[test]
    fn the_pods_own_limit_bounds_it_too() {
        let mut pod = pod(256);
        pod.0.limit = Some(Bytes(300 * MIB));
        assert_eq!(raised(&pod, &inputs(1024)), Ok(300));
        pod.0.limit = Some(Bytes(256 * MIB));
        assert_eq!(raised(&pod, &inputs(1024)), Err(NotPossible::PodLimit));
    }

    #[test]
    fn the_request_goes_along_only_where_it_has_to() {
        let mut pod = pod(256);
        let request = |pod: &(Pod, Container)| raise(&pod.0, &pod.1, &inputs(1024), &MEASURED).unwrap().request;
        assert_eq!(request(&pod), None);
        (pod.0.guaranteed, pod.1.memory.request) = (true, pod.1.memory.limit);
        assert_eq!(request(&pod), Some(Bytes(320 * MIB)));
        pod.1.memory.restarts = true;
        let again = restart(&pod.0, &pod.1, Bytes(0)).unwrap();
        assert_eq!((again.limit, again.request), (Bytes(256 * MIB + 1), Some(Bytes(256 * MIB + 1))));
    }

    /// Never both: the policy was set when the container was made.
    #[test]
    fn the_resize_policy_decides_which_of_the_two_is_possible() {
        let mut pod = pod(256);
        assert_eq!(restart(&pod.0, &pod.1, Bytes(0)), Err(NotPossible::WouldNotRestart));
        pod.1.memory.restarts = true;
        assert_eq!(raised(&pod, &inputs(1024)), Err(NotPossible::WouldRestart));
        pod.1.memory.never_restarted = true;
        assert_eq!(restart(&pod.0, &pod.1, Bytes(0)), Err(NotPossible::NeverRestarted));
        (pod.1.memory.never_restarted, pod.0.never_restarted) = (false, true);
        assert_eq!(restart(&pod.0, &pod.1, Bytes(0)), Err(NotPossible::NeverRestarted));
        pod.1.memory.limit = None;
        assert_eq!(restart(&pod.0, &pod.1, Bytes(0)), Err(NotPossible::NoLimit));
        pod.1.kind = ContainerKind::Ephemeral;
        assert_eq!(raised(&pod, &inputs(1024)), Err(NotPossible::Ephemeral));
    }

    #[test]
    fn the_node_keeps_a_reserve_and_a_budget() {
        let memory = NodeMemory { total: Bytes(1000), available: Bytes(500) };
        let margin = |memory, raised, used| node_margin(&Allowed::default(), memory, Bytes(raised), Bytes(used));
        let is = |bytes: u64, limit| NodeMargin { bytes: Bytes(bytes), limit };
        assert_eq!(margin(Some(memory), 0, 0), is(100, NodeLimit::Budget));
        assert_eq!(margin(Some(memory), 70, 0), is(30, NodeLimit::Budget));
        assert_eq!(margin(Some(memory), 170, 0), is(0, NodeLimit::Budget));
        let full = NodeMemory { available: Bytes(120), ..memory };
        assert_eq!(margin(Some(full), 0, 1000), is(20, NodeLimit::Reserve));
        assert_eq!(margin(Some(NodeMemory { available: Bytes(99), ..memory }), 0, 0), is(0, NodeLimit::Reserve));
        assert_eq!(margin(Some(memory), 0, 1001), is(0, NodeLimit::OtherMachine));
        assert_eq!(margin(None, 0, 0), is(0, NodeLimit::Unknown));
    }

    proptest! {
        #[test]
        fn a_raise_only_raises_and_never_beyond_a_bound(
            limit in 1u64..1 << 50, to in 1u64..1 << 51, value: u64, growth: u64, node in 0u64..1 << 50, kernel in 0u64..1 << 50, pods in prop::option::of(1u64..1 << 51),
        ) {
            let (mut pod, mut container) = pod(256);
            container.memory.limit = Some(Bytes(limit));
            pod.limit = pods.map(Bytes);
            let inputs = RaiseInputs {
                raise: Raise { to: Bytes(to), by: Percent::TEN }, growth, value: Bytes(value), kernel: Some(Bytes(kernel)),
                node: NodeMargin { bytes: Bytes(node), limit: NodeLimit::Budget }, ..inputs(1)
            };
            if let Ok(resize) = raise(&pod, &container, &inputs, &MEASURED) {
                let new = resize.limit.0;
                prop_assert!(new > limit && new > kernel && new <= to && new - kernel <= node && pods.is_none_or(|pods| new <= pods));
            }
        }
    }
}
