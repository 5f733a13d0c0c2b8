//! The sandbox's side: what this binary does when it is started as a sandbox's helper.
//!
//! Three processes: the helper waits on the host's socket and ends the sandbox when the host says so or is
//! gone; it makes the init of a new set of namespaces, which builds the sandbox from inside and reaps; init
//! makes the function's process (and those of extensions), which gives up every right and executes the function.
//!
//! Invariants: no thread is ever started here. When the helper dies, for whatever reason, init dies with it
//! (parent-death signal), and with init everything in its pid namespace. No secret is in any argument.

mod crew;
mod execute;
mod init;
mod lockdown;
mod net;
mod plain;
mod rootfs;
mod standing;
mod supervise;
mod sys;

pub(crate) use rootfs::{HOSTS, RESOLVER, detached};

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::Pid;

use crate::spec::{self, ENTRY, INSIDE_ID, Namespaces, Report, Spec, Walls};

/// Turns this process into a sandbox's helper if it was started as one, and never returns then.
///
/// `main` of every binary that opens a [`ProcessRuntime`](crate::ProcessRuntime) calls this first, before
/// it starts a thread or reads its arguments.
pub fn sandbox_main_if_asked() {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == ENTRY) {
        std::process::exit(helper());
    }
}

/// An error with what was being done.
struct Failure {
    what: &'static str,
    source: io::Error,
}

trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { what, source: error.into() })
    }
}

fn report_failure(control: &OwnedFd, failure: &Failure) {
    let message = format!("{}: {}", failure.what, failure.source);
    // If the host is gone there is nobody to tell.
    let _ = spec::send(control, &Report::Failed { message, program: None }, &[]);
}

/// How a sandbox is joined to its host.
struct Lines {
    /// Its end is the end of the sandbox; reports go out on it.
    control: OwnedFd,
    /// What the programs are to do.
    commands: OwnedFd,
    /// Where extensions write.
    extension_logs: OwnedFd,
}

fn helper() -> i32 {
    let Ok(control) = take_control() else { return 125 };
    let Ok(Some((spec, fds))) = spec::receive::<Spec>(&control) else { return 0 };
    let mut fds = fds.into_iter();
    let (Some(commands), Some(extension_logs)) = (fds.next(), fds.next()) else { return 125 };
    let lines = Lines { control, commands, extension_logs };
    let result = match &spec.walls {
        Walls::Plain => plain::run(&lines, &spec),
        Walls::Namespaces(walls) => walled(&lines, &spec, walls),
    };
    match result {
        Ok(()) => 0,
        Err(failure) => {
            report_failure(&lines.control, &failure);
            126
        }
    }
}

/// Moves the socket away from standard input, to where the function can not inherit it.
fn take_control() -> io::Result<OwnedFd> {
    sys::close_inherited()?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    // A session of its own: a terminal's Ctrl-C is for the node, which then ends its sandboxes in order.
    let _ = rustix::process::setsid();
    Ok(control)
}

fn walled(lines: &Lines, spec: &Spec, walls: &Namespaces) -> Result<(), Failure> {
    let host_id = walls.host_id;
    // Root opens what will be mounted while it still can: the directories above may be closed to others.
    let image = match host_id {
        Some(_) => Some(rootfs::Image::open(walls)?),
        None => None,
    };
    if let Some(id) = host_id {
        rustix::thread::set_thread_groups(&[]).doing("dropping groups")?;
        // So that the function can open /dev/stdout and /dev/stderr.
        let (uid, gid) = (rustix::fs::Uid::from_raw(id), rustix::fs::Gid::from_raw(id));
        for pipe in [rustix::stdio::stdout(), lines.extension_logs.as_fd()] {
            rustix::fs::fchown(pipe, Some(uid), Some(gid)).doing("handing over the log pipe")?;
        }
    }
    let (go_read, go_write) = io::pipe().doing("making a pipe")?;
    let go_read = OwnedFd::from(go_read);
    let Some(init) = sys::fork(sys::NEW_NAMESPACES).doing("making namespaces")? else {
        drop(go_write);
        std::process::exit(init::run(&init::Setup { lines, spec, walls }, &go_read, image));
    };
    drop((go_read, image));
    if let Err(failure) = map_ids(init, host_id) {
        let _ = rustix::process::kill_process(init, rustix::process::Signal::KILL);
        return Err(failure);
    }
    rustix::io::write(&go_write, b"1").doing("starting init")?;
    // `go_write` stays open as long as this process lives: by it init sees whether it does.
    supervise::until_over(lines.control.as_fd(), init, || {
        let _ = rustix::process::kill_process(init, rustix::process::Signal::KILL);
    })
    .doing("waiting for the sandbox")
}

/// One user and one group exist in the sandbox.
fn map_ids(init: Pid, host_id: Option<u32>) -> Result<(), Failure> {
    let directory = format!("/proc/{}", init.as_raw_nonzero());
    let (uid, gid) = match host_id {
        Some(id) => (id, id),
        None => {
            std::fs::write(format!("{directory}/setgroups"), "deny").doing("closing setgroups")?;
            (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
        }
    };
    std::fs::write(format!("{directory}/uid_map"), format!("{INSIDE_ID} {uid} 1"))
        .doing("mapping the user")?;
    std::fs::write(format!("{directory}/gid_map"), format!("{INSIDE_ID} {gid} 1")).doing("mapping the group")
}
