//! A group's counts of kills, and which limit a kill was for.

use super::parse::field;

/// A group's counts of kills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kills {
    /// `oom_kill`: processes killed, for this group's limit or for another reason. v1 counts only those in this very
    /// group (measured); v2 also counts those below.
    pub killed: u64,
    /// v2's `oom_group_kill`: how often all processes of the group were killed together (`memory.oom.group`).
    pub together: Option<u64>,
    /// How often this group's own limit was hit. On v2 this is `oom` of `memory.events.local`: nothing was left to
    /// reclaim. Kernels before 5.2 have no such file, and this is `oom` of `memory.events`. On v1 it is
    /// `memory.failcnt`, which also counts hits after which something could be reclaimed.
    pub limit_hit: Option<u64>,
    /// v2: how often the limit of a group below was hit.
    pub hit_below: u64,
}

impl Kills {
    /// v2's `oom` of `memory.events`, which includes the groups below.
    pub(super) fn hit_in_all(self) -> Option<u64> {
        self.limit_hit.map(|own| own.saturating_add(self.hit_below))
    }

    /// Splits the counts of `memory.events` with `memory.events.local`, which counts for the group alone.
    pub(super) fn with_own(self, local: &[u8]) -> Kills {
        match (self.limit_hit, field(local, b"oom")) {
            (Some(all), Some(own)) => Kills { limit_hit: Some(own), hit_below: all.saturating_sub(own), ..self },
            _ => self,
        }
    }
}

/// Which limit a kill was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hit {
    Own,
    /// The limit of a group that was created inside the container.
    Inside,
    Pod,
    /// None of these: the node or a level above the pod ran out of memory.
    Node,
    /// The container's or the pod's: both were hit, or one was and it is not known of the other. A charge that does not fit is
    /// tried again, and where both limits are the same, each of them may refuse it once.
    Either,
    /// Any of these: the kernel does not count what was hit.
    Unclear,
}

impl Hit {
    /// Compares the counters from before and after a kill: the container's, and those of the pod's group if there is
    /// one.
    #[must_use]
    pub fn of(own: (Kills, Kills), pod: Option<(Kills, Kills)>) -> Hit {
        let rose = |before: Option<u64>, after: Option<u64>| Some(after? > before?);
        let own_hit = rose(own.0.limit_hit, own.1.limit_hit);
        let pod_hit = pod.map_or(Some(false), |(before, after)| rose(before.limit_hit, after.limit_hit));
        match (own_hit, pod_hit) {
            (Some(true), Some(false)) => Hit::Own,
            (Some(false), Some(true)) => Hit::Pod,
            (Some(false), Some(false)) if own.1.hit_below > own.0.hit_below => Hit::Inside,
            (Some(false), Some(false)) => Hit::Node,
            (Some(true), _) | (_, Some(true)) => Hit::Either,
            _ => Hit::Unclear,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Group, Machine, Version};

    fn write(dir: &std::path::Path, name: &str, text: &str) {
        std::fs::write(dir.join(name), text).unwrap();
    }

    #[test]
    fn v2_tells_its_own_limit_from_one_below() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["memory.current", "memory.max", "memory.stat"] {
            write(dir.path(), name, "");
        }
        let set = |oom: u64, local: &str| {
            write(dir.path(), "memory.events", &format!("max 9\noom {oom}\noom_kill 3\noom_group_kill 2\n"));
            write(dir.path(), "memory.events.local", local);
        };
        set(5, "oom 1\noom_kill 0\n");
        let group = Group::open(dir.path(), Version::V2, &Machine::without_swap()).unwrap().unwrap();
        let first = group.kills(None).unwrap();
        let expected = Kills { killed: 3, together: Some(2), limit_hit: Some(1), hit_below: 4 };
        assert_eq!(first, expected);
        set(5, "oom 7\n");
        assert_eq!(group.kills(Some(first)), Some(expected), "not read again while nothing was hit");
        set(6, "oom 1\n");
        let below = group.kills(Some(first)).unwrap();
        assert_eq!((below.limit_hit, below.hit_below), (Some(1), 5));
        std::fs::remove_file(dir.path().join("memory.events.local")).unwrap();
        let old = group.kills(None).unwrap();
        assert_eq!((old.limit_hit, old.hit_below), (Some(6), 0), "before kernel 5.2");
    }

    #[test]
    fn v1_tells_by_the_charges_that_failed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["memory.usage_in_bytes", "memory.limit_in_bytes", "memory.stat"] {
            write(dir.path(), name, "");
        }
        write(dir.path(), "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        write(dir.path(), "memory.failcnt", "9\n");
        let group = Group::open(dir.path(), Version::V1, &Machine::without_swap()).unwrap().unwrap();
        let expected = Kills { killed: 2, together: None, limit_hit: Some(9), hit_below: 0 };
        assert_eq!(group.kills(None), Some(expected));
        write(dir.path(), "memory.failcnt", "10\n");
        assert_eq!(group.kills(Some(expected)).unwrap().limit_hit, Some(10));
    }

    /// As under a kubelet: neither limit's failures are counted.
    #[test]
    fn v1_does_not_tell_where_swap_has_the_same_limit() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("memory.usage_in_bytes", ""),
            ("memory.stat", ""),
            ("memory.limit_in_bytes", "104857600\n"),
            ("memory.memsw.limit_in_bytes", "104857600\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
            ("memory.failcnt", "0\n"),
        ] {
            write(dir.path(), name, text);
        }
        let group = Group::open(dir.path(), Version::V1, &Machine::without_swap()).unwrap().unwrap();
        let before = group.kills(None).unwrap();
        assert_eq!(before.limit_hit, Some(0));
        let killed = |memsw: &str| {
            write(dir.path(), "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
            write(dir.path(), "memory.memsw.limit_in_bytes", memsw);
            let pods = Kills { limit_hit: Some(3), ..Kills::default() };
            Hit::of((before, group.kills(Some(before)).unwrap()), Some((pods, pods)))
        };
        assert_eq!(killed("104857600\n"), Hit::Unclear);
        assert_eq!(killed("9223372036854771712\n"), Hit::Node, "this one would have been counted");
        std::fs::remove_file(dir.path().join("memory.memsw.limit_in_bytes")).unwrap();
        let after = group.kills(Some(before)).unwrap();
        assert_eq!(after.limit_hit, Some(0), "a kernel that does not count swap");
    }

    #[test]
    fn a_kill_is_for_the_limit_that_was_hit() {
        let kills = |limit_hit, hit_below| Kills { killed: 0, together: None, limit_hit, hit_below };
        let (quiet, hit) = ((kills(Some(4), 2), kills(Some(4), 2)), (kills(Some(4), 2), kills(Some(5), 2)));
        let below = (kills(Some(4), 2), kills(Some(4), 3));
        let unknown = (kills(None, 0), kills(None, 0));
        for (own, pod, expected) in [
            (hit, Some(quiet), Hit::Own),
            (hit, None, Hit::Own),
            (quiet, Some(hit), Hit::Pod),
            (below, Some(below), Hit::Inside),
            (below, Some(hit), Hit::Pod),
            (quiet, Some(quiet), Hit::Node),
            // A limit of a sibling is nothing to this one.
            (quiet, Some(below), Hit::Node),
            (quiet, None, Hit::Node),
            (hit, Some(hit), Hit::Either),
            (unknown, Some(hit), Hit::Either),
            (hit, Some(unknown), Hit::Either),
            (unknown, Some(quiet), Hit::Unclear),
            (quiet, Some(unknown), Hit::Unclear),
        ] {
            assert_eq!(Hit::of(own, pod), expected, "{own:?} {pod:?}");
        }
    }
}
