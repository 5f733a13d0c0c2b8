//! The STS API.

use types::{AccountId, Principal};

use crate::node::{Node, element, form};

fn assume(role: &str, more: &[(&str, &str)]) -> String {
    let arn = format!("arn:aws:iam::000000000000:role/{role}");
    let mut parameters = vec![("Action", "AssumeRole"), ("RoleArn", arn.as_str()), ("RoleSessionName", "me")];
    parameters.extend(more);
    form(&parameters)
}

#[tokio::test]
async fn everybody_may_ask_who_they_are() {
    let node = Node::new().await;
    let root = node.sts_as(&node.root(), "Action=GetCallerIdentity&Version=2011-06-15").await.unwrap();
    assert_eq!(element(&root, "Arn"), "arn:aws:iam::000000000000:root");
    assert!(root.contains("xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\""));
    node.role("r", r#"{"AWS":"000000000000"}"#, None).await;
    let session = node.sts_as(&node.root(), &assume("r", &[])).await.unwrap();
    let caller = node
        .caller_of(element(&session, "AccessKeyId"), Some(element(&session, "SessionToken")))
        .await
        .unwrap();
    let who = node.sts_as(&caller, "Action=GetCallerIdentity").await.unwrap();
    assert_eq!(element(&who, "Arn"), "arn:aws:sts::000000000000:assumed-role/r/me");
    assert!(element(&who, "UserId").starts_with("AROA") && element(&who, "UserId").ends_with(":me"));
}

#[tokio::test]
async fn a_role_is_assumed_if_it_trusts_and_the_caller_may() {
    let node = Node::new().await;
    node.iam("Action=CreateUser&UserName=ann").await.unwrap();
    let made = node.iam("Action=CreateAccessKey&UserName=ann").await.unwrap();
    let ann = node.caller_of(element(&made, "AccessKeyId"), None).await.unwrap();
    node.role("account", r#"{"AWS":"000000000000"}"#, None).await;
    node.role("ann", r#"{"AWS":"arn:aws:iam::000000000000:user/ann"}"#, None).await;
    node.role("service", r#"{"Service":"lambda.amazonaws.com"}"#, None).await;

    let denied = node.sts_as(&ann, &assume("account", &[])).await.unwrap_err();
    assert_eq!((&*denied.code, denied.status), ("AccessDenied", 403));
    assert!(node.sts_as(&ann, &assume("ann", &[])).await.is_ok());
    assert!(node.sts_as(&ann, &assume("service", &[])).await.is_err());
    assert!(node.sts_as(&node.root(), &assume("service", &[])).await.is_err());
    let nobody = node.sts_as(&ann, &assume("nobody", &[])).await.unwrap_err();
    assert_eq!(nobody.code, "AccessDenied");

    let allow = crate::node::document(r#"{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}"#);
    let put = form(&[
        ("Action", "PutUserPolicy"),
        ("UserName", "ann"),
        ("PolicyName", "p"),
        ("PolicyDocument", &allow),
    ]);
    node.iam(&put).await.unwrap();
    assert!(node.sts_as(&ann, &assume("account", &[])).await.is_ok());
    assert!(node.sts_as(&ann, &assume("service", &[])).await.is_err());

    let stranger = Node::caller(Principal::Root { account: "000000000009".parse().unwrap() });
    assert!(node.sts_as(&stranger, &assume("account", &[])).await.is_err());
    assert!(node.sts_as(&ann, &assume("ann", &[("DurationSeconds", "7200")])).await.is_err());
    assert!(node.sts_as(&ann, &assume("ann", &[("SerialNumber", "x")])).await.is_err());
    assert_eq!(ann.account, AccountId::DEFAULT);
}

#[tokio::test]
async fn external_ids_are_seen_by_trust_policies() {
    let node = Node::new().await;
    let trust = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"000000000000"},
        "Condition":{"StringEquals":{"sts:ExternalId":"42"}}}}"#;
    node.iam(&form(&[("Action", "CreateRole"), ("RoleName", "r"), ("AssumeRolePolicyDocument", trust)]))
        .await
        .unwrap();
    assert!(node.sts_as(&node.root(), &assume("r", &[])).await.is_err());
    assert!(node.sts_as(&node.root(), &assume("r", &[("ExternalId", "41")])).await.is_err());
    assert!(node.sts_as(&node.root(), &assume("r", &[("ExternalId", "42")])).await.is_ok());
}

#[tokio::test]
async fn a_session_of_a_user_has_the_users_rights() {
    let node = Node::new().await;
    node.iam("Action=CreateUser&UserName=ann").await.unwrap();
    let made = node.iam("Action=CreateAccessKey&UserName=ann").await.unwrap();
    let ann = node.caller_of(element(&made, "AccessKeyId"), None).await.unwrap();
    let session = node.sts_as(&ann, "Action=GetSessionToken").await.unwrap();
    let (id, token) = (element(&session, "AccessKeyId"), element(&session, "SessionToken"));
    let caller = node.caller_of(id, Some(token)).await.unwrap();
    assert_eq!(caller.principal, ann.principal);
    assert!(node.sts_as(&caller, "Action=GetSessionToken").await.is_err());
}
