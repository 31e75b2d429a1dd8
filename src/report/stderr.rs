//! The log on stderr. A writer never waits for a reader: lines go through a queue of bounded size to a thread of their own.
//! Lines that do not fit are lost; the log reports this when lines flow again.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tracing::warn;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::colours;
use crate::config::{Config, LogFormat};

/// The most bytes that wait for a slow reader: a small part of the agent's 64 MiB.
const BYTES: usize = 1 << 20;
/// What the queue and the allocator need for a line besides its bytes, at most.
const OVERHEAD: usize = 64;
/// When the agent ends, it waits at most this long for a reader that reads nothing.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
/// The interval of retries on a full pipe that was set to non-blocking.
const FULL_PIPE: Duration = Duration::from_millis(10);

enum Piece {
    Line(Vec<u8>),
    /// To be answered when everything before it has been written.
    Flush(Sender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    /// The total number of lost lines.
    lost: AtomicU64,
}

/// Where lines are written to. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: Sender<Piece>,
    counts: Arc<Counts>,
}

impl Writer {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start(out: impl Write + Send + 'static) -> std::io::Result<Writer> {
        let (queue, taken) = channel();
        let counts = Arc::<Counts>::default();
        let of_thread = Arc::clone(&counts);
        std::thread::Builder::new().name("log".into()).spawn(move || write_on(out, &taken, &of_thread))?;
        Ok(Writer { queue, counts })
    }

    /// Waits until all earlier lines are written, but only for a short time.
    pub fn flush(&self) {
        let (done, written) = channel();
        if self.queue.send(Piece::Flush(done)).is_ok() {
            // Written or not, the agent ends now.
            let _ = written.recv_timeout(FLUSH_WITHIN);
        }
    }

    fn put(&self, line: &[u8]) {
        let size = size(line);
        let waiting = self.counts.waiting.fetch_add(size, Relaxed);
        let fits = waiting.saturating_add(size) <= BYTES;
        if !fits || self.queue.send(Piece::Line(line.to_vec())).is_err() {
            self.counts.waiting.fetch_sub(size, Relaxed);
            self.counts.lost.fetch_add(1, Relaxed);
        }
    }
}

/// What a line counts for while it waits.
fn size(line: &[u8]) -> usize {
    line.len().saturating_add(OVERHEAD)
}

/// The formatter writes one line per call.
impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Writer;

    fn make_writer(&'a self) -> Writer {
        self.clone()
    }
}

fn write_on(mut out: impl Write, taken: &Receiver<Piece>, counts: &Counts) {
    let mut reported = 0;
    while let Ok(piece) = taken.recv() {
        match piece {
            Piece::Line(line) => {
                write_all(&mut out, &line);
                counts.waiting.fetch_sub(size(&line), Relaxed);
            }
            // The waiting side may have given up.
            Piece::Flush(done) => drop(done.send(())),
        }
        let lost = counts.lost.load(Relaxed);
        // The lines before are written, so this one fits. If it is lost all the same, the next one reports it.
        if lost > reported {
            reported = lost;
            warn!(lost, "log lines were lost, so many in all: nobody read stderr fast enough");
        }
    }
}

/// A line that cannot be written is dropped.
fn write_all(out: &mut impl Write, mut line: &[u8]) {
    while !line.is_empty() {
        match out.write(line) {
            Ok(written) if written > 0 => line = line.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PIPE),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Logs to stderr from now on, as the configuration says.
///
/// # Errors
/// When the system cannot start a thread.
pub fn start(config: &Config) -> std::io::Result<Writer> {
    let terminal = std::io::stderr().is_terminal();
    let writer = Writer::start(std::io::stderr())?;
    // The filter was validated before; what cannot be parsed is not logged.
    let filter = config.log.parse::<Targets>().unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer().with_writer(writer.clone()).with_target(false);
    let filtered = tracing_subscriber::registry().with(filter);
    let as_text = match config.log_format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    if as_text {
        filtered.with(lines.with_ansi(colours(terminal))).init();
    } else {
        filtered.with(lines.json().flatten_event(true)).init();
    }
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::Sender;

    use super::*;

    /// Takes a line whenever it is told to.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.recv().map_err(std::io::Error::other)?;
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Writer, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (go, wait) = std::sync::mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        (Writer::start(Slow(wait, Arc::clone(&written))).unwrap(), go, written)
    }

    #[test]
    fn whoever_tells_never_waits_and_what_waits_is_bounded() {
        const LINES: u64 = 20_000;
        for line in ["x\n".to_owned(), format!("{}\n", "x".repeat(10_000))] {
            let (mut writer, go, written) = slow();
            for _ in 0..LINES {
                writer.write_all(line.as_bytes()).unwrap();
            }
            assert!(writer.counts.waiting.load(Relaxed) <= BYTES, "{} bytes a line", line.len());
            let lost = writer.counts.lost.load(Relaxed);
            // One more is in the thread's hands.
            let most = (BYTES / (line.len() + OVERHEAD)) as u64 + 1;
            assert!(lost >= LINES - most && lost < LINES, "{lost}");
            Writer::flush(&writer); // which ends
            assert!(written.lock().unwrap().is_empty());
            for _ in 0..LINES {
                go.send(()).unwrap();
            }
            Writer::flush(&writer);
            let lines = written.lock().unwrap().len() / line.len();
            assert_eq!(lines as u64 + lost, LINES, "each is written or counted");
            assert_eq!(writer.counts.waiting.load(Relaxed), 0);
        }
    }
}
