//! The programs that load a function's code and speak the Runtime API for it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const FILES: [(&str, &str); 5] = [
    ("bootstrap.py", include_str!("../bootstrap/bootstrap.py")),
    ("hawker_runtime.py", include_str!("../bootstrap/hawker_runtime.py")),
    ("bootstrap.rb", include_str!("../bootstrap/bootstrap.rb")),
    ("index.cjs", include_str!("../bootstrap/index.cjs")),
    ("warm.mjs", include_str!("../bootstrap/warm.mjs")),
];

/// Where boto3 is mounted, below the directory of the bootstraps.
pub(crate) const SITE_PACKAGES: &str = "site-packages";
/// Where the classes for Java are.
const JAVA: &str = "java";

/// Writes the bootstraps into a directory of this version's own, unless they are there; returns it.
pub(crate) fn install(cache: &Path) -> io::Result<PathBuf> {
    let mut hasher = Sha256::new();
    for (name, text) in FILES {
        hasher.update(name);
        hasher.update(text);
    }
    let hash = hex::encode(hasher.finalize());
    let parent = cache.join("runtime");
    let directory = parent.join(&hash[..16]);
    if directory.is_dir() {
        return Ok(directory);
    }
    fs::create_dir_all(&parent)?;
    let scratch = parent.join(format!(".new-{}-{}", &hash[..16], std::process::id()));
    let _ = fs::remove_dir_all(&scratch);
    // __pycache__ is filled when a Python is first prepared; the classes for Java are mounted where they are needed.
    for name in ["", SITE_PACKAGES, "__pycache__", JAVA] {
        fs::create_dir(scratch.join(name))?;
        fs::set_permissions(scratch.join(name), fs::Permissions::from_mode(0o755))?;
    }
    for (name, text) in FILES {
        fs::write(scratch.join(name), text)?;
        fs::set_permissions(scratch.join(name), fs::Permissions::from_mode(0o644))?;
    }
    match fs::rename(&scratch, &directory) {
        Ok(()) => {}
        // Another node on the same cache was faster.
        Err(_) if directory.is_dir() => fs::remove_dir_all(&scratch)?,
        Err(error) => return Err(error),
    }
    Ok(directory)
}
