//! One target's events: read in order, a bounded number of them on their way.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use store::key::{after, prefix_end};
use store::outbox::{DUE, lane};
use store::{Key, Range};
use tokio::sync::Notify;

use crate::error::Error;
use crate::service::{LaneKey, Shared};
use crate::tables::{CURSORS, Cursor, cursor_key};

/// After so many events an idle lane stores where it stands, so that its next reader need not pass over
/// what is left of the removed ones.
const WORTH_STORING: usize = 64;
/// Pause after the store has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) name: LaneKey,
    woken: AtomicBool,
    wake: Notify,
    /// Told when a delivery has succeeded: a target that was throttled or broken works again.
    pub(crate) recovered: Notify,
    /// The last key that was read.
    passed: Mutex<Key>,
}

/// Events on their way; each answers with its size when it is done.
type InFlight = FuturesUnordered<Pin<Box<dyn Future<Output = usize> + Send>>>;

impl Lane {
    pub(crate) fn new(name: LaneKey) -> Self {
        Self {
            name,
            woken: AtomicBool::new(true),
            wake: Notify::new(),
            recovered: Notify::new(),
            passed: Mutex::default(),
        }
    }

    /// There may be new events.
    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    /// Whether `key` has been read already.
    pub(crate) fn has_passed(&self, key: &Key) -> bool {
        *key <= *self.passed.lock().expect("no holder of this lock panics")
    }

    fn pass(&self, key: Key) {
        *self.passed.lock().expect("no holder of this lock panics") = key;
    }

    /// Delivers until there is nothing left, or the service ends.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut cursor = loop {
            match self.first(&shared).await {
                Ok(first) => break first,
                Err(_) if shared.shutdown.is_cancelled() => return,
                Err(error) => {
                    tracing::error!(%error, target = %self.name.target, "the outbox could not be read");
                    shared.pause(PAUSE).await;
                }
            }
        };
        let mut in_flight = InFlight::new();
        let (mut bytes, mut done_since_stored) = (0, 0);
        loop {
            while self.woken.swap(false, Ordering::SeqCst) && !shared.shutdown.is_cancelled() {
                match self.fill(&shared, &mut cursor, &mut in_flight, &mut bytes).await {
                    Ok(true) => self.woken.store(true, Ordering::SeqCst),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(%error, target = %self.name.target, "the outbox could not be read");
                        shared.pause(PAUSE).await;
                        self.woken.store(true, Ordering::SeqCst);
                    }
                }
                if in_flight.len() >= shared.config.lane_concurrency || bytes >= shared.config.lane_bytes {
                    break;
                }
            }
            if in_flight.is_empty() {
                if shared.shutdown.is_cancelled() {
                    return;
                }
                if self.is_woken() {
                    continue;
                }
                let idle = Duration::from_millis(shared.config.lane_idle_ms);
                let slept = tokio::select! {
                    () = self.wake.notified() => false,
                    () = shared.shutdown.cancelled() => false,
                    () = shared.env.sleep(idle) => true,
                };
                if slept {
                    if done_since_stored >= WORTH_STORING {
                        self.store_cursor(&shared).await;
                        done_since_stored = 0;
                    }
                    if shared.forget_lane(&self) {
                        return;
                    }
                }
                continue;
            }
            let full = in_flight.len() >= shared.config.lane_concurrency || bytes >= shared.config.lane_bytes;
            tokio::select! {
                Some(size) = in_flight.next() => {
                    bytes -= size;
                    done_since_stored += 1;
                }
                () = self.wake.notified(), if !full => {}
            }
        }
    }

    /// Where to begin to read.
    async fn first(&self, shared: &Shared) -> Result<Key, Error> {
        let LaneKey { account, target } = &self.name;
        let stored = CURSORS.get(&shared.store, cursor_key(*account, target)).await?;
        Ok(stored.map_or_else(|| lane(*account, target), |stored| stored.value.next()))
    }

    async fn store_cursor(&self, shared: &Shared) {
        let LaneKey { account, target } = &self.name;
        let passed = self.passed.lock().expect("no holder of this lock panics").clone();
        if passed.is_empty() {
            return;
        }
        let write = CURSORS.put(cursor_key(*account, target), &Cursor(passed));
        if let Err(error) = shared.store.write(vec![write]).await {
            // Only a hint: the next reader takes longer to begin.
            tracing::warn!(%error, %target, "the place of a lane could not be stored");
        }
    }

    /// Puts further events on their way; true if there are more.
    async fn fill(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        cursor: &mut Key,
        in_flight: &mut InFlight,
        bytes: &mut usize,
    ) -> Result<bool, Error> {
        let room = shared.config.lane_concurrency.saturating_sub(in_flight.len());
        let room_bytes = shared.config.lane_bytes.saturating_sub(*bytes);
        if room == 0 || room_bytes == 0 {
            return Ok(true);
        }
        let LaneKey { account, target } = &self.name;
        let end = prefix_end(&lane(*account, target));
        let range =
            Range { start: cursor.clone(), end, limit: room, limit_bytes: room_bytes, reverse: false };
        let page = shared.store.scan(range).await?;
        for entry in &page.entries {
            *cursor = after(&entry.key);
            self.pass(entry.key.clone());
            match DUE.decode(entry) {
                Ok(stored) => {
                    let size = entry.value.len();
                    *bytes += size;
                    shared.in_flight.fetch_add(1, Ordering::Relaxed);
                    let (lane, shared) = (self.clone(), shared.clone());
                    in_flight.push(Box::pin(async move {
                        shared.deliver(&lane, stored.key, stored.value).await;
                        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
                        size
                    }));
                }
                // Left where it is: only a person can tell what to do with it.
                Err(error) => tracing::error!(%error, %target, "an event can not be read and is passed over"),
            }
        }
        Ok(page.more)
    }
}
