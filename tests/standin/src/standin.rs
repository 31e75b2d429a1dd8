//! The handle that a test holds.

use crate::access::{self, Grant};
use crate::fault::Fault;
use crate::log::Request;
use crate::pdb::Pdb;
use crate::server::{self, Order};
use crate::state::{Inner, Key, State, Tell, lock};
use crate::tls::Tls;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// A running stand-in. Clones are the same server; it stops when the last one is dropped.
///
/// Every method may be called from any thread, inside a tokio runtime too; [`wait_for`](Self::wait_for)
/// and [`go_away`](Self::go_away) block their thread.
#[derive(Clone)]
pub struct Standin {
    pub(crate) inner: Arc<Inner>,
    address: SocketAddr,
    authority: Option<String>,
    thread: Arc<Thread>,
}

struct Thread {
    orders: Option<UnboundedSender<Order>>,
    handle: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

pub(crate) fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}

/// # Start and address
impl Standin {
    /// Serves http on a free port of 127.0.0.1.
    pub fn start() -> Standin {
        Standin::launch(None)
    }

    /// Serves https with an authority of its own, which [`kubeconfig`](Self::kubeconfig) names.
    pub fn start_tls() -> Standin {
        Standin::start_tls_as(&["localhost", "127.0.0.1"])
    }

    /// Serves https with a certificate for these names instead of its own.
    pub fn start_tls_as(names: &[&str]) -> Standin {
        Standin::launch(Some(Tls::new(names).expect("a certificate can be made")))
    }

    fn launch(tls: Option<Tls>) -> Standin {
        let inner = Arc::new(Inner::new());
        let (orders, taken) = unbounded_channel();
        let (bound, address) = sync_channel(1);
        let authority = tls.as_ref().map(|tls| tls.authority.clone());
        let served = inner.clone();
        let serve = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
            runtime.block_on(server::run(served, tls, taken, bound));
        };
        let handle = std::thread::Builder::new().name("standin".into()).spawn(serve).expect("a thread can be started");
        let address = address.recv().expect("the server's thread runs").expect("127.0.0.1 has a free port");
        let thread = Arc::new(Thread { orders: Some(orders), handle: Some(handle) });
        Standin { inner, address, authority, thread }
    }

    /// `http://127.0.0.1:PORT`, or https.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority's certificate as `certificate-authority-data` has it; `None` without TLS.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// A kubeconfig (YAML) with the token in it.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_with(&format!("token: \"{}\"", self.token()))
    }

    /// A kubeconfig whose token is in a file, for tests of its rotation.
    pub fn kubeconfig_with_token_file(&self, file: &Path) -> String {
        self.kubeconfig_with(&format!("tokenFile: \"{}\"", file.display()))
    }

    fn kubeconfig_with(&self, user: &str) -> String {
        let authority = self.authority.as_ref().map(|data| format!("\n    certificate-authority-data: {data}"));
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: standin\nclusters:\n- name: standin\n  cluster:\n    server: {}{}\n\
             users:\n- name: standin\n  user:\n    {user}\n\
             contexts:\n- name: standin\n  context:\n    cluster: standin\n    user: standin\n    namespace: default\n",
            self.url(),
            authority.unwrap_or_default()
        )
    }
}

/// # Who may what
impl Standin {
    /// The token that is accepted (one of them, if there are several).
    pub fn token(&self) -> String {
        self.inner.read(|state| state.tokens.first().cloned().unwrap_or_default())
    }

    /// Accepts this token and no other from now on: the old one gets 401.
    pub fn set_token(&self, token: &str) {
        self.inner.update(|state| state.tokens = [token.to_owned()].into());
    }

    /// Accepts this token too, as a server does while one is being rotated.
    pub fn accept_token(&self, token: &str) {
        self.inner.update(|state| state.tokens.insert(token.to_owned()));
    }

    /// Takes a right away: 403 for it, and `allowed: false` in an access review.
    /// `deny("create", "pods/eviction")`, `deny("watch", "pods")`.
    pub fn deny(&self, verb: &str, resource: &str) {
        self.inner.update(|state| state.access.deny(verb, resource));
    }

    /// Gives a right back.
    pub fn allow(&self, verb: &str, resource: &str) {
        self.inner.update(|state| state.access.allow(verb, resource));
    }
}

/// # Rules, as manifests have them
impl Standin {
    /// From the first call on nobody may do anything but what the (Cluster)Roles and their bindings in these
    /// manifests (a YAML stream; other kinds are passed over) give to ServiceAccounts; without one, whoever has a
    /// token may do everything. Answers the accounts of the ServiceAccounts in it.
    ///
    /// # Panics
    /// If it is no YAML, or a binding names a role that is not in it.
    pub fn grant(&self, manifests: &str) -> Vec<String> {
        let read = access::read(manifests);
        self.inner.update(|state| state.access.give(read.grants));
        read.accounts
    }

    /// Takes one of the grants back.
    pub fn revoke(&self, grant: &Grant) {
        self.inner.update(|state| state.access.revoke(grant));
    }

    /// All that was granted.
    pub fn grants(&self) -> Vec<Grant> {
        self.inner.read(|state| state.access.grants())
    }

    /// What was granted and never made use of. (To ask for one's rights is no use of them.)
    pub fn unused_grants(&self) -> Vec<Grant> {
        self.inner.read(|state| state.access.unused())
    }

    /// Whose tokens these are, and to which node they are bound. Without it, those of a pod of
    /// `system:serviceaccount:pre-oom-killer:pre-oom-killer` on `node-host`.
    pub fn identify(&self, account: &str, node: Option<&str>) {
        self.inner.update(|state| (state.account, state.node) = (account.to_owned(), node.map(str::to_owned)));
    }

    /// Whether the project's admission policies are in force (default: no): evictions and deletions by the account
    /// of the tokens are refused unless the pod is on the tokens' node, opted in, and named with its uid; resizes unless
    /// the pod is on that node and opted in, and memory limits are raised alone.
    pub fn set_policy(&self, on: bool) {
        self.inner.update(|state| state.policy = on);
    }

    /// Whether the policy on resizes is in force, where it is not as [`set_policy`](Self::set_policy) says of the others: who
    /// acts as a node resizes by itself.
    pub fn set_resize_policy(&self, on: bool) {
        self.inner.update(|state| state.resize_policy = Some(on));
    }

    /// Whether the plugin NodeRestriction is on (default: yes).
    pub fn set_node_restriction(&self, on: bool) {
        self.inner.update(|state| state.node_restriction = on);
    }

    /// Whether one may act as the node of one's token (default: yes, as from Kubernetes 1.36 on).
    pub fn set_constrained_impersonation(&self, on: bool) {
        self.inner.update(|state| state.constrained_impersonation = on);
    }
}

/// # Objects
impl Standin {
    /// Creates the pod or replaces the one of its name, and answers it as stored. Filled in where absent
    /// (and where there is a place for it): uid, creationTimestamp; always: resourceVersion.
    /// A pod that replaces one without saying its uid is the same pod (MODIFIED); one with another uid
    /// is another (DELETED, ADDED). Nothing else is checked: a pod may be as malformed as a test wants.
    pub fn put_pod(&self, mut pod: Value) -> Value {
        let text = |key: &str, default: &str| pod["metadata"][key].as_str().unwrap_or(default).to_owned();
        let key = (text("namespace", "default"), text("name", ""));
        if let Some(object) = pod.as_object_mut() {
            object.entry("kind").or_insert_with(|| "Pod".into());
            object.entry("apiVersion").or_insert_with(|| "v1".into());
        }
        let stored = self.inner.update(|state| {
            if let Some(old) = state.pods.get(&key).map(|old| old["metadata"]["uid"].clone()) {
                match pod.get_mut("metadata").and_then(Value::as_object_mut) {
                    Some(metadata) if !metadata.contains_key("uid") => {
                        metadata.insert("uid".into(), old);
                    }
                    Some(metadata) if metadata["uid"] != old => {
                        state.write(&key, None);
                    }
                    _ => {}
                }
            }
            state.fill_in(&mut pod);
            state.write(&key, Some(pod))
        });
        stored.map(|pod| Value::clone(&pod)).unwrap_or_default()
    }

    /// Changes a pod; whether it was there. The state is locked meanwhile: do not call the stand-in from `edit`.
    pub fn edit_pod(&self, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) -> bool {
        self.inner.update(|state| state.modify(&key(namespace, name), edit)).is_some()
    }

    /// Removes the pod's object at once (as grace 0 does); no process gets a signal.
    pub fn remove_pod(&self, namespace: &str, name: &str) {
        self.inner.update(|state| state.write(&key(namespace, name), None));
    }

    /// The pod as it is now.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        self.inner.read(|state| state.pods.get(&key(namespace, name)).map(|pod| Value::clone(pod)))
    }

    /// Creates or replaces a disruption budget.
    pub fn put_pdb(&self, budget: Pdb) {
        self.inner.update(|state| state.budgets.insert(key(&budget.namespace, &budget.name), budget));
    }

    /// Removes a disruption budget.
    pub fn remove_pdb(&self, namespace: &str, name: &str) {
        self.inner.update(|state| state.budgets.remove(&key(namespace, name)));
    }

    /// Makes a namespace known. Those of pods are; in an unknown one Events and evictions are 404.
    pub fn put_namespace(&self, namespace: &str) {
        self.inner.update(|state| state.namespaces.insert(namespace.to_owned(), false));
    }

    /// Makes a namespace known, with these labels and annotations.
    pub fn label_namespace(&self, namespace: &str, labels: &[(&str, &str)], annotations: &[(&str, &str)]) {
        let map = |pairs: &[(&str, &str)]| -> Value {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
        };
        let mut metadata = json!({"name": namespace, "labels": map(labels), "annotations": map(annotations)});
        metadata["labels"]["kubernetes.io/metadata.name"] = namespace.into();
        self.inner.update(|state| {
            state.namespaces.insert(namespace.to_owned(), false);
            state.namespace_metadata.insert(namespace.to_owned(), metadata);
        });
    }

    /// From now on the namespace is Terminating: 403 for evictions and for new content.
    pub fn terminate_namespace(&self, namespace: &str) {
        self.inner.update(|state| state.namespaces.insert(namespace.to_owned(), true));
    }

    /// All Events, in the spelling they were sent in.
    pub fn events(&self) -> Vec<Value> {
        self.inner.read(|state| state.events.values().cloned().collect())
    }

    /// The current resourceVersion.
    pub fn resource_version(&self) -> u64 {
        self.inner.read(|state| state.version)
    }
}

/// # The kubelet
impl Standin {
    /// Tells the kubelet the cgroup directories of a pod's containers: what runs in them (and below) gets
    /// SIGTERM and SIGKILL when the pod is deleted. Also before the pod is put; it replaces earlier ones.
    pub fn attach(&self, namespace: &str, name: &str, dirs: Vec<PathBuf>) {
        self.inner.update(|state| state.groups.insert(key(namespace, name), dirs));
    }

    /// From the arrival of the deletion to SIGTERM (default 20 ms; a real one was measured at 24–40 ms).
    pub fn set_sigterm_delay(&self, delay: Duration) {
        self.inner.update(|state| state.sigterm_delay = delay);
    }

    /// From the arrival of the deletion to the end of a pod that has no directories (default 200 ms).
    pub fn set_removal_delay(&self, delay: Duration) {
        self.inner.update(|state| state.removal_delay = delay);
    }
}

/// # The proxy
impl Standin {
    /// Where `GET …/pods/NAME:PORT/proxy/…` is forwarded to; a port that was never told is refused, as one that nobody
    /// listens on.
    pub fn forward(&self, namespace: &str, name: &str, port: u16, to: SocketAddr) {
        self.inner.update(|state| state.ports.insert((key(namespace, name), port), to));
    }
}

/// # Evidence
impl Standin {
    /// All requests, oldest first (the last 200,000).
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.inner.log).select(|_| true)
    }

    /// The requests with this method whose path contains the text.
    pub fn requests_to(&self, method: &str, path_contains: &str) -> Vec<Request> {
        lock(&self.inner.log).select(|request| request.method == method && request.path.contains(path_contains))
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        lock(&self.inner.log).clear();
    }

    /// TCP connections accepted so far.
    pub fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }

    /// TLS handshakes completed so far.
    pub fn handshakes(&self) -> usize {
        self.inner.handshakes.load(Ordering::SeqCst)
    }

    /// Watches open now.
    pub fn watches(&self) -> usize {
        self.inner.watches.load(Ordering::SeqCst)
    }

    /// Asks `what` now and after each change of the log or the state, until it answers or the time is over.
    pub fn wait_for<T>(&self, within: Duration, mut what: impl FnMut(&Standin) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + within;
        loop {
            let seen = self.inner.changes();
            let found = what(self);
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || left.is_zero() {
                return found;
            }
            self.inner.wait_beyond(seen, left);
        }
    }
}

/// # Trouble
impl Standin {
    /// Adds a fault behind those that are there.
    pub fn fault(&self, fault: Fault) {
        lock(&self.inner.faults).push(fault);
    }

    /// Takes all faults away. A request that hangs goes on hanging.
    pub fn clear_faults(&self) {
        lock(&self.inner.faults).clear();
    }

    /// From the state change of an eviction to its answer (default none; a real one took 9–16 ms in all).
    pub fn answer_delay(&self, delay: Duration) {
        self.inner.update(|state| state.answer_delay = delay);
    }

    /// Ends the open watches as a server does that stops.
    pub fn end_watches(&self) {
        self.tell(Tell::End);
    }

    /// Tears the connections of the open watches.
    pub fn cut_watches(&self) {
        self.tell(Tell::Cut);
    }

    /// The open watches stay open and silent, beyond their time-outs; they can still be ended and cut.
    pub fn hang_watches(&self) {
        self.tell(Tell::Hang);
    }

    /// ERROR 410 to the open watches, and their end.
    pub fn expire_watches(&self) {
        self.tell(Tell::Expire);
    }

    /// A BOOKMARK to the open watches that allow them.
    pub fn bookmark(&self) {
        self.tell(Tell::Bookmark);
    }

    fn tell(&self, tell: Tell) {
        let _ = self.inner.tell.send(tell); // nobody watches: fine
    }

    /// Answers new watches with this code until [`clear_faults`](Self::clear_faults): 403 and 429 as
    /// recorded, others with a plain `Status`.
    pub fn refuse_watches_with(&self, code: u16) {
        let fault = Fault::on("GET", "watch=").always();
        self.fault(match code {
            401 => fault.recorded("evict-401"),
            403 => fault.recorded("evict-403-rbac"),
            429 => fault.recorded("evict-429-apf"),
            _ => fault.answer(
                code,
                &[],
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code}),
            ),
        });
    }

    /// Whether `sendInitialEvents` works (default: no, as with an etcd that is too old).
    pub fn support_initial_events(&self, supported: bool) {
        self.inner.update(|state| state.initial_events = supported);
    }

    /// Everything from before the current resourceVersion is too old now: watches get ERROR 410, continue
    /// tokens and exact lists 410. Watches that are open go on.
    pub fn compact(&self) {
        self.inner.update(|state| state.compacted = state.version);
    }

    /// Changes kept for watches (default 4096); a watch from before, or lagging behind them, gets ERROR 410.
    pub fn set_history(&self, changes: usize) {
        self.inner.update(|state: &mut State| {
            state.history_limit = changes;
            state.trim();
        });
    }

    /// Stops listening and drops all connections. The port stays ours.
    pub fn go_away(&self) {
        self.order(Order::GoAway);
    }

    /// Listens on the same port again.
    pub fn come_back(&self) {
        self.order(Order::ComeBack);
    }

    /// The connections that are open stay open, and nothing that is sent over them is read or answered any more, as
    /// behind a load balancer or a NAT that has forgotten them. New ones are served.
    pub fn silence_connections(&self) {
        self.order(Order::FallSilent);
    }

    fn order(&self, order: impl FnOnce(SyncSender<()>) -> Order) {
        let (done, wait) = sync_channel(1);
        let sent = self.thread.orders.as_ref().map(|orders| orders.send(order(done)));
        if matches!(sent, Some(Ok(()))) {
            let _ = wait.recv();
        }
    }
}
