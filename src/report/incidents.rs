//! The last verdicts, misses and kills, each with what led to it and what was done, for `/api/incidents`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::events::cut;
use super::notice::Notice;
use super::story::Story;
use crate::decide::past::Curve;
use crate::ground::memory::Breakdown;
use crate::pods::Owner;
use crate::serve::incident::{BreakdownView, CurveView, IncidentView, OtherView, StepView};
use crate::serve::past::kib;
use crate::serve::wire::Facts;

/// How many are kept. Each has a past of 2.4 KiB and at most [`MOST_STEPS`] Events' texts, so all of them stay below 1 MiB.
const MOST: usize = 50;
/// How many steps of an incident are kept: the first ones, and the last.
const MOST_STEPS: usize = 16;
/// After this time without news of a container, the next one is another incident.
const APART: Duration = Duration::from_secs(600);
/// The same after it was raised, restarted or killed: what comes then began anew.
const AFTERWARDS: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Incidents(VecDeque<Incident>);

/// One container above its threshold, or killed, and what came of it.
#[derive(Clone, Debug)]
pub struct Incident {
    at: Timestamp,
    last: Timestamp,
    namespace: String,
    pod: String,
    uid: String,
    owner: Option<String>,
    container: Option<String>,
    facts: Facts,
    story: Option<Arc<Story>>,
    steps: Vec<StepView>,
}

impl Incidents {
    /// Keeps a notice about an eviction: as the next step of what is under way about its container, or as a new incident.
    pub fn keep(&mut self, at: Timestamp, notice: &Notice) {
        if !notice.subject.is_about_an_eviction() {
            return;
        }
        let facts = notice.subject.facts();
        let step = StepView {
            at: millis(at),
            reason: notice.subject.reason().into(),
            words: cut(notice.words()),
            answer: facts.answer.clone(),
            cause: facts.cause.clone(),
            took_ms: facts.took_ms,
        };
        let goes_on = self.0.iter_mut().find(|incident| incident.is_about(notice) && incident.goes_on(at));
        if let Some(incident) = goes_on {
            incident.last = at;
            if incident.steps.len() >= MOST_STEPS {
                incident.steps.pop();
            }
            incident.steps.push(step);
            // A kill says more of the class than what came before it. The first notice may have none, and it lacks what the
            // memory consisted of where that takes long to read.
            let is_better = |story: &Arc<Story>| {
                let Some(old) = incident.story.as_ref().map(|story| story.digest()) else { return true };
                let of_others = story.surroundings.of_pod || story.surroundings.of_node;
                of_others
                    || (old.classified.is_none() && story.digest().classified.is_some())
                    || (old.memory.is_none() && old.before.is_none() && story.digest().memory.is_some())
            };
            if let Some(story) = notice.story.as_ref().filter(|story| is_better(story)) {
                incident.story = Some(Arc::clone(story));
            }
            return;
        }
        self.0.truncate(MOST - 1);
        self.0.push_front(Incident {
            at,
            last: at,
            namespace: notice.pod.namespace.clone(),
            pod: notice.pod.name.clone(),
            uid: notice.pod.uid.0.clone(),
            owner: notice.owner.as_ref().map(Owner::workload),
            container: notice.container.clone(),
            facts,
            story: notice.story.clone(),
            steps: vec![step],
        });
    }

    /// All that are kept, the newest first.
    #[must_use]
    pub fn all(&self) -> Vec<Incident> {
        self.0.iter().cloned().collect()
    }
}

impl Incident {
    fn is_about(&self, notice: &Notice) -> bool {
        self.uid == notice.pod.uid.0 && self.container == notice.container
    }

    /// Whether what happens at this moment belongs to it. What was done, or a kill, ends it.
    fn goes_on(&self, at: Timestamp) -> bool {
        const ENDS: [&str; 3] = ["PreOOMRaised", "PreOOMRestarted", "PreOOMMissed"];
        let is_done = self.steps.last().is_some_and(|step| ENDS.contains(&&*step.reason));
        at <= self.last + if is_done { AFTERWARDS } else { APART }
    }

    /// As `/api/incidents` has it. It takes some time, which is the reader's.
    #[must_use]
    pub fn view(&self) -> IncidentView {
        let mut view = IncidentView {
            at: millis(self.at),
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
            owner: self.owner.clone(),
            container: self.container.clone(),
            facts: self.facts.clone(),
            steps: self.steps.clone(),
            ..IncidentView::default()
        };
        let Some(story) = &self.story else { return view };
        let digest = story.digest();
        view.class = digest.classified.map(|it| it.class.as_str().into());
        view.why = digest.classified.map(|it| it.to_string()).unwrap_or_default();
        view.known_seconds = story.watched().as_secs();
        view.growth_per_minute = digest.slow_growth.map(|growth| growth.a_minute);
        view.growing_seconds = digest.slow_growth.map(|growth| growth.lasted.as_secs());
        view.minutes = curve(story.known.past.minutes(1));
        view.day = curve(story.known.past.day(1));
        view.memory = digest.memory.map(|(_, memory)| breakdown(memory));
        view.memory_seconds = digest.memory.map(|(ago, _)| ago.as_secs());
        view.memory_before = digest.before.map(|(_, before)| breakdown(before));
        view.before_seconds = digest.before.map(|(ago, _)| ago.as_secs());
        let others = story.surroundings.others.iter();
        view.others =
            others.map(|(container, usage)| OtherView { container: container.clone(), usage: usage.0 }).collect();
        view.rest_of_pod = digest.rest_of_pod.map(|rest| rest.0);
        view
    }
}

fn curve(curve: Curve) -> CurveView {
    CurveView { each_seconds: curve.each.as_secs(), usage: kib(curve.usage), value: kib(curve.value) }
}

fn breakdown(of: Breakdown) -> BreakdownView {
    BreakdownView {
        anonymous: of.anonymous.0,
        active_file: of.active_file.0,
        inactive_file: of.inactive_file.0,
        shmem: of.shmem.0,
        slab: of.slab.0,
        kernel: of.kernel.0,
        sockets: of.sockets.0,
    }
}

fn millis(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::past::Past;
    use crate::ground::memory::{Level, Sample, Stat};
    use crate::ground::units::Bytes;
    use crate::pods::{PodRef, PodUid};
    use crate::report::notice::{MissReason, Subject};
    use crate::report::story::Surroundings;
    use crate::sampler::{Known, LastSample};

    const MIB: u64 = 1 << 20;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000 * seconds + 7).unwrap()
    }

    /// A container that grew to 70 of 100Mi within so many seconds.
    fn story(seconds: u64) -> Story {
        let mut past = Past::new(Duration::ZERO);
        let value = |n: u64| Bytes((10 + 60 * n / seconds) * MIB);
        (0..=seconds).for_each(|n| past.remember(Duration::from_secs(n), value(n), Some(value(n))));
        let usage = value(seconds);
        let stat = Some(Stat::default());
        let level = Level { usage, most_usage: usage, limit: Some(Bytes(100 * MIB)), stat, swap_left: Bytes(0) };
        let at = Duration::from_secs(seconds);
        let sample = Sample { at, until: at, own: level, pod: Some(Level { usage: Bytes(90 * MIB), ..level }) };
        let last = LastSample { threshold: Some(Bytes(60 * MIB)), ..LastSample::below(sample) };
        let known = Known { last, past, breakdowns: crate::sampler::Breakdowns::default() };
        Story::new(known, Surroundings { others: vec![("proxy".into(), Bytes(5 * MIB))], ..Surroundings::default() })
    }

    fn notice(uid: &str, seconds: u64, subject: Subject) -> Notice {
        let pod = PodRef { namespace: "demo".into(), name: "web".into(), uid: PodUid(uid.into()) };
        let story = Some(Arc::new(story(seconds)));
        Notice { pod, owner: None, container: Some("app".into()), by_namespace: false, subject, story }
    }

    fn slow(since: u64) -> Subject {
        Subject::Slow { since: Duration::from_secs(since), growth: 1 << 20 }
    }

    #[test]
    fn what_happens_to_a_container_is_one_incident_until_it_is_quiet() {
        let mut incidents = Incidents::default();
        incidents.keep(at(0), &notice("a", 240, slow(1)));
        incidents.keep(at(1), &notice("b", 5, slow(1)));
        incidents.keep(
            at(2),
            &notice("a", 5, Subject::Missed { reason: MissReason::TooFast, last_sample: None, count: 1, whole: true }),
        );
        incidents.keep(at(700), &notice("a", 5, slow(3)));
        let all: Vec<IncidentView> = incidents.all().iter().map(Incident::view).collect();
        let steps = |i: usize| all[i].steps.iter().map(|step| &*step.reason).collect::<Vec<_>>();
        assert_eq!(
            (all.len(), all[0].at.as_str(), all[2].at.as_str()),
            (3, "1970-01-01T00:11:40.007Z", "1970-01-01T00:00:00.007Z")
        );
        assert_eq!((steps(0), steps(2)), (vec!["PreOOMEvictionSlow"], vec!["PreOOMEvictionSlow", "PreOOMMissed"]));
        let causes: Vec<_> = all[2].steps.iter().map(|step| step.cause.as_deref()).collect();
        assert_eq!(
            (causes, &all[2].facts.cause),
            (vec![None, Some("too-fast")], &None),
            "of each, not only of the first"
        );
        assert_eq!((all[2].class.as_deref(), all[2].why.as_str()), (Some("leak"), "it grew 15Mi a minute for 4 min"));
        assert_eq!((all[1].class.as_deref(), all[1].known_seconds), (Some("spike"), 5));
        assert_eq!(
            (all[1].minutes.value.first(), all[1].minutes.value.last()),
            (Some(&Some(10 << 10)), Some(&Some(70 << 10)))
        );
        assert_eq!((all[1].others[0].usage, all[1].rest_of_pod), (5 * MIB, Some(15 * MIB)));
    }

    /// A warning may be told before anything is known of a class, and a kill then has one.
    #[test]
    fn a_class_that_is_known_later_is_kept() {
        let mut incidents = Incidents::default();
        let mut first = notice("a", 5, slow(1));
        first.story = Some(Arc::new(Story::new(
            Known { past: Past::new(Duration::ZERO), ..story(5).known },
            Surroundings::default(),
        )));
        incidents.keep(at(0), &first);
        assert_eq!(incidents.all()[0].view().class, None);
        incidents.keep(at(1), &notice("a", 5, slow(2)));
        incidents.keep(at(2), &notice("a", 240, slow(3)));
        assert_eq!(incidents.all()[0].view().class.as_deref(), Some("spike"), "the first that was known");
    }

    #[test]
    fn both_incidents_and_their_steps_are_bounded() {
        let mut incidents = Incidents::default();
        for n in 0..1000 {
            incidents.keep(at(0), &notice(&n.to_string(), 5, slow(1)));
        }
        (0..1000).for_each(|n| incidents.keep(at(1), &notice("999", 5, slow(n))));
        let all: Vec<IncidentView> = incidents.all().iter().map(Incident::view).collect();
        assert_eq!((all.len(), all[0].steps.len(), all[49].uid.as_str()), (MOST, MOST_STEPS, "950"));
        assert!(all[0].steps[MOST_STEPS - 1].words.contains(", 999 s after"), "{}", all[0].steps[MOST_STEPS - 1].words);
    }
}
