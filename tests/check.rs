//! `pre-oom-killer check`, the real binary, on manifests as people have them: the expected output is in `snapshots/`.
//! After an intended change, `INSTA_UPDATE=always cargo test --test check` updates it; then read the difference.

#![cfg(feature = "plugin")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_pre-oom-killer");

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/manifests")
}

fn check(words: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(BINARY)
        .arg("check")
        .args(words)
        .current_dir(fixtures())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may end before it has read all of it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let code = output.status.code().unwrap();
    format!("{}{}exit {code}\n", text(&output.stdout), text(&output.stderr))
}

#[test]
fn manifests_as_people_have_them() {
    let mut files: Vec<_> = std::fs::read_dir(fixtures()).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    assert!(files.len() >= 20);
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for file in files {
            let name = file.to_str().unwrap();
            let provenance = std::fs::read_to_string(fixtures().join(name)).unwrap();
            assert!(provenance.lines().take(2).any(|l| l.contains("own writing")), "{name} says where it is from");
            insta::assert_snapshot!(format!("check-{name}"), shown(&check(&["-f", name], b"")));
        }
        for name in ["nginx-deployment.yaml", "kafka-pdb-blocks.yaml", "helm-template-unrendered.yaml"] {
            insta::assert_snapshot!(
                format!("check-{name}-json"),
                shown(&check(&["-f", name, "--output", "json"], b""))
            );
        }
    });
}

#[test]
fn the_exit_code_distinguishes_errors_from_unreadable_input() {
    let code = |words: &[&str]| check(words, b"").status.code().unwrap();
    assert_eq!(code(&["-f", "nginx-deployment.yaml"]), 0);
    assert_eq!(code(&["-f", "bare-pod.yaml"]), 0, "warnings alone");
    assert_eq!(code(&["-f", "units.yaml"]), 1);
    assert_eq!(code(&["-f", "units.yaml", "nonexistent.yaml"]), 2);
    assert_eq!(code(&["-f", "helm-template-unrendered.yaml"]), 2);
    assert_eq!(code(&["-R", "-f", "."]), 2);
    assert_eq!(code(&[]), 64);
}

#[test]
fn stdin_is_a_file_like_any_other() {
    let text = std::fs::read(fixtures().join("bare-pod.yaml")).unwrap();
    let output = check(&["-f", "-"], &text);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.contains("stdin: document 1, Pod leaky\n  `app`: evicted above 60 % of 256Mi = 153.6Mi of working set")
    );
    assert_eq!(check(&["-f", "-"], b"").status.code(), Some(2));
    assert_eq!(check(&["-f", "-"], b"\x7fELF\x00\xff").status.code(), Some(2));
}

/// The parser calls itself for each level: its bound holds on the stack that the program has.
#[test]
fn deep_nesting_is_read_or_refused() {
    let nested = |levels: usize| format!("kind: A\nx: {}{}\n", "[".repeat(levels), "]".repeat(levels));
    let in_blocks: String = (1..120).map(|n| format!("{}-\n", " ".repeat(n))).collect();
    let aliases: String = (1..2000).map(|n| format!("a{n}: &a{n} [*a{}]\n", n - 1)).collect();
    for (text, code) in [
        (nested(120), 0),
        (format!("kind: A\nx:\n{in_blocks}"), 0),
        (nested(100_000), 2),
        (format!("kind: A\na0: &a0 [x]\n{aliases}"), 2),
    ] {
        let output = check(&["-f", "-"], text.as_bytes());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

/// One anchor for what all workloads share, as people write who have many of them.
#[test]
fn an_anchor_may_be_used_many_times() {
    let workloads: String = (0..3000).map(|n| format!("- {{name: w{n}, env: *shared}}\n")).collect();
    let pod = std::fs::read_to_string(fixtures().join("bare-pod.yaml")).unwrap();
    let text = format!("{pod}\nshared: &shared {{a: b, c: [d, e]}}\nworkloads:\n{workloads}");
    let output = check(&["-f", "-"], text.as_bytes());
    assert!(shown(&output).contains("evicted above 60 %"), "{}", shown(&output));
    assert_eq!(output.status.code(), Some(0));
}

/// kubectl reads UTF-16 with a byte order mark, and replaces what is no UTF-8.
#[test]
fn text_is_read_as_kubectl_reads_it() {
    let pod = std::fs::read_to_string(fixtures().join("bare-pod.yaml")).unwrap();
    let utf16 = |mark: [u8; 2], bytes: fn(u16) -> [u8; 2], text: &str| {
        [mark.to_vec(), text.encode_utf16().flat_map(bytes).collect()].concat()
    };
    let latin1 = [b"# Gr\xfc\xdfe\n", pod.as_bytes()].concat();
    for bytes in [
        [b"\xef\xbb\xbf", pod.as_bytes()].concat(),
        utf16([0xff, 0xfe], u16::to_le_bytes, &pod),
        utf16([0xfe, 0xff], u16::to_be_bytes, &pod),
        utf16([0xff, 0xfe], u16::to_le_bytes, &format!("# \u{1f600}\r\n{}", pod.replace('\n', "\r\n"))),
        latin1,
        pod.replace('\n', "\r\n").into_bytes(),
    ] {
        let output = check(&["-f", "-"], &bytes);
        assert!(shown(&output).contains("evicted above 60 %"), "{}", shown(&output));
        assert_eq!(output.status.code(), Some(0));
    }
    // Without a mark, kubectl does not read it either.
    let unmarked = utf16([b'#', 0], u16::to_le_bytes, &pod);
    let output = check(&["-f", "-"], &unmarked);
    assert_eq!(output.status.code(), Some(2));
    assert!(shown(&output).contains("byte order mark"), "{}", shown(&output));
}

/// In a directory, a chart's values beside its objects are no error; a guard in them is named.
#[test]
fn the_values_of_a_chart_are_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures().join("chart-values.yaml"), dir.path().join("values.yaml")).unwrap();
    std::fs::write(dir.path().join("other.yaml"), "podLabels: {app: web}\n").unwrap();
    let output = check(&["-f", dir.path().to_str().unwrap()], b"");
    let said = shown(&output);
    assert!(said.contains("values.yaml:4 podAnnotations[") && said.contains("helm template"), "{said}");
    assert!(!said.contains("other.yaml"), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
}

#[test]
fn the_examples_of_the_documents_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts = ["README.md", "docs/annotations.md"].map(|file| std::fs::read_to_string(root.join(file)).unwrap());
    let examples = texts.iter().flat_map(|text| text.split("```yaml\n").skip(1));
    let examples: Vec<_> = examples.filter_map(|rest| rest.split_once("```")).collect();
    let opted_in: Vec<_> = examples.iter().filter(|(example, _)| example.contains("pre-oom-killer: enabled")).collect();
    assert!(opted_in.len() >= 2);
    for (example, _) in opted_in {
        let output = check(&["-f", "-"], example.as_bytes());
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
        assert!(shown(&output).contains("evicted above"));
    }
}

/// Text that somebody else wrote reaches a terminal without control characters; colours are our own, and only on a terminal.
#[test]
fn no_control_character_of_a_manifest_is_printed() {
    for words in [&["-f", "hostile-names.yaml"][..], &["-f", "hostile-names.yaml", "-o", "json"]] {
        let stdout = String::from_utf8(check(words, b"").stdout).unwrap();
        let control = stdout.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(control, None, "{stdout}");
    }
}
