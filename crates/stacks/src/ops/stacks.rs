//! `CreateStack`, `UpdateStack`, `DeleteStack`: from a request to an operation that the service carries out.

use aws::Response;
use indexmap::IndexMap;
use store::{Page, Version, Write};
use types::RequestId;

use super::input::Deployment;
use super::{At, wire};
use crate::Error;
use crate::operate::{pending, stack_event};
use crate::plan::{Plan, deletions, plan};
use crate::tables::{
    CHANGE_SETS, OnFailure, Operation, OperationKind, STACKS, Source, Stack, StackStatus, Stage,
    StoredCaller, deleted_key, stack_key,
};
use crate::template::{Code, Disposal, Pseudo, Template};

/// Why a change does nothing.
pub(super) const NO_CHANGES: &str = "No updates are to be performed.";

/// A template with everything that was said about it.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) source: Source,
}

impl Prepared {
    /// True if it would leave `stack` as it is.
    pub(super) fn is_same(&self, stack: &Stack) -> bool {
        self.plan.changes.is_empty()
            && self.plan.steps.is_empty()
            && self.source.outputs == stack.source.outputs
            && self.source.tags == stack.source.tags
    }
}

impl At {
    pub(super) fn pseudo(&self, name: &str, id: &str) -> Pseudo {
        Pseudo {
            account_id: self.context.caller.account.to_string(),
            region: self.context.region.to_string(),
            stack_name: name.to_owned(),
            stack_id: id.to_owned(),
        }
    }

    /// Reads the template, checks capabilities, and plans.
    pub(super) async fn prepare(
        &self,
        deployment: &Deployment,
        stack: &Stack,
        direct: bool,
    ) -> Result<Prepared, Error> {
        let exists = stack.status != StackStatus::ReviewInProgress;
        let text = self.template_text(&deployment.source, exists.then_some(stack)).await?;
        let given = deployment.values(Some(stack))?;
        let pseudo = self.pseudo(&stack.name, &stack.id);
        let template = Template::read_for(&text, Code::Packaged, &given, &pseudo).map_err(Error::Template)?;
        capabilities(&template, &deployment.capabilities, direct)?;
        let now = self.shared.machinery.env.now();
        let plan = plan(&template, &given, &pseudo, &stack.resources, now).map_err(Error::Template)?;
        let tags = deployment.tags.clone().unwrap_or_else(|| stack.source.tags.clone());
        let source = Source {
            template: text,
            description: template.description,
            parameters: plan.parameters.clone(),
            tags,
            capabilities: deployment.capabilities.clone(),
            outputs: plan.outputs.clone(),
        };
        Ok(Prepared { plan, source })
    }

    /// A stack that is not there yet.
    pub(super) fn new_stack(&self, name: &str) -> Result<Stack, Error> {
        if name.starts_with("arn:") {
            return Err(Error::StackNotFound(name.to_owned()));
        }
        let (region, account) = (&self.context.region, self.context.caller.account);
        let env = &self.shared.machinery.env;
        let uuid = RequestId::new(&**env).to_string();
        Ok(Stack {
            account,
            name: name.to_owned(),
            id: format!("arn:aws:cloudformation:{region}:{account}:stack/{name}/{uuid}"),
            uuid,
            status: StackStatus::ReviewInProgress,
            reason: None,
            created_at: env.now(),
            updated_at: None,
            deleted_at: None,
            change_set_id: None,
            termination_protection: false,
            source: Source::default(),
            resources: IndexMap::new(),
            operation: None,
            stuck: Vec::new(),
        })
    }

    /// The living stack of that name or id.
    pub(super) async fn living(&self, stack: &str) -> Result<Option<Stack>, Error> {
        let name = name_of(stack);
        let key = stack_key(self.context.caller.account, name);
        let row = STACKS.get(&self.shared.machinery.store, key).await?;
        Ok(row.map(|row| row.value).filter(|found| !stack.starts_with("arn:") || found.id == stack))
    }

    /// The stack of that name or id, deleted ones by id.
    pub(super) async fn find(&self, stack: &str) -> Result<Stack, Error> {
        if let Some(found) = self.living(stack).await? {
            return Ok(found);
        }
        if let Some((_, uuid)) = stack.rsplit_once('/') {
            let key = deleted_key(self.context.caller.account, name_of(stack), uuid);
            if let Some(row) = STACKS.get(&self.shared.machinery.store, key).await? {
                return Ok(row.value);
            }
        }
        Err(Error::StackNotFound(stack.to_owned()))
    }

    /// Writes `stack` with `operation` begun, if it is still as it was read.
    pub(super) async fn begin(
        &self,
        mut stack: Stack,
        was: Option<StackStatus>,
        operation: Operation,
        status: StackStatus,
        reason: Option<String>,
    ) -> Result<(), Error> {
        let machinery = &self.shared.machinery;
        let (account, name) = (stack.account, stack.name.clone());
        let id = stack.id.clone();
        stack.status = status;
        stack.reason = reason;
        stack.operation = Some(operation);
        let mut writes = vec![
            STACKS.put(stack_key(account, &name), &stack),
            stack_event(&machinery.env, &stack),
            pending(account, &name),
        ];
        // Other change sets were made against what the stack no longer is.
        let sets = CHANGE_SETS.range(account, 1_000, |k| {
            k.text(&name);
        });
        let sets = machinery.store.scan(sets).await?;
        writes.extend(sets.entries.into_iter().map(|entry| Write::Delete(entry.key)));
        let reads = vec![STACKS.read(stack_key(account, &name))];
        let decide = move |pages: &[Page], _: Version| {
            let now = STACKS.first(&pages[0])?.map(|row| row.value);
            let unchanged = match (&now, was) {
                (None, None) => true,
                (Some(now), Some(was)) => now.id == id && now.status == was,
                _ => false,
            };
            if unchanged { Ok((writes.clone(), ())) } else { Err(Error::AlreadyExists(name.clone())) }
        };
        machinery.store.transact(reads, decide).await?;
        self.shared.wake.notify_one();
        Ok(())
    }

    pub(super) fn operation(
        &self,
        kind: OperationKind,
        plan: Plan,
        source: Source,
        on_failure: OnFailure,
        token: Option<String>,
    ) -> Operation {
        Operation {
            kind,
            caller: StoredCaller::from(&self.context.caller),
            trace: self.context.trace.clone(),
            token,
            on_failure,
            stage: Stage::Forward,
            steps: plan.steps,
            next: 0,
            begun: false,
            begun_at: None,
            cleanup: plan.cleanup,
            target: source,
            failed: Vec::new(),
            kept: Vec::new(),
            not_restored: Vec::new(),
        }
    }

    pub(super) async fn create_stack(
        &self,
        deployment: Deployment,
        on_failure: OnFailure,
        termination_protection: bool,
    ) -> Result<Response, Error> {
        let found = self.living(&deployment.stack).await?;
        let mut stack = match found {
            Some(stack) if stack.status == StackStatus::ReviewInProgress => stack,
            Some(stack) => return Err(Error::AlreadyExists(stack.name)),
            None => self.new_stack(&deployment.stack)?,
        };
        stack.termination_protection = termination_protection;
        let existed = self.living(&deployment.stack).await?.map(|s| s.status);
        let prepared = self.prepare(&deployment, &stack, true).await?;
        let token = deployment.token.clone();
        let operation =
            self.operation(OperationKind::Create, prepared.plan, prepared.source, on_failure, token);
        let id = stack.id.clone();
        let reason = Some("User Initiated".to_owned());
        self.begin(stack, existed, operation, StackStatus::CreateInProgress, reason).await?;
        Ok(wire::output(self.name, self.context.request_id, &|xml| xml.text("StackId", &id)))
    }

    pub(super) async fn update_stack(&self, deployment: Deployment) -> Result<Response, Error> {
        let stack = self.living(&deployment.stack).await?;
        let mut stack = stack.ok_or_else(|| {
            Error::Validation(format!("Stack [{}] does not exist", name_of(&deployment.stack)))
        })?;
        updatable(&stack)?;
        let prepared = self.prepare(&deployment, &stack, true).await?;
        if prepared.is_same(&stack) {
            return Err(Error::Validation(NO_CHANGES.to_owned()));
        }
        let token = deployment.token.clone();
        let operation =
            self.operation(OperationKind::Update, prepared.plan, prepared.source, OnFailure::Rollback, token);
        let (id, was) = (stack.id.clone(), stack.status);
        stack.updated_at = Some(self.shared.machinery.env.now());
        let reason = Some("User Initiated".to_owned());
        self.begin(stack, Some(was), operation, StackStatus::UpdateInProgress, reason).await?;
        Ok(wire::output(self.name, self.context.request_id, &|xml| xml.text("StackId", &id)))
    }

    pub(super) async fn delete_stack(
        &self,
        stack: &str,
        retain: &[String],
        token: Option<String>,
    ) -> Result<Response, Error> {
        // Deleting what is not there succeeds.
        let Some(stack) = self.living(stack).await? else {
            return Ok(wire::nothing(self.name, self.context.request_id));
        };
        if stack.termination_protection {
            let message =
                format!("Stack [{}] cannot be deleted while TerminationProtection is enabled", stack.name);
            return Err(Error::Validation(message));
        }
        if stack.status == StackStatus::DeleteInProgress {
            return Ok(wire::nothing(self.name, self.context.request_id));
        }
        if stack.status.in_progress() {
            let status = stack.status.as_str();
            let message = format!("Stack [{}] cannot be deleted while in status {status}", stack.name);
            return Err(Error::Validation(message));
        }
        if !retain.is_empty() && stack.status != StackStatus::DeleteFailed {
            let message = "RetainResources can be given only for stacks in status DELETE_FAILED";
            return Err(Error::Validation(message.to_owned()));
        }
        let steps = deletions(&stack.resources, |name, resource| {
            resource.deletion_policy != Disposal::Delete || retain.iter().any(|r| r == name)
        });
        let plan = Plan {
            changes: Vec::new(),
            steps,
            cleanup: Vec::new(),
            outputs: Vec::new(),
            parameters: Vec::new(),
        };
        let operation =
            self.operation(OperationKind::Delete, plan, Source::default(), OnFailure::Rollback, token);
        let was = stack.status;
        let reason = Some("User Initiated".to_owned());
        self.begin(stack, Some(was), operation, StackStatus::DeleteInProgress, reason).await?;
        Ok(wire::nothing(self.name, self.context.request_id))
    }

    /// Puts back what a rollback could not, but for what is to be skipped.
    pub(super) async fn continue_rollback(
        &self,
        stack: &str,
        skip: &[String],
        token: Option<String>,
    ) -> Result<Response, Error> {
        let mut stack = self.living(stack).await?.ok_or_else(|| Error::StackNotFound(stack.to_owned()))?;
        if stack.status != StackStatus::UpdateRollbackFailed {
            let (id, status) = (&stack.id, stack.status.as_str());
            let message = format!("Stack:{id} is in {status} state and can not continue rollback.");
            return Err(Error::Validation(message));
        }
        let steps = std::mem::take(&mut stack.stuck);
        if let Some(name) = skip.iter().find(|name| !steps.iter().any(|step| step.logical_id == **name)) {
            let message = format!(
                "Resource [{name}] can not be skipped: only what is UPDATE_FAILED because the rollback failed can be."
            );
            return Err(Error::Validation(message));
        }
        let (skipped, steps): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|step| skip.contains(&step.logical_id));
        for name in skipped.iter().map(|step| &step.logical_id) {
            if let Some(held) = stack.resources.get_mut(name) {
                "UPDATE_COMPLETE".clone_into(&mut held.status);
                held.reason = None;
            }
        }
        let plan = Plan {
            changes: Vec::new(),
            steps,
            cleanup: Vec::new(),
            outputs: Vec::new(),
            parameters: Vec::new(),
        };
        let source = stack.source.clone();
        let mut operation = self.operation(OperationKind::Update, plan, source, OnFailure::Rollback, token);
        operation.stage = Stage::Rollback;
        let was = stack.status;
        let reason = Some("User Initiated".to_owned());
        self.begin(stack, Some(was), operation, StackStatus::UpdateRollbackInProgress, reason).await?;
        let nothing = &|_: &mut aws::xml::Xml| {};
        Ok(wire::output(self.name, self.context.request_id, nothing))
    }

    pub(super) async fn protect(&self, stack: &str, on: bool) -> Result<Response, Error> {
        let stack = self.living(stack).await?.ok_or_else(|| Error::StackNotFound(stack.to_owned()))?;
        let key = stack_key(stack.account, &stack.name);
        let id = stack.id.clone();
        let decide = move |pages: &[Page], _: Version| {
            let row = STACKS.first(&pages[0])?.map(|row| row.value).filter(|s| s.id == id);
            let mut stack = row.ok_or_else(|| Error::StackNotFound(id.clone()))?;
            if stack.operation.is_some() {
                let message = format!("Stack [{}] has an operation in progress", stack.name);
                return Err(Error::Validation(message));
            }
            stack.termination_protection = on;
            Ok((vec![STACKS.put(stack_key(stack.account, &stack.name), &stack)], ()))
        };
        self.shared.machinery.store.transact(vec![STACKS.read(key)], decide).await?;
        Ok(wire::output(self.name, self.context.request_id, &|xml| xml.text("StackId", &stack.id)))
    }
}

/// The name in an id, or the name itself.
pub(super) fn name_of(stack: &str) -> &str {
    match stack.strip_prefix("arn:") {
        Some(arn) => arn.split('/').nth(1).unwrap_or(stack),
        None => stack,
    }
}

/// Refuses stacks that can not be updated as they are.
pub(super) fn updatable(stack: &Stack) -> Result<(), Error> {
    use StackStatus as S;
    match stack.status {
        S::CreateComplete | S::UpdateComplete | S::UpdateRollbackComplete => Ok(()),
        S::ReviewInProgress
        | S::CreateInProgress
        | S::CreateFailed
        | S::RollbackInProgress
        | S::RollbackComplete
        | S::RollbackFailed
        | S::UpdateInProgress
        | S::UpdateCleanup
        | S::UpdateRollbackInProgress
        | S::UpdateRollbackCleanup
        | S::UpdateRollbackFailed
        | S::DeleteInProgress
        | S::DeleteComplete
        | S::DeleteFailed => Err(Error::Validation(format!(
            "Stack:{} is in {} state and can not be updated.",
            stack.id,
            stack.status.as_str()
        ))),
    }
}

/// Refuses templates whose effects were not acknowledged.
fn capabilities(template: &Template, given: &[String], direct: bool) -> Result<(), Error> {
    let has = |name: &str| given.iter().any(|c| c == name);
    let (needed, _) = template.capabilities();
    for capability in needed {
        let named = capability == "CAPABILITY_IAM" && has("CAPABILITY_NAMED_IAM");
        if !(named || has(capability)) {
            return Err(Error::InsufficientCapabilities(capability.to_owned()));
        }
    }
    // A change set shows what a transform made of a template; without one that must be acknowledged.
    if direct && template.serverless && !has("CAPABILITY_AUTO_EXPAND") {
        return Err(Error::InsufficientCapabilities("CAPABILITY_AUTO_EXPAND".to_owned()));
    }
    Ok(())
}
