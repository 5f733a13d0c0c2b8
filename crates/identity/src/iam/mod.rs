//! The IAM API (IAM API reference, 2010-05-08).
//!
//! One type per operation, or per pair of operations that differ only in acting on a user or a role.

mod access_keys;
mod attachments;
mod inline;
mod input;
mod policies;
mod roles;
mod subject;
mod users;
mod versions;

use std::sync::Arc;

use async_trait::async_trait;
use aws::query::Form;
use aws::{Api, Operation, Protocol, Request};

use crate::call::{BODY_LIMIT, Cx, call};
use crate::tables::HolderKind::{Role, User};
use crate::{Error, Identity};

const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// IAM, as the pipeline sees it.
#[derive(Debug, Clone)]
pub struct IamApi {
    identity: Arc<Identity>,
}

impl IamApi {
    /// Serves what `identity` holds.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity }
    }
}

#[async_trait]
impl Api for IamApi {
    fn signing_name(&self) -> &'static str {
        "iam"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Query
    }

    fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, aws::Error> {
        let body = aws::body::collect(request.body, BODY_LIMIT).await?;
        let mut form = Form::parse(&body);
        let name = form.require("Action")?;
        form.take("Version");
        parse(&name, form, Cx { identity: self.identity.clone(), context: request.context }).await
    }
}

/// Reads the input of the operation `name`. A macro would hide that each line is a name, a type and a kind.
async fn parse(name: &str, form: Form, cx: Cx) -> Result<Box<dyn Operation>, aws::Error> {
    let op = |name: &'static str| ("iam", NAMESPACE, name);
    match name {
        "CreateRole" => call(op("CreateRole"), form, cx, roles::CreateRole::parse).await,
        "GetRole" => call(op("GetRole"), form, cx, |f, _| roles::GetRole::parse(f)).await,
        "ListRoles" => call(op("ListRoles"), form, cx, |f, _| roles::ListRoles::parse(f)).await,
        "DeleteRole" => call(op("DeleteRole"), form, cx, |f, _| subject::Delete::parse(f, Role)).await,
        "UpdateRole" => call(op("UpdateRole"), form, cx, |f, _| roles::UpdateRole::parse(f)).await,
        "UpdateRoleDescription" => {
            call(op("UpdateRoleDescription"), form, cx, |f, _| roles::UpdateRoleDescription::parse(f)).await
        }
        "UpdateAssumeRolePolicy" => {
            call(op("UpdateAssumeRolePolicy"), form, cx, |f, _| roles::UpdateAssumeRolePolicy::parse(f)).await
        }
        "CreateUser" => call(op("CreateUser"), form, cx, users::CreateUser::parse).await,
        "GetUser" => call(op("GetUser"), form, cx, users::GetUser::parse).await,
        "ListUsers" => call(op("ListUsers"), form, cx, |f, _| users::ListUsers::parse(f)).await,
        "DeleteUser" => call(op("DeleteUser"), form, cx, |f, _| subject::Delete::parse(f, User)).await,
        "TagRole" => call(op("TagRole"), form, cx, |f, _| subject::Tag::parse(f, Role)).await,
        "TagUser" => call(op("TagUser"), form, cx, |f, _| subject::Tag::parse(f, User)).await,
        "UntagRole" => call(op("UntagRole"), form, cx, |f, _| subject::Untag::parse(f, Role)).await,
        "UntagUser" => call(op("UntagUser"), form, cx, |f, _| subject::Untag::parse(f, User)).await,
        "ListRoleTags" => call(op("ListRoleTags"), form, cx, |f, _| subject::ListTags::parse(f, Role)).await,
        "ListUserTags" => call(op("ListUserTags"), form, cx, |f, _| subject::ListTags::parse(f, User)).await,
        "PutRolePolicy" => call(op("PutRolePolicy"), form, cx, |f, _| inline::Put::parse(f, Role)).await,
        "PutUserPolicy" => call(op("PutUserPolicy"), form, cx, |f, _| inline::Put::parse(f, User)).await,
        "GetRolePolicy" => call(op("GetRolePolicy"), form, cx, |f, _| inline::Get::parse(f, Role)).await,
        "GetUserPolicy" => call(op("GetUserPolicy"), form, cx, |f, _| inline::Get::parse(f, User)).await,
        "DeleteRolePolicy" => {
            call(op("DeleteRolePolicy"), form, cx, |f, _| inline::Delete::parse(f, Role)).await
        }
        "DeleteUserPolicy" => {
            call(op("DeleteUserPolicy"), form, cx, |f, _| inline::Delete::parse(f, User)).await
        }
        "ListRolePolicies" => {
            call(op("ListRolePolicies"), form, cx, |f, _| inline::List::parse(f, Role)).await
        }
        "ListUserPolicies" => {
            call(op("ListUserPolicies"), form, cx, |f, _| inline::List::parse(f, User)).await
        }
        "AttachRolePolicy" => {
            call(op("AttachRolePolicy"), form, cx, |f, _| attachments::Attach::parse(f, Role)).await
        }
        "AttachUserPolicy" => {
            call(op("AttachUserPolicy"), form, cx, |f, _| attachments::Attach::parse(f, User)).await
        }
        "DetachRolePolicy" => {
            call(op("DetachRolePolicy"), form, cx, |f, _| attachments::Detach::parse(f, Role)).await
        }
        "DetachUserPolicy" => {
            call(op("DetachUserPolicy"), form, cx, |f, _| attachments::Detach::parse(f, User)).await
        }
        "ListAttachedRolePolicies" => {
            call(op("ListAttachedRolePolicies"), form, cx, |f, _| attachments::List::parse(f, Role)).await
        }
        "ListAttachedUserPolicies" => {
            call(op("ListAttachedUserPolicies"), form, cx, |f, _| attachments::List::parse(f, User)).await
        }
        "PutRolePermissionsBoundary" => {
            call(op("PutRolePermissionsBoundary"), form, cx, |f, _| {
                attachments::SetBoundary::parse(f, Role, true)
            })
            .await
        }
        "PutUserPermissionsBoundary" => {
            call(op("PutUserPermissionsBoundary"), form, cx, |f, _| {
                attachments::SetBoundary::parse(f, User, true)
            })
            .await
        }
        "DeleteRolePermissionsBoundary" => {
            call(op("DeleteRolePermissionsBoundary"), form, cx, |f, _| {
                attachments::SetBoundary::parse(f, Role, false)
            })
            .await
        }
        "DeleteUserPermissionsBoundary" => {
            call(op("DeleteUserPermissionsBoundary"), form, cx, |f, _| {
                attachments::SetBoundary::parse(f, User, false)
            })
            .await
        }
        "CreateAccessKey" => call(op("CreateAccessKey"), form, cx, access_keys::Create::parse).await,
        "ListAccessKeys" => call(op("ListAccessKeys"), form, cx, access_keys::List::parse).await,
        "UpdateAccessKey" => call(op("UpdateAccessKey"), form, cx, access_keys::Update::parse).await,
        "DeleteAccessKey" => call(op("DeleteAccessKey"), form, cx, access_keys::Delete::parse).await,
        "CreatePolicy" => call(op("CreatePolicy"), form, cx, policies::Create::parse).await,
        "GetPolicy" => call(op("GetPolicy"), form, cx, |f, _| policies::Get::parse(f)).await,
        "ListPolicies" => call(op("ListPolicies"), form, cx, |f, _| policies::List::parse(f)).await,
        "DeletePolicy" => call(op("DeletePolicy"), form, cx, |f, _| policies::Delete::parse(f)).await,
        "CreatePolicyVersion" => {
            call(op("CreatePolicyVersion"), form, cx, |f, _| versions::Create::parse(f)).await
        }
        "GetPolicyVersion" => call(op("GetPolicyVersion"), form, cx, |f, _| versions::Get::parse(f)).await,
        "ListPolicyVersions" => {
            call(op("ListPolicyVersions"), form, cx, |f, _| versions::List::parse(f)).await
        }
        "SetDefaultPolicyVersion" => {
            call(op("SetDefaultPolicyVersion"), form, cx, |f, _| versions::SetDefault::parse(f)).await
        }
        "DeletePolicyVersion" => {
            call(op("DeletePolicyVersion"), form, cx, |f, _| versions::Delete::parse(f)).await
        }
        other => {
            let message =
                format!("The action {other} is not valid for this endpoint, or not supported here.");
            Err(Error::InvalidAction(message).into())
        }
    }
}
