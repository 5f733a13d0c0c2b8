//! The Telemetry API and the Logs API.

use std::time::Duration;

use functions::{Instance, LogFormat, LogLevel, Runtime, StartRequest, Started};
use serde_json::{Value, json};

use crate::support::{House, ask, event, layer, lines, program, request};

/// An extension that subscribes, and prints every record that it is sent.
fn subscriber(path: &str, subscription: &Value, server: &str) -> String {
    program(&format!(
        "import socket, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
def show(record):
    # Not what comes of this very line.
    if 'SEEN' not in str(record['record']): print('SEEN ' + json.dumps(record), flush=True)
class Server(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        for record in json.loads(self.rfile.read(int(self.headers['Content-Length']))): show(record)
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *_): pass
def lines():
    listener = socket.create_server(('0.0.0.0', 4243))
    line, _ = listener.accept()
    for text in line.makefile(): show(json.loads(text))
{server}
status, headers, body = call('POST', '/2020-01-01/extension/register', '{{\"events\": [\"INVOKE\", \"SHUTDOWN\"]}}', {{'Lambda-Extension-Name': 'tell'}})
me = {{'Lambda-Extension-Identifier': headers['lambda-extension-identifier']}}
print(call('PUT', '{path}', json.dumps({subscription}), me)[0::2], flush=True)
while True:
    event = json.loads(call('GET', '/2020-01-01/extension/event/next', headers=me)[2])
    print('extension line', flush=True)
    time.sleep(0.4)
    if event['eventType'] == 'SHUTDOWN': sys.exit(0)"
    ))
}

const HTTP: &str =
    "threading.Thread(target=ThreadingHTTPServer(('0.0.0.0', 4243), Server).serve_forever).start()";
const TCP: &str = "threading.Thread(target=lines).start()";

async fn start(house: &House, extension: &str) -> Started {
    let text = b"import time\nprint('loading')\ndef handler(event, context):\n    print('{\"level\": \"info\", \"a\": 1}')\n    if event: time.sleep(100)\n    return 'done'";
    let start = StartRequest {
        layers: vec![layer(&[("extensions/tell", extension.as_bytes())])],
        log_format: LogFormat::Json { application: LogLevel::Info, system: LogLevel::Info },
        ..request("python3.11", "app.handler", &[("app.py", text)])
    };
    house.runtime.start(start).await.unwrap()
}

/// The records that the extension had shown by the end of an event that times out.
async fn seen(f: &mut Box<dyn Instance>) -> Vec<Value> {
    assert_eq!(ask(f, "0").await, "done");
    f.settle().await.unwrap();
    let result = f.invoke(event("1", Duration::from_millis(800))).await;
    let Err(functions::RunError::Timeout { logs, .. }) = result else { panic!("{result:?}") };
    let seen = lines(&logs);
    let seen = seen.iter().filter_map(|line| line.strip_prefix("SEEN "));
    seen.map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn of<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["type"] == kind).map(|record| &record["record"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_is_sent_what_happens() {
    let house = House::new().await;
    let subscription = json!({
        "schemaVersion": "2022-12-13",
        "types": ["platform", "function"],
        "buffering": { "maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25 },
        "destination": { "protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/records" },
    });
    let mut f = start(&house, &subscriber("/2022-07-01/telemetry", &subscription, HTTP)).await.instance;
    let records = seen(&mut f).await;
    let one = |kind: &str| {
        let found = of(&records, kind);
        assert!(!found.is_empty(), "{kind}: {records:?}");
        found[0].clone()
    };
    // The rest of the first event, and what is known of the second.
    let report = one("platform.report");
    assert_eq!((&report["status"], &report["metrics"]["memorySizeMB"]), (&json!("success"), &json!(256)));
    assert!(report["metrics"]["durationMs"].as_f64().unwrap() >= 400.0, "{report}");
    assert!(report["metrics"]["initDurationMs"].as_f64().unwrap() > 0.0);
    let begun = one("platform.start");
    assert_eq!(begun["requestId"].as_str().unwrap().len(), 36);
    let first = |record: &&Value| record["requestId"] == report["requestId"];
    assert_eq!(of(&records, "platform.start").into_iter().filter(first).count(), 1);
    assert_eq!(begun["version"], "$LATEST");
    assert!(of(&records, "function").contains(&&json!({"level": "info", "a": 1})), "{records:?}");
    assert_eq!(of(&records, "platform.runtimeDone").last().unwrap()["status"], "timeout");
    assert!(of(&records, "extension").is_empty());
    for record in &records {
        assert!(record["time"].as_str().unwrap().ends_with('Z'), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_before_the_subscription_is_sent_too() {
    let house = House::new().await;
    let subscription = json!({
        "schemaVersion": "2022-12-13",
        "types": ["platform", "function", "extension"],
        "buffering": { "timeoutMs": 25 },
        "destination": { "protocol": "TCP", "port": 4243 },
    });
    let started = start(&house, &subscriber("/2022-07-01/telemetry", &subscription, TCP)).await;
    let shown = |logs: &[telemetry::LogEvent]| -> Vec<Value> {
        let lines = lines(logs);
        lines
            .iter()
            .filter_map(|line| line.strip_prefix("SEEN "))
            .map(|text| serde_json::from_str(text).unwrap())
            .collect()
    };
    // What is printed while it waits is taken with the next answer.
    let mut records = shown(&started.logs);
    let mut f = started.instance;
    for _ in 0..3 {
        let result = crate::support::invoke(&mut f, "0").await;
        f.settle().await.unwrap();
        records.extend(shown(&result.logs));
    }
    for kind in [
        "platform.initStart",
        "platform.initRuntimeDone",
        "platform.initReport",
        "platform.extension",
        "platform.telemetrySubscription",
        "platform.start",
        "platform.runtimeDone",
        "platform.report",
        "function",
        "extension",
    ] {
        assert!(!of(&records, kind).is_empty(), "{kind}: {records:?}");
    }
    assert_eq!(of(&records, "platform.initStart")[0]["initializationType"], "on-demand");
    assert_eq!(of(&records, "platform.initRuntimeDone")[0]["status"], "success");
    let subscribed = of(&records, "platform.telemetrySubscription")[0];
    assert_eq!(
        *subscribed,
        json!({"name": "tell", "state": "Subscribed", "types": ["platform", "function", "extension"]})
    );
    assert_eq!(of(&records, "platform.extension")[0]["events"], json!(["INVOKE", "SHUTDOWN"]));
    assert_eq!(of(&records, "function")[0], "loading");
    f.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_api_words_it_as_it_did() {
    let house = House::new().await;
    let subscription = json!({
        "schemaVersion": "2021-03-18",
        "types": ["platform", "function"],
        "buffering": { "timeoutMs": 25 },
        "destination": { "protocol": "HTTP", "URI": "http://sandbox:4243" },
    });
    let mut f = start(&house, &subscriber("/2020-08-15/logs", &subscription, HTTP)).await.instance;
    let records = seen(&mut f).await;
    assert!(of(&records, "function").contains(&&json!("{\"level\": \"info\", \"a\": 1}")), "{records:?}");
    for kind in ["platform.end", "platform.report", "platform.start", "platform.runtimeDone"] {
        assert!(!of(&records, kind).is_empty(), "{kind}: {records:?}");
    }
    assert!(of(&records, "platform.initStart").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_that_can_not_be_are_refused() {
    let house = House::new().await;
    let text = "import http.client, json, os
def call(method, path, body=None, headers={}):
    line = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])
    line.request(method, path, body, headers)
    answer = line.getresponse()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(answer.read())
def subscribe(body, headers): return call('PUT', '/2022-07-01/telemetry', json.dumps(body), headers)[0::2]
status, headers, _ = call('POST', '/2020-01-01/extension/register', '{\"events\": []}', {'Lambda-Extension-Name': 'inner'})
me = {'Lambda-Extension-Identifier': headers['lambda-extension-identifier']}
good = {'schemaVersion': '2022-12-13', 'types': ['function'], 'destination': {'protocol': 'HTTP', 'URI': 'http://sandbox.localdomain:1'}}
seen = [subscribe(good, {}), subscribe({**good, 'destination': {'protocol': 'HTTP', 'URI': 'http://example.com:80'}}, me), subscribe({}, me), subscribe(good, me)]
import threading
threading.Thread(target=lambda: [call('GET', '/2020-01-01/extension/event/next', headers=me) for _ in range(9)], daemon=True).start()
def handler(event, context): return seen + [subscribe(good, me)]";
    let mut f = house.python(text).await;
    let answer = ask(&mut f, "0").await;
    let answer: Vec<_> = answer
        .as_array()
        .unwrap()
        .iter()
        .map(|each| (each[0].as_u64().unwrap(), each[1].get("errorType").cloned().unwrap_or(each[1].clone())))
        .collect();
    assert_eq!(
        answer,
        [
            (403, json!("Extension.MissingExtensionIdentifier")),
            (400, json!("ValidationError")),
            (400, json!("ValidationError")),
            (200, json!("OK")),
            (403, json!("Telemetry.SubscriptionClosed")),
        ]
    );
}
