//! Functions from container images.

use std::io::Write;

use functions::{Code, CodeFormat, ImageConfig, Runtime, StartError, StartRequest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{House, ask, code, lines, program, request};

fn tar(entries: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(*mode);
        builder.append_data(&mut header, name, *contents).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// An OCI image layout of these layers.
fn layout(config: &Value, layers: &[Vec<u8>]) -> Vec<u8> {
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let config = json!({ "architecture": architecture(), "os": "linux", "config": config }).to_string();
    let mut blobs: Vec<Vec<u8>> = layers.to_vec();
    blobs.push(config.clone().into_bytes());
    let descriptors: Vec<_> =
        layers.iter().map(|layer| json!({ "digest": format!("sha256:{}", digest(layer)) })).collect();
    let manifest = json!({
        "config": { "digest": format!("sha256:{}", digest(config.as_bytes())) },
        "layers": descriptors,
    })
    .to_string();
    blobs.push(manifest.clone().into_bytes());
    let index = json!({ "manifests": [
        { "digest": format!("sha256:{}", "0".repeat(64)), "platform": { "os": "unknown", "architecture": "unknown" } },
        {
            "digest": format!("sha256:{}", digest(manifest.as_bytes())),
            "platform": { "os": "linux", "architecture": architecture() },
        },
    ] });
    let names: Vec<_> = blobs.iter().map(|blob| format!("blobs/sha256/{}", digest(blob))).collect();
    let index = index.to_string();
    let mut entries: Vec<(&str, &[u8], u32)> = vec![("index.json", index.as_bytes(), 0o644)];
    entries.extend(names.iter().zip(&blobs).map(|(name, blob)| (name.as_str(), &blob[..], 0o644)));
    tar(&entries)
}

fn image(bytes: Vec<u8>) -> Code {
    Code { format: CodeFormat::Image, ..code(bytes) }
}

/// A root that runs Python, of what this host has.
fn base() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let python = "/usr/bin/python3.11";
    let mut put = |path: &str, name: &str| {
        let mut header = tar::Header::new_gnu();
        let contents = std::fs::read(path).unwrap();
        header.set_size(contents.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name.trim_start_matches('/'), &contents[..]).unwrap();
    };
    put(python, python);
    put("/bin/dash", "/bin/sh");
    let libraries = |program: &str| {
        let output = std::process::Command::new("ldd").arg(program).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut all = [libraries(python), libraries("/bin/dash")].concat();
    let modules = std::path::Path::new("/usr/lib/python3.11");
    let mut directories = vec![modules.to_owned()];
    let wanted =
        ["encodings", "collections", "json", "re", "importlib", "email", "http", "urllib", "lib-dynload"];
    directories.extend(wanted.map(|name| modules.join(name)));
    for directory in directories {
        for file in std::fs::read_dir(directory).unwrap().flatten() {
            let path = file.path();
            let Some(name) =
                path.to_str().filter(|name| name.ends_with(".py") || name.contains("lib-dynload/"))
            else {
                continue;
            };
            all.push(name.to_owned());
        }
    }
    all.sort();
    all.dedup();
    for path in all {
        put(&path, &path);
    }
    builder.into_inner().unwrap()
}

/// The main program of the images here: it answers with what an event asks for.
const MAIN: &str = "def look(path):
    try: return open(path).read()[:200]
    except OSError as e: return e.errno
def put(path):
    try: open(path, 'w'); return 0
    except OSError as e: return e.errno
print('loading', flush=True)
while True:
    id, event = next_event()
    answer(id, {
        'argv': sys.argv[1:], 'cwd': os.getcwd(), 'uid': os.getuid(), 'root': sorted(os.listdir('/')),
        'env': {k: os.environ.get(k) for k in ['PATH', 'MINE', 'COLOUR', '_HANDLER', 'LAMBDA_TASK_ROOT', 'AWS_REGION']},
        'look': {p: look(p) for p in event.get('look', [])}, 'put': {p: put(p) for p in event.get('put', [])},
        'dev': sorted(os.listdir('/dev')), 'pids': [p for p in os.listdir('/proc') if p.isdigit()],
    })";

fn main_layer() -> Vec<u8> {
    let text = program(MAIN);
    gzip(&tar(&[
        ("app/main.py", text.as_bytes(), 0o755),
        ("app/kept", b"kept", 0o644),
        ("etc/mine", b"x", 0o644),
    ]))
}

fn config() -> Value {
    json!({
        "Entrypoint": ["python3.11", "/app/main.py"], "Cmd": ["first"], "WorkingDir": "/app",
        "Env": ["PATH=/usr/bin:/bin", "MINE=from the image", "COLOUR=overridden"],
    })
}

fn start(code: Code) -> StartRequest {
    StartRequest { code, runtime: String::new(), handler: String::new(), ..request("", "", &[]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_runs_in_the_walls_of_every_function() {
    let house = House::new().await;
    let secret = house.cache.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    let packed = tar(&[("app/packed", b"packed", 0o644)]);
    let packed = ruzstd::encoding::compress_to_vec(&packed[..], ruzstd::encoding::CompressionLevel::Fastest);
    let archive = layout(&config(), &[base(), main_layer(), packed]);
    let started = house.runtime.start(start(image(archive.clone()))).await.unwrap();
    assert_eq!(lines(&started.logs), ["loading"]);
    let mut f = started.instance;
    let event = json!({
        "look": [secret, "/etc/shadow", "/etc/hosts", "/app/kept", "/app/packed", "/proc/1/environ"],
        "put": ["/app/x", "/x", "/tmp/x", "/dev/x", "/etc/hosts"],
    });
    let answer = ask(&mut f, &event.to_string()).await;
    assert_eq!(answer["argv"], json!(["first"]));
    assert_eq!((&answer["cwd"], &answer["uid"]), (&json!("/app"), &json!(993)));
    let root: Vec<_> = answer["root"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for name in &root {
        assert!(
            ["app", "bin", "dev", "etc", "lib", "lib64", "proc", "sys", "tmp", "usr"].contains(name),
            "{root:?}"
        );
    }
    assert_eq!(
        answer["env"],
        json!({
            "PATH": "/usr/bin:/bin", "MINE": "from the image", "COLOUR": "grün", "_HANDLER": "first",
            "LAMBDA_TASK_ROOT": null, "AWS_REGION": "us-east-1"
        })
    );
    let look = &answer["look"];
    assert_eq!(look[secret.to_str().unwrap()], libc::ENOENT);
    assert_eq!(look["/etc/shadow"], libc::ENOENT);
    assert_eq!(look["/etc/hosts"], "127.0.0.1 localhost sandbox sandbox.localdomain\n");
    assert_eq!(look["/app/kept"], "kept");
    assert_eq!(look["/app/packed"], "packed");
    assert!(look["/proc/1/environ"].is_number(), "{look}");
    for (path, errno) in
        [("/app/x", libc::EROFS), ("/x", libc::EROFS), ("/tmp/x", 0), ("/etc/hosts", libc::EROFS)]
    {
        assert_eq!(answer["put"][path], errno, "{path}");
    }
    assert_ne!(answer["put"]["/dev/x"], 0);
    assert_eq!(answer["pids"].as_array().unwrap().len(), 1);
    f.stop().await;

    // What a function overrides of it.
    let image_config = ImageConfig {
        entry_point: vec!["/usr/bin/python3.11".into(), "-B".into(), "/app/main.py".into()],
        command: vec!["other".into(), "words".into()],
        working_directory: Some("/tmp".into()),
    };
    let overridden = StartRequest { image: image_config, ..start(image(archive)) };
    let mut f = house.runtime.start(overridden).await.unwrap().instance;
    let answer = ask(&mut f, "{}").await;
    assert_eq!((&answer["argv"], &answer["cwd"]), (&json!(["other", "words"]), &json!("/tmp")));
    assert_eq!(answer["env"]["_HANDLER"], "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_docker_save_run_too() {
    let house = House::new().await;
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": null, "Layers": ["one/layer.tar", "two/layer.tar"] }]);
    let config = json!({ "architecture": architecture(), "config": config() });
    let (base, main) = (base(), main_layer());
    let archive = tar(&[
        ("manifest.json", manifest.to_string().as_bytes(), 0o644),
        ("config.json", config.to_string().as_bytes(), 0o644),
        ("one/layer.tar", &base, 0o644),
        ("two/layer.tar", &main, 0o644),
    ]);
    let mut f = house.runtime.start(start(image(archive))).await.unwrap().instance;
    assert_eq!(ask(&mut f, "{}").await["argv"], json!(["first"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_of_an_image_run_beside_it() {
    let house = House::new().await;
    let extension = program(
        "status, headers, body = call('POST', '/2020-01-01/extension/register', '{\"events\": [\"INVOKE\"]}', {'Lambda-Extension-Name': 'watch'})
print('watching', flush=True)
while True: call('GET', '/2020-01-01/extension/event/next', headers={'Lambda-Extension-Identifier': headers['lambda-extension-identifier']})",
    )
    .replace("#!/usr/bin/python3", "#!/usr/bin/python3.11");
    let extensions = tar(&[("opt/extensions/watch", extension.as_bytes(), 0o755)]);
    let archive = layout(&config(), &[base(), main_layer(), extensions]);
    let started = house.runtime.start(start(image(archive))).await.unwrap();
    assert_eq!(lines(&started.logs), ["watching", "loading"]);
    let mut f = started.instance;
    ask(&mut f, "{}").await;
    f.settle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_image_is_named() {
    let house = House::with(|config| config.max_image_bytes = 1_000_000).await;
    let other = json!({ "architecture": "s390x", "config": {} }).to_string();
    let manifest = json!([{ "Config": "config.json", "Layers": [] }]).to_string();
    let (two, nothing) = (format!("[{0},{0}]", "{\"Config\":\"config.json\"}"), gzip(b""));
    let saved = |manifest: &str, config: &str| {
        tar(&[("manifest.json", manifest.as_bytes(), 0o644), ("config.json", config.as_bytes(), 0o644)])
    };
    let zeros = vec![0; 2_000_000];
    for (archive, part) in [
        (b"not a tar at all".repeat(100), "can not be unpacked"),
        (gzip(&tar(&[])), "the archive is compressed"),
        (tar(&[("x", b"", 0o644)]), "neither an OCI image layout"),
        (saved(&manifest, &other), "is for s390x, this host is"),
        (saved(&two, &other), "holds 2 images"),
        (saved("[{\"Config\":\"gone.json\"}]", ""), "gone.json is missing"),
        (layout(&json!({}), &[nothing]), "neither an entry point nor a command"),
        (layout(&config(), &[gzip(&tar(&[("zeros", &zeros, 0o644)]))]), "larger than 1000000 bytes"),
        (layout(&config(), &[b"\x28\xb5\x2f\xfdxxxx".to_vec()]), "can not be unpacked"),
    ] {
        let result = house.runtime.start(start(image(archive))).await;
        let Err(StartError::Code(message)) = result else { panic!("{part}: {result:?}") };
        assert!(message.contains(part), "{message}");
    }
    let mut damaged = layout(&config(), &[tar(&[("file", b"contents", 0o644)])]);
    let at = damaged.windows(8).position(|part| part == b"contents").unwrap();
    damaged[at] = b'C';
    let result = house.runtime.start(start(image(damaged))).await;
    assert!(
        matches!(&result, Err(StartError::Code(message)) if message.contains("is damaged")),
        "{result:?}"
    );
    let left = std::fs::read_dir(house.cache.path().join("cache/code")).unwrap().flatten();
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}
