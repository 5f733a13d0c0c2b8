//! Threads for reads that take long, which give way to everything else.
//!
//! A scan takes all of a core for as long as it lasts, and a few of them all there are. Their threads have a lower priority
//! than those that commit and answer: when the cores do not suffice for all, it is scans that become slower.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, available_parallelism};

use tokio::sync::oneshot;

use crate::Error;

/// Beside another thread that wants the same core, one of these has a tenth of it.
const NICENESS: i32 = 10;

/// So many at least: a disk serves several readers faster than one.
const LEAST_THREADS: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

/// The threads. Dropped, it waits for what they have begun.
pub(super) struct LongReads {
    work: Option<Sender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl LongReads {
    pub(super) fn start() -> Result<Self, Error> {
        let (work, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let count = available_parallelism().map_or(1, usize::from).max(LEAST_THREADS);
        let threads = (0..count)
            .map(|_| {
                let waiting = waiting.clone();
                std::thread::Builder::new().name("long-read".to_owned()).spawn(move || run(&waiting))
            })
            .collect::<Result<_, _>>()
            .map_err(|e| Error::Io(format!("can not start the threads for long reads: {e}")))?;
        Ok(Self { work: Some(work), threads })
    }

    /// Does the work on one of the threads, once one is free.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let work = move || {
            // Nobody waits any longer.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        };
        let ended = || Error::Io("a read ended early".to_owned());
        self.work.as_ref().ok_or_else(ended)?.send(Box::new(work)).map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn run(waiting: &Mutex<Receiver<Work>>) {
    // Linux has priorities by thread: this is the one that calls. Without it, scans compete like all others.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "long reads have no lower priority");
    }
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // A panic was reported, and whoever waits hears that nothing comes. The thread goes on.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}

impl Drop for LongReads {
    fn drop(&mut self) {
        self.work = None;
        for thread in self.threads.drain(..) {
            // It cannot have panicked: whatever it runs is caught.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_for_is_done_and_a_panic_ends_no_thread() {
        let reads = LongReads::start().unwrap();
        for _ in 0..20 {
            let panicked = reads.run(|| -> Result<(), Error> { panic!("as it was told to") }).await;
            assert!(matches!(panicked, Err(Error::Io(_))));
        }
        let own = rustix::process::getpriority_process(None).unwrap();
        let theirs = reads.run(|| Ok(rustix::process::getpriority_process(None).unwrap())).await.unwrap();
        assert!(theirs > own || own >= NICENESS, "{own} and {theirs}");
    }
}
