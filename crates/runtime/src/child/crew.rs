//! The programs of a sandbox: started, signalled as the host says, and their ends reported.
//!
//! Whoever runs this is the parent of all processes in the sandbox, and reaps them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions};

use super::standing::Standing;
use super::{Doing, Failure, supervise, sys};
use crate::spec::{self, Command, Made, Program, Report, Spec};

pub(super) struct Crew<'a> {
    pub(super) control: &'a OwnedFd,
    pub(super) commands: &'a OwnedFd,
    pub(super) spec: &'a Spec,
    /// Whether the end of `control` is to be looked for here.
    pub(super) alone: bool,
}

/// Who of the crew runs.
struct Running {
    function: Option<Pid>,
    extensions: Vec<Option<Pid>>,
}

impl Running {
    fn pid(&self, program: Program) -> Option<Pid> {
        match program {
            Program::Function => self.function,
            Program::Extension(place) => self.extensions.get(place).copied().flatten(),
        }
    }

    /// Takes one that has ended off the list.
    fn strike(&mut self, pid: Pid) -> Option<Program> {
        if self.function == Some(pid) {
            self.function = None;
            return Some(Program::Function);
        }
        let place = self.extensions.iter().position(|extension| *extension == Some(pid))?;
        self.extensions[place] = None;
        Some(Program::Extension(place))
    }
}

impl Crew<'_> {
    /// Runs what there is to run, until the function has ended; if there are extensions, until the host says so.
    /// `main` becomes a program, in a process of its own; one that stands ready has a line to say so.
    pub(super) fn run(
        &self,
        mut standing: Option<Standing>,
        main: impl Fn(Program, Option<BorrowedFd<'_>>) -> i32,
    ) -> Result<(), Failure> {
        let deaths = sys::watch_children().doing("watching for the ends of processes")?;
        let start =
            |program, line: Option<BorrowedFd<'_>>| match sys::fork(0).doing("making a program's process")? {
                None => {
                    sys::unblock_signals();
                    std::process::exit(main(program, line))
                }
                Some(pid) => Ok::<_, Failure>(pid),
            };
        let mut running = Running { function: None, extensions: Vec::new() };
        for place in 0..self.spec.extensions.len() {
            running.extensions.push(Some(start(Program::Extension(place), None)?));
        }
        if self.spec.extensions.is_empty() {
            let pid = start(Program::Function, standing.as_ref().and_then(Standing::inside))?;
            running.function = Some(pid);
            if let Some(standing) = &mut standing {
                standing.began(pid);
            }
        }
        // It needs no right any more either, unless something is still to be mounted.
        if !self.alone && standing.is_none() {
            let _ = super::lockdown::drop_capabilities();
        }
        let mut listening = true;
        loop {
            let mut fds = vec![PollFd::new(&deaths, PollFlags::IN)];
            if listening {
                fds.push(PollFd::new(self.commands, PollFlags::IN));
            }
            if self.alone {
                fds.push(PollFd::new(self.control, PollFlags::IN));
            }
            // Only what has walls stands ready, so this comes last as the line above does.
            let word = standing.as_ref().and_then(Standing::awaited);
            let awaited = word.is_some();
            fds.extend(word.map(|line| PollFd::from_borrowed_fd(line, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).doing("waiting for the sandbox's programs"),
            }
            let happened: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if happened[0] && self.reap(&deaths, &mut running).doing("waiting for the sandbox's programs")? {
                return Ok(());
            }
            if listening && happened[1] {
                match spec::receive::<Command>(self.commands).doing("hearing the host")? {
                    Some((Command::Start, _)) => running.function = Some(start(Program::Function, None)?),
                    Some((Command::Fill(fill), fds)) => {
                        let standing = standing.take().ok_or(io::ErrorKind::InvalidInput);
                        standing.doing("filling the sandbox")?.fill(fill, fds)?;
                        continue;
                    }
                    Some((Command::Socket, _)) => self.hand_out_socket().doing("making a socket")?,
                    Some((Command::Signal { program, signal }, _)) => {
                        // It may have ended since.
                        if let (Some(pid), Some(signal)) =
                            (running.pid(program), Signal::from_named_raw(signal))
                        {
                            let _ = rustix::process::kill_process(pid, signal);
                        }
                    }
                    None => listening = false,
                }
            }
            if awaited
                && happened.last() == Some(&true)
                && let Some(standing) = &mut standing
                && standing.hear()?
            {
                spec::send(self.control, &Report::Standing, &[]).doing("reporting")?;
            }
            // The host has nothing to say there: it is its end.
            if self.alone && happened.last() == Some(&true) {
                return Ok(());
            }
        }
    }

    /// Takes in all ends; true if that was the function's, and there was nothing else.
    fn reap(&self, deaths: &OwnedFd, running: &mut Running) -> io::Result<bool> {
        sys::drain(deaths);
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let Some(program) = running.strike(pid) else { continue };
                    supervise::report(self.control.as_fd(), program, status);
                    if program == Program::Function && self.spec.extensions.is_empty() {
                        return Ok(true);
                    }
                }
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn hand_out_socket(&self) -> io::Result<()> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        spec::send(self.commands, &Made, &[socket.as_fd()])
    }
}
