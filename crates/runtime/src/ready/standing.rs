//! One sandbox that stands ready, and how it becomes a function's.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::kind::as_executed;
use crate::cgroup::Limits;
use crate::code::Package;
use crate::host::{Joints, Launcher, Sandbox};
use crate::spec::{Fill, Spec};

/// How long an interpreter may take to boot.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sandbox with an interpreter that waits. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Standing {
    sandbox: Sandbox,
    joints: Joints,
    logs: OwnedFd,
    /// The code and the layers that it is to be filled with.
    pub(super) mounts: Vec<OwnedFd>,
}

/// What a function brings beside its environment.
pub(crate) struct Filling {
    pub(crate) limits: Limits,
    /// What is in use until nothing of the sandbox is left.
    pub(crate) in_use: Vec<Package>,
    pub(crate) tmp_bytes: u64,
}

impl Standing {
    /// Makes one; returns when it stands ready.
    pub(super) async fn make(
        launcher: &Arc<Launcher>,
        spec: impl FnOnce(Option<u32>) -> Spec,
    ) -> Result<Self, String> {
        let mut helper = launcher.helper().await.map_err(|error| error.to_string())?;
        let logs = helper.take_logs().map_err(|error| error.to_string())?;
        let spec = spec(helper.host_id);
        let (sandbox, joints) = Sandbox::make_ready(helper, &spec).await?;
        match tokio::time::timeout(PATIENCE, sandbox.stands_ready()).await {
            Ok(true) => Ok(Self { sandbox, joints, logs, mounts: Vec::new() }),
            Ok(false) => {
                let failure = sandbox.ended().await.failure;
                Err(failure.unwrap_or_else(|| "the interpreter ended before it was ready".to_owned()))
            }
            Err(_) => Err(format!("the interpreter was not ready within {} s", PATIENCE.as_secs())),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.sandbox.is_alive()
    }

    /// Makes it a function's: the sandbox, what it comes with, and the pipe of its log.
    pub(crate) async fn fill(
        self,
        filling: Filling,
        environment: Vec<(String, String)>,
    ) -> Result<(Sandbox, Joints, OwnedFd), String> {
        let Self { sandbox, joints, logs, mounts } = self;
        let Filling { limits, in_use, tmp_bytes } = filling;
        sandbox.own(limits, in_use)?;
        let fill = Fill { tmp_bytes, environment: as_executed(environment) };
        let mounts: Vec<_> = mounts.iter().map(AsFd::as_fd).collect();
        joints.door.fill(fill, &mounts).await.map_err(|error| format!("filling it: {error}"))?;
        Ok((sandbox, joints, logs))
    }
}
