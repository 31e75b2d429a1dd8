//! One open memory cgroup.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::{Malformed, ReadError, ReadErrorKind, gone_is_none};
use super::kills::Kills;
use super::pace::StatPace;
use super::parse::{Limit, NUMBER_BUFFER};
use super::swap::{MachineSwap, Swap};
use super::version::Version;
use super::{v1, v2};
use crate::ground::clock::Moment;
use crate::ground::memory::{Breakdown, NodeMemory, Stat};
use crate::ground::units::Bytes;

/// `memory.stat` is about 1.5 KiB on v1 and 2.5 KiB on v2 of a 6.x kernel.
pub(super) const STAT_BUFFER: usize = 16 * 1024;

#[derive(Debug)]
pub struct Group {
    dir: PathBuf,
    pub(super) version: Version,
    times: u64,
    usage: File,
    limit: File,
    stat: File,
    kills: Option<File>,
    /// Only on v1; v2 counts them in the file of the kills.
    failed_charges: Option<File>,
    /// Only on v2.
    high: Option<File>,
    swap: Option<Swap>,
    /// Only on v1: a process that moves in brings what it was charged elsewhere (`memory.move_charge_at_immigrate`).
    takes_charges: bool,
    /// How long its stat takes to read, and what was last read.
    pub(super) pace: Mutex<StatPace>,
}

impl Group {
    /// Opens the files of the group at `dir`; `None` if it is gone.
    ///
    /// # Errors
    /// When a file exists but cannot be opened.
    pub fn open(dir: &Path, version: Version, machine: &Machine) -> Result<Option<Group>, ReadError> {
        let files = version.files();
        let open = |name: &str| {
            let path = dir.join(name);
            gone_is_none(File::open(&path))
                .map_err(|error| ReadError { path: path.display().to_string(), what: error.into() })
        };
        let (Some(usage), Some(limit), Some(stat)) = (open(files.usage)?, open(files.limit)?, open(files.stat)?) else {
            return Ok(None);
        };
        let swap = machine.swap.clone().filter(|_| version == Version::V2).map(Swap::new);
        let failed_charges = if version == Version::V1 { open(files.failed_charges)? } else { None };
        let high = if version == Version::V2 { open(v2::HIGH)? } else { None };
        let (times, kills) = ((machine.magnified)(dir), open(files.kills)?);
        let takes_charges = version == Version::V1 && v1::takes_charges(dir);
        let (dir, pace) = (dir.to_owned(), Mutex::default());
        Ok(Some(Group {
            dir,
            version,
            times,
            usage,
            limit,
            stat,
            kills,
            failed_charges,
            high,
            swap,
            takes_charges,
            pace,
        }))
    }

    /// Whether it can be charged memory that was allocated, and charged to another group, before.
    #[must_use]
    pub fn takes_charges(&self) -> bool {
        self.takes_charges
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that [`Group::usage`] reads, so that benchmarks can read it themselves.
    #[must_use]
    pub fn usage_file(&self) -> &File {
        &self.usage
    }

    /// All memory that is charged to the group and those below it; `None` if it is gone.
    ///
    /// # Errors
    /// When the file cannot be read or is not a number.
    pub fn usage(&self) -> Result<Option<Bytes>, ReadError> {
        Ok(self.number(&self.usage, self.version.files().usage)?.map(|usage| usage.times(self.times)))
    }

    /// The group's own limit; `None` if it is gone.
    ///
    /// # Errors
    /// When the file cannot be read or is not a limit.
    pub fn limit(&self) -> Result<Option<Limit>, ReadError> {
        let mut buffer = [0; NUMBER_BUFFER];
        let limit =
            self.parsed(&self.limit, self.version.files().limit, &mut buffer, |t| self.version.parse_limit(t))?;
        Ok(limit.map(|limit| match limit {
            Limit::Bytes(bytes) => Limit::Bytes(bytes.times(self.times)),
            Limit::Max => Limit::Max,
        }))
    }

    /// v2's `memory.high`, at which the kernel slows the group down; `None` if it has none, is gone, or the file cannot be read. No
    /// verdict depends on it.
    #[must_use]
    pub fn high(&self) -> Option<Bytes> {
        let mut buffer = [0; NUMBER_BUFFER];
        let high = self.parsed(self.high.as_ref()?, v2::HIGH, &mut buffer, |text| self.version.parse_limit(text));
        high.ok()??.bytes().map(|high| high.times(self.times))
    }

    /// The cache in it; `None` if it is gone. This is the most expensive read: the kernel gathers its per-CPU counters
    /// (7–14 µs).
    ///
    /// # Errors
    /// When the file cannot be read or lacks a field.
    pub fn stat(&self) -> Result<Option<Stat>, ReadError> {
        Ok(self.stat_and_breakdown(false)?.map(|(stat, _)| stat))
    }

    /// The same; and from the same text what its memory consists of, if that is `wanted` for people.
    pub(super) fn stat_and_breakdown(&self, wanted: bool) -> Result<Option<(Stat, Option<Breakdown>)>, ReadError> {
        let mut buffer = [0; STAT_BUFFER];
        self.parsed(&self.stat, self.version.files().stat, &mut buffer, |text| {
            let breakdown = wanted.then(|| self.version.parse_breakdown(text).times(self.times));
            Ok((self.version.parse_stat(text)?.times(self.times), breakdown))
        })
    }

    /// How long its `memory.stat` takes to read, if that is so long that another thread reads it (`StatReader`).
    #[must_use]
    pub fn slow_for(&self) -> Option<Duration> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).slow_for()
    }

    /// How many processes the kernel killed for lack of memory, and for which limit. `before` is what was read last:
    /// counts that cannot have changed since are not read again. `None` if the group is gone, the kernel does not count
    /// (before 4.13), or the file cannot be read. A failure is no error, because guarding does not depend on the counts.
    #[must_use]
    pub fn kills(&self, before: Option<Kills>) -> Option<Kills> {
        let mut buffer = [0; 1024];
        let parse = |text: &[u8]| Ok(self.version.parse_kills(text));
        let kills = self.parsed(self.kills.as_ref()?, self.version.files().kills, &mut buffer, parse).ok()??;
        match (self.version, before) {
            (Version::V1, _) => kills.map(|kills| Kills { limit_hit: self.limit_hit(before, kills.killed), ..kills }),
            (Version::V2, Some(before)) if kills.is_some_and(|k| k.limit_hit == before.hit_in_all()) => {
                kills.map(|kills| Kills { limit_hit: before.limit_hit, hit_below: before.hit_below, ..kills })
            }
            // Read so rarely that it is not worth a descriptor of its own.
            (Version::V2, _) => kills.map(|kills| match std::fs::read(self.dir.join(v2::OWN_EVENTS)) {
                Ok(own) => kills.with_own(&own),
                Err(_) => kills,
            }),
        }
    }

    /// Only on v1. The limits may have been set since the group was created, so a kill is the time to look.
    fn limit_hit(&self, before: Option<Kills>, killed: u64) -> Option<u64> {
        let is_killed = before.is_some_and(|before| killed > before.killed);
        self.failed_charges().filter(|_| !is_killed || v1::counts_failures(&self.dir))
    }

    /// How often a charge did not fit below this group's limit, so that the kernel had to reclaim something first.
    /// While this count and usage stay the same, no memory was exchanged for other memory. (The exception is the
    /// kernel's per-CPU stock of 64 pages, which is charged already: at most 384 KiB on two CPUs, measured.) `None` if
    /// the group is gone or the file cannot be read; the count only saves other reads.
    #[must_use]
    pub fn failed_charges(&self) -> Option<u64> {
        let mut buffer = [0; 1024];
        let file = match self.version {
            Version::V1 => self.failed_charges.as_ref()?,
            Version::V2 => self.kills.as_ref()?,
        };
        let parse = |text: &[u8]| Ok(self.version.parse_failed_charges(text));
        self.parsed(file, self.version.files().failed_charges, &mut buffer, parse).ok()??
    }

    /// How much more of this group the kernel could move to swap at this moment: the minimum of the machine's free swap
    /// and what the group and each level above it allow. It is 0 if there is no swap, or if something cannot be read; a
    /// kill then counts as nearer.
    #[must_use]
    pub fn swap_left(&self, now: Moment) -> Bytes {
        self.swap.as_ref().map_or(Bytes(0), |swap| swap.left(&self.dir, now))
    }

    fn number(&self, file: &File, name: &str) -> Result<Option<Bytes>, ReadError> {
        let mut buffer = [0; NUMBER_BUFFER];
        self.parsed(file, name, &mut buffer, |text| self.version.parse_usage(text))
    }

    /// Reads a whole file with one `pread`.
    fn parsed<T>(
        &self,
        file: &File,
        name: &str,
        buffer: &mut [u8],
        parse: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, ReadError> {
        let error = |what: ReadErrorKind| ReadError { path: self.dir.join(name).display().to_string(), what };
        let Some(length) = gone_is_none(file.read_at(buffer, 0)).map_err(|e| error(e.into()))? else {
            return Ok(None);
        };
        if length == buffer.len() {
            return Err(error(Malformed::Huge.into()));
        }
        parse(&buffer[..length]).map(Some).map_err(|what| error(what.into()))
    }
}

/// The most that the usage of the group at `dir` ever was, as the kernel remembers it; `None` if the group is gone, or the
/// kernel does not (v2 before 5.19). For people: the file is opened each time.
#[must_use]
pub fn peak(dir: &Path) -> Option<Bytes> {
    let read = |version: Version| {
        let text = std::fs::read(dir.join(version.files().peak)).ok()?;
        version.parse_usage(&text).ok()
    };
    read(Version::V2).or_else(|| read(Version::V1))
}

/// What all groups of a machine share.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) swap: Option<Arc<MachineSwap>>,
    /// The factor by which all values read from a group are multiplied.
    magnified: fn(&Path) -> u64,
}

impl Machine {
    /// A machine that never has swap.
    #[must_use]
    pub const fn without_swap() -> Machine {
        Machine { swap: None, magnified: |_| 1 }
    }

    /// This machine.
    ///
    /// # Errors
    /// When `/proc/meminfo` cannot be opened.
    pub fn open() -> io::Result<Machine> {
        Machine::of(Path::new("/proc/meminfo"))
    }

    /// The machine that a file in the form of `/proc/meminfo` describes.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn of(meminfo: &Path) -> io::Result<Machine> {
        let swap = MachineSwap::open(meminfo)?;
        Ok(Machine { swap: Some(Arc::new(swap)), ..Machine::without_swap() })
    }

    /// What `/proc/meminfo` says of the machine's memory; `None` if it cannot be read.
    #[must_use]
    pub fn memory(&self) -> Option<NodeMemory> {
        self.swap.as_ref()?.memory()
    }

    /// Multiplies all values read from the group at a directory. Benchmarks use this to let small real groups stand for
    /// large ones.
    #[must_use]
    pub fn magnified(self, times: fn(&Path) -> u64) -> Machine {
        Machine { magnified: times, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::parse::field;
    use crate::cgroup::parse::number;
    use proptest::prelude::*;

    fn group(version: Version, contents: &[(&str, &[u8])]) -> (tempfile::TempDir, Group) {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in contents {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let group = Group::open(dir.path(), version, &Machine::without_swap()).unwrap().unwrap();
        (dir, group)
    }

    #[test]
    fn a_v2_group() {
        let (dir, group) = group(
            Version::V2,
            &[
                ("memory.current", b"62914560\n"),
                ("memory.max", b"134217728\n"),
                ("memory.high", b"100000000\n"),
                (
                    "memory.stat",
                    b"anon 1\nfile 2\nkernel_stack 3\npagetables 4\npercpu 1\nsock 9\nshmem 2\nfile_dirty 5\nfile_writeback 6\ninactive_file 100\nactive_file 200\nslab_reclaimable 7\nslab 8\n",
                ),
                ("memory.peak", b"73400320\n"),
                ("memory.events", b"low 0\nhigh 0\nmax 9\noom 1\noom_kill 3\noom_group_kill 0\n"),
            ],
        );
        assert_eq!(group.usage().unwrap(), Some(Bytes(62_914_560)));
        assert_eq!(group.limit().unwrap(), Some(Limit::Bytes(Bytes(128 << 20))));
        assert_eq!(group.high(), Some(Bytes(100_000_000)));
        let stat = group.stat().unwrap().unwrap();
        assert_eq!(stat.clean_cache(), Bytes(100 + 200 - 5 - 6 + 7));
        let expected = Kills { killed: 3, together: Some(0), limit_hit: Some(1), hit_below: 0 };
        assert_eq!(group.kills(None), Some(expected));
        assert_eq!(group.failed_charges(), Some(9));
        let expected = Breakdown {
            anonymous: Bytes(1),
            active_file: Bytes(200),
            inactive_file: Bytes(100),
            shmem: Bytes(2),
            slab: Bytes(8),
            kernel: Bytes(3 + 4 + 1),
            sockets: Bytes(9),
        };
        assert_eq!(group.stat_and_breakdown(true).unwrap(), Some((stat, Some(expected))));
        assert_eq!(
            (group.stat_and_breakdown(false).unwrap(), peak(dir.path())),
            (Some((stat, None)), Some(Bytes(73_400_320)))
        );
    }

    #[test]
    fn a_v1_group() {
        let (dir, group) = group(
            Version::V1,
            &[
                ("memory.usage_in_bytes", b"62914560\n"),
                ("memory.limit_in_bytes", b"9223372036854771712\n"),
                (
                    "memory.stat",
                    b"rss 1\ninactive_file 1\nactive_file 1\ntotal_rss 70\ntotal_shmem 3\ntotal_dirty 5\ntotal_writeback 6\ntotal_inactive_file 100\ntotal_active_file 200\n",
                ),
                ("memory.max_usage_in_bytes", b"73400320\n"),
                ("memory.oom_control", b"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
                ("memory.failcnt", b"9\n"),
            ],
        );
        assert!(!group.takes_charges());
        std::fs::write(dir.path().join("memory.move_charge_at_immigrate"), "1\n").unwrap();
        let other = Group::open(dir.path(), Version::V1, &Machine::without_swap()).unwrap().unwrap();
        assert!(other.takes_charges());
        assert_eq!((group.limit().unwrap(), group.high()), (Some(Limit::Max), None));
        assert_eq!(group.stat().unwrap().unwrap().clean_cache(), Bytes(289));
        assert_eq!(group.kills(None).map(|k| k.killed), Some(2));
        assert_eq!(group.failed_charges(), Some(9));
        let (anonymous, shmem) = (Bytes(70), Bytes(3));
        let cache = Breakdown { active_file: Bytes(200), inactive_file: Bytes(100), ..Breakdown::default() };
        let breakdown = group.stat_and_breakdown(true).unwrap().and_then(|(_, breakdown)| breakdown);
        assert_eq!(breakdown, Some(Breakdown { anonymous, shmem, ..cache }));
        assert_eq!(peak(dir.path()), Some(Bytes(73_400_320)));
        assert_eq!(peak(Path::new("/nonexistent")), None);
    }

    /// Memory can be added to a machine, and a limit above it is one that people wrote.
    #[test]
    fn only_the_kernels_own_none_is_no_limit() {
        let limit = |version: Version, text: &str| version.parse_limit(text.as_bytes()).unwrap().bytes();
        for n in [5, 8 << 30, 1 << 60, 0x7fff_ffff_fffe_ffff_u64] {
            for version in [Version::V1, Version::V2] {
                assert_eq!(limit(version, &format!("{n}\n")), Some(Bytes(n)));
            }
        }
        assert_eq!(limit(Version::V2, "max\n"), None);
        for page in [4096, 16_384, 65_536] {
            let none = i64::MAX as u64 / page * page;
            assert_eq!(limit(Version::V1, &format!("{none}\n")), None, "pages of {page}");
        }
    }

    /// Only the inactive cache is in every kernel's file, and needed to tell the working set.
    #[test]
    fn what_only_refines_may_be_absent() {
        let stat = Version::V1.parse_stat(b"total_cache 9\ntotal_inactive_file 100\ntotal_active_file 200\n").unwrap();
        assert_eq!((stat.inactive_file, stat.clean_cache()), (Bytes(100), Bytes(300)));
        for version in [Version::V1, Version::V2] {
            let (total, missing) = match version {
                Version::V1 => ("total_", Malformed::MissingField("total_inactive_file")),
                Version::V2 => ("", Malformed::MissingField("inactive_file")),
            };
            let stat = version.parse_stat(format!("{total}inactive_file 7\n").as_bytes());
            assert_eq!(stat, Ok(Stat { inactive_file: Bytes(7), ..Stat::default() }));
            assert_eq!(version.parse_stat(format!("{total}active_file 7\n").as_bytes()), Err(missing));
        }
    }

    #[test]
    fn bad_files_are_named_with_what_is_wrong() {
        let long = [b'7'; 400];
        for (content, what) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"12a\n", "is not a number of bytes"),
            (b"-1\n", "is not a number of bytes"),
            (b" 1\n", "is not a number of bytes"),
            (b"\xff\x00\x01", "is not a number of bytes"),
            (b"18446744073709551616\n", "is not a number of bytes"),
            (b"max\n", "is not a number of bytes"),
            (&long, "is larger than any such file should be"),
        ] {
            let (dir, group) =
                group(Version::V2, &[("memory.current", content), ("memory.max", content), ("memory.stat", content)]);
            let error = group.usage().unwrap_err().to_string();
            let path = dir.path().join("memory.current");
            assert_eq!(error, format!("{}: {what}", path.display()));
            assert_eq!(
                group.stat().unwrap_err().to_string(),
                format!("{}: has no line `inactive_file`", dir.path().join("memory.stat").display())
            );
        }
    }

    #[test]
    fn a_group_that_is_not_there_is_gone() {
        let group = Group::open(Path::new("/nonexistent/group"), Version::V2, &Machine::without_swap());
        assert!(group.unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_file_are_survived(content in prop::collection::vec(any::<u8>(), 0..300)) {
            for version in [Version::V1, Version::V2] {
                let files = version.files();
                let (_dir, group) = group(version, &[
                    (files.usage, &content), (files.limit, &content), (files.stat, &content),
                    (files.kills, &content), (files.failed_charges, &content),
                ]);
                let _ = (group.usage(), group.limit(), group.stat(), group.kills(None), group.failed_charges());
            }
        }

        #[test]
        fn numbers_round_trip(n: u64) {
            prop_assert_eq!(number(format!("{n}\n").as_bytes()), Ok(n));
            prop_assert_eq!(field(format!("oom 1\noom_kill {n}\n").as_bytes(), b"oom_kill"), Some(n));
        }
    }
}
