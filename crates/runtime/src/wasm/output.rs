//! What a function writes to stdout and stderr, made into log events: a line each.
//!
//! Invariant: memory is bounded, whatever is written.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use telemetry::LogEvent;
use tokio::io::AsyncWrite;
use types::SharedEnv;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::logs::{Rules, is_below};

/// The largest event (Amazon CloudWatch Logs user guide, "quotas").
const MAX_EVENT_BYTES: usize = 256 * 1024;
/// What an event takes besides its text, so that short lines have a limit too.
const EVENT_OVERHEAD_BYTES: usize = 32;
/// How much may be written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// The log of one instance.
#[derive(Debug)]
pub(super) struct Output {
    lines: Mutex<Lines>,
    rules: Rules,
    env: SharedEnv,
}

#[derive(Debug, Default)]
struct Lines {
    /// Of stdout and stderr, what has no end yet.
    partial: [Vec<u8>; 2],
    events: Vec<LogEvent>,
    kept_bytes: usize,
    dropped_bytes: usize,
}

impl Output {
    pub(super) fn new(rules: Rules, env: SharedEnv) -> Arc<Self> {
        Arc::new(Self { lines: Mutex::default(), rules, env })
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line of the platform's, whatever the least level.
    pub(super) fn say(&self, message: String) {
        self.lines().keep(message.as_bytes(), self.rules.limit_bytes, &self.env);
    }

    /// All that was written since the last time.
    pub(super) fn take(&self) -> Vec<LogEvent> {
        let mut lines = self.lines();
        for stream in 0..lines.partial.len() {
            lines.end(stream, self.rules, &self.env);
        }
        if lines.dropped_bytes > 0 {
            let message = format!(
                "[hawker] truncated: {} bytes of log over the limit of {} were dropped",
                lines.dropped_bytes, self.rules.limit_bytes
            );
            lines.events.push(LogEvent { timestamp: self.env.now(), message });
        }
        (lines.kept_bytes, lines.dropped_bytes) = (0, 0);
        std::mem::take(&mut lines.events)
    }

    fn write(&self, stream: usize, mut bytes: &[u8]) {
        let mut lines = self.lines();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            lines.extend(stream, &bytes[..end], self.rules, &self.env);
            lines.end(stream, self.rules, &self.env);
            bytes = &bytes[end + 1..];
        }
        lines.extend(stream, bytes, self.rules, &self.env);
    }
}

impl Lines {
    fn extend(&mut self, stream: usize, mut bytes: &[u8], rules: Rules, env: &SharedEnv) {
        while self.partial[stream].len() + bytes.len() > MAX_EVENT_BYTES {
            let (now, later) = bytes.split_at(MAX_EVENT_BYTES - self.partial[stream].len());
            self.partial[stream].extend_from_slice(now);
            self.end(stream, rules, env);
            bytes = later;
        }
        self.partial[stream].extend_from_slice(bytes);
    }

    fn end(&mut self, stream: usize, rules: Rules, env: &SharedEnv) {
        let line = std::mem::take(&mut self.partial[stream]);
        let line = line.trim_ascii_end();
        if rules.least.is_none_or(|least| !is_below(line, least)) {
            self.keep(line, rules.limit_bytes, env);
        }
    }

    fn keep(&mut self, line: &[u8], limit: usize, env: &SharedEnv) {
        if line.is_empty() {
            return;
        }
        let cost = line.len() + EVENT_OVERHEAD_BYTES;
        if self.kept_bytes + cost > limit {
            self.dropped_bytes += line.len();
        } else {
            self.kept_bytes += cost;
            let message = String::from_utf8_lossy(line).into_owned();
            self.events.push(LogEvent { timestamp: env.now(), message });
        }
    }
}

/// stdout or stderr, writing to an [`Output`].
#[derive(Debug, Clone)]
pub(super) struct Stream {
    output: Arc<Output>,
    stream: usize,
}

impl Stream {
    pub(super) fn stdout(output: &Arc<Output>) -> Self {
        Self { output: output.clone(), stream: 0 }
    }

    pub(super) fn stderr(output: &Arc<Output>) -> Self {
        Self { output: output.clone(), stream: 1 }
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

#[async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.output.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(output: &Output) -> Vec<String> {
        output.take().into_iter().map(|event| event.message).collect()
    }

    #[test]
    fn lines_of_both_streams_become_events_in_the_order_in_which_they_end() {
        let output = Output::new(Rules { limit_bytes: 1 << 20, least: None }, types::SystemEnv::new());
        output.write(0, b"one\n\ntw");
        output.write(1, b"error\n");
        output.write(0, b"o\r\nhalf");
        assert_eq!(messages(&output), ["one", "error", "two", "half"]);
        assert!(messages(&output).is_empty());
        output.write(0, b"\xff after\n");
        assert_eq!(messages(&output), ["\u{fffd} after"]);
    }

    #[test]
    fn json_lines_are_kept_by_their_level() {
        let rules = Rules { limit_bytes: 1 << 20, least: Some(functions::LogLevel::Warn) };
        let output = Output::new(rules, types::SystemEnv::new());
        output.write(0, b"{\"level\":\"info\"}\n{\"level\":\"error\"}\nplain\n");
        output.write(1, b"{\"level\":\"DEBUG\"}\n");
        output.say("{\"level\":\"INFO\"} is the platform's".to_owned());
        let kept = ["{\"level\":\"error\"}", "plain", "{\"level\":\"INFO\"} is the platform's"];
        assert_eq!(messages(&output), kept);
    }

    #[test]
    fn long_lines_are_cut_and_floods_are_dropped() {
        let output = Output::new(Rules { limit_bytes: 600 * 1024, least: None }, types::SystemEnv::new());
        output.write(0, &vec![b'x'; MAX_EVENT_BYTES + 10]);
        output.write(0, b"\n");
        for _ in 0..100 {
            output.write(1, &[b"y".repeat(9_999), b"\n".to_vec()].concat());
        }
        let all = messages(&output);
        assert_eq!(all[0].len(), MAX_EVENT_BYTES);
        assert_eq!(all[1].len(), 10);
        assert!(all.last().unwrap().starts_with("[hawker] truncated"), "{:?}", all.last());
        assert!(all.iter().map(String::len).sum::<usize>() < 600 * 1024);
    }
}
