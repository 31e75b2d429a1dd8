//! Which target an alarm of the kernel belongs to, and how long one that rings all the time is not listened to.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::cgroup::{Alarm, Alarms, Group};
use crate::ground::clock::Moment;

/// An alarm that was silent for this long has a new cause when it rings.
const CALM: Duration = Duration::from_secs(1);
/// So often an alarm may ring without being calm, and without a kill. The kernel counts a limit that is hit some ms before a kill, so the first one is
/// not always the one that matters. A container that is full of page cache, or at its `memory.high`, rings every 10 ms for as long
/// as it reads files or grows (measured); its samples go by time as without an alarm.
const MOST_IN_A_ROW: u32 = 16;
/// After that, it is not listened to for this long, then twice as long each time up to the maximum.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The alarm of one target.
#[derive(Debug)]
struct Bell {
    /// `None`: it is not listened to.
    alarm: Option<Alarm>,
    again_at: Moment,
    pause: Duration,
    /// When it last rang; before that, since when it is listened to.
    rang_at: Moment,
    in_a_row: u32,
}

impl Bell {
    /// Records that it rings. Returns whether it is still worth listening to.
    fn rings(&mut self, now: Moment) -> bool {
        if now.saturating_sub(self.rang_at) >= CALM {
            (self.in_a_row, self.pause) = (0, SHORTEST_PAUSE);
        }
        self.rang_at = now;
        self.in_a_row += 1;
        self.in_a_row < MOST_IN_A_ROW
    }

    fn pause(&mut self, now: Moment) {
        (self.alarm, self.again_at) = (None, now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// The alarms of all targets, in their order.
#[derive(Debug, Default)]
pub(super) struct Bells {
    /// `None`: there are none, so nothing else here is ever looked at.
    alarms: Option<Alarms>,
    bells: Vec<Bell>,
}

impl Bells {
    pub(super) fn with(self, alarms: Option<Alarms>) -> Bells {
        Bells { alarms, ..self }
    }

    /// A descriptor that is readable while one rings.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.alarms.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn push(&mut self, now: Moment) {
        let bell = Bell { alarm: None, again_at: now, pause: SHORTEST_PAUSE, rang_at: now, in_a_row: 0 };
        self.bells.push(bell);
    }

    pub(super) fn swap_remove(&mut self, index: usize) {
        let bell = self.bells.swap_remove(index);
        self.unwatch(bell.alarm);
    }

    /// Listens to a target that is not listened to, if it is time.
    pub(super) fn listen(&mut self, index: usize, group: &Group, now: Moment) {
        let (Some(alarms), bell) = (&mut self.alarms, &mut self.bells[index]) else { return };
        if bell.alarm.is_some() || now < bell.again_at {
            return;
        }
        match alarms.watch(group) {
            Some(alarm) => (bell.alarm, bell.rang_at, bell.in_a_row) = (Some(alarm), now, 0),
            None => bell.again_at = now + LONGEST_PAUSE,
        }
    }

    /// The alarm of a target had a reason: there was a kill.
    pub(super) fn was_right(&mut self, index: usize) {
        let bell = &mut self.bells[index];
        (bell.in_a_row, bell.pause) = (0, SHORTEST_PAUSE);
    }

    /// Calls `each` with the targets whose alarms have rung.
    pub(super) fn take(&mut self, now: Moment, mut each: impl FnMut(usize)) {
        let Some(rung) = self.alarms.as_ref().map(Alarms::rung) else { return };
        for alarm in rung {
            let mut is_over = false;
            // More than one, where the pod's group stands for several containers.
            for (index, bell) in self.bells.iter_mut().enumerate().filter(|(_, bell)| bell.alarm == Some(alarm)) {
                each(index);
                if !bell.rings(now) {
                    bell.pause(now);
                    is_over = true;
                }
            }
            if is_over {
                self.unwatch(Some(alarm));
            }
        }
    }

    /// Ends a watch, unless another target shares it.
    fn unwatch(&mut self, alarm: Option<Alarm>) {
        let is_shared = self.bells.iter().any(|bell| bell.alarm == alarm);
        if let (Some(alarms), Some(alarm), false) = (&mut self.alarms, alarm, is_shared) {
            alarms.unwatch(alarm);
        }
    }
}
