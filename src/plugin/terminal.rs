//! Text as a terminal shows it: in colours, folded, in columns.

use std::fmt::{Display, Write};

use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Text in colour or plain, folded or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paint {
    /// On a terminal that wants it.
    pub colours: bool,
    /// A terminal's width, at which messages are folded.
    pub width: Option<u16>,
}

impl Paint {
    pub(super) fn with(self, code: &str, text: impl Display) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// The terminal's width without so many columns.
    pub(super) fn less(self, columns: usize) -> Option<usize> {
        self.width.map(|width| usize::from(width).saturating_sub(columns))
    }
}

/// A width for what is drawn where nobody says how wide the terminal is.
const COLUMNS: u16 = 80;

/// A space at which no line is folded.
const GLUE: &str = "\u{a0}";

/// How a text is to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    pub paint: Paint,
    /// The terminal shows more than ASCII.
    pub utf8: bool,
    /// What the user calls the program: `kubectl preoom`, for commands to copy.
    pub program: &'static str,
    pub now: Timestamp,
}

impl Look {
    pub(super) fn columns(&self) -> usize {
        self.paint.width.unwrap_or(COLUMNS).into()
    }

    pub(super) fn char(&self, utf8: char, ascii: char) -> char {
        if self.utf8 { utf8 } else { ascii }
    }

    /// The text in lines that fit, with so many spaces before each; and with `first` before the first. What is between
    /// backticks is to be copied, and stays on one line.
    pub(super) fn paragraph(&self, first: &str, indent: usize, text: &str) -> String {
        let parts = text.split('`').enumerate();
        let glued: Vec<String> =
            parts.map(|(n, part)| if n % 2 == 1 { part.replace(' ', GLUE) } else { part.to_owned() }).collect();
        let lines = folded(&glued.join("`"), self.paint.less(indent));
        let lines: Vec<String> = lines.into_iter().map(|line| line.replace(GLUE, " ")).collect();
        let indented = lines.iter().enumerate().map(|(n, line)| match n {
            0 => format!("{first:indent$}{line}\n"),
            _ => format!("{:indent$}{line}\n", ""),
        });
        indented.collect()
    }
}

/// At most `width` wide lines, folded at spaces; words that are too long stay whole.
pub(super) fn folded(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width else { return vec![text.to_owned()] };
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A table: the first line has the titles. A column without a title belongs to the one before it.
pub(super) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for ((cell, width), title) in line.iter().zip(&widths).zip(&lines[0]) {
            let gap = match title.as_str() {
                _ if text.is_empty() => 0,
                "" => 1,
                _ => 2,
            };
            // Writing to a String cannot fail.
            let _ = write!(text, "{:gap$}{cell}{:pad$}", "", "", pad = width - cell.width());
        }
        let _ = writeln!(out, "{}", text.trim_end());
    }
    out
}

/// Cuts the middle out of a text that is too wide: the names of an owner's pods differ at their ends.
pub(super) fn middle(text: String, width: usize) -> String {
    if text.width() <= width || width < 3 {
        return text;
    }
    let end = (width - 1) / 2;
    let fits = |most: usize, c: &char, taken: &mut usize| {
        *taken += c.width().unwrap_or(0);
        *taken <= most
    };
    let (mut left, mut right) = (0, 0);
    let head: String = text.chars().take_while(|c| fits(width - 1 - end, c, &mut left)).collect();
    let tail: Vec<char> = text.chars().rev().take_while(|c| fits(end, c, &mut right)).collect();
    head.chars().chain(['…']).chain(tail.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_stays_on_one_line() {
        let look = Look { paint: Paint { colours: false, width: Some(24) }, ..Look::default() };
        let text = look.paragraph("- ", 2, "See why: `a long command -n x` and go on with it.");
        assert_eq!(text, "- See why:\n  `a long command -n x`\n  and go on with it.\n");
        let piped = Look::default().paragraph("- ", 2, "An odd ` one, and one `b c`");
        assert_eq!(piped, "- An odd ` one, and one `b c`\n");
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(middle("web-7d9c5b8f6c-x39".into(), 11), "web-7…c-x39");
        assert_eq!(middle("web".into(), 3), "web");
        assert_eq!(middle("日本語日本語".into(), 7), "日…語");
        assert_eq!(middle("long".into(), 2), "long");
    }
}
