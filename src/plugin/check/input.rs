//! Files, directories and stdin → documents, each with the line it begins at; or why one cannot be read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::tree::{Node, ParseError, Tree, parse};
use super::unknown_kind::guard_in;
use crate::ground::text::decoded;

/// No manifest is larger. (The API server takes objects of about 1.5 MB; a chart with all its definitions is some MB.)
pub const LARGEST_FILE: u64 = 32 << 20;
/// Files of one directory; nobody means to check more.
const MOST_FILES: usize = 20_000;
const DEEPEST: usize = 32;
const MOST_DOCUMENTS: usize = 20_000;

/// One object as a file has it; or, where there is no `kind`, something else.
#[derive(Debug)]
pub struct Document {
    /// The file as it was named; `stdin` for `-`.
    pub file: String,
    /// From 1, counting those that are not empty.
    pub number: usize,
    pub root: Node,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Unreadable {
    /// The file as it was named.
    pub file: String,
    /// Which document of it; none: the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What is wrong, and what to do.
    pub message: String,
}

#[derive(Debug, Default)]
pub struct Input {
    /// In the order of the arguments; directories by name.
    pub documents: Vec<Document>,
    pub unreadable: Vec<Unreadable>,
}

impl Input {
    /// Reads files, directories (`recursive`: also those in them) and `-`, which is `stdin`.
    pub fn read(names: &[String], recursive: bool, stdin: &mut dyn Read) -> Input {
        let mut input = Input::default();
        for name in names {
            if name == "-" {
                input.take_in("stdin", stdin, true);
                continue;
            }
            let path = Path::new(name);
            if !path.is_dir() {
                input.take_file(path, true);
                continue;
            }
            let mut files = Vec::new();
            match list(path, if recursive { DEEPEST } else { 0 }, &mut files) {
                Ok(()) if files.is_empty() => {
                    let hint = if recursive { "" } else { "; -R also reads the directories in it" };
                    input.refuse(name, None, None, format!("there is no .yaml, .yml or .json file in it{hint}"));
                }
                Ok(()) => files.iter().for_each(|file| input.take_file(file, false)),
                Err(error) => input.refuse(name, None, None, error.to_string()),
            }
        }
        input
    }

    fn take_file(&mut self, path: &Path, named: bool) {
        let shown = path.display().to_string();
        match File::open(path) {
            Ok(mut file) => self.take_in(&shown, &mut file, named),
            Err(error) => self.refuse(&shown, None, None, error.to_string()),
        }
    }

    fn take_in(&mut self, file: &str, from: &mut dyn Read, named: bool) {
        match text_of(from) {
            Ok(text) => self.take_text(file, &text, named),
            Err(message) => self.refuse(file, None, None, message),
        }
    }

    /// Adds a file's text. A file that was `named` (and not just found in a directory) has to hold objects.
    pub fn take_text(&mut self, file: &str, text: &str, named: bool) {
        let mut number = 0;
        for (line, part) in split(text) {
            if is_empty(part) {
                continue;
            }
            let parsed = parse(part, line);
            if parsed.as_ref().is_ok_and(|root| root.value == Tree::Null) {
                continue;
            }
            number += 1;
            if number > MOST_DOCUMENTS {
                self.refuse(
                    file,
                    None,
                    Some(line),
                    format!("more than {MOST_DOCUMENTS} documents: give fewer at once"),
                );
                return;
            }
            match parsed {
                Ok(root) if root.get("kind").and_then(Node::text).is_some() => {
                    self.documents.push(Document { file: file.to_owned(), number, root });
                }
                // Such as a chart's values; a guard in them is worth a word.
                Ok(root) if !named && guard_in(&root).is_none() => {}
                Ok(root) if !named => self.documents.push(Document { file: file.to_owned(), number, root }),
                Ok(root) => {
                    let guard = guard_in(&root).map_or_else(String::new, |(field, line)| {
                        format!(", but a guard ({field}, line {line}): of a chart's values, give the output of `helm template`")
                    });
                    let message = format!("it is not a Kubernetes object: it has no `kind`{guard}");
                    self.refuse(file, Some(number), Some(root.line), message);
                }
                // Of a file whose every document is a template, one refusal is enough.
                Err(ParseError { message, .. })
                    if self.unreadable.last().is_some_and(|u| u.file == file && u.message == message) => {}
                Err(ParseError { line, message }) => self.refuse(file, Some(number), line, message),
            }
        }
        if number == 0 && named {
            self.refuse(file, None, None, "it is empty: there is no object in it".into());
        }
    }

    /// Records what cannot be read.
    pub fn refuse(&mut self, file: &str, document: Option<usize>, line: Option<u64>, message: String) {
        self.unreadable.push(Unreadable { file: file.to_owned(), document, line, message });
    }
}

/// All manifests in a directory, sorted. Links to directories are not followed, so this ends.
fn list(directory: &Path, deeper: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = std::fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let manifest = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if kind.is_dir() && deeper > 0 {
            list(&path, deeper - 1, files)?;
        } else if manifest && path.is_file() {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            return Err(io::Error::other(format!(
                "more than {MOST_FILES} files in it: name one of the directories in it"
            )));
        }
    }
    Ok(())
}

fn text_of(from: &mut dyn Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!("it is larger than {} MiB, too large for a manifest", LARGEST_FILE >> 20));
    }
    let text = decoded(&bytes);
    match text.bytes().position(|b| b == 0) {
        Some(at) => Err(format!(
            "it is not text (zero byte at {at}): a binary file, or UTF-16 without a byte order mark; give YAML or JSON in UTF-8"
        )),
        None => Ok(text),
    }
}

/// The documents of a stream with the line that each begins at. A line that begins with `---` begins one, whatever is
/// around it (YAML 1.2.2, 9.1.2); objects of JSON may also follow one another without.
fn split(text: &str) -> Vec<(u64, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{')
        && let Some(parts) = split_json(text)
    {
        return parts;
    }
    let mut parts = Vec::new();
    let (mut begin, mut begin_line, mut at) = (0, 1, 0);
    for (line, part) in (1..).zip(text.split_inclusive('\n')) {
        let after = part.strip_prefix("---");
        if after.is_some_and(|rest| rest.trim_end().is_empty() || rest.starts_with([' ', '\t'])) {
            parts.push((begin_line, &text[begin..at]));
            (begin, begin_line) = (at, line);
        }
        at += part.len();
    }
    parts.push((begin_line, &text[begin..]));
    parts
}

/// `None` where it is not JSON after all.
fn split_json(text: &str) -> Option<Vec<(u64, &str)>> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    let (mut parts, mut begin, mut line) = (Vec::new(), 0, 1);
    while let Some(value) = values.next() {
        value.ok()?;
        let part = &text[begin..values.byte_offset()];
        parts.push((line, part));
        line += part.bytes().map(|b| u64::from(b == b'\n')).sum::<u64>();
        begin = values.byte_offset();
    }
    Some(parts)
}

/// Nothing but comments, directives and markers.
fn is_empty(part: &str) -> bool {
    part.lines().all(|line| {
        let line = line.strip_prefix("---").unwrap_or(line).trim();
        line.is_empty() || line.starts_with(['#', '%']) || line == "..."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a stack such as the program has; threads of tests have a smaller one.
    fn read(text: &str) -> Input {
        let read = || {
            let mut input = Input::default();
            input.take_text("f", text, true);
            input
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(8 << 20);
            thread.spawn_scoped(scope, read).unwrap().join().unwrap()
        })
    }

    fn message(text: &str) -> String {
        let input = read(text);
        assert_eq!((input.documents.len(), input.unreadable.len()), (0, 1), "{input:?}");
        input.unreadable[0].message.clone()
    }

    #[test]
    fn documents_are_numbered_without_the_empty_ones() {
        let input = read("# a chart\n---\nnull # nothing\n---\nkind: A\n--- # here\nkind: B\n---\n...\n--- ~\n");
        let found: Vec<_> = input.documents.iter().map(|d| (d.number, d.root.line)).collect();
        assert_eq!(found, [(1, 5), (2, 7)]);
        assert_eq!(input.unreadable, []);
    }

    #[test]
    fn one_bad_document_does_not_hide_the_others() {
        let input = read("kind: A\n---\nkind: [\n---\nkind: C\n");
        assert_eq!(input.documents.iter().map(|d| d.number).collect::<Vec<_>>(), [1, 3]);
        assert_eq!((input.unreadable[0].document, input.unreadable.len()), (Some(2), 1));
    }

    #[test]
    fn json_objects_may_follow_one_another_and_be_indented_by_tabs() {
        let input = read("{\n\t\"kind\": \"A\"\n}\n{\"kind\": \"B\", \"e\": \"\\ud83d\\ude00\"}\n");
        let found: Vec<_> = input.documents.iter().map(|d| (d.number, d.root.get("kind").unwrap().line)).collect();
        assert_eq!(found, [(1, 2), (2, 4)]);
    }

    #[test]
    fn bad_input_is_told_and_never_hangs() {
        let bomb: String =
            (1..10).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "))).collect();
        for (text, said) in [
            (format!("kind: A\na0: &a0 [x]\n{bomb}"), "alias"),
            (format!("kind: {}", "[".repeat(100_000)), "nest"),
            ((0..200).fold("kind: A\nx:\n".into(), |text, n| format!("{text}{}-\n", " ".repeat(n))), "nest"),
            (format!("{{\"kind\": \"A\", \"x\": {}", "[".repeat(100_000)), "nest"),
            ("kind: A\n\tspec: x\n".into(), "tab"),
            ("kind: A\nspec: {{ .Values.x }}\n".into(), "template that was not rendered"),
            ("{{- if .Values.on }}\nkind: A\n{{- end }}\n".into(), "template that was not rendered"),
            ("hello".into(), "no `kind`"),
            ("- a\n- b\n".into(), "no `kind`"),
            (String::new(), "empty"),
            ("# only\n---\n".into(), "empty"),
            ("null\n---\n~ # nothing\n".into(), "empty"),
            ("kind: A\na: *nowhere\n".into(), "anchor"),
        ] {
            let told = message(&text);
            assert!(told.to_lowercase().contains(said), "{said}: {told}");
            assert!(told.lines().count() == 1 && told.len() < 400, "{told}");
        }
    }

    /// Aliases nest deeper than what is written; whether it is taken or refused, the stack holds.
    #[test]
    fn a_chain_of_aliases_is_survived() {
        for length in [600, 2000] {
            let chain: String = (1..length).map(|n| format!("a{n}: &a{n} [*a{}]\n", n - 1)).collect();
            let input = read(&format!("kind: A\na0: &a0 [x]\n{chain}"));
            assert_eq!(input.documents.len() + input.unreadable.len(), 1);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(text_of(&mut &b"kind: \xff"[..]).unwrap(), "kind: \u{fffd}");
        assert_eq!(text_of(&mut &b"\xff\xfea\0b"[..]).unwrap(), "a\u{fffd}", "it ends within a character");
        assert!(text_of(&mut &b"kind: \0"[..]).unwrap_err().contains("zero byte at 6"));
        let mut endless = Endless(0);
        assert!(text_of(&mut endless).unwrap_err().contains("larger than 32 MiB"));
        assert_eq!(endless.0, LARGEST_FILE + 1, "no more is read");
    }

    /// As /dev/zero is; and it counts.
    struct Endless(u64);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'a');
            self.0 += buffer.len() as u64;
            Ok(buffer.len())
        }
    }

    #[test]
    fn directories() {
        let dir = tempfile::tempdir().unwrap();
        let name = |path: &str| dir.path().join(path);
        std::fs::create_dir(name("in")).unwrap();
        for (file, text) in [
            ("b.yaml", "kind: B"),
            ("a.json", "{\"kind\": \"A\"}"),
            ("in/c.yml", "kind: C"),
            ("values.yaml", "x: 1"),
            ("x.tpl", "{{"),
        ] {
            std::fs::write(name(file), text).unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), name("in/loop")).unwrap();
        let kinds = |recursive| {
            let input = Input::read(&[dir.path().display().to_string()], recursive, &mut io::empty());
            assert_eq!(input.unreadable, []);
            let kinds = input.documents.iter().map(|d| d.root.get("kind").unwrap().text().unwrap().to_owned());
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(kinds(false), ["A", "B"]);
        assert_eq!(kinds(true), ["A", "B", "C"]);
        let input = Input::read(&["/nonexistent".into(), "-".into()], false, &mut &b"kind: A"[..]);
        assert!(input.unreadable[0].message.contains("No such file"));
        assert_eq!(input.documents[0].file, "stdin");
    }
}
