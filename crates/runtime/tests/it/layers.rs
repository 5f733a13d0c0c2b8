//! Layers in /opt, and what a function finds there by itself.

use functions::{Runtime, StartError, StartRequest};
use serde_json::json;

use crate::support::{House, ask, layer, lines, request};

fn with_layers(text: &str, layers: &[&[(&str, &[u8])]]) -> StartRequest {
    let layers = layers.iter().map(|files| layer(files)).collect();
    StartRequest { layers, ..request("python3.11", "app.handler", &[("app.py", text.as_bytes())]) }
}

const LOOK: &str = "import os, sys
sys.path.append('/opt/python')
import shared
def handler(event, context):
    files = sorted(os.path.join(d, f)[5:] for d, _, fs in os.walk('/opt') for f in fs)
    def put():
        try: open('/opt/x', 'w')
        except OSError as e: return e.errno
    return [shared.name, files, put(), os.popen('tool').read(), [l.split()[2] for l in open('/proc/mounts') if ' /opt ' in l]]";

#[tokio::test(flavor = "multi_thread")]
async fn later_layers_win_and_what_they_hold_is_found() {
    let house = House::new().await;
    let one: &[(&str, &[u8])] = &[
        ("python/shared.py", b"name = 'one'"),
        ("python/only_one.py", b""),
        ("bin/tool", b"#!/bin/sh\necho one\n"),
        ("data/deep/file", b"1"),
        ("kind", b"a file"),
    ];
    let two: &[(&str, &[u8])] = &[
        ("python/shared.py", b"name = 'two'"),
        ("bin/tool", b"#!/bin/sh\necho two\n"),
        ("data/deep/other", b"2"),
        ("kind/is", b"a directory"),
    ];
    let all = json!([
        "two",
        [
            "bin/tool",
            "data/deep/file",
            "data/deep/other",
            "kind/is",
            "python/only_one.py",
            "python/shared.py"
        ],
        libc::EROFS,
        "two\n"
    ]);
    for _ in 0..2 {
        let mut f = house.runtime.start(with_layers(LOOK, &[one, two])).await.unwrap().instance;
        let mut answer = ask(&mut f, "{}").await;
        answer.as_array_mut().unwrap().pop();
        assert_eq!(answer, all);
        f.stop().await;
    }
    let mut f = house.runtime.start(with_layers(LOOK, &[one])).await.unwrap().instance;
    assert_eq!(ask(&mut f, "{}").await[0], "one");
    let mut f = house.runtime.start(with_layers(LOOK, &[two, one])).await.unwrap().instance;
    let answer = ask(&mut f, "{}").await;
    assert_eq!(answer[0], "one");
    assert!(answer[1].as_array().unwrap().contains(&json!("kind")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_walls_layers_are_put_together_in_the_cache() {
    let house = House::with(|config| config.isolation = runtime::Isolation::None).await;
    let one: &[(&str, &[u8])] = &[("python/shared.py", b"name = 'one'"), ("python/first.py", b"name = 1")];
    let two: &[(&str, &[u8])] =
        &[("python/shared.py", b"name = 'two'"), ("bin/a-tool", b"#!/bin/sh\necho hi\n")];
    let text = "import os, shared, first
def handler(event, context): return [shared.name, first.name, os.popen('a-tool').read(), 'HAWKER_OPT' in os.environ]";
    let mut f = house.runtime.start(with_layers(text, &[one, two])).await.unwrap().instance;
    assert_eq!(ask(&mut f, "{}").await, json!(["two", 1, "hi\n", false]));
}

#[tokio::test(flavor = "multi_thread")]
async fn node_finds_modules_of_layers() {
    let house = House::new().await;
    let files: &[(&str, &[u8])] =
        &[("nodejs/node_modules/shared/index.js", b"exports.name = 'from a layer';")];
    let code: &[(&str, &[u8])] = &[("app.js", b"exports.handler = async () => require('shared').name;")];
    let start = StartRequest { layers: vec![layer(files)], ..request("nodejs20.x", "app.handler", code) };
    let mut f = house.runtime.start(start).await.unwrap().instance;
    assert_eq!(ask(&mut f, "{}").await, "from a layer");
}

#[tokio::test(flavor = "multi_thread")]
async fn function_and_layers_share_one_limit() {
    let house = House::with(|config| config.max_unzipped_bytes = 100_000).await;
    let big = vec![0; 60_000];
    let files: &[(&str, &[u8])] = &[("big", &big)];
    let other: &[(&str, &[u8])] = &[("big", &big), ("x", b"")];
    let text = "def handler(event, context): return 1";
    house.runtime.start(with_layers(text, &[files])).await.unwrap().instance.stop().await;
    let result = house.runtime.start(with_layers(text, &[files, other])).await;
    let Err(StartError::Code(message)) = result else { panic!("{result:?}") };
    assert_eq!(
        message,
        "Function code combined with layers exceeds the maximum allowed size of 100000 bytes. The actual size is \
         120037 bytes."
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_script_starts_the_runtime() {
    let house = House::new().await;
    let wrapper: &[(&str, &[u8])] = &[("wrap", b"#!/bin/sh\nexport WRAPPED=\"$#\"\nexec \"$@\"\n")];
    let text = "import os\ndef handler(event, context): return os.environ['WRAPPED']";
    let with = |path: &str| {
        let mut start = with_layers(text, &[wrapper]);
        start.environment.insert("AWS_LAMBDA_EXEC_WRAPPER".into(), path.into());
        start
    };
    let mut f = house.runtime.start(with("/opt/wrap")).await.unwrap().instance;
    assert_eq!(ask(&mut f, "{}").await, "3");
    let result = house.runtime.start(with("/opt/nothing")).await;
    let Err(StartError::Init { payload, logs, .. }) = result else { panic!("{result:?}") };
    assert_eq!(lines(&logs), ["/opt/nothing: does not exist"]);
    assert!(String::from_utf8_lossy(&payload).contains("exit status 127"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_can_not_lead_out_of_its_place() {
    let house = House::new().await;
    let secret = house.cache.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    let text = "import os
def handler(event, context):
    try: return open('/opt/link').read()
    except OSError as e: return e.errno";
    // A link to what is outside leads nowhere inside.
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.add_symlink("link", secret.to_str().unwrap(), options).unwrap();
    let zip = writer.finish().unwrap().into_inner();
    let mut start = with_layers(text, &[&[("x", b"")]]);
    start.layers.push(crate::support::code(zip));
    let mut f = house.runtime.start(start).await.unwrap().instance;
    assert_eq!(ask(&mut f, "{}").await, libc::ENOENT);
    let result = house.runtime.start(with_layers(text, &[&[("../out", b"")]])).await;
    assert!(matches!(&result, Err(StartError::Code(message)) if message.contains("leads out")), "{result:?}");
}
