//! The kubelet's resizes, on real cgroups where this machine has a memory controller to write to, else on files.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Open, evict};
use serde_json::{Value, json};
use standin::cgroups::{Group, Tree};
use standin::{Fate, Resizes, Standin, pod, slack};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const UID: &str = "4d73f41f-8316-474a-974d-693ddfeccc45";
const MIB: u64 = 1 << 20;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// The longest wait for what has to happen.
fn soon() -> Duration {
    slack(Duration::from_secs(8))
}

/// A stand-in, a pod `web` with the container `hog` of 64Mi, and their groups.
struct World {
    standin: Standin,
    group: Group,
    pod_group: Group,
    _tree: Tree,
}

impl World {
    fn new(tree: Tree, policy: &str, grace: i64) -> World {
        let id = "5bff9323219a726e74cae0693d821938942e6935adcadcb81673bdd81aba324c";
        let (standin, group, pod_group) = (Standin::start(), tree.container(UID, id), tree.pod(UID));
        [&group, &pod_group].iter().for_each(|group| group.set_limit(Some(64 * MIB)));
        let builder = pod("demo", "web").uid(UID).grace(grace).container("hog", "64Mi").container_id(id);
        standin.put_pod(builder.resize_policy(policy).build());
        standin.attach("demo", "web", vec![group.dir().to_owned()]);
        World { standin, group, pod_group, _tree: tree }
    }

    fn real(policy: &str, grace: i64) -> World {
        let files = |why| {
            println!("on files: {why}");
            Tree::simulated()
        };
        World::new(Tree::real().unwrap_or_else(files), policy, grace)
    }

    fn resize(&self, memory: &str) {
        let patch = json!({"spec": {"containers": [{"name": "hog", "resources": {"limits": {"memory": memory}}}]}});
        self.resize_by(&patch);
    }

    fn resize_by(&self, patch: &Value) {
        let (path, media) = ("/api/v1/namespaces/demo/pods/web/resize", "application/strategic-merge-patch+json");
        let answer = common::request(&self.standin, "PATCH", path, media, patch);
        assert_eq!(answer.code, 200, "{}", answer.text);
    }

    fn pod(&self) -> Value {
        self.standin.pod("demo", "web").unwrap()
    }

    /// Waits until the pod is so.
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let found = self.standin.wait_for(soon(), |standin| standin.pod("demo", "web").filter(&holds));
        found.unwrap_or_else(|| panic!("waited in vain for {what}: {:#}", self.pod()["status"]))
    }

    fn watch(&self) -> Open {
        common::watch(&self.standin, &format!("resourceVersion={}", self.standin.resource_version()))
    }

    /// In MiB: the pod's group and the container's, which is read first. So `(64, 96)` would be a container that was
    /// raised before its pod.
    fn limits(&self) -> (u64, u64) {
        let container = self.group.limit().unwrap() / MIB;
        (self.pod_group.limit().unwrap() / MIB, container)
    }
}

/// The limit in the status, and the type and reason of the resize's condition.
fn seen(pod: &Value) -> (String, String) {
    let all = pod["status"]["conditions"].as_array().unwrap();
    let conditions = all.iter().filter(|one| one["type"].as_str().unwrap().starts_with("PodResize"));
    let texts: Vec<String> = conditions
        .map(|one| format!("{} {}", one["type"].as_str().unwrap(), one["reason"].as_str().unwrap_or("")))
        .collect();
    let limit = &pod["status"]["containerStatuses"][0]["resources"]["limits"]["memory"];
    (limit.as_str().unwrap().to_owned(), texts.join(", ").trim().to_owned())
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().unwrap().iter();
    conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// A child in a group that does not outlive a test that fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// A shell that does this first, in the group.
    fn start(script: &str, group: &std::path::Path) -> Process {
        let ready = tempfile::tempdir().unwrap();
        let file = ready.path().join("ready");
        let script = format!("{script}; : > '{}'; while :; do sleep 0.01; done", file.display());
        let child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        while !file.exists() {
            std::thread::sleep(ms(2));
        }
        let mut procs = std::fs::OpenOptions::new().append(true).open(group.join("cgroup.procs")).unwrap();
        procs.write_all(format!("{}\n", child.id()).as_bytes()).unwrap();
        Process(child)
    }

    /// The signal that ended it, or minus its exit code.
    fn ended(&mut self) -> i32 {
        let deadline = Instant::now() + soon();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.signal().unwrap_or_else(|| -status.code().unwrap());
            }
            assert!(Instant::now() < deadline, "the process lives");
            std::thread::sleep(ms(2));
        }
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

#[test]
fn a_raise_reaches_the_pods_group_then_the_containers_then_the_status() {
    let world = World::real("NotRequired", 30);
    world.standin.resizes(Resizes { container: ms(100), status: ms(200), ..Resizes::default() });
    let mut watch = world.watch();
    let start = Instant::now();
    world.resize("96Mi");
    let mut steps = vec![world.limits()];
    while *steps.last().unwrap() != (96, 96) && start.elapsed() < soon() {
        std::thread::sleep(ms(1));
        let now = world.limits();
        if steps.last() != Some(&now) {
            steps.push(now);
        }
    }
    assert!(start.elapsed() >= ms(125));
    assert_eq!(steps, [(64, 64), (96, 64), (96, 96)]);
    assert_eq!(seen(&world.pod()).0, "64Mi", "the kernel knows it before the status does");
    let lines: Vec<_> = (0..3).map(|_| seen(&watch.line()["object"])).collect();
    let expected = [("64Mi", ""), ("64Mi", "PodResizeInProgress"), ("96Mi", "")];
    assert_eq!(lines, expected.map(|(limit, condition)| (limit.to_owned(), condition.to_owned())));
    let status = &world.pod()["status"];
    assert_eq!((&status["observedGeneration"], &status["resources"]["limits"]["memory"]), (&json!(2), &json!("96Mi")));
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
}

#[test]
fn a_lowering_takes_the_containers_group_first() {
    let world = World::real("NotRequired", 30);
    world.standin.resizes(Resizes::default());
    world.resize("48Mi");
    let start = Instant::now();
    while world.group.limit() != Some(48 * MIB) && start.elapsed() < soon() {
        let pod = world.pod_group.limit();
        assert!(pod == Some(64 * MIB) || world.group.limit() == Some(48 * MIB), "the pod's group was first");
        std::thread::sleep(ms(1));
    }
    world.until("the end", |pod| seen(pod) == ("48Mi".into(), String::new()));
    assert_eq!(world.limits(), (48, 48));
}

#[test]
fn a_restart_ends_the_old_container_and_starts_a_new_one_beside_it() {
    let world = World::real("RestartContainer", 5);
    world.standin.resizes(Resizes { start: ms(120), ..Resizes::default() });
    let mut old = Process::start("trap 'sleep 0.3; exit 0' TERM", world.group.dir());
    let mut watch = world.watch();
    let start = Instant::now();
    world.resize("96Mi");
    loop {
        let (limits, told) = (world.limits(), seen(&world.pod()).0);
        if start.elapsed() > ms(300) {
            break;
        }
        assert_eq!((limits, &*told), ((64, 64), "64Mi"), "the old limit holds while it is being stopped");
        std::thread::sleep(ms(5));
    }
    let new = world.standin.wait_restarted("demo", "web", soon()).unwrap();
    assert!(start.elapsed() >= ms(335));
    assert_eq!(old.ended(), 0, "it left upon SIGTERM");
    let dir = new.dir.clone().unwrap();
    assert_eq!((dir.parent(), dir.file_name().unwrap().to_str()), (world.group.dir().parent(), Some(&*new.id)));
    world.standin.wait_for(soon(), |_| (!world.group.dir().exists()).then_some(())).expect("the old group goes");
    let mut process = Process::start(":", &dir);
    let lines: Vec<Value> = (0..3).map(|_| watch.line()["object"].clone()).collect();
    assert!(lines.iter().all(is_ready));
    let ids: Vec<_> = lines.iter().map(|pod| pod["status"]["containerStatuses"][0]["containerID"].clone()).collect();
    assert!(ids[0] == ids[1] && ids[2] == format!("containerd://{}", new.id), "{ids:?}");
    let status = &lines[2]["status"]["containerStatuses"][0];
    let last = &status["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"], &last["containerID"]), (&json!(0), &json!("Completed"), &ids[0]));
    assert_eq!((&status["restartCount"], seen(&lines[2])), (&json!(1), ("96Mi".into(), String::new())));
    let limit_of = |name: &str| std::fs::read_to_string(dir.join(name)).ok().and_then(|text| text.trim().parse().ok());
    let limit: u64 = limit_of("memory.limit_in_bytes").or_else(|| limit_of("memory.max")).unwrap();
    assert_eq!((world.pod_group.limit(), limit), (Some(96 * MIB), 96 * MIB));

    assert!(process.lives());
    assert_eq!(evict(&world.standin, "demo", "web", json!({})).code, 201);
    assert_eq!(process.ended(), 15, "an eviction reaches the new group");
    world.standin.wait_for(soon(), |standin| standin.pod("demo", "web").is_none().then_some(())).expect("the pod goes");
}

#[test]
fn a_container_that_stays_is_killed_after_pre_stop_and_grace() {
    let world = World::real("RestartContainer", 3);
    world.standin.resizes(Resizes { pre_stop: ms(400), start: ms(40), ..Resizes::default() });
    let mut old = Process::start("trap '' TERM", world.group.dir());
    let start = Instant::now();
    world.resize("96Mi");
    assert_eq!(old.ended(), 9);
    assert!(start.elapsed() >= ms(2900), "{:?}", start.elapsed());
    let pod = world.until("the new container", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1);
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(137), &json!("Error")));
}

#[test]
fn what_runs_in_the_new_group_can_be_started_before_the_status_says_so() {
    let world = World::real("RestartContainer", 5);
    world.standin.resizes(Resizes { start: ms(40), ..Resizes::default() });
    let (sender, started) = std::sync::mpsc::channel();
    let standin = world.standin.clone();
    world.standin.on_restart(move |new| {
        let count = standin.pod("demo", "web").unwrap()["status"]["containerStatuses"][0]["restartCount"].clone();
        sender.send((count, Process::start(":", new.dir.as_ref().unwrap()))).unwrap();
    });
    world.resize("96Mi");
    let (count, mut process) = started.recv_timeout(soon()).unwrap();
    assert_eq!(count, 0);
    world.until("the new container", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1);
    assert!(process.lives());
    // And again: each change is a restart, and the same value is none.
    world.resize("96Mi");
    world.resize("97Mi");
    let (_, _second) = started.recv_timeout(soon()).unwrap();
    assert_eq!(process.ended(), 15);
    world.until("the second", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 2);
}

#[test]
fn an_eviction_does_not_hurry_a_restart_and_nothing_is_started_any_more() {
    let world = World::real("RestartContainer", 2);
    world.standin.resizes(Resizes::default());
    let mut old = Process::start("trap '' TERM", world.group.dir());
    let start = Instant::now();
    world.resize("96Mi");
    std::thread::sleep(ms(200));
    assert_eq!(evict(&world.standin, "demo", "web", json!({"gracePeriodSeconds": 1})).code, 201);
    assert_eq!(old.ended(), 9);
    assert!(start.elapsed() >= ms(2000));
    world.standin.wait_for(soon(), |standin| standin.pod("demo", "web").is_none().then_some(())).expect("the pod goes");
    assert_eq!(world.standin.wait_restarted("demo", "web", ms(300)), None);
}

#[test]
fn deferred_and_infeasible_resizes_wait() {
    let world = World::new(Tree::simulated(), "NotRequired", 30);
    world.standin.resizes(Resizes { fate: Fate::Deferred(None), ..Resizes::default() });
    world.resize("96Mi");
    world.until("Deferred", |pod| seen(pod) == ("64Mi".into(), "PodResizePending Deferred".into()));
    world.resize("64Mi");
    world.until("the end of what was taken back", |pod| seen(pod) == ("64Mi".into(), String::new()));
    world.resize("128Mi");
    world.until("Deferred", |pod| seen(pod).1 == "PodResizePending Deferred");
    world.standin.resizes(Resizes { fate: Fate::Infeasible, ..Resizes::default() });
    world.until("Infeasible", |pod| seen(pod).1 == "PodResizePending Infeasible");
    assert_eq!(world.limits(), (64, 64));
    world.standin.resizes(Resizes::default());
    world.until("the end", |pod| seen(pod) == ("128Mi".into(), String::new()));
    assert_eq!(world.limits(), (128, 128));
    let start = Instant::now();
    world.standin.resizes(Resizes { fate: Fate::Deferred(Some(ms(400))), ..Resizes::default() });
    world.resize("256Mi");
    world.until("the end", |pod| seen(pod) == ("256Mi".into(), String::new()));
    assert!(start.elapsed() >= ms(400));
}

#[test]
fn a_lowering_below_the_usage_is_an_error_until_it_is_taken_back() {
    let world = World::new(Tree::simulated(), "NotRequired", 30);
    world.standin.resizes(Resizes { error: ms(50), ..Resizes::default() });
    [&world.group, &world.pod_group].iter().for_each(|group| group.simulate(60 * MIB, 0));
    world.resize("48Mi");
    let pod = world.until("the error", |pod| seen(pod) == ("64Mi".into(), "PodResizeInProgress Error".into()));
    let message = pod["status"]["conditions"][0]["message"].as_str().unwrap();
    let expected = "cannot decrease memory limits: [attempting to set pod memory limit (50331648) below current usage (62914560), attempting to set container \"hog\" memory limit (50331648) below current usage (62914560)]";
    assert_eq!(message, expected);
    assert_eq!(world.limits(), (64, 64));
    world.resize("80Mi");
    world.until("the raise", |pod| seen(pod) == ("80Mi".into(), String::new()));
    world.resize("48Mi");
    world.until("the error", |pod| seen(pod).1 == "PodResizeInProgress Error");
    [&world.group, &world.pod_group].iter().for_each(|group| group.simulate(40 * MIB, 0));
    world.until("the lowering", |pod| seen(pod) == ("48Mi".into(), String::new()));
    assert_eq!(world.limits(), (48, 48));
}

#[test]
fn nothing_happens_unless_the_kubelet_is_told_to_and_the_pod_stays() {
    let world = World::new(Tree::simulated(), "NotRequired", 30);
    world.resize("96Mi");
    std::thread::sleep(ms(200));
    assert_eq!((world.limits(), seen(&world.pod())), ((64, 64), ("64Mi".into(), String::new())));
    world.standin.resizes(Resizes::default());
    world.until("what was stored", |pod| seen(pod).0 == "96Mi");
    world.standin.edit_pod("demo", "web", |pod| {
        pod["metadata"]["deletionTimestamp"] = "2026-11-23T19:00:00Z".into();
        pod["metadata"]["finalizers"] = json!(["example.com/hold"]);
    });
    world.resize("128Mi");
    std::thread::sleep(ms(200));
    assert_eq!((world.limits(), seen(&world.pod())), ((96, 96), ("96Mi".into(), String::new())));
}

#[test]
fn a_pods_own_limit_is_raised_only_by_name() {
    let world = World::new(Tree::simulated(), "NotRequired", 30);
    let resources = json!({"limits": {"memory": "256Mi"}, "requests": {"memory": "64Mi"}});
    world.standin.edit_pod("demo", "web", |pod| {
        pod["spec"]["resources"] = resources.clone();
        pod["status"]["resources"] = resources.clone();
    });
    world.pod_group.set_limit(Some(256 * MIB));
    world.standin.resizes(Resizes::default());
    world.resize("128Mi");
    world.until("the container's raise", |pod| seen(pod).0 == "128Mi");
    assert_eq!(world.limits(), (256, 128));
    world.resize_by(&json!({"spec": {"resources": {"limits": {"memory": "512Mi"}}}}));
    world.until("the pod's raise", |pod| pod["status"]["resources"]["limits"]["memory"] == "512Mi");
    assert_eq!(world.limits(), (512, 128));
}
