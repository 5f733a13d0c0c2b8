//! Carrying out a stack's operation, step by step.
//!
//! Invariant: before a step calls another service the stack's row says that it begins, and one commit says
//! both that it ended and that the next begins. After a crash the step that had begun is carried out again,
//! knowing that it may have been before.
//!
//! Values that were not known when the operation was planned are found when their step begins, by evaluating the
//! template once more; the step's row says from then on what they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws::{Caller, Dispatch};
use indexmap::IndexMap;
use serde_json::Value as Json;
use store::{Store, Write};
use tokio_util::sync::CancellationToken;
use types::{AccountId, Region, RequestId, SharedEnv};

use crate::Error;
use crate::evaluate::{Evaluation, is_later};
use crate::plan::{deletions, early_properties};
use crate::resources::schema::Update;
use crate::resources::{self, Calls, CreateError, Made, Naming, Properties, ResourceType};
use crate::tables::{
    Action, EVENTS, Event, OnFailure, Operation, OperationKind, PENDING, Resource, STACKS, Stack,
    StackStatus, Stage, Step, deleted_key, events_prefix, pending_key, stack_key,
};
use crate::template::{Code, Disposal, LATER, Problem, Problems, Pseudo, Template};

/// How long deleted stacks can still be described.
const KEEP_DELETED: jiff::SignedDuration = jiff::SignedDuration::from_hours(90 * 24);

/// What is shown in place of what is not.
pub(crate) const HIDDEN: &str = "****";

/// What operations work with.
#[derive(Debug)]
pub(crate) struct Machinery {
    pub(crate) store: Store,
    pub(crate) env: SharedEnv,
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) region: Region,
}

/// An event of the stack itself.
pub(crate) fn stack_event(env: &SharedEnv, stack: &Stack) -> Write {
    let event = Event {
        id: RequestId::new(&**env).to_string(),
        logical_id: stack.name.clone(),
        physical_id: stack.id.clone(),
        type_name: "AWS::CloudFormation::Stack".to_owned(),
        status: stack.status.as_str().to_owned(),
        reason: stack.reason.clone(),
        properties: None,
        token: stack.operation.as_ref().and_then(|o| o.token.clone()),
        at: env.now(),
    };
    EVENTS.append(events_prefix(stack.account, &stack.uuid), &event)
}

/// A run of one stack's operation.
struct Run<'a> {
    machinery: &'a Machinery,
    calls: Calls,
    stack: Stack,
    operation: Operation,
    /// Events that go with the next commit.
    events: Vec<Write>,
}

enum Outcome {
    Done(Made),
    Failed { reason: String, made: Option<Made> },
}

/// Carries out the operation of the stack of that name, until it ends or `shutdown`.
pub(crate) async fn run(
    machinery: &Machinery,
    account: AccountId,
    name: &str,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let Some(row) = STACKS.get(&machinery.store, stack_key(account, name)).await? else {
        machinery.store.write(vec![Write::Delete(pending_key(account, name))]).await?;
        return Ok(());
    };
    let mut stack = row.value;
    let Some(operation) = stack.operation.take() else {
        machinery.store.write(vec![Write::Delete(pending_key(account, name))]).await?;
        return Ok(());
    };
    let calls = Calls {
        dispatch: machinery.dispatch.clone(),
        caller: Caller::from(&operation.caller),
        trace: operation.trace.clone(),
        env: machinery.env.clone(),
        pseudo: Pseudo {
            account_id: account.to_string(),
            region: machinery.region.to_string(),
            stack_name: stack.name.clone(),
            stack_id: stack.id.clone(),
        },
        begun_at: operation.begun_at.unwrap_or_else(|| machinery.env.now()),
        changed: AtomicBool::new(false),
    };
    let mut run = Run { machinery, calls, stack, operation, events: Vec::new() };
    while !shutdown.is_cancelled() {
        if run.operation.next < run.operation.steps.len() {
            Box::pin(run.step()).await?;
        } else if Box::pin(run.stage_done()).await? {
            return Ok(());
        }
    }
    Ok(())
}

impl Run<'_> {
    /// Writes the stack as it is, with the events so far.
    async fn save(&mut self) -> Result<(), Error> {
        let mut writes = std::mem::take(&mut self.events);
        self.stack.operation = Some(self.operation.clone());
        let key = stack_key(self.stack.account, &self.stack.name);
        writes.push(STACKS.put(key, &self.stack));
        self.machinery.store.write(writes).await?;
        Ok(())
    }

    fn set_status(&mut self, status: StackStatus, reason: Option<String>) {
        tracing::info!(stack = %self.stack.name, status = status.as_str(), reason, "stack");
        self.stack.status = status;
        self.stack.reason = reason;
        let event = stack_event(&self.machinery.env, &self.stack);
        self.events.push(event);
    }

    fn event(&mut self, logical_id: &str, resource: &Resource, status: &str, reason: Option<&str>) {
        let now = self.machinery.env.now();
        let reason = reason.map(|reason| self.masked(reason));
        if let Some(held) = self.stack.resources.get_mut(logical_id)
            && held.physical_id == resource.physical_id
        {
            status.clone_into(&mut held.status);
            held.reason.clone_from(&reason);
            held.updated_at = now;
        }
        let event = Event {
            id: format!("{logical_id}-{status}-{}", RequestId::new(&*self.machinery.env)),
            logical_id: logical_id.to_owned(),
            physical_id: resource.shown_id().to_owned(),
            type_name: resource.type_name.clone(),
            status: status.to_owned(),
            reason,
            properties: self.shown(&resource.properties),
            token: self.operation.token.clone(),
            at: now,
        };
        self.events.push(EVENTS.append(events_prefix(self.stack.account, &self.stack.uuid), &event));
    }

    /// Text without the values of parameters that are not to be shown.
    fn masked(&self, text: &str) -> String {
        let all = self.stack.source.parameters.iter().chain(&self.operation.target.parameters);
        let hidden = all.filter(|parameter| parameter.no_echo && !parameter.value.is_empty());
        hidden.fold(text.to_owned(), |text, parameter| text.replace(&parameter.value, HIDDEN))
    }

    /// Properties as events show them.
    fn shown(&self, properties: &Properties) -> Option<String> {
        fn mask(value: &mut Json, masked: &dyn Fn(&str) -> String) {
            match value {
                Json::String(text) => *text = masked(text),
                Json::Array(items) => items.iter_mut().for_each(|item| mask(item, masked)),
                Json::Object(map) => map.values_mut().for_each(|value| mask(value, masked)),
                Json::Null | Json::Bool(_) | Json::Number(_) => {}
            }
        }
        let mut properties = Json::Object(properties.clone());
        mask(&mut properties, &|text| self.masked(text));
        serde_json::to_string(&properties).ok()
    }

    /// Carries out the next step. What it did is written when the next one begins, or its stage ends.
    async fn step(&mut self) -> Result<(), Error> {
        let next = self.operation.next;
        let mut step = self.operation.steps[next].clone();
        let again = self.operation.begun;
        if !again {
            if self.operation.stage == Stage::Forward && awaits(&step) {
                match self.settled(&step) {
                    Ok(settled) => step = settled,
                    Err(reason) => return self.failed(&step, reason, false).await,
                }
                self.operation.steps[next] = step.clone();
            }
            if let Some(reason) = self.obstacle(&step).await {
                return self.failed(&step, reason, false).await;
            }
            self.begin(&step);
            self.operation.begun = true;
            self.calls.begun_at = self.machinery.env.now();
            self.calls.changed = AtomicBool::new(false);
            self.operation.begun_at = Some(self.calls.begun_at);
            self.save().await?;
        }
        match self.carry_out(&step, again).await {
            Outcome::Done(made) => {
                apply(&mut step, made);
                self.complete(&step);
                self.operation.steps[next] = step;
                self.operation.begun = false;
                self.operation.next += 1;
                Ok(())
            }
            Outcome::Failed { reason, made: Some(made) } => {
                apply(&mut step, made);
                self.operation.steps[next] = step.clone();
                self.failed(&step, reason, true).await
            }
            Outcome::Failed { reason, made: None } => self.failed(&step, reason, false).await,
        }
    }

    /// The step with the values that were not known when it was planned; else why there are none.
    fn settled(&mut self, step: &Step) -> Result<Step, String> {
        let id = &step.logical_id;
        let held = &self.stack.resources;
        let late = matches!(step.action, Action::Configure { .. });
        let found = self.evaluate(|evaluation, problems| match late {
            true => evaluation.late(id, held, problems),
            false => evaluation.early(id, held, problems),
        })?;
        let to = |to: &Resource| {
            let mut to = to.clone();
            let kind = resources::find(&to.type_name);
            let late = kind.map_or(&[][..], |kind| kind.late);
            to.properties.retain(|key, _| late.contains(&key.as_str()));
            to.properties.extend(found.clone());
            if to.physical_id.contains(LATER)
                && let Some(kind) = kind
            {
                let naming = Naming { pseudo: &self.calls.pseudo, logical_id: id, generation: to.generation };
                to.physical_id = kind.provider.physical_id(&naming, &to.properties);
            }
            to
        };
        let action = match &step.action {
            Action::Create { to: planned } => Action::Create { to: to(planned) },
            Action::Update { from, to: planned } => Action::Update { from: from.clone(), to: to(planned) },
            Action::Replace { from, to: planned } => {
                let to = to(planned);
                if to.physical_id == from.physical_id {
                    if replaces(from, &found) {
                        return Err(crate::plan::same_name(&to.physical_id));
                    }
                    // It turns out to be the same: nothing takes its place, and it is not to be deleted after.
                    self.operation.cleanup.retain(|step| step.logical_id != *id);
                    Action::Update { from: from.clone(), to }
                } else {
                    Action::Replace { from: from.clone(), to }
                }
            }
            Action::Configure { from, .. } => Action::Configure { from: from.clone(), to: found },
            other @ (Action::Note { .. } | Action::Delete { .. }) => other.clone(),
        };
        Ok(Step { logical_id: id.clone(), action })
    }

    /// Evaluates a part of the template that the stack is being made from.
    fn evaluate<T>(&self, part: impl Fn(&Evaluation<'_>, &mut Problems) -> T) -> Result<T, String> {
        let source = &self.operation.target;
        let said =
            |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ");
        let given = source.given();
        let template = Template::read_for(&source.template, Code::Packaged, &given, &self.calls.pseudo);
        let template = template.map_err(said)?;
        let evaluation = Evaluation::new(&template, &given, &self.calls.pseudo).map_err(said)?;
        let mut problems = Problems::default();
        let found = part(&evaluation, &mut problems);
        problems.finish().map_err(said)?;
        Ok(found)
    }

    /// What stands in the way of a step that has not begun.
    async fn obstacle(&self, step: &Step) -> Option<String> {
        let (Action::Create { to } | Action::Replace { to, .. }) = &step.action else { return None };
        let kind = resources::find(&to.type_name)?;
        match kind.provider.exists(&self.calls, &to.physical_id, &to.properties).await {
            Ok(false) => None,
            Ok(true) => Some(format!("{} already exists", to.physical_id)),
            // Whoever may not look may still be allowed to make.
            Err(error) if error.kind == types::ErrorKind::Denied => None,
            Err(error) => Some(reason(&error)),
        }
    }

    fn begin(&mut self, step: &Step) {
        let id = &step.logical_id;
        match &step.action {
            Action::Create { to } => {
                self.stack.resources.insert(id.clone(), to.clone());
                self.event(id, to, "CREATE_IN_PROGRESS", None);
            }
            Action::Update { from, .. } => self.event(id, from, "UPDATE_IN_PROGRESS", None),
            Action::Replace { from, .. } => {
                let reason =
                    "Requested update requires the creation of a new physical resource; hence creating one.";
                self.event(id, from, "UPDATE_IN_PROGRESS", Some(reason));
            }
            Action::Delete { from, retain: false } => self.event(id, from, "DELETE_IN_PROGRESS", None),
            Action::Delete { retain: true, .. } | Action::Configure { .. } | Action::Note { .. } => {}
        }
    }

    async fn carry_out(&self, step: &Step, again: bool) -> Outcome {
        let failed =
            |error: &aws::Error| Outcome::Failed { reason: reason(error), made: Some(Made::default()) };
        let result = match &step.action {
            Action::Create { to } | Action::Replace { to, .. } => {
                let Some(kind) = resources::find(&to.type_name) else {
                    return Outcome::Done(Made::default());
                };
                let early = early_properties(&to.properties, kind.late);
                match kind.provider.create(&self.calls, &to.physical_id, &early, again).await {
                    Ok(made) => return Outcome::Done(made),
                    Err(CreateError { error, made }) => {
                        let made = made.or_else(|| again.then(Made::default));
                        return Outcome::Failed { reason: reason(&error), made };
                    }
                }
            }
            Action::Update { from, to } => match resources::find(&to.type_name) {
                Some(kind) => {
                    let (id, old, new) = (&to.physical_id, &from.properties, &to.properties);
                    if self.operation.stage == Stage::Forward
                        && let Err(error) = kind.provider.check_update(old, new)
                    {
                        return Outcome::Failed { reason: reason(&error), made: None };
                    }
                    if let Err(error) = kind.provider.update(&self.calls, id, old, new).await {
                        // What was refused whole is as it was: there is nothing to undo, nor a way to.
                        let changed = again || self.calls.changed.load(Ordering::Relaxed);
                        let made = changed.then(Made::default);
                        return Outcome::Failed { reason: reason(&error), made };
                    }
                    let decided = kind.provider.decided(&self.calls, id, old, new).await;
                    return decided.map_or_else(|error| failed(&error), Outcome::Done);
                }
                None => Ok(()),
            },
            Action::Configure { to, .. } => match self.held(&step.logical_id) {
                Some((kind, held)) => kind.provider.configure(&self.calls, &held.physical_id, to).await,
                None => Ok(()),
            },
            Action::Delete { from, retain: false } => match resources::find(&from.type_name) {
                Some(kind) => kind.provider.delete(&self.calls, &from.physical_id, &from.properties).await,
                None => Ok(()),
            },
            Action::Delete { retain: true, .. } | Action::Note { .. } => Ok(()),
        };
        result.map_or_else(|error| failed(&error), |()| Outcome::Done(Made::default()))
    }

    fn held(&self, logical_id: &str) -> Option<(&'static ResourceType, &Resource)> {
        let held = self.stack.resources.get(logical_id)?;
        Some((resources::find(&held.type_name)?, held))
    }

    fn complete(&mut self, step: &Step) {
        let id = &step.logical_id;
        match &step.action {
            Action::Create { to } => {
                self.stack.resources.insert(id.clone(), to.clone());
                if self.configured_later(id) {
                    self.event(id, to, "CREATE_IN_PROGRESS", Some("Resource creation Initiated"));
                } else {
                    self.event(id, to, "CREATE_COMPLETE", None);
                }
            }
            Action::Update { to, .. } | Action::Replace { to, .. } => {
                self.stack.resources.insert(id.clone(), to.clone());
                self.event(id, to, "UPDATE_COMPLETE", None);
            }
            Action::Note { to, .. } => {
                self.stack.resources.insert(id.clone(), to.clone());
            }
            Action::Configure { to, .. } => {
                let Some((kind, held)) = self.held(id) else { return };
                let mut held = held.clone();
                held.properties = early_properties(&held.properties, kind.late);
                held.properties.extend(to.clone());
                let creates = self.operation.stage == Stage::Forward && held.status.starts_with("CREATE_IN");
                self.stack.resources.insert(id.clone(), held.clone());
                self.event(id, &held, if creates { "CREATE_COMPLETE" } else { "UPDATE_COMPLETE" }, None);
            }
            Action::Delete { from, retain } => {
                let status = if *retain { "DELETE_SKIPPED" } else { "DELETE_COMPLETE" };
                self.event(id, from, status, None);
                if self.stack.resources.get(id).is_some_and(|held| held.physical_id == from.physical_id) {
                    self.stack.resources.shift_remove(id);
                }
            }
        }
    }

    fn configured_later(&self, logical_id: &str) -> bool {
        let rest = &self.operation.steps[self.operation.next..];
        rest.iter().any(|s| s.logical_id == logical_id && matches!(s.action, Action::Configure { .. }))
    }

    async fn failed(&mut self, step: &Step, reason: String, made: bool) -> Result<(), Error> {
        let id = step.logical_id.clone();
        match &step.action {
            Action::Create { to } => {
                self.stack.resources.insert(id.clone(), to.clone());
                self.event(&id, to, "CREATE_FAILED", Some(&reason));
                if !made {
                    self.stack.resources.shift_remove(&id);
                }
            }
            Action::Update { from, .. } | Action::Replace { from, .. } => {
                self.event(&id, from, "UPDATE_FAILED", Some(&reason));
            }
            Action::Configure { .. } => {
                if let Some((_, held)) = self.held(&id) {
                    let held = held.clone();
                    let creating = held.status.starts_with("CREATE");
                    let status = if creating { "CREATE_FAILED" } else { "UPDATE_FAILED" };
                    self.event(&id, &held, status, Some(&reason));
                }
            }
            Action::Delete { from, .. } => {
                self.event(&id, from, "DELETE_FAILED", Some(&reason));
                return self.deletion_failed(&id, &from.clone()).await;
            }
            Action::Note { .. } => {}
        }
        if self.operation.stage != Stage::Forward {
            return self.rollback_failed(step).await;
        }
        let verb = if self.operation.kind == OperationKind::Create { "create" } else { "update" };
        let reason = format!("The following resource(s) failed to {verb}: [{id}]. ");
        self.roll_back(made.then(|| step.clone()), reason).await
    }

    /// A deletion failed: what it needs must stay too, the rest goes on.
    async fn deletion_failed(&mut self, id: &str, from: &Resource) -> Result<(), Error> {
        self.operation.failed.push(id.to_owned());
        let mut queue = from.dependencies.clone();
        while let Some(name) = queue.pop() {
            if !self.operation.kept.contains(&name) {
                let held = self.stack.resources.get(&name);
                queue.extend(held.map(|r| r.dependencies.clone()).unwrap_or_default());
                self.operation.kept.push(name);
            }
        }
        self.operation.begun = false;
        self.operation.next += 1;
        let (kept, next) = (self.operation.kept.clone(), self.operation.next);
        let rest = self.operation.steps.split_off(next);
        self.operation.steps.extend(rest.into_iter().filter(|s| !kept.contains(&s.logical_id)));
        self.save().await
    }

    /// What could not be put back is kept for [`ContinueUpdateRollback`](crate::ops), the rest goes on.
    async fn rollback_failed(&mut self, step: &Step) -> Result<(), Error> {
        self.operation.not_restored.push(step.logical_id.clone());
        self.stack.stuck.push(step.clone());
        self.operation.begun = false;
        self.operation.next += 1;
        self.save().await
    }

    /// Undoes what was done, `half_done` included, for the reason given.
    async fn roll_back(&mut self, half_done: Option<Step>, reason: String) -> Result<(), Error> {
        let done = self.operation.next;
        let steps = self.operation.steps.drain(..).take(done).chain(half_done).collect::<Vec<Step>>();
        self.operation.begun = false;
        self.operation.next = 0;
        if self.operation.kind == OperationKind::Create {
            match self.operation.on_failure {
                OnFailure::DoNothing => {
                    self.operation.steps.clear();
                    self.operation.stage = Stage::RollbackCleanup;
                    self.set_status(StackStatus::CreateFailed, Some(reason));
                }
                OnFailure::Rollback | OnFailure::Delete => {
                    // `RetainExceptOnCreate` and `Retain` differ here only.
                    self.operation.steps = deletions(&self.stack.resources, |_, resource| {
                        resource.deletion_policy == Disposal::Retain
                    });
                    self.operation.stage = Stage::RollbackCleanup;
                    let status = match self.operation.on_failure {
                        OnFailure::Delete => StackStatus::DeleteInProgress,
                        OnFailure::Rollback | OnFailure::DoNothing => StackStatus::RollbackInProgress,
                    };
                    self.set_status(status, Some(format!("{reason}Rollback requested by user.")));
                }
            }
            return self.save().await;
        }
        let mut undo = Vec::new();
        let mut unwanted = IndexMap::new();
        for step in steps.into_iter().rev() {
            let Step { logical_id, action } = step;
            let action = match action {
                Action::Create { to } => {
                    unwanted.insert(logical_id, to);
                    continue;
                }
                Action::Replace { from, to } => {
                    unwanted.insert(logical_id.clone(), to.clone());
                    Action::Note { from: to, to: from }
                }
                Action::Update { from, to } => Action::Update { from: to, to: from },
                Action::Configure { from, to } => Action::Configure { from: to, to: from },
                Action::Note { from, to } => Action::Note { from: to, to: from },
                Action::Delete { .. } => continue,
            };
            undo.push(Step { logical_id, action });
        }
        unwanted.reverse();
        self.operation.steps = undo;
        self.operation.cleanup = deletions(&unwanted, |_, _| false);
        self.operation.stage = Stage::Rollback;
        self.set_status(StackStatus::UpdateRollbackInProgress, Some(reason));
        self.save().await
    }

    /// All steps of a stage are done; true if that was the last stage.
    async fn stage_done(&mut self) -> Result<bool, Error> {
        use StackStatus as S;
        let failed = self.operation.failed.join(", ");
        let failure =
            (!failed.is_empty()).then(|| format!("The following resource(s) failed to delete: [{failed}]. "));
        let (kind, stage) = (self.operation.kind, self.operation.stage);
        if stage == Stage::Forward && self.operation.target.outputs.iter().any(|o| o.value == LATER) {
            match self.evaluate(|evaluation, problems| evaluation.outputs(&self.stack.resources, problems)) {
                Ok(outputs) => self.operation.target.outputs = outputs,
                Err(reason) => {
                    self.roll_back(None, reason).await?;
                    return Ok(false);
                }
            }
        }
        match (kind, stage) {
            (OperationKind::Create, Stage::Forward) => {
                self.adopt_target();
                self.finish(S::CreateComplete, None).await?;
                Ok(true)
            }
            (OperationKind::Create, Stage::RollbackCleanup | Stage::Cleanup | Stage::Rollback) => {
                let status = match (self.operation.on_failure, &failure) {
                    (OnFailure::DoNothing, _) => S::CreateFailed,
                    (OnFailure::Rollback, None) => S::RollbackComplete,
                    (OnFailure::Rollback, Some(_)) => S::RollbackFailed,
                    (OnFailure::Delete, None) => S::DeleteComplete,
                    (OnFailure::Delete, Some(_)) => S::DeleteFailed,
                };
                let reason =
                    failure.or_else(|| self.stack.reason.clone().filter(|_| status == S::CreateFailed));
                self.finish(status, reason).await?;
                Ok(true)
            }
            (OperationKind::Update, Stage::Forward) => {
                self.adopt_target();
                self.next_stage(Stage::Cleanup, S::UpdateCleanup).await
            }
            (OperationKind::Update, Stage::Cleanup) => {
                self.finish(S::UpdateComplete, None).await?;
                Ok(true)
            }
            (OperationKind::Update, Stage::Rollback) => {
                self.next_stage(Stage::RollbackCleanup, S::UpdateRollbackCleanup).await
            }
            (OperationKind::Update, Stage::RollbackCleanup) => {
                let stuck = self.operation.not_restored.join(", ");
                if stuck.is_empty() {
                    self.finish(S::UpdateRollbackComplete, None).await?;
                } else {
                    let reason = format!("The following resource(s) failed to update: [{stuck}]. ");
                    self.finish(S::UpdateRollbackFailed, Some(reason)).await?;
                }
                Ok(true)
            }
            (OperationKind::Delete, _) => {
                let status = if failure.is_some() { S::DeleteFailed } else { S::DeleteComplete };
                self.finish(status, failure).await?;
                Ok(true)
            }
        }
    }

    fn adopt_target(&mut self) {
        self.stack.source = std::mem::take(&mut self.operation.target);
    }

    async fn next_stage(&mut self, stage: Stage, status: StackStatus) -> Result<bool, Error> {
        self.operation.stage = stage;
        self.operation.steps = std::mem::take(&mut self.operation.cleanup);
        self.operation.next = 0;
        self.set_status(status, None);
        self.save().await?;
        Ok(false)
    }

    /// Ends the operation, in one commit.
    async fn finish(&mut self, status: StackStatus, reason: Option<String>) -> Result<(), Error> {
        let (account, name) = (self.stack.account, self.stack.name.clone());
        self.stack.operation = Some(self.operation.clone());
        if status == self.stack.status {
            self.stack.reason = reason;
        } else {
            self.set_status(status, reason);
        }
        self.stack.operation = None;
        let mut writes = std::mem::take(&mut self.events);
        writes.push(Write::Delete(pending_key(account, &name)));
        let key = stack_key(account, &name);
        if status == StackStatus::DeleteComplete {
            let now = self.machinery.env.now();
            self.stack.deleted_at = Some(now);
            writes.push(Write::Delete(key));
            writes.push(STACKS.put(deleted_key(account, &name, &self.stack.uuid), &self.stack));
            writes.extend(self.forget(now).await?);
        } else {
            writes.push(STACKS.put(key, &self.stack));
        }
        self.machinery.store.write(writes).await?;
        Ok(())
    }

    /// Removes what is left of stacks of the same name that were deleted long ago.
    async fn forget(&self, now: types::Timestamp) -> Result<Vec<Write>, Error> {
        let range = STACKS.range(self.stack.account, 100, |k| {
            k.text(&self.stack.name).u8(1);
        });
        let (rows, _) = STACKS.scan(&self.machinery.store, range).await?;
        let mut writes = Vec::new();
        for row in rows {
            if row.value.deleted_at.is_some_and(|at| at + KEEP_DELETED < now) {
                let events = EVENTS.range(self.stack.account, 10_000, |k| {
                    k.text(&row.value.uuid);
                });
                let page = self.machinery.store.scan(events).await?;
                writes.extend(page.entries.into_iter().map(|e| Write::Delete(e.key)));
                writes.push(Write::Delete(row.key));
            }
        }
        Ok(writes)
    }
}

/// True if the step needs values that were not known when it was planned.
fn awaits(step: &Step) -> bool {
    match &step.action {
        Action::Create { to } | Action::Update { to, .. } | Action::Replace { to, .. } => {
            is_later(&to.properties)
        }
        Action::Configure { to, .. } => is_later(to),
        Action::Note { .. } | Action::Delete { .. } => false,
    }
}

/// True if what `from` is made with can not be changed to `properties`.
fn replaces(from: &Resource, properties: &Properties) -> bool {
    let Some(kind) = resources::find(&from.type_name) else { return false };
    let old = early_properties(&from.properties, kind.late);
    kind.difference(&old, properties).iter().any(|(_, update)| *update == Update::Replace)
}

/// Has the step say what was decided when it was carried out.
fn apply(step: &mut Step, made: Made) {
    let (Action::Create { to } | Action::Replace { to, .. } | Action::Update { to, .. }) = &mut step.action
    else {
        return;
    };
    if let Some(physical_id) = made.physical_id {
        to.physical_id = physical_id;
    }
    to.attributes.extend(made.attributes);
}

/// A service's error as the reason of an event.
fn reason(error: &aws::Error) -> String {
    format!("{} (Status Code: {}, Error Code: {})", error.message, error.status, error.code)
}

/// The row that says that a stack has an operation under way.
pub(crate) fn pending(account: AccountId, name: &str) -> Write {
    let row = crate::tables::Pending { account, name: name.to_owned() };
    PENDING.put(pending_key(account, name), &row)
}
