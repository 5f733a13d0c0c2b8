//! How the host reaches what listens inside a sandbox, and tells its programs what to do.
//!
//! A socket belongs to the network in which it was made. So the process that looks after a sandbox makes one there
//! when it is asked, and hands it out; the host connects it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UnixDatagram};

use crate::spec::{self, Command, Fill, Made, Program};

/// The line to the process that looks after a sandbox.
#[derive(Debug)]
pub(crate) struct Door {
    /// One question at a time.
    line: tokio::sync::Mutex<UnixDatagram>,
    walled: bool,
}

impl Door {
    pub(crate) fn new(line: OwnedFd, walled: bool) -> io::Result<Self> {
        // A packet socket is a datagram socket that has an end, so tokio's type for those serves it.
        let line = UnixDatagram::from_std(line.into())?;
        Ok(Self { line: tokio::sync::Mutex::new(line), walled })
    }

    /// Connects to a port on the sandbox's loopback.
    pub(crate) async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let socket = if self.walled { self.socket().await? } else { TcpSocket::new_v4()? };
        let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn socket(&self) -> io::Result<TcpSocket> {
        let line = self.line.lock().await;
        send(&line, &Command::Socket).await?;
        loop {
            line.readable().await?;
            match line.try_io(Interest::READABLE, || spec::receive::<Made>(&*line)) {
                Ok(Some((Made, fds))) => {
                    let socket = fds.into_iter().next().ok_or(io::ErrorKind::UnexpectedEof)?;
                    return Ok(TcpSocket::from_std_stream(socket.into()));
                }
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts the function.
    pub(crate) async fn start(&self) -> io::Result<()> {
        send(&*self.line.lock().await, &Command::Start).await
    }

    /// Gives a sandbox that stands ready its function: `mounts` are its code, then its layers.
    pub(crate) async fn fill(&self, fill: Fill, mounts: &[BorrowedFd<'_>]) -> io::Result<()> {
        send_with(&*self.line.lock().await, &Command::Fill(fill), mounts).await
    }

    /// Sends a program a signal; nothing happens if it has ended.
    pub(crate) async fn signal(&self, program: Program, signal: i32) -> io::Result<()> {
        send(&*self.line.lock().await, &Command::Signal { program, signal }).await
    }
}

async fn send(line: &UnixDatagram, command: &Command) -> io::Result<()> {
    send_with(line, command, &[]).await
}

async fn send_with(line: &UnixDatagram, command: &Command, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    loop {
        line.writable().await?;
        match line.try_io(Interest::WRITABLE, || spec::send(line, command, fds)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent,
        }
    }
}
