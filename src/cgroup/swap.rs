//! How much of a group the kernel could still move to swap: what the machine has free, capped by what each level from
//! the group up to the root allows. Only cgroup v2 limits swap separately.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::error::gone_is_none;
use super::parse::{Limit, NUMBER_BUFFER, number};
use super::v2;
use crate::ground::clock::Moment;
use crate::ground::memory::NodeMemory;
use crate::ground::units::Bytes;

/// The two lines that we use are within the first 600 bytes of `/proc/meminfo`.
const MEMINFO_BUFFER: usize = 4096;
/// How often a machine without swap is checked again: swap can be switched on.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// No group lies deeper; [`crate::cgroup::resolve`] searches no deeper either.
const MOST_LEVELS: usize = 16;

/// The machine's swap. Its free part is read once for all groups that are sampled at the same moment.
#[derive(Debug)]
pub(super) struct MachineSwap {
    meminfo: File,
    last: Mutex<Option<Last>>,
    /// The levels above the groups; several groups share each.
    above: Mutex<HashMap<PathBuf, Weak<SwapLevel>>>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at: Moment,
    has_swap: bool,
    free: Bytes,
}

impl MachineSwap {
    pub(super) fn open(meminfo: &Path) -> io::Result<MachineSwap> {
        Ok(MachineSwap { meminfo: File::open(meminfo)?, last: Mutex::default(), above: Mutex::default() })
    }

    /// The free swap; 0 if it cannot be read.
    fn free(&self, now: Moment) -> Bytes {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = *last
            && (last.at == now || (!last.has_swap && last.at.abs_diff(now) < ASK_AGAIN))
        {
            return last.free;
        }
        let mut buffer = [0; MEMINFO_BUFFER];
        let text = self.meminfo.read_at(&mut buffer, 0).map_or(&[][..], |length| &buffer[..length]);
        let has_swap = kib(text, b"SwapTotal:").is_none_or(|total| total > Bytes(0));
        let free = kib(text, b"SwapFree:").unwrap_or_default();
        *last = Some(Last { at: now, has_swap, free });
        free
    }

    pub(super) fn memory(&self) -> Option<NodeMemory> {
        let mut buffer = [0; MEMINFO_BUFFER];
        let length = self.meminfo.read_at(&mut buffer, 0).ok()?;
        let of = |key| kib(&buffer[..length], key);
        Some(NodeMemory { total: of(b"MemTotal:")?, available: of(b"MemAvailable:")? })
    }

    /// Opens a level, or returns it if another group has opened it. `None` where nothing limits swap.
    fn level_above(&self, dir: &Path) -> io::Result<Option<Arc<SwapLevel>>> {
        let mut above = self.above.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(level) = above.get(dir).and_then(Weak::upgrade) {
            return Ok(Some(level));
        }
        let Some(level) = SwapLevel::open(dir)?.map(Arc::new) else { return Ok(None) };
        above.retain(|_, level| level.strong_count() > 0);
        above.insert(dir.to_owned(), Arc::downgrade(&level));
        Ok(Some(level))
    }
}

/// The value of a line of `/proc/meminfo`, converted from KiB.
fn kib(text: &[u8], key: &[u8]) -> Option<Bytes> {
    let line = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(key))?;
    let digits = line.strip_suffix(b" kB")?.trim_ascii_start();
    Some(Bytes(number(digits).ok()?).times(1024))
}

#[derive(Debug)]
struct SwapLevel {
    current: File,
    max: File,
}

impl SwapLevel {
    /// `None` at the root, and where the kernel was built or started without swap accounting.
    fn open(dir: &Path) -> io::Result<Option<SwapLevel>> {
        let open = |name| gone_is_none(File::open(dir.join(name)));
        Ok(match (open(v2::SWAP_CURRENT)?, open(v2::SWAP_MAX)?) {
            (Some(current), Some(max)) => Some(SwapLevel { current, max }),
            _ => None,
        })
    }

    /// How much more this level allows; `None` if it cannot be read.
    fn left(&self) -> Option<Bytes> {
        let mut buffer = [0; NUMBER_BUFFER];
        let length = self.max.read_at(&mut buffer, 0).ok()?;
        match v2::limit(&buffer[..length]).ok()? {
            Limit::Max => Some(Bytes(u64::MAX)),
            Limit::Bytes(max) => {
                let length = self.current.read_at(&mut buffer, 0).ok()?;
                Some(max.less(Bytes(number(&buffer[..length]).ok()?)))
            }
        }
    }
}

/// A group's own level and those above it. They are opened once the machine is seen to have swap.
#[derive(Debug)]
pub(super) struct Swap {
    machine: Arc<MachineSwap>,
    levels: OnceLock<Vec<Arc<SwapLevel>>>,
}

impl Swap {
    pub(super) fn new(machine: Arc<MachineSwap>) -> Swap {
        Swap { machine, levels: OnceLock::new() }
    }

    /// How much more of the group at `dir` could be moved to swap. What cannot be read counts as 0; a kill then counts
    /// as nearer.
    pub(super) fn left(&self, dir: &Path, now: Moment) -> Bytes {
        let free = self.machine.free(now);
        if free == Bytes(0) {
            return free;
        }
        let levels = match self.levels.get() {
            Some(levels) => levels,
            None => match self.open_levels(dir) {
                Ok(opened) => self.levels.get_or_init(|| opened),
                Err(_) => return Bytes(0),
            },
        };
        // Without a file of its own, nothing is known of the group.
        if levels.is_empty() {
            return Bytes(0);
        }
        levels.iter().fold(free, |left, level| left.min(level.left().unwrap_or_default()))
    }

    fn open_levels(&self, dir: &Path) -> io::Result<Vec<Arc<SwapLevel>>> {
        let Some(own) = SwapLevel::open(dir)? else { return Ok(Vec::new()) };
        let mut levels = vec![Arc::new(own)];
        for dir in dir.ancestors().skip(1).take(MOST_LEVELS) {
            match self.machine.level_above(dir)? {
                Some(level) => levels.push(level),
                None => break,
            }
        }
        Ok(levels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Group, Machine, Version};

    const MIB: u64 = 1 << 20;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Tree {
            Tree(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn meminfo(&self, total: u64, free: u64) {
            let kib = |bytes: u64| bytes / 1024;
            self.write(
                "meminfo",
                &format!(
                    "MemTotal:        8131568 kB\nSwapCached:            7 kB\nSwapTotal:       {} kB\nSwapFree:        {} kB\nZswap:                 0 kB\n",
                    kib(total),
                    kib(free)
                ),
            );
        }

        fn level(&self, path: &str, current: u64, max: &str) {
            self.write(&format!("{path}/memory.swap.current"), &format!("{current}\n"));
            self.write(&format!("{path}/memory.swap.max"), max);
        }

        fn group(&self, path: &str) -> Group {
            for (name, text) in [("memory.current", "1\n"), ("memory.max", "max\n"), ("memory.stat", "")] {
                self.write(&format!("{path}/{name}"), text);
            }
            let machine = Machine::of(&self.0.path().join("meminfo")).unwrap();
            Group::open(&self.0.path().join(path), Version::V2, &machine).unwrap().unwrap()
        }
    }

    /// That 8 GiB of swap are full of others' pages makes no room.
    #[test]
    fn swap_left_is_what_is_free_now_and_not_what_the_machine_has() {
        let tree = Tree::new();
        tree.meminfo(8192 * MIB, 3 * MIB);
        tree.level("kubepods/pod/own", 100, "max\n");
        let group = tree.group("kubepods/pod/own");
        assert_eq!(group.swap_left(Duration::from_millis(1)), Bytes(3 * MIB));
        tree.meminfo(8192 * MIB, 2 * MIB);
        assert_eq!(group.swap_left(Duration::from_millis(2)), Bytes(2 * MIB), "read with the look");
    }

    #[test]
    fn swap_left_is_the_least_over_the_group_and_all_above_it() {
        let tree = Tree::new();
        tree.meminfo(1024 * MIB, 512 * MIB);
        let set = |own: &str, pod: &str, qos: &str, root: &str| {
            tree.level("kubepods/burstable/pod/own", MIB, own);
            tree.level("kubepods/burstable/pod", 2 * MIB, pod);
            tree.level("kubepods/burstable", 3 * MIB, qos);
            tree.level("kubepods", 4 * MIB, root);
        };
        set("max\n", "max\n", "max\n", "max\n");
        let (group, sibling) = (tree.group("kubepods/burstable/pod/own"), tree.group("kubepods/burstable/pod/own"));
        let mut now = Duration::ZERO;
        let mut left = |expected: u64| {
            now += Duration::from_millis(1);
            for group in [&group, &sibling] {
                assert_eq!(group.swap_left(now), Bytes(expected * MIB));
            }
        };
        left(512);
        let eleven = format!("{}\n", 11 * MIB);
        set(&eleven, "max\n", "max\n", "max\n");
        left(10);
        set("max\n", &eleven, "max\n", "max\n");
        left(9);
        set("max\n", "max\n", &eleven, "max\n");
        left(8);
        set("max\n", "max\n", "max\n", &eleven);
        left(7);
        set("max\n", "max\n", "max\n", "0\n");
        left(0);
    }

    #[test]
    fn swap_that_cannot_be_read_is_none() {
        let tree = Tree::new();
        tree.meminfo(1024 * MIB, 512 * MIB);
        tree.level("pod/own", 0, "max\n");
        tree.level("pod", 0, "nonsense");
        assert_eq!(tree.group("pod/own").swap_left(Duration::ZERO), Bytes(0));
        tree.level("pod", 0, "max\n");
        let group = tree.group("pod/own");
        assert_eq!(group.swap_left(Duration::ZERO), Bytes(512 * MIB));
        for (i, text) in ["", "SwapTotal: 5 kB\n", "SwapFree: x kB\n", "SwapFree: 7\n"].into_iter().enumerate() {
            tree.write("meminfo", text);
            assert_eq!(group.swap_left(Duration::from_secs(1 + i as u64)), Bytes(0), "{text}");
        }
        let unaccounted = tree.group("other");
        assert_eq!(unaccounted.swap_left(Duration::ZERO), Bytes(0));
    }

    /// Swap can be switched on under a running agent; one without is asked no more than once a second.
    #[test]
    fn a_machine_without_swap_is_asked_once_a_second() {
        let tree = Tree::new();
        tree.meminfo(0, 0);
        tree.level("own", 0, "max\n");
        let group = tree.group("own");
        assert_eq!(group.swap_left(Duration::from_secs(5)), Bytes(0));
        tree.meminfo(64 * MIB, 64 * MIB);
        assert_eq!(group.swap_left(Duration::from_millis(5_999)), Bytes(0));
        assert_eq!(group.swap_left(Duration::from_secs(6)), Bytes(64 * MIB));
    }

    #[test]
    fn the_levels_above_are_opened_once_for_all_and_let_go() {
        let tree = Tree::new();
        tree.meminfo(64 * MIB, 64 * MIB);
        tree.level("pod", 0, "max\n");
        let machine = Machine::of(&tree.0.path().join("meminfo")).unwrap();
        let open = |path: &str| {
            tree.level(path, 0, "max\n");
            drop(tree.group(path));
            Group::open(&tree.0.path().join(path), Version::V2, &machine).unwrap().unwrap()
        };
        let groups = [open("pod/a"), open("pod/b")];
        groups.iter().for_each(|g| assert_eq!(g.swap_left(Duration::ZERO), Bytes(64 * MIB)));
        let above = || machine.swap.as_ref().unwrap().above.lock().unwrap().values().map(Weak::strong_count).max();
        assert_eq!(above(), Some(2));
        drop(groups);
        assert_eq!(above(), Some(0));
    }

    #[test]
    fn this_machines_own_is_read() {
        let text = std::fs::read("/proc/meminfo").unwrap();
        assert!(kib(&text, b"SwapTotal:").is_some() && kib(&text, b"SwapFree:").is_some());
        assert!(kib(&text[..600.min(text.len())], b"SwapFree:").is_some(), "within what is said above");
    }
}
