//! What a function must not see, reach or do.

use std::time::Duration;

use functions::Runtime;
use serde_json::json;

use crate::support::{House, ask, request};

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_not_there() {
    for house in House::both().await {
        check_that_the_host_is_not_there(house).await;
    }
}

async fn check_that_the_host_is_not_there(house: House) {
    let secret = house.cache.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    // A file that the node holds open, and that its children inherit.
    let open = std::fs::File::open(&secret).unwrap();
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
    let mut f = house
        .python(
            "import os
def look(path):
    try:
        return len(os.listdir(path)) if os.path.isdir(path) else len(open(path, 'rb').read(64))
    except OSError as e:
        return e.errno
def handler(event, context):
    return {
        'root': sorted(os.listdir('/')), 'home': look('/root'), 'shadow': look('/etc/shadow'),
        'secret': look(event), 'work': look('/home'), 'sys': look('/sys'), 'etc': sorted(os.listdir('/etc')),
        'kcore': look('/proc/kcore'), 'init': look('/proc/1/environ'), 'pids': [p for p in os.listdir('/proc') if p.isdigit()],
        'mem': look('/proc/1/mem'), 'fds': [os.readlink('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n)], 'me': os.getpid(),
        'uid': [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()],
        'status': [l.split(None, 1) for l in open('/proc/self/status').read().splitlines() if l.startswith(('Cap', 'NoNewPrivs', 'Seccomp:'))],
    }",
        )
        .await;
    let answer = ask(&mut f, &json!(secret).to_string()).await;
    let root: Vec<_> = answer["root"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for name in &root {
        assert!(
            [
                "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "root", "run", "sbin",
                "sys", "tmp", "usr", "var"
            ]
            .contains(name),
            "{root:?}"
        );
    }
    assert_eq!(answer["home"], 0);
    assert_eq!(answer["sys"], 0);
    for gone in ["shadow", "secret", "work"] {
        assert_eq!(answer[gone], libc::ENOENT, "{gone}");
    }
    // Empty or closed, never a byte.
    assert!(
        [0, libc::EACCES, libc::EPERM, libc::ENOENT].map(|v| json!(v)).contains(&answer["kcore"]),
        "{answer}"
    );
    for closed in ["init", "mem"] {
        let code = answer[closed].as_i64().unwrap();
        assert!([libc::EACCES, libc::ENOENT, libc::EPERM].map(i64::from).contains(&code), "{closed}: {code}");
    }
    // Only its own processes: init is another's to see.
    assert_eq!(answer["pids"], json!([answer["me"].to_string()]));
    assert_eq!(answer["uid"][0], 993);
    for fd in answer["fds"].as_array().unwrap() {
        let fd = fd.as_str().unwrap();
        assert!(fd == "/dev/null" || fd.starts_with("pipe:") || fd.starts_with("socket:"), "{answer}");
    }
    for line in answer["status"].as_array().unwrap() {
        let (name, value) = (line[0].as_str().unwrap(), line[1].as_str().unwrap());
        match name {
            "NoNewPrivs:" => assert_eq!(value, "1"),
            "Seccomp:" => assert_eq!(value, "2"),
            _ => assert_eq!(value, "0000000000000000", "{name}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tmp_is_writable_and_it_is_limited_and_its_own() {
    for house in House::both().await {
        check_that_only_tmp_is_writable_and_it_is_limited_and_its_own(house).await;
    }
}

async fn check_that_only_tmp_is_writable_and_it_is_limited_and_its_own(house: House) {
    let text = "import os
def put(path, size=1):
    try:
        with open(path, 'wb') as f:
            for _ in range(size): f.write(bytes(1 << 20))
        return 0
    except OSError as e:
        return e.errno
def handler(event, context):
    if event == 'list': return os.listdir('/tmp')
    return [put(p) for p in ['/tmp/mine', '/x', '/usr/x', '/etc/x', '/var/task/x', '/var/runtime/x', '/proc/sys/kernel/hostname', '/dev/x']] + [put('/tmp/big', 100)]";
    let (mut one, mut two) = (house.python(text).await, house.python(text).await);
    let answer = ask(&mut one, "\"write\"").await;
    assert_eq!(answer[0], 0);
    for denied in answer.as_array().unwrap()[1..8].iter() {
        assert!([libc::EROFS, libc::EACCES].map(|v| json!(v)).contains(denied), "{answer}");
    }
    assert_eq!(answer[8], libc::ENOSPC);
    assert_eq!(ask(&mut two, "\"list\"").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_platform_is_reached() {
    for house in House::both().await {
        check_that_nothing_but_the_platform_is_reached(house).await;
    }
}

async fn check_that_nothing_but_the_platform_is_reached(house: House) {
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut f = house
        .python(
            "import socket
def handler(event, context):
    out = []
    for family, kind, address in [
        (socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', event)), (socket.AF_INET, socket.SOCK_STREAM, ('192.0.2.1', 80)),
        (socket.AF_INET6, socket.SOCK_STREAM, ('2001:db8::1', 80)), (socket.AF_INET, socket.SOCK_DGRAM, ('192.0.2.1', 53)),
    ]:
        try:
            with socket.socket(family, kind) as s:
                s.settimeout(2)
                s.connect(address)
            out.append('reached')
        except OSError as e:
            out.append(e.errno)
    for family, kind in [(socket.AF_NETLINK, socket.SOCK_RAW), (socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW), (40, socket.SOCK_STREAM)]:
        try:
            socket.socket(family, kind, 1 if family == socket.AF_INET else 0)
            out.append('made')
        except OSError as e:
            out.append(e.errno)
    return out",
        )
        .await;
    let answer = ask(&mut f, &host.local_addr().unwrap().port().to_string()).await;
    assert_eq!(
        answer,
        json!([
            libc::ECONNREFUSED,
            libc::ENETUNREACH,
            libc::ENETUNREACH,
            libc::ENETUNREACH,
            libc::EAFNOSUPPORT,
            libc::EAFNOSUPPORT,
            libc::EPERM,
            libc::EAFNOSUPPORT
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dangerous_calls_are_refused() {
    for house in House::both().await {
        check_that_dangerous_calls_are_refused(house).await;
    }
}

async fn check_that_dangerous_calls_are_refused(house: House) {
    let mut f = house
        .python(
            "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    ctypes.set_errno(0)
    return 0 if libc.syscall(number, *args) >= 0 else ctypes.get_errno()
def handler(event, context):
    x = os.uname().machine == 'x86_64'
    return {
        'mount': call(165 if x else 40, b'x', b'/tmp', b'tmpfs', 0, 0), 'ptrace': call(101 if x else 117, 0, 0, 0, 0),
        'unshare': call(272 if x else 97, 0x10000000), 'setns': call(308 if x else 268, 0, 0),
        'clone': call(56 if x else 220, 0x10000000 | 17, 0, 0, 0, 0), 'bpf': call(321 if x else 280, 0, 0, 0),
        'keyctl': call(250 if x else 219, 0, 0), 'perf': call(298 if x else 241, 0, 0, 0, 0, 0),
        'uring': call(425, 1, 0), 'userfault': call(323 if x else 282, 0), 'chroot': call(161 if x else 51, b'/tmp'),
        'readv': call(310 if x else 270, 1, 0, 0, 0, 0, 0), 'open_tree': call(428, -100, b'/', 1),
        'clone3': call(435, 0, 0), 'unknown': call(999),
    }",
        )
        .await;
    let answer = ask(&mut f, "{}").await;
    for (name, errno) in answer.as_object().unwrap() {
        let expected =
            if ["clone3", "unknown"].contains(&name.as_str()) { libc::ENOSYS } else { libc::EPERM };
        assert_eq!(*errno, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_work_as_they_should() {
    for house in House::both().await {
        check_that_programs_work_as_they_should(house).await;
    }
}

async fn check_that_programs_work_as_they_should(house: House) {
    let mut f = house
        .python(
            "import subprocess, multiprocessing, threading, tempfile, pwd, os, ssl, socket, sqlite3, uuid
def handler(event, context):
    pipe, out = multiprocessing.Pipe()
    p = multiprocessing.Process(target=lambda: out.send(os.getpid() > 1)); p.start(); p.join()
    t = threading.Thread(target=lambda: None); t.start(); t.join()
    with tempfile.NamedTemporaryFile() as file: file.write(b'x')
    db = sqlite3.connect('/tmp/db'); db.execute('create table t(x)'); db.commit()
    a, b = socket.socketpair(); a.send(b'x')
    return [subprocess.check_output(['sh', '-c', 'echo $((1+1)); ls /nothing 2>/dev/null || cat /etc/hosts | wc -l']).decode(),
            pipe.recv(), pwd.getpwuid(os.getuid()).pw_name, len(ssl.create_default_context().get_ca_certs()) >= 0,
            socket.gethostbyname('localhost'), b.recv(1).decode(), open('/dev/urandom', 'rb').read(2) != b'', os.cpu_count() > 0]",
        )
        .await;
    let answer = ask(&mut f, "{}").await;
    assert_eq!(answer, json!(["2\n1\n", true, "sbx_user1051", true, "127.0.0.1", "x", true, true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_isolation_functions_are_plain_processes() {
    let house = House::with(|config| config.isolation = runtime::Isolation::None).await;
    let text = b"import os, subprocess, time
def handler(event, context):
    if event == 'hang':
        subprocess.Popen(['sleep', '1000'], start_new_session=True)
        time.sleep(1000)
    return [os.environ['AWS_ENDPOINT_URL'], os.getcwd() == os.environ['LAMBDA_TASK_ROOT'], os.getppid()]";
    let started =
        house.runtime.start(request("python3.11", "app.handler", &[("app.py", text)])).await.unwrap();
    let mut f = started.instance;
    let answer = ask(&mut f, "{}").await;
    assert_eq!(answer[0], "http://127.0.0.1:4566");
    assert_eq!(answer[1], true);
    let helper = answer[2].to_string();
    let late = f.invoke(crate::support::event("\"hang\"", Duration::from_millis(500))).await;
    assert!(matches!(late, Err(functions::RunError::Timeout { .. })), "{late:?}");
    assert!(!std::path::Path::new("/proc").join(helper).exists());
}
