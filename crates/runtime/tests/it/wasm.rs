//! Functions that are WebAssembly components.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use functions::{
    Event, Instance, InvokeRequest, InvokeResult, Piece, ResponseHead, RunError, Runtime, StartError,
    StartRequest,
};
use runtime::{Config, WasmRuntime};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use types::SystemEnv;

use crate::guests;
use crate::support::{WhoAmI, config, event, lines, request};

struct House {
    runtime: WasmRuntime,
    cache: tempfile::TempDir,
    platform: Arc<WhoAmI>,
}

impl House {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let mut config = config(cache.path());
        config.wasm.max_running = 20;
        change(&mut config);
        let platform = Arc::new(WhoAmI(([127, 0, 0, 1], 4566).into()));
        Self {
            runtime: WasmRuntime::new(config, platform.clone(), platform.clone(), SystemEnv::new()),
            cache,
            platform,
        }
    }

    async fn try_start(&self, request: StartRequest) -> Result<Box<dyn Instance>, StartError> {
        Ok(self.runtime.start(request).await?.instance)
    }

    async fn start(&self, component: &[u8]) -> Box<dyn Instance> {
        self.start_with(component, &[]).await
    }

    async fn start_with(&self, component: &[u8], environment: &[(&str, &str)]) -> Box<dyn Instance> {
        self.try_start(function(component, environment)).await.unwrap()
    }
}

fn function(component: &[u8], environment: &[(&str, &str)]) -> StartRequest {
    let mut request = request("wasm", "app.wasm", &[("app.wasm", component)]);
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    request.environment.extend(environment);
    request
}

fn http(method: &str, uri: &str, body: impl Into<Bytes>) -> InvokeRequest {
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "f.example.com")
        .header("x-colour", "red")
        .header("x-colour", "blue")
        .body(body.into())
        .unwrap();
    InvokeRequest { event: Event::Http(Box::new(request)), ..event("", Duration::from_secs(60)) }
}

async fn try_ask(instance: &mut Box<dyn Instance>, payload: &str) -> Result<InvokeResult, RunError> {
    instance.invoke(event(payload, Duration::from_secs(60))).await
}

async fn ask(instance: &mut Box<dyn Instance>, payload: &str) -> InvokeResult {
    try_ask(instance, payload).await.unwrap()
}

/// What is streamed in answer to `request`, to its end.
async fn stream(
    instance: &mut Box<dyn Instance>,
    request: InvokeRequest,
) -> (Option<ResponseHead>, Vec<Bytes>, Result<InvokeResult, RunError>) {
    let (sender, mut pieces) = mpsc::channel(1);
    let request = InvokeRequest { stream: Some(sender), ..request };
    let read = async {
        let (mut head, mut body) = (None, Vec::new());
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Head(it) => {
                    assert!(head.is_none() && body.is_empty(), "the head comes once, and first");
                    head = Some(it);
                }
                Piece::Body(bytes) => body.push(bytes),
            }
        }
        (head, body)
    };
    let (result, (head, body)) = tokio::join!(instance.invoke(request), read);
    (head, body, result)
}

fn http_head(head: Option<ResponseHead>) -> http::response::Parts {
    match head {
        Some(ResponseHead::Http(parts)) => *parts,
        other => panic!("not an HTTP head: {other:?}"),
    }
}

fn json_of(result: &InvokeResult) -> Value {
    serde_json::from_slice(&result.payload).unwrap()
}

#[tokio::test]
async fn an_http_request_goes_through_as_it_is() {
    let house = House::new();
    let mut f = house.start(&guests::echo()).await;
    let body: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
    let (head, pieces, result) = stream(&mut f, http("PUT", "/a/b%20c?d=e&f", body.clone())).await;
    let head = http_head(head);
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["x-path"], "/a/b%20c?d=e&f");
    assert_eq!(Vec::from_iter(head.headers.get_all("x-colour")), ["red", "blue"]);
    assert_eq!(pieces.concat(), body);
    let result = result.unwrap();
    assert_eq!((result.payload, result.function_error), (Bytes::new(), None));
    assert!(result.max_memory_bytes >= 2 * 65536, "{}", result.max_memory_bytes);

    // Without a stream the answer is JSON, as functions answer to a function URL.
    let answer = json_of(&f.invoke(http("GET", "/x", "gr\u{fc}n")).await.unwrap());
    assert_eq!(answer["statusCode"], 200);
    assert_eq!(answer["headers"]["x-colour"], "red,blue");
    assert_eq!(answer["body"], "gr\u{fc}n");
    let answer = json_of(&f.invoke(http("GET", "/x", &b"\xff\xfe"[..])).await.unwrap());
    assert_eq!((&answer["body"], &answer["isBase64Encoded"]), (&json!("//4="), &json!(true)));
}

#[tokio::test]
async fn events_come_as_cloud_events_and_answers_are_json() {
    let house = House::new();
    let mut f = house.start(&guests::echo()).await;
    assert_eq!(json_of(&ask(&mut f, r#"{"a": [1, 2]}"#).await), json!({"a": [1, 2]}));
    assert_eq!(json_of(&ask(&mut f, "\"text\"").await), json!("text"));

    let request = event(r#"{"source": "shop", "detail-type": "Sold"}"#, Duration::from_secs(3));
    let id = request.request_id.to_string();
    // The headers come back with the answer, which shows them if it is asked for as a stream.
    let (head, pieces, result) = stream(&mut f, request).await;
    assert!(
        matches!(&head, Some(ResponseHead::Runtime { content_type: Some(it), streaming: true }) if it == "application/json"),
        "{head:?}"
    );
    assert_eq!(pieces.concat(), br#"{"source": "shop", "detail-type": "Sold"}"#);
    result.unwrap();

    let mut f = house.start(&guests::shows_headers()).await;
    let mut request = event(r#"{"source": "shop", "detail-type": "Sold"}"#, Duration::from_secs(3));
    request.request_id = types::RequestId::new(&*SystemEnv::new());
    let (ids, trace) = (request.request_id.to_string(), request.trace.to_string());
    assert_ne!(ids, id);
    let result = f.invoke(request).await.unwrap();
    let text = json_of(&result);
    let text = text.as_str().unwrap();
    let header = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).to_owned()
    };
    assert_eq!(header("ce-specversion"), "1.0");
    assert_eq!(header("ce-id"), ids);
    assert_eq!(header("ce-source"), "shop");
    assert_eq!(header("ce-type"), "Sold");
    assert!(header("ce-time").ends_with('Z'));
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-amzn-trace-id"), trace);
}

#[tokio::test]
async fn other_statuses_are_errors_of_the_function() {
    let house = House::new();
    let mut f = house.start(&guests::says(500, "it broke")).await;
    let result = ask(&mut f, "{}").await;
    assert_eq!(result.function_error.as_deref(), Some("Unhandled"));
    assert_eq!(json_of(&result), json!({"errorType": "Http.500", "errorMessage": "it broke"}));
    // To a caller by HTTP they are answers like others.
    let (head, pieces, result) = stream(&mut f, http("GET", "/", "")).await;
    assert_eq!((http_head(head).status.as_u16(), pieces.concat()), (500, b"it broke".to_vec()));
    assert_eq!(result.unwrap().function_error, None);
    // One that wants a stream of something else has no use for them.
    let (head, pieces, result) = stream(&mut f, event("{}", Duration::from_secs(9))).await;
    assert!(head.is_none() && pieces.is_empty());
    assert_eq!(json_of(&result.unwrap())["errorType"], "Http.500");

    let mut f = house.start(&guests::says(200, "")).await;
    assert_eq!(ask(&mut f, "{}").await.payload, "null");
    let mut f = house.start(&guests::silent()).await;
    assert_eq!(json_of(&ask(&mut f, "{}").await)["errorType"], "Runtime.NoResponse");
    let mut f = house.start(&guests::half_an_answer()).await;
    assert_eq!(json_of(&ask(&mut f, "{}").await)["errorType"], "Runtime.BrokenResponse");
    let (head, pieces, result) = stream(&mut f, http("GET", "/", "")).await;
    assert_eq!((http_head(head).status.as_u16(), pieces.concat()), (200, b"half".to_vec()));
    assert_eq!(json_of(&result.unwrap())["errorType"], "Runtime.BrokenResponse");
}

#[tokio::test]
async fn every_request_has_an_instance_of_its_own_unless_the_function_says_otherwise() {
    let house = House::new();
    let component = guests::counts();
    let mut f = house.start(&component).await;
    for _ in 0..3 {
        assert_eq!(ask(&mut f, "{}").await.payload, "1");
    }
    let mut f = house.start_with(&component, &[("HAWKER_INSTANCE_REUSE", "true")]).await;
    for count in ["1", "2", "3"] {
        assert_eq!(ask(&mut f, "{}").await.payload, count);
    }
    let error = house.try_start(function(&component, &[("HAWKER_INSTANCE_REUSE", "yes")])).await.unwrap_err();
    assert!(
        matches!(&error, StartError::Code(message) if message.contains("HAWKER_INSTANCE_REUSE")),
        "{error}"
    );
}

#[tokio::test]
async fn an_instance_that_keeps_its_handles_is_replaced_before_it_runs_out_of_them() {
    let house = House::new();
    let mut f = house.start_with(&guests::says(200, "hello"), &[("HAWKER_INSTANCE_REUSE", "true")]).await;
    for _ in 0..3000 {
        assert_eq!(ask(&mut f, "{}").await.payload, "\"hello\"");
    }
}

#[tokio::test]
async fn a_trap_ends_the_instance_and_is_in_its_log() {
    let house = House::new();
    let mut f = house.start(&guests::trap()).await;
    match try_ask(&mut f, "{}").await {
        Err(RunError::Exited { message, error_type, out_of_memory: false, logs, .. }) => {
            assert_eq!(error_type, "Runtime.ExitError");
            assert!(message.starts_with("Runtime exited with error: wasm trap: "), "{message}");
            assert!(lines(&logs).iter().any(|line| line.contains("the_culprit")), "{logs:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!f.is_alive());

    let mut f = house.start(&guests::exits()).await;
    let exited = try_ask(&mut f, "{}").await;
    assert!(
        matches!(&exited, Err(RunError::Exited { message, .. }) if message.ends_with("exit status 1")),
        "{exited:?}"
    );

    // What was streamed before is there, and it is known that it is not all.
    let mut f = house.start(&guests::trap_in_the_middle()).await;
    let (head, pieces, result) = stream(&mut f, http("GET", "/", "")).await;
    assert_eq!((http_head(head).status.as_u16(), pieces.concat()), (200, b"half".to_vec()));
    assert!(matches!(result, Err(RunError::Exited { .. })));
}

#[tokio::test]
async fn memory_ends_at_the_limit() {
    let house = House::new();
    let component = guests::hog();
    let mut f = house.start(&component).await;
    match try_ask(&mut f, "{}").await {
        Err(RunError::Exited { error_type, out_of_memory: true, max_memory_bytes, .. }) => {
            assert_eq!(error_type, "Runtime.OutOfMemory");
            let limit = 256 << 20;
            assert!((limit - (4 << 20)..=limit).contains(&max_memory_bytes), "{max_memory_bytes}");
        }
        other => panic!("{other:?}"),
    }
    let mut large = function(&guests::begins_with(3000), &[]);
    large.memory_mb = 128;
    let error = house.try_start(large).await.unwrap_err();
    assert!(error.to_string().contains("188 MB") && error.to_string().contains("128 MB"), "{error}");
}

/// On one thread, so that the loop can not have one for itself.
#[tokio::test]
async fn a_tight_loop_ends_at_its_timeout_and_lets_others_run_meanwhile() {
    let house = House::new();
    let mut endless = house.start(&guests::tight_loop()).await;
    let mut other = house.start(&guests::says(200, "1")).await;
    let (loops, answers) = tokio::join!(endless.invoke(event("{}", Duration::from_millis(300))), async {
        let began = Instant::now();
        let mut answers = 0;
        while began.elapsed() < Duration::from_millis(200) {
            assert_eq!(ask(&mut other, "{}").await.payload, "1");
            answers += 1;
            tokio::task::yield_now().await;
        }
        answers
    });
    assert!(matches!(loops, Err(RunError::Timeout { .. })), "{loops:?}");
    assert!(answers > 3, "{answers}");
    assert!(!endless.is_alive());
    // After some time without work, the engine's clock stands still, and moves again when it has to.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut endless = house.start(&guests::tight_loop()).await;
    let loops = endless.invoke(event("{}", Duration::from_millis(50))).await;
    assert!(matches!(loops, Err(RunError::Timeout { .. })), "{loops:?}");
}

#[tokio::test]
async fn what_it_writes_is_in_its_log() {
    let house = House::new();
    let mut f = house.start(&guests::prints()).await;
    for _ in 0..2 {
        let result = ask(&mut f, "{}").await;
        assert_eq!(lines(&result.logs), ["one", "trouble", "two"]);
    }
}

#[tokio::test]
async fn it_knows_who_it_is_and_nothing_of_the_host() {
    let house = House::new();
    let mut f = house.start_with(&guests::environment(), &[("AWS_REGION", "mars"), ("NAME", "value")]).await;
    let request = event("{}", Duration::from_secs(60));
    let trace = request.trace.to_string();
    let result = f.invoke(request).await.unwrap();
    let text: String = serde_json::from_slice(&result.payload).unwrap();
    for line in [
        "COLOUR=gr\u{fc}n",
        "NAME=value",
        "AWS_REGION=us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME=f",
        "AWS_ENDPOINT_URL=http://127.0.0.1:4566",
        "AWS_SESSION_TOKEN=token",
        "LAMBDA_TASK_ROOT=/var/task",
        &format!("_X_AMZN_TRACE_ID={trace}"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert!(!text.lines().any(|line| line.starts_with("PATH=") || line.starts_with("HOME=")), "{text}");
}

#[tokio::test]
async fn a_stream_is_written_no_faster_than_it_is_read() {
    let house = House::new();
    let mut f = house.start(&guests::floods(5000)).await;
    let (sender, mut pieces) = mpsc::channel(2);
    let request = InvokeRequest { stream: Some(sender), ..http("GET", "/", "") };
    let mut running = f.invoke(request);
    // However often it gets its turn, it waits for its reader.
    for _ in 0..100 {
        tokio::select! {
            biased;
            result = &mut running => panic!("it did not wait: {result:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    let mut size = 0;
    let read = async {
        while let Some(piece) = pieces.recv().await {
            if let Piece::Body(bytes) = piece {
                size += bytes.len();
            }
        }
    };
    let (result, ()) = tokio::join!(running, read);
    assert_eq!(result.unwrap().function_error, None);
    assert_eq!(size, 5000 * 4096);

    // One that is to come as a whole may not be that large.
    let result = ask(&mut f, "{}").await;
    assert_eq!(json_of(&result)["errorType"], "Function.ResponseSizeTooLarge");

    // A reader that goes away does not stop the function.
    let (sender, pieces) = mpsc::channel(1);
    drop(pieces);
    let request = InvokeRequest { stream: Some(sender), ..http("GET", "/", "") };
    assert_eq!(f.invoke(request).await.unwrap().function_error, None);
}

/// Answers each connection with `served` and the request's path, a few times.
async fn server() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..read]).into_owned();
            let host = text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or("nobody");
            let body = format!("served {} to {host}", text.lines().next().unwrap());
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

/// The number of `HTTP-request-denied` among the error codes.
const DENIED: u8 = 15;

async fn fetch(instance: &mut Box<dyn Instance>, authority: &str) -> (Result<String, u8>, Vec<String>) {
    let (head, pieces, result) = stream(instance, http("POST", "/", authority.to_owned())).await;
    let logs = result.unwrap().logs.into_iter().map(|event| event.message).collect();
    let body = pieces.concat();
    match http_head(head).status.as_u16() {
        200 => (Ok(String::from_utf8(body).unwrap()), logs),
        _ => (Err(body[0]), logs),
    }
}

#[tokio::test]
async fn requests_reach_what_the_function_names_and_nothing_else() {
    let address = server().await;
    let port = address.port();
    let component = guests::fetches(false);
    let strict = House::new();
    let house = House::with(|config| config.wasm.outgoing_to_node = true);

    let mut f = house.start(&component).await;
    let (answer, logs) = fetch(&mut f, &address.to_string()).await;
    assert_eq!(answer, Err(DENIED));
    assert!(logs[0].contains(&format!("127.0.0.1:{port} was refused")), "{logs:?}");

    let hosts = format!("{address} localhost:{port} *:{port}");
    let named = [("HAWKER_OUTGOING_HOSTS", hosts.as_str())];
    let mut f = house.start_with(&component, &named).await;
    let (answer, _) = fetch(&mut f, &address.to_string()).await;
    assert_eq!(answer, Ok(format!("served GET /hello HTTP/1.1 to {address}")));
    let (answer, _) = fetch(&mut f, &format!("localhost:{port}")).await;
    assert_eq!(answer, Ok(format!("served GET /hello HTTP/1.1 to localhost:{port}")));
    // `*` is any host, but not this one.
    let (answer, logs) = fetch(&mut f, &format!("127.0.0.2:{port}")).await;
    assert_eq!(answer, Err(DENIED), "{logs:?}");
    let (answer, _) = fetch(&mut f, "127.0.0.1:1").await;
    assert_eq!(answer, Err(DENIED));

    // It takes the node's consent, too.
    let mut f = strict.start_with(&component, &named).await;
    for host in [address.to_string(), format!("localhost:{port}"), format!("[::ffff:127.0.0.1]:{port}")] {
        let (answer, logs) = fetch(&mut f, &host).await;
        assert_eq!(answer, Err(DENIED));
        assert!(logs[0].contains("outgoing_to_node"), "{logs:?}");
    }
    let error =
        strict.try_start(function(&component, &[("HAWKER_OUTGOING_HOSTS", "a/b")])).await.unwrap_err();
    assert!(matches!(&error, StartError::Code(message) if message.contains("`a/b`")), "{error}");
}

#[tokio::test]
async fn the_platform_knows_which_function_calls() {
    let house = House::new();
    let mut f = house.start(&guests::fetches(false)).await;
    let (answer, _) = fetch(&mut f, &house.platform.0.to_string()).await;
    assert_eq!(answer, Ok("arn:aws:lambda:us-east-1:000000000000:function:f".to_owned()));
}

#[tokio::test]
async fn packages_say_what_is_wrong_with_them() {
    let house = House::new();
    let fails = async |request: StartRequest| match house.try_start(request).await {
        Err(StartError::Code(message)) => message,
        other => panic!("{other:?}"),
    };
    let message = fails(request("wasm", "app.wasm", &[("app.py", b"")])).await;
    assert!(message.contains("neither a file `app.wasm`"), "{message}");
    let module = wat::parse_str("(module)").unwrap();
    let message = fails(function(&module, &[])).await;
    assert!(message.contains("core module"), "{message}");
    let message = fails(function(b"#!/bin/sh", &[])).await;
    assert!(message.contains("can not be compiled"), "{message}");
    let component = wat::parse_str("(component)").unwrap();
    let message = fails(function(&component, &[])).await;
    assert!(message.contains("does not export wasi:http/incoming-handler"), "{message}");
    let component = wat::parse_str("(component (import \"other:system/call\" (func)))").unwrap();
    let message = fails(function(&component, &[])).await;
    assert!(message.contains("other:system/call"), "{message}");
    let mut layered = function(&component, &[]);
    layered.layers = vec![layered.code.clone()];
    let message = fails(layered).await;
    assert!(message.contains("layers"), "{message}");

    // The only one is found without its name.
    let files: &[(&str, &[u8])] = &[("a/hello.wasm", &guests::says(200, "1")), ("readme", b"")];
    let mut f = house.try_start(request("wasm", "index.handler", files)).await.unwrap();
    assert_eq!(ask(&mut f, "{}").await.payload, "1");
}

#[tokio::test]
async fn code_is_compiled_once_even_if_many_want_it_at_once() {
    let house = House::new();
    let component = guests::says(200, "1");
    let prepared = function(&component, &[]);
    house.runtime.prepare("wasm", "app.wasm", &prepared.code).await.unwrap();
    let starts = (0..8).map(|_| async { ask(&mut house.start(&component).await, "{}").await.payload });
    assert!(futures_util::future::join_all(starts).await.iter().all(|answer| answer == "1"));
    let files = std::fs::read_dir(house.cache.path().join("cache/wasm")).unwrap();
    assert_eq!(files.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_may_run_wait_for_their_turn() {
    let house = House::with(|config| config.wasm.max_running = 4);
    let component = guests::echo();
    let requests = (0..100).map(|number| {
        let (house, component) = (&house, &component);
        async move {
            let mut f = house.start(component).await;
            json_of(&ask(&mut f, &number.to_string()).await) == number
        }
    });
    assert!(futures_util::future::join_all(requests).await.into_iter().all(|right| right));
}
