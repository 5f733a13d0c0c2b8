//! PutBucketNotificationConfiguration, GetBucketNotificationConfiguration.
//!
//! Lambda functions and queues of SQS can be told. Each has to exist and to let S3 in when a configuration is set, unless
//! `x-amz-skip-destination-validation` says otherwise.

use std::str::FromStr;

use aws::ServiceMessage;
use s3s::S3Response;
use s3s::dto::{
    Event, FilterRule, FilterRuleName, GetBucketNotificationConfigurationInput,
    GetBucketNotificationConfigurationOutput, LambdaFunctionConfiguration, NotificationConfigurationFilter,
    PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput, QueueConfiguration,
    S3KeyFilter,
};
use store::Read;
use types::{AccountId, Arn, ErrorKind};

use crate::Error;
use crate::notify::{self, Target};
use crate::ops::install::bucket_of;
use crate::service::Cx;
use crate::tables::{self, BUCKETS};

/// Events that happen here.
const EVENTS: [&str; 15] = [
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Post",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
    "s3:ObjectTagging:*",
    "s3:ObjectTagging:Put",
    "s3:ObjectTagging:Delete",
    "s3:ObjectAcl:Put",
    "s3:LifecycleExpiration:*",
    "s3:LifecycleExpiration:Delete",
    "s3:LifecycleExpiration:DeleteMarkerCreated",
];
/// Events that S3 has and that never happen here.
const OTHER_EVENTS: [&str; 5] = [
    "s3:ReducedRedundancyLostObject",
    "s3:ObjectRestore",
    "s3:Replication",
    "s3:LifecycleTransition",
    "s3:IntelligentTiering",
];
const MAX_TARGETS: usize = 100;

pub(crate) async fn get(
    cx: &Cx,
    input: GetBucketNotificationConfigurationInput,
) -> Result<S3Response<GetBucketNotificationConfigurationOutput>, Error> {
    let owner = cx.owner().await?;
    let row = BUCKETS.get(&cx.inner.store, tables::bucket_key(owner, &input.bucket)).await?;
    let bucket = row.ok_or_else(|| Error::NoSuchBucket(input.bucket.clone()))?.value;
    let (queues, functions): (Vec<_>, Vec<_>) =
        bucket.notifications.into_iter().partition(|target| target.is_queue());
    let functions = functions.into_iter().map(|target| {
        let (events, filter) = shape(&target);
        LambdaFunctionConfiguration { events, filter, id: Some(target.id), lambda_function_arn: target.arn }
    });
    let queues = queues.into_iter().map(|target| {
        let (events, filter) = shape(&target);
        QueueConfiguration { events, filter, id: Some(target.id), queue_arn: target.arn }
    });
    Ok(S3Response::new(GetBucketNotificationConfigurationOutput {
        lambda_function_configurations: Some(functions.collect()),
        queue_configurations: Some(queues.collect()),
        ..GetBucketNotificationConfigurationOutput::default()
    }))
}

fn shape(target: &Target) -> (Vec<Event>, Option<NotificationConfigurationFilter>) {
    let rule = |name: &'static str, value: &Option<String>| {
        value
            .clone()
            .map(|value| FilterRule { name: Some(FilterRuleName::from_static(name)), value: Some(value) })
    };
    let rules: Vec<_> =
        [rule("prefix", &target.prefix), rule("suffix", &target.suffix)].into_iter().flatten().collect();
    let filter = (!rules.is_empty())
        .then_some(NotificationConfigurationFilter { key: Some(S3KeyFilter { filter_rules: Some(rules) }) });
    (target.events.iter().cloned().map(Event::from).collect(), filter)
}

pub(crate) async fn put(
    cx: &Cx,
    input: PutBucketNotificationConfigurationInput,
) -> Result<S3Response<PutBucketNotificationConfigurationOutput>, Error> {
    let owner = cx.owner().await?;
    let configuration = input.notification_configuration;
    if configuration.event_bridge_configuration.is_some() {
        return Err(Error::NotImplemented("EventBridgeConfiguration".into()));
    }
    if configuration.topic_configurations.is_some_and(|list| !list.is_empty()) {
        return Err(Error::NotImplemented("TopicConfiguration (SNS)".into()));
    }
    let functions =
        configuration.lambda_function_configurations.unwrap_or_default().into_iter().map(|given| Given {
            is_queue: false,
            arn: given.lambda_function_arn,
            id: given.id,
            events: given.events,
            filter: given.filter,
        });
    let queues = configuration.queue_configurations.unwrap_or_default().into_iter().map(|given| Given {
        is_queue: true,
        arn: given.queue_arn,
        id: given.id,
        events: given.events,
        filter: given.filter,
    });
    let targets: Vec<_> = functions.chain(queues).map(|given| read(cx, given)).collect::<Result<_, _>>()?;
    if targets.len() > MAX_TARGETS {
        return Err(invalid("Too many notification configurations: a bucket has at most 100."));
    }
    for (i, target) in targets.iter().enumerate() {
        if targets[..i].iter().any(|other| other.id == target.id) {
            return Err(invalid("Same ID used for multiple configurations. IDs must be unique"));
        }
        if targets[..i].iter().any(|other| other.overlaps(target)) {
            return Err(invalid(
                "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are overlapping for the same event type.",
            ));
        }
    }
    if !input.skip_destination_validation.unwrap_or(false) {
        try_out(cx, owner, &targets).await?;
    }
    let name = input.bucket;
    let key = tables::bucket_key(owner, &name);
    cx.inner
        .store
        .transact(vec![Read::Key(key.clone())], move |pages, _| {
            let mut bucket = bucket_of(&pages[0], &name)?;
            bucket.notifications.clone_from(&targets);
            Ok::<_, Error>((vec![BUCKETS.put(key.clone(), &bucket)], ()))
        })
        .await?;
    Ok(S3Response::new(PutBucketNotificationConfigurationOutput {}))
}

/// Sees that every function and every queue is there and lets the bucket in; queues get a message that says so.
async fn try_out(cx: &Cx, owner: AccountId, targets: &[Target]) -> Result<(), Error> {
    let context = &cx.state.context;
    let message = notify::test_message(cx.bucket(), context.request_id, cx.now());
    let source = format!("arn:aws:s3:::{}", cx.bucket());
    let mut tried: Vec<&str> = Vec::new();
    for target in targets {
        if tried.contains(&&*target.arn) {
            continue;
        }
        tried.push(&target.arn);
        let test = ServiceMessage {
            account: owner,
            target: &target.arn,
            service: notify::SERVICE,
            source: &source,
            message: &message,
            trace: &context.trace,
        };
        match cx.inner.rights.targets.try_out(test).await {
            Ok(()) => {}
            Err(error) if error.kind.is_retryable() => return Err(Error::Body(error)),
            Err(error) => {
                let reason = match error.kind {
                    ErrorKind::NotFound if target.is_queue() => "The destination queue does not exist".into(),
                    ErrorKind::Denied if target.is_queue() => "Permissions on the destination queue do not allow S3 to publish notifications from this bucket".into(),
                    _ => error.message,
                };
                return Err(Error::InvalidTarget { arn: target.arn.clone(), reason });
            }
        }
    }
    Ok(())
}

fn invalid(message: &str) -> Error {
    Error::InvalidArgument {
        name: "NotificationConfiguration",
        value: String::new(),
        message: message.into(),
    }
}

/// A configuration of a function or a queue.
struct Given {
    is_queue: bool,
    arn: String,
    id: Option<String>,
    events: Vec<Event>,
    filter: Option<NotificationConfigurationFilter>,
}

fn read(cx: &Cx, target: Given) -> Result<Target, Error> {
    let arn = target.arn;
    let region = cx.inner.region.as_str();
    let parsed = Arn::from_str(&arn).ok().filter(|arn| arn.partition == "aws" && arn.region == region);
    let is_known = parsed.is_some_and(|arn| match target.is_queue {
        true => arn.service == "sqs" && arn.account.len() == 12 && !arn.resource.contains([':', '/']),
        false => arn.service == "lambda" && arn.resource.starts_with("function:"),
    });
    if target.is_queue && arn.ends_with(".fifo") {
        return Err(Error::argument("Queue", arn, "FIFO queues are not supported as destinations"));
    }
    if target.is_queue && !is_known {
        let message = "The ARN could not be validated: it is not that of a queue in this region";
        return Err(Error::argument("Queue", arn, message));
    }
    if !is_known {
        let message = "The ARN could not be validated: it is not that of a Lambda function in this region";
        return Err(Error::argument("CloudFunction", arn, message));
    }
    let events: Vec<String> = target.events.into_iter().map(String::from).collect();
    if events.is_empty() {
        return Err(Error::MalformedXml);
    }
    for event in &events {
        if EVENTS.contains(&&**event) {
            continue;
        }
        if OTHER_EVENTS.iter().any(|other| event.starts_with(other)) {
            return Err(Error::NotImplemented(format!("The event {event}")));
        }
        return Err(Error::argument("Event", &**event, "The event is not supported for notifications"));
    }
    let (mut prefix, mut suffix) = (None, None);
    let rules = target.filter.and_then(|filter| filter.key).and_then(|key| key.filter_rules);
    for rule in rules.unwrap_or_default() {
        let name = rule.name.as_ref().map(FilterRuleName::as_str).unwrap_or_default().to_lowercase();
        let value = rule.value.unwrap_or_default();
        if value.len() > super::MAX_KEY_BYTES {
            return Err(Error::argument(
                "FilterRule.Value",
                value,
                "Size of filter rule value cannot exceed 1024 bytes",
            ));
        }
        let slot = match &*name {
            "prefix" => &mut prefix,
            "suffix" => &mut suffix,
            _ => {
                return Err(Error::argument(
                    "FilterRule.Name",
                    name,
                    "filter rule name must be either prefix or suffix",
                ));
            }
        };
        if slot.replace(value).is_some() {
            let message = format!("Cannot specify more than one {name} rule in a filter.");
            return Err(Error::argument("FilterRule.Name", name, message));
        }
    }
    let id = target.id.filter(|id| !id.is_empty()).unwrap_or_else(|| cx.inner.random_id().to_string());
    Ok(Target { id, arn, events, prefix, suffix })
}
