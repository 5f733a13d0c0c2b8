//! Watches one sandbox from its making until nothing of it is left.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Helper;
use crate::cgroup::Limits;
use crate::code::Package;
use crate::memory::{Group, Memory};
use crate::spec::{self, Report, Spec};

/// How long a helper has to end its sandbox before it is killed, which ends the sandbox too.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a sandbox ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct End {
    /// The function's exit status,
    pub(crate) code: Option<i32>,
    /// or the signal that ended it.
    pub(crate) signal: Option<i32>,
    /// It could not be made, and why.
    pub(crate) failure: Option<String>,
    /// The program could not be executed.
    pub(crate) entrypoint: Option<String>,
    /// The memory limit killed it.
    pub(crate) out_of_memory: bool,
    /// The most memory it used, in bytes.
    pub(crate) peak_bytes: u64,
}

/// A sandbox that was made. Dropping it ends it in the background.
#[derive(Debug)]
pub(crate) struct Sandbox {
    close: CancellationToken,
    end: watch::Receiver<Option<End>>,
    memory: Arc<Memory>,
    group: Arc<Group>,
    limits: Limits,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

/// The listeners inside a sandbox: Runtime API, then platform. None where there are no walls.
pub(crate) type Listeners = Vec<TcpListener>;

impl Sandbox {
    /// Has `helper` make the sandbox; returns once its listeners are there. `code` is in use until nothing of it is
    /// left.
    pub(crate) async fn make(
        helper: Helper,
        spec: &Spec,
        limits: Limits,
        code: Option<Package>,
    ) -> Result<(Self, Listeners), String> {
        let Helper { child, pid, control, cgroup, logs: _, host_id: _ } = helper;
        if let Some(group) = &cgroup {
            group.limit(limits).map_err(|error| format!("limiting the control group: {error}"))?;
        }
        spec::send(&control, spec, &[]).map_err(|error| format!("telling the helper: {error}"))?;
        let memory = Memory::new(limits, pid, cgroup.is_some());
        let group = Arc::new(std::sync::Mutex::new(cgroup));
        let close = CancellationToken::new();
        let (ended, end) = watch::channel(None);
        let (listening, listeners) = tokio::sync::oneshot::channel();
        let supervisor = Supervisor { child, memory: memory.clone(), group: group.clone(), code };
        tokio::spawn(supervisor.run(control, close.clone(), listening, ended));
        let mut sandbox = Self { close, end, memory, group, limits };
        match listeners.await {
            Ok(listeners) => Ok((sandbox, listeners)),
            Err(_) => {
                let end = sandbox.ended().await;
                Err(end.failure.unwrap_or_else(|| "the helper process ended before it was ready".to_owned()))
            }
        }
    }

    /// Waits until nothing of it is left.
    pub(crate) async fn ended(&mut self) -> End {
        match self.end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or_default(),
            // The runtime is being shut down.
            Err(_) => End::default(),
        }
    }

    /// True until then.
    pub(crate) fn is_alive(&self) -> bool {
        self.end.borrow().is_none() && self.end.has_changed().is_ok()
    }

    /// Ends it and waits until nothing of it is left.
    pub(crate) async fn stop(&mut self) -> End {
        self.close.cancel();
        self.ended().await
    }

    /// Ends the time of loading, in which it has more CPU than its share.
    pub(crate) fn share_cpu(&self) {
        let group = self.group.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(group) = group.as_ref()
            && let Err(error) = group.share_cpu(self.limits)
            // A group that has just been removed needs no limit.
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, "a function's share of CPU could not be limited");
        }
    }

    /// Says whether the function has something to do.
    pub(crate) fn set_busy(&self, busy: bool) {
        self.memory.set_busy(busy);
    }

    /// The most memory used so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let group = self.group.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.memory.peak_bytes(group.as_ref())
    }
}

struct Supervisor {
    child: tokio::process::Child,
    memory: Arc<Memory>,
    group: Arc<Group>,
    code: Option<Package>,
}

impl Supervisor {
    async fn run(
        mut self,
        control: OwnedFd,
        close: CancellationToken,
        listening: tokio::sync::oneshot::Sender<Listeners>,
        ended: watch::Sender<Option<End>>,
    ) {
        let mut end = End::default();
        let mut listening = Some(listening);
        // A packet socket is a datagram socket that has an end, so tokio's type for those serves it.
        match UnixDatagram::from_std(control.into()) {
            Ok(control) => {
                tokio::select! {
                    () = close.cancelled() => {}
                    () = self.memory.over_limit(&self.group) => {}
                    () = listen(&control, &mut end, &mut listening) => {}
                }
                // Reports may wait in the socket that `close` was faster than.
                while let Ok(Some((report, fds))) = spec::receive::<Report>(&control) {
                    take(report, fds, &mut end, &mut listening);
                }
            }
            Err(error) => end.failure = Some(error.to_string()),
        }
        // Here the socket is closed, which is the helper's sign to end everything.
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            tracing::warn!("a sandbox's helper did not end in time and is killed");
            let _ = self.child.kill().await;
        }
        drop(listening);
        let group = {
            let mut group = self.group.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            end.out_of_memory = self.memory.out_of_memory(group.as_ref());
            end.peak_bytes = self.memory.peak_bytes(group.as_ref());
            group.take()
        };
        if let Some(group) = group {
            tokio::spawn(group.remove());
        }
        self.code = None;
        // Nobody may be interested any more.
        let _ = ended.send(Some(end));
    }
}

/// Takes in reports until the function has ended or the helper is gone.
async fn listen(
    control: &UnixDatagram,
    end: &mut End,
    listening: &mut Option<tokio::sync::oneshot::Sender<Listeners>>,
) {
    loop {
        if control.readable().await.is_err() {
            return;
        }
        match control.try_io(Interest::READABLE, || spec::receive::<Report>(control)) {
            Ok(Some((report, fds))) => {
                if take(report, fds, end, listening) {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                end.failure = Some(error.to_string());
                return;
            }
        }
    }
}

/// True if it was the last report.
fn take(
    report: Report,
    fds: Vec<OwnedFd>,
    end: &mut End,
    listening: &mut Option<tokio::sync::oneshot::Sender<Listeners>>,
) -> bool {
    match report {
        Report::Listening => {
            if let Some(listening) = listening.take() {
                // Whoever started it may have gone.
                let _ = listening.send(fds.into_iter().map(TcpListener::from).collect());
            }
            false
        }
        Report::Exited { code, signal } => {
            // A helper that had to kill its sandbox reports that after how the function ended.
            if end.code.is_none() && end.signal.is_none() {
                (end.code, end.signal) = (code, signal);
            }
            true
        }
        Report::Failed { message, entrypoint: true } => {
            end.entrypoint = Some(message);
            false
        }
        Report::Failed { message, entrypoint: false } => {
            end.failure = Some(message);
            false
        }
    }
}
