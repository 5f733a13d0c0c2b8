//! Live answers over a WebSocket (RFC 6455): the handshake, and one text message for each event.
//!
//! The client only listens: control frames are answered, anything else it sends ends the connection.

use std::sync::Arc;

use aws::Response;
use aws::live::LiveEvent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::{Next, Session};
use crate::gateway::Gateway;
use crate::io::Activity;
use crate::route::text;

/// What is appended to a client's key to show that the handshake was understood (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The largest message that a client may send: it has nothing to say but control frames.
const MAX_INBOUND_BYTES: usize = 4096;

/// So many heartbeats may go without an answer.
const SILENT_HEARTBEATS: u32 = 3;

/// A request to go on as a WebSocket.
#[derive(Debug)]
pub(crate) struct Handshake {
    accept: HeaderValue,
    upgrade: OnUpgrade,
    activity: Arc<Activity>,
}

impl Handshake {
    /// Takes the handshake out of a request, if it is one.
    pub(crate) fn take(head: &mut Parts, activity: &Arc<Activity>) -> Option<Self> {
        if !asks(&head.headers) {
            return None;
        }
        let key = head.headers.get("sec-websocket-key")?;
        let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize();
        let accept = HeaderValue::try_from(STANDARD.encode(digest)).ok()?;
        let upgrade = head.extensions.remove::<OnUpgrade>()?;
        Some(Self { accept, upgrade, activity: activity.clone() })
    }

    /// Answers it, and sends the session's events once the connection is a WebSocket.
    pub(super) fn answer(self, gateway: &Arc<Gateway>, session: Session) -> Response {
        let Self { accept, upgrade, activity } = self;
        gateway.detached.spawn(async move {
            match upgrade.await {
                Ok(io) => {
                    // Not idle: what is timed from here on is writing.
                    let _busy = activity.begin();
                    serve(TokioIo::new(io), session).await;
                }
                Err(error) => tracing::debug!(%error, "a connection did not become a WebSocket"),
            }
        });
        let mut response = aws::json::empty(101);
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(HeaderName::from_static("sec-websocket-accept"), accept);
        response
    }
}

fn asks(headers: &HeaderMap) -> bool {
    let has = |name: &str, wanted: &str| {
        text(headers, name)
            .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted)))
    };
    has("upgrade", "websocket") && has("connection", "upgrade") && has("sec-websocket-version", "13")
}

async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, mut session: Session) {
    let config = WebSocketConfig::default()
        .read_buffer_size(MAX_INBOUND_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_INBOUND_BYTES))
        .max_frame_size(Some(MAX_INBOUND_BYTES));
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let mut silent = 0;
    let close = loop {
        let message = tokio::select! {
            next = session.next() => match next {
                None => break Some((CloseCode::Normal, "")),
                Some(Next::Event(event)) => Message::text(as_text(&event)),
                Some(Next::Heartbeat) if silent >= SILENT_HEARTBEATS => break None,
                Some(Next::Heartbeat) => {
                    silent += 1;
                    if socket.feed(Message::Ping(Bytes::new())).await.is_err() {
                        break None;
                    }
                    // Pages do not see pings.
                    Message::text(r#"{"event":"heartbeat"}"#)
                }
            },
            received = socket.next() => {
                silent = 0;
                match received {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Frame(_))) => {
                        break Some((CloseCode::Policy, "this connection only sends"));
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break None,
                }
            }
        };
        if socket.send(message).await.is_err() {
            break None;
        }
    };
    let frame = close.map(|(code, reason)| CloseFrame { code, reason: reason.into() });
    // Either way the connection is over; that its peer could not be told changes nothing.
    let _ = socket.close(frame).await;
}

/// `{"event":...,"id":...,"data":...}`.
fn as_text(event: &LiveEvent) -> String {
    let name = serde_json::Value::from(event.name);
    let data = String::from_utf8_lossy(&event.data);
    match &event.token {
        Some(token) => {
            format!("{{\"event\":{name},\"id\":{},\"data\":{data}}}", serde_json::Value::from(token.as_str()))
        }
        None => format!("{{\"event\":{name},\"data\":{data}}}"),
    }
}
