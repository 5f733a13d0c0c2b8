//! Node.js functions.

use functions::{Runtime, StartError};
use serde_json::{Value, json};

use crate::support::{House, ask, invoke, lines, request, try_invoke};

#[tokio::test(flavor = "multi_thread")]
async fn modules_of_both_kinds_and_handlers_of_all_styles() {
    let house = House::new().await;
    for (file, text) in [
        (
            "app.mjs",
            "export const handler = async (event, context) => ({ got: event, id: context.awsRequestId.length });",
        ),
        (
            "app.cjs",
            "exports.handler = async (event, context) => ({ got: event, id: context.awsRequestId.length });",
        ),
        (
            "app.js",
            "exports.handler = (event, context, callback) => { setTimeout(() => callback(null, { got: event, id: 36 }), 5); };",
        ),
        (
            "app.js",
            "exports.handler = (event, context) => { context.callbackWaitsForEmptyEventLoop = false; setInterval(() => {}, 1000); context.succeed({ got: event, id: 36 }); };",
        ),
    ] {
        let mut f = house.start("nodejs20.x", file, text).await.unwrap().instance;
        for _ in 0..2 {
            assert_eq!(ask(&mut f, "{\"a\":\"ü\"}").await, json!({"got": {"a": "ü"}, "id": 36}), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_the_console_are_as_on_lambda() {
    let house = House::new().await;
    let text = "export const handler = async (event) => {
  console.log('hello %s', event.name, { a: 1 });
  console.error('two\\nlines');
  if (event.fail) throw new RangeError('too far');
};";
    let mut f = house.start("nodejs20.x", "app.mjs", text).await.unwrap().instance;
    let result = invoke(&mut f, "{\"name\":\"x\"}").await;
    assert_eq!(&result.payload[..], b"null");
    let logs = lines(&result.logs);
    assert!(logs[0].ends_with("\tINFO\thello x { a: 1 }"), "{logs:?}");
    assert!(logs[1].ends_with("\tERROR\ttwo\nlines"), "{logs:?}");
    let result = invoke(&mut f, "{\"name\":\"x\",\"fail\":true}").await;
    assert_eq!(result.function_error.as_deref(), Some("Unhandled"));
    let error: Value = serde_json::from_slice(&result.payload).unwrap();
    assert_eq!(
        (error["errorType"].as_str(), error["errorMessage"].as_str()),
        (Some("RangeError"), Some("too far"))
    );
    assert_eq!(error["trace"][0], "RangeError: too far");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_can_not_be_loaded_is_an_init_error() {
    let house = House::new().await;
    for (text, kind) in [
        ("import 'nothing-like-it';", "Runtime.ImportModuleError"),
        ("export const handler = (", "Runtime.UserCodeSyntaxError"),
        ("export const other = 1;", "Runtime.HandlerNotFound"),
        ("throw new TypeError('at load');", "TypeError"),
    ] {
        let result = house.start("nodejs20.x", "app.mjs", text).await;
        let Err(StartError::Init { payload, .. }) = result else { panic!("{text}: {result:?}") };
        let error: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(error["errorType"], kind, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_says_what_its_files_are() {
    let house = House::new().await;
    let module = b"import { one } from './one.mjs'; export const handler = async () => one;";
    let common = b"const { one } = require('./one.cjs'); exports.handler = async () => one;";
    for (kind, text) in [("module", &module[..]), ("commonjs", &common[..])] {
        let package = format!("{{\"type\":\"{kind}\"}}");
        let files: &[(&str, &[u8])] = &[
            ("app.js", text),
            ("package.json", package.as_bytes()),
            ("one.mjs", b"export const one = 'module';"),
            ("one.cjs", b"exports.one = 'commonjs';"),
        ];
        let mut f = house.runtime.start(request("nodejs20.x", "app.handler", files)).await.unwrap().instance;
        assert_eq!(ask(&mut f, "{}").await, kind);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_answers_of_all_sizes_follow_each_other() {
    let house = House::new().await;
    let text = "exports.handler = async (event) => event;";
    let mut f = house.start("nodejs20.x", "app.cjs", text).await.unwrap().instance;
    for length in [0, 1, 1000, 65_000, 65_536, 70_000, 1_000_000, 5_000_000, 3] {
        let text = format!("\"{}\"", "ü".repeat(length / 2));
        let result = invoke(&mut f, &text).await;
        assert_eq!(serde_json::from_slice::<Value>(&result.payload).unwrap(), text.trim_matches('"'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_wait_for_an_empty_loop_and_work_may_outlive_an_answer() {
    let house = House::new().await;
    let text = "let later = 0;
exports.handler = (event, context, callback) => {
  if (event === 'count') { callback(null, later); return; }
  if (event === 'nothing') return;
  if (event === 'now') context.callbackWaitsForEmptyEventLoop = false;
  setTimeout(() => { later += 1; }, 20);
  callback(null, later);
};";
    let mut f = house.start("nodejs20.x", "app.cjs", text).await.unwrap().instance;
    // The answer is given when the loop is empty, so the timer has run by the next event.
    assert_eq!(ask(&mut f, "\"wait\"").await, 0);
    assert_eq!(ask(&mut f, "\"count\"").await, 1);
    assert_eq!(ask(&mut f, "\"nothing\"").await, Value::Null);
    assert_eq!(ask(&mut f, "\"now\"").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_catches_ends_the_instance_with_an_error() {
    let house = House::new().await;
    for (text, kind) in [
        (
            "exports.handler = () => { setTimeout(() => { throw new RangeError('late'); }, 1); };",
            "RangeError",
        ),
        (
            "exports.handler = () => { Promise.reject(new RangeError('late')); return new Promise(() => {}); };",
            "Runtime.UnhandledPromiseRejection",
        ),
    ] {
        let mut f = house.start("nodejs20.x", "app.cjs", text).await.unwrap().instance;
        let result = invoke(&mut f, "{}").await;
        assert_eq!(result.function_error.as_deref(), Some("Unhandled"), "{text}");
        let error: Value = serde_json::from_slice(&result.payload).unwrap();
        assert_eq!(error["errorType"], kind);
        // It had not asked for this one.
        let next = try_invoke(&mut f, "[1]").await;
        let Err(functions::RunError::NotTaken { request, error }) = next else { panic!("{next:?}") };
        assert!(matches!(&request.event, functions::Event::Json(event) if &event[..] == b"[1]"));
        assert!(
            matches!(&*error, functions::RunError::Exited { error_type, .. } if error_type == "Runtime.ExitError")
        );
    }
    // Also while the next event is awaited.
    let text = "exports.handler = async () => { setTimeout(() => { throw new RangeError('late'); }, 30); return 1; };";
    let mut f = house.start("nodejs20.x", "app.cjs", text).await.unwrap().instance;
    assert_eq!(ask(&mut f, "{}").await, 1);
    while f.is_alive() {
        tokio::task::yield_now().await;
    }
}
