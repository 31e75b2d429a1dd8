//! How the thread waits: until a time, for a command, or for an alarm, whichever comes first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

use super::messages::Command;

/// The controller's end.
#[derive(Debug)]
pub struct Commands {
    sender: SyncSender<Command>,
    wake: Arc<EventFd>,
}

/// The thread's end.
#[derive(Debug)]
pub struct Inbox {
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
}

/// A channel in which at most so many commands wait.
///
/// # Errors
/// When no descriptor is left.
pub fn inbox(most: usize) -> io::Result<(Commands, Inbox)> {
    let (sender, commands) = sync_channel(most);
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    Ok((Commands { sender, wake: Arc::clone(&wake) }, Inbox { commands, wake }))
}

impl Commands {
    /// Sends a command; waits while the channel is full. The thread ends only after this side.
    pub fn send(&self, command: Command) {
        if self.sender.send(command).is_ok() {
            let _ = self.wake.write(1); // EAGAIN: it was woken very often, and is not up yet
        }
    }
}

impl Inbox {
    /// Waits that long at most, for a command or for an alarm. Returns whether an alarm rings.
    pub(super) fn wait(&self, time: Duration, alarm: Option<BorrowedFd<'_>>) -> bool {
        let mut sources =
            [self.wake.as_fd(), alarm.unwrap_or(self.wake.as_fd())].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let used = if alarm.is_some() { &mut sources[..] } else { &mut sources[..1] };
        match ppoll(used, Some(TimeSpec::from_duration(time)), None) {
            Ok(0) | Err(Errno::EINTR) => return false,
            Ok(_) => {}
            Err(_) => {
                std::thread::sleep(time);
                return false;
            }
        }
        let is_ready = |source: Option<&PollFd>| source.is_some_and(|source| source.any() == Some(true));
        let rings = is_ready(used.get(1));
        if is_ready(used.first()) {
            let _ = self.wake.read();
        }
        rings
    }

    /// The next command; an error if there is none now, or if there will be none.
    pub(super) fn next(&self) -> Result<Command, TryRecvError> {
        self.commands.try_recv()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::TargetId;
    use std::time::Instant;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "how long it really waits")]
    fn it_waits_for_whatever_comes_first() {
        const LONG: Duration = Duration::from_secs(60);
        let (commands, inbox) = inbox(4).unwrap();
        let alarm = EventFd::new().unwrap();
        let begin = Instant::now();
        assert!(!inbox.wait(Duration::from_micros(1500), Some(alarm.as_fd())));
        assert!(begin.elapsed() >= Duration::from_micros(1500));
        assert!(matches!(inbox.next(), Err(TryRecvError::Empty)));

        commands.send(Command::Forget(TargetId(1)));
        commands.send(Command::Forget(TargetId(2)));
        assert!(!inbox.wait(LONG, Some(alarm.as_fd())), "a command is no alarm");
        assert!(inbox.next().is_ok() && inbox.next().is_ok());
        let emptied = Instant::now();
        assert!(!inbox.wait(Duration::from_micros(1500), None));
        assert!(emptied.elapsed() >= Duration::from_micros(1500), "woken once for both");

        alarm.write(1).unwrap();
        assert!(inbox.wait(LONG, Some(alarm.as_fd())));
        assert!(!inbox.wait(Duration::from_millis(1), None), "not listened to");
        commands.send(Command::Forget(TargetId(3)));
        assert!(inbox.wait(LONG, Some(alarm.as_fd())), "both at once");
        assert!(begin.elapsed() < LONG && inbox.next().is_ok());
        drop(commands);
        assert!(matches!(inbox.next(), Err(TryRecvError::Disconnected)));
    }
}
