//! The node's own API under `/_hawker/`, signed for the service `hawker`: each part answers for its own paths.

use std::sync::Arc;

use async_trait::async_trait;
use aws::{Api, Error, Operation, Protocol, Request};
use identity::Identity;
use telemetry::Telemetry;
use types::ErrorKind;

/// Accounts, usage, invocations and traces.
#[derive(Debug)]
pub(crate) struct Native {
    identity: Arc<Identity>,
    telemetry: Telemetry,
}

impl Native {
    pub(crate) fn new(identity: Arc<Identity>, telemetry: Telemetry) -> Self {
        Self { identity, telemetry }
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
        if let Some(answer) = self.telemetry.native(&request) {
            return answer;
        }
        let path = request.head.uri.path().to_owned();
        if let Some(operation) = self.identity.clone().native(request).await {
            return operation;
        }
        let message = format!("`{path}` is none of accounts, usage, invocations, traces.");
        Err(Error::new(ErrorKind::NotFound, "NotFoundException", message))
    }
}
