//! Functions that do not answer, end, or use too much.

use std::time::Duration;

use functions::{RunError, StartError};
use serde_json::Value;

use crate::support::{House, ask, event, invoke, lines, request, try_invoke};
use functions::Runtime;

#[tokio::test(flavor = "multi_thread")]
async fn a_tight_loop_is_ended_at_its_time_with_its_children_and_its_log() {
    let house = House::new().await;
    let mut f = house
        .python(
            "import subprocess, signal
def handler(event, context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(['sh', '-c', 'trap \"\" TERM; while :; do :; done'], start_new_session=True)
    print('looping')
    while True: pass",
        )
        .await;
    let result = f.invoke(event("{}", Duration::from_millis(700))).await;
    let Err(RunError::Timeout { logs, max_memory_bytes }) = result else { panic!("{result:?}") };
    assert_eq!(lines(&logs), ["looping"]);
    assert!(max_memory_bytes > 0);
    assert!(!f.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_a_hard_limit() {
    let house = House::new().await;
    let mut f = house
        .python(
            "def handler(event, context):
    print('eating')
    block = []
    while True: block.append(bytearray(8 << 20))",
        )
        .await;
    let result = try_invoke(&mut f, "{}").await;
    let Err(RunError::Exited { out_of_memory, error_type, message, max_memory_bytes, logs, .. }) = result
    else {
        panic!("{result:?}")
    };
    assert!(out_of_memory, "{message}");
    assert_eq!(error_type, "Runtime.OutOfMemory");
    assert_eq!(message, "Runtime exited with error: signal: killed");
    assert_eq!(max_memory_bytes, 256 << 20);
    assert_eq!(lines(&logs), ["eating"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_tmp_is_no_memory_of_the_function_but_what_else_it_takes_is() {
    let house = House::new().await;
    let text = b"def handler(event, context):
    if event == 'fill':
        with open('/tmp/big', 'wb') as file:
            for _ in range(500): file.write(bytes(1 << 20))
        return open('/tmp/big', 'rb').seek(0, 2)
    if event == 'over':
        with open('/tmp/more', 'wb') as file:
            try:
                for _ in range(20): file.write(bytes(1 << 20))
            except OSError as error: return error.errno
    block = [bytearray(8 << 20) for _ in range(100)]";
    let mut small = request("python3.11", "app.handler", &[("app.py", text)]);
    (small.memory_mb, small.ephemeral_storage_mb) = (128, 512);
    let mut f = house.runtime.start(small).await.unwrap().instance;
    let result = invoke(&mut f, "\"fill\"").await;
    assert_eq!(&result.payload[..], (500 << 20).to_string().as_bytes());
    assert!(result.max_memory_bytes < 100 << 20, "{}", result.max_memory_bytes);
    assert_eq!(ask(&mut f, "\"over\"").await, libc::ENOSPC);
    let result = try_invoke(&mut f, "\"eat\"").await;
    let Err(RunError::Exited { out_of_memory, max_memory_bytes, .. }) = result else { panic!("{result:?}") };
    assert!(out_of_memory);
    assert_eq!(max_memory_bytes, 128 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_apart() {
    let house = House::new().await;
    for (text, message) in [
        ("import os\ndef handler(e, c): os._exit(0)", "Runtime exited without providing a reason"),
        ("import sys\ndef handler(e, c): sys.exit(3)", "Runtime exited with error: exit status 3"),
        (
            "import os\ndef handler(e, c): os.kill(os.getpid(), 11)",
            "Runtime exited with error: signal: segmentation fault",
        ),
        ("import os\ndef handler(e, c): os.abort()", "Runtime exited with error: signal: aborted"),
    ] {
        let mut f = house.python(text).await;
        let result = try_invoke(&mut f, "{}").await;
        let Err(RunError::Exited { message: found, error_type, out_of_memory, .. }) = result else {
            panic!("{result:?}")
        };
        assert_eq!(
            (found.as_str(), error_type.as_str(), out_of_memory),
            (message, "Runtime.ExitError", false)
        );
        assert!(!f.is_alive());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn init_that_ends_or_never_ends_is_an_init_error() {
    let house = House::with(|config| config.init_timeout_ms = 300).await;
    let failed = |result: Result<functions::Started, StartError>| match result {
        Err(StartError::Init { payload, logs, .. }) => {
            (serde_json::from_slice::<Value>(&payload).unwrap(), logs)
        }
        other => panic!("{other:?}"),
    };
    let (error, logs) = failed(house.shell("echo going; exit 7").await);
    assert_eq!(error["errorType"], "Runtime.ExitError");
    assert_eq!(error["errorMessage"], "Runtime exited with error: exit status 7");
    assert_eq!(lines(&logs), ["going"]);

    let mut slow = request("provided.al2023", "x", &[("bootstrap", b"#!/bin/sh\nwhile :; do :; done\n")]);
    slow.timeout = Duration::from_millis(300);
    let (error, _) = failed(house.runtime.start(slow).await);
    assert_eq!(error["errorType"], "Sandbox.Timedout");

    for file in [("other", &b"#!/bin/sh\n"[..]), ("bootstrap", b"not a program"), ("bootstrap", b"#!/none\n")]
    {
        let (error, _) = failed(house.runtime.start(request("provided.al2023", "x", &[file])).await);
        assert_eq!(error["errorType"], "Runtime.InvalidEntrypoint", "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_fills_its_own_sandbox_only() {
    let house = House::with(|config| config.max_processes = 64).await;
    let mut bomb = house
        .python(
            "import os
def handler(event, context):
    made = 0
    try:
        while True:
            if os.fork() == 0:
                while True: os.read(os.pipe()[0], 1)
            made += 1
    except OSError as error:
        return [made, error.errno]",
        )
        .await;
    let mut other =
        house.python("import subprocess\ndef handler(e, c): return subprocess.call('true')").await;
    let answer = ask(&mut bomb, "{}").await;
    assert!(answer[0].as_i64().unwrap() < 80, "{answer}");
    assert_eq!(answer[1], libc::EAGAIN);
    assert_eq!(ask(&mut other, "{}").await, 0);
    bomb.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_is_an_error() {
    let house = House::new().await;
    let mut f = house.python("def handler(event, context): return 'x' * event").await;
    let result = invoke(&mut f, "7000000").await;
    assert_eq!(result.function_error.as_deref(), Some("Unhandled"));
    let error: Value = serde_json::from_slice(&result.payload).unwrap();
    assert_eq!(error["errorType"], "Function.ResponseSizeTooLarge");
    assert_eq!(ask(&mut f, "6000000").await.as_str().unwrap().len(), 6_000_000);
    assert_eq!(ask(&mut f, "3").await, "xxx");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_is_cut() {
    let house = House::with(|config| config.max_log_bytes = 100_000).await;
    let mut f = house
        .python(
            "def handler(event, context):\n    for i in range(200000): print('spam', i)\n    return 'done'",
        )
        .await;
    let result = invoke(&mut f, "{}").await;
    let logs = lines(&result.logs);
    assert_eq!(logs[0], "spam 0");
    assert!(logs.last().unwrap().starts_with("[hawker] truncated"), "{:?}", logs.last());
    assert!(logs.iter().map(|line| line.len()).sum::<usize>() < 100_000);
    assert_eq!(&result.payload[..], b"\"done\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_can_not_leave_their_directory_or_be_bombs() {
    let house = House::with(|config| config.max_unzipped_bytes = 1 << 20).await;
    for (files, part) in [
        (vec![("../outside", &b"x"[..])], "leads out of the package"),
        (vec![("app.py", &vec![0; (1 << 20) + 1][..])], "Unzipped size must be smaller than"),
    ] {
        let result = house.runtime.start(request("python3.11", "app.handler", &files)).await;
        let Err(StartError::Code(message)) = result else { panic!("{result:?}") };
        assert!(message.contains(part), "{message}");
    }
    let mut wrong = request("python3.11", "app.handler", &[("app.py", b"")]);
    wrong.code.sha256 = "0".repeat(64);
    let result = house.runtime.start(wrong).await;
    assert!(
        matches!(&result, Err(StartError::Platform(message)) if message.contains("damaged")),
        "{result:?}"
    );
    let left: Vec<_> = std::fs::read_dir(house.cache.path().join("cache/code")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_api_refuses_what_is_out_of_turn() {
    let house = House::new().await;
    let mut f = house
        .python(
            "import os, urllib.request, urllib.error
def call(method, path, body=None):
    url = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + path
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, method=method)) as r: return [r.status, r.read().decode()]
    except urllib.error.HTTPError as e:
        return [e.code, e.read().decode()]
def handler(event, context):
    api = '/2018-06-01/runtime'
    return [
        call('GET', api + '/invocation/next'),
        call('POST', api + '/invocation/other/response', b'1'),
        call('POST', api + '/init/error', b'{}'),
        call('POST', '/2020-01-01/extension/register', b'{}'),
        call('GET', '/2018-06-01/nothing'),
    ]",
        )
        .await;
    let answer = ask(&mut f, "{}").await;
    let statuses: Vec<_> = answer.as_array().unwrap().iter().map(|a| a[0].as_u64().unwrap()).collect();
    assert_eq!(statuses, [403, 400, 403, 403, 404], "{answer}");
    assert!(answer[0][1].as_str().unwrap().contains("InvalidStateTransition"));
    assert!(answer[1][1].as_str().unwrap().contains("InvalidRequestID"));
}
