//! Where the memory controller is mounted, and in which version.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::v1;
use super::version::Version;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// The top directory of the memory controller.
    pub root: PathBuf,
    pub version: Version,
}

#[derive(Debug, Error)]
pub enum HierarchyError {
    #[error(
        "cgroup root {root}: {error}: mount the host's /sys/fs/cgroup there, or name another directory with --cgroup-root"
    )]
    Unreadable { root: String, error: io::Error },
    /// Not a cgroup mount, or one without the memory controller.
    #[error(
        "cgroup root {root}: no memory controller there (neither cgroup.controllers with `memory`, nor a directory `memory` with memory.usage_in_bytes): mount the host's /sys/fs/cgroup there, or name another directory with --cgroup-root"
    )]
    NoMemory { root: String },
}

impl Hierarchy {
    /// Finds the memory controller below `root`: v2, v1, or v1 on a hybrid host. `root` is the host's `/sys/fs/cgroup`
    /// or a controller's own mount.
    ///
    /// # Errors
    /// When there is none.
    pub fn detect(root: &Path) -> Result<Hierarchy, HierarchyError> {
        let shown = || root.display().to_string();
        let entries = std::fs::read_dir(root).map_err(|error| HierarchyError::Unreadable { root: shown(), error })?;
        let found = |root: &Path, version| Ok(Hierarchy { root: root.to_owned(), version });
        if has_memory_controller(root) {
            return found(root, Version::V2);
        }
        if root.join(v1::FILES.usage).exists() {
            return found(root, Version::V1);
        }
        // `memory`, or co-mounted controllers as in `memory,hugetlb`.
        for entry in entries.flatten() {
            let name = entry.file_name();
            let named_memory = name.to_string_lossy().split(',').any(|n| n == "memory");
            if named_memory && entry.path().join(v1::FILES.usage).exists() {
                return found(&entry.path(), Version::V1);
            }
        }
        let unified = root.join("unified");
        if has_memory_controller(&unified) {
            return found(&unified, Version::V2);
        }
        Err(HierarchyError::NoMemory { root: shown() })
    }
}

pub(super) fn has_memory_controller(dir: &Path) -> bool {
    std::fs::read_to_string(dir.join("cgroup.controllers"))
        .is_ok_and(|list| list.split_whitespace().any(|c| c == "memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let detect = || Hierarchy::detect(root.path()).map(|h| (h.root, h.version));
        assert!(matches!(detect(), Err(HierarchyError::NoMemory { .. })));
        write("unified/cgroup.controllers", "\n");
        assert!(detect().is_err(), "a hybrid host's v2 has no memory");
        write("memory,hugetlb/memory.usage_in_bytes", "1\n");
        assert_eq!(detect().unwrap(), (root.path().join("memory,hugetlb"), Version::V1));
        let own = Hierarchy::detect(&root.path().join("memory,hugetlb")).unwrap();
        assert_eq!(own.version, Version::V1);
        write("cgroup.controllers", "cpuset cpu io memory pids\n");
        assert_eq!(detect().unwrap(), (root.path().to_owned(), Version::V2));
        let missing = Hierarchy::detect(&root.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("--cgroup-root"));
    }
}
