//! Requests that are well-formed, and what comes of them.

use aws::sigv4::{Credentials, presign};
use aws::{Caller, Dispatch, Origin};
use bytes::Bytes;
use http::Method;
use tokio::net::{TcpListener, TcpStream};
use types::{AccountId, SystemEnv, Timestamp, TraceHeader};

use crate::client::{Call, Client, call};
use crate::node::{ENDED, KEY, Node, POWERLESS, SECRET};

fn ten(operation: &str, body: &str) -> Call {
    Call::new("ten", "/", body)
        .with("x-amz-target", &format!("Ten_20260101.{operation}"))
        .with("content-type", "application/x-amz-json-1.0")
}

/// The same request to a service of each protocol.
fn each(operation: &str) -> [Call; 4] {
    let path = format!("/{operation}");
    [
        Call::new("s3", &path, "hello"),
        ten(operation, "hello"),
        Call::new("rest", &path, "hello"),
        Call::new("sts", &path, "hello"),
    ]
}

#[tokio::test]
async fn signed_requests_reach_their_service_and_come_back() {
    let node = Node::start().await;
    let mut client = Client::to(node.addr).await;
    let types = ["application/xml", "application/x-amz-json-1.0", "application/json", "text/xml"];
    for (request, content_type) in each("echo").iter().zip(types) {
        let answer = client.call(request).await;
        assert_eq!((answer.status, &*answer.body), (200, "hello"), "{}", request.service);
        assert_eq!(answer.headers["content-type"], content_type);
        let id = if request.service == "s3" { "x-amz-request-id" } else { "x-amzn-requestid" };
        assert_eq!(answer.headers[id].len(), 36);
    }
    // A client that names the body's hash where it need not.
    let mut named = ten("echo", "hello");
    named.content_sha256 = Some("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".into());
    assert_eq!(client.call(&named).await.body, "hello");
    named.body = b"jello".to_vec();
    assert!(client.call(&named).await.has("XAmzContentSHA256Mismatch"));
}

#[tokio::test]
async fn pages_may_call_services_that_speak_json() {
    const ORIGIN: &str = "access-control-allow-origin";
    let node = Node::start().await;
    let mut client = Client::to(node.addr).await;
    for (request, lets_in) in each("echo").into_iter().zip([false, true, false, false]) {
        assert!(!client.call(&request).await.headers.contains_key(ORIGIN));
        let answer = client.call(&request.with("origin", "http://page")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers.get(ORIGIN).map(String::as_str), lets_in.then_some("*"));
        assert_eq!(answer.headers.contains_key("access-control-expose-headers"), lets_in);
        assert!(!answer.headers.contains_key("access-control-max-age"));
    }
    // Errors can be read, too.
    let mut refused = ten("echo", "hello").with("origin", "http://page");
    refused.secret = "wrong";
    let answer = client.call(&refused).await;
    assert_eq!((answer.status, &*answer.headers[ORIGIN]), (400, "*"));

    let ask = |host: &str, path: &str, more: &str| {
        format!("OPTIONS {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n{more}\r\n")
    };
    let question = "origin: http://page\r\naccess-control-request-method: POST\r\n\
                    access-control-request-headers: x-amz-target, authorization\r\n";
    client.send(ask("localhost:4566", "/", question).as_bytes()).await;
    let answer = client.receive().await.unwrap();
    let allowed = ["origin", "methods", "headers"]
        .map(|kind| &*answer.headers[&format!("access-control-allow-{kind}")]);
    assert_eq!((answer.status, allowed), (200, ["*", "POST", "x-amz-target, authorization"]));
    assert_eq!(answer.headers["access-control-max-age"], "172800");
    // Buckets are asked themselves, and so is who asks for no page.
    for (host, path, more) in [
        ("localhost:4566", "/bucket", question),
        ("bucket.s3.localhost:4566", "/", question),
        ("localhost:4566", "/", ""),
    ] {
        client.send(ask(host, path, more).as_bytes()).await;
        let answer = client.receive().await.unwrap();
        assert!(!answer.headers.contains_key("access-control-max-age"), "{host}{path}");
    }
}

#[tokio::test]
async fn failures_have_the_code_and_the_shape_of_each_protocol() {
    let node = Node::start().await;
    let statuses = |calls: [Call; 4], codes: [(u16, &'static str); 4]| {
        let addr = node.addr;
        async move {
            for (request, (status, code)) in calls.iter().zip(codes) {
                let answer = call(addr, request).await;
                assert_eq!(answer.status, status, "{}: {}", request.service, answer.body);
                let xml = format!("<Code>{code}</Code>");
                let json = format!("{code}\"");
                let typed = answer.headers.get("x-amzn-errortype").is_some_and(|header| header == code);
                assert!(answer.has(&xml) || answer.has(&json) || typed, "{code}: {}", answer.body);
            }
        }
    };
    statuses(
        each("echo").map(|c| Call { secret: "wrong", ..c }),
        [
            (403, "SignatureDoesNotMatch"),
            (400, "InvalidSignatureException"),
            (403, "InvalidSignatureException"),
            (403, "SignatureDoesNotMatch"),
        ],
    )
    .await;
    statuses(
        each("echo").map(|c| Call { key: "AKIANOBODY", ..c }),
        [
            (403, "InvalidAccessKeyId"),
            (400, "UnrecognizedClientException"),
            (403, "UnrecognizedClientException"),
            (403, "InvalidClientTokenId"),
        ],
    )
    .await;
    statuses(
        each("echo").map(|c| Call { key: "ASIANOBODY", ..c }.with("x-amz-security-token", "t")),
        [
            (400, "InvalidToken"),
            (400, "UnrecognizedClientException"),
            (403, "UnrecognizedClientException"),
            (403, "InvalidClientTokenId"),
        ],
    )
    .await;
    statuses(
        each("echo").map(|c| Call { key: ENDED, ..c }.with("x-amz-security-token", "t")),
        [
            (400, "ExpiredToken"),
            (400, "ExpiredTokenException"),
            (403, "ExpiredTokenException"),
            (403, "ExpiredToken"),
        ],
    )
    .await;
    let early = Timestamp::now() - an_hour();
    statuses(
        each("echo").map(|c| Call { time: early, ..c }),
        [
            (403, "RequestTimeTooSkewed"),
            (400, "InvalidSignatureException"),
            (403, "InvalidSignatureException"),
            (403, "SignatureDoesNotMatch"),
        ],
    )
    .await;
    statuses(
        each("echo").map(|c| Call { region: "eu-west-1", ..c }),
        [
            (400, "AuthorizationHeaderMalformed"),
            (400, "InvalidSignatureException"),
            (403, "InvalidSignatureException"),
            (403, "SignatureDoesNotMatch"),
        ],
    )
    .await;
    let denied = [
        (403, "AccessDenied"),
        (400, "AccessDeniedException"),
        (403, "AccessDeniedException"),
        (403, "AccessDenied"),
    ];
    statuses(each("echo").map(|c| Call { key: POWERLESS, ..c }), denied).await;
    statuses(each("fail"), [(404, "NoSuchThing"); 4]).await;
    statuses(each("panic"), [(500, "InternalFailure"); 4]).await;

    let answer = call(node.addr, &Call { method: "HEAD", ..Call::new("s3", "/fail", "") }).await;
    assert_eq!((answer.status, &*answer.body), (404, ""));
    let answer = call(node.addr, &Call::new("nothing", "/", "")).await;
    assert_eq!(answer.status, 501);
    assert!(answer.has("nothing"), "{}", answer.body);
    let answer = call(node.addr, &Call { region: "eu-west-1", ..Call::new("s3", "/", "") }).await;
    assert!(answer.has("<Region>us-east-1</Region>"), "{}", answer.body);
    assert_eq!(call(node.addr, &Call { key: POWERLESS, ..Call::new("sts", "/open", "") }).await.status, 200);
}

fn an_hour() -> std::time::Duration {
    std::time::Duration::from_secs(3600)
}

#[tokio::test]
async fn bodies_are_what_was_signed_or_fail_before_anything_happens() {
    let node = Node::start().await;
    let mut call_s3 = Call::new("s3", "/b/echo", "hello");
    call_s3.body = b"jello".to_vec();
    let answer = call(node.addr, &call_s3).await;
    assert!(answer.status == 400 && answer.has("XAmzContentSHA256Mismatch"), "{}", answer.body);
    call_s3.body = Vec::new();
    assert!(call(node.addr, &call_s3).await.has("XAmzContentSHA256Mismatch"));
    call_s3.content_sha256 = Some("UNSIGNED-PAYLOAD".to_owned());
    call_s3.body = vec![b'x'; 3_000_000];
    assert_eq!(call(node.addr, &call_s3).await.body.len(), 3_000_000);

    let chunked = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let mut streaming = Call::new("s3", "/b/echo", chunked)
        .with("x-amz-decoded-content-length", "5")
        .with("x-amz-trailer", "x-amz-checksum-crc32");
    streaming.content_sha256 = Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned());
    let answer = call(node.addr, &streaming).await;
    assert_eq!(answer.body, "hello");
    assert_eq!(answer.headers["x-amz-checksum-crc32"], "NhCmhg==");
    streaming.body.truncate(10);
    assert!(call(node.addr, &streaming).await.has("IncompleteBody"));

    let large = Call::new("rest", "/echo", vec![b'x'; 1024 * 1024 + 1]);
    assert_eq!(call(node.addr, &large).await.status, 413);
    let answer = call(node.addr, &Call::new("rest", "/echo", vec![b'x'; 1024 * 1024])).await;
    assert_eq!(answer.body.len(), 1024 * 1024);
}

#[tokio::test]
async fn requests_without_a_signature() {
    let node = Node::start().await;
    let mut client = Client::to(node.addr).await;
    let mut ask = async |head: &str| {
        client.send(format!("{head}\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
        client.receive().await.unwrap()
    };
    assert_eq!(ask("GET /b/public HTTP/1.1").await.status, 200);
    let denied = ask("GET /b/secret HTTP/1.1").await;
    assert!(denied.status == 403 && denied.has("<Code>AccessDenied"), "{}", denied.body);
    let json = ask("POST / HTTP/1.1\r\nx-amz-target: Ten_20260101.Echo").await;
    assert!(json.status == 400 && json.has("MissingAuthenticationTokenException"), "{}", json.body);
    let form = ask("POST / HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded").await;
    assert!(form.status == 403 && form.has("<Code>MissingAuthenticationToken</Code>"), "{}", form.body);
    assert_eq!(ask("GET /_hawker/describe HTTP/1.1").await.status, 403);
    let signed =
        call(node.addr, &Call { method: "GET", ..Call::new("hawker", "/_hawker/describe", "") }).await;
    assert_eq!(signed.status, 200);

    assert_eq!(ask("GET /_hawker/health HTTP/1.1").await.status, 503);
    node.gateway.set_ready(true);
    let health = ask("GET /_hawker/health HTTP/1.1").await;
    assert_eq!((health.status, &*health.body), (200, r#"{"status":"ready"}"#));
}

#[tokio::test]
async fn buckets_in_host_names_and_presigned_urls() {
    let node = Node::start().await;
    for host in
        ["photos.s3.us-east-1.localhost:4566", "photos.localhost", "photos.s3.localhost.localstack.cloud"]
    {
        let request = Call { method: "GET", host: host.to_owned(), ..Call::new("s3", "/a/describe?x=1", "") };
        let answer = call(node.addr, &request).await;
        assert!(answer.has("\"uri\":\"/photos/a/describe?x=1\""), "{}", answer.body);
        assert!(answer.has(&format!("\"endpoint\":\"http://{host}\"")), "{}", answer.body);
        assert!(!answer.has("authorization"), "{}", answer.body);
    }
    let credentials = Credentials {
        access_key_id: KEY.to_owned(),
        secret_access_key: SECRET.to_owned(),
        session_token: None,
    };
    let uri = "http://photos.localhost/a/describe?x=1".parse().unwrap();
    let now = Timestamp::now();
    let url = presign(&Method::GET, &uri, &credentials, "us-east-1", "s3", now, 60).unwrap();
    let mut client = Client::to(node.addr).await;
    let head = format!("GET {} HTTP/1.1\r\nhost: photos.localhost\r\n\r\n", url.path_and_query().unwrap());
    client.send(head.as_bytes()).await;
    let answer = client.receive().await.unwrap();
    assert!(answer.has("\"uri\":\"/photos/a/describe?x=1\""), "{}", answer.body);

    // As boto3 presigns where it is not told the version.
    let old = "GET /photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D\
               &Expires=1175139620 HTTP/1.1\r\nhost: johnsmith.s3.amazonaws.com\r\n\r\n";
    for (request, code) in [
        (old.to_owned(), "<Message>Request has expired</Message>"),
        (old.replace("1175139620", "9999999999"), "<Code>SignatureDoesNotMatch</Code>"),
    ] {
        client.send(request.as_bytes()).await;
        let answer = client.receive().await.unwrap();
        assert!(answer.has(code), "{}", answer.body);
    }

    let url = presign(&Method::GET, &uri, &credentials, "us-east-1", "s3", now - an_hour(), 60).unwrap();
    let head = format!("GET {} HTTP/1.1\r\nhost: photos.localhost\r\n\r\n", url.path_and_query().unwrap());
    client.send(head.as_bytes()).await;
    assert!(client.receive().await.unwrap().has("Request has expired"));
}

#[tokio::test]
async fn hops_that_somebody_follows_are_recorded() {
    let node = Node::start().await;
    assert_eq!(call(node.addr, &Call::new("rest", "/echo", "x")).await.status, 200);
    assert!(node.world.spans.lock().unwrap().is_empty());

    let root = TraceHeader::new(&*SystemEnv::new());
    let followed = Call::new("rest", "/describe", "x").with("x-amzn-trace-id", &root.to_string());
    let answer = call(node.addr, &followed).await;
    let span = node.world.spans.lock().unwrap().pop().unwrap();
    assert_eq!((&*span.name, &span.trace), ("rest Act", &root));
    assert!(answer.has(&format!("Parent={}", span.id)), "{}", answer.body);

    // A connection out of a sandbox.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (stream, accepted) = tokio::join!(connecting, listener.accept());
    let origin = Origin::Function("arn:aws:lambda:us-east-1:000000000000:function:f".to_owned());
    let serving = tokio::spawn(node.gateway.clone().serve_connection(accepted.unwrap().0, origin));
    let mut client = Client { stream: tokio::io::BufReader::new(stream.unwrap()) };
    let answer = client.call(&Call::new("rest", "/describe", "x")).await;
    assert!(answer.has("Function(\\\"arn:aws:lambda"), "{}", answer.body);
    assert_eq!(client.call(&Call::new("rest", "/fail", "x")).await.status, 404);
    let errors: Vec<_> = node.world.spans.lock().unwrap().iter().map(|span| span.error.clone()).collect();
    assert_eq!(errors, [None, Some("NoSuchThing".to_owned())]);
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn calls_in_process_take_the_same_path() {
    let node = Node::start().await;
    let caller = Caller::platform(AccountId::DEFAULT);
    let trace = TraceHeader::new(&*SystemEnv::new());
    let request = |path: &str| http::Request::post(path).body(Bytes::from("hello")).unwrap();
    let call = async |caller: &Caller, service: &str, path: &str| {
        node.gateway.call(caller, &trace, service, request(path)).await
    };
    assert_eq!(call(&caller, "rest", "/echo").await.unwrap().body(), "hello");
    assert_eq!(call(&caller, "rest", "/fail").await.unwrap_err().code, "NoSuchThing");
    assert_eq!(call(&caller, "nothing", "/").await.unwrap_err().status, 501);
    let anonymous = Caller { principal: types::Principal::Anonymous, ..caller };
    assert_eq!(call(&anonymous, "rest", "/echo").await.unwrap_err().status, 403);
}
