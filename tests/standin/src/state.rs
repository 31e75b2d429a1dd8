//! What the server knows: pods with their history, budgets, Events, namespaces, tokens.
//!
//! Plain data behind one lock; [`Inner`] adds the lock and tells those who wait of each change.

use crate::access::Access;
use crate::fault::Fault;
use crate::log::Log;
use crate::pdb::Pdb;
use crate::resizes::Resizing;
use crate::route::USER;
use crate::select::Selector;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Namespace and name.
pub(crate) type Key = (String, String);

/// Changes kept for watches that start or lag behind (the real watch cache: 100 to 100,000). At some
/// 20 kB a pod this is 80 MB at most.
const HISTORY: usize = 4096;

/// One write: what the pod was before and is after.
#[derive(Clone)]
pub(crate) struct Change {
    pub version: u64,
    pub key: Key,
    pub before: Option<Arc<Value>>,
    pub after: Option<Arc<Value>>,
}

impl Change {
    /// What a watch with this selector gets to see of it: type and object. An object that stops
    /// matching is DELETED, as it was before, with the new resourceVersion.
    pub(crate) fn seen_by(&self, selector: &Selector) -> Option<(&'static str, Value)> {
        let fits = |object: &&Arc<Value>| selector.matches(&self.key.0, object);
        match (self.before.as_ref().filter(fits), self.after.as_ref().filter(fits)) {
            (None, Some(after)) => Some(("ADDED", Value::clone(after))),
            (Some(_), Some(after)) => Some(("MODIFIED", Value::clone(after))),
            (Some(before), None) => {
                let mut object = Value::clone(before);
                set_version(&mut object, self.version);
                Some(("DELETED", object))
            }
            (None, None) => None,
        }
    }
}

fn set_version(object: &mut Value, version: u64) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), version.to_string().into());
    }
}

pub(crate) struct State {
    pub version: u64,
    pub pods: BTreeMap<Key, Arc<Value>>,
    pub history: VecDeque<Change>,
    pub history_limit: usize,
    /// Watches and lists from before this version are too old.
    pub compacted: u64,
    /// The version of the last change that fell out of the history.
    pub trimmed: u64,
    /// Known namespaces, and whether each is terminating.
    pub namespaces: BTreeMap<String, bool>,
    /// `metadata` of those that were given one.
    pub namespace_metadata: BTreeMap<String, Value>,
    pub budgets: BTreeMap<Key, Pdb>,
    pub events: BTreeMap<Key, Value>,
    /// Where a pod's port is in truth, for the proxy.
    pub ports: BTreeMap<(Key, u16), SocketAddr>,
    /// The cgroup directories of pods, for the kubelet.
    pub groups: BTreeMap<Key, Vec<PathBuf>>,
    pub resizing: Resizing,
    pub tokens: BTreeSet<String>,
    /// Whose tokens these are.
    pub account: String,
    /// The node that they are bound to.
    pub node: Option<String>,
    pub access: Access,
    /// The project's policies are in force.
    pub policy: bool,
    /// The policy on resizes; `None`: as the others.
    pub resize_policy: Option<bool>,
    /// The plugin NodeRestriction is on.
    pub node_restriction: bool,
    /// The feature gate ConstrainedImpersonation is on.
    pub constrained_impersonation: bool,
    pub initial_events: bool,
    pub sigterm_delay: Duration,
    pub removal_delay: Duration,
    pub answer_delay: Duration,
    ids: u64,
}

impl State {
    pub(crate) fn new() -> State {
        let namespaces = ["default", "kube-system", "pre-oom-killer"];
        State {
            version: 1000,
            pods: BTreeMap::new(),
            history: VecDeque::new(),
            history_limit: HISTORY,
            compacted: 0,
            trimmed: 0,
            namespaces: namespaces.iter().map(|name| ((*name).to_owned(), false)).collect(),
            namespace_metadata: BTreeMap::new(),
            budgets: BTreeMap::new(),
            events: BTreeMap::new(),
            ports: BTreeMap::new(),
            groups: BTreeMap::new(),
            resizing: Resizing::default(),
            tokens: BTreeSet::from(["standin-token".to_owned()]),
            account: USER.to_owned(),
            node: Some("node-host".to_owned()),
            access: Access::default(),
            policy: false,
            resize_policy: None,
            node_restriction: true,
            constrained_impersonation: true,
            initial_events: false,
            sigterm_delay: Duration::from_millis(20),
            removal_delay: Duration::from_millis(200),
            answer_delay: Duration::ZERO,
            ids: 0,
        }
    }

    /// A number that looks random and is the same in every run (splitmix64 of a counter).
    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        let mut z = self.ids.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn next_uid(&mut self) -> String {
        let (a, b) = (self.next_id(), self.next_id());
        let (c, d) = (a >> 32, (a >> 16) & 0xffff);
        format!("{c:08x}-{d:04x}-4{:03x}-{:04x}-{:012x}", a & 0xfff, 0x8000 | (b >> 50), b & 0xffff_ffff_ffff)
    }

    /// What a server fills in upon creation, where there is a place for it.
    pub(crate) fn fill_in(&mut self, object: &mut Value) {
        let uid = self.next_uid();
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        metadata.entry("uid").or_insert_with(|| uid.into());
        metadata
            .entry("creationTimestamp")
            .or_insert_with(|| crate::clock::rfc3339(crate::clock::seconds_now()).into());
    }

    /// Creates, replaces (`Some`) or removes (`None`) a pod; every change of one comes by here.
    pub(crate) fn write(&mut self, key: &Key, after: Option<Value>) -> Option<Arc<Value>> {
        let before = self.pods.get(key).cloned();
        if before.is_none() && after.is_none() {
            return None;
        }
        self.version += 1;
        let after = after.map(|mut object| {
            set_version(&mut object, self.version);
            Arc::new(object)
        });
        match &after {
            Some(object) => self.pods.insert(key.clone(), object.clone()),
            None => self.pods.remove(key),
        };
        self.namespaces.entry(key.0.clone()).or_insert(false);
        self.history.push_back(Change { version: self.version, key: key.clone(), before, after: after.clone() });
        self.trim();
        after
    }

    pub(crate) fn trim(&mut self) {
        while self.history.len() > self.history_limit {
            if let Some(gone) = self.history.pop_front() {
                self.trimmed = gone.version;
                self.compacted = self.compacted.max(gone.version);
            }
        }
    }

    /// Changes `edit` into the pod; one that is being deleted, has no grace left and no finalizers goes.
    pub(crate) fn modify(&mut self, key: &Key, edit: impl FnOnce(&mut Value)) -> Option<Arc<Value>> {
        let before = self.pods.get(key)?.clone();
        let mut object = Value::clone(&before);
        edit(&mut object);
        if object == *before {
            return Some(before);
        }
        let written = self.write(key, Some(object))?;
        let metadata = &written["metadata"];
        if metadata["deletionGracePeriodSeconds"] == json!(0) && !has_finalizers(&written) {
            self.write(key, None);
        }
        Some(written)
    }

    /// The pods as they were at `version`, by undoing what came later.
    pub(crate) fn pods_at(&self, version: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut pods = self.pods.clone();
        for change in self.history.iter().rev().take_while(|change| change.version > version) {
            match &change.before {
                Some(before) => pods.insert(change.key.clone(), before.clone()),
                None => pods.remove(&change.key),
            };
        }
        pods
    }
}

pub(crate) fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty())
}

/// What is told to the watches that are open.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tell {
    End,
    Cut,
    Hang,
    Expire,
    Bookmark,
}

/// Everything that the handle, the server and the kubelet share.
pub(crate) struct Inner {
    state: Mutex<State>,
    pub log: Mutex<Log>,
    pub faults: Mutex<Vec<Fault>>,
    pub tell: broadcast::Sender<Tell>,
    pub watches: AtomicUsize,
    pub connections: AtomicUsize,
    pub handshakes: AtomicUsize,
    /// Wakes watches upon a change of a pod.
    pub turn: watch::Sender<()>,
    changes: Mutex<u64>,
    changed: Condvar,
}

/// A lock whose holder panicked is still good: all data here is plain.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn new() -> Inner {
        Inner {
            state: Mutex::new(State::new()),
            log: Mutex::new(Log::default()),
            faults: Mutex::new(Vec::new()),
            tell: broadcast::channel(64).0,
            watches: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            turn: watch::channel(()).0,
            changes: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// Looks at the state.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&lock(&self.state))
    }

    /// Changes what nobody waits for.
    pub(crate) fn update_quietly<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut lock(&self.state))
    }

    /// Changes the state and tells those who wait.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut lock(&self.state));
        self.turn.send_replace(());
        self.note_change();
        result
    }

    pub(crate) fn note_change(&self) {
        *lock(&self.changes) += 1;
        self.changed.notify_all();
    }

    pub(crate) fn changes(&self) -> u64 {
        *lock(&self.changes)
    }

    /// Waits until there was a change after `seen`, at most `within`.
    pub(crate) fn wait_beyond(&self, seen: u64, within: Duration) {
        let changes = lock(&self.changes);
        let waited = self.changed.wait_timeout_while(changes, within, |changes| *changes == seen);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
