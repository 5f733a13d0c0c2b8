//! `Invoke`.

use aws::{Response, Traced};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use store::outbox::Delivery;

use super::Cx;
use crate::wire::input::{InvocationType, Invoke};
use crate::{Error, Invocation, LATEST};

impl Cx {
    pub(super) async fn invoke(&self, input: Invoke) -> Result<Response, Error> {
        let traced = |mut response: Response| {
            response.extensions_mut().insert(Traced);
            response
        };
        match input.kind {
            InvocationType::RequestResponse => self.invoke_and_wait(input).await.map(traced),
            InvocationType::Event => self.invoke_later(input).await.map(traced),
            InvocationType::DryRun => {
                self.require_latest(&input.function)?;
                self.row(&input.function.name).await?;
                Ok(aws::json::empty(204))
            }
        }
    }

    async fn invoke_and_wait(&self, input: Invoke) -> Result<Response, Error> {
        let invocation = Invocation {
            account: self.account,
            function: input.function,
            request_id: self.context.request_id,
            payload: input.payload,
            client_context: input.client_context,
            trace: self.context.trace.clone(),
            attempt: 0,
            queue_timeout: None,
            log_tail: input.log_tail,
        };
        let outcome = self.inner.invoke(invocation).await?;
        let mut response = Response::new(aws::body::full(outcome.payload));
        let headers = response.headers_mut();
        headers.insert("x-amz-executed-version", HeaderValue::from_static(outcome.executed_version));
        let value = |text: String| {
            HeaderValue::try_from(text).map_err(|e| Error::Platform(format!("a header can not be sent: {e}")))
        };
        if let Some(error) = outcome.function_error {
            headers.insert("x-amz-function-error", value(error)?);
        }
        if let Some(tail) = outcome.log_tail {
            headers.insert("x-amz-log-result", value(STANDARD.encode(tail))?);
        }
        Ok(response)
    }

    /// On disk before it is acknowledged; delivered like any other event.
    async fn invoke_later(&self, input: Invoke) -> Result<Response, Error> {
        self.require_latest(&input.function)?;
        let pool = self.inner.pool(self.account, &input.function.name).await?;
        let deployed = self.inner.deployed(&pool).await?;
        let delivery = Delivery {
            request_id: self.context.request_id,
            target: deployed.arn.clone(),
            source: self.context.caller.principal.arn(),
            service: None,
            payload: input.payload,
            client_context: input.client_context,
            failures: 0,
            accepted_at: self.context.received_at,
            trace: self.context.trace.clone(),
        };
        self.inner.store.write(vec![delivery.due(self.account)]).await?;
        let mut response = aws::json::empty(202);
        response.headers_mut().insert("x-amz-executed-version", HeaderValue::from_static(LATEST));
        Ok(response)
    }
}
