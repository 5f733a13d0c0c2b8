//! The invoke path: who runs when, on what, and what is recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use functions::{Config, Error, RunError, Throttle};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use types::Timestamp;

use crate::support::{Handler, Node, creation, handler, until};

const F: &str = "/2015-03-31/functions";

/// Answers with its instance's number once `gate` lets it.
fn gated(gate: &Arc<Semaphore>, running: &Arc<AtomicUsize>) -> Handler {
    let (gate, running) = (gate.clone(), running.clone());
    handler(move |_, instance| {
        let (gate, running) = (gate.clone(), running.clone());
        async move {
            running.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(json!(instance))
        }
    })
}

fn numbered() -> Handler {
    handler(|_, instance| async move { Ok(json!(instance)) })
}

#[tokio::test]
async fn warm_instances_are_used_again_and_last_used_first() {
    let node = Node::start(Config::default()).await;
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::default());
    node.deploy("f", gated(&gate, &running)).await;
    let two = async { tokio::join!(node.invoke("f", json!({})), node.invoke("f", json!({}))) };
    let release = async {
        until(|| running.load(Ordering::SeqCst) == 2).await;
        gate.add_permits(2);
    };
    let ((a, b), ()) = tokio::join!(two, release);
    let mut numbers = [a.unwrap(), b.unwrap()];
    numbers.sort_by_key(Value::to_string);
    assert_eq!(numbers, [json!(0), json!(1)]);
    gate.add_permits(100);
    let first = node.invoke("f", json!({})).await.unwrap();
    for _ in 0..20 {
        assert_eq!(node.invoke("f", json!({})).await.unwrap(), first);
    }
    assert_eq!(node.runtime.started.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reserved_concurrency_bounds_what_runs_and_the_rest_waits_then_is_turned_away() {
    let node = Node::start(Config { queue_timeout_ms: 200, ..Config::default() }).await;
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    node.deploy("f", gated(&gate, &running)).await;
    let reserve = json!({ "ReservedConcurrentExecutions": 2 });
    node.json("PUT", "/2017-10-31/functions/f/concurrency", reserve).await.unwrap();
    let node = Arc::new(node);
    let spawn = || {
        let node = node.clone();
        tokio::spawn(async move { node.invoke("f", json!({})).await })
    };
    let running_two = [spawn(), spawn()];
    until(|| running.load(Ordering::SeqCst) == 2).await;
    let late = spawn().await.unwrap().unwrap_err();
    assert!(matches!(late, Error::Throttled(Throttle::Reserved)), "{late}");
    let answer: aws::Error = late.into();
    assert_eq!((answer.status, answer.code.as_ref()), (429, "TooManyRequestsException"));
    assert!(answer.fields.contains(&("Reason", json!("ReservedFunctionConcurrentInvocationLimitExceeded"))));

    let mut waiting = node.invocation("f", json!({}));
    waiting.queue_timeout = Some(Duration::from_secs(600));
    let waiting = {
        let node = node.clone();
        tokio::spawn(async move { node.functions.invoke(waiting).await })
    };
    gate.add_permits(3);
    waiting.await.unwrap().unwrap();
    for one in running_two {
        one.await.unwrap().unwrap();
    }
    assert_eq!(node.runtime.most_live.load(Ordering::SeqCst), 2);

    let none = json!({ "ReservedConcurrentExecutions": 0 });
    node.json("PUT", "/2017-10-31/functions/f/concurrency", none).await.unwrap();
    let refused = node.invoke("f", json!({})).await.unwrap_err();
    assert!(matches!(refused, Error::Throttled(Throttle::Reserved)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn functions_of_an_account_share_its_concurrency() {
    let config = Config {
        account_concurrency: 2,
        unreserved_concurrency: 1,
        queue_timeout_ms: 200,
        ..Config::default()
    };
    let node = Arc::new(Node::start(config).await);
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    node.deploy("a", gated(&gate, &running)).await;
    node.deploy("b", numbered()).await;
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.invoke("a", json!({})).await })
        })
        .collect();
    until(|| running.load(Ordering::SeqCst) == 2).await;
    let refused = node.invoke("b", json!({})).await.unwrap_err();
    assert!(matches!(refused, Error::Throttled(Throttle::Account)), "{refused}");
    // One that waits is woken by another function's end.
    let mut waiting = node.invocation("b", json!({}));
    waiting.queue_timeout = Some(Duration::from_secs(600));
    let waits = {
        let node = node.clone();
        tokio::spawn(async move { node.functions.invoke(waiting).await })
    };
    tokio::task::yield_now().await;
    gate.add_permits(1);
    waits.await.unwrap().unwrap();
    gate.add_permits(1);
    for one in busy {
        one.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_waits_takes_an_instance_that_becomes_free_before_its_own_is_ready() {
    let node = Arc::new(Node::start(Config::default()).await);
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    node.deploy("f", gated(&gate, &running)).await;
    let spawn = || {
        let node = node.clone();
        tokio::spawn(async move { node.invoke("f", json!({})).await })
    };
    let first = spawn();
    until(|| running.load(Ordering::SeqCst) == 1).await;
    node.runtime.hold_starts.store(true, Ordering::SeqCst);
    let second = spawn();
    until(|| node.functions.instances() == 2).await;
    gate.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap(), json!(0));
    assert_eq!(second.await.unwrap().unwrap(), json!(0));
    node.runtime.hold_starts.store(false, Ordering::SeqCst);
    node.runtime.release_starts.notify_waiters();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_bounds_instances_and_idle_ones_make_room() {
    let node = Arc::new(Node::start(Config { memory_mb: Some(256), ..Config::default() }).await);
    for name in ["a", "b", "c"] {
        node.deploy(name, numbered()).await;
    }
    for round in 0..3 {
        for name in ["a", "b", "c"] {
            node.invoke(name, json!({})).await.unwrap_or_else(|e| panic!("{name} {round}: {e}"));
        }
    }
    assert!(node.runtime.most_live.load(Ordering::SeqCst) <= 2);

    // Many at once, of three functions, on two instances.
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200 {
        let node = node.clone();
        tasks.spawn(async move { node.invoke(["a", "b", "c"][i % 3], json!({})).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert!(node.runtime.most_live.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn a_change_is_used_by_the_next_request_while_running_ones_finish() {
    let node = Arc::new(Node::start(Config::default()).await);
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    node.deploy("f", gated(&gate, &running)).await;
    let old = {
        let node = node.clone();
        tokio::spawn(async move { node.invoke("f", json!({})).await })
    };
    until(|| running.load(Ordering::SeqCst) == 1).await;
    node.json("PUT", &format!("{F}/f/configuration"), json!({ "MemorySize": 256 })).await.unwrap();
    gate.add_permits(2);
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), json!(1));
    assert_eq!(old.await.unwrap().unwrap(), json!(0));
    let sizes: Vec<_> = node.runtime.requests.lock().unwrap().iter().map(|r| r.memory_mb).collect();
    assert_eq!(sizes, [128, 256]);
    gate.add_permits(1);
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), json!(1));

    // Tags and permissions leave instances as they are.
    let tags = "/2017-03-31/tags/arn:aws:lambda:us-east-1:000000000000:function:f";
    node.json("POST", tags, json!({ "Tags": { "a": "1" } })).await.unwrap();
    gate.add_permits(1);
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), json!(1));

    node.json("DELETE", &format!("{F}/f"), Value::Null).await.unwrap();
    assert!(matches!(node.invoke("f", json!({})).await, Err(Error::NotFound(_))));
    until(|| node.functions.instances() == 0).await;
    let mut again = creation("f");
    again["Description"] = json!("another");
    node.json("POST", F, again).await.unwrap();
    gate.add_permits(1);
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), json!(2));
}

#[tokio::test]
async fn instances_retire_before_their_credentials_end() {
    let node = Node::start(Config::default()).await;
    node.roles.valid_s.store(2, Ordering::SeqCst);
    node.deploy("f", numbered()).await;
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), json!(0));
    while node.invoke("f", json!({})).await.unwrap() == json!(0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.roles.valid_s.store(0, Ordering::SeqCst);
    node.json("PUT", &format!("{F}/f/configuration"), json!({ "Timeout": 9 })).await.unwrap();
    let refused = node.invoke("f", json!({})).await.unwrap_err();
    assert!(matches!(refused, Error::Platform(_)), "{refused}");
}

#[tokio::test]
async fn a_client_that_leaves_does_not_end_the_run_it_began() {
    let node = Node::start(Config::default()).await;
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    let finished = Arc::new(AtomicUsize::new(0));
    let inner = gated(&gate, &running);
    let count = finished.clone();
    let counting = handler(move |request, instance| {
        let (run, count) = (inner(request, instance), count.clone());
        async move {
            let answer = run.await;
            count.fetch_add(1, Ordering::SeqCst);
            answer
        }
    });
    node.deploy("f", counting).await;
    {
        let invoke = std::pin::pin!(node.invoke("f", json!({})));
        tokio::select! {
            _ = invoke => panic!("it waits for the gate"),
            () = until(|| running.load(Ordering::SeqCst) == 1) => {}
        }
    }
    gate.add_permits(1);
    until(|| finished.load(Ordering::SeqCst) == 1).await;
    gate.add_permits(1);
    // Its instance came back.
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), json!(0));
}

#[tokio::test]
async fn failures_look_as_on_lambda() {
    let node = Node::start(Config::default()).await;
    let timeout =
        handler(|_, _| async { Err(RunError::Timeout { logs: Vec::new(), max_memory_bytes: 1 << 20 }) });
    node.deploy("slow", timeout).await;
    let exit = handler(|_, _| async {
        Err(RunError::Exited {
            message: "Runtime exited with error: exit status 1".into(),
            error_type: "Runtime.ExitError".into(),
            out_of_memory: false,
            duration: Duration::from_millis(3),
            logs: Vec::new(),
            max_memory_bytes: 1 << 20,
        })
    });
    node.deploy("exits", exit).await;
    let mut invocation = node.invocation("slow", json!({}));
    invocation.log_tail = true;
    let id = invocation.request_id;
    let outcome = node.functions.invoke(invocation).await.unwrap();
    assert_eq!(outcome.function_error.as_deref(), Some("Unhandled"));
    let payload: Value = serde_json::from_slice(&outcome.payload).unwrap();
    assert_eq!(payload["errorType"], "Sandbox.Timedout");
    assert_eq!(payload["errorMessage"], format!("RequestId: {id} Error: Task timed out after 3.00 seconds"));
    let tail = String::from_utf8(outcome.log_tail.unwrap()).unwrap();
    assert!(
        tail.contains(&format!("Z {id} Task timed out after 3.00 seconds\nEND RequestId: {id}\n")),
        "{tail}"
    );
    assert!(tail.contains("\tDuration: 3000.00 ms\tBilled Duration: 3007 ms\t"), "{tail}");
    assert!(tail.ends_with("Status: timeout\n"), "{tail}");

    let mut invocation = node.invocation("exits", json!({}));
    invocation.log_tail = true;
    let id = invocation.request_id;
    let outcome = node.functions.invoke(invocation).await.unwrap();
    let payload: Value = serde_json::from_slice(&outcome.payload).unwrap();
    assert_eq!(payload["errorType"], "Runtime.ExitError");
    assert_eq!(
        payload["errorMessage"],
        format!("RequestId: {id} Error: Runtime exited with error: exit status 1")
    );
    let tail = String::from_utf8(outcome.log_tail.unwrap()).unwrap();
    assert!(tail.ends_with("Status: error\tError Type: Runtime.ExitError\n"), "{tail}");
    // Both instances are gone.
    until(|| node.functions.instances() == 0).await;
}

#[tokio::test]
async fn a_failed_init_answers_the_request_and_is_tried_again() {
    let node = Node::start(Config::default()).await;
    node.deploy("f", numbered()).await;
    let error = json!({ "errorMessage": "No module named 'x'", "errorType": "Runtime.ImportModuleError" });
    *node.runtime.init_error.lock().unwrap() = Some(error.clone());
    for _ in 0..2 {
        let mut invocation = node.invocation("f", json!({}));
        invocation.log_tail = true;
        let outcome = node.functions.invoke(invocation).await.unwrap();
        assert_eq!(outcome.function_error.as_deref(), Some("Unhandled"));
        assert_eq!(serde_json::from_slice::<Value>(&outcome.payload).unwrap(), error);
        let tail = String::from_utf8(outcome.log_tail.unwrap()).unwrap();
        assert!(tail.ends_with("Status: error\tError Type: Runtime.ImportModuleError\n"), "{tail}");
        let report = "INIT_REPORT Init Duration: 5.00 ms\tPhase: init\tStatus: error\tError Type: \
                      Runtime.ImportModuleError\nSTART RequestId: ";
        assert!(tail.starts_with("INIT_START ") && tail.contains(&format!("\nloading\n{report}")), "{tail}");
    }
    // What ends without a word is told of by the platform.
    for (kind, message, status) in [
        (
            "Runtime.ExitError",
            "Runtime exited with error: exit status 7",
            "error\tError Type: Runtime.ExitError",
        ),
        ("Sandbox.Timedout", "Task timed out after 3.00 seconds", "timeout"),
    ] {
        let error = json!({ "errorMessage": message, "errorType": kind, "reported": false });
        *node.runtime.init_error.lock().unwrap() = Some(error);
        let mut invocation = node.invocation("f", json!({}));
        invocation.log_tail = true;
        let id = invocation.request_id;
        let outcome = node.functions.invoke(invocation).await.unwrap();
        let error: Value = serde_json::from_slice(&outcome.payload).unwrap();
        let told = format!("RequestId: {id} Error: {message}");
        assert_eq!(error, json!({ "errorMessage": told, "errorType": kind }));
        let tail = String::from_utf8(outcome.log_tail.unwrap()).unwrap();
        let line = match status {
            "timeout" => format!("Z {id} {message}\nEND RequestId: {id}\n"),
            _ => format!("\n{told}\n{kind}\nEND RequestId: {id}\n"),
        };
        assert!(tail.contains(&line) && tail.ends_with(&format!("Status: {status}\n")), "{tail}");
    }
    *node.runtime.init_error.lock().unwrap() = None;
    node.invoke("f", json!({})).await.unwrap();
}

#[tokio::test]
async fn idle_instances_end_and_a_shutdown_ends_the_rest() {
    let node = Arc::new(Node::start(Config { keep_alive_ms: 0, ..Config::default() }).await);
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    node.deploy("f", numbered()).await;
    node.deploy("g", gated(&gate, &running)).await;
    node.invoke("f", json!({})).await.unwrap();
    until(|| node.functions.instances() == 0).await;
    let last = {
        let node = node.clone();
        tokio::spawn(async move { node.invoke("g", json!({})).await })
    };
    until(|| running.load(Ordering::SeqCst) == 1).await;
    node.shutdown.cancel();
    loop {
        match node.invoke("f", json!({})).await {
            Err(Error::ShuttingDown) => break,
            Ok(_) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    gate.add_permits(1);
    last.await.unwrap().unwrap();
    let service = node.tasks.lock().unwrap().pop().unwrap();
    service.await.unwrap();
    assert_eq!(node.runtime.live.load(Ordering::SeqCst), 0);
}

/// Everything at once: too little memory, a small account, reservations that come and go, changes, clients that
/// leave. Whatever happens, nobody waits for ever and no room is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_hangs_and_no_room_is_lost() {
    const FUNCTIONS: usize = 6;
    let config = Config {
        account_concurrency: 5,
        unreserved_concurrency: 1,
        memory_mb: Some(3 * 128),
        starts: Some(2),
        fairness_ms: 5,
        queue_timeout_ms: 600_000,
        ..Config::default()
    };
    let node = Arc::new(Node::start(config).await);
    let brief = handler(|request, instance| async move {
        if request.request_id.to_string().starts_with(['0', '1', '2', '3']) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if request.request_id.to_string().starts_with('f') {
            return Err(RunError::Timeout { logs: Vec::new(), max_memory_bytes: 0 });
        }
        Ok(json!(instance))
    });
    for i in 0..FUNCTIONS {
        node.deploy(&format!("f{i}"), brief.clone()).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..600 {
        let node = node.clone();
        tasks.spawn(async move {
            let name = format!("f{}", i % FUNCTIONS);
            match i % 20 {
                // A client that leaves, soon or later.
                7 => {
                    let leaves = Duration::from_micros(i as u64 * 7);
                    let _ = tokio::time::timeout(leaves, node.invoke(&name, json!({}))).await;
                }
                11 => {
                    let change = json!({ "Timeout": 1 + i % 9 });
                    node.json("PUT", &format!("{F}/{name}/configuration"), change).await.unwrap();
                }
                13 => {
                    let path = format!("/2017-10-31/functions/{name}/concurrency");
                    let reserve = json!({ "ReservedConcurrentExecutions": 1 });
                    // Refused while too much is reserved.
                    let _ = node.json("PUT", &path, reserve).await;
                }
                17 => {
                    let path = format!("/2017-10-31/functions/{name}/concurrency");
                    node.json("DELETE", &path, Value::Null).await.unwrap();
                }
                _ => {
                    node.invoke(&name, json!({})).await.unwrap();
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(node.runtime.most_live.load(Ordering::SeqCst) <= 3);
    for i in 0..FUNCTIONS {
        let path = format!("/2017-10-31/functions/f{i}/concurrency");
        node.json("DELETE", &path, Value::Null).await.unwrap();
    }
    // All the room is there: three at a time, as the memory allows.
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    node.deploy("last", gated(&gate, &running)).await;
    let three: Vec<_> = (0..3)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.invoke("last", json!({})).await })
        })
        .collect();
    until(|| running.load(Ordering::SeqCst) == 3).await;
    gate.add_permits(3);
    for one in three {
        one.await.unwrap().unwrap();
    }
    node.shutdown.cancel();
    let service = node.tasks.lock().unwrap().pop().unwrap();
    service.await.unwrap();
    assert_eq!(node.runtime.live.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_was_never_taken_is_placed_again_and_ends_with_the_true_error() {
    let node = Node::start(Config::default()).await;
    let (tries, dying) = (Arc::<AtomicUsize>::default(), Arc::new(AtomicUsize::new(2)));
    let (counted, deaths) = (tries.clone(), dying.clone());
    let ends_first = handler(move |request, _| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        let dies = number < deaths.load(Ordering::SeqCst);
        async move {
            if !dies {
                return Ok(json!(number));
            }
            let error = RunError::Exited {
                message: "Runtime exited with error: exit status 4".into(),
                error_type: "Runtime.ExitError".into(),
                out_of_memory: false,
                duration: Duration::from_millis(2),
                logs: vec![telemetry::LogEvent {
                    timestamp: Timestamp::UNIX_EPOCH,
                    message: "last words".into(),
                }],
                max_memory_bytes: 1 << 20,
            };
            Err(RunError::NotTaken { request: Box::new(request), error: Box::new(error) })
        }
    });
    node.deploy("f", ends_first).await;
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), json!(2));
    tries.store(0, Ordering::SeqCst);
    dying.store(usize::MAX, Ordering::SeqCst);
    let mut invocation = node.invocation("f", json!({}));
    invocation.log_tail = true;
    let id = invocation.request_id;
    let outcome = node.functions.invoke(invocation).await.unwrap();
    let error: Value = serde_json::from_slice(&outcome.payload).unwrap();
    let told = format!("RequestId: {id} Error: Runtime exited with error: exit status 4");
    assert_eq!(error, json!({ "errorType": "Runtime.ExitError", "errorMessage": told }));
    let tail = String::from_utf8(outcome.log_tail.unwrap()).unwrap();
    assert!(tail.contains(&format!("\nlast words\n{told}\nRuntime.ExitError\nEND")), "{tail}");
    assert_eq!(tries.load(Ordering::SeqCst), 4);
}
