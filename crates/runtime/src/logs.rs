//! What a function writes: bytes from a pipe, made into log events.
//!
//! Invariant: memory is bounded. A carriage return within a line is a line break within one event: that is
//! how our bootstraps (as AWS's) keep records of several lines together.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use telemetry::LogEvent;
use tokio::net::unix::pipe::Receiver;
use types::SharedEnv;

/// The largest event (Amazon CloudWatch Logs user guide, "quotas").
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// Collects the lines of one instance.
#[derive(Debug)]
pub(crate) struct Logs {
    pipe: Receiver,
    state: Mutex<State>,
    limit_bytes: usize,
    env: SharedEnv,
}

/// What is left in the pipe.
enum Pipe {
    Empty,
    More,
    Ended,
}

#[derive(Debug, Default)]
struct State {
    partial: Vec<u8>,
    events: Vec<LogEvent>,
    kept_bytes: usize,
    dropped_bytes: usize,
}

impl Logs {
    /// Reads from `pipe` (not blocking) until it ends.
    pub(crate) fn collect(pipe: OwnedFd, limit_bytes: usize, env: SharedEnv) -> std::io::Result<Arc<Self>> {
        let pipe = Receiver::from_owned_fd(pipe)?;
        let logs = Arc::new(Self { pipe, state: Mutex::default(), limit_bytes, env });
        let reader = logs.clone();
        // Ends with the pipe, which ends with the sandbox.
        tokio::spawn(async move {
            loop {
                if reader.pipe.readable().await.is_err() {
                    return;
                }
                // tokio learns from its own reads that the pipe is empty.
                match reader.drain(|pipe, buffer| pipe.try_read(buffer)) {
                    Pipe::Empty => {}
                    Pipe::More => tokio::task::yield_now().await,
                    Pipe::Ended => return,
                }
            }
        });
        Ok(logs)
    }

    /// Takes in what is in the pipe now.
    fn drain(&self, read: impl Fn(&Receiver, &mut [u8]) -> std::io::Result<usize>) -> Pipe {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [0; 16 * 1024];
        // A function that writes without pause must not keep this thread.
        for _ in 0..64 {
            match read(&self.pipe, &mut buffer) {
                Ok(0) => return Pipe::Ended,
                Ok(read) => state.take_in(&buffer[..read], self.limit_bytes, &self.env),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Pipe::Empty,
                Err(_) => return Pipe::Ended,
            }
        }
        Pipe::More
    }

    /// All that was written up to now, as whole events.
    pub(crate) fn take(&self) -> Vec<LogEvent> {
        // Past tokio, which has perhaps not looked at the pipe since the last of it was written.
        self.drain(|pipe, buffer| Ok(rustix::io::read(pipe, buffer)?));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.end_line(self.limit_bytes, &self.env);
        if state.dropped_bytes > 0 {
            let message = format!(
                "[hawker] truncated: {} bytes of log over the limit of {} were dropped",
                state.dropped_bytes, self.limit_bytes
            );
            state.events.push(LogEvent { timestamp: self.env.now(), message });
        }
        (state.kept_bytes, state.dropped_bytes) = (0, 0);
        std::mem::take(&mut state.events)
    }
}

impl State {
    fn take_in(&mut self, mut bytes: &[u8], limit: usize, env: &SharedEnv) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end], limit, env);
            self.end_line(limit, env);
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, limit, env);
    }

    fn extend(&mut self, mut bytes: &[u8], limit: usize, env: &SharedEnv) {
        while self.partial.len() + bytes.len() > MAX_EVENT_BYTES {
            let (now, later) = bytes.split_at(MAX_EVENT_BYTES - self.partial.len());
            self.partial.extend_from_slice(now);
            self.end_line(limit, env);
            bytes = later;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn end_line(&mut self, limit: usize, env: &SharedEnv) {
        if self.partial.is_empty() {
            return;
        }
        // An event takes some room besides its text, so that empty lines have a limit too.
        let cost = self.partial.len() + 32;
        if self.kept_bytes + cost > limit {
            self.dropped_bytes += self.partial.len();
        } else {
            self.kept_bytes += cost;
            let text = String::from_utf8_lossy(&self.partial);
            let message = text.trim_end_matches('\r').replace('\r', "\n");
            if !message.is_empty() {
                self.events.push(LogEvent { timestamp: env.now(), message });
            }
        }
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pipe(limit: usize) -> (std::fs::File, Arc<Logs>) {
        let (read, write) = std::io::pipe().unwrap();
        (OwnedFd::from(write).into(), Logs::collect(read.into(), limit, types::SystemEnv::new()).unwrap())
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
