//! A function without walls (`isolation = "none"`): a child process with limits, ended with all that it started.

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use super::{Doing, Failure, lockdown, supervise, sys};
use crate::spec::{self, Report, Spec};

pub(super) fn run(control: &OwnedFd, spec: &Spec) -> Result<(), Failure> {
    // Orphans of the function become children of this process, so that none is lost.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).doing("becoming a subreaper")?;
    let (alive_read, alive_write) = std::io::pipe().doing("making a pipe")?;
    spec::send(control, &Report::Listening, &[]).doing("reporting")?;
    let Some(function) = sys::fork(0).doing("making the function's process")? else {
        drop(alive_write);
        std::process::exit(function_main(control, spec, &alive_read.into()));
    };
    let result = supervise_plain(control, function);
    kill_descendants();
    // Until here it was open: by it the function's process saw that this one lived.
    drop(alive_write);
    result
}

fn supervise_plain(control: &OwnedFd, function: Pid) -> Result<(), Failure> {
    let pidfd = rustix::process::pidfd_open(function, rustix::process::PidfdFlags::empty())
        .doing("watching the function's process")?;
    loop {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).doing("waiting for the function"),
        }
        if !fds[0].revents().is_empty() {
            let status = waitpid(Some(function), WaitOptions::empty()).doing("waiting for the function")?;
            kill_descendants();
            if let Some((_, status)) = status {
                supervise::report(control.as_fd(), status);
            }
            return Ok(());
        }
        if !fds[1].revents().is_empty() {
            return Ok(());
        }
    }
}

fn function_main(control: &OwnedFd, spec: &Spec, alive: &OwnedFd) -> i32 {
    let prepared = (|| {
        super::init::die_with_parent(alive)?;
        let _ = rustix::process::setsid();
        lockdown::limit(spec)?;
        rustix::thread::set_no_new_privs(true).doing("giving up privileges")
    })();
    if let Err(failure) = prepared {
        super::report_failure(control, &failure);
        return 126;
    }
    super::init::execute(control, spec)
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
