//! Puts one blob into the bucket: in one request if it is small, else as a multipart upload.
//!
//! What a client sends waits in a file without a name until a part is whole, so that a slow client costs no memory and
//! a crash leaves no file. A whole part is read into memory, in its turn, and sent; if a request fails it is sent
//! again from there.
//!
//! Before the first part of an upload is sent, an object remembers the upload's id: whoever deletes the blob ends the
//! upload as well. A put that is dropped ends its upload in the background.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::format::Encoder;
use super::{Shared, absent_is_fine, failure};
use crate::fs::{blocking, gather};
use crate::{BlobId, ByteStream, Error};

/// S3 takes no smaller parts than 5 MiB but the last, and at most 10,000.
const PART_BYTES: usize = 8 << 20;
/// Parts of one upload that are on their way, or wait for their turn, while the next one comes in.
const PARTS_AHEAD: usize = 3;

/// Writes a blob; see [`crate::Blobs::put`].
pub(super) async fn put(shared: Arc<Shared>, id: BlobId, mut body: ByteStream) -> Result<u64, Error> {
    let mut intake =
        Intake { shared: shared.clone(), encoder: Encoder::new(id), part: None, bytes: Vec::new() };
    let mut upload = Upload { shared, id, under_way: None };
    loop {
        let gathered = match gather(&mut body).await {
            Ok(gathered) => gathered,
            Err(error) => {
                upload.abort().await;
                return Err(error);
            }
        };
        let (pieces, ended) = gathered;
        let step = blocking(move || {
            let whole = intake.take(&pieces, ended);
            Ok((intake, whole))
        });
        // If it was lost, so is the process.
        let (back, whole) = step.await?;
        intake = back;
        let outcome = match whole {
            Ok(whole) => upload.send(whole).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            upload.abort().await;
            return Err(error);
        }
        if ended {
            break;
        }
    }
    let size = intake.encoder.size();
    let last = intake.part.take();
    // From here on the blob may appear. Whoever waits for it may go away; then it is removed again.
    let (done, is_done) = oneshot::channel();
    tokio::spawn(async move {
        let (shared, id) = (upload.shared.clone(), upload.id);
        let outcome = upload.finish(last).await;
        let made = outcome.is_ok();
        if done.send(outcome).is_err()
            && made
            && let Err(error) = shared.delete(id).await
        {
            tracing::warn!(blob = %id, %error, "a blob that nobody waits for was not removed");
        }
    });
    is_done.await.map_err(|error| Error::Io(io::Error::other(error)))??;
    Ok(size)
}

/// Makes parts of what comes in. On blocking threads only.
struct Intake {
    shared: Arc<Shared>,
    encoder: Encoder,
    part: Option<Spooled>,
    /// What is on its way to the file.
    bytes: Vec<u8>,
}

impl Intake {
    /// Adds pieces, and gives the parts that they complete.
    fn take(&mut self, pieces: &[Bytes], ended: bool) -> Result<Vec<Spooled>, Error> {
        for piece in pieces {
            self.encoder.add(piece, &mut self.bytes);
        }
        if ended {
            self.encoder.end(&mut self.bytes);
        }
        let mut whole = Vec::new();
        let mut rest = &self.bytes[..];
        while !rest.is_empty() {
            let mut part = match self.part.take() {
                Some(part) => part,
                None => Spooled::new(&self.shared.spool).map_err(crate::fs::failure)?,
            };
            let (head, tail) = rest.split_at(rest.len().min(PART_BYTES - part.length));
            part.file.write_all_at(head, part.length as u64).map_err(crate::fs::failure)?;
            part.length += head.len();
            // One that may be the last stays, since all may fit into it.
            if tail.is_empty() {
                self.part = Some(part);
            } else {
                whole.push(part);
            }
            rest = tail;
        }
        self.bytes.clear();
        Ok(whole)
    }
}

/// A part that waits, in a file that has no name.
struct Spooled {
    file: File,
    length: usize,
}

impl Spooled {
    fn new(dir: &FilePath) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{}.{number}", std::process::id()));
        // A crash between the two leaves an empty file, which a later process of that number opens again.
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { file, length: 0 })
    }

    fn read(&self) -> Result<Bytes, Error> {
        let mut bytes = vec![0; self.length];
        self.file.read_exact_at(&mut bytes, 0).map_err(crate::fs::failure)?;
        Ok(bytes.into())
    }
}

/// What has been done in the bucket. Unless it is finished or aborted, it ends itself in the background.
struct Upload {
    shared: Arc<Shared>,
    id: BlobId,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    upload: String,
    begun: usize,
    sending: JoinSet<Result<(usize, PartId), Error>>,
    sent: Vec<(usize, PartId)>,
}

impl Upload {
    /// Sends parts, of which none is the last one.
    async fn send(&mut self, parts: Vec<Spooled>) -> Result<(), Error> {
        for part in parts {
            if self.under_way.is_none() {
                self.begin().await?;
            }
            let under_way = self.under_way.as_mut().expect("it was just begun");
            while under_way.sending.len() >= PARTS_AHEAD {
                under_way.next_sent().await?;
            }
            under_way.send(&self.shared, self.id, part);
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), Error> {
        let Shared { store, .. } = &*self.shared;
        let path = self.shared.path(self.id);
        let upload = store.create_multipart(&path).await.map_err(|error| failure(&error))?;
        // Ended from here on, whatever happens.
        let under_way =
            UnderWay { upload: upload.clone(), begun: 0, sending: JoinSet::new(), sent: Vec::new() };
        self.under_way = Some(under_way);
        let remembered = self.shared.upload_path(self.id);
        store.put(&remembered, upload.into()).await.map_err(|error| failure(&error))?;
        Ok(())
    }

    /// Makes the blob appear.
    async fn finish(mut self, last: Option<Spooled>) -> Result<(), Error> {
        let outcome = self.complete(last).await;
        if outcome.is_err() {
            self.abort().await;
        }
        outcome
    }

    async fn complete(&mut self, last: Option<Spooled>) -> Result<(), Error> {
        let path = self.shared.path(self.id);
        let Some(under_way) = &mut self.under_way else {
            let part = last.ok_or_else(|| Error::Io(io::Error::other("a blob has at least a trailer")))?;
            let _turn = self.shared.parts.acquire().await.map_err(|e| Error::Io(io::Error::other(e)))?;
            let bytes = blocking(move || part.read()).await?;
            let options = PutOptions::from(PutMode::Create);
            let done = self.shared.store.put_opts(&path, bytes.into(), options).await;
            return done.map(drop).map_err(|error| failure(&error));
        };
        if let Some(part) = last {
            under_way.send(&self.shared, self.id, part);
        }
        while !under_way.sending.is_empty() {
            under_way.next_sent().await?;
        }
        under_way.sent.sort_by_key(|(number, _)| *number);
        let parts = std::mem::take(&mut under_way.sent).into_iter().map(|(_, part)| part).collect();
        // A blob never changes: one that is there is not replaced. Ids are random: nobody makes it meanwhile.
        match self.shared.store.head(&path).await {
            Ok(_) => return Err(Error::Refused(format!("blob {} is there already", self.id))),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(failure(&error)),
        }
        let upload = under_way.upload.clone();
        let done = self.shared.store.complete_multipart(&path, &upload, parts).await;
        done.map_err(|error| failure(&error))?;
        self.under_way = None;
        if let Err(error) = absent_is_fine(self.shared.store.delete(&self.shared.upload_path(self.id)).await)
        {
            // It goes with the blob.
            tracing::warn!(blob = %self.id, %error, "the id of an upload that has ended was not removed");
        }
        Ok(())
    }

    /// Removes what was sent.
    async fn abort(&mut self) {
        if let Some(under_way) = self.under_way.take() {
            under_way.abort(&self.shared, self.id).await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(under_way) = self.under_way.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (shared, id) = (self.shared.clone(), self.id);
            runtime.spawn(async move { under_way.abort(&shared, id).await });
        }
    }
}

impl UnderWay {
    fn send(&mut self, shared: &Arc<Shared>, id: BlobId, part: Spooled) {
        let (shared, upload, number) = (shared.clone(), self.upload.clone(), self.begun);
        self.begun += 1;
        self.sending.spawn(async move {
            let _turn = shared.parts.acquire().await.map_err(|e| Error::Io(io::Error::other(e)))?;
            let bytes = blocking(move || part.read()).await?;
            let sent = shared.store.put_part(&shared.path(id), &upload, number, bytes.into()).await;
            Ok((number, sent.map_err(|error| failure(&error))?))
        });
    }

    async fn next_sent(&mut self) -> Result<(), Error> {
        if let Some(sent) = self.sending.join_next().await {
            self.sent.push(sent.map_err(|e| Error::Io(io::Error::other(e)))??);
        }
        Ok(())
    }

    async fn abort(mut self, shared: &Shared, id: BlobId) {
        // A part that arrives after its upload has been aborted might stay.
        self.sending.shutdown().await;
        let path = shared.path(id);
        let aborted = absent_is_fine(shared.store.abort_multipart(&path, &self.upload).await);
        let forgotten = match aborted {
            Ok(()) => absent_is_fine(shared.store.delete(&shared.upload_path(id)).await),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::warn!(blob = %id, %error, "an upload was not ended; it is when its blob is removed");
        }
    }
}
