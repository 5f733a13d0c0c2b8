//! What the host tells a sandbox's helper process, and what comes back, over one socket pair.
//!
//! Both ends are this same binary, so the form of the messages may change freely.

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

/// A sandbox to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// How it is walled off.
    pub(crate) walls: Walls,
    /// What to run; nothing if this is only a trial of the walls.
    pub(crate) argv: Vec<String>,
    /// Its whole environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Where it starts.
    pub(crate) directory: String,
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
    Namespaces {
        /// The user it is outside; `None` if that is who runs the node.
        host_id: Option<u32>,
        /// Directories of the host to show, and where.
        binds: Vec<(PathBuf, String)>,
        /// Size of /tmp.
        tmp_bytes: u64,
        /// Where the platform's endpoint listens inside.
        platform_port: u16,
    },
}

/// What a sandbox reports.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Its listeners (Runtime API, platform) come along as file descriptors; none if there are no walls.
    Listening,
    /// The function's process ended.
    Exited {
        /// Its exit status,
        code: Option<i32>,
        /// or the signal that ended it.
        signal: Option<i32>,
    },
    /// It could not be made.
    Failed {
        /// What was being done, and why it failed.
        message: String,
        /// True if it was the function's own program that could not be executed.
        entrypoint: bool,
    },
}

/// Sends a message, with file descriptors.
pub(crate) fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(io::Error::other("the sandbox's specification is too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
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
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
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
