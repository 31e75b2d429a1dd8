//! The clock that counts allocated memory instead of time: which targets need not be sampled yet.

use std::time::Duration;

use tracing::warn;

use super::due::Due;
use crate::cgroup::Allocations;
use crate::decide::allocation::{Allocated, Allowance, Uncounted};
use crate::decide::schedule::LONGEST_INTERVAL;
use crate::ground::clock::Moment;
use crate::ground::units::Bytes;

/// What a sample costs (measured: 1.9–2.3 µs for its read after a sleep, as much again for the rest). A read of the count has to
/// spare more than it costs itself.
const SAMPLE: Duration = Duration::from_micros(4);
/// A wait shorter than this part of what a sample would gain is not worth a wake-up.
const WORTH_PART: u32 = 4;
/// Targets that are sampled only because a second has passed are sampled together, at multiples of this time. A read is cheaper
/// after others: measured with 250 groups, 6.0 µs in 25 wake-ups a second, 2.5 µs in 4, and 2.2 µs in 2.
const TICK: Duration = Duration::from_millis(240);
/// They share a wake-up that comes so long before: four ticks and this are a second.
const SHARED: Duration = Duration::from_millis(40);
/// How long the count is not read after it has spared too little: twice as long each time, up to the maximum.
const SHORTEST_PAUSE: Duration = Duration::from_millis(16);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long it is not trusted after a container grew by more than it allows.
const MISTRUST: Duration = Duration::from_secs(3600);

/// Decides which targets need not be sampled, because the node has allocated too little since their last samples.
///
/// A count is always read before the samples that it precedes, so what is allocated between the two counts twice and never too little.
#[derive(Debug)]
pub struct AllocationClock {
    allocations: Allocations,
    uncounted: Uncounted,
    last: Option<Allocated>,
    /// What a read takes, as measured by the last ones.
    cost: Duration,
    /// What the samples would have cost that the last one has spared.
    saved: Duration,
    pause: Duration,
    not_before: Moment,
}

/// What is known of a target since its last sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    allowance: Allowance,
    /// How soon the next sample would be due by time.
    interval: Duration,
    /// Counted before that sample; `None`: nothing yet.
    since: Option<Allocated>,
    /// Then it has to be sampled, whatever the count.
    until: Moment,
    /// By how much it had grown since the sample before, and what was counted before that one.
    grown: Option<(Bytes, Allocated)>,
}

impl Budget {
    /// How long its next sample can wait; `None`: it is due now, or a sample would gain much more time.
    fn lasts(&self, now: Allocated, uncounted: &Uncounted) -> Option<Duration> {
        if now.at + SHARED >= self.until {
            return None;
        }
        let lasts = self.allowance.lasts(self.since?, now, uncounted)?;
        (lasts >= self.interval / WORTH_PART).then(|| lasts.min(self.until - now.at))
    }

    /// Whether it has grown by more than the node has allocated.
    fn is_refuted(&self, now: Allocated, uncounted: &Uncounted) -> bool {
        self.grown.is_some_and(|(grown, since)| grown > uncounted.most_growth(since, now))
    }
}

/// The last multiple of [`TICK`] that is not after this moment.
fn last_tick(at: Moment) -> Moment {
    at - Duration::from_nanos(u64::try_from(at.as_nanos() % TICK.as_nanos()).unwrap_or_default())
}

impl AllocationClock {
    #[must_use]
    pub fn new(allocations: Allocations) -> AllocationClock {
        AllocationClock {
            uncounted: Uncounted::on(allocations.cpus, allocations.page),
            allocations,
            last: None,
            cost: Duration::ZERO,
            saved: Duration::ZERO,
            pause: SHORTEST_PAUSE,
            not_before: Moment::ZERO,
        }
    }

    /// Whether a read costs less than the samples of so many targets, which it may spare.
    pub(super) fn is_worth(&self, targets: u32, now: Moment) -> bool {
        now >= self.not_before && SAMPLE * targets > self.cost
    }

    /// Reads the count; `None` if that is not possible.
    pub(super) fn read(&mut self, clock: &dyn Fn() -> Moment) -> Option<Allocated> {
        let at = clock();
        let bytes = self.allocations.read()?;
        let took = clock().saturating_sub(at);
        // One read may have been interrupted.
        self.cost = if self.cost == Duration::ZERO { took } else { (self.cost * 7 + took.min(self.cost * 4)) / 8 };
        self.last = Some(Allocated { at, bytes });
        self.last
    }

    /// When a target that is due has to be sampled instead; `None`: now.
    pub(super) fn spare(&mut self, budget: &Budget, now: Allocated) -> Option<Due> {
        if budget.is_refuted(now, &self.uncounted) {
            warn!("a container was charged more memory than /proc/vmstat counts; samples go by time for an hour");
            self.not_before = now.at + MISTRUST;
        }
        if now.at < self.not_before {
            return None;
        }
        let lasts = budget.lasts(now, &self.uncounted)?;
        self.saved += SAMPLE.mul_f64(lasts.div_duration_f64(budget.interval).min(1.0));
        Some(Due::within(now.at, lasts))
    }

    /// A sweep with a read has ended. Where the node allocates fast, little is spared, and reads cost more than they save.
    pub(super) fn swept(&mut self, now: Moment) {
        if std::mem::take(&mut self.saved) > self.cost {
            self.pause = SHORTEST_PAUSE;
        } else {
            self.not_before = self.not_before.max(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The budget of a target that was just sampled, and would be sampled again after `interval`. When its limit is too old, it is
    /// sampled in any case. `before`: its budget until now, and by how much it has grown meanwhile.
    pub(super) fn budget(
        &self,
        allowance: Allowance,
        interval: Duration,
        limit_read_at: Moment,
        before: Option<(&Budget, Bytes)>,
    ) -> Budget {
        let grown = before.and_then(|(before, grown)| Some((grown, before.since?)));
        Budget { allowance, interval, since: self.last, until: last_tick(limit_read_at + LONGEST_INTERVAL), grown }
    }
}
