//! The kernel's count of allocated memory: `pgalloc_*` in `/proc/vmstat`.
//!
//! The kernel sums the counters of all CPUs at each read, so the count is exact. In a container, the file shows the whole machine.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{SysconfVar, sysconf};

use super::hierarchy::Hierarchy;
use super::version::Version;
use crate::ground::units::Bytes;

/// The file has about 6 KiB on a 6.x kernel, and the lines end after 2.
const BUFFER: usize = 8 * 1024;
/// By how much the part with the lines may grow between two reads: some digits, and it is followed by another line.
const MAY_GROW: usize = 256;
/// The mount option of cgroup2 with which huge pages of the pool are charged. Nothing is allocated for them then.
const POOL_IS_CHARGED: &str = "memory_hugetlb_accounting";

/// Reads how much memory the machine has allocated since it was started.
#[derive(Debug)]
pub struct Allocations {
    vmstat: File,
    /// The size of a page.
    pub page: Bytes,
    /// How many CPUs are online.
    pub cpus: u64,
    /// How many bytes of the file are read.
    wanted: usize,
}

/// Why the count of allocated memory does not bound what containers are charged.
#[derive(Debug)]
pub enum NotCounted {
    /// The cgroups are not this kernel's (files of a test).
    OtherCgroups,
    /// Huge pages of the pool are charged, too.
    HugePages,
    Unreadable(io::Error),
}

impl fmt::Display for NotCounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotCounted::OtherCgroups => f.write_str("the cgroup root is not a mount of this kernel's cgroups"),
            NotCounted::HugePages => write!(f, "cgroup2 is mounted with {POOL_IS_CHARGED}"),
            NotCounted::Unreadable(error) => write!(f, "/proc/vmstat: {error}"),
        }
    }
}

impl Allocations {
    /// Opens the count for the machine that has these cgroups.
    ///
    /// # Errors
    /// When it says nothing of what these cgroups are charged.
    pub fn open(hierarchy: &Hierarchy) -> Result<Allocations, NotCounted> {
        let kind = statfs(&hierarchy.root).map_err(|error| NotCounted::Unreadable(error.into()))?.filesystem_type();
        if kind != CGROUP_SUPER_MAGIC && kind != CGROUP2_SUPER_MAGIC {
            return Err(NotCounted::OtherCgroups);
        }
        if hierarchy.version == Version::V2 {
            let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(NotCounted::Unreadable)?;
            if charges_the_pool(&mounts) {
                return Err(NotCounted::HugePages);
            }
        }
        let number = |variable| sysconf(variable).ok().flatten().and_then(|n| u64::try_from(n).ok());
        let unknown = || NotCounted::Unreadable(io::ErrorKind::Unsupported.into());
        let page = number(SysconfVar::PAGE_SIZE).ok_or_else(unknown)?;
        let cpus = number(SysconfVar::_NPROCESSORS_ONLN).ok_or_else(unknown)?;
        let vmstat = File::open("/proc/vmstat").map_err(NotCounted::Unreadable)?;
        let mut allocations = Allocations::of(vmstat, page, cpus);
        allocations.read().map(|_| allocations).ok_or_else(unknown)
    }

    /// The count in a file in the form of `/proc/vmstat`.
    #[must_use]
    pub fn of(vmstat: File, page: u64, cpus: u64) -> Allocations {
        Allocations { vmstat, page: Bytes(page), cpus, wanted: BUFFER }
    }

    /// All that was ever allocated; `None` if it cannot be read.
    pub fn read(&mut self) -> Option<Bytes> {
        let mut buffer = [0; BUFFER];
        let length = self.vmstat.read_at(&mut buffer[..self.wanted], 0).ok()?;
        let found = pages(&buffer[..length]);
        // The kernel writes no more of it than is asked for.
        self.wanted = found.map_or(BUFFER, |(_, end)| BUFFER.min(end + MAY_GROW));
        found.map(|(pages, _)| self.page.times(pages))
    }
}

fn charges_the_pool(mounts: &str) -> bool {
    mounts.lines().any(|line| line.contains(" cgroup2 ") && line.contains(POOL_IS_CHARGED))
}

/// The sum of the lines `pgalloc_ZONE`, and where they end; `None` without any, or if something is missing.
fn pages(text: &[u8]) -> Option<(u64, usize)> {
    let (mut sum, mut end) = (None, 0);
    for line in text.split(|b| *b == b'\n') {
        if let Some(rest) = line.strip_prefix(b"pgalloc_") {
            let digits = rest.rsplit(|b| *b == b' ').next()?;
            sum = Some(super::parse::number(digits).ok()?.saturating_add(sum.unwrap_or(0)));
        } else if let Some(sum) = sum {
            return Some((sum, end)); // they stand together
        }
        end += line.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zones_are_summed() {
        let text = b"nr_free_pages 7\npgpgin 1\npgalloc_dma 0\npgalloc_dma32 5\npgalloc_normal 37\npgalloc_movable 0\npgfree 9\n";
        assert_eq!(pages(text), Some((42, text.len() - b"pgfree 9\n".len())));
        assert_eq!(pages(b"nr_free_pages 7\n"), None);
        assert_eq!(pages(b"pgalloc_dma x\n"), None);
        assert_eq!(pages(b"pgalloc_dma 1\npgalloc_normal 3"), None, "cut off");
        assert_eq!(pages(b""), None);
    }

    #[test]
    fn no_more_of_the_file_is_read_than_has_the_count() {
        let lines =
            |n: u64| format!("nr_free_pages 7\npgalloc_dma 0\npgalloc_normal {n}\n{}", "pgfree 9\n".repeat(100));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, lines(37).as_bytes()).unwrap();
        let mut allocations = Allocations::of(file.reopen().unwrap(), 1, 1);
        let wanted = lines(37).find("pgfree").unwrap() + MAY_GROW;
        assert_eq!((allocations.read(), allocations.wanted), (Some(Bytes(37)), wanted));
        // What was not read in whole is read again.
        std::fs::write(file.path(), format!("{}{}", "nr_other 1\n".repeat(30), lines(38))).unwrap();
        assert_eq!((allocations.read(), allocations.wanted), (None, BUFFER));
        assert_eq!(allocations.read(), Some(Bytes(38)));
    }

    #[test]
    fn files_of_a_test_are_not_the_kernels() {
        let root = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy { root: root.path().to_owned(), version: Version::V2 };
        assert!(matches!(Allocations::open(&hierarchy), Err(NotCounted::OtherCgroups)));
    }

    #[test]
    fn a_pool_that_is_charged_is_seen() {
        let line = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot";
        assert!(!charges_the_pool(&format!("proc /proc proc rw 0 0\n{line} 0 0\n")));
        assert!(charges_the_pool(&format!("proc /proc proc rw 0 0\n{line},memory_hugetlb_accounting 0 0\n")));
    }
}
