//! GetBucketWebsite, PutBucketWebsite, DeleteBucketWebsite.

use s3s::S3Response;
use s3s::dto::{
    Condition, DeleteBucketWebsiteInput, DeleteBucketWebsiteOutput, ErrorDocument, GetBucketWebsiteInput,
    GetBucketWebsiteOutput, IndexDocument, Protocol, PutBucketWebsiteInput, PutBucketWebsiteOutput, Redirect,
    RedirectAllRequestsTo, RoutingRule as RuleShape,
};

use crate::Error;
use crate::ops::bucket::{absent, rehome};
use crate::service::Cx;
use crate::website::{RoutingRule, Website};

const MAX_RULES: usize = 50;

fn protocol(name: Option<String>) -> Option<Protocol> {
    name.map(Protocol::from)
}

pub(crate) async fn get(
    cx: &Cx,
    _input: GetBucketWebsiteInput,
) -> Result<S3Response<GetBucketWebsiteOutput>, Error> {
    let site = cx.home().await?.website.clone().ok_or_else(|| {
        let message = "The specified bucket does not have a website configuration";
        absent(cx, "NoSuchWebsiteConfiguration", message)
    })?;
    let shape = |rule: RoutingRule| RuleShape {
        condition: (rule.if_error.is_some() || rule.if_prefix.is_some()).then(|| Condition {
            http_error_code_returned_equals: rule.if_error.map(|code| code.to_string()),
            key_prefix_equals: rule.if_prefix.clone(),
        }),
        redirect: Redirect {
            host_name: rule.host,
            http_redirect_code: rule.status.map(|code| code.to_string()),
            protocol: protocol(rule.protocol),
            replace_key_prefix_with: rule.replace_prefix,
            replace_key_with: rule.replace_key,
        },
    };
    let rules: Vec<_> = site.rules.into_iter().map(shape).collect();
    Ok(S3Response::new(GetBucketWebsiteOutput {
        error_document: site.error.map(|key| ErrorDocument { key }),
        index_document: site.index.map(|suffix| IndexDocument { suffix }),
        redirect_all_requests_to: site
            .elsewhere
            .map(|(host_name, name)| RedirectAllRequestsTo { host_name, protocol: protocol(name) }),
        routing_rules: (!rules.is_empty()).then_some(rules),
    }))
}

fn invalid(message: &str) -> Error {
    Error::argument("WebsiteConfiguration", "", message)
}

fn valid_protocol(protocol: Option<Protocol>) -> Result<Option<String>, Error> {
    match protocol.as_ref().map(Protocol::as_str) {
        None => Ok(None),
        Some(name @ ("http" | "https")) => Ok(Some(name.to_owned())),
        Some(_) => Err(invalid(
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically.",
        )),
    }
}

fn status(code: Option<String>, range: std::ops::Range<u16>, message: &str) -> Result<Option<u16>, Error> {
    let Some(code) = code else { return Ok(None) };
    code.parse().ok().filter(|code| range.contains(code)).map(Some).ok_or_else(|| invalid(message))
}

fn rule(shape: RuleShape) -> Result<RoutingRule, Error> {
    let condition = shape
        .condition
        .unwrap_or(Condition { http_error_code_returned_equals: None, key_prefix_equals: None });
    let to = shape.redirect;
    let Redirect { host_name, http_redirect_code, protocol, replace_key_prefix_with, replace_key_with } = &to;
    let texts = [host_name, http_redirect_code, replace_key_prefix_with, replace_key_with];
    if texts.into_iter().all(Option::is_none) && protocol.is_none() {
        return Err(Error::MalformedXml);
    }
    if to.replace_key_with.is_some() && to.replace_key_prefix_with.is_some() {
        return Err(invalid("You can only define ReplaceKeyPrefix or ReplaceKey but not both."));
    }
    Ok(RoutingRule {
        if_error: status(
            condition.http_error_code_returned_equals,
            400..600,
            "The provided HTTP error code is not valid. Valid codes are 4XX or 5XX.",
        )?,
        if_prefix: condition.key_prefix_equals,
        host: to.host_name,
        protocol: valid_protocol(to.protocol)?,
        status: status(
            to.http_redirect_code,
            301..400,
            "The provided HTTP redirect code is not valid. Valid codes are 3XX except 300.",
        )?,
        replace_prefix: to.replace_key_prefix_with,
        replace_key: to.replace_key_with,
    })
}

pub(crate) async fn put(
    cx: &Cx,
    input: PutBucketWebsiteInput,
) -> Result<S3Response<PutBucketWebsiteOutput>, Error> {
    let given = input.website_configuration;
    let rules = given.routing_rules.unwrap_or_default();
    if rules.len() > MAX_RULES {
        return Err(invalid("The number of routing rules must not exceed the allowed limit of 50."));
    }
    let site = match given.redirect_all_requests_to {
        Some(to) => {
            if given.index_document.is_some() || given.error_document.is_some() || !rules.is_empty() {
                return Err(invalid(
                    "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.",
                ));
            }
            Website { elsewhere: Some((to.host_name, valid_protocol(to.protocol)?)), ..Website::default() }
        }
        None => {
            let index = given.index_document.map(|document| document.suffix).unwrap_or_default();
            if index.is_empty() || index.contains('/') {
                return Err(invalid("The IndexDocument Suffix is not well formed"));
            }
            Website {
                index: Some(index),
                error: given.error_document.map(|document| document.key),
                elsewhere: None,
                rules: rules.into_iter().map(rule).collect::<Result<_, _>>()?,
            }
        }
    };
    rehome(cx, move |home| {
        home.website = Some(site.clone());
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketWebsiteOutput {}))
}

pub(crate) async fn delete(
    cx: &Cx,
    _input: DeleteBucketWebsiteInput,
) -> Result<S3Response<DeleteBucketWebsiteOutput>, Error> {
    rehome(cx, |home| {
        home.website = None;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(DeleteBucketWebsiteOutput {}))
}

/// The redirect that a request gives an object, if it does.
pub(crate) fn redirect(cx: &Cx) -> Result<Option<String>, Error> {
    let name = "x-amz-website-redirect-location";
    let Some(to) = cx.header(name) else { return Ok(None) };
    let valid = to.starts_with('/') || to.starts_with("http://") || to.starts_with("https://");
    if !valid || to.len() > 2048 {
        let message = "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.";
        return Err(Error::InvalidRedirect(to.to_owned(), message));
    }
    Ok(Some(to.to_owned()))
}
