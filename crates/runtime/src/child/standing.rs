//! A sandbox that stands ready: an interpreter is booted in it and waits, and nothing of any function is there.
//!
//! The interpreter is locked in before it boots, as every program is. What is mounted later needs no rule of its own:
//! it lies below directories whose rules are there. Until it is, init keeps the rights that mounting takes; it gives
//! them up before the interpreter hears of the function, so no code of a function ever runs beside an init that has
//! them. A sandbox is filled once.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;

use super::{Doing, Failure, lockdown, rootfs, sys};
use crate::spec::{ENVIRONMENT_ROOM, Fill, STANDS_READY};

/// Init's side.
pub(super) struct Standing {
    line: OwnedFd,
    /// The interpreter's end, until it has it.
    inside: Option<OwnedFd>,
    pid: Option<Pid>,
    /// Where the kernel shows the interpreter's environment, once the interpreter is there.
    room: Option<Room>,
}

/// A part of the interpreter's memory.
struct Room {
    address: usize,
    bytes: usize,
}

/// What tells the program that this process becomes to stand ready, over `line`.
pub(super) fn variable(line: BorrowedFd<'_>) -> io::Result<(String, String)> {
    rustix::io::fcntl_setfd(line, rustix::io::FdFlags::empty())?;
    let room = "-".repeat(ENVIRONMENT_ROOM);
    Ok((STANDS_READY.to_owned(), format!("{}:{room}", line.as_raw_fd())))
}

impl Standing {
    pub(super) fn new() -> Result<Self, Failure> {
        let (line, inside) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .doing("making a line to the interpreter")?;
        Ok(Self { line, inside: Some(inside), pid: None, room: None })
    }

    /// The interpreter's end of the line.
    pub(super) fn inside(&self) -> Option<BorrowedFd<'_>> {
        self.inside.as_ref().map(AsFd::as_fd)
    }

    /// The interpreter has its end.
    pub(super) fn began(&mut self, pid: Pid) {
        self.inside = None;
        self.pid = Some(pid);
    }

    /// The line, as long as the interpreter has not said anything.
    pub(super) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.room.is_none().then(|| self.line.as_fd())
    }

    /// Hears the interpreter; true if it waits for a function from now on.
    pub(super) fn hear(&mut self) -> Result<bool, Failure> {
        let mut word = [0];
        let read = rustix::io::read(&self.line, &mut word[..]).doing("hearing the interpreter")?;
        let Some(pid) = self.pid.filter(|_| read > 0) else {
            // It has ended, which is heard of elsewhere.
            self.room = Some(Room { address: 0, bytes: 0 });
            return Ok(false);
        };
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let stat = std::fs::read_to_string(path).doing("looking at the interpreter")?;
        self.room = Some(
            room(&stat)
                .ok_or(io::ErrorKind::PermissionDenied)
                .doing("finding the interpreter's environment")?,
        );
        Ok(true)
    }

    /// Makes it one function's sandbox: `fds` are its code, and its layers.
    pub(super) fn fill(self, fill: Fill, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let (Some(pid), Some(room)) = (self.pid, self.room) else {
            return Err(io::ErrorKind::NotConnected).doing("filling a sandbox that is not ready");
        };
        let mut fds = fds.into_iter();
        let code = fds.next().ok_or(io::ErrorKind::InvalidInput).doing("taking in the code")?;
        rootfs::furnish(code, fds.collect(), fill.tmp_bytes)?;
        let mut environment = Vec::with_capacity(room.bytes);
        for (name, value) in &fill.environment {
            environment.extend([name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
        }
        let bytes = environment.len();
        if bytes > room.bytes {
            return Err(io::ErrorKind::ArgumentListTooLong).doing("handing over the environment");
        }
        // What /proc shows of it: nothing of the interpreter points there any more.
        environment.resize(room.bytes, 0);
        sys::write_memory(pid, room.address, &environment).doing("showing the environment")?;
        lockdown::drop_capabilities()?;
        let mut rest = &environment[..bytes];
        while !rest.is_empty() {
            let written = rustix::io::write(&self.line, rest).doing("handing over the environment")?;
            rest = &rest[written..];
        }
        // Here the line is closed, which is the environment's end.
        Ok(())
    }
}

/// Where the environment of a process is, from its line in proc(5) `stat`: fields 50 and 51.
fn room(stat: &str) -> Option<Room> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(47);
    let (start, end): (usize, usize) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // Both are 0 for who may not know.
    (start > 0 && end > start).then(|| Room { address: start, bytes: end - start })
}
