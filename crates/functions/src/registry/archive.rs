//! An image in a registry as one file: a tar of an OCI image layout, as it is kept and unpacked.
//!
//! Invariants: the same image is the same file, byte by byte. Each part has the size and the digest that the manifest
//! says, or the stream ends in an error; what is in memory is a few pieces, however large the image is.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::client::piece;
use super::manifest::Descriptor;
use super::session::Session;
use super::{Image, PullError, Registries};

/// Pieces that wait to be written.
const PIECES: usize = 4;
const BLOCK: u64 = 512;

/// A file that is being made, and what went wrong with it once its bytes end in an error.
pub(crate) struct Archive {
    pub(crate) bytes: blobs::ByteStream,
    pub(crate) failure: Arc<OnceLock<PullError>>,
}

/// The reader is gone, or the image is not what it should be.
enum Stop {
    Unwanted,
    Failed(PullError),
}

impl From<PullError> for Stop {
    fn from(error: PullError) -> Self {
        Self::Failed(error)
    }
}

type Pieces = mpsc::Sender<Result<Bytes, blobs::Error>>;

/// Gets an image. It is asked for no faster than it is taken.
pub(super) fn archive(registries: Arc<Registries>, image: Image) -> Archive {
    let (sender, receiver) = mpsc::channel(PIECES);
    let failure = Arc::new(OnceLock::new());
    let failed = failure.clone();
    tokio::spawn(async move {
        match write(&registries, &image, &sender).await {
            Ok(()) | Err(Stop::Unwanted) => {}
            Err(Stop::Failed(error)) => {
                let shown = blobs::Error::Body(Box::new(error.clone()));
                // Nothing else sets it.
                let _ = failed.set(error);
                let _ = sender.send(Err(shown)).await;
            }
        }
    });
    let bytes = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    Archive { bytes: bytes.boxed(), failure }
}

async fn write(registries: &Registries, image: &Image, out: &Pieces) -> Result<(), Stop> {
    let session = registries.session(&image.reference)?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": image.media_type,
            "digest": image.digest,
            "size": image.manifest.len(),
        }],
    });
    small(out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).await?;
    small(out, "index.json", index.to_string().as_bytes()).await?;
    small(out, &name_of(&image.digest), &image.manifest).await?;
    small(out, &name_of(&image.config.digest), &image.configuration).await?;
    let mut written = vec![&image.digest, &image.config.digest];
    for layer in &image.layers {
        // Images may have a layer twice.
        if !written.contains(&&layer.digest) {
            written.push(&layer.digest);
            large(&session, layer, out).await?;
        }
    }
    send(out, Bytes::from(vec![0; 2 * BLOCK as usize])).await
}

fn name_of(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

async fn send(out: &Pieces, bytes: Bytes) -> Result<(), Stop> {
    if bytes.is_empty() {
        return Ok(());
    }
    out.send(Ok(bytes)).await.map_err(|_| Stop::Unwanted)
}

/// A part's header (POSIX.1-1988, "ustar Interchange Format"), with nothing in it that could differ another time.
fn header(name: &str, size: u64) -> Bytes {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).expect("names of parts are short and have no odd steps");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Bytes::copy_from_slice(header.as_bytes())
}

fn padding(size: u64) -> Bytes {
    Bytes::from(vec![0; (size.next_multiple_of(BLOCK) - size) as usize])
}

async fn small(out: &Pieces, name: &str, bytes: &[u8]) -> Result<(), Stop> {
    let size = bytes.len() as u64;
    send(out, header(name, size)).await?;
    send(out, Bytes::copy_from_slice(bytes)).await?;
    send(out, padding(size)).await
}

async fn large(session: &Session<'_>, part: &Descriptor, out: &Pieces) -> Result<(), Stop> {
    send(out, header(&name_of(&part.digest), part.size)).await?;
    let mut body = session.blob(&part.digest).await?;
    let (mut hasher, mut size) = (Sha256::new(), 0);
    while let Some(bytes) = piece(&mut body).await? {
        size += bytes.len() as u64;
        if size > part.size {
            return Err(session.damaged(&part.digest, &format!("longer than {} bytes", part.size)).into());
        }
        hasher.update(&bytes);
        send(out, bytes).await?;
    }
    if size < part.size {
        return Err(session.damaged(&part.digest, &format!("{size} bytes of {}", part.size)).into());
    }
    let found = format!("sha256:{}", hex::encode(hasher.finalize()));
    if found != part.digest {
        return Err(session.damaged(&part.digest, &found).into());
    }
    send(out, padding(size)).await
}
