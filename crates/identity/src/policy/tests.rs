//! Evaluation against tables of cases, and the matcher against a naive one.

use std::borrow::Cow;

use aws::Origin;
use proptest::prelude::*;
use types::{AccountId, Principal, Timestamp};

use super::pattern::{Elem, Pattern, Syntax, glob};
use super::{Context, Decision, Kind, Policy, evaluate_all};

/// The definition of matching: slow, and plainly right.
fn naive(elems: &[Elem], text: &[char]) -> bool {
    match (elems.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((Elem::Many, rest)), _) => (0..=text.len()).any(|n| naive(rest, &text[n..])),
        (Some((Elem::One, rest)), Some((_, tail))) => naive(rest, tail),
        (Some((Elem::Char(want), rest)), Some((c, tail))) => want == c && naive(rest, tail),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn elem() -> impl Strategy<Value = Elem> {
    prop_oneof![
        prop_oneof![Just('a'), Just('b'), Just('é')].prop_map(Elem::Char),
        Just(Elem::One),
        Just(Elem::Many)
    ]
}

proptest! {
    #[test]
    fn globs_match_as_defined(elems in proptest::collection::vec(elem(), 0..8), text in "[abé]{0,10}") {
        let chars: Vec<char> = text.chars().collect();
        let expected = naive(&elems, &chars);
        prop_assert_eq!(glob(&elems, &text), expected);
        let pattern: String = elems.iter().map(|e| match e {
            Elem::Char(c) => *c,
            Elem::One => '?',
            Elem::Many => '*',
        }).collect();
        let syntax = Syntax { wildcards: true, variables: true, fold: false };
        prop_assert_eq!(Pattern::compile(&pattern, syntax).unwrap().matches_plain(&text), expected);
    }

    #[test]
    fn any_text_is_refused_or_compiles(text in ".{0,200}") {
        let _ = Policy::parse(&text, Kind::Identity);
        let syntax = Syntax { wildcards: true, variables: true, fold: true };
        let _ = Pattern::compile(&text, syntax);
    }
}

#[test]
fn many_stars_take_no_exponential_time() {
    let elems = [[Elem::Many, Elem::Char('a')].repeat(500), vec![Elem::Char('b')]].concat();
    assert!(!glob(&elems, &"a".repeat(2000)));
}

/// A request of the user `ann` to be evaluated.
struct Case<'a> {
    action: &'a str,
    resource: &'a str,
    keys: Vec<(Cow<'static, str>, Vec<String>)>,
}

fn ann() -> Principal {
    Principal::User { account: AccountId::DEFAULT, name: "ann".into(), id: "AIDAANN".into() }
}

fn with_context<T>(principal: &Principal, case: &Case<'_>, run: impl FnOnce(&Context<'_>) -> T) -> T {
    let arn = match principal {
        Principal::AssumedRole { role, .. } => format!("arn:aws:iam::000000000000:role/{role}"),
        other => other.arn(),
    };
    let origin = Origin::Network("10.1.2.3".parse().unwrap());
    let action = case.action.to_ascii_lowercase();
    run(&Context {
        principal,
        principal_arn: &arn,
        tags: None,
        origin: &origin,
        action: &action,
        resource: case.resource,
        keys: &case.keys,
        now: "2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap(),
        region: "us-east-1",
    })
}

fn statement(text: &str) -> Policy {
    let document = format!(r#"{{"Version":"2012-10-17","Statement":{text}}}"#);
    Policy::parse(&document, Kind::Identity).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn decide(policies: &[&str], action: &str, resource: &str) -> Decision {
    let policies: Vec<_> = policies.iter().map(|p| statement(p)).collect();
    let case = Case { action, resource, keys: Vec::new() };
    with_context(&ann(), &case, |context| evaluate_all(&policies, context))
}

#[test]
fn a_denial_wins_over_an_allowance_and_silence_denies() {
    let allow = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;
    let deny = r#"[{"Effect":"Deny","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::b/*"}]"#;
    for (policies, action, resource, expected) in [
        (vec![], "s3:GetObject", "arn:aws:s3:::b/k", Decision::Default),
        (vec![allow], "s3:GetObject", "arn:aws:s3:::b/k", Decision::Allow),
        (vec![allow], "S3:getobject", "arn:aws:s3:::b/k", Decision::Allow),
        (vec![allow], "sqs:SendMessage", "*", Decision::Default),
        (vec![allow, deny], "s3:DeleteObject", "arn:aws:s3:::b/k", Decision::Deny),
        (vec![deny, allow], "s3:DeleteObject", "arn:aws:s3:::b/k", Decision::Deny),
        (vec![deny, allow], "s3:DeleteObject", "arn:aws:s3:::c/k", Decision::Allow),
        (
            vec![r#"{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}"#],
            "iam:GetUser",
            "*",
            Decision::Default,
        ),
        (vec![r#"{"Effect":"Allow","NotAction":["iam:*"],"Resource":"*"}"#], "s3:X", "*", Decision::Allow),
        (
            vec![r#"{"Effect":"Allow","Action":"*","NotResource":"arn:aws:s3:::secret*"}"#],
            "s3:GetObject",
            "arn:aws:s3:::secrets/k",
            Decision::Default,
        ),
        (
            vec![r#"{"Effect":"Allow","Action":"s3:Get?bject","Resource":"arn:aws:s3:::${aws:username}/*"}"#],
            "s3:GetObject",
            "arn:aws:s3:::ann/k",
            Decision::Allow,
        ),
        (
            vec![r#"{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::${aws:username}/*"}"#],
            "s3:GetObject",
            "arn:aws:s3:::bob/k",
            Decision::Default,
        ),
        (
            vec![r#"{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${*}"}"#],
            "s3:GetObject",
            "arn:aws:s3:::b/k",
            Decision::Default,
        ),
        (
            vec![
                r#"{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:PrincipalTag/team, 'none'}"}"#,
            ],
            "s3:ListBucket",
            "arn:aws:s3:::none",
            Decision::Allow,
        ),
        (
            vec![r#"{"Effect":"Allow","Action":"*","NotResource":"arn:aws:s3:::${aws:PrincipalTag/team}"}"#],
            "s3:ListBucket",
            "arn:aws:s3:::none",
            Decision::Default,
        ),
    ] {
        assert_eq!(decide(&policies, action, resource), expected, "{policies:?} {action} {resource}");
    }
}

#[test]
fn variables_are_text_before_2012() {
    let document = r#"{"Version":"2008-10-17","Statement":
        {"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::${aws:username}"}}"#;
    let policy = Policy::parse(document, Kind::Identity).unwrap();
    for (resource, expected) in
        [("arn:aws:s3:::ann", Decision::Default), ("arn:aws:s3:::${aws:username}", Decision::Allow)]
    {
        let case = Case { action: "s3:ListBucket", resource, keys: Vec::new() };
        assert_eq!(with_context(&ann(), &case, |context| policy.evaluate(context)), expected);
    }
}

#[test]
fn conditions_hold_as_documented() {
    let keys = vec![
        ("s3:prefix".into(), vec!["photos/cat".to_owned()]),
        ("x:n".into(), vec!["10".to_owned()]),
        ("x:flag".into(), vec!["True".to_owned()]),
        ("x:bin".into(), vec!["aGk=".to_owned()]),
        ("x:arn".into(), vec!["arn:aws:sns:us-east-1:000000000000:topic:a".to_owned()]),
        ("dynamodb:LeadingKeys".into(), vec!["ann".to_owned(), "shared".to_owned()]),
        ("x:empty".into(), vec![]),
    ];
    for (condition, expected) in [
        (r#"{"StringEquals":{"s3:prefix":"photos/cat"}}"#, true),
        (r#"{"StringEquals":{"S3:Prefix":["x","photos/cat"]}}"#, true),
        (r#"{"StringEquals":{"s3:prefix":"photos/*"}}"#, false),
        (r#"{"StringNotEquals":{"s3:prefix":"photos/cat"}}"#, false),
        (r#"{"StringNotEquals":{"x:missing":"a"}}"#, true),
        (r#"{"StringEquals":{"x:missing":"a"}}"#, false),
        (r#"{"StringEqualsIfExists":{"x:missing":"a"}}"#, true),
        (r#"{"StringEqualsIfExists":{"s3:prefix":"a"}}"#, false),
        (r#"{"StringEqualsIgnoreCase":{"s3:prefix":"PHOTOS/CAT"}}"#, true),
        (r#"{"StringNotEqualsIgnoreCase":{"s3:prefix":"PHOTOS/CAT"}}"#, false),
        (r#"{"StringLike":{"s3:prefix":["x","photos/*"]}}"#, true),
        (r#"{"StringLike":{"s3:prefix":"photos/${aws:username}*"}}"#, false),
        (r#"{"StringNotLike":{"s3:prefix":"photos/*"}}"#, false),
        (r#"{"StringEquals":{"aws:username":"ann"}}"#, true),
        (r#"{"StringEquals":{"aws:userid":"AIDAANN"}}"#, true),
        (r#"{"StringEquals":{"aws:PrincipalAccount":"000000000000"}}"#, true),
        (r#"{"StringEquals":{"aws:PrincipalType":"User"}}"#, true),
        (r#"{"StringEquals":{"aws:RequestedRegion":"us-east-1"}}"#, true),
        (r#"{"NumericEquals":{"x:n":10}}"#, true),
        (r#"{"NumericLessThan":{"x:n":"10.5"}}"#, true),
        (r#"{"NumericLessThanEquals":{"x:n":"9"}}"#, false),
        (r#"{"NumericGreaterThan":{"x:n":"10"}}"#, false),
        (r#"{"NumericGreaterThanEquals":{"x:n":"10"}}"#, true),
        (r#"{"NumericNotEquals":{"x:n":"10"}}"#, false),
        (r#"{"NumericEquals":{"s3:prefix":"10"}}"#, false),
        (r#"{"DateGreaterThan":{"aws:CurrentTime":"2026-11-23T11:59:59Z"}}"#, true),
        (r#"{"DateLessThan":{"aws:CurrentTime":"2026-11-23"}}"#, false),
        (r#"{"DateGreaterThanEquals":{"aws:EpochTime":"1700000000"}}"#, true),
        (r#"{"Bool":{"x:flag":"true"}}"#, true),
        (r#"{"Bool":{"aws:SecureTransport":"true"}}"#, false),
        (r#"{"Bool":{"aws:SecureTransport":false}}"#, true),
        (r#"{"BinaryEquals":{"x:bin":"aGk="}}"#, true),
        (r#"{"IpAddress":{"aws:SourceIp":["192.168.0.0/16","10.0.0.0/8"]}}"#, true),
        (r#"{"IpAddress":{"aws:SourceIp":"10.1.2.4"}}"#, false),
        (r#"{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}"#, true),
        (r#"{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#, false),
        (r#"{"IpAddress":{"aws:SourceIp":"::/0"}}"#, false),
        (r#"{"ArnEquals":{"x:arn":"arn:aws:sns:*:000000000000:topic:*"}}"#, true),
        (r#"{"ArnLike":{"x:arn":"arn:aws:sns:*:topic:a:b:c"}}"#, false),
        (r#"{"ArnNotLike":{"x:arn":"arn:aws:sns:us-east-1:*:topic*"}}"#, false),
        (r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/a??"}}"#, true),
        (r#"{"Null":{"x:missing":"true"}}"#, true),
        (r#"{"Null":{"x:n":"true"}}"#, false),
        (r#"{"Null":{"x:n":"false"}}"#, true),
        (r#"{"ForAllValues:StringEquals":{"dynamodb:LeadingKeys":["ann","shared"]}}"#, true),
        (r#"{"ForAllValues:StringEquals":{"dynamodb:LeadingKeys":["${aws:username}"]}}"#, false),
        (r#"{"ForAnyValue:StringEquals":{"dynamodb:LeadingKeys":["${aws:username}"]}}"#, true),
        (r#"{"ForAnyValue:StringEquals":{"x:missing":["a"]}}"#, false),
        (r#"{"ForAllValues:StringEquals":{"x:missing":["a"]}}"#, true),
        (r#"{"ForAllValues:StringEquals":{"x:empty":["a"]}}"#, true),
        (r#"{"ForAllValues:StringNotEquals":{"dynamodb:LeadingKeys":["ann"]}}"#, false),
        (r#"{"ForAnyValue:StringNotEquals":{"dynamodb:LeadingKeys":["ann"]}}"#, true),
        // All operators and keys must hold.
        (r#"{"NumericEquals":{"x:n":10},"StringEquals":{"x:missing":"a"}}"#, false),
        (r#"{"StringEquals":{"s3:prefix":"photos/cat","aws:username":"bob"}}"#, false),
    ] {
        let policy = statement(&format!(
            r#"{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}}}"#
        ));
        let case = Case { action: "s3:ListBucket", resource: "arn:aws:s3:::b", keys: keys.clone() };
        let allowed = with_context(&ann(), &case, |context| policy.evaluate(context)) == Decision::Allow;
        assert_eq!(allowed, expected, "{condition}");
    }
}

#[test]
fn documents_that_iam_refuses_are_refused() {
    for (kind, statement) in [
        (Kind::Identity, r#"{"Effect":"Allow","Action":"s3:*"}"#),
        (Kind::Identity, r#"{"Effect":"Maybe","Action":"s3:*","Resource":"*"}"#),
        (Kind::Identity, r#"{"Effect":"Allow","Action":"s3","Resource":"*"}"#),
        (Kind::Identity, r#"{"Effect":"Allow","Action":"s3:*","Resource":"bucket"}"#),
        (Kind::Identity, r#"{"Effect":"Allow","Action":"s3:*","NotAction":"s3:x","Resource":"*"}"#),
        (Kind::Identity, r#"{"Effect":"Allow","Action":"s3:*","Resource":"*","Principal":"*"}"#),
        (Kind::Identity, r#"{"Effect":"Allow","Action":"s3:*","Resource":"*","Colour":"red"}"#),
        (Kind::Identity, r#"{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::${aws:username"}"#),
        (
            Kind::Identity,
            r#"{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"StringIs":{"a:b":"c"}}}"#,
        ),
        (
            Kind::Identity,
            r#"{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"Bool":{"a:b":"c"}}}"#,
        ),
        (
            Kind::Identity,
            r#"{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"NullIfExists":{"a:b":"true"}}}"#,
        ),
        (
            Kind::Identity,
            r#"{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}}"#,
        ),
        (
            Kind::Identity,
            r#"[{"Sid":"a","Effect":"Allow","Action":"s3:*","Resource":"*"},
                             {"Sid":"a","Effect":"Allow","Action":"s3:*","Resource":"*"}]"#,
        ),
        (Kind::Identity, "[]"),
        (Kind::Trust, r#"{"Effect":"Allow","Action":"sts:AssumeRole"}"#),
        (Kind::Trust, r#"{"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*","Resource":"*"}"#),
        (Kind::Trust, r#"{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"bob"}}"#),
        (Kind::Trust, r#"{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Robot":"x"}}"#),
        (Kind::Trust, r#"{"Effect":"Allow","Action":"sts:AssumeRole","NotPrincipal":{"AWS":"*"}}"#),
    ] {
        let document = format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#);
        let outcome = Policy::parse(&document, kind);
        assert!(matches!(outcome, Err(crate::Error::MalformedPolicyDocument(_))), "{document}");
    }
    for document in [
        "",
        "[]",
        r#"{"Version":"2012-10-17"}"#,
        r#"{"Version":"2020-01-01","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
        r#"{"Rule":1,"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
    ] {
        assert!(Policy::parse(document, Kind::Identity).is_err(), "{document}");
    }
}

#[test]
fn principals_of_trust_policies() {
    let session = Principal::AssumedRole {
        account: AccountId::DEFAULT,
        role: "r".into(),
        id: "AROAR".into(),
        session: "s".into(),
    };
    let service = Principal::Service { account: AccountId::DEFAULT, name: "lambda.amazonaws.com".into() };
    let root = Principal::Root { account: AccountId::DEFAULT };
    let other =
        Principal::User { account: "000000000007".parse().unwrap(), name: "ann".into(), id: "A".into() };
    for (principal, text, expected) in [
        (&service, r#"{"Service":"lambda.amazonaws.com"}"#, Decision::Allow),
        (&service, r#"{"Service":["s3.amazonaws.com","lambda.amazonaws.com"]}"#, Decision::Allow),
        (&service, r#"{"Service":"s3.amazonaws.com"}"#, Decision::Default),
        (&service, r#"{"AWS":"000000000000"}"#, Decision::Default),
        (&ann(), r#"{"AWS":"arn:aws:iam::000000000000:root"}"#, Decision::AllowAccount),
        (&ann(), r#"{"AWS":"000000000000"}"#, Decision::AllowAccount),
        (&ann(), r#"{"AWS":["000000000000","arn:aws:iam::000000000000:user/ann"]}"#, Decision::Allow),
        (&ann(), r#"{"AWS":"arn:aws:iam::000000000000:user/bob"}"#, Decision::Default),
        (&ann(), r#"{"AWS":"*"}"#, Decision::Allow),
        (&ann(), r#"{"Federated":"accounts.google.com"}"#, Decision::Default),
        (&other, r#"{"AWS":"arn:aws:iam::000000000000:user/ann"}"#, Decision::Default),
        (&other, r#"{"AWS":"000000000000"}"#, Decision::Default),
        (&root, r#"{"AWS":"000000000000"}"#, Decision::Allow),
        (&session, r#"{"AWS":"arn:aws:iam::000000000000:role/r"}"#, Decision::Allow),
        (&session, r#"{"AWS":"arn:aws:sts::000000000000:assumed-role/r/s"}"#, Decision::Allow),
        (&session, r#"{"AWS":"arn:aws:sts::000000000000:assumed-role/r/t"}"#, Decision::Default),
    ] {
        let document =
            format!(r#"{{"Statement":{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{text}}}}}"#);
        let policy = Policy::parse(&document, Kind::Trust).unwrap();
        let case =
            Case { action: "sts:AssumeRole", resource: "arn:aws:iam::000000000000:role/t", keys: vec![] };
        let decision = with_context(principal, &case, |context| policy.evaluate(context));
        assert_eq!(decision, expected, "{principal:?} {text}");
    }
}

#[test]
fn public_policies_are_known() {
    let is_public = |principal: &str, condition: &str| {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"{condition}}}]}}"#
        );
        Policy::parse(&text, Kind::Resource).unwrap().is_public()
    };
    let condition = |text: &str| format!(r#","Condition":{text}"#);
    assert!(is_public(r#""*""#, ""));
    assert!(is_public(r#"{"AWS":"*"}"#, ""));
    assert!(!is_public(r#"{"AWS":"000000000000"}"#, ""));
    assert!(is_public(r#""*""#, &condition(r#"{"StringLike":{"aws:Referer":"x"}}"#)));
    assert!(!is_public(r#""*""#, &condition(r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#)));
    assert!(is_public(r#""*""#, &condition(r#"{"IpAddress":{"aws:SourceIp":"0.0.0.0/1"}}"#)));
    assert!(is_public(r#""*""#, &condition(r#"{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#)));
    assert!(!is_public(r#""*""#, &condition(r#"{"StringEquals":{"aws:PrincipalAccount":"000000000000"}}"#)));
    assert!(is_public(r#""*""#, &condition(r#"{"StringLike":{"aws:PrincipalAccount":"*"}}"#)));
}
