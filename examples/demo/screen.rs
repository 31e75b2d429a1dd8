//! What is shown while it happens: bars on a terminal or in a recording, elsewhere a line a second without control codes.

use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use pre_oom_killer::ground::units::Bytes;
use standin::cgroups::Hierarchy;
use terminal_size::{Height, Width, terminal_size};

use crate::Args;
use crate::agent::FLAGS;
use crate::outcome::Outcome;
use crate::pods::{Kind, Pod};
use crate::record::{COLUMNS, Recording};

/// From one drawing of the bars to the next, and from one line to the next.
const FRAME: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(1);
/// Bars need so many columns, and do not get more.
const NARROW: usize = 60;
const WIDE: usize = 120;
/// Where the bars begin.
const INDENT: usize = 11;

/// Standard output, or a recording of it.
pub struct Screen {
    json: bool,
    recording: Option<Recording>,
    live: bool,
    color: bool,
    /// When it was last drawn, how wide, in how many lines, and what was told.
    drawn: Duration,
    width: usize,
    lines: usize,
    said: String,
}

impl Screen {
    pub fn new(args: &Args) -> Screen {
        let recording = args.record.is_some().then(Recording::new);
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let able = stdout().is_terminal() && set("TERM").is_some_and(|term| term != "dumb");
        let live = recording.is_some() || !args.json && able && width() >= NARROW;
        let color = recording.is_some() || set("NO_COLOR").is_none();
        let (drawn, said) = (Duration::ZERO, String::new());
        Screen { json: args.json, recording, live, color, drawn, width: 0, lines: 0, said }
    }

    /// Says what is going to happen.
    pub fn title(&mut self, args: &Args, hierarchy: Hierarchy) -> io::Result<()> {
        let (limit, rate, kind) = (args.limit, args.rate, hierarchy.as_str());
        self.write(&format!(
            "\nThree pods in memory cgroups ({kind}), limited to {limit} each, take {rate} a second.\n\
             API server and kubelet are stand-ins. The agent is real, with the flags\n{}\n\n",
            FLAGS.join(" ")
        ))
    }

    /// Draws the pods and what the agent said last, if it is time to, or if this is the `last` time.
    pub fn draw(&mut self, at: Duration, args: &Args, pods: &[Pod], said: &str, last: bool) -> io::Result<()> {
        let every = if self.live { FRAME } else { LINE };
        let mut text = String::new();
        if !self.live && said != self.said {
            text = format!("agent: {said}\n");
        }
        if last || at.saturating_sub(self.drawn) >= every {
            text += &if self.live { self.frame(at, args, pods, said) } else { line(at, pods) };
            self.drawn = at;
        }
        self.said = said.to_owned();
        self.write(&text)
    }

    /// Goes back to the first line of the last frame and draws all of it anew.
    fn frame(&mut self, at: Duration, args: &Args, pods: &[Pod], said: &str) -> String {
        let width = self.recording.as_ref().map_or_else(width, |_| COLUMNS);
        let back = match width.clamp(NARROW, WIDE) - 1 {
            _ if self.lines == 0 => "\x1b[?25l".into(),
            same if same == self.width => format!("\x1b[{}A", self.lines),
            _ => "\x1b[H\x1b[2J".into(), // the terminal has broken the lines anew
        };
        self.width = width.clamp(NARROW, WIDE) - 1;
        let columns = self.width - INDENT - 1;
        let most = args.raise_limit_to();
        let of = |bytes: Bytes| (bytes.0 as f64 / most.0 as f64 * columns as f64).round() as usize;
        let (threshold, limit) = (of(args.threshold()), of(args.limit));
        let marks = mark("threshold", args.threshold(), threshold + 1)
            + &mark("limit", args.limit, limit - threshold)
            + &mark("raise-limit-to", most, columns - limit);
        let text =
            |name: &str, text: &str| format!("{name:INDENT$}{text}").chars().take(self.width).collect::<String>();
        let mut lines = vec![text("", &marks)];
        for pod in pods {
            let (bar, color) = bar(pod, args, of);
            let bar = if self.color { format!("\x1b[{color}m{bar}\x1b[0m") } else { bar };
            lines.push(format!("{:INDENT$}{bar}│", pod.name));
            let rate = format!(", {}/s", Bytes((pod.usage.0 as f64 / at.as_secs_f64()) as u64));
            let rate = if pod.ended.is_none() { &rate } else { "" };
            lines.push(text("", &format!("{} of {}{rate}: {}", pod.usage, pod.limit(), state(pod))));
        }
        lines.push(text("agent", said));
        self.lines = lines.len();
        lines.iter().fold(back, |all, line| all + line + "\x1b[K\n")
    }

    /// Shows the outcome.
    pub fn finish(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        if self.json {
            writeln!(stdout(), "{}", serde_json::to_string(outcome)?)?;
        }
        Ok(self.write(&format!("\n{}\n", outcome.lines().join("\n")))?)
    }

    /// The recording as an SVG, if there is one.
    pub fn svg(&self, outcome: &Outcome) -> Option<String> {
        self.recording.as_ref().map(|recording| recording.svg(&outcome.in_short()))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        if let Some(recording) = &mut self.recording {
            recording.write(text);
            return Ok(());
        }
        let mut out = stdout().lock();
        if !self.json {
            out.write_all(text.as_bytes())?;
        }
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.live && self.recording.is_none() {
            show_cursor();
        }
    }
}

/// Says what does not belong to the outcome.
pub fn note(text: &str) {
    let _ = writeln!(stderr(), "{text}"); // nothing can be done about a closed terminal
}

/// Makes the cursor visible again.
pub fn show_cursor() {
    if stdout().is_terminal() {
        let _ = write!(stdout(), "\x1b[?25h").and_then(|()| stdout().flush());
    }
}

/// Columns of the terminal; 0: not known, or too few lines for all that is drawn.
fn width() -> usize {
    terminal_size().filter(|(_, Height(lines))| *lines > 10).map_or(0, |(Width(columns), _)| columns.into())
}

/// What a pod is at.
fn state(pod: &Pod) -> String {
    match (&pod.ended, pod.crossed) {
        (None, _) if pod.kind == Kind::Unguarded => "nobody watches".into(),
        (None, _) if pod.limits.len() > 1 => "raised in place, lives on".into(),
        (None, None) => "the agent watches".into(),
        (None, Some(_)) => "above its threshold".into(),
        (Some((_, how)), _) if how == "evicted" => "evicted, ended on SIGTERM".into(),
        (Some((_, how)), _) => how.clone(),
    }
}

/// A name and a size with a corner at the end of so many columns, or what there is room for.
fn mark(name: &str, bytes: Bytes, columns: usize) -> String {
    let texts = [format!("{name} {bytes} ┐"), format!("{bytes} ┐"), "┐".into()];
    let text = texts.iter().find(|text| text.chars().count() <= columns).map_or("", String::as_str);
    format!("{text:>columns$}")
}

/// A pod's bar as far as its limit, and its color.
fn bar(pod: &Pod, args: &Args, of: impl Fn(Bytes) -> usize) -> (String, &'static str) {
    let threshold = args.threshold.of(pod.limit());
    let cell = |i| match i {
        _ if i == of(threshold) => '│',
        _ if i < of(pod.usage) => '█',
        _ => '░',
    };
    let color = match &pod.ended {
        None if pod.usage > threshold => "33",
        Some((_, how)) if how != "evicted" => "31",
        _ => "32",
    };
    ((0..of(pod.limit())).map(cell).collect(), color)
}

/// All pods on one line.
fn line(at: Duration, pods: &[Pod]) -> String {
    let pods: Vec<_> = pods.iter().map(|pod| format!("{} {}, {}", pod.name, pod.usage, state(pod))).collect();
    format!("{:5.1} s  {}\n", at.as_secs_f64(), pods.join("; "))
}
