//! Finds the lanes that have events, and follows new ones.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws::Dispatch;
use functions::Functions;
use store::key::{KeyReader, account_of, prefix_end};
use store::outbox::{DUE, lane};
use store::{Key, Range, Store, tables};
use telemetry::Telemetry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{AccountId, SharedEnv};

use crate::Config;
use crate::error::Error;
use crate::lane::Lane;
use crate::sources::Readers;

/// Pause after the store has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes the service and its handle.
#[derive(Debug)]
pub struct Events;

/// What runs: see [`Service::run`].
#[derive(Debug)]
pub struct Service {
    shared: Arc<Shared>,
}

/// Shows what is going on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

/// What lanes and deliveries share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) env: SharedEnv,
    pub(crate) functions: Arc<Functions>,
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) telemetry: Telemetry,
    pub(crate) shutdown: CancellationToken,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) readers: Readers,
    lanes: Mutex<HashMap<LaneKey, Arc<Lane>>>,
    pub(crate) tasks: TaskTracker,
}

/// A lane's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LaneKey {
    pub(crate) account: AccountId,
    pub(crate) target: String,
}

impl Events {
    /// A service over its seams.
    // It makes the pair, as the node's wiring wants it.
    #[expect(clippy::new_ret_no_self)]
    pub fn new(
        config: Config,
        store: Store,
        env: SharedEnv,
        functions: Arc<Functions>,
        dispatch: Arc<dyn Dispatch>,
        telemetry: Telemetry,
    ) -> (Handle, Service) {
        let shared = Arc::new(Shared {
            config,
            store,
            env,
            functions,
            dispatch,
            telemetry,
            shutdown: CancellationToken::new(),
            in_flight: AtomicUsize::new(0),
            readers: Readers::default(),
            lanes: Mutex::default(),
            tasks: TaskTracker::new(),
        });
        (Handle { shared: shared.clone() }, Service { shared })
    }
}

impl Handle {
    /// How many targets have events, or had some a moment ago.
    pub fn lanes(&self) -> usize {
        self.shared.lanes().len()
    }

    /// How many mappings of sources are read.
    pub fn sources(&self) -> usize {
        self.shared.readers.count()
    }

    /// How many events are on their way.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }
}

impl Service {
    /// Delivers until `shutdown`; then begins nothing new, and gives what is on its way time to end. What does
    /// not end in time is delivered again after the next start.
    pub async fn run(self, shutdown: CancellationToken) {
        let shared = self.shared;
        let mut due = shared.store.watch(tables::OUTBOX);
        let delayed = shared.store.watch(tables::OUTBOX_DELAYED);
        shared.tasks.spawn(crate::delayed::run(shared.clone(), delayed));
        shared.tasks.spawn(crate::sources::run(shared.clone()));
        let mut lost = true;
        loop {
            if lost {
                // Either the beginning, or more was written than the watch could hold.
                lost = match shared.find_lanes().await {
                    Ok(()) => false,
                    Err(error) => {
                        tracing::error!(%error, kind = ?error.kind(), "the outbox could not be read");
                        shared.pause(PAUSE).await;
                        true
                    }
                };
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                key = due.next(), if !lost => match key {
                    Some(key) => shared.written(&key),
                    None => lost = true,
                },
                () = std::future::ready(()), if lost => {}
            }
        }
        shared.shutdown.cancel();
        shared.tasks.close();
        tokio::select! {
            () = shared.tasks.wait() => {}
            () = shared.env.sleep(Duration::from_millis(shared.config.drain_ms)) => {
                let left = shared.in_flight.load(Ordering::Relaxed);
                tracing::warn!(left, "events are left for the next start");
            }
        }
    }
}

impl Shared {
    fn lanes(&self) -> std::sync::MutexGuard<'_, HashMap<LaneKey, Arc<Lane>>> {
        self.lanes.lock().expect("no holder of this lock panics")
    }

    /// Waits, but not for longer than the service runs.
    pub(crate) async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.env.sleep(pause) => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// Starts a lane for every target that has events: one seek for each.
    async fn find_lanes(self: &Arc<Self>) -> Result<(), Error> {
        // Lanes at work look for themselves.
        for lane in self.lanes().values() {
            lane.wake();
        }
        let mut from = AccountId::DEFAULT;
        while let Some(account) = self.store.next_account(tables::OUTBOX, from).await? {
            let all = DUE.key(account, |_| {});
            let mut start = all.clone();
            let end = prefix_end(&all);
            loop {
                let range = Range { start, end: end.clone(), limit: 1, limit_bytes: 1, reverse: false };
                let page = self.store.scan(range).await?;
                let Some(entry) = page.first() else { break };
                let target = KeyReader::new(&entry.key)?.text()?;
                start = prefix_end(&lane(account, &target));
                self.wake_lane(LaneKey { account, target });
            }
            match AccountId::from_number(account.number() + 1) {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(())
    }

    /// A row of the outbox was added or removed.
    fn written(self: &Arc<Self>, key: &Key) {
        let target = KeyReader::new(key).and_then(|mut key| key.text());
        let (Ok(account), Ok(target)) = (account_of(key), target) else {
            tracing::error!("a key of the outbox can not be read");
            return;
        };
        let name = LaneKey { account, target };
        let known = self.lanes().get(&name).cloned();
        match known {
            // A row that the lane has passed: its removal.
            Some(lane) if lane.has_passed(key) => {}
            _ => self.wake_lane(name),
        }
    }

    fn wake_lane(self: &Arc<Self>, name: LaneKey) {
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get(&name) {
            lane.wake();
            return;
        }
        let lane = Arc::new(Lane::new(name.clone()));
        lanes.insert(name, lane.clone());
        self.tasks.spawn(lane.run(self.clone()));
    }

    /// Ends a lane that has nothing to do; false if it was woken in the meantime.
    pub(crate) fn forget_lane(&self, lane: &Lane) -> bool {
        let mut lanes = self.lanes();
        if lane.is_woken() {
            return false;
        }
        lanes.remove(&lane.name);
        true
    }
}
