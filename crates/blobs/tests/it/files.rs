//! What blobs as files promise about damage, crashes and full disks.

use std::fs;
use std::path::{Path, PathBuf};

use blobs::{Blobs, Error, FsBlobs};
use futures_util::StreamExt;
use types::ErrorKind;

use crate::{body, id, noise, read};

fn only_file(dir: &Path) -> PathBuf {
    dir.join("01").join(id(1, 1).to_string())
}

fn temporaries(dir: &Path) -> usize {
    fs::read_dir(dir.join("tmp")).unwrap().count()
}

#[tokio::test]
async fn no_flipped_bit_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FsBlobs::open(dir.path()).unwrap();
    let size = 600_000_usize;
    let bytes = noise(size);
    blobs.put(id(1, 1), body(&bytes, 50_000)).await.unwrap();
    let file = only_file(dir.path());
    let whole = fs::read(&file).unwrap();
    assert!(whole[..size] == bytes, "a blob's bytes are contiguous");
    // Bytes, checksums, and every byte of the trailer.
    let places = (0..whole.len()).step_by(9_973).chain(whole.len() - 64..whole.len());
    for at in places {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&file, damaged).unwrap();
        let mut served = Vec::new();
        let mut error = None;
        match blobs.get(id(1, 1), 0..size as u64).await {
            Ok(mut stream) => {
                while let Some(chunk) = stream.next().await {
                    match chunk {
                        Ok(chunk) => served.extend_from_slice(&chunk),
                        Err(cause) => error = Some(cause),
                    }
                }
            }
            Err(cause) => error = Some(cause),
        }
        let error = error.unwrap_or_else(|| panic!("the bit flipped in byte {at} was not noticed"));
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(
            matches!(blobs.verify(id(1, 1)).await, Err(Error::Corrupt { .. } | Error::Io(_))),
            "byte {at}"
        );
        assert!(bytes.starts_with(&served), "what came before byte {at} was right");
        if at < size {
            let block = at as u64 / 65_536 * 65_536;
            assert!(matches!(error, Error::Corrupt { at, .. } if at == block), "{error}");
            // The rest can still be read.
            assert_eq!(read(&*blobs, id(1, 1), 0..block).await.unwrap(), bytes[..block as usize]);
        }
    }
    fs::write(&file, whole).unwrap();
    assert!(read(&*blobs, id(1, 1), 0..size as u64).await.unwrap() == bytes);
    assert_eq!(blobs.verify(id(1, 1)).await.unwrap(), size as u64);
    assert!(matches!(blobs.verify(id(1, 2)).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_file_cut_short_or_of_another_blob_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FsBlobs::open(dir.path()).unwrap();
    let bytes = noise(200_000);
    blobs.put(id(1, 1), body(&bytes, 50_000)).await.unwrap();
    let file = only_file(dir.path());
    let whole = fs::read(&file).unwrap();
    for len in [0, 1, 23, 24, 100_000, 200_000, whole.len() - 24, whole.len() - 1] {
        fs::write(&file, &whole[..len]).unwrap();
        let error = read(&*blobs, id(1, 1), 0..10).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "cut to {len}: {error}");
    }
    fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    assert!(read(&*blobs, id(1, 1), 0..10).await.is_err());
    fs::write(dir.path().join("01").join(id(1, 2).to_string()), &whole).unwrap();
    assert!(matches!(read(&*blobs, id(1, 2), 0..10).await, Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FsBlobs::open(dir.path()).unwrap();
    blobs.put(id(1, 1), body(&noise(10), 10)).await.unwrap();
    let file = only_file(dir.path());
    let mut whole = fs::read(&file).unwrap();
    *whole.last_mut().unwrap() += 1;
    fs::write(&file, whole).unwrap();
    let error = read(&*blobs, id(1, 1), 0..10).await.unwrap_err();
    assert!(error.to_string().contains("use a newer hawker"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_half_written_stays() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FsBlobs::open(dir.path()).unwrap();
    // A body that fails after some steps were written.
    let failing =
        body(&noise(4_000_000), 100_000).chain(futures_util::stream::iter([Err(Error::Body("no".into()))]));
    assert!(blobs.put(id(1, 1), failing.boxed()).await.is_err());
    assert_eq!(temporaries(dir.path()), 0);
    blobs.put(id(1, 1), body(&noise(4_000_000), 100_000)).await.unwrap();
    assert_eq!(temporaries(dir.path()), 0);
    // One refused because its id is taken.
    assert!(blobs.put(id(1, 1), body(&noise(10), 10)).await.is_err());
    assert_eq!(temporaries(dir.path()), 0);
    // What a crash leaves is removed at the next start, and nothing else is.
    drop(blobs);
    fs::write(dir.path().join("tmp").join("0000.7"), "half").unwrap();
    fs::write(dir.path().join("01").join("notes"), "not a blob").unwrap();
    let blobs = FsBlobs::open(dir.path()).unwrap();
    assert_eq!(temporaries(dir.path()), 0);
    assert_eq!(blobs.list(None, 10).await.unwrap(), [id(1, 1)]);
    assert!(read(&*blobs, id(1, 1), 0..4_000_000).await.unwrap() == noise(4_000_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_reading_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FsBlobs::open(dir.path()).unwrap();
    let noise = noise(1_000_000);
    blobs.put(id(1, 1), body(&noise, 100_000)).await.unwrap();
    let mut stopped = Vec::new();
    for _ in 0..200 {
        let mut stream = blobs.get(id(1, 1), 0..1_000_000).await.unwrap();
        stream.next().await.unwrap().unwrap();
        stopped.push(stream);
    }
    // Each asks for more, and then does not come back for it.
    for stream in &mut stopped {
        let _ = futures_util::poll!(stream.next());
    }
    let other =
        tokio::time::timeout(std::time::Duration::from_secs(30), read(&*blobs, id(1, 1), 0..1_000_000));
    assert!(other.await.expect("others are served").unwrap() == noise);
    for stream in stopped {
        let rest: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert!(noise.ends_with(&rest.concat()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_put_removes_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (reached, is_reached) = tokio::sync::oneshot::channel::<()>();
    let endless = body(&noise(4_000_000), 100_000).chain(
        futures_util::stream::once(async move {
            reached.send(()).unwrap();
            std::future::pending().await
        })
        .boxed(),
    );
    // The runtime that runs its blocking steps ends only after they have.
    let path = dir.path().to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let blobs = FsBlobs::open(path).unwrap();
            tokio::select! {
                _ = blobs.put(id(1, 1), endless.boxed()) => panic!("it can not end"),
                reached = is_reached => reached.unwrap(),
            }
        });
    })
    .join()
    .unwrap();
    assert_eq!(temporaries(dir.path()), 0);
}

#[tokio::test]
async fn a_full_disk_refuses_and_keeps_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FsBlobs::open(dir.path()).unwrap();
    blobs.put(id(1, 1), body(&noise(1000), 1000)).await.unwrap();
    drop(blobs);
    let blobs = FsBlobs::open_with_reserve(dir.path(), u64::MAX).unwrap();
    let error = blobs.put(id(1, 2), body(&noise(1000), 1000)).await.unwrap_err();
    assert!(matches!(error, Error::DiskFull));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(temporaries(dir.path()), 0);
    assert_eq!(blobs.list(None, 10).await.unwrap(), [id(1, 1)]);
    assert!(read(&*blobs, id(1, 1), 0..1000).await.unwrap() == noise(1000));
    blobs.delete(id(1, 1)).await.unwrap();
}

/// Not the reserve, but the write itself: under a limit on the size of files.
#[tokio::test]
async fn a_write_that_finds_no_room_is_a_full_disk() {
    use std::process::{Command, Stdio};
    // Run again under a limit on the size of files, as a process of its own.
    const DIR: &str = "HAWKER_BLOBS_TEST_DIR";
    if let Some(dir) = std::env::var_os(DIR) {
        let blobs = FsBlobs::open(&dir).unwrap();
        blobs.put(id(1, 1), body(&noise(1000), 1000)).await.unwrap();
        for size in [600_000, 5_000_000] {
            let error = blobs.put(id(1, 2), body(&noise(size), 100_000)).await.unwrap_err();
            assert!(matches!(error, Error::DiskFull), "{error}");
            assert_eq!(temporaries(Path::new(&dir)), 0);
        }
        assert_eq!(blobs.list(None, 10).await.unwrap(), [id(1, 1)]);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 512; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["files::a_write_that_finds_no_room_is_a_full_disk", "--exact", "--nocapture"])
        .env(DIR, dir.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_directory_serves_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FsBlobs::open(dir.path()).unwrap();
    let error = FsBlobs::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    drop(blobs);
    FsBlobs::open(dir.path()).unwrap();
}

#[test]
fn a_directory_that_can_not_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a file"), "").unwrap();
    let error = FsBlobs::open(dir.path().join("a file").join("blobs")).unwrap_err();
    assert!(error.to_string().contains("a file/blobs"), "{error}");
}
