//! The program as the image has it: `cargo test --no-default-features --test image_build`.

#![cfg(not(feature = "plugin"))]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

#[test]
fn it_says_that_it_has_no_commands_for_people() {
    for command in ["check", "status"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_pre-oom-killer")).args([command, "-f", "x", "--watch"]).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains("this build of pre-oom-killer, as its image has it, has no commands `check` and `status`"),
            "{said}"
        );
    }
    let help = Command::new(env!("CARGO_BIN_EXE_pre-oom-killer")).arg("--help").output().unwrap();
    assert!(!String::from_utf8(help.stdout).unwrap().contains("check"));
}
