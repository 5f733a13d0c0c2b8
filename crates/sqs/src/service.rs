//! The API.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws::{Api, Caller, Error as WireError, Operation, PolicyCheck, Protocol, Request};
use store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::{AccountId, ErrorKind, Principal, Region, SharedEnv};

use crate::attributes::{MAX_MESSAGE_BYTES, Owner};
use crate::desk::Desks;
use crate::ops;
use crate::sweeper::Sweeper;

/// A batch of messages in JSON: each byte of theirs may be written as six, beside names and ids.
const BODY_LIMIT: usize = 6 * MAX_MESSAGE_BYTES as usize + (1 << 20);

/// Amazon SQS, as the pipeline sees it.
#[derive(Clone)]
pub struct Sqs {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for Sqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqs").field("region", &self.inner.region).finish_non_exhaustive()
    }
}

/// What operations share.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) env: SharedEnv,
    pub(crate) region: Region,
    pub(crate) policies: Arc<dyn PolicyCheck>,
    pub(crate) desks: Desks,
    /// Told when there is something to remove.
    pub(crate) sweep: Notify,
    /// Cancelled when nobody may wait for messages any more.
    pub(crate) closing: CancellationToken,
}

impl Inner {
    /// Eight random bytes.
    pub(crate) fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.env.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    pub(crate) fn arn(&self, account: AccountId, name: &str) -> String {
        format!("arn:aws:sqs:{}:{account}:{name}", self.region)
    }
}

/// What caused a service's request, where a service asks: what queue policies call `aws:SourceArn` and
/// `aws:SourceAccount`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cause {
    pub(crate) arn: Option<String>,
    pub(crate) account: Option<String>,
}

/// Who asks, from where.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) inner: Arc<Inner>,
    pub(crate) caller: Caller,
    pub(crate) account: AccountId,
    /// Scheme and authority by which the client reached us.
    pub(crate) endpoint: Arc<str>,
    pub(crate) cause: Cause,
}

impl aws::input::Scoped for Scope {
    type Error = crate::Error;
}

impl Scope {
    pub(crate) fn now_ms(&self) -> i64 {
        self.inner.env.now().as_millisecond()
    }

    pub(crate) fn owner(&self) -> Owner<'_> {
        Owner { account: self.account, region: &self.inner.region }
    }

    pub(crate) fn url(&self, account: AccountId, name: &str) -> String {
        format!("{}/{account}/{name}", self.endpoint)
    }
}

impl Sqs {
    /// The service over its part of the store. [`Sqs::sweeper`] must run beside it.
    pub fn new(store: Store, env: SharedEnv, region: Region, policies: Arc<dyn PolicyCheck>) -> Self {
        let inner = Inner {
            store,
            env,
            region,
            policies,
            desks: Desks::default(),
            sweep: Notify::new(),
            closing: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The background work: removes messages that have expired, and those of queues that are gone. One runs on a node.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper::new(self.inner.clone())
    }

    /// Whoever waits for messages gets its answer at once, from now on: the node stops.
    pub fn end_waits(&self) {
        self.inner.closing.cancel();
    }
}

#[async_trait]
impl Api for Sqs {
    fn signing_name(&self) -> &'static str {
        "sqs"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Json10
    }

    fn target_prefix(&self) -> &'static str {
        "AmazonSQS"
    }

    fn namespace(&self) -> &'static str {
        "com.amazonaws.sqs"
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, WireError> {
        let header = |name: &str| {
            request.head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let Some(target) = header("x-amz-target") else {
            let message = "Queues speak the JSON protocol of Amazon SQS here (X-Amz-Target: AmazonSQS.<operation>), not the \
                           older Query protocol; use an SDK of 2024 or later.";
            let error = WireError::new(ErrorKind::Unsupported, "UnsupportedOperation", message);
            return Err(error.with_status(400));
        };
        let name = target.strip_prefix("AmazonSQS.").unwrap_or_default().to_owned();
        let is_service = matches!(request.context.caller.principal, Principal::Service { .. });
        // Only the platform's own services say why they ask.
        let cause = if is_service {
            Cause { arn: header("x-amz-source-arn"), account: header("x-amz-source-account") }
        } else {
            Cause::default()
        };
        let caller = request.context.caller;
        let scope = Scope {
            inner: self.inner.clone(),
            account: caller.account,
            caller,
            endpoint: request.context.endpoint,
            cause,
        };
        let body = aws::body::collect(request.body, BODY_LIMIT).await?;
        aws::dispatch!("Amazon SQS", name.as_str(), &body, scope: Scope, {
            ops::attributes::GetQueueAttributes,
            ops::attributes::SetQueueAttributes,
            ops::permissions::AddPermission,
            ops::permissions::RemovePermission,
            ops::queues::CreateQueue,
            ops::queues::DeleteQueue,
            ops::queues::GetQueueUrl,
            ops::queues::ListDeadLetterSourceQueues,
            ops::queues::ListQueues,
            ops::queues::PurgeQueue,
            ops::receive::ReceiveMessage,
            ops::send::SendMessage,
            ops::send::SendMessageBatch,
            ops::settle::ChangeMessageVisibility,
            ops::settle::ChangeMessageVisibilityBatch,
            ops::settle::DeleteMessage,
            ops::settle::DeleteMessageBatch,
            ops::tags::ListQueueTags,
            ops::tags::TagQueue,
            ops::tags::UntagQueue,
        })
    }
}
