//! Makes text that somebody else wrote safe to print on a terminal.

use std::fmt::Write;

/// The text with escapes (`\u{1b}`) for all characters that could move the cursor, change colours or change the direction of
/// writing.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible_control(c) {
            // Writing to a String cannot fail.
            let _ = write!(clean, "\\u{{{:x}}}", u32::from(c));
        } else {
            clean.push(c);
        }
    }
    clean
}

/// JSON in lines, with escapes for all characters that a terminal obeys (JSON itself escapes only those below a space).
#[must_use]
pub fn json_text(value: &serde_json::Value) -> String {
    let mut clean = String::new();
    for c in format!("{value:#}\n").chars() {
        if c != '\n' && (c.is_control() || is_invisible_control(c)) {
            // Only texts have such characters. Writing to a String cannot fail.
            let _ = write!(clean, "\\u{:04x}", u32::from(c));
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Bidirectional controls, line and paragraph separators, zero-width characters: invisible, they change what is visible.
fn is_invisible_control(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{61c}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_through_that_a_terminal_obeys() {
        assert_eq!(printable("web-0 ünï"), "web-0 ünï");
        assert_eq!(printable("a\x1b[2Jb\r\n\t\u{9b}c"), "a\\u{1b}[2Jb\\u{d}\\u{a}\\u{9}\\u{9b}c");
        assert_eq!(printable("a\u{202e}b\u{feff}"), "a\\u{202e}b\\u{feff}");
        let value = serde_json::json!({"a": "\x1b\u{9b}\u{7f}\u{202e}ü"});
        let text = json_text(&value);
        assert_eq!(text, "{\n  \"a\": \"\\u001b\\u009b\\u007f\\u202eü\"\n}\n");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
