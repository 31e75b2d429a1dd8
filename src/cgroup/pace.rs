//! How long a group's `memory.stat` takes, and what was last read of it.

use std::time::Duration;

use super::error::ReadError;
use crate::ground::clock::Moment;
use crate::ground::memory::Stat;
use crate::ground::units::Bytes;

/// A file that took so long once is slow: a ramp of 1 GiB/s fills 100 MiB in that time.
pub(super) const SLOW: Duration = Duration::from_millis(100);

/// So is one that took so long twice in a row; once may be this thread's wait for a CPU.
pub(super) const SLOW_TWICE: Duration = Duration::from_millis(20);

/// So many reads that were quick in a row, and it is read in place again.
pub(super) const QUICK_AGAIN: u32 = 5;

/// A slow file is read no more often than its own time × this: reading it costs others as much as it costs us.
pub(super) const PACE: u32 = 10;

/// One reading of `memory.stat`, with usage before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub stat: Stat,
    /// The smaller of the two usages.
    pub least_usage: Bytes,
    pub most_usage: Bytes,
    /// When the first usage was about to be read.
    pub from: Moment,
    /// When the second usage had been read.
    pub until: Moment,
    pub took: Duration,
}

/// What is known of a group's file.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pub(super) is_slow: bool,
    /// Reads in a row that speak against that.
    pub(super) in_a_row: u32,
    /// What the last read took.
    pub(super) took: Duration,
    /// What the last read found.
    pub(super) last: Option<Result<Option<Reading>, ReadError>>,
    /// Another thread has it, or is to read it.
    pub(super) asked: bool,
    /// A slow file is not read sooner; a first read that waits for its turn is not done in place before.
    pub(super) not_before: Moment,
}

impl Pace {
    pub(super) fn slow_for(&self) -> Option<Duration> {
        self.is_slow.then_some(self.took)
    }

    /// Takes in that a read has ended.
    pub(super) fn ended(&mut self, from: Moment, until: Moment, found: Found) {
        let took = until.saturating_sub(from);
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
        self.last = Some(found.map(|found| {
            found.map(|(before, stat, after)| Reading {
                stat,
                least_usage: before.min(after),
                most_usage: before.max(after),
                from,
                until,
                took,
            })
        }));
    }

    /// What there is to answer.
    pub(super) fn answer(&self) -> Result<StatRead, ReadError> {
        match &self.last {
            Some(Ok(Some(reading))) => Ok(StatRead::Read(*reading)),
            Some(Ok(None)) => Ok(StatRead::Gone),
            Some(Err(error)) => Err(error.again()),
            None => Ok(StatRead::Pending { took: self.took }),
        }
    }
}

/// Usage, stat, usage; `None` if the group is gone.
pub(super) type Found = Result<Option<(Bytes, Stat, Bytes)>, ReadError>;

/// What was read of a group's `memory.stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatRead {
    Gone,
    /// The last complete reading: of now where the file is quick; its moments tell its age.
    Read(Reading),
    /// The file is slow, and was not read completely yet.
    Pending {
        /// How long it takes, or at least.
        took: Duration,
    },
}
