//! How a helper waits: for the end of what it made, or for the host's word (or end).

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

use crate::spec::{self, Program, Report};

/// Returns once `child` has ended; calls `kill` when the host closes its end of `control`.
pub(super) fn until_over(control: BorrowedFd<'_>, child: Pid, mut kill: impl FnMut()) -> io::Result<()> {
    let pidfd = pidfd_open(child, PidfdFlags::empty())?;
    let mut watching_host = true;
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&control, PollFlags::IN)];
        let watched = if watching_host { 2 } else { 1 };
        match poll(&mut fds[..watched], None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if watching_host && !fds[1].revents().is_empty() {
            // The host never sends a second message: this is its end.
            watching_host = false;
            kill();
        }
        if !fds[0].revents().is_empty() {
            if let Some((_, status)) = waitpid(Some(child), WaitOptions::empty())?
                && (status.signaled() || !watching_host)
            {
                report(control, Program::Function, status);
            }
            return Ok(());
        }
    }
}

/// Tells the host how a program ended.
pub(super) fn report(control: BorrowedFd<'_>, program: Program, status: rustix::process::WaitStatus) {
    let (code, signal) = (status.exit_status(), status.terminating_signal());
    let report = Report::Exited { program, code, signal };
    // If the host is gone there is nobody to tell.
    let _ = spec::send(control, &report, &[]);
}
