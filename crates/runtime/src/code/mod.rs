//! Deployment packages, layers and container images: each is fetched, checked and unpacked once on a node, by the hash
//! of its file, and kept as long as there is room.
//!
//! Invariants: a directory is complete and read-only once it has its name. What a sandbox uses is not removed;
//! when there is more than there may be, what was not used for longest goes first, in the background. The cache
//! is one node's: another on the same directory would not know what is in use.

mod image;
mod merge;
mod unpack;

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use functions::{Code, CodeFormat, StartError};
use sha2::{Digest, Sha256};

use crate::single_flight::SingleFlight;
pub(crate) use image::ContainerImage;
use unpack::{check_hash, platform, unpack};

/// How exactly a directory's time says when it was last used: it is for the next node on it.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// An unpacked package; it is in use as long as somebody holds this.
pub(crate) type Package = Arc<Unpacked>;

/// The directory of a package.
#[derive(Debug)]
pub(crate) struct Unpacked {
    path: PathBuf,
    content_bytes: OnceLock<u64>,
    shadows_libraries: OnceLock<bool>,
}

impl Unpacked {
    fn at(path: PathBuf) -> Package {
        Arc::new(Self { path, content_bytes: OnceLock::new(), shadows_libraries: OnceLock::new() })
    }

    /// Whether it has libraries where the dynamic loader looks before it looks at the system's: directly in it and in
    /// `lib`. An interpreter may be linked with one of that name. Looks once.
    pub(crate) fn shadows_libraries(&self) -> bool {
        // Directories that the loader looks into for variants of a library (ld.so(8), "Hardware capabilities").
        const VARIANTS: [&str; 5] = ["glibc-hwcaps", "tls", "haswell", "x86_64", "aarch64"];
        let has = |directory: &Path| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).any(|name| {
                let name = name.to_string_lossy();
                (name.starts_with("lib") && name.contains(".so")) || VARIANTS.contains(&&*name)
            })
        };
        *self.shadows_libraries.get_or_init(|| has(&self.path) || has(&self.path.join("lib")))
    }

    /// The size of all files in it. Looks once; blocks for that.
    fn content_bytes(&self) -> u64 {
        *self.content_bytes.get_or_init(|| content_below(&self.path))
    }
}

impl Deref for Unpacked {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

/// How large each may be once unpacked, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxUnpacked {
    /// A package, and a package with its layers.
    pub(crate) zip: u64,
    /// A container image.
    pub(crate) image: u64,
}

/// The unpacked packages of a node.
#[derive(Debug)]
pub(crate) struct CodeCache {
    shelf: Arc<Shelf>,
    max_unpacked: MaxUnpacked,
    flights: SingleFlight,
}

#[derive(Debug)]
struct Shelf {
    directory: PathBuf,
    max_bytes: u64,
    packages: Mutex<HashMap<String, Kept>>,
    /// One at a time makes room.
    tidying: Mutex<()>,
}

#[derive(Debug)]
struct Kept {
    package: Package,
    last_used: SystemTime,
    touched: SystemTime,
    /// How much room it takes, once that was looked at.
    bytes: Option<u64>,
}

impl CodeCache {
    /// Opens `directory`, and removes what a killed node left half done.
    pub(crate) fn open(directory: PathBuf, max_unpacked: MaxUnpacked, max_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut packages = HashMap::new();
        for entry in fs::read_dir(&directory)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                if !is_anothers(&name) {
                    // What can not be removed now is in nobody's way.
                    let _ = fs::remove_dir_all(entry.path());
                }
            } else if is_hash(&name) {
                let used =
                    entry.metadata().and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                let package = Unpacked::at(entry.path());
                packages.insert(name, Kept { package, last_used: used, touched: used, bytes: None });
            }
        }
        let shelf = Shelf { directory, max_bytes, packages: Mutex::new(packages), tidying: Mutex::default() };
        Ok(Self { shelf: Arc::new(shelf), max_unpacked, flights: SingleFlight::default() })
    }

    /// The directory of a package, unpacked.
    pub(crate) async fn get(&self, code: &Code) -> Result<Package, StartError> {
        let hash = code.sha256.to_ascii_lowercase();
        if !is_hash(&hash) {
            return Err(StartError::Code(format!("`{hash}` is not a SHA-256 in hexadecimal")));
        }
        if let Some(package) = self.shelf.take(&hash) {
            return Ok(package);
        }
        let (format, fetch, limits) = (code.format, code.fetch.clone(), self.max_unpacked);
        self.make(hash.clone(), async move |scratch: PathBuf| {
            let (file, unpacked) = (scratch.join("package"), scratch.join("code"));
            fetch.fetch(&file).await.map_err(platform("fetching the package"))?;
            blocking(move || {
                check_hash(&file, &hash)?;
                match format {
                    CodeFormat::Zip => unpack(&file, &unpacked, limits.zip),
                    CodeFormat::Image => image::unpack(&file, &unpacked, limits.image),
                }
                .map(|()| unpacked)
            })
            .await
        })
        .await
    }

    /// The layers of a function, each unpacked, after `code`, which they share their limit with.
    pub(crate) async fn layers(&self, code: &Package, layers: &[Code]) -> Result<Vec<Package>, StartError> {
        let mut packages = Vec::with_capacity(layers.len());
        for layer in layers {
            packages.push(self.get(layer).await?);
        }
        let (all, limit) = (packages.clone(), self.max_unpacked.zip);
        let code = code.clone();
        blocking(move || {
            let actual = code.content_bytes() + all.iter().map(|layer| layer.content_bytes()).sum::<u64>();
            if actual <= limit {
                return Ok(());
            }
            Err(StartError::Code(format!(
                "Function code combined with layers exceeds the maximum allowed size of {limit} bytes. The actual \
                 size is {actual} bytes."
            )))
        })
        .await?;
        Ok(packages)
    }

    /// Layers as one directory, made once: for where they can not be mounted together.
    pub(crate) async fn merged(&self, layers: &[Package]) -> Result<Package, StartError> {
        if let [layer] = layers {
            return Ok(layer.clone());
        }
        let mut hasher = Sha256::new();
        hasher.update("layers");
        for layer in layers {
            hasher.update(layer.as_os_str().as_encoded_bytes());
            hasher.update([0]);
        }
        let layers = layers.to_vec();
        self.make(hex::encode(hasher.finalize()), async move |scratch: PathBuf| {
            let merged = scratch.join("code");
            blocking(move || {
                merge::merge(&layers, &merged).map_err(platform("putting layers together"))?;
                Ok(merged)
            })
            .await
        })
        .await
    }

    /// What is kept by this name, made by `make` in a scratch directory if it is not there. Who waits for it may go
    /// away: what was begun is brought to its end, so that nobody else comes in between.
    async fn make<F>(
        &self,
        hash: String,
        make: impl FnOnce(PathBuf) -> F + Send + 'static,
    ) -> Result<Package, StartError>
    where
        F: Future<Output = Result<PathBuf, StartError>> + Send + 'static,
    {
        if let Some(package) = self.shelf.take(&hash) {
            return Ok(package);
        }
        let alone = self.flights.enter(&hash).await;
        if let Some(package) = self.shelf.take(&hash) {
            return Ok(package);
        }
        let shelf = self.shelf.clone();
        let made = tokio::spawn(async move {
            let _alone = alone;
            let scratch = Scratch(shelf.directory.join(format!(".new-{}-{hash}", std::process::id())));
            let _ = fs::remove_dir_all(&scratch.0);
            fs::create_dir(&scratch.0).map_err(platform("making room for the package"))?;
            let made = make(scratch.0.clone()).await?;
            let package = shelf.put(hash, &made).map_err(platform("naming the unpacked package"))?;
            drop(scratch);
            tokio::task::spawn_blocking(move || shelf.tidy());
            Ok(package)
        });
        made.await.map_err(|error| StartError::Platform(error.to_string()))?
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StartError::Platform(error.to_string()))?
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Shelf {
    fn packages(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.packages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, hash: &str) -> Option<Package> {
        let mut packages = self.packages();
        let kept = packages.get_mut(hash)?;
        let now = SystemTime::now();
        kept.last_used = now;
        if now.duration_since(kept.touched).is_ok_and(|since| since > TOUCH_EVERY) {
            kept.touched = now;
            touch(&kept.package, now);
        }
        Some(kept.package.clone())
    }

    /// Takes in a directory that is complete.
    fn put(&self, hash: String, unpacked: &Path) -> io::Result<Package> {
        let target = self.directory.join(&hash);
        match fs::rename(unpacked, &target) {
            Ok(()) => {}
            // Another node on this directory was faster, with the same.
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => {
            }
            Err(error) => return Err(error),
        }
        let (package, now) = (Unpacked::at(target), SystemTime::now());
        touch(&package, now);
        let kept = Kept { package: package.clone(), last_used: now, touched: now, bytes: None };
        self.packages().insert(hash, kept);
        Ok(package)
    }

    /// Removes what was not used for longest, until there is no more than there may be. Blocks.
    fn tidy(&self) {
        let _alone = self.tidying.lock().unwrap_or_else(PoisonError::into_inner);
        self.measure();
        while let Some(doomed) = self.doom_one() {
            if let Err(error) = fs::remove_dir_all(&doomed) {
                tracing::warn!(path = %doomed.display(), %error, "old code could not be removed");
            }
        }
    }

    /// Finds out how much room each takes, not holding anybody up.
    fn measure(&self) {
        let unknown: Vec<_> = self
            .packages()
            .iter()
            .filter(|(_, kept)| kept.bytes.is_none())
            .map(|(hash, kept)| (hash.clone(), kept.package.clone()))
            .collect();
        for (hash, package) in unknown {
            let bytes = bytes_below(&package);
            if let Some(kept) = self.packages().get_mut(&hash) {
                kept.bytes = Some(bytes);
            }
        }
    }

    /// Takes one from the shelf if there are too many and it is not in use; where it is now.
    fn doom_one(&self) -> Option<PathBuf> {
        let mut packages = self.packages();
        let total: u64 = packages.values().filter_map(|kept| kept.bytes).sum();
        if total <= self.max_bytes {
            return None;
        }
        let (hash, _) = packages
            .iter()
            // Nobody can take one meanwhile, since that is done under the same lock.
            .filter(|(_, kept)| Arc::strong_count(&kept.package) == 1)
            .min_by_key(|(_, kept)| kept.last_used)?;
        let hash = hash.clone();
        let kept = packages.remove(&hash)?;
        let doomed = self.directory.join(format!(".old-{}-{hash}", std::process::id()));
        match fs::rename(&kept.package.path, &doomed) {
            Ok(()) => Some(doomed),
            // It was removed by hand: the next start unpacks it again. The count is right by then.
            Err(_) => Some(kept.package.to_path_buf()),
        }
    }
}

/// Whether a directory that is being made or removed is another node's that still runs: `.new-<pid>-<hash>`.
fn is_anothers(name: &str) -> bool {
    let pid = name.split('-').nth(1).and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| pid != std::process::id() && Path::new(&format!("/proc/{pid}")).exists())
}

/// Notes in the file system when it was used. Only the order after a restart depends on it.
fn touch(directory: &Path, when: SystemTime) {
    let _ = fs::File::open(directory).and_then(|directory| directory.set_modified(when));
}

/// What a directory takes on the disk.
fn bytes_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.metadata().ok()?, entry)))
        .map(|(found, entry)| {
            let below = if found.is_dir() { bytes_below(&entry.path()) } else { 0 };
            found.blocks() * 512 + below
        })
        .sum()
}

/// How much is in its files.
fn content_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.metadata().ok()?, entry)))
        .map(|(found, entry)| if found.is_dir() { content_below(&entry.path()) } else { found.len() })
        .sum()
}

/// A directory that is removed when it is no longer needed.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can not be removed now is removed at the next start of the node.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use sha2::{Digest, Sha256};

    use super::*;

    #[derive(Debug)]
    struct Zip(Vec<u8>);

    #[async_trait::async_trait]
    impl functions::CodeFetch for Zip {
        async fn fetch(&self, path: &Path) -> io::Result<()> {
            fs::write(path, &self.0)
        }
    }

    /// A package of 100 kB.
    fn code(number: u8) -> Code {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        writer.start_file("data", zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(&vec![number; 100_000]).unwrap();
        let zip = writer.finish().unwrap().into_inner();
        Code {
            sha256: hex::encode(Sha256::digest(&zip)),
            format: functions::CodeFormat::Zip,
            fetch: Arc::new(Zip(zip)),
        }
    }

    fn there(directory: &Path, numbers: &[u8]) -> Vec<u8> {
        numbers.iter().copied().filter(|number| directory.join(code(*number).sha256).exists()).collect()
    }

    fn open(directory: &Path, max_bytes: u64) -> CodeCache {
        CodeCache::open(directory.to_owned(), MaxUnpacked { zip: 1 << 20, image: 1 << 20 }, max_bytes)
            .unwrap()
    }

    #[tokio::test]
    async fn what_is_in_use_stays_and_what_was_used_last_goes_last() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let cache = open(directory, u64::MAX);
        let one = cache.get(&code(1)).await.unwrap();
        for number in [2, 3, 4, 2] {
            cache.get(&code(number)).await.unwrap();
        }
        let small = Shelf {
            directory: directory.to_owned(),
            max_bytes: 250_000,
            packages: Mutex::new(std::mem::take(&mut *cache.shelf.packages())),
            tidying: Mutex::default(),
        };
        small.tidy();
        assert_eq!(there(directory, &[1, 2, 3, 4]), [1, 2]);
        assert!(one.join("data").exists());
        // Nothing is left to take.
        let two = small.take(&code(2).sha256).unwrap();
        let none = Shelf { max_bytes: 0, ..small };
        none.tidy();
        assert_eq!(there(directory, &[1, 2]), [1, 2]);
        drop((one, two));
        none.tidy();
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn the_order_outlives_the_node_and_what_was_removed_is_unpacked_again() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let cache = open(directory, u64::MAX);
        for (number, age) in [(1, 100), (2, 300), (3, 200)] {
            let package = cache.get(&code(number)).await.unwrap();
            touch(&package, SystemTime::now() - Duration::from_secs(age));
        }
        fs::create_dir(directory.join(".old-x")).unwrap();
        let cache = open(directory, 250_000);
        assert!(!directory.join(".old-x").exists());
        cache.shelf.tidy();
        assert_eq!(there(directory, &[1, 2, 3]), [1, 3]);
        // Used now, so that it is the other that makes room.
        let three = cache.get(&code(3)).await.unwrap();
        drop(three);
        let two = cache.get(&code(2)).await.unwrap();
        cache.shelf.tidy();
        assert_eq!(there(directory, &[1, 2, 3]), [2, 3]);
        assert_eq!(fs::read(two.join("data")).unwrap(), vec![2; 100_000]);
    }
}
