//! Finding a place for groups: the hierarchies of this host, and the node's directory in them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Cgroup, Version, write};

/// Nodes in this process so far: tests have several.
static NODES: AtomicU64 = AtomicU64::new(0);

/// Where this node's groups are.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    version: Version,
    /// This node's directory in each hierarchy: that of memory first.
    directories: Vec<PathBuf>,
    next: AtomicU64,
}

impl Hierarchy {
    /// Finds and prepares a place; the error says why there is none. Removes what dead nodes left.
    pub(crate) fn open() -> Result<Self, String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let (version, tops) = find(&mounts)?;
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let node = format!("{}-{}-{number}", std::process::id(), start_time("self").unwrap_or(0));
        let mut directories = Vec::new();
        for top in tops {
            remove_dead(&top);
            let directory = top.join(&node);
            let made = std::fs::create_dir_all(&directory).and_then(|()| match version {
                Version::V1 => Ok(()),
                Version::V2 => delegate(&top).and_then(|()| delegate(&directory)),
            });
            made.map_err(|error| format!("{}: {error}", directory.display()))?;
            directories.push(directory);
        }
        Ok(Self { version, directories, next: AtomicU64::new(0) })
    }

    /// A new group, without limits yet.
    pub(crate) fn make(&self) -> io::Result<Cgroup> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let directories: Vec<_> = self.directories.iter().map(|top| top.join(&name)).collect();
        for directory in &directories {
            std::fs::create_dir(directory)?;
        }
        let (peak, usage) = match self.version {
            Version::V1 => ("memory.max_usage_in_bytes", "memory.usage_in_bytes"),
            Version::V2 => ("memory.peak", "memory.current"),
        };
        // memory.peak is there since Linux 5.19.
        let [peak, usage] = [peak, usage].map(|name| std::fs::File::open(directories[0].join(name)).ok());
        Ok(Cgroup { version: self.version, directories, peak, usage })
    }
}

impl Drop for Hierarchy {
    fn drop(&mut self) {
        for directory in &self.directories {
            // Groups that are still going away keep it; the next node removes it then.
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// The version in use and, in each hierarchy, the directory `hawker` for all nodes.
fn find(mounts: &str) -> Result<(Version, Vec<PathBuf>), String> {
    let entries = || {
        mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, path, kind, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some((PathBuf::from(path), kind, options))
        })
    };
    let v1 = |controller: &str| {
        entries()
            .find(|(_, kind, options)| *kind == "cgroup" && options.split(',').any(|o| o == controller))
            .map(|(path, ..)| path.join("hawker"))
    };
    if let Some(memory) = v1("memory") {
        let mut tops = vec![memory];
        for controller in ["cpu", "pids"] {
            // One hierarchy may have several controllers.
            let top = v1(controller)
                .ok_or(format!("no control group hierarchy has the {controller} controller"))?;
            if !tops.contains(&top) {
                tops.push(top);
            }
        }
        return Ok((Version::V1, tops));
    }
    let Some((mount, ..)) = entries().find(|(_, kind, _)| *kind == "cgroup2") else {
        return Err("no control groups are mounted at /sys/fs/cgroup".to_owned());
    };
    let top = if rustix::process::geteuid().is_root() {
        mount
    } else {
        // What was delegated to this user is its own group and below.
        let own = std::fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let own = mount.join(own);
        // A group with processes can not have limited groups below it: this process moves into a leaf.
        let leaf = own.join("hawker-node");
        std::fs::create_dir_all(&leaf)
            .and_then(|()| write(&leaf.join("cgroup.procs"), std::process::id()))
            .map_err(|error| format!("{}: {error}", leaf.display()))?;
        own
    };
    let controllers = std::fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    for wanted in ["memory", "cpu", "pids"] {
        if !controllers.split_whitespace().any(|there| there == wanted) {
            return Err(format!("{} has no {wanted} controller", top.display()));
        }
    }
    delegate(&top).map_err(|error| format!("{}: {error}", top.display()))?;
    Ok((Version::V2, vec![top.join("hawker")]))
}

/// Lets the groups below a v2 group have limits.
fn delegate(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    write(&directory.join("cgroup.subtree_control"), "+memory +cpu +pids")
}

/// When a process started, in clock ticks since boot (proc(5), field 22 of `stat`).
fn start_time(pid: &str) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Removes the groups of nodes that are gone. Their processes died with them, or are about to: a node that is
/// started right after another was killed gives those a moment.
fn remove_dead(top: &Path) {
    for _ in 0..40 {
        if dead_groups(top).iter().all(|node| remove_with_children(node)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn dead_groups(top: &Path) -> Vec<PathBuf> {
    let nodes = std::fs::read_dir(top).into_iter().flatten().flatten();
    nodes
        .filter(|node| {
            let name = node.file_name();
            let mut parts = name.to_str().unwrap_or_default().split('-');
            match (parts.next(), parts.next()) {
                (Some(pid), Some(started)) => {
                    start_time(pid).is_none_or(|start| start.to_string() != started)
                }
                _ => false,
            }
        })
        .map(|node| node.path())
        .collect()
}

fn remove_with_children(node: &Path) -> bool {
    for group in std::fs::read_dir(node).into_iter().flatten().flatten() {
        // It fails for the files that every group has, and while processes are left.
        let _ = std::fs::remove_dir(group.path());
    }
    super::is_removed(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found() {
        let v1 = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                  cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                  cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
                  cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let (version, tops) = find(v1).unwrap();
        assert_eq!(version, Version::V1);
        assert_eq!(tops[0], Path::new("/sys/fs/cgroup/memory/hawker"));
        assert_eq!(tops.len(), 3);
        assert!(find("tmpfs / tmpfs rw 0 0\n").unwrap_err().contains("/sys/fs/cgroup"));
    }
}
