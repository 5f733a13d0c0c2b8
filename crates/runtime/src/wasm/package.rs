//! Which file of a package is the component.

use std::fs;
use std::path::{Path, PathBuf};

use functions::StartError;

/// Names that are looked at; a package with more is not searched for its component.
const MAX_NAMES: usize = 10_000;

/// The component of the package in `directory`: the file that the handler names, else the only `.wasm` that there is.
pub(super) fn component(directory: &Path, handler: &str) -> Result<PathBuf, StartError> {
    let platform = |error| StartError::Platform(format!("reading the package: {error}"));
    let directory = &fs::canonicalize(directory).map_err(platform)?;
    let named = Path::new(handler);
    let stays_inside = named.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !handler.is_empty() && stays_inside {
        for name in [named.to_owned(), PathBuf::from(format!("{handler}.wasm"))] {
            let path = directory.join(name);
            // Not through a link: the package must have it itself.
            if path.is_file() && fs::canonicalize(&path).is_ok_and(|real| real == path) {
                return Ok(path);
            }
        }
    }
    let mut found = Vec::new();
    let mut seen = 0;
    search(directory, &mut found, &mut seen);
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(StartError::Code(format!(
            "the deployment package has neither a file `{handler}` nor any other `.wasm`; put the component into the \
             zip, and name it as the function's handler"
        ))),
        several => Err(StartError::Code(format!(
            "the deployment package has {} files `.wasm` and none of them is named by the handler `{handler}`",
            several.len()
        ))),
    }
}

fn search(directory: &Path, found: &mut Vec<PathBuf>, seen: &mut usize) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        *seen += 1;
        if *seen > MAX_NAMES {
            return;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => search(&entry.path(), found, seen),
            Ok(kind) if kind.is_file() && entry.path().extension().is_some_and(|end| end == "wasm") => {
                found.push(entry.path());
            }
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handler_names_it_or_it_is_the_only_one() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = &fs::canonicalize(temporary.path()).unwrap();
        let find = |handler: &str| {
            component(directory, handler).map(|path| path.strip_prefix(directory).unwrap().to_owned())
        };
        assert!(find("app").unwrap_err().to_string().contains("neither a file `app`"));
        fs::create_dir(directory.join("a")).unwrap();
        fs::write(directory.join("a/one.wasm"), "").unwrap();
        assert_eq!(find("index.handler").unwrap(), Path::new("a/one.wasm"));
        assert_eq!(find("../../etc/passwd").unwrap(), Path::new("a/one.wasm"));
        fs::write(directory.join("two.wasm"), "").unwrap();
        assert!(find("index.handler").unwrap_err().to_string().contains("2 files"));
        assert_eq!(find("two.wasm").unwrap(), Path::new("two.wasm"));
        assert_eq!(find("two").unwrap(), Path::new("two.wasm"));
        assert_eq!(find("a/one").unwrap(), Path::new("a/one.wasm"));
        std::os::unix::fs::symlink("/etc/hostname", directory.join("link.wasm")).unwrap();
        assert!(find("link.wasm").is_err());
    }
}
