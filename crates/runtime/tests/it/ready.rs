//! Sandboxes that stand ready: a function can not tell that its was one, and finds nothing there but its own.

use std::collections::BTreeMap;
use std::time::Duration;

use functions::{RunError, Runtime, StartRequest};
use serde_json::{Value, json};

use crate::lifecycle::processes_of_groups;
use crate::support::{House, ask, layer, program, request, try_invoke};

/// What a Python function sees of where it runs when it is imported.
const LOOK: &str = "import os, sys
modules = sorted(sys.modules)
import resource, posix, builtins, re
def read(path):
    with open(path, 'rb') as file: return file.read().decode('utf-8', 'replace')
def look():
    return {
        'path': sys.path, 'flags': str(sys.flags), 'argv': sys.argv, 'orig': sys.orig_argv, 'cwd': os.getcwd(),
        'environ': list(os.environ.items()), 'cmdline': read('/proc/self/cmdline'),
        'shown': read('/proc/self/environ').rstrip('\\0').split('\\0'),
        'child': os.popen('env').read().splitlines(), 'executable': sys.executable,
        'fds': [os.readlink('/proc/self/fd/' + n).split(':')[0] for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n)],
        'limits': [resource.getrlimit(n) for n in range(16)], 'encoding': [sys.stdout.encoding, sys.getfilesystemencoding()],
        'modules': modules, 'meta': [str(type(f)) for f in sys.meta_path], 'quit': repr(builtins.exit),
        'pid': os.getpid(), 'stdin': sys.stdin.read(), 'tmp': os.statvfs('/tmp').f_blocks * os.statvfs('/tmp').f_frsize,
        'files': sorted(os.listdir('/var/task')), 'opt': sorted(os.listdir('/opt')), 'run': os.listdir('/run'),
        'threads': os.listdir('/proc/self/task'), 'umask': os.umask(0o22), 'sid': os.getsid(0) == os.getpid(),
        'signals': [l for l in read('/proc/self/status').splitlines() if l.startswith(('Sig', 'Shd', 'Cap', 'NoNew', 'Seccomp', 'Groups', 'Uid'))],
        'hidden': [p for p in os.listdir('/proc') if p.isdigit()],
        'time': __import__('time').tzname, 'dev': sorted(os.listdir('/dev')),
        'mounts': sorted((l.split()[4], l.split()[5], re.sub('id=[0-9]+', 'id', l.split(' - ')[1].split()[2])) for l in read('/proc/self/mountinfo').splitlines()),
    }
at_import = look()
def handler(event, context): return at_import";

#[tokio::test(flavor = "multi_thread")]
async fn a_python_function_can_not_tell() {
    let mut seen = Vec::new();
    for house in House::both().await {
        let mut f = house.python(LOOK).await;
        let answer = ask(&mut f, "{}").await;
        seen.push(answer);
        f.stop().await;
    }
    for (name, new) in seen[0].as_object().unwrap() {
        assert_eq!(&seen[1][name], new, "{name}");
    }
    let environ = seen[1]["environ"].to_string();
    assert!(environ.contains("grün") && !environ.contains("HAWKER_READY"), "{environ}");
    assert!(seen[1]["shown"].to_string().contains("AWS_SECRET_ACCESS_KEY=secret"));
}

/// Starts one that must (or must not) find a sandbox that stands ready.
async fn start(house: &House, request: StartRequest, ready: bool) -> Box<dyn functions::Instance> {
    let used = house.stands(1).await;
    let started = house.runtime.start(request).await.unwrap();
    assert_eq!(house.runtime.ready().used, used + u64::from(ready));
    started.instance
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_function_can_not_tell() {
    let text = b"const fs = require('fs'), child = require('child_process');
const look = () => ({
  argv: process.argv, exec: process.execArgv, cwd: process.cwd(), environ: Object.entries(process.env), title: process.title,
  child: child.execSync('env').toString(), shown: fs.readFileSync('/proc/self/environ', 'utf8').replace(/\\0+$/, ''),
  cmdline: fs.readFileSync('/proc/self/cmdline', 'utf8'), main: require.main && require.main.filename, paths: module.paths,
  global: require('module').globalPaths, files: fs.readdirSync('/var/task'), locale: Intl.DateTimeFormat().resolvedOptions(),
  heap: require('v8').getHeapStatistics().heap_size_limit, zone: new Date(0).toString(), time: process.env.TZ,
  stdin: fs.readFileSync(0, 'utf8'), listeners: process.eventNames().map(String),
});
const first = look();
exports.handler = async (event) => first;";
    let wanted = || request("nodejs20.x", "app.handler", &[("app.js", text)]);
    let house = House::with(|config| config.ready_sandboxes = 1).await;
    let mut new = house.runtime.start(wanted()).await.unwrap().instance;
    let mut ready = start(&house, wanted(), true).await;
    let (new, ready) = (ask(&mut new, "{}").await, ask(&mut ready, "{}").await);
    for (name, value) in new.as_object().unwrap() {
        assert_eq!(&ready[name], value, "{name}");
    }
    // A heap of another size takes another interpreter.
    let larger = StartRequest { memory_mb: 512, ..wanted() };
    assert_ne!(ask(&mut start(&house, larger, false).await, "{}").await["heap"], new["heap"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn none_stands_before_it_is_of_use_and_none_for_longer() {
    let house = House::with(|config| {
        config.ready_sandboxes = 2;
        config.ready_idle_seconds = 2;
    })
    .await;
    assert_eq!(house.runtime.ready().standing, 0);
    house.shell("exec sleep 1 & sleep 0; exit 0").await.unwrap_err();
    let text = "def handler(event, context): return 1";
    house.python(text).await.stop().await;
    assert_eq!(house.stands(1).await, 0);
    house.python(text).await.stop().await;
    assert_eq!(house.stands(1).await, 1);
    house.stands(0).await;
    let left = || processes_of_groups(std::process::id());
    let patience = std::time::Instant::now();
    while !left().is_empty() {
        assert!(patience.elapsed() < Duration::from_secs(20), "{:?}", left());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_say_in_how_an_interpreter_boots_boots_its_own() {
    let house = House::with(|config| config.ready_sandboxes = 1).await;
    let text: &[u8] = b"import os, sys
def handler(event, context): return [os.environ.get(event), sys.flags.optimize, sys.path]";
    let plain = || request("python3.11", "app.handler", &[("app.py", text)]);
    house.runtime.start(plain()).await.unwrap();
    let with = |name: &str, value: &str| StartRequest {
        environment: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..plain()
    };
    for (name, value) in
        [("PYTHONPATH", "/opt/mine"), ("PYTHONOPTIMIZE", "2"), ("TZ", "Asia/Tokyo"), ("LD_PRELOAD", "")]
    {
        let mut f = start(&house, with(name, value), false).await;
        let answer = ask(&mut f, &json!(name).to_string()).await;
        assert_eq!(answer[0], value);
        assert_eq!(answer[1], if name == "PYTHONOPTIMIZE" { 2 } else { 0 });
        assert_eq!(answer[2].to_string().contains("/opt/mine"), name == "PYTHONPATH");
    }
    let script = "#!/bin/sh\nexport WRAPPED=yes\nexec \"$@\"\n";
    let wrapper = layer(&[("wrapper", script.as_bytes())]);
    let wrapped = StartRequest { layers: vec![wrapper], ..with("AWS_LAMBDA_EXEC_WRAPPER", "/opt/wrapper") };
    assert_eq!(ask(&mut start(&house, wrapped, false).await, "\"WRAPPED\"").await[0], "yes");

    // The loader looks for libraries in these places first.
    for place in ["libz.so.1", "lib/libz.so.1"] {
        let files: &[(&str, &[u8])] = &[("app.py", text), (place, b"no library")];
        let own = request("python3.11", "app.handler", files);
        // With that library the interpreter may not start at all, as on Lambda.
        let used = house.stands(1).await;
        let _ = house.runtime.start(own).await;
        assert_eq!(house.runtime.ready().used, used, "{place}");
    }
    let extension = program(
        "call('POST', '/2020-01-01/extension/register', '{\"events\": []}', {'Lambda-Extension-Name': 'x'})
time.sleep(1000)",
    );
    let extension = layer(&[("extensions/x", extension.as_bytes())]);
    let used = house.stands(1).await;
    let extended = StartRequest { layers: vec![extension], timeout: Duration::from_secs(1), ..plain() };
    let _ = tokio::time::timeout(Duration::from_secs(1), house.runtime.start(extended)).await;
    assert_eq!(house.runtime.ready().used, used);
    // And what has not, does not.
    assert_eq!(ask(&mut start(&house, with("COLOUR", "red"), true).await, "\"COLOUR\"").await[0], "red");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_and_layers_of_one_are_never_seen_by_another() {
    let house = House::with(|config| config.ready_sandboxes = 1).await;
    let text = |secret: &str| {
        format!(
            "import os
secret = '{secret}'
open('/tmp/{secret}', 'w').close()
def files(top): return sorted(os.path.join(d, f) for d, _, fs in os.walk(top) for f in fs)
def handler(event, context):
    shown = open('/proc/self/environ').read() + str(os.environ) + open('/proc/self/maps').read() + open('/proc/self/mountinfo').read()
    return [files('/var/task'), files('/opt'), files('/tmp'), [s for s in ('one', 'two', 'three') if 'secret-' + s in shown], os.listdir('/run'),
            [open('/opt/' + f).read() for f in os.listdir('/opt') if os.path.isfile('/opt/' + f)]]"
        )
    };
    let make = |name: &str, layers: &[&[(&str, &[u8])]]| {
        let (text, mark) = (text(name), format!("only-{name}"));
        let files: &[(&str, &[u8])] = &[("app.py", text.as_bytes()), (&mark, b"x")];
        StartRequest {
            environment: BTreeMap::from([("MINE".to_owned(), format!("secret-{name}"))]),
            layers: layers.iter().map(|files| layer(files)).collect(),
            ..request("python3.11", "app.handler", files)
        }
    };
    house.python("def handler(event, context): return 1").await.stop().await;
    let under: &[(&str, &[u8])] = &[("file", b"under"), ("deep/under", b"x")];
    let over: &[(&str, &[u8])] = &[("file", b"over"), ("deep/over", b"x")];
    let mut one = start(&house, make("one", &[]), true).await;
    let mut two = start(&house, make("two", &[under]), true).await;
    let mut three = start(&house, make("three", &[under, over]), true).await;
    for (f, name, opt, contents) in [
        (&mut one, "one", json!([]), json!([])),
        (&mut two, "two", json!(["/opt/deep/under", "/opt/file"]), json!(["under"])),
        (&mut three, "three", json!(["/opt/deep/over", "/opt/deep/under", "/opt/file"]), json!(["over"])),
    ] {
        let answer = ask(f, "{}").await;
        assert_eq!(answer[0], json!(["/var/task/app.py", format!("/var/task/only-{name}")]));
        assert_eq!(answer[1], opt);
        assert_eq!(answer[2], json!([format!("/tmp/{name}")]));
        assert_eq!(answer[3], json!([name]));
        assert_eq!(answer[4], json!([]));
        assert_eq!(answer[5], contents);
    }
    for f in [one, two, three] {
        f.stop().await;
    }
    let mut last = start(&house, make("one", &[]), true).await;
    assert_eq!(ask(&mut last, "{}").await[2], json!(["/tmp/one"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_has_a_seed_an_address_space_and_limits_of_its_own() {
    let house = House::standing_ready().await;
    let text = "import os
def handler(event, context):
    if event: return len(bytearray(event << 20))
    return [hash('seed'), [l.split('-')[0] for l in open('/proc/self/maps') if 'libc' in l][0], os.urandom(8).hex()]";
    let (mut one, mut two) = (house.python(text).await, house.python(text).await);
    let (first, second) = (ask(&mut one, "0").await, ask(&mut two, "0").await);
    for place in 0..3 {
        assert_ne!(first[place], second[place]);
    }
    assert_eq!(ask(&mut one, "100").await, Value::from(100 << 20));
    let over = try_invoke(&mut one, "1000").await;
    assert!(matches!(over, Err(RunError::Exited { out_of_memory: true, .. })), "{over:?}");
    assert_eq!(ask(&mut two, "1").await, Value::from(1 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_being_made_is_waited_for_by_one_start() {
    let house = House::with(|config| config.ready_sandboxes = 1).await;
    let text = "def handler(event, context): return event";
    house.python(text).await.stop().await;
    // Nothing has been waited for since.
    let (mut one, mut two) = tokio::join!(house.python(text), house.python(text));
    assert_eq!((ask(&mut one, "1").await, ask(&mut two, "2").await), (json!(1), json!(2)));
    assert_eq!(house.stands(1).await, 1);
    // One that is given up does not keep it.
    house.python(text).await.stop().await;
    let given_up = tokio::time::timeout(Duration::from_millis(1), house.python(text)).await;
    drop(given_up);
    house.stands(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_has_died_is_not_used() {
    let house = House::with(|config| config.ready_sandboxes = 1).await;
    let text = "def handler(event, context): return 1";
    house.python(text).await.stop().await;
    let used = house.stands(1).await;
    let all = processes_of_groups(std::process::id());
    for pid in &all {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if command.contains("bootstrap.py") {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    let patience = std::time::Instant::now();
    while !processes_of_groups(std::process::id()).is_empty() {
        assert!(patience.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The host hears of it a moment later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut f = house.python(text).await;
    assert_eq!(ask(&mut f, "{}").await, 1);
    assert_eq!(house.runtime.ready().used, used);
}
