//! One target: judges its samples, and reports each change once.

use std::sync::Arc;
use std::time::Duration;

use super::due::{CLOSE, Due, FOLLOWED_FOR, REPORTED_INTERVAL, SOON, UNREADABLE_INTERVAL, follow_interval};
use super::kills::KillCounts;
use super::latency::Latency;
use super::messages::{Report, TargetId, Watch, What};
use super::reader::{Context, Reader};
use super::reported::{Reported, Urgency};
use super::view::{LastSample, Shown};
use crate::cgroup::ReadError;
use crate::cgroup::resolve::Groups;
use crate::decide::allocation::Allowance;
use crate::decide::judge::{Evidence, History, Verdict};
use crate::decide::schedule::{SHORTEST_INTERVAL, Schedule, crossing, time_left};
use crate::decide::throttle::{Throttle, Throttled};
use crate::ground::clock::Moment;
use crate::ground::memory::{Level, Sample};
use crate::ground::units::Bytes;
use crate::pods::guard::{Rule, Threshold};

/// A warning is repeated after the signal has fallen by this part below its threshold, and crosses it again: 5 %.
const WARN_AGAIN_PART: u64 = 20;
#[derive(Debug)]
pub struct Target {
    id: TargetId,
    rule: Rule,
    /// How often the rule was edited.
    edit: u32,
    reader: Reader,
    kills: KillCounts,
    latency: Arc<Latency>,
    history: History,
    shown: Arc<Shown>,
    reported: Reported,
    /// When it was last sampled as not above its threshold; `None` once a crossing was reported.
    below_at: Option<Moment>,
    /// That it is above its threshold for warnings was found.
    warned: bool,
    /// The same is to be reported.
    warning: Option<Box<Evidence>>,
    throttle: Throttle,
    /// That the kernel slows it down is to be reported.
    throttled: Option<Throttled>,
    /// The kernel has notified of its group since the last sample.
    alarmed: bool,
    /// An eviction may come soon.
    near: bool,
    /// Since when its end is awaited.
    followed: Option<Moment>,
    /// Set while nothing changes: the interval between samples until one of the verdict's inputs changes.
    settled: Option<Duration>,
    due: Due,
    /// By how much it may grow before that; `None`: nothing but time counts.
    allowance: Option<Allowance>,
}

impl Target {
    /// A target that is due at once.
    #[must_use]
    pub fn new(watch: Watch, now: Moment) -> Target {
        Target {
            id: watch.id,
            rule: watch.rule,
            edit: 0,
            reader: Reader::new(watch.groups),
            kills: KillCounts::default(),
            latency: watch.latency,
            history: History::default(),
            shown: watch.shown,
            reported: Reported::Nothing,
            below_at: None,
            warned: false,
            warning: None,
            throttle: Throttle::default(),
            throttled: None,
            alarmed: false,
            near: false,
            followed: None,
            settled: None,
            due: Due { at: now, early: now },
            allowance: None,
        }
    }

    /// Takes one sample: reads, checks for OOM kills, judges. Returns a kill, and what has changed.
    /// [`Target::reported`] prevents a change from being reported again.
    pub(super) fn sample(&mut self, now: Moment, with: &Context<'_>) -> (Option<What>, Option<(What, Reported)>) {
        let own = self.reader.own(now, with);
        let alarmed = std::mem::take(&mut self.alarmed);
        if let (Some(interval), Ok(Some(own)), false) = (self.settled, &own, alarmed)
            && self.reader.is_unchanged(*own, now)
        {
            self.unchanged(now, interval);
            return (None, None);
        }
        let growth = self.history.trend().fast();
        let schedule = Schedule { rule: &self.rule, growth, latency: self.latency.p10() };
        let is_news = !matches!(self.reported, Reported::Above(_));
        let mut people = self.reader.for_people(now);
        let read = own.and_then(|own| match own {
            Some(own) => self.reader.rest(own, now, (&schedule, is_news), with, &mut people),
            None => Ok(None),
        });
        let killed = self.killed(now, &read, alarmed);
        // What is there after a kill says nothing of what led to it.
        if let Some((at, breakdown)) = people.found.filter(|_| killed.is_none()) {
            self.reader.kept_breakdown(now);
            self.shown.keep_breakdown(at, breakdown);
        }
        (killed, self.judge(now, read))
    }

    /// Nothing has changed since the last sample, so the verdict has not changed either.
    fn unchanged(&mut self, now: Moment, interval: Duration) {
        self.reader.unchanged(now);
        self.history.unchanged(now);
        if !matches!(self.reported, Reported::Above(_)) {
            self.below_at = Some(now);
        }
        self.wait(now, interval);
        self.shown.unchanged(now, self.due.at);
    }

    /// Judges what was read, and sets when to sample again. Returns what has changed.
    pub fn judge(&mut self, now: Moment, read: Result<Option<Sample>, ReadError>) -> Option<(What, Reported)> {
        let sample = match read {
            Ok(Some(sample)) => sample,
            Ok(None) => return Some((What::Gone, Reported::Gone)),
            Err(error) => {
                self.reader.forget();
                self.settled = None;
                self.allowance = None;
                self.history.interrupted();
                self.wait(now, UNREADABLE_INTERVAL);
                let is_new = self.reported != Reported::Unreadable;
                return is_new.then_some((What::Unreadable(error), Reported::Unreadable));
            }
        };
        let verdict = self.history.observe(&self.rule, &sample, self.latency.p90());
        let known = self.reader.with_last_cache(&sample);
        self.warn(&known);
        let high = self.reader.high();
        let threshold = self.rule.threshold_of(&known);
        let throttled = self.throttle.observe(high, threshold.filter(|_| verdict == Verdict::Below), &known);
        self.throttled = throttled.filter(|_| self.throttle.is_news());
        let mut last = LastSample {
            sample,
            value: known.own.value(self.rule.signal),
            threshold,
            margin: known.margin(),
            growth: self.history.trend().fast(),
            slow_growth: self.history.trend().slow(),
            next: now,
            high,
            throttled: throttled.is_some(),
            oom_kills: self.kills.of_container(),
        };
        self.schedule(now, &known, &last, &verdict);
        self.reader.keep(known);
        last.next = self.due.at;
        self.shown.set(last, verdict, sample.own.value(self.rule.signal));
        if !matches!(verdict, Verdict::Above(_)) {
            self.below_at = Some(now);
        }
        self.change(now, &sample, verdict)
    }

    /// Finds out whether the container has crossed its threshold for warnings.
    fn warn(&mut self, known: &Sample) {
        let (Some(threshold), Some(value)) = (self.rule.warn_threshold_of(known), known.own.value(self.rule.signal))
        else {
            return;
        };
        if value <= threshold.less(Bytes(threshold.0 / WARN_AGAIN_PART)) {
            self.warned = false;
        } else if value > threshold && !self.warned {
            self.warned = true;
            self.warning = Some(Box::new(self.history.evidence(&self.rule, known, value, threshold)));
        }
    }

    /// The warning that is to be reported.
    pub fn take_warning(&mut self) -> Option<Evidence> {
        self.warning.take().map(|evidence| *evidence)
    }

    /// The warning could not be reported; the next sample finds it again.
    pub fn warn_again(&mut self) {
        self.warned = false;
        self.settled = None;
    }

    /// The kernel slows it down, which is to be reported.
    pub(super) fn take_throttled(&mut self) -> Option<Throttled> {
        self.throttled.take()
    }

    /// The same could not be reported; a later sample finds it again.
    pub(super) fn report_throttled_again(&mut self) {
        self.throttle.report_again();
    }

    /// Sets when to sample next, whether an eviction may come soon, and whether the target has settled.
    fn schedule(&mut self, now: Moment, known: &Sample, last: &LastSample, verdict: &Verdict) {
        let LastSample { threshold, value, growth, .. } = *last;
        let rise = self.history.trend().last_rise();
        let schedule = Schedule { rule: &self.rule, growth, latency: self.latency.p10() };
        let interval = match verdict {
            Verdict::Above(_) if matches!(self.reported, Reported::Above(_)) => match self.rule.force_delete {
                _ if rise.is_some() => SHORTEST_INTERVAL,
                Some(percent) if self.reported != Reported::Above(Urgency::HIGHEST) => {
                    let rule = Rule { threshold: Threshold::Percent(percent), ..self.rule };
                    Schedule { rule: &rule, ..schedule }.next(known).min(REPORTED_INTERVAL)
                }
                _ => REPORTED_INTERVAL,
            },
            _ => schedule.next(known),
        };
        self.followed = self.followed.filter(|since| now.saturating_sub(*since) < FOLLOWED_FOR);
        let follow = self.followed.map(|since| follow_interval(now.saturating_sub(since)));
        let interval = follow.map_or(interval, |follow| follow.min(interval));
        let is_quiet = *verdict == Verdict::Below
            && follow.is_none()
            && self.reported == Reported::Nothing
            && !self.reader.groups().own.takes_charges();
        let allowance = if is_quiet { schedule.allowance(known) } else { None };
        let missing = threshold.zip(value).map(|(threshold, value)| threshold.less(value));
        let warn = self.rule.warn_threshold_of(known).filter(|_| !self.warned);
        let to_warning = warn.zip(value).map(|(warn, value)| warn.less(value)).filter(|missing| *missing > Bytes(0));
        self.wait(now, interval);
        // This sample does not share other wake-ups: if it came before the crossing, it would not see it.
        let crossing = to_warning.or(missing).and_then(|missing| crossing(missing, rise, interval));
        if let Some(after) = crossing {
            self.due = Due { at: now + after, early: now + after };
        }
        self.allowance = allowance.filter(|_| crossing.is_none());
        self.near = interval < CLOSE || time_left(missing, growth).is_some_and(|left| left < SOON);
        let is_reported = match verdict {
            Verdict::Below => self.reported == Reported::Nothing,
            Verdict::Above(evidence) => self.reported == Reported::Above(Urgency::of(evidence, self.latency.p90())),
            _ => false,
        };
        self.settled = (is_reported && growth == Some(0) && follow.is_none()).then_some(interval);
    }

    /// What has changed since the last report.
    fn change(&mut self, now: Moment, sample: &Sample, verdict: Verdict) -> Option<(What, Reported)> {
        let severity = |evidence: &Evidence| Urgency::of(evidence, self.latency.p90());
        match (verdict, self.reported) {
            (Verdict::Above(evidence), Reported::Above(reported)) => {
                let worsened = reported.and(severity(&evidence));
                (worsened != reported).then_some((What::Worsened(evidence), Reported::Above(worsened)))
            }
            (Verdict::NoLimit, Reported::NoLimit) | (Verdict::BeyondLimit, Reported::BeyondLimit) => None,
            (Verdict::Above(evidence), _) => {
                let reported = Reported::Above(severity(&evidence));
                let since_last_sample = self.below_at.take().map(|at| now.saturating_sub(at));
                Some((What::Above { evidence, since_last_sample }, reported))
            }
            (Verdict::NoLimit, _) => Some((What::NoLimit, Reported::NoLimit)),
            (Verdict::BeyondLimit, _) => Some((What::BeyondLimit, Reported::BeyondLimit)),
            (Verdict::Below | Verdict::Sustaining { .. }, Reported::Nothing) => None,
            // A torn sample or a slow stat may fail to show that it is still above its threshold.
            (Verdict::Below, Reported::Above(_))
                if sample.is_torn() && self.rule.threshold_of(sample).is_some_and(|t| sample.own.usage > t) =>
            {
                None
            }
            (Verdict::Below | Verdict::Sustaining { .. }, _) => Some((What::Dipped, Reported::Nothing)),
        }
    }

    /// Checks for kills by the kernel since the last read: once a second (once in 5 s far from the limit), and whenever
    /// much of its memory is gone or the kernel notifies of the group, because a kill may be the reason.
    fn killed(&mut self, now: Moment, read: &Result<Option<Sample>, ReadError>, alarmed: bool) -> Option<What> {
        let is = read.as_ref().ok()?.as_ref()?.own.usage.0;
        let was = self.reader.last().map_or(0, |last| last.own.usage.0);
        // What looks like a dip may be a kill, too; killed processes give their memory back bit by bit.
        let fell = is < was - was / 8 || (matches!(self.reported, Reported::Above(_)) && is < was);
        if !self.reader.has_read_limits(now) && !fell && !alarmed {
            return None;
        }
        let (count, hit, together) = self.kills.read(self.reader.groups(), now)?;
        let mut last = self.shown.last().map(Box::new);
        // If the last sample was long before the kill, the pod's usage after the kill says more.
        if let Some(last) = &mut last
            && let Some(after) = self.reader.pod_level(now)
        {
            let before = last.sample.pod.map_or(Bytes(0), |pod| pod.usage);
            last.sample.pod = Some(Level { usage: after.usage.max(before), ..after });
        }
        Some(What::Killed { count, together, hit, last })
    }

    /// The kernel notifies of its group: it is due at once, but not more often than a container that is near a kill.
    pub(super) fn alarmed(&mut self, now: Moment) {
        let after_last = self.reader.last().map_or(now, |last| last.at + SHORTEST_INTERVAL);
        let at = self.due.at.min(now.max(after_last));
        (self.alarmed, self.due) = (true, Due { at, early: at.min(self.due.early) });
    }

    pub fn reported(&mut self, reported: Reported) {
        self.reported = reported;
    }

    pub fn edited(&mut self, rule: Rule, edit: u32, now: Moment) {
        self.rule = rule;
        self.edit = edit;
        self.warned = false;
        self.throttle.report_again();
        self.history.judged_anew();
        self.reported = Reported::Outdated;
        self.settled = None;
        self.allowance = None;
        self.due = Due { at: now, early: now };
    }

    /// Its end is awaited, and how long it takes is measured.
    pub fn follow(&mut self, now: Moment) {
        self.followed = Some(now);
        self.settled = None;
        self.allowance = None;
        self.due = Due { at: now, early: now };
    }

    /// Its report was not acted on, or its limit has changed: everything is read and reported anew.
    pub fn rearm(&mut self) {
        self.reader.forget();
        self.reported = Reported::Outdated;
        self.settled = None;
        self.allowance = None;
    }

    /// Adds the target's id and the edit of its guard.
    #[must_use]
    pub fn report(&self, what: What) -> Report {
        Report { id: self.id, edit: self.edit, what }
    }

    /// When it is sampled next.
    #[must_use]
    pub fn due(&self) -> Moment {
        self.due.at
    }

    pub(super) fn groups(&self) -> &Groups {
        self.reader.groups()
    }

    pub(super) fn id(&self) -> TargetId {
        self.id
    }

    pub(super) fn next(&self) -> Due {
        self.due
    }

    pub(super) fn is_near(&self) -> bool {
        self.near
    }

    pub(super) fn is_gone(&self) -> bool {
        self.reported == Reported::Gone
    }

    /// Its end could not be reported; tries again.
    pub(super) fn report_end_again(&mut self, now: Moment) {
        self.wait(now, REPORTED_INTERVAL);
    }

    /// Kills could not be reported; the next sample finds them again.
    pub(super) fn report_kills_again(&mut self) {
        self.kills.take_back();
    }

    /// By how much it may grow before its next sample, whatever time that takes.
    pub(super) fn allowance(&self) -> Option<Allowance> {
        self.allowance
    }

    /// Usage at the last sample, and when the limit was last read.
    pub(super) fn last_read(&self) -> Option<(Bytes, Moment)> {
        self.reader.last().map(|last| (last.own.usage, self.reader.limit_read_at()))
    }

    fn wait(&mut self, now: Moment, interval: Duration) {
        self.due = Due::within(now, interval);
    }
}
