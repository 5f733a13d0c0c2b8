//! Makes helper processes, and keeps a few ready in their control groups.
//!
//! Putting a process into a v1 control group waits for the whole machine's forks and exits to settle (some
//! 12 ms), and executing this binary costs a few more: neither is on the path of a start as long as a spare is
//! there.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::cgroup::{Cgroup, Hierarchy};
use crate::spec::ENTRY;

/// Users that no host has accounts for: each sandbox of a node that runs as root is one of them.
const FIRST_HOST_ID: u32 = 1_500_000_000;
const HOST_IDS: u32 = 1 << 20;

/// A process that waits to be told which sandbox to make. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Helper {
    pub(crate) child: tokio::process::Child,
    pub(crate) pid: u32,
    pub(crate) control: OwnedFd,
    pub(crate) logs: OwnedFd,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) host_id: Option<u32>,
}

impl Helper {
    /// The pipe that its sandbox's programs write to. It has one reader: the second time, there is nothing to read.
    pub(crate) fn take_logs(&mut self) -> std::io::Result<OwnedFd> {
        let nothing = std::fs::File::open("/dev/null")?;
        Ok(std::mem::replace(&mut self.logs, nothing.into()))
    }
}

/// Makes helpers.
#[derive(Debug)]
pub(crate) struct Launcher {
    exe: PathBuf,
    hierarchy: Option<Hierarchy>,
    root: bool,
    next_id: AtomicU32,
    spares: Mutex<Vec<Helper>>,
    wanted_spares: usize,
    refilling: AtomicBool,
}

impl Launcher {
    pub(crate) fn new(exe: PathBuf, hierarchy: Option<Hierarchy>, wanted_spares: usize) -> Arc<Self> {
        Arc::new(Self {
            exe,
            hierarchy,
            root: rustix::process::geteuid().is_root(),
            next_id: AtomicU32::new(0),
            spares: Mutex::default(),
            wanted_spares,
            refilling: AtomicBool::new(false),
        })
    }

    /// Whether the node may mount what is on the host.
    pub(crate) fn is_root(&self) -> bool {
        self.root
    }

    /// A helper: a spare one if there is one.
    pub(crate) async fn helper(self: &Arc<Self>) -> std::io::Result<Helper> {
        loop {
            let spare = self.spares.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut spare) = spare else { return self.make().await };
            // One that something has killed meanwhile is of no use.
            if matches!(spare.child.try_wait(), Ok(None)) {
                return Ok(spare);
            }
        }
    }

    /// Makes spares, in the background, until there are as many as wanted. Called when a start is over, so
    /// that it takes nothing from one.
    pub(crate) fn refill(self: &Arc<Self>) {
        if self.refilling.swap(true, Ordering::AcqRel) {
            return;
        }
        let launcher = self.clone();
        tokio::spawn(async move {
            while launcher.spares.lock().unwrap_or_else(PoisonError::into_inner).len()
                < launcher.wanted_spares
            {
                match launcher.make().await {
                    Ok(helper) => {
                        launcher.spares.lock().unwrap_or_else(PoisonError::into_inner).push(helper);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a spare sandbox could not be made");
                        break;
                    }
                }
            }
            launcher.refilling.store(false, Ordering::Release);
        });
    }

    async fn make(self: &Arc<Self>) -> std::io::Result<Helper> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let (logs, out) = std::io::pipe()?;
        let mut command = tokio::process::Command::new(&self.exe);
        // Nothing of the node's environment, which may hold secrets, goes along.
        command.arg0("hawker-sandbox").arg(ENTRY).env_clear().current_dir("/");
        command.stdin(Stdio::from(theirs)).stdout(Stdio::from(out.try_clone()?)).stderr(Stdio::from(out));
        let child = command.spawn()?;
        // The command holds the other ends.
        drop(command);
        let pid = child.id().ok_or_else(|| std::io::Error::other("the helper process ended at once"))?;
        let launcher = self.clone();
        let cgroup = tokio::task::spawn_blocking(move || -> std::io::Result<Option<Cgroup>> {
            let Some(hierarchy) = &launcher.hierarchy else { return Ok(None) };
            let cgroup = hierarchy.make()?;
            cgroup.attach(pid)?;
            Ok(Some(cgroup))
        })
        .await
        .map_err(std::io::Error::other)??;
        let slot = self.next_id.fetch_add(1, Ordering::Relaxed) % HOST_IDS;
        let host_id = self.root.then_some(FIRST_HOST_ID + slot);
        Ok(Helper { child, pid, control: ours, logs: logs.into(), cgroup, host_id })
    }
}
