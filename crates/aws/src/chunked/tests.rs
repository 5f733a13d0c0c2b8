//! Decoding, against the published examples and against any split of the input.

use std::collections::VecDeque;
use std::convert::Infallible;

use http::Request;
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::*;
use crate::body::from_body_error;

/// A body that arrives in the pieces given.
#[derive(Debug)]
struct Pieces(VecDeque<Bytes>);

impl Pieces {
    fn split(bytes: &[u8], cuts: &[usize]) -> Self {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        Self(cuts.windows(2).map(|w| Bytes::copy_from_slice(&bytes[w[0]..w[1]])).collect())
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn key(seed: &str) -> ChunkKey {
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    ChunkKey {
        key: SigningKey::derive(secret, "20130524", "us-east-1", "s3"),
        amz_date: "20130524T000000Z".to_owned(),
        scope: "20130524/us-east-1/s3/aws4_request".to_owned(),
        previous: seed.as_bytes().try_into().unwrap(),
    }
}

fn run(
    pieces: Pieces,
    framing: Framing,
    length: u64,
    trailer: Option<&str>,
) -> Result<(Vec<u8>, Parts), Error> {
    let mut request = Request::builder()
        .header("x-amz-decoded-content-length", length)
        .header("content-encoding", "aws-chunked,gzip");
    if let Some(trailer) = trailer {
        request = request.header("x-amz-trailer", trailer);
    }
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    let decoder = decode(&mut head, pieces, framing)?;
    let future = decoder.collect();
    let collected = futures_util::FutureExt::now_or_never(future).expect("these bodies never wait");
    Ok((collected.map_err(from_body_error)?.to_bytes().to_vec(), head))
}

const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
const TRAILER_SEED: &str = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";

fn published() -> Vec<u8> {
    let mut body = Vec::new();
    for (size, signature) in [
        (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ] {
        body.extend(format!("{size:x};chunk-signature={signature}\r\n").bytes());
        body.extend(std::iter::repeat_n(b'a', size));
        body.extend(b"\r\n");
    }
    body
}

fn published_trailer(line_end: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (size, signature) in [
        (65536, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
        (1024, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
        (0, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
    ] {
        body.extend(format!("{size:x};chunk-signature={signature}\r\n").bytes());
        if size > 0 {
            body.extend(std::iter::repeat_n(b'a', size));
            body.extend(b"\r\n");
        }
    }
    body.extend(format!("x-amz-checksum-crc32c:sOO8/Q=={line_end}").bytes());
    body.extend(
        b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
    );
    body
}

#[test]
fn published_example_decodes() {
    let framing = Framing { key: Some(key(SEED)), trailer: false };
    let (data, head) = run(Pieces::split(&published(), &[]), framing, 66560, None).unwrap();
    assert_eq!(data, vec![b'a'; 66560]);
    assert_eq!(head.headers["content-length"], "66560");
    assert_eq!(head.headers["content-encoding"], "gzip");
}

#[test]
fn published_trailer_example_decodes_in_both_spellings() {
    for line_end in ["\r\n", "\n\r\n"] {
        let framing = Framing { key: Some(key(TRAILER_SEED)), trailer: true };
        let body = published_trailer(line_end);
        let (data, head) =
            run(Pieces::split(&body, &[]), framing, 66560, Some("x-amz-checksum-crc32c")).unwrap();
        assert_eq!(data.len(), 66560);
        let trailers = head.extensions.get::<Trailers>().unwrap();
        assert_eq!(trailers.get("x-amz-checksum-crc32c").unwrap(), "sOO8/Q==");
    }
}

fn code(body: &[u8], framing: Framing, length: u64, trailer: Option<&str>) -> String {
    run(Pieces::split(body, &[]), framing, length, trailer).unwrap_err().code.into_owned()
}

#[test]
fn a_signed_body_that_was_changed_fails() {
    let good = published();
    for at in [100, 65600, 65700, 66700, good.len() - 10] {
        let mut body = good.clone();
        body[at] ^= 1;
        let framing = Framing { key: Some(key(SEED)), trailer: false };
        assert_eq!(code(&body, framing, 66560, None), "SignatureDoesNotMatch", "{at}");
    }
    let mut body = published_trailer("\r\n");
    let at = body.len() - 100;
    body[at] ^= 1;
    let framing = || Framing { key: Some(key(TRAILER_SEED)), trailer: true };
    let error = code(&body, framing(), 66560, Some("x-amz-checksum-crc32c"));
    assert!(["SignatureDoesNotMatch", "MalformedTrailerError"].contains(&&*error), "{error}");
    let body = published_trailer("\r\n");
    let cut = &body[..body.len() - 92];
    assert_eq!(code(cut, framing(), 66560, Some("x-amz-checksum-crc32c")), "MalformedTrailerError");
}

#[test]
fn unsigned_bodies_keep_their_promises() {
    let trailer = Some("x-amz-checksum-crc32");
    let run = |body: &[u8], length| code(body, Framing::unsigned(), length, trailer);
    let good = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let (data, head) = super::tests::run(Pieces::split(good, &[]), Framing::unsigned(), 5, trailer).unwrap();
    assert_eq!(data, b"hello");
    assert_eq!(head.extensions.get::<Trailers>().unwrap().get("x-amz-checksum-crc32").unwrap(), "NhCmhg==");
    assert_eq!(run(good, 4), "IncompleteBody");
    assert_eq!(run(good, 6), "IncompleteBody");
    assert_eq!(run(b"5\r\nhello\r\n0\r\n\r\n", 5), "MalformedTrailerError");
    assert_eq!(run(b"5\r\nhello\r\n0\r\nx-amz-checksum-sha1:aa\r\n\r\n", 5), "MalformedTrailerError");
    assert_eq!(run(b"5\r\nhello!\r\n0\r\n\r\n", 5), "InvalidRequest");
    assert_eq!(run(b"5\r\nhel", 5), "IncompleteBody");
    assert_eq!(run(b"", 5), "IncompleteBody");
    assert_eq!(run(b"-5\r\nhello\r\n", 5), "InvalidRequest");
    assert_eq!(run(b"FFFFFFFFFFFFFFFFFFFFF\r\n", 5), "InvalidRequest");
    assert_eq!(run(&[b'0'; 5000], 5), "InvalidRequest");
    assert_eq!(run(&[&good[..], b"more"].concat(), 5), "InvalidRequest");
    let mut endless = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:".to_vec();
    endless.extend([b'a'; 20_000]);
    assert_eq!(run(&endless, 5), "InvalidRequest");
}

#[test]
fn the_decoded_length_is_needed() {
    let (mut head, ()) = Request::new(()).into_parts();
    let error = decode(&mut head, Pieces(VecDeque::new()), Framing::unsigned()).unwrap_err();
    assert_eq!((error.status, &*error.code), (411, "MissingContentLength"));
}

proptest! {
    #[test]
    fn splits_never_change_the_result(cuts in prop::collection::vec(0..70_000_usize, 0..12)) {
        let framing = Framing { key: Some(key(SEED)), trailer: false };
        let (data, _) = run(Pieces::split(&published(), &cuts), framing, 66560, None).unwrap();
        prop_assert_eq!(data, vec![b'a'; 66560]);
        let framing = Framing { key: Some(key(TRAILER_SEED)), trailer: true };
        let body = published_trailer("\r\n");
        let (data, _) = run(Pieces::split(&body, &cuts), framing, 66560, Some("x-amz-checksum-crc32c")).unwrap();
        prop_assert_eq!(data.len(), 66560);
    }

    #[test]
    fn unsigned_round_trip(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..6),
        cuts in prop::collection::vec(0..500_usize, 0..12),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend(format!("{:X}\r\n", chunk.len()).bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        let all = chunks.concat();
        let (data, _) = run(Pieces::split(&body, &cuts), Framing::unsigned(), all.len() as u64, None).unwrap();
        prop_assert_eq!(data, all);
    }

    #[test]
    fn garbage_never_panics(
        body in prop::collection::vec(prop::sample::select(b"0123af;=\r\n:x-".to_vec()), 0..60),
        cuts in prop::collection::vec(0..60_usize, 0..6),
        signed in any::<bool>(),
        trailer in any::<bool>(),
    ) {
        let whole = |cuts: &[usize]| {
            let framing = Framing { key: signed.then(|| key(SEED)), trailer };
            run(Pieces::split(&body, cuts), framing, 20, Some("x")).map(|(data, _)| data)
        };
        // The error may be found at another place, but never another outcome.
        prop_assert_eq!(whole(&cuts).is_ok(), whole(&[]).is_ok());
    }
}
