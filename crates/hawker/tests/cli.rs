//! The binary as it is run. That these tests need it also has it built with what the other tests are built with, so
//! that the tests with real clients use it as it is.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::{Command, Output};

fn hawker(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawker"));
    // Nothing of who runs the tests decides what is seen.
    command.args(arguments).env_clear().current_dir(std::env::temp_dir()).output().unwrap()
}

#[test]
fn it_says_which_version_it_is() {
    let output = hawker(&["--version"]);
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        format!("hawker {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_command_that_is_not_there_is_answered_with_the_one_that_was_meant() {
    let output = hawker(&["deplyo"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("deploy"), "{told}");
}

#[test]
fn who_has_no_credentials_is_told_where_they_are() {
    let output = hawker(&["status", "--endpoint", "http://127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no credentials") && told.contains("next: "), "{told}");
}
