//! What becomes of one guarded container, or of the pod's own group.

use std::fmt::Write;

use super::finding::{Code, Outcome, Place, Severity};
use super::memory::{Index, Memory};
use super::prestop::PreStop;
use super::template_check::TemplateCheck;
use crate::decide::ladder::EVICT;
use crate::decide::schedule::{LONGEST_INTERVAL, fastest_saved};
use crate::ground::keys;
use crate::ground::units::{Bytes, Percent};
use crate::pods::Pod;
use crate::pods::guard::{self, DryRun, Guard, Remedy, Threshold};

/// A container, or the pod's own group.
struct Target<'a> {
    /// None: the pod's own group.
    name: Option<&'a str>,
    shown: String,
    limit: Option<Bytes>,
    /// The limit is an amount, or is not written.
    readable: bool,
    request: Option<Bytes>,
    index: Option<Index>,
}

impl TemplateCheck<'_> {
    /// Adds what becomes of a container, or of the pod's own group (no `name`), and what is wrong with that.
    pub(super) fn target(&mut self, guard: &Guard, pod: &Pod, name: Option<&str>) {
        let memory = Memory::of(self.template, name, self.default.map(|default| default.amount));
        let target = Target {
            name,
            shown: name.map_or_else(|| "the pod's own cgroup".to_owned(), |n| format!("container \"{n}\"")),
            readable: memory.limit.is_ok(),
            limit: self.limit(guard, name, &memory),
            request: memory.request,
            index: memory.index,
        };
        let threshold = guard.threshold.of(target.limit);
        let mut outcome = Outcome {
            container: name.map(str::to_owned),
            text: String::new(),
            signal: guard.rule.signal.as_str(),
            threshold,
            limit: target.limit,
            fastest_growth: None,
            never: false,
        };
        match (threshold, target.limit) {
            (None, _) => {
                outcome.never = true;
                outcome.text = self.without_limit(guard, &target);
            }
            (Some(threshold), Some(limit)) if threshold >= limit => {
                outcome.never = true;
                outcome.text = format!("never evicted: {threshold} is not below its limit of {limit}");
                let shown = &target.shown;
                let text = format!(
                    "{threshold} is not below the limit of {shown} ({limit}), so it can never be crossed: write less"
                );
                self.add_to_annotation(self.of_whole_namespace(), Code::BeyondLimit, keys::THRESHOLD, text);
            }
            (Some(threshold), limit) => {
                let before = PreStop::of(self.template, name, guard.eviction_grace);
                outcome.text = words(guard, threshold, limit);
                if let Some(limit) = limit {
                    let rate = fastest(threshold, limit, before);
                    outcome.fastest_growth = Some(rate);
                    let evict = format!("{}/s {}", Bytes(rate), if_ended(before));
                    outcome.text += &self.in_time(guard, pod, name, limit.less(threshold), &evict);
                }
                self.evicted(guard, &target, threshold, before);
            }
        }
        if let Some(default) = self.default.filter(|_| memory.by_default) {
            // Writing to a String cannot fail.
            let _ = write!(outcome.text, "; its limit is the default of LimitRange/{}", default.from);
        }
        self.assessment.targets.push(outcome);
    }

    /// The limit, and what is wrong with it.
    fn limit(&mut self, guard: &Guard, name: Option<&str>, memory: &Memory<'_>) -> Option<Bytes> {
        let limit = match memory.limit {
            Ok(limit) => limit,
            Err((text, index)) => {
                let place = self.container_field(name, index, "limits");
                let text = format!("\"{text}\" is not an amount of memory: write a quantity such as \"512Mi\"");
                // To a percentage it is as good as none.
                let percent = matches!(guard.threshold, Threshold::Percent(_));
                let severity = if percent { Severity::Error } else { Severity::Warning };
                self.add(severity, Code::LimitUnreadable, place, text);
                None
            }
        };
        if let Some(tiny) = limit.filter(|l| *l < guard::MIN_QUANTITY) {
            let place = self.container_field(name, memory.index, "limits");
            let text =
                format!("it is {tiny} in bytes, less than 1Mi: is the unit right? Write a quantity such as \"512Mi\"");
            self.warn(Code::LimitTiny, place, text);
        }
        limit
    }

    /// A percentage of no limit.
    fn without_limit(&mut self, guard: &Guard, target: &Target<'_>) -> String {
        let threshold = guard.threshold;
        if target.name.is_none() {
            // No fault: a container without a limit is reported by itself.
            return format!(
                "not guarded as a whole: there is no limit to take {threshold} of, because not every container (init containers included) has one; each container is guarded by its own limit"
            );
        }
        if target.readable {
            let text = format!(
                "{} has no memory limit to take {threshold} of, so it is never evicted: write resources.limits.memory, or a \
                 threshold such as \"512Mi\"",
                target.shown
            );
            let place = self.container_field(target.name, target.index, "limits");
            self.add(self.of_whole_namespace(), Code::NoLimit, place, text);
        }
        format!("never evicted: {threshold} of no limit")
    }

    /// In a whole namespace, some containers have no limit or a low one, and nobody wrote anything wrong.
    fn of_whole_namespace(&self) -> Severity {
        if self.namespace.is_some() { Severity::Warning } else { Severity::Error }
    }

    /// What is risky about a target that can be evicted.
    fn evicted(&mut self, guard: &Guard, target: &Target<'_>, threshold: Bytes, before: PreStop) {
        let shown = &target.shown;
        if let Some(limit) = target.limit {
            self.headroom(shown, threshold, limit, before);
        } else if target.readable {
            let text =
                format!("{shown} has no memory limit: only the node's memory bounds it; write resources.limits.memory");
            self.warn(Code::NoLimit, self.container_field(target.name, target.index, "limits"), text);
        }
        if let Some(percent) = guard.rule.force_delete {
            self.force_delete(shown, percent, threshold, target.limit);
        }
        if let (Some(request), Some(limit)) = (target.request, target.limit)
            && threshold < request
            && request < limit
        {
            let text = format!(
                "{threshold} is below what {shown} requests ({request}): it may be evicted while it uses no more than that; \
                 write more, or request less"
            );
            self.add_to_annotation(Severity::Warning, Code::BelowRequest, keys::THRESHOLD, text);
        }
    }

    /// A container that fills its limit within the longest time between two samples should be saved, whatever its size.
    fn headroom(&mut self, shown: &str, threshold: Bytes, limit: Bytes, before: PreStop) {
        let rate = fastest(threshold, limit, before);
        let within_a_sample = limit.within(LONGEST_INTERVAL);
        let fastest_there_is = fastest_saved(Bytes(u64::MAX), EVICT.p50);
        if rate < fastest_there_is && rate < within_a_sample {
            let eviction = EVICT.p50.as_millis();
            let (takes, write) = match before {
                PreStop::Sleeps(time) => (
                    format!("about {eviction} ms, plus {} of preStop", seconds(time)),
                    "a shorter preStop, an eviction-grace-period, or less here",
                ),
                PreStop::None | PreStop::Unknown => (format!("about {eviction} ms"), "less"),
            };
            let text = format!(
                "{shown} has {} between the threshold ({threshold}) and its limit ({limit}): an eviction takes {takes}, so it is in \
                 time only for growth below {}/s; write {write}",
                limit.less(threshold),
                Bytes(rate),
            );
            self.add_to_annotation(Severity::Warning, Code::NearLimit, keys::THRESHOLD, text);
        }
    }

    /// A share of the limit past which a pod is deleted should lie between threshold and limit.
    fn force_delete(&mut self, shown: &str, percent: Percent, threshold: Bytes, limit: Option<Bytes>) {
        let text = match limit {
            None => format!(
                "{shown} has no memory limit to take {percent} of, so it has no effect: write resources.limits.memory"
            ),
            Some(limit) if percent.of(limit) <= threshold => format!(
                "{percent} of {limit} is not above the threshold ({threshold}), so the pod is deleted as soon as {shown} is above its \
                 threshold and a budget blocks the eviction: write more"
            ),
            Some(_) => return,
        };
        self.add_to_annotation(Severity::Warning, Code::ForceDelete, keys::FORCE_DELETE, text);
    }

    fn container_field(&self, name: Option<&str>, index: Option<Index>, list: &str) -> Place {
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

/// The fastest growth, in bytes a second, for which an eviction that begins at the threshold is in time.
fn fastest(threshold: Bytes, limit: Bytes, before: PreStop) -> u64 {
    fastest_saved(limit.less(threshold), before.known() + EVICT.p50)
}

/// "evicted above 60 % of 256Mi = 153.6Mi of working set, …".
fn words(guard: &Guard, threshold: Bytes, limit: Option<Bytes>) -> String {
    let signal = guard.rule.signal.as_str().replace('-', " ");
    let verb = match guard.dry_run {
        DryRun::Off if guard.remedies.contains(&Remedy::Evict) => "evicted",
        DryRun::Off => "acted on, but never evicted,",
        DryRun::Server | DryRun::Client => "only a dry run",
    };
    let mut text = match (guard.threshold, limit) {
        (Threshold::Percent(percent), Some(limit)) => match guard.spread {
            None => format!("{verb} above {percent} of {limit} = {threshold} of {signal}"),
            Some(spread) => {
                let lowest = percent.lowered(spread, Percent::PARTS);
                let least = lowest.of(limit);
                format!(
                    "{verb} above {lowest} to {percent} of {limit} = {least} to {threshold} of {signal}, depending on the pod's uid"
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
        let _ = write!(text, "; deleted above {percent} if a budget blocks the eviction");
    }
    text
}

/// What the fastest growth that an eviction is in time for rests on.
fn if_ended(before: PreStop) -> String {
    match before {
        PreStop::None => "if it ends at once on SIGTERM".to_owned(),
        PreStop::Sleeps(time) => format!("with {} of preStop", seconds(time)),
        PreStop::Unknown => "if preStop and SIGTERM end it at once".to_owned(),
    }
}

fn seconds(duration: std::time::Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}
