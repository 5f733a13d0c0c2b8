//! The first process of a sandbox: builds it from inside, starts the function, reaps, and takes everything
//! along when the function ends.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid};
use rustix::process::{DumpableBehavior, Signal, WaitOptions};

use super::{Doing, Failure, lockdown, net, report_failure, rootfs, supervise, sys};
use crate::spec::{self, INSIDE_ID, RUNTIME_API_PORT, Report, Spec};

pub(super) struct Setup<'a> {
    pub(super) control: &'a OwnedFd,
    pub(super) spec: &'a Spec,
    pub(super) binds: &'a [(PathBuf, String)],
    pub(super) tmp_bytes: u64,
    pub(super) platform_port: u16,
}

pub(super) fn run(setup: &Setup<'_>, go: &OwnedFd, image: Option<rootfs::Image>) -> i32 {
    match build(setup, go, image) {
        Ok(()) => {}
        Err(failure) => {
            report_failure(setup.control, &failure);
            return 126;
        }
    }
    let function = match sys::fork(0) {
        Ok(None) => std::process::exit(function_main(setup)),
        Ok(Some(pid)) => pid,
        Err(source) => {
            report_failure(setup.control, &Failure { what: "making the function's process", source });
            return 126;
        }
    };
    // Init needs no right any more either.
    let _ = lockdown::drop_capabilities();
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == function => {
                supervise::report(setup.control.as_fd(), status);
                return 0;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 126,
        }
    }
}

fn build(setup: &Setup<'_>, go: &OwnedFd, image: Option<rootfs::Image>) -> Result<(), Failure> {
    // The helper says when users are mapped; if it is gone, so is the reason to be.
    let mut byte = [0];
    if rustix::io::read(go, &mut byte[..]).doing("waiting for the helper")? == 0 {
        std::process::exit(0);
    }
    // Out of memory, the kernel takes the function's processes before anything of the node.
    std::fs::write("/proc/self/oom_score_adj", "1000").doing("volunteering for the OOM killer")?;
    // What is to be mounted is opened as who can reach it; for root the helper has done so.
    let image = match image {
        Some(image) => image,
        None => rootfs::Image::open(setup.binds)?,
    };
    let (uid, gid) = (Uid::from_raw(INSIDE_ID), Gid::from_raw(INSIDE_ID));
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing("becoming the sandbox's group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing("becoming the sandbox's user")?;
    die_with_parent(go)?;
    let _ = rustix::process::setsid();
    rustix::system::sethostname(b"sandbox").doing("naming the host")?;

    net::raise_loopback().doing("raising the loopback interface")?;
    let api = net::listen(RUNTIME_API_PORT).doing("listening for the Runtime API")?;
    let platform = net::listen(setup.platform_port).doing("listening for the platform")?;
    spec::send(setup.control, &Report::Listening, &[api.as_fd(), platform.as_fd()]).doing("reporting")?;
    drop((api, platform));

    image.enter(setup.tmp_bytes)?;
    // No process inside may look into this one, though it is of the same user.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("closing /proc/1")
}

/// This process is killed when its parent is; `alive` is the reading end of a pipe that only the parent holds.
pub(super) fn die_with_parent(alive: &OwnedFd) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).doing("tying life to the helper")?;
    // It may have died before the line above.
    let mut fds = [PollFd::new(alive, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).doing("looking for the helper")?;
    if fds[0].revents().contains(PollFlags::HUP) {
        std::process::exit(0);
    }
    Ok(())
}

fn function_main(setup: &Setup<'_>) -> i32 {
    let locked = (|| {
        let _ = rustix::process::setsid();
        lockdown::limit(setup.spec)?;
        lockdown::give_up()
    })();
    if let Err(failure) = locked {
        report_failure(setup.control, &failure);
        return 126;
    }
    execute(setup.control, setup.spec)
}

/// Becomes the function; returns only if that fails (or if there is nothing to execute).
pub(super) fn execute(control: &OwnedFd, spec: &Spec) -> i32 {
    let [program, arguments @ ..] = &spec.argv[..] else { return 0 };
    let ready = rustix::process::chdir(spec.directory.as_str())
        .map_err(std::io::Error::from)
        .and_then(|()| check_format(program));
    let failure = match ready {
        Ok(()) => {
            let mut command = std::process::Command::new(program);
            command.args(arguments).env_clear().envs(spec.environment.iter().map(|(k, v)| (k, v)));
            command.exec()
        }
        Err(error) => error,
    };
    let reason = match failure.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ if failure.raw_os_error() == Some(libc::ENOEXEC) => "exec format error".to_owned(),
        _ => failure.to_string(),
    };
    let message = format!("fork/exec {program}: {reason}");
    let _ = spec::send(control, &Report::Failed { message, entrypoint: true }, &[]);
    126
}

/// The C library would hand a file of no known format to a shell; Lambda refuses it.
fn check_format(program: &str) -> std::io::Result<()> {
    let mut start = [0; 4];
    let read = std::fs::File::open(program)?.read(&mut start)?;
    if start[..read].starts_with(b"#!") || start[..read] == *b"\x7fELF" {
        Ok(())
    } else {
        Err(std::io::Error::from_raw_os_error(libc::ENOEXEC))
    }
}
