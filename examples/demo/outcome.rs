//! What happened, in plain lines or as JSON.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use pre_oom_killer::ground::units::Bytes;
use serde::Serialize;
use standin::cgroups::Hierarchy;
use standin::{Request, Standin};

use crate::Args;
use crate::pods::{KUBELET_TAKES, Kind, NAMESPACE, Pod};

/// No line of the summary is longer.
const WIDTH: usize = 79;

/// All of it. Times are seconds since the pods began to fill, sizes bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    hierarchy: &'static str,
    guarded: Fate,
    raised: Fate,
    unguarded: Fate,
    limit: Bytes,
    threshold: Bytes,
    rate: Bytes,
    event: Option<String>,
}

/// What became of a pod; first the times, in their order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fate {
    outcome: String,
    /// Its usage was seen above the threshold.
    crossed: Option<f64>,
    /// The (first) request for its remedy arrived and was answered with this code; SIGTERM was due (set, not seen).
    asked: Option<f64>,
    answered: Option<f64>,
    code: Option<u16>,
    sigterm: Option<f64>,
    /// The kernel was seen to have a new limit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    raises: Vec<Raise>,
    /// Its process was seen to have ended.
    ended: Option<f64>,
    highest_usage: Bytes,
    room_left: Bytes,
}

#[derive(Serialize)]
struct Raise {
    at: f64,
    limit: Bytes,
}

impl Outcome {
    pub fn new(
        args: &Args,
        hierarchy: Hierarchy,
        server: &Standin,
        begin: Instant,
        pods: &[Pod; 3],
        event: Option<String>,
    ) -> Outcome {
        let fate = |pod: &Pod| {
            let (method, act) = if pod.kind == Kind::Raised { ("PATCH", "resize") } else { ("POST", "eviction") };
            let path = format!("/{NAMESPACE}/pods/{}/{act}", pod.name);
            let request: Option<Request> = server.requests_to(method, &path).into_iter().next();
            let at = |then: Instant| seconds(then.saturating_duration_since(begin));
            let (asked, answer) = (request.as_ref().map(|r| r.at), request.as_ref().and_then(|r| r.answer));
            let accepted = answer.is_some_and(|(code, _)| code == 201);
            let ended = pod.ended.as_ref();
            let raises = pod.limits.iter().skip(1).map(|(then, limit)| Raise { at: seconds(*then), limit: *limit });
            let alive = if pod.is_over(args) { "lived-on" } else { "running" };
            Fate {
                outcome: ended.map_or(alive.into(), |(_, how)| how.clone()),
                crossed: pod.crossed.map(seconds),
                asked: asked.map(at),
                answered: answer.map(|(_, then)| at(then)),
                code: answer.map(|(code, _)| code),
                sigterm: asked.filter(|_| accepted).map(|then| at(then + KUBELET_TAKES)),
                raises: raises.collect(),
                ended: ended.map(|(then, _)| seconds(*then)),
                highest_usage: pod.usage,
                room_left: pod.limit().less(pod.usage),
            }
        };
        Outcome {
            hierarchy: hierarchy.as_str(),
            guarded: fate(&pods[0]),
            raised: fate(&pods[1]),
            unguarded: fate(&pods[2]),
            limit: args.limit,
            threshold: args.threshold(),
            rate: args.rate,
            event,
        }
    }

    /// Why this is not what was to happen.
    pub fn problem(&self) -> Option<String> {
        // A raise that is not in time ends in an eviction that is.
        let wanted: [&[&str]; 3] = [&["evicted"], &["lived-on", "evicted"], &["oom-killed"]];
        let mut all = self.fates().into_iter().zip(wanted);
        if let Some(((name, fate), wanted)) = all.find(|((_, fate), wanted)| !wanted.contains(&fate.outcome.as_str())) {
            return Some(format!("the {name} pod should be {}, it is: {}", wanted.join(" or "), fate.outcome));
        }
        let accepted = self.guarded.code == Some(201) && self.event.is_some();
        (!accepted).then(|| "no eviction was accepted, or no Event tells of it".into())
    }

    /// In one sentence a pod, for those who do not see the picture.
    pub fn in_short(&self) -> String {
        let heads = self.fates().map(|(name, fate)| self.head(name, fate));
        format!("Three pods fill their memory, in memory cgroups ({}). {}.", self.hierarchy, heads.join("; "))
    }

    fn fates(&self) -> [(&'static str, &Fate); 3] {
        [("guarded", &self.guarded), ("raised", &self.raised), ("unguarded", &self.unguarded)]
    }

    /// For people. Each line says if it is simulated.
    pub fn lines(&self) -> Vec<String> {
        let prefix = if self.hierarchy == "simulated" { "simulated: " } else { "" };
        let mut lines: Vec<_> = self.fates().into_iter().flat_map(|(name, fate)| self.story(name, fate)).collect();
        if let Some(event) = &self.event {
            lines.push("the Event, as `kubectl describe pod guarded` shows it:".into());
            lines.extend(wrap(event, WIDTH - prefix.len()));
        }
        lines.into_iter().map(|line| format!("{prefix}{line}")).collect()
    }

    fn story(&self, name: &str, fate: &Fate) -> Vec<String> {
        let end = match fate.outcome.as_str() {
            "evicted" => "ended on SIGTERM",
            "oom-killed" => "been killed by the kernel",
            _ => "ended",
        };
        let request = if name == "raised" { "raise its limit" } else { "evict it" };
        let mut steps = vec![
            (fate.crossed, format!("its usage crossed {}", self.threshold)),
            (fate.asked, format!("the agent asked the API server to {request}")),
            (fate.answered, format!("the API server answered {}", fate.code.unwrap_or(0))),
            (fate.sigterm, "SIGTERM was due from the kubelet".into()),
            (fate.ended, format!("its process had {end}")),
        ];
        let raises = fate.raises.iter();
        steps.extend(raises.map(|raise| (Some(raise.at), format!("the kernel had its new limit of {}", raise.limit))));
        steps.sort_by(|(one, _), (other, _)| one.partial_cmp(other).unwrap_or(Ordering::Equal));
        let steps = steps.into_iter().filter_map(|(at, what)| Some(format!("{:8.3} s  {what}", at?)));
        [self.head(name, fate)].into_iter().chain(steps).collect()
    }

    fn head(&self, name: &str, fate: &Fate) -> String {
        let (usage, room) = (fate.highest_usage, fate.room_left);
        let limit = usage.plus(room); // as it is in the end
        match fate.outcome.as_str() {
            "evicted" if name == "raised" => format!("raised pod: evicted at {usage}, because a raise was not in time"),
            "evicted" => format!("{name} pod: evicted at {usage}, {room} below its limit of {limit}"),
            "lived-on" => {
                format!("{name} pod: lives on at {usage}, its limit was raised from {} to {limit}", self.limit)
            }
            "oom-killed" => format!("{name} pod: OOM-killed at {usage}, its limit is {limit}"),
            other => format!("{name} pod: {other}, at {usage}, its limit is {limit}"),
        }
    }
}

/// The Event on the guarded pod.
pub fn event(server: &Standin) -> Option<String> {
    let events = server.events();
    let event = events.iter().find(|e| e["reason"] == "PreOOMEvicted" && e["regarding"]["kind"] == "Pod")?;
    Some(["type", "reason", "note"].map(|key| event[key].as_str().unwrap_or_default()).join(" "))
}

/// To a millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::from("   ")];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < width => *line += &format!(" {word}"),
            _ => lines.push(format!("    {word}")),
        }
    }
    lines
}
