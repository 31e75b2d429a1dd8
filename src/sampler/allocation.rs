//! The clock that counts allocated memory instead of time: which targets need not be sampled yet.

use std::time::Duration;

use tracing::warn;

use super::due::Due;
use crate::cgroup::Allocations;
use crate::decide::allocation::{Allocated, Allowance, Chargeable, End, Uncounted};
use crate::decide::schedule::LONGEST_INTERVAL;
use crate::ground::clock::Moment;
use crate::ground::units::Bytes;

/// What a sample costs (measured: 1.9–2.3 µs for its read after a sleep, as much again for the rest). A read of the count has to
/// spare more than it costs itself.
const SAMPLE: Duration = Duration::from_micros(4);
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
    /// As of the last read; `None` if none succeeded.
    last: Option<Chargeable>,
    /// What a read takes, as measured by the last ones.
    cost: Duration,
    /// What the samples would have cost that the last one has spared.
    saved: Duration,
    pause: Duration,
    not_before: Moment,
}

/// What the kernel can have charged until a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    at: Moment,
    until: Chargeable,
}

/// What is known of a target since its last sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    end: End,
    /// How soon the next sample would be due by time.
    interval: Duration,
    /// As counted before that sample.
    since: Chargeable,
    /// Then it has to be sampled, whatever the count.
    until: Moment,
    /// It had grown by so much since the sample before that the count has to be here.
    grown: Option<Chargeable>,
}

impl Budget {
    /// How long its next sample can wait; `None`: it is due now, or a sample would gain much more time.
    fn lasts(&self, now: Counted) -> Option<Duration> {
        if now.at + SHARED >= self.until {
            return None;
        }
        self.end.lasts(now.until).map(|lasts| lasts.min(self.until - now.at))
    }

    /// Whether it has grown by more than the node has allocated.
    fn is_refuted(&self, now: Counted) -> bool {
        self.grown.is_some_and(|grown| grown > now.until)
    }
}

/// The last multiple of [`TICK`] that is not after this moment.
fn last_tick(at: Moment) -> Moment {
    at - Duration::from_nanos(u64::try_from(at.as_nanos() % TICK.as_nanos()).unwrap_or_default())
}

impl AllocationClock {
    #[must_use]
    pub fn new(mut allocations: Allocations) -> AllocationClock {
        let uncounted = Uncounted::on(allocations.cpus, allocations.page);
        // It counts as read when moments begin: then more can have been charged since, not less.
        let first = allocations.read().map(|bytes| uncounted.until(Allocated { at: Moment::ZERO, bytes }));
        AllocationClock {
            uncounted,
            allocations,
            last: first,
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
    pub(super) fn read(&mut self, clock: &dyn Fn() -> Moment) -> Option<Counted> {
        let at = clock();
        let bytes = self.allocations.read()?;
        let took = clock().saturating_sub(at);
        // One read may have been interrupted.
        self.cost = if self.cost == Duration::ZERO { took } else { (self.cost * 7 + took.min(self.cost * 4)) / 8 };
        let until = self.uncounted.until(Allocated { at, bytes });
        self.last = Some(until);
        Some(Counted { at, until })
    }

    /// When a target that is due has to be sampled instead; `None`: now.
    pub(super) fn spare(&mut self, budget: &Budget, now: Counted) -> Option<Due> {
        if budget.is_refuted(now) {
            warn!("a container was charged more memory than /proc/vmstat counts; samples go by time for an hour");
            self.not_before = now.at + MISTRUST;
        }
        if now.at < self.not_before {
            return None;
        }
        let lasts = budget.lasts(now)?;
        self.saved += if lasts >= budget.interval { SAMPLE } else { SAMPLE / 2 };
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
    ) -> Option<Budget> {
        let since = self.last?;
        Some(Budget {
            end: allowance.from(since, interval, &self.uncounted),
            interval,
            since,
            until: last_tick(limit_read_at + LONGEST_INTERVAL),
            grown: before.map(|(before, grown)| self.uncounted.after(before.since, grown)),
        })
    }
}
