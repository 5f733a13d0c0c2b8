//! Applies layers to a root directory (OCI image format specification, "Image Layer Filesystem Changeset").
//!
//! Invariant: nothing outside of the root is read, written or removed, whatever a layer says: the kernel resolves
//! every path as if the root were the whole file system.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use functions::StartError;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::unpack::platform;
use super::broken;
use crate::child::{HOSTS, RESOLVER};

/// Files of an image; a limit against layers that are all names.
const MAX_ENTRIES: u64 = 2_000_000;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What is mounted over in every sandbox, and so must be there.
const MOUNTED: [&str; 4] = ["dev", "proc", "sys", "tmp"];

/// A root directory that is being unpacked.
pub(super) struct Root {
    fd: OwnedFd,
    max_bytes: u64,
    left: u64,
    entries: u64,
    /// The directory that was last used, since names come together.
    last: Option<(PathBuf, OwnedFd)>,
}

impl Root {
    /// Makes the empty directory.
    pub(super) fn make(path: &Path, max_bytes: u64) -> Result<Self, StartError> {
        let unpacking = "unpacking the container image";
        fs::DirBuilder::new().mode(0o755).create(path).map_err(platform(unpacking))?;
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| platform(unpacking)(error.into()))?;
        Ok(Self { fd, max_bytes, left: max_bytes, entries: 0, last: None })
    }

    /// Applies a layer, a tar.
    pub(super) fn apply(&mut self, reader: &mut dyn Read) -> Result<(), StartError> {
        // What this layer brings, which its own marks do not hide.
        let mut own = HashSet::new();
        // Names and padding come on top of what files hold.
        let reader = reader.take(self.max_bytes.saturating_mul(2).saturating_add(1 << 30));
        let mut tar = tar::Archive::new(reader);
        for entry in tar.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(broken(format!("it has more than {MAX_ENTRIES} files")));
            }
            let path = inside(Path::new(OsStr::from_bytes(&entry.path_bytes())))?;
            let Some(name) = path.file_name().map(OsStr::to_owned) else { continue };
            let parent = path.parent().unwrap_or(Path::new("")).to_owned();
            let failed = |error: io::Error| broken(format!("{}: {error}", path.display()));
            if name.as_bytes() == OPAQUE {
                self.hide_all(&parent, &own).map_err(failed)?;
                continue;
            }
            if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
                self.hide(&parent, OsStr::from_bytes(hidden)).map_err(failed)?;
                continue;
            }
            self.put(&mut entry, &parent, &name).map_err(failed)?;
            own.insert(path.clone());
        }
        Ok(())
    }

    /// Puts the mount points and the files that every sandbox has into place.
    pub(super) fn finish(mut self) -> Result<(), StartError> {
        let mut made = || -> io::Result<()> {
            self.last = None;
            for name in MOUNTED {
                self.make_directory_at(Path::new(""), OsStr::new(name), 0o755)?;
            }
            if kind(&self.fd, OsStr::new("etc"))? == Some(FileType::Directory) {
                for (name, text) in [("hosts", HOSTS), ("resolv.conf", RESOLVER)] {
                    let etc = self.directory(Path::new("etc"))?;
                    remove(etc, OsStr::new(name))?;
                    create(etc, OsStr::new(name), 0o644)?.write_all(text.as_bytes())?;
                }
            }
            Ok(())
        };
        made().map_err(platform("unpacking the container image"))
    }

    fn put(&mut self, entry: &mut tar::Entry<'_, impl Read>, parent: &Path, name: &OsStr) -> io::Result<()> {
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                self.make_directory_at(parent, name, mode | 0o700)?;
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let directory = self.directory(parent)?;
                remove(directory, name)?;
                let mut file = create(directory, name, mode | 0o400)?;
                // One byte more than is left tells a file that ends there from one that goes on.
                let written = io::copy(&mut entry.take(self.left + 1), &mut file)?;
                self.left = self.left.checked_sub(written).ok_or_else(|| {
                    io::Error::other(format!("the image is larger than {} bytes", self.max_bytes))
                })?;
            }
            tar::EntryType::Symlink => {
                let to = entry.link_name_bytes().unwrap_or_default().into_owned();
                let directory = self.directory(parent)?;
                remove(directory, name)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&to), directory, name)?;
            }
            tar::EntryType::Link => {
                let to = entry.link_name_bytes().unwrap_or_default().into_owned();
                let to = inside(Path::new(OsStr::from_bytes(&to))).map_err(io::Error::other)?;
                let from = self.directory(to.parent().unwrap_or(Path::new("")))?.try_clone()?;
                let file = to.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
                let directory = self.directory(parent)?;
                remove(directory, name)?;
                rustix::fs::linkat(&from, &file, directory, name, AtFlags::empty())?;
            }
            // Devices are those of the sandbox, and nothing else is of use in an image.
            _ => {}
        }
        Ok(())
    }

    fn make_directory_at(&mut self, parent: &Path, name: &OsStr, mode: u32) -> io::Result<()> {
        let directory = self.directory(parent)?.try_clone()?;
        if kind(&directory, name)? != Some(FileType::Directory) {
            remove(&directory, name)?;
            self.last = None;
            rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o700))?;
        }
        // Not through the process's mask.
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let made = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
        Ok(rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?)
    }

    /// A directory, made if it is not there; links on the way lead to where they do inside.
    fn directory(&mut self, path: &Path) -> io::Result<&OwnedFd> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let fd = self.open_directory(path)?;
            self.last = Some((path.to_owned(), fd));
        }
        Ok(&self.last.as_ref().expect("it was just put there").1)
    }

    fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve)
        };
        match open(path) {
            Err(Errno::NOENT) => {}
            opened => return Ok(opened?),
        }
        let mut sofar = PathBuf::new();
        let mut directory = open(&sofar)?;
        for component in path.components() {
            sofar.push(component);
            directory = match open(&sofar) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&directory, component.as_os_str(), Mode::from_raw_mode(0o755))?;
                    open(&sofar)?
                }
                opened => opened?,
            };
        }
        Ok(directory)
    }

    fn hide(&mut self, parent: &Path, name: &OsStr) -> io::Result<()> {
        if name.is_empty() || name == "." || name == ".." {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let directory = self.directory(parent)?.try_clone()?;
        self.last = None;
        remove(&directory, name)
    }

    /// Hides what lower layers have in a directory.
    fn hide_all(&mut self, parent: &Path, own: &HashSet<PathBuf>) -> io::Result<()> {
        let directory = self.directory(parent)?.try_clone()?;
        self.last = None;
        for name in names(&directory)? {
            if !own.contains(&parent.join(&name)) {
                remove(&directory, &name)?;
            }
        }
        Ok(())
    }
}

/// A path in a layer, relative to the root.
fn inside(path: &Path) -> Result<PathBuf, StartError> {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => {
                return Err(broken(format!("the path {path:?} leads out of the image")));
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(inside)
}

/// What is there by that name, no link followed.
fn kind(directory: &OwnedFd, name: &OsStr) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn create(directory: &OwnedFd, name: &OsStr, mode: u32) -> io::Result<fs::File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file.into())
}

fn names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    for entry in rustix::fs::Dir::new(rustix::fs::openat(directory, c".", flags, Mode::empty())?)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes what is there by that name, with all below it; no link is followed.
fn remove(directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match kind(directory, name)? {
        None => Ok(()),
        Some(FileType::Directory) => {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
            let below = rustix::fs::openat(directory, name, flags, Mode::empty())?;
            for child in names(&below)? {
                remove(&below, &child)?;
            }
            Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
        }
        Some(_) => Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?),
    }
}
