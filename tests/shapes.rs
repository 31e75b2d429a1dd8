//! The shapes of cgroup trees that kubelets and runtimes make, each resolved on a tree of files:
//! `fixtures/cgroups/make-shapes.py` makes them, and says where each is from.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pre_oom_killer::cgroup::resolve::{Unresolved, Want, resolve};
use pre_oom_killer::cgroup::{Hierarchy, Machine};
use pre_oom_killer::pods::{ContainerId, PodUid};
use serde::Deserialize;

#[derive(Deserialize)]
struct Shape {
    row: u32,
    id: String,
    name: String,
    provenance: String,
    memory_root: String,
    files: BTreeMap<String, String>,
    pod: Pod,
    expect: BTreeMap<String, Expect>,
}

#[derive(Deserialize)]
struct Pod {
    uid: String,
    runtime_class: Option<String>,
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    id: String,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
enum Expect {
    Own { container: String, pod: Option<String> },
    Pods { pod_group: String },
    Not { unresolved: bool },
}

fn shapes() -> Vec<Shape> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cgroups/make-shapes.py");
    let made = Command::new("python3").arg(script).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    serde_json::from_slice(&made.stdout).unwrap()
}

fn lay_out(shape: &Shape) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in &shape.files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    root
}

/// What is found for each container, when it has run for long enough (`settled`) or has just begun.
fn found(root: &Path, shape: &Shape, settled: bool) -> BTreeMap<String, Expect> {
    let hierarchy = Hierarchy::detect(root).unwrap();
    assert_eq!(hierarchy.root, root.join(&shape.memory_root), "{}", shape.id);
    let wants: Vec<Want> = (shape.pod.containers.iter())
        .map(|c| Want {
            pod: PodUid(shape.pod.uid.clone()),
            container: Some(ContainerId::from_status(&format!("any://{}", c.id)).unwrap()),
            pod_may_stand_for_it: shape.pod.containers.len() == 1,
            settled,
            may_have_none: shape.pod.runtime_class.is_some(),
        })
        .collect();
    let relative = |dir: &Path| dir.strip_prefix(root).map(PathBuf::from).unwrap().display().to_string();
    let results = resolve(&hierarchy, &Machine::without_swap(), &wants);
    let names = shape.pod.containers.iter().map(|c| c.name.clone());
    let expect = results.into_iter().map(|result| match result {
        Ok(groups) if groups.stands_for_container => Expect::Pods { pod_group: relative(groups.own.dir()) },
        Ok(groups) => {
            groups.own.usage().unwrap().unwrap();
            groups.own.limit().unwrap().unwrap();
            groups.own.stat().unwrap().unwrap();
            Expect::Own { container: relative(groups.own.dir()), pod: groups.pod.map(|p| relative(p.dir())) }
        }
        Err(Unresolved::NotFound | Unresolved::ChargedToPod) => Expect::Not { unresolved: true },
        Err(other) => panic!("{}: {other}", shape.id),
    });
    names.zip(expect).collect()
}

#[test]
fn every_shape_resolves_as_it_should() {
    let shapes = shapes();
    let rows: std::collections::BTreeSet<u32> = shapes.iter().map(|s| s.row).collect();
    assert_eq!(rows, (1..=20).collect(), "each row of the table has a tree");
    for shape in &shapes {
        let root = lay_out(shape);
        assert!(!shape.provenance.is_empty());
        assert_eq!(found(root.path(), shape, true), shape.expect, "{} {}", shape.id, shape.name);
        // The expectations by row, once more and by hand, so that the file cannot say anything else.
        for expect in shape.expect.values() {
            let right = match shape.row {
                13 | 14 | 19 => matches!(expect, Expect::Own { pod: None, .. }),
                1..=6 | 8..=12 | 18 => matches!(expect, Expect::Own { pod: Some(_), .. }),
                16 | 17 if shape.pod.containers.len() == 1 => matches!(expect, Expect::Pods { .. }),
                _ => matches!(expect, Expect::Not { .. }),
            };
            assert!(right, "{}: {expect:?}", shape.id);
        }
    }
}

/// Before a container has settled, its pod's group never stands for it: its own may be about to be charged.
#[test]
fn a_container_that_has_just_begun_is_never_read_at_its_pods_group() {
    for shape in shapes() {
        let root = lay_out(&shape);
        for (name, found) in found(root.path(), &shape, false) {
            assert!(!matches!(found, Expect::Pods { .. }), "{} {name}", shape.id);
        }
    }
}

/// A container that makes groups of its own cannot pass one off as another container's, wherever it lies: not
/// deeper, not higher up, and not by making very many.
#[test]
fn a_nested_group_with_anothers_id_is_not_taken_for_it() {
    for shape in shapes() {
        let Some(Expect::Own { container, .. }) = shape.expect.values().next() else { continue };
        let root = lay_out(&shape);
        let name = Path::new(container).file_name().unwrap();
        let own = root.path().join(container);
        let id = "a".repeat(64);
        let memory = root.path().join(&shape.memory_root);
        for attacker in [
            own.parent().unwrap().join(&id),
            memory.join("kubepods").join("podffffffff").join(&id),
            memory.join("kubepods.slice/kubepods-podffffffff.slice").join(format!("cri-containerd-{id}.scope")),
        ] {
            std::fs::create_dir_all(attacker.join(name)).unwrap();
            std::fs::create_dir_all(attacker.join(format!("pod{}", shape.pod.uid)).join(name)).unwrap();
        }
        assert_eq!(found(root.path(), &shape, true), shape.expect, "{}", shape.id);
    }
}

/// The pod's own group, for `*`.
#[test]
fn the_pods_own_group_is_found_where_there_is_one() {
    for shape in shapes() {
        let Some(Expect::Own { pod, .. }) = shape.expect.values().next() else { continue };
        let root = lay_out(&shape);
        let want = Want {
            pod: PodUid(shape.pod.uid.clone()),
            container: None,
            pod_may_stand_for_it: true,
            settled: true,
            may_have_none: false,
        };
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        let result = resolve(&hierarchy, &Machine::without_swap(), &[want]).remove(0);
        match pod {
            Some(pod) => assert_eq!(result.unwrap().own.dir(), root.path().join(pod), "{}", shape.id),
            // Row 13 has a pod slice that nothing is charged to; row 14's is named otherwise; row 19 has none.
            None => assert!(result.is_err() || shape.row == 13, "{}", shape.id),
        }
    }
}
