//! GetBucketCors, PutBucketCors, DeleteBucketCors.

use s3s::S3Response;
use s3s::dto::{
    CORSRule, DeleteBucketCorsInput, DeleteBucketCorsOutput, GetBucketCorsInput, GetBucketCorsOutput,
    PutBucketCorsInput, PutBucketCorsOutput,
};

use crate::Error;
use crate::cors::Rule;
use crate::ops::bucket::{absent, rehome};
use crate::service::Cx;

const MAX_RULES: usize = 100;

pub(crate) async fn get(
    cx: &Cx,
    _input: GetBucketCorsInput,
) -> Result<S3Response<GetBucketCorsOutput>, Error> {
    let rules = cx.home().await?.cors.iter().cloned().map(shape).collect::<Vec<_>>();
    if rules.is_empty() {
        return Err(absent(cx, "NoSuchCORSConfiguration", "The CORS configuration does not exist"));
    }
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(rules) }))
}

fn shape(rule: Rule) -> CORSRule {
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    CORSRule {
        allowed_headers: some(rule.headers),
        allowed_methods: rule.methods,
        allowed_origins: rule.origins,
        expose_headers: some(rule.expose),
        id: rule.id,
        max_age_seconds: rule.max_age_seconds,
    }
}

pub(crate) async fn put(
    cx: &Cx,
    input: PutBucketCorsInput,
) -> Result<S3Response<PutBucketCorsOutput>, Error> {
    let rules = input.cors_configuration.cors_rules;
    if rules.is_empty() || rules.len() > MAX_RULES {
        return Err(Error::MalformedXml);
    }
    let rules = rules.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    rehome(cx, move |home| {
        home.cors.clone_from(&rules);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketCorsOutput {}))
}

fn read(rule: CORSRule) -> Result<Rule, Error> {
    if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
        return Err(Error::MalformedXml);
    }
    for method in &rule.allowed_methods {
        if !["GET", "PUT", "POST", "DELETE", "HEAD"].contains(&&**method) {
            return Err(Error::invalid_request(format!(
                "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            )));
        }
    }
    let headers = rule.allowed_headers.unwrap_or_default();
    for (what, list) in [("AllowedOrigin", &rule.allowed_origins), ("AllowedHeader", &headers)] {
        if let Some(text) = list.iter().find(|text| text.matches('*').count() > 1) {
            return Err(Error::invalid_request(format!(
                "{what} \"{text}\" can not have more than one wildcard."
            )));
        }
    }
    let expose = rule.expose_headers.unwrap_or_default();
    if let Some(name) = expose.iter().find(|name| name.contains('*')) {
        return Err(Error::invalid_request(format!(
            "ExposeHeader \"{name}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
        )));
    }
    Ok(Rule {
        id: rule.id,
        origins: rule.allowed_origins,
        methods: rule.allowed_methods,
        headers,
        expose,
        max_age_seconds: rule.max_age_seconds,
    })
}

pub(crate) async fn delete(
    cx: &Cx,
    _input: DeleteBucketCorsInput,
) -> Result<S3Response<DeleteBucketCorsOutput>, Error> {
    rehome(cx, |home| {
        home.cors.clear();
        Ok(())
    })
    .await?;
    Ok(S3Response::new(DeleteBucketCorsOutput {}))
}
