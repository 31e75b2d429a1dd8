//! Container ids → open cgroup directories.
//!
//! The id is matched in the directory's name, whatever runtime and driver put around it. No path is built from the
//! pod's uid. One bounded walk finds everything that is wanted.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::error::ReadError;
use super::group::{Group, Machine};
use super::hierarchy::Hierarchy;
use crate::ground::units::Bytes;
use crate::pods::{ContainerId, PodUid};

/// The deepest known shape is 8 levels below the memory root (kind seen from the host). systemd inside containers nests
/// deeper, but the walk does not descend into containers.
const MAX_DEPTH: usize = 16;
/// A node of 250 pods has about 2,000 memory groups; nested systemds and leftovers add some.
const MAX_DIRS: usize = 50_000;

/// A group to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub pod: PodUid,
    /// The container; `None` asks for the pod's own group.
    pub container: Option<ContainerId>,
    /// The pod's group may stand for the container, because the container is the only guarded one or all are guarded.
    pub pod_may_stand_for_it: bool,
    /// The pod has a runtime class, and this container never had a charged group of its own, so it may have none.
    /// Otherwise a missing group is gone, or not there yet.
    pub may_have_none: bool,
    /// The container has run so long that a group of its own would exist and be charged by now.
    pub settled: bool,
}

/// The open groups of a target.
#[derive(Clone, Debug)]
pub struct Groups {
    pub own: Arc<Group>,
    /// The pod's group above it, if there is one.
    pub pod: Option<Arc<Group>>,
    /// `own` is the pod's group, because the runtime charges the container's memory there (Kata, gVisor).
    pub stands_for_container: bool,
}

#[derive(Debug, Error)]
pub enum Unresolved {
    /// No group has the container's id in its name: not yet, or no longer.
    #[error("no cgroup of this container (yet)")]
    NotFound,
    /// The group is there, without the files of the memory controller.
    #[error(
        "its cgroup {} has no memory controller: a group above it does not pass it on; write +memory to the cgroup.subtree_control of \
         each, as the kubelet and the runtime do",
        .0.display()
    )]
    NotDelegated(PathBuf),
    /// The pod has a group, but the container has none that is charged (Kata, gVisor), and several containers share the
    /// pod's.
    #[error(
        "its memory is charged to the pod's cgroup, as Kata and gVisor do, and it cannot be told from the pod's other containers there: guard a single container, or \"*\""
    )]
    ChargedToPod,
    /// The walk reached its bound before it found the group.
    #[error("not among the first {MAX_DIRS} cgroups")]
    TooMany,
    /// The group exists but cannot be opened.
    #[error("{0}")]
    Unreadable(#[from] ReadError),
}

/// Finds and opens the groups of all `wants`, in their order.
pub fn resolve(hierarchy: &Hierarchy, machine: &Machine, wants: &[Want]) -> Vec<Result<Groups, Unresolved>> {
    let found = walk(&hierarchy.root, wants, MAX_DIRS);
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
            let own = open(dir)?.ok_or_else(|| without_memory(dir))?;
            return Ok(Groups { own, pod: None, stands_for_container: false });
        };
        let own = match found.containers.get(id) {
            Some(place) => open(&place.dir)?.map(|own| (place, own)),
            None => None,
        };
        let charged = match &own {
            Some((_, own)) => !want.may_have_none || own.usage()?.is_some_and(|u| u > Bytes(0)),
            None => false,
        };
        match (own, pod_dir) {
            (Some((place, own)), _) if charged => {
                let above = place.in_pod_group.then(|| place.dir.parent()).flatten();
                Ok(Groups { own, pod: above.map(&mut open).transpose()?.flatten(), stands_for_container: false })
            }
            (_, Some(dir)) if want.may_have_none && want.settled => {
                if !want.pod_may_stand_for_it {
                    return Err(Unresolved::ChargedToPod);
                }
                let own = open(dir)?.ok_or(Unresolved::NotFound)?;
                Ok(Groups { own, pod: None, stands_for_container: true })
            }
            (None, _) => {
                Err(found.containers.get(id).map_or_else(|| found.missing(), |place| without_memory(&place.dir)))
            }
            _ => Err(found.missing()),
        }
    };
    wants.iter().map(&mut one).collect()
}

/// Why a group whose directory was found cannot be opened.
fn without_memory(dir: &Path) -> Unresolved {
    // The kernel makes this file in every group of v2; the directory of a group that goes is gone, too.
    if dir.join("cgroup.procs").exists() { Unresolved::NotDelegated(dir.to_owned()) } else { Unresolved::NotFound }
}

#[derive(Debug)]
struct Place {
    dir: PathBuf,
    /// The parent directory is named after the pod.
    in_pod_group: bool,
    depth: usize,
}

#[derive(Debug, Default)]
struct Walked {
    containers: HashMap<ContainerId, Place>,
    pods: HashMap<PodUid, PathBuf>,
    truncated: bool,
}

impl Walked {
    fn missing(&self) -> Unresolved {
        if self.truncated { Unresolved::TooMany } else { Unresolved::NotFound }
    }

    /// If two directories have the same id, the one nearer to the top wins; on the same level, the one in the right pod's
    /// group wins.
    fn keep(&mut self, id: ContainerId, place: Place) {
        let better = |old: &Place| place.depth == old.depth && place.in_pod_group && !old.in_pod_group;
        if self.containers.get(&id).is_none_or(better) {
            self.containers.insert(id, place);
        }
    }
}

/// Walks the tree level by level. A container that creates groups inside itself cannot pass one off as another
/// container's, because the walk does not descend into a pod's container.
fn walk(root: &Path, wants: &[Want], most: usize) -> Walked {
    let containers = wants.iter().filter_map(|w| Some((w.container?, &w.pod)));
    let ids: HashMap<ContainerId, &PodUid> = containers.collect();
    let pods: HashMap<&str, &PodUid> = wants.iter().map(|w| (w.pod.0.as_str(), &w.pod)).collect();
    let mut found = Walked::default();
    let mut queue = VecDeque::from([(root.to_owned(), 0)]);
    let mut seen = 0;
    while let Some((dir, depth)) = queue.pop_front() {
        let in_place = found.containers.values().filter(|p| p.in_pod_group).count();
        if in_place == ids.len() && pods.values().all(|p| found.pods.contains_key(p)) {
            break;
        }
        // A group that is removed during the walk counts as missing.
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        let dir_pod = uid_in_name(&dir);
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            seen += 1;
            if seen > most {
                found.truncated = true;
                return found;
            }
            let path = entry.path();
            let name = entry.file_name();
            let id = name.to_str().and_then(id_in_name);
            if let Some((id, pod)) = id.and_then(ContainerId::parse).and_then(|id| Some((id, ids.get(&id)?))) {
                let in_pod_group = dir_pod.as_deref() == Some(pod.0.as_str());
                found.keep(id, Place { dir: path, in_pod_group, depth });
                continue;
            }
            if id.is_some() && dir_pod.is_some() {
                continue; // another container: do not descend into it
            }
            if let Some(pod) = uid_in_name(&path).and_then(|uid| pods.get(uid.as_str()).copied()) {
                found.pods.entry(pod.clone()).or_insert_with(|| path.clone());
            }
            if depth + 1 < MAX_DEPTH {
                queue.push_back((path, depth + 1));
            }
        }
    }
    found
}

/// The container id at the end of a directory's name: alone, or behind `cri-containerd-`, `crio-`, `docker-`,
/// `….slice:cri-containerd:`, with or without `.scope`. The id of CRI-O's monitor does not count.
#[must_use]
pub fn id_in_name(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".scope").unwrap_or(name);
    let (prefix, id) = stem.split_at_checked(stem.len().checked_sub(ContainerId::LENGTH)?)?;
    let separated = prefix.is_empty() || prefix.ends_with(['-', ':']);
    (separated && !prefix.ends_with("conmon-")).then_some(id)
}

/// The pod's uid in a directory's name: `pod<uid>`, or `…-pod<uid>.slice` where systemd writes `_`
/// for `-`. The uid's shape does not matter.
#[must_use]
pub fn uid_in_name(dir: &Path) -> Option<String> {
    let name = dir.file_name()?.to_str()?;
    let (stem, systemd) = match name.strip_suffix(".slice") {
        Some(stem) => (stem, true),
        None => (name, false),
    };
    let (prefix, uid) = stem.rsplit_once("pod")?;
    let named = !uid.is_empty() && (prefix.is_empty() || prefix.ends_with('-'));
    named.then(|| if systemd { uid.replace('_', "-") } else { uid.to_owned() })
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
        let uid = "aea56c47-06fc-4784-bd27-9fb88a89f1d8";
        for name in [
            "podaea56c47-06fc-4784-bd27-9fb88a89f1d8",
            "kubepods-podaea56c47_06fc_4784_bd27_9fb88a89f1d8.slice",
            "a-b-kubepods-besteffort-podaea56c47_06fc_4784_bd27_9fb88a89f1d8.slice",
        ] {
            assert_eq!(uid_in_name(Path::new(name)).as_deref(), Some(uid), "{name}");
        }
        for name in
            ["xpodaea56c47-06fc-4784-bd27-9fb88a89f1d8", "aea56c47-06fc-4784-bd27-9fb88a89f1d8", "pod", "/", "kubepods"]
        {
            assert_ne!(uid_in_name(Path::new(name)).as_deref(), Some(uid), "{name}");
        }
    }

    /// A group that holds nothing is a container's own, unless its runtime is one that charges the pod's.
    #[test]
    fn an_empty_group_is_taken_unless_the_runtime_may_charge_the_pods() {
        let uid = "aea56c47-06fc-4784-bd27-9fb88a89f1d8";
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join(format!("kubepods/burstable/pod{uid}"));
        let own = pod.join(ID);
        let found = |usage: &str, may_have_none| {
            for dir in [&pod, &own] {
                std::fs::create_dir_all(dir).unwrap();
                for (file, text) in [("memory.current", usage), ("memory.max", "max\n"), ("memory.stat", "")] {
                    std::fs::write(dir.join(file), text).unwrap();
                }
            }
            let hierarchy = Hierarchy { root: root.path().to_owned(), version: crate::cgroup::Version::V2 };
            let want = Want { pod_may_stand_for_it: true, settled: true, may_have_none, ..want(uid) };
            resolve(&hierarchy, &Machine::without_swap(), &[want]).remove(0).unwrap().stands_for_container
        };
        assert!(!found("0\n", false));
        assert!(!found("4096\n", true));
        assert!(found("0\n", true), "Kata and gVisor");
    }

    /// As where a level above does not pass the memory controller on (`cgroup.subtree_control`).
    #[test]
    fn a_group_without_the_memory_controller_is_told_from_one_that_is_not_there() {
        let uid = "aea56c47-06fc-4784-bd27-9fb88a89f1d8";
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join(format!("kubepods/burstable/pod{uid}/{ID}"));
        let hierarchy = Hierarchy { root: root.path().to_owned(), version: crate::cgroup::Version::V2 };
        let said =
            |want: Want| resolve(&hierarchy, &Machine::without_swap(), &[want]).remove(0).unwrap_err().to_string();
        assert_eq!(said(want(uid)), "no cgroup of this container (yet)");
        std::fs::create_dir_all(&own).unwrap();
        // It has gone, but for its directory.
        assert_eq!(said(want(uid)), "no cgroup of this container (yet)");
        for dir in [own.parent().unwrap(), &own] {
            std::fs::write(dir.join("cgroup.procs"), "1\n").unwrap();
        }
        for target in [want(uid), Want { container: None, ..want(uid) }] {
            let said = said(target);
            assert!(said.contains("has no memory controller") && said.contains("cgroup.subtree_control"), "{said}");
            assert!(said.contains(&format!("pod{uid}")), "it names the group: {said}");
        }
    }

    fn want(uid: &str) -> Want {
        Want {
            pod: PodUid(uid.into()),
            container: Some(ContainerId::from_status(&format!("any://{ID}")).unwrap()),
            pod_may_stand_for_it: false,
            settled: false,
            may_have_none: false,
        }
    }

    #[test]
    fn a_walk_ends_after_so_many_groups() {
        let root = tempfile::tempdir().unwrap();
        for i in 0..10 {
            std::fs::create_dir_all(root.path().join(format!("{i}/below"))).unwrap();
        }
        let truncated = |most| walk(root.path(), &[want("u")], most).truncated;
        assert_eq!([truncated(19), truncated(20)], [true, false]);
        assert_eq!(walk(root.path(), &[want("u")], 19).missing().to_string(), Unresolved::TooMany.to_string());
    }

    #[test]
    fn a_walk_goes_so_deep() {
        let found_below = |levels: usize| {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(root.path().join("a/".repeat(levels)).join(ID)).unwrap();
            !walk(root.path(), &[want("u")], 100).containers.is_empty()
        };
        assert_eq!([found_below(MAX_DEPTH - 1), found_below(MAX_DEPTH)], [true, false]);
    }

    /// In whatever order the kernel lists them.
    #[test]
    fn of_two_groups_with_one_id_that_in_its_pods_group_is_taken() {
        for i in 0..20 {
            let root = tempfile::tempdir().unwrap();
            let mut pods = [format!("podu{i}"), format!("podother{i}")];
            pods.rotate_left(i % 2);
            for pod in pods {
                std::fs::create_dir_all(root.path().join(pod).join(ID)).unwrap();
            }
            let want = want(&format!("u{i}"));
            let found = walk(root.path(), std::slice::from_ref(&want), 100);
            let place = &found.containers[want.container.as_ref().unwrap()];
            assert!(place.dir.ends_with(format!("podu{i}/{ID}")), "{}", place.dir.display());
        }
    }

    proptest! {
        #[test]
        fn any_name_is_survived(name in "\\PC{0,100}") {
            let _ = (id_in_name(&name), uid_in_name(Path::new(&name)));
        }
    }
}
