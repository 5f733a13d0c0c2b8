//! The archive: where its parts are, and which of them make up the image.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use functions::StartError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::super::unpack::platform;
use super::{ContainerImage, broken, zstd};

/// Parts of an archive, and links to them.
const MAX_PARTS: usize = 100_000;
/// The largest manifest or configuration.
const MAX_TEXT_BYTES: u64 = 16 * 1024 * 1024;

const GZIP: [u8; 2] = [0x1F, 0x8B];

/// A part of an archive, with the digest that it must have if that is known.
#[derive(Debug, Clone)]
pub(super) struct Part {
    name: PathBuf,
    digest: Option<String>,
}

/// An archive: an uncompressed tar, read in no order.
pub(super) struct Archive {
    file: fs::File,
    parts: HashMap<PathBuf, (u64, u64)>,
    links: HashMap<PathBuf, PathBuf>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize, Clone)]
struct Descriptor {
    digest: String,
    #[serde(default, rename = "mediaType")]
    media_type: String,
    platform: Option<Platform>,
}

#[derive(Deserialize, Clone)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// An entry of the `manifest.json` that `docker save` writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    architecture: String,
    config: Option<ContainerImage>,
}

/// The host's architecture, by its name in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self, StartError> {
        let reading = "reading the container image";
        let file = fs::File::open(path).map_err(platform(reading))?;
        let mut start = [0; 4];
        let read = (&file).take(4).read(&mut start).map_err(platform(reading))?;
        if start[..read].starts_with(&GZIP) || zstd::is_zstd(&start[..read]) {
            return Err(broken(
                "the archive is compressed; give it as a plain tar (its layers may be compressed)",
            ));
        }
        (&file).seek(SeekFrom::Start(0)).map_err(platform(reading))?;
        let (mut parts, mut links) = (HashMap::new(), HashMap::new());
        let mut tar = tar::Archive::new(io::BufReader::new(&file));
        for entry in tar.entries_with_seek().map_err(broken)? {
            let entry = entry.map_err(broken)?;
            if parts.len() + links.len() >= MAX_PARTS {
                return Err(broken(format!("the archive has more than {MAX_PARTS} parts")));
            }
            let name = plain(Path::new(std::ffi::OsStr::from_bytes(&entry.path_bytes())));
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    parts.insert(name, (entry.raw_file_position(), entry.size()));
                }
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let to = entry.link_name_bytes().unwrap_or_default();
                    let to = Path::new(std::ffi::OsStr::from_bytes(&to)).to_owned();
                    let symbolic = entry.header().entry_type() == tar::EntryType::Symlink;
                    let from = if symbolic { name.parent() } else { None };
                    links.insert(name.clone(), plain(&from.unwrap_or(Path::new("")).join(to)));
                }
                _ => {}
            }
        }
        Ok(Self { file, parts, links })
    }

    /// The image in it: what it says, and its layers from the lowest.
    pub(super) fn image(&mut self) -> Result<(ContainerImage, Vec<Part>), StartError> {
        let (config, layers) = if self.has("index.json") {
            self.layout_image()?
        } else if self.has("manifest.json") {
            self.saved_image()?
        } else {
            let message = "the archive is neither an OCI image layout (no index.json) nor one of `docker save` (no \
                           manifest.json)";
            return Err(broken(message));
        };
        let config: Configuration = self.json(&config)?;
        if !config.architecture.is_empty() && config.architecture != architecture() {
            return Err(StartError::Code(format!(
                "the container image is for {}, this host is {}; build it with --platform linux/{}",
                config.architecture,
                architecture(),
                architecture()
            )));
        }
        Ok((config.config.unwrap_or_default(), layers))
    }

    fn has(&self, name: &str) -> bool {
        self.parts.contains_key(Path::new(name))
    }

    fn layout_image(&mut self) -> Result<(Part, Vec<Part>), StartError> {
        let mut index: Index = self.json(&Part { name: "index.json".into(), digest: None })?;
        // An index may hold indexes, though not without end.
        for _ in 0..4 {
            let chosen = choose(&index.manifests)?.clone();
            let part = blob(&chosen)?;
            if !chosen.media_type.contains("image.index") && !chosen.media_type.contains("manifest.list") {
                let manifest: Manifest = self.json(&part)?;
                let layers = manifest.layers.iter().map(blob).collect::<Result<_, _>>()?;
                return Ok((blob(&manifest.config)?, layers));
            }
            index = self.json(&part)?;
        }
        Err(broken("its indexes hold nothing but indexes"))
    }

    fn saved_image(&mut self) -> Result<(Part, Vec<Part>), StartError> {
        let saved: Vec<Saved> = self.json(&Part { name: "manifest.json".into(), digest: None })?;
        let [saved] = &saved[..] else {
            return Err(broken(format!("the archive holds {} images; save one alone", saved.len())));
        };
        let part = |name: &String| Part { name: plain(Path::new(name)), digest: None };
        Ok((part(&saved.config), saved.layers.iter().map(part).collect()))
    }

    fn json<T: DeserializeOwned>(&mut self, part: &Part) -> Result<T, StartError> {
        self.read_raw(part, |reader| {
            let mut text = Vec::new();
            reader.take(MAX_TEXT_BYTES).read_to_end(&mut text).map_err(broken)?;
            serde_json::from_slice(&text).map_err(broken)
        })
    }

    /// Reads a layer, decompressed.
    pub(super) fn read(
        &mut self,
        part: &Part,
        take: impl FnOnce(&mut dyn Read) -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        self.read_raw(part, |mut reader| {
            let mut start = [0; 4];
            let mut read = 0;
            while read < start.len() {
                match reader.read(&mut start[read..]).map_err(broken)? {
                    0 => break,
                    more => read += more,
                }
            }
            let mut whole = start[..read].chain(&mut reader);
            if start[..read].starts_with(&GZIP) {
                take(&mut MultiGzDecoder::new(&mut whole))
            } else if zstd::is_zstd(&start[..read]) {
                take(&mut zstd::Decoder::new(io::BufReader::new(whole)))
            } else {
                take(&mut whole)
            }
        })
    }

    fn read_raw<T>(
        &mut self,
        part: &Part,
        take: impl FnOnce(&mut dyn Read) -> Result<T, StartError>,
    ) -> Result<T, StartError> {
        let mut name = &part.name;
        for _ in 0..4 {
            match self.links.get(name) {
                Some(to) => name = to,
                None => break,
            }
        }
        let (at, size) =
            *self.parts.get(name).ok_or_else(|| broken(format!("{} is missing", name.display())))?;
        self.file.seek(SeekFrom::Start(at)).map_err(platform("reading the container image"))?;
        let reader = io::BufReader::with_capacity(256 * 1024, (&self.file).take(size));
        let mut reader = Hashing { reader, hasher: Sha256::new() };
        let taken = take(&mut reader)?;
        if let Some(digest) = &part.digest {
            io::copy(&mut reader, &mut io::sink()).map_err(broken)?;
            let found = hex::encode(reader.hasher.finalize());
            if found != *digest {
                return Err(broken(format!("{} is damaged: its SHA-256 is {found}", name.display())));
            }
        }
        Ok(taken)
    }
}

/// The manifest for this host.
fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, StartError> {
    let fits = |found: &&Descriptor| match &found.platform {
        Some(platform) => platform.os == "linux" && platform.architecture == architecture(),
        None => manifests.len() == 1,
    };
    manifests
        .iter()
        .find(fits)
        .ok_or_else(|| broken(format!("the archive has no image for linux/{}", architecture())))
}

fn blob(descriptor: &Descriptor) -> Result<Part, StartError> {
    let digest = descriptor.digest.strip_prefix("sha256:").filter(|digest| super::super::is_hash(digest));
    let digest = digest.ok_or_else(|| broken(format!("{} is not a SHA-256", descriptor.digest)))?;
    Ok(Part { name: Path::new("blobs/sha256").join(digest), digest: Some(digest.to_owned()) })
}

/// A name in the archive without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    plain
}

/// Hashes what is read through it.
struct Hashing<R> {
    reader: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
