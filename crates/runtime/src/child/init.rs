//! The first process of a sandbox: builds it from inside, looks after its programs, reaps, and takes everything along
//! when it ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid};
use rustix::process::{DumpableBehavior, Signal};

use super::crew::Crew;
use super::standing::Standing;
use super::{Doing, Failure, Lines, execute, lockdown, net, report_failure, rootfs};
use crate::spec::{self, INSIDE_ID, Namespaces, Program, RUNTIME_API_PORT, Report, Spec};

pub(super) struct Setup<'a> {
    pub(super) lines: &'a Lines,
    pub(super) spec: &'a Spec,
    pub(super) walls: &'a Namespaces,
}

pub(super) fn run(setup: &Setup<'_>, go: &OwnedFd, image: Option<rootfs::Image>) -> i32 {
    let Lines { control, commands, .. } = setup.lines;
    let crew = Crew { control, commands, spec: setup.spec, alone: false };
    let ran = build(setup, go, image).and_then(|()| {
        let standing = setup.spec.stands_ready.then(Standing::new).transpose()?;
        crew.run(standing, |program, line| program_main(setup, program, line))
    });
    match ran {
        Ok(()) => 0,
        Err(failure) => {
            report_failure(control, &failure);
            126
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
        None => rootfs::Image::open(setup.walls)?,
    };
    let (uid, gid) = (Uid::from_raw(INSIDE_ID), Gid::from_raw(INSIDE_ID));
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing("becoming the sandbox's group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing("becoming the sandbox's user")?;
    die_with_parent(go)?;
    let _ = rustix::process::setsid();
    rustix::system::sethostname(b"sandbox").doing("naming the host")?;

    net::raise_loopback().doing("raising the loopback interface")?;
    let api = net::listen(RUNTIME_API_PORT).doing("listening for the Runtime API")?;
    let platform = net::listen(setup.walls.platform_port).doing("listening for the platform")?;
    spec::send(&setup.lines.control, &Report::Listening, &[api.as_fd(), platform.as_fd()])
        .doing("reporting")?;
    drop((api, platform));

    image.enter(setup.walls.tmp_bytes)?;
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

fn program_main(setup: &Setup<'_>, program: Program, line: Option<BorrowedFd<'_>>) -> i32 {
    let locked = (|| {
        let _ = rustix::process::setsid();
        lockdown::limit(setup.spec)?;
        lockdown::give_up()
    })();
    if let Err(failure) = locked {
        report_failure(&setup.lines.control, &failure);
        return 126;
    }
    execute::execute(setup.lines, setup.spec, program, line)
}
