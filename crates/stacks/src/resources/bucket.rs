//! `AWS::S3::Bucket`.

use async_trait::async_trait;
use aws::xml::Xml;
use http::Method;
use serde_json::Value as Json;

use super::bucket_settings::{self, SETTINGS};
use super::calls::segment;
use super::schema::{Property, Shape, TAGS};
use super::{
    Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, found, gone_is_fine, is_there, text,
};
use crate::template::Pseudo;

/// Which keys a notification is for.
const FILTER: Property = Property::new(
    "Filter",
    Shape::Object(&[Property::new(
        "S3Key",
        Shape::Object(&[Property::new(
            "Rules",
            Shape::List(&Shape::Object(&[
                Property::new("Name", Shape::Text).required(),
                Property::new("Value", Shape::Text).required(),
            ])),
        )
        .required()]),
    )
    .required()]),
);

pub(super) const BUCKET: ResourceType = ResourceType {
    name: "AWS::S3::Bucket",
    properties: &[
        Property::new("BucketName", Shape::Text).replaces(),
        Property::new(
            "NotificationConfiguration",
            Shape::Object(&[
                Property::new(
                    "LambdaConfigurations",
                    Shape::List(&Shape::Object(&[
                        Property::new("Event", Shape::Text).required(),
                        Property::new("Function", Shape::Text).required(),
                        FILTER,
                    ])),
                ),
                Property::new(
                    "QueueConfigurations",
                    Shape::List(&Shape::Object(&[
                        Property::new("Event", Shape::Text).required(),
                        Property::new("Queue", Shape::Text).required(),
                        FILTER,
                    ])),
                ),
            ]),
        ),
        Property::new("AccessControl", Shape::Text),
        Property::new("BucketEncryption", bucket_settings::ENCRYPTION),
        Property::new("CorsConfiguration", bucket_settings::CORS),
        Property::new("LifecycleConfiguration", bucket_settings::LIFECYCLE),
        Property::new("LoggingConfiguration", bucket_settings::LOGGING),
        Property::new("ObjectLockConfiguration", bucket_settings::OBJECT_LOCK),
        Property::new("ObjectLockEnabled", Shape::Boolean).replaces(),
        Property::new("OwnershipControls", bucket_settings::OWNERSHIP),
        Property::new("PublicAccessBlockConfiguration", bucket_settings::PUBLIC_ACCESS_BLOCK),
        Property::new("Tags", TAGS),
        Property::new("VersioningConfiguration", bucket_settings::VERSIONING),
        Property::new("WebsiteConfiguration", bucket_settings::WEBSITE),
    ],
    attributes: &["Arn", "DomainName", "RegionalDomainName", "WebsiteURL"],
    late: &["NotificationConfiguration"],
    provider: &Bucket,
};

const XMLNS: (&str, &str) = ("xmlns", "http://s3.amazonaws.com/doc/2006-03-01/");

struct Bucket;

#[async_trait]
impl Provider for Bucket {
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        match text(properties, "BucketName") {
            Some(name) => name.to_owned(),
            None => naming.generate(63).to_ascii_lowercase(),
        }
    }

    fn attribute(&self, pseudo: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        match attribute {
            "Arn" => Some(format!("arn:aws:s3:::{id}")),
            "DomainName" => Some(format!("{id}.s3.amazonaws.com")),
            "RegionalDomainName" => Some(format!("{id}.s3.{}.amazonaws.com", pseudo.region)),
            "WebsiteURL" => Some(format!("http://{id}.s3-website-{}.amazonaws.com", pseudo.region)),
            _ => None,
        }
    }

    async fn exists(&self, calls: &Calls, id: &str, _: &Properties) -> Result<bool, aws::Error> {
        match calls.s3(Method::HEAD, &format!("/{}", segment(id)), String::new()).await {
            // Somebody else's.
            Err(error) if error.status == 403 => Ok(true),
            other => found(other),
        }
    }

    async fn create(
        &self,
        calls: &Calls,
        id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        let path = format!("/{}", segment(id));
        let region = &calls.pseudo.region;
        let mut body = String::new();
        if region != "us-east-1" {
            let mut xml = Xml::document();
            xml.element_with("CreateBucketConfiguration", &[XMLNS], |xml| {
                xml.text("LocationConstraint", region)
            });
            body = xml.finish();
        }
        let locks = properties.get("ObjectLockEnabled").and_then(Json::as_bool) == Some(true);
        let headers: &[_] = if locks { &[("x-amz-bucket-object-lock-enabled", "true")] } else { &[] };
        match calls.send("s3", Method::PUT, &path, headers, body).await {
            Err(error) if again && error.code == "BucketAlreadyOwnedByYou" => {}
            Err(error) if is_there(&error) => return Err(CreateError::nothing_made(error)),
            Err(error) => return Err(CreateError::nothing_made(error)),
            Ok(_) => {}
        }
        let settings = async {
            apply(calls, id, None, properties).await?;
            if properties.contains_key("Tags") {
                put_tags(calls, id, properties).await?;
            }
            Ok(())
        };
        settings.await.map(|()| Made::default()).map_err(CreateError::half_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        apply(calls, id, Some(old), new).await?;
        if old.get("Tags") != new.get("Tags") {
            put_tags(calls, id, new).await?;
        }
        Ok(())
    }

    async fn configure(&self, calls: &Calls, id: &str, new: &Properties) -> Result<(), aws::Error> {
        let body = notification(new.get("NotificationConfiguration"));
        calls.s3(Method::PUT, &format!("/{}?notification", segment(id)), body).await.map(drop)
    }

    async fn delete(&self, calls: &Calls, id: &str, _: &Properties) -> Result<(), aws::Error> {
        gone_is_fine(calls.s3(Method::DELETE, &format!("/{}", segment(id)), String::new()).await)
    }
}

/// Sets what differs of the bucket's settings.
async fn apply(
    calls: &Calls,
    id: &str,
    old: Option<&Properties>,
    new: &Properties,
) -> Result<(), aws::Error> {
    for setting in SETTINGS {
        let path = format!("/{}?{}", segment(id), setting.flag);
        match setting.change(old, new) {
            None => {}
            Some((true, document)) => drop(calls.s3(Method::PUT, &path, document).await?),
            Some((false, _)) => gone_is_fine(calls.s3(Method::DELETE, &path, String::new()).await)?,
        }
    }
    let acl = |properties: &Properties| text(properties, "AccessControl").map(str::to_owned);
    if old.and_then(acl) != acl(new) {
        // CloudFormation has S3's names in its own spelling.
        let name = match acl(new).as_deref() {
            None | Some("Private") => "private",
            Some("PublicRead") => "public-read",
            Some("PublicReadWrite") => "public-read-write",
            Some("AuthenticatedRead") => "authenticated-read",
            Some("LogDeliveryWrite") => "log-delivery-write",
            Some("BucketOwnerRead") => "bucket-owner-read",
            Some("BucketOwnerFullControl") => "bucket-owner-full-control",
            Some("AwsExecRead") => "aws-exec-read",
            Some(other) => {
                let message = format!("AccessControl `{other}` is not one of CloudFormation's.");
                return Err(aws::Error::new(types::ErrorKind::Invalid, "InvalidRequest", message));
            }
        };
        let path = format!("/{}?acl", segment(id));
        calls.send("s3", Method::PUT, &path, &[("x-amz-acl", name)], String::new()).await?;
    }
    Ok(())
}

async fn put_tags(calls: &Calls, id: &str, properties: &Properties) -> Result<(), aws::Error> {
    let path = format!("/{}?tagging", segment(id));
    let tags = properties.get("Tags").and_then(Json::as_array).filter(|tags| !tags.is_empty());
    let Some(tags) = tags else {
        return gone_is_fine(calls.s3(Method::DELETE, &path, String::new()).await);
    };
    let mut xml = Xml::document();
    xml.element_with("Tagging", &[XMLNS], |xml| {
        xml.element("TagSet", |xml| {
            for tag in tags {
                xml.element("Tag", |xml| {
                    xml.text("Key", tag["Key"].as_str().unwrap_or_default());
                    xml.text("Value", tag["Value"].as_str().unwrap_or_default());
                });
            }
        });
    });
    calls.s3(Method::PUT, &path, xml.finish()).await.map(drop)
}

/// Whom a bucket tells: the list in a template, its members there, and the names that the API has for an entry and for
/// whom it tells.
const TOLD: [(&str, &str, &str, &str); 2] = [
    ("LambdaConfigurations", "Function", "CloudFunctionConfiguration", "CloudFunction"),
    ("QueueConfigurations", "Queue", "QueueConfiguration", "Queue"),
];

fn notification(config: Option<&Json>) -> String {
    let mut xml = Xml::document();
    xml.element_with("NotificationConfiguration", &[XMLNS], |xml| {
        for (list, member, element, told) in TOLD {
            let entries = config.and_then(|config| config[list].as_array());
            for entry in entries.into_iter().flatten() {
                xml.element(element, |xml| {
                    xml.text(told, entry[member].as_str().unwrap_or_default());
                    xml.text("Event", entry["Event"].as_str().unwrap_or_default());
                    let Some(rules) = entry["Filter"]["S3Key"]["Rules"].as_array() else { return };
                    xml.element("Filter", |xml| {
                        xml.element("S3Key", |xml| {
                            for rule in rules {
                                xml.element("FilterRule", |xml| {
                                    xml.text("Name", rule["Name"].as_str().unwrap_or_default());
                                    xml.text("Value", rule["Value"].as_str().unwrap_or_default());
                                });
                            }
                        });
                    });
                });
            }
        }
    });
    xml.finish()
}
