//! Node.js functions.

use functions::StartError;
use serde_json::{Value, json};

use crate::support::{House, ask, invoke, lines};

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
