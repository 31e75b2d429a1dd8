//! What the benchmarks share: their arguments, and the rows that they print.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

/// After `--`: `--quick` ends within a minute, with fewer cells; `--json FILE` writes the rows there, too;
/// `--only PART` runs that part alone, if the benchmark has parts.
pub struct Args {
    /// Less of everything.
    pub quick: bool,
    only: Option<String>,
    json: Option<PathBuf>,
}

impl Args {
    /// From the command line, of a benchmark with these parts. Cargo adds `--bench`.
    pub fn parse(parts: &[&str]) -> Args {
        let mut args = Args { quick: false, only: None, json: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--bench" => {}
                "--quick" => args.quick = true,
                "--only" => args.only = Some(words.next().unwrap_or_else(|| usage("--only: name a part"))),
                "--json" => args.json = Some(words.next().unwrap_or_else(|| usage("--json: name a file")).into()),
                other => usage(&format!("unknown argument {other}")),
            }
        }
        if let Some(only) = args.only.as_deref().filter(|only| !parts.contains(only)) {
            usage(&format!("unknown part {only}; it has: {}", parts.join(", ")));
        }
        args
    }

    /// Whether this part is to run.
    pub fn runs(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

fn usage(problem: &str) -> ! {
    eprintln!("{problem}\nusage: cargo bench --bench NAME -- [--quick] [--only PART] [--json FILE]");
    std::process::exit(64)
}

/// Which way is worse.
#[derive(Clone, Copy)]
pub enum Worse {
    /// More is worse.
    Higher,
    /// Less is worse.
    Lower,
}

/// A measured figure.
pub struct Row {
    name: String,
    value: Option<f64>,
    reach: Option<f64>,
    worse: Worse,
    said: String,
    more: Vec<(&'static str, Value)>,
}

impl Row {
    /// A figure; `None` where this run does not measure it.
    pub fn new(name: impl Into<String>, value: impl Into<Option<f64>>, worse: Worse) -> Row {
        let value = value.into();
        Row { name: name.into(), value, reach: None, worse, said: String::new(), more: Vec::new() }
    }

    /// What it is to reach.
    pub fn reach(mut self, reach: f64) -> Row {
        self.reach = Some(reach);
        self
    }

    /// How it came about, for people.
    pub fn said(mut self, words: impl Into<String>) -> Row {
        self.said = words.into();
        self
    }

    /// Another figure that belongs to it.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Row {
        self.more.push((name, value.into()));
        self
    }

    fn ok(&self) -> Option<bool> {
        let (value, reach) = (self.value?, self.reach?);
        Some(match self.worse {
            Worse::Higher => value <= reach,
            Worse::Lower => value >= reach,
        })
    }

    fn to_json(&self) -> Value {
        let worse = match self.worse {
            Worse::Higher => "higher",
            Worse::Lower => "lower",
        };
        let mut row = json!({
            "name": self.name, "value": self.value, "reach": self.reach, "ok": self.ok(), "worse": worse, "said": self.said
        });
        for (name, value) in &self.more {
            row[*name] = value.clone();
        }
        row
    }
}

/// Prints the rows for people, and writes them as JSON where asked to.
pub fn finish(bench: &str, args: &Args, rows: &[Row]) {
    let figure = |value: Option<f64>| value.map_or("–".into(), |v| format!("{:.*}", if v < 10.0 { 3 } else { 1 }, v));
    let wide = rows.iter().map(|r| r.name.len()).max().unwrap_or(0);
    println!("\n{:wide$}  {:>10}  {:>10}  ", "", "measured", "to reach");
    for row in rows {
        let (sign, verdict) = match (row.worse, row.ok()) {
            (_, None) => ("", ""),
            (Worse::Higher, Some(true)) => ("≤ ", "ok"),
            (Worse::Lower, Some(true)) => ("≥ ", "ok"),
            (Worse::Higher, Some(false)) => ("≤ ", "NOT MET"),
            (Worse::Lower, Some(false)) => ("≥ ", "NOT MET"),
        };
        let reach = row.reach.map_or("–".into(), |r| format!("{sign}{r}"));
        println!("{:wide$}  {:>10}  {reach:>10}  {verdict:7}  {}", row.name, figure(row.value), row.said);
    }
    if let Some(file) = &args.json {
        let rows: Vec<_> = rows.iter().map(Row::to_json).collect();
        let line = json!({"bench": bench, "quick": args.quick, "rows": rows});
        std::fs::write(file, format!("{line}\n")).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

/// A tree of real groups, or an end with what is missing.
pub fn real_tree() -> standin::cgroups::Tree {
    standin::cgroups::Tree::real().unwrap_or_else(|missing| {
        eprintln!("this benchmark measures on real memory cgroups, as root: {missing}");
        std::process::exit(1)
    })
}

/// The value below which this part of them lies.
pub fn percentile(values: &mut [Duration], part: f64) -> Option<Duration> {
    values.sort_unstable();
    let last = values.len().checked_sub(1)?;
    Some(values[(last as f64 * part).round() as usize])
}
