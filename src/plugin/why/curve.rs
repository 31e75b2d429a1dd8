//! A curve on a terminal: what was the most in each part of time, with the threshold and the limit.

use std::time::Duration;

use crate::ground::units::Bytes;
use crate::plugin::terminal::Look;

/// The height, in lines. Each has eight steps.
const HEIGHT: usize = 8;
/// A column is not narrower than a point, and a terminal that is wider gets no wider curve.
const WIDEST: usize = 150;
/// Between two marks of the time axis there is space for their labels.
const APART: usize = 10;
/// The signal is read every ten seconds at least. So a hole that is no longer than this is none.
const HOLE: Duration = Duration::from_secs(15);
/// What may be between two marks.
const MARKS: [u64; 16] =
    [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600];

/// What is drawn.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// The oldest first, in bytes; none: not known.
    pub points: Vec<Option<u64>>,
    /// The time of a point.
    pub each: Duration,
    pub threshold: Option<u64>,
    pub limit: Option<u64>,
    /// The name of its end.
    pub end: String,
}

/// A horizontal line in a colour.
#[derive(Clone, Copy)]
struct Rule(&'static str);

impl Curve {
    /// With the values in KiB, as the agents send them.
    #[must_use]
    pub fn of_kib(kib: &[Option<u64>], each: Duration) -> Curve {
        let points = kib.iter().map(|n| n.map(|n| n.saturating_mul(1024))).collect();
        Curve { points: without_holes(points, each), each, ..Curve::default() }
    }

    #[must_use]
    pub fn most(&self) -> Option<u64> {
        self.points.iter().flatten().max().copied()
    }

    /// The time that it covers.
    #[must_use]
    pub fn covers(&self) -> Duration {
        self.each.saturating_mul(u32::try_from(self.points.len()).unwrap_or(u32::MAX))
    }

    /// Its lines, no wider than the terminal.
    #[must_use]
    pub fn lines(&self, look: &Look) -> Vec<String> {
        let top = self.most().max(self.threshold).max(self.limit).unwrap_or(0).max(1);
        let labels = [
            self.limit.map(|n| format!("limit {}", Bytes(n))),
            self.threshold.map(|n| format!("threshold {}", Bytes(n))),
        ];
        let gutter = labels.iter().flatten().map(String::len).max().unwrap_or(0).max(8) + 1;
        let columns = look.columns().saturating_sub(gutter + 1).clamp(10, WIDEST);
        let together = self.points.len().div_ceil(columns).max(1);
        // The newest column is always whole.
        let columns: Vec<Option<u64>> =
            self.points.rchunks(together).rev().map(|some| some.iter().flatten().max().copied()).collect();
        let row_of = |n: u64| usize::try_from(u128::from(n) * HEIGHT as u128 / u128::from(top)).unwrap_or(HEIGHT);
        let limit = self.limit.map(row_of);
        let threshold =
            self.threshold.map(row_of).map(|row| if Some(row) == limit { row.saturating_sub(1) } else { row });
        let rows = (0..=HEIGHT).rev().map(|row| {
            let (rule, label) = match row {
                row if limit == Some(row) => (Some(Rule("31")), labels[0].as_deref()),
                row if threshold == Some(row) => (Some(Rule("33")), labels[1].as_deref()),
                _ => (None, None),
            };
            let axis = look.char(if rule.is_some() { '┤' } else { '│' }, if rule.is_some() { '+' } else { '|' });
            let label = format!("{} ", label.unwrap_or(""));
            format!("{label:>gutter$}{axis}{}", painted(&columns, rule, (row, top), look))
        });
        // Nothing is on the highest row but the limit.
        let rows = rows.skip(usize::from(limit != Some(HEIGHT) && threshold != Some(HEIGHT)));
        rows.map(|row| row.trim_end().to_owned()).chain(self.time_axis(columns.len(), together, gutter, look)).collect()
    }

    /// The line below the curve, and its labels.
    fn time_axis(&self, columns: usize, together: usize, gutter: usize, look: &Look) -> [String; 2] {
        let column = self.each.as_secs().saturating_mul(together as u64).max(1);
        let whole = column.saturating_mul(columns as u64);
        let apart = |mark: u64| mark / column;
        let mark = MARKS.into_iter().find(|mark| apart(*mark) >= APART as u64);
        let mut line: Vec<char> = vec![look.char('─', '-'); columns];
        let mut labels = vec![' '; gutter + columns + 1];
        let mut put = |at: usize, text: &str| {
            let begin = (at + text.len()).min(labels.len()).saturating_sub(text.len());
            for (place, c) in labels[begin..].iter_mut().zip(text.chars()) {
                *place = c;
            }
        };
        let before: Vec<u64> =
            mark.map_or(vec![], |mark| (1..).map(|n| n * mark).take_while(|n| *n <= whole).collect());
        for seconds in before {
            let at = columns - usize::try_from(apart(seconds)).unwrap_or(0).min(columns);
            // The end has its own label.
            if at + APART + self.end.len() <= columns {
                line[at] = look.char('┴', '+');
                put(gutter + 1 + at, &format!("-{}", mark_label(seconds)));
            }
        }
        put(gutter + 1 + columns.saturating_sub(self.end.len()), &self.end);
        let zero = format!("{:>gutter$}{}", "0 ", look.char('└', '+'));
        [zero + &line.into_iter().collect::<String>(), labels.into_iter().collect::<String>().trim_end().to_owned()]
    }
}

/// A row of the curve. Where the curve is below it, the rule is seen.
fn painted(columns: &[Option<u64>], rule: Option<Rule>, (row, top): (usize, u64), look: &Look) -> String {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 9] = [' ', '.', '.', ':', ':', ':', '#', '#', '#'];
    let filled: Vec<usize> = columns.iter().map(|value| eighths(*value, row, top)).collect();
    let runs = filled.chunk_by(|a, b| (*a == 0) == (*b == 0)).map(|run| match rule.filter(|_| run[0] == 0) {
        Some(rule) => look.paint.with(rule.0, look.char('─', '-').to_string().repeat(run.len())),
        None => run.iter().map(|n| look.char(EIGHTHS[*n], ASCII[*n])).collect(),
    });
    runs.collect()
}

/// How much of a cell is filled. What is known is never invisible.
fn eighths(value: Option<u64>, row: usize, top: u64) -> usize {
    let Some(value) = value else { return 0 };
    let all = u128::from(value) * (HEIGHT * 8) as u128 / u128::from(top);
    usize::try_from(all).unwrap_or(usize::MAX).max(1).saturating_sub(row * 8).min(8)
}

/// `90 s`, `4 min`, `4.5 min`, `6 h`.
fn mark_label(seconds: u64) -> String {
    match seconds {
        s if s % 3600 == 0 => format!("{} h", s / 3600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s if s % 30 == 0 && s > 120 => format!("{}.5 min", s / 60),
        s => format!("{s} s"),
    }
}

/// A hole keeps the value before it.
fn without_holes(mut points: Vec<Option<u64>>, each: Duration) -> Vec<Option<u64>> {
    let most = usize::try_from(HOLE.as_secs() / each.as_secs().max(1)).unwrap_or(0);
    let (mut last, mut missing) = (None, 0);
    for at in 0..points.len() {
        match points[at] {
            None => missing += 1,
            Some(value) => {
                if let Some(last) = last.filter(|_| missing <= most) {
                    points[at - missing..at].fill(Some(last));
                }
                (last, missing) = (Some(value), 0);
            }
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::terminal::Paint;

    const MIB: u64 = 1 << 20;

    fn look(width: u16, utf8: bool) -> Look {
        Look { paint: Paint { colours: false, width: Some(width) }, utf8, ..Look::default() }
    }

    fn curve(points: Vec<Option<u64>>) -> Curve {
        let end = "02:47:12".to_owned();
        let each = Duration::from_secs(1);
        Curve { points, each, threshold: Some(60 * MIB), limit: Some(100 * MIB), end }
    }

    #[test]
    fn it_fits_and_ends_at_its_last_point() {
        let spike: Vec<_> = (0..300).map(|n| Some(if n < 298 { 20 * MIB } else { 90 * MIB })).collect();
        for width in [80u16, 100, 160, 300] {
            for utf8 in [true, false] {
                let lines = curve(spike.clone()).lines(&look(width, utf8));
                assert!(lines.iter().all(|line| line.chars().count() <= width.into()), "{width}\n{}", lines.join("\n"));
                assert_eq!(lines.len(), HEIGHT + 3);
                let full = if utf8 { "█" } else { "#" };
                assert!(lines[2].ends_with(full) && !lines[3].ends_with("██"), "{}", lines.join("\n"));
                assert!(
                    lines[4].starts_with(if utf8 { "threshold 60Mi ┤─" } else { "threshold 60Mi +-" }),
                    "{}",
                    lines.join("\n")
                );
                assert!(utf8 || lines.iter().all(|line| line.is_ascii()));
            }
        }
        for points in 1..400 {
            let lines = curve(vec![Some(MIB); points]).lines(&look(80, true));
            assert!(lines.iter().all(|line| line.chars().count() <= 80), "{points}\n{}", lines.join("\n"));
        }
        assert!(curve(spike).lines(&look(1, true)).len() > 3);
    }

    #[test]
    fn the_threshold_is_seen_until_the_curve_comes_near() {
        let crossing: Vec<_> = (0..60).map(|n| Some((31 + n) * MIB)).collect();
        let lines = curve(crossing).lines(&look(80, true));
        let rule = lines.iter().find(|line| line.starts_with("threshold")).unwrap();
        assert_eq!(rule.matches('─').count(), 21, "above it in the same row: {rule}");
        assert_eq!(
            ["-30 s", "-90 s", "-2 min", "-4.5 min", "-6 h"],
            [30, 90, 120, 270, 21_600].map(|s| format!("-{}", mark_label(s))).map(|s| s.leak() as &str)
        );
    }

    #[test]
    fn short_holes_are_closed_and_long_ones_are_seen() {
        let mut points = vec![None; 40];
        (points[0], points[10], points[39]) = (Some(1), Some(2), Some(3));
        let all = without_holes(points, Duration::from_secs(1));
        assert_eq!((all[9], all[10], all[11], all[38], all[39]), (Some(1), Some(2), None, None, Some(3)));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let nothing = Curve { threshold: None, limit: None, ..curve(vec![None; 60]) };
        assert!(nothing.lines(&look(80, true)).iter().all(|line| !line.contains('█')));
        let empty = curve(Vec::new());
        assert_eq!((empty.most(), empty.covers()), (None, Duration::ZERO));
        assert!(!empty.lines(&look(80, true)).is_empty());
        // A raised limit: the curve is above the one at its begin.
        let raised = Curve { limit: Some(70 * MIB), ..curve(vec![Some(100 * MIB); 20]) };
        let lines = raised.lines(&look(80, true)).join("\n");
        assert!(lines.contains("limit 70Mi ┤") && lines.contains("threshold 60Mi ┤"), "{lines}");
    }
}
