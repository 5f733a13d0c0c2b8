//! What `AWS::S3::Bucket` says of a bucket beyond its name, as S3's own documents.

use aws::xml::Xml;
use serde_json::Value as Json;

use super::Properties;
use super::schema::{Property, Shape};

const XMLNS: (&str, &str) = ("xmlns", "http://s3.amazonaws.com/doc/2006-03-01/");

const TEXTS: Shape = Shape::List(&Shape::Text);

pub(super) const VERSIONING: Shape = Shape::Object(&[Property::new("Status", Shape::Text).required()]);

pub(super) const ENCRYPTION: Shape = Shape::Object(&[Property::new(
    "ServerSideEncryptionConfiguration",
    Shape::List(&Shape::Object(&[
        Property::new(
            "ServerSideEncryptionByDefault",
            Shape::Object(&[
                Property::new("SSEAlgorithm", Shape::Text).required(),
                Property::new("KMSMasterKeyID", Shape::Text),
            ]),
        ),
        Property::new("BucketKeyEnabled", Shape::Boolean),
    ])),
)
.required()]);

pub(super) const PUBLIC_ACCESS_BLOCK: Shape = Shape::Object(&[
    Property::new("BlockPublicAcls", Shape::Boolean),
    Property::new("BlockPublicPolicy", Shape::Boolean),
    Property::new("IgnorePublicAcls", Shape::Boolean),
    Property::new("RestrictPublicBuckets", Shape::Boolean),
]);

pub(super) const OWNERSHIP: Shape = Shape::Object(&[Property::new(
    "Rules",
    Shape::List(&Shape::Object(&[Property::new("ObjectOwnership", Shape::Text).required()])),
)
.required()]);

pub(super) const CORS: Shape = Shape::Object(&[Property::new(
    "CorsRules",
    Shape::List(&Shape::Object(&[
        Property::new("Id", Shape::Text),
        Property::new("AllowedHeaders", TEXTS),
        Property::new("AllowedMethods", TEXTS).required(),
        Property::new("AllowedOrigins", TEXTS).required(),
        Property::new("ExposedHeaders", TEXTS),
        Property::new("MaxAge", Shape::Integer),
    ])),
)
.required()]);

pub(super) const WEBSITE: Shape = Shape::Object(&[
    Property::new("IndexDocument", Shape::Text),
    Property::new("ErrorDocument", Shape::Text),
    Property::new(
        "RedirectAllRequestsTo",
        Shape::Object(&[
            Property::new("HostName", Shape::Text).required(),
            Property::new("Protocol", Shape::Text),
        ]),
    ),
    Property::new(
        "RoutingRules",
        Shape::List(&Shape::Object(&[
            Property::new(
                "RedirectRule",
                Shape::Object(&[
                    Property::new("HostName", Shape::Text),
                    Property::new("HttpRedirectCode", Shape::Text),
                    Property::new("Protocol", Shape::Text),
                    Property::new("ReplaceKeyPrefixWith", Shape::Text),
                    Property::new("ReplaceKeyWith", Shape::Text),
                ]),
            )
            .required(),
            Property::new(
                "RoutingRuleCondition",
                Shape::Object(&[
                    Property::new("HttpErrorCodeReturnedEquals", Shape::Text),
                    Property::new("KeyPrefixEquals", Shape::Text),
                ]),
            ),
        ])),
    ),
]);

pub(super) const LIFECYCLE: Shape = Shape::Object(&[Property::new(
    "Rules",
    Shape::List(&Shape::Object(&[
        Property::new("Id", Shape::Text),
        Property::new("Status", Shape::Text).required(),
        Property::new("Prefix", Shape::Text),
        Property::new(
            "TagFilters",
            Shape::List(&Shape::Object(&[
                Property::new("Key", Shape::Text).required(),
                Property::new("Value", Shape::Text).required(),
            ])),
        ),
        Property::new("ObjectSizeGreaterThan", Shape::Text),
        Property::new("ObjectSizeLessThan", Shape::Text),
        Property::new("ExpirationInDays", Shape::Integer),
        Property::new("ExpirationDate", Shape::Text),
        Property::new("ExpiredObjectDeleteMarker", Shape::Boolean),
        Property::new("NoncurrentVersionExpirationInDays", Shape::Integer),
        Property::new(
            "NoncurrentVersionExpiration",
            Shape::Object(&[
                Property::new("NoncurrentDays", Shape::Integer).required(),
                Property::new("NewerNoncurrentVersions", Shape::Integer),
            ]),
        ),
        Property::new(
            "AbortIncompleteMultipartUpload",
            Shape::Object(&[Property::new("DaysAfterInitiation", Shape::Integer).required()]),
        ),
    ])),
)
.required()]);

pub(super) const LOGGING: Shape = Shape::Object(&[
    Property::new("DestinationBucketName", Shape::Text).required(),
    Property::new("LogFilePrefix", Shape::Text),
]);

pub(super) const OBJECT_LOCK: Shape = Shape::Object(&[
    Property::new("ObjectLockEnabled", Shape::Text),
    Property::new(
        "Rule",
        Shape::Object(&[Property::new(
            "DefaultRetention",
            Shape::Object(&[
                Property::new("Mode", Shape::Text),
                Property::new("Days", Shape::Integer),
                Property::new("Years", Shape::Integer),
            ]),
        )]),
    ),
]);

/// What becomes of a setting that a template no longer has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unset {
    /// It is deleted.
    Delete,
    /// This is put in its place.
    Put(&'static str),
    /// It can not be taken back.
    Never,
}

/// A property that is a document of S3's.
pub(super) struct Setting {
    pub(super) property: &'static str,
    /// The sub-resource in the query.
    pub(super) flag: &'static str,
    pub(super) document: fn(&Json) -> String,
    pub(super) unset: Unset,
}

/// All of them, in the order in which one may depend on another.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        property: "OwnershipControls",
        flag: "ownershipControls",
        document: ownership,
        unset: Unset::Put(
            "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>",
        ),
    },
    Setting {
        property: "PublicAccessBlockConfiguration",
        flag: "publicAccessBlock",
        document: public_access_block,
        unset: Unset::Put(
            "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>",
        ),
    },
    Setting {
        property: "VersioningConfiguration",
        flag: "versioning",
        document: versioning,
        unset: Unset::Put("<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"),
    },
    Setting {
        property: "ObjectLockConfiguration",
        flag: "object-lock",
        document: object_lock,
        unset: Unset::Never,
    },
    Setting {
        property: "LoggingConfiguration",
        flag: "logging",
        document: logging,
        unset: Unset::Put("<BucketLoggingStatus/>"),
    },
    Setting { property: "BucketEncryption", flag: "encryption", document: encryption, unset: Unset::Delete },
    Setting { property: "CorsConfiguration", flag: "cors", document: cors, unset: Unset::Delete },
    Setting { property: "WebsiteConfiguration", flag: "website", document: website, unset: Unset::Delete },
    Setting {
        property: "LifecycleConfiguration",
        flag: "lifecycle",
        document: lifecycle,
        unset: Unset::Delete,
    },
];

impl Setting {
    /// The request that brings the bucket from `old` to `new`: whether to put or to delete, and the document.
    pub(super) fn change(&self, old: Option<&Properties>, new: &Properties) -> Option<(bool, String)> {
        let before = old.and_then(|old| old.get(self.property));
        let after = new.get(self.property);
        match (before, after) {
            (before, after) if before == after => None,
            (_, Some(after)) => Some((true, (self.document)(after))),
            (_, None) => match self.unset {
                Unset::Delete => Some((false, String::new())),
                Unset::Put(document) => Some((true, document.to_owned())),
                Unset::Never => None,
            },
        }
    }
}

fn document(name: &str, content: impl FnOnce(&mut Xml)) -> String {
    let mut xml = Xml::document();
    xml.element_with(name, &[XMLNS], content);
    xml.finish()
}

/// A scalar as text.
fn scalar(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(_) | Json::Bool(_) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// An element for a member, if it is there.
fn member(xml: &mut Xml, name: &str, value: &Json) {
    xml.optional(name, scalar(value));
}

fn all<'a>(value: &'a Json) -> impl Iterator<Item = &'a Json> + use<'a> {
    value.as_array().into_iter().flatten()
}

fn versioning(value: &Json) -> String {
    document("VersioningConfiguration", |xml| member(xml, "Status", &value["Status"]))
}

fn ownership(value: &Json) -> String {
    document("OwnershipControls", |xml| {
        for rule in all(&value["Rules"]) {
            xml.element("Rule", |xml| member(xml, "ObjectOwnership", &rule["ObjectOwnership"]));
        }
    })
}

fn public_access_block(value: &Json) -> String {
    document("PublicAccessBlockConfiguration", |xml| {
        for name in ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"] {
            member(xml, name, &value[name]);
        }
    })
}

fn encryption(value: &Json) -> String {
    document("ServerSideEncryptionConfiguration", |xml| {
        for rule in all(&value["ServerSideEncryptionConfiguration"]) {
            xml.element("Rule", |xml| {
                let default = &rule["ServerSideEncryptionByDefault"];
                if default.is_object() {
                    xml.element("ApplyServerSideEncryptionByDefault", |xml| {
                        member(xml, "SSEAlgorithm", &default["SSEAlgorithm"]);
                        member(xml, "KMSMasterKeyID", &default["KMSMasterKeyID"]);
                    });
                }
                member(xml, "BucketKeyEnabled", &rule["BucketKeyEnabled"]);
            });
        }
    })
}

fn cors(value: &Json) -> String {
    document("CORSConfiguration", |xml| {
        for rule in all(&value["CorsRules"]) {
            xml.element("CORSRule", |xml| {
                member(xml, "ID", &rule["Id"]);
                for (list, element) in [
                    ("AllowedHeaders", "AllowedHeader"),
                    ("AllowedMethods", "AllowedMethod"),
                    ("AllowedOrigins", "AllowedOrigin"),
                    ("ExposedHeaders", "ExposeHeader"),
                ] {
                    for item in all(&rule[list]) {
                        member(xml, element, item);
                    }
                }
                member(xml, "MaxAgeSeconds", &rule["MaxAge"]);
            });
        }
    })
}

fn website(value: &Json) -> String {
    document("WebsiteConfiguration", |xml| {
        if value["IndexDocument"].is_string() {
            xml.element("IndexDocument", |xml| member(xml, "Suffix", &value["IndexDocument"]));
        }
        if value["ErrorDocument"].is_string() {
            xml.element("ErrorDocument", |xml| member(xml, "Key", &value["ErrorDocument"]));
        }
        let to = &value["RedirectAllRequestsTo"];
        if to.is_object() {
            xml.element("RedirectAllRequestsTo", |xml| {
                member(xml, "HostName", &to["HostName"]);
                member(xml, "Protocol", &to["Protocol"]);
            });
        }
        if !value["RoutingRules"].is_array() {
            return;
        }
        xml.element("RoutingRules", |xml| {
            for rule in all(&value["RoutingRules"]) {
                xml.element("RoutingRule", |xml| {
                    let condition = &rule["RoutingRuleCondition"];
                    if condition.is_object() {
                        xml.element("Condition", |xml| {
                            for name in ["HttpErrorCodeReturnedEquals", "KeyPrefixEquals"] {
                                member(xml, name, &condition[name]);
                            }
                        });
                    }
                    xml.element("Redirect", |xml| {
                        for name in [
                            "HostName",
                            "HttpRedirectCode",
                            "Protocol",
                            "ReplaceKeyPrefixWith",
                            "ReplaceKeyWith",
                        ] {
                            member(xml, name, &rule["RedirectRule"][name]);
                        }
                    });
                });
            }
        });
    })
}

fn lifecycle(value: &Json) -> String {
    document("LifecycleConfiguration", |xml| {
        for rule in all(&value["Rules"]) {
            xml.element("Rule", |xml| lifecycle_rule(xml, rule));
        }
    })
}

fn lifecycle_rule(xml: &mut Xml, rule: &Json) {
    member(xml, "ID", &rule["Id"]);
    xml.element("Filter", |xml| {
        let sizes = ["ObjectSizeGreaterThan", "ObjectSizeLessThan"];
        let tags = all(&rule["TagFilters"]).count();
        let conditions = tags
            + usize::from(rule["Prefix"].is_string())
            + sizes.iter().filter(|name| !rule[**name].is_null()).count();
        let inside = |xml: &mut Xml| {
            member(xml, "Prefix", &rule["Prefix"]);
            for tag in all(&rule["TagFilters"]) {
                xml.element("Tag", |xml| {
                    member(xml, "Key", &tag["Key"]);
                    member(xml, "Value", &tag["Value"]);
                });
            }
            for name in sizes {
                member(xml, name, &rule[name]);
            }
        };
        if conditions > 1 { xml.element("And", inside) } else { inside(xml) }
    });
    member(xml, "Status", &rule["Status"]);
    let expiration = [
        ("Days", &rule["ExpirationInDays"]),
        ("Date", &rule["ExpirationDate"]),
        ("ExpiredObjectDeleteMarker", &rule["ExpiredObjectDeleteMarker"]),
    ];
    if expiration.iter().any(|(_, value)| !value.is_null()) {
        xml.element("Expiration", |xml| {
            for (name, value) in expiration {
                member(xml, name, value);
            }
        });
    }
    let noncurrent = &rule["NoncurrentVersionExpiration"];
    let old = &rule["NoncurrentVersionExpirationInDays"];
    if noncurrent.is_object() || !old.is_null() {
        xml.element("NoncurrentVersionExpiration", |xml| {
            let days = &noncurrent["NoncurrentDays"];
            member(xml, "NoncurrentDays", if days.is_null() { old } else { days });
            member(xml, "NewerNoncurrentVersions", &noncurrent["NewerNoncurrentVersions"]);
        });
    }
    let abort = &rule["AbortIncompleteMultipartUpload"];
    if abort.is_object() {
        xml.element("AbortIncompleteMultipartUpload", |xml| {
            member(xml, "DaysAfterInitiation", &abort["DaysAfterInitiation"]);
        });
    }
}

fn logging(value: &Json) -> String {
    document("BucketLoggingStatus", |xml| {
        xml.element("LoggingEnabled", |xml| {
            member(xml, "TargetBucket", &value["DestinationBucketName"]);
            xml.text("TargetPrefix", &scalar(&value["LogFilePrefix"]).unwrap_or_default());
        });
    })
}

fn object_lock(value: &Json) -> String {
    document("ObjectLockConfiguration", |xml| {
        let enabled = scalar(&value["ObjectLockEnabled"]).unwrap_or_else(|| "Enabled".to_owned());
        xml.text("ObjectLockEnabled", &enabled);
        let default = &value["Rule"]["DefaultRetention"];
        if default.is_object() {
            xml.element("Rule", |xml| {
                xml.element("DefaultRetention", |xml| {
                    for name in ["Mode", "Days", "Years"] {
                        member(xml, name, &default[name]);
                    }
                });
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_written_as_s3_has_them() {
        let one = lifecycle(&json!({ "Rules": [
            { "Id": "a", "Status": "Enabled", "Prefix": "logs/", "ExpirationInDays": 7 }
        ] }));
        assert!(one.contains("<Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>7</Days></Expiration>"), "{one}");
        let several = lifecycle(&json!({ "Rules": [
            { "Status": "Enabled", "Prefix": "a", "TagFilters": [{ "Key": "k", "Value": "v" }], "ExpirationInDays": 1 }
        ] }));
        assert!(
            several.contains("<And><Prefix>a</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And>"),
            "{several}"
        );
    }

    #[test]
    fn what_a_template_drops_is_taken_back() {
        let versioned = json!({ "VersioningConfiguration": { "Status": "Enabled" } });
        let versioned = versioned.as_object().unwrap();
        let none = Properties::new();
        let setting = |name: &str| SETTINGS.iter().find(|s| s.property == name).unwrap();
        let change = setting("VersioningConfiguration").change(Some(versioned), &none).unwrap();
        assert!(change.0 && change.1.contains("Suspended"));
        assert!(setting("VersioningConfiguration").change(Some(versioned), versioned).is_none());
        assert!(setting("VersioningConfiguration").change(None, &none).is_none());
    }
}
