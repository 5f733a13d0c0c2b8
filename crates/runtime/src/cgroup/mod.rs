//! Control groups: hard limits of memory and processes, the share of CPU, and what was used.
//!
//! Files in /tmp are in memory, and the kernel counts them to whoever writes them. On Lambda they are on a disk:
//! a function can fill its /tmp however little memory it has. So the limit that the kernel keeps is that of
//! memory and that of /tmp together, and the function's own is kept by looking (`memory`): it is over when what
//! it uses without files is more.
//!
//! The share of CPU follows a function's memory from the moment it is ready; while it is loaded it has more.
//!
//! Each sandbox has a group of its own below a directory of this node, `hawker/<pid>-<start time>-<number>`, in each
//! hierarchy (v1) or in the one (v2). Groups whose node is gone are removed when a node starts.
//!
//! Not here: what happens where no group can be made (`memory` watches resident sizes instead).

mod hierarchy;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use hierarchy::Hierarchy;

/// A function with this much memory has one CPU (AWS Lambda developer guide, "Configure memory").
const MB_PER_CPU: u64 = 1769;
const PERIOD_US: u64 = 100_000;
/// What a function may use at least while it is loaded, in CPUs: as on Lambda, loading is not slowed down to the
/// share of a small function, and on a large host it does not take all there is.
const CPUS_WHILE_LOADING: u64 = 2;

/// What a sandbox may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Memory of the function, in MB.
    pub(crate) memory_mb: u32,
    /// Size of /tmp, in MB.
    pub(crate) tmp_mb: u32,
    /// What the kernel and the helper need beside it, in MB.
    pub(crate) overhead_mb: u32,
    /// Processes and threads.
    pub(crate) processes: u64,
}

impl Limits {
    /// How much may be used without files.
    pub(crate) fn memory_bytes(&self) -> u64 {
        (u64::from(self.memory_mb) + u64::from(self.overhead_mb)) << 20
    }
}

/// The group of one sandbox.
#[derive(Debug)]
pub(crate) struct Cgroup {
    version: Version,
    /// The group's directory in each hierarchy that is used: memory first.
    directories: Vec<PathBuf>,
    peak: Option<File>,
    usage: Option<File>,
}

/// How long a function may run in each period that has its share of CPU, in microseconds.
fn quota_us(memory_mb: u32) -> u64 {
    (u64::from(memory_mb) * PERIOD_US / MB_PER_CPU).max(1_000)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Cgroup {
    /// Puts a process, and so all that it will make, into the group. Blocks: up to some 10 ms on v1.
    pub(crate) fn attach(&self, pid: u32) -> io::Result<()> {
        self.directories.iter().try_for_each(|group| write(&group.join("cgroup.procs"), pid))
    }

    /// Sets the limits, but for that of CPU: what is needed to load a function.
    pub(crate) fn limit(&self, limits: Limits) -> io::Result<()> {
        let bytes = limits.memory_bytes() + (u64::from(limits.tmp_mb) << 20);
        // The helper and init count, and a little air for a burst of short-lived ones.
        let processes = limits.processes + 8;
        match self.version {
            Version::V1 => {
                let [memory, rest @ ..] = &self.directories[..] else { return Ok(()) };
                write(&memory.join("memory.limit_in_bytes"), bytes)?;
                // Only where the kernel accounts for swap.
                let _ = write(&memory.join("memory.memsw.limit_in_bytes"), bytes);
                for group in rest {
                    if group.join("cpu.cfs_period_us").exists() {
                        write(&group.join("cpu.cfs_period_us"), PERIOD_US)?;
                    }
                    if group.join("pids.max").exists() {
                        write(&group.join("pids.max"), processes)?;
                    }
                }
            }
            Version::V2 => {
                let group = &self.directories[0];
                write(&group.join("memory.max"), bytes)?;
                let _ = write(&group.join("memory.swap.max"), 0);
                write(&group.join("pids.max"), processes)?;
            }
        }
        self.limit_cpu(quota_us(limits.memory_mb).max(CPUS_WHILE_LOADING * PERIOD_US))
    }

    /// Gives it the share of CPU that a function with this much memory has, from now on.
    pub(crate) fn share_cpu(&self, limits: Limits) -> io::Result<()> {
        match quota_us(limits.memory_mb) {
            // It never had more.
            quota if quota >= CPUS_WHILE_LOADING * PERIOD_US => Ok(()),
            quota => self.limit_cpu(quota),
        }
    }

    fn limit_cpu(&self, quota_us: u64) -> io::Result<()> {
        match self.version {
            Version::V1 => {
                let files = self.directories.iter().map(|group| group.join("cpu.cfs_quota_us"));
                files.filter(|file| file.exists()).try_for_each(|file| write(&file, quota_us))
            }
            Version::V2 => write(&self.directories[0].join("cpu.max"), format!("{quota_us} {PERIOD_US}")),
        }
    }

    /// The most memory that was used at one time, as the limit counts it, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak.as_ref().map_or(0, number)
    }

    /// True if more than `bytes` are used now, files not counted.
    pub(crate) fn uses_more_than(&self, bytes: u64) -> bool {
        let usage = self.usage.as_ref().map_or(0, number);
        // Most are far below, and then one cheap look is all.
        usage > bytes && usage.saturating_sub(self.file_bytes()) > bytes
    }

    /// How much of what is used is files, in bytes: those of /tmp (and what else is shared in memory), and those
    /// that the kernel keeps for speed and gives up when memory is short.
    pub(crate) fn file_bytes(&self) -> u64 {
        let keys: &[&str] = match self.version {
            Version::V1 => &["total_inactive_file", "total_active_file", "total_shmem"],
            Version::V2 => &["inactive_file", "active_file", "shmem"],
        };
        let stat = std::fs::read_to_string(self.directories[0].join("memory.stat")).unwrap_or_default();
        stat.lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(key, _)| keys.contains(key))
            .filter_map(|(_, value)| value.parse::<u64>().ok())
            .sum()
    }

    /// True if the memory limit has killed a process.
    pub(crate) fn out_of_memory(&self) -> bool {
        let name = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = std::fs::read_to_string(self.directories[0].join(name)).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count != "0")
    }

    /// Removes the group; its processes are gone already, or about to be.
    pub(crate) async fn remove(self) {
        for wait_ms in [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            if self.directories.iter().all(|group| is_removed(group)) {
                return;
            }
        }
        tracing::warn!(groups = ?self.directories, "a control group could not be removed");
    }
}

/// The number that is all that such a file holds.
fn number(file: &File) -> u64 {
    let mut buffer = [0; 32];
    let read = file.read_at(&mut buffer, 0).unwrap_or(0);
    std::str::from_utf8(&buffer[..read]).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn is_removed(group: &Path) -> bool {
    match std::fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn write(path: &Path, value: impl ToString) -> io::Result<()> {
    // The file is opened without O_CREAT and O_TRUNC: it is no ordinary file.
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, value.to_string().as_bytes())
}
