//! Lists a bucket to its end, page after page, as a client that follows continuation tokens does.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http_body_util::BodyExt;

use crate::Load;

/// What was listed, and how long each page took.
pub(crate) struct Listed {
    pub(crate) keys: u64,
    pub(crate) took: Duration,
    pub(crate) pages_us: Vec<u32>,
}

/// Lists the bucket that the path names.
pub(crate) async fn list(load: &Load) -> anyhow::Result<Listed> {
    let mut sender = load.connect().await?;
    let mut listed = Listed { keys: 0, took: Duration::ZERO, pages_us: Vec::new() };
    let bucket = load.options.path.split('?').next().unwrap_or("/");
    let mut path = format!("{bucket}?list-type=2");
    loop {
        if sender.ready().await.is_err() {
            sender = load.connect().await?;
        }
        let request = load.request_to(&path)?;
        let begun = Instant::now();
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let page = answer.into_body().collect().await?.to_bytes();
        let took = begun.elapsed();
        let page = std::str::from_utf8(&page).context("a page is text")?;
        if !status.is_success() {
            bail!("{status}: {page}");
        }
        let count = element(page, "KeyCount").context("a page says how many keys it has")?;
        listed.keys += count.parse::<u64>()?;
        listed.took += took;
        listed.pages_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        if element(page, "IsTruncated") != Some("true") {
            return Ok(listed);
        }
        let token = element(page, "NextContinuationToken")
            .context("a page that is not the last says where to go on")?;
        path = format!("{bucket}?continuation-token={}&list-type=2", encoded(token));
    }
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0)
}

/// A query's value; what XML escapes does not occur in tokens.
fn encoded(token: &str) -> String {
    let mut out = String::new();
    for byte in token.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
