//! The instances of one function, and the requests that wait for one.
//!
//! Invariants: requests are served in the order in which they came; a waiting request takes whichever comes
//! first, an instance that becomes free or one that was started; an instance of an older deployment is never
//! given to a request that came after the change; the lock is held for a few moves and never across a wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use types::AccountId;

use super::account::AccountRoom;
use super::deployed::Deployed;
use super::lock;
use super::machine::Grant;
use crate::error::Throttle;
use crate::service::Inner;
use crate::{Error, Instance};

/// How long a start has just been.
const FRESH: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) account: AccountId,
    pub(crate) name: Box<str>,
    room: Arc<AccountRoom>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The function, if it was read since it last changed.
    known: Option<Arc<Deployed>>,
    epoch: u64,
    /// The one used last is at the end, and is used first.
    idle: Vec<Live>,
    waiters: VecDeque<Waiter>,
    running: u32,
    starting: u32,
    /// Instances asked of the machine and not granted yet.
    wanted: u32,
    /// It stands in its account's list.
    listed: bool,
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

/// Why an instance did not get ready, for the request that waited longest.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// The function's own code failed.
    Init {
        deployed: Arc<Deployed>,
        log_stream: String,
        payload: bytes::Bytes,
        duration: Duration,
        out_of_memory: bool,
    },
    /// Anything else.
    Other(Error),
}

/// Which count an invocation stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Reserved,
    Account,
}

/// The right to run one invocation on an instance. Dropped unused, both go back.
#[derive(Debug)]
pub(crate) struct Lease {
    inner: Arc<Inner>,
    pool: Arc<Pool>,
    /// `None` once it has ended.
    place: Option<Place>,
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
            self.pool.finish(&self.inner, place, live);
        }
    }
}

/// What [`Pool::place`] found.
pub(crate) enum Placed {
    /// A warm instance.
    Ready(Lease),
    /// A place in the queue.
    Queued(oneshot::Receiver<Result<Lease, StartFailure>>),
}

impl Pool {
    pub(crate) fn new(account: AccountId, name: &str, room: Arc<AccountRoom>) -> Self {
        Self { account, name: name.into(), room, state: Mutex::default() }
    }

    /// The function as last read; the epoch in which to read it if it changed since.
    pub(crate) fn known(&self) -> Result<Arc<Deployed>, u64> {
        let state = lock(&self.state);
        state.known.clone().ok_or(state.epoch)
    }

    /// Keeps what was read, unless the function changed in the meantime.
    pub(crate) fn learn(&self, deployed: &Arc<Deployed>) -> bool {
        let mut state = lock(&self.state);
        let current = state.epoch == deployed.epoch;
        if current {
            state.known = Some(deployed.clone());
        }
        current
    }

    /// The function has changed: it is read again before it is used. Idle instances of what it was are ended
    /// now if what they are made from has changed (`retire`).
    pub(crate) fn changed(&self, retire: bool) {
        let idle = {
            let mut state = lock(&self.state);
            state.epoch += 1;
            state.known = None;
            if retire { std::mem::take(&mut state.idle) } else { Vec::new() }
        };
        idle.into_iter().for_each(Live::retire);
    }

    /// A warm instance or a place in the queue for one more request.
    pub(crate) fn place(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        deployed: &Arc<Deployed>,
    ) -> Result<Placed, Throttle> {
        if deployed.row.reserved_concurrency == Some(0) {
            return Err(Throttle::Reserved);
        }
        let now = inner.env.monotonic();
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
                    return Err(self.throttle(&state, deployed));
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

    fn lease(self: &Arc<Self>, inner: &Arc<Inner>, place: Place, live: Live) -> Lease {
        Lease { inner: inner.clone(), pool: self.clone(), place: Some(place), live: Some(live) }
    }

    /// Why a request of `deployed` has waited in vain.
    pub(crate) fn gave_up(&self, deployed: &Deployed) -> Throttle {
        let mut state = lock(&self.state);
        state.waiters.retain(|waiter| !waiter.reply.is_closed());
        self.throttle(&state, deployed)
    }

    fn throttle(&self, state: &State, deployed: &Deployed) -> Throttle {
        match deployed.row.reserved_concurrency {
            Some(reserved) if state.running >= reserved => Throttle::Reserved,
            _ => Throttle::Account,
        }
    }

    /// A place and an instance, if there are both.
    fn take(
        &self,
        state: &mut State,
        deployed: &Deployed,
        now: Duration,
        unfit: &mut Vec<Live>,
    ) -> Option<(Place, Live)> {
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
        let place = match deployed.row.reserved_concurrency {
            Some(reserved) => (state.running < reserved).then_some(Place::Reserved),
            None => self.room.try_take().then_some(Place::Account),
        };
        match place {
            Some(place) => {
                state.running += 1;
                Some((place, live))
            }
            None => {
                state.idle.push(live);
                None
            }
        }
    }

    /// Serves those who wait with what there is, and asks for instances for the rest.
    pub(crate) fn pump(self: &Arc<Self>, inner: &Arc<Inner>) {
        let now = inner.env.monotonic();
        let mut unfit = Vec::new();
        let (wanted, listed) = {
            let mut state = lock(&self.state);
            self.serve(&mut state, inner, now, &mut unfit);
            if inner.is_draining() && state.waiters.is_empty() {
                unfit.append(&mut state.idle);
            }
            let before = state.listed;
            (self.wanted(&mut state), state.listed && !before)
        };
        unfit.into_iter().for_each(Live::retire);
        if let Some((memory_mb, count)) = wanted {
            inner.want(self, memory_mb, count);
        }
        // A place that became free just before this pool was listed would otherwise wake nobody.
        if listed && self.room.headroom() > 0 {
            self.room.wake(inner);
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
                lease.place = None;
                state.running -= 1;
                if place == Place::Account {
                    self.room.give();
                }
                state.idle.extend(lease.live.take());
            }
        }
    }

    /// How many instances to ask for, and of what size.
    fn wanted(self: &Arc<Self>, state: &mut State) -> Option<(u32, usize)> {
        let deployed = &state.waiters.back()?.deployed;
        let coming = state.starting + state.wanted;
        let short = u32::try_from(state.waiters.len()).unwrap_or(u32::MAX).saturating_sub(coming);
        let room = match deployed.row.reserved_concurrency {
            Some(reserved) => reserved.saturating_sub(state.running),
            None => self.room.headroom(),
        };
        let memory_mb = deployed.row.memory_mb;
        if deployed.row.reserved_concurrency.is_none()
            && room == 0
            && !std::mem::replace(&mut state.listed, true)
        {
            self.room.wait(self.clone());
        }
        // What is coming will take room as well.
        let count = short.min(room.saturating_sub(coming));
        state.wanted += count;
        (count > 0).then_some((memory_mb, count as usize))
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
        let needless = state.waiters.len() <= state.starting as usize;
        if needless {
            state.wanted -= 1;
        }
        needless
    }

    /// The machine has room for an instance. Gives the room back if nobody waits for one any more.
    pub(crate) fn begin_start(self: &Arc<Self>, inner: &Arc<Inner>, grant: Grant) -> Option<Grant> {
        let deployed = {
            let mut state = lock(&self.state);
            state.wanted -= 1;
            state.waiters.retain(|waiter| !waiter.reply.is_closed());
            if state.waiters.len() <= state.starting as usize {
                return Some(grant);
            }
            state.starting += 1;
            state.waiters.back()?.deployed.clone()
        };
        tokio::spawn(inner.clone().start(self.clone(), deployed, grant));
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
    fn finish(self: &Arc<Self>, inner: &Arc<Inner>, place: Place, live: Option<Live>) {
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
        if place == Place::Account {
            self.room.give();
        }
        self.pump(inner);
        self.room.wake(inner);
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

    /// Takes out instances that have been idle since before `before`, or that are not of use any more.
    pub(crate) fn expired(&self, now: Duration, before: Option<Duration>) -> Vec<Live> {
        let mut state = lock(&self.state);
        let deployment = state.known.as_ref().map(|known| known.row.deployment);
        let keep = |live: &Live| {
            before.is_some_and(|before| live.idle_since >= before)
                && now < live.retire_at
                && deployment.is_none_or(|deployment| deployment == live.deployed.row.deployment)
        };
        let (kept, gone) = std::mem::take(&mut state.idle).into_iter().partition(keep);
        state.idle = kept;
        gone
    }

    /// The idle instance that was used longest ago: since when, and its memory.
    pub(crate) fn oldest_idle(&self) -> Option<Duration> {
        lock(&self.state).idle.first().map(|live| live.idle_since)
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
