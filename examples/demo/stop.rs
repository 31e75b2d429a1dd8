//! SIGINT, SIGTERM and SIGHUP: the first ends the demo in order, a second one in a hurry, a third one
//! without cleaning up.

use std::process::exit;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::signal::unix::{SignalKind, signal};

use crate::screen::{note, show_cursor};

/// `timeout` sends its signal twice, to the process and to its group: what comes so soon is the same.
const SAME: Duration = Duration::from_millis(250);

/// The exit code for the signal that came; 0: none.
static CODE: AtomicU8 = AtomicU8::new(0);
/// How many came.
static COUNT: AtomicU8 = AtomicU8::new(0);

/// From now on signals are errors of [`until`].
pub fn listen() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    drop(entered);
    let wait = async move {
        let mut last: Option<Instant> = None;
        loop {
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
                _ = hang_up.recv() => 129,
            };
            CODE.store(code, Relaxed);
            if last.is_none_or(|last| last.elapsed() > SAME) && COUNT.fetch_add(1, Relaxed) == 2 {
                show_cursor();
                note(&format!("stopped at once; look for what is named pre-oom-killer-{}-*", std::process::id()));
                exit(code.into());
            }
            last = Some(Instant::now());
        }
    };
    std::thread::spawn(move || runtime.block_on(wait));
    Ok(())
}

/// The exit code, if a signal came.
pub fn code() -> Option<u8> {
    Some(CODE.load(Relaxed)).filter(|code| *code > 0)
}

/// Whether a second one came: nothing is to be waited for.
pub fn hurry() -> bool {
    COUNT.load(Relaxed) > 1
}

/// Asks `what` until it answers, for so long; `None`: it did not.
pub fn until<T>(
    within: Duration,
    every: Duration,
    mut what: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let begin = Instant::now();
    loop {
        ensure!(code().is_none(), "stopped, and cleaned up");
        let found = what()?;
        if found.is_some() || begin.elapsed() > within {
            return Ok(found);
        }
        std::thread::sleep(every);
    }
}
