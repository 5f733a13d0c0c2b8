//! Where a node's blobs are: files in its data directory, or a bucket. The store remembers a bucket, so that a node does
//! not start without its blobs, or with another's.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use blobs::{Blobs, BucketAddress, FsBlobs, Mark, S3Blobs};
use serde::{Deserialize, Serialize};
use store::{JsonRecord, Key, Store, Table, tables};
use types::{AccountId, Env};

use crate::Config;

const PLACES: Table<Place> = Table::new(tables::BLOB_PLACES, "blob_places");

/// The bucket that a store's blobs are in.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    /// What tells it from others.
    mark: String,
    /// For messages: where it was at first.
    address: String,
}

impl JsonRecord for Place {}

fn row_key() -> Key {
    PLACES.key(AccountId::NODE, |_| {})
}

/// Opens the blobs that belong to a store.
pub(crate) async fn open(config: &Config, store: &Store, env: &dyn Env) -> anyhow::Result<Arc<dyn Blobs>> {
    let files = config.data.join("blobs");
    let known = PLACES.get(store, row_key()).await?.map(|row| row.value);
    match (&config.blobs, known) {
        (None, None) => {
            let opened = tokio::task::spawn_blocking(move || FsBlobs::open(files)).await??;
            Ok(opened)
        }
        (None, Some(place)) => bail!(
            "the blobs of `{}` are in the bucket {}; say where it is with --blobs",
            config.data.display(),
            place.address
        ),
        (Some(_), None) if holds_files(files.clone()).await? => bail!(
            "the blobs of `{}` are files in it already; start without --blobs, or with another data directory",
            config.data.display()
        ),
        (Some(address), known) => {
            let fresh = fresh_mark(env);
            let expected = match &known {
                Some(place) => Mark::Known(&place.mark),
                None => Mark::New(&fresh),
            };
            let opened = bucket(config, address, expected).await?;
            if known.is_none() {
                let place = Place { mark: opened.mark().to_owned(), address: address.to_string() };
                store.write(vec![PLACES.put(row_key(), &place)]).await?;
            }
            Ok(opened)
        }
    }
}

async fn bucket(
    config: &Config,
    address: &BucketAddress,
    expected: Mark<'_>,
) -> anyhow::Result<Arc<S3Blobs>> {
    let opened = S3Blobs::open(address, std::env::vars(), config.data.join("spool"), expected).await;
    opened.with_context(|| format!("cannot keep blobs in {address}"))
}

fn fresh_mark(env: &dyn Env) -> String {
    let mut bits = [0_u8; 16];
    env.fill(&mut bits);
    bits.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether there are blobs as files: a node that has started without a bucket has made the directory for them.
async fn holds_files(dir: PathBuf) -> anyhow::Result<bool> {
    Ok(tokio::task::spawn_blocking(move || dir.try_exists()).await??)
}
