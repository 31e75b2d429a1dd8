//! A document as a tree whose every value knows its line.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Options, Spanned};

/// Levels of nesting, those that aliases add included; definitions of custom resources have some 40. The parser calls itself
/// for each level: so many take up to 5 MiB of the main thread's 8 in a debug build (*measured*), and less in a release.
const DEEPEST: usize = 128;
/// Values in a document; a file's size bounds them too.
const MOST_VALUES: usize = 2_000_000;

/// Values that anchors may unfold to.
const MOST_ALIASED: usize = 200_000;

/// Why a document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Where in the file, if that is known.
    pub line: Option<u64>,
    pub message: String,
}

/// A value and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Tree,
    /// Its line in the file, from 1.
    pub line: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    /// A truth value, a number: what the API server does not take for text.
    Plain(String),
    Text(String),
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key; none where there is none, or it is null.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().find(|(k, _)| *k == key).map(|(_, node)| node).filter(|node| node.value != Tree::Null)
    }

    /// The value at a path of keys.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Keys and values; none where it is no mapping.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        let entries = if let Tree::Map(entries) = &self.value { entries.as_slice() } else { &[] };
        entries.iter().map(|(key, node)| (key.as_str(), node))
    }

    /// The items; none where it is no sequence.
    #[must_use]
    pub fn items(&self) -> &[Node] {
        if let Tree::List(items) = &self.value { items } else { &[] }
    }

    /// The text, where it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Tree::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The text of any scalar.
    #[must_use]
    pub fn scalar(&self) -> Option<&str> {
        match &self.value {
            Tree::Plain(text) | Tree::Text(text) => Some(text),
            Tree::Null | Tree::List(_) | Tree::Map(_) => None,
        }
    }

    #[must_use]
    pub fn number(&self) -> Option<i64> {
        if let Tree::Plain(text) = &self.value { text.parse().ok() } else { None }
    }
}

/// Reads one document, of YAML or JSON, that begins at `line` of its file.
///
/// # Errors
/// With the line, where it is known, and a sentence.
pub fn parse(text: &str, line: u64) -> Result<Node, ParseError> {
    let begin = text.trim_start();
    let json = begin.starts_with(['{', '[']) && !begin.starts_with("{{");
    // YAML allows no tab where indentation could be; in JSON it is a space like any other.
    let spaced = if json { Some(text.replace('\t', " ")) } else { None };
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST,
            max_nodes: MOST_VALUES,
            max_events: 2 * MOST_VALUES,
            max_recorded_anchor_events: MOST_ALIASED,
            max_aliases: MOST_VALUES,
            // kubectl knows no such bound, and what aliases unfold to has one of its own.
            enforce_alias_anchor_ratio: false,
        },
    };
    let error = match read(spaced.as_deref().unwrap_or(text), line, options) {
        Ok(node) => return Ok(node),
        Err(error) => error,
    };
    // JSON has what YAML has not, such as pairs of escaped surrogates.
    if json && let Ok(Spanned { value: Raw(value), .. }) = serde_json::from_str(text) {
        return Ok(value.placed(line, line));
    }
    let hint = if text.contains("{{") { IF_UNRENDERED } else { "" };
    Err(ParseError { message: error.message + hint, ..error })
}

/// Why a template is refused.
pub const UNRENDERED: &str =
    "it has `{{` in it, so it is a template that was not rendered: give the output of `helm template` or the like";

/// The same where it may be why a document is no YAML.
const IF_UNRENDERED: &str =
    "; it has `{{` in it: if it is a template that was not rendered, give the output of `helm template` or the like";

fn read(text: &str, line: u64, options: Options) -> Result<Node, ParseError> {
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(Spanned { value: Raw(value), referenced, .. }) => Ok(value.placed(referenced.line(), line)),
        Err(error) => {
            let line = error.location().map(|l| l.line()).filter(|l| *l > 0).map(|l| l + line - 1);
            let said = error.without_snippet().to_string();
            let said = said.lines().next().unwrap_or_default();
            if said.contains("budget breached") || said.contains("alias replay") || said.contains("recursion limit") {
                let text =
                    "it is nested too deeply, has too many values, or its aliases unfold to too many: write them out";
                return Err(ParseError { line, message: text.into() });
            }
            // Its own line counts from where the document begins, so it is left out.
            let end = [" at line ", ": line ", " (line "].iter().filter_map(|mark| said.rfind(mark)).min();
            let said = match said.strip_prefix("error: ").unwrap_or(said) {
                text if text.starts_with("line ") => text.split_once(": ").map_or(text, |(_, rest)| rest),
                text => end.filter(|end| *end < text.len()).map_or(text, |end| &text[..end]),
            };
            let message = format!("it is not valid YAML: {}", said.chars().take(200).collect::<String>());
            Err(ParseError { line, message })
        }
    }
}

/// As the parser gives it: lines count from where the document begins, and are 0 where JSON was read as such.
struct Raw(RawTree);

enum RawTree {
    Leaf(Tree),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(String, Spanned<Raw>)>),
}

impl RawTree {
    fn placed(self, own: u64, first: u64) -> Node {
        let line = if own == 0 { first } else { own + first - 1 };
        let child = |node: Spanned<Raw>| {
            let own = node.referenced.line();
            // A value without a line is where its parent is.
            if own == 0 { node.value.0.placed(line, 1) } else { node.value.0.placed(own, first) }
        };
        let value = match self {
            RawTree::Leaf(leaf) => leaf,
            RawTree::List(items) => Tree::List(items.into_iter().map(child).collect()),
            RawTree::Map(entries) => Tree::Map(entries.into_iter().map(|(key, node)| (key, child(node))).collect()),
        };
        Node { value, line }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

struct Builder;

fn plain<E>(value: impl ToString) -> Result<Raw, E> {
    Ok(Raw(RawTree::Leaf(Tree::Plain(value.to_string()))))
}

impl<'de> Visitor<'de> for Builder {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw(RawTree::Leaf(Tree::Null)))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw(RawTree::Leaf(Tree::Null)))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        plain(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        plain(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        plain(value)
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        plain(value)
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        plain(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        plain(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw(RawTree::Leaf(Tree::Text(value.to_owned()))))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw(RawTree::Leaf(Tree::Text(value))))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Raw, E> {
        Ok(Raw(RawTree::Leaf(Tree::Text(String::from_utf8_lossy(value).into_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw(RawTree::List(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        // If a key is there twice, kubectl takes the last.
        let (mut entries, mut places) = (Vec::new(), HashMap::<_, usize>::new());
        while let Some((key, value)) = map.next_entry::<String, Spanned<Raw>>()? {
            match places.get(&key).copied() {
                Some(place) => entries[place] = (key, value),
                None => {
                    places.insert(key.clone(), entries.len());
                    entries.push((key, value));
                }
            }
        }
        Ok(Raw(RawTree::Map(entries)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines() {
        let node = parse("a:\n  b: 60\n  c: \"60\"\n  d: [x,\n   y]\n  e: null\n  f: yes\n", 10).unwrap();
        let at = |path: &[&str]| node.at(path).map(|n| (n.scalar(), n.line));
        assert_eq!(at(&["a", "b"]), Some((Some("60"), 11)));
        assert_eq!(node.at(&["a", "b"]).unwrap().text(), None);
        assert_eq!(node.at(&["a", "c"]).unwrap().text(), Some("60"));
        assert_eq!(node.at(&["a", "d"]).unwrap().items()[1].line, 14);
        assert_eq!(at(&["a", "e"]), None);
        assert_eq!(at(&["a", "f"]), Some((Some("true"), 16)));
    }

    #[test]
    fn anchors_and_merges_are_followed() {
        let node = parse("x: &x {memory: 1Gi}\ny:\n  <<: *x\nz: *x\n", 1).unwrap();
        assert_eq!(node.at(&["y", "memory"]).and_then(Node::text), Some("1Gi"));
        assert_eq!(node.at(&["z", "memory"]).and_then(Node::text), Some("1Gi"));
    }

    #[test]
    fn of_a_key_twice_the_last_is_taken() {
        for text in [
            "a: 1\nb: {c: 2, c: 3}\na: 4\n",
            "{\"a\": 1,\n\"b\": {\"c\": 2, \"c\": 3},\n\"a\": 4, \"e\": \"\\ud83d\\ude00\"}",
        ] {
            let node = parse(text, 1).unwrap();
            let number = |path: &[&str]| node.at(path).and_then(Node::number);
            assert_eq!((number(&["a"]), number(&["b", "c"])), (Some(4), Some(3)), "{text}");
        }
        let merged = parse("x: &x {memory: 1Gi}\ny: {<<: *x, memory: 2Gi}\nz: {memory: 2Gi, <<: *x}\n", 1).unwrap();
        for key in ["y", "z"] {
            assert_eq!(merged.at(&[key, "memory"]).and_then(Node::text), Some("2Gi"), "{key}");
        }
    }

    #[test]
    fn what_is_wrong_comes_before_the_hint_at_a_template() {
        let ParseError { line, message: said } = parse("a: \"{{ .x }}\"\nb: [\nc: d\n", 1).unwrap_err();
        assert!(line.is_some_and(|l| l > 1), "{line:?}");
        assert!(said.starts_with("it is not valid YAML: ") && said.ends_with(IF_UNRENDERED), "{said}");
    }

    #[test]
    fn braces_in_json_are_text() {
        assert!(parse("{\n\t\"a\": \"{{ .x }}\"}", 1).is_ok());
    }

    #[test]
    fn errors_have_the_line_of_the_file() {
        let ParseError { line, message: said } = parse("a: 1\nb: [\n", 40).unwrap_err();
        assert!(line.is_some_and(|l| (41..=43).contains(&l)), "{line:?}");
        assert!(!said.contains("line"), "{said}");
    }
}
