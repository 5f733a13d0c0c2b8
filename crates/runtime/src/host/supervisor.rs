//! Watches one sandbox from its making until nothing of it is left.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Helper;
use crate::cgroup::Limits;
use crate::code::Package;
use crate::door::Door;
use crate::memory::{Group, Memory};
use crate::spec::{self, Program, Report, Spec, Walls};

/// How long a helper has to end its sandbox before it is killed, which ends the sandbox too.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a sandbox ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct End {
    /// What ended first, and the rest with it.
    pub(crate) program: Option<Program>,
    /// Its exit status,
    pub(crate) code: Option<i32>,
    /// or the signal that ended it.
    pub(crate) signal: Option<i32>,
    /// It could not be made, and why.
    pub(crate) failure: Option<String>,
    /// A program could not be executed, and why.
    pub(crate) launch: Option<(Program, String)>,
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
    exits: Arc<Exits>,
    memory: Arc<Memory>,
    group: Arc<Group>,
    contents: Arc<Contents>,
    stands: watch::Receiver<bool>,
}

/// Whose sandbox it is, once that is known.
#[derive(Debug, Default)]
struct Contents {
    limits: OnceLock<Limits>,
    /// What is in use until nothing of the sandbox is left.
    code: Mutex<Vec<Package>>,
}

/// Which programs have ended while the sandbox goes on: when it is being shut down, which with extensions begins by
/// itself with the end of the first.
#[derive(Debug)]
struct Exits {
    shutting_down: AtomicBool,
    programs: watch::Sender<Vec<Program>>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

/// The listeners inside a sandbox: Runtime API, then platform. None where there are no walls.
type Listeners = Vec<TcpListener>;

/// What a sandbox comes with.
#[derive(Debug)]
pub(crate) struct Joints {
    /// The listeners inside: Runtime API, then platform. None where there are no walls.
    pub(crate) listeners: Listeners,
    pub(crate) door: Arc<Door>,
    /// What extensions write.
    pub(crate) extension_logs: OwnedFd,
}

impl Sandbox {
    /// Has `helper` make the sandbox of a function; returns once its listeners are there. `code` is in use until
    /// nothing of the sandbox is left.
    pub(crate) async fn make(
        helper: Helper,
        spec: &Spec,
        limits: Limits,
        code: Vec<Package>,
    ) -> Result<(Self, Joints), String> {
        if let Some(group) = &helper.cgroup {
            group.limit(limits).map_err(limiting)?;
        }
        Self::raise(helper, spec, Some((limits, code))).await
    }

    /// Has `helper` make a sandbox that stands ready for any function. It has no limits: those come with the function.
    pub(crate) async fn make_ready(helper: Helper, spec: &Spec) -> Result<(Self, Joints), String> {
        Self::raise(helper, spec, None).await
    }

    async fn raise(
        helper: Helper,
        spec: &Spec,
        owner: Option<(Limits, Vec<Package>)>,
    ) -> Result<(Self, Joints), String> {
        let Helper { child, pid, control, cgroup, logs: _, host_id: _ } = helper;
        let telling = |error: &dyn std::fmt::Display| format!("telling the helper: {error}");
        let (line, commands) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| telling(&error))?;
        rustix::io::ioctl_fionbio(&line, true).map_err(|error| telling(&error))?;
        let (extension_logs, extension_out) = std::io::pipe().map_err(|error| telling(&error))?;
        spec::send(&control, spec, &[commands.as_fd(), extension_out.as_fd()])
            .map_err(|error| telling(&error))?;
        drop((commands, extension_out));
        let door = Door::new(line, !matches!(spec.walls, Walls::Plain)).map_err(|error| telling(&error))?;
        let memory = Memory::new(pid, cgroup.is_some());
        let contents = Arc::new(Contents::default());
        if let Some((limits, code)) = owner {
            contents.take_in(limits, code);
            memory.limit(limits);
        }
        let group = Arc::new(Mutex::new(cgroup));
        let close = CancellationToken::new();
        let (ended, end) = watch::channel(None);
        let (listening, listeners) = tokio::sync::oneshot::channel();
        let (standing, stands) = watch::channel(false);
        let exits =
            Arc::new(Exits { shutting_down: AtomicBool::new(false), programs: watch::channel(Vec::new()).0 });
        let supervisor = Supervisor {
            child,
            exits: exits.clone(),
            has_extensions: !spec.extensions.is_empty(),
            memory: memory.clone(),
            group: group.clone(),
            contents: contents.clone(),
            standing,
        };
        tokio::spawn(supervisor.run(control, close.clone(), listening, ended));
        let sandbox = Self { close, end, exits, memory, group, contents, stands };
        match listeners.await {
            Ok(listeners) => Ok((
                sandbox,
                Joints { listeners, door: Arc::new(door), extension_logs: extension_logs.into() },
            )),
            Err(_) => {
                let end = sandbox.ended().await;
                Err(end.failure.unwrap_or_else(|| "the helper process ended before it was ready".to_owned()))
            }
        }
    }

    /// Makes one that stands ready a function's: gives it its limits, before it is given the rest.
    pub(crate) fn own(&self, limits: Limits, code: Vec<Package>) -> Result<(), String> {
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = group.as_ref() {
            group.limit(limits).map_err(limiting)?;
        }
        drop(group);
        self.contents.take_in(limits, code);
        self.memory.limit(limits);
        Ok(())
    }

    /// Waits until its interpreter waits for a function; false if it never will.
    pub(crate) async fn stands_ready(&self) -> bool {
        // The other end is gone when the sandbox is.
        self.stands.clone().wait_for(|stands| *stands).await.is_ok()
    }

    /// Waits until nothing of it is left.
    pub(crate) async fn ended(&self) -> End {
        match self.end.clone().wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or_default(),
            // The runtime is being shut down.
            Err(_) => End::default(),
        }
    }

    /// True until then.
    pub(crate) fn is_alive(&self) -> bool {
        self.end.borrow().is_none() && self.end.has_changed().is_ok()
    }

    /// True while all of its programs run.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_alive() && self.exits.programs.borrow().is_empty()
    }

    /// Waits until a program has ended, or everything.
    pub(crate) async fn broken(&self) {
        let mut end = self.end.clone();
        let mut exits = self.exits.programs.subscribe();
        tokio::select! {
            _ = end.wait_for(Option::is_some) => {}
            // The sender lives as long as `self`.
            _ = exits.wait_for(|ended| !ended.is_empty()) => {}
        }
    }

    /// From now on the end of a program is not the end of all.
    pub(crate) fn begin_shutdown(&self) {
        self.exits.shutting_down.store(true, Ordering::Release);
    }

    /// Waits until these programs have ended since the shutdown began.
    pub(crate) async fn exited(&self, programs: &[Program]) {
        let mut exits = self.exits.programs.subscribe();
        // The sender lives as long as `self`.
        let _ = exits.wait_for(|ended| programs.iter().all(|program| ended.contains(program))).await;
    }

    /// Ends it and waits until nothing of it is left.
    pub(crate) async fn stop(&self) -> End {
        self.close.cancel();
        self.ended().await
    }

    /// Ends the time of loading, in which it has more CPU than its share.
    pub(crate) fn share_cpu(&self) {
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = group.as_ref()
            && let Some(limits) = self.contents.limits.get()
            && let Err(error) = group.share_cpu(*limits)
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
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        self.memory.peak_bytes(group.as_ref())
    }
}

impl Contents {
    fn take_in(&self, limits: Limits, code: Vec<Package>) {
        let _ = self.limits.set(limits);
        *self.code.lock().unwrap_or_else(PoisonError::into_inner) = code;
    }
}

fn limiting(error: std::io::Error) -> String {
    format!("limiting the control group: {error}")
}

struct Supervisor {
    child: tokio::process::Child,
    exits: Arc<Exits>,
    has_extensions: bool,
    memory: Arc<Memory>,
    group: Arc<Group>,
    contents: Arc<Contents>,
    standing: watch::Sender<bool>,
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
                    () = self.listen(&control, &mut end, &mut listening) => {}
                }
                // Reports may wait in the socket that `close` was faster than.
                while let Ok(Some((report, fds))) = spec::receive::<Report>(&control) {
                    self.take(report, fds, &mut end, &mut listening);
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
            let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
            end.out_of_memory = self.memory.out_of_memory(group.as_ref());
            end.peak_bytes = self.memory.peak_bytes(group.as_ref());
            group.take()
        };
        if let Some(group) = group {
            tokio::spawn(group.remove());
        }
        self.contents.code.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // Nobody may be interested any more.
        let _ = ended.send(Some(end));
    }

    /// Takes in reports until the sandbox has ended or the helper is gone.
    async fn listen(
        &self,
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
                    if self.take(report, fds, end, listening) {
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
        &self,
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
            Report::Standing => {
                self.standing.send_replace(true);
                false
            }
            Report::Exited { program, .. } if self.exits.shutting_down.load(Ordering::Acquire) => {
                self.exits.programs.send_modify(|ended| ended.push(program));
                false
            }
            Report::Exited { program, code, signal } => {
                // A helper that had to kill its sandbox reports that after how the first program ended.
                if end.program.is_none() {
                    (end.program, end.code, end.signal) = (Some(program), code, signal);
                }
                if self.has_extensions {
                    self.exits.shutting_down.store(true, Ordering::Release);
                    self.exits.programs.send_modify(|ended| ended.push(program));
                }
                !self.has_extensions
            }
            Report::Failed { message, program: Some(program) } => {
                end.launch.get_or_insert((program, message));
                false
            }
            Report::Failed { message, program: None } => {
                end.failure = Some(message);
                false
            }
        }
    }
}
