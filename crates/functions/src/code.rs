//! Deployment packages: checked, stored as blobs by their digest, fetched by the runtime.
//!
//! Invariant: a blob is named by a row from before its first byte is written until after its last reader had
//! time to finish, so a crash leaves neither garbage nor a function without its code.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobs::{BlobId, Blobs};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use store::{Page, Read, Store, Write};
use tokio::io::AsyncWriteExt;
use types::{AccountId, Timestamp};

use crate::service::Inner;
use crate::tables::{
    CODE, CODE_UNUSED, CodeRef, CodeRow, IMAGES, ImagePackageRow, LayerRef, UnusedRow, code_key, image_key,
    unused_key,
};
use crate::{CodeFetch, Error};

/// Largest package that comes within a request, in bytes.
pub(crate) const ZIPPED_LIMIT: usize = 52_428_800;
/// Largest package unpacked, in bytes.
pub(crate) const UNZIPPED_LIMIT: u64 = 262_144_000;
/// How long an unused blob stays: longer than an upload, and than the start of an instance of old code.
const GRACE: Duration = Duration::from_secs(600);

/// Largest container image, in bytes (AWS Lambda developer guide, "Lambda quotas").
pub(crate) const IMAGE_LIMIT: u64 = 10 << 30;

/// A package that was checked.
#[derive(Debug)]
pub(crate) struct Package {
    source: Source,
    sha256: String,
    size_bytes: u64,
    /// As its entries say; 0 of an image.
    unzipped_bytes: u64,
}

/// Where the bytes of a package are.
#[derive(Debug)]
enum Source {
    Memory(Bytes),
    /// Where they can be read once more.
    Object(Arc<dyn Reread>),
}

/// Something large that is read as often as needed.
pub(crate) trait Reread: Send + Sync + std::fmt::Debug {
    /// Its bytes, from the beginning.
    fn read(&self) -> blobs::ByteStream;
}

impl Package {
    /// Decodes and checks a package from within a request.
    pub(crate) async fn from_base64(text: String) -> Result<Self, Error> {
        let decoded = STANDARD.decode(text.as_bytes()).map_err(|_| unreadable())?;
        Self::new(decoded.into()).await
    }

    /// Checks a package.
    pub(crate) async fn new(zip: Bytes) -> Result<Self, Error> {
        if zip.len() > ZIPPED_LIMIT {
            return Err(Error::InvalidParameter(format!(
                "Zipped size must be smaller than {ZIPPED_LIMIT} bytes"
            )));
        }
        // Hashing takes tenths of a second for the largest packages: not on a thread that others wait for.
        let checked = tokio::task::spawn_blocking(move || {
            let unzipped_bytes = check(&zip)?;
            let sha256 = hex::encode(Sha256::digest(&zip));
            let size_bytes = zip.len() as u64;
            Ok(Self { source: Source::Memory(zip), sha256, size_bytes, unzipped_bytes })
        });
        checked.await.map_err(|_| unreadable())?
    }

    /// A container image, which is too large to be held. What is in it is checked when it is unpacked.
    pub(crate) async fn image(archive: Arc<dyn Reread>) -> Result<Self, Error> {
        let mut pieces = archive.read();
        let mut hasher = Sha256::new();
        let mut size_bytes = 0;
        while let Some(piece) = pieces.next().await {
            let piece =
                piece.map_err(|e| Error::InvalidParameter(format!("The image can not be read: {e}")))?;
            size_bytes += piece.len() as u64;
            if size_bytes > IMAGE_LIMIT {
                let message = format!("The image must be smaller than {IMAGE_LIMIT} bytes");
                return Err(Error::InvalidParameter(message));
            }
            hasher.update(&piece);
        }
        let sha256 = hex::encode(hasher.finalize());
        Ok(Self { source: Source::Object(archive), sha256, size_bytes, unzipped_bytes: 0 })
    }

    /// Its digest as Lambda shows it.
    pub(crate) fn reference(&self) -> CodeRef {
        CodeRef {
            sha256: self.sha256.clone(),
            blob: String::new(),
            size_bytes: self.size_bytes,
            unzipped_bytes: self.unzipped_bytes,
        }
    }
}

fn unreadable() -> Error {
    Error::InvalidParameter(
        "Could not unzip uploaded file. Please check your file, then try to upload again.".into(),
    )
}

/// Refuses what could not be unpacked later; how much it takes then.
fn check(zip: &Bytes) -> Result<u64, Error> {
    let mut archive = zip::ZipArchive::new(Cursor::new(zip)).map_err(|_| unreadable())?;
    if archive.is_empty() {
        return Err(Error::InvalidParameter("Uploaded file must be a non-empty zip".into()));
    }
    let mut unzipped = 0u64;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|_| unreadable())?;
        // Such a path leads out of where it is unpacked.
        if entry.enclosed_name().is_none() || entry.name_raw().starts_with(b"/") {
            return Err(unreadable());
        }
        unzipped = unzipped.saturating_add(entry.size());
    }
    if unzipped > UNZIPPED_LIMIT {
        return Err(Error::InvalidParameter(format!(
            "Unzipped size must be smaller than {UNZIPPED_LIMIT} bytes"
        )));
    }
    Ok(unzipped)
}

/// Refuses layers that are too large together, or too large with the code that they are for.
pub(crate) fn check_unzipped(code: &CodeRef, layers: &[LayerRef]) -> Result<(), Error> {
    let layers: u64 = layers.iter().map(|layer| layer.code.unzipped_bytes).sum();
    if layers > UNZIPPED_LIMIT {
        return Err(Error::InvalidParameter(format!(
            "Layers consume more than the available size of {UNZIPPED_LIMIT} bytes"
        )));
    }
    let all = layers + code.unzipped_bytes;
    if all > UNZIPPED_LIMIT {
        return Err(Error::InvalidParameter(format!(
            "Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_LIMIT} bytes. The \
             actual size is {all} bytes."
        )));
    }
    Ok(())
}

/// The digest as `CodeSha256` shows it.
pub(crate) fn sha256_base64(hexadecimal: &str) -> String {
    hex::decode(hexadecimal).map(|bytes| STANDARD.encode(bytes)).unwrap_or_default()
}

/// A package that is on disk and waits for the commit that uses it.
#[derive(Debug, Clone)]
pub(crate) struct Uploaded {
    code: CodeRef,
    /// The blob that was written for it and since when; `None` if the package was there already.
    written: Option<(BlobId, Timestamp)>,
    /// The digest of the image from a registry that it was made of.
    image: Option<String>,
}

impl Uploaded {
    /// What it is.
    pub(crate) fn code(&self) -> &CodeRef {
        &self.code
    }
}

/// What a commit changes in who uses which package.
#[derive(Debug, Clone)]
pub(crate) struct Uses {
    account: AccountId,
    uploaded: Vec<Uploaded>,
    /// By digest: the package, and how many users it gains or loses.
    changes: BTreeMap<String, (CodeRef, i64)>,
}

/// Writes, and the new package as it is referred to from now on.
type Decided = (Vec<Write>, Option<CodeRef>);

impl Uses {
    /// No change yet.
    pub(crate) fn of(account: AccountId) -> Self {
        Self { account, uploaded: Vec::new(), changes: BTreeMap::new() }
    }

    /// A new package gets a user. The first one is what [`Self::decide`] tells of.
    pub(crate) fn upload(&mut self, uploaded: Uploaded) {
        self.change(&uploaded.code, 1);
        self.uploaded.push(uploaded);
    }

    /// A package that is in use gets one more user.
    pub(crate) fn retain(&mut self, code: &CodeRef) {
        self.change(code, 1);
    }

    /// A package loses a user. If it was the last, the blob is removed after a while.
    pub(crate) fn release(&mut self, code: &CodeRef) {
        self.change(code, -1);
    }

    fn change(&mut self, code: &CodeRef, by: i64) {
        self.changes.entry(code.sha256.clone()).or_insert_with(|| (code.clone(), 0)).1 += by;
    }

    /// What the commit has to read: the packages' rows, and the rows that keep the new blobs.
    pub(crate) fn reads(&self) -> Vec<Read> {
        let rows = self.changes.keys().map(|sha256| Read::Key(code_key(self.account, sha256)));
        let unused = self.uploaded.iter().map(|uploaded| {
            let (blob, since) = uploaded.written.unwrap_or((BlobId([0; 16]), Timestamp::UNIX_EPOCH));
            Read::Key(unused_key(self.account, since, blob))
        });
        rows.chain(unused).collect()
    }

    /// What follows from the pages of [`Self::reads`]. `None` if a package that is to be used is gone by now: what was read has to be read again.
    pub(crate) fn decide(&self, pages: &[Page], now: Timestamp) -> Result<Option<Decided>, Error> {
        let (pages, unused) = pages.split_at(self.changes.len());
        let mut writes = Vec::new();
        let mut new = None;
        for ((sha256, (code, by)), page) in self.changes.iter().zip(pages) {
            let at = self.uploaded.iter().position(|uploaded| uploaded.code.sha256 == *sha256);
            let uploaded = at.map(|at| &self.uploaded[at]);
            let usable = match at {
                Some(at) => CODE_UNUSED.first(&unused[at])?.is_some_and(|row| !row.value.condemned),
                None => false,
            };
            let key = code_key(self.account, sha256);
            let new_image = uploaded.and_then(|uploaded| uploaded.image.clone());
            let written = uploaded.and_then(|uploaded| uploaded.written);
            let (blob, users, image) = match (CODE.first(page)?, written) {
                (Some(stored), _) => {
                    (stored.value.blob, i64::from(stored.value.functions), stored.value.image.or(new_image))
                }
                (None, Some((blob, since))) if usable => {
                    writes.push(Write::Delete(unused_key(self.account, since, blob)));
                    (blob.to_string(), 0, new_image)
                }
                (None, _) if *by > 0 => return Ok(None),
                (None, _) => continue,
            };
            if at == Some(0) {
                new = Some(CodeRef { blob: blob.clone(), ..code.clone() });
            }
            match u32::try_from(users + by) {
                Ok(functions) if functions > 0 => {
                    if let (Some(image), Some(_)) = (&image, uploaded) {
                        let row = ImagePackageRow { sha256: sha256.clone(), size_bytes: code.size_bytes };
                        writes.push(IMAGES.put(image_key(self.account, image), &row));
                    }
                    writes.push(
                        CODE.put(key, &CodeRow { blob, size_bytes: code.size_bytes, functions, image }),
                    );
                }
                _ => {
                    writes.push(Write::Delete(key));
                    writes.extend(image.map(|image| Write::Delete(image_key(self.account, &image))));
                    if let Some(blob) = blob_id(&blob) {
                        let row = UnusedRow::default();
                        writes.push(CODE_UNUSED.put(unused_key(self.account, now, blob), &row));
                    }
                }
            }
        }
        Ok(Some((writes, new)))
    }
}

fn blob_id(text: &str) -> Option<BlobId> {
    let mut id = [0; 16];
    hex::decode_to_slice(text, &mut id).ok().map(|()| BlobId(id))
}

impl Inner {
    /// Puts a package on disk, unless it is there.
    pub(crate) async fn upload(&self, account: AccountId, package: &Package) -> Result<Uploaded, Error> {
        let code = package.reference();
        let key = code_key(account, &code.sha256);
        if CODE.get(&self.store, key).await?.is_some() {
            return Ok(Uploaded { code, written: None, image: None });
        }
        let mut id = [0; 16];
        self.env.fill(&mut id);
        let (blob, since) = (BlobId(id), self.env.now());
        let pending = CODE_UNUSED.put(unused_key(account, since, blob), &UnusedRow::default());
        self.store.write(vec![pending]).await?;
        self.code_may_be_unused(account);
        let body = match &package.source {
            Source::Memory(zip) => {
                let zip = zip.clone();
                futures_util::stream::once(async move { Ok(zip) }).boxed()
            }
            Source::Object(archive) => archive.read(),
        };
        let size_bytes = self.blobs.put(blob, body).await.map_err(|e| Error::blobs(&e))?;
        if size_bytes != package.size_bytes {
            return Err(Error::InvalidParameter("The image changed while it was read; try again.".into()));
        }
        Ok(Uploaded { code, written: Some((blob, since)), image: None })
    }

    /// The package that an image from a registry was made before, if it is there.
    pub(crate) async fn made_of(&self, account: AccountId, digest: &str) -> Result<Option<Uploaded>, Error> {
        let Some(row) = IMAGES.get(&self.store, image_key(account, digest)).await? else { return Ok(None) };
        let ImagePackageRow { sha256, size_bytes } = row.value;
        let code = CodeRef { sha256, blob: String::new(), size_bytes, unzipped_bytes: 0 };
        Ok(Some(Uploaded { code, written: None, image: Some(digest.to_owned()) }))
    }

    /// Puts a package on disk that is known once it has come, within `patience`; the image of that digest.
    pub(crate) async fn receive(
        &self,
        account: AccountId,
        bytes: blobs::ByteStream,
        digest: &str,
        patience: Duration,
    ) -> Result<Uploaded, Error> {
        let mut id = [0; 16];
        self.env.fill(&mut id);
        let blob = BlobId(id);
        // Not garbage before it can have come.
        let since = self.env.now() + patience;
        let pending = CODE_UNUSED.put(unused_key(account, since, blob), &UnusedRow::default());
        self.store.write(vec![pending]).await?;
        self.code_may_be_unused(account);
        let hasher = Arc::new(Mutex::new(Sha256::new()));
        let hashed = hasher.clone();
        let body = bytes.inspect_ok(move |piece| {
            hashed.lock().expect("no holder of this lock panics").update(piece);
        });
        let put = tokio::select! {
            put = self.blobs.put(blob, body.boxed()) => put.map_err(|e| Error::blobs(&e)),
            () = self.env.sleep(patience) => Err(Error::Platform("The image took too long to come.".into())),
        };
        let now = self.env.now();
        let moved = vec![
            Write::Delete(unused_key(account, since, blob)),
            CODE_UNUSED.put(unused_key(account, now, blob), &UnusedRow::default()),
        ];
        self.store.write(moved).await?;
        let size_bytes = put?;
        let sha256 = hex::encode(hasher.lock().expect("no holder of this lock panics").clone().finalize());
        let code = CodeRef { sha256, blob: String::new(), size_bytes, unzipped_bytes: 0 };
        Ok(Uploaded { code, written: Some((blob, now)), image: Some(digest.to_owned()) })
    }

    /// Has the next sweep look at `account`, code of which may have lost its last user.
    pub(crate) fn code_may_be_unused(&self, account: AccountId) {
        self.sweep.lock().expect("no holder of this lock panics").insert(account);
    }

    /// Removes blobs of `account` that were not used for long enough; true if some are left for later.
    pub(crate) async fn sweep_code(&self, account: AccountId) -> Result<bool, Error> {
        loop {
            let (rows, more) = CODE_UNUSED.scan(&self.store, CODE_UNUSED.range(account, 100, |_| {})).await?;
            let due = self.env.now().as_millisecond() - i64::try_from(GRACE.as_millis()).unwrap_or(i64::MAX);
            let mut doomed = Vec::new();
            for row in &rows {
                let mut key = store::key::KeyReader::new(&row.key).map_err(|e| corrupt(&e))?;
                if key.i64().map_err(|e| corrupt(&e))? > due {
                    break;
                }
                doomed.push((row.key.clone(), BlobId(key.raw().map_err(|e| corrupt(&e))?)));
            }
            let swept = doomed.len();
            let doomed = self.condemn(doomed).await?;
            for (_, blob) in &doomed {
                self.blobs.delete(*blob).await.map_err(|e| Error::blobs(&e))?;
            }
            if !doomed.is_empty() {
                self.store.write(doomed.into_iter().map(|(key, _)| Write::Delete(key)).collect()).await?;
            }
            if swept < rows.len() {
                return Ok(true);
            }
            if !more {
                return Ok(false);
            }
        }
    }

    /// Marks rows whose blobs are about to go, so that an upload that took long does not come to use one.
    /// Answers with those that were still there.
    async fn condemn(&self, doomed: Vec<(store::Key, BlobId)>) -> Result<Vec<(store::Key, BlobId)>, Error> {
        let reads = doomed.iter().map(|(key, _)| Read::Key(key.clone())).collect();
        self.store
            .transact(reads, move |pages, _| {
                let there = doomed.iter().zip(pages).filter(|(_, page)| page.first().is_some());
                let there: Vec<_> = there.map(|(row, _)| row.clone()).collect();
                let mark = |(key, _): &(store::Key, BlobId)| {
                    CODE_UNUSED.put(key.clone(), &UnusedRow { condemned: true })
                };
                Ok((there.iter().map(mark).collect(), there))
            })
            .await
    }

    /// A whole package.
    pub(crate) async fn download(&self, code: &CodeRef) -> Result<blobs::ByteStream, Error> {
        let blob = blob_id(&code.blob).ok_or_else(|| Error::Blobs("its blob has no id".into()))?;
        self.blobs.get(blob, 0..code.size_bytes).await.map_err(|e| Error::blobs(&e))
    }

    /// Gives `account` a package of another: a copy of its own, so that neither depends on what the other does with it.
    pub(crate) async fn copy(
        self: &Arc<Self>,
        account: AccountId,
        code: &CodeRef,
    ) -> Result<Uploaded, Error> {
        let source = Source::Object(Arc::new(Stored { inner: self.clone(), code: code.clone() }));
        let CodeRef { sha256, size_bytes, unzipped_bytes, .. } = code.clone();
        let package = Package { source, sha256, size_bytes, unzipped_bytes };
        self.upload(account, &package).await
    }
}

fn corrupt(error: &store::key::KeyError) -> store::Error {
    store::Error::Corrupt { table: "function_code_unused", reason: error.to_string() }
}

/// A package that is stored.
#[derive(Debug)]
struct Stored {
    inner: Arc<Inner>,
    code: CodeRef,
}

impl Reread for Stored {
    fn read(&self) -> blobs::ByteStream {
        let (inner, code) = (self.inner.clone(), self.code.clone());
        let body =
            async move { inner.download(&code).await.map_err(|error| blobs::Error::Body(Box::new(error))) };
        futures_util::stream::once(body).try_flatten().boxed()
    }
}

/// How the runtime gets a package.
#[derive(Debug)]
pub(crate) struct FetchBlob {
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) store: Store,
    pub(crate) account: AccountId,
    pub(crate) code: CodeRef,
}

impl FetchBlob {
    /// The blob: of what was copied from another account only the account's own row knows which it is.
    async fn blob(&self) -> std::io::Result<BlobId> {
        let id = match self.code.blob.as_str() {
            "" => {
                let row = CODE.get(&self.store, code_key(self.account, &self.code.sha256)).await;
                row.map_err(std::io::Error::other)?.map(|row| row.value.blob).unwrap_or_default()
            }
            id => id.to_owned(),
        };
        blob_id(&id).ok_or_else(|| std::io::Error::other("its blob has no id"))
    }
}

#[async_trait]
impl CodeFetch for FetchBlob {
    async fn fetch(&self, path: &Path) -> std::io::Result<()> {
        let other = |e: blobs::Error| std::io::Error::other(e.to_string());
        let blob = self.blob().await?;
        let mut body = self.blobs.get(blob, 0..self.code.size_bytes).await.map_err(other)?;
        let mut file = tokio::fs::File::create_new(path).await?;
        while let Some(piece) = body.next().await {
            file.write_all(&piece.map_err(other)?).await?;
        }
        file.flush().await
    }
}
