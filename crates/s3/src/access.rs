//! What a bucket itself says of who may use it: its policy, its access control lists (Amazon S3 user guide, "Access
//! control list overview"), and what bounds them.
//!
//! Who may do what is decided by the pipeline; this hands it the bucket's side as a [`Guard`]. Objects belong to the
//! bucket's owner, whoever wrote them.

use std::sync::Arc;

use aws::sigv4::Payload;
use aws::{Access, Caller, Guard, Place, Signed};
use http::HeaderMap;
use s3s::dto;
use serde::{Deserialize, Serialize};
use types::{AccountId, ErrorKind, Principal, Timestamp};

use crate::Error;
use crate::access_log::DELIVERY;
use crate::notify::canonical_id;
use crate::read::{self, Address};
use crate::service::Inner;
use crate::tables::NameRow;
use crate::versions::Which;

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// Settings that keep a bucket from being opened to the public.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicAccessBlock {
    pub(crate) block_acls: bool,
    pub(crate) ignore_acls: bool,
    pub(crate) block_policy: bool,
    pub(crate) restrict_buckets: bool,
}

impl PublicAccessBlock {
    /// As a new bucket has it.
    pub(crate) const ALL: Self =
        Self { block_acls: true, ignore_acls: true, block_policy: true, restrict_buckets: true };
}

/// Whether access control lists count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ownership {
    /// They do not.
    BucketOwnerEnforced,
    BucketOwnerPreferred,
    ObjectWriter,
}

impl Ownership {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BucketOwnerEnforced => "BucketOwnerEnforced",
            Self::BucketOwnerPreferred => "BucketOwnerPreferred",
            Self::ObjectWriter => "ObjectWriter",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [Self::BucketOwnerEnforced, Self::BucketOwnerPreferred, Self::ObjectWriter]
            .into_iter()
            .find(|ownership| ownership.name() == name)
    }
}

/// Whom a grant is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Grantee {
    /// The account with this canonical user id.
    #[serde(rename = "c")]
    Canonical(String),
    #[serde(rename = "all")]
    AllUsers,
    #[serde(rename = "auth")]
    AuthenticatedUsers,
    #[serde(rename = "log")]
    LogDelivery,
}

impl Grantee {
    fn of_uri(uri: &str) -> Result<Self, Error> {
        match uri {
            ALL_USERS => Ok(Self::AllUsers),
            AUTHENTICATED_USERS => Ok(Self::AuthenticatedUsers),
            LOG_DELIVERY => Ok(Self::LogDelivery),
            other => Err(Error::argument("uri", other, "Invalid group uri")),
        }
    }

    fn of_id(id: &str) -> Result<Self, Error> {
        let valid = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if valid { Ok(Self::Canonical(id.to_owned())) } else { Err(Error::argument("id", id, "Invalid id")) }
    }

    fn is_public(&self) -> bool {
        match self {
            Self::AllUsers | Self::AuthenticatedUsers => true,
            Self::Canonical(_) | Self::LogDelivery => false,
        }
    }

    fn is(&self, caller: &Caller) -> bool {
        match self {
            Self::AllUsers => true,
            Self::AuthenticatedUsers => caller.principal != Principal::Anonymous,
            Self::Canonical(id) => {
                caller.principal != Principal::Anonymous && *id == canonical_id(caller.account)
            }
            Self::LogDelivery => {
                matches!(&caller.principal, Principal::Service { name, .. } if name == DELIVERY)
            }
        }
    }
}

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Permission {
    #[serde(rename = "f")]
    FullControl,
    #[serde(rename = "r")]
    Read,
    #[serde(rename = "w")]
    Write,
    #[serde(rename = "ra")]
    ReadAcp,
    #[serde(rename = "wa")]
    WriteAcp,
}

impl Permission {
    fn name(self) -> &'static str {
        match self {
            Self::FullControl => dto::Permission::FULL_CONTROL,
            Self::Read => dto::Permission::READ,
            Self::Write => dto::Permission::WRITE,
            Self::ReadAcp => dto::Permission::READ_ACP,
            Self::WriteAcp => dto::Permission::WRITE_ACP,
        }
    }

    fn of_name(name: &str) -> Result<Self, Error> {
        [Self::FullControl, Self::Read, Self::Write, Self::ReadAcp, Self::WriteAcp]
            .into_iter()
            .find(|permission| permission.name() == name)
            .ok_or(Error::MalformedXml)
    }
}

/// One line of an access control list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    #[serde(rename = "g")]
    pub(crate) grantee: Grantee,
    #[serde(rename = "p")]
    pub(crate) permission: Permission,
}

/// A list; an empty one says what every list says: that the owner may do everything.
pub(crate) type Acl = Vec<Grant>;

fn owners(owner: AccountId) -> Grant {
    Grant { grantee: Grantee::Canonical(canonical_id(owner)), permission: Permission::FullControl }
}

/// What a list has for a thing of whose kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bucket,
    Object,
}

/// The list that a canned one stands for.
fn canned(name: &str, kind: Kind, owner: AccountId) -> Result<Acl, Error> {
    let grant = |grantee, permission| Grant { grantee, permission };
    let more = match (name, kind) {
        ("private", _) | ("bucket-owner-read" | "bucket-owner-full-control", Kind::Object) => {
            return Ok(Acl::new());
        }
        ("public-read", _) => vec![grant(Grantee::AllUsers, Permission::Read)],
        ("public-read-write", _) => {
            vec![grant(Grantee::AllUsers, Permission::Read), grant(Grantee::AllUsers, Permission::Write)]
        }
        ("authenticated-read", _) => vec![grant(Grantee::AuthenticatedUsers, Permission::Read)],
        ("log-delivery-write", Kind::Bucket) => vec![
            grant(Grantee::LogDelivery, Permission::Write),
            grant(Grantee::LogDelivery, Permission::ReadAcp),
        ],
        ("aws-exec-read", _) => return Err(Error::NotImplemented("The ACL aws-exec-read".into())),
        (other, _) => return Err(Error::argument("x-amz-acl", other, "")),
    };
    Ok(std::iter::once(owners(owner)).chain(more).collect())
}

/// The list that a request's headers ask for, if they do: a canned one, or grants.
pub(crate) fn of_headers(headers: &HeaderMap, kind: Kind, owner: AccountId) -> Result<Option<Acl>, Error> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let mut grants = Acl::new();
    for (name, permission) in [
        ("x-amz-grant-full-control", Permission::FullControl),
        ("x-amz-grant-read", Permission::Read),
        ("x-amz-grant-write", Permission::Write),
        ("x-amz-grant-read-acp", Permission::ReadAcp),
        ("x-amz-grant-write-acp", Permission::WriteAcp),
    ] {
        for part in text(name).unwrap_or_default().split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| Error::argument("x-amz-grant", part, "Argument format not recognized"))?;
            let value = value.trim().trim_matches('"');
            let grantee = match key.trim() {
                "id" => Grantee::of_id(value)?,
                "uri" => Grantee::of_uri(value)?,
                "emailAddress" => return Err(Error::NotImplemented("A grant to an e-mail address".into())),
                _ => return Err(Error::argument("x-amz-grant", part, "Argument format not recognized")),
            };
            grants.push(Grant { grantee, permission });
        }
    }
    match text("x-amz-acl") {
        Some(_) if !grants.is_empty() => {
            Err(Error::invalid_request("Specifying both Canned ACLs and Header Grants is not allowed"))
        }
        Some(name) => canned(name, kind, owner).map(Some),
        None if grants.is_empty() => Ok(None),
        None => Ok(Some(grants)),
    }
}

/// The list in a body.
pub(crate) fn of_shape(policy: dto::AccessControlPolicy, owner: AccountId) -> Result<Acl, Error> {
    if let Some(id) = policy.owner.and_then(|owner| owner.id)
        && id != canonical_id(owner)
    {
        return Err(Error::AccessDenied);
    }
    let grant = |grant: dto::Grant| {
        let grantee = grant.grantee.ok_or(Error::MalformedXml)?;
        let permission = grant.permission.ok_or(Error::MalformedXml)?;
        let grantee = match (grantee.id, grantee.uri, grantee.email_address) {
            (Some(id), None, None) => Grantee::of_id(&id)?,
            (None, Some(uri), None) => Grantee::of_uri(&uri)?,
            (None, None, Some(_)) => {
                return Err(Error::NotImplemented("A grant to an e-mail address".into()));
            }
            _ => return Err(Error::MalformedXml),
        };
        Ok(Grant { grantee, permission: Permission::of_name(permission.as_str())? })
    };
    let acl: Acl = policy.grants.unwrap_or_default().into_iter().map(grant).collect::<Result<_, _>>()?;
    if acl.is_empty() {
        return Err(Error::NotImplemented("An access control list without a grant".into()));
    }
    if acl.len() > 100 {
        return Err(Error::MalformedXml);
    }
    Ok(if acl == [owners(owner)] { Acl::new() } else { acl })
}

/// A list as it is shown.
pub(crate) fn shape(acl: &[Grant], owner: AccountId) -> Vec<dto::Grant> {
    let only_owner = [owners(owner)];
    let acl = if acl.is_empty() { &only_owner[..] } else { acl };
    let grantee = |type_: &'static str, id: Option<&String>, uri: Option<&str>| dto::Grantee {
        display_name: None,
        email_address: None,
        id: id.cloned(),
        type_: dto::Type::from_static(type_),
        uri: uri.map(str::to_owned),
    };
    acl.iter()
        .map(|grant| dto::Grant {
            grantee: Some(match &grant.grantee {
                Grantee::Canonical(id) => grantee(dto::Type::CANONICAL_USER, Some(id), None),
                Grantee::AllUsers => grantee(dto::Type::GROUP, None, Some(ALL_USERS)),
                Grantee::AuthenticatedUsers => grantee(dto::Type::GROUP, None, Some(AUTHENTICATED_USERS)),
                Grantee::LogDelivery => grantee(dto::Type::GROUP, None, Some(LOG_DELIVERY)),
            }),
            permission: Some(dto::Permission::from_static(grant.permission.name())),
        })
        .collect()
}

/// Whether a list lets everybody do something.
pub(crate) fn is_public(acl: &[Grant]) -> bool {
    acl.iter().any(|grant| grant.grantee.is_public())
}

impl NameRow {
    /// Whether access control lists count; buckets from before they could be set have none.
    pub(crate) fn ownership(&self) -> Ownership {
        self.ownership.unwrap_or(Ownership::BucketOwnerEnforced)
    }

    fn block(&self) -> PublicAccessBlock {
        self.public_access_block.unwrap_or_default()
    }

    /// Whether a list may be put on the bucket or an object of it.
    pub(crate) fn admits_acl(&self, acl: &[Grant]) -> Result<(), Error> {
        if acl.is_empty() {
            return Ok(());
        }
        if self.ownership() == Ownership::BucketOwnerEnforced {
            return Err(Error::AclNotSupported);
        }
        if self.block().block_acls && is_public(acl) {
            return Err(Error::AccessDenied);
        }
        Ok(())
    }

    /// The list for an object that a request makes.
    pub(crate) fn acl_of_new(&self, headers: &HeaderMap, caller: &Caller) -> Result<Acl, Error> {
        let acl = of_headers(headers, Kind::Object, self.owner)?.unwrap_or_default();
        self.admits_acl(&acl)?;
        let foreign = caller.account != self.owner || caller.principal == Principal::Anonymous;
        let controls = headers.get("x-amz-acl").is_some_and(|acl| acl == "bucket-owner-full-control");
        match self.ownership() {
            Ownership::BucketOwnerEnforced => Ok(acl),
            Ownership::BucketOwnerPreferred if !foreign || controls => Ok(acl),
            Ownership::ObjectWriter if !foreign => Ok(acl),
            Ownership::BucketOwnerPreferred | Ownership::ObjectWriter => Err(Error::NotImplemented(
                "An object that belongs to another account than its bucket (x-amz-acl without bucket-owner-full-control)".into(),
            )),
        }
    }
}

/// What a policy may ask about a request beyond its headers.
#[derive(Clone, Copy)]
pub(crate) struct RequestFacts {
    /// The operation, if it is one.
    pub(crate) operation: &'static str,
    pub(crate) signed: Option<Signed>,
}

impl RequestFacts {
    /// Of what is no operation: a visit to a web site, the writing of a log.
    pub(crate) const NONE: Self = Self { operation: "", signed: None };

    /// How the request was signed, what it says of itself, and whether it makes an object, as condition keys.
    fn tell(self, mut need: Access, owner: AccountId, headers: &HeaderMap, now: Timestamp) -> Access {
        let place = self.signed.map(|signed| match signed.place {
            Place::Header => "REST-HEADER",
            Place::Query => "REST-QUERY-STRING",
            Place::Form => "POST",
        });
        let version = self.signed.map(|signed| if signed.version == 2 { "AWS" } else { "AWS4-HMAC-SHA256" });
        let at = self.signed.and_then(|signed| signed.at);
        let age_ms = at.map(|at| (now.as_millisecond() - at.as_millisecond()).max(0).to_string());
        let payload = self.signed.and_then(|signed| signed.payload).and_then(Payload::named);
        let creates = match self.operation {
            "PutObject" | "PostObject" | "CopyObject" | "CompleteMultipartUpload" => Some("true"),
            "CreateMultipartUpload" | "UploadPart" | "UploadPartCopy" => Some("false"),
            _ => None,
        };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let owner = owner.to_string();
        for (name, value) in [
            ("s3:authType", place),
            ("s3:signatureversion", version),
            ("s3:signatureAge", age_ms.as_deref()),
            ("s3:x-amz-content-sha256", payload.as_deref()),
            ("s3:ObjectCreationOperation", creates.filter(|_| need.action == "s3:PutObject")),
            ("s3:ResourceAccount", Some(&*owner)),
            ("aws:ResourceAccount", Some(&*owner)),
            ("aws:Referer", header("referer")),
            ("aws:UserAgent", header("user-agent")),
        ] {
            if let Some(value) = value {
                need = need.with(name, vec![value.to_owned()]);
            }
        }
        need
    }
}

/// What has to be known of a bucket before a request to it is authorised.
pub(crate) struct Sides<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) caller: &'a Caller,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) facts: RequestFacts,
    /// The bucket that is named, and that of the source of a copy.
    pub(crate) homes: [Option<(&'a str, &'a NameRow)>; 2],
}

impl Sides<'_> {
    /// Adds what the bucket says to each right that is asked for.
    pub(crate) async fn guard(&self, needs: Vec<Access>) -> Result<Vec<Access>, Error> {
        let mut guarded = Vec::with_capacity(needs.len());
        for mut need in needs {
            let resource = need.resource.strip_prefix("arn:aws:s3:::").unwrap_or_default();
            let (bucket, key) = resource.split_once('/').unwrap_or((resource, ""));
            let home = self.homes.iter().flatten().find(|(name, _)| *name == bucket);
            if let Some((_, home)) = home
                && need.action != "s3:CreateBucket"
            {
                let (bucket, key) = (bucket.to_owned(), key.to_owned());
                let granted = self.is_granted(&bucket, &key, home, &need).await?;
                need = self.describe(&bucket, &key, home, need).await?;
                need.guard = Some(Arc::new(Guard {
                    owner: home.owner,
                    policy: home.policy.clone(),
                    restricted: home.block().restrict_buckets,
                    granted,
                    decisive: false,
                }));
            }
            guarded.push(need);
        }
        Ok(guarded)
    }

    /// Whether the caller has a right.
    pub(crate) async fn may(&self, access: Access) -> Result<bool, aws::Error> {
        let needs = self.guard(vec![access]).await?;
        match self.inner.rights.authorizer.authorize(self.caller, &needs).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind == ErrorKind::Denied => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Adds what policies may ask about the request beyond what it always says.
    async fn describe(
        &self,
        bucket: &str,
        key: &str,
        home: &NameRow,
        mut need: Access,
    ) -> Result<Access, Error> {
        // Of the owner's root nothing is asked but by the bucket's policy.
        if home.policy.is_none() && matches!(self.caller.principal, Principal::Root { .. }) {
            return Ok(need);
        }
        need = self.facts.tell(need, home.owner, self.headers, self.inner.env.now());
        let Some(policy) = &home.policy else { return Ok(need) };
        let asks_tags = policy.to_ascii_lowercase().contains("s3:existingobjecttag/");
        if asks_tags && !key.is_empty() {
            let address =
                Address { owner: home.owner, bucket, key, which: which_version(&need)?, versioned: false };
            match read::find(self.inner, address, false).await {
                Ok(found) => {
                    for (name, value) in found.object.tags {
                        need = need.with(format!("s3:ExistingObjectTag/{name}"), vec![value]);
                    }
                }
                Err(error) if error.kind() == types::ErrorKind::Internal => return Err(error),
                // What is not there has no tags.
                Err(_) => {}
            }
        }
        Ok(need)
    }

    /// Whether an access control list allows it. The owner's own users have rights by policies alone.
    async fn is_granted(
        &self,
        bucket: &str,
        key: &str,
        home: &NameRow,
        need: &Access,
    ) -> Result<bool, Error> {
        let insider = self.caller.account == home.owner
            && !matches!(self.caller.principal, Principal::Anonymous | Principal::Service { .. });
        if insider || home.ownership() == Ownership::BucketOwnerEnforced {
            return Ok(false);
        }
        let (of_object, permission) = match &*need.action {
            "s3:ListBucket" | "s3:ListBucketVersions" | "s3:ListBucketMultipartUploads" => {
                (false, Permission::Read)
            }
            "s3:PutObject" | "s3:DeleteObject" | "s3:AbortMultipartUpload" => (false, Permission::Write),
            "s3:GetBucketAcl" => (false, Permission::ReadAcp),
            "s3:PutBucketAcl" => (false, Permission::WriteAcp),
            "s3:GetObject" | "s3:GetObjectVersion" => (true, Permission::Read),
            "s3:GetObjectAcl" | "s3:GetObjectVersionAcl" => (true, Permission::ReadAcp),
            "s3:PutObjectAcl" | "s3:PutObjectVersionAcl" => (true, Permission::WriteAcp),
            _ => return Ok(false),
        };
        let ignore_public = home.block().ignore_acls;
        let allows = |acl: &[Grant]| {
            acl.iter().any(|grant| {
                let may = grant.permission == permission || grant.permission == Permission::FullControl;
                may && grant.grantee.is(self.caller) && !(ignore_public && grant.grantee.is_public())
            })
        };
        if !of_object {
            return Ok(allows(&home.acl));
        }
        let which = which_version(need)?;
        let address = Address { owner: home.owner, bucket, key, which, versioned: false };
        // Whatever is not there grants nothing.
        Ok(read::find(self.inner, address, false).await.is_ok_and(|found| allows(&found.object.acl)))
    }
}

/// The version that a right is asked for.
fn which_version(need: &Access) -> Result<Which, Error> {
    let version = need.context.iter().find(|(name, _)| name == "s3:VersionId");
    Which::read(version.and_then(|(_, values)| values.first()).map(String::as_str))
}
