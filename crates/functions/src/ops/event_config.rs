//! How asynchronous invocations are retried and where their records go.

use aws::Response;
use serde_json::{Value, json};
use store::{Read, Write};
use types::Arn;

use super::Cx;
use crate::Error;
use crate::name::FunctionName;
use crate::queue::{is_queue, queue_arn};
use crate::tables::{
    EVENT_CONFIGS, EventConfigRow, FUNCTIONS, by_name, by_qualifier, marker_of, page_of, qualifier_of,
};
use crate::wire::input::{Destination, EventInvokeConfig};
use crate::wire::marker;
use crate::wire::members::Faults;

fn within(value: i64, at: &str, least: u32, most: u32) -> Result<u32, Error> {
    u32::try_from(value).ok().filter(|value| (least..=most).contains(value)).ok_or_else(|| {
        Error::rule(format!(
            "Value '{value}' at '{at}' failed to satisfy constraint: Member must \
             have value between {least} and {most}"
        ))
    })
}

impl Cx {
    /// The ARN of a destination that this node can deliver to.
    async fn destination(
        &self,
        function: &FunctionName,
        given: Option<&Destination>,
        success: bool,
    ) -> Result<Option<String>, Error> {
        let Some(text) = given.and_then(|given| given.destination.as_deref()).filter(|t| !t.is_empty())
        else {
            return Ok(None);
        };
        let arn: Arn = text.parse().map_err(|_| {
            Error::InvalidParameter(format!(
                "The provided destination config DestinationConfig is invalid: {text}"
            ))
        })?;
        match arn.service.as_str() {
            "lambda" => {
                let invalid = || Error::InvalidParameter(format!("The destination ARN {text} is invalid."));
                let target = FunctionName::parse(text, self.account, &self.inner.region);
                let target = target.map_err(|_| invalid())?;
                if target.name == function.name {
                    return Err(Error::InvalidParameter(
                        "You can't specify the function as a destination for itself.".into(),
                    ));
                }
                let row = by_name(&FUNCTIONS, self.account, &target.name);
                self.inner.store.get(row).await?.ok_or_else(invalid)?;
                Ok(Some(text.to_owned()))
            }
            // A queue is looked at with the rights of the function's role before anything is kept.
            "sqs" => {
                queue_arn(text, "destination config DestinationConfig")?;
                Ok(Some(text.to_owned()))
            }
            "s3" if success => Err(Error::InvalidParameter(
                "Amazon S3 buckets are supported as destinations for failures only (OnFailure).".into(),
            )),
            "s3" if !arn.resource.contains('/') => Ok(Some(text.to_owned())),
            other => Err(Error::Unsupported(format!(
                "Destinations of the service {other} are not supported by this node; use a function, a queue \
                 or, for failures, a bucket."
            ))),
        }
    }

    pub(super) async fn put_event_config(
        &self,
        function: FunctionName,
        input: EventInvokeConfig,
        merge: bool,
    ) -> Result<Response, aws::Error> {
        let mut faults = Faults::default();
        let retries = input.maximum_retry_attempts;
        let retries = faults.see(retries.map(|v| within(v, "maximumRetryAttempts", 0, 2)).transpose());
        let age = input.maximum_event_age_in_seconds;
        let age = faults.see(age.map(|v| within(v, "maximumEventAgeInSeconds", 60, 21_600)).transpose());
        faults.finish()?;
        let destinations = input.destination_config;
        if retries.is_none() && age.is_none() && destinations.is_none() {
            return Err(Error::InvalidParameter(
                "You must specify at least one of error handling or destination setting.".into(),
            )
            .into());
        }
        let success = destinations.as_ref().and_then(|d| d.on_success.as_ref());
        let failure = destinations.as_ref().and_then(|d| d.on_failure.as_ref());
        let given = EventConfigRow {
            max_retries: retries,
            max_age_s: age,
            on_success: self.destination(&function, success, true).await?,
            on_failure: self.destination(&function, failure, false).await?,
            last_modified: self.inner.env.now(),
        };
        let queues = [&given.on_success, &given.on_failure].into_iter().flatten().filter(|arn| is_queue(arn));
        for queue in queues {
            self.require_owner(&function).await?;
            let (_, deployed) = self.resolve(&function).await?;
            self.check_queue(&deployed.role, &deployed.name, queue).await?;
        }
        let (has_success, has_failure) = (success.is_some(), failure.is_some());
        let name = function.name.clone();
        let key = by_qualifier(&EVENT_CONFIGS, self.account, &name, function.owner());
        let reads = vec![Read::Key(self.owner_key(&function)), Read::Key(key.clone())];
        let not_found = self.no_owner(&function);
        let no_config = self.no_config(&function);
        let row = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            if pages[0].first().is_none() {
                return Err(not_found.clone());
            }
            let row = match EVENT_CONFIGS.first(&pages[1])? {
                _ if !merge => given.clone(),
                None => return Err(no_config.clone()),
                Some(stored) => {
                    let old = stored.value;
                    EventConfigRow {
                        max_retries: given.max_retries.or(old.max_retries),
                        max_age_s: given.max_age_s.or(old.max_age_s),
                        on_success: if has_success { given.on_success.clone() } else { old.on_success },
                        on_failure: if has_failure { given.on_failure.clone() } else { old.on_failure },
                        last_modified: given.last_modified,
                    }
                }
            };
            Ok((vec![EVENT_CONFIGS.put(key.clone(), &row)], row))
        });
        let row = row.await?;
        self.inner.changed(self.account, &name, false);
        Ok(aws::json::output(&self.shown(&function.name, function.owner(), &row)))
    }

    fn no_config(&self, function: &FunctionName) -> Error {
        let arn = self.arn(&function.name);
        Error::NotFound(format!("The function {arn} doesn't have an EventInvokeConfig"))
    }

    fn shown(&self, function: &str, qualifier: Option<&str>, row: &EventConfigRow) -> Value {
        let destination = |arn: &Option<String>| match arn {
            Some(arn) => json!({ "Destination": arn }),
            None => json!({}),
        };
        let mut shown = json!({
            // Seconds since the epoch, with a fraction, as the protocol writes times.
            "LastModified": row.last_modified.as_millisecond() as f64 / 1000.0,
            "FunctionArn": format!("{}:{}", self.arn(function), qualifier.unwrap_or(crate::LATEST)),
            "DestinationConfig": {
                "OnSuccess": destination(&row.on_success),
                "OnFailure": destination(&row.on_failure),
            },
        });
        if let Some(retries) = row.max_retries {
            shown["MaximumRetryAttempts"] = json!(retries);
        }
        if let Some(age) = row.max_age_s {
            shown["MaximumEventAgeInSeconds"] = json!(age);
        }
        shown
    }

    async fn event_config(&self, function: &FunctionName) -> Result<Option<EventConfigRow>, Error> {
        self.require_owner(function).await?;
        let key = by_qualifier(&EVENT_CONFIGS, self.account, &function.name, function.owner());
        Ok(EVENT_CONFIGS.get(&self.inner.store, key).await?.map(|stored| stored.value))
    }

    pub(super) async fn get_event_config(&self, function: FunctionName) -> Result<Response, Error> {
        let row = self.event_config(&function).await?.ok_or_else(|| self.no_config(&function))?;
        Ok(aws::json::output(&self.shown(&function.name, function.owner(), &row)))
    }

    pub(super) async fn delete_event_config(&self, function: FunctionName) -> Result<Response, Error> {
        self.event_config(&function).await?.ok_or_else(|| self.no_config(&function))?;
        let key = by_qualifier(&EVENT_CONFIGS, self.account, &function.name, function.owner());
        self.inner.store.write(vec![Write::Delete(key)]).await?;
        self.inner.changed(self.account, &function.name, false);
        Ok(aws::json::empty(204))
    }

    pub(super) async fn list_event_configs(
        &self,
        function: FunctionName,
        marker: Option<String>,
        limit: usize,
    ) -> Result<Response, Error> {
        self.require_latest(&function)?;
        self.row(&function.name).await?;
        let range = page_of(&EVENT_CONFIGS, self.account, &function.name, marker.as_deref(), limit);
        let (rows, more) = EVENT_CONFIGS.scan(&self.inner.store, range).await?;
        let shown: Vec<_> = rows
            .iter()
            .map(|row| self.shown(&function.name, qualifier_of(&row.key).as_deref(), &row.value))
            .collect();
        let mut output = json!({ "FunctionEventInvokeConfigs": shown });
        if let Some(last) = rows.last().filter(|_| more) {
            output["NextMarker"] =
                json!(marker::give("ListFunctionEventInvokeConfigs", &marker_of(&last.key)));
        }
        Ok(aws::json::output(&output))
    }
}
