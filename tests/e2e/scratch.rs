//! Files for page cache and for tmpfs.

use std::io::Write;
use std::path::PathBuf;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::world::{MIB, uid};

/// A file that is removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Where written and read files become page cache; a tmpfs would not do.
    pub fn on_disk() -> Scratch {
        let dir = std::env::var_os("E2E_DISK").map_or_else(std::env::temp_dir, PathBuf::from);
        Scratch(dir.join(format!("scratch-{}", uid())))
    }

    /// A file on the disk, of whole MiB, that is in nobody's cache.
    pub fn cold(bytes: u64) -> Scratch {
        let scratch = Scratch::on_disk();
        let mut file = std::fs::File::create(&scratch.0).expect("a file");
        for _ in 0..bytes / MIB {
            file.write_all(&[7; MIB as usize]).expect("room on the disk");
        }
        file.sync_all().expect("a disk");
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("a file");
        scratch
    }

    /// In both machines /tmp or /dev/shm may be the tmpfs; /dev/shm is one where it exists.
    pub fn in_memory() -> Scratch {
        let dir = ["/dev/shm", "/tmp"].into_iter().map(PathBuf::from).find(|d| d.is_dir()).expect("one of them");
        Scratch(dir.join(format!("scratch-{}", uid())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
