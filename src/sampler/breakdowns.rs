//! What a container's memory consisted of at some moments, for people. Pure, and of a fixed size.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::ground::clock::Moment;
use crate::ground::memory::Breakdown;
use crate::ground::units::Bytes;

/// A breakdown is passed on to the next place when the one there is older than it by this time: the last one, and one some
/// minute, some five minutes, and some hour before it.
const APART: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(3600)];
/// The unit of a moment. 32 bits of it last for thirteen years.
const TENTH: Duration = Duration::from_millis(100);

/// The last breakdown, and some earlier ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breakdowns {
    first: Option<Kept>,
    /// The newest first.
    recent: [Option<Kept>; APART.len() + 1],
}

/// One of them, in KiB, so that it takes 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    /// In tenths of a second, and one more.
    at: NonZeroU32,
    parts: [u32; 7],
}

impl Breakdowns {
    /// Keeps what was read at this moment, unless that is known already.
    pub fn keep(&mut self, at: Moment, read: Breakdown) {
        let read = Kept::new(at, read);
        if self.recent[0].is_some_and(|last| last.at >= read.at) {
            return;
        }
        for (i, apart) in APART.into_iter().enumerate().rev() {
            let is_old = |kept: Kept, next: Kept| next.moment() >= kept.moment() + apart;
            if self.recent[i + 1].is_none_or(|kept| self.recent[i].is_some_and(|next| is_old(kept, next))) {
                self.recent[i + 1] = self.recent[i];
            }
        }
        self.recent[0] = Some(read);
        self.first = self.first.or(self.recent[0]);
    }

    /// The last one at this moment. (A sample begins a little before its breakdown is read, and that is kept to a tenth of a second.)
    #[must_use]
    pub fn at(&self, at: Moment) -> Option<(Moment, Breakdown)> {
        self.recent.iter().flatten().find(|kept| kept.moment().saturating_sub(TENTH) <= at).map(|kept| kept.open())
    }

    /// The last one that is at least as old as `began`, else the oldest; but older than `until`.
    #[must_use]
    pub fn before(&self, began: Moment, until: Moment) -> Option<(Moment, Breakdown)> {
        let mut earlier = self.recent.iter().chain([&self.first]).flatten().filter(|kept| kept.moment() < until);
        earlier.clone().find(|kept| kept.moment() <= began).or(earlier.next_back()).map(|kept| kept.open())
    }
}

impl Kept {
    fn new(at: Moment, of: Breakdown) -> Kept {
        let tenths = u32::try_from(at.as_millis() / TENTH.as_millis()).unwrap_or(u32::MAX);
        let parts = [of.anonymous, of.active_file, of.inactive_file, of.shmem, of.slab, of.kernel, of.sockets];
        let kib = |bytes: Bytes| u32::try_from(bytes.0 >> 10).unwrap_or(u32::MAX);
        Kept { at: NonZeroU32::MIN.saturating_add(tenths), parts: parts.map(kib) }
    }

    fn moment(&self) -> Moment {
        TENTH * (self.at.get() - 1)
    }

    fn open(&self) -> (Moment, Breakdown) {
        let [anonymous, active_file, inactive_file, shmem, slab, kernel, sockets] =
            self.parts.map(|kib| Bytes(u64::from(kib) << 10));
        (self.moment(), Breakdown { anonymous, active_file, inactive_file, shmem, slab, kernel, sockets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(n: u64) -> Moment {
        Duration::from_secs(n)
    }

    fn of(kib: u64) -> Breakdown {
        Breakdown { anonymous: Bytes(kib << 10), sockets: Bytes(4096), ..Breakdown::default() }
    }

    /// As of a container that was read each ten seconds.
    fn kept(seconds: u64) -> Breakdowns {
        let mut kept = Breakdowns::default();
        (0..=seconds / 10).for_each(|n| kept.keep(second(10 * n), of(10 * n)));
        kept
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Breakdowns>(), 160);
    }

    #[test]
    fn what_is_kept_is_told_again() {
        let mut kept = Breakdowns::default();
        assert_eq!((kept.at(second(9)), kept.before(second(0), second(9))), (None, None));
        kept.keep(Duration::from_millis(1_234), of(7));
        assert_eq!(kept.at(second(9)), Some((Duration::from_millis(1_200), of(7))));
        assert_eq!(kept.at(second(1)), None, "it was read later");
        kept.keep(Duration::from_millis(1_234), of(8));
        assert_eq!(kept.at(second(9)).map(|(_, of)| of), Some(of(7)), "the same read again");
        kept.keep(second(1 << 40), Breakdown { shmem: Bytes(u64::MAX), ..Breakdown::default() });
        assert!(
            kept.at(Duration::MAX).is_some_and(|(_, of)| of.shmem > Bytes(4 << 40 >> 1)),
            "the most that it can hold"
        );
    }

    #[test]
    fn the_breakdown_before_a_rise_is_the_last_one_that_is_old_enough() {
        let kept = kept(10_000);
        assert_eq!(kept.at(second(10_005)), Some((second(10_000), of(10_000))));
        let ago = |n: u64| 10_000 - kept.before(second(10_000 - n), second(10_000)).unwrap().0.as_secs();
        assert!((10..=80).contains(&ago(5)), "{} s", ago(5));
        assert!((100..=500).contains(&ago(100)), "{} s", ago(100));
        assert!((1_000..=4_500).contains(&ago(1_000)), "{} s", ago(1_000));
        assert_eq!(ago(9_000), 10_000, "the first");
    }

    /// It would say that nothing has grown.
    #[test]
    fn what_is_compared_is_never_the_same() {
        let only = kept(0);
        assert_eq!(only.before(second(0), only.at(second(5)).unwrap().0), None);
        let two = kept(10);
        assert_eq!(two.before(second(15), second(10)).unwrap().0, second(0));
    }
}
