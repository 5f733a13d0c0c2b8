//! The IAM API.

use crate::node::{Node, document, element, form};

const TRUST: &str = r#"{"Service":"lambda.amazonaws.com"}"#;
const ALLOW: &str = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;

#[tokio::test]
async fn roles_are_made_read_listed_and_deleted() {
    let node = Node::new().await;
    let trust = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"lambda.amazonaws.com"}}}"#;
    let create = form(&[
        ("Action", "CreateRole"),
        ("Version", "2010-05-08"),
        ("RoleName", "Thumb"),
        ("Path", "/app/"),
        ("AssumeRolePolicyDocument", trust),
        ("Description", "makes thumbnails"),
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "a&b"),
    ]);
    let made = node.iam(&create).await.unwrap();
    assert_eq!(element(&made, "Arn"), "arn:aws:iam::000000000000:role/app/Thumb");
    assert!(element(&made, "RoleId").starts_with("AROA"));
    assert!(element(&made, "AssumeRolePolicyDocument").starts_with("%7B%22Statement%22%3A"));
    assert_eq!(node.iam(&create).await.unwrap_err().code, "EntityAlreadyExists");
    // Names are unique without regard to case.
    let error = node.iam(&create.replace("Thumb", "THUMB")).await.unwrap_err();
    assert_eq!((&*error.code, error.status), ("EntityAlreadyExists", 409));

    let got = node.iam("Action=GetRole&RoleName=Thumb").await.unwrap();
    assert_eq!(element(&got, "MaxSessionDuration"), "3600");
    assert_eq!(element(&got, "Value"), "a&amp;b");
    node.iam("Action=UpdateRole&RoleName=Thumb&MaxSessionDuration=7200").await.unwrap();
    let got = node.iam("Action=GetRole&RoleName=Thumb").await.unwrap();
    assert_eq!(element(&got, "MaxSessionDuration"), "7200");
    assert!(!got.contains("<Description>"));

    let error = node.iam("Action=GetRole&RoleName=nobody").await.unwrap_err();
    assert_eq!((&*error.code, error.status), ("NoSuchEntity", 404));
    assert_eq!(error.message, "The role with name nobody cannot be found.");
    node.iam("Action=DeleteRole&RoleName=Thumb").await.unwrap();
    assert_eq!(node.iam("Action=DeleteRole&RoleName=Thumb").await.unwrap_err().code, "NoSuchEntity");
}

#[tokio::test]
async fn what_is_not_supported_or_malformed_is_refused() {
    let node = Node::new().await;
    node.role("r", TRUST, None).await;
    let put = form(&[
        ("Action", "PutRolePolicy"),
        ("RoleName", "r"),
        ("PolicyName", "p"),
        ("PolicyDocument", r#"{"Statement":{"Effect":"Allow","Action":"*"}}"#),
    ]);
    assert_eq!(node.iam(&put).await.unwrap_err().code, "MalformedPolicyDocument");
    assert_eq!(node.iam("Action=GetRole&RoleName=r&Colour=red").await.unwrap_err().code, "ValidationError");
    assert_eq!(node.iam("Action=GetRole&RoleName=a%2Fb").await.unwrap_err().code, "ValidationError");
    assert_eq!(node.iam("Action=GetRole").await.unwrap_err().code, "MissingParameter");
    assert_eq!(node.iam("Action=CreateGroup&GroupName=g").await.unwrap_err().code, "InvalidAction");
    let attach = form(&[
        ("Action", "AttachRolePolicy"),
        ("RoleName", "r"),
        ("PolicyArn", "arn:aws:iam::aws:policy/NoSuchPolicy"),
    ]);
    assert_eq!(node.iam(&attach).await.unwrap_err().code, "NoSuchEntity");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let node = Node::new().await;
    for i in 0..7 {
        node.role(&format!("r{i}"), TRUST, None).await;
    }
    let (mut names, mut marker) = (Vec::new(), String::new());
    loop {
        let page = node.iam(&format!("Action=ListRoles&MaxItems=3{marker}")).await.unwrap();
        names.extend(page.split("<RoleName>").skip(1).map(|rest| rest[..2].to_owned()));
        if element(&page, "IsTruncated") == "false" {
            break;
        }
        marker = format!("&Marker={}", element(&page, "Marker"));
    }
    assert_eq!(names, ["r0", "r1", "r2", "r3", "r4", "r5", "r6"]);
}

#[tokio::test]
async fn managed_policies_have_versions_and_holders() {
    let node = Node::new().await;
    node.role("fn", TRUST, None).await;
    let arn = "arn:aws:iam::000000000000:policy/p";
    let create =
        form(&[("Action", "CreatePolicy"), ("PolicyName", "p"), ("PolicyDocument", &document(ALLOW))]);
    assert_eq!(element(&node.iam(&create).await.unwrap(), "Arn"), arn);
    let on = |action: &str, more: &[(&str, &str)]| {
        let mut parameters = vec![("Action", action), ("PolicyArn", arn)];
        parameters.extend(more);
        form(&parameters)
    };
    node.iam(&on("AttachRolePolicy", &[("RoleName", "fn")])).await.unwrap();
    node.iam(&on("AttachRolePolicy", &[("RoleName", "fn")])).await.unwrap();
    assert_eq!(element(&node.iam(&on("GetPolicy", &[])).await.unwrap(), "AttachmentCount"), "1");
    assert_eq!(node.iam(&on("DeletePolicy", &[])).await.unwrap_err().code, "DeleteConflict");
    assert_eq!(node.iam("Action=DeleteRole&RoleName=fn").await.unwrap_err().code, "DeleteConflict");
    let attached = node.iam("Action=ListAttachedRolePolicies&RoleName=fn").await.unwrap();
    assert_eq!(element(&attached, "PolicyName"), "p");

    let deny = document(r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#);
    for _ in 0..4 {
        node.iam(&on("CreatePolicyVersion", &[("PolicyDocument", &deny)])).await.unwrap();
    }
    let error = node.iam(&on("CreatePolicyVersion", &[("PolicyDocument", &deny)])).await.unwrap_err();
    assert_eq!((&*error.code, error.status), ("LimitExceeded", 409));
    node.iam(&on("SetDefaultPolicyVersion", &[("VersionId", "v3")])).await.unwrap();
    assert_eq!(element(&node.iam(&on("GetPolicy", &[])).await.unwrap(), "DefaultVersionId"), "v3");
    let default = node.iam(&on("DeletePolicyVersion", &[("VersionId", "v3")])).await.unwrap_err();
    assert_eq!(default.code, "DeleteConflict");
    let got = node.iam(&on("GetPolicyVersion", &[("VersionId", "v1")])).await.unwrap();
    assert_eq!(element(&got, "IsDefaultVersion"), "false");
    node.iam(&on("DetachRolePolicy", &[("RoleName", "fn")])).await.unwrap();
    assert_eq!(node.iam(&on("DeletePolicy", &[])).await.unwrap_err().code, "DeleteConflict");
    for version in ["v1", "v2", "v4", "v5"] {
        node.iam(&on("DeletePolicyVersion", &[("VersionId", version)])).await.unwrap();
    }
    node.iam(&on("DeletePolicy", &[])).await.unwrap();
    assert_eq!(node.iam(&on("GetPolicy", &[])).await.unwrap_err().code, "NoSuchEntity");

    let aws = node.iam("Action=ListPolicies&Scope=AWS&MaxItems=1000").await.unwrap();
    assert!(aws.contains("arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"));
}

#[tokio::test]
async fn users_have_keys_that_work_at_once_and_no_longer_than_they_should() {
    let node = Node::new().await;
    node.iam("Action=CreateUser&UserName=ann").await.unwrap();
    let made = node.iam("Action=CreateAccessKey&UserName=ann").await.unwrap();
    let id = element(&made, "AccessKeyId").to_owned();
    let ann = node.caller_of(&id, None).await.unwrap();
    assert!(!node.allowed(&ann, "s3:GetObject", "arn:aws:s3:::b/k").await);
    let put = form(&[
        ("Action", "PutUserPolicy"),
        ("UserName", "ann"),
        ("PolicyName", "p"),
        ("PolicyDocument", &document(ALLOW)),
    ]);
    node.iam(&put).await.unwrap();
    assert!(node.allowed(&ann, "s3:GetObject", "arn:aws:s3:::b/k").await);
    assert_eq!(node.iam_as(&ann, "Action=ListUsers").await.unwrap_err().code, "AccessDeniedException");

    node.iam("Action=CreateAccessKey&UserName=ann").await.unwrap();
    assert_eq!(node.iam("Action=CreateAccessKey&UserName=ann").await.unwrap_err().code, "LimitExceeded");
    node.iam(&format!("Action=UpdateAccessKey&UserName=ann&AccessKeyId={id}&Status=Inactive")).await.unwrap();
    assert!(node.caller_of(&id, None).await.is_none());
    node.iam(&format!("Action=UpdateAccessKey&UserName=ann&AccessKeyId={id}&Status=Active")).await.unwrap();
    assert!(node.caller_of(&id, None).await.is_some());
    let listed = node.iam("Action=ListAccessKeys&UserName=ann").await.unwrap();
    assert_eq!(listed.matches("<AccessKeyId>").count(), 2);
    assert!(!listed.contains("SecretAccessKey"));
    assert_eq!(node.iam("Action=DeleteUser&UserName=ann").await.unwrap_err().code, "DeleteConflict");
    node.iam(&format!("Action=DeleteAccessKey&UserName=ann&AccessKeyId={id}")).await.unwrap();
    assert!(node.caller_of(&id, None).await.is_none());
    // A key of somebody else's can not be reached through a user.
    let root = node.identity.root_key().access_key_id.clone();
    let error =
        node.iam(&format!("Action=DeleteAccessKey&UserName=ann&AccessKeyId={root}")).await.unwrap_err();
    assert_eq!(error.code, "NoSuchEntity");
}

#[tokio::test]
async fn paths_count_when_rights_are_asked_for() {
    let node = Node::new().await;
    let trust = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"lambda.amazonaws.com"}}}"#;
    let create = form(&[
        ("Action", "CreateRole"),
        ("RoleName", "boss"),
        ("Path", "/admin/"),
        ("AssumeRolePolicyDocument", trust),
    ]);
    node.iam(&create).await.unwrap();
    node.role("fn", r#"{"AWS":"000000000000"}"#, None).await;
    node.role_policy("fn", "a", r#"{"Effect":"Allow","Action":"iam:*","Resource":"*"}"#).await;
    node.role_policy("fn", "d", r#"{"Effect":"Deny","Action":"*","Resource":"arn:aws:iam::*:role/admin/*"}"#)
        .await;
    let assume = form(&[
        ("Action", "AssumeRole"),
        ("RoleArn", "arn:aws:iam::000000000000:role/fn"),
        ("RoleSessionName", "me"),
    ]);
    let session = node.sts_as(&node.root(), &assume).await.unwrap();
    let (id, token) = (element(&session, "AccessKeyId"), element(&session, "SessionToken"));
    let caller = node.caller_of(id, Some(token)).await.unwrap();
    assert!(node.iam_as(&caller, "Action=GetRole&RoleName=fn").await.is_ok());
    let error = node.iam_as(&caller, "Action=GetRole&RoleName=boss").await.unwrap_err();
    assert!(error.message.contains("role/admin/boss with an explicit deny"), "{}", error.message);
}
