//! The node's own API under `/_hawker/`, signed for the service `hawker`: each part answers for its own paths.

use std::sync::Arc;

use async_trait::async_trait;
use aws::{Api, Error, Operation, Protocol, Request};
use dynamodb::DynamoDb;
use identity::Identity;
use telemetry::Telemetry;

/// Accounts, usage, invocations and traces, and tables that are watched.
#[derive(Debug)]
pub(crate) struct Native {
    identity: Arc<Identity>,
    telemetry: Telemetry,
    tables: Arc<DynamoDb>,
}

impl Native {
    pub(crate) fn new(identity: Arc<Identity>, telemetry: Telemetry, tables: Arc<DynamoDb>) -> Self {
        Self { identity, telemetry, tables }
    }
}

#[async_trait]
impl Api for Native {
    fn signing_name(&self) -> &'static str {
        "hawker"
    }

    fn protocol(&self) -> Protocol {
        Protocol::RestJson
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, Error> {
        if let Some(operation) = self.telemetry.native(&request) {
            return operation;
        }
        match self.tables.native(&request) {
            Some(operation) => operation.await,
            None => self.identity.native(request).await,
        }
    }
}
