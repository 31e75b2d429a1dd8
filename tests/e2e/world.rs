//! What a test needs at once: a stand-in server, a tree of cgroups, and guarded pods in both.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use standin::cgroups::{Group, Tree};
use standin::hog::Hog;
use standin::{PodBuilder, Standin, pod};

use crate::agent::Agent;

/// The prefix of all annotations.
pub const PREFIX: &str = "pre-oom-killer.v1alpha1.k8s.io/";
/// The namespace of all test pods.
pub const NS: &str = "demo";
/// One mebibyte.
pub const MIB: u64 = 1 << 20;

/// A server and a tree.
pub struct World {
    pub server: Standin,
    pub tree: Tree,
}

/// A pod with one container `app`: known to the server, with groups in the tree.
pub struct Place {
    pub uid: String,
    pub id: String,
    pub group: Group,
    pub pod_group: Group,
}

impl World {
    /// On real cgroups. The legs that run this see to it that there are some.
    pub fn real() -> World {
        World { server: Standin::start(), tree: Tree::real().expect("a memory controller") }
    }

    /// On regular files.
    pub fn simulated() -> World {
        World { server: Standin::start(), tree: Tree::simulated() }
    }

    /// An agent on this node.
    pub fn agent(&self, flags: &[&str]) -> Agent {
        Agent::start(&self.server, self.tree.root(), flags)
    }

    /// A pod `name` guarded at 60 % with a container `app`, both with `limit` as kubelet sets it.
    pub fn guarded(&self, name: &str, limit: u64) -> Place {
        self.place(name, Some(limit), |p| p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60"))
    }

    /// A pod with one container `app`, changed as told before the server knows it.
    pub fn place(&self, name: &str, limit: Option<u64>, change: impl FnOnce(PodBuilder) -> PodBuilder) -> Place {
        let (uid, id) = (uid(), container_id());
        let place = Place { group: self.tree.container(&uid, &id), pod_group: self.tree.pod(&uid), uid, id };
        place.pod_group.set_limit(limit);
        place.group.set_limit(limit);
        let text = limit.map(|l| format!("{}Mi", l / MIB));
        let builder = pod(NS, name).uid(&place.uid).container("app", text.as_deref()).container_id(&place.id);
        self.server.attach(NS, name, vec![place.group.dir().to_owned()]);
        self.server.put_pod(change(builder).build());
        place
    }

    /// The evictions that went over the wire.
    pub fn evictions(&self) -> Vec<standin::Request> {
        self.server.requests_to("POST", "/eviction")
    }

    /// Waits until that many evictions went over the wire.
    pub fn wait_evictions(&self, count: usize) -> Vec<standin::Request> {
        let found = self.server.wait_for(crate::agent::soon(), |_| {
            Some(self.evictions()).filter(|e| e.len() >= count && e.iter().all(|r| r.answer.is_some()))
        });
        found.unwrap_or_else(|| panic!("waited in vain for {count} evictions"))
    }

    /// Lets the agent go on for a while, then answers what went over the wire.
    pub fn evictions_after(&self, time: Duration) -> usize {
        std::thread::sleep(time);
        self.evictions().len()
    }

    /// The Events with this reason.
    pub fn events(&self, reason: &str) -> Vec<Value> {
        self.server.events().into_iter().filter(|e| e["reason"] == reason).collect()
    }

    /// Waits for Events with this reason.
    pub fn wait_events(&self, reason: &str, count: usize) -> Vec<Value> {
        let found =
            self.server.wait_for(crate::agent::soon(), |_| Some(self.events(reason)).filter(|e| e.len() >= count));
        found.unwrap_or_else(|| {
            panic!("waited in vain for {count} Events {reason}; there are {:?}", self.server.events())
        })
    }
}

impl Place {
    /// Has the hog read a file that is larger than the group's limit until its cache fills that. A machine that is short of
    /// memory itself takes some of it back meanwhile, so it may have to be read again.
    pub fn fill_with_cache(&self, hog: &mut Hog, file: &Path, limit: u64) {
        let filled = (0..20).any(|_| {
            hog.read(file);
            self.group.usage() > Some(limit * 9 / 10)
        });
        assert!(filled, "the cache fills it: {:?} of {limit}", self.group.usage());
    }

    /// A hog in the container's group.
    pub fn hog(&self) -> Hog {
        Hog::start(self.group.dir())
    }
}

/// A pod's uid as the API server makes them.
pub fn uid() -> String {
    let n = fastrand::u128(..);
    let hex = format!("{n:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A container's id as runtimes make them.
pub fn container_id() -> String {
    format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..))
}
