//! A process that takes memory when told: the same program started again with [`HOG`] as its first
//! argument. It moves into its cgroup before it does anything else, and obeys lines on its standard
//! input. On SIGTERM it simply ends, as a program without a handler does.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::slack;

/// The first argument by which a program becomes a hog.
pub const HOG: &str = "hog";
/// Instead of a group: one of a hog's children.
const CHILD: &str = "child";
const PAGE: usize = 4096;
/// Memory is taken in pieces of this size.
const PIECE: usize = 64 * PAGE;
/// While growing at a rate, it looks at the clock so often.
const STEP: Duration = Duration::from_millis(2);

/// To be called first in `main`: becomes the hog and ends with it, if that was asked for.
pub fn be_one_if_asked() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == HOG) {
        if args[2] == CHILD {
            live_for_a_moment();
            std::process::exit(0);
        }
        obey(Path::new(&args[2]));
        std::process::exit(0);
    }
}

/// The hog's side.
fn obey(group: &Path) {
    std::fs::write(group.join("cgroup.procs"), "0").expect("moving into the cgroup");
    let mut memory = Vec::new();
    say("ready");
    for line in stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<u64>().expect("a number");
        match words[0] {
            "grow" => grow(&mut memory, number(1), number(2)),
            "climb" => climb(&mut memory, number(1), number(2), number(3)),
            "shrink" => memory.truncate(usize::try_from(number(1)).expect("fits") / PIECE),
            "write" => write_file(Path::new(words[1]), number(2), 1),
            "dirty" => write_file(Path::new(words[1]), number(2), number(3) >> 20),
            "fork" => fork(number(1), number(2)),
            "read" => read_file(Path::new(words[1])),
            other => panic!("hog: {other}"),
        }
        say("done");
    }
}

fn say(word: &str) {
    println!("{word}");
    let _ = stdout().flush();
}

/// Touches memory until `to` bytes are held, at `rate` bytes a second; 0: as fast as it goes.
pub fn grow(memory: &mut Vec<Vec<u8>>, to: u64, rate: u64) {
    let to = usize::try_from(to).unwrap_or(usize::MAX) / PIECE;
    let (begin, held) = (Instant::now(), memory.len());
    while memory.len() < to {
        if rate > 0 {
            let due = begin.elapsed().as_secs_f64() * rate as f64 / PIECE as f64;
            if (memory.len() - held) as f64 >= due {
                sleep(STEP);
                continue;
            }
        }
        let mut piece = vec![0u8; PIECE];
        piece.iter_mut().step_by(PAGE).for_each(|b| *b = 1);
        memory.push(std::hint::black_box(piece));
    }
}

/// The same in steps: `step` bytes at once, as often as makes that rate.
fn climb(memory: &mut Vec<Vec<u8>>, to: u64, rate: u64, step: u64) {
    let (begin, mut steps) = (Instant::now(), 0);
    while (memory.len() * PIECE) as u64 + step <= to {
        let due = Duration::from_secs_f64((steps * step) as f64 / rate as f64);
        sleep(due.saturating_sub(begin.elapsed()));
        let next = (memory.len() * PIECE) as u64 + step;
        grow(memory, next, 0);
        steps += 1;
    }
}

/// Writes so many bytes, and syncs them `each` so many MiB but for the last.
fn write_file(path: &Path, bytes: u64, each: u64) {
    let mut file = File::create(path).expect("a file");
    let piece = vec![7u8; 1 << 20];
    for written in 1..=bytes >> 20 {
        file.write_all(&piece).expect("room on the disk");
        // A v1 group is not throttled for its dirty pages: too many of them, and it is killed.
        if written % each == 0 && (each == 1 || written < bytes >> 20) {
            file.sync_data().expect("a disk");
        }
    }
}

/// Starts `count` children, `at_once` at a time, and waits for them.
fn fork(count: u64, at_once: u64) {
    let mut running = VecDeque::new();
    for _ in 0..count {
        if running.len() as u64 == at_once {
            running.pop_front().map(|mut child: Child| child.wait());
        }
        let mut child = Command::new("/proc/self/exe");
        child.args([HOG, CHILD]).stdin(Stdio::null()).stdout(Stdio::null());
        running.push_back(child.spawn().expect("starting a child"));
    }
    for mut child in running {
        let _ = child.wait();
    }
}

/// A child's side: a little memory for a little time.
fn live_for_a_moment() {
    let mut memory = Vec::new();
    grow(&mut memory, (PIECE * 2) as u64, 0);
    sleep(Duration::from_millis(10));
}

fn read_file(path: &Path) {
    let mut file = File::open(path).expect("the file");
    let mut piece = vec![0u8; 1 << 20];
    while file.read(&mut piece).expect("reading") > 0 {}
}

/// The other side: a hog that runs in a cgroup.
#[derive(Debug)]
pub struct Hog {
    child: Child,
    orders: ChildStdin,
    words: Receiver<String>,
}

impl Hog {
    /// Starts one in the group at `dir` and waits until it is there.
    pub fn start(dir: &Path) -> Hog {
        let mut child = Command::new("/proc/self/exe")
            .arg(HOG)
            .arg(dir)
            // Ctrl-C is for whoever started it: the terminal sends it to a whole group.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting the hog");
        let orders = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, words) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let hog = Hog { child, orders, words };
        assert!(hog.wait_word(Duration::from_secs(60)), "the hog did not start");
        hog
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it hold `to` bytes, growing at `rate` bytes a second (0: flat out), and waits for that.
    pub fn hold(&mut self, to: u64, rate: u64) {
        self.ramp(to, rate);
        assert!(self.wait_word(Duration::from_secs(300)), "the hog ended while growing");
    }

    /// Has it grow, and does not wait.
    pub fn ramp(&mut self, to: u64, rate: u64) {
        self.order(&format!("grow {to} {rate}"));
    }

    /// Has it grow in steps of `step` bytes, and does not wait.
    pub fn climb(&mut self, to: u64, rate: u64, step: u64) {
        self.order(&format!("climb {to} {rate} {step}"));
    }

    /// Has it give memory back until it holds `to` bytes.
    pub fn shrink(&mut self, to: u64) {
        self.order(&format!("shrink {to}"));
        assert!(self.wait_word(Duration::from_secs(60)), "the hog ended while shrinking");
    }

    /// Has it write a file of `bytes`, whole MiB, to the disk: dirty cache first, clean after.
    pub fn write(&mut self, path: &Path, bytes: u64) {
        self.order(&format!("write {} {bytes}", path.display()));
        assert!(self.wait_word(Duration::from_secs(300)), "the hog ended while writing");
    }

    /// The same for one that may be ended meanwhile.
    pub fn write_if_alive(&mut self, path: &Path, bytes: u64) {
        self.order(&format!("write {} {bytes}", path.display()));
        let _ = self.wait_word(Duration::from_secs(300));
    }

    /// Has it write a file of `bytes`, synced only each `step` bytes and not at the end: dirty cache.
    pub fn write_dirty(&mut self, path: &Path, bytes: u64, step: u64) {
        self.order(&format!("dirty {} {bytes} {step}", path.display()));
        assert!(self.wait_word(Duration::from_secs(300)), "the hog ended while writing");
    }

    /// Has it start `count` children in its group, `at_once` at a time, each for a moment.
    pub fn fork(&mut self, count: u64, at_once: u64) {
        self.order(&format!("fork {count} {at_once}"));
        assert!(self.wait_word(Duration::from_secs(300)), "the hog ended while forking");
    }

    /// Has it read a file: clean cache.
    pub fn read(&mut self, path: &Path) {
        self.order(&format!("read {}", path.display()));
        assert!(self.wait_word(Duration::from_secs(300)), "the hog ended while reading");
    }

    /// The same for one that may be ended meanwhile.
    pub fn read_if_alive(&mut self, path: &Path) {
        self.order(&format!("read {}", path.display()));
        let _ = self.wait_word(Duration::from_secs(300));
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child")
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let begin = Instant::now();
        while begin.elapsed() < within {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            sleep(Duration::from_millis(2));
        }
        None
    }

    fn order(&mut self, line: &str) {
        // A hog that has been killed obeys no more; whoever waits sees it.
        let _ = writeln!(self.orders, "{line}");
    }

    fn wait_word(&self, within: Duration) -> bool {
        self.words.recv_timeout(slack(within)).is_ok()
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
