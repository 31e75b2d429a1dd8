//! Real memory cgroups, laid out as kubelet with the cgroupfs driver lays them out, or a simulated
//! tree of regular files where none can be made. All of it is removed when dropped.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where the kernel's hierarchies are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Which kernel interface a tree has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// cgroup v1's memory controller.
    V1,
    /// The unified hierarchy.
    V2,
    /// Regular files with the names of v2.
    Simulated,
}

impl Hierarchy {
    /// `v1`, `v2` or `simulated`.
    pub fn as_str(self) -> &'static str {
        match self {
            Hierarchy::V1 => "v1",
            Hierarchy::V2 => "v2",
            Hierarchy::Simulated => "simulated",
        }
    }

    fn usage_file(self) -> &'static str {
        match self {
            Hierarchy::V1 => "memory.usage_in_bytes",
            Hierarchy::V2 | Hierarchy::Simulated => "memory.current",
        }
    }

    fn limit_file(self) -> &'static str {
        match self {
            Hierarchy::V1 => "memory.limit_in_bytes",
            Hierarchy::V2 | Hierarchy::Simulated => "memory.max",
        }
    }
}

/// A top directory of its own with `kubepods` below it.
#[derive(Debug)]
pub struct Tree {
    hierarchy: Hierarchy,
    /// What an agent is given as its cgroup root.
    root: PathBuf,
    /// Ours, to be removed.
    top: PathBuf,
}

impl Tree {
    /// Makes groups of this machine's memory controller.
    ///
    /// # Errors
    /// In words: what is missing, and what would be needed.
    pub fn real() -> Result<Tree, String> {
        let mount = Path::new(MOUNT);
        let unified = fs::read_to_string(mount.join("cgroup.controllers"));
        let (hierarchy, parent) = match unified {
            Ok(list) if list.split_whitespace().any(|c| c == "memory") => (Hierarchy::V2, mount.to_owned()),
            _ if mount.join("memory/memory.usage_in_bytes").exists() => (Hierarchy::V1, mount.join("memory")),
            _ => return Err(format!("no memory controller is mounted at {MOUNT}")),
        };
        if hierarchy == Hierarchy::V2 {
            enable_memory(&parent).map_err(|e| {
                format!("the memory controller cannot be enabled below {MOUNT} ({e}): this needs root, and a writable cgroup mount")
            })?;
        }
        let top = parent.join(unique_name());
        fs::create_dir(&top).map_err(|e| {
            format!(
                "no memory cgroup can be made at {} ({e}): this needs root, and a writable cgroup mount",
                top.display()
            )
        })?;
        let tree = Tree { hierarchy, root: mount.to_owned(), top };
        tree.level(&tree.top.join("kubepods")).map_err(|e| format!("{}: {e}", tree.top.display()))?;
        Ok(tree)
    }

    /// Makes a tree of regular files that whoever calls fills in.
    pub fn simulated() -> Tree {
        let top = std::env::temp_dir().join(unique_name());
        let tree = Tree { hierarchy: Hierarchy::Simulated, root: top.clone(), top };
        fs::create_dir(&tree.top).expect("a directory in the temporary one");
        fs::write(tree.top.join("cgroup.controllers"), "cpu memory pids\n").expect("a file there");
        tree.level(&tree.top.join("kubepods")).expect("a directory there");
        tree
    }

    /// What an agent is given as `--cgroup-root`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Which kernel interface it has.
    pub fn hierarchy(&self) -> Hierarchy {
        self.hierarchy
    }

    /// The `kubepods` group.
    pub fn kubepods(&self) -> Group {
        Group { dir: self.top.join("kubepods"), hierarchy: self.hierarchy }
    }

    /// The group of a burstable pod; made on first use.
    pub fn pod(&self, uid: &str) -> Group {
        let quality = self.top.join("kubepods/burstable");
        let dir = quality.join(format!("pod{uid}"));
        for level in [&quality, &dir] {
            self.level(level).unwrap_or_else(|e| panic!("{}: {e}", level.display()));
        }
        Group { dir, hierarchy: self.hierarchy }
    }

    /// The group of a container in it; made on first use.
    pub fn container(&self, uid: &str, id: &str) -> Group {
        let dir = self.pod(uid).dir.join(id);
        make(&dir, self.hierarchy).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        Group { dir, hierarchy: self.hierarchy }
    }

    /// A group that has groups below.
    fn level(&self, dir: &Path) -> io::Result<()> {
        make(dir, self.hierarchy)?;
        match self.hierarchy {
            Hierarchy::V2 => {
                enable_memory(&self.top)?;
                enable_memory(dir)
            }
            Hierarchy::V1 | Hierarchy::Simulated => Ok(()),
        }
    }
}

/// Makes a group, if it is not there.
fn make(dir: &Path, hierarchy: Hierarchy) -> io::Result<()> {
    if dir.exists() {
        return Ok(());
    }
    fs::create_dir(dir)?;
    if hierarchy == Hierarchy::Simulated {
        for (name, text) in [
            ("memory.current", "0\n"),
            ("memory.max", "max\n"),
            ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"),
            ("memory.stat", ""),
            ("cgroup.procs", ""),
        ] {
            fs::write(dir.join(name), text)?;
        }
        Group { dir: dir.to_owned(), hierarchy }.simulate(0, 0);
    }
    Ok(())
}

impl Drop for Tree {
    fn drop(&mut self) {
        if self.hierarchy == Hierarchy::Simulated {
            let _ = fs::remove_dir_all(&self.top);
            return;
        }
        // A killed process leaves its group a moment later.
        for _ in 0..200 {
            for pid in processes_below(&self.top) {
                let _ = kill(pid, Signal::SIGKILL);
            }
            if remove_groups(&self.top).is_ok() {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        eprintln!("could not remove {}", self.top.display());
    }
}

/// One group of a [`Tree`].
#[derive(Clone, Debug)]
pub struct Group {
    dir: PathBuf,
    hierarchy: Hierarchy,
}

impl Group {
    /// The group at this directory; `None` if there is none that has a limit.
    pub(crate) fn at(dir: &Path) -> Option<Group> {
        let hierarchies = [Hierarchy::V1, if dir.starts_with(MOUNT) { Hierarchy::V2 } else { Hierarchy::Simulated }];
        let hierarchy = hierarchies.into_iter().find(|one| dir.join(one.limit_file()).exists())?;
        Some(Group { dir: dir.to_owned(), hierarchy })
    }

    /// Makes a group of this name beside it.
    pub(crate) fn beside(&self, name: &str) -> io::Result<Group> {
        let dir = self.dir.with_file_name(name);
        make(&dir, self.hierarchy)?;
        Ok(Group { dir, hierarchy: self.hierarchy })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sets its limit in bytes; `None`: no limit.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn set_limit(&self, limit: Option<u64>) {
        self.try_set_limit(limit).unwrap_or_else(|e| panic!("{}: {e}", self.dir.display()));
    }

    /// Sets its limit, unless the kernel refuses it: cgroup v1 does so where more is in use and cannot be freed.
    pub(crate) fn try_set_limit(&self, limit: Option<u64>) -> io::Result<()> {
        let text = match (limit, self.hierarchy) {
            (Some(bytes), _) => bytes.to_string(),
            (None, Hierarchy::V1) => "-1".into(),
            (None, _) => "max".into(),
        };
        // Alone, not truncated first: the kernel takes one write, and a reader of a simulated file
        // never finds it empty.
        self.try_write(self.hierarchy.limit_file(), &format!("{text}\n"))?;
        if self.hierarchy == Hierarchy::V2 {
            let swap = self.dir.join("memory.swap.max");
            if swap.exists() {
                self.try_write("memory.swap.max", "0\n")?;
            }
        }
        Ok(())
    }

    /// What is charged to it, in bytes; `None` if it is gone.
    pub fn usage(&self) -> Option<u64> {
        self.number(self.hierarchy.usage_file())
    }

    /// Its limit in bytes; `None`: no limit, or gone.
    pub fn limit(&self) -> Option<u64> {
        self.number(self.hierarchy.limit_file())
    }

    /// How many of its processes the kernel killed for lack of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = match self.hierarchy {
            Hierarchy::V1 => "memory.oom_control",
            Hierarchy::V2 | Hierarchy::Simulated => "memory.events",
        };
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("oom_kill "));
        line.and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// Sets what a simulated group says: usage, and of it inactive file cache.
    pub fn simulate(&self, usage: u64, inactive_file: u64) {
        assert_eq!(self.hierarchy, Hierarchy::Simulated);
        // Of one length each time, so that one write replaces the whole.
        self.write(
            "memory.stat",
            &format!(
                "file_dirty 0\nfile_writeback 0\ninactive_file {inactive_file:020}\nactive_file 0\nslab_reclaimable 0\n"
            ),
        );
        self.write("memory.current", &format!("{usage:020}\n"));
    }

    /// Removes it, when its processes have ended.
    pub fn remove(&self) {
        for _ in 0..200 {
            if self.try_remove() {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("could not remove {}", self.dir.display());
    }

    /// Removes it, if nothing runs in it; whether it is gone.
    pub(crate) fn try_remove(&self) -> bool {
        if self.hierarchy == Hierarchy::Simulated {
            let _ = fs::remove_dir_all(&self.dir);
        }
        !self.dir.exists() || remove_groups(&self.dir).is_ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }

    fn write(&self, file: &str, text: &str) {
        self.try_write(file, text).unwrap_or_else(|e| panic!("{}: {e}", self.dir.join(file).display()));
    }

    fn try_write(&self, file: &str, text: &str) -> io::Result<()> {
        let path = self.dir.join(file);
        if self.hierarchy == Hierarchy::Simulated {
            fs::OpenOptions::new().write(true).open(&path).and_then(|f| {
                f.write_all_at(text.as_bytes(), 0)?;
                f.set_len(text.len() as u64)
            })
        } else {
            fs::OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(text.as_bytes()))
        }
    }
}

/// Two agents' tests at once never share a group.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("pre-oom-killer-{}-{n}", std::process::id())
}

fn enable_memory(dir: &Path) -> io::Result<()> {
    let file = dir.join("cgroup.subtree_control");
    if fs::read_to_string(&file)?.split_whitespace().any(|c| c == "memory") {
        return Ok(());
    }
    fs::write(file, "+memory")
}

fn processes_below(dir: &Path) -> Vec<Pid> {
    let mut all: Vec<Pid> = (fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines())
        .filter_map(|l| l.parse().ok().map(Pid::from_raw))
        .collect();
    for child in children(dir) {
        all.extend(processes_below(&child));
    }
    all
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

/// Removes a group and those below; cgroups are removed by rmdir alone.
fn remove_groups(dir: &Path) -> io::Result<()> {
    for child in children(dir) {
        remove_groups(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
