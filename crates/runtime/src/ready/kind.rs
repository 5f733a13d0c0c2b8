//! Which functions a sandbox can stand ready for, and which not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use functions::StartRequest;

use crate::environment::{is_read_while_booting, while_booting};
use crate::interpreters::Target;
use crate::plan::{Parts, Plan};
use crate::spec::{ENVIRONMENT_ROOM, MAX_FDS};

/// Where a function's code is, the one place that is empty in a sandbox which stands ready.
pub(super) const TASK: &str = "/var/task";

/// What is the same for all functions that one sandbox could stand ready for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(super) argv: Vec<String>,
    /// What the interpreter boots with.
    pub(super) environment: Vec<(String, String)>,
    /// What is mounted beside code and layers.
    pub(super) binds: Vec<(PathBuf, String)>,
}

impl Kind {
    /// The kind that serves a function; `None` if its own things would have a say in how the interpreter boots, so
    /// that it has to boot with them.
    pub(crate) fn of(request: &StartRequest, parts: &Parts, plan: &Plan) -> Option<Self> {
        match parts.target {
            Target::Python(_) | Target::Node(_) => {}
            // What runs is the function's own, or has it in its arguments.
            Target::Java(_) | Target::Ruby(_) | Target::Provided | Target::Image => return None,
        }
        let packages = 1 + parts.layers.len();
        if plan.wrapped || !plan.extensions.is_empty() || packages > MAX_FDS {
            return None;
        }
        if request.environment.keys().any(|name| is_read_while_booting(name)) {
            return None;
        }
        // What can not be handed over in one piece.
        let fits = |(name, value): &(String, String)| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
        };
        let bytes: usize = plan.environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        if bytes > ENVIRONMENT_ROOM || !plan.environment.iter().all(fits) {
            return None;
        }
        if parts.code.shadows_libraries() || parts.layers.iter().any(|layer| layer.shadows_libraries()) {
            return None;
        }
        let binds = plan.mounts.binds.iter().filter(|(_, inside)| inside != TASK).cloned().collect();
        Some(Self { argv: plan.argv.clone(), environment: while_booting(&plan.environment), binds })
    }
}

/// An environment as a program finds it that is executed with it: of two values the later, in the order of the names.
pub(super) fn as_executed(environment: Vec<(String, String)>) -> Vec<(String, String)> {
    environment.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect()
}
