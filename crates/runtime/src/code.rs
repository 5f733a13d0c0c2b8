//! Deployment packages: each is fetched, checked and unpacked once on a node, by the hash of its zip.
//!
//! Invariants: a directory is complete and read-only once it has its name. Nothing is ever written outside of
//! the directory being unpacked, whatever the zip says. Nothing is removed yet: the cache grows with the
//! versions that have run here.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use functions::{Code, StartError};
use sha2::{Digest, Sha256};

use crate::single_flight::SingleFlight;

/// Entries of a package; a limit against archives that are all directory.
const MAX_ENTRIES: usize = 200_000;

/// The unpacked packages of a node.
#[derive(Debug)]
pub(crate) struct CodeCache {
    directory: PathBuf,
    max_unzipped_bytes: u64,
    flights: SingleFlight,
}

impl CodeCache {
    /// Opens `directory`, and removes what a killed node left half done.
    pub(crate) fn open(directory: PathBuf, max_unzipped_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".new-") {
                // What can not be removed now is in nobody's way.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(Self { directory, max_unzipped_bytes, flights: SingleFlight::default() })
    }

    /// The directory of a package, unpacked.
    pub(crate) async fn get(&self, code: &Code) -> Result<PathBuf, StartError> {
        let hash = code.sha256.to_ascii_lowercase();
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(StartError::Code(format!("`{hash}` is not a SHA-256 in hexadecimal")));
        }
        let finished = self.directory.join(&hash);
        if tokio::fs::try_exists(&finished).await.unwrap_or(false) {
            return Ok(finished);
        }
        let _alone = self.flights.enter(&hash).await;
        if tokio::fs::try_exists(&finished).await.unwrap_or(false) {
            return Ok(finished);
        }
        let scratch = Scratch(self.directory.join(format!(".new-{hash}")));
        let _ = fs::remove_dir_all(&scratch.0);
        fs::create_dir(&scratch.0).map_err(platform("making room for the package"))?;
        let zip = scratch.0.join("package.zip");
        code.fetch.fetch(&zip).await.map_err(platform("fetching the package"))?;
        let (limit, target) = (self.max_unzipped_bytes, finished.clone());
        tokio::task::spawn_blocking(move || {
            let unpacked = scratch.0.join("code");
            check_hash(&zip, &hash)?;
            unpack(&zip, &unpacked, limit)?;
            fs::rename(&unpacked, &target).map_err(platform("naming the unpacked package"))
        })
        .await
        .map_err(|error| StartError::Platform(error.to_string()))??;
        Ok(finished)
    }
}

/// A directory that is removed when it is no longer needed.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can not be removed now is removed at the next start of the node.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn platform(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Platform(format!("{what}: {error}"))
}

fn broken(error: impl std::fmt::Display) -> StartError {
    StartError::Code(format!("the deployment package can not be unpacked: {error}"))
}

fn check_hash(zip: &Path, expected: &str) -> Result<(), StartError> {
    let mut file = fs::File::open(zip).map_err(platform("reading the package"))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer).map_err(platform("reading the package"))? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    let found = hex::encode(hasher.finalize());
    if found == expected {
        Ok(())
    } else {
        Err(StartError::Platform(format!(
            "the stored package is damaged: its SHA-256 is {found}, not {expected}"
        )))
    }
}

/// Unpacks a zip into the new directory `target`. Blocks.
fn unpack(zip: &Path, target: &Path, max_bytes: u64) -> Result<(), StartError> {
    let file = fs::File::open(zip).map_err(platform("reading the package"))?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file)).map_err(broken)?;
    if archive.len() > MAX_ENTRIES {
        return Err(broken(format!("it has more than {MAX_ENTRIES} entries")));
    }
    make_directory(target)?;
    let mut left = max_bytes;
    let mut links = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let Some(name) = entry.enclosed_name() else {
            return Err(broken(format!(
                "the path {:?} leads out of the package",
                entry.name_raw().escape_ascii().to_string()
            )));
        };
        let path = target.join(name);
        if entry.is_dir() {
            make_directory(&path)?;
            continue;
        }
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        if entry.is_symlink() {
            let mut link = String::new();
            (&mut entry).take(4096).read_to_string(&mut link).map_err(broken)?;
            links.push((path, link));
            continue;
        }
        let executable = entry.unix_mode().is_none_or(|mode| mode & 0o111 != 0);
        let mode = if executable { 0o755 } else { 0o644 };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&path)
            .map_err(platform("writing the unpacked package"))?;
        // One byte more than is left tells a file that ends there from one that goes on. What the zip says
        // about its sizes is not believed.
        let written = copy(&mut (&mut entry).take(left + 1), &mut file)?;
        left = left.checked_sub(written).ok_or_else(|| {
            StartError::Code(format!("Unzipped size must be smaller than {max_bytes} bytes"))
        })?;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(platform("writing the unpacked package"))?;
    }
    // Last, so that no entry is written through one.
    for (path, link) in links {
        std::os::unix::fs::symlink(link, path).map_err(broken)?;
    }
    Ok(())
}

fn copy(from: &mut impl Read, to: &mut fs::File) -> Result<u64, StartError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut written = 0;
    loop {
        match from.read(&mut buffer).map_err(broken)? {
            0 => return Ok(written),
            read => {
                to.write_all(&buffer[..read]).map_err(platform("writing the unpacked package"))?;
                written += read as u64;
            }
        }
    }
}

/// Everyone may read: the function is another user than the node.
fn make_directory(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(platform("writing the unpacked package"))
}
