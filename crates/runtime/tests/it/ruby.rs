//! Ruby functions.

use functions::{Runtime, StartError};
use serde_json::{Value, json};

use crate::support::{House, ask, invoke, lines, request};

#[tokio::test(flavor = "multi_thread")]
async fn ruby_functions_run_where_there_is_a_ruby() {
    let house = House::new().await;
    if let Err(message) = house.runtime.check("ruby3.3") {
        assert!(message.contains("apt-get install ruby3.3"), "{message}");
        return;
    }
    let text = b"require 'json'
module Album
  class Photos
    def self.handler(event:, context:)
      puts 'in the album'
      raise ArgumentError, 'no such photo' if event['fail']
      { got: event, name: context.function_name, left: context.get_remaining_time_in_millis > 0 }
    end
  end
end
def handler(event:, context:)
  { got: event, id: context.aws_request_id.length, trace: ENV['_X_AMZN_TRACE_ID'].start_with?('Root='), cwd: Dir.pwd }
end";
    let files: &[(&str, &[u8])] = &[("app.rb", text)];
    let mut f = house.runtime.start(request("ruby3.3", "app.handler", files)).await.unwrap().instance;
    for _ in 0..2 {
        assert_eq!(
            ask(&mut f, "{\"gr\u{fc}\u{df}e\": [1, null]}").await,
            json!({"got": {"gr\u{fc}\u{df}e": [1, null]}, "id": 36, "trace": true, "cwd": "/var/task"})
        );
    }
    let started = house.runtime.start(request("ruby3.3", "app.Album::Photos.handler", files)).await;
    let mut f = started.unwrap().instance;
    assert_eq!(ask(&mut f, "{}").await, json!({"got": {}, "name": "f", "left": true}));
    let result = invoke(&mut f, "{\"fail\": true}").await;
    assert_eq!(result.function_error.as_deref(), Some("Unhandled"));
    let error: Value = serde_json::from_slice(&result.payload).unwrap();
    assert_eq!(
        (&error["errorType"], &error["errorMessage"]),
        (&json!("Function<ArgumentError>"), &json!("no such photo"))
    );
    assert!(error["stackTrace"][0].as_str().unwrap().starts_with("/var/task/app.rb:6:in"), "{error}");
    assert_eq!(lines(&result.logs)[0], "in the album");
    assert_eq!(ask(&mut f, "{}").await["name"], "f");
    for (handler, text, kind) in [
        ("app.nothing", "", "Init<NameError>"),
        ("other.handler", "", "Init<LoadError>"),
        ("app.handler", "def (", "Init<SyntaxError>"),
        ("handler", "", "Init<ArgumentError>"),
    ] {
        let result = house.runtime.start(request("ruby3.3", handler, &[("app.rb", text.as_bytes())])).await;
        let Err(StartError::Init { payload, .. }) = result else { panic!("{handler}: {result:?}") };
        let error: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(error["errorType"], kind, "{error}");
    }
}
