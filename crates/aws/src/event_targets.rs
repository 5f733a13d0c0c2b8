//! Functions and queues that a service is to tell of what happens: whether they would listen.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use types::{AccountId, TraceHeader};

use crate::Error;

/// What a service tells of something that is its, and whom.
#[derive(Debug, Clone, Copy)]
pub struct ServiceMessage<'a> {
    /// The account whose source it is.
    pub account: AccountId,
    /// The ARN of the function or the queue.
    pub target: &'a str,
    /// The service, such as `s3.amazonaws.com`.
    pub service: &'a str,
    /// The ARN of what it tells of.
    pub source: &'a str,
    /// What it says.
    pub message: &'a Bytes,
    /// What it is part of.
    pub trace: &'a TraceHeader,
}

/// Knows whether a target would take events.
#[async_trait]
pub trait EventTargets: Send + Sync + fmt::Debug {
    /// Sees that the target is there and lets the source in. A queue gets the message, which says that it is a test; a
    /// function is not run.
    async fn try_out(&self, test: ServiceMessage<'_>) -> Result<(), Error>;
}
