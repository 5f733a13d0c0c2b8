//! The engine's clock: a thread that moves its epoch on, so that code which never comes back to the host gives
//! way to others, and can be ended at its deadline.
//!
//! It stands still while nothing runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// For how long code may keep a thread of the executor to itself.
const TICK: Duration = Duration::from_millis(2);

/// Ticks without anything running after which the thread sleeps until it is needed.
const PATIENCE: u32 = 250;

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    over: AtomicBool,
}

/// While one of these lives, time passes.
#[derive(Debug)]
pub(crate) struct Running(Arc<Shared>);

impl Ticker {
    pub(crate) fn start(engine: &wasmtime::Engine) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let engine = engine.weak();
        let theirs = shared.clone();
        let handle = std::thread::Builder::new().name("wasm-epoch".to_owned()).spawn(move || {
            let mut idle = 0;
            while !theirs.over.load(Ordering::SeqCst) {
                if theirs.running.load(Ordering::SeqCst) > 0 {
                    idle = 0;
                } else if idle < PATIENCE {
                    idle += 1;
                } else {
                    theirs.asleep.store(true, Ordering::SeqCst);
                    // Whoever began to run before that did not wake this thread, and whoever does after it does.
                    if theirs.running.load(Ordering::SeqCst) == 0 && !theirs.over.load(Ordering::SeqCst) {
                        std::thread::park();
                    }
                    theirs.asleep.store(false, Ordering::SeqCst);
                    idle = 0;
                }
                std::thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Makes time pass.
    pub(crate) fn running(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(self.shared.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}
