//! What a test says about resizes, and what the kubelet remembers of them.

use crate::Standin;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the kubelet carries resizes out. The times are those measured on Kubernetes 1.36.3 on an idle machine.
#[derive(Clone, Debug)]
pub struct Resizes {
    /// From the PATCH to the new limit of the pod's group (25 ms). A restart's SIGTERM or preStop comes 10 ms later.
    pub after: Duration,
    /// From the pod's group to the container's (20 ms).
    pub container: Duration,
    /// From the container's group to the status and the watch (35 ms).
    pub status: Duration,
    /// How long the container's preStop hook sleeps (not at all). It counts towards the grace period.
    pub pre_stop: Duration,
    /// From the end of a container's processes to the new one running (210 ms).
    pub start: Duration,
    /// Exit code of a container that leaves upon SIGTERM (0); one that is killed has 137.
    pub exit_code: i32,
    /// From the condition of a lowering below the usage to its reason Error (500 ms; up to 14 s were seen).
    pub error: Duration,
    /// What becomes of resizes.
    pub fate: Fate,
}

/// What becomes of resizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are done.
    Done,
    /// The node has no room for them now: done so long after the PATCH, or (`None`) never.
    Deferred(Option<Duration>),
    /// The node will never do them.
    Infeasible,
}

impl Default for Resizes {
    fn default() -> Resizes {
        let ms = Duration::from_millis;
        Resizes {
            after: ms(25),
            container: ms(20),
            status: ms(35),
            pre_stop: Duration::ZERO,
            start: ms(210),
            exit_code: 0,
            error: ms(500),
            fate: Fate::Done,
        }
    }
}

/// A container that the kubelet has started again for a resize.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The container's name.
    pub container: String,
    /// Its new id: 64 hex digits, without `containerd://`.
    pub id: String,
    /// Its new group's directory; `None` if the old one's was not [attached](Standin::attach).
    pub dir: Option<PathBuf>,
}

type Hook = Arc<dyn Fn(&Restarted) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Resizing {
    /// Bytes of memory that a node could give to pods, where it is known.
    pub allocatable: BTreeMap<String, u64>,
    /// `None`: resizes are stored and never done.
    pub how: Option<Resizes>,
    /// The uids of pods that the kubelet is resizing, and when their last PATCH arrived.
    pub asked: BTreeMap<String, Instant>,
    /// The uids of pods one of whose containers is being stopped.
    pub stopping: BTreeSet<String>,
    /// Restarts that no test has taken yet.
    pub restarted: VecDeque<Restarted>,
    pub hook: Option<Hook>,
}

impl Resizing {
    pub(crate) fn is_stopping(&self, uid: &Value) -> bool {
        uid.as_str().is_some_and(|uid| self.stopping.contains(uid))
    }
}

/// # Resizes
impl Standin {
    /// The memory that a node can give to pods, in bytes: a resize whose *request* is beyond it is 403, cause
    /// NodeCapacity. A node that was never told can give any.
    pub fn set_allocatable(&self, node: &str, bytes: u64) {
        self.inner.update(|state| state.resizing.allocatable.insert(node.to_owned(), bytes));
    }

    /// How the kubelet carries resizes out from now on; `None` (the default): it does not, and they are only stored.
    /// What was stored and is not done yet is done in the new way.
    pub fn resizes(&self, how: impl Into<Option<Resizes>>) {
        let how = how.into();
        self.inner.update(|state| state.resizing.how = how);
    }

    /// Has this run whenever a container's new group is there, before the status says that it runs: the place to start
    /// a process in it. It may block, and may ask the stand-in.
    pub fn on_restart(&self, hook: impl Fn(&Restarted) + Send + Sync + 'static) {
        self.inner.update(|state| state.resizing.hook = Some(Arc::new(hook)));
    }

    /// Takes the oldest restart of a container of this pod that was not taken yet, as soon as its new group is there.
    pub fn wait_restarted(&self, namespace: &str, name: &str, within: Duration) -> Option<Restarted> {
        self.wait_for(within, |standin| {
            standin.inner.update_quietly(|state| {
                let all = &mut state.resizing.restarted;
                let index = all.iter().position(|one| one.namespace == namespace && one.name == name)?;
                all.remove(index)
            })
        })
    }
}
