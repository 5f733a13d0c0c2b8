//! The API: from a request to an operation, and from an operation to an answer.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws::{Access, Api, Authorizer, Caller, Dispatch, Operation, PolicyCheck, Protocol, Request, Response};
use store::Store;
use tokio::sync::Notify;
use types::{AccountId, Region, SharedEnv};

use crate::live::Hub;
use crate::ops::capacity::Consumed;
use crate::ops::{self, Run};
use crate::place::Place;
use crate::table::{Attempt, Cache, Table};
use crate::throttle::{Side, Throttle};
use crate::transfer::Transfers;
use crate::{Error, Sweeper, guard, wire};

/// The largest request, also after it is decompressed.
const MAX_BODY_BYTES: usize = 16 << 20;

/// What the target of an operation of DynamoDB Streams begins with. It is a service of its own to clients, which
/// sign for it by the name of this one.
const STREAMS_PREFIX: &str = "DynamoDBStreams_20120810.";

/// What operations work with.
pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) env: SharedEnv,
    pub(crate) region: Region,
    pub(crate) cache: Cache,
    pub(crate) throttle: Throttle,
    /// Who decides on rights, and on the policies of tables.
    pub(crate) rights: Rights,
    /// How buckets are reached.
    pub(crate) dispatch: Arc<dyn Dispatch>,
    /// Wakes what exports and imports.
    pub(crate) transfers: Notify,
    /// Wakes the sweeper.
    pub(crate) dropped: Notify,
    /// What is watched.
    pub(crate) hub: Hub,
}

/// Who decides on rights.
#[derive(Debug, Clone)]
pub struct Rights {
    /// Reads the policies of tables and streams.
    pub policies: Arc<dyn PolicyCheck>,
    /// Decides what callers may do.
    pub authorizer: Arc<dyn Authorizer>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Node {
    /// The table of that name, perhaps as it was a moment ago: see [`Table::check`].
    pub(crate) async fn table(&self, account: AccountId, name: &str) -> Result<Arc<Table>, Error> {
        let table = self.cache.get(&self.store, account, name).await?;
        let ready = table.filter(|table| !table.record.is_filling());
        ready.ok_or_else(Error::table_not_found)
    }

    /// Lets a write in, if the table is not provisioned with less.
    pub(crate) fn admit_write(&self, table: &Table) -> Result<(), Error> {
        self.throttle.admit_write(table, &self.region, self.env.monotonic())
    }

    /// Lets a read in, if table or index is not provisioned with less.
    pub(crate) fn admit_read(&self, place: Place<'_>) -> Result<(), Error> {
        self.throttle.admit_read(place, &self.region, self.env.monotonic())
    }

    /// Charges what was done.
    pub(crate) fn charge(&self, table: &Table, cost: &Consumed, side: Side) {
        self.throttle.charge(table, cost, side, self.env.monotonic());
    }

    /// The value of a try, or `None` if it must be tried again, since a table it used has changed.
    pub(crate) fn settle<T>(
        &self,
        account: AccountId,
        names: &[&str],
        attempt: Result<T, Attempt>,
    ) -> Result<Option<T>, Error> {
        let forget = || names.iter().for_each(|name| self.cache.forget(account, name));
        match attempt {
            Ok(value) => Ok(Some(value)),
            Err(Attempt::Stale) => {
                forget();
                Ok(None)
            }
            Err(Attempt::Failed(error)) => {
                if matches!(error, Error::ResourceNotFound(_)) {
                    forget();
                }
                Err(error)
            }
        }
    }
}

/// Who asks, and where.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Whose tables: the caller's own, or those of the account that the ARNs of the request name.
    pub(crate) account: AccountId,
    pub(crate) caller: Arc<Caller>,
    pub(crate) region: Region,
    /// Scheme and authority by which the client reached the node; empty for the node's own work.
    pub(crate) endpoint: Arc<str>,
}

impl Scope {
    /// Whether the tables are another account's than the caller's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.account != self.caller.account
    }

    /// The ARN of a table.
    pub(crate) fn table_arn(&self, name: &str) -> String {
        format!("arn:aws:dynamodb:{}:{}:table/{name}", self.region, self.account)
    }

    /// The ARN of a table's stream.
    pub(crate) fn stream_arn(&self, table: &str, label: &str) -> String {
        format!("{}/stream/{label}", self.table_arn(table))
    }

    /// The name of a table given by name or ARN.
    pub(crate) fn table_name(&self, given: &str) -> Result<String, Error> {
        let name = match given.strip_prefix("arn:") {
            None => given,
            Some(_) => {
                let invalid = || Error::Validation(format!("Invalid table ARN: {given}"));
                let arn: types::Arn = given.parse().map_err(|_| invalid())?;
                let name = arn.resource.strip_prefix("table/").ok_or_else(invalid)?;
                let name = &given[given.len() - name.len()..];
                if arn.service != "dynamodb" || arn.partition != "aws" {
                    return Err(invalid());
                }
                if arn.region != self.region.as_str() {
                    return Err(Error::AccessDenied(format!(
                        "Tables of another region can not be reached: {given}"
                    )));
                }
                if arn.account != self.account.to_string() {
                    return Err(arn.account.parse().map_or_else(|_| invalid(), Error::Foreign));
                }
                name
            }
        };
        if self.is_foreign() && !given.starts_with("arn:") {
            // By its name alone, a table is one's own.
            return Err(Error::Foreign(self.account));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if !(3..=255).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(Error::validation(
                "Invalid table/index name.  Table/index names must be between 3 and 255 characters long, and may contain only the characters a-z, A-Z, 0-9, '_', '-', and '.'",
            ));
        }
        Ok(name.to_owned())
    }
}

/// Amazon DynamoDB.
#[derive(Debug)]
pub struct DynamoDb {
    node: Arc<Node>,
}

impl DynamoDb {
    /// The service on that store; exports and imports reach buckets by `dispatch`.
    pub fn new(
        store: Store,
        env: SharedEnv,
        region: Region,
        rights: Rights,
        dispatch: Arc<dyn Dispatch>,
    ) -> Arc<Self> {
        let node = Node {
            store,
            rights,
            env,
            region,
            cache: Cache::default(),
            throttle: Throttle::default(),
            dispatch,
            transfers: Notify::new(),
            dropped: Notify::new(),
            hub: Hub::default(),
        };
        Arc::new(Self { node: Arc::new(node) })
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// What exports tables and imports them; a node runs one.
    pub fn transfers(&self) -> Transfers {
        Transfers::new(self.node.clone())
    }

    /// The background work of the service; a node runs one.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper::new(self.node.clone())
    }
}

/// An operation that has been read.
struct Call<R> {
    node: Arc<Node>,
    scope: Scope,
    access: Vec<Access>,
    run: R,
}

#[async_trait]
impl<R: Run> Operation for Call<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn access(&self) -> Vec<Access> {
        self.access.clone()
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        let body = self.run.run(&self.node, &self.scope).await?;
        let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &body);
        let mut response = Response::new(aws::body::full(body));
        // SDKs for Java and JavaScript check it.
        response.headers_mut().insert("x-amz-crc32", http::HeaderValue::from(checksum));
        Ok(response)
    }
}

/// The operations that tables and streams of other accounts can be used by, if their policies allow it.
const ACROSS_ACCOUNTS: [&str; 26] = [
    "BatchGetItem",
    "BatchWriteItem",
    "DeleteItem",
    "DeleteResourcePolicy",
    "DeleteTable",
    "DescribeContinuousBackups",
    "DescribeStream",
    "DescribeTable",
    "DescribeTimeToLive",
    "GetItem",
    "GetRecords",
    "GetResourcePolicy",
    "GetShardIterator",
    "ListTagsOfResource",
    "PutItem",
    "PutResourcePolicy",
    "Query",
    "Scan",
    "TagResource",
    "TransactGetItems",
    "TransactWriteItems",
    "UntagResource",
    "UpdateContinuousBackups",
    "UpdateItem",
    "UpdateTable",
    "UpdateTimeToLive",
];

async fn call<R: Run>(
    node: &Arc<Node>,
    mut scope: Scope,
    body: &[u8],
) -> Result<Box<dyn Operation>, aws::Error> {
    let mut read = R::parse(body, &scope);
    if let Err(Error::Foreign(account)) = read
        && ACROSS_ACCOUNTS.contains(&R::NAME)
    {
        scope.account = account;
        read = R::parse(body, &scope);
    }
    let run = read.map_err(|error| if R::TELLS_OF_INPUT { error.of_input() } else { error })?;
    prepared(node, run, scope).await
}

/// An operation whose input has been read.
async fn prepared<R: Run>(node: &Arc<Node>, run: R, scope: Scope) -> Result<Box<dyn Operation>, aws::Error> {
    let mut access = run.access(node, &scope).await;
    if let Some(capacity) = run.capacity() {
        for need in &mut access {
            let word = vec![capacity.word().to_owned()];
            need.context.push(("dynamodb:ReturnConsumedCapacity".into(), word));
        }
    }
    guard::describe(node, &scope, &mut access).await?;
    Ok(Box::new(Call { node: node.clone(), scope, access, run }))
}

#[async_trait]
impl Api for DynamoDb {
    fn signing_name(&self) -> &'static str {
        "dynamodb"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Json10
    }

    fn target_prefix(&self) -> &'static str {
        "DynamoDB_20120810"
    }

    fn namespace(&self) -> &'static str {
        "com.amazonaws.dynamodb.v20120810"
    }

    fn max_signed_body_bytes(&self) -> usize {
        MAX_BODY_BYTES
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, aws::Error> {
        let target = request.head.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
        let of_streams = target.and_then(|target| target.strip_prefix(STREAMS_PREFIX));
        let operation = target.and_then(|target| target.strip_prefix("DynamoDB_20120810."));
        let (of_streams, operation) = match (of_streams, operation) {
            (Some(name), _) => (true, name),
            (None, name) => (false, name.unwrap_or_default()),
        };
        let caller = Arc::new(request.context.caller);
        let scope = Scope {
            account: caller.account,
            caller: caller.clone(),
            region: self.node.region.clone(),
            endpoint: request.context.endpoint.clone(),
        };
        let body = aws::body::collect(request.body, MAX_BODY_BYTES).await?;
        let body = wire::encoding::decoded(&request.head.headers, body, MAX_BODY_BYTES)?;
        let node = &self.node;
        if of_streams {
            return match operation {
                "ListStreams" => call::<ops::ListStreams>(node, scope, &body).await,
                "DescribeStream" => call::<ops::DescribeStream>(node, scope, &body).await,
                "GetShardIterator" => call::<ops::GetShardIterator>(node, scope, &body).await,
                "GetRecords" => call::<ops::GetRecords>(node, scope, &body).await,
                other => Err(unsupported(other)),
            };
        }
        match operation {
            "PutItem" => call::<ops::PutItem>(node, scope, &body).await,
            "GetItem" => call::<ops::GetItem>(node, scope, &body).await,
            "UpdateItem" => call::<ops::UpdateItem>(node, scope, &body).await,
            "DeleteItem" => call::<ops::DeleteItem>(node, scope, &body).await,
            "Query" => call::<ops::Query>(node, scope, &body).await,
            "Scan" => call::<ops::Scan>(node, scope, &body).await,
            "BatchGetItem" => call::<ops::BatchGetItem>(node, scope, &body).await,
            "BatchWriteItem" => call::<ops::BatchWriteItem>(node, scope, &body).await,
            "TransactGetItems" => call::<ops::TransactGetItems>(node, scope, &body).await,
            "TransactWriteItems" => call::<ops::TransactWriteItems>(node, scope, &body).await,
            "ExecuteStatement" => call::<ops::ExecuteStatement>(node, scope, &body).await,
            "BatchExecuteStatement" => call::<ops::BatchExecuteStatement>(node, scope, &body).await,
            "ExecuteTransaction" => call::<ops::ExecuteTransaction>(node, scope, &body).await,
            "CreateTable" => call::<ops::CreateTable>(node, scope, &body).await,
            "DescribeTable" => call::<ops::DescribeTable>(node, scope, &body).await,
            "ListTables" => call::<ops::ListTables>(node, scope, &body).await,
            "DeleteTable" => call::<ops::DeleteTable>(node, scope, &body).await,
            "UpdateTable" => call::<ops::UpdateTable>(node, scope, &body).await,
            "TagResource" => call::<ops::TagResource>(node, scope, &body).await,
            "UntagResource" => call::<ops::UntagResource>(node, scope, &body).await,
            "ListTagsOfResource" => call::<ops::ListTagsOfResource>(node, scope, &body).await,
            "DescribeTimeToLive" => call::<ops::DescribeTimeToLive>(node, scope, &body).await,
            "UpdateTimeToLive" => call::<ops::UpdateTimeToLive>(node, scope, &body).await,
            "DescribeContinuousBackups" => call::<ops::DescribeContinuousBackups>(node, scope, &body).await,
            "UpdateContinuousBackups" => call::<ops::UpdateContinuousBackups>(node, scope, &body).await,
            "CreateBackup" => call::<ops::CreateBackup>(node, scope, &body).await,
            "DescribeBackup" => call::<ops::DescribeBackup>(node, scope, &body).await,
            "ListBackups" => call::<ops::ListBackups>(node, scope, &body).await,
            "DeleteBackup" => call::<ops::DeleteBackup>(node, scope, &body).await,
            "RestoreTableFromBackup" => call::<ops::RestoreTableFromBackup>(node, scope, &body).await,
            "RestoreTableToPointInTime" => call::<ops::RestoreTableToPointInTime>(node, scope, &body).await,
            // What these do to buckets, they do in their caller's name.
            "ExportTableToPointInTime" => {
                let run = ops::ExportTable::parse(&body, &scope)?.by(Caller::clone(&caller));
                prepared(node, run, scope).await
            }
            "ImportTable" => {
                let run = ops::ImportTable::parse(&body, &scope)?.by(Caller::clone(&caller));
                prepared(node, run, scope).await
            }
            "PutResourcePolicy" => call::<ops::PutResourcePolicy>(node, scope, &body).await,
            "GetResourcePolicy" => call::<ops::GetResourcePolicy>(node, scope, &body).await,
            "DeleteResourcePolicy" => call::<ops::DeleteResourcePolicy>(node, scope, &body).await,
            "DescribeExport" => call::<ops::DescribeExport>(node, scope, &body).await,
            "ListExports" => call::<ops::ListExports>(node, scope, &body).await,
            "DescribeImport" => call::<ops::DescribeImport>(node, scope, &body).await,
            "ListImports" => call::<ops::ListImports>(node, scope, &body).await,
            "DescribeEndpoints" => call::<ops::DescribeEndpoints>(node, scope, &body).await,
            "DescribeLimits" => call::<ops::DescribeLimits>(node, scope, &body).await,
            "" => {
                let given =
                    target.map_or_else(|| "it is missing".to_owned(), |target| format!("not {target}"));
                let wanted = "The header X-Amz-Target must be DynamoDB_20120810.<operation>";
                Err(Error::UnknownOperation(format!("{wanted}, {given}")).into())
            }
            other => Err(unsupported(other)),
        }
    }
}

fn unsupported(operation: &str) -> aws::Error {
    Error::UnknownOperation(format!("The operation {operation} is not supported")).into()
}
