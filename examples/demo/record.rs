//! `--record FILE`: the terminal as an animated SVG.
//!
//! A recording receives what would otherwise be written to a terminal, keeps the cells of that terminal, and remembers
//! from when to when each piece of a line was visible. The picture has no script: CSS shows each piece at its time, in a
//! loop. Viewers without animation, and people who prefer less motion, see the last frame.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Instant;

/// The width of the recorded terminal.
pub const COLUMNS: usize = 80;
/// For how long the last frame stays before the loop starts again, in milliseconds: the outcome takes time to read.
const HOLD: u64 = 12_000;
/// Width and height of a cell, and the margin around all cells, in pixels.
const CELL: (f64, f64) = (8.4, 18.0);
const MARGIN: f64 = 14.0;

/// What stands side by side in one colour.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    row: usize,
    column: usize,
    /// As ANSI numbers it; 0: the terminal's own.
    color: u8,
    text: String,
}

/// From when to when something was visible, in milliseconds since the start of the recording.
type Span = (u64, u64);

/// A terminal of [`COLUMNS`], and what it has shown so far.
pub struct Recording {
    start: Instant,
    cells: Vec<Vec<(char, u8)>>,
    /// Where the next line goes.
    row: usize,
    /// What is visible now, and since when.
    now: BTreeMap<Piece, u64>,
    past: Vec<(Span, Piece)>,
}

impl Recording {
    /// Starts one. The first line shows the command as it is without `--record`.
    pub fn new() -> Recording {
        let (cells, now, past) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut recording = Recording { start: Instant::now(), cells, row: 0, now, past };
        let mut words = std::env::args().skip(1);
        let mut command = "$ cargo demo".to_owned();
        while let Some(word) = words.next() {
            match word.strip_prefix("--record") {
                Some("") => drop(words.next()),
                Some(_) => (),
                None => command += &format!(" {word}"),
            }
        }
        recording.write(&format!("{command}\n"));
        recording
    }

    /// Shows whole lines, as a terminal does. It knows the control codes that `screen.rs` writes, and no others.
    pub fn write(&mut self, text: &str) {
        for line in text.split_inclusive('\n') {
            let mut cells = Vec::new();
            let mut color = 0;
            for (i, part) in line.trim_end_matches('\n').split('\x1b').enumerate() {
                let code = if i == 0 { 0 } else { part.find(|c: char| c.is_ascii_alphabetic()).map_or(0, |at| at + 1) };
                let (code, shown) = part.split_at(code);
                match code.strip_prefix('[').and_then(|code| code.split_at_checked(code.len() - 1)) {
                    Some((lines, "A")) => self.row = self.row.saturating_sub(lines.parse().unwrap_or(0)),
                    Some((number, "m")) => color = number.parse().unwrap_or(0),
                    _ => {} // clears the rest of a line, which we do anyway; hides the cursor
                }
                cells.extend(shown.chars().map(|c| (c, color)));
            }
            if line.ends_with('\n') {
                self.cells.resize(self.cells.len().max(self.row + 1), Vec::new());
                self.cells[self.row] = cells;
                self.row += 1;
            }
        }
        self.compare();
    }

    /// Compares what is visible now with what was visible before. To 10 ms: more would only make the picture larger.
    fn compare(&mut self) {
        let at = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX) / 10 * 10;
        let rows = self.cells.iter().enumerate();
        let pieces: BTreeSet<Piece> = rows.flat_map(|(row, cells)| pieces(row, cells)).collect();
        let gone: Vec<Piece> = self.now.keys().filter(|piece| !pieces.contains(*piece)).cloned().collect();
        for piece in gone {
            let from = self.now.remove(&piece).unwrap_or(at);
            self.past.push(((from, at), piece));
        }
        for piece in pieces {
            self.now.entry(piece).or_insert(at);
        }
    }

    /// The picture. `outcome` describes it in words.
    pub fn svg(&self, outcome: &str) -> String {
        let last = self.now.values().chain(self.past.iter().map(|((_, to), _)| to)).max().copied().unwrap_or(0);
        let end = last + HOLD;
        let lasting = self.now.iter().map(|(piece, from)| ((*from, end), piece));
        let mut drawn: BTreeMap<Span, String> = BTreeMap::new();
        for (span, piece) in self.past.iter().map(|(span, piece)| (*span, piece)).chain(lasting) {
            *drawn.entry(span).or_default() += &draw(piece);
        }
        let (width, height) = (COLUMNS as f64 * CELL.0 + 2.0 * MARGIN, self.cells.len() as f64 * CELL.1 + 2.0 * MARGIN);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n<title id=\"title\">{TITLE}</title>\n\
             <desc id=\"desc\">{}</desc>\n<style>\n{STYLE}{}</style>\n\
             <rect x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
            escaped(outcome),
            animations(drawn.keys(), end),
            width - 1.0,
            height - 1.0
        );
        for ((from, to), pieces) in drawn {
            let _ = if (from, to) == (0, end) {
                writeln!(svg, "<g>{pieces}</g>")
            } else {
                let (length, last) = (to - from, if to == end { " last" } else { "" });
                writeln!(svg, "<g class=\"f d{length}{last}\" style=\"animation-delay:-{}ms\">{pieces}</g>", end - from)
            };
        }
        svg + "</svg>\n"
    }
}

/// A loop of `end` for each length of time for which something is visible. A delay says when in the loop that is; it is
/// negative, so that all loops run from the start.
fn animations<'a>(spans: impl Iterator<Item = &'a Span>, end: u64) -> String {
    let mut css = format!(".f{{visibility:hidden;animation:{end}ms step-end infinite}}\n.last{{visibility:visible}}\n");
    let lengths: BTreeSet<u64> = spans.map(|(from, to)| to - from).filter(|length| *length < end).collect();
    for length in lengths {
        let percent = length as f64 / end as f64 * 100.0;
        let frames = format!("0%{{visibility:visible}}{percent:.4}%{{visibility:hidden}}");
        let _ = writeln!(css, ".d{length}{{animation-name:d{length}}}@keyframes d{length}{{{frames}}}");
    }
    css + "@media (prefers-reduced-motion:reduce){.f{animation:none}}\n"
}

const TITLE: &str = "A recording of cargo demo in a terminal";
/// A dark terminal with a border is legible on a light page and on a dark one.
const STYLE: &str = "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#e6edf3;\
white-space:pre}\nrect{fill:#0d1117;stroke:#3d444d}\n.bar{stroke:none}.c0{fill:#e6edf3}.c31{fill:#ff7b72}.c32{fill:#3fb950}\
.c33{fill:#e3b341}.free{opacity:.25}\npath{fill:none;stroke:#e6edf3}\n";

/// The pieces of a line: text apart from the characters of a bar, and text apart where two spaces are between.
fn pieces(row: usize, cells: &[(char, u8)]) -> Vec<Piece> {
    let kind = |c: char| if "█░│┐".contains(c) { c } else { 'a' };
    let mut pieces: Vec<Piece> = Vec::new();
    let mut spaces = 0;
    for (column, (c, color)) in cells.iter().copied().enumerate() {
        if c == ' ' {
            spaces += 1;
            continue;
        }
        let alike = |piece: &&mut Piece| piece.color == color && piece.text.chars().last().map(kind) == Some(kind(c));
        match pieces.last_mut().filter(|_| spaces < 2).filter(alike) {
            Some(piece) => piece.text += &format!("{:spaces$}{c}", ""),
            None => pieces.push(Piece { row, column, color, text: c.into() }),
        }
        spaces = 0;
    }
    pieces
}

/// One of them. Bars and marks are drawn, because they do not join in all fonts; text keeps to its cells in any font.
fn draw(Piece { row, column, color, text }: &Piece) -> String {
    let (x, y) = (MARGIN + *column as f64 * CELL.0, MARGIN + *row as f64 * CELL.1);
    let width = text.chars().count() as f64 * CELL.0;
    let (across, down) = (x + CELL.0 / 2.0, y + CELL.1 / 2.0);
    match text.chars().next() {
        Some(c @ ('█' | '░')) => {
            let (free, top, height) = (if c == '░' { " free" } else { "" }, y + 2.0, CELL.1 - 4.0);
            format!(
                "<rect class=\"bar c{color}{free}\" x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\"/>"
            )
        }
        Some('│') => format!("<path d=\"M{across:.1} {y}v{}\"/>", CELL.1),
        Some('┐') => format!("<path d=\"M{x:.1} {down}H{across:.1}V{}\"/>", y + CELL.1),
        _ => format!("<text x=\"{x:.1}\" y=\"{}\" textLength=\"{width:.1}\">{}</text>", y + 13.0, escaped(text)),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
