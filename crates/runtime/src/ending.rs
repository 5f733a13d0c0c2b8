//! The end of an instance: in order where extensions want to know of it (AWS Lambda developer guide, "Shutdown phase"),
//! and the words for how it came about.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::Reason;
use crate::host::End;
use crate::instance::ProcessInstance;
use crate::spec::Program;

/// How long a function has after SIGTERM if it has internal extensions only,
const WITH_INTERNAL: Duration = Duration::from_millis(500);
/// if it has external ones,
const WITH_EXTERNAL: Duration = Duration::from_millis(300);
/// and how long all of it takes then.
const ALL_WITH_EXTERNAL: Duration = Duration::from_secs(2);

impl ProcessInstance {
    /// Ends it, in order if it has extensions, and waits until nothing of it is left.
    pub(crate) async fn end(&mut self, reason: Reason) -> End {
        self.exchange.abandon();
        self.report();
        if self.exchange.has_extensions() && self.sandbox.is_alive() {
            self.shut_down(reason).await;
        }
        self.sandbox.stop().await
    }

    async fn shut_down(&mut self, reason: Reason) {
        let began = Instant::now();
        self.sandbox.begin_shutdown();
        self.telemetry.flush();
        let external = self.exchange.has_external_extensions();
        // What is not in order is not asked.
        let (signal, patience) = match (reason, external) {
            (Reason::Spindown, true) => (libc::SIGTERM, WITH_EXTERNAL),
            (Reason::Spindown, false) => (libc::SIGTERM, WITH_INTERNAL),
            (Reason::Timeout | Reason::Failure, _) => (libc::SIGKILL, Duration::ZERO),
        };
        // Where the line is broken, everything is over anyhow.
        let _ = self.door.signal(Program::Function, signal).await;
        let function = [Program::Function];
        let ended = tokio::time::timeout(patience, self.sandbox.exited(&function)).await.is_ok();
        if !external {
            return;
        }
        if !ended {
            let _ = self.door.signal(Program::Function, libc::SIGKILL).await;
        }
        let left = ALL_WITH_EXTERNAL.saturating_sub(began.elapsed());
        let deadline = self.telemetry.in_future(left);
        for place in self.exchange.shut_down(reason, deadline.as_millisecond()) {
            let _ = self.door.signal(Program::Extension(place), libc::SIGKILL).await;
        }
        let extensions: Vec<_> = (0..self.extensions.len()).map(Program::Extension).collect();
        let until = began + ALL_WITH_EXTERNAL;
        tokio::select! {
            () = self.sandbox.exited(&extensions) => {}
            _ = self.sandbox.ended() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

/// How Lambda words the end of a sandbox, and the error type it gives it.
pub(crate) fn exit_reason_of(end: &End, extensions: &[String]) -> (String, &'static str) {
    let name = |place: usize| extensions.get(place).map_or("extension", String::as_str);
    if let Some((Program::Extension(place), message)) = &end.launch {
        return (format!("extension {}: {message}", name(*place)), "Extension.LaunchError");
    }
    if let (Some(Program::Extension(_)), false) = (end.program, end.out_of_memory) {
        let message = match (end.code, end.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal: {}", signal_name(signal)),
            (None, None) => "signal: killed".to_owned(),
        };
        return (message, "Extension.Crash");
    }
    exit_reason(end)
}

/// The same for a sandbox without extensions.
pub(crate) fn exit_reason(end: &End) -> (String, &'static str) {
    if let Some((_, message)) = &end.launch {
        return (message.clone(), "Runtime.InvalidEntrypoint");
    }
    if end.out_of_memory {
        return ("Runtime exited with error: signal: killed".to_owned(), "Runtime.OutOfMemory");
    }
    let message = match (end.code, end.signal) {
        (Some(0), _) => "Runtime exited without providing a reason".to_owned(),
        (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
        (None, Some(signal)) => format!("Runtime exited with error: signal: {}", signal_name(signal)),
        (None, None) => match &end.failure {
            Some(failure) => format!("Runtime exited with error: {failure}"),
            None => "Runtime exited with error: signal: killed".to_owned(),
        },
    };
    (message, "Runtime.ExitError")
}

/// Signals as Go words them, since that is what Lambda's messages show.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        libc::SIGSYS => "bad system call",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}
