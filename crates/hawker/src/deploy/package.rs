//! Deployment packages: a function's files and its dependencies in one zip, the same bytes for the same files.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// What never belongs in a package.
const LEFT_OUT: &[&str] =
    &[".hawker", ".git", ".aws-sam", ".venv", ".DS_Store", "__pycache__", ".pytest_cache", ".mypy_cache"];

/// Files by their path in the package.
pub(crate) type Files = BTreeMap<String, PathBuf>;

/// Adds the files under `root`.
pub(crate) fn collect(root: &Path, files: &mut Files) -> anyhow::Result<()> {
    walk(root, "", files).with_context(|| format!("the directory `{}` can not be read", root.display()))
}

fn walk(directory: &Path, prefix: &str, files: &mut Files) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            let path = entry.path();
            let message = format!("the name of `{}` is not UTF-8", path.display());
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
        };
        if LEFT_OUT.contains(&name.as_str()) || name.ends_with(".pyc") {
            continue;
        }
        let path = entry.path();
        let inside = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        // Links are followed: what they point to may not exist where the function runs.
        let metadata = std::fs::metadata(&path)?;
        if metadata.is_dir() {
            walk(&path, &inside, files)?;
        } else if metadata.is_file() {
            files.insert(inside, path);
        }
    }
    Ok(())
}

/// The package that a template names by a file: a zip as it is, anything else (a component, a program) as the one
/// file of a zip.
pub(crate) fn of_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("`{}` can not be read", path.display()))?;
    if bytes.starts_with(b"PK") {
        return Ok(bytes);
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    zip(&Files::from([(name, path.to_owned())]))
}

/// The zip of `files`: sorted, no times, permissions as far as they matter.
pub(crate) fn zip(files: &Files) -> anyhow::Result<Vec<u8>> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, path) in files {
        let read = || -> std::io::Result<(Vec<u8>, bool)> {
            let mut file = std::fs::File::open(path)?;
            let executable = file.metadata()?.permissions().mode() & 0o111 != 0;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok((bytes, executable))
        };
        let (bytes, executable) = read().with_context(|| format!("`{}` can not be read", path.display()))?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(if executable { 0o755 } else { 0o644 });
        writer.start_file(name.as_str(), options)?;
        writer.write_all(&bytes)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// Lower-case hexadecimal SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_bytes() {
        let make = |order: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("lib/__pycache__")).unwrap();
            std::fs::write(dir.path().join("lib/__pycache__/x.pyc"), "no").unwrap();
            for name in order {
                std::fs::write(dir.path().join(name), format!("text of {name}")).unwrap();
            }
            let mut files = Files::new();
            collect(dir.path(), &mut files).unwrap();
            assert_eq!(files.len(), order.len());
            zip(&files).unwrap()
        };
        assert_eq!(make(&["a.py", "lib/b.py", "z"]), make(&["z", "lib/b.py", "a.py"]));
    }

    #[test]
    fn a_file_that_is_no_zip_is_packaged_alone() {
        let dir = tempfile::tempdir().unwrap();
        let component = dir.path().join("app.wasm");
        std::fs::write(&component, b"\0asm").unwrap();
        let packaged = of_file(&component).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(&packaged)).unwrap();
        let mut bytes = Vec::new();
        archive.by_name("app.wasm").unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!((archive.len(), bytes.as_slice()), (1, &b"\0asm"[..]));
        let package = dir.path().join("package");
        std::fs::write(&package, &packaged).unwrap();
        assert_eq!(of_file(&package).unwrap(), packaged);
    }
}
