//! Runs a test of this binary as a process of its own, so that it can be killed or run under limits.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const DIR: &str = "HAWKER_STORE_TEST_DIR";

/// The directory to work in, if this process was started by [`start`]; `None` in an ordinary test run.
pub(crate) fn dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

/// Tells the parent.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{line}").and_then(|()| out.flush()).unwrap();
}

/// A child that is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

/// Starts the test named `test` in `dir`, with `wrapper` (a program and its arguments) before it.
pub(crate) fn start(test: &str, dir: &Path, wrapper: &[&str]) -> Process {
    let exe = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(exe),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(exe);
            command
        }
    };
    let mut child = command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    Process { child, lines }
}

impl Process {
    /// What it says next; `None` once it has ended.
    pub(crate) fn next(&mut self) -> Option<String> {
        loop {
            let line = self.lines.next()?.ok()?;
            // The test harness prints lines of its own, and `test name ... ` without an end.
            if let Some((_, said)) = line.split_once('@') {
                return Some(said.to_owned());
            }
        }
    }

    /// Kills it (SIGKILL) and returns what it had still said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        let rest = std::iter::from_fn(|| self.next()).collect();
        self.child.wait().unwrap();
        rest
    }

    /// Waits for its end; true if the test passed.
    pub(crate) fn passed(mut self) -> bool {
        while self.next().is_some() {}
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
