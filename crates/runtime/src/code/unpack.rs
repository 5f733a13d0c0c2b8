//! Checks a package and unpacks it. Nothing is ever written outside of the directory being unpacked, whatever the
//! zip says.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use functions::StartError;
use sha2::{Digest, Sha256};

/// Entries of a package; a limit against archives that are all directory.
const MAX_ENTRIES: usize = 200_000;

pub(super) fn platform(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Platform(format!("{what}: {error}"))
}

fn broken(error: impl std::fmt::Display) -> StartError {
    StartError::Code(format!("the deployment package can not be unpacked: {error}"))
}

pub(super) fn check_hash(zip: &Path, expected: &str) -> Result<(), StartError> {
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
pub(super) fn unpack(zip: &Path, target: &Path, max_bytes: u64) -> Result<(), StartError> {
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
