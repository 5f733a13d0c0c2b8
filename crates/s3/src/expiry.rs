//! Carries lifecycle rules out, in the background.
//!
//! Invariants: what is removed is what the rules were held against (an object that was replaced meanwhile stays);
//! what is locked stays; memory is a page of rows, however large a bucket is. A pass looks at buckets with rules only.

use std::sync::Arc;
use std::time::Duration;

use store::key::after;
use store::{Range, Stored, Version};
use tokio_util::sync::CancellationToken;
use types::AccountId;

use crate::Error;
use crate::lifecycle::{self, Expire, Rule};
use crate::notify::Cause;
use crate::ops::conditions::WriteConditions;
use crate::ops::delete::{Removal, Target};
use crate::ops::upload::abort_upload;
use crate::service::Inner;
use crate::tables::{self, BUCKETS, CHORES, NameRow, OBJECTS, UPLOADS, VERSIONS, VersionRow};
use crate::versions::Which;

const PAGE: usize = 250;
/// How often to look without having been told.
const IDLE: Duration = Duration::from_secs(3600);

/// Removes what lifecycle rules say is to go. One runs on a node.
#[derive(Debug)]
pub struct Lifecycle {
    inner: Arc<Inner>,
}

/// A bucket with rules.
struct Bucket<'a> {
    name: &'a str,
    home: Arc<NameRow>,
    rules: Vec<Rule>,
    /// Seconds since the epoch.
    now: i64,
}

/// Something that is to go.
struct Doomed {
    key: String,
    which: Which,
    version: Version,
}

impl Lifecycle {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Works until `shutdown`. A failure of the store is logged and tried again.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            let pass = tokio::select! {
                () = shutdown.cancelled() => return,
                pass = self.pass() => pass,
            };
            if let Err(error) = pass {
                tracing::warn!(%error, "carrying out lifecycle rules failed; it is tried again");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.inner.chores.notified() => {}
                () = self.inner.env.sleep(IDLE) => {}
            }
        }
    }

    /// Carries out the rules of all buckets once.
    pub async fn pass(&self) -> Result<(), Error> {
        let mut range = CHORES.range(AccountId::NODE, PAGE, |_| {});
        loop {
            let (rows, more) = CHORES.scan(&self.inner.store, range.clone()).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            range.start = after(&last.key);
            for Stored { key, value, .. } in rows {
                let name = tables::bucket_in(&key)?;
                let bucket = BUCKETS.get(&self.inner.store, tables::bucket_key(value.owner, &name)).await?;
                let home = self.inner.home(&name).await?.filter(|home| home.owner == value.owner);
                // One that has gone meanwhile has taken its rules along.
                let (Some(bucket), Some(home)) = (bucket, home) else { continue };
                let now = self.inner.env.now().as_second();
                let bucket = Bucket { name: &name, home, rules: bucket.value.lifecycle, now };
                self.expire(&bucket).await?;
                self.expire_versions(&bucket).await?;
                self.abort(&bucket).await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn rows_of(&self, bucket: &Bucket<'_>, table: store::TableId) -> Range {
        let start = tables::listing_prefix(bucket.home.owner, table, bucket.name, "");
        let end = store::key::prefix_end(&start);
        Range { start, end, limit: PAGE, limit_bytes: 4 << 20, reverse: false }
    }

    /// Current objects.
    async fn expire(&self, bucket: &Bucket<'_>) -> Result<(), Error> {
        let expires =
            |rule: &Rule| rule.enabled && matches!(rule.expire, Some(Expire::Days(_) | Expire::At(_)));
        if !bucket.rules.iter().any(expires) {
            return Ok(());
        }
        let mut range = self.rows_of(bucket, store::tables::OBJECTS);
        loop {
            let (rows, more) = OBJECTS.scan(&self.inner.store, range.clone()).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            range.start = after(&last.key);
            let mut doomed = Vec::new();
            for row in rows {
                let key = tables::key_in(&row.key)?;
                if lifecycle::expires(&bucket.rules, &key, &row.value, bucket.now) {
                    doomed.push(Doomed { key, which: Which::Current, version: row.version });
                }
            }
            self.remove(bucket, doomed).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Other versions, and delete markers with nothing behind them.
    async fn expire_versions(&self, bucket: &Bucket<'_>) -> Result<(), Error> {
        let concerns =
            |rule: &Rule| rule.enabled && (rule.noncurrent_days.is_some() || rule.expire.is_some());
        if !bucket.rules.iter().any(concerns) {
            return Ok(());
        }
        let mut range = self.rows_of(bucket, store::tables::OBJECT_VERSIONS);
        // Of the key under way: its name, when its last row was made, how many rows are not current.
        let mut last_key = String::new();
        let (mut successor, mut noncurrent) = (0, 0);
        // A delete marker that is the newest, until another row of its key is seen.
        let mut alone: Option<(Doomed, i64)> = None;
        loop {
            let (rows, more) = VERSIONS.scan(&self.inner.store, range.clone()).await?;
            let mut doomed = Vec::new();
            for row in &rows {
                let key = tables::key_in(&row.key)?;
                let first = key != last_key;
                if first {
                    doomed.extend(self.left_alone(bucket, alone.take()));
                    noncurrent = 0;
                    last_key.clone_from(&key);
                } else {
                    alone = None;
                }
                let (version, modified, object, since) = match &row.value {
                    VersionRow::Object { object, since } => {
                        (object.version, object.modified, Some(&**object), Some(*since))
                    }
                    VersionRow::Marker(marker) => (marker.version, marker.modified, None, None),
                };
                let which = version.map_or(Which::Null, Which::Id);
                let this = Doomed { key: key.clone(), which, version: row.version };
                let current_key = tables::object_key(bucket.home.owner, bucket.name, &key);
                let is_newest_marker =
                    first && object.is_none() && self.inner.store.get(current_key).await?.is_none();
                if is_newest_marker {
                    alone = Some((this, modified));
                } else {
                    let since = since.unwrap_or(if first { modified } else { successor });
                    let rules = &bucket.rules;
                    if lifecycle::expires_noncurrent(rules, &key, object, since, noncurrent, bucket.now) {
                        doomed.push(this);
                    }
                    noncurrent += 1;
                }
                successor = modified;
            }
            if !more {
                doomed.extend(self.left_alone(bucket, alone.take()));
            }
            if let Some(last) = rows.last() {
                range.start = after(&last.key);
            }
            self.remove(bucket, doomed).await?;
            if !more {
                return Ok(());
            }
        }
    }

    fn left_alone(&self, bucket: &Bucket<'_>, marker: Option<(Doomed, i64)>) -> Option<Doomed> {
        let (doomed, modified) = marker?;
        lifecycle::expires_marker(&bucket.rules, &doomed.key, modified, bucket.now).then_some(doomed)
    }

    async fn remove(&self, bucket: &Bucket<'_>, doomed: Vec<Doomed>) -> Result<(), Error> {
        // Versions of one key go one after the other, since each may change what the next one finds.
        let mut rounds: Vec<Vec<Target>> = Vec::new();
        let mut met = std::collections::HashMap::new();
        for Doomed { key, which, version } in doomed {
            let round = met.entry(key.clone()).or_insert(0_usize);
            if rounds.len() == *round {
                rounds.push(Vec::new());
            }
            rounds[*round].push(Target {
                key,
                which,
                conditions: WriteConditions::default(),
                unchanged: Some(version),
                other: None,
            });
            *round += 1;
        }
        for targets in rounds {
            let removal = Removal {
                home: bucket.home.clone(),
                bucket: bucket.name.to_owned(),
                targets,
                cause: Cause::of_platform(&self.inner.env, &self.inner.region),
                at_ms: self.inner.env.now().as_millisecond(),
                noise: self.inner.noise(),
                bypass: false,
                events: ("LifecycleExpiration:Delete", "LifecycleExpiration:DeleteMarkerCreated"),
            };
            for (target, outcome) in removal.commit(&self.inner).await? {
                if let Err(error) = outcome {
                    tracing::debug!(key = target.key, %error, "an object that is to go stays");
                }
            }
        }
        Ok(())
    }

    /// Uploads that nobody completes.
    async fn abort(&self, bucket: &Bucket<'_>) -> Result<(), Error> {
        if !bucket.rules.iter().any(|rule| rule.enabled && rule.abort_days.is_some()) {
            return Ok(());
        }
        let mut range = self.rows_of(bucket, store::tables::UPLOADS);
        loop {
            let (rows, more) = UPLOADS.scan(&self.inner.store, range.clone()).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            range.start = after(&last.key);
            for row in rows {
                let key = tables::key_in(&row.key)?;
                let initiated = row.value.initiated_at.as_second();
                if lifecycle::aborts(&bucket.rules, &key, initiated, bucket.now) {
                    let id = tables::upload_in(&row.key)?;
                    match abort_upload(&self.inner, bucket.home.owner, row.key, id).await {
                        // It was completed or aborted in between.
                        Ok(()) | Err(Error::NoSuchUpload(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            if !more {
                return Ok(());
            }
        }
    }
}
