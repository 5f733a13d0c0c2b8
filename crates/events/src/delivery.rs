//! One event, taken to its end.
//!
//! As AWS Lambda does it (developer guide, "Understanding retry behavior in Lambda", asynchronous
//! invocation): an error of the function is tried again up to twice, after one minute and after two; throttles
//! and faults of the platform are tried again for as long as the event may live, with growing pauses.

use std::time::Duration;

use async_trait::async_trait;
use aws::{Caller, EventTargets, ServiceMessage};
use bytes::Bytes;
use functions::{
    AsyncSettings, Event, FunctionName, Invocation, LATEST, Outcome, Version, is_queue, queue_request,
};
use http::HeaderValue;
use serde_json::json;
use store::outbox::Delivery;
use store::{Key, Read, Write};
use telemetry::{LogEvent, LogLines};
use types::{AccountId, Arn, ErrorKind, Principal};

use crate::destination::{Condition, Ended};
use crate::lane::Lane;
use crate::service::{Handle, Shared};

/// What to do with an event after a try.
enum Next {
    /// The function answered.
    Succeeded(Outcome),
    /// The function failed.
    Failed(Outcome),
    /// It would fail again.
    GiveUp(Outcome),
    /// Not now.
    Later(String),
    /// Never.
    Drop(String),
}

impl Shared {
    /// Delivers an event, whatever it takes; returns when its row has left the lane, or at shutdown.
    pub(crate) async fn deliver(&self, lane: &Lane, key: Key, delivery: Delivery) {
        let account = lane.name.account;
        let mut pauses = 0;
        while !self.shutdown.is_cancelled() {
            match self.attempt(lane, account, &key, &delivery).await {
                Ok(()) => return,
                Err(reason) => {
                    tracing::debug!(target = %delivery.target, %reason, "a delivery is put off");
                    self.back_off(lane, pauses).await;
                    pauses += 1;
                }
            }
        }
    }

    /// Waits before the same event is tried again: exponentially, or until the target is seen to work.
    async fn back_off(&self, lane: &Lane, pauses: u32) {
        let base = Duration::from_millis(self.config.throttle_base_ms);
        let limit = Duration::from_millis(self.config.throttle_limit_ms);
        let pause = base.saturating_mul(2u32.saturating_pow(pauses)).min(limit);
        tokio::select! {
            () = self.env.sleep(pause) => {}
            () = lane.recovered.notified() => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// One try, to the commit of its outcome. An error says why it has to be done again.
    async fn attempt(
        &self,
        lane: &Lane,
        account: AccountId,
        key: &Key,
        delivery: &Delivery,
    ) -> Result<(), String> {
        if is_queue(&delivery.target) {
            return self.to_queue(account, key, delivery).await;
        }
        let function = match FunctionName::parse(&delivery.target, account, self.functions.region()) {
            Ok(function) => function,
            Err(error) => return self.discard(account, key, delivery, None, &error.to_string()).await,
        };
        let asker = delivery.service.as_deref().map(|service| (service, delivery.source.as_str()));
        let settings = match self.functions.async_settings(account, &function, asker).await {
            Ok(settings) => settings,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.discard(account, key, delivery, None, &error.to_string()).await;
            }
            Err(error) => return Err(error.to_string()),
        };
        if !settings.permitted {
            let reason = format!(
                "{} may not invoke the function for {}; allow it with lambda:AddPermission",
                delivery.service.as_deref().unwrap_or_default(),
                delivery.source
            );
            return self.discard(account, key, delivery, Some(&settings), &reason).await;
        }
        let age = Duration::try_from(self.env.now().duration_since(delivery.accepted_at)).unwrap_or_default();
        if age > settings.max_age {
            return self.give_up(account, key, delivery, &settings, Condition::EventAgeExceeded, None).await;
        }
        if settings.reserved_concurrency == Some(0) {
            // Switched off: AWS sends such events to the destination at once.
            return self.give_up(account, key, delivery, &settings, Condition::RetriesExhausted, None).await;
        }
        match self.invoke(account, function, delivery).await {
            Next::Succeeded(outcome) => {
                lane.recovered.notify_waiters();
                self.succeeded(account, key, delivery, &settings, outcome).await
            }
            Next::Failed(outcome) => {
                lane.recovered.notify_waiters();
                self.failed(account, key, delivery, &settings, outcome).await
            }
            Next::GiveUp(outcome) => {
                let condition = Condition::RetriesExhausted;
                self.give_up(account, key, delivery, &settings, condition, Some(outcome)).await
            }
            Next::Later(reason) => Err(reason),
            Next::Drop(reason) => self.discard(account, key, delivery, Some(&settings), &reason).await,
        }
    }

    async fn invoke(&self, account: AccountId, function: FunctionName, delivery: &Delivery) -> Next {
        let invocation = Invocation {
            account,
            function,
            request_id: delivery.request_id,
            event: Event::Json(delivery.payload.clone()),
            stream: None,
            client_context: delivery.client_context.clone(),
            idempotency_key: None,
            fingerprint: None,
            trace: delivery.trace.clone(),
            attempt: delivery.failures,
            redeliverable: true,
            queue_timeout: Some(Duration::from_millis(self.config.queue_timeout_ms)),
            log_tail: false,
        };
        match self.functions.invoke(invocation).await {
            Ok(outcome) if outcome.function_error.is_none() => Next::Succeeded(outcome),
            Ok(outcome) => Next::Failed(outcome),
            Err(error @ functions::Error::Recursion) => Next::GiveUp(refusal(&error)),
            Err(error) => match error.kind() {
                ErrorKind::Throttled | ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Internal => {
                    Next::Later(error.to_string())
                }
                ErrorKind::NotFound => Next::Drop(error.to_string()),
                // What will not get better by itself is a failed try: the destination hears of it.
                ErrorKind::Invalid
                | ErrorKind::Conflict
                | ErrorKind::PreconditionFailed
                | ErrorKind::Unauthenticated
                | ErrorKind::Denied
                | ErrorKind::TooLarge
                | ErrorKind::Unsupported => Next::Failed(refusal(&error)),
            },
        }
    }

    async fn succeeded(
        &self,
        account: AccountId,
        key: &Key,
        delivery: &Delivery,
        settings: &AsyncSettings,
        outcome: Outcome,
    ) -> Result<(), String> {
        let Some(destination) = &settings.on_success else {
            return self.settle(key, Vec::new()).await;
        };
        let ended = Ended {
            account,
            delivery,
            settings,
            condition: Condition::Success,
            attempts: delivery.failures + 1,
            outcome: Some(&outcome),
        };
        self.tell(key, destination, ended).await
    }

    async fn failed(
        &self,
        account: AccountId,
        key: &Key,
        delivery: &Delivery,
        settings: &AsyncSettings,
        outcome: Outcome,
    ) -> Result<(), String> {
        let failures = delivery.failures + 1;
        if failures > settings.max_retries {
            let condition = Condition::RetriesExhausted;
            return self.give_up(account, key, delivery, settings, condition, Some(outcome)).await;
        }
        let pause = Duration::from_millis(self.config.retry_base_ms).saturating_mul(failures);
        let again = Delivery { failures, ..delivery.clone() };
        let at = self.env.now().checked_add(pause).unwrap_or(types::Timestamp::MAX);
        self.settle(key, vec![again.due_at(account, at)]).await
    }

    /// The event has failed for good.
    async fn give_up(
        &self,
        account: AccountId,
        key: &Key,
        delivery: &Delivery,
        settings: &AsyncSettings,
        condition: Condition,
        outcome: Option<Outcome>,
    ) -> Result<(), String> {
        let attempts = delivery.failures + u32::from(outcome.is_some());
        let ended = Ended { account, delivery, settings, condition, attempts, outcome: outcome.as_ref() };
        if let Some(queue) = &settings.dead_letters {
            self.bury(queue, ended).await?;
        }
        match &settings.on_failure {
            Some(destination) => self.tell(key, destination, ended).await,
            None if settings.dead_letters.is_some() => self.settle(key, Vec::new()).await,
            None => {
                let reason = format!(
                    "{} after {attempts} tries, and the function has no destination for failures",
                    condition.as_str()
                );
                self.discard(account, key, delivery, Some(settings), &reason).await
            }
        }
    }

    /// Drops an event, and says so where its owner looks.
    pub(crate) async fn discard(
        &self,
        account: AccountId,
        key: &Key,
        delivery: &Delivery,
        settings: Option<&AsyncSettings>,
        reason: &str,
    ) -> Result<(), String> {
        let (target, source, request_id) = (&delivery.target, &delivery.source, delivery.request_id);
        tracing::warn!(%account, %target, %source, %request_id, %reason, "an event was dropped");
        self.settle(key, Vec::new()).await?;
        if let Some(settings) = settings {
            self.say_lost(account, delivery, settings, reason).await;
        }
        Ok(())
    }

    /// Says in the function's log that nobody gets an event.
    pub(crate) async fn say_lost(
        &self,
        account: AccountId,
        delivery: &Delivery,
        settings: &AsyncSettings,
        reason: &str,
    ) {
        let now = self.env.now();
        let (source, request_id) = (&delivery.source, delivery.request_id);
        let message = format!("EVENT_DROPPED RequestId: {request_id}\tSource: {source}\tReason: {reason}");
        let events = vec![LogEvent { timestamp: now, message }];
        let stream = format!("{}/[{LATEST}]events", now.strftime("%Y/%m/%d"));
        self.telemetry.log(LogLines { account, group: settings.log_group.clone(), stream, events }).await;
    }

    /// Sends a service's message to a queue.
    async fn tell_queue(&self, to: ServiceMessage<'_>) -> Result<(), aws::Error> {
        let account = to.account;
        let principal = Principal::Service { account, name: to.service.to_owned() };
        let caller = Caller { principal, ..Caller::platform(account) };
        let arn: Arn = to.target.parse().map_err(|error| aws::Error::internal(&error))?;
        let body = json!({ "MessageBody": String::from_utf8_lossy(to.message) });
        let mut request = queue_request(&arn, "SendMessage", body)?;
        for (name, value) in
            [("x-amz-source-arn", to.source), ("x-amz-source-account", &*account.to_string())]
        {
            let value = HeaderValue::from_str(value).map_err(|error| aws::Error::internal(&error))?;
            request.headers_mut().insert(name, value);
        }
        self.dispatch.call(&caller, to.trace, "sqs", request).await.map(drop)
    }

    /// Gives a service's event to a queue, which says itself whom it takes messages from.
    async fn to_queue(&self, account: AccountId, key: &Key, delivery: &Delivery) -> Result<(), String> {
        let Some(service) = delivery.service.as_deref() else {
            return self.discard(account, key, delivery, None, "only services send events to queues").await;
        };
        let message = ServiceMessage {
            account,
            target: &delivery.target,
            service,
            source: &delivery.source,
            message: &delivery.payload,
            trace: &delivery.trace,
        };
        match self.tell_queue(message).await {
            Ok(()) => self.settle(key, Vec::new()).await,
            Err(error) if error.kind.is_retryable() => Err(error.to_string()),
            Err(error) => self.discard(account, key, delivery, None, &error.to_string()).await,
        }
    }

    /// Removes the event's row and writes what follows from its end, as one commit; nothing if the row is not
    /// there any more.
    pub(crate) async fn settle(&self, key: &Key, writes: Vec<Write>) -> Result<(), String> {
        let removal = Write::Delete(key.clone());
        let settled = self.store.transact(vec![Read::Key(key.clone())], move |pages, _| {
            if pages[0].first().is_none() {
                return Ok::<_, store::Error>((Vec::new(), ()));
            }
            let mut all = writes.clone();
            all.push(removal.clone());
            Ok((all, ()))
        });
        settled.await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl EventTargets for Handle {
    async fn try_out(&self, test: ServiceMessage<'_>) -> Result<(), aws::Error> {
        let shared = &self.shared;
        if is_queue(test.target) {
            return shared.tell_queue(test).await;
        }
        let ServiceMessage { account, service, source, target, .. } = test;
        let function = FunctionName::parse(target, account, shared.functions.region())?;
        let asker = Some((service, source));
        if shared.functions.async_settings(account, &function, asker).await?.permitted {
            return Ok(());
        }
        let message = format!("Not authorized to invoke function [{target}]");
        Err(aws::Error::new(ErrorKind::Denied, "AccessDeniedException", message))
    }
}

/// A refusal of the platform as a function's failure.
pub(crate) fn refusal(error: &functions::Error) -> Outcome {
    let told: aws::Error = error.clone().into();
    let payload = json!({ "errorType": told.code, "errorMessage": told.message }).to_string();
    Outcome {
        payload: Bytes::from(payload),
        function_error: Some("Unhandled".to_owned()),
        executed_version: Version::Latest,
        log_tail: None,
        repeated: false,
    }
}
