//! A function without walls (`isolation = "none"`): a child process with limits, ended with all that it started.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, Signal, WaitOptions};

use super::crew::Crew;
use super::{Doing, Failure, Lines, lockdown};
use crate::spec::{self, Program, Report, Spec};

pub(super) fn run(lines: &Lines, spec: &Spec) -> Result<(), Failure> {
    // Orphans of the function become children of this process, so that none is lost.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).doing("becoming a subreaper")?;
    let (alive_read, alive_write) = std::io::pipe().doing("making a pipe")?;
    let alive = OwnedFd::from(alive_read);
    spec::send(&lines.control, &Report::Listening, &[]).doing("reporting")?;
    let crew = Crew { control: &lines.control, commands: &lines.commands, spec, alone: true };
    let result = crew.run(None, |program, _| program_main(lines, spec, &alive, program));
    kill_descendants();
    // Until here it was open: by it the function's process saw that this one lived.
    drop(alive_write);
    result
}

fn program_main(lines: &Lines, spec: &Spec, alive: &OwnedFd, program: Program) -> i32 {
    let prepared = (|| {
        super::init::die_with_parent(alive)?;
        let _ = rustix::process::setsid();
        lockdown::limit(spec)?;
        rustix::thread::set_no_new_privs(true).doing("giving up privileges")
    })();
    if let Err(failure) = prepared {
        super::report_failure(&lines.control, &failure);
        return 126;
    }
    super::execute::execute(lines, spec, program, None)
}

/// Kills children until there are none: those of a killed process become children of this one.
fn kill_descendants() {
    loop {
        let path = format!("/proc/self/task/{}/children", rustix::thread::gettid().as_raw_nonzero());
        let children = std::fs::read_to_string(path).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
