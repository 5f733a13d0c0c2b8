//! Java functions: compiled here, on interfaces that are written here as AWS's are.

use std::path::Path;
use std::process::Command;

use functions::{Runtime, StartError, StartRequest};
use serde_json::{Value, json};

use crate::support::{House, ask, invoke, lines, request};

const CONTEXT: &str = "package com.amazonaws.services.lambda.runtime;
public interface Context {
  String getAwsRequestId(); String getFunctionName(); int getRemainingTimeInMillis(); int getMemoryLimitInMB();
  LambdaLogger getLogger();
}
interface Unused {}";

const APP: &str = "package album;
import com.amazonaws.services.lambda.runtime.*;
import java.io.*;
import java.util.*;
public class App implements RequestHandler<Map<String, Object>, Map<String, Object>> {
  public static class Photo { private String name; private int size; private List<String> tags;
    public String getName() { return name; } public void setName(String name) { this.name = name; }
    public int getSize() { return size; } public void setSize(int size) { this.size = size; }
    public List<String> getTags() { return tags; } public void setTags(List<String> tags) { this.tags = tags; } }
  public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
    context.getLogger().log(\"got \" + event.size());
    if (event.containsKey(\"fail\")) throw new IllegalStateException(\"no such photo\", new IOException(\"disk\"));
    return Map.of(\"got\", event, \"id\", context.getAwsRequestId().length(), \"name\", context.getFunctionName(),
      \"left\", context.getRemainingTimeInMillis() > 0, \"trace\", System.getProperty(\"com.amazonaws.xray.traceHeader\") != null);
  }
  public Photo thumbnail(Photo photo, Context context) { photo.setSize(photo.getSize() / 2); return photo; }
  public static String shout(String text) { return text.toUpperCase(Locale.ROOT); }
  public static List<Integer> twice(List<Integer> numbers) { List<Integer> out = new ArrayList<>(); for (int n : numbers) out.add(2 * n); return out; }
}";

const STREAM: &str = "package album;
import com.amazonaws.services.lambda.runtime.*;
import java.io.*;
public class Stream implements RequestStreamHandler {
  public void handleRequest(InputStream in, OutputStream out, Context context) throws IOException {
    out.write(\"{\\\"length\\\": \".getBytes()); out.write(String.valueOf(in.readAllBytes().length).getBytes()); out.write('}');
  }
}";

/// Compiles; the class files with their paths.
fn compile(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let package = "package com.amazonaws.services.lambda.runtime;\n";
    let files = [
        ("Context.java", CONTEXT.to_owned()),
        (
            "LambdaLogger.java",
            format!(
                "{package}public interface LambdaLogger {{ void log(String text); void log(byte[] text); }}"
            ),
        ),
        (
            "RequestHandler.java",
            format!(
                "{package}public interface RequestHandler<I, O> {{ O handleRequest(I input, Context context); }}"
            ),
        ),
        (
            "RequestStreamHandler.java",
            format!(
                "{package}public interface RequestStreamHandler {{ void handleRequest(java.io.InputStream in, java.io.OutputStream out, Context context) throws java.io.IOException; }}"
            ),
        ),
        ("App.java", APP.to_owned()),
        ("Stream.java", STREAM.to_owned()),
    ];
    let mut command = Command::new("javac");
    command.arg("-d").arg(directory.join("out"));
    for (name, text) in files {
        std::fs::write(directory.join(name), text).unwrap();
        command.arg(directory.join(name));
    }
    assert!(command.status().unwrap().success());
    let mut classes = Vec::new();
    let mut directories = vec![directory.join("out")];
    while let Some(next) = directories.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            if entry.path().is_dir() {
                directories.push(entry.path());
            } else {
                let name =
                    entry.path().strip_prefix(directory.join("out")).unwrap().to_str().unwrap().to_owned();
                classes.push((name, std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    classes
}

#[tokio::test(flavor = "multi_thread")]
async fn java_functions_run_where_there_is_a_jdk() {
    let house = House::new().await;
    if house.runtime.check("java21").is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let classes = compile(directory.path());
    let files: Vec<_> = classes.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let start = async |handler: &str| {
        let start = StartRequest { memory_mb: 512, ..request("java21", handler, &files) };
        house.runtime.start(start).await
    };
    let mut f = start("album.App").await.unwrap().instance;
    for _ in 0..2 {
        assert_eq!(
            ask(&mut f, "{\"gr\u{fc}\u{df}e\": [1, 2.5, null, true]}").await,
            json!({"got": {"gr\u{fc}\u{df}e": [1, 2.5, null, true]}, "id": 36, "name": "f", "left": true, "trace": true})
        );
    }
    let result = invoke(&mut f, "{\"fail\": 1}").await;
    assert_eq!(result.function_error.as_deref(), Some("Unhandled"));
    let error: Value = serde_json::from_slice(&result.payload).unwrap();
    assert_eq!(
        (&error["errorType"], &error["errorMessage"], &error["cause"]["errorMessage"]),
        (&json!("java.lang.IllegalStateException"), &json!("no such photo"), &json!("disk"))
    );
    assert!(
        error["stackTrace"][0].as_str().unwrap().starts_with("album.App.handleRequest(App.java"),
        "{error}"
    );
    let logs = lines(&result.logs);
    assert_eq!(logs[0], "got 1");
    assert!(logs[1].starts_with("java.lang.IllegalStateException: no such photo\n"), "{logs:?}");

    let mut f = start("album.App::thumbnail").await.unwrap().instance;
    assert_eq!(
        ask(&mut f, "{\"name\": \"cat\", \"size\": 10, \"tags\": [\"a\"], \"other\": 1}").await,
        json!({"name": "cat", "size": 5, "tags": ["a"]})
    );
    let mut f = start("album.App::shout").await.unwrap().instance;
    assert_eq!(ask(&mut f, "\"stra\u{df}e \\\"x\\\"\"").await, "STRASSE \"X\"");
    let mut f = start("album.App::twice").await.unwrap().instance;
    assert_eq!(ask(&mut f, "[1, 2]").await, json!([2, 4]));
    let mut f = start("album.Stream").await.unwrap().instance;
    assert_eq!(ask(&mut f, "{\"a\": 1}").await, json!({"length": 8}));

    for (handler, kind) in [
        ("album.Nothing", "java.lang.ClassNotFoundException"),
        ("album.App::nothing", "java.lang.NoSuchMethodException"),
    ] {
        let result = start(handler).await;
        let Err(StartError::Init { payload, .. }) = result else { panic!("{handler}: {result:?}") };
        let error: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(error["errorType"], kind, "{error}");
    }
}
