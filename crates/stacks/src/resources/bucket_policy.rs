//! `AWS::S3::BucketPolicy`.

use async_trait::async_trait;
use http::Method;

use super::calls::segment;
use super::schema::{Property, Shape};
use super::{Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, gone_is_fine, text};

pub(super) const BUCKET_POLICY: ResourceType = ResourceType {
    name: "AWS::S3::BucketPolicy",
    properties: &[
        Property::new("Bucket", Shape::Text).required().replaces(),
        Property::new("PolicyDocument", Shape::Document).required(),
    ],
    attributes: &[],
    late: &[],
    provider: &BucketPolicy,
};

struct BucketPolicy;

fn path(properties: &Properties) -> String {
    format!("/{}?policy", segment(text(properties, "Bucket").unwrap_or_default()))
}

async fn put(calls: &Calls, properties: &Properties) -> Result<(), aws::Error> {
    let document = properties.get("PolicyDocument").map(ToString::to_string).unwrap_or_default();
    calls.s3(Method::PUT, &path(properties), document).await.map(drop)
}

#[async_trait]
impl Provider for BucketPolicy {
    fn physical_id(&self, _naming: &Naming<'_>, properties: &Properties) -> String {
        text(properties, "Bucket").unwrap_or_default().to_owned()
    }

    async fn create(
        &self,
        calls: &Calls,
        _id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        if !again && calls.s3(Method::GET, &path(properties), String::new()).await.is_ok() {
            let message = "The bucket policy already exists on bucket; a bucket has one.";
            let error = aws::Error::new(types::ErrorKind::Conflict, "AlreadyExists", message);
            return Err(CreateError::nothing_made(error));
        }
        put(calls, properties).await.map(|()| Made::default()).map_err(CreateError::nothing_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        _id: &str,
        _old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        put(calls, new).await
    }

    async fn delete(&self, calls: &Calls, _id: &str, properties: &Properties) -> Result<(), aws::Error> {
        gone_is_fine(calls.s3(Method::DELETE, &path(properties), String::new()).await)
    }
}
