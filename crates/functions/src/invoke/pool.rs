//! The instances of one version of a function, and the requests that wait for one.
//!
//! Invariants: requests are served in the order in which they came; a waiting request takes whichever comes
//! first, an instance that becomes free or one that was started; an instance of an older deployment is never
//! given to a request that came after the change; the lock is held for a few moves and never across a wait.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use telemetry::LogEvent;
use tokio::sync::oneshot;

use super::function::Deployed;
use super::lock;
use super::machine::Grant;
use super::pattern::Pattern;
use super::room::Room;
use super::scaling::Scaling;
use crate::error::Throttle;
use crate::name::Version;
use crate::service::Inner;
use crate::{Config, Error, Initialization, Instance};

/// How long a start has just been.
const FRESH: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) version: Version,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

/// What the versions of a function have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The account's room.
    pub(crate) account_room: Arc<Room>,
    /// Where invocations run while the function has a reservation.
    pub(crate) room: Arc<Room>,
    /// Whether it has one. Requests that wait follow when this changes: they wait for what there is now.
    pub(crate) has_reservation: AtomicBool,
    /// How fast it grows.
    pub(crate) scaling: Scaling,
    /// When it is called.
    pub(crate) pattern: Mutex<Pattern>,
}

#[derive(Debug, Default)]
struct State {
    /// The version, as it was read last.
    known: Option<Arc<Deployed>>,
    /// The one used last is at the end, and is used first.
    idle: Vec<Live>,
    waiters: VecDeque<Waiter>,
    running: u32,
    starting: u32,
    /// Instances asked of the machine and not granted yet.
    wanted: u32,
    /// It stands in a room's list.
    listed: bool,
    /// It looks again in a moment, when it may grow further.
    paused: bool,
}

#[derive(Debug)]
struct Waiter {
    deployed: Arc<Deployed>,
    since: Duration,
    reply: oneshot::Sender<Result<Lease, StartFailure>>,
}

/// An instance that is ready.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) instance: Box<dyn Instance>,
    pub(crate) deployed: Arc<Deployed>,
    pub(crate) log_stream: String,
    /// How long it took to get ready, until an invocation has been billed for it.
    pub(crate) init: Option<Duration>,
    /// When it is not used any more, by the monotonic clock: its credentials end.
    pub(crate) retire_at: Duration,
    pub(crate) idle_since: Duration,
    pub(crate) grant: Grant,
}

impl Live {
    /// Ends it in the background.
    pub(crate) fn retire(self) {
        let Self { instance, grant, .. } = self;
        tokio::spawn(async move {
            instance.stop().await;
            drop(grant);
        });
    }
}

/// How a function's own code failed.
#[derive(Debug)]
pub(crate) struct InitFailure {
    pub(crate) deployed: Arc<Deployed>,
    pub(crate) log_stream: String,
    /// The error object.
    pub(crate) payload: bytes::Bytes,
    /// Whether the function reported it itself.
    pub(crate) reported: bool,
    pub(crate) duration: Duration,
    pub(crate) out_of_memory: bool,
    /// The end of what is in the log of it.
    pub(crate) events: Vec<LogEvent>,
}

/// Why an instance did not get ready, for the request that waited longest.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// The function's own code failed.
    Init(Box<InitFailure>),
    /// Anything else.
    Other(Error),
}

/// The right to run one invocation on an instance. Dropped unused, both go back.
#[derive(Debug)]
pub(crate) struct Lease {
    inner: Arc<Inner>,
    pool: Arc<Pool>,
    /// The room that it has a place in; `None` once it has ended.
    place: Option<Arc<Room>>,
    live: Option<Live>,
}

impl Lease {
    /// The instance.
    pub(crate) fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("a lease holds its instance until it ends")
    }

    /// The instance is gone, its place is free.
    pub(crate) fn lost(mut self) {
        self.live = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let live = self.live.take();
            self.pool.finish(&self.inner, &place, live);
        }
    }
}

/// What a pool asks for.
#[derive(Default)]
struct Wanted {
    count: usize,
    memory_mb: u32,
    /// It waits for a place in this room now.
    listed: Option<Arc<Room>>,
    /// It may not grow further now.
    paused: bool,
}

/// What [`Pool::place`] found.
pub(crate) enum Placed {
    /// A warm instance.
    Ready(Lease),
    /// A place in the queue.
    Queued(oneshot::Receiver<Result<Lease, StartFailure>>),
}

impl Pool {
    /// The pool of a version.
    pub(crate) fn new(version: Version, shared: Arc<Shared>) -> Self {
        Self { version, shared, state: Mutex::default() }
    }

    /// The version as it was read in `epoch`, if it was.
    pub(crate) fn known(&self, epoch: u64) -> Option<Arc<Deployed>> {
        lock(&self.state).known.clone().filter(|known| known.epoch == epoch)
    }

    /// Keeps what was read.
    pub(crate) fn learn(&self, deployed: &Arc<Deployed>) {
        let mut state = lock(&self.state);
        if state.known.as_ref().is_none_or(|known| known.epoch <= deployed.epoch) {
            state.known = Some(deployed.clone());
        }
    }

    /// Ends the idle instances: what they are made from has changed.
    pub(crate) fn empty_out(&self) {
        let idle = std::mem::take(&mut lock(&self.state).idle);
        idle.into_iter().for_each(Live::retire);
    }

    fn room(&self) -> &Arc<Room> {
        match self.shared.has_reservation.load(Ordering::SeqCst) {
            true => &self.shared.room,
            false => &self.shared.account_room,
        }
    }

    /// A warm instance or a place in the queue for one more request.
    pub(crate) fn place(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        deployed: &Arc<Deployed>,
    ) -> Result<Placed, Throttle> {
        if deployed.reserved_concurrency == Some(0) {
            return Err(Throttle::Reserved);
        }
        let now = inner.env.monotonic();
        lock(&self.shared.pattern).arrived(now);
        let mut unfit = Vec::new();
        let placed = {
            let mut state = lock(&self.state);
            let ready = if state.waiters.is_empty() {
                self.take(&mut state, deployed, now, &mut unfit)
            } else {
                None
            };
            match ready {
                Some((place, live)) => Placed::Ready(self.lease(inner, place, live)),
                None if state.waiters.len() >= inner.config.queue_length => {
                    return Err(self.throttle(deployed));
                }
                None => {
                    let (reply, receiver) = oneshot::channel();
                    state.waiters.push_back(Waiter { deployed: deployed.clone(), since: now, reply });
                    Placed::Queued(receiver)
                }
            }
        };
        unfit.into_iter().for_each(Live::retire);
        if matches!(placed, Placed::Queued(_)) {
            self.pump(inner);
        }
        Ok(placed)
    }

    fn lease(self: &Arc<Self>, inner: &Arc<Inner>, place: Arc<Room>, live: Live) -> Lease {
        Lease { inner: inner.clone(), pool: self.clone(), place: Some(place), live: Some(live) }
    }

    /// True while an instance gets ready.
    pub(crate) fn is_starting(&self) -> bool {
        lock(&self.state).starting > 0
    }

    /// Why a request of `deployed` has waited in vain.
    pub(crate) fn gave_up(&self, deployed: &Deployed) -> Throttle {
        lock(&self.state).waiters.retain(|waiter| !waiter.reply.is_closed());
        self.throttle(deployed)
    }

    fn throttle(&self, deployed: &Deployed) -> Throttle {
        if deployed.reserved_concurrency.is_some() && self.shared.room.headroom() == 0 {
            Throttle::Reserved
        } else {
            Throttle::Account
        }
    }

    /// A place and an instance, if there are both.
    fn take(
        &self,
        state: &mut State,
        deployed: &Deployed,
        now: Duration,
        unfit: &mut Vec<Live>,
    ) -> Option<(Arc<Room>, Live)> {
        let live = loop {
            let mut live = state.idle.pop()?;
            let same = live.deployed.row.deployment == deployed.row.deployment;
            let fits = same || live.deployed.epoch > deployed.epoch;
            // One that died right after its start is handed out all the same: the request is told how it
            // died, where another start would only end the same way.
            let fresh = live.init.is_some() && now.saturating_sub(live.idle_since) < FRESH;
            if fits && now < live.retire_at && (fresh || live.instance.is_alive()) {
                break live;
            }
            unfit.push(live);
        };
        let room = self.room();
        if room.try_take() {
            state.running += 1;
            Some((room.clone(), live))
        } else {
            state.idle.push(live);
            None
        }
    }

    /// Serves those who wait with what there is, and asks for instances for the rest.
    pub(crate) fn pump(self: &Arc<Self>, inner: &Arc<Inner>) {
        let now = inner.env.monotonic();
        let mut unfit = Vec::new();
        let wanted = {
            let mut state = lock(&self.state);
            self.serve(&mut state, inner, now, &mut unfit);
            if inner.is_draining() && state.waiters.is_empty() {
                unfit.append(&mut state.idle);
            }
            self.wanted(&mut state, now)
        };
        unfit.into_iter().for_each(Live::retire);
        if wanted.count > 0 {
            inner.want(self, wanted.memory_mb, wanted.count);
        }
        // A place that became free just before this pool was listed would otherwise wake nobody.
        if let Some(room) = wanted.listed
            && room.headroom() > 0
        {
            room.wake(inner);
        }
        if wanted.paused {
            let (pool, inner) = (self.clone(), inner.clone());
            tokio::spawn(async move {
                inner.env.sleep(pool.shared.scaling.pause()).await;
                lock(&pool.state).paused = false;
                pool.pump(&inner);
            });
        }
    }

    fn serve(self: &Arc<Self>, state: &mut State, inner: &Arc<Inner>, now: Duration, unfit: &mut Vec<Live>) {
        while let Some(first) = state.waiters.front() {
            if first.reply.is_closed() {
                state.waiters.pop_front();
                continue;
            }
            let deployed = first.deployed.clone();
            let Some((place, live)) = self.take(state, &deployed, now, unfit) else { return };
            let waiter = state.waiters.pop_front().expect("the front was there");
            let lease = self.lease(inner, place, live);
            if let Err(Ok(mut lease)) = waiter.reply.send(Ok(lease)) {
                // It went away just now. Undone by hand: the lease's `drop` would take the lock again.
                if let Some(room) = lease.place.take() {
                    room.give();
                }
                state.running -= 1;
                state.idle.extend(lease.live.take());
            }
        }
    }

    /// How many instances to ask for, for those who wait and for what is kept ready.
    fn wanted(self: &Arc<Self>, state: &mut State, now: Duration) -> Wanted {
        let mut wanted = Wanted::default();
        let deployed = match (state.waiters.back(), &state.known) {
            (Some(waiter), _) => waiter.deployed.clone(),
            (None, Some(known)) if known.provisioned > 0 => known.clone(),
            (None, _) => return wanted,
        };
        wanted.memory_mb = deployed.row.memory_mb;
        let coming = state.starting + state.wanted;
        let waiting = u32::try_from(state.waiters.len()).unwrap_or(u32::MAX);
        let room = self.room();
        let headroom = room.headroom();
        if waiting > 0 && headroom == 0 && !std::mem::replace(&mut state.listed, true) {
            room.wait(self.clone());
            wanted.listed = Some(room.clone());
        }
        // What is coming will take room as well.
        let for_waiters = waiting.saturating_sub(coming).min(headroom.saturating_sub(coming));
        let there = u32::try_from(state.idle.len()).unwrap_or(u32::MAX) + state.running + coming;
        let short = for_waiters.max(deployed.provisioned.saturating_sub(there));
        let count = self.shared.scaling.take(short, now);
        wanted.paused = count < short && !std::mem::replace(&mut state.paused, true);
        state.wanted += count;
        wanted.count = count as usize;
        wanted
    }

    /// The account may have room again.
    pub(crate) fn look_again(self: &Arc<Self>, inner: &Arc<Inner>) {
        lock(&self.state).listed = false;
        self.pump(inner);
    }

    /// Whether an instance that was asked for is not needed any more; then it is not counted any more.
    pub(crate) fn withdraw(&self) -> bool {
        let mut state = lock(&self.state);
        state.waiters.retain(|waiter| !waiter.reply.is_closed());
        let needless = !self.needs_start(&state);
        if needless {
            state.wanted -= 1;
            self.shared.scaling.give(1);
        }
        needless
    }

    /// Whether one more instance than those that get ready is of use.
    fn needs_start(&self, state: &State) -> bool {
        let there = state.idle.len() + (state.running + state.starting) as usize;
        state.waiters.len() > state.starting as usize
            || state.known.as_ref().is_some_and(|known| there < known.provisioned as usize)
    }

    /// The machine has room for an instance. Gives the room back if nobody waits for one any more.
    pub(crate) fn begin_start(self: &Arc<Self>, inner: &Arc<Inner>, grant: Grant) -> Option<Grant> {
        let (deployed, initialization) = {
            let mut state = lock(&self.state);
            state.wanted -= 1;
            state.waiters.retain(|waiter| !waiter.reply.is_closed());
            let newest = state.waiters.back().map(|waiter| waiter.deployed.clone());
            let Some(deployed) = newest.or_else(|| state.known.clone()).filter(|_| self.needs_start(&state))
            else {
                self.shared.scaling.give(1);
                return Some(grant);
            };
            state.starting += 1;
            let provisioned = state.waiters.len() < state.starting as usize;
            let initialization = match provisioned {
                true => Initialization::ProvisionedConcurrency,
                false => Initialization::OnDemand,
            };
            (deployed, initialization)
        };
        tokio::spawn(inner.clone().start(self.clone(), deployed, initialization, grant));
        None
    }

    /// A start has ended well.
    pub(crate) fn started(self: &Arc<Self>, inner: &Arc<Inner>, mut live: Live) {
        live.grant.started();
        {
            let mut state = lock(&self.state);
            state.starting -= 1;
            live.idle_since = inner.env.monotonic();
            state.idle.push(live);
        }
        self.pump(inner);
    }

    /// A start has failed: the request that waited longest hears of it.
    pub(crate) fn start_failed(self: &Arc<Self>, inner: &Arc<Inner>, failure: StartFailure) {
        let mut failure = Some(failure);
        {
            let mut state = lock(&self.state);
            state.starting -= 1;
            while let Some(told) = failure.take() {
                let Some(waiter) = state.waiters.pop_front() else { break };
                if let Err(Err(untold)) = waiter.reply.send(Err(told)) {
                    failure = Some(untold);
                }
            }
        }
        self.pump(inner);
    }

    /// An invocation has ended; `live` is its instance if it can be used again.
    fn finish(self: &Arc<Self>, inner: &Arc<Inner>, place: &Room, live: Option<Live>) {
        let now = inner.env.monotonic();
        let shortage = inner.machine.shortage();
        let mut given_up = None;
        {
            let mut state = lock(&self.state);
            state.running -= 1;
            if let Some(mut live) = live {
                live.idle_since = now;
                if inner.is_draining() || shortage.is_some_and(|since| self.yields(&state, inner, now, since))
                {
                    given_up = Some(live);
                } else {
                    state.idle.push(live);
                }
            }
        }
        if let Some(mut live) = given_up {
            live.grant.leave();
            live.retire();
        }
        place.give();
        self.pump(inner);
        place.wake(inner);
    }

    /// Whether an instance is given up for another function that waits for memory since `since`: at once if
    /// nobody waits here, after a while if the other waits longer than anybody here.
    fn yields(&self, state: &State, inner: &Inner, now: Duration, since: Duration) -> bool {
        match state.waiters.front() {
            None => true,
            Some(own) => {
                own.since > since
                    && now.saturating_sub(since).as_millis() > u128::from(inner.config.fairness_ms)
            }
        }
    }

    /// Takes out instances that have been idle for longer than this function's pauses usually are, or that are
    /// not of use any more; all if `all`.
    pub(crate) fn expired(&self, now: Duration, config: &Config, all: bool) -> Vec<Live> {
        let keep_alive = {
            let limits = (config.keep_alive_ms, config.least_keep_alive_ms, config.most_keep_alive_ms);
            let (unknown, least, most) = limits;
            let ms = Duration::from_millis;
            lock(&self.shared.pattern).keep_alive(ms(unknown), ms(least), ms(most))
        };
        let before = now.saturating_sub(keep_alive);
        let mut state = lock(&self.state);
        let deployment = state.known.as_ref().map(|known| known.row.deployment);
        let provisioned = state.known.as_ref().map_or(0, |known| known.provisioned) as usize;
        let of_use = |live: &Live| {
            now < live.retire_at
                && deployment.is_none_or(|deployment| deployment == live.deployed.row.deployment)
        };
        let (mut kept, mut gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.idle).into_iter().partition(|live| !all && of_use(live));
        // Those used longest ago are first. What is provisioned stays, whatever its age.
        let stale = kept.partition_point(|live| live.idle_since < before);
        let spare = (kept.len() + state.running as usize).saturating_sub(provisioned);
        gone.extend(kept.drain(..stale.min(spare)));
        state.idle = kept;
        gone
    }

    /// How many instances are ready or run: for provisioned concurrency.
    pub(crate) fn ready(&self) -> u32 {
        let state = lock(&self.state);
        u32::try_from(state.idle.len()).unwrap_or(u32::MAX).saturating_add(state.running)
    }

    /// Since when the idle instance is idle that was used longest ago; none that is kept ready.
    pub(crate) fn oldest_idle(&self) -> Option<Duration> {
        let state = lock(&self.state);
        let provisioned = state.known.as_ref().map_or(0, |known| known.provisioned) as usize;
        let spare = state.idle.len() + state.running as usize > provisioned;
        state.idle.first().filter(|_| spare).map(|live| live.idle_since)
    }

    /// Takes that instance out.
    pub(crate) fn take_oldest_idle(&self) -> Option<Live> {
        let mut state = lock(&self.state);
        (!state.idle.is_empty()).then(|| state.idle.remove(0))
    }

    /// True if nothing runs, waits or is kept here.
    pub(crate) fn is_empty(&self) -> bool {
        let state = lock(&self.state);
        state.idle.is_empty()
            && state.waiters.is_empty()
            && state.running + state.starting + state.wanted == 0
    }
}
