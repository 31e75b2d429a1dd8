//! Helpers for text: shorten, join, compare.

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        let c_text = c.to_string();
        // Many wrappers repeat their source in their own text.
        if !text.contains(&c_text) {
            text.push_str(": ");
            text.push_str(&c_text);
        }
        cause = c.source();
    }
    text
}

/// As kubectl reads text: in UTF-16 where a byte order mark says so, else in UTF-8; what is neither is replaced.
#[must_use]
pub fn decoded(bytes: &[u8]) -> String {
    let utf16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = rest.chunks(2).map(|pair| if let [a, b] = *pair { unit([a, b]) } else { 0xfffd });
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Cuts a text from outside to at most 80 characters.
#[must_use]
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The known word of which `word` is probably a misspelling: at most a third of the shorter word would have to change.
#[must_use]
pub fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, nearest) = known.into_iter().map(|k| (edits(word, k), k)).min()?;
    (distance <= word.len().min(nearest.len()) / 3).then_some(nearest)
}

/// The known word most like `word`. The beginning counts most (Jaro–Winkler), because keys have their subject there.
#[must_use]
pub fn nearest(word: &str, known: &[&'static str]) -> &'static str {
    let word = first(word);
    let like = |known: &str| strsim::jaro_winkler(&word, known);
    let nearest = known.iter().max_by(|a, b| like(a).total_cmp(&like(b)));
    nearest.copied().unwrap_or("")
}

/// The Levenshtein distance; only the first 64 characters count.
fn edits(a: &str, b: &str) -> usize {
    strsim::levenshtein(&first(a), &first(b))
}

fn first(text: &str) -> String {
    text.chars().take(64).collect()
}
