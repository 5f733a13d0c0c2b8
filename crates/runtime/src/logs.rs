//! What a function and its extensions write: bytes from pipes, made into log events.
//!
//! Invariant: memory is bounded. A carriage return within a line is a line break within one event: that is
//! how our bootstraps (as AWS's) keep records of several lines together.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use functions::LogLevel;
use serde::Deserialize;
use telemetry::LogEvent;
use tokio::net::unix::pipe::Receiver;
use types::SharedEnv;

use crate::telemetry_api::{Source, Telemetry};

/// The largest event (Amazon CloudWatch Logs user guide, "quotas").
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// Collects the lines of one instance.
#[derive(Debug)]
pub(crate) struct Logs {
    /// What the function writes; what extensions do, if there are any.
    pipes: Vec<(Source, Receiver)>,
    state: Mutex<State>,
    rules: Rules,
    telemetry: Arc<Telemetry>,
    env: SharedEnv,
}

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// How much an invocation may write.
    pub(crate) limit_bytes: usize,
    /// The least level of JSON lines that say theirs.
    pub(crate) least: Option<LogLevel>,
}

/// What is left in the pipe.
enum Pipe {
    Empty,
    More,
    Ended,
}

#[derive(Debug, Default)]
struct State {
    /// The line that each pipe is in the middle of.
    partial: Vec<Vec<u8>>,
    events: Vec<LogEvent>,
    kept_bytes: usize,
    dropped_bytes: usize,
}

impl Logs {
    /// Reads from `pipes` (not blocking) until they end.
    pub(crate) fn collect(
        pipes: impl IntoIterator<Item = (Source, OwnedFd)>,
        rules: Rules,
        telemetry: Arc<Telemetry>,
        env: SharedEnv,
    ) -> std::io::Result<Arc<Self>> {
        let pipes = pipes.into_iter().map(|(source, pipe)| Ok((source, Receiver::from_owned_fd(pipe)?)));
        let pipes = pipes.collect::<std::io::Result<Vec<_>>>()?;
        let state = State { partial: vec![Vec::new(); pipes.len()], ..State::default() };
        let count = pipes.len();
        let logs = Arc::new(Self { pipes, state: Mutex::new(state), rules, telemetry, env });
        for place in 0..count {
            let reader = logs.clone();
            // Ends with the pipe, which ends with the sandbox.
            tokio::spawn(async move { reader.read(place).await });
        }
        Ok(logs)
    }

    async fn read(&self, place: usize) {
        loop {
            if self.pipes[place].1.readable().await.is_err() {
                return;
            }
            // tokio learns from its own reads that the pipe is empty.
            match self.drain(place, |pipe, buffer| pipe.try_read(buffer)) {
                Pipe::Empty => {}
                Pipe::More => tokio::task::yield_now().await,
                Pipe::Ended => return,
            }
        }
    }

    /// Takes in what is in a pipe now.
    fn drain(&self, place: usize, read: impl Fn(&Receiver, &mut [u8]) -> std::io::Result<usize>) -> Pipe {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [0; 16 * 1024];
        // A function that writes without pause must not keep this thread.
        for _ in 0..64 {
            match read(&self.pipes[place].1, &mut buffer) {
                Ok(0) => return Pipe::Ended,
                Ok(read) => self.take_in(&mut state, place, &buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Pipe::Empty,
                Err(_) => return Pipe::Ended,
            }
        }
        Pipe::More
    }

    /// All that was written up to now, as whole events.
    pub(crate) fn take(&self) -> Vec<LogEvent> {
        for place in 0..self.pipes.len() {
            // Past tokio, which has perhaps not looked at the pipe since the last of it was written.
            self.drain(place, |pipe, buffer| Ok(rustix::io::read(pipe, buffer)?));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for place in 0..self.pipes.len() {
            self.end_line(&mut state, place);
        }
        if state.dropped_bytes > 0 {
            let message = format!(
                "[hawker] truncated: {} bytes of log over the limit of {} were dropped",
                state.dropped_bytes, self.rules.limit_bytes
            );
            state.events.push(LogEvent { timestamp: self.env.now(), message });
        }
        (state.kept_bytes, state.dropped_bytes) = (0, 0);
        std::mem::take(&mut state.events)
    }

    fn take_in(&self, state: &mut State, place: usize, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(state, place, &bytes[..end]);
            self.end_line(state, place);
            bytes = &bytes[end + 1..];
        }
        self.extend(state, place, bytes);
    }

    fn extend(&self, state: &mut State, place: usize, mut bytes: &[u8]) {
        while state.partial[place].len() + bytes.len() > MAX_EVENT_BYTES {
            let (now, later) = bytes.split_at(MAX_EVENT_BYTES - state.partial[place].len());
            state.partial[place].extend_from_slice(now);
            self.end_line(state, place);
            bytes = later;
        }
        state.partial[place].extend_from_slice(bytes);
    }

    fn end_line(&self, state: &mut State, place: usize) {
        let partial = &mut state.partial[place];
        if partial.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(partial);
        let message = text.trim_end_matches('\r').replace('\r', "\n");
        // An event takes some room besides its text, so that empty lines have a limit too.
        let (bytes, cost) = (partial.len(), partial.len() + 32);
        partial.clear();
        if message.is_empty() {
            state.kept_bytes += 32;
            return;
        }
        let source = self.pipes[place].0;
        if self
            .rules
            .least
            .is_some_and(|least| source == Source::Function && is_below(message.as_bytes(), least))
        {
            return;
        }
        let timestamp = self.env.now();
        self.telemetry.line(source, timestamp, &message);
        if state.kept_bytes + cost > self.rules.limit_bytes {
            state.dropped_bytes += bytes;
        } else {
            state.kept_bytes += cost;
            state.events.push(LogEvent { timestamp, message });
        }
    }
}

/// True if a line is a JSON object that says that its level is below `least`.
pub(crate) fn is_below(line: &[u8], least: LogLevel) -> bool {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        level: Option<std::borrow::Cow<'a, str>>,
    }
    if !line.starts_with(b"{") {
        return false;
    }
    let Ok(Line { level }) = serde_json::from_slice(line) else { return false };
    let level = level.unwrap_or_default().to_ascii_uppercase();
    let level = match level.as_str() {
        "TRACE" => LogLevel::Trace,
        "DEBUG" => LogLevel::Debug,
        "WARN" | "WARNING" => LogLevel::Warn,
        "ERROR" => LogLevel::Error,
        "FATAL" | "CRITICAL" => LogLevel::Fatal,
        // What says nothing that is known counts as this.
        _ => LogLevel::Info,
    };
    level < least
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pipe(limit_bytes: usize) -> (std::fs::File, Arc<Logs>) {
        let (read, write) = std::io::pipe().unwrap();
        let env: SharedEnv = types::SystemEnv::new();
        let rules = Rules { limit_bytes, least: Some(LogLevel::Warn) };
        let telemetry = Telemetry::for_nobody(env.clone());
        let pipes = [(Source::Function, read.into())];
        (OwnedFd::from(write).into(), Logs::collect(pipes, rules, telemetry, env).unwrap())
    }

    fn messages(logs: &Logs) -> Vec<String> {
        logs.take().into_iter().map(|event| event.message).collect()
    }

    #[tokio::test]
    async fn lines_become_events_and_carriage_returns_stay_within_one() {
        let (mut write, logs) = pipe(1 << 20);
        write.write_all("one\n\ntwo\rthree\r\nhalf".as_bytes()).unwrap();
        assert_eq!(messages(&logs), ["one", "two\nthree", "half"]);
        write.write_all(b"\xff after\n").unwrap();
        assert_eq!(messages(&logs), ["\u{fffd} after"]);
        assert!(messages(&logs).is_empty());
    }

    #[tokio::test]
    async fn json_lines_are_kept_by_their_level() {
        let (mut write, logs) = pipe(1 << 20);
        let lines = [
            r#"{"level":"debug","m":1}"#,
            r#"{"level":"WARN"}"#,
            r#"{"m":"no level"}"#,
            r#"{"level":"CRITICAL"}"#,
            "{not json",
            "plain",
        ];
        write.write_all(lines.join("\n").as_bytes()).unwrap();
        assert_eq!(messages(&logs), [lines[1], lines[3], lines[4], lines[5]]);
    }

    #[tokio::test]
    async fn long_lines_are_cut_and_floods_are_dropped() {
        let (mut write, logs) = pipe(600 * 1024);
        let flood = std::thread::spawn(move || {
            write.write_all(&vec![b'x'; MAX_EVENT_BYTES + 10]).unwrap();
            write.write_all(b"\n").unwrap();
            for _ in 0..100 {
                write.write_all(&[b"y".repeat(9_999), b"\n".to_vec()].concat()).unwrap();
            }
        });
        tokio::task::spawn_blocking(move || flood.join().unwrap()).await.unwrap();
        let all = messages(&logs);
        assert_eq!(all[0].len(), MAX_EVENT_BYTES);
        assert_eq!(all[1].len(), 10);
        assert!(all.last().unwrap().starts_with("[hawker] truncated"), "{:?}", all.last());
        assert!(all.iter().map(String::len).sum::<usize>() < 600 * 1024);
    }
}
