//! The network of a sandbox: its own loopback, and two listeners on it that the host accepts from.
//!
//! A socket stays in the network namespace it was made in, whoever holds it. So the host serves the Runtime
//! API and the platform's endpoint on sockets made here, and there is no interface, route or proxy by which
//! anything else could be reached.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sendto, socket_with};

/// Brings up `lo` (always interface 1 of its namespace) by rtnetlink's RTM_NEWLINK.
pub(super) fn raise_loopback() -> io::Result<()> {
    // The default protocol of the family, 0, is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = Vec::with_capacity(32);
    // struct nlmsghdr: length, type RTM_NEWLINK, flags NLM_F_REQUEST | NLM_F_ACK, sequence, port
    message.extend_from_slice(&32u32.to_ne_bytes());
    message.extend_from_slice(&16u16.to_ne_bytes());
    message.extend_from_slice(&5u16.to_ne_bytes());
    message.extend_from_slice(&1u32.to_ne_bytes());
    message.extend_from_slice(&0u32.to_ne_bytes());
    // struct ifinfomsg: family, padding, type, index, flags IFF_UP, changed flags IFF_UP
    message.extend_from_slice(&[0, 0, 0, 0]);
    message.extend_from_slice(&1i32.to_ne_bytes());
    message.extend_from_slice(&1u32.to_ne_bytes());
    message.extend_from_slice(&1u32.to_ne_bytes());
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0u8; 128];
    let (read, _) = rustix::net::recv(&socket, &mut answer[..], rustix::net::RecvFlags::empty())?;
    // struct nlmsgerr after the header: 0, or minus an errno
    match answer.get(16..20).filter(|_| read >= 20) {
        Some(&[a, b, c, d]) => match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        },
        _ => Err(io::Error::other("short answer from rtnetlink")),
    }
}

/// Listens on the sandbox's loopback.
pub(super) fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}
