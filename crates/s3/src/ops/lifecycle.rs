//! GetBucketLifecycleConfiguration, PutBucketLifecycleConfiguration, DeleteBucketLifecycle.

use http::HeaderValue;
use s3s::S3Response;
use s3s::dto::{
    AbortIncompleteMultipartUpload, DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput,
    ExpirationStatus, GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput,
    LifecycleExpiration, LifecycleRule, LifecycleRuleAndOperator, LifecycleRuleFilter,
    NoncurrentVersionExpiration, PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput,
    Tag,
};
use store::{Read, Write};

use crate::Error;
use crate::lifecycle::{self, Expire, Filter, Form, Rule};
use crate::ops::bucket::{absent, configured};
use crate::ops::install::bucket_of;
use crate::ops::{http_date, seconds, tagging, timestamp};
use crate::service::Cx;
use crate::tables::{self, BUCKETS, CHORES, Chore, NAMES, NameRow, Object};

const MAX_RULES: usize = 1000;

fn shape(rule: Rule) -> LifecycleRule {
    let filter = rule.filter;
    let mut tags = tagging::shape(filter.tags).into_iter();
    let prefix = Some(filter.prefix);
    let shown = prefix.clone().filter(|prefix| !prefix.is_empty());
    let (old_prefix, filter) = match filter.form {
        Form::Prefix => (prefix, None),
        Form::Filter => {
            let tag = tags.next();
            let alone = tag.is_some() || filter.greater_than.is_some() || filter.less_than.is_some();
            let filter = LifecycleRuleFilter {
                prefix: if alone { None } else { prefix },
                tag,
                object_size_greater_than: filter.greater_than,
                object_size_less_than: filter.less_than,
                ..LifecycleRuleFilter::default()
            };
            (None, Some(filter))
        }
        Form::And => {
            let tags: Vec<_> = tags.collect();
            let and = LifecycleRuleAndOperator {
                object_size_greater_than: filter.greater_than,
                object_size_less_than: filter.less_than,
                prefix: shown,
                tags: (!tags.is_empty()).then_some(tags),
            };
            (None, Some(LifecycleRuleFilter { and: Some(and), ..LifecycleRuleFilter::default() }))
        }
    };
    let expiration = rule.expire.map(|expire| match expire {
        Expire::Days(days) => LifecycleExpiration { days: Some(days), ..LifecycleExpiration::default() },
        Expire::At(at) => LifecycleExpiration { date: Some(timestamp(at)), ..LifecycleExpiration::default() },
        Expire::Marker => {
            LifecycleExpiration { expired_object_delete_marker: Some(true), ..LifecycleExpiration::default() }
        }
    });
    let status = if rule.enabled { ExpirationStatus::ENABLED } else { ExpirationStatus::DISABLED };
    LifecycleRule {
        abort_incomplete_multipart_upload: rule
            .abort_days
            .map(|days| AbortIncompleteMultipartUpload { days_after_initiation: Some(days) }),
        expiration,
        filter,
        id: Some(rule.id),
        noncurrent_version_expiration: rule.noncurrent_days.map(|days| NoncurrentVersionExpiration {
            newer_noncurrent_versions: rule.noncurrent_kept,
            noncurrent_days: Some(days),
        }),
        noncurrent_version_transitions: None,
        prefix: old_prefix,
        status: ExpirationStatus::from_static(status),
        transitions: None,
    }
}

pub(crate) async fn get(
    cx: &Cx,
    _input: GetBucketLifecycleConfigurationInput,
) -> Result<S3Response<GetBucketLifecycleConfigurationOutput>, Error> {
    let rules = configured(cx).await?.lifecycle;
    if rules.is_empty() {
        let message = "The lifecycle configuration does not exist";
        return Err(absent(cx, "NoSuchLifecycleConfiguration", message));
    }
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules: Some(rules.into_iter().map(shape).collect()),
        ..GetBucketLifecycleConfigurationOutput::default()
    }))
}

fn invalid(message: &str) -> Error {
    Error::invalid_request(message)
}

fn positive(name: &'static str, days: Option<i32>) -> Result<Option<i32>, Error> {
    match days {
        Some(days) if days <= 0 => {
            Err(Error::argument(name, days.to_string(), format!("'{name}' must be a positive integer")))
        }
        days => Ok(days),
    }
}

fn filter(prefix: Option<String>, filter: Option<LifecycleRuleFilter>) -> Result<Filter, Error> {
    let pair = |tag: Tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
    let Some(filter) = filter else {
        let Some(prefix) = prefix else { return Err(Error::MalformedXml) };
        return Ok(Filter { prefix, form: Form::Prefix, ..Filter::default() });
    };
    if prefix.is_some() {
        return Err(Error::MalformedXml);
    }
    let several = [
        filter.prefix.is_some(),
        filter.tag.is_some(),
        filter.object_size_greater_than.is_some(),
        filter.object_size_less_than.is_some(),
        filter.and.is_some(),
    ];
    if several.into_iter().filter(|given| *given).count() > 1 {
        return Err(Error::MalformedXml);
    }
    Ok(match filter.and {
        None => Filter {
            prefix: filter.prefix.unwrap_or_default(),
            tags: filter.tag.into_iter().map(pair).collect(),
            greater_than: filter.object_size_greater_than,
            less_than: filter.object_size_less_than,
            form: Form::Filter,
        },
        Some(and) if several_of(&and) < 2 => return Err(Error::MalformedXml),
        Some(and) => Filter {
            prefix: and.prefix.unwrap_or_default(),
            tags: and.tags.unwrap_or_default().into_iter().map(pair).collect(),
            greater_than: and.object_size_greater_than,
            less_than: and.object_size_less_than,
            form: Form::And,
        },
    })
}

/// How many conditions are put together.
fn several_of(and: &LifecycleRuleAndOperator) -> usize {
    let alone =
        [and.prefix.is_some(), and.object_size_greater_than.is_some(), and.object_size_less_than.is_some()];
    alone.into_iter().filter(|given| *given).count() + and.tags.as_ref().map_or(0, Vec::len)
}

fn read(cx: &Cx, rule: LifecycleRule) -> Result<Rule, Error> {
    if rule.transitions.is_some_and(|list| !list.is_empty())
        || rule.noncurrent_version_transitions.is_some_and(|list| !list.is_empty())
    {
        return Err(Error::NotImplemented("A transition to another storage class".into()));
    }
    let enabled = match rule.status.as_str() {
        ExpirationStatus::ENABLED => true,
        ExpirationStatus::DISABLED => false,
        _ => return Err(Error::MalformedXml),
    };
    let filter = filter(rule.prefix, rule.filter)?;
    if let (Some(greater), Some(less)) = (filter.greater_than, filter.less_than)
        && less <= greater
    {
        return Err(invalid("'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'."));
    }
    let expire = match rule.expiration {
        None => None,
        Some(expiration) => {
            Some(match (expiration.days, expiration.date, expiration.expired_object_delete_marker) {
                (Some(days), None, None) => {
                    positive("Days", Some(days))?;
                    Expire::Days(days)
                }
                (None, Some(date), None) => {
                    let at = seconds(&date).ok_or(Error::MalformedXml)?;
                    if at % 86_400 != 0 {
                        return Err(Error::argument(
                            "Date",
                            at.to_string(),
                            "'Date' must be at midnight GMT",
                        ));
                    }
                    Expire::At(at)
                }
                (None, None, Some(true)) if !filter.tags.is_empty() => {
                    return Err(invalid(
                        "Tag-based filter cannot be used with ExpiredObjectDeleteMarker action",
                    ));
                }
                (None, None, Some(true)) => Expire::Marker,
                _ => return Err(Error::MalformedXml),
            })
        }
    };
    let noncurrent = rule.noncurrent_version_expiration;
    let noncurrent_days = positive("NoncurrentDays", noncurrent.as_ref().and_then(|n| n.noncurrent_days))?;
    if noncurrent.is_some() && noncurrent_days.is_none() {
        return Err(Error::MalformedXml);
    }
    let noncurrent_kept = noncurrent.and_then(|n| n.newer_noncurrent_versions);
    if noncurrent_kept.is_some_and(|kept| !(1..=100).contains(&kept)) {
        return Err(invalid("'NewerNoncurrentVersions' must be an integer between 1 and 100"));
    }
    let abort = rule.abort_incomplete_multipart_upload;
    let abort_days = positive("DaysAfterInitiation", abort.as_ref().and_then(|a| a.days_after_initiation))?;
    if abort.is_some() && abort_days.is_none() {
        return Err(Error::MalformedXml);
    }
    if abort_days.is_some() && !filter.tags.is_empty() {
        return Err(invalid("Tag-based filter cannot be used with AbortIncompleteMultipartUpload action"));
    }
    if expire.is_none() && noncurrent_days.is_none() && abort_days.is_none() {
        return Err(invalid("At least one action needs to be specified in a rule"));
    }
    let id = rule.id.filter(|id| !id.is_empty()).unwrap_or_else(|| cx.inner.random_id().to_string());
    if id.chars().count() > 255 {
        return Err(Error::argument("ID", id, "ID length should not exceed allowed limit of 255"));
    }
    Ok(Rule { id, enabled, filter, expire, noncurrent_days, noncurrent_kept, abort_days })
}

pub(crate) async fn put(
    cx: &Cx,
    input: PutBucketLifecycleConfigurationInput,
) -> Result<S3Response<PutBucketLifecycleConfigurationOutput>, Error> {
    let rules = input.lifecycle_configuration.ok_or(Error::MalformedXml)?.rules;
    if rules.is_empty() || rules.len() > MAX_RULES {
        return Err(Error::MalformedXml);
    }
    let rules = rules.into_iter().map(|rule| read(cx, rule)).collect::<Result<Vec<_>, _>>()?;
    for (i, rule) in rules.iter().enumerate() {
        if rules[..i].iter().any(|other| other.id == rule.id) {
            return Err(Error::argument(
                "ID",
                &*rule.id,
                "Rule ID must be unique. Found same ID for more than one rule",
            ));
        }
    }
    set(cx, rules).await?;
    Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
}

pub(crate) async fn delete(
    cx: &Cx,
    _input: DeleteBucketLifecycleInput,
) -> Result<S3Response<DeleteBucketLifecycleOutput>, Error> {
    set(cx, Vec::new()).await?;
    Ok(S3Response::new(DeleteBucketLifecycleOutput {}))
}

/// Sets the rules; a row of the node tells the one who carries them out where there are any.
async fn set(cx: &Cx, rules: Vec<Rule>) -> Result<(), Error> {
    let owner = cx.owner().await?;
    let name = cx.bucket().to_owned();
    let (key, name_key) = (tables::bucket_key(owner, &name), tables::name_key(&name));
    let reads = vec![Read::Key(key.clone()), Read::Key(name_key.clone())];
    cx.inner
        .store
        .transact(reads, move |pages, _| {
            let mut bucket = bucket_of(&pages[0], &name)?;
            bucket.lifecycle.clone_from(&rules);
            let home = NAMES.first(&pages[1])?.ok_or_else(|| Error::NoSuchBucket(name.clone()))?;
            let home = NameRow { has_rules: !rules.is_empty(), ..home.value };
            let chore = tables::chore_key(&name);
            let chore =
                if rules.is_empty() { Write::Delete(chore) } else { CHORES.put(chore, &Chore { owner }) };
            let home = NAMES.put(name_key.clone(), &home);
            Ok::<_, Error>((vec![BUCKETS.put(key.clone(), &bucket), home, chore], ()))
        })
        .await?;
    cx.inner.chores.notify_one();
    Ok(())
}

/// What an answer says of when the request's current object goes: the time, and the rule.
pub(crate) async fn expiration(
    cx: &Cx,
    home: &NameRow,
    object: &Object,
) -> Result<Option<HeaderValue>, Error> {
    if !home.has_rules {
        return Ok(None);
    }
    let bucket = configured(cx).await?;
    let found = lifecycle::expiration(&bucket.lifecycle, cx.key(), object);
    Ok(found.and_then(|(at, rule)| {
        let (date, id) = (http_date(at), crate::notify::url_encode(&rule.id));
        HeaderValue::from_str(&format!("expiry-date=\"{date}\", rule-id=\"{id}\"")).ok()
    }))
}

/// The header that says so.
pub(crate) const EXPIRATION: &str = "x-amz-expiration";
