//! How long a group's `memory.stat` takes to read, and what was last read.

use std::time::Duration;

use super::error::ReadError;
use crate::ground::boxed::put;
use crate::ground::clock::Moment;
use crate::ground::memory::{Breakdown, Stat};
use crate::ground::units::Bytes;

/// A file is slow after one read that takes this long: a ramp of 1 GiB/s fills 100 MiB in that time.
pub(super) const SLOW: Duration = Duration::from_millis(100);

/// A file is also slow after two reads in a row that take this long. A single one may only show that this thread waited
/// for a CPU.
pub(super) const SLOW_TWICE: Duration = Duration::from_millis(20);

/// A file that took this long twice in a row is read during at most a tenth of the time ([`PACE`]): on machines with many CPUs,
/// or on busy ones. Below it, a read each 5 ms takes less than that.
pub(super) const COSTLY: Duration = Duration::from_micros(500);

/// After this many quick reads in a row, a slow file is read in place again.
pub(super) const QUICK_AGAIN: u32 = 5;

/// The pause after a read of a slow file, as a multiple of the time that the read took: reading it costs others as much
/// as it costs us.
pub(super) const PACE: u32 = 10;

/// One reading of `memory.stat`, with usage before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub stat: Stat,
    /// The smaller of the two usages.
    pub least_usage: Bytes,
    pub most_usage: Bytes,
    /// Just before the first usage was read.
    pub from: Moment,
    /// Just after the second usage was read.
    pub until: Moment,
    pub took: Duration,
}

/// What a read of `memory.stat` tells people besides. It comes from the text of a read that is made anyway, so it is to be had
/// only where there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForPeople {
    pub wanted: bool,
    /// The breakdown of the memory, and just before when it was read.
    pub found: Option<(Moment, Breakdown)>,
}

/// What we know of a group's file.
#[derive(Debug, Default)]
pub(super) struct StatPace {
    pub(super) is_slow: bool,
    /// How many reads in a row contradict `is_slow`.
    pub(super) in_a_row: u32,
    /// How long the last read took.
    pub(super) took: Duration,
    /// The lesser of the times that the last two reads took: a single one may only show that this thread waited for a CPU.
    both_took: Duration,
    /// The result of the last read, where it is needed again.
    pub(super) last: Option<Box<Result<Option<Reading>, ReadError>>>,
    /// What the last read told people, where it is needed again.
    pub(super) breakdown: Option<Box<Breakdown>>,
    /// A read has ended.
    pub(super) was_read: bool,
    /// Another thread reads it, or is about to.
    pub(super) asked: bool,
    /// A slow file is not read before this moment. A queued first read is not done in place before it.
    pub(super) not_before: Moment,
}

impl StatPace {
    pub(super) fn slow_for(&self) -> Option<Duration> {
        self.is_slow.then_some(self.took)
    }

    /// Whether the last result has to do, because a read now would take more than its part of the time.
    pub(super) fn is_paced(&self, now: Moment) -> bool {
        let read =
            matches!(self.last.as_deref(), Some(Ok(Some(reading))) if now < reading.until + self.both_took * PACE);
        read && self.both_took >= COSTLY
    }

    /// Records a finished read, and keeps its result.
    pub(super) fn ended(&mut self, from: Moment, until: Moment, found: StatResult) {
        let result = self.record(from, until, found);
        put(&mut self.last, Some(result));
    }

    /// Records a read that this thread made, and answers with its result. Keeps it only if the next read may be answered with it,
    /// too: few files are slow or costly, and the others need not keep the room.
    pub(super) fn ended_in_place(
        &mut self,
        from: Moment,
        until: Moment,
        found: StatResult,
        people: &mut ForPeople,
    ) -> Result<StatRead, ReadError> {
        let result = self.record(from, until, found);
        if self.is_needed_again() {
            put(&mut self.last, Some(result));
            return self.answer(people);
        }
        self.last = None;
        result.map(|reading| reading.map_or(StatRead::Gone, StatRead::Read))
    }

    /// Whether the next read may be answered with the result of this one.
    pub(super) fn is_needed_again(&self) -> bool {
        self.is_slow || self.asked || self.both_took >= COSTLY
    }

    /// Learns from a read how long the file takes.
    fn record(&mut self, from: Moment, until: Moment, found: StatResult) -> Result<Option<Reading>, ReadError> {
        let breakdown = found.as_ref().ok().and_then(|found| found.as_ref()?.breakdown);
        let took = until.saturating_sub(from);
        self.was_read = true;
        self.both_took = took.min(self.took);
        self.took = took;
        self.not_before = until + took * PACE;
        let against = if self.is_slow { took < SLOW_TWICE } else { took >= SLOW_TWICE };
        self.in_a_row = if against { self.in_a_row + 1 } else { 0 };
        let turns = match self.is_slow {
            true => self.in_a_row >= QUICK_AGAIN,
            false => took >= SLOW || self.in_a_row >= 2,
        };
        if turns {
            self.is_slow = !self.is_slow;
            self.in_a_row = 0;
        }
        let breakdown = breakdown.filter(|_| self.is_needed_again());
        put(&mut self.breakdown, breakdown);
        found.map(|found| {
            found.map(|Found { before, stat, after, .. }| Reading {
                stat,
                least_usage: before.min(after),
                most_usage: before.max(after),
                from,
                until,
                took,
            })
        })
    }

    /// Forgets what another thread read, unless it is needed again.
    pub(super) fn forget(&mut self) {
        if !self.is_needed_again() {
            (self.last, self.breakdown) = (None, None);
        }
    }

    /// The breakdown that belongs to the last result.
    fn for_people(&self) -> Option<(Moment, Breakdown)> {
        let Some(Ok(Some(reading))) = self.last.as_deref() else { return None };
        Some((reading.from, **self.breakdown.as_ref()?))
    }

    /// Answers with the last result.
    pub(super) fn answer(&self, people: &mut ForPeople) -> Result<StatRead, ReadError> {
        if people.wanted {
            people.found = self.for_people().or(people.found);
        }
        match self.last.as_deref() {
            Some(Ok(Some(reading))) => Ok(StatRead::Read(*reading)),
            Some(Ok(None)) => Ok(StatRead::Gone),
            Some(Err(error)) => Err(error.again()),
            None => Ok(StatRead::Pending { took: self.took }),
        }
    }
}

/// What was found; `None` if the group is gone.
pub(super) type StatResult = Result<Option<Found>, ReadError>;

/// Stat, and usage before and after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) before: Bytes,
    pub(super) stat: Stat,
    pub(super) after: Bytes,
    /// If it was wanted.
    pub(super) breakdown: Option<Breakdown>,
}

/// The answer to a read of a group's `memory.stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatRead {
    Gone,
    /// The last complete reading. For a quick file it was made just now; its moments show its age.
    Read(Reading),
    /// The file is slow and has not been read completely yet.
    Pending {
        /// How long the read takes, or a lower bound of that.
        took: Duration,
    },
}
