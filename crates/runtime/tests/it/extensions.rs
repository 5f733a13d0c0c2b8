//! Extensions: external ones from layers, internal ones, and what becomes of an instance with them.

use std::time::{Duration, Instant};

use functions::{RunError, Runtime, StartError, StartRequest};
use serde_json::{Value, json};

use crate::support::{House, ask, event, invoke, layer, lines, program, request, try_invoke};

/// An extension of this name that runs `text` between registering and waiting for events, and `each` for each.
fn extension(name: &str, events: &str, text: &str, each: &str) -> String {
    program(&format!(
        "status, headers, body = call('POST', '/2020-01-01/extension/register', '{{\"events\": {events}}}', {{'Lambda-Extension-Name': '{name}'}})
print('{name} registered', status, flush=True)
me = {{'Lambda-Extension-Identifier': headers['lambda-extension-identifier']}}
{text}
while True:
    event = json.loads(call('GET', '/2020-01-01/extension/event/next', headers=me)[2])
    print('{name} got', event['eventType'], event.get('shutdownReason', ''), flush=True)
    {each}
    if event['eventType'] == 'SHUTDOWN': sys.exit(0)"
    ))
}

const HANDLER: &str = "import os
def handler(event, context):
    print('handling')
    return sorted(os.listdir('/opt/extensions'))";

fn with_extensions(text: &str, extensions: &[(&str, &str)]) -> StartRequest {
    let files: Vec<_> =
        extensions.iter().map(|(name, text)| (format!("extensions/{name}"), text.as_bytes())).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    StartRequest {
        layers: vec![layer(&files)],
        ..request("python3.11", "app.handler", &[("app.py", text.as_bytes())])
    }
}

const BOTH: &str = "[\"INVOKE\", \"SHUTDOWN\"]";

#[tokio::test(flavor = "multi_thread")]
async fn extensions_start_first_and_are_told_of_events() {
    let house = House::new().await;
    let one = extension(
        "one",
        BOTH,
        "print(sorted(k for k in os.environ if k in ('_HANDLER', 'LAMBDA_TASK_ROOT', 'COLOUR', 'AWS_REGION')), os.getuid(), flush=True)",
        "",
    );
    let two = extension("two", "[]", "", "");
    let started =
        house.runtime.start(with_extensions(HANDLER, &[("one", &one), ("two", &two)])).await.unwrap();
    let mut logs = lines(&started.logs);
    logs.sort_unstable();
    assert_eq!(logs, ["['AWS_REGION', 'COLOUR'] 993", "one registered 200", "two registered 200"]);
    let mut f = started.instance;
    assert!(!f.is_settling());
    // What it writes after an answer comes with the next one.
    let mut logs = Vec::new();
    for _ in 0..4 {
        let result = invoke(&mut f, "{}").await;
        assert_eq!(&result.payload[..], b"[\"one\", \"two\"]");
        logs.extend(result.logs);
        f.settle().await.unwrap();
        assert!(!f.is_settling());
    }
    let logs = lines(&logs);
    let told = logs.iter().filter(|line| **line == "one got INVOKE ").count();
    assert!((3..=4).contains(&told), "{logs:?}");
    assert_eq!(logs.iter().filter(|line| **line == "handling").count(), 4);
    assert!(!logs.iter().any(|line| line.starts_with("two got")), "{logs:?}");
    f.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_settles_when_its_extensions_ask_again() {
    let house = House::new().await;
    let slow = extension("slow", BOTH, "", "time.sleep(0.5 if event['eventType'] == 'INVOKE' else 0)");
    let mut f = house.runtime.start(with_extensions(HANDLER, &[("slow", &slow)])).await.unwrap().instance;
    let result = invoke(&mut f, "{}").await;
    assert!(result.duration < Duration::from_millis(450), "{:?}", result.duration);
    assert!(f.is_settling());
    assert!(f.settle().await.unwrap() > Duration::from_millis(100));
    assert!(!f.is_settling());
    // One that does not ask in time ends the instance.
    f.invoke(event("{}", Duration::from_millis(200))).await.unwrap();
    let late = f.settle().await;
    assert!(matches!(late, Err(RunError::Timeout { .. })), "{late:?}");
    assert!(!f.is_alive());
}

/// An extension that leaves a mark in the platform's log when it is shut down is not seen once the instance is gone,
/// so what is looked at is how long the end takes.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_in_order_and_limited() {
    let house = House::new().await;
    let stop = async |text: &str, extensions: &[(&str, &str)]| {
        let f = house.runtime.start(with_extensions(text, extensions)).await.unwrap().instance;
        let began = Instant::now();
        f.stop().await;
        began.elapsed()
    };
    // SIGTERM reaches the function first, then the event reaches the extension.
    let term = "import signal, sys, os
def end(*_):
    open('/tmp/ended', 'w').write('x')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
def handler(event, context): pass";
    let quick = extension(
        "quick",
        BOTH,
        "",
        "time.sleep(0.4 if event['eventType'] == 'SHUTDOWN' and os.path.exists('/tmp/ended') else 0)",
    );
    let took = stop(term, &[("quick", &quick)]).await;
    assert!(took > Duration::from_millis(400) && took < Duration::from_millis(1900), "{took:?}");
    // Who does not end is ended.
    let stuck = extension("stuck", BOTH, "", "time.sleep(1000)");
    let took = stop(term, &[("stuck", &stuck)]).await;
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(10), "{took:?}");
    // Who does not want to know is not waited for.
    let deaf = extension("deaf", "[\"INVOKE\"]", "", "");
    assert!(stop(term, &[("deaf", &deaf)]).await < Duration::from_millis(1900));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_told_to_extensions() {
    let house = House::new().await;
    let watch = extension("watch", BOTH, "", "");
    let text = "import time\ndef handler(event, context): time.sleep(1000)";
    let mut f = house.runtime.start(with_extensions(text, &[("watch", &watch)])).await.unwrap().instance;
    let result = f.invoke(event("{}", Duration::from_millis(400))).await;
    let Err(RunError::Timeout { logs, .. }) = result else { panic!("{result:?}") };
    let logs = lines(&logs);
    assert!(logs.contains(&"watch got SHUTDOWN timeout"), "{logs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_that_fail_end_the_instance() {
    let house = House::new().await;
    let failed = async |extension: &str| {
        let result = house.runtime.start(with_extensions(HANDLER, &[("bad", extension)])).await;
        let Err(StartError::Init { payload, .. }) = result else { panic!("{result:?}") };
        let error: Value = serde_json::from_slice(&payload).unwrap();
        (error["errorType"].as_str().unwrap().to_owned(), error["errorMessage"].as_str().unwrap().to_owned())
    };
    let (kind, message) = failed("#!/bin/sh\nexit 3\n").await;
    assert_eq!((kind.as_str(), message.as_str()), ("Extension.Crash", "exit code 3"));
    let (kind, message) = failed("not a program").await;
    assert_eq!(kind, "Extension.LaunchError");
    assert!(message.contains("exec format error"), "{message}");
    let report = "print(call('POST', '/2020-01-01/extension/init/error', '{\"errorMessage\": \"no key\"}', {**me, 'Lambda-Extension-Function-Error-Type': 'Extension.NoKey'})); time.sleep(60)";
    let (kind, message) = failed(&extension("bad", BOTH, report, "")).await;
    assert_eq!((kind.as_str(), message.as_str()), ("Extension.InitError", "no key"));

    let crash = extension("bad", BOTH, "", "os.kill(os.getpid(), 9)");
    let slow = "import time\ndef handler(event, context): time.sleep(1000)";
    let mut f = house.runtime.start(with_extensions(slow, &[("bad", &crash)])).await.unwrap().instance;
    let result = try_invoke(&mut f, "{}").await;
    let Err(RunError::Exited { error_type, message, .. }) = result else { panic!("{result:?}") };
    assert_eq!((error_type.as_str(), message.as_str()), ("Extension.Crash", "signal: killed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_ends_beside_extensions_is_an_error_of_the_function() {
    let house = House::new().await;
    let watch = extension("watch", BOTH, "", "");
    let text = "import sys\ndef handler(event, context): sys.exit(5)";
    let mut f = house.runtime.start(with_extensions(text, &[("watch", &watch)])).await.unwrap().instance;
    let result = try_invoke(&mut f, "{}").await;
    let Err(RunError::Exited { error_type, message, logs, .. }) = result else { panic!("{result:?}") };
    assert_eq!(error_type, "Runtime.ExitError");
    assert_eq!(message, "Runtime exited with error: exit status 5");
    assert!(lines(&logs).contains(&"watch got SHUTDOWN failure"), "{logs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_beside_extensions_never_took_is_given_back() {
    let house = House::new().await;
    let watch = extension("watch", BOTH, "", "");
    // It ends between two events, while the extension goes on.
    let text = "import os, threading, time
def late():
    time.sleep(0.2)
    print('gone', flush=True)
    os._exit(5)
def handler(event, context):
    threading.Thread(target=late).start()
    return 1";
    let mut f = house.runtime.start(with_extensions(text, &[("watch", &watch)])).await.unwrap().instance;
    assert_eq!(ask(&mut f, "{}").await, 1);
    f.settle().await.unwrap();
    while f.is_alive() {
        tokio::task::yield_now().await;
    }
    let next = try_invoke(&mut f, "[1]").await;
    let Err(RunError::NotTaken { request, error }) = next else { panic!("{next:?}") };
    assert!(matches!(&request.event, functions::Event::Json(event) if &event[..] == b"[1]"));
    let RunError::Exited { error_type, message, logs, .. } = *error else { panic!("{error:?}") };
    assert_eq!(error_type, "Runtime.ExitError");
    assert_eq!(message, "Runtime exited with error: exit status 5");
    assert!(lines(&logs).contains(&"gone"), "{logs:?}");
}

/// A function that is its own extension.
const INTERNAL: &str = "import http.client, json, os, threading
def call(method, path, body=None, headers={}):
    line = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])
    line.request(method, path, body, headers)
    answer = line.getresponse()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
register = '/2020-01-01/extension/register'
refused = [call('POST', register, json.dumps(body), headers)[0::2] for body, headers in [
    ({'events': ['SHUTDOWN']}, {'Lambda-Extension-Name': 'x'}),
    ({'events': ['OTHER']}, {'Lambda-Extension-Name': 'x'}),
    ({'events': []}, {}),
]]
status, headers, facts = call('POST', register, '{\"events\": [\"INVOKE\"]}', {'Lambda-Extension-Name': 'inner', 'Lambda-Extension-Accept-Feature': 'accountId'})
refused.append(call('POST', register, '{\"events\": []}', {'Lambda-Extension-Name': 'inner'})[0::2])
me = {'Lambda-Extension-Identifier': headers['lambda-extension-identifier']}
refused.append(call('GET', '/2020-01-01/extension/event/next')[0::2])
refused.append(call('GET', '/2020-01-01/extension/event/next', headers={'Lambda-Extension-Identifier': 'x'})[0::2])
refused.append(call('GET', '/2020-01-01/extension/event/next', headers={'Lambda-Extension-Identifier': '0' * 8 + '-0000' * 3 + '-' + '0' * 12})[0::2])
seen = []
def listen():
    while True: seen.append(json.loads(call('GET', '/2020-01-01/extension/event/next', headers=me)[2]))
threading.Thread(target=listen, daemon=True).start()
def handler(event, context):
    if event == 'late': return [call('POST', register, '{\"events\": []}', {'Lambda-Extension-Name': 'late'})[0], len(seen)]
    return [json.loads(facts), [[s, json.loads(b)['errorType']] for s, b in refused]]";

#[tokio::test(flavor = "multi_thread")]
async fn internal_extensions_are_told_and_what_is_wrong_is_named() {
    let house = House::new().await;
    let mut f = house.python(INTERNAL).await;
    let answer = ask(&mut f, "1").await;
    assert_eq!(
        answer[0],
        json!({
            "functionName": "f", "functionVersion": "$LATEST", "handler": "app.handler",
            "accountId": "000000000000"
        })
    );
    assert_eq!(
        answer[1],
        json!([
            [403, "Extension.InvalidEventType"],
            [403, "Extension.InvalidEventType"],
            [403, "Extension.InvalidExtensionName"],
            [403, "Extension.InvalidExtensionState"],
            [403, "Extension.MissingExtensionIdentifier"],
            [403, "Extension.InvalidExtensionIdentifier"],
            [403, "Extension.UnknownExtensionIdentifier"],
        ])
    );
    f.settle().await.unwrap();
    let answer = ask(&mut f, "\"late\"").await;
    assert_eq!(answer[0], 403);
    assert!(answer[1].as_u64().unwrap() >= 1, "{answer}");
    f.settle().await.unwrap();
    // A function that lets SIGTERM end it is not waited for.
    let began = Instant::now();
    f.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_have_the_walls_of_their_function() {
    let house = House::new().await;
    let secret = house.cache.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    let look = format!(
        "def look(path):
    try: return len(open(path, 'rb').read(8))
    except OSError as e: return e.errno
def put(path):
    try: open(path, 'w'); return 0
    except OSError as e: return e.errno
import ctypes, socket
def reach():
    try: socket.create_connection(('192.0.2.1', 80), 1)
    except OSError as e: return e.errno
status = dict(l.split(None, 1) for l in open('/proc/self/status').read().splitlines() if l.startswith(('CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp:')))
print(json.dumps([look({secret:?}), look('/etc/shadow'), put('/opt/x'), put('/var/task/x'), put('/tmp/y'), reach(), ctypes.CDLL(None).unshare(0x10000000), os.listdir('/proc/self/fd')[3:], status]), flush=True)"
    );
    let spy = extension("spy", "[]", &look, "");
    let started = house.runtime.start(with_extensions(HANDLER, &[("spy", &spy)])).await.unwrap();
    let logs = lines(&started.logs);
    let seen: Value = serde_json::from_str(logs.iter().find(|line| line.starts_with('[')).unwrap()).unwrap();
    assert_eq!(
        seen.as_array().unwrap()[..7],
        [libc::ENOENT, libc::ENOENT, libc::EROFS, libc::EROFS, 0, libc::ENETUNREACH, -1].map(Value::from)
    );
    let status = &seen[8];
    assert_eq!((&status["NoNewPrivs:"], &status["Seccomp:"]), (&json!("1"), &json!("2")));
    assert_eq!(status["CapBnd:"], "0000000000000000");
    // Memory is one for all.
    let eat = extension("eat", "[\"INVOKE\"]", "", "block = [bytearray(8 << 20) for _ in range(100)]");
    let mut f = house.runtime.start(with_extensions(HANDLER, &[("eat", &eat)])).await.unwrap().instance;
    let _ = try_invoke(&mut f, "{}").await;
    let result = f.settle().await;
    assert!(matches!(result, Err(RunError::Exited { out_of_memory: true, .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_a_limit_to_extensions() {
    let house = House::new().await;
    let many: Vec<_> = (0..11).map(|number| (format!("extension-{number}"), "#!/bin/sh\n")).collect();
    let many: Vec<_> = many.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let result = house.runtime.start(with_extensions(HANDLER, &many)).await;
    assert!(
        matches!(&result, Err(StartError::Code(message)) if message.contains("11 extensions")),
        "{result:?}"
    );
}
