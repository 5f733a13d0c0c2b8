//! An invocation whose answer is read while it is written.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::function::Deployed;
use super::pool::Pool;
use super::{Chosen, Invocation, Outcome};
use crate::service::Inner;
use crate::{Error, Piece};

/// How many pieces may wait for the reader: a head and a body are written without waiting for it.
const WAITING: usize = 4;

type Work = Pin<Box<dyn Future<Output = Result<Outcome, Error>> + Send>>;

/// See the module. Dropping it stops the reading; the run itself goes on to its end.
pub(crate) struct Running {
    work: Option<Work>,
    outcome: Option<Result<Outcome, Error>>,
    pieces: mpsc::Receiver<Piece>,
    /// No more pieces will come.
    closed: bool,
}

/// What comes next.
pub(crate) enum Next {
    /// A piece of the answer.
    Piece(Piece),
    /// The end, after the last piece.
    Ended(Result<Outcome, Error>),
}

impl Inner {
    /// Begins an invocation; it runs as it is read.
    pub(crate) fn running(self: &Arc<Self>, chosen: Chosen, invocation: Invocation) -> Running {
        let (sender, pieces) = mpsc::channel(WAITING);
        let inner = self.clone();
        let invocation = Invocation { stream: Some(sender), ..invocation };
        let work: Work = Box::pin(async move { inner.invoke_chosen(chosen, invocation).await });
        Running { work: Some(work), outcome: None, pieces, closed: false }
    }

    /// Begins a version's invocation, whose answer is streamed if `streams`.
    pub(super) fn running_at(
        self: &Arc<Self>,
        pool: Arc<Pool>,
        deployed: Arc<Deployed>,
        invocation: Invocation,
        streams: bool,
        idempotency: Option<String>,
    ) -> Running {
        let (sender, pieces) = mpsc::channel(WAITING);
        let inner = self.clone();
        let invocation = Invocation { stream: streams.then_some(sender), ..invocation };
        let work: Work =
            Box::pin(async move { inner.invoke_at(pool, deployed, invocation, idempotency).await });
        Running { work: Some(work), outcome: None, pieces, closed: false }
    }
}

impl Running {
    /// What comes next. After the end, nothing does: it must not be asked again.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            let Some(work) = &mut self.work else {
                return match self.pieces.try_recv() {
                    Ok(piece) => Next::Piece(piece),
                    Err(_) => Next::Ended(self.outcome.take().unwrap_or(Err(Error::ShuttingDown))),
                };
            };
            tokio::select! {
                biased;
                piece = self.pieces.recv(), if !self.closed => match piece {
                    Some(piece) => return Next::Piece(piece),
                    None => self.closed = true,
                },
                outcome = work => {
                    self.outcome = Some(outcome);
                    self.work = None;
                }
            }
        }
    }

    /// True if it has ended without a fault and nothing is left to read.
    pub(crate) fn ended_well(&mut self) -> bool {
        self.pieces.is_empty()
            && self
                .outcome
                .as_ref()
                .is_some_and(|outcome| outcome.as_ref().is_ok_and(|outcome| outcome.function_error.is_none()))
    }
}
