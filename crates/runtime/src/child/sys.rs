//! The few system calls that have no safe wrapper. Everything unsafe in this crate is in this file.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;

/// New user, mount, pid, network, IPC, host name and cgroup namespaces.
pub(super) const NEW_NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// `fork`, with the child in new namespaces where `namespaces` asks for them. `None` in the child.
///
/// Only for processes with one thread: the sandbox entry runs before anything could start a second one.
pub(super) fn fork(namespaces: i32) -> io::Result<Option<Pid>> {
    // SAFETY: without CLONE_VM the child gets its own copy of the address space and goes on at this very
    // point on its own stack, as after `fork`. There is one thread, so no lock is held by another one.
    let pid = unsafe { libc::syscall(libc::SYS_clone, i64::from(namespaces | libc::SIGCHLD), 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes everything but the standard streams: the node may itself have been started with files open that
/// are nobody's business here.
///
/// Only before this process has opened anything.
pub(super) fn close_inherited() -> io::Result<()> {
    // SAFETY: the sandbox entry calls this first, when nothing in this process owns a descriptor above 2.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Becomes readable when a child has ended. From now on that is all that the end of one does: children made
/// afterwards inherit this, and call [`unblock_signals`].
pub(super) fn watch_children() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is initialised by `sigemptyset` before it is used, and the kernel only reads it; the
    // descriptor is new and owned by nobody else.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Lets every signal through, as programs expect it.
pub(super) fn unblock_signals() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is initialised by `sigemptyset` before it is used; the kernel only reads it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Takes in what [`watch_children`] has to say; who has ended, `wait` tells.
pub(super) fn drain(deaths: &OwnedFd) {
    let mut buffer = [0; 1024];
    while rustix::io::read(deaths, &mut buffer[..]).is_ok_and(|read| read > 0) {}
}

/// Writes into the memory of another process, as a debugger does (`process_vm_writev(2)`).
pub(super) fn write_memory(process: Pid, address: usize, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: bytes.len() };
    // SAFETY: the kernel only reads `local`, which is `bytes`; `remote` is of another address space, where the kernel
    // checks that it can be written to.
    let written = unsafe {
        libc::process_vm_writev(process.as_raw_nonzero().get(), &raw const local, 1, &raw const remote, 1, 0)
    };
    match usize::try_from(written) {
        Ok(written) if written == bytes.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Attributes for [`set_mount_attributes`] (`mount_setattr(2)`).
pub(super) const READ_ONLY: u64 = 0x1;
pub(super) const NO_SUID: u64 = 0x2;
pub(super) const NO_DEV: u64 = 0x4;
pub(super) const NO_EXEC: u64 = 0x8;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds attributes to the mount that `fd` and `path` name (`path` may be empty), and to those below it.
pub(super) fn set_mount_attributes(
    fd: BorrowedFd<'_>,
    path: &CStr,
    set: u64,
    recursive: bool,
) -> io::Result<()> {
    let attr = MountAttr { set, clear: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` ends with NUL, `attr` is laid out as the kernel's `struct mount_attr` and its size is
    // given; the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
