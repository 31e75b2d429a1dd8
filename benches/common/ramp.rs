//! One ramp: a container held at some level, growing to its end, watched closely.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use pre_oom_killer::act::evict::evict;
use pre_oom_killer::act::order::{Act, Order};
use pre_oom_killer::pods::{PodRef, PodUid};
use standin::hog::Hog;
use standin::pod;

use crate::agent::Agent;
use crate::rig::{Node, usage_file};
use crate::world::{NS, PREFIX, container_id, uid};

/// Who is to save it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The agent.
    Agent,
    /// The same, for a container younger than the minimum age.
    AgentYoung,
    /// The agent, for one that lists `raise,evict`.
    AgentRaise,
    /// The agent, for one that lists `restart,evict`.
    AgentRestart,
    /// A thread that reads its usage each 5 ms.
    Poller,
    /// It is left to its fate.
    Nobody,
}

/// A container that holds 20–50 % of its limit.
pub struct Ramp {
    pub by: By,
    name: String,
    uid: String,
    usage: File,
    limit: u64,
    hog: Hog,
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub name: String,
    /// Not by the kernel's kill.
    pub saved: bool,
    /// It has not ended: it holds twice the limit that it began with.
    pub lives: bool,
    /// When usage was first seen above the threshold.
    crossed: Option<SystemTime>,
    /// From then to the end.
    pub from_threshold: Duration,
    /// From the POST to the end, for pollers.
    pub from_post: Option<Duration>,
    /// From the crossing to the agent's verdict.
    pub detected: Option<Duration>,
    /// From the verdict to the server's reading the POST.
    pub reacted: Option<Duration>,
    /// Its parts: from the sample until the agent's loop has the verdict, until the request is begun, and until the server has
    /// read it.
    pub parts: Option<[Duration; 3]>,
}

const THRESHOLD: f64 = 0.60;
const POLL: Duration = Duration::from_millis(5);
/// The observer looks so often.
const DENSE: Duration = Duration::from_micros(200);

impl Ramp {
    pub fn prepare(node: &Node, agent: &Agent, by: By, limit: u64) -> Ramp {
        let (uid, id, name) = (uid(), container_id(), format!("ramp-{:08x}", fastrand::u32(..)));
        let (pod_group, group) = (node.tree.pod(&uid), node.tree.container(&uid, &id));
        // Kubelet's sum of the containers' limits; a sandbox's own memory is not there to hit it first.
        pod_group.set_limit(Some(limit));
        group.set_limit(Some(limit));
        let mut hog = Hog::start(group.dir());
        hog.hold((limit as f64 * (0.20 + 0.30 * fastrand::f64())) as u64, 0);
        let guarded = !matches!(by, By::Poller | By::Nobody);
        let mut builder = pod(NS, &name)
            .uid(&uid)
            .annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
            .container("app", format!("{}Mi", limit >> 20).as_str())
            .container_id(&id);
        if !guarded {
            builder = builder.unlabelled();
        }
        let annotation = |key: &str| format!("{PREFIX}{key}");
        builder = match by {
            By::AgentYoung => builder.age(Duration::from_secs(1)),
            // Its threshold is above what it fills.
            By::AgentRaise => builder
                .annotation(&annotation("remedies"), "raise,evict")
                .annotation(&annotation("raise-limit-to"), &format!("{}Mi", 4 * (limit >> 20))),
            By::AgentRestart => {
                builder.resize_policy("RestartContainer").annotation(&annotation("remedies"), "restart,evict")
            }
            _ => builder,
        };
        node.server.attach(NS, &name, vec![group.dir().to_owned()]);
        node.server.put_pod(builder.build());
        if guarded {
            agent.wait_state(&name, "app", "watching");
        }
        Ramp { by, name, uid, usage: File::open(usage_file(group.dir())).expect("it is there"), limit, hog }
    }

    /// Has it grow at a moment nobody expects, to twice its limit, unless it ends before.
    pub fn run(self, node: &Node, rate: u64) -> Ended {
        let Ramp { by, name, uid, usage, limit, mut hog } = self;
        let threshold = (limit as f64 * THRESHOLD) as u64;
        let over = AtomicBool::new(false);
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..1_000_000)));
        let (crossed, posted, status, end) = std::thread::scope(|scope| {
            let observer =
                scope.spawn(|| crossing(&usage, threshold, DENSE, &over).then(|| (SystemTime::now(), Instant::now())));
            let poller = (by == By::Poller)
                .then(|| scope.spawn(|| crossing(&usage, threshold, POLL, &over).then(|| post(node, &name, &uid))));
            hog.ramp(2 * limit, rate);
            let (status, end) = loop {
                let status = hog.ended();
                if status.is_some() || read(&usage) >= Some(2 * limit) {
                    break (status, Instant::now());
                }
                std::thread::sleep(Duration::from_micros(500));
            };
            over.store(true, Relaxed);
            let posted = poller.and_then(|p| p.join().expect("the poller"));
            (observer.join().expect("the observer"), posted, status, end)
        });
        node.server.remove_pod(NS, &name);
        Ended {
            name,
            saved: status.is_none_or(|status| status.signal() == Some(15)),
            lives: status.is_none(),
            crossed: crossed.map(|(wall, _)| wall),
            from_threshold: crossed.map_or(Duration::ZERO, |(_, at)| end.saturating_duration_since(at)),
            from_post: posted.map(|at| end.saturating_duration_since(at)),
            detected: None,
            reacted: None,
            parts: None,
        }
    }
}

fn read(usage: &File) -> Option<u64> {
    let mut buffer = [0; 32];
    let length = usage.read_at(&mut buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()?.trim().parse().ok()
}

/// Waits for usage above the threshold, looking so often; `false` if it was over before.
fn crossing(usage: &File, threshold: u64, each: Duration, over: &AtomicBool) -> bool {
    while !over.load(Relaxed) {
        if read(usage).is_some_and(|u| u > threshold) {
            return true;
        }
        std::thread::sleep(each);
    }
    false
}

/// The agent's own way to evict, on a connection that is kept warm. Answers when it began.
fn post(node: &Node, name: &str, uid: &str) -> Instant {
    let pod = PodRef { namespace: NS.into(), name: name.into(), uid: PodUid(uid.into()) };
    let order = Order { pod, act: Act::Evict, grace: None, resize: None, dry_run: false };
    let began = Instant::now();
    node.runtime.block_on(evict(&node.client, std::future::pending(), &order));
    began
}

/// Fills in what the agent's log and the server's say of the times.
pub fn add_verdicts(agent: &Agent, node: &Node, ended: &mut [Ended]) {
    let lines = agent.lines();
    for ramp in ended {
        let line = |words: &str| lines.iter().find(|l| l["message"] == words && l["pod"] == ramp.name.as_str());
        let written = |line: &serde_json::Value| {
            let at: jiff::Timestamp = line["timestamp"].as_str()?.parse().ok()?;
            Some(SystemTime::from(at))
        };
        let heard = line("above its threshold");
        let (at, age) = (heard.and_then(written), heard.and_then(|line| line["read_us_ago"].as_u64()));
        let age = age.map(Duration::from_micros);
        let verdict = at.zip(age).map(|(at, age)| at - age);
        // A verdict can be sooner than the observer: they look at different moments.
        ramp.detected = verdict.zip(ramp.crossed).map(|(at, crossed)| at.duration_since(crossed).unwrap_or_default());
        let posts = node.server.requests_to("POST", &format!("/{}/eviction", ramp.name));
        let posted = posts.first().map(|post| post.time);
        ramp.reacted = posted.zip(verdict).map(|(post, at)| post.duration_since(at).unwrap_or_default());
        let begun = line("sends a request").and_then(written);
        let between = |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default();
        ramp.parts = (|| Some([age?, between(at?, begun?), between(begun?, posted?)]))();
    }
}

/// What polling all of these each 5 ms costs, in percent of a core.
pub fn poll_all(files: &[PathBuf], window: Duration) -> f64 {
    let files: Vec<_> = files.iter().map(|path| File::open(path).expect("it is there")).collect();
    let cpu = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("procfs");
        text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).map_or(Duration::ZERO, Duration::from_nanos)
    };
    let (begin, before) = (Instant::now(), cpu());
    while begin.elapsed() < window {
        for file in &files {
            std::hint::black_box(read(file));
        }
        std::thread::sleep(POLL);
    }
    (cpu() - before).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0
}

/// Programs that burn all cores, with the CPU requests of ordinary pods; the agent beside them with its own.
pub struct Burners {
    groups: Vec<PathBuf>,
    children: Vec<Child>,
}

impl Burners {
    /// `None` where groups of the cpu controller cannot be made.
    pub fn start(agent: i32) -> Option<Burners> {
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let (root, file, of_burners, of_agent) = match v1.exists() {
            // 2 cores and 50m, as kubelet turns requests into shares and weights.
            true => (v1, "cpu.shares", "2048", "51"),
            false => (Path::new("/sys/fs/cgroup"), "cpu.weight", "79", "2"),
        };
        let mut burners = Burners { groups: Vec::new(), children: Vec::new() };
        let group = |name: &str, share: &str| {
            let dir = root.join(format!("pre-oom-killer-bench-{name}-{}", std::process::id()));
            std::fs::create_dir(&dir).ok()?;
            std::fs::write(dir.join(file), share).ok()?;
            Some(dir)
        };
        let (busy, small) = (group("burners", of_burners)?, group("agent", of_agent)?);
        std::fs::write(small.join("cgroup.procs"), agent.to_string()).ok()?;
        for _ in 0..2 * std::thread::available_parallelism().map_or(2, usize::from) {
            let child = Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().ok()?;
            std::fs::write(busy.join("cgroup.procs"), child.id().to_string()).ok()?;
            burners.children.push(child);
        }
        burners.groups = vec![busy, small];
        Some(burners)
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for group in &self.groups {
            let parent = group.parent().expect("a parent").join("cgroup.procs");
            for pid in std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
                let _ = std::fs::write(&parent, pid);
            }
            let _ = std::fs::remove_dir(group);
        }
    }
}
