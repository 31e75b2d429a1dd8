//! What is left to do of a pod's resizes: where its spec and its status differ.

use crate::cgroups::Group;
use crate::quantity;
use crate::resize_rules::same;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A limit that is none: cgroup v1 prints one near 2^63.
const NO_LIMIT: u64 = 1 << 62;
const LISTS: [(&str, &str); 2] = [("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")];

/// All that is left to do in a pod.
#[derive(Debug)]
pub(crate) struct Plan {
    pub generation: Value,
    pub changes: Vec<Change>,
    /// The pod's own `resources`, if it has any, and whether they have changed.
    pub pod: Option<(Value, bool)>,
    pod_dir: Option<PathBuf>,
}

/// What is left to do in one container.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Where its status is.
    pub statuses: &'static str,
    pub name: String,
    pub id: String,
    pub dir: Option<PathBuf>,
    /// As they are to be.
    pub resources: Value,
    /// The memory limits that hold for it, in bytes: before and after.
    pub limit: [Option<u64>; 2],
    /// It has to be started anew for it.
    pub restarts: bool,
}

impl Plan {
    /// `dirs`: the groups of the pod's containers, as attached.
    pub(crate) fn of(pod: &Value, dirs: &[PathBuf]) -> Plan {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let own = Some(&spec["resources"]).filter(|own| own.as_object().is_some_and(|own| !own.is_empty()));
        let pod_level = own.map(|own| (own.clone(), !same(&status["resources"], own)));
        let base = match own {
            Some(own) => [memory(&status["resources"]), memory(own)],
            None => [None, None],
        };
        let mut changes = Vec::new();
        for (list, statuses) in LISTS {
            for container in spec[list].as_array().into_iter().flatten() {
                let mut all = status[statuses].as_array().into_iter().flatten();
                if let Some(status) = all.find(|status| status["name"] == container["name"]) {
                    changes.extend(Change::of(container, status, statuses, base, dirs));
                }
            }
        }
        Plan {
            generation: pod["metadata"]["generation"].clone(),
            changes,
            pod: pod_level,
            pod_dir: pod_dir(pod, dirs).map(Path::to_owned),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.pod.as_ref().is_some_and(|(_, changed)| *changed)
    }

    /// The pod's group, and its limit in bytes before and after; `None` if it has no limit.
    pub(crate) fn pod_group(&self) -> Option<(Group, u64, u64)> {
        let group = Group::at(self.pod_dir.as_deref()?)?;
        let before = group.limit().filter(|limit| *limit < NO_LIMIT)?;
        let after = match &self.pod {
            Some((own, _)) => memory(own)?,
            // The sum of its containers' limits: it changes as they do.
            None => self.changes.iter().fold(before, |sum, change| match change.limit {
                [Some(old), Some(new)] => (sum + new).saturating_sub(old),
                _ => sum,
            }),
        };
        Some((group, before, after))
    }

    /// What is in the way of a lowering, in the kubelet's words (resize-pod-lowered-error.json); `None` if nothing is.
    pub(crate) fn refusal(&self) -> Option<String> {
        let mut refusals = Vec::new();
        if let Some((group, before, after)) = self.pod_group()
            && let Some(usage) = group.usage().filter(|usage| after < before && *usage > after)
        {
            refusals.push(format!("attempting to set pod memory limit ({after}) below current usage ({usage})"));
        }
        for change in self.changes.iter().filter(|change| change.limit[1] < change.limit[0]) {
            let (Some(limit), Some(group)) = (change.limit[1], change.group()) else {
                continue;
            };
            if let Some(usage) = group.usage().filter(|usage| *usage > limit) {
                let name = &change.name;
                let text = format!(
                    "attempting to set container {name:?} memory limit ({limit}) below current usage ({usage})"
                );
                refusals.push(text);
            }
        }
        let text = if refusals.len() == 1 { refusals.concat() } else { format!("[{}]", refusals.join(", ")) };
        (!refusals.is_empty()).then(|| format!("cannot decrease memory limits: {text}"))
    }
}

impl Change {
    /// `None` if nothing is left to do, or nothing can be done yet.
    fn of(
        container: &Value,
        status: &Value,
        statuses: &'static str,
        pod: [Option<u64>; 2],
        dirs: &[PathBuf],
    ) -> Option<Change> {
        let id = status["containerID"].as_str()?.rsplit('/').next().unwrap_or_default().to_owned();
        let runs = status["state"]["running"].is_object();
        if !runs && !status["state"]["terminated"].is_object() {
            return None;
        }
        let (old, new) = (&status["resources"], &container["resources"]);
        let limit = [memory(old).or(pod[0]), memory(new).or(pod[1])];
        if same(old, new) && limit[0] == limit[1] {
            return None;
        }
        let request = |of: &Value| quantity::bytes_of(&of["requests"]["memory"]);
        let memory_changed = limit[0] != limit[1] || request(old) != request(new);
        let mut policies = container["resizePolicy"].as_array().into_iter().flatten();
        let on_restart =
            policies.any(|policy| policy["resourceName"] == "memory" && policy["restartPolicy"] == "RestartContainer");
        let mut named = dirs.iter().filter(|dir| has_name(dir, &id));
        let only = dirs.first().filter(|_| dirs.len() == 1);
        Some(Change {
            statuses,
            name: container["name"].as_str()?.to_owned(),
            dir: named.next().or(only).filter(|_| runs).cloned(),
            id,
            resources: new.clone(),
            limit,
            restarts: runs && memory_changed && on_restart,
        })
    }

    pub(crate) fn group(&self) -> Option<Group> {
        Group::at(self.dir.as_deref()?)
    }
}

/// The memory limit of these `resources`, in bytes.
fn memory(resources: &Value) -> Option<u64> {
    quantity::bytes_of(&resources["limits"]["memory"])
}

/// The drivers name a container's group by its id, with or without something around it.
fn has_name(dir: &Path, id: &str) -> bool {
    dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(id))
}

/// The pod's group is the parent of its containers'; its name has the uid in it (systemd's driver writes `_` for `-`).
fn pod_dir<'a>(pod: &Value, dirs: &'a [PathBuf]) -> Option<&'a Path> {
    let uid = pod["metadata"]["uid"].as_str()?;
    let parents = dirs.iter().filter_map(|dir| dir.parent());
    parents.into_iter().find(|dir| has_name(dir, uid) || has_name(dir, &uid.replace('-', "_")))
}
