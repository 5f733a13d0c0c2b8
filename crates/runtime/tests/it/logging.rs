//! What functions log, as text and as JSON, by level.

use functions::{LogFormat, LogLevel, Runtime, StartRequest};
use serde_json::{Value, json};

use crate::support::{House, ask, invoke, request};

fn as_json(application: LogLevel, start: StartRequest) -> StartRequest {
    StartRequest { log_format: LogFormat::Json { application, system: LogLevel::Info }, ..start }
}

fn parsed(logs: &[telemetry::LogEvent]) -> Vec<Value> {
    logs.iter().map(|event| serde_json::from_str(&event.message).unwrap_or(json!(event.message))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn python_logs_records_as_objects_from_a_level_on() {
    let house = House::new().await;
    let text = b"import logging, os
logging.getLogger('other').debug('not shown')
def handler(event, context):
    logging.info('hello %s', 'you', extra={'order': 7})
    logging.debug('not shown')
    print('a plain line')
    print('{\"level\": \"debug\", \"not\": \"shown\"}')
    print('{\"level\": \"error\", \"mine\": true}')
    try: 1 / 0
    except ZeroDivisionError: logging.exception('failed')
    if event: raise KeyError('gone')
    return [os.environ['AWS_LAMBDA_LOG_FORMAT'], os.environ['AWS_LAMBDA_LOG_LEVEL']]";
    let start = request("python3.11", "app.handler", &[("app.py", text)]);
    let mut f = house.runtime.start(as_json(LogLevel::Info, start)).await.unwrap().instance;
    assert_eq!(ask(&mut f, "false").await, json!(["JSON", "INFO"]));
    let result = invoke(&mut f, "true").await;
    let lines = parsed(&result.logs);
    assert_eq!(lines.len(), 5, "{lines:?}");
    let hello = &lines[0];
    assert_eq!(
        (&hello["level"], &hello["message"], &hello["logger"], &hello["order"]),
        (&json!("INFO"), &json!("hello you"), &json!("root"), &json!(7))
    );
    assert_eq!(hello["requestId"].as_str().unwrap().len(), 36);
    assert!(hello["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(lines[1], "a plain line");
    assert_eq!(lines[2], json!({"level": "error", "mine": true}));
    assert_eq!(
        (&lines[3]["level"], &lines[3]["errorType"], &lines[3]["errorMessage"]),
        (&json!("ERROR"), &json!("ZeroDivisionError"), &json!("division by zero"))
    );
    assert!(lines[3]["location"].as_str().unwrap().starts_with("/var/task/app.py:handler:"));
    assert!(lines[3]["stackTrace"][0].as_str().unwrap().contains("1 / 0"));
    assert_eq!((&lines[4]["level"], &lines[4]["errorType"]), (&json!("ERROR"), &json!("KeyError")));
}

#[tokio::test(flavor = "multi_thread")]
async fn node_logs_the_console_as_objects_from_a_level_on() {
    let house = House::new().await;
    let text = b"export const handler = async (event) => {
  console.debug('not shown');
  console.info('not shown');
  console.warn('careful', { a: 1 });
  console.error({ deep: [1] });
  console.error('it failed', new RangeError('far'));
  const round = { name: 'round' }; round.self = round;
  console.fatal(round);
  if (event) throw new TypeError('no');
  return [process.env.AWS_LAMBDA_LOG_FORMAT, process.env.AWS_LAMBDA_LOG_LEVEL];
};";
    let start = request("nodejs20.x", "app.handler", &[("app.mjs", text)]);
    let mut f = house.runtime.start(as_json(LogLevel::Warn, start)).await.unwrap().instance;
    assert_eq!(ask(&mut f, "false").await, json!(["JSON", "WARN"]));
    let result = invoke(&mut f, "true").await;
    let lines = parsed(&result.logs);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!((&lines[0]["level"], &lines[0]["message"]), (&json!("WARN"), &json!("careful { a: 1 }")));
    assert_eq!(lines[0]["requestId"].as_str().unwrap().len(), 36);
    assert_eq!(lines[1]["message"], json!({"deep": [1]}));
    assert_eq!((&lines[2]["errorType"], &lines[2]["errorMessage"]), (&json!("RangeError"), &json!("far")));
    assert!(lines[2]["message"].as_str().unwrap().starts_with("it failed RangeError: far"));
    assert_eq!(lines[3]["level"], "FATAL");
    assert!(lines[3]["message"].as_str().unwrap().contains("[Circular"));
    assert_eq!(lines[4]["message"]["errorType"], "TypeError");
}
