//! The API server in trouble, and the real binary beside it: every row of what an eviction can be answered
//! (facts.md, section 3), and every way in which a server can be silent, slow or away.
//!
//! In each test there is a pod `web` that crosses its threshold and a pod `calm` that never does; both are files, so
//! that these tests may run at once. Each ends with [`Scene::nothing_wrong_was_sent`]: what the stand-in's request log
//! holds is what may be there, and nothing else. That sampling goes on is seen in `samples_total`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use standin::cgroups::Tree;
use standin::{Fault, Pdb, PodBuilder, Request, Standin, answers};

use crate::agent::{Agent, soon};
use crate::slow::SlowFiles;
use crate::world::{MIB, NS, PREFIX, Place, World};

const LIMIT: u64 = 100 * MIB;
const THRESHOLD: u64 = 60 * MIB;
/// Where an agent asks for its own rights.
const RIGHTS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// Longer than the longest time between two looks, and than the first back-offs of what is passing.
const A_WHILE: Duration = Duration::from_secs(4);
/// "At once", on a machine that runs many tests.
const AT_ONCE: Duration = Duration::from_secs(2);

/// `FAULTS_LONG=1` adds the tests, and the times, that are too long for the leg.
pub fn long() -> bool {
    std::env::var_os("FAULTS_LONG").is_some()
}

/// A server, a pod `web` that is to cross, and one that never does.
struct Scene {
    world: World,
    web: Place,
    _calm: Place,
}

impl Scene {
    fn new() -> Scene {
        Scene::on(Standin::start())
    }

    fn on(server: Standin) -> Scene {
        let world = World { server, tree: Tree::simulated() };
        let (web, calm) = (guarded(&world, "web", |p| p), guarded(&world, "calm", |p| p));
        Scene { world, web, _calm: calm }
    }

    /// `web` crosses its threshold; answers when.
    fn cross(&self) -> Instant {
        self.web.group.simulate(THRESHOLD + 1, 0);
        Instant::now()
    }

    /// An agent whose token is in a file, and the file.
    fn with_a_token_file(&self) -> (Agent, tempfile::NamedTempFile) {
        let token = tempfile::NamedTempFile::new().expect("a temporary file");
        let kubeconfig = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(token.path(), self.world.server.token()).expect("ours");
        let text = self.world.server.kubeconfig_with_token_file(token.path());
        std::fs::write(kubeconfig.path(), text).expect("ours");
        let agent = self.world.agent(&["--kubeconfig", &kubeconfig.path().display().to_string()]);
        agent.wait_state("web", "app", "watching");
        // The question about its rights is not to be the one that finds the token rotated.
        agent.wait_until("its rights", |a| a.lines().iter().any(|l| l["message"] == "confinement").then_some(()));
        (agent, token)
    }

    /// It stays for long after it was evicted.
    fn web_stays(&self) {
        self.world.server.attach(NS, "web", Vec::new());
        self.world.server.set_removal_delay(seconds(600));
    }

    /// From now on the watch, which is open, tells nothing more.
    fn silence(&self, agent: &Agent) {
        agent.wait_state("web", "app", "watching");
        let open = self.world.server.wait_for(soon(), |s| (s.watches() > 0).then_some(()));
        assert!(open.is_some(), "it watches");
        self.world.server.hang_watches();
    }

    /// A new pod comes to be guarded: the watch works.
    fn appears(&self, agent: &Agent, name: &str) {
        guarded(&self.world, name, |p| p);
        agent.wait_state(name, "app", "watching");
    }

    /// Reading was all that was done, but for Events and evictions of these pods, each under the uid that it had when
    /// it was over.
    fn nothing_wrong_was_sent(&self, over: &[(&str, &str)]) {
        for request in self.world.server.requests() {
            let Request { method, path, query, body, .. } = &request;
            let eviction = |(name, uid): &(&str, &str)| {
                *path == format!("/api/v1/namespaces/{NS}/pods/{name}/eviction")
                    && body["deleteOptions"] == json!({"preconditions": {"uid": uid}})
                    && body["metadata"]["name"] == *name
            };
            let right = match method.as_str() {
                "GET" => {
                    let asked = query.contains("labelSelector") || query.contains("keeps-a-connection-open");
                    path == "/api/v1/pods" && query.contains("fieldSelector=spec.nodeName") && asked
                }
                "POST" if path.ends_with("/events") => true,
                "POST" if path == RIGHTS => true,
                "PATCH" => path.contains("/events/"),
                "POST" => query.is_empty() && over.iter().any(eviction),
                _ => false,
            };
            assert!(right, "this is not to be sent: {request:?}");
        }
    }

    /// The same, where `web` alone was over.
    fn only_web_was_asked_for(&self) {
        self.nothing_wrong_was_sent(&[("web", &self.web.uid)]);
    }
}

/// A pod at 10 % that is guarded at 60 %, of its own owner, so that no test waits for another pod's back-off.
fn guarded(world: &World, name: &str, change: impl FnOnce(PodBuilder) -> PodBuilder) -> Place {
    let place = world.place(name, Some(LIMIT), |p| {
        change(
            p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
                .owner("StatefulSet", &format!("owner-of-{name}"))
                .label("app", name),
        )
    });
    place.group.simulate(10 * MIB, 0);
    place
}

/// Waits for so long, in which containers are looked at as before (each at least once a second).
fn sampling_goes_on(agent: &Agent, time: Duration) {
    let before = agent.metric("pre_oom_killer_samples_total");
    std::thread::sleep(time);
    let seen = agent.metric("pre_oom_killer_samples_total") - before;
    assert!(seen >= time.as_secs_f64(), "{seen} looks in {time:?}");
}

fn wait_first(world: &World, number: usize, crossed: Instant, within: Duration) -> Vec<Request> {
    let evictions = world.server.wait_for(soon(), |_| Some(world.evictions()).filter(|e| e.len() >= number));
    let evictions = evictions.expect("it is asked for");
    let took = evictions[number - 1].at.saturating_duration_since(crossed);
    assert!(took < within, "asked for after {took:?}");
    evictions
}

/// Between each two requests.
fn gaps(requests: &[Request]) -> Vec<Duration> {
    requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

fn notes(events: &[Value]) -> Vec<String> {
    events.iter().map(|e| e["note"].as_str().unwrap_or_default().to_owned()).collect()
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

// --- what an eviction is answered ------------------------------------------------------------------------------------

/// 201: once, however long it takes to go.
pub fn accepted_is_asked_for_once() {
    let scene = Scene::new();
    scene.web_stays();
    let agent = scene.world.agent(&[]);
    let crossed = scene.cross();
    wait_first(&scene.world, 1, crossed, AT_ONCE);
    agent.wait_state("web", "app", "evicted");
    sampling_goes_on(&agent, A_WHILE);
    assert_eq!(scene.world.evictions().len(), 1);
    scene.only_web_was_asked_for();
}

/// 201, and the pod stays (somebody's webhook makes a dry run of it): told as that, and asked again, until it works.
pub fn an_accepted_eviction_that_does_nothing_is_told_and_asked_again() {
    let scene = Scene::new();
    scene.world.server.fault(Fault::on("POST", "/web/eviction").times(3).recorded("evict-201"));
    let agent = scene.world.agent(&[]);
    let crossed = scene.cross();
    wait_first(&scene.world, 1, crossed, AT_ONCE);
    agent.wait_state("web", "app", "ineffective");
    let told = scene.world.wait_events("PreOOMEvictionFailed", 2);
    assert!(notes(&told).iter().all(|n| n.contains("the pod was not marked for deletion")), "{:?}", notes(&told));
    let evictions = scene.world.wait_evictions(4);
    let waits = gaps(&evictions);
    assert!(waits.iter().all(|w| *w >= Duration::from_millis(480) && *w < seconds(45)), "{waits:?}");
    agent.wait_until("its end", |a| a.guard("web", "app").is_null().then_some(()));
    assert_eq!(scene.world.evictions().len(), 4);
    assert_eq!(scene.world.events("PreOOMEvictionFailed").len(), 2, "told once");
    scene.only_web_was_asked_for();
}

/// 404 and 409 for a pod that lives (a cache behind the server says so): asked again, with a back-off that grows. And
/// while the watch is silent nothing that is answered is the end; it speaks again, and there is no more request.
pub fn only_the_watch_is_the_end_of_it() {
    let scene = Scene::new();
    let other = guarded(&scene.world, "other", |p| p);
    let on = |name: &str| Fault::on("POST", &format!("/{name}/eviction")).times(4);
    scene.world.server.fault(on("web").fact(&answers::NODE_RESTRICTION_NOT_FOUND));
    scene.world.server.fault(on("other").recorded("evict-409-uid"));
    // They are over and do not grow, so that the limit is far: else they would be asked for sooner.
    other.group.simulate(THRESHOLD + 1, 0);
    scene.cross();
    let agent = scene.world.agent(&[]);
    agent.wait_state("web", "app", "gone");
    agent.wait_state("other", "app", "replaced");
    scene.world.wait_events("PreOOMEvicted", 4);
    for (name, code) in [("web", 404), ("other", 409)] {
        let asked = scene.world.server.requests_to("POST", &format!("/{name}/eviction"));
        let codes: Vec<_> = asked.iter().filter_map(|r| Some(r.answer?.0)).collect();
        assert_eq!(codes, [code, code, code, code, 201], "{name}");
        // Half of 0.2 s, 0.4 s, 0.8 s, 1.6 s at least, and the whole of it at most.
        for (wait, least) in gaps(&asked).iter().zip([100, 200, 400, 800]) {
            assert!(*wait >= Duration::from_millis(least - 20), "{name}: {:?}", gaps(&asked));
            assert!(*wait < Duration::from_millis(2 * least + 1000), "{name}: {:?}", gaps(&asked));
        }
    }
    scene.nothing_wrong_was_sent(&[("web", &scene.web.uid), ("other", &other.uid)]);
}

/// 404, and it is true: the watch is silent, and its container still over. Asked again until the watch speaks.
pub fn a_pod_that_is_gone_is_asked_for_until_the_watch_says_so() {
    let scene = Scene::new();
    let agent = scene.world.agent(&[]);
    scene.silence(&agent);
    scene.world.server.remove_pod(NS, "web");
    scene.cross();
    let asked = scene.world.wait_evictions(3);
    assert!(asked.iter().all(|r| r.answer.map(|a| a.0) == Some(404)));
    agent.wait_state("web", "app", "gone");
    assert!(scene.world.server.events().is_empty(), "nobody is told of what is no more");
    scene.world.server.end_watches();
    agent.wait_until("it is let go", |a| a.guard("web", "app").is_null().then_some(()));
    let sent = scene.world.evictions().len();
    sampling_goes_on(&agent, A_WHILE);
    assert_eq!(scene.world.evictions().len(), sent);
    scene.only_web_was_asked_for();
}

/// 409: behind a silent watch another pod has taken the name. It is not touched, however often the old one is asked for.
pub fn a_namesake_behind_a_silent_watch_is_not_touched() {
    let scene = Scene::new();
    let agent = scene.world.agent(&[]);
    scene.silence(&agent);
    let new = guarded(&scene.world, "web", |p| p);
    let stored = scene.world.server.pod(NS, "web");
    scene.cross(); // the old one's group
    let asked = scene.world.wait_evictions(3);
    assert!(asked.iter().all(|r| r.answer.map(|a| a.0) == Some(409)));
    agent.wait_state("web", "app", "replaced");
    assert_eq!(scene.world.server.pod(NS, "web"), stored, "the namesake is as it was");
    scene.only_web_was_asked_for();
    // Once the watch speaks again, the new one is guarded as any other, and the old one no more.
    scene.world.server.end_watches();
    agent.wait_until("the new one", |a| (a.guard("web", "app")["uid"] == new.uid.as_str()).then_some(()));
    let sent = scene.world.evictions().len();
    sampling_goes_on(&agent, A_WHILE);
    assert_eq!(scene.world.evictions().len(), sent);
    new.group.simulate(THRESHOLD + 1, 0);
    let last = scene.world.wait_evictions(sent + 1).pop().expect("one more");
    assert_eq!(last.body["deleteOptions"]["preconditions"]["uid"], new.uid.as_str());
    assert_eq!(last.answer.map(|a| a.0), Some(201));
    scene.nothing_wrong_was_sent(&[("web", &scene.web.uid), ("web", &new.uid)]);
}

/// 429 by a budget, in the words of all three of its kinds: told once with its name, asked again with a back-off.
pub fn a_budget_blocks_and_the_back_off_grows() {
    let scene = Scene::new();
    let (unseen, unmanaged) = (guarded(&scene.world, "unseen", |p| p), guarded(&scene.world, "unmanaged", |p| p));
    scene.world.server.put_pdb(Pdb::blocking(NS, "web-pdb", &[("app", "web")]));
    scene.world.server.put_pdb(Pdb { observed: false, ..Pdb::blocking(NS, "unseen-pdb", &[("app", "unseen")]) });
    scene
        .world
        .server
        .put_pdb(Pdb { sync_failed: true, ..Pdb::blocking(NS, "unmanaged-pdb", &[("app", "unmanaged")]) });
    // It is over and does not grow, so that the limit is far: there the server's Retry-After is kept to.
    unseen.group.simulate(THRESHOLD + 1, 0);
    let agent = scene.world.agent(&[]);
    let begin = scene.cross();
    unmanaged.group.simulate(THRESHOLD + 1, 0);
    for (name, words) in [
        ("web", "PodDisruptionBudget web-pdb (The disruption budget web-pdb needs 1 healthy pods and has 1 currently)"),
        ("unseen", "unseen-pdb is still being processed by the server"),
        ("unmanaged", "unmanaged-pdb does not allow evicting pods currently"),
    ] {
        agent.wait_state(name, "app", "blocked");
        let told = scene.world.server.wait_for(soon(), |_| {
            let events = scene.world.events("PreOOMEvictionBlocked");
            notes(&events).into_iter().find(|n| n.contains(words))
        });
        assert!(told.is_some(), "{words}: {:?}", notes(&scene.world.server.events()));
    }
    assert_eq!(agent.metric("pre_oom_killer_blocked_pods"), 3.0);
    sampling_goes_on(&agent, seconds(8).saturating_sub(begin.elapsed()));
    let to = |name: &str| scene.world.server.requests_to("POST", &format!("/{name}/eviction"));
    let waits = gaps(&to("web"));
    assert!((2..=8).contains(&waits.len()), "{waits:?}");
    // Half of 1 s, 2 s, 4 s at least.
    for (wait, least) in waits.iter().zip([500, 1000, 2000]) {
        assert!(*wait >= Duration::from_millis(least - 20), "{waits:?}");
    }
    assert_eq!(to("unseen").len(), 1, "the server said 10 s");
    assert_eq!(scene.world.events("PreOOMEvictionBlocked").len(), 6, "each told once, on pod and owner");
    let all = [("web", &*scene.web.uid), ("unseen", &unseen.uid), ("unmanaged", &unmanaged.uid)];
    scene.nothing_wrong_was_sent(&all);
}

/// The server says 429 before 409, so a retry loop would go on for a namesake; the watch ends it.
pub fn a_namesake_during_a_block_ends_the_retries() {
    let scene = Scene::new();
    scene.world.server.put_pdb(Pdb::blocking(NS, "web-pdb", &[("app", "web")]));
    let agent = scene.world.agent(&[]);
    scene.cross();
    scene.world.wait_evictions(2);
    let new = guarded(&scene.world, "web", |p| p);
    agent.wait_until("the new one", |a| (a.guard("web", "app")["uid"] == new.uid.as_str()).then_some(()));
    let sent = scene.world.evictions().len();
    // The old one's process is still there and over; three back-offs would have passed.
    sampling_goes_on(&agent, seconds(8));
    assert_eq!(scene.world.evictions().len(), sent, "the retries have ended");
    assert_eq!(agent.metric("pre_oom_killer_blocked_pods"), 0.0);
    assert_eq!(agent.guard("web", "app")["state"], "watching");
    scene.only_web_was_asked_for();
}

/// 429 in plain text: not the pod's fault, and not before the server's Retry-After.
pub fn throttling_is_waited_out() {
    let scene = Scene::new();
    scene.world.server.fault(Fault::on("POST", "/eviction").recorded("evict-429-apf"));
    scene.world.server.fault(Fault::on("POST", "/eviction").answer(
        429,
        &[("retry-after", "3")],
        "Too many requests\n",
    ));
    let agent = scene.world.agent(&[]);
    scene.cross();
    let evictions = scene.world.wait_evictions(3);
    scene.world.wait_events("PreOOMEvicted", 2);
    let waits = gaps(&evictions);
    assert!(waits[0] >= seconds(1) && waits[1] >= seconds(3), "{waits:?}");
    assert!(waits[1] < seconds(10), "{waits:?}");
    assert_eq!(agent.metric("pre_oom_killer_blocked_pods"), 0.0);
    assert!(scene.world.events("PreOOMEvictionBlocked").is_empty(), "no budget had a part in it");
    assert_eq!(evictions.len(), 3);
    scene.only_web_was_asked_for();
}

/// 403 with its cause: all of it is going anyway. Asked again as where a budget blocks, until the pod is gone.
pub fn a_namespace_that_ends_is_not_hurried() {
    let scene = Scene::new();
    let agent = scene.world.agent(&[]);
    scene.world.server.terminate_namespace(NS);
    let begin = scene.cross();
    assert_eq!(scene.world.wait_evictions(1)[0].answer.map(|a| a.0), Some(403));
    agent.wait_state("web", "app", "namespace-terminating");
    sampling_goes_on(&agent, seconds(8).saturating_sub(begin.elapsed()));
    let waits = gaps(&scene.world.evictions());
    assert!((2..=8).contains(&waits.len()), "{waits:?}");
    for (wait, least) in waits.iter().zip([500, 1000, 2000]) {
        assert!(*wait >= Duration::from_millis(least - 20), "{waits:?}");
    }
    scene.world.server.remove_pod(NS, "web");
    agent.wait_until("it is let go", |a| a.guard("web", "app").is_null().then_some(()));
    let sent = scene.world.evictions().len();
    sampling_goes_on(&agent, A_WHILE);
    assert_eq!(scene.world.evictions().len(), sent);
    scene.only_web_was_asked_for();
}

/// Somebody's webhook says no, without a code or with one of its own, and some seconds later yes: told once, in its
/// words, and asked again with a back-off; evicted when it allows it.
pub fn a_webhook_that_denies_for_a_while_is_asked_again_in_its_words() {
    let scene = Scene::new();
    let cases = [
        (
            "evict-400-webhook-denied",
            "400: admission webhook \"guard.facts.example.com\" denied the request without explanation",
        ),
        (
            "evict-400-webhook-message",
            "400: admission webhook \"guard.facts.example.com\" denied the request: not today: change freeze",
        ),
        ("evict-403-webhook", "403: admission webhook \"guard.facts.example.com\" denied the request: no"),
        ("evict-404-webhook", "404: admission webhook \"guard.facts.example.com\" denied the request: no such thing"),
        ("evict-409-webhook", "409: admission webhook \"guard.facts.example.com\" denied the request: busy"),
        (
            "evict-429-webhook",
            "429: admission webhook \"guard.facts.example.com\" denied the request: too many evictions, wait",
        ),
        ("evict-429-webhook-reason", "429: admission webhook \"guard.facts.example.com\" denied the request: wait"),
        ("evict-500-webhook", "500: admission webhook \"guard.facts.example.com\" denied the request: webhook broke"),
        ("evict-503-webhook", "503: admission webhook \"guard.facts.example.com\" denied the request: later"),
    ];
    let places: Vec<Place> = cases.iter().map(|(name, _)| guarded(&scene.world, name, |p| p)).collect();
    for (name, _) in cases {
        scene.world.server.fault(Fault::on("POST", &format!("/{name}/eviction")).always().recorded(name));
    }
    // They are over and do not grow, so that the limit is far: there the webhook's Retry-After is kept to.
    places.iter().for_each(|p| p.group.simulate(THRESHOLD + 1, 0));
    let begin = Instant::now();
    let agent = scene.world.agent(&[]);
    let events = scene.world.wait_events("PreOOMEvictionFailed", 2 * cases.len());
    for (name, words) in cases {
        agent.wait_state(name, "app", "denied");
        let about = |e: &Value| e["regarding"]["name"].as_str().is_some_and(|n| n.ends_with(name));
        let told: Vec<_> = events.iter().filter(|e| about(e)).collect();
        assert_eq!(told.len(), 2, "{name}, on the pod and on its owner: {:?}", notes(&events));
        assert!(told.iter().all(|e| e["note"].as_str().is_some_and(|n| n.contains(words))), "{name}: {told:?}");
    }
    sampling_goes_on(&agent, seconds(6).saturating_sub(begin.elapsed()));
    for (name, _) in cases {
        let waits = gaps(&scene.world.server.requests_to("POST", &format!("/{name}/eviction")));
        if name == "evict-429-webhook-reason" {
            assert!(waits.is_empty(), "it said 7 s: {waits:?}");
            continue;
        }
        assert!((2..=6).contains(&waits.len()), "{name}: {waits:?}");
        for (wait, least) in waits.iter().zip([500, 1000, 2000]) {
            assert!(*wait >= Duration::from_millis(least - 20), "{name}: {waits:?}");
        }
    }
    assert_eq!(scene.world.events("PreOOMEvictionFailed").len(), 2 * cases.len(), "each told once");
    assert_eq!(agent.metric("pre_oom_killer_blocked_pods"), 0.0, "no budget had a part in it");
    scene.world.server.clear_faults();
    scene.world.wait_events("PreOOMEvicted", 2 * cases.len());
    let over: Vec<_> = cases.iter().zip(&places).map(|((name, _), p)| (*name, &*p.uid)).collect();
    scene.nothing_wrong_was_sent(&over);
}

/// No right, refused by admission, two budgets: told with the server's words, once, and asked again only after a
/// minute. (`FAULTS_LONG=1` waits for that minute.)
pub fn refusals_are_told_in_the_servers_words_and_not_asked_again_soon() {
    let scene = Scene::new();
    let cases = [
        (
            "evict-403-rbac",
            "403: pods \\\"NAME\\\" is forbidden: User \\\"system:serviceaccount:pre-oom-killer:pre-oom-killer\\\" cannot create resource \\\"pods/eviction\\\"",
        ),
        (
            "evict-403-noderestriction",
            "403: pods \\\"NAME\\\" is forbidden: node node-host can only evict pods with spec.nodeName set to itself",
        ),
        (
            "evict-403-vap-forbidden",
            "403: pods \\\"NAME\\\" is forbidden: ValidatingAdmissionPolicy 'deny' with binding 'deny' denied request: evictions are not allowed here",
        ),
        ("evict-422-vap-default", "422: pods \\\"NAME\\\" is forbidden: ValidatingAdmissionPolicy 'deny'"),
        ("evict-413-vap-toolarge", "413: pods \\\"NAME\\\" is forbidden: ValidatingAdmissionPolicy 'deny'"),
        (
            "evict-vap-cel-error",
            "422: pods \\\"NAME\\\" is forbidden: ValidatingAdmissionPolicy 'deny' with binding 'deny' denied request: expression 'object.noSuch.field == 'x'' resulted in error",
        ),
        (
            "two-budgets",
            "500: This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ),
    ];
    let places: Vec<Place> = cases.iter().map(|(name, _)| guarded(&scene.world, name, |p| p)).collect();
    for (name, _) in cases.iter().filter(|(name, _)| name.starts_with("evict-")) {
        scene.world.server.fault(Fault::on("POST", &format!("/{name}/eviction")).always().recorded(name));
    }
    for budget in ["one", "two"] {
        scene.world.server.put_pdb(Pdb::blocking(NS, budget, &[("app", "two-budgets")]));
    }
    let agent = scene.world.agent(&[]);
    places.iter().for_each(|p| p.group.simulate(THRESHOLD + 1, 0));
    scene.world.wait_evictions(cases.len());
    let events = scene.world.wait_events("PreOOMEvictionFailed", 2 * cases.len());
    for (name, words) in cases {
        agent.wait_state(name, "app", "refused");
        let words = words.replace("NAME", name).replace('\\', "");
        let told: Vec<_> = events.iter().filter(|e| e["note"].as_str().is_some_and(|n| n.contains(&words))).collect();
        let on: Vec<_> = told.iter().map(|e| e["regarding"]["kind"].as_str().unwrap_or_default()).collect();
        assert!(on.len() == 2 && on.contains(&"Pod") && on.contains(&"StatefulSet"), "{name}: {:?}", notes(&events));
    }
    sampling_goes_on(&agent, seconds(6));
    assert_eq!(scene.world.evictions().len(), cases.len(), "once each");
    if long() {
        sampling_goes_on(&agent, seconds(75));
        assert_eq!(scene.world.evictions().len(), 2 * cases.len(), "once a minute");
    }
    assert_eq!(scene.world.events("PreOOMEvictionFailed").len(), 2 * cases.len(), "told once");
    let over: Vec<_> = cases.iter().zip(&places).map(|((name, _), p)| (*name, &*p.uid)).collect();
    scene.nothing_wrong_was_sent(&over);
}

/// 500 with a reason, 502, 503, 504, a connection lost before and after it was handled: asked again under the same
/// precondition, and told as the server's failure.
pub fn what_passes_is_asked_again_under_the_same_precondition() {
    let scene = Scene::new();
    let on = || Fault::on("POST", "/eviction");
    for fault in [
        on().recorded("evict-500-webhook-unreachable"),
        on().recorded("evict-500-webhook-timeout").delay(seconds(2)),
        on().answer(502, &[("content-type", "text/html")], "<html>Bad Gateway</html>"),
        on().answer(503, &[], "no endpoints\n"),
        on().answer(504, &[], json!({"kind": "Status", "status": "Failure", "reason": "Timeout", "code": 504})),
        on().reset(),
    ] {
        scene.world.server.fault(fault);
    }
    let agent = scene.world.agent(&[]);
    let crossed = scene.cross();
    wait_first(&scene.world, 1, crossed, AT_ONCE);
    sampling_goes_on(&agent, seconds(2));
    scene.world.wait_events("PreOOMEvicted", 2);
    let evictions = scene.world.evictions();
    assert_eq!(evictions.len(), 7);
    // Bounded: 0.2 s doubling to 10 s, not a storm.
    assert!(gaps(&evictions).iter().all(|g| *g >= Duration::from_millis(90)), "{:?}", gaps(&evictions));
    let told = notes(&scene.world.events("PreOOMEvictionFailed"));
    assert!(told.iter().any(|n| n.contains("dead.example.com")), "{told:?}");
    scene.only_web_was_asked_for();
}

/// The answer is lost, but it happened: it is not evicted twice, and nobody else is.
pub fn an_answer_lost_after_the_act_is_harmless() {
    let scene = Scene::new();
    scene.web_stays();
    scene.world.server.fault(Fault::on("POST", "/eviction").reset().after_handling());
    let agent = scene.world.agent(&[]);
    scene.cross();
    scene.world.server.wait_for(soon(), |_| Some(()).filter(|()| !scene.world.evictions().is_empty()));
    agent.wait_until("the pod is seen to end", |a| (a.guard("web", "app")["state"] == "never").then_some(()));
    sampling_goes_on(&agent, A_WHILE);
    assert!(scene.world.evictions().len() <= 2);
    scene.only_web_was_asked_for();
}

/// No answer at all, by either connection: given up after 30 s, then asked again. Sampling, other pods and the pages go
/// on.
pub fn an_answer_that_never_comes_is_given_up() {
    let scene = Scene::new();
    let other = guarded(&scene.world, "other", |p| p);
    scene.world.server.fault(Fault::on("POST", "/web/eviction").times(2).hang_before_headers());
    let agent = scene.world.agent(&[]);
    let crossed = scene.cross();
    wait_first(&scene.world, 2, crossed, AT_ONCE + AT_ONCE);
    sampling_goes_on(&agent, seconds(2));
    other.group.simulate(THRESHOLD + 1, 0);
    let crossed = Instant::now();
    wait_first(&scene.world, 3, crossed, AT_ONCE);
    assert_eq!(scene.world.evictions().len(), 3);
    sampling_goes_on(&agent, seconds(20));
    assert_eq!(scene.world.evictions().len(), 3, "it is still waited for");
    let events = scene.world.wait_events("PreOOMEvicted", 4);
    assert!(notes(&events).iter().any(|n| n.contains("pod web")), "{:?}", notes(&events));
    let asked = scene.world.server.requests_to("POST", "/web/eviction");
    let waits = gaps(&asked);
    assert!(waits.len() == 2 && waits[0] >= seconds(1) && waits[0] < seconds(3), "{waits:?}");
    assert!(waits[1] >= seconds(27) && waits[1] < seconds(40), "{waits:?}");
    scene.nothing_wrong_was_sent(&[("web", &scene.web.uid), ("other", &other.uid)]);
}

/// A webhook that takes 10 s: waited for, asked twice (the first connection could have been dead) under one
/// precondition, and in nobody's way.
pub fn a_slow_answer_is_waited_for() {
    let scene = Scene::new();
    let other = guarded(&scene.world, "other", |p| p);
    scene.world.server.fault(Fault::on("POST", "/web/eviction").always().delay(seconds(10)));
    let agent = scene.world.agent(&[]);
    let crossed = scene.cross();
    wait_first(&scene.world, 1, crossed, AT_ONCE);
    other.group.simulate(THRESHOLD + 1, 0);
    scene.world.server.wait_for(AT_ONCE, |s| s.requests_to("POST", "/other/eviction").pop()).expect("at once");
    sampling_goes_on(&agent, seconds(6));
    assert_eq!(agent.guard("web", "app")["state"], "evicting");
    scene.world.wait_events("PreOOMEvicted", 4);
    sampling_goes_on(&agent, A_WHILE);
    let asked = |name: &str| scene.world.server.requests_to("POST", &format!("/{name}/eviction"));
    assert_eq!((asked("web").len(), asked("other").len()), (2, 1));
    assert_eq!(agent.metric("pre_oom_killer_evictions_total"), 2.0);
    assert!(agent.told("PreOOMEvictionFailed").is_empty());
    scene.nothing_wrong_was_sent(&[("web", &scene.web.uid), ("other", &other.uid)]);
}

/// The connection for evictions is open, and swallows what is sent: a second later it goes out on another one.
pub fn a_dead_connection_costs_a_second() {
    let scene = Scene::new();
    let agent = scene.world.agent(&[]);
    agent.wait_state("web", "app", "watching");
    // As it is near, the connection is opened, and lies in the pool.
    scene.web.group.simulate(THRESHOLD - 1, 0);
    let asked = || scene.world.server.requests().iter().any(|r| r.query.contains("keeps-a-connection-open"));
    scene.world.server.wait_for(soon(), |_| asked().then_some(())).expect("near");
    std::thread::sleep(seconds(1));
    scene.world.server.silence_connections();
    let crossed = scene.cross();
    let took = wait_first(&scene.world, 1, crossed, seconds(2) + AT_ONCE)[0].at.saturating_duration_since(crossed);
    assert!(took >= Duration::from_millis(900), "the connection was not dead: {took:?}");
    agent.wait_told("PreOOMEvicted");
    std::thread::sleep(seconds(2));
    assert_eq!(scene.world.evictions().len(), 1, "what was swallowed was not read");
    assert!(agent.told("PreOOMEvictionFailed").is_empty());
    scene.only_web_was_asked_for();
}

/// While a container is near its threshold, its connection is tried each 10 s: one that went dead is not the eviction's.
pub fn a_dead_connection_is_found_before_the_eviction() {
    let scene = Scene::new();
    let agent = scene.world.agent(&[]);
    agent.wait_state("web", "app", "watching");
    let pings = || {
        let all = scene.world.server.requests_to("GET", "/api/v1/pods");
        all.into_iter().filter(|r| r.query.contains("keeps-a-connection-open")).collect::<Vec<_>>()
    };
    scene.web.group.simulate(THRESHOLD - 1, 0);
    scene.world.server.wait_for(soon(), |_| (!pings().is_empty()).then_some(())).expect("near");
    scene.world.server.silence_connections();
    scene.world.server.wait_for(seconds(15), |_| (pings().len() == 2).then_some(())).expect("by another connection");
    let waits = gaps(&pings());
    assert!(waits[0] >= seconds(10) && waits[0] < seconds(13), "10 s, and 1 s to find it dead: {waits:?}");
    let crossed = scene.cross();
    wait_first(&scene.world, 1, crossed, Duration::from_millis(900));
    scene.only_web_was_asked_for();
}

/// 400 and 415 by the server itself say that we are wrong: told loudly, and asked again only after a minute.
/// (`FAULTS_LONG=1` waits for that minute.)
pub fn our_own_mistakes_are_told_and_not_repeated_soon() {
    let scene = Scene::new();
    let other = guarded(&scene.world, "other", |p| p);
    scene.world.server.fault(Fault::on("POST", "/web/eviction").always().recorded("evict-400-name-mismatch"));
    scene.world.server.fault(Fault::on("POST", "/other/eviction").always().recorded("evict-415"));
    let agent = scene.world.agent(&[]);
    scene.cross();
    other.group.simulate(THRESHOLD + 1, 0);
    let events = scene.world.wait_events("PreOOMEvictionFailed", 4);
    assert!(notes(&events).iter().all(|n| n.contains("this is a bug of pre-oom-killer")), "{:?}", notes(&events));
    agent.wait_state("web", "app", "mistake");
    sampling_goes_on(&agent, A_WHILE);
    assert_eq!(scene.world.evictions().len(), 2, "one each");
    if long() {
        sampling_goes_on(&agent, seconds(75));
        assert_eq!(scene.world.evictions().len(), 4, "once a minute");
    }
    scene.nothing_wrong_was_sent(&[("web", &scene.web.uid), ("other", &other.uid)]);
}

/// The token is rotated: its file is read anew at once when an eviction is answered 401. The watch, which is open, goes
/// on; a new one finds the new token within about a minute, as kube reads the file so often (waited for here).
pub fn a_rotated_token_is_read_anew() {
    let scene = Scene::new();
    let (agent, token) = scene.with_a_token_file();
    scene.world.server.set_token("rotated");
    std::fs::write(token.path(), "rotated").expect("ours");
    let crossed = scene.cross();
    wait_first(&scene.world, 2, crossed, AT_ONCE + AT_ONCE);
    let evictions = scene.world.wait_evictions(2);
    let answers: Vec<_> = evictions.iter().filter_map(|e| Some(e.answer?.0)).collect();
    assert_eq!(answers, [401, 201], "one 401, then the new token");
    // The watch's own client.
    scene.world.server.end_watches();
    sampling_goes_on(&agent, seconds(5));
    assert_eq!(agent.get("/readyz").0, 200);
    let begin = Instant::now();
    guarded(&scene.world, "later", |p| p);
    while agent.guard("later", "app")["state"] != "watching" {
        assert!(begin.elapsed() < seconds(35), "a back-off of at most 30 s");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(scene.world.evictions().len(), 2);
    scene.only_web_was_asked_for();
}

/// No eviction meets the 401 first: the Event itself does, and is written all the same.
pub fn an_event_survives_a_rotated_token() {
    let scene = Scene::new();
    let (agent, token) = scene.with_a_token_file();
    scene.world.server.set_token("rotated");
    std::fs::write(token.path(), "rotated").expect("ours");
    guarded(&scene.world, "invalid", |p| p.annotation(&format!("{PREFIX}memory-usage-threshold"), "lots"));
    scene.world.wait_events("PreOOMInvalidGuard", 1);
    let answers = scene.world.server.wait_for(soon(), |s| {
        let posts = s.requests_to("POST", "/events");
        posts.iter().map(|e| Some(e.answer?.0)).collect::<Option<Vec<_>>>()
    });
    assert_eq!(answers, Some(vec![401, 201]), "one 401, then the new token");
    assert_eq!(agent.metric("pre_oom_killer_events_lost_total"), 0.0);
    scene.nothing_wrong_was_sent(&[]);
}

// --- lists and watches -----------------------------------------------------------------------------------------------

/// Ended, cut, cut in the middle of a line, expired, forgotten (410 at the next watch), refused with 403, 429, 500
/// and 504, a bookmark without containers: each time the pods that come after are guarded, and nobody is evicted.
pub fn a_watch_in_trouble_is_begun_anew() {
    let scene = Scene::new();
    let server = &scene.world.server;
    let agent = scene.world.agent(&[]);
    let watch = || Fault::on("GET", "watch=");
    scene.appears(&agent, "first");
    server.bookmark();
    scene.appears(&agent, "after-bookmark");
    server.end_watches();
    scene.appears(&agent, "after-end");
    server.fault(watch().cut_after(100));
    server.cut_watches();
    scene.appears(&agent, "after-cut");
    server.expire_watches();
    scene.appears(&agent, "after-410");
    server.go_away();
    server.compact();
    server.fault(watch().recorded("watch-410"));
    server.fault(watch().recorded("watch-504"));
    server.come_back();
    scene.appears(&agent, "after-compaction");
    for fault in [watch().recorded("evict-403-rbac"), watch().recorded("evict-429-apf"), watch().answer(500, &[], "?")]
    {
        server.fault(fault);
    }
    server.end_watches();
    scene.appears(&agent, "after-refusals");
    sampling_goes_on(&agent, seconds(2));
    assert!(scene.world.evictions().is_empty());
    assert_eq!(agent.get("/readyz"), (200, "ok\n".into()));
    assert!(agent.metric("pre_oom_killer_watch_restarts_total") >= 3.0);
    // All that were there before are guarded as before; each watch has an end.
    let crossed = scene.cross();
    wait_first(&scene.world, 1, crossed, AT_ONCE);
    for request in server.requests().iter().filter(|r| r.query.contains("watch=")) {
        let timeout: u64 = request.query_value("timeoutSeconds").and_then(|t| t.parse().ok()).expect("a time-out");
        assert!(timeout <= 200, "{timeout}");
    }
    scene.only_web_was_asked_for();
}

/// A list or a watch whose headers never come is given up after 10 s; one that is slow, but not so slow, is not.
pub fn a_hang_before_the_headers_is_noticed() {
    let scene = Scene::new();
    let server = &scene.world.server;
    server.fault(Fault::on("GET", "/api/v1/pods?").hang_before_headers());
    server.fault(Fault::on("GET", "/api/v1/pods?").delay(seconds(5)));
    let begin = Instant::now();
    let agent = Agent::launch(server, scene.world.tree.root(), &[]);
    assert_eq!((agent.get("/healthz").0, agent.get("/readyz").0), (200, 503));
    agent.wait_until("ready", |a| (a.get("/readyz").0 == 200).then_some(()));
    let took = begin.elapsed();
    assert!(took >= seconds(15) && took < seconds(30), "10 s, a back-off, 5 s: {took:?}");
    agent.wait_state("web", "app", "watching");

    // Now the watch; and while it hangs, what is known is guarded.
    server.fault(Fault::on("GET", "watch=").hang_before_headers());
    server.end_watches();
    server.wait_for(soon(), |s| Some(()).filter(|()| s.watches() == 0));
    guarded(&scene.world, "later", |p| p);
    let begin = Instant::now();
    let crossed = scene.cross();
    wait_first(&scene.world, 1, crossed, AT_ONCE);
    sampling_goes_on(&agent, seconds(5));
    assert!(agent.guard("later", "app").is_null(), "the watch hangs");
    agent.wait_state("later", "app", "watching");
    assert!(begin.elapsed() < seconds(25), "{:?}", begin.elapsed());
    assert_eq!(scene.world.evictions().len(), 1);
    scene.only_web_was_asked_for();
}

/// A list that stops in its middle is given up after 30 s, at the start and later; kube itself would wait for ever.
pub fn a_list_that_stops_in_its_middle_is_begun_anew() {
    let scene = Scene::new();
    let server = &scene.world.server;
    let agent = scene.world.agent(&[]);
    scene.appears(&agent, "first");
    server.fault(Fault::on("GET", "watch=").recorded("watch-410"));
    server.fault(Fault::on("GET", "labelSelector").hang_after(1000));
    server.end_watches();
    server.wait_for(soon(), |s| Some(()).filter(|()| s.requests_to("GET", "/api/v1/pods").len() >= 4));
    guarded(&scene.world, "later", |p| p);
    let (begin, crossed) = (Instant::now(), scene.cross());
    wait_first(&scene.world, 1, crossed, AT_ONCE);
    sampling_goes_on(&agent, seconds(5));
    assert!(agent.guard("later", "app").is_null(), "the list hangs");
    agent.wait_state("later", "app", "watching");
    assert!(begin.elapsed() < seconds(45), "{:?}", begin.elapsed());
    assert_eq!(scene.world.evictions().len(), 1);
    scene.only_web_was_asked_for();
}

/// A watch that falls silent is noticed by its time-out (190 s) and 5 s: that is waited for under `FAULTS_LONG=1`
/// alone. Meanwhile, what is known is guarded.
pub fn a_silent_watch_does_not_stop_the_guarding() {
    let scene = Scene::new();
    let agent = scene.world.agent(&[]);
    scene.appears(&agent, "first");
    scene.silence(&agent);
    let begin = Instant::now();
    guarded(&scene.world, "later", |p| p);
    sampling_goes_on(&agent, seconds(2));
    let crossed = scene.cross();
    wait_first(&scene.world, 1, crossed, AT_ONCE);
    agent.wait_told("PreOOMEvicted");
    sampling_goes_on(&agent, A_WHILE);
    assert!(agent.guard("later", "app").is_null());
    assert_eq!(scene.world.evictions().len(), 1);
    if long() {
        while agent.guard("later", "app")["state"] != "watching" {
            assert!(begin.elapsed() < seconds(240), "195 s and a back-off");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(begin.elapsed() > seconds(150), "it was silent: {:?}", begin.elapsed());
    }
    scene.only_web_was_asked_for();
}

/// A server that is away, and that refuses when it is back: both are logged once, the last is what `/readyz` says; and no
/// line of a library stands between ours.
pub fn each_kind_of_trouble_is_told_once_and_in_its_own_words() {
    let scene = Scene::new();
    let server = &scene.world.server;
    let agent = scene.world.agent(&[]);
    let troubles = || -> Vec<String> {
        let lines = agent
            .lines()
            .into_iter()
            .filter(|l| l["message"].as_str().is_some_and(|m| m.contains("cannot be watched")));
        lines.filter_map(|l| l["error"].as_str().map(str::to_owned)).collect()
    };
    server.go_away();
    agent.wait_until("told once", |_| (troubles().len() == 1).then_some(()));
    agent.wait_until("tried again", |a| (a.metric("pre_oom_killer_watch_restarts_total") >= 3.0).then_some(()));
    server.deny("list", "pods");
    server.deny("watch", "pods");
    server.come_back();
    agent.wait_until("refused", |a| a.get("/readyz").1.contains("403 Forbidden").then_some(()));
    let again = agent.metric("pre_oom_killer_watch_restarts_total") + 1.0;
    agent.wait_until("again", |a| (a.metric("pre_oom_killer_watch_restarts_total") >= again).then_some(()));
    let told = troubles();
    assert!(told.len() == 2 && !told[0].contains("403") && told[1].contains("403 Forbidden"), "{told:?}");
    assert!(!agent.get("/readyz").1.contains("cannot be reached"));
    server.allow("list", "pods");
    server.allow("watch", "pods");
    agent.wait_until("heard of", |a| (a.get("/readyz").1 == "ok\n").then_some(()));
    let foreign = |l: &Value| {
        ["failed with error", "eof in poll"].iter().any(|w| l["message"].as_str().is_some_and(|m| m.contains(w)))
    };
    let foreign: Vec<Value> = agent.lines().into_iter().filter(foreign).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

/// Away for 25 s (10 minutes under `FAULTS_LONG=1`): sampled and decided as before, told by `/readyz` and the gauge;
/// when it is back all goes on without a restart. A pod that went meanwhile is not asked for.
pub fn a_server_that_is_away_is_waited_for() {
    let scene = Scene::new();
    let server = &scene.world.server;
    let went = guarded(&scene.world, "went", |p| p);
    let agent = scene.world.agent(&[]);
    agent.wait_state("went", "app", "watching");
    agent.wait_state("web", "app", "watching");
    server.go_away();
    let away = Instant::now();
    sampling_goes_on(&agent, seconds(3));
    scene.cross();
    agent.wait_state("web", "app", "unknown");
    assert!(scene.world.evictions().is_empty(), "it could not arrive");
    server.remove_pod(NS, "went");
    let new = guarded(&scene.world, "new", |p| p);
    let time = seconds(if long() { 600 } else { 25 });
    while away.elapsed() < time {
        sampling_goes_on(&agent, seconds(2));
        let (code, text) = agent.get("/readyz");
        assert!(code == 200 && text.contains("the list of pods is"), "{code} {text}");
    }
    let age = agent.metric("pre_oom_killer_pod_list_age_seconds");
    assert!(age > time.as_secs_f64() - 10.0 && age < away.elapsed().as_secs_f64() + 1.0, "{age}");
    let sent = server.requests().len();
    server.come_back();
    let back = Instant::now();
    wait_first(&scene.world, 1, back, seconds(2)); // not the back-off of an eviction, which is up to 10 s
    agent.wait_state("new", "app", "watching");
    assert!(back.elapsed() < seconds(32), "the longest back-off of a watch is 30 s: {:?}", back.elapsed());
    agent.wait_until("no more said to be old", |a| (a.get("/readyz").1 == "ok\n").then_some(()));
    assert_eq!(agent.metric("pre_oom_killer_pod_list_age_seconds"), 0.0);
    assert!(agent.guard("went", "app").is_null());
    went.group.simulate(LIMIT, 0);
    sampling_goes_on(&agent, A_WHILE);
    assert_eq!(scene.world.evictions().len(), 1);
    assert!(server.requests().len() - sent < 12, "no storm: {:?}", &server.requests()[sent..]);
    new.group.simulate(THRESHOLD + 1, 0);
    scene.world.wait_evictions(2);
    scene.nothing_wrong_was_sent(&[("web", &scene.web.uid), ("new", &new.uid)]);
}

/// Away until the eviction's next try is seconds off: what waits is sent when the server is back, not at that try.
pub fn a_server_that_is_back_gets_what_waits_at_once() {
    let scene = Scene::new();
    let server = &scene.world.server;
    let agent = scene.world.agent(&[]);
    agent.wait_state("web", "app", "watching");
    server.go_away();
    scene.cross();
    agent.wait_state("web", "app", "unknown");
    agent.wait_until("a try that is far off", |a| {
        let why = a.guard("web", "app")["why"].as_str().unwrap_or_default().to_owned();
        let next: Option<u64> =
            why.rsplit_once("next try in ").and_then(|(_, s)| s.trim_end_matches(" s").parse().ok());
        (next? >= 5).then_some(())
    });
    let sent = server.requests().len();
    server.come_back();
    let back = Instant::now();
    wait_first(&scene.world, 1, back, seconds(2));
    agent.wait_told("PreOOMEvicted");
    let came = &server.requests()[sent..];
    let pings = came.iter().filter(|r| r.query.contains("keeps-a-connection-open")).count();
    assert!(pings <= 4 && scene.world.evictions().len() == 1, "no storm: {came:?}");
    scene.only_web_was_asked_for();
}

/// Eight agents lose their server in the same moment; when it is back they do not come in step.
pub fn a_server_that_has_come_back_is_not_hit_at_once() {
    let scene = Scene::new();
    let server = &scene.world.server;
    let agents: Vec<Agent> = (0..8).map(|_| scene.world.agent(&[])).collect();
    let all = server.wait_for(soon(), |s| (s.watches() == agents.len()).then_some(()));
    assert!(all.is_some(), "they watch");
    for agent in &agents {
        agent.wait_until("it has asked for its rights", |a| {
            a.lines().iter().any(|l| l["message"] == "confinement").then_some(())
        });
    }
    server.go_away();
    sampling_goes_on(&agents[0], seconds(12));
    server.clear_requests();
    server.come_back();
    let begin = Instant::now();
    let back = server.wait_for(soon(), |s| (s.watches() == agents.len()).then_some(()));
    assert!(back.is_some() && begin.elapsed() < seconds(32), "the longest back-off is 30 s: {:?}", begin.elapsed());
    let came: Vec<Duration> = server.requests().iter().map(|r| r.at - begin).collect();
    assert!(came.len() <= 2 * agents.len(), "a watch each, and a list at most: {came:?}");
    // Their back-offs are of seconds by now: in no half of a second are there more than half of them.
    for at in &came {
        let close = came.iter().filter(|t| **t >= *at && **t < *at + Duration::from_millis(500)).count();
        assert!(close <= came.len() / 2 + 1, "{came:?}");
    }
    scene.nothing_wrong_was_sent(&[]);
}

/// A certificate for another name, or of another authority: alive, not ready, says why; nothing is sent, the token
/// least of all.
pub fn a_wrong_certificate_is_told_and_nothing_is_sent() {
    let other = Standin::start_tls();
    for (server, authority) in
        [(Standin::start_tls_as(&["elsewhere.example"]), None), (Standin::start_tls(), Some(other))]
    {
        let scene = Scene::on(server);
        scene.web.group.simulate(LIMIT, 0);
        let mut text = scene.world.server.kubeconfig();
        if let Some(other) = &authority {
            text = text.replace(scene.world.server.authority().expect("TLS"), other.authority().expect("TLS"));
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let kubeconfig = dir.path().join("kubeconfig");
        std::fs::write(&kubeconfig, text).expect("a file there");
        let flags = ["--kubeconfig", &kubeconfig.display().to_string()];
        let agent = Agent::launch(&scene.world.server, scene.world.tree.root(), &flags);
        let line = agent.wait_until("it says why", |a| {
            a.lines().into_iter().find(|l| l["error"].as_str().is_some_and(|e| e.contains("certificate")))
        });
        assert_eq!(line["level"], "WARN", "{line}");
        std::thread::sleep(A_WHILE);
        assert_eq!(agent.get("/healthz").0, 200);
        assert_eq!(agent.get("/readyz").0, 503);
        assert!(scene.world.server.connections() >= 2, "it tries again");
        assert!(scene.world.server.requests().is_empty(), "{:?}", scene.world.server.requests());
    }
}

// --- Events ----------------------------------------------------------------------------------------------------------

/// An Event that hangs delays no eviction, neither the first nor the next.
pub fn an_event_that_hangs_delays_no_eviction() {
    let scene = Scene::new();
    let second = guarded(&scene.world, "second", |p| p);
    scene.world.server.fault(Fault::on("POST", "/events").times(2).hang_before_headers());
    scene.world.server.fault(Fault::on("POST", "/events").times(1).delay(seconds(4)));
    let agent = scene.world.agent(&[]);
    let crossed = scene.cross();
    wait_first(&scene.world, 1, crossed, AT_ONCE);
    scene.world.server.wait_for(soon(), |s| Some(()).filter(|()| !s.requests_to("POST", "/events").is_empty()));
    second.group.simulate(THRESHOLD + 1, 0);
    wait_first(&scene.world, 2, Instant::now(), AT_ONCE);
    sampling_goes_on(&agent, seconds(3));
    // What hung is counted as lost; what comes after is written.
    let written = scene.world.wait_events("PreOOMEvicted", 2);
    assert!(notes(&written).iter().any(|n| n.contains("pod second")), "{:?}", notes(&written));
    assert_eq!(agent.metric("pre_oom_killer_events_lost_total"), 2.0);
    scene.nothing_wrong_was_sent(&[("web", &scene.web.uid), ("second", &second.uid)]);
}

/// Nobody takes the Events, and more is told than the queues hold (256 about evictions, 256 others): counted as lost,
/// and the next eviction goes out at once.
pub fn a_full_event_queue_delays_no_eviction() {
    let scene = Scene::new();
    scene.world.server.fault(Fault::on("POST", "/events").always().hang_before_headers());
    scene.world.server.put_pdb(Pdb::blocking(NS, "many", &[("tier", "many")]));
    let mut many = vec![("web".to_owned(), scene.web.uid.clone())];
    for i in 0..300 {
        let place = guarded(&scene.world, &format!("many-{i}"), |p| p.label("tier", "many"));
        place.group.simulate(THRESHOLD + 1, 0);
        many.push((format!("many-{i}"), place.uid));
        guarded(&scene.world, &format!("invalid-{i}"), |p| {
            p.annotation(&format!("{PREFIX}memory-usage-threshold"), "lots")
        });
    }
    let agent = scene.world.agent(&["--eviction-burst", "1000"]);
    agent.wait_until("both are full", |a| (a.metric("pre_oom_killer_events_lost_total") >= 80.0).then_some(()));
    agent.wait_until("all are blocked", |a| (a.metric("pre_oom_killer_blocked_pods") >= 250.0).then_some(()));
    let crossed = scene.cross();
    let posted = scene.world.server.wait_for(soon(), |s| s.requests_to("POST", "/web/eviction").pop());
    let took = posted.expect("it is asked for").at.saturating_duration_since(crossed);
    assert!(took < AT_ONCE, "{took:?}");
    agent.wait_told("PreOOMEvicted");
    sampling_goes_on(&agent, seconds(2));
    // Twice where a server with 300 others at once took more than a second.
    assert!(scene.world.server.requests_to("POST", "/web/eviction").len() <= 2);
    assert!(scene.world.server.events().is_empty());
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("it runs");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a number");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    assert!(kib < 40 * 1024, "bounded: {kib} KiB");
    let over: Vec<_> = many.iter().map(|(name, uid)| (&**name, &**uid)).collect();
    scene.nothing_wrong_was_sent(&over);
}

/// Events refused: 403 and 422 are told in the log, and nothing else is other than usual.
pub fn events_that_are_refused_are_told_in_the_log() {
    let scene = Scene::new();
    scene.world.server.deny("create", "events");
    let agent = scene.world.agent(&[]);
    let crossed = scene.cross();
    wait_first(&scene.world, 1, crossed, AT_ONCE);
    agent.wait_told("PreOOMEvicted");
    agent.wait_until("both are told", |a| (a.metric("pre_oom_killer_events_lost_total") == 2.0).then_some(()));
    let said = |l: &Value| l["error"].as_str().is_some_and(|e| e.contains("cannot create resource"));
    assert_eq!(agent.lines().iter().filter(|l| said(l)).count(), 2, "on the pod and on its owner");
    sampling_goes_on(&agent, seconds(2));
    assert_eq!(scene.world.evictions().len(), 1);
    scene.only_web_was_asked_for();
}

// --- files that take their time --------------------------------------------------------------------------------------

/// Containers whose `memory.stat` is slow, and has to be read again and again to know whether they are over: others that
/// cross meanwhile are evicted at once.
pub fn a_slow_stat_delays_no_eviction_elsewhere() {
    const CROSSINGS: usize = 6;
    let millis = Duration::from_millis;
    for takes in [vec![seconds(1)], vec![millis(100); 20]] {
        let world = World { server: Standin::start(), tree: Tree::simulated() };
        let half_cache = format!("inactive_file {}\nactive_file 0\n", 40 * MIB);
        let files = SlowFiles::mount(&half_cache, takes.clone());
        let slow = (0..takes.len()).map(|i| {
            let place = guarded(&world, &format!("slow-{i}"), |p| p);
            // Above its threshold by usage, below it by its working set.
            place.group.simulate(80 * MIB, 40 * MIB);
            files.stands_for(i, &place.group.dir().join("memory.stat"));
            place
        });
        let slow: Vec<Place> = slow.collect();
        let quick: Vec<Place> = (0..CROSSINGS).map(|i| guarded(&world, &format!("quick-{i}"), |p| p)).collect();
        let agent = world.agent(&[]);
        for i in 0..takes.len() {
            agent.wait_until("it is told that its stat is slow", |a| {
                let guard = a.guard(&format!("slow-{i}"), "app");
                guard["why"].as_str()?.contains("its memory.stat takes").then_some(())
            });
        }
        for i in 0..CROSSINGS {
            agent.wait_state(&format!("quick-{i}"), "app", "watching");
        }
        let mut took = Vec::new();
        for (i, place) in quick.iter().enumerate() {
            std::thread::sleep(millis(370)); // at any time of the slow reads
            let crossed = Instant::now();
            place.group.simulate(THRESHOLD + 1, 0);
            let evictions = world.wait_evictions(i + 1);
            took.push(evictions[i].at.saturating_duration_since(crossed));
        }
        took.sort_unstable();
        // A quiet container is looked at once in 100 ms or so; the machine may be busy now and then.
        assert!(took[CROSSINGS - 2] < millis(350), "{} slow files: {took:?}", takes.len());
        assert_eq!(world.evictions().len(), CROSSINGS, "none of the slow ones");
        drop(slow);
    }
}
