//! `Invoke`.

use aws::{Response, Traced};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use store::outbox::Delivery;

use super::Cx;
use crate::wire::input::{InvocationType, Invoke};
use crate::{Error, Event, Invocation, Version};

pub(super) fn version_header(version: Version) -> HeaderValue {
    HeaderValue::try_from(version.to_string()).expect("versions are ASCII")
}

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
                self.resolve(&input.function).await?;
                Ok(aws::json::empty(204))
            }
        }
    }

    /// What a request asks to run, for an answer.
    pub(super) fn invocation(&self, input: Invoke) -> Invocation {
        Invocation {
            account: self.account,
            function: input.function,
            request_id: self.context.request_id,
            event: Event::Json(input.payload),
            stream: None,
            client_context: input.client_context,
            idempotency_key: input.idempotency_key,
            fingerprint: None,
            trace: self.context.trace.clone(),
            attempt: 0,
            redeliverable: false,
            queue_timeout: None,
            log_tail: input.log_tail,
        }
    }

    async fn invoke_and_wait(&self, input: Invoke) -> Result<Response, Error> {
        let invocation = self.invocation(input);
        let outcome = self.inner.invoke(invocation).await?;
        let mut response = Response::new(aws::body::full(outcome.payload));
        let headers = response.headers_mut();
        headers.insert("x-amz-executed-version", version_header(outcome.executed_version));
        let value = |text: String| {
            HeaderValue::try_from(text).map_err(|e| Error::Platform(format!("a header can not be sent: {e}")))
        };
        if outcome.repeated {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
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
        let function = self.inner.function(self.account, &input.function.name).await?;
        let known = self.inner.known(&function).await?;
        // The delivery asks again, and may find another version; that there is one is known from now on.
        let version = known.version(input.function.qualifier.as_deref(), || 1.0)?;
        self.inner.deployed(&function, &known, version).await?;
        let delivery = Delivery {
            request_id: self.context.request_id,
            target: input.function.arn(self.account, &self.inner.region),
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
        response.headers_mut().insert("x-amz-executed-version", version_header(version));
        Ok(response)
    }
}
