//! Reads every blob again, slowly, in the background, and reports what is damaged: so that a flipped bit is known
//! before somebody needs the bytes.
//!
//! Invariants: what is found is written down (and to the log) and nothing is changed: a damaged blob is never served,
//! by its checksums, and what can still be read of it is left to a person. Where a round stands is written
//! down, so that rounds end however often the node is restarted. Bytes that are rows are covered by the store.

use std::sync::Arc;
use std::time::Duration;

use blobs::BlobId;
use serde::{Deserialize, Serialize};
use store::key::after;
use store::{JsonRecord, Key, Table, Write, tables};
use tokio_util::sync::CancellationToken;
use types::{AccountId, Timestamp};

use crate::Error;
use crate::service::Inner;

const PAGE: usize = 256;
/// Where a round stands is written down after so many bytes.
const STEP_BYTES: u64 = 256 << 20;

const ROUNDS: Table<Round> = Table::new(tables::BLOB_CHECKS, "blob_checks");
const DAMAGES: Table<Damage> = Table::new(tables::BLOB_CHECKS, "blob_checks");

/// Where a round stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Round {
    /// The last blob that was read, in hexadecimal.
    #[serde(default)]
    after: Option<String>,
    /// When the last whole round ended.
    #[serde(default)]
    ended_at: Option<Timestamp>,
}

/// A blob that is not what was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Damage {
    found_at: Timestamp,
    what: String,
}

impl JsonRecord for Round {}
impl JsonRecord for Damage {}

fn round_key() -> Key {
    ROUNDS.key(AccountId::NODE, |k| {
        k.u8(0);
    })
}

fn damage_key(id: BlobId) -> Key {
    DAMAGES.key(AccountId::NODE, |k| {
        k.u8(1).raw(&id.0);
    })
}

/// What one round came across.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Blobs that are whole.
    pub whole: u64,
    /// Blobs that are not.
    pub damaged: u64,
}

/// Reads blobs again. One runs on a node.
#[derive(Debug)]
pub struct Scrubber {
    inner: Arc<Inner>,
}

impl Scrubber {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Works until `shutdown`. A failure is logged and tried again.
    pub async fn run(self, shutdown: CancellationToken) {
        let pause = Duration::from_millis(self.inner.config.scrub_pause_ms);
        loop {
            let wait = self.wait(pause).await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.inner.env.sleep(wait) => {}
            }
            let round = tokio::select! {
                () = shutdown.cancelled() => return,
                round = self.round() => round,
            };
            match round {
                Ok(Checked { whole, damaged: 0 }) => {
                    tracing::info!(whole, "all blobs are as they were written")
                }
                Ok(Checked { whole, damaged }) => tracing::error!(whole, damaged, "blobs are damaged"),
                Err(error) => tracing::warn!(%error, "blobs could not be checked; it is tried again"),
            }
        }
    }

    /// How long until the next round, or until the one that was interrupted goes on.
    async fn wait(&self, pause: Duration) -> Duration {
        let soon = Duration::from_secs(60);
        let Ok(Some(row)) = ROUNDS.get(&self.inner.store, round_key()).await else { return soon };
        let Round { after: None, ended_at: Some(ended_at) } = row.value else { return soon };
        let since = self.inner.env.now().as_millisecond().saturating_sub(ended_at.as_millisecond());
        pause.saturating_sub(Duration::from_millis(since.unsigned_abs())).max(soon)
    }

    /// Reads all blobs, from where the last round was interrupted.
    pub async fn round(&self) -> Result<Checked, Error> {
        self.forget().await?;
        let row = ROUNDS.get(&self.inner.store, round_key()).await?;
        let mut last_read = row.and_then(|row| parse(&row.value.after?));
        let mut checked = Checked::default();
        let mut unwritten = 0;
        loop {
            let ids = self.inner.blobs.list(last_read, PAGE).await?;
            let Some(last) = ids.last().copied() else { break };
            for id in ids {
                let bytes = self.check(id, &mut checked).await?;
                unwritten += bytes;
                self.slow_down(bytes).await;
                if unwritten >= STEP_BYTES {
                    unwritten = 0;
                    let round = Round { after: Some(id.to_string()), ended_at: None };
                    self.inner.store.write(vec![ROUNDS.put(round_key(), &round)]).await?;
                }
            }
            last_read = Some(last);
        }
        let round = Round { after: None, ended_at: Some(self.inner.env.now()) };
        self.inner.store.write(vec![ROUNDS.put(round_key(), &round)]).await?;
        Ok(checked)
    }

    /// Forgets the damage of blobs that have gone.
    async fn forget(&self) -> Result<(), Error> {
        let mut range = DAMAGES.range(AccountId::NODE, PAGE, |k| {
            k.u8(1);
        });
        loop {
            let (rows, more) = DAMAGES.scan(&self.inner.store, range.clone()).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            range.start = after(&last.key);
            for row in rows {
                let id = row.key.last_chunk().copied().map(BlobId);
                let Some(id) = id else { continue };
                if matches!(self.inner.blobs.get(id, 0..0).await, Err(blobs::Error::NotFound(_))) {
                    self.inner.store.write(vec![Write::Delete(row.key)]).await?;
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Reads one blob, and gives how many bytes that were.
    async fn check(&self, id: BlobId, checked: &mut Checked) -> Result<u64, Error> {
        match self.inner.blobs.verify(id).await {
            Ok(size) => {
                checked.whole += 1;
                Ok(size)
            }
            // Removed meanwhile.
            Err(blobs::Error::NotFound(_)) => Ok(0),
            Err(error @ blobs::Error::Corrupt { .. }) => {
                checked.damaged += 1;
                tracing::error!(blob = %id, %error, "a blob is damaged; it is not served, and should be restored");
                let damage = Damage { found_at: self.inner.env.now(), what: error.to_string() };
                self.inner.store.write(vec![DAMAGES.put(damage_key(id), &damage)]).await?;
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn slow_down(&self, bytes: u64) {
        let rate = self.inner.config.scrub_bytes_per_second;
        if rate > 0 && bytes > 0 {
            self.inner.env.sleep(Duration::from_millis(bytes.saturating_mul(1000) / rate)).await;
        }
    }
}

fn parse(text: &str) -> Option<BlobId> {
    let mut id = [0; 16];
    hex::decode_to_slice(text, &mut id).ok()?;
    Some(BlobId(id))
}
