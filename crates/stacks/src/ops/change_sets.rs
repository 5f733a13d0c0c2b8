//! Change sets: a plan that is looked at before it is carried out.

use aws::Response;
use store::{Page, Version, Write};
use types::RequestId;

use super::input::Deployment;
use super::stacks::{name_of, updatable};
use super::{At, wire};
use crate::Error;
use crate::operate::stack_event;
use crate::plan::plan;
use crate::tables::{
    CHANGE_SETS, ChangeSet, OnFailure, OperationKind, STACKS, Stack, StackStatus, change_set_key, stack_key,
};
use crate::template::{Code, Template};

/// Why a change set without changes failed.
const NO_CHANGES: &str = "The submitted information didn't contain changes. Submit different information to create a \
                          change set.";

impl At {
    pub(super) async fn create_change_set(
        &self,
        deployment: Deployment,
        name: String,
        description: Option<String>,
        creates: bool,
        on_failure: OnFailure,
    ) -> Result<Response, Error> {
        let machinery = &self.shared.machinery;
        let living = self.living(&deployment.stack).await?;
        let is_new = living.is_none();
        let stack = match (living, creates) {
            (None, true) => self.new_stack(&deployment.stack)?,
            (None, false) => {
                let stack = name_of(&deployment.stack);
                return Err(Error::Validation(format!("Stack [{stack}] does not exist")));
            }
            (Some(stack), true) if stack.status == StackStatus::ReviewInProgress => stack,
            (Some(stack), true) => {
                let message = format!(
                    "Stack [{0}] already exists and cannot be created again with the changeSet [{name}].",
                    stack.name
                );
                return Err(Error::Validation(message));
            }
            (Some(stack), false) => {
                updatable(&stack)?;
                stack
            }
        };
        let prepared = self.prepare(&deployment, &stack, false).await?;
        let failure = (!creates && prepared.is_same(&stack)).then(|| NO_CHANGES.to_owned());
        let (region, account) = (&self.context.region, stack.account);
        let uuid = RequestId::new(&*machinery.env);
        let set = ChangeSet {
            id: format!("arn:aws:cloudformation:{region}:{account}:changeSet/{name}/{uuid}"),
            name,
            stack_name: stack.name.clone(),
            stack_id: stack.id.clone(),
            description,
            created_at: machinery.env.now(),
            creates,
            failure,
            on_failure,
            source: prepared.source,
            changes: prepared.plan.changes,
        };
        let (set_id, stack_id) = (set.id.clone(), stack.id.clone());
        self.store_change_set(set, &stack, is_new).await?;
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            xml.text("Id", &set_id);
            xml.text("StackId", &stack_id);
        }))
    }

    async fn store_change_set(&self, set: ChangeSet, stack: &Stack, is_new: bool) -> Result<(), Error> {
        let machinery = &self.shared.machinery;
        let (account, name) = (stack.account, stack.name.clone());
        let key = change_set_key(account, &name, &set.name);
        let mut writes = vec![CHANGE_SETS.put(key.clone(), &set)];
        if is_new {
            writes.push(STACKS.put(stack_key(account, &name), stack));
            writes.push(stack_event(&machinery.env, stack));
        }
        let reads = vec![CHANGE_SETS.read(key), STACKS.read(stack_key(account, &name))];
        let stack_id = stack.id.clone();
        let decide = move |pages: &[Page], _: Version| {
            if pages[0].first().is_some() {
                return Err(Error::ChangeSetExists(set.name.clone()));
            }
            let now = STACKS.first(&pages[1])?;
            if is_new == now.is_some() || now.is_some_and(|s| s.value.id != stack_id) {
                return Err(Error::AlreadyExists(name.clone()));
            }
            Ok((writes.clone(), ()))
        };
        machinery.store.transact(reads, decide).await
    }

    /// The change set of that name (with its stack) or id.
    pub(super) async fn change_set(&self, name: &str, stack: Option<&str>) -> Result<ChangeSet, Error> {
        let not_found = || Error::ChangeSetNotFound(name.to_owned());
        let account = self.context.caller.account;
        let store = &self.shared.machinery.store;
        if let Some(stack) = stack {
            let name = name.strip_prefix("arn:").and_then(|arn| arn.split('/').nth(1)).unwrap_or(name);
            let row = CHANGE_SETS.get(store, change_set_key(account, name_of(stack), name)).await?;
            return row.map(|row| row.value).ok_or_else(not_found);
        }
        if !name.starts_with("arn:") {
            let message = "StackName must be specified if ChangeSetName is not specified as an ARN.";
            return Err(Error::Validation(message.to_owned()));
        }
        let mut range = CHANGE_SETS.range(account, 100, |_| {});
        loop {
            let (rows, more) = CHANGE_SETS.scan(store, range.clone()).await?;
            if let Some(row) = rows.iter().find(|row| row.value.id == name) {
                return Ok(row.value.clone());
            }
            match rows.last() {
                Some(last) if more => range.start = store::key::after(&last.key),
                _ => return Err(not_found()),
            }
        }
    }

    pub(super) async fn describe_change_set(
        &self,
        name: &str,
        stack: Option<&str>,
    ) -> Result<Response, Error> {
        let set = self.change_set(name, stack).await?;
        Ok(wire::output(self.name, self.context.request_id, &|xml| wire::change_set(xml, &set)))
    }

    pub(super) async fn execute_change_set(
        &self,
        name: &str,
        stack: Option<&str>,
        token: Option<String>,
    ) -> Result<Response, Error> {
        let set = self.change_set(name, stack).await?;
        if set.failure.is_some() {
            let message =
                format!("ChangeSet [{}] cannot be executed in its current status of [FAILED]", set.id);
            return Err(Error::InvalidChangeSetStatus(message));
        }
        let stack = self.living(&set.stack_id).await?;
        let mut stack = stack.ok_or_else(|| Error::StackNotFound(set.stack_id.clone()))?;
        if !set.creates {
            updatable(&stack)?;
        } else if stack.status != StackStatus::ReviewInProgress {
            let message = format!("Stack [{}] was created already", stack.name);
            return Err(Error::InvalidChangeSetStatus(message));
        }
        // Planned again, from the same template: nothing else can have changed the stack since.
        let given = set.source.given();
        let pseudo = self.pseudo(&stack.name, &stack.id);
        let template = Template::read_for(&set.source.template, Code::Packaged, &given, &pseudo);
        let template = template.map_err(Error::Template)?;
        let now = self.shared.machinery.env.now();
        let plan = plan(&template, &given, &pseudo, &stack.resources, now).map_err(Error::Template)?;
        let (kind, status) = if set.creates {
            (OperationKind::Create, StackStatus::CreateInProgress)
        } else {
            stack.updated_at = Some(now);
            (OperationKind::Update, StackStatus::UpdateInProgress)
        };
        stack.change_set_id = Some(set.id);
        let operation = self.operation(kind, plan, set.source, set.on_failure, token);
        let was = stack.status;
        self.begin(stack, Some(was), operation, status, Some("User Initiated".to_owned())).await?;
        Ok(wire::output(self.name, self.context.request_id, &|_| {}))
    }

    pub(super) async fn delete_change_set(&self, name: &str, stack: Option<&str>) -> Result<Response, Error> {
        let answer = wire::output(self.name, self.context.request_id, &|_| {});
        let set = match self.change_set(name, stack).await {
            // Deleting what is not there succeeds.
            Err(Error::ChangeSetNotFound(_)) => return Ok(answer),
            other => other?,
        };
        let account = self.context.caller.account;
        let key = change_set_key(account, &set.stack_name, &set.name);
        self.shared.machinery.store.write(vec![Write::Delete(key)]).await?;
        Ok(answer)
    }

    pub(super) async fn list_change_sets(&self, stack: &str) -> Result<Response, Error> {
        let stack = self.find(stack).await?;
        let range = CHANGE_SETS.range(stack.account, 1_000, |k| {
            k.text(&stack.name);
        });
        let (rows, _) = CHANGE_SETS.scan(&self.shared.machinery.store, range).await?;
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            xml.list("Summaries", &rows, |xml, row| wire::change_set_summary(xml, &row.value));
        }))
    }
}
