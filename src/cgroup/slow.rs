//! Reads `memory.stat` so that a slow file holds up nobody. The kernel gathers per-CPU counters of all groups below for
//! it, which has been seen to take seconds on a large or busy machine.
//!
//! Once a file was slow, another thread reads it. Until that read ends, callers get the last reading and its time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::ReadError;
use super::group::Group;
use super::pace::{ForPeople, Found, StatPace, StatRead, StatResult};
use crate::ground::clock::Moment;

/// More threads would only wait for the same kernel locks.
const MOST_THREADS: usize = 4;
/// The most groups that wait to be read. Others are queued at their next sample. A node of 250 pods has about 1,000.
const QUEUE: usize = 1024;
/// How long [`StatReader::read_first`] waits for all groups that were found together.
const FIRST_READS: Duration = Duration::from_millis(50);
/// How long a first read waits behind slow ones. After that it is done in place.
const TURN: Duration = Duration::from_secs(1);
/// A read needs a buffer of 16 KiB, and little else.
const STACK: usize = 256 * 1024;

/// `wanted`: with the breakdown, for people.
fn read_all_three(group: &Group, wanted: bool) -> StatResult {
    let Some(before) = group.usage()? else { return Ok(None) };
    let Some((stat, breakdown)) = group.stat_and_breakdown(wanted)? else { return Ok(None) };
    Ok(group.usage()?.map(|after| Found { before, stat, after, breakdown }))
}

fn pace(group: &Group) -> MutexGuard<'_, StatPace> {
    // A thread that panicked left a complete value.
    group.pace.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads `memory.stat` of groups. Clones share the threads that read the slow ones.
#[derive(Clone, Debug)]
pub struct StatReader {
    pool: Arc<Pool>,
}

impl Default for StatReader {
    fn default() -> StatReader {
        StatReader::new()
    }
}

impl StatReader {
    /// A reader without any thread yet.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a stopwatch for the threads, which outlive whoever has asked")]
    pub fn new() -> StatReader {
        let start = Instant::now();
        StatReader::of(read_all_three, move || Instant::now() - start)
    }

    /// A reader with its own read function, and a clock for its threads; for tests.
    fn of(
        read: impl Fn(&Group, bool) -> StatResult + Send + Sync + 'static,
        clock: impl Fn() -> Moment + Send + Sync + 'static,
    ) -> StatReader {
        let shared = Shared {
            read: Box::new(read),
            clock: Box::new(clock),
            queue: Mutex::default(),
            queued: Condvar::new(),
            ended: Condvar::new(),
        };
        StatReader { pool: Arc::new(Pool(Arc::new(shared))) }
    }

    /// Reads a group's stat now, with usage before and after it. If the file is slow, this queues a read and answers
    /// with the last result. `now` returns the time.
    ///
    /// # Errors
    /// When a file could not be read or is malformed: in this read or, for a slow file, in the last one.
    pub fn read(
        &self,
        group: &Arc<Group>,
        now: &dyn Fn() -> Moment,
        people: &mut ForPeople,
    ) -> Result<StatRead, ReadError> {
        let mut known = pace(group);
        if !known.is_slow {
            if known.asked {
                if now() < known.not_before {
                    return known.answer(people);
                }
                drop(known);
                let waits = self.pool.0.let_go(group);
                known = pace(group);
                if !waits {
                    // The read has begun meanwhile, or ended.
                    known.is_slow |= known.asked;
                    return known.answer(people);
                }
                known.asked = false;
            }
            if known.is_paced(now()) {
                return known.answer(people);
            }
            let wanted = people.wanted || known.is_needed_again();
            drop(known);
            let from = now();
            let found = (self.pool.0.read)(group, wanted);
            if let Ok(Some(Found { breakdown: Some(breakdown), .. })) = &found
                && people.wanted
            {
                people.found = Some((from, *breakdown));
            }
            return pace(group).ended_in_place(from, now(), found, people);
        }
        let at = now();
        let is_gone = matches!(known.last.as_deref(), Some(Ok(None)));
        if !known.asked && !is_gone && at >= known.not_before {
            known.asked = true;
            drop(known);
            let taken = self.pool.0.ask(Job { group: Arc::clone(group), at, first: None });
            known = pace(group);
            known.asked &= taken;
        }
        known.answer(people)
    }

    /// Reads groups for the first time, so that a file which is slow from the start is known before anybody waits for
    /// it. Returns when all are read, or after 50 ms. A file whose read has begun by then and has not ended is slow. A
    /// read that has not begun stays queued.
    pub fn read_first<'a>(&self, groups: impl IntoIterator<Item = &'a Arc<Group>>, now: &dyn Fn() -> Moment) {
        let mut asked = Vec::new();
        let first = self.pool.0.next_firsts();
        for group in groups {
            let mut known = pace(group);
            if known.was_read || known.asked {
                continue;
            }
            let at = now();
            known.asked = true;
            known.took = FIRST_READS;
            known.not_before = at + TURN;
            drop(known);
            if self.pool.0.ask(Job { group: Arc::clone(group), at, first: Some(first) }) {
                asked.push(group);
            } else {
                pace(group).asked = false;
            }
        }
        self.pool.0.wait_for_first(FIRST_READS);
        for group in asked {
            // A read that is still queued says nothing about its file.
            let waits = self.pool.0.waits(group);
            let mut known = pace(group);
            known.is_slow |= !waits && !known.was_read;
            known.forget();
        }
    }
}

/// Ends the threads when the last reader is dropped.
struct Pool(Arc<Shared>);

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.queued.notify_all();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

struct Job {
    group: Arc<Group>,
    /// When the read was requested, by the requester's clock.
    at: Moment,
    /// The number of its batch of first reads.
    first: Option<u64>,
}

#[derive(Default)]
struct Queue {
    /// Each with the time by the threads' own clock.
    jobs: VecDeque<(Job, Moment)>,
    threads: usize,
    idle: usize,
    /// The number of batches of first reads so far.
    firsts: u64,
    /// How many reads of the last batch are queued or have begun.
    first: usize,
    closed: bool,
}

/// Reads a group; with the breakdown, if that is wanted.
type ReadStat = dyn Fn(&Group, bool) -> StatResult + Send + Sync;

struct Shared {
    read: Box<ReadStat>,
    clock: Box<dyn Fn() -> Moment + Send + Sync>,
    queue: Mutex<Queue>,
    queued: Condvar,
    ended: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a read, and starts a thread if none is idle; `false` if the queue is full, or no thread can be started.
    fn ask(self: &Arc<Shared>, job: Job) -> bool {
        let mut queue = self.lock();
        if queue.jobs.len() >= QUEUE {
            return false;
        }
        if queue.idle <= queue.jobs.len() && queue.threads < MOST_THREADS {
            let shared = Arc::clone(self);
            let name = "memory.stat".into();
            let started = std::thread::Builder::new().name(name).stack_size(STACK).spawn(move || shared.turn());
            queue.threads += usize::from(started.is_ok());
        }
        if queue.threads == 0 {
            return false;
        }
        queue.first += usize::from(job.first.is_some());
        queue.jobs.push_back((job, (self.clock)()));
        drop(queue);
        self.queued.notify_one();
        true
    }

    fn turn(&self) {
        loop {
            let mut queue = self.lock();
            let (job, queued) = loop {
                if queue.closed {
                    queue.threads -= 1;
                    return;
                }
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                queue.idle += 1;
                queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
            };
            drop(queue);
            let at = || job.at + (self.clock)().saturating_sub(queued);
            let from = at();
            // Whoever wants the breakdown asks later.
            let found = (self.read)(&job.group, true);
            let mut known = pace(&job.group);
            known.ended(from, at(), found);
            known.asked = false;
            drop(known);
            let mut queue = self.lock();
            if job.first == Some(queue.firsts) {
                queue.first = queue.first.saturating_sub(1);
                self.ended.notify_all();
            }
        }
    }

    fn next_firsts(&self) -> u64 {
        let mut queue = self.lock();
        queue.firsts += 1;
        queue.first = 0;
        queue.firsts
    }

    fn wait_for_first(&self, within: Duration) {
        drop(self.ended.wait_timeout_while(self.lock(), within, |queue| queue.first > 0));
    }

    /// Whether a group is still queued.
    fn waits(&self, group: &Arc<Group>) -> bool {
        self.lock().jobs.iter().any(|(job, _)| Arc::ptr_eq(&job.group, group))
    }

    /// Takes a group out of the queue; `false` if it was no longer there.
    fn let_go(&self, group: &Arc<Group>) -> bool {
        let mut queue = self.lock();
        let at = queue.jobs.iter().position(|(job, _)| Arc::ptr_eq(&job.group, group));
        at.and_then(|at| queue.jobs.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Reading;
    use crate::cgroup::{Machine, Malformed, ReadErrorKind, Version};
    use crate::ground::memory::{Breakdown, Stat};
    use crate::ground::units::Bytes;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc::{Receiver, Sender, channel};

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A group whose files take as long as is said, by a clock that stands still otherwise.
    struct Rig {
        reader: StatReader,
        clock: Arc<AtomicU64>,
        takes: Arc<AtomicU64>,
        reads: Arc<AtomicUsize>,
        what: Arc<Mutex<fn() -> StatResult>>,
        threads: Arc<Mutex<Vec<std::thread::ThreadId>>>,
        _dir: tempfile::TempDir,
        group: Arc<Group>,
    }

    fn group() -> (tempfile::TempDir, Arc<Group>) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["memory.current", "memory.max", "memory.stat"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let group = Group::open(dir.path(), Version::V2, &Machine::without_swap()).unwrap().unwrap();
        (dir, Arc::new(group))
    }

    fn some() -> StatResult {
        Ok(Some(Found { before: Bytes(9), stat: Stat::default(), after: Bytes(7), breakdown: None }))
    }

    impl Rig {
        fn new() -> Rig {
            let (clock, takes) = (Arc::new(AtomicU64::new(1000)), Arc::new(AtomicU64::new(0)));
            let (reads, what) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(some as fn() -> StatResult)));
            let threads = Arc::new(Mutex::new(Vec::new()));
            let (c, t, r, w, ids) = (clock.clone(), takes.clone(), reads.clone(), what.clone(), threads.clone());
            let read = move |_: &Group, wanted: bool| {
                ids.lock().unwrap().push(std::thread::current().id());
                c.fetch_add(t.load(SeqCst), SeqCst);
                r.fetch_add(1, SeqCst);
                let found = (w.lock().unwrap())();
                // Each read finds another one.
                let breakdown =
                    wanted.then(|| Breakdown { anonymous: Bytes(r.load(SeqCst) as u64), ..Breakdown::default() });
                found.map(|found| found.map(|found| Found { breakdown, ..found }))
            };
            let c = clock.clone();
            let reader = StatReader::of(read, move || ms(c.load(SeqCst)));
            let (_dir, group) = group();
            Rig { reader, clock, takes, reads, what, threads, _dir, group }
        }

        /// One read, and where it was done: the reading, and whether another thread was at it meanwhile.
        fn read(&self) -> Result<StatRead, ReadError> {
            self.read_for(&mut ForPeople::default())
        }

        fn read_for(&self, people: &mut ForPeople) -> Result<StatRead, ReadError> {
            let clock = self.clock.clone();
            self.reader.read(&self.group, &|| ms(clock.load(SeqCst)), people)
        }

        /// When that was read which people are told now, and by which of the reads.
        fn told(&self) -> Option<(Moment, u64)> {
            let mut people = ForPeople { wanted: true, found: None };
            self.read_for(&mut people).unwrap();
            people.found.map(|(at, breakdown)| (at, breakdown.anonymous.0))
        }

        fn settled(&self) {
            while pace(&self.group).asked {
                std::thread::yield_now();
            }
        }

        fn reading(&self) -> Reading {
            match self.read().unwrap() {
                StatRead::Read(reading) => reading,
                other => panic!("{other:?}"),
            }
        }

        fn pass(&self, millis: u64) {
            self.clock.fetch_add(millis, SeqCst);
        }

        fn takes(&self, millis: u64) {
            self.takes.store(millis, SeqCst);
        }

        fn in_place(&self) -> bool {
            *self.threads.lock().unwrap().last().unwrap() == std::thread::current().id()
        }
    }

    #[test]
    fn a_quick_file_is_read_in_place_each_time() {
        let rig = Rig::new();
        rig.takes(3);
        let reading = rig.reading();
        assert_eq!((reading.least_usage, reading.most_usage), (Bytes(7), Bytes(9)));
        assert_eq!((reading.from, reading.until, reading.took), (ms(1000), ms(1003), ms(3)));
        rig.takes(0);
        (0..9).for_each(|_| {
            rig.reading();
        });
        assert!(rig.in_place());
        assert_eq!((rig.reads.load(SeqCst), rig.group.slow_for()), (10, None), "one long read means nothing");
    }

    /// Its reads take at most a tenth of the time, still in place; what was read last has to do meanwhile.
    #[test]
    fn a_file_that_takes_milliseconds_is_read_no_more_often_than_ten_of_its_times() {
        let rig = Rig::new();
        rig.takes(3);
        rig.reading();
        rig.reading();
        let begun = (rig.reads.load(SeqCst), rig.clock.load(SeqCst));
        for _ in 0..200 {
            rig.pass(5);
            rig.reading();
        }
        let (reads, passed) = (rig.reads.load(SeqCst) - begun.0, rig.clock.load(SeqCst) - begun.1);
        assert!(rig.in_place() && rig.group.slow_for().is_none());
        assert!(reads * 3 * 10 <= passed as usize && reads * 40 >= passed as usize, "{reads} in {passed} ms");
    }

    #[test]
    fn a_file_that_was_slow_once_is_read_by_another_thread_and_no_more_often_than_ten_of_its_times() {
        let rig = Rig::new();
        rig.takes(100);
        assert_eq!(rig.reading().took, ms(100), "the first time nobody knows");
        assert_eq!(rig.group.slow_for(), Some(ms(100)));
        for _ in 0..10 {
            rig.pass(99);
            assert_eq!(rig.reading().from, ms(1000), "what was read last");
        }
        assert_eq!(rig.reads.load(SeqCst), 1);
        rig.pass(10);
        let before = rig.clock.load(SeqCst);
        rig.read().unwrap();
        rig.settled();
        assert!(!rig.in_place());
        assert_eq!(rig.reading().from, ms(before));
        assert_eq!(rig.reads.load(SeqCst), 2, "asked for once");
    }

    #[test]
    fn a_file_is_slow_that_took_20_ms_twice_in_a_row_not_once() {
        let rig = Rig::new();
        for _ in 0..5 {
            for (takes, slow) in [(99, false), (19, false)] {
                rig.takes(takes);
                rig.pass(1_000);
                rig.reading();
                assert_eq!(rig.group.slow_for().is_some(), slow);
            }
        }
        for expected in [None, Some(ms(20))] {
            rig.takes(20);
            rig.pass(1_000);
            rig.reading();
            assert_eq!(rig.group.slow_for(), expected);
        }
    }

    #[test]
    fn a_file_that_is_quick_again_is_read_in_place_again() {
        let rig = Rig::new();
        rig.takes(100);
        rig.reading();
        for takes in [1, 1, 20, 1, 1, 1, 1, 1] {
            assert!(rig.group.slow_for().is_some());
            rig.pass(10_000);
            rig.takes(takes);
            rig.reading();
            rig.settled();
            assert!(!rig.in_place());
        }
        assert_eq!(rig.group.slow_for(), None);
        rig.pass(10_000);
        rig.reading();
        assert!(rig.in_place());
    }

    /// A read that is made anyway tells it, also one that another thread makes; none is made for it alone.
    #[test]
    fn people_are_told_from_the_reads_that_are_made_anyway() {
        let rig = Rig::new();
        assert_eq!(rig.told(), Some((ms(1000), 1)));
        let mut people = ForPeople::default();
        rig.read_for(&mut people).unwrap();
        assert_eq!((people.found, pace(&rig.group).breakdown.is_some()), (None, false), "it is not wanted, nor kept");
        rig.takes(100);
        rig.reading();
        assert_eq!(rig.group.slow_for(), Some(ms(100)));
        rig.pass(1_000);
        rig.read().unwrap();
        rig.settled();
        let (reads, from) = (rig.reads.load(SeqCst), rig.reading().from);
        assert!(!rig.in_place());
        assert_eq!((rig.told(), rig.told()), (Some((from, reads as u64)), Some((from, reads as u64))));
        assert_eq!(rig.reads.load(SeqCst), reads);
    }

    /// The first read is made by a thread, and the first sample may come too soon after it for another one.
    #[test]
    fn people_are_told_from_the_first_read() {
        let rig = Rig::new();
        rig.takes(1);
        rig.reader.read_first([&rig.group], &|| ms(1000));
        rig.settled();
        assert_eq!((rig.told().map(|(_, read)| read), rig.reads.load(SeqCst)), (Some(1), 1));
        rig.pass(100);
        rig.reading();
        assert_eq!(rig.reads.load(SeqCst), 2);
        // Twice a millisecond is costly: the next sample is answered with what was read, and so are people.
        assert_eq!((rig.told().map(|(_, read)| read), rig.reads.load(SeqCst)), (Some(2), 2));
    }

    #[test]
    fn gone_and_errors_of_a_slow_file_are_answered_until_it_is_read_again() {
        let rig = Rig::new();
        rig.takes(100);
        rig.reading();
        let next = |what: fn() -> StatResult| {
            *rig.what.lock().unwrap() = what;
            rig.pass(10_000);
            let _ = rig.read();
            rig.settled();
        };
        let malformed =
            || Err(ReadError { path: "x".into(), what: ReadErrorKind::Malformed(Malformed::MissingField("f")) });
        next(malformed);
        for _ in 0..2 {
            assert_eq!(rig.read().unwrap_err().to_string(), malformed().unwrap_err().to_string());
        }
        next(|| Err(ReadError { path: "x".into(), what: std::io::Error::from_raw_os_error(5).into() }));
        assert!(rig.read().unwrap_err().to_string().contains("Input/output error"));
        next(some);
        rig.reading();
        next(|| Ok(None));
        assert_eq!(rig.read().unwrap(), StatRead::Gone);
        let reads = rig.reads.load(SeqCst);
        rig.pass(100_000);
        assert_eq!(rig.read().unwrap(), StatRead::Gone);
        rig.settled();
        assert_eq!(rig.reads.load(SeqCst), reads, "what is gone is not read again");
    }

    /// A reader whose reads of the groups so named end when they are let go.
    fn stuck() -> (StatReader, Arc<AtomicUsize>, Sender<()>) {
        let (go, wait): (Sender<()>, Receiver<()>) = channel();
        let (wait, begun) = (Mutex::new(wait), Arc::new(AtomicUsize::new(0)));
        let count = begun.clone();
        let read = move |group: &Group, _: bool| {
            if group.version == Version::V1 {
                return some();
            }
            count.fetch_add(1, SeqCst);
            // Those that wait for the lock are stuck as well.
            let _ = wait.lock().unwrap().recv();
            some()
        };
        let start = std::time::Duration::ZERO;
        (StatReader::of(read, move || start), begun, go)
    }

    fn quick() -> (tempfile::TempDir, Arc<Group>) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["memory.usage_in_bytes", "memory.limit_in_bytes", "memory.stat"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let group = Group::open(dir.path(), Version::V1, &Machine::without_swap()).unwrap().unwrap();
        (dir, Arc::new(group))
    }

    #[expect(clippy::disallowed_methods, reason = "a test measures time")]
    fn timed(what: impl FnOnce()) -> Duration {
        let begin = Instant::now();
        what();
        begin.elapsed()
    }

    #[test]
    fn a_file_that_is_slow_from_the_start_stalls_nobody() {
        let (reader, _, go) = stuck();
        let (_a, slow) = group();
        let (_b, quick) = quick();
        let took = timed(|| reader.read_first([&slow, &quick], &|| ms(0)));
        assert!(took >= FIRST_READS && took < ms(5_000), "{took:?}");
        assert_eq!((slow.slow_for(), quick.slow_for()), (Some(FIRST_READS), None));
        let took = timed(|| {
            let answer = reader.read(&slow, &|| ms(0), &mut ForPeople::default()).unwrap();
            assert_eq!(answer, StatRead::Pending { took: FIRST_READS });
            assert!(matches!(reader.read(&quick, &|| ms(0), &mut ForPeople::default()).unwrap(), StatRead::Read(_)));
        });
        assert!(took < ms(5_000), "{took:?}");
        go.send(()).unwrap();
        while pace(&slow).asked {
            std::thread::yield_now();
        }
        assert!(matches!(reader.read(&slow, &|| ms(0), &mut ForPeople::default()).unwrap(), StatRead::Read(_)));
    }

    #[test]
    fn quick_files_are_waited_for_no_longer_than_they_take() {
        let reader = StatReader::of(|_, _| some(), || ms(0));
        let groups: Vec<_> = (0..50).map(|_| group()).collect();
        reader.read_first(groups.iter().map(|(_, g)| g), &|| ms(0));
        // On a busy machine 50 ms may not be enough.
        let longer = timed(|| reader.pool.0.wait_for_first(Duration::from_secs(60)));
        assert!(longer < Duration::from_secs(30), "{longer:?}");
        assert!(groups.iter().all(|(_, g)| pace(g).was_read));
    }

    /// Four threads at most, and those that wait behind stuck ones are not taken for slow.
    #[test]
    fn what_waits_behind_slow_ones_is_not_slow_itself() {
        let (reader, begun, go) = stuck();
        let slow: Vec<_> = (0..MOST_THREADS).map(|_| group()).collect();
        reader.read_first(slow.iter().map(|(_, g)| g), &|| ms(0));
        assert!(slow.iter().all(|(_, g)| g.slow_for().is_some()));
        let behind: Vec<_> = (0..3).map(|_| quick()).collect();
        reader.read_first(behind.iter().map(|(_, g)| g), &|| ms(0));
        let of = |at: u64| {
            behind
                .iter()
                .map(|(_, g)| reader.read(g, &|| ms(at), &mut ForPeople::default()).unwrap())
                .collect::<Vec<_>>()
        };
        assert!(of(999).iter().all(|r| *r == StatRead::Pending { took: FIRST_READS }), "it may be slow");
        assert!(behind.iter().all(|(_, g)| g.slow_for().is_none()), "but is not known to be");
        assert_eq!(begun.load(SeqCst), MOST_THREADS);
        assert!(of(1000).iter().all(|r| matches!(r, StatRead::Read(_))), "nothing waits for ever");
        assert!(reader.pool.0.lock().jobs.is_empty());
        drop(go);
    }

    #[test]
    fn the_threads_end_with_the_last_reader() {
        let (reader, _, go) = stuck();
        let (_dir, group) = group();
        reader.read_first([&group], &|| ms(0));
        let shared = Arc::clone(&reader.pool.0);
        let other = reader.clone();
        drop(reader);
        drop(go);
        while pace(&group).asked {
            std::thread::yield_now();
        }
        assert_eq!(shared.lock().threads, 1);
        drop(other);
        while shared.lock().threads > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn real_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("memory.current", "5\n"), ("memory.max", "max\n"), ("memory.stat", "inactive_file 3\n")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let open = || Group::open(dir.path(), Version::V2, &Machine::without_swap()).unwrap();
        let group = Arc::new(open().unwrap());
        let StatRead::Read(reading) = StatReader::new().read(&group, &|| ms(7), &mut ForPeople::default()).unwrap()
        else {
            panic!("quick")
        };
        assert_eq!((reading.stat.inactive_file, reading.least_usage, reading.until), (Bytes(3), Bytes(5), ms(7)));
    }
}
