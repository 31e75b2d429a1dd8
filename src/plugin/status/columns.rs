//! The columns that the table and the live view share.

use jiff::Timestamp;
use unicode_width::UnicodeWidthStr;

use super::rows::{Row, bar};
use crate::plugin::sanitize::printable;
use crate::plugin::terminal::middle;

#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// The text of a row's cell that is at most so wide.
    pub(super) cell: fn(&Row, Timestamp, u16) -> String,
    /// On a narrow terminal the live view leaves out the column with the greatest number first; 0: never.
    pub(super) left_out: u8,
    /// The live view makes it no wider.
    pub(super) widest: u16,
}

const fn column(title: &'static str, left_out: u8, widest: u16, cell: fn(&Row, Timestamp, u16) -> String) -> Column {
    Column { title, cell, left_out, widest }
}

/// All of them in their order.
pub(super) const COLUMNS: [Column; 13] = [
    column("NAMESPACE", 3, 20, |r, _, _| printable(&r.namespace)),
    column("POD", 0, 40, |r, _, _| printable(&r.pod)),
    column("CONTAINER", 0, 16, |r, _, _| r.container_cell()),
    column("NODE", 4, 24, |r, _, _| printable(&r.node)),
    column("SIGNAL", 7, 13, |r, _, _| text_or_dash(r.signal.as_deref())),
    column("USAGE", 0, 16, |r, _, width| bar(r, width.into())),
    // The share belongs to the bar before it.
    column("", 0, 5, |r, _, _| r.share()),
    column("NOW/THRESHOLD/LIMIT", 5, 26, |r, _, _| r.amounts()),
    column("PEAK", 8, 10, |r, _, _| r.peak_cell()),
    column("GROWTH", 2, 12, |r, _, _| r.growth_cell()),
    column("OVER IN", 0, 7, |r, _, _| r.to_threshold_cell()),
    column("STATE", 0, 12, |r, _, _| printable(r.state.as_str())),
    column("LAST EVICTION", 6, 13, |r, now, _| r.last_eviction_cell(now)),
];

/// A text that somebody else wrote, or `-`.
pub(super) fn text_or_dash(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), printable)
}

/// A column of the live view, and how wide it is now.
pub(super) struct Fitted {
    pub(super) column: Column,
    pub(super) width: u16,
}

/// What is cut where no more columns can be left out: in this order, and to this width.
const NARROWEST: [(&str, u16); 4] = [("POD", 14), ("USAGE", 6), ("CONTAINER", 6), ("POD", 5)];

/// As many columns as fit; then those that are left are cut.
pub(super) fn fitted(rows: &[Row], width: u16, now: Timestamp) -> Vec<Fitted> {
    let fit = |column: Column| {
        let widest = |n: usize, row: &Row| n.max((column.cell)(row, now, column.widest).width());
        let needed = rows.iter().fold(column.title.width(), widest);
        Fitted { column, width: u16::try_from(needed).unwrap_or(u16::MAX).min(column.widest) }
    };
    let mut all: Vec<Fitted> = COLUMNS.into_iter().map(fit).collect();
    let too_wide = |all: &[Fitted]| {
        let taken: u32 = all.iter().map(|fitted| u32::from(fitted.width) + 1).sum();
        taken.saturating_sub(u32::from(width) + 1)
    };
    while too_wide(&all) > 0 {
        let first = all.iter().enumerate().max_by_key(|(_, fitted)| fitted.column.left_out);
        match first {
            Some((at, fitted)) if fitted.column.left_out > 0 => drop(all.remove(at)),
            _ => break,
        }
    }
    for (title, narrowest) in NARROWEST {
        let excess = u16::try_from(too_wide(&all)).unwrap_or(u16::MAX);
        if let Some(fitted) = all.iter_mut().find(|fitted| fitted.column.title == title) {
            fitted.width = fitted.width.saturating_sub(excess).max(narrowest.min(fitted.width));
        }
    }
    all
}

impl Fitted {
    /// The text of a row's cell, cut to the width.
    pub(super) fn cell(&self, row: &Row, now: Timestamp) -> String {
        middle((self.column.cell)(row, now, self.width), self.width.into())
    }
}
