//! A report as text, with or without colours, and as JSON.

use std::fmt::{self, Write};

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::finding::{Finding, Severity};
use super::report::{CheckReport, Checked};
use crate::ground::keys;
use crate::plugin::sanitize::printable;
use crate::plugin::terminal::{Paint, folded};

/// The JSON's form; a number larger by one says that something that was there has changed.
pub const JSON_VERSION: u32 = 1;

impl Paint {
    fn severity(self, severity: Severity) -> String {
        match severity {
            Severity::Error => self.with("1;31", "error  "),
            Severity::Warning => self.with("1;33", "warning"),
        }
    }
}

#[must_use]
pub fn text(report: &CheckReport, paint: Paint) -> String {
    let mut out = String::new();
    for checked in &report.checked {
        // Writing to a String cannot fail.
        let _ = one(&mut out, checked, paint);
    }
    let _ = writeln!(out, "{}", summary(report));
    out
}

#[must_use]
pub fn unreadable(report: &CheckReport, paint: Paint) -> String {
    let mut out = String::new();
    for one in &report.unreadable {
        let line = one.line.map_or_else(String::new, |l| format!(":{l}"));
        let document = one.document.map_or_else(String::new, |d| format!(" document {d}:"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} {}{line}:{document} {}",
            paint.with("1;31", "unreadable"),
            printable(&one.file),
            printable(&one.message)
        );
    }
    out
}

fn one(out: &mut String, checked: &Checked, paint: Paint) -> fmt::Result {
    let name = printable(&match &checked.namespace {
        Some(namespace) => format!("{namespace}/{}", checked.name),
        None => checked.name.clone(),
    });
    let by = if checked.by_namespace { " (guarded by its namespace's label, from Kubernetes 1.36 on)" } else { "" };
    let heading =
        format!("{}: document {}, {} {name}{by}", printable(&checked.file), checked.document, printable(&checked.kind));
    writeln!(out, "{}", paint.with("1", heading))?;
    for target in &checked.targets {
        let who =
            target.container.as_ref().map_or_else(|| "the pod's own cgroup".into(), |c| format!("`{}`", printable(c)));
        for (n, line) in folded(&format!("{who}: {}", printable(&target.text)), paint.less(4)).iter().enumerate() {
            writeln!(out, "{}{line}", if n == 0 { "  " } else { "    " })?;
        }
    }
    // With warnings alone, something may be guarded; and whether a namespace's pods are, only they say.
    if checked.kind != "Namespace"
        && checked.targets.is_empty()
        && checked.findings.iter().any(|f| f.severity == Severity::Error)
    {
        writeln!(out, "  nothing is guarded:")?;
    }
    for Finding { severity, file, line, field, message, .. } in &checked.findings {
        let (place, field) = (format!("{}:{line}", printable(file)), printable(field));
        let fits = paint.less(INDENT).is_none_or(|width| place.width() + 1 + field.width() <= width);
        let gap = if fits { " ".to_owned() } else { format!("\n{:INDENT$}", "") };
        writeln!(out, "  {} {}{gap}{field}", paint.severity(*severity), paint.with("2", place))?;
        for line in folded(&printable(message), paint.less(INDENT)) {
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
    }
    writeln!(out)
}

/// What a message is set in by: the width of a severity.
const INDENT: usize = 10;

fn summary(report: &CheckReport) -> String {
    let many = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let guarded = report.guarded();
    let mut text = format!(
        "{}, {}, {guarded} guarded: {}, {}",
        many(report.objects, "object"),
        many(report.templates, "pod template"),
        many(report.count(Severity::Error), "error"),
        many(report.count(Severity::Warning), "warning"),
    );
    if !report.unreadable.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, "; {} unreadable", report.unreadable.len());
    }
    text
}

#[must_use]
pub fn json(report: &CheckReport) -> Value {
    let templates: Vec<Value> = report.checked.iter().map(template).collect();
    json!({
        "version": JSON_VERSION,
        "templates": templates,
        "unreadable": report.unreadable,
        "summary": {
            "objects": report.objects,
            "templates": report.templates,
            "guarded": report.guarded(),
            "errors": report.count(Severity::Error),
            "warnings": report.count(Severity::Warning),
        },
    })
}

fn template(checked: &Checked) -> Value {
    let findings: Vec<Value> = (checked.findings.iter())
        .map(|f| {
            json!({
                "level": f.severity,
                "code": f.code.as_str(),
                "file": f.file,
                "document": f.document,
                "line": f.line,
                "field": f.field,
                "message": f.message,
            })
        })
        .collect();
    json!({
        "file": checked.file,
        "document": checked.document,
        "line": checked.line,
        "kind": checked.kind,
        "namespace": checked.namespace,
        "name": checked.name,
        "guarded": checked.guarded(),
        "guardedBy": checked.by_namespace.then_some(keys::BY_NAMESPACE),
        "targets": checked.targets,
        "findings": findings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_folded_at_spaces() {
        assert_eq!(folded("one two three", Some(7)), ["one two", "three"]);
        assert_eq!(folded("one averylongword x", Some(7)), ["one", "averylongword", "x"]);
        assert_eq!(folded("one two  three", None), ["one two  three"]);
        assert_eq!(folded("a b", Some(0)), ["a", "b"]);
    }
}
