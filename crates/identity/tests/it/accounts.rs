//! More accounts.

use aws::{Authorizer, Caller};
use http_body_util::BodyExt;
use types::Principal;

use crate::node::Node;

async fn native(
    node: &Node,
    caller: &Caller,
    method: &str,
    body: &str,
) -> Result<serde_json::Value, aws::Error> {
    let request = node.request(caller, method, "/_hawker/accounts", body.to_owned());
    let operation = node.identity.native(request).await?;
    node.identity.authorize(caller, &operation.access()).await?;
    let body = operation.handle().await?.into_body().collect().await.unwrap().to_bytes();
    Ok(serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn the_first_root_makes_accounts_and_nobody_else_does() {
    let node = Node::new().await;
    let root = node.root();
    let made = native(&node, &root, "POST", r#"{"accountId":"000000000042"}"#).await.unwrap();
    let other = node.caller_of(made["accessKeyId"].as_str().unwrap(), None).await.unwrap();
    assert_eq!(other.principal, Principal::Root { account: "000000000042".parse().unwrap() });
    assert!(
        node.allowed(&other, "dynamodb:PutItem", "arn:aws:dynamodb:us-east-1:000000000042:table/t").await
    );
    assert!(
        !node.allowed(&other, "dynamodb:PutItem", "arn:aws:dynamodb:us-east-1:000000000000:table/t").await
    );

    let again = native(&node, &root, "POST", r#"{"accountId":"000000000042"}"#).await.unwrap_err();
    assert_eq!(again.code, "EntityAlreadyExists");
    let chosen = r#"{"accessKeyId":"AKIACHOSEN0000000000","secretAccessKey":"chosen-secret"}"#;
    let made = native(&node, &root, "POST", chosen).await.unwrap();
    assert_eq!(made["accountId"].as_str().unwrap().len(), 12);
    assert!(native(&node, &root, "POST", chosen).await.is_err());
    assert!(native(&node, &root, "POST", r#"{"colour":"red"}"#).await.is_err());

    let listed = native(&node, &root, "GET", "").await.unwrap();
    assert_eq!(listed["accounts"].as_array().unwrap().len(), 3);
    assert!(!listed.to_string().contains("ecret"));
    assert!(native(&node, &other, "GET", "").await.is_err());
    assert!(native(&node, &other, "POST", "{}").await.is_err());
}
