//! What the host tells a sandbox, and what comes back, over two socket pairs: one with the helper process, whose end
//! is the end of the sandbox, and one with the process that looks after what runs in it.
//!
//! All ends are this same binary, so the form of the messages may change freely.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};

/// The first argument by which this binary knows that it is to be a sandbox's helper.
pub(crate) const ENTRY: &str = "__hawker-sandbox";

/// The Runtime API's port inside a sandbox, as on Lambda.
pub(crate) const RUNTIME_API_PORT: u16 = 9001;

/// The user that a function runs as, as seen from inside.
pub(crate) const INSIDE_ID: u32 = 993;

/// Longest message: the environment of a function is 4 KiB at most, so this is far away.
const MAX_MESSAGE_BYTES: usize = 192 * 1024;

/// How many file descriptors a message may have.
pub(crate) const MAX_FDS: usize = 8;

/// How long the environment of a function may be that is given to a sandbox which stands ready, in bytes: so much room
/// is kept for it where the kernel shows it.
pub(crate) const ENVIRONMENT_ROOM: usize = 16 * 1024;

/// By this variable an interpreter knows that it is to stand ready: the file descriptor over which it says that it does,
/// a colon, and what only takes up room.
pub(crate) const STANDS_READY: &str = "HAWKER_READY";

/// A sandbox to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// How it is walled off.
    pub(crate) walls: Walls,
    /// What to run; nothing if this is only a trial of the walls.
    pub(crate) argv: Vec<String>,
    /// True if the first of it is a script that the user put before the runtime.
    pub(crate) wrapped: bool,
    /// Its whole environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Where it starts.
    pub(crate) directory: String,
    /// Programs to start before it; it is then started by a command.
    pub(crate) extensions: Vec<String>,
    /// True if it is to stand ready: what runs is an interpreter that waits for a function, which comes by
    /// [`Command::Fill`].
    pub(crate) stands_ready: bool,
    /// How many processes and threads it may have.
    pub(crate) processes: u64,
    /// How many files it may have open.
    pub(crate) open_files: u64,
}

/// How a sandbox is walled off.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Walls {
    /// Not at all: a child process.
    Plain,
    /// Own namespaces, root, user.
    Namespaces(Namespaces),
}

/// What a walled sandbox is made of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    /// The user it is outside; `None` if that is who runs the node.
    pub(crate) host_id: Option<u32>,
    /// A directory that is the whole root; without one, the root is made of the host's programs.
    pub(crate) root: Option<PathBuf>,
    /// Directories of the host to show, and where.
    pub(crate) binds: Vec<(PathBuf, String)>,
    /// Directories that are shown together as /opt: what a later one has hides what an earlier one has.
    pub(crate) layers: Vec<PathBuf>,
    /// Size of /tmp.
    pub(crate) tmp_bytes: u64,
    /// Where the platform's endpoint listens inside.
    pub(crate) platform_port: u16,
}

/// One of the processes that a sandbox is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Program {
    /// The function's.
    Function,
    /// That of the extension in this place.
    Extension(usize),
}

/// What a sandbox is told while it runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Start the function.
    Start,
    /// Give a sandbox that stands ready its function.
    Fill(Fill),
    /// Make a socket in the sandbox's network; it comes back as a file descriptor.
    Socket,
    /// Send a program this signal.
    Signal {
        /// Which.
        program: Program,
        /// As in signal(7).
        signal: i32,
    },
}

/// What makes a sandbox that stands ready one function's own. Its code comes along as a file descriptor of a detached
/// mount, and after it those of its layers, the undermost first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fill {
    /// Size of /tmp.
    pub(crate) tmp_bytes: u64,
    /// The whole environment.
    pub(crate) environment: Vec<(String, String)>,
}

/// What comes back for [`Command::Socket`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Made;

/// What a sandbox reports.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Its listeners (Runtime API, platform) come along as file descriptors; none if there are no walls.
    Listening,
    /// Its interpreter waits for a function.
    Standing,
    /// A program ended.
    Exited {
        /// Which.
        program: Program,
        /// Its exit status,
        code: Option<i32>,
        /// or the signal that ended it.
        signal: Option<i32>,
    },
    /// It could not be made.
    Failed {
        /// What was being done, and why it failed.
        message: String,
        /// Which program it was that could not be executed, if that is why.
        program: Option<Program>,
    },
}

/// Sends a message, with file descriptors.
pub(crate) fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(io::Error::other("the sandbox's specification is too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message with its file descriptors; `None` once the other end is closed.
pub(crate) fn receive<T: for<'de> Deserialize<'de>>(
    socket: impl AsFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(Some((serde_json::from_slice(&buffer[..received.bytes])?, fds)))
}
