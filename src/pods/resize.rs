//! What resizing a container needs to know: the JSON of `resources`, `resizePolicy` and `managedFields`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::bounded::nullable;
use super::pod::Resized;
use crate::ground::keys::FIELD_MANAGER;
use crate::ground::units::{Bytes, parse_memory};

/// Two exist: for `cpu` and for `memory`.
pub(super) const MOST_POLICIES: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawResources {
    #[serde(deserialize_with = "nullable")]
    pub(super) limits: RawAmounts,
    #[serde(deserialize_with = "nullable")]
    pub(super) requests: RawAmounts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawAmounts {
    pub(super) memory: Amount,
}

/// An amount of memory. What is absent, 0 (to the kubelet, that is none) or no amount is `None`: the kernel's limit counts, and
/// this one is only what a resize would change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount(pub(super) Option<Bytes>);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written<'a> {
            Text(#[serde(borrow)] Cow<'a, str>),
            Number(u64),
            Other(IgnoredAny),
        }
        let bytes = match Written::deserialize(deserializer)? {
            Written::Text(text) => parse_memory(&text).ok(),
            Written::Number(bytes) => Some(Bytes(bytes)),
            Written::Other(_) => None,
        };
        Ok(Amount(bytes.filter(|bytes| *bytes > Bytes(0))))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawResizePolicy {
    resource_name: String,
    restart_policy: String,
}

impl RawResizePolicy {
    /// Any change of memory restarts the container.
    pub(super) fn restarts(&self) -> bool {
        self.resource_name == "memory" && self.restart_policy == "RestartContainer"
    }
}

/// Of `metadata.managedFields`, whether the pod was resized, and by whom. The list is read without being kept: each entry
/// names all fields that its manager set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Managers(pub(super) Resized);

impl<'de> Deserialize<'de> for Managers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Entry<'a> {
            #[serde(borrow)]
            manager: Option<Cow<'a, str>>,
            #[serde(borrow)]
            subresource: Option<Cow<'a, str>>,
        }
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = Managers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Managers, A::Error> {
                let mut resized = Resized::Never;
                while let Some(entry) = seq.next_element::<Entry<'_>>()? {
                    if entry.subresource.as_deref() == Some("resize") {
                        let ours = entry.manager.as_deref() == Some(FIELD_MANAGER);
                        resized = resized.max(if ours { Resized::ByUs } else { Resized::ByOthers });
                    }
                }
                Ok(Managers(resized))
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

#[cfg(test)]
mod tests {
    use crate::ground::units::Bytes;
    use crate::pods::{Pod, Resized, Resources};
    use serde_json::json;

    const MIB: u64 = 1 << 20;

    fn pod(spec: &serde_json::Value, managers: &serde_json::Value) -> Pod {
        let pod = json!({"metadata": {"name": "a", "generation": 3, "managedFields": managers}, "spec": spec,
            "status": {"qosClass": "Guaranteed", "podIP": "10.88.0.7"}});
        let pod = Pod::from_json(&pod.to_string()).unwrap();
        assert_eq!(pod.unreadable, Vec::<String>::new());
        pod
    }

    #[test]
    fn what_the_spec_says_of_memory() {
        let resources =
            |container: serde_json::Value| pod(&json!({"containers": [container]}), &json!(null)).containers[0].memory;
        let all = resources(json!({"name": "c", "restartPolicy": "Never",
            "resources": {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"memory": "1e6"}},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
                {"resourceName": "memory", "restartPolicy": "RestartContainer"}]}));
        let expected = Resources {
            limit: Some(Bytes(256 * MIB)),
            request: Some(Bytes(1_000_000)),
            restarts: true,
            never_restarted: true,
        };
        assert_eq!(all, expected);
        for none in [json!({"name": "c"}), json!({"name": "c", "resources": null, "resizePolicy": null})] {
            assert_eq!(resources(none), Resources::default());
        }
        let cpu = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
        for (memory, limit) in [
            (json!("0"), None),
            (json!(0), None),
            (json!(268_435_456), Some(256 * MIB)),
            (json!("much"), None),
            (json!(["1Gi"]), None),
            (json!(null), None),
        ] {
            let read =
                resources(json!({"name": "c", "resources": {"limits": {"memory": memory}}, "resizePolicy": cpu}));
            assert_eq!(read, Resources { limit: limit.map(Bytes), ..Resources::default() }, "{memory}");
        }
    }

    #[test]
    fn of_the_pod_as_a_whole() {
        let spec = json!({"containers": [], "restartPolicy": "Never", "resources": {"limits": {"memory": "1Gi"}}});
        let read = pod(&spec, &json!([]));
        assert_eq!((read.limit, read.never_restarted, read.guaranteed), (Some(Bytes(1024 * MIB)), true, true));
        assert_eq!((read.generation, read.ip), (3, Some([10, 88, 0, 7].into())));
        let read = pod(&json!({"containers": [], "hostNetwork": true}), &json!([]));
        assert_eq!((read.limit, read.never_restarted, read.host_network), (None, false, true));
    }

    #[test]
    fn who_has_resized_it() {
        let by = |managers: serde_json::Value| pod(&json!({"containers": []}), &managers).resized;
        let entry =
            |manager: &str, of: &str| json!({"manager": manager, "subresource": of, "fieldsV1": {"f:spec": {}}});
        assert_eq!(by(json!([{"manager": "pre-oom-killer"}, entry("kubelet", "status")])), Resized::Never);
        assert_eq!(by(json!([entry("vpa", "resize")])), Resized::ByOthers);
        assert_eq!(by(json!([entry("pre-oom-killer", "resize"), entry("vpa", "resize")])), Resized::ByUs);
    }
}
