//! Looking at stacks, their resources and their events.

use aws::Response;
use store::key::after;

use super::{At, wire};
use crate::Error;
use crate::tables::{EVENTS, STACKS, Stack, StackStatus, events_prefix};

/// Stacks, or events, in one answer.
const PAGE: usize = 100;

fn bad_token() -> Error {
    Error::Validation("The NextToken is not one that this operation gave out.".to_owned())
}

impl At {
    /// A page of the account's stacks, and the token of the next.
    async fn stacks(
        &self,
        next: Option<String>,
        show: impl Fn(&Stack) -> bool,
    ) -> Result<(Vec<Stack>, Option<String>), Error> {
        let mut range = STACKS.range(self.context.caller.account, PAGE, |_| {});
        if let Some(token) = next {
            let key = hex_decode(&token).filter(|key| key[..] >= range.start[..]).ok_or_else(bad_token)?;
            range.start = after(&key);
        }
        let mut shown = Vec::new();
        loop {
            let (rows, more) = STACKS.scan(&self.shared.machinery.store, range.clone()).await?;
            let last = rows.last().filter(|_| more).map(|row| row.key.clone());
            shown.extend(rows.into_iter().map(|row| row.value).filter(&show));
            // Clients take a page without stacks for the end of them.
            match last {
                Some(last) if shown.len() < PAGE => range.start = after(&last),
                last => return Ok((shown, last.map(|last| hex_encode(&last)))),
            }
        }
    }

    pub(super) async fn describe_stacks(
        &self,
        stack: Option<&str>,
        next: Option<String>,
    ) -> Result<Response, Error> {
        let (stacks, token) = match stack {
            Some(stack) => (vec![self.find(stack).await?], None),
            None => self.stacks(next, |stack| stack.deleted_at.is_none()).await?,
        };
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            xml.list("Stacks", &stacks, wire::stack);
            xml.optional("NextToken", token.as_ref());
        }))
    }

    pub(super) async fn list_stacks(
        &self,
        statuses: &[String],
        next: Option<String>,
    ) -> Result<Response, Error> {
        let shown =
            |status: StackStatus| statuses.is_empty() || statuses.iter().any(|s| s == status.as_str());
        let (stacks, token) = self.stacks(next, |stack| shown(stack.status)).await?;
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            xml.list("StackSummaries", &stacks, wire::stack_summary);
            xml.optional("NextToken", token.as_ref());
        }))
    }

    pub(super) async fn describe_events(&self, stack: &str, next: Option<String>) -> Result<Response, Error> {
        let stack = self.find(stack).await?;
        let prefix = events_prefix(stack.account, &stack.uuid);
        let mut range = EVENTS.range(stack.account, PAGE, |k| {
            k.text(&stack.uuid);
        });
        range.reverse = true;
        if let Some(token) = next {
            let rest = hex_decode(&token).filter(|rest| rest.len() == 10).ok_or_else(bad_token)?;
            range.end = [&prefix[..], &rest].concat().into();
        }
        let (rows, more) = EVENTS.scan(&self.shared.machinery.store, range).await?;
        let token = rows.last().filter(|_| more).map(|row| hex_encode(&row.key[prefix.len()..]));
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            xml.list("StackEvents", &rows, |xml, row| wire::event(xml, &stack, &row.value));
            xml.optional("NextToken", token.as_ref());
        }))
    }

    pub(super) async fn describe_resources(
        &self,
        stack: Option<&str>,
        logical_id: Option<&str>,
        physical_id: Option<&str>,
    ) -> Result<Response, Error> {
        let stack = match (stack, physical_id) {
            (Some(stack), None) => self.find(stack).await?,
            (None, Some(physical_id)) => self.holder(physical_id).await?,
            _ => {
                let message = "Exactly one of StackName and PhysicalResourceId must be specified.";
                return Err(Error::Validation(message.to_owned()));
            }
        };
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            let shown = stack.resources.iter().filter(|(name, resource)| {
                logical_id.is_none_or(|id| id == *name)
                    && physical_id.is_none_or(|id| id == resource.physical_id || logical_id.is_none())
            });
            xml.list("StackResources", shown, |xml, (name, resource)| {
                wire::resource(xml, &stack, name, resource);
            });
        }))
    }

    /// The living stack that holds a resource.
    async fn holder(&self, physical_id: &str) -> Result<Stack, Error> {
        let mut next = None;
        loop {
            let (stacks, token) = self.stacks(next, |stack| stack.deleted_at.is_none()).await?;
            let holds = |stack: &Stack| stack.resources.values().any(|r| r.physical_id == physical_id);
            if let Some(stack) = stacks.into_iter().find(holds) {
                return Ok(stack);
            }
            match token {
                Some(token) => next = Some(token),
                None => {
                    let message = format!("Stack for {physical_id} does not exist");
                    return Err(Error::Validation(message));
                }
            }
        }
    }

    pub(super) async fn describe_resource(&self, stack: &str, logical_id: &str) -> Result<Response, Error> {
        let stack = self.find(stack).await?;
        let resource = stack.resources.get(logical_id).ok_or_else(|| {
            let name = &stack.name;
            Error::Validation(format!("Resource {logical_id} does not exist for stack {name}"))
        })?;
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            xml.element("StackResourceDetail", |xml| {
                wire::resource_detail(xml, &stack, logical_id, resource);
            });
        }))
    }

    pub(super) async fn list_resources(&self, stack: &str) -> Result<Response, Error> {
        let stack = self.find(stack).await?;
        Ok(wire::output(self.name, self.context.request_id, &|xml| {
            xml.list("StackResourceSummaries", &stack.resources, |xml, (name, resource)| {
                wire::resource_summary(xml, name, resource);
            });
        }))
    }
}

fn hex_encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_decode(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
