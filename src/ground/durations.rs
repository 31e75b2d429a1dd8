//! Durations as people read them.

use std::time::Duration;

/// How long something took: `350 ms`, `12 s`.
#[must_use]
pub fn took(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 0..10_000 => format!("{millis} ms"),
        millis => format!("{} s", millis / 1000),
    }
}

/// How long something lasts: `12 s`, `5 min`, `4 h`.
#[must_use]
pub fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "a second".into(),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// In a table, as kubectl writes ages: `350ms`, `42s`, `5m`, `3h`, `2d`.
#[must_use]
pub fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{}ms", duration.subsec_millis()),
        s @ 1..120 => format!("{s}s"),
        s @ 120..7200 => format!("{}m", s / 60),
        s @ 7200..172_800 => format!("{}h", s / 3600),
        s if s < 100 * 86_400 => format!("{}d", s / 86_400),
        _ => ">99d".into(),
    }
}
