//! The kernel's own alarm, on cgroup v2: inotify tells that a group's `memory.events` has changed.
//!
//! The kernel notifies of each change of `high`, `max`, `oom` and `oom_kill`, in the group itself or below it, at most once in
//! 10 ms for each file. Reading the file is the only right that this needs (seen on a kernel 6.1, as another user than root).

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tracing::warn;

use super::group::Group;
use super::v2;
use super::version::Version;

/// The most groups that are watched: an eighth of the smallest quota that a user has by default (8192, on each kernel before
/// 5.11), because other pods on the node may run as the same user. Each watch also keeps about 1 KiB of the kernel's memory.
const MOST_WATCHES: usize = 1024;

/// The alarm of one group.
pub type Alarm = WatchDescriptor;

#[derive(Debug)]
pub struct Alarms {
    inotify: Inotify,
    watched: BTreeSet<Alarm>,
    most: usize,
    /// The log says that there are not enough of them.
    told: bool,
}

impl Alarms {
    /// `None` on v1, which has no such file, and where inotify is not to be had, which the log says.
    #[must_use]
    pub fn open(version: Version) -> Option<Alarms> {
        if version == Version::V1 {
            return None;
        }
        match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
            Ok(inotify) => Some(Alarms { inotify, watched: BTreeSet::new(), most: MOST_WATCHES, told: false }),
            Err(error) => {
                tell(&quota(error, "fs.inotify.max_user_instances"));
                None
            }
        }
    }

    /// Listens to a group; `None` if that is not possible. Groups without an alarm are sampled all the same, so this is no
    /// error; the first time, the log says why.
    pub fn watch(&mut self, group: &Group) -> Option<Alarm> {
        let path = group.dir().join(v2::FILES.kills);
        let why = if self.watched.len() < self.most {
            match self.inotify.add_watch(&path, AddWatchFlags::IN_MODIFY) {
                Ok(alarm) => {
                    self.watched.insert(alarm);
                    return Some(alarm);
                }
                Err(Errno::ENOENT | Errno::ENODEV) => return None, // it is gone
                Err(error) => quota(error, "fs.inotify.max_user_watches"),
            }
        } else {
            format!("{} have one, which is the most", self.most)
        };
        if !std::mem::replace(&mut self.told, true) {
            tell(&why);
        }
        None
    }

    /// Ends [`Alarms::watch`]. The kernel keeps the watch of a removed group otherwise.
    pub fn unwatch(&mut self, alarm: Alarm) {
        if self.watched.remove(&alarm) {
            let _ = self.inotify.rm_watch(alarm); // EINVAL: the kernel has done so already
        }
    }

    /// Which alarms have rung since the last call. What does not fit into one read is left for the next call.
    pub fn rung(&self) -> impl Iterator<Item = Alarm> + use<> {
        let events = self.inotify.read_events().unwrap_or_default(); // EAGAIN: none
        events.into_iter().filter(|event| event.mask.contains(AddWatchFlags::IN_MODIFY)).map(|event| event.wd)
    }
}

/// Readable while an alarm rings.
impl AsFd for Alarms {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The error, with the setting that it is about.
fn quota(error: Errno, setting: &str) -> String {
    match error {
        Errno::ENOSPC | Errno::EMFILE => format!("the quota of this user is spent ({error}; {setting})"),
        _ => error.to_string(),
    }
}

fn tell(why: &str) {
    warn!(
        why,
        "the kernel's alarms (inotify on memory.events) cannot be used for all containers, which are sampled as without them"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Machine;

    fn group(dir: &std::path::Path) -> Group {
        for name in ["memory.current", "memory.max", "memory.stat", "memory.events"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        Group::open(dir, Version::V2, &Machine::without_swap()).unwrap().unwrap()
    }

    #[test]
    fn v1_has_none() {
        assert!(Alarms::open(Version::V1).is_none());
    }

    #[test]
    fn a_change_rings_until_it_is_taken_or_no_longer_watched() {
        let dir = tempfile::tempdir().unwrap();
        let group = group(dir.path());
        let mut alarms = Alarms::open(Version::V2).unwrap();
        let rung = |alarms: &Alarms| alarms.rung().collect::<Vec<_>>();
        let alarm = alarms.watch(&group).unwrap();
        assert_eq!(rung(&alarms), []);
        std::fs::write(dir.path().join("memory.current"), "1\n").unwrap();
        assert_eq!(rung(&alarms), [], "another file");
        std::fs::write(dir.path().join("memory.events"), "oom_kill 1\n").unwrap();
        assert_eq!(rung(&alarms).first(), Some(&alarm));
        assert_eq!(rung(&alarms), []);
        alarms.unwatch(alarm);
        std::fs::write(dir.path().join("memory.events"), "oom_kill 2\n").unwrap();
        assert_eq!(rung(&alarms), []);
    }

    #[test]
    fn watches_are_bounded_and_a_group_that_is_gone_takes_none() {
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let groups = dirs.each_ref().map(|dir| group(dir.path()));
        let mut alarms = Alarms { most: 2, ..Alarms::open(Version::V2).unwrap() };
        let first = alarms.watch(&groups[0]).unwrap();
        assert_eq!(alarms.watch(&groups[0]), Some(first), "one for all that share a group");
        assert!(alarms.watch(&groups[1]).is_some() && !alarms.told);
        assert!(alarms.watch(&groups[2]).is_none() && alarms.told);
        alarms.unwatch(first);
        alarms.unwatch(first);
        assert!(alarms.watch(&groups[2]).is_some());
        alarms.unwatch(first);
        (alarms.most, alarms.told) = (3, false);
        drop(dirs);
        assert!(alarms.watch(&groups[0]).is_none() && !alarms.told, "that is normal");
    }
}
