//! The real agent: started, and stopped.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use standin::Standin;

use crate::pods::NODE;
use crate::stop::{hurry, until};

const POLL: Duration = Duration::from_millis(5);
/// The agent takes some 50 ms to start and 10 ms to stop.
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(3);
/// It writes some ten lines.
const LOG: usize = 1 << 20;
/// The containers are young, and the machine may be small.
pub const FLAGS: [&str; 8] =
    ["--minimum-age", "0s", "--remedies", "raise", "--raise-reserve", "1", "--raise-budget", "99"];

/// A child and its children, in a process group of their own, so that Ctrl-C reaches us alone; ended
/// when dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.0.id().cast_signed());
        let (begin, mut signal) = (Instant::now(), Signal::SIGTERM);
        while let Ok(None) = self.0.try_wait() {
            if signal == Signal::SIGTERM || begin.elapsed() > STOP || hurry() {
                let _ = killpg(group, signal); // gone in between: fine
                signal = Signal::SIGKILL;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// A running agent; stopped when dropped.
pub struct Agent {
    process: Group,
    log: File,
}

impl Agent {
    /// Starts one against `server`, with nothing of our environment, and waits until it watches pods.
    pub fn start(binary: &Path, server: &Standin, cgroup_root: &Path) -> anyhow::Result<Agent> {
        let kubeconfig = tempfile::NamedTempFile::new()?;
        std::fs::write(&kubeconfig, server.kubeconfig())?;
        let log = tempfile::tempfile()?;
        let process = Command::new(binary)
            .args(["run", "--node-name", NODE, "--listen", "127.0.0.1:0", "--log-format", "json", "--kubeconfig"])
            .arg(kubeconfig.path())
            .args(FLAGS)
            .arg("--cgroup-root")
            .arg(cgroup_root)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| format!("the agent {} cannot be started", binary.display()))?;
        let mut agent = Agent { process: Group(process), log };
        let watching = until(START, POLL, || {
            agent.check()?;
            Ok((server.watches() > 0).then_some(()))
        })?;
        watching.with_context(|| format!("the agent does not watch the pods\n{}", agent.log()))?;
        Ok(agent)
    }

    /// An error if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.0.try_wait()? {
            Some(status) => bail!("the agent has ended ({status})\n{}", self.log()),
            None => Ok(()),
        }
    }

    /// All it said, to be shown when something is wrong.
    pub fn log(&self) -> String {
        format!("the agent's log:\n{}", self.said().trim_end())
    }

    /// What it said last about a pod, for people.
    pub fn last_words(&self) -> String {
        let said = self.said();
        let mut lines = said.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let last = lines.find(|line| line["pod"].is_string());
        last.and_then(|line| line["message"].as_str().map(str::to_owned)).unwrap_or_default()
    }

    fn said(&self) -> String {
        let mut text = vec![0; LOG];
        let length = self.log.read_at(&mut text, 0).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).into_owned()
    }
}
