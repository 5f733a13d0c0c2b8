//! Sandboxes that stand ready: for an interpreter that was used lately, a few are made ahead, with the interpreter
//! booted and waiting, and nothing of any function in them.
//!
//! Invariants: none is made before a function of its kind has started on this node; each is one function's, once; it
//! has the walls of every sandbox. They are made in the background, and given back when they were not used for a
//! while, when memory is short, and when the node ends, however it ends. What they can not serve is started as if there
//! were none ([`Kind::of`]); a start whose filling fails too.

mod kind;
mod standing;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use functions::StartRequest;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::host::Launcher;
use crate::plan::{Parts, Plan};
use crate::process_runtime::OPEN_FILES;
use crate::spec::{Namespaces, Spec, Walls};
use crate::{Config, Isolation, ProcessRuntime};
pub(crate) use kind::Kind;
pub(crate) use standing::{Filling, Standing};

/// The function that has just started answers before another interpreter is booted.
const AFTER_A_START: Duration = Duration::from_millis(10);

/// How long a start waits for one that is being made, before it makes its own.
const WAIT_FOR_ONE: Duration = Duration::from_secs(5);

/// How often it is looked for what to give back, at least.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// After something went wrong, how long it is done without.
const DISTRUST: Duration = Duration::from_secs(60);

/// The share of the machine's memory that must be free, in percent.
const FREE_PERCENT: u64 = 10;

/// The sandboxes that stand ready.
#[derive(Debug)]
pub(crate) struct Ready {
    launcher: Arc<Launcher>,
    most: usize,
    most_in_all: usize,
    idle: Duration,
    platform_port: u16,
    processes: u64,
    state: Mutex<State>,
    refilling: AtomicBool,
    /// Told when a start waits for the one that is being made.
    claimed: Notify,
    used: AtomicU64,
}

/// How many sandboxes stand ready, and what became of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadySandboxes {
    /// How many there are now.
    pub standing: usize,
    /// How many have become functions' since the runtime was opened.
    pub used: u64,
}

#[derive(Debug, Default)]
struct State {
    shelves: Vec<Shelf>,
    /// Until when none is made and none is used.
    distrusted: Option<Instant>,
    /// Whether somebody looks for what to give back.
    kept: bool,
    making: Option<Making>,
}

/// One that is being made.
#[derive(Debug)]
struct Making {
    kind: Kind,
    /// Where it goes if a start waits for it.
    claim: Option<oneshot::Sender<Standing>>,
}

/// What there is for a start.
enum Found {
    Standing(Box<Standing>),
    /// It is about to be.
    Making(oneshot::Receiver<Standing>),
}

/// Those of one kind.
#[derive(Debug)]
struct Shelf {
    kind: Kind,
    standing: Vec<Standing>,
    wanted: usize,
    last_start: Instant,
}

impl State {
    fn is_distrusted(&self) -> bool {
        self.distrusted.is_some_and(|until| Instant::now() < until)
    }

    fn count(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.standing.len()).sum()
    }
}

impl ProcessRuntime {
    /// A sandbox that stands ready for this function, if there is one. If there could be one, there will be.
    pub(crate) async fn standing_for(
        &self,
        request: &StartRequest,
        parts: &Parts,
        plan: &Plan,
    ) -> Option<Standing> {
        if !self.ready.is_possible() || self.config.isolation == Isolation::None {
            return None;
        }
        let mut standing = self.ready.take(Kind::of(request, parts, plan)?).await?;
        for package in std::iter::once(&parts.code).chain(&parts.layers) {
            match crate::child::detached(package) {
                Ok(mount) => standing.mounts.push(mount),
                Err(error) => {
                    self.ready.distrust(&error.to_string());
                    return None;
                }
            }
        }
        Some(standing)
    }
}

impl Ready {
    pub(crate) fn new(config: &Config, platform_port: u16, launcher: Arc<Launcher>) -> Arc<Self> {
        Arc::new(Self {
            launcher,
            most: config.ready_sandboxes,
            most_in_all: config.max_ready_sandboxes,
            idle: Duration::from_secs(config.ready_idle_seconds),
            platform_port,
            processes: config.max_processes,
            state: Mutex::default(),
            refilling: AtomicBool::new(false),
            claimed: Notify::new(),
            used: AtomicU64::new(0),
        })
    }

    pub(crate) fn figures(&self) -> ReadySandboxes {
        ReadySandboxes { standing: self.lock().count(), used: self.used.load(Ordering::Relaxed) }
    }

    /// Code is mounted from outside, which only root may.
    fn is_possible(&self) -> bool {
        self.most > 0 && self.launcher.is_root()
    }

    /// Takes one of a kind, and notes that one was asked for. One that is being made is waited for, by one start: it
    /// is further than any that would be begun now.
    async fn take(&self, kind: Kind) -> Option<Standing> {
        let standing = match self.find(kind)? {
            Found::Standing(standing) => *standing,
            Found::Making(made) => {
                self.claimed.notify_one();
                tokio::time::timeout(WAIT_FOR_ONE, made).await.ok()?.ok()?
            }
        };
        self.used.fetch_add(1, Ordering::Relaxed);
        Some(standing)
    }

    fn find(&self, kind: Kind) -> Option<Found> {
        let mut state = self.lock();
        if state.is_distrusted() {
            return None;
        }
        let Some(shelf) = state.shelves.iter_mut().find(|shelf| shelf.kind == kind) else {
            state.shelves.push(Shelf { kind, standing: Vec::new(), wanted: 1, last_start: Instant::now() });
            return None;
        };
        shelf.last_start = Instant::now();
        while let Some(standing) = shelf.standing.pop() {
            // One that something has killed meanwhile is of no use.
            if standing.is_alive() {
                return Some(Found::Standing(Box::new(standing)));
            }
        }
        // They are asked for faster than they are made.
        shelf.wanted = (shelf.wanted + 1).min(self.most);
        let making = state.making.as_mut().filter(|making| making.kind == kind && making.claim.is_none())?;
        let (claim, made) = oneshot::channel();
        making.claim = Some(claim);
        Some(Found::Making(made))
    }

    /// Does without for a while: something does not work.
    pub(crate) fn distrust(&self, reason: &str) {
        tracing::warn!(
            reason,
            "a sandbox that stands ready could not be made or used; for a minute every start makes its own"
        );
        let mut state = self.lock();
        state.distrusted = Some(Instant::now() + DISTRUST);
        state.shelves.clear();
        // Who waits for it goes without.
        state.making = None;
    }

    /// Makes what is missing, in the background. Called when a start is over.
    pub(crate) fn refill(self: &Arc<Self>) {
        if self.refilling.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(mut kind) = self.begin() else {
            self.refilling.store(false, Ordering::Release);
            return;
        };
        let ready = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(AFTER_A_START) => {}
                () = ready.claimed.notified() => {}
            }
            // So few are made at a time, and so long apart, that looking at the memory is no delay.
            while !memory_is_short() {
                match Standing::make(&ready.launcher, |host_id| ready.spec(&kind, host_id)).await {
                    Ok(standing) => ready.put(kind, standing),
                    Err(reason) => ready.distrust(&reason),
                }
                match ready.begin() {
                    Some(next) => kind = next,
                    None => break,
                }
            }
            ready.lock().making = None;
            ready.refilling.store(false, Ordering::Release);
        });
    }

    /// Decides what is made next.
    fn begin(&self) -> Option<Kind> {
        let mut state = self.lock();
        let kind = self.missing(&state)?;
        state.making = Some(Making { kind: kind.clone(), claim: None });
        Some(kind)
    }

    /// A kind of which there are too few.
    fn missing(&self, state: &State) -> Option<Kind> {
        if state.is_distrusted() {
            return None;
        }
        let lacks = |shelf: &&Shelf| {
            shelf.standing.len() < shelf.wanted.min(self.most) && shelf.last_start.elapsed() < self.idle
        };
        // What was asked for last is asked for next.
        let shelf = state.shelves.iter().filter(lacks).max_by_key(|shelf| shelf.last_start)?;
        let older = |other: &Shelf| !other.standing.is_empty() && other.last_start < shelf.last_start;
        let room = state.count() < self.most_in_all || state.shelves.iter().any(older);
        room.then(|| shelf.kind.clone())
    }

    fn put(self: &Arc<Self>, kind: Kind, standing: Standing) {
        let mut state = self.lock();
        if state.is_distrusted() {
            return;
        }
        if !std::mem::replace(&mut state.kept, true) {
            tokio::spawn(keep(Arc::downgrade(self), LOOK_EVERY.min(self.idle / 4)));
        }
        let claim = state.making.take().and_then(|making| making.claim);
        let standing = match claim {
            Some(claim) => match claim.send(standing) {
                Ok(()) => return,
                // Who waited has gone.
                Err(standing) => standing,
            },
            None => standing,
        };
        if state.count() >= self.most_in_all
            && let Some(oldest) = state
                .shelves
                .iter_mut()
                .filter(|shelf| !shelf.standing.is_empty())
                .min_by_key(|shelf| shelf.last_start)
        {
            oldest.standing.pop();
            // It gets them back when it is used again.
            oldest.wanted = oldest.standing.len();
        }
        if let Some(shelf) = state.shelves.iter_mut().find(|shelf| shelf.kind == kind) {
            shelf.standing.push(standing);
        }
    }

    /// Gives back what is not to be kept; false if nothing is left to look after.
    fn tidy(&self) -> bool {
        let short = memory_is_short();
        let mut state = self.lock();
        if short {
            state.shelves.clear();
        }
        for shelf in &mut state.shelves {
            shelf.standing.retain(Standing::is_alive);
        }
        let idle = self.idle;
        state.shelves.retain(|shelf| shelf.last_start.elapsed() < idle);
        state.kept = !state.shelves.is_empty();
        state.kept
    }

    fn spec(&self, kind: &Kind, host_id: Option<u32>) -> Spec {
        let Kind { argv, environment, binds } = kind.clone();
        Spec {
            walls: Walls::Namespaces(Namespaces {
                host_id,
                root: None,
                binds,
                layers: Vec::new(),
                // The function's own size comes with it.
                tmp_bytes: 1 << 20,
                platform_port: self.platform_port,
            }),
            argv,
            wrapped: false,
            environment,
            directory: kind::TASK.to_owned(),
            extensions: Vec::new(),
            stands_ready: true,
            processes: self.processes,
            open_files: OPEN_FILES,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for what to give back as long as there may be something.
async fn keep(ready: Weak<Ready>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(ready) = ready.upgrade() else { return };
        if !ready.tidy() {
            return;
        }
    }
}

/// Whether the machine has little memory left (proc(5), `meminfo`).
fn memory_is_short() -> bool {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kb = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    match (kb("MemTotal:"), kb("MemAvailable:")) {
        (Some(total), Some(available)) => available * 100 < total * FREE_PERCENT,
        _ => false,
    }
}
