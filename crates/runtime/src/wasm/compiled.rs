//! Compiled code: made once for each component and kept on disk.
//!
//! Compiled code is trusted like this program's own, so a file is only used if this node wrote it: its HMAC, by a
//! key that only the node's user can read, is checked when the file is first used by a process; nobody but that user
//! (and root) may have been able to write to it since; and it is used through the very file descriptor that was
//! checked. Whatever does not fit is compiled again.
//!
//! Invariants: files get their names whole; each component is compiled by one at a time; compilers leave processors
//! to whatever else wants them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use functions::StartError;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use types::SharedEnv;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::WasmConfig;
use crate::single_flight::SingleFlight;

/// Changes when the files' form does.
const FORMAT: u32 = 1;
/// How many checked files are remembered.
const MAX_CHECKED: usize = 10_000;
/// The niceness of threads that compile.
const NICE: i32 = 15;

type Tag = [u8; 32];

/// The compiled components of a node.
#[derive(Debug)]
pub(super) struct CompiledCode {
    shelf: Arc<Shelf>,
    flights: SingleFlight,
    compilations: Semaphore,
}

#[derive(Debug)]
struct Shelf {
    directory: PathBuf,
    max_bytes: u64,
    key: Key,
    /// What a file's name says of the engine and the key that it is for.
    suffix: String,
    /// Files that were checked by this process, as they were then.
    checked: Mutex<HashMap<String, Stamp>>,
}

/// A secret of the node.
struct Key([u8; 32]);

// It stays out of logs.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// By what a file is known to be the same as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why compiled code on disk is not used.
#[derive(Debug)]
enum Unusable {
    /// It is not there.
    Missing,
    /// It is not what this node wrote, or for another engine.
    Wrong(String),
}

impl CompiledCode {
    /// Opens `directory`. `key_file` is made if it is not there.
    pub(super) fn open(
        directory: PathBuf,
        key_file: &Path,
        engine: &Engine,
        config: &WasmConfig,
        env: &SharedEnv,
    ) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                // What a killed node left half done; what can not be removed is in nobody's way.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let key = Key::open(key_file, env)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        (FORMAT, Sha256::digest(key.0).as_slice()).hash(&mut hasher);
        let suffix = format!("{:016x}", hasher.finish());
        let shelf =
            Shelf { directory, max_bytes: config.max_compiled_bytes, key, suffix, checked: Mutex::default() };
        Ok(Self {
            shelf: Arc::new(shelf),
            flights: SingleFlight::default(),
            compilations: Semaphore::new(config.max_compilations.max(1)),
        })
    }

    /// The component in the file `source`, which is known by `name`.
    pub(super) async fn get(
        &self,
        engine: &Engine,
        name: &str,
        source: PathBuf,
    ) -> Result<Component, StartError> {
        if let Ok(component) = self.load(engine, name).await? {
            return Ok(component);
        }
        let _alone = self.flights.enter(name).await;
        match self.load(engine, name).await? {
            Ok(component) => return Ok(component),
            Err(Unusable::Missing) => {}
            Err(Unusable::Wrong(reason)) => {
                tracing::warn!(
                    name,
                    reason,
                    "compiled code is not what this node wrote; it is compiled again"
                );
            }
        }
        let _turn =
            self.compilations.acquire().await.map_err(|error| StartError::Platform(error.to_string()))?;
        let (shelf, compiler, file) = (self.shelf.clone(), engine.clone(), name.to_owned());
        let made = tokio::task::spawn_blocking(move || {
            let code = compile(&compiler, &source)?;
            shelf
                .put(&file, &code)
                .map_err(|error| StartError::Platform(format!("keeping compiled code: {error}")))
        });
        made.await.map_err(|error| StartError::Platform(error.to_string()))??;
        match self.load(engine, name).await? {
            Ok(component) => {
                let shelf = self.shelf.clone();
                tokio::task::spawn_blocking(move || shelf.tidy());
                Ok(component)
            }
            Err(reason) => {
                Err(StartError::Platform(format!("compiled code can not be read back: {reason:?}")))
            }
        }
    }

    async fn load(&self, engine: &Engine, name: &str) -> Result<Result<Component, Unusable>, StartError> {
        let (shelf, engine, name) = (self.shelf.clone(), engine.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || shelf.load(&engine, &name))
            .await
            .map_err(|error| StartError::Platform(error.to_string()))
    }
}

/// Translates a component to machine code. Blocks.
fn compile(engine: &Engine, source: &Path) -> Result<Vec<u8>, StartError> {
    let component =
        fs::read(source).map_err(|error| StartError::Platform(format!("reading the package: {error}")))?;
    if component.starts_with(b"\0asm\x01\0\0\0") {
        return Err(StartError::Code(
            "the package has a core module, not a component; make it one that exports wasi:http/incoming-handler, \
             such as with `wasm-tools component new`"
                .to_owned(),
        ));
    }
    // Own threads, since the niceness of those that everybody shares is everybody's.
    let threads = rayon::ThreadPoolBuilder::new()
        .thread_name(|_| "wasm-compile".to_owned())
        .start_handler(|_| {
            // If that can not be, it is only less polite.
            let _ = rustix::process::nice(NICE);
        })
        .build()
        .map_err(|error| StartError::Platform(format!("starting to compile: {error}")))?;
    let compiled = threads.install(|| engine.precompile_component(&component));
    drop((threads, component));
    // Compilers take hundreds of megabytes, which the allocator would keep for the next one.
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
    compiled.map_err(|error| StartError::Code(format!("the component can not be compiled: {error:#}")))
}

impl Shelf {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}-{}", self.suffix))
    }

    fn tag(&self, mut code: impl Read) -> io::Result<Tag> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key.0).expect("a key may have any length");
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match code.read(&mut buffer)? {
                0 => return Ok(mac.finalize().into_bytes().into()),
                read => mac.update(&buffer[..read]),
            }
        }
    }

    fn load(&self, engine: &Engine, name: &str) -> Result<Component, Unusable> {
        let wrong = |error: &dyn std::fmt::Display| Unusable::Wrong(error.to_string());
        let directory = self.path(name);
        let code = match File::open(directory.join("code")) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Missing),
            Err(error) => return Err(wrong(&error)),
        };
        let found = code.metadata().map_err(|error| wrong(&error))?;
        if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0
        {
            return Err(Unusable::Wrong("others than the node's user could write to it".to_owned()));
        }
        let stamp = Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        };
        let known = self.checked.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        if known != Some(stamp) {
            let expected = fs::read(directory.join("hmac")).map_err(|error| wrong(&error))?;
            let tag = self.tag(&code).map_err(|error| wrong(&error))?;
            // Whoever can measure how long this takes can not write files.
            if expected != tag {
                return Err(Unusable::Wrong("its HMAC is another".to_owned()));
            }
            let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
            if checked.len() >= MAX_CHECKED {
                checked.clear();
            }
            checked.insert(name.to_owned(), stamp);
        }
        // So that what is mapped is what was checked, whatever has that name by now.
        let opened = PathBuf::from(format!("/proc/self/fd/{}", code.as_raw_fd()));
        // SAFETY: this node's key says that these are the bytes which `precompile_component` gave to this node, and
        // the file's mode and owner that nobody changed them since.
        let component =
            unsafe { Component::deserialize_file(engine, opened) }.map_err(|error| wrong(&error))?;
        let _ = File::open(&directory).and_then(|directory| directory.set_modified(SystemTime::now()));
        Ok(component)
    }

    /// Writes a directory with the code, and gives it its name.
    fn put(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let target = self.path(name);
        let scratch = self.directory.join(format!(".new-{name}"));
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir(&scratch)?;
        let create = |name: &str| {
            fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(scratch.join(name))
        };
        create("code")?.write_all(code)?;
        create("hmac")?.write_all(&self.tag(code)?)?;
        let _ = fs::remove_dir_all(&target);
        fs::rename(&scratch, &target)
    }

    /// Removes what was not used for longest, until there is no more than there may be. What is removed while it is
    /// used stays until it is not.
    fn tidy(&self) {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let is_whole = !entry.file_name().as_encoded_bytes().starts_with(b".");
            let size = fs::metadata(entry.path().join("code")).map(|code| code.len());
            let used = entry.metadata().and_then(|found| found.modified());
            if let (true, Ok(size), Ok(used)) = (is_whole, size, used) {
                all.push((used, size, entry.path()));
            }
        }
        let mut total: u64 = all.iter().map(|(_, size, _)| size).sum();
        all.sort();
        // The newest stays, however large it is.
        all.pop();
        for (_, size, path) in all {
            if total <= self.max_bytes {
                return;
            }
            match fs::remove_dir_all(&path) {
                Ok(()) => total -= size,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "compiled code could not be removed")
                }
            }
        }
    }
}

impl Key {
    fn open(path: &Path, env: &SharedEnv) -> io::Result<Self> {
        match Self::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let mut key = [0; 32];
        env.fill(&mut key);
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        let scratch = directory.join(format!(".wasm-key-{}", std::process::id()));
        let _ = fs::remove_file(&scratch);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch)?;
        file.write_all(hex::encode(key).as_bytes())?;
        file.sync_all()?;
        // Whoever is first wins.
        let linked = fs::hard_link(&scratch, path);
        fs::remove_file(&scratch)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Self::read(path),
        }
    }

    fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let found = file.metadata()?;
        if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
            let reason = "others than the node's user can read it; remove it, and the node makes a new one";
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{}: {reason}", path.display()),
            ));
        }
        let mut text = String::new();
        (&mut file).take(128).read_to_string(&mut text)?;
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut key).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
        })?;
        Ok(Self(key))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn try_open(directory: &Path, engine: &Engine, max_compiled_bytes: u64) -> io::Result<CompiledCode> {
        let config = WasmConfig { max_compiled_bytes, ..WasmConfig::default() };
        let env = types::SystemEnv::new();
        CompiledCode::open(directory.join("wasm"), &directory.join("key"), engine, &config, &env)
    }

    fn open(directory: &Path, max_bytes: u64) -> (Engine, CompiledCode) {
        let engine = Engine::default();
        let code = try_open(directory, &engine, max_bytes).unwrap();
        (engine, code)
    }

    async fn get(
        engine: &Engine,
        code: &CompiledCode,
        name: &str,
        text: &str,
    ) -> Result<Component, StartError> {
        let source = tempfile::NamedTempFile::new().unwrap();
        fs::write(source.path(), wat::parse_str(text).unwrap()).unwrap();
        code.get(engine, name, source.path().to_owned()).await
    }

    /// What is there, and what it was compiled to.
    fn inode(code: &CompiledCode, name: &str) -> Option<u64> {
        fs::metadata(code.shelf.path(name).join("code")).ok().map(|found| found.ino())
    }

    #[tokio::test]
    async fn code_is_compiled_once_and_used_by_the_next_node() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, code) = open(directory.path(), u64::MAX);
        get(&engine, &code, "a", "(component)").await.unwrap();
        let first = inode(&code, "a").unwrap();
        get(&engine, &code, "a", "(component)").await.unwrap();
        let (engine, code) = open(directory.path(), u64::MAX);
        get(&engine, &code, "a", "(component)").await.unwrap();
        assert_eq!(inode(&code, "a"), Some(first));
        let mode = fs::metadata(directory.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn code_that_this_node_did_not_write_is_compiled_again() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, code) = open(directory.path(), u64::MAX);
        get(&engine, &code, "a", "(component)").await.unwrap();
        let file = code.shelf.path("a").join("code");
        let good = fs::read(&file).unwrap();

        // Another's code under this name.
        let mut evil = good.clone();
        let last = evil.len() - 1;
        evil[last] ^= 1;
        fs::remove_file(&file).unwrap();
        fs::write(&file, &evil).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(
            matches!(code.shelf.load(&engine, "a"), Err(Unusable::Wrong(reason)) if reason.contains("HMAC"))
        );
        get(&engine, &code, "a", "(component)").await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), good);

        // A file that others may write to.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o422)).unwrap();
        assert!(
            matches!(code.shelf.load(&engine, "a"), Err(Unusable::Wrong(reason)) if reason.contains("others"))
        );

        // A node with another key.
        let before = inode(&code, "a");
        fs::remove_file(directory.path().join("key")).unwrap();
        let (engine, other) = open(directory.path(), u64::MAX);
        assert!(matches!(other.shelf.load(&engine, "a"), Err(Unusable::Missing)));
        get(&engine, &other, "a", "(component)").await.unwrap();
        assert_eq!(inode(&code, "a"), before);

        // A key that others can read is none.
        fs::set_permissions(directory.path().join("key"), fs::Permissions::from_mode(0o644)).unwrap();
        let error = try_open(directory.path(), &engine, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn what_is_no_component_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, code) = open(directory.path(), u64::MAX);
        let error = get(&engine, &code, "a", "(module)").await.unwrap_err();
        assert!(error.to_string().contains("core module"), "{error}");
        let source = directory.path().join("text");
        fs::write(&source, "#!/bin/sh").unwrap();
        let error = code.get(&engine, "a", source).await.unwrap_err();
        assert!(matches!(&error, StartError::Code(message) if message.contains("compiled")), "{error}");
        assert_eq!(inode(&code, "a"), None);
    }

    #[tokio::test]
    async fn old_code_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, code) = open(directory.path(), 0);
        for name in ["a", "b", "c"] {
            get(&engine, &code, name, "(component)").await.unwrap();
        }
        code.shelf.tidy();
        assert_eq!(["a", "b", "c"].map(|name| inode(&code, name).is_some()), [false, false, true]);
    }
}
