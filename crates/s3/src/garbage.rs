//! The life of blobs: pending while they are written, visible through a row, garbage when no row is left.
//!
//! Invariants: a blob that a crash or a dropped connection left behind is found again by its `BLOB_PENDING` row; a
//! blob is removed only after nothing refers to it, its grace is over, and nobody reads it. The sweeper keeps a
//! cursor past what it removed, so it never scans over its own dead rows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blobs::BlobId;
use store::key::{after, prefix_end};
use store::{Key, Range, Read, Stored, Write};
use tokio_util::sync::CancellationToken;
use types::AccountId;

use crate::Error;
use crate::service::Inner;
use crate::tables::{self, Dead, GARBAGE, Garbage, PARTS, PENDING, Pending, UPLOAD_PARTS};

const PAGE: usize = 256;
/// How often to look without having been woken.
const IDLE: Duration = Duration::from_secs(60);

/// A blob being written. If it is dropped unsettled, the blob is swept.
pub(crate) struct Writing {
    inner: Arc<Inner>,
    pub(crate) id: BlobId,
    settled: bool,
}

impl Writing {
    /// Records that a blob is going to be written.
    pub(crate) async fn begin(inner: &Arc<Inner>) -> Result<Self, Error> {
        let id = inner.random_id();
        // First in memory, then in the store: the sweeper takes a row whose blob nobody here is writing.
        inner.writing.lock().expect("no holder of this lock panics").insert(id);
        let writing = Self { inner: inner.clone(), id, settled: false };
        let row = Pending { started_at: inner.env.now() };
        inner.store.write(vec![PENDING.put(tables::pending_key(id), &row)]).await?;
        Ok(writing)
    }

    /// The write that belongs into the commit that makes the blob visible.
    pub(crate) fn settle(&self) -> Write {
        Write::Delete(tables::pending_key(self.id))
    }

    /// That commit is done.
    pub(crate) fn settled(mut self) {
        self.settled = true;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.inner.writing.lock().expect("no holder of this lock panics").remove(&self.id);
        if !self.settled {
            self.inner.abandoned.store(true, Ordering::Release);
            self.inner.wake.notify_one();
        }
    }
}

/// Keeps blobs from being removed while they are read.
pub(crate) struct Reading {
    inner: Arc<Inner>,
    ids: Vec<BlobId>,
}

impl Reading {
    pub(crate) fn new(inner: &Arc<Inner>, ids: Vec<BlobId>) -> Self {
        let mut reading = inner.reading.lock().expect("no holder of this lock panics");
        ids.iter().for_each(|id| *reading.entry(*id).or_default() += 1);
        drop(reading);
        Self { inner: inner.clone(), ids }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut reading = self.inner.reading.lock().expect("no holder of this lock panics");
        for id in &self.ids {
            if let Some(readers) = reading.get_mut(id) {
                *readers -= 1;
                if *readers == 0 {
                    reading.remove(id);
                }
            }
        }
    }
}

/// The write that records garbage, if there is any.
pub(crate) fn discard(items: Vec<Dead>, at_ms: i64) -> Option<Write> {
    (!items.is_empty()).then(|| GARBAGE.append(tables::garbage_prefix(), &Garbage { at_ms, items }))
}

/// Removes blobs that nothing refers to.
pub struct Sweeper {
    inner: Arc<Inner>,
    cursor: Key,
    /// Rows passed over because something of theirs was being read, or could not be removed.
    held: Vec<Key>,
}

impl std::fmt::Debug for Sweeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sweeper").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl Sweeper {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, cursor: tables::garbage_prefix(), held: Vec::new() }
    }

    /// Sweeps until `shutdown`. A failure of store or blobs is logged and tried again.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        loop {
            // Cut short, a pass has removed less than it could; what it removed twice is removed once.
            let pass = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                pass = self.pass() => pass,
            };
            let wait = match pass {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "sweeping blobs failed; it is tried again");
                    IDLE
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.inner.wake.notified() => {}
                () = self.inner.env.sleep(wait) => {}
            }
        }
    }

    /// Removes what is due, and says when more may be.
    pub async fn pass(&mut self) -> Result<Duration, Error> {
        if self.inner.abandoned.swap(false, Ordering::AcqRel)
            && let Err(error) = self.adopt_abandoned().await
        {
            self.inner.abandoned.store(true, Ordering::Release);
            return Err(error);
        }
        let mut done = Vec::new();
        for key in std::mem::take(&mut self.held) {
            match GARBAGE.get(&self.inner.store, key.clone()).await? {
                Some(row) if !self.remove(&row.value).await? => self.held.push(key),
                Some(_) => done.push(Write::Delete(key)),
                None => {}
            }
        }
        self.forget(&mut done).await?;
        let grace_ms = i64::try_from(self.inner.config.blob_grace_ms).unwrap_or(i64::MAX);
        let grace = Duration::from_millis(self.inner.config.blob_grace_ms);
        loop {
            let range = Range {
                start: self.cursor.clone(),
                end: prefix_end(&tables::garbage_prefix()),
                limit: PAGE,
                limit_bytes: 1 << 20,
                reverse: false,
            };
            let (rows, more) = GARBAGE.scan(&self.inner.store, range).await?;
            for Stored { key, value, .. } in rows {
                let age_ms = self.inner.env.now().as_millisecond().saturating_sub(value.at_ms);
                if age_ms < grace_ms {
                    self.forget(&mut done).await?;
                    return Ok(Duration::from_millis((grace_ms - age_ms).unsigned_abs()));
                }
                self.cursor = after(&key);
                if self.remove(&value).await? {
                    done.push(Write::Delete(key));
                } else {
                    self.held.push(key);
                }
            }
            self.forget(&mut done).await?;
            if !more {
                let retry = grace.max(Duration::from_millis(100)).min(IDLE);
                return Ok(if self.held.is_empty() { IDLE } else { retry });
            }
        }
    }

    async fn forget(&self, done: &mut Vec<Write>) -> Result<(), Error> {
        if !done.is_empty() {
            self.inner.store.write(std::mem::take(done)).await?;
        }
        Ok(())
    }

    /// Makes garbage of pending blobs that no upload under way is writing: left by a crash or a dropped request.
    async fn adopt_abandoned(&self) -> Result<(), Error> {
        let mut range = PENDING.range(AccountId::NODE, PAGE, |_| {});
        loop {
            let (rows, more) = PENDING.scan(&self.inner.store, range.clone()).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            range.start = after(&last.key);
            for Stored { key, .. } in rows {
                let bytes = key.get(key.len() - 16..).and_then(|tail| tail.try_into().ok());
                let Some(id) = bytes.map(BlobId) else { continue };
                let under_way =
                    self.inner.writing.lock().expect("no holder of this lock panics").contains(&id);
                if !under_way {
                    self.adopt(key, id).await?;
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn adopt(&self, key: Key, id: BlobId) -> Result<(), Error> {
        let at_ms = self.inner.env.now().as_millisecond();
        let reads = vec![Read::Key(key.clone())];
        self.inner
            .store
            .transact(reads, move |pages, _| {
                // An upload that ended in between has taken its row with it.
                if pages[0].entries.is_empty() {
                    return Ok((Vec::new(), ()));
                }
                let mut writes = vec![Write::Delete(key.clone())];
                writes.extend(discard(vec![Dead::Blob(id)], at_ms));
                Ok::<_, Error>((writes, ()))
            })
            .await
    }

    /// Removes what a row lists; false if some of it has to wait.
    async fn remove(&self, garbage: &Garbage) -> Result<bool, Error> {
        let mut all = true;
        for item in &garbage.items {
            all &= match item {
                Dead::Blob(id) => self.remove_blobs(&[*id]).await,
                Dead::Parts { account, id } => self.remove_parts(*account, *id).await?,
                Dead::Upload { account, id } => self.remove_upload(*account, id).await?,
            };
        }
        Ok(all)
    }

    async fn remove_blobs(&self, ids: &[BlobId]) -> bool {
        let mut all = true;
        for &id in ids {
            let read = self.inner.reading.lock().expect("no holder of this lock panics").contains_key(&id);
            if read {
                all = false;
            } else if let Err(error) = self.inner.blobs.delete(id).await {
                tracing::warn!(%id, %error, "a blob could not be removed; it is tried again");
                all = false;
            }
        }
        all
    }

    async fn remove_parts(&self, account: AccountId, id: BlobId) -> Result<bool, Error> {
        let key = tables::parts_key(account, id);
        let Some(row) = PARTS.get(&self.inner.store, key.clone()).await? else { return Ok(true) };
        let ids: Vec<_> = row.value.0.iter().filter_map(|segment| segment.blob).collect();
        let all = self.remove_blobs(&ids).await;
        if all {
            self.inner.store.write(vec![Write::Delete(key)]).await?;
        }
        Ok(all)
    }

    async fn remove_upload(&self, account: AccountId, upload: &str) -> Result<bool, Error> {
        let mut range = UPLOAD_PARTS.range(account, PAGE, |k| {
            k.text(upload);
        });
        loop {
            let (rows, more) = UPLOAD_PARTS.scan(&self.inner.store, range.clone()).await?;
            let Some(last) = rows.last() else { return Ok(true) };
            range.start = after(&last.key);
            let ids: Vec<_> = rows.iter().filter_map(|row| row.value.blob).collect();
            if !self.remove_blobs(&ids).await {
                return Ok(false);
            }
            self.inner.store.write(rows.into_iter().map(|row| Write::Delete(row.key)).collect()).await?;
            if !more {
                return Ok(true);
            }
        }
    }
}
