//! What becomes of one guarded container, or of the pod's own group.

use std::fmt::Write;

use super::objects::Template;
use super::prestop::PreStop;
use super::rules::{Judge, Level, Outcome};
use super::tree::Node;
use crate::decide::schedule::{LONGEST_INTERVAL, fastest_saved};
use crate::ground::keys;
use crate::ground::units::{Bytes, Percent, parse_memory};
use crate::pods::guard::{self, DryRun, Guard, Threshold};
use crate::sampler::TYPICAL as EVICTION;

impl Judge<'_> {
    pub(super) fn target(&mut self, guard: &Guard, name: Option<&str>) {
        let memory = Memory::of(self.template, name);
        let shown = name.map_or_else(|| "the pod's own cgroup".to_owned(), |n| format!("container \"{n}\""));
        let readable = memory.limit.is_ok();
        let limit = match memory.limit {
            Ok(limit) => limit,
            Err((text, index)) => {
                let place = self.container_field(name, index, "limits");
                let text = format!("\"{text}\" is no amount of memory: write a quantity such as \"512Mi\"");
                // To a percentage it is as good as none.
                let percent = matches!(guard.threshold, Threshold::Percent(_));
                self.find(if percent { Level::Error } else { Level::Warning }, "limit-unreadable", place, text);
                None
            }
        };
        if let Some(tiny) = limit.filter(|l| *l < guard::MIN_QUANTITY) {
            let place = self.container_field(name, memory.index, "limits");
            self.warn(
                "limit-tiny",
                place,
                format!("it is {tiny} in bytes, less than 1Mi: is the unit right? Write a quantity such as \"512Mi\""),
            );
        }
        let threshold = match guard.threshold {
            Threshold::Percent(percent) => limit.map(|limit| percent.of(limit)),
            Threshold::Quantity(bytes) => Some(bytes),
        };
        let signal = guard.rule.signal.as_str();
        let mut outcome = Outcome {
            container: name.map(str::to_owned),
            text: String::new(),
            signal,
            threshold,
            limit,
            fastest_growth: None,
            never: false,
        };
        match (threshold, limit) {
            (None, _) => {
                outcome.never = true;
                outcome.text = match name {
                    Some(_) => format!("never evicted: {} of no limit", guard.threshold),
                    // No fault: a container without a limit is told by itself.
                    None => format!(
                        "not guarded as a whole: no limit to take {} of (not each container, init containers included, has one); each is guarded by its own",
                        guard.threshold
                    ),
                };
                if name.is_some() && readable {
                    let place = self.container_field(name, memory.index, "limits");
                    let text = format!(
                        "{shown} has no memory limit to take {} of, so it is never evicted: write resources.limits.memory, \
                         or a threshold such as \"512Mi\"",
                        guard.threshold
                    );
                    // Of a whole namespace some have none: nobody wrote anything wrong.
                    let level = if self.space.is_some() { Level::Warning } else { Level::Error };
                    self.find(level, "no-limit", place, text);
                }
            }
            (Some(threshold), Some(limit)) if threshold >= limit => {
                outcome.never = true;
                outcome.text = format!("never evicted: {threshold} is not below its limit of {limit}");
                let text = format!(
                    "{threshold} is not below the limit of {shown} ({limit}), so it could never act: write less"
                );
                let level = if self.space.is_some() { Level::Warning } else { Level::Error };
                self.of_annotation(level, "beyond-limit", keys::THRESHOLD, text);
            }
            (Some(threshold), limit) => {
                let before = PreStop::of(self.template, name, guard.eviction_grace);
                let rate = limit.map(|limit| fastest_saved(limit.less(threshold), before.takes() + EVICTION));
                outcome.fastest_growth = rate;
                outcome.text = words(guard, threshold, limit, rate.map(|rate| (rate, before)));
                if let (Some(limit), Some(rate)) = (limit, rate) {
                    self.headroom(&shown, threshold, limit, rate, before);
                } else if readable {
                    let place = self.container_field(name, memory.index, "limits");
                    let text = format!(
                        "{shown} has no memory limit: nothing but the node's memory bounds it; write resources.limits.memory"
                    );
                    self.warn("no-limit", place, text);
                }
                if let Some(percent) = guard.rule.force_delete {
                    self.force_delete(&shown, percent, threshold, limit);
                }
                if let (Some(request), Some(limit)) = (memory.request, limit)
                    && threshold < request
                    && request < limit
                {
                    let text = format!(
                        "{threshold} is below what {shown} requests ({request}): it may be evicted while it uses no more than that; \
                         write more, or request less"
                    );
                    self.of_annotation(Level::Warning, "below-request", keys::THRESHOLD, text);
                }
            }
        }
        self.said.targets.push(outcome);
    }

    /// A container that fills its limit within the longest time between two looks is to be caught, whatever its size.
    fn headroom(&mut self, shown: &str, threshold: Bytes, limit: Bytes, rate: u64, before: PreStop) {
        let within_a_look = u128::from(limit.0) * 1_000_000_000 / LONGEST_INTERVAL.as_nanos();
        let fastest_there_is = fastest_saved(Bytes(u64::MAX), EVICTION);
        if rate < fastest_there_is && u128::from(rate) < within_a_look {
            let eviction = EVICTION.as_millis();
            let (takes, write) = match before {
                PreStop::Sleeps(time) => (
                    format!("about {eviction} ms, after {} of preStop", seconds(time)),
                    "a shorter preStop, an eviction-grace-period, or less here",
                ),
                PreStop::None | PreStop::Unknown => (format!("about {eviction} ms"), "less"),
            };
            let text = format!(
                "{shown} has {} from {threshold} to its limit of {limit}: only growth below {}/s can be caught (an eviction takes \
                 {takes}); write {write}",
                limit.less(threshold),
                Bytes(rate),
            );
            self.of_annotation(Level::Warning, "near-limit", keys::THRESHOLD, text);
        }
    }

    /// A share of the limit past which a pod is deleted should lie between threshold and limit.
    fn force_delete(&mut self, shown: &str, percent: Percent, threshold: Bytes, limit: Option<Bytes>) {
        let text = match limit {
            None => format!(
                "{shown} has no memory limit to take {percent} of, so it has no effect: write resources.limits.memory"
            ),
            Some(limit) if percent.of(limit) <= threshold => format!(
                "{percent} of {limit} is not above the threshold ({threshold}), so {shown} need only be over it for the pod to be \
                 deleted where a budget blocks its eviction: write more"
            ),
            Some(_) => return,
        };
        self.of_annotation(Level::Warning, "force-delete", keys::FORCE_DELETE, text);
    }

    fn container_field(&self, name: Option<&str>, index: Option<Index>, list: &str) -> (String, u64) {
        let Some((kind, index)) = index.filter(|_| name.is_some()) else {
            return self.place(&["spec", "resources", list, "memory"]);
        };
        let line = self.template.node.at(&["spec", kind]).and_then(|l| l.items().get(index)).map_or(0, |container| {
            let resources = container.get("resources");
            let memory = container.at(&["resources", list, "memory"]);
            memory.or(resources).unwrap_or(container).line
        });
        (self.template.field(&format!("spec.{kind}[{index}].resources.{list}.memory")), line)
    }
}

/// "evicted above 60 % of 256Mi = 153.6Mi of working set, …".
fn words(guard: &Guard, threshold: Bytes, limit: Option<Bytes>, rate: Option<(u64, PreStop)>) -> String {
    let signal = guard.rule.signal.as_str().replace('-', " ");
    let verb = match guard.dry_run {
        DryRun::Off => "evicted",
        DryRun::Server | DryRun::Client => "only a dry run of an eviction",
    };
    let mut text = match (guard.threshold, limit) {
        (Threshold::Percent(percent), Some(limit)) => match guard.spread {
            None => format!("{verb} above {percent} of {limit} = {threshold} of {signal}"),
            Some(spread) => {
                let lowest = percent.lowered(spread, Percent::PARTS);
                let least = lowest.of(limit);
                format!(
                    "{verb} above {lowest} to {percent} of {limit} = {least} to {threshold} of {signal}, each pod by its uid"
                )
            }
        },
        (_, Some(limit)) => format!("{verb} above {threshold} of {signal}, of {limit}"),
        (_, None) => format!("{verb} above {threshold} of {signal}, of no limit"),
    };
    // Writing to a String cannot fail.
    if !guard.rule.sustained_for.is_zero() {
        let _ = write!(text, " for {}", seconds(guard.rule.sustained_for));
    }
    if let Some(percent) = guard.rule.force_delete {
        let _ = write!(text, "; past {percent} deleted if a budget blocks that");
    }
    if let Some((rate, before)) = rate {
        let _ = write!(text, "; in time up to {}/s ", Bytes(rate));
        let _ = match before {
            PreStop::None => write!(text, "if it ends at once on SIGTERM"),
            PreStop::Sleeps(time) => write!(text, "with {} of preStop", seconds(time)),
            PreStop::Unknown => write!(text, "if preStop and SIGTERM end it at once"),
        };
    }
    text
}

fn seconds(duration: std::time::Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// What a target may use, as the template has it.
struct Memory<'a> {
    /// Or a text that is no amount, and whose.
    limit: Result<Option<Bytes>, NoAmount<'a>>,
    request: Option<Bytes>,
    index: Option<Index>,
}

/// Which of its lists a container is in, and where.
type Index = (&'static str, usize);

/// A text that is no amount, and whose; none: the pod's.
type NoAmount<'a> = (&'a str, Option<Index>);

/// The lists that a container can be guarded in.
const LISTS: [&str; 2] = ["containers", "initContainers"];

impl<'a> Memory<'a> {
    fn of(template: &'a Template<'a>, name: Option<&str>) -> Memory<'a> {
        let spec = template.node.get("spec");
        let amount = |node: &'a Node, list: &str| {
            let text = node.at(&["resources", list, "memory"]).and_then(Node::scalar);
            text.filter(|text| parse_memory(text) != Ok(Bytes(0))) // 0 is none to the kubelet
        };
        let read = |text: &'a str, index| parse_memory(text).map(Some).map_err(|_| (text, index));
        let pods = spec.and_then(|s| amount(s, "limits"));
        let all = LISTS.into_iter().flat_map(|list| {
            let items = spec.and_then(|s| s.get(list)).map_or(&[][..], Node::items);
            items.iter().enumerate().map(move |(index, node)| ((list, index), node))
        });
        let Some(name) = name else {
            let sum = || group_limit(all.clone().map(|((list, _), node)| (list, node)), amount);
            return Memory {
                limit: pods.map_or_else(|| Ok(sum()), |text| read(text, None)),
                request: None,
                index: None,
            };
        };
        let found = all.clone().find(|(_, node)| node.get("name").and_then(Node::scalar) == Some(name));
        let index = found.map(|(index, _)| index);
        let own = found.and_then(|(_, node)| amount(node, "limits"));
        let limit = match own.or(pods) {
            Some(text) => read(text, index.filter(|_| own.is_some())),
            None => Ok(None),
        };
        let request = found.and_then(|(_, node)| amount(node, "requests")).and_then(|text| parse_memory(text).ok());
        Memory { limit, request, index }
    }
}

/// The limit that the kubelet gives the pod's own cgroup: what its containers may use together, if all have a limit.
fn group_limit<'a>(
    all: impl Iterator<Item = (&'static str, &'a Node)>,
    amount: impl Fn(&'a Node, &str) -> Option<&'a str>,
) -> Option<Bytes> {
    let (mut main, mut sidecars, mut starting) = (Bytes(0), Bytes(0), Bytes(0));
    for (list, node) in all {
        let limit = parse_memory(amount(node, "limits")?).ok()?;
        if list == "containers" {
            main = main.plus(limit);
        } else if node.get("restartPolicy").and_then(Node::scalar) == Some("Always") {
            sidecars = sidecars.plus(limit);
        } else {
            // It runs beside the sidecars that stand before it.
            starting = starting.max(sidecars.plus(limit));
        }
    }
    Some(main.plus(sidecars).max(starting))
}
