//! How long a target's `preStop` hook keeps it alive: the kubelet runs it before it sends SIGTERM.

use std::time::Duration;

use super::objects::Template;
use super::tree::Node;
use crate::ground::units::duration;

/// What a pod without `terminationGracePeriodSeconds` gets.
const DEFAULT_GRACE: u64 = 30;

/// The longer is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PreStop {
    None,
    /// It sleeps for so long.
    Sleeps(Duration),
    /// Nobody knows how long it takes.
    Unknown,
}

impl PreStop {
    /// The hook of a container, or (no `name`) the longest one in the pod. A sidecar ends only after all `containers`. `grace`:
    /// the eviction's own, if it has one.
    pub(super) fn of(template: &Template<'_>, name: Option<&str>, grace: Option<u32>) -> PreStop {
        let items = |list: &str| template.node.at(&["spec", list]).map_or(&[][..], Node::items);
        let named = |node: &&Node| name.is_none() || node.get("name").and_then(Node::scalar) == name;
        let sidecars: Vec<_> = items("initContainers").iter().filter(named).collect();
        let main = items("containers").iter().filter(|node| !sidecars.is_empty() || named(node));
        let longest = main.chain(sidecars.iter().copied()).map(hook).max().unwrap_or(PreStop::None);
        let own = template.node.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Node::number);
        let own = own.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(DEFAULT_GRACE);
        // At its end the kubelet kills it, whatever its hook does.
        let grace = Duration::from_secs(grace.map_or(own, u64::from));
        match longest {
            PreStop::Sleeps(time) => PreStop::Sleeps(time.min(grace)),
            longest => longest,
        }
    }

    /// How long it takes, as far as that is known.
    pub(super) fn known(self) -> Duration {
        if let PreStop::Sleeps(time) = self { time } else { Duration::ZERO }
    }
}

fn hook(container: &Node) -> PreStop {
    let Some(hook) = container.at(&["lifecycle", "preStop"]) else { return PreStop::None };
    if let Some(seconds) = hook.at(&["sleep", "seconds"]).and_then(Node::number) {
        return u64::try_from(seconds).map_or(PreStop::Unknown, |s| PreStop::Sleeps(Duration::from_secs(s)));
    }
    let command = hook.at(&["exec", "command"]).map_or(&[][..], Node::items);
    let command: Vec<_> = command.iter().filter_map(Node::scalar).collect();
    let slept = match command[..] {
        [shell, "-c", script] if SHELLS.contains(&program(shell)) => {
            slept(&script.split_whitespace().collect::<Vec<_>>())
        }
        _ => slept(&command),
    };
    slept.map_or(PreStop::Unknown, PreStop::Sleeps)
}

const SHELLS: [&str; 4] = ["sh", "bash", "ash", "dash"];

fn program(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `sleep 15`, and nothing else.
fn slept(words: &[&str]) -> Option<Duration> {
    let [command, time] = words else { return None };
    let seconds = time.strip_suffix('s').unwrap_or(time);
    let number = seconds.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (program(command) == "sleep" && number).then(|| duration(&format!("{seconds}s")))?
}

#[cfg(test)]
mod tests {
    use super::super::input::Input;
    use super::super::objects::objects;
    use super::*;

    fn of(spec: &str, name: Option<&str>, grace: Option<u32>) -> PreStop {
        let mut input = Input::default();
        input.take_text("f", &format!("{{kind: Pod, apiVersion: v1, spec: {spec}}}"), true);
        assert_eq!(input.unreadable, []);
        PreStop::of(&objects(&input.documents)[0].template().unwrap(), name, grace)
    }

    #[test]
    fn hooks_that_sleep() {
        let seconds = |s| PreStop::Sleeps(Duration::from_secs(s));
        for (hook, takes) in [
            ("{sleep: {seconds: 15}}", seconds(15)),
            ("{exec: {command: [sleep, '15']}}", seconds(15)),
            ("{exec: {command: [/bin/sleep, 15s]}}", seconds(15)),
            ("{exec: {command: [sleep, '0.5']}}", PreStop::Sleeps(Duration::from_millis(500))),
            ("{exec: {command: [/bin/sh, -c, sleep 15]}}", seconds(15)),
            ("{exec: {command: [sh, -c, sleep 60]}}", seconds(30)), // then it is killed
            ("{exec: {command: [sh, -c, sleep 5; nginx -s quit]}}", PreStop::Unknown),
            ("{exec: {command: [sleep, 15m]}}", PreStop::Unknown),
            ("{exec: {command: [sleep]}}", PreStop::Unknown),
            ("{httpGet: {port: 80}}", PreStop::Unknown),
            ("null", PreStop::None),
        ] {
            let spec = format!("{{containers: [{{name: web, lifecycle: {{preStop: {hook}}}}}]}}");
            assert_eq!(of(&spec, Some("web"), None), takes, "{hook}");
        }
    }

    #[test]
    fn the_grace_period_bounds_it() {
        let sleeping = |grace: &str| {
            format!("{{containers: [{{name: web, lifecycle: {{preStop: {{sleep: {{seconds: 40}}}}}}}}]{grace}}}")
        };
        let (own, without) = (sleeping(", terminationGracePeriodSeconds: 35"), sleeping(""));
        assert_eq!(of(&without, Some("web"), None).known().as_secs(), 30);
        assert_eq!(of(&own, Some("web"), None).known().as_secs(), 35);
        assert_eq!(of(&own, Some("web"), Some(5)).known().as_secs(), 5);
    }

    #[test]
    fn a_sidecar_waits_for_the_others() {
        let spec = "{initContainers: [{name: mesh, restartPolicy: Always}], containers: [
            {name: web, lifecycle: {preStop: {sleep: {seconds: 5}}}}, {name: log}]}";
        assert_eq!(of(spec, Some("log"), None), PreStop::None);
        assert_eq!(of(spec, Some("mesh"), None).known().as_secs(), 5);
        assert_eq!(of(spec, None, None).known().as_secs(), 5);
    }
}
