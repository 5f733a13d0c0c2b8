//! What is stored: stacks, change sets, events, and which stacks have work under way.

use aws::{Caller, Origin};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use store::key::KeyWriter;
use store::{JsonRecord, Key, Table, tables};
use types::{AccountId, Principal, Timestamp, TraceHeader};

use crate::resources::Properties;
use crate::template::{Disposal, LATER};

/// Stacks. Key: name, then 0 for the one that lives or 1 and the UUID for those that were deleted.
pub(crate) const STACKS: Table<Stack> = Table::new(tables::STACKS, "stacks");

/// Stacks with an operation under way (rows of the node). Key: account number, name.
pub(crate) const PENDING: Table<Pending> = Table::new(tables::STACKS, "stacks");

/// Change sets. Key: stack name, change set name.
pub(crate) const CHANGE_SETS: Table<ChangeSet> = Table::new(tables::CHANGE_SETS, "change_sets");

/// Events. Key: stack UUID, commit order.
pub(crate) const EVENTS: Table<Event> = Table::new(tables::STACK_EVENTS, "stack_events");

/// The key of the living stack of that name.
pub(crate) fn stack_key(account: AccountId, name: &str) -> Key {
    STACKS.key(account, |k| {
        k.text(name).u8(0);
    })
}

/// The key of a deleted stack.
pub(crate) fn deleted_key(account: AccountId, name: &str, uuid: &str) -> Key {
    STACKS.key(account, |k| {
        k.text(name).u8(1).text(uuid);
    })
}

/// The key of a pending row.
pub(crate) fn pending_key(account: AccountId, name: &str) -> Key {
    PENDING.key(AccountId::NODE, |k| {
        k.u64(account.number()).text(name);
    })
}

/// The key of a change set.
pub(crate) fn change_set_key(account: AccountId, stack: &str, name: &str) -> Key {
    CHANGE_SETS.key(account, |k| {
        k.text(stack).text(name);
    })
}

/// The prefix of a stack's events.
pub(crate) fn events_prefix(account: AccountId, uuid: &str) -> Key {
    EVENTS.key(account, |k: &mut KeyWriter| {
        k.text(uuid);
    })
}

/// A stack that has an operation under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) account: AccountId,
    pub(crate) name: String,
}

impl JsonRecord for Pending {}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A stack's status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) enum StackStatus { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl StackStatus {
            /// As the API names it.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

statuses! {
    ReviewInProgress = "REVIEW_IN_PROGRESS",
    CreateInProgress = "CREATE_IN_PROGRESS",
    CreateComplete = "CREATE_COMPLETE",
    CreateFailed = "CREATE_FAILED",
    RollbackInProgress = "ROLLBACK_IN_PROGRESS",
    RollbackComplete = "ROLLBACK_COMPLETE",
    RollbackFailed = "ROLLBACK_FAILED",
    UpdateInProgress = "UPDATE_IN_PROGRESS",
    UpdateCleanup = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    UpdateComplete = "UPDATE_COMPLETE",
    UpdateRollbackInProgress = "UPDATE_ROLLBACK_IN_PROGRESS",
    UpdateRollbackCleanup = "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    UpdateRollbackComplete = "UPDATE_ROLLBACK_COMPLETE",
    UpdateRollbackFailed = "UPDATE_ROLLBACK_FAILED",
    DeleteInProgress = "DELETE_IN_PROGRESS",
    DeleteComplete = "DELETE_COMPLETE",
    DeleteFailed = "DELETE_FAILED",
}

impl StackStatus {
    /// True while an operation runs.
    pub(crate) fn in_progress(self) -> bool {
        self != Self::ReviewInProgress && self.as_str().ends_with("_IN_PROGRESS")
    }
}

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ParameterValue {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) no_echo: bool,
}

/// An output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OutputValue {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) description: Option<String>,
}

/// What a stack was made from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Source {
    /// The template as it came.
    pub(crate) template: String,
    pub(crate) description: Option<String>,
    pub(crate) parameters: Vec<ParameterValue>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) outputs: Vec<OutputValue>,
}

impl Source {
    /// The values of its parameters.
    pub(crate) fn given(&self) -> IndexMap<String, String> {
        self.parameters.iter().map(|p| (p.name.clone(), p.value.clone())).collect()
    }
}

/// A stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stack {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    /// `arn:aws:cloudformation:<region>:<account>:stack/<name>/<uuid>`.
    pub(crate) id: String,
    pub(crate) uuid: String,
    pub(crate) status: StackStatus,
    pub(crate) reason: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) deleted_at: Option<Timestamp>,
    pub(crate) change_set_id: Option<String>,
    #[serde(default)]
    pub(crate) termination_protection: bool,
    pub(crate) source: Source,
    /// In the order in which they were made.
    pub(crate) resources: IndexMap<String, Resource>,
    pub(crate) operation: Option<Operation>,
    /// What a rollback could not put back: the steps that are still to be made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stuck: Vec<Step>,
}

impl JsonRecord for Stack {}

/// A resource of a stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resource {
    pub(crate) type_name: String,
    pub(crate) physical_id: String,
    /// Counts its replacements.
    pub(crate) generation: u32,
    /// As they were last set.
    pub(crate) properties: Properties,
    /// What its service decided when it was made, where `Fn::GetAtt` can ask for it.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub(crate) attributes: IndexMap<String, String>,
    /// Logical ids of what it refers to.
    pub(crate) dependencies: Vec<String>,
    pub(crate) deletion_policy: Disposal,
    pub(crate) update_replace_policy: Disposal,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) updated_at: Timestamp,
}

impl Resource {
    /// The physical id as it is shown: nothing while a part of it is not known.
    pub(crate) fn shown_id(&self) -> &str {
        if self.physical_id.contains(LATER) { "" } else { &self.physical_id }
    }
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OperationKind {
    Create,
    Update,
    Delete,
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Making what is wanted.
    Forward,
    /// Deleting what is no longer wanted.
    Cleanup,
    /// Putting back what was changed.
    Rollback,
    /// Deleting what was made for nothing.
    RollbackCleanup,
}

/// What becomes of a stack that could not be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum OnFailure {
    #[default]
    Rollback,
    Delete,
    DoNothing,
}

/// An operation under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Operation {
    pub(crate) kind: OperationKind,
    pub(crate) caller: StoredCaller,
    pub(crate) trace: TraceHeader,
    pub(crate) token: Option<String>,
    pub(crate) on_failure: OnFailure,
    pub(crate) stage: Stage,
    /// The steps of this stage.
    pub(crate) steps: Vec<Step>,
    /// The next of them.
    pub(crate) next: usize,
    /// True if that one may have been carried out in part.
    pub(crate) begun: bool,
    /// When that one began for the first time.
    #[serde(default)]
    pub(crate) begun_at: Option<Timestamp>,
    /// What the stage Cleanup does, or RollbackCleanup.
    pub(crate) cleanup: Vec<Step>,
    /// The source that the stack has when it succeeds.
    pub(crate) target: Source,
    /// Logical ids of what could not be deleted.
    pub(crate) failed: Vec<String>,
    /// Logical ids of what could not be put back.
    pub(crate) not_restored: Vec<String>,
    /// Logical ids of what must stay because something that needs it could not be deleted.
    pub(crate) kept: Vec<String>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) logical_id: String,
    pub(crate) action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// Makes a resource, late properties excepted.
    Create { to: Resource },
    /// Changes one.
    Update { from: Resource, to: Resource },
    /// Makes one that takes another's place.
    Replace { from: Resource, to: Resource },
    /// Sets late properties.
    Configure { from: Properties, to: Properties },
    /// Changes only what the stack knows of it.
    Note { from: Resource, to: Resource },
    /// Deletes one, or lets it go.
    Delete { from: Resource, retain: bool },
}

/// An event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) logical_id: String,
    pub(crate) physical_id: String,
    pub(crate) type_name: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) properties: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) at: Timestamp,
}

impl JsonRecord for Event {}

/// A change set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChangeSet {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) stack_name: String,
    pub(crate) stack_id: String,
    pub(crate) description: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) creates: bool,
    /// `None` if it can be executed; else why it failed.
    pub(crate) failure: Option<String>,
    pub(crate) on_failure: OnFailure,
    pub(crate) source: Source,
    pub(crate) changes: Vec<crate::plan::Change>,
}

impl JsonRecord for ChangeSet {}

/// A caller, as it is kept for the duration of an operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredCaller {
    kind: String,
    account: AccountId,
    name: Option<String>,
    id: Option<String>,
    session: Option<String>,
    access_key_id: Option<String>,
    session_policy: Option<String>,
}

impl From<&Caller> for StoredCaller {
    fn from(caller: &Caller) -> Self {
        let (kind, name, id, session) = match &caller.principal {
            Principal::Root { .. } => ("root", None, None, None),
            Principal::User { name, id, .. } => ("user", Some(name), Some(id), None),
            Principal::AssumedRole { role, id, session, .. } => ("role", Some(role), Some(id), Some(session)),
            Principal::Service { name, .. } => ("service", Some(name), None, None),
            Principal::Anonymous => ("anonymous", None, None, None),
        };
        Self {
            kind: kind.to_owned(),
            account: caller.account,
            name: name.cloned(),
            id: id.cloned(),
            session: session.cloned(),
            access_key_id: caller.access_key_id.clone(),
            session_policy: caller.session_policy.clone(),
        }
    }
}

impl From<&StoredCaller> for Caller {
    fn from(stored: &StoredCaller) -> Self {
        let account = stored.account;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let principal = match stored.kind.as_str() {
            "root" => Principal::Root { account },
            "user" => Principal::User { account, name: text(&stored.name), id: text(&stored.id) },
            "role" => Principal::AssumedRole {
                account,
                role: text(&stored.name),
                id: text(&stored.id),
                session: text(&stored.session),
            },
            "service" => Principal::Service { account, name: text(&stored.name) },
            _ => Principal::Anonymous,
        };
        Self {
            principal,
            account,
            access_key_id: stored.access_key_id.clone(),
            origin: Origin::Platform,
            session_policy: stored.session_policy.clone(),
        }
    }
}
