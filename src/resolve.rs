//! Container ids → open cgroup directories.
//!
//! The id is matched in the directory's name, whatever the runtime and the driver put around it;
//! no path is ever built from the pod's uid. One bounded walk serves all that is wanted.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::cgroup::{Group, Hierarchy, Machine, ReadError};
use crate::pods::{ContainerId, PodUid};
use crate::units::Bytes;

/// The deepest shape known is 8 levels below the memory root (kind seen from the host); systemd
/// inside containers nests further, but below a container nothing is looked for.
const MAX_DEPTH: usize = 16;
/// A node of 250 pods has about 2,000 memory groups; nested systemds and leftovers add some.
const MAX_DIRS: usize = 50_000;

/// What is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The pod's uid.
    pub pod: PodUid,
    /// What a static pod's group is named after instead.
    pub config_hash: Option<String>,
    /// The container; none: the pod's own group.
    pub container: Option<ContainerId>,
    /// The pod's group may stand for the container: it is the only guarded one, or all are.
    pub pod_may_stand_for_it: bool,
    /// It runs long enough that an own group would be charged by now.
    pub settled: bool,
    /// The pod has a runtime class, and this container never had a group of its own: it may have
    /// none. Otherwise a missing group is one that is gone, or not there yet.
    pub may_have_none: bool,
}

/// Open groups of a target.
#[derive(Clone, Debug)]
pub struct Groups {
    /// What is judged.
    pub own: Arc<Group>,
    /// The pod's group above it, where there is one.
    pub pod: Option<Arc<Group>>,
    /// `own` is the pod's group: the runtime charges the container's memory there (Kata, gVisor).
    pub stands_for_container: bool,
}

/// Why nothing was found.
#[derive(Debug, Error)]
pub enum Unresolved {
    /// No group has the container's id in its name: not yet, or not any more.
    #[error("no cgroup of this container (yet)")]
    NotFound,
    /// The pod has a group, the container none that is charged (Kata, gVisor), and several
    /// containers share it.
    #[error(
        "its memory is charged to the pod's cgroup, as Kata and gVisor do, and it cannot be told from the pod's other containers there: guard a single container, or \"*\""
    )]
    ChargedToPod,
    /// The walk met its bound before the group.
    #[error("not among the first {MAX_DIRS} cgroups")]
    TooMany,
    /// The group is there and cannot be opened.
    #[error("{0}")]
    Unreadable(#[from] ReadError),
}

/// Finds and opens the groups of all `wants`, in their order.
pub fn resolve(hierarchy: &Hierarchy, machine: Machine, wants: &[Want]) -> Vec<Result<Groups, Unresolved>> {
    let found = walk(&hierarchy.root, wants);
    let mut opened: HashMap<PathBuf, Arc<Group>> = HashMap::new();
    let mut open = |dir: &Path| -> Result<Option<Arc<Group>>, ReadError> {
        if let Some(group) = opened.get(dir) {
            return Ok(Some(Arc::clone(group)));
        }
        let group = Group::open(dir, hierarchy.version, machine)?.map(Arc::new);
        if let Some(group) = &group {
            opened.insert(dir.to_owned(), Arc::clone(group));
        }
        Ok(group)
    };
    let mut one = |want: &Want| -> Result<Groups, Unresolved> {
        let pod_dir = found.pods.get(&want.pod);
        let Some(id) = &want.container else {
            let dir = pod_dir.ok_or(found.missing())?;
            return Ok(Groups { own: open(dir)?.ok_or(Unresolved::NotFound)?, pod: None, stands_for_container: false });
        };
        let own = match found.containers.get(id) {
            Some(place) => open(&place.dir)?.map(|own| (place, own)),
            None => None,
        };
        let charged_elsewhere = match &own {
            Some((_, own)) => want.settled && own.usage()? == Some(Bytes(0)),
            None => want.settled && want.may_have_none,
        };
        if let Some((place, own)) = own
            && !charged_elsewhere
        {
            let pod = if place.in_pod_group { place.dir.parent().map(&mut open).transpose()?.flatten() } else { None };
            return Ok(Groups { own, pod, stands_for_container: false });
        }
        match pod_dir {
            Some(dir) if charged_elsewhere => {
                if !want.pod_may_stand_for_it {
                    return Err(Unresolved::ChargedToPod);
                }
                Ok(Groups { own: open(dir)?.ok_or(Unresolved::NotFound)?, pod: None, stands_for_container: true })
            }
            _ => Err(found.missing()),
        }
    };
    wants.iter().map(&mut one).collect()
}

#[derive(Debug)]
struct Place {
    dir: PathBuf,
    /// The directory above is named after the pod.
    in_pod_group: bool,
}

#[derive(Debug, Default)]
struct Found {
    containers: HashMap<ContainerId, Place>,
    pods: HashMap<PodUid, PathBuf>,
    truncated: bool,
}

impl Found {
    fn missing(&self) -> Unresolved {
        if self.truncated { Unresolved::TooMany } else { Unresolved::NotFound }
    }
}

/// Walks the tree level by level, so that of two directories with the same id the one nearer to
/// the top is met first: a container that makes groups of its own inside cannot pass one off as
/// another container's.
fn walk(root: &Path, wants: &[Want]) -> Found {
    let ids: HashMap<&str, &ContainerId> =
        (wants.iter()).filter_map(|w| w.container.as_ref()).map(|id| (id.as_str(), id)).collect();
    let mut pods: HashMap<&str, &PodUid> = HashMap::new();
    pods.extend(wants.iter().map(|w| (w.pod.0.as_str(), &w.pod)));
    for want in wants {
        // An annotation that anyone can write: never in place of another pod's uid.
        if let Some(hash) = &want.config_hash {
            pods.entry(hash).or_insert(&want.pod);
        }
    }
    let mut found = Found::default();
    let mut queue = VecDeque::from([(root.to_owned(), 0)]);
    let mut seen = 0;
    while let Some((dir, depth)) = queue.pop_front() {
        let all = found.containers.len() == ids.len() && wants.iter().all(|w| found.pods.contains_key(&w.pod));
        if all {
            break;
        }
        // A group that goes away while we walk is simply not there.
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        let dir_pod = named_pod(&dir, &pods);
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            seen += 1;
            if seen > MAX_DIRS {
                found.truncated = true;
                return found;
            }
            let path = entry.path();
            let name = entry.file_name();
            let id = (name.to_str()).and_then(id_in_name).and_then(|id| ids.get(id));
            if let Some(id) = id {
                found.containers.entry((*id).clone()).or_insert(Place { dir: path, in_pod_group: dir_pod.is_some() });
                continue;
            }
            if let Some(pod) = named_pod(&path, &pods) {
                found.pods.entry(pod.clone()).or_insert_with(|| path.clone());
            }
            if depth + 1 < MAX_DEPTH {
                queue.push_back((path, depth + 1));
            }
        }
    }
    found
}

/// The container id that a directory's name ends in: alone, or behind `cri-containerd-`, `crio-`,
/// `docker-`, `….slice:cri-containerd:`, with or without `.scope`. CRI-O's monitor is not one.
fn id_in_name(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".scope").unwrap_or(name);
    let (prefix, id) = stem.split_at_checked(stem.len().checked_sub(ContainerId::LENGTH)?)?;
    let separated = prefix.is_empty() || prefix.ends_with(['-', ':']);
    (separated && !prefix.ends_with("conmon-")).then_some(id)
}

/// The wanted pod that a directory is named after: `pod<uid>`, or `…-pod<uid>.slice` where systemd
/// writes `_` for `-`. The uid's shape does not matter.
fn named_pod<'a>(dir: &Path, pods: &HashMap<&str, &'a PodUid>) -> Option<&'a PodUid> {
    let name = dir.file_name()?.to_str()?;
    let stem = name.strip_suffix(".slice").unwrap_or(name);
    let (prefix, uid) = stem.rsplit_once("pod")?;
    if !prefix.is_empty() && !prefix.ends_with('-') {
        return None;
    }
    (pods.get(uid)).or_else(|| pods.get(uid.replace('_', "-").as_str())).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "50912613d370dabbf82e7ad771f576efe6335c771634b4dfd8ead4aed3909d41";

    #[test]
    fn names_that_hold_an_id() {
        for name in [
            ID.to_owned(),
            format!("cri-containerd-{ID}.scope"),
            format!("crio-{ID}.scope"),
            format!("crio-{ID}"),
            format!("docker-{ID}.scope"),
            format!("kubepods-burstable-pod1_2.slice:cri-containerd:{ID}"),
        ] {
            assert_eq!(id_in_name(&name), Some(ID), "{name}");
        }
        for name in [
            format!("crio-conmon-{ID}.scope"),
            format!("crio-conmon-{ID}"),
            format!("0{ID}"),
            format!("run-{ID}.mount"),
            format!("{}é{}", &ID[..32], &ID[..31]),
            "init.scope".to_owned(),
            String::new(),
        ] {
            assert_ne!(id_in_name(&name), Some(ID), "{name}");
        }
    }

    #[test]
    fn names_that_hold_a_uid() {
        let uid = PodUid("aea56c47-06fc-4784-bd27-9fb88a89f1d8".into());
        let pods = HashMap::from([(uid.0.as_str(), &uid)]);
        for name in [
            "podaea56c47-06fc-4784-bd27-9fb88a89f1d8",
            "kubepods-podaea56c47_06fc_4784_bd27_9fb88a89f1d8.slice",
            "a-b-kubepods-besteffort-podaea56c47_06fc_4784_bd27_9fb88a89f1d8.slice",
        ] {
            assert_eq!(named_pod(Path::new(name), &pods), Some(&uid), "{name}");
        }
        for name in ["xpodaea56c47-06fc-4784-bd27-9fb88a89f1d8", "aea56c47-06fc-4784-bd27-9fb88a89f1d8", "pod", "/"] {
            assert_eq!(named_pod(Path::new(name), &pods), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_survived(name in "\\PC{0,100}") {
            let uid = PodUid(name.clone());
            let pods = HashMap::from([(uid.0.as_str(), &uid)]);
            let _ = (id_in_name(&name), named_pod(Path::new(&name), &pods));
        }
    }
}
