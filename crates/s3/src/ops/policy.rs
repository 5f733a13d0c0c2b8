//! Bucket policies, the block of public access, and ownership controls.

use std::sync::Arc;

use aws::PolicyFacts;
use s3s::S3Response;
use s3s::dto::{
    DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput, DeleteBucketPolicyInput,
    DeleteBucketPolicyOutput, DeletePublicAccessBlockInput, DeletePublicAccessBlockOutput,
    GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput, GetBucketPolicyInput,
    GetBucketPolicyOutput, GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput,
    GetPublicAccessBlockInput, GetPublicAccessBlockOutput, ObjectOwnership, OwnershipControls,
    OwnershipControlsRule, PolicyStatus, PublicAccessBlockConfiguration, PutBucketOwnershipControlsInput,
    PutBucketOwnershipControlsOutput, PutBucketPolicyInput, PutBucketPolicyOutput, PutPublicAccessBlockInput,
    PutPublicAccessBlockOutput,
};
use serde_json::Value;

use crate::Error;
use crate::access::{Ownership, PublicAccessBlock};
use crate::ops::actions;
use crate::ops::bucket::{absent, rehome};
use crate::service::Cx;
use crate::tables::NameRow;

const MAX_POLICY_BYTES: usize = 20 << 10;

/// The bucket of the caller: nobody else may see or change its policy, whatever it says.
async fn own(cx: &Cx) -> Result<Arc<NameRow>, Error> {
    let home = cx.home().await?;
    if cx.account() == home.owner { Ok(home) } else { Err(Error::MethodNotAllowed) }
}

fn no_policy(cx: &Cx) -> Error {
    absent(cx, "NoSuchBucketPolicy", "The bucket policy does not exist")
}

pub(crate) async fn get(
    cx: &Cx,
    _input: GetBucketPolicyInput,
) -> Result<S3Response<GetBucketPolicyOutput>, Error> {
    let policy = own(cx).await?.policy.clone().ok_or_else(|| no_policy(cx))?;
    Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(policy.as_ref().to_owned()) }))
}

pub(crate) async fn status(
    cx: &Cx,
    _input: GetBucketPolicyStatusInput,
) -> Result<S3Response<GetBucketPolicyStatusOutput>, Error> {
    let policy = own(cx).await?.policy.clone().ok_or_else(|| no_policy(cx))?;
    let PolicyFacts { public } = check(cx, &policy)?;
    let policy_status = Some(PolicyStatus { is_public: Some(public) });
    Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status }))
}

fn check(cx: &Cx, policy: &str) -> Result<PolicyFacts, Error> {
    cx.inner.rights.policies.check(policy).map_err(|error| Error::MalformedPolicy(error.message))
}

/// What S3 asks of a policy beyond its grammar: that it is about this bucket. Gives back the ARNs of those whom it names.
fn check_subject(bucket: &str, policy: &str) -> Result<Vec<String>, Error> {
    let malformed = |message: &str| Error::MalformedPolicy(message.to_owned());
    let policy: Value =
        serde_json::from_str(policy).map_err(|_| malformed("This policy contains invalid Json"))?;
    let statements = match &policy["Statement"] {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let texts = |value: &Value| -> Vec<String> {
        match value {
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::String(text) => vec![text.clone()],
            _ => Vec::new(),
        }
    };
    let arn = format!("arn:aws:s3:::{bucket}");
    let mut named = Vec::new();
    for statement in statements {
        named.extend(texts(&statement["Principal"]["AWS"]));
        named.extend(texts(&statement["NotPrincipal"]["AWS"]));
        let actions = [texts(&statement["Action"]), texts(&statement["NotAction"])].concat();
        if !actions.iter().all(|action| actions::exists(action)) {
            return Err(malformed("Policy has invalid action"));
        }
        let resources = [texts(&statement["Resource"]), texts(&statement["NotResource"])].concat();
        if resources.is_empty() {
            return Err(malformed("Missing required field Resource"));
        }
        let about = |resource: &String| {
            let rest = resource.strip_prefix(&*arn);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == "*")
        };
        if !resources.iter().all(about) {
            return Err(malformed("Policy has invalid resource"));
        }
        // What is not named may be anything, so only a named action and a named resource can miss each other.
        let (actions, resources) = (texts(&statement["Action"]), texts(&statement["Resource"]));
        let (of_bucket, of_objects) = kinds(&arn, &resources);
        let applies = |action: &String| actions::applies(action, of_bucket, of_objects);
        if !resources.is_empty() && !actions.iter().all(applies) {
            return Err(malformed("Action does not apply to any resource(s) in statement"));
        }
        for keys in statement["Condition"].as_object().into_iter().flat_map(serde_json::Map::values) {
            for key in keys.as_object().into_iter().flat_map(serde_json::Map::keys) {
                if !is_known_key(key) {
                    return Err(malformed(&format!("Policy has an invalid condition key: {key}")));
                }
            }
        }
    }
    Ok(named)
}

/// Whether there is the bucket among resources, and whether there are objects of it.
fn kinds(arn: &str, resources: &[String]) -> (bool, bool) {
    let rests = || resources.iter().filter_map(|resource| resource.strip_prefix(arn));
    let of_bucket = rests().any(|rest| rest.is_empty() || rest == "*");
    (of_bucket, rests().any(|rest| rest.starts_with('/') || rest == "*"))
}

/// Condition keys that a request has here. One that is never there would deny nothing, or allow nothing.
fn is_known_key(key: &str) -> bool {
    const KEYS: &[&str] = &[
        "aws:currenttime",
        "aws:epochtime",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalisawsservice",
        "aws:principalorgid",
        "aws:principalservicename",
        "aws:principaltype",
        "aws:referer",
        "aws:requestedregion",
        "aws:resourceaccount",
        "aws:securetransport",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceip",
        "aws:useragent",
        "aws:userid",
        "aws:username",
        "s3:authtype",
        "s3:delimiter",
        "s3:if-match",
        "s3:if-none-match",
        "s3:max-keys",
        "s3:object-lock-legal-hold",
        "s3:object-lock-mode",
        "s3:object-lock-remaining-retention-days",
        "s3:object-lock-retain-until-date",
        "s3:objectcreationoperation",
        "s3:prefix",
        "s3:resourceaccount",
        "s3:signatureage",
        "s3:signatureversion",
        "s3:versionid",
        "s3:x-amz-acl",
        "s3:x-amz-content-sha256",
        "s3:x-amz-copy-source",
        "s3:x-amz-grant-full-control",
        "s3:x-amz-grant-read",
        "s3:x-amz-grant-read-acp",
        "s3:x-amz-grant-write",
        "s3:x-amz-grant-write-acp",
        "s3:x-amz-metadata-directive",
        "s3:x-amz-server-side-encryption",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:x-amz-server-side-encryption-customer-algorithm",
        "s3:x-amz-storage-class",
        "s3:x-amz-website-redirect-location",
    ];
    let key = key.to_ascii_lowercase();
    KEYS.contains(&&*key)
        || key.starts_with("aws:principaltag/")
        || key.starts_with("s3:existingobjecttag/")
        || key.starts_with("s3:requestobjecttag")
}

pub(crate) async fn put(
    cx: &Cx,
    input: PutBucketPolicyInput,
) -> Result<S3Response<PutBucketPolicyOutput>, Error> {
    let home = own(cx).await?;
    if input.policy.len() > MAX_POLICY_BYTES {
        return Err(Error::MalformedPolicy("Policy exceeds the maximum allowed document size.".into()));
    }
    let facts = check(cx, &input.policy)?;
    for arn in check_subject(cx.bucket(), &input.policy)? {
        if cx.inner.rights.roles.is_there(&arn).await.map_err(Error::Body)? == Some(false) {
            return Err(Error::MalformedPolicy("Invalid principal in policy".into()));
        }
    }
    let blocked = move |home: &NameRow| {
        facts.public && home.public_access_block.is_some_and(|block| block.block_policy)
    };
    let denied = format!(
        "User: {} is not authorized to perform: s3:PutBucketPolicy on resource: \"arn:aws:s3:::{}\" because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.",
        cx.state.context.caller.principal.arn(),
        cx.bucket()
    );
    if blocked(&home) {
        return Err(Error::Denied(denied));
    }
    let policy: Arc<str> = input.policy.into();
    rehome(cx, move |home| {
        if blocked(home) {
            return Err(Error::Denied(denied.clone()));
        }
        home.policy = Some(policy.clone());
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketPolicyOutput {}))
}

pub(crate) async fn delete(
    cx: &Cx,
    _input: DeleteBucketPolicyInput,
) -> Result<S3Response<DeleteBucketPolicyOutput>, Error> {
    own(cx).await?;
    rehome(cx, |home| {
        home.policy = None;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(DeleteBucketPolicyOutput {}))
}

pub(crate) async fn get_block(
    cx: &Cx,
    _input: GetPublicAccessBlockInput,
) -> Result<S3Response<GetPublicAccessBlockOutput>, Error> {
    let block = cx.home().await?.public_access_block.ok_or_else(|| {
        let message = "The public access block configuration was not found";
        absent(cx, "NoSuchPublicAccessBlockConfiguration", message)
    })?;
    Ok(S3Response::new(GetPublicAccessBlockOutput {
        public_access_block_configuration: Some(PublicAccessBlockConfiguration {
            block_public_acls: Some(block.block_acls),
            block_public_policy: Some(block.block_policy),
            ignore_public_acls: Some(block.ignore_acls),
            restrict_public_buckets: Some(block.restrict_buckets),
        }),
    }))
}

pub(crate) async fn put_block(
    cx: &Cx,
    input: PutPublicAccessBlockInput,
) -> Result<S3Response<PutPublicAccessBlockOutput>, Error> {
    let given = input.public_access_block_configuration;
    let block = PublicAccessBlock {
        block_acls: given.block_public_acls.unwrap_or(false),
        ignore_acls: given.ignore_public_acls.unwrap_or(false),
        block_policy: given.block_public_policy.unwrap_or(false),
        restrict_buckets: given.restrict_public_buckets.unwrap_or(false),
    };
    rehome(cx, move |home| {
        home.public_access_block = Some(block);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutPublicAccessBlockOutput {}))
}

pub(crate) async fn delete_block(
    cx: &Cx,
    _input: DeletePublicAccessBlockInput,
) -> Result<S3Response<DeletePublicAccessBlockOutput>, Error> {
    rehome(cx, |home| {
        home.public_access_block = None;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(DeletePublicAccessBlockOutput {}))
}

pub(crate) async fn get_ownership(
    cx: &Cx,
    _input: GetBucketOwnershipControlsInput,
) -> Result<S3Response<GetBucketOwnershipControlsOutput>, Error> {
    let ownership = cx.home().await?.ownership.ok_or_else(|| {
        let message = "The bucket ownership controls were not found";
        absent(cx, "OwnershipControlsNotFoundError", message)
    })?;
    let rule = OwnershipControlsRule { object_ownership: ObjectOwnership::from_static(ownership.name()) };
    Ok(S3Response::new(GetBucketOwnershipControlsOutput {
        ownership_controls: Some(OwnershipControls { rules: vec![rule] }),
    }))
}

pub(crate) async fn put_ownership(
    cx: &Cx,
    input: PutBucketOwnershipControlsInput,
) -> Result<S3Response<PutBucketOwnershipControlsOutput>, Error> {
    let mut rules = input.ownership_controls.rules.into_iter();
    let (Some(rule), None) = (rules.next(), rules.next()) else { return Err(Error::MalformedXml) };
    let ownership = Ownership::of_name(rule.object_ownership.as_str()).ok_or(Error::MalformedXml)?;
    rehome(cx, move |home| {
        if ownership == Ownership::BucketOwnerEnforced && !home.acl.is_empty() {
            return Err(Error::InvalidBucketAcl(
                "InvalidBucketAclWithObjectOwnership",
                "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
            ));
        }
        home.ownership = Some(ownership);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketOwnershipControlsOutput {}))
}

pub(crate) async fn delete_ownership(
    cx: &Cx,
    _input: DeleteBucketOwnershipControlsInput,
) -> Result<S3Response<DeleteBucketOwnershipControlsOutput>, Error> {
    rehome(cx, |home| {
        home.ownership = None;
        // Without controls, lists do not count here.
        home.acl.clear();
        Ok(())
    })
    .await?;
    Ok(S3Response::new(DeleteBucketOwnershipControlsOutput {}))
}
