//! The ladder: raise, restart or evict, whichever is the gentlest that is still in time, with the settings as they are. The
//! stand-in's kubelet carries resizes out in the real groups, at the times that were measured on a real node.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pre_oom_killer::decide::warn::address;
use pre_oom_killer::pods::Pod;
use pre_oom_killer::pods::guard::WarnUrl;
use standin::hog::Hog;
use standin::{Fate, Fault, Pdb, PodBuilder, Resizes};

use crate::agent::{Agent, soon};
use crate::world::{MIB, NS, PREFIX, Place, World};

const SIGTERM: i32 = 15;
const BOTH: [&str; 2] = ["--remedies", "raise,restart"];
/// An old container, as most are: none is held for its youth.
const HOURS: Duration = Duration::from_secs(7200);

/// A rate that an emulated machine can follow: there it is a quarter (`E2E_SLOW`, set by leg vm).
fn pace(mib_a_second: u64) -> u64 {
    match std::env::var_os("E2E_SLOW") {
        None => mib_a_second * MIB,
        Some(_) => mib_a_second * MIB / 4,
    }
}

/// A pod that lists these remedies, guarded at 60 %.
fn listing(
    world: &World,
    name: &str,
    limit: u64,
    remedies: &str,
    change: impl FnOnce(PodBuilder) -> PodBuilder,
) -> Place {
    world.place(name, Some(limit), |p| {
        let p = p.age(HOURS).annotation(&format!("{PREFIX}memory-usage-threshold"), "60");
        change(p.annotation(&format!("{PREFIX}remedies"), remedies))
    })
}

fn up_to(bound: &'static str) -> impl FnOnce(PodBuilder) -> PodBuilder {
    move |p| p.annotation(&format!("{PREFIX}raise-limit-to"), bound)
}

fn restarts(p: PodBuilder) -> PodBuilder {
    p.resize_policy("RestartContainer")
}

/// An agent that may use both, watching `web`.
fn watching(world: &World, flags: &[&str]) -> Agent {
    let agent = world.agent(&[&BOTH, flags].concat());
    agent.wait_state("web", "app", "watching");
    agent
}

/// The resizes that went over the wire, as limits in bytes or as they were written.
fn resizes(world: &World) -> Vec<String> {
    let sent = world.server.requests_to("PATCH", "/resize").into_iter().map(|r| {
        let patch = r.body;
        assert!(patch["metadata"]["uid"].is_string(), "{patch}");
        patch["spec"]["containers"][0]["resources"]["limits"]["memory"].as_str().expect("a limit").to_owned()
    });
    sent.collect()
}

/// Ends only if it is killed or evicted.
fn leaking(place: &Place, from: u64, to: u64, rate: u64) -> Hog {
    let mut hog = place.hog();
    hog.hold(from, 0);
    hog.ramp(to, rate);
    hog
}

/// A leak far beyond the limit it began with: each time it crosses its threshold, the limit goes up in the kernel.
pub fn raised_in_time_lives_on() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("256Mi"));
    // The emulated machine is small, and a tenth of it is less than this one grows by.
    let much = ["--raise-budget", "50", "--raise-reserve", "1"];
    let agent = watching(&world, &much);
    let mut hog = leaking(&place, 30 * MIB, 100 * MIB, pace(8));
    world.wait_events("PreOOMRaised", 3);
    assert!(hog.ended().is_none(), "it lives: {:?}", hog.ended());
    world.server.wait_for(soon(), |_| (place.group.usage() > Some(99 * MIB)).then_some(())).expect("it fills up");
    std::thread::sleep(Duration::from_secs(1));
    assert!(hog.ended().is_none() && world.evictions().is_empty());
    let limits = resizes(&world);
    assert!(limits.len() >= 3 && limits[0] == "80Mi", "{limits:?}");
    let raised = &agent.told("PreOOMRaised")[0];
    assert_eq!((&raised["raised_to"], raised["took_ms"].is_f64()), (&(80 * MIB).into(), true), "{raised}");
    // And an agent that knows nothing of the raises goes on from there.
    drop(agent);
    let _agent = watching(&world, &much);
    assert!(hog.ended().is_none() && world.evictions().is_empty());
}

/// The server stores the raise, and the kubelet puts it off: the eviction comes in time all the same.
pub fn deferred_raise_is_evicted_in_time() {
    let deferred = Resizes { fate: Fate::Deferred(None), ..Resizes::default() };
    for kubelet in [deferred, Resizes { after: Duration::from_secs(3600), ..Resizes::default() }] {
        let world = World::real();
        world.server.resizes(kubelet);
        let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("256Mi"));
        let _agent = watching(&world, &[]);
        let mut hog = leaking(&place, 30 * MIB, 128 * MIB, pace(4));
        let end = hog.wait(soon()).expect("it ends");
        assert_eq!(end.signal(), Some(SIGTERM), "evicted, not killed: {:?}", world.server.events());
        assert_eq!((resizes(&world).len(), world.evictions().len()), (1, 1));
        world.wait_events("PreOOMRemedyFailed", 1);
    }
}

/// A slow kubelet is waited for as long as there is time.
pub fn slow_raise_is_waited_for() {
    let world = World::real();
    world.server.resizes(Resizes { after: Duration::from_secs(2), ..Resizes::default() });
    let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("256Mi"));
    let _agent = watching(&world, &[]);
    let mut hog = leaking(&place, 36 * MIB, 42 * MIB, pace(1));
    world.wait_events("PreOOMRaised", 1);
    assert!(hog.ended().is_none() && world.evictions().is_empty());
}

/// The bound is the user's; the budget and the reserve are the node's. Beyond them the next remedy is used.
pub fn raise_stays_within_bound_budget_and_reserve() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("72Mi"));
    let _agent = watching(&world, &[]);
    let mut hog = leaking(&place, 30 * MIB, 128 * MIB, pace(4));
    assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    assert_eq!(resizes(&world), ["72Mi"], "once, and no further");

    // A reserve of nearly all the memory there is leaves nothing, and so does a budget that is spent.
    for flags in [["--raise-reserve", "99.999999"], ["--raise-budget", "0.000001"]] {
        let world = World::real();
        world.server.resizes(Resizes::default());
        let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("256Mi"));
        let _agent = watching(&world, &flags);
        let mut hog = leaking(&place, 30 * MIB, 128 * MIB, pace(4));
        assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
        assert_eq!(resizes(&world), [""; 0], "{flags:?}");
    }
}

/// Whoever lists no raise, or has not opted in, keeps the limit.
pub fn nobody_else_is_raised() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = world.guarded("web", 64 * MIB);
    let other = world.place("other", Some(64 * MIB), |p| p);
    let _agent = watching(&world, &[]);
    let mut hogs = [leaking(&place, 30 * MIB, 45 * MIB, pace(4)), leaking(&other, 30 * MIB, 45 * MIB, pace(4))];
    assert_eq!(hogs[0].wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    assert_eq!((resizes(&world), hogs[1].ended()), (vec![], None));
}

/// The container alone: its process gets SIGTERM, the pod stays, and the new one is guarded.
pub fn restart_ends_on_sigterm_and_comes_back() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = listing(&world, "web", 64 * MIB, "restart,evict", restarts);
    let agent = watching(&world, &[]);
    let mut hog = leaking(&place, 30 * MIB, 128 * MIB, pace(4));
    assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    let again = world.server.wait_restarted(NS, "web", soon()).expect("it is started again");
    assert_eq!(resizes(&world), [(64 * MIB + 1).to_string()], "by one byte");
    world.wait_events("PreOOMRestarted", 1);
    let evictions = world.evictions();
    assert!(evictions.iter().all(|r| r.query.contains("dryRun=All")), "only the budgets were asked: {evictions:?}");
    agent.wait_state("web", "app", "watching");
    let guard = agent.guard("web", "app");
    assert!(guard["cgroup"].as_str().is_some_and(|dir| dir.contains(&again.id)), "{guard}");
    let pod = world.server.pod(NS, "web").expect("the pod");
    assert!(pod["metadata"]["deletionTimestamp"].is_null());
}

/// A budget that allows no eviction allows no restart. When it opens, the restart is asked for before the eviction.
pub fn restart_asks_the_budget() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = listing(&world, "web", 64 * MIB, "restart,evict", |p| restarts(p).label("app", "web"));
    world.server.put_pdb(Pdb::blocking(NS, "guarded", &[("app", "web")]));
    let agent = watching(&world, &[]);
    let mut hog = leaking(&place, 30 * MIB, 45 * MIB, pace(4));
    agent.wait_state("web", "app", "blocked");
    std::thread::sleep(Duration::from_secs(2));
    assert!(hog.ended().is_none() && resizes(&world).is_empty());
    world.wait_events("PreOOMRemedyFailed", 1);
    world.server.remove_pdb(NS, "guarded");
    assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    world.server.wait_restarted(NS, "web", soon()).expect("restarted when the budget is gone");
}

/// Even if that means that the kernel kills it.
pub fn list_without_evict_never_evicts() {
    let world = World::real();
    let place = listing(&world, "web", 64 * MIB, "raise", up_to("256Mi"));
    world.server.fault(Fault::on("PATCH", "/resize").recorded("resize-403-quota-limits"));
    let agent = watching(&world, &[]);
    let mut hog = leaking(&place, 30 * MIB, 128 * MIB, pace(8));
    agent.wait_state("web", "app", "no-remedy");
    let end = hog.wait(soon()).expect("the kernel ends it");
    assert_ne!(end.signal(), Some(SIGTERM));
    assert!(
        world.server.requests_to("POST", "/eviction").is_empty()
            && world.server.requests_to("DELETE", "/pods").is_empty()
    );
    world.wait_events("PreOOMNoRemedy", 1);
    assert_eq!(resizes(&world).len(), 1, "a refusal stands");
}

/// The agent may not resize: the rest of the list holds.
pub fn what_is_not_allowed_drops_out() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("256Mi"));
    let agent = world.agent(&[]);
    agent.wait_state("web", "app", "watching");
    let mut hog = leaking(&place, 30 * MIB, 128 * MIB, pace(4));
    assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    assert_eq!((resizes(&world), world.evictions().len()), (vec![], 1));
}

/// A server on an address of its own, as pods have one; it counts what reaches it, and answers with this status, or never.
struct Listener {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    /// The connections that nobody answers.
    unanswered: Arc<Mutex<Vec<TcpStream>>>,
}

impl Listener {
    fn start(ip: &str, status: Option<u16>, heard: impl Fn() + Send + 'static) -> Listener {
        let listener = TcpListener::bind((ip, 0)).expect("an address of our own");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let unanswered = Arc::new(Mutex::new(Vec::new()));
        let (seen, kept) = (Arc::clone(&requests), Arc::clone(&unanswered));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut text = vec![0; 4096];
                let mut length = 0;
                // The head, and a body that ends with the object.
                while !text[..length].ends_with(b"}") {
                    match stream.read(&mut text[length..]) {
                        Ok(n) if n > 0 => length += n,
                        _ => break,
                    }
                }
                match status {
                    Some(code) => drop(write!(
                        stream,
                        "HTTP/1.1 {code} x\r\nconnection: close\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
                    )),
                    None => kept.lock().expect("unbroken").push(stream),
                }
                seen.lock().expect("unbroken").push(String::from_utf8_lossy(&text[..length]).into_owned());
                heard();
            }
        });
        Listener { address, requests, unanswered }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("unbroken").clone()
    }

    /// Forgets what it got, and closes the connections that it did not answer.
    fn hang_up(&self) {
        self.requests.lock().expect("unbroken").clear();
        self.unanswered.lock().expect("unbroken").clear();
    }
}

/// An address that is neither loopback nor any other that is no pod's.
const POD_IP: &str = "10.88.7.7";

/// Runs a test in a network namespace of its own that has the pods' address, so nobody else can meet it.
fn in_own_network(test: impl FnOnce() + Send + 'static) {
    use nix::sched::{CloneFlags, unshare};
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root");
        for words in ["link set lo up", "address add 10.88.7.7/32 dev lo"] {
            let done = std::process::Command::new("ip").args(words.split(' ')).status().expect("ip");
            assert!(done.success(), "ip {words}");
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn warned_at(address: SocketAddr) -> impl FnOnce(PodBuilder) -> PodBuilder {
    move |p| {
        let url = format!(":{}/low-memory?caches=all", address.port());
        let p = p.annotation(&format!("{PREFIX}warn-threshold"), "40").annotation(&format!("{PREFIX}warn-url"), &url);
        p.pod_ip(POD_IP)
    }
}

/// The container drops its caches when it is warned: its threshold is never crossed.
pub fn warn_relieves_a_cache() {
    in_own_network(|| {
        let world = World::real();
        let hog = Arc::new(Mutex::new(None::<Hog>));
        let warned = Arc::clone(&hog);
        let listener = Listener::start(POD_IP, Some(204), move || {
            warned.lock().expect("unbroken").as_mut().expect("it runs").shrink(10 * MIB);
        });
        let place = listing(&world, "web", 64 * MIB, "evict", warned_at(listener.address));
        let agent = watching(&world, &[]);
        let mut started = place.hog();
        started.hold(20 * MIB, 0);
        *hog.lock().expect("unbroken") = Some(started);
        hog.lock().expect("unbroken").as_mut().expect("it runs").ramp(30 * MIB, pace(4));
        let event = world.wait_events("PreOOMWarned", 1);
        let note = event[0]["note"].as_str().or(event[0]["message"].as_str()).unwrap_or_default().to_owned();
        assert!(note.contains("it relieved 1") && note.contains("Mi within 10 s"), "{note}");
        let requests = listener.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        let (head, body) = requests[0].split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("POST /low-memory?caches=all HTTP/1.1\r\n"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&body["pod"], &body["container"]), (&"web".into(), &"app".into()), "{body}");
        assert!(body["value"].as_u64() > body["threshold"].as_u64(), "{body}");
        assert!(world.evictions().is_empty());
        agent.wait_state("web", "app", "watching");
    });
}

/// The time from the sample that was above a pod's threshold to the request for its eviction, by the log's own times.
fn decided_within(agent: &Agent, pod: &str) -> Option<Duration> {
    let lines = agent.lines();
    let time = |message: &str| {
        let line = lines.iter().find(|line| line["message"] == message && line["pod"] == pod)?;
        Some((line, line["timestamp"].as_str()?.parse::<jiff::Timestamp>().expect("a time")))
    };
    let ((line, above), (_, sent)) = (time("above its threshold")?, time("sends a request")?);
    let taken_up = Duration::from_micros(line["read_us_ago"].as_u64().expect("a number"));
    Some(Duration::try_from(sent.duration_since(above)).expect("later") + taken_up)
}

/// When a pod is warned, by a receiver that never answers.
#[derive(Clone, Copy, Debug)]
enum Hanging {
    Never,
    /// In the very turn of the loop that has the eviction to send, for it jumps above both thresholds at once.
    AtOnce,
    /// Before: it has no answer yet when the pod crosses its threshold.
    Before,
}

/// Pods that are warned and pods that are not cross their thresholds in turn. What is compared are the medians of what they took:
/// a busy machine delays them all alike.
pub fn hanging_warn_delays_nothing() {
    const EACH: usize = 21;
    // What a warning may cost is the work of sending it. An emulated machine is many times slower.
    let most = Duration::from_millis(if std::env::var_os("E2E_SLOW").is_some() { 50 } else { 3 });
    in_own_network(move || {
        let world = World::real();
        let hanging = Listener::start(POD_IP, None, || {});
        let agent = world.agent(&["--log", "pre_oom_killer=debug", "--eviction-burst", "100"]);
        let decided_by = |name: &str, when: Hanging| {
            let place = listing(&world, name, 64 * MIB, "evict", |p| {
                let warned = |p, at| warned_at(hanging.address)(p).annotation(&format!("{PREFIX}warn-threshold"), at);
                match when {
                    Hanging::Never => p.pod_ip(POD_IP),
                    Hanging::AtOnce => warned(p, "59.9"),
                    Hanging::Before => warned(p, "40"),
                }
            });
            let mut hog = place.hog();
            hog.hold(20 * MIB, 0);
            agent.wait_state(name, "app", "watching");
            let sent = |_: &Agent| (!hanging.requests().is_empty()).then_some(());
            if matches!(when, Hanging::Before) {
                hog.hold(30 * MIB, 0);
                agent.wait_until("its warning", sent);
            }
            hog.ramp(52 * MIB, 0);
            assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
            let decided = agent.wait_until("the request in the log", |agent| decided_within(agent, name));
            if !matches!(when, Hanging::Never) {
                agent.wait_until("its warning", sent);
            }
            // Its warning ends here, so that it is not the next pod that it delays.
            hanging.hang_up();
            decided
        };
        let whens = [Hanging::Never, Hanging::AtOnce, Hanging::Before];
        let mut took = whens.map(|_| Vec::new());
        for i in 0..EACH {
            for (when, took) in whens.into_iter().zip(&mut took) {
                took.push(decided_by(&format!("{when:?}{i}").to_lowercase(), when));
            }
        }
        let [never, at_once, before] = took.map(|mut took| {
            took.sort_unstable();
            println!("from the sample to the request: {took:?}");
            took[EACH / 2]
        });
        assert!(
            at_once.max(before) < never + most,
            "medians: {never:?} without, {at_once:?} and {before:?} with a warning"
        );
    });
}

/// Whoever does not answer, or answers with a redirect, gets no second request; and each pod is evicted while its warning hangs.
pub fn warning_is_not_repeated() {
    in_own_network(|| {
        let world = World::real();
        let hanging = Listener::start(POD_IP, None, || {});
        let redirecting = Listener::start(POD_IP, Some(307), || {});
        let names = ["web", "b", "c", "d", "e", "f"];
        let address = |i: usize| if i.is_multiple_of(2) { hanging.address } else { redirecting.address };
        let places: Vec<Place> = (names.iter().enumerate())
            .map(|(i, name)| listing(&world, name, 64 * MIB, "evict", warned_at(address(i))))
            .collect();
        let _agent = watching(&world, &[]);
        let mut hogs: Vec<Hog> = places.iter().map(Place::hog).collect();
        hogs.iter_mut().for_each(|hog| hog.hold(20 * MIB, 0));
        // From the one threshold to the other in about a second: the request hangs when the container crosses the second one.
        hogs.iter_mut().for_each(|hog| hog.ramp(128 * MIB, pace(14)));
        for hog in &mut hogs {
            assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
        }
        assert_eq!((hanging.requests().len(), redirecting.requests().len()), (3, 3));
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!((hanging.requests().len(), redirecting.requests().len()), (3, 3), "no repetition");
    });
}

/// The address comes from the pod's status alone. Whatever stands there, a warning goes to no address that is not a pod's.
pub fn warn_goes_to_no_other_address() {
    let url = WarnUrl { port: 8080, path: "/".into() };
    let mut allowed = 0;
    for seed in 0..100_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let host = any_ip(&mut random);
        let status = serde_json::json!({"podIP": any_text(&mut random, &host), "hostIP": host, "hostIPs": [{"ip": any_ip(&mut random)}]});
        let spec = serde_json::json!({"containers": [], "hostNetwork": random.u8(0..8) == 0});
        let pod = serde_json::json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        let pod = Pod::from_json(&pod.to_string()).expect("JSON");
        if let Ok(to) = address(&pod, &url) {
            allowed += 1;
            assert!(spec["hostNetwork"] == false && is_a_pods(to.ip()), "{to} of {status}");
            let hosts = [&status["hostIP"], &status["hostIPs"][0]["ip"]];
            assert!(hosts.iter().all(|host| **host != to.ip().to_string().as_str()), "{to} of {status}");
        }
    }
    assert!(allowed > 1_000, "{allowed}");
    // And over the wire: one whose status names the agent's own machine is told why, and nothing is sent.
    in_own_network(|| {
        let world = World::real();
        let listener = Listener::start("127.0.0.1", Some(204), || {});
        let place = listing(&world, "web", 64 * MIB, "evict", |p| warned_at(listener.address)(p).pod_ip("127.0.0.1"));
        let _agent = watching(&world, &[]);
        let mut hog = place.hog();
        hog.hold(30 * MIB, 0);
        let event = world.wait_events("PreOOMWarned", 1);
        let note = event[0]["note"].as_str().or(event[0]["message"].as_str()).unwrap_or_default().to_owned();
        assert!(note.contains("cannot be a pod's"), "{note}");
        assert!(listener.requests().is_empty());
    });
}

fn any_ip(random: &mut fastrand::Rng) -> String {
    const SPECIAL: [&str; 12] = [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.251",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.1.1",
        "0:0:0:0:0:ffff:7f00:1",
    ];
    match random.u8(0..4) {
        0 => SPECIAL[random.usize(0..SPECIAL.len())].to_owned(),
        1 => std::net::Ipv6Addr::from(random.u128(..)).to_string(),
        _ => std::net::Ipv4Addr::from(random.u32(..)).to_string(),
    }
}

/// An address, that of the host, or what is none.
fn any_text(random: &mut fastrand::Rng, host: &str) -> String {
    match random.u8(0..8) {
        0 => host.to_owned(),
        1 => format!("{}:80", any_ip(random)),
        2 => "web.example.com".to_owned(),
        3 => (0..random.usize(0..20)).map(|_| random.char('\0'..'\u{ff}')).collect(),
        _ => any_ip(random),
    }
}

/// By the registries of special addresses, not by the agent's own rules.
fn is_a_pods(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            !matches!((a, b), (0 | 127 | 224..=239, _) | (169, 254)) && ip != std::net::Ipv4Addr::BROADCAST
        }
        std::net::IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            ip != std::net::Ipv6Addr::LOCALHOST
                && first & 0xffc0 != 0xfe80
                && first & 0xff00 != 0xff00
                && !ip.is_unspecified()
                && ip.to_ipv4_mapped().is_none()
        }
    }
}
