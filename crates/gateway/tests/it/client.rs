//! A client by hand: it signs on its own, so that both sides cannot be wrong in the same way, and speaks to the
//! socket directly.

use std::collections::HashMap;
use std::net::SocketAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use types::Timestamp;

use crate::node::{KEY, SECRET};

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }
}

pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) async fn to(addr: SocketAddr) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(addr).await.unwrap()) }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.unwrap();
    }

    /// The next answer; `None` if the connection ends first.
    pub(crate) async fn receive(&mut self) -> Option<Answer> {
        let mut line = String::new();
        let mut next = async |stream: &mut BufReader<TcpStream>| {
            line.clear();
            match stream.read_line(&mut line).await {
                Ok(0) | Err(_) => None,
                Ok(_) => Some(line.trim_end().to_owned()),
            }
        };
        let status = next(&mut self.stream).await?.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let line = next(&mut self.stream).await?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; if status == 100 || status == 204 { 0 } else { length }];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Answer { status, headers, body: String::from_utf8(body).unwrap() })
    }

    pub(crate) async fn call(&mut self, call: &Call) -> Answer {
        self.send(&call.bytes()).await;
        self.receive().await.expect("an answer")
    }
}

pub(crate) async fn call(addr: SocketAddr, request: &Call) -> Answer {
    Client::to(addr).await.call(request).await
}

/// A request, and how it is signed.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) service: &'static str,
    pub(crate) host: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) key: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) region: &'static str,
    pub(crate) time: Timestamp,
    /// `x-amz-content-sha256`; none is sent if this is none.
    pub(crate) content_sha256: Option<String>,
}

impl Call {
    pub(crate) fn new(service: &'static str, path: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            method: "POST",
            path: path.to_owned(),
            service,
            host: "localhost:4566".to_owned(),
            headers: Vec::new(),
            key: KEY,
            secret: SECRET,
            region: "us-east-1",
            time: Timestamp::now(),
            content_sha256: (service == "s3").then(|| hex::encode(Sha256::digest(&body))),
            body,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Signed and ready to send. Paths are without escapes here, so that all services encode them alike.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let date = self.time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut headers = self.headers.clone();
        headers.push(("host", self.host.clone()));
        headers.push(("x-amz-date", date.clone()));
        if let Some(hash) = &self.content_sha256 {
            headers.push(("x-amz-content-sha256", hash.clone()));
        }
        headers.sort();
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let payload = self.content_sha256.clone().unwrap_or_else(|| hex::encode(Sha256::digest(&self.body)));
        let canonical = format!("{}\n{path}\n{query}\n{lines}\n{names}\n{payload}", self.method);
        let scope = format!("{}/{}/{}/aws4_request", &date[..8], self.region, self.service);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/') {
            key = hmac(&key, part);
        }
        let signature = hex::encode(hmac(&key, &to_sign));
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!(
            "authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, \
             Signature={signature}\r\n",
            self.key
        );
        text += &format!("content-length: {}\r\n\r\n", self.body.len());
        [text.as_bytes(), &self.body].concat()
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().to_vec()
}
