//! The kernel's counts of OOM kills in a container and in its pod, and what has been added since the last time.

use super::reader::{LIMIT_AGE, is_old};
use crate::cgroup::resolve::Groups;
use crate::cgroup::{Hit, Kills};
use crate::ground::clock::Moment;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct KillCounts {
    own: Option<Kills>,
    pod: Option<Kills>,
    /// Both as they were before they were last read.
    before: (Option<Kills>, Option<Kills>),
    read_at: Moment,
}

impl KillCounts {
    /// How many the kernel has killed since this was last read, for which limit, and whether all of the container's at once.
    pub(super) fn read(&mut self, groups: &Groups, now: Moment) -> Option<(u64, Hit, bool)> {
        let own = groups.own.kills(self.own)?;
        let pod = groups.pod.as_ref().and_then(|pod| pod.kills(self.pod));
        let count = self.own.map_or(0, |before| own.killed.saturating_sub(before.killed));
        if count == 0 && self.own.is_some() && !is_old(self.read_at, LIMIT_AGE, now) {
            // The kernel counts that a limit was hit some ms before it counts the kill: both are compared with what was before.
            return None;
        }
        self.read_at = now;
        self.before = (self.own.replace(own), std::mem::replace(&mut self.pod, pod));
        let (own_before, pod_before) = self.before;
        let own_before = own_before.filter(|_| count > 0)?;
        let together = own_before.together.zip(own.together).is_some_and(|(before, after)| after > before);
        Some((count, Hit::of((own_before, own), pod_before.zip(pod)), together))
    }

    /// As if they had not been read the last time.
    pub(super) fn take_back(&mut self) {
        (self.own, self.pod) = self.before;
    }

    /// How many were killed in the container since its group was made.
    pub(super) fn of_container(&self) -> Option<u64> {
        self.own.map(|kills| kills.killed)
    }
}
