//! DescribeLimits and DescribeEndpoints: what there is to say of the node as a whole.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::json;

use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::wire;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The limits of throughput: as high as they go, since throughput is not limited here.
pub(crate) struct DescribeLimits;

#[async_trait]
impl Run for DescribeLimits {
    const NAME: &'static str = "DescribeLimits";

    fn parse(body: &[u8], _scope: &Scope) -> Result<Self, Error> {
        let Nothing {} = wire::input(body)?;
        Ok(Self)
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:DescribeLimits", "*")]
    }

    async fn run(self, _node: &Node, _scope: &Scope) -> Result<Vec<u8>, Error> {
        let most = 1_000_000_000_000_u64;
        Ok(document(&json!({
            "AccountMaxReadCapacityUnits": most,
            "AccountMaxWriteCapacityUnits": most,
            "TableMaxReadCapacityUnits": most,
            "TableMaxWriteCapacityUnits": most,
        })))
    }
}

/// How long a client may go by the endpoint that it is told.
const ENDPOINT_MINUTES: u64 = 1440;

/// The endpoints there are: the one that was asked.
pub(crate) struct DescribeEndpoints;

#[async_trait]
impl Run for DescribeEndpoints {
    const NAME: &'static str = "DescribeEndpoints";

    fn parse(body: &[u8], _scope: &Scope) -> Result<Self, Error> {
        let Nothing {} = wire::input(body)?;
        Ok(Self)
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:DescribeEndpoints", "*")]
    }

    async fn run(self, _node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let address = scope.endpoint.split_once("://").map_or(&*scope.endpoint, |(_, authority)| authority);
        let endpoint = json!({"Address": address, "CachePeriodInMinutes": ENDPOINT_MINUTES});
        Ok(document(&json!({"Endpoints": [endpoint]})))
    }
}
