//! The pods: their groups, their processes, and what is seen of them.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use pre_oom_killer::ground::keys;
use pre_oom_killer::ground::keys::PREFIX;
use pre_oom_killer::ground::units::Bytes;
use standin::Standin;
use standin::cgroups::{Group, Hierarchy, Tree};
use standin::hog::Hog;

use crate::Args;

/// With the default threshold a single raise is enough. A busy machine may be too slow for several in a row.
const RAISE_BY: &str = "99";
pub const NAMESPACE: &str = "demo";
pub const NODE: &str = "demo-node";
/// From the eviction's arrival to SIGTERM; a real kubelet was measured at 24–40 ms.
pub const KUBELET_TAKES: Duration = Duration::from_millis(30);

/// What the agent may do about a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Evict it.
    Guarded,
    /// Raise its limit, and evict it where that is too late.
    Raised,
    /// Nothing.
    Unguarded,
}

/// One of them. Times are since the filling began.
pub struct Pod {
    pub kind: Kind,
    pub name: &'static str,
    /// None: simulated.
    hog: Option<Hog>,
    /// The container's and the pod's, with the same limit.
    groups: [Group; 2],
    /// The highest seen.
    pub usage: Bytes,
    /// The container's limit in the kernel, and when it was first seen there.
    pub limits: Vec<(Duration, Bytes)>,
    /// When usage was first seen above the threshold.
    pub crossed: Option<Duration>,
    /// When and how the process ended: `evicted`, `oom-killed`, or in words.
    pub ended: Option<(Duration, String)>,
}

impl Pod {
    /// Puts it on the stand-in, with its groups and its process. All pods carry the threshold; the unguarded one lacks the
    /// label, and that decides.
    pub fn put(tree: &Tree, server: &Standin, args: &Args, kind: Kind) -> Pod {
        let name = match kind {
            Kind::Guarded => "guarded",
            Kind::Raised => "raised",
            Kind::Unguarded => "unguarded",
        };
        let (me, number) = (std::process::id(), kind as u8);
        let (uid, id) = (format!("{me:08x}-0000-4000-8000-{number:012x}"), format!("{me:062x}{number:02x}"));
        let groups = [tree.container(&uid, &id), tree.pod(&uid)];
        for group in &groups {
            group.set_limit(Some(args.limit.0));
            if tree.hierarchy() == Hierarchy::V1 {
                // At its limit it is to be killed, not swapped. Without this file there is no swap.
                let _ = std::fs::write(group.dir().join("memory.swappiness"), "0");
            }
        }
        let hog = (tree.hierarchy() != Hierarchy::Simulated).then(|| Hog::start(groups[0].dir()));
        server.attach(NAMESPACE, name, vec![groups[0].dir().to_owned()]);
        let pod = standin::pod(NAMESPACE, name)
            .uid(&uid)
            .node(NODE)
            .container("hog", args.limit.0.to_string().as_str())
            .container_id(&id)
            .annotation(&format!("{PREFIX}{}", keys::THRESHOLD), &args.threshold.to_string().replace(' ', ""));
        let pod = match kind {
            Kind::Guarded => pod,
            Kind::Raised => pod
                .annotation(&format!("{PREFIX}{}", keys::REMEDIES), "raise,evict")
                .annotation(&format!("{PREFIX}{}", keys::RAISE_LIMIT_TO), &args.raise_limit_to().to_string())
                .annotation(&format!("{PREFIX}{}", keys::RAISE_BY), RAISE_BY),
            Kind::Unguarded => pod.unlabelled(),
        };
        server.put_pod(pod.build());
        let limits = vec![(Duration::ZERO, args.limit)];
        Pod { kind, name, hog, groups, usage: Bytes(0), limits, crossed: None, ended: None }
    }

    /// Lets it fill, beyond its limit if nobody stops it.
    pub fn fill(&mut self, args: &Args) {
        if let Some(hog) = &mut self.hog {
            hog.ramp(args.filled().0, args.rate.0);
        }
    }

    /// The container's limit now.
    pub fn limit(&self) -> Bytes {
        self.limits.last().map_or(Bytes(0), |(_, limit)| *limit)
    }

    /// Nothing more is to be seen: it has ended, or it has outgrown the limit that it began with.
    pub fn is_over(&self, args: &Args) -> bool {
        self.ended.is_some() || self.usage > args.limit.plus(Bytes(args.limit.0 / 10))
    }

    /// Sees how it is now.
    pub fn look(&mut self, at: Duration, args: &Args, server: &Standin) {
        if self.ended.is_some() {
            return;
        }
        let end = match &mut self.hog {
            None => self.play(at, args, server),
            Some(hog) => hog.ended().map(|status| match status.signal() {
                Some(signal) if signal == SIGTERM as i32 => "evicted".into(),
                Some(signal) if signal == SIGKILL as i32 && self.groups[0].oom_kills() > 0 => "oom-killed".into(),
                _ => format!("ended, {status}"),
            }),
        };
        self.usage = self.usage.max(Bytes(self.groups[0].usage().unwrap_or(0)));
        if let Some(limit) = self.groups[0].limit().map(Bytes).filter(|limit| *limit != self.limit()) {
            self.limits.push((at, limit));
        }
        if self.usage > args.threshold() {
            self.crossed.get_or_insert(at);
        }
        self.ended = end.map(|end| (at, end));
    }

    /// Plays the process that fills, and the kernel that kills it at its limit. The stand-in's kubelet
    /// lets a pod without processes go when it would send SIGTERM.
    fn play(&self, at: Duration, args: &Args, server: &Standin) -> Option<String> {
        let usage = at.as_micros() * u128::from(args.rate.0) / 1_000_000;
        let limit = self.groups[0].limit().unwrap_or(0);
        let usage = u64::try_from(usage).unwrap_or(u64::MAX).min(args.filled().0).min(limit);
        self.groups.iter().for_each(|group| group.simulate(usage, 0));
        match server.pod(NAMESPACE, self.name) {
            None => Some("evicted".into()),
            Some(_) => (usage == limit).then(|| "oom-killed".into()),
        }
    }
}
