//! More accounts on the node: made and listed by the root of its first account, under `/_hawker/accounts`.

use std::sync::Arc;

use async_trait::async_trait;
use aws::{Access, Operation, Request, RequestContext, Response};
use serde::{Deserialize, Serialize};
use store::{Read, key};
use types::{AccountId, ErrorKind, Principal, Timestamp};

use crate::config::KeyPair;
use crate::identity::check_key_pair;
use crate::tables::{self, ACCESS_KEYS, ACCOUNTS, AccessKey, Account, KeyOwner};
use crate::{Error, Identity, ids};

/// An account, as it is listed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountSummary {
    /// Its id.
    pub account_id: AccountId,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Identity {
    /// Makes an account with a root user and its key pair; what is not given is made up.
    pub async fn create_account(
        &self,
        id: Option<AccountId>,
        pair: Option<KeyPair>,
    ) -> Result<(AccountId, KeyPair), Error> {
        let id = id.unwrap_or_else(|| self.fresh_account_id());
        let pair = pair.unwrap_or_else(|| KeyPair {
            access_key_id: ids::fresh(self.env(), "AKIA"),
            secret_access_key: ids::secret(self.env()),
        });
        check_key_pair(&pair).map_err(|error| Error::ValidationError(error.to_string()))?;
        let now = self.now();
        let reads = vec![Read::Key(tables::account(id)), Read::Key(tables::access_key(&pair.access_key_id))];
        let new = pair.clone();
        let decide = move |pages: &[store::Page], _| {
            if ACCOUNTS.first(&pages[0])?.is_some() {
                return Err(Error::EntityAlreadyExists(format!("Account {id} exists already.")));
            }
            if ACCESS_KEYS.first(&pages[1])?.is_some() {
                let message = format!("Access key {} exists already; choose another.", new.access_key_id);
                return Err(Error::EntityAlreadyExists(message));
            }
            let account = Account { id, created_at: now, root_keys: vec![new.access_key_id.clone()] };
            let secret = new.secret_access_key.clone();
            let key = AccessKey { account: id, owner: KeyOwner::Root, secret, active: true, created_at: now };
            let writes = vec![
                ACCOUNTS.put(tables::account(id), &account),
                ACCESS_KEYS.put(tables::access_key(&new.access_key_id), &key),
            ];
            Ok((writes, ()))
        };
        self.store.transact(reads, decide).await?;
        self.keys.invalidate(&pair.access_key_id);
        Ok((id, pair))
    }

    fn fresh_account_id(&self) -> AccountId {
        let mut bytes = [0; 8];
        self.env.fill(&mut bytes);
        // Twelve digits, the first not 0, as AWS's are.
        let number = 100_000_000_000 + u64::from_be_bytes(bytes) % 900_000_000_000;
        AccountId::from_number(number).expect("the number has twelve digits")
    }

    /// The accounts of the node after `after`, at most `limit`.
    pub async fn accounts(
        &self,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<AccountSummary>, Error> {
        let mut range = ACCOUNTS.range(AccountId::NODE, limit, |k| {
            k.u8(1);
        });
        if let Some(after) = after {
            range.start = key::after(&tables::account(after));
        }
        let (rows, _) = ACCOUNTS.scan(&self.store, range).await?;
        let summary =
            |account: Account| AccountSummary { account_id: account.id, created_at: account.created_at };
        Ok(rows.into_iter().map(|row| summary(row.value)).collect())
    }

    /// Reads a request for `/_hawker/accounts`: `POST` makes an account, `GET` lists them.
    pub async fn native(self: &Arc<Self>, request: Request) -> Result<Box<dyn Operation>, aws::Error> {
        let (identity, context) = (self.clone(), request.context);
        if request.head.uri.path() != "/_hawker/accounts" {
            let message = format!("There is nothing at `{}`.", request.head.uri.path());
            return Err(aws::Error::new(ErrorKind::NotFound, "ResourceNotFoundException", message));
        }
        if request.head.method == http::Method::GET {
            let mut query = aws::query::Form::parse(request.head.uri.query().unwrap_or_default().as_bytes());
            let after = query.take_parsed("after")?;
            query.finish()?;
            return Ok(Box::new(ListAccounts { identity, context, after }));
        }
        if request.head.method == http::Method::POST {
            let body = aws::body::collect(request.body, 64 << 10).await?;
            return Ok(Box::new(CreateAccount { identity, context, input: aws::json::input(&body)? }));
        }
        let message = "Accounts are made with POST and listed with GET.";
        Err(aws::Error::new(ErrorKind::Invalid, "MethodNotAllowedException", message).with_status(405))
    }

    /// A right on the node's accounts; its ARN is the first account's, so that others' roots have none.
    fn account_access(&self, action: &'static str) -> Vec<Access> {
        vec![Access::new(action, format!("arn:aws:hawker::{}:accounts", self.primary))]
    }

    fn check_node_root(&self, context: &RequestContext) -> Result<(), Error> {
        if context.caller.principal == (Principal::Root { account: self.primary }) {
            return Ok(());
        }
        let message =
            format!("Only the root of account {} may see or make accounts of this node.", self.primary);
        Err(Error::AccessDenied(message))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Input {
    account_id: Option<AccountId>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
}

struct CreateAccount {
    identity: Arc<Identity>,
    context: RequestContext,
    input: Input,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    account_id: AccountId,
    access_key_id: String,
    secret_access_key: String,
}

#[async_trait]
impl Operation for CreateAccount {
    fn name(&self) -> &'static str {
        "CreateAccount"
    }

    fn access(&self) -> Vec<Access> {
        self.identity.account_access("hawker:CreateAccount")
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        let Self { identity, context, input } = *self;
        identity.check_node_root(&context)?;
        let pair = match (input.access_key_id, input.secret_access_key) {
            (Some(access_key_id), Some(secret_access_key)) => {
                Some(KeyPair { access_key_id, secret_access_key })
            }
            (None, None) => None,
            _ => {
                let message = "Give both accessKeyId and secretAccessKey, or neither.";
                return Err(Error::ValidationError(message.into()).into());
            }
        };
        let (account_id, pair) = identity.create_account(input.account_id, pair).await?;
        let KeyPair { access_key_id, secret_access_key } = pair;
        let created = Created { account_id, access_key_id, secret_access_key };
        Ok(aws::json::output_with_status(201, &created))
    }
}

struct ListAccounts {
    identity: Arc<Identity>,
    context: RequestContext,
    after: Option<AccountId>,
}

#[derive(Serialize)]
struct Listed {
    accounts: Vec<AccountSummary>,
    /// The last account listed, to ask for those after it, if there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<AccountId>,
}

#[async_trait]
impl Operation for ListAccounts {
    fn name(&self) -> &'static str {
        "ListAccounts"
    }

    fn access(&self) -> Vec<Access> {
        self.identity.account_access("hawker:ListAccounts")
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        const LIMIT: usize = 1000;
        self.identity.check_node_root(&self.context)?;
        let accounts = self.identity.accounts(self.after, LIMIT).await?;
        let after = accounts.last().filter(|_| accounts.len() == LIMIT).map(|last| last.account_id);
        Ok(aws::json::output(&Listed { accounts, after }))
    }
}
