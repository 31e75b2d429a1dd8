//! docs/reference.md says what the code says: what is generated in it is compared line by line, and the
//! Events it lists are those that are written. A test that fails prints the lines to write. What the other documents name
//! exists, and their links lead somewhere.

#![allow(clippy::unwrap_used, reason = "panics are a test's verdicts")]

use pre_oom_killer::sampler::Counters;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pre_oom_killer::access::confinement::{Confinement, ConfinementState};
use pre_oom_killer::act::answer::Answer;
use pre_oom_killer::act::order::Act;
use pre_oom_killer::decide::class::Class;
use pre_oom_killer::decide::restraint::Reason;
use pre_oom_killer::pods::guard::DryRun;
use pre_oom_killer::report::metrics::Counts;
use pre_oom_killer::report::metrics::Metrics;
use pre_oom_killer::report::notice::MissReason;
use pre_oom_killer::serve::wire::GuardState;

const REFERENCE: &str = include_str!("../docs/reference.md");

/// README.md and its like, and all pages in docs/: their paths and texts.
fn documents() -> Vec<(PathBuf, String)> {
    let folder = |path: &str| std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let files = [".", "docs"].into_iter().flat_map(folder).map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let pages: Vec<_> = pages.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    assert!(pages.len() > 12, "{pages:?}");
    pages
}

/// The lines between `<!-- NAME -->` and the next empty line.
fn section(name: &str) -> &'static str {
    let (_, rest) = REFERENCE.split_once(&format!("<!-- {name} -->\n")).unwrap_or_else(|| panic!("no section {name}"));
    rest.split("\n\n").next().unwrap().trim_end()
}

fn compare(name: &str, expected: &str) {
    let expected = expected.trim_end();
    assert!(section(name) == expected, "docs/reference.md, under <!-- {name} -->, needs:\n{expected}\n");
}

#[test]
fn every_metric_is_there_with_its_type_labels_and_meaning() {
    let metrics = Metrics::new();
    for act in [Act::Evict, Act::Delete] {
        metrics.answered(act, Some(&Answer::Accepted), DryRun::Off);
    }
    metrics.confinement(Confinement::Policy, ConfinementState::Holds);
    let page = metrics.page(Counts::default(), Duration::ZERO, &Counters::default());
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in page.lines().filter(|l| !l.starts_with('#')) {
        let Some((name, rest)) = line.split_once('{') else { continue };
        let pairs = rest.split_once('}').unwrap().0.split(',');
        let family = name.trim_end_matches("_total").trim_end_matches("_bucket");
        labels.entry(family).or_default().extend(pairs.map(|p| p.split_once('=').unwrap().0).filter(|l| *l != "le"));
    }
    let mut table = "| metric | type | labels | what |\n|---|---|---|---|\n".to_owned();
    let mut help = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, text)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            help.insert(name, text.trim_end_matches('.'));
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) else { continue };
        let series = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let of = labels
            .get(name)
            .map_or(String::new(), |l| l.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", "));
        writeln!(table, "| `{series}` | {kind} | {of} | HELP {name} |").unwrap();
    }
    for (name, text) in &help {
        table = table.replace(&format!("HELP {name} |"), &format!("{text} |"));
    }
    assert!(help.len() > 15 && !table.contains("HELP"), "{table}");
    compare("metrics", &table);
}

#[test]
fn every_value_of_a_label_is_there() {
    let codes = |values: &[&str]| values.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
    let modes = [Confinement::None, Confinement::Policy, Confinement::Impersonation].map(Confinement::as_str);
    let states =
        [ConfinementState::Holds, ConfinementState::DoesNotHold, ConfinementState::Unclear, ConfinementState::NotAsked]
            .map(ConfinementState::as_str);
    let answers = [&Answer::LABELS[..], &["not-sent"]].concat();
    let mut table = "| label | values |\n|---|---|\n".to_owned();
    for (label, values) in [
        ("answer", codes(&answers)),
        ("dry_run", codes(&["off", "server", "client"])),
        ("mode", codes(&modes)),
        ("state", codes(&states)),
    ] {
        writeln!(table, "| `{label}` | {values} |").unwrap();
    }
    compare("labels", &table);
    let mut table = "| `reason` of `held` | what |\n|---|---|\n".to_owned();
    for why in Reason::ALL {
        writeln!(table, "| `{}` | {why} |", why.label()).unwrap();
    }
    compare("held", &table);
    let mut table = "| `reason` of `missed` | what |\n|---|---|\n".to_owned();
    for reason in MissReason::ALL {
        writeln!(table, "| `{}` | {} |", reason.label(), reason.words()).unwrap();
    }
    compare("missed", &table);
}

/// An accepted eviction is told as `evicted`.
#[test]
fn every_state_of_a_guard_is_there_and_the_page_has_words_for_it() {
    let answers = Answer::LABELS.iter().filter(|label| **label != "accepted");
    let all: BTreeSet<&str> = GuardState::ALL.iter().map(GuardState::as_str).chain(answers.copied()).collect();
    let first_cells = section("states").lines().skip(2).map(|line| line.split('|').nth(1).unwrap());
    let told: BTreeSet<&str> = first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert_eq!(all, told, "left: the code; right: docs/reference.md, under <!-- states -->");
    let page = include_str!("../src/serve/page.html");
    let table = page.split_once("const STATES = {").unwrap().1.split_once("};").unwrap().0;
    let shown: BTreeSet<&str> =
        table.split("],").filter_map(|entry| Some(entry.split_once(": [")?.0.trim().trim_matches('"'))).collect();
    assert_eq!(all, shown, "left: the code; right: STATES in src/serve/page.html");
}

#[test]
fn every_class_of_an_incident_is_there() {
    let classes: Vec<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
    let rows: Vec<&str> = section("classes").lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(classes, rows, "left: the code; right: docs/reference.md, under <!-- classes -->");
}

/// Every word that begins as reasons do.
fn reasons(text: &str) -> BTreeSet<&str> {
    let begin = text.match_indices("PreOOM").map(|(at, _)| &text[at..]);
    let words = begin.map(|t| &t[..t.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(t.len())]);
    words.filter(|w| *w != "PreOOM").collect()
}

#[test]
fn every_reason_of_an_event_is_there() {
    let code = reasons(include_str!("../src/report/notice.rs"));
    let rows: BTreeSet<&str> =
        section("events").lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(code, rows, "left: src/report/notice.rs; right: docs/reference.md, under <!-- events -->");
    assert!(code.len() >= 11);
    // Nor does another file speak of one that does not exist.
    let mut files = documents();
    files.push(("src/serve/page.html".into(), include_str!("../src/serve/page.html").into()));
    for (file, text) in files {
        let unknown: Vec<_> =
            reasons(&text).into_iter().filter(|r| !code.contains(r) && !r.starts_with("PreOOMKiller")).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", file.display());
    }
}

/// What the documents name of the metrics exists.
#[test]
fn no_document_names_a_metric_that_is_not() {
    let known = section("metrics");
    for (file, text) in documents() {
        let begin = text.match_indices("pre_oom_killer_").map(|(at, _)| &text[at..]);
        for name in begin.map(|t| &t[..t.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(t.len())]) {
            let family = name.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum");
            assert!(
                family == "pre_oom_killer_" || known.contains(&format!("`{family}`")),
                "{}: {name}",
                file.display()
            );
        }
    }
}

/// What GitHub makes of a heading for the link to it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Text outside of code blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut followed = 0;
    for (file, text) in documents() {
        for link in prose(&text).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("https://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(target.exists(), "{} links to {link}", file.display());
            if !heading.is_empty() {
                let text = prose(&std::fs::read_to_string(&target).unwrap());
                let found =
                    text.lines().filter(|line| line.starts_with('#')).map(|l| anchor(l.trim_start_matches('#')));
                assert!(found.into_iter().any(|found| found == heading), "{} links to {link}", file.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 50, "{followed}");
}

/// Each page is linked, and the picture at the head of README is of a run on real cgroups.
#[test]
fn the_readme_is_a_first_screen() {
    let readme = include_str!("../README.md");
    assert!(readme.lines().count() <= 180);
    let pages = documents();
    for page in pages.iter().filter(|(path, _)| path.parent().unwrap().ends_with("docs")) {
        let name = page.0.file_name().unwrap().to_str().unwrap();
        let linked = pages.iter().any(|(path, text)| path != &page.0 && text.contains(name));
        assert!(linked, "nothing links to {name}");
    }
    let picture = std::fs::read_to_string("docs/demo.svg").unwrap();
    assert!(
        readme.contains("](docs/demo.svg)") && picture.contains(">$ cargo demo<") && !picture.contains("simulated")
    );
}

/// The codes of `check` in its page's table are those that it gives.
#[cfg(feature = "plugin")]
#[test]
fn every_code_of_check_is_in_its_page() {
    use pre_oom_killer::plugin::check::finding::Code;
    let given: BTreeSet<String> = Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    let table = include_str!("../docs/check.md")
        .split_once("| error (`code`) | warning (`code`) |")
        .unwrap()
        .1
        .split_once("\n\n")
        .unwrap()
        .0;
    let in_brackets = table.split('(').skip(1).filter_map(|text| text.split(')').next());
    let told: BTreeSet<String> =
        in_brackets.flat_map(|text| text.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    assert_eq!(given, told, "left: src/plugin/check/finding.rs; right: the table of codes in docs/check.md");
    assert!(given.len() > 25);
}
