//! Time and randomness as a seam, so that a seeded simulation can own both.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::Rng as _;

use crate::Timestamp;

/// Where time and randomness come from.
pub trait Env: Send + Sync + fmt::Debug {
    /// Wall-clock time.
    fn now(&self) -> Timestamp;
    /// Time since some fixed point; never goes back.
    fn monotonic(&self) -> Duration;
    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// Fills `bytes` with unpredictable bytes, fit for keys.
    fn fill(&self, bytes: &mut [u8]);
}

/// An environment shared by everything on a node.
pub type SharedEnv = Arc<dyn Env>;

/// The machine's clock; randomness of a generator for each thread, fit for keys, which the kernel seeds again and
/// again: a request takes some from it five times, and a system call costs more than that.
#[derive(Debug)]
pub struct SystemEnv {
    started: std::time::Instant,
}

impl SystemEnv {
    /// The real environment, shared.
    // `Arc<dyn Env>` is what every user of it wants.
    #[expect(clippy::new_ret_no_self)]
    pub fn new() -> SharedEnv {
        Arc::new(Self { started: std::time::Instant::now() })
    }
}

impl Env for SystemEnv {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// The real environment, but for its clock, which can be put ahead: for tests of what comes with the days.
#[derive(Debug)]
pub struct AheadEnv {
    system: SharedEnv,
    ahead_ms: AtomicI64,
}

impl AheadEnv {
    /// One whose clock is right as yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { system: SystemEnv::new(), ahead_ms: AtomicI64::new(0) })
    }

    /// Puts the clock ahead by so much more, or back.
    pub fn skip_seconds(&self, seconds: i64) {
        self.ahead_ms.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Env for AheadEnv {
    fn now(&self) -> Timestamp {
        let now = self.system.now();
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        Timestamp::from_millisecond(now.as_millisecond() + ahead_ms).unwrap_or(now)
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.system.sleep(duration)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.system.fill(bytes);
    }
}
