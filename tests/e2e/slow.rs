//! Files that take their time to be read, as `memory.stat` of a large group can: a file system of our own in this process
//! (FUSE, protocol 7.31 of linux/fuse.h), to which a simulated group's file is a link.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
/// Each read comes to us; the page cache would answer all but the first.
const DIRECT_IO: u32 = 1;
/// The node of the root; the first file's is the next.
const ROOT: u64 = 1;
/// Names and sizes do not change, in seconds.
const VALID: u64 = 3600;
/// The kernel wants room for its largest request, though none that is as large is ever sent here.
const LARGEST: usize = 256 * 1024;

/// Unmounted when dropped.
pub struct SlowFiles {
    dir: tempfile::TempDir,
    /// Files that others cover.
    covered: RefCell<Vec<PathBuf>>,
}

impl SlowFiles {
    /// Files named `0`, `1`, … with this content, each read of which takes so long.
    pub fn mount(content: &str, takes: Vec<Duration>) -> SlowFiles {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.expect("this test mounts a FUSE file system: it needs /dev/fuse");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("slow-files"), dir.path(), Some("fuse"), flags, Some(options.as_str())).expect("root may mount it");
        let files = Arc::new(Files { content: content.as_bytes().to_vec(), takes });
        std::thread::spawn(move || files.serve(&Arc::new(device)));
        SlowFiles { dir, covered: RefCell::default() }
    }

    /// From now on the file at this path is the slow one of that number.
    pub fn stands_for(&self, number: usize, path: &Path) {
        std::fs::remove_file(path).expect("it was there");
        std::os::unix::fs::symlink(self.dir.path().join(number.to_string()), path).expect("a link");
    }
}

impl SlowFiles {
    /// The same for a file of a real group, which cannot be replaced: it is covered by a mount.
    pub fn covers(&self, number: usize, path: &Path) {
        let file = self.dir.path().join(number.to_string());
        mount(Some(&file), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("root may mount it");
        self.covered.borrow_mut().push(path.to_owned());
    }
}

impl Drop for SlowFiles {
    fn drop(&mut self) {
        for path in self.covered.borrow().iter() {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
        // Whoever still has one of them open keeps it until then.
        let _ = umount2(self.dir.path(), MntFlags::MNT_DETACH);
    }
}

struct Files {
    content: Vec<u8>,
    takes: Vec<Duration>,
}

impl Files {
    /// Answers the kernel until nothing is left of the mount.
    fn serve(&self, device: &Arc<File>) {
        let mut buffer = vec![0; LARGEST];
        while let Ok(length) = (&**device).read(&mut buffer) {
            let request = &buffer[..length];
            let (operation, unique, node) = (number(request, 4) as u32, number(request, 8), number(request, 16));
            let reply = match operation {
                INIT => Ok(words(&[(7, 4), (31, 4), (0, 4), (0, 4), (0, 4), (1 << 17, 4), (1, 4)], 64)),
                LOOKUP => {
                    let name = request[40..].split(|b| *b == 0).next().and_then(|name| std::str::from_utf8(name).ok());
                    let node = name.and_then(|name| name.parse::<u64>().ok()).map(|n| n + ROOT + 1);
                    let found = node.and_then(|node| Some((node, self.attributes(node)?)));
                    found
                        .map(|(node, attributes)| {
                            let head = words(&[(node, 8), (0, 8), (VALID, 8), (VALID, 8), (0, 8)], 40);
                            [head, attributes].concat()
                        })
                        .ok_or(Errno::ENOENT)
                }
                GETATTR => {
                    let attributes = self.attributes(node).ok_or(Errno::ENOENT);
                    attributes.map(|attributes| [words(&[(VALID, 8), (0, 8)], 16), attributes].concat())
                }
                OPEN => Ok(words(&[(0, 8), (DIRECT_IO.into(), 4), (0, 4)], 16)),
                READ => {
                    let from = (number(request, 48) as usize).min(self.content.len());
                    let (content, device) = (self.content[from..].to_vec(), Arc::clone(device));
                    let takes = self.file(node).unwrap_or_default();
                    // Others are read meanwhile.
                    std::thread::spawn(move || {
                        std::thread::sleep(takes);
                        answer(&device, unique, Ok(content));
                    });
                    continue;
                }
                RELEASE => Ok(Vec::new()),
                FORGET | BATCH_FORGET | INTERRUPT => continue, // take no answer
                _ => Err(Errno::ENOSYS),
            };
            answer(device, unique, reply);
        }
    }

    /// As `struct fuse_attr`.
    fn attributes(&self, node: u64) -> Option<Vec<u8>> {
        let (mode, size) = match (node, self.file(node)) {
            (ROOT, _) => (0o040_755, 0),
            (_, Some(_)) => (0o100_444, self.content.len() as u64),
            _ => return None,
        };
        let times = (0, 8);
        let nlink = (1, 4);
        Some(words(&[(node, 8), (size, 8), (1, 8), times, times, times, (0, 8), (0, 4), (mode, 4), nlink], 88))
    }

    fn file(&self, node: u64) -> Option<Duration> {
        self.takes.get(usize::try_from(node.checked_sub(ROOT + 1)?).ok()?).copied()
    }
}

/// The eight bytes from there on; with a cast, the first four of them.
fn number(request: &[u8], at: usize) -> u64 {
    request.get(at..at + 8).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().expect("eight")))
}

/// Numbers of so many bytes each, as little-endian machines have them, and zeroes up to a length.
fn words(numbers: &[(u64, usize)], length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|(n, size)| n.to_le_bytes()[..*size].to_vec()).collect();
    bytes.resize(length, 0);
    bytes
}

fn answer(mut device: &File, unique: u64, reply: Result<Vec<u8>, Errno>) {
    let (error, body) = match reply {
        Ok(body) => (0, body),
        Err(errno) => (-(errno as i32), Vec::new()),
    };
    let mut bytes = Vec::from((16 + body.len() as u32).to_ne_bytes());
    bytes.extend(error.to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend(body);
    // Whoever asked may be gone.
    let _ = device.write(&bytes);
}
