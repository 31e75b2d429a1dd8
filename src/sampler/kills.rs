//! The kernel's counts of OOM kills in a container and in its pod, and what was added since the last read.

use super::reader::{LIMIT_AGE, is_old};
use crate::cgroup::resolve::Groups;
use crate::cgroup::{Hit, Kills};
use crate::ground::clock::Moment;

#[derive(Debug, Default)]
pub(super) struct KillCounts {
    own: Option<Kills>,
    pod: Option<Kills>,
    /// Both as they were before the last kill was found.
    before: Option<Box<(Kills, Option<Kills>)>>,
    read_at: Moment,
}

impl KillCounts {
    /// How many processes the kernel has killed since the last read, for which limit, and whether it killed all of the
    /// container's at once.
    pub(super) fn read(&mut self, groups: &Groups, now: Moment) -> Option<(u64, Hit, bool)> {
        let own = groups.own.kills(self.own)?;
        let pod = groups.pod.as_ref().and_then(|pod| pod.kills(self.pod));
        let count = self.own.map_or(0, |before| own.killed.saturating_sub(before.killed));
        if count == 0 && self.own.is_some() && !is_old(self.read_at, LIMIT_AGE, now) {
            // The kernel counts a hit limit some ms before the kill, so both are compared with the values from before.
            return None;
        }
        self.read_at = now;
        let (own_before, pod_before) = (self.own.replace(own), std::mem::replace(&mut self.pod, pod));
        let own_before = own_before.filter(|_| count > 0)?;
        self.before = Some(Box::new((own_before, pod_before)));
        let together = own_before.together.zip(own.together).is_some_and(|(before, after)| after > before);
        Some((count, Hit::of((own_before, own), pod_before.zip(pod)), together))
    }

    /// Undoes the read that found the last kill.
    pub(super) fn take_back(&mut self) {
        if let Some(before) = self.before.take() {
            let (own, pod) = *before;
            (self.own, self.pod) = (Some(own), pod);
        }
    }

    /// How many processes were killed in the container since its group was created.
    pub(super) fn of_container(&self) -> Option<u64> {
        self.own.map(|kills| kills.killed)
    }
}
