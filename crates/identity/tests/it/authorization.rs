//! Keys, sessions and what they may do.

use std::time::Duration;

use aws::{Access, Authorizer, Caller, CredentialSource, RoleSource};
use identity::{Config, Identity, KeyPair};
use types::{AccountId, ErrorKind, Principal};

use crate::node::{Node, document, form};

const LAMBDA: &str = r#"{"Service":"lambda.amazonaws.com"}"#;

async fn function_role(node: &Node) -> (Caller, aws::TemporaryCredentials) {
    let arn = "arn:aws:iam::000000000000:role/fn";
    let hour = Duration::from_secs(3600);
    let keys =
        node.identity.assume(AccountId::DEFAULT, arn, "fn", "lambda.amazonaws.com", hour).await.unwrap();
    let caller = node.caller_of(&keys.access_key_id, Some(&keys.session_token)).await.unwrap();
    (caller, keys)
}

#[tokio::test]
async fn the_roots_key_is_kept_and_can_be_replaced() {
    let node = Node::new().await;
    let made = node.identity.root_key().clone();
    assert_eq!(made.secret_access_key.len(), 40);
    let again = Identity::open(node.store.clone(), node.env.clone(), Config::default()).await.unwrap();
    assert_eq!(again.root_key(), &made);

    let given =
        KeyPair { access_key_id: "AKIAGIVEN00000000000".into(), secret_access_key: "given-secret".into() };
    let config = Config { root_key: Some(given.clone()), ..Config::default() };
    let replaced = Identity::open(node.store.clone(), node.env.clone(), config).await.unwrap();
    assert!(replaced.find(&made.access_key_id, None).await.unwrap().is_none());
    let found = replaced.find(&given.access_key_id, None).await.unwrap().unwrap();
    assert_eq!(found.secret_access_key, "given-secret");
    assert_eq!(found.principal, Principal::Root { account: AccountId::DEFAULT });
    let kept = Identity::open(node.store.clone(), node.env.clone(), Config::default()).await.unwrap();
    assert_eq!(kept.root_key(), &given);

    let other = identity::RootAccount("000000000009".parse().unwrap());
    let config = Config { root_account: other, ..Config::default() };
    assert!(Identity::open(node.store.clone(), node.env.clone(), config).await.is_err());
    assert!(!format!("{given:?} {found:?}").contains("given-secret"));
}

#[tokio::test]
async fn a_function_has_what_its_role_grants_until_the_role_is_gone() {
    let node = Node::new().await;
    let table = "arn:aws:dynamodb:us-east-1:000000000000:table/t";
    node.role("fn", LAMBDA, None).await;
    let (caller, keys) = function_role(&node).await;
    assert!(node.identity.find(&keys.access_key_id, None).await.unwrap().is_none());
    assert!(node.identity.find("ASIAOTHER00000000000", Some(&keys.session_token)).await.unwrap().is_none());

    let error =
        node.identity.authorize(&caller, &[Access::new("dynamodb:PutItem", table)]).await.unwrap_err();
    assert_eq!((error.kind, &*error.code), (ErrorKind::Denied, "AccessDeniedException"));
    assert_eq!(
        error.message,
        "User: arn:aws:sts::000000000000:assumed-role/fn/fn is not authorized to perform: dynamodb:PutItem on \
         resource: arn:aws:dynamodb:us-east-1:000000000000:table/t because no identity-based policy allows the \
         dynamodb:PutItem action"
    );

    // A change is in force when it is acknowledged.
    node.role_policy(
        "fn",
        "p",
        &format!(r#"{{"Effect":"Allow","Action":"dynamodb:*","Resource":"{table}"}}"#),
    )
    .await;
    assert!(node.allowed(&caller, "dynamodb:PutItem", table).await);
    assert!(!node.allowed(&caller, "dynamodb:PutItem", &format!("{table}2")).await);
    node.role_policy("fn", "q", r#"{"Effect":"Deny","Action":"dynamodb:PutItem","Resource":"*"}"#).await;
    let error =
        node.identity.authorize(&caller, &[Access::new("dynamodb:PutItem", table)]).await.unwrap_err();
    assert!(
        error.message.ends_with("with an explicit deny in an identity-based policy"),
        "{}",
        error.message
    );
    node.iam("Action=DeleteRolePolicy&RoleName=fn&PolicyName=q").await.unwrap();
    assert!(node.allowed(&caller, "dynamodb:PutItem", table).await);

    // A role of the same name that is made later is another one.
    node.iam("Action=DeleteRolePolicy&RoleName=fn&PolicyName=p").await.unwrap();
    node.iam("Action=DeleteRole&RoleName=fn").await.unwrap();
    assert!(!node.allowed(&caller, "dynamodb:PutItem", table).await);
    node.role("fn", LAMBDA, Some(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#)).await;
    assert!(!node.allowed(&caller, "dynamodb:PutItem", table).await);
    let (caller, _) = function_role(&node).await;
    assert!(node.allowed(&caller, "dynamodb:PutItem", table).await);
}

#[tokio::test]
async fn services_assume_only_roles_that_trust_them() {
    let node = Node::new().await;
    node.role("fn", LAMBDA, None).await;
    let assume = async |account, arn, service| {
        node.identity.assume(account, arn, "s", service, Duration::from_secs(900)).await.map_err(|e| e.kind)
    };
    let (own, arn) = (AccountId::DEFAULT, "arn:aws:iam::000000000000:role/fn");
    assert!(assume(own, arn, "lambda.amazonaws.com").await.is_ok());
    assert_eq!(assume(own, arn, "s3.amazonaws.com").await.unwrap_err(), ErrorKind::Denied);
    let nobody = "arn:aws:iam::000000000000:role/nobody";
    assert_eq!(assume(own, nobody, "lambda.amazonaws.com").await.unwrap_err(), ErrorKind::Invalid);
    let other = "000000000009".parse().unwrap();
    assert_eq!(assume(other, arn, "lambda.amazonaws.com").await.unwrap_err(), ErrorKind::Invalid);
}

#[tokio::test]
async fn the_root_may_do_everything_in_its_account_only() {
    let node = Node::new().await;
    let root = node.root();
    assert!(node.allowed(&root, "dynamodb:PutItem", "arn:aws:dynamodb:us-east-1:000000000000:table/t").await);
    assert!(node.allowed(&root, "s3:PutObject", "arn:aws:s3:::b/k").await);
    assert!(
        !node.allowed(&root, "dynamodb:PutItem", "arn:aws:dynamodb:us-east-1:000000000009:table/t").await
    );
}

#[tokio::test]
async fn boundaries_and_session_policies_narrow() {
    let node = Node::new().await;
    node.role("fn", LAMBDA, Some(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#)).await;
    let (mut caller, _) = function_role(&node).await;
    assert!(node.allowed(&caller, "s3:GetObject", "arn:aws:s3:::b/k").await);
    caller.session_policy = Some(document(r#"{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}"#));
    assert!(node.allowed(&caller, "s3:GetObject", "arn:aws:s3:::b/k").await);
    let error = node.identity.authorize(&caller, &[Access::new("s3:PutObject", "arn:aws:s3:::b/k")]).await;
    assert!(error.unwrap_err().message.ends_with("because no session policy allows the s3:PutObject action"));
    caller.session_policy = None;

    let boundary = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess";
    let put = form(&[
        ("Action", "PutRolePermissionsBoundary"),
        ("RoleName", "fn"),
        ("PermissionsBoundary", boundary),
    ]);
    node.iam(&put).await.unwrap();
    assert!(node.allowed(&caller, "s3:GetObject", "arn:aws:s3:::b/k").await);
    let error = node.identity.authorize(&caller, &[Access::new("s3:PutObject", "arn:aws:s3:::b/k")]).await;
    assert!(
        error
            .unwrap_err()
            .message
            .ends_with("because no permissions boundary allows the s3:PutObject action")
    );
    node.iam("Action=DeleteRolePermissionsBoundary&RoleName=fn").await.unwrap();
    assert!(node.allowed(&caller, "s3:PutObject", "arn:aws:s3:::b/k").await);
}
