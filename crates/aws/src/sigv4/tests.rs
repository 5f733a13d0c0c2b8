//! Signatures, against AWS's published examples and against each other.

use http::Request;
use http::request::Parts;
use proptest::prelude::*;
use types::{AccountId, Principal, Region, Timestamp};

use super::*;
use crate::{Credential, Protocol};

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn credential() -> Credential {
    Credential {
        secret_access_key: SECRET.to_owned(),
        session_token: None,
        expires_at: None,
        principal: Principal::Root { account: AccountId::DEFAULT },
        session_policy: None,
    }
}

fn credentials() -> Credentials {
    Credentials { access_key_id: KEY.to_owned(), secret_access_key: SECRET.to_owned(), session_token: None }
}

fn verifier() -> Verifier {
    Verifier::new(Region::new("us-east-1"))
}

fn at(text: &str) -> Timestamp {
    parse_amz_date(text).unwrap()
}

fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn verify(head: &Parts, now: Timestamp) -> Result<Verified, Failure> {
    verify_with(head, now, &credential(), None)
}

fn verify_with(
    head: &Parts,
    now: Timestamp,
    credential: &Credential,
    body: Option<&[u8; 32]>,
) -> Result<Verified, Failure> {
    let presented = Presented::read(head)?.ok_or(Failure::Missing)?;
    let verifier = verifier();
    verifier.precheck(&presented, now)?;
    verifier.verify(&presented, head, credential, now, body)
}

/// Amazon S3 API reference, "Signature Calculations for the Authorization Header: Transferring Payload in a
/// Single Chunk", examples.
fn s3_example(method: &str, uri: &str, headers: &[(&str, &str)], signed: &str, signature: &str) -> Parts {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed},\
         Signature={signature}"
    );
    let mut head = head(method, uri, headers);
    head.headers.insert("authorization", authorization.parse().unwrap());
    head
}

const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");
const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");
const EMPTY: (&str, &str) = ("x-amz-content-sha256", EMPTY_SHA256);

#[test]
fn published_s3_examples_verify() {
    let put_hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let examples = [
        s3_example(
            "GET",
            "/test.txt",
            &[HOST, ("range", "bytes=0-9"), EMPTY, DATE],
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        s3_example(
            "PUT",
            "/test$file.text",
            &[
                HOST,
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                DATE,
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ("x-amz-content-sha256", put_hash),
            ],
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        s3_example(
            "GET",
            "/?lifecycle",
            &[HOST, EMPTY, DATE],
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        s3_example(
            "GET",
            "/?max-keys=2&prefix=J",
            &[HOST, EMPTY, DATE],
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
        head(
            "GET",
            "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2F\
             us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
            &[HOST],
        ),
    ];
    for example in examples {
        verify(&example, at("20130524T000500Z")).unwrap();
    }
}

/// IAM user guide, "Create a signed AWS API request": ListUsers; and the signature test suite's get-vanilla.
#[test]
fn published_examples_of_other_services_verify() {
    let secret = Credential {
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        ..credential()
    };
    let empty: [u8; 32] = hex::decode(EMPTY_SHA256).unwrap().try_into().unwrap();
    let now = at("20150830T123600Z");
    let list_users = head(
        "GET",
        "/?Action=ListUsers&Version=2010-05-08",
        &[
            ("host", "iam.amazonaws.com"),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("x-amz-date", "20150830T123600Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, \
                 Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ],
    );
    assert_eq!(Presented::read(&list_users).unwrap().unwrap().payload(), Payload::FromBody);
    verify_with(&list_users, now, &secret, Some(&empty)).unwrap();
    let vanilla = head(
        "GET",
        "/",
        &[
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders=host;x-amz-date, \
                 Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
        ],
    );
    verify_with(&vanilla, now, &secret, Some(&empty)).unwrap();
}

fn signed(uri: &str, service: &str, time: Timestamp) -> Parts {
    let mut request = Request::builder().method("POST").uri(uri).body("{}").unwrap();
    sign(&mut request, &credentials(), "us-east-1", service, time).unwrap();
    request.into_parts().0
}

#[test]
fn what_we_sign_verifies_and_nothing_else_does() {
    let now = at("20261123T120000Z");
    let mut good = signed("http://127.0.0.1:4566/2015-03-31/functions/a%20b/../c?x=1&a=%2F+2", "lambda", now);
    verify(&good, now).unwrap();
    good.headers.insert("x-amz-target", "Evil.Delete".parse().unwrap());
    assert!(matches!(verify(&good, now), Err(Failure::UnsignedHeaders { names }) if names == "x-amz-target"));
    good.headers.remove("x-amz-target");

    let mut other = good.clone();
    other.method = http::Method::DELETE;
    assert!(matches!(verify(&other, now), Err(Failure::Mismatch(_))));

    let token = Credential { session_token: Some("t".to_owned()), ..credential() };
    assert_eq!(verify_with(&good, now, &token, None).unwrap_err(), Failure::InvalidToken);
    let ended = Credential { expires_at: Some(now), ..credential() };
    assert_eq!(verify_with(&good, now, &ended, None).unwrap_err(), Failure::ExpiredToken);

    let late = at("20261123T121501Z");
    assert_eq!(verify(&good, late).unwrap_err(), Failure::Skewed { request: now, now: late });
    verify(&good, at("20261123T121500Z")).unwrap();
}

#[test]
fn presigned_urls_last_as_long_as_they_say() {
    let now = at("20261123T120000Z");
    let temporary = Credentials { session_token: Some("to/ken+=".to_owned()), ..credentials() };
    let uri = "http://b.s3.localhost/k%20ey?versionId=3".parse().unwrap();
    let url = presign(&http::Method::GET, &uri, &temporary, "us-east-1", "s3", now, 60).unwrap();
    let mut head = head("GET", &url.to_string(), &[("host", "b.s3.localhost")]);
    let credential = Credential { session_token: Some("to/ken+=".to_owned()), ..credential() };
    verify_with(&head, now, &credential, None).unwrap();
    verify_with(&head, at("20261123T120100Z"), &credential, None).unwrap();
    let late = at("20261123T120101Z");
    let failure = verify_with(&head, late, &credential, None).unwrap_err();
    let error = failure.into_error(Protocol::RestXml);
    assert_eq!((&*error.code, error.status, &*error.message), ("AccessDenied", 403, "Request has expired"));
    assert_eq!(error.fields[1].1, "2026-11-23T12:01:00Z");
    let early = verify_with(&head, at("20261123T114459Z"), &credential, None);
    assert_eq!(early.unwrap_err(), Failure::NotYetValid);

    strip(&mut head, Source::Query);
    assert_eq!(head.uri.path_and_query().unwrap(), "/k%20ey?versionId=3");
}

#[test]
fn what_cannot_be_read_is_refused_by_its_name() {
    let now = at("20130524T000000Z");
    let code = |head: &Parts, protocol| {
        let error = verify(head, now).unwrap_err().into_error(protocol);
        (error.status, error.code.into_owned())
    };
    let get = |headers: &[(&str, &str)]| head("GET", "/", headers);
    let auth = |text: &'static str| get(&[HOST, DATE, EMPTY, ("authorization", text)]);
    let s3 = |head: &Parts| code(head, Protocol::RestXml);
    assert_eq!(s3(&get(&[HOST])), (403, "AccessDenied".into()));
    assert_eq!(s3(&auth("AWS AKIA:abc")), (400, "InvalidRequest".into()));
    assert_eq!(s3(&auth("Bearer x")), (400, "InvalidArgument".into()));
    for text in [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a, Signature=b",
        "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=b",
        "AWS4-HMAC-SHA256 Credential=a/20130524/us-east-1/s3/aws4_request, SignedHeaders=date, Signature=b",
        "AWS4-HMAC-SHA256 Credential=a/20130524/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=b",
        "AWS4-HMAC-SHA256 Credential=a/20130525/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=b",
    ] {
        assert_eq!(s3(&auth(text)), (400, "AuthorizationHeaderMalformed".into()), "{text}");
        let json = code(&auth(text), Protocol::Json10);
        assert!(json.0 == 400 && json.1.ends_with("SignatureException"), "{text}: {json:?}");
    }
    let good = "AWS4-HMAC-SHA256 Credential=a/20130524/us-east-1/s3/aws4_request, \
                SignedHeaders=host;x-amz-date;x-amz-content-sha256, Signature=b";
    assert_eq!(s3(&auth(good)), (403, "SignatureDoesNotMatch".into()));
    assert_eq!(code(&auth(good), Protocol::Query), (403, "SignatureDoesNotMatch".into()));
    assert_eq!(code(&auth(good), Protocol::RestJson), (403, "InvalidSignatureException".into()));
    assert_eq!(s3(&get(&[HOST, DATE, ("authorization", good)])), (400, "InvalidRequest".into()));
    assert_eq!(s3(&get(&[HOST, EMPTY, ("authorization", good)])), (403, "AccessDenied".into()));
    let strange = ("x-amz-content-sha256", "SOMETHING");
    assert_eq!(s3(&get(&[HOST, DATE, strange, ("authorization", good)])), (400, "InvalidArgument".into()));

    let region = Failure::WrongRegion {
        source: Source::Header,
        given: "eu-west-1".to_owned(),
        expected: "us-east-1".to_owned(),
    };
    assert!(region.clone().into_error(Protocol::Json10).message.contains("us-east-1"));
    assert_eq!(region.into_error(Protocol::RestXml).fields[0].0, "Region");

    let query = |q: &str| {
        let text = format!(
            "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/20130524/us-east-1/s3/aws4_request&\
             X-Amz-Date=20130524T000000Z&X-Amz-SignedHeaders=host&X-Amz-Signature=b{q}"
        );
        s3(&head("GET", &text, &[HOST]))
    };
    for expires in ["", "&X-Amz-Expires=604801", "&X-Amz-Expires=-1", "&X-Amz-Expires=0", "&X-Amz-Expires=x"]
    {
        assert_eq!(query(expires), (400, "AuthorizationQueryParametersError".into()), "{expires}");
    }
    assert_eq!(query("&X-Amz-Expires=604800"), (403, "SignatureDoesNotMatch".into()));
    let both = head("GET", "/?X-Amz-Signature=b", &[HOST, ("authorization", good)]);
    assert_eq!(s3(&both), (400, "InvalidArgument".into()));
}

#[test]
fn global_services_may_be_signed_for_us_east_1() {
    let verifier = Verifier::new(Region::new("eu-central-1"));
    let now = at("20261123T120000Z");
    for (service, good) in [("iam", true), ("sts", true), ("dynamodb", false), ("s3", false)] {
        let head = signed("http://localhost/", service, now);
        let presented = Presented::read(&head).unwrap().unwrap();
        assert_eq!(verifier.precheck(&presented, now).is_ok(), good, "{service}");
    }
}

#[test]
fn cached_keys_are_the_derived_ones_whatever_shares_their_slot() {
    let cache = key::KeyCache::new(2);
    for round in 0..3 {
        for n in 0..20 {
            let (id, secret) = (format!("AKIA{n}"), format!("secret{}", n * (round / 2)));
            let cached = cache.get(&id, &secret, "20261123", "us-east-1", "s3");
            let derived = SigningKey::derive(&secret, "20261123", "us-east-1", "s3");
            assert_eq!(cached.sign(b"x"), derived.sign(b"x"));
        }
    }
}

#[test]
fn dates_round_trip() {
    assert_eq!(format_amz_date(at("20261123T235959Z")), "20261123T235959Z");
    for bad in ["", "20261123T235959", "20261323T235959Z", "2026112 T235959Z", "20261123T+35959Z"] {
        assert_eq!(parse_amz_date(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn any_path_and_query_signed_here_verifies(
        path in "(/[a-zA-Z0-9._~%$&'()*:@ +-]{0,8}){1,4}",
        query in "[a-z0-9=&+%/~-]{0,30}",
        service in prop::sample::select(vec!["s3", "lambda"]),
        header in "[ -~]{0,20}",
    ) {
        let uri = format!("http://localhost{}?{query}", path.replace(' ', "%20").replace("%%", "%"));
        let Ok(uri) = uri.parse::<http::Uri>() else { return Ok(()) };
        let now = at("20261123T120000Z");
        let mut request = Request::builder().uri(uri).header("x-amz-meta-a", header).body("").unwrap();
        sign(&mut request, &credentials(), "us-east-1", service, now).unwrap();
        let (head, _) = request.into_parts();
        prop_assert!(verify(&head, now).is_ok());
    }

    #[test]
    fn garbage_never_panics(authorization in "\\PC{0,80}", query in "[A-Za-z=&%/-]{0,40}", tail in "[ -~]{0,60}") {
        let now = at("20261123T120000Z");
        for text in [authorization, format!("AWS4-HMAC-SHA256 Credential={tail}"), tail] {
            let Ok(value) = http::HeaderValue::from_str(&text) else { continue };
            let mut head = head("GET", &format!("/?X-Amz-{query}"), &[HOST, DATE, EMPTY]);
            let _ = verify(&head, now);
            head.uri = "/".parse().unwrap();
            head.headers.insert("authorization", value);
            if let Err(failure) = verify(&head, now) {
                for protocol in [Protocol::Json10, Protocol::Query, Protocol::RestXml] {
                    let _ = failure.clone().into_error(protocol);
                }
            }
        }
    }
}
