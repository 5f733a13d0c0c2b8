//! The file system of a sandbox: a small tmpfs with the parts of the host that programs need, read-only; or a
//! container image's, read-only too.
//!
//! Invariant: nothing of the host is visible that is not listed here, and nothing is writable but /tmp and
//! /dev/shm.

use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};

use super::sys::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY, set_mount_attributes};
use super::{Doing, Failure};
use crate::spec::{INSIDE_ID, Namespaces};

/// Directories at the root that are links into /usr on merged hosts, directories of their own on others.
const TOP: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Files and directories of /etc that programs need and that hold no secrets.
const ETC: [&str; 9] = [
    "etc/ld.so.cache",
    "etc/alternatives",
    "etc/ssl/certs",
    "etc/ssl/openssl.cnf",
    "etc/pki/tls/certs",
    "etc/pki/ca-trust/extracted",
    "etc/fonts",
    "etc/mime.types",
    "etc/os-release",
];

const DEVICES: [&str; 5] = ["dev/null", "dev/zero", "dev/full", "dev/random", "dev/urandom"];

/// Entries of /proc that say something about the host and that no program needs.
const MASKED: [&str; 7] = [
    "proc/kcore",
    "proc/keys",
    "proc/key-users",
    "proc/kmsg",
    "proc/sysrq-trigger",
    "proc/timer_list",
    "proc/kallsyms",
];

/// Where the new root is put together: a directory that every host has.
const WORKBENCH: &CStr = c"/tmp";

/// Where layers are while they are put together, relative to the new root.
const LAYERS: &str = "run/layers";

/// How what is writable is mounted.
const CAREFUL: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// How parts of the host are mounted.
const SAFE: u64 = READ_ONLY | NO_SUID | NO_DEV;

/// What is to be mounted, opened while the old root is there.
pub(super) struct Image {
    /// What is all of the root; without it, it is made of the trees.
    root: Option<Tree>,
    trees: Vec<Tree>,
    links: Vec<(&'static str, PathBuf)>,
    layers: Vec<Tree>,
}

struct Tree {
    fd: OwnedFd,
    target: String,
    directory: bool,
}

impl Tree {
    fn open(source: &Path, target: &str, attributes: u64) -> Result<Self, Failure> {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let directory = std::fs::metadata(source).doing("finding a part of the image")?.is_dir();
        let fd = open_tree(CWD, source, flags).doing("opening a part of the image")?;
        set_mount_attributes(fd.as_fd(), c"", attributes, true).doing("protecting a part of the image")?;
        Ok(Self { fd, target: target.to_owned(), directory })
    }
}

impl Image {
    /// Opens everything.
    pub(super) fn open(walls: &Namespaces) -> Result<Self, Failure> {
        let safe = SAFE;
        let mut image = Self { root: None, trees: Vec::new(), links: Vec::new(), layers: Vec::new() };
        match &walls.root {
            Some(root) => image.root = Some(Tree::open(root, "", safe)?),
            None => image.open_host(safe)?,
        }
        for name in DEVICES {
            image.trees.push(Tree::open(&Path::new("/").join(name), name, READ_ONLY | NO_SUID | NO_EXEC)?);
        }
        for (source, target) in &walls.binds {
            image.trees.push(Tree::open(source, target.trim_start_matches('/'), safe)?);
        }
        for (number, layer) in walls.layers.iter().enumerate() {
            let target =
                if walls.layers.len() == 1 { "opt".to_owned() } else { format!("{LAYERS}/{number}") };
            image.layers.push(Tree::open(layer, &target, safe)?);
        }
        Ok(image)
    }

    /// Opens the parts of the host.
    fn open_host(&mut self, safe: u64) -> Result<(), Failure> {
        self.trees.push(Tree::open(Path::new("/usr"), "usr", safe)?);
        for name in TOP {
            let path = Path::new("/").join(name);
            match std::fs::symlink_metadata(&path) {
                Ok(found) if found.is_symlink() => {
                    self.links.push((name, std::fs::read_link(&path).doing("reading a link of the root")?));
                }
                Ok(found) if found.is_dir() => self.trees.push(Tree::open(&path, name, safe)?),
                _ => {}
            }
        }
        for name in ETC {
            let path = Path::new("/").join(name);
            // Not every distribution has each of them.
            if path.exists() {
                self.trees.push(Tree::open(&path, name, safe | NO_EXEC)?);
            }
        }
        Ok(())
    }

    /// Builds the root and makes it this process's only one.
    pub(super) fn enter(self, tmp_bytes: u64) -> Result<(), Failure> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .doing("detaching from the host's mounts")?;
        match &self.root {
            Some(root) => {
                move_mount(root.fd.as_fd(), c"", CWD, WORKBENCH, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                    .doing("mounting the container image")?;
                rustix::process::chdir(WORKBENCH).doing("entering the new root")?;
                // Its own devices are none of the function's: there are those of every sandbox.
                mount("tmpfs", "dev", "tmpfs", MountFlags::NOSUID, c"mode=0755,size=64k")
                    .doing("mounting /dev")?;
                directory("dev/shm")?;
            }
            None => {
                mount("tmpfs", WORKBENCH, "tmpfs", CAREFUL, c"mode=0755,size=1m")
                    .doing("mounting the root")?;
                rustix::process::chdir(WORKBENCH).doing("entering the new root")?;
                for (name, target) in &self.links {
                    std::os::unix::fs::symlink(target, name).doing("linking a part of the image")?;
                }
                for name in
                    ["etc", "dev/shm", "proc", "tmp", "var/task", "var/tmp", "opt", "root", "sys", "run"]
                {
                    directory(name)?;
                }
                write_etc()?;
            }
        }
        for tree in &self.trees {
            place(tree)?;
        }
        place_layers(&self.layers)?;
        for (link, target) in
            [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
        {
            std::os::unix::fs::symlink(target, format!("dev/{link}")).doing("linking a device")?;
        }
        let options =
            std::ffi::CString::new(format!("mode=1777,size={tmp_bytes}")).expect("a number holds no NUL");
        mount("tmpfs", "tmp", "tmpfs", CAREFUL, Some(options.as_c_str())).doing("mounting /tmp")?;
        mount("tmpfs", "dev/shm", "tmpfs", CAREFUL | MountFlags::NOEXEC, c"mode=1777,size=64m")
            .doing("mounting /dev/shm")?;
        mount("proc", "proc", "proc", CAREFUL | MountFlags::NOEXEC, c"hidepid=2").doing("mounting /proc")?;
        for name in MASKED {
            if Path::new(name).exists() {
                let null = Tree::open(Path::new("dev/null"), name, READ_ONLY | NO_SUID | NO_EXEC)?;
                attach(&null)?;
            }
        }
        set_mount_attributes(CWD, c"proc", READ_ONLY, true).doing("protecting /proc")?;
        if self.root.is_some() {
            set_mount_attributes(CWD, c"dev", READ_ONLY, false).doing("protecting /dev")?;
        }

        rustix::process::pivot_root(".", ".").doing("changing the root")?;
        // The old root lies over the new one now.
        unmount(".", UnmountFlags::DETACH).doing("letting go of the old root")?;
        rustix::process::chdir("/").doing("entering the root")?;
        set_mount_attributes(CWD, c"/", READ_ONLY, false).doing("protecting the root")
    }
}

/// A directory of the host as a mount that is nowhere yet, for [`furnish`]. Only for who may mount there.
pub(crate) fn detached(source: &Path) -> io::Result<OwnedFd> {
    match Tree::open(source, "", SAFE) {
        Ok(tree) => Ok(tree.fd),
        Err(Failure { source, .. }) => Err(source),
    }
}

/// Puts a function into a root that stands ready: its code, its layers, and the size of its /tmp.
pub(super) fn furnish(code: OwnedFd, layers: Vec<OwnedFd>, tmp_bytes: u64) -> Result<(), Failure> {
    let tmp = std::ffi::CString::new(format!("size={tmp_bytes}")).expect("a number holds no NUL");
    // The same file system as before: what may be done below /tmp was settled when the interpreter started.
    mount_remount("tmp", CAREFUL, tmp.as_c_str()).doing("sizing /tmp")?;
    attach(&Tree { fd: code, target: "var/task".to_owned(), directory: true })?;
    let many = layers.len() > 1;
    let layers: Vec<_> = layers
        .into_iter()
        .enumerate()
        .map(|(number, fd)| Tree {
            fd,
            target: if many { format!("{LAYERS}/{number}") } else { "opt".to_owned() },
            directory: true,
        })
        .collect();
    if many {
        // The root is closed by now: the layers are put together on something that goes away again.
        mount("tmpfs", "run", "tmpfs", CAREFUL, c"mode=0755,size=64k").doing("making room for layers")?;
    }
    place_layers(&layers)?;
    if many {
        unmount("run", UnmountFlags::DETACH).doing("tidying up the layers")?;
    }
    Ok(())
}

/// Shows the layers together, the last one uppermost.
fn place_layers(layers: &[Tree]) -> Result<(), Failure> {
    for layer in layers {
        place(layer)?;
    }
    if layers.len() < 2 {
        return Ok(());
    }
    let places: Vec<_> = layers.iter().rev().map(|layer| layer.target.as_str()).collect();
    let options = std::ffi::CString::new(format!("userxattr,lowerdir={}", places.join(":")))
        .expect("names of our own hold no NUL");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
    mount("overlay", "opt", "overlay", flags, Some(options.as_c_str())).doing("mounting the layers")?;
    // What is mounted together keeps its parts.
    for layer in layers {
        unmount(layer.target.as_str(), UnmountFlags::DETACH).doing("tidying up the layers")?;
        std::fs::remove_dir(&layer.target).doing("tidying up the layers")?;
    }
    std::fs::remove_dir(LAYERS).doing("tidying up the layers")
}

fn directory(path: impl AsRef<Path>) -> Result<(), Failure> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).doing("making a directory")
}

fn file(path: &str, contents: &str) -> Result<(), Failure> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .doing("making a file")?;
    file.write_all(contents.as_bytes()).doing("writing a file")
}

fn place(tree: &Tree) -> Result<(), Failure> {
    let target = Path::new(&tree.target);
    if !target.exists() {
        if tree.directory {
            directory(target)?;
        } else {
            directory(target.parent().unwrap_or(Path::new(".")))?;
            file(&tree.target, "")?;
        }
    }
    attach(tree)
}

fn attach(tree: &Tree) -> Result<(), Failure> {
    move_mount(tree.fd.as_fd(), c"", CWD, tree.target.as_str(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .doing("mounting a part of the image")
}

/// The names that there are.
pub(crate) const HOSTS: &str = "127.0.0.1 localhost sandbox sandbox.localdomain\n";
/// There is no name server to ask: every name fails at once rather than after a timeout.
pub(crate) const RESOLVER: &str = "options timeout:1 attempts:1\n";

fn write_etc() -> Result<(), Failure> {
    let id = INSIDE_ID;
    file("etc/passwd", &format!("sbx_user1051:x:{id}:{id}::/home/sbx_user1051:/sbin/nologin\n"))?;
    file("etc/group", &format!("sbx_user1051:x:{id}:\n"))?;
    file("etc/hosts", HOSTS)?;
    file("etc/resolv.conf", RESOLVER)?;
    file("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")?;
    std::os::unix::fs::symlink("/usr/share/zoneinfo/UTC", "etc/localtime").doing("setting the time zone")
}
