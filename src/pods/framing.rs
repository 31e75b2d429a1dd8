//! Cuts a response of the API server into objects while it comes in. Only the current object is held, and only the
//! beginning of one that is too large: neither a long list nor a large pod costs much memory.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};

use super::pod::{PodRef, PodUid};

/// The largest object that is read, in bytes. etcd accepts 1.5 MiB; as JSON, with escapes and field names, that is
/// seldom more than twice as much.
pub(super) const LARGEST_OBJECT: usize = 3 << 20;
/// So many bytes of a larger one are kept. They are enough to know which pod it is: an API server writes its name first.
const BEGINNING: usize = 16 * 1024;

/// The JSON text of an object; of one that is too large, its beginning.
#[derive(Debug, Default)]
pub(super) struct ObjectText {
    kept: Vec<u8>,
    size: usize,
}

impl ObjectText {
    fn push(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len());
        if self.size <= LARGEST_OBJECT {
            self.kept.extend_from_slice(bytes);
        } else if self.kept.len() > BEGINNING {
            self.kept.truncate(BEGINNING);
            self.kept.shrink_to_fit();
        } else {
            let room = BEGINNING - self.kept.len();
            self.kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
        }
    }

    /// The whole text; `None` if the object is too large.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (self.size <= LARGEST_OBJECT).then_some(&self.kept)
    }

    /// Which object it is, as far as the beginning says.
    pub(super) fn head(&self) -> Head {
        let mut head = Head::default();
        // The text may end in the middle, which is an error; what was read before it counts.
        let mut json = serde_json::Deserializer::from_slice(&self.kept);
        let _ = json.deserialize_map(HeadReader { head: &mut head, level: Part::Top });
        head
    }
}

/// What the beginning of a pod, or of an event of a watch, says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Head {
    /// The type of a watch event: `ADDED` and the like.
    pub kind: String,
    pub id: PodRef,
    pub version: String,
}

#[derive(Clone, Copy)]
enum Part {
    /// A pod, or an event of a watch whose `object` is a pod.
    Top,
    Metadata,
}

struct HeadReader<'a> {
    head: &'a mut Head,
    level: Part,
}

impl<'de> de::DeserializeSeed<'de> for HeadReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeadReader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let head = &mut *self.head;
            match (self.level, &*key) {
                (Part::Top, "type") => head.kind = map.next_value()?,
                (Part::Top, "object") => map.next_value_seed(HeadReader { head, level: Part::Top })?,
                (Part::Top, "metadata") => map.next_value_seed(HeadReader { head, level: Part::Metadata })?,
                (Part::Metadata, "namespace") => head.id.namespace = map.next_value()?,
                (Part::Metadata, "name") => head.id.name = map.next_value()?,
                (Part::Metadata, "uid") => head.id.uid = PodUid(map.next_value()?),
                (Part::Metadata, "resourceVersion") => head.version = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Cuts a list into its items.
#[derive(Debug, Default)]
pub(super) struct ListSplitter {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The beginning of the last string at the top level of the list. Before a `[` it is the array's name.
    name: Vec<u8>,
    in_items: bool,
    item: ObjectText,
    /// The text of the list without its items.
    rest: ObjectText,
}

/// A list without its items.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListHead {
    pub metadata: ListMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMeta {
    pub resource_version: Option<String>,
    pub r#continue: Option<String>,
}

const ITEMS: &[u8] = b"items";

impl ListSplitter {
    /// Takes in some bytes, and calls `each` for every item that is complete with them.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&ObjectText)) {
        let mut from = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    byte if self.depth == 1 && self.name.len() <= ITEMS.len() => self.name.push(*byte),
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    if self.depth == 1 {
                        self.name.clear();
                    }
                }
                b'{' | b'[' => {
                    if self.in_items && self.depth == 2 {
                        self.rest.push(&bytes[from..at]);
                        from = at;
                    }
                    self.in_items |= *byte == b'[' && self.depth == 1 && self.name == ITEMS;
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.in_items && self.depth == 2 {
                        self.item.push(&bytes[from..=at]);
                        from = at + 1;
                        each(&std::mem::take(&mut self.item));
                    }
                    self.in_items &= self.depth > 1;
                }
                b',' if self.in_items && self.depth == 2 => {
                    self.rest.push(&bytes[from..at]);
                    from = at + 1;
                }
                _ => {}
            }
        }
        let open = if self.in_items && self.depth > 2 { &mut self.item } else { &mut self.rest };
        open.push(&bytes[from..]);
    }

    /// Ends the list, and reads it without its items.
    pub(super) fn end(self) -> Result<ListHead, serde_json::Error> {
        serde_json::from_slice(&self.rest.kept)
    }
}

/// Cuts a watch into its lines.
#[derive(Debug, Default)]
pub(super) struct LineSplitter(ObjectText);

impl LineSplitter {
    /// Takes in some bytes, and calls `each` for every line that is complete with them.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&ObjectText)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.0.push(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.0);
            if line.size > 0 {
                each(&line);
            }
        }
        self.0.push(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// The items and the head of a list that comes in pieces of that size.
    fn cut(list: &str, piece: usize) -> (Vec<Value>, Result<ListHead, serde_json::Error>) {
        let (mut cutter, mut items) = (ListSplitter::default(), Vec::new());
        for bytes in list.as_bytes().chunks(piece) {
            cutter.push(bytes, |item| items.push(serde_json::from_slice(item.whole().unwrap()).unwrap()));
        }
        (items, cutter.end())
    }

    #[test]
    fn a_list_is_cut_into_its_items_wherever_its_pieces_end() {
        let items = [
            json!({"a": "}],\"[{\\", "b": [[1], {"items": [2]}]}),
            json!({}),
            json!({"metadata": {"name": "ü\u{1}", "items": ["x"]}}),
        ];
        for list in [
            json!({"kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "t"}, "items": items})
                .to_string(),
            format!(
                r#"{{ "items" : [ {} , {} ,{}] , "kind":"items", "x":[1,2], "metadata":{{"continue":"t","resourceVersion":"7"}} }}"#,
                items[0], items[1], items[2]
            ),
        ] {
            for piece in [1, 2, 3, 7, 1000] {
                let (found, head) = cut(&list, piece);
                assert_eq!(found, items, "{list} in pieces of {piece}");
                let meta = head.unwrap().metadata;
                assert_eq!((meta.resource_version.as_deref(), meta.r#continue.as_deref()), (Some("7"), Some("t")));
            }
        }
        for empty in [json!({"metadata": {"resourceVersion": "7"}, "items": null}), json!({"items": []})] {
            let (found, head) = cut(&empty.to_string(), 3);
            assert!(found.is_empty() && head.is_ok(), "{empty}");
        }
        assert!(cut(r#"{"metadata":{"resourceVersion":"7"},"items":[{}"#, 5).1.is_err(), "it ended too early");
    }

    #[test]
    fn of_a_large_object_the_beginning_is_kept_and_says_who_it_is() {
        let names = r#""metadata":{"name":"big","namespace":"demo","uid":"u","resourceVersion":"9""#;
        let long = "x".repeat(LARGEST_OBJECT);
        let line = format!(r#"{{"type":"MODIFIED","object":{{"kind":"Pod",{names},"labels":{{"a":"{long}"}}}}}}}}"#);
        let (mut lines, mut heads) = (LineSplitter::default(), Vec::new());
        for bytes in format!("{line}\n\n{{\"type\":\"A\"}}\n{{").as_bytes().chunks(10_000) {
            lines.push(bytes, |line| {
                assert!(line.kept.capacity() <= BEGINNING, "{}", line.kept.capacity());
                heads.push((line.whole().is_some(), line.head()));
            });
        }
        let id = PodRef { namespace: "demo".into(), name: "big".into(), uid: PodUid("u".into()) };
        let big = Head { kind: "MODIFIED".into(), id, version: "9".into() };
        let small = Head { kind: "A".into(), ..Head::default() };
        assert_eq!(heads, [(false, big), (true, small)]);
        // In one piece, too.
        let mut text = ObjectText::default();
        text.push(line.as_bytes());
        assert_eq!((text.whole(), text.head().id.name.as_str(), text.kept.len()), (None, "big", BEGINNING));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(prop::sample::select(b"{}[],\":\\items \n1".to_vec()), 0..200),
            piece in 1usize..50) {
            let (mut list, mut lines) = (ListSplitter::default(), LineSplitter::default());
            for bytes in bytes.chunks(piece) {
                list.push(bytes, |item| drop(item.head()));
                lines.push(bytes, |line| drop(line.head()));
            }
            let _ = list.end();
        }
    }
}
