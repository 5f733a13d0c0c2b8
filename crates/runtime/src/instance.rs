//! One running instance: events in, answers out, until it ends.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use functions::{Instance, InvokeRequest, InvokeResult, RunError};
use tokio_util::task::AbortOnDropHandle;

use crate::api::Exchange;
use crate::host::{End, Sandbox};
use crate::logs::Logs;
use crate::process_runtime::Platform;

/// An instance in a sandbox of its own.
#[derive(Debug)]
pub(crate) struct ProcessInstance {
    pub(crate) sandbox: Sandbox,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) logs: Arc<Logs>,
    /// The servers of the sandbox's listeners: they end with the instance.
    pub(crate) _servers: Vec<AbortOnDropHandle<()>>,
}

#[async_trait]
impl Instance for ProcessInstance {
    async fn invoke(&mut self, request: InvokeRequest) -> Result<InvokeResult, RunError> {
        let started = Instant::now();
        let timeout = request.timeout;
        self.sandbox.set_busy(true);
        let answer = self.exchange.hand_out(request);
        enum What {
            Answered(crate::api::Answer),
            Ended(End),
            TimedOut,
        }
        let what = tokio::select! {
            biased;
            Ok(answer) = answer => What::Answered(answer),
            end = self.sandbox.ended() => What::Ended(end),
            () = tokio::time::sleep(timeout) => What::TimedOut,
        };
        self.sandbox.set_busy(false);
        match what {
            What::Answered(answer) => Ok(InvokeResult {
                payload: answer.payload,
                function_error: answer.function_error,
                duration: answer.duration,
                max_memory_bytes: self.sandbox.peak_bytes(),
                // What was written before the answer is in the pipe by now.
                logs: self.logs.take(),
            }),
            What::Ended(end) => {
                let (message, error_type) = exit_reason(&end);
                Err(RunError::Exited {
                    message,
                    error_type: error_type.to_owned(),
                    out_of_memory: end.out_of_memory,
                    duration: started.elapsed(),
                    logs: self.logs.take(),
                    max_memory_bytes: end.peak_bytes,
                })
            }
            What::TimedOut => {
                let end = self.sandbox.stop().await;
                Err(RunError::Timeout { logs: self.logs.take(), max_memory_bytes: end.peak_bytes })
            }
        }
    }

    fn is_alive(&mut self) -> bool {
        self.sandbox.is_alive()
    }

    async fn stop(mut self: Box<Self>) {
        self.sandbox.stop().await;
    }
}

/// How Lambda words the end of a process, and the error type it gives it.
pub(crate) fn exit_reason(end: &End) -> (String, &'static str) {
    if let Some(message) = &end.entrypoint {
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

/// Serves the Runtime API on a listener.
pub(crate) fn serve_api(
    listener: TcpListener,
    exchange: Arc<Exchange>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            while connections.try_join_next().is_some() {}
            connections.spawn(exchange.clone().serve(stream));
        }
    })))
}

/// Hands connections to the platform's endpoint over to the platform.
pub(crate) fn serve_platform(
    listener: TcpListener,
    platform: Arc<dyn Platform>,
    function_arn: Arc<str>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            platform.serve(stream, function_arn.clone());
        }
    })))
}
