//! Python functions.

use std::time::Duration;

use functions::{Runtime, StartError};
use serde_json::{Value, json};

use crate::support::{House, ask, event, invoke, lines, request};

#[tokio::test(flavor = "multi_thread")]
async fn the_context_and_the_environment_are_lambdas() {
    let house = House::new().await;
    let mut f = house
        .python(
            "import os, sys
def handler(event, context):
    return {
        'event': event, 'id': context.aws_request_id, 'name': context.function_name,
        'arn': context.invoked_function_arn, 'memory': context.memory_limit_in_mb,
        'version': context.function_version, 'group': context.log_group_name, 'stream': context.log_stream_name,
        'left': 0 < context.get_remaining_time_in_millis() <= 60000, 'trace': os.environ['_X_AMZN_TRACE_ID'],
        'custom': context.client_context and context.client_context.custom,
        'env': dict(os.environ), 'path': sys.path, 'cwd': os.getcwd(), 'uid': os.getuid(),
    }",
        )
        .await;
    let mut request = event("{\"grüße\": [1, 2.5, null]}", Duration::from_secs(60));
    request.client_context = Some("{\"custom\": {\"a\": \"b\"}}".into());
    let (id, trace) = (request.request_id.to_string(), request.trace.to_string());
    let result = f.invoke(request).await.unwrap();
    let answer: Value = serde_json::from_slice(&result.payload).unwrap();
    assert_eq!(answer["event"], json!({"grüße": [1, 2.5, null]}));
    assert_eq!(answer["id"], id);
    assert_eq!(answer["trace"], trace);
    assert_eq!(answer["name"], "f");
    assert_eq!(answer["arn"], "arn:aws:lambda:us-east-1:000000000000:function:f:live");
    assert_eq!(answer["memory"], "256");
    assert_eq!(answer["version"], "$LATEST");
    assert_eq!(answer["group"], "/aws/lambda/f");
    assert_eq!(answer["stream"], "2026/01/01/[$LATEST]0");
    assert_eq!(answer["left"], true);
    assert_eq!(answer["custom"], json!({"a": "b"}));
    assert_eq!(answer["cwd"], "/var/task");
    assert_eq!(answer["path"][0], "/var/task");
    for (name, value) in [
        ("COLOUR", "grün"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
        ("AWS_EXECUTION_ENV", "AWS_Lambda_python3.11"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_SESSION_TOKEN", "token"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("_HANDLER", "app.handler"),
        ("TZ", ":UTC"),
    ] {
        assert_eq!(answer["env"][name], value, "{name}");
    }
    // What AWS documents, the user's own, and nothing else; HOME is not among it. LC_CTYPE is Python's own doing
    // on hosts that do not have the language.
    let mut names: Vec<_> = answer["env"].as_object().unwrap().keys().map(String::as_str).collect();
    names.retain(|name| *name != "LC_CTYPE");
    assert_eq!(
        names,
        [
            "AWS_ACCESS_KEY_ID",
            "AWS_DEFAULT_REGION",
            "AWS_ENDPOINT_URL",
            "AWS_EXECUTION_ENV",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            "AWS_LAMBDA_FUNCTION_NAME",
            "AWS_LAMBDA_FUNCTION_VERSION",
            "AWS_LAMBDA_INITIALIZATION_TYPE",
            "AWS_LAMBDA_LOG_FORMAT",
            "AWS_LAMBDA_LOG_GROUP_NAME",
            "AWS_LAMBDA_LOG_STREAM_NAME",
            "AWS_LAMBDA_RUNTIME_API",
            "AWS_REGION",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_XRAY_CONTEXT_MISSING",
            "COLOUR",
            "LAMBDA_RUNTIME_DIR",
            "LAMBDA_TASK_ROOT",
            "LANG",
            "LD_LIBRARY_PATH",
            "PATH",
            "PYTHONPATH",
            "TZ",
            "_HANDLER",
            "_X_AMZN_TRACE_ID",
        ]
    );
    assert!(result.max_memory_bytes > 1 << 20, "{}", result.max_memory_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_json_as_lambda_writes_it() {
    let house = House::new().await;
    let mut f = house
        .python(
            "from decimal import Decimal
def handler(event, context):
    if event == 'bytes': return b'{\"raw\": true}'
    if event == 'set': return {1, 2}
    return {'d': Decimal('1.10000000000000000000001'), 'i': Decimal(7), 'text': 'zoë', 'none': None}",
        )
        .await;
    let result = invoke(&mut f, "1").await;
    let text = String::from_utf8(result.payload.to_vec()).unwrap();
    assert!(text.contains("1.10000000000000000000001") && text.contains("\"i\": 7,"), "{text}");
    assert_eq!(ask(&mut f, "\"bytes\"").await, json!({"raw": true}));
    let result = invoke(&mut f, "\"set\"").await;
    assert_eq!(result.function_error.as_deref(), Some("Unhandled"));
    let error: Value = serde_json::from_slice(&result.payload).unwrap();
    assert_eq!(error["errorType"], "Runtime.MarshalError");
    assert_eq!(
        error["errorMessage"],
        "Unable to marshal response: Object of type set is not JSON serializable"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_type_message_and_trace_and_the_instance_goes_on() {
    let house = House::new().await;
    let mut f = house
        .python(
            "def handler(event, context):\n    if event: raise ValueError('no such thing')\n    return 1\n",
        )
        .await;
    let result = invoke(&mut f, "true").await;
    assert_eq!(result.function_error.as_deref(), Some("Unhandled"));
    let error: Value = serde_json::from_slice(&result.payload).unwrap();
    assert_eq!(error["errorType"], "ValueError");
    assert_eq!(error["errorMessage"], "no such thing");
    assert_eq!(
        error["stackTrace"],
        json!([
            "  File \"/var/task/app.py\", line 2, in handler\n    if event: raise ValueError('no such thing')\n"
        ])
    );
    assert!(lines(&result.logs)[0].starts_with("[ERROR] ValueError: no such thing\nTraceback"));
    assert_eq!(ask(&mut f, "false").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_logged_before_the_answer() {
    let house = House::new().await;
    let started = house
        .start(
            "python3.11",
            "app.py",
            "import logging, sys
logging.getLogger().setLevel('INFO')
print('loading')
def handler(event, context):
    print('größe', event)
    logging.info('two\\nlines')
    print('to stderr', file=sys.stderr)
    print('unended', end='')
",
        )
        .await
        .unwrap();
    assert_eq!(lines(&started.logs), ["loading"]);
    let mut f = started.instance;
    for number in ["1", "2"] {
        let request = event(number, Duration::from_secs(60));
        let id = request.request_id.to_string();
        let result = f.invoke(request).await.unwrap();
        let logs = lines(&result.logs);
        assert_eq!(logs.len(), 4, "{logs:?}");
        assert_eq!(logs[0], format!("größe {number}"));
        assert!(logs[1].starts_with("[INFO]\t20"), "{logs:?}");
        assert!(logs[1].ends_with(&format!("Z\t{id}\ttwo\nlines")), "{logs:?}");
        assert_eq!(logs[2..], ["to stderr", "unended"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_can_not_be_loaded_is_an_init_error() {
    let house = House::new().await;
    for (text, handler, kind, message) in [
        (
            "import nothing_like_it",
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'nothing_like_it'",
        ),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': "),
        ("x = 1", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("x = 1", "app", "Runtime.MalformedHandlerName", "Bad handler 'app'"),
        ("raise KeyError('at load')", "app.handler", "KeyError", "'at load'"),
    ] {
        let result =
            house.runtime.start(request("python3.11", handler, &[("app.py", text.as_bytes())])).await;
        let Err(StartError::Init { payload, logs, out_of_memory, .. }) = result else {
            panic!("{text}: {result:?}")
        };
        let error: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(error["errorType"], kind);
        assert!(error["errorMessage"].as_str().unwrap().starts_with(message), "{error}");
        assert!(lines(&logs)[0].starts_with(&format!("[ERROR] {kind}")), "{logs:?}");
        assert!(!out_of_memory);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_is_reached_and_knows_who_asks() {
    let house = House::new().await;
    let mut f = house
        .python(
            "import os, urllib.request
def handler(event, context):
    return urllib.request.urlopen(os.environ['AWS_ENDPOINT_URL'] + '/bucket').read().decode()",
        )
        .await;
    assert_eq!(ask(&mut f, "{}").await, "arn:aws:lambda:us-east-1:000000000000:function:f");
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_is_there_and_a_packaged_one_wins() {
    let house = House::with(|config| config.provide_boto3 = true).await;
    house.runtime.prepare("python3.11").await.unwrap();
    let text = "import boto3, botocore
def handler(event, context):
    s3 = boto3.client('s3')
    return [boto3.__file__, s3.meta.endpoint_url]";
    let mut f = house.python(text).await;
    let answer = ask(&mut f, "{}").await;
    assert!(answer[0].as_str().unwrap().starts_with("/var/runtime/site-packages/boto3/"), "{answer}");
    assert_eq!(answer[1], "http://127.0.0.1:4566");

    let text = b"import boto3\ndef handler(event, context):\n    return boto3.MINE\n";
    let own: &[(&str, &[u8])] = &[("app.py", text), ("boto3/__init__.py", b"MINE = 42\n")];
    let mut f = house.runtime.start(request("python3.11", "app.handler", own)).await.unwrap().instance;
    assert_eq!(ask(&mut f, "{}").await, 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_stands_in_only_where_that_is_allowed() {
    let house = House::with(|config| config.substitute_runtimes = false).await;
    let refused = house.runtime.check("python3.99").unwrap_err();
    assert!(refused.contains("python3.99"), "{refused}");
    let text: &[(&str, &[u8])] = &[("app.py", b"def handler(e, c): return 1\n")];
    let result = house.runtime.start(request("python3.99", "app.handler", text)).await;
    assert!(matches!(result, Err(StartError::Unsupported(_))));

    let house = House::new().await;
    let started = house.runtime.start(request("python3.99", "app.handler", text)).await.unwrap();
    assert!(lines(&started.logs)[0].starts_with("[hawker] python3.99 is not on this host"));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_read_and_written_as_by_the_json_module() {
    let house = House::new().await;
    let mut f = house
        .python(
            r#"import enum, sys
before = sorted(name for name in ('json', 're', 'os') if name in sys.modules)
import hawker_runtime, json, os
class Level(enum.IntEnum):
    HIGH = 3
def outcome(call, value):
    try:
        return repr(call(value))
    except BaseException as error:
        return [type(error).__name__, str(error)]
def written(value):
    return json.dumps(value, ensure_ascii=sys.version_info < (3, 12)).encode()
def handler(event, context):
    wrong = []
    texts = ['{}', ' [1, 2.5, null, true, "\\u00fc\\ud800"] \n', '1', '-0.0', '1e999', 'NaN', '[Infinity,-Infinity]', '',
             'nul', '{', '1 2', '[1,]', '"\x01"', '{"a":1,"a":2}', '\ufeff{}', '[' * 100000, '9' * 30, '{"a" 1}', '\x0b1']
    bodies = [text.encode(encoding, 'surrogatepass') for text in texts for encoding in ('utf-8', 'utf-16', 'utf-32-le')]
    for body in bodies + [b'\xff', b'"\xed\xa0\x80"']:
        if outcome(json.loads, body) != outcome(hawker_runtime._loads, body):
            wrong.append(repr(body)[:50])
    ring = []
    ring.append(ring)
    for value in [None, True, 1, 1.5, float('nan'), float('inf'), 'zo\u00eb\n"', Level.HIGH, {'a': 1, 1: 2, None: 3, 1.5: [{}]},
                  (1, 2), ring, {1, 2}, b'x', {(1, 2): 3}, 10 ** 400, {'x': {'y': {1}}}]:
        if outcome(written, value) != outcome(hawker_runtime._dumps, value):
            wrong.append(repr(value)[:50])
    os.environ['SET_BY_USER'] = 'x'
    return [before, wrong, hawker_runtime._env('SET_BY_USER'), os.environ['_X_AMZN_TRACE_ID'] == os.getenv('_X_AMZN_TRACE_ID')]
"#,
        )
        .await;
    assert_eq!(ask(&mut f, "{}").await, json!([[], [], "x", true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_answers_of_all_sizes_follow_each_other() {
    let house = House::new().await;
    let mut f = house.python("def handler(event, context): return event").await;
    for length in [0, 1, 1000, 65_000, 65_536, 70_000, 1_000_000, 1_900_000, 3] {
        let text = format!("\"{}\"", "ü".repeat(length / 2));
        let result = invoke(&mut f, &text).await;
        assert_eq!(serde_json::from_slice::<Value>(&result.payload).unwrap(), text.trim_matches('"'));
    }
}
