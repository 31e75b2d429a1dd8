//! A case for people: the latest incident, part by part.

use std::time::Duration;

use jiff::Timestamp;

use super::advice::advice;
use super::case::{Case, Inquiry, Of};
use super::curve::Curve;
use super::grew::{grew, others};
use super::now::{guarded, nothing};
use crate::ground::durations::{rough, span};
use crate::ground::units::Bytes;
use crate::plugin::agents::told::{not_asked, silent};
use crate::plugin::sanitize::printable;
use crate::plugin::terminal::{Look, aligned};
use crate::serve::incident::{CurveView, IncidentView, StepView};

pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// A container that was watched for less than this has no curve of the day.
pub(super) const DAY_FROM: Duration = Duration::from_secs(600);

/// The latest incident; `all`: a line for each of the others. Without an incident, what is guarded now.
#[must_use]
pub fn text(case: &Case, inquiry: &Inquiry, all: bool, look: &Look) -> String {
    let mut out = match (case.incidents.first(), case.guards.first()) {
        (Some(latest), _) => incident(latest, case.raises, look) + &earlier(&case.incidents[1..], all, look),
        (None, Some(guard)) => guarded(guard, &case.guards[1..], look),
        (None, None) if case.answered() => nothing(case, inquiry, look),
        (None, None) => String::new(),
    };
    let lines = silent(&case.agents, &inquiry.query).into_iter().chain(not_asked(&case.not_asked));
    let lines: String = lines.map(|line| look.paragraph("", 0, &line)).collect();
    if !lines.is_empty() && !out.is_empty() {
        out.push('\n');
    }
    out + &lines
}

fn incident(of: &Of<IncidentView>, raises: bool, look: &Look) -> String {
    let incident = &of.it;
    let container = (incident.container.as_deref(), incident.owner.as_deref());
    let mut out = heading(&of.node, &incident.namespace, &incident.pod, container, look);
    let at: Option<Timestamp> = incident.at.parse().ok();
    let when = at.map_or_else(
        || printable(&incident.at),
        |at| format!("{}{}", at.strftime("%Y-%m-%d %H:%M:%S.%3f UTC"), ago(at, look)),
    );
    out += &look.paragraph("", 0, &format!("{when}{}", amounts(incident)));
    out.push('\n');
    out += &class(incident, look);
    out += &look.paragraph("", 0, &watched(of, at));
    let end = at.map_or_else(String::new, |at| at.strftime("%H:%M:%S").to_string());
    let long = Duration::from_secs(incident.known_seconds) > DAY_FROM;
    let views = [Some(&incident.minutes), Some(&incident.day).filter(|_| long)];
    for view in views.into_iter().flatten() {
        let (curve, is_usage) = curve(view);
        let signal = if is_usage { Some("usage") } else { incident.facts.signal.as_deref() };
        let curve =
            Curve { threshold: incident.facts.threshold, limit: incident.facts.limit, end: end.clone(), ..curve };
        out += &drawn(signal, "before", &curve, look);
    }
    let compared = incident.memory.is_some() && incident.memory_before.is_some();
    out += &section(if compared { "What grew" } else { "What it held" }, &grew(incident), look);
    out += &others(incident).map_or_else(String::new, |text| look.paragraph("  ", 2, &text));
    out += &section("What was done", &steps(incident, look), look);
    let advice: String = advice(of, raises, look.program).iter().map(|text| look.paragraph("- ", 2, text)).collect();
    out + &section("What to change", &advice, look)
}

/// A part with its title; nothing if it is empty.
pub(super) fn section(title: &str, content: &str, look: &Look) -> String {
    if content.is_empty() { String::new() } else { format!("\n{}\n{content}", look.paint.with("1", title)) }
}

/// `Pod web-1 in namespace shop, container app, of Deployment/web, on node a`.
pub(super) fn heading(
    node: &str,
    namespace: &str,
    pod: &str,
    (container, owner): (Option<&str>, Option<&str>),
    look: &Look,
) -> String {
    let container = container.map_or_else(|| "its own cgroup".to_owned(), |name| format!("container {name}"));
    let owner = owner.map_or_else(String::new, |owner| format!(", of {owner}"));
    let text = printable(&format!("Pod {pod} in namespace {namespace}, {container}{owner}, on node {node}"));
    look.paragraph("", 0, &text).lines().map(|line| look.paint.with("1", line) + "\n").collect()
}

/// `, 13m ago`.
pub(super) fn ago(at: Timestamp, look: &Look) -> String {
    let ago = Duration::try_from(look.now.duration_since(at));
    ago.map_or_else(|_| String::new(), |ago| format!(", {} ago", rough(ago)))
}

/// `: working-set 155Mi, threshold 153.6Mi, limit 256Mi`.
fn amounts(incident: &IncidentView) -> String {
    let facts = &incident.facts;
    let signal = facts.signal.as_deref().unwrap_or("value");
    let all = [(signal, facts.value), ("usage", facts.usage), ("threshold", facts.threshold), ("limit", facts.limit)];
    let known = all.into_iter().filter_map(|(name, n)| Some(format!("{} {}", printable(name), Bytes(n?))));
    let known: Vec<String> = known.collect();
    if known.is_empty() { String::new() } else { format!(": {}", known.join(", ")) }
}

/// `leak: it grew 3Mi a minute for 4 h`.
fn class(incident: &IncidentView, look: &Look) -> String {
    let Some(class) = incident.class.as_deref().map(printable) else {
        return look.paragraph("", 0, "Too little is known to say what kind of growth it was.");
    };
    let text = look.paragraph("", 0, &format!("{class}: {}", printable(&incident.why)));
    text.replacen(&class, &look.paint.with("1;33", &class), 1)
}

/// For how long it was watched before, and whether that is because the agent had just started.
fn watched(of: &Of<IncidentView>, at: Option<Timestamp>) -> String {
    let known = Duration::from_secs(of.it.known_seconds);
    let text = match known.as_secs() {
        0 => "Nothing was known of its past".to_owned(),
        _ if known >= DAY => "The agent had watched it for a day or more".to_owned(),
        _ => format!("The agent had watched it for {}", span(known)),
    };
    let before = of.started.zip(at).and_then(|(started, at)| Duration::try_from(at.duration_since(started)).ok());
    match before.filter(|before| *before < DAY) {
        Some(before) => {
            format!("{text}. The agent was started {} before, and knows nothing of the time before that.", span(before))
        }
        None => format!("{text}."),
    }
}

/// The curve of the signal; where it was never read, that of the usage.
fn curve(view: &CurveView) -> (Curve, bool) {
    let each = Duration::from_secs(view.each_seconds);
    let is_usage = view.value.iter().flatten().next().is_none();
    (Curve::of_kib(if is_usage { &view.usage } else { &view.value }, each), is_usage)
}

/// A curve with its title; nothing if nothing is known.
pub(super) fn drawn(signal: Option<&str>, when: &str, curve: &Curve, look: &Look) -> String {
    let Some(most) = curve.most() else { return String::new() };
    let signal = printable(signal.unwrap_or("memory"));
    let title = format!("{signal} in the {} {when} (at most {})", span(curve.covers()), Bytes(most));
    section(&title, &(curve.lines(look).join("\n") + "\n"), look)
}

fn steps(incident: &IncidentView, look: &Look) -> String {
    let first: Option<Timestamp> = incident.steps.first().and_then(|step| step.at.parse().ok());
    let one = |step: &StepView| {
        look.paragraph("  ", 2, &step_line(step, first)) + &look.paragraph("", 6, &printable(&step.words))
    };
    incident.steps.iter().map(one).collect()
}

/// `02:47:12.345  +32 ms  PreOOMEvicted, accepted, took 31.5 ms`.
fn step_line(step: &StepView, first: Option<Timestamp>) -> String {
    let at: Option<Timestamp> = step.at.parse().ok();
    let clock = at.map_or_else(|| printable(&step.at), |at| at.strftime("%H:%M:%S.%3f").to_string());
    let after = at.zip(first).and_then(|(at, first)| u64::try_from(at.duration_since(first).as_millis()).ok());
    let after = match after {
        None | Some(0) => String::new(),
        Some(ms @ 1..10_000) => format!("+{ms} ms"),
        Some(ms) => format!("+{}.{:03} s", ms / 1000, ms % 1000),
    };
    let answer = step.answer.as_deref().map_or_else(String::new, |answer| format!(", {}", printable(answer)));
    let took = step.took_ms.map_or_else(String::new, |ms| format!(", took {ms:.1} ms"));
    format!("{clock}  {after:<10}  {}{answer}{took}", printable(&step.reason))
}

/// The other incidents.
fn earlier(others: &[Of<IncidentView>], all: bool, look: &Look) -> String {
    match others.len() {
        0 => return String::new(),
        1 if !all => return "\n1 earlier incident is known: --all lists it.\n".into(),
        n if !all => return format!("\n{n} earlier incidents are known: --all lists them.\n"),
        _ => {}
    }
    let titles = ["  AT (UTC)", "POD", "CONTAINER", "CLASS", "LAST STEP"].map(str::to_owned).to_vec();
    let line = |of: &Of<IncidentView>| {
        let it = &of.it;
        let at = it.at.parse::<Timestamp>();
        let at = at.map_or_else(|_| printable(&it.at), |at| at.strftime("%m-%d %H:%M:%S").to_string());
        let last = it.steps.last().map_or("-", |step| &step.reason);
        let names = [&it.pod, it.container.as_deref().unwrap_or("*"), it.class.as_deref().unwrap_or("-"), last];
        [format!("  {at}")].into_iter().chain(names.map(printable)).collect()
    };
    let lines: Vec<Vec<String>> = [titles].into_iter().chain(others.iter().map(line)).collect();
    section("Earlier incidents", &aligned(&lines), look)
}
