//! A node's identity without the listener: requests go through parse, authorise and handle.

use std::sync::Arc;

use aws::{Api, Authorizer, Caller, CredentialSource, Origin, Request, RequestContext};
use http_body_util::BodyExt;
use identity::{Config, Identity};
use store::{MemoryEngine, Store};
use types::{AccountId, Principal, RequestId, SharedEnv, SystemEnv, TraceHeader};

/// What is tested.
pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) env: SharedEnv,
    pub(crate) identity: Arc<Identity>,
}

impl Node {
    pub(crate) async fn new() -> Self {
        let (store, env) = (Store::new(MemoryEngine::new()), SystemEnv::new());
        let identity = Identity::open(store.clone(), env.clone(), Config::default()).await.unwrap();
        Self { store, env, identity }
    }

    pub(crate) fn root(&self) -> Caller {
        Self::caller(Principal::Root { account: AccountId::DEFAULT })
    }

    pub(crate) fn caller(principal: Principal) -> Caller {
        Caller {
            account: principal.account().unwrap(),
            principal,
            access_key_id: None,
            origin: Origin::Network("127.0.0.1".parse().unwrap()),
            session_policy: None,
        }
    }

    /// The caller that a key and token make, as the pipeline finds it out.
    pub(crate) async fn caller_of(&self, key_id: &str, token: Option<&str>) -> Option<Caller> {
        let credential = self.identity.find(key_id, token).await.unwrap()?;
        let mut caller = Self::caller(credential.principal);
        caller.access_key_id = Some(key_id.to_owned());
        caller.session_policy = credential.session_policy;
        Some(caller)
    }

    pub(crate) fn request(&self, caller: &Caller, method: &str, uri: &str, body: String) -> Request {
        let (head, body) = http::Request::builder().method(method).uri(uri).body(body).unwrap().into_parts();
        let context = RequestContext {
            caller: caller.clone(),
            request_id: RequestId::new(&*self.env),
            trace: TraceHeader::new(&*self.env),
            region: types::Region::default(),
            received_at: self.env.now(),
            endpoint: "http://127.0.0.1".into(),
        };
        Request { head, body: aws::body::full(body), context }
    }

    async fn run(&self, api: &dyn Api, caller: &Caller, form: &str) -> Result<String, aws::Error> {
        let operation = api.parse(self.request(caller, "POST", "/", form.to_owned())).await?;
        self.identity.authorize(caller, &operation.access()).await?;
        let body = operation.handle().await?.into_body().collect().await.unwrap().to_bytes();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn iam_as(&self, caller: &Caller, form: &str) -> Result<String, aws::Error> {
        self.run(&*self.identity.apis()[0], caller, form).await
    }

    pub(crate) async fn iam(&self, form: &str) -> Result<String, aws::Error> {
        self.iam_as(&self.root(), form).await
    }

    pub(crate) async fn sts_as(&self, caller: &Caller, form: &str) -> Result<String, aws::Error> {
        self.run(&*self.identity.apis()[1], caller, form).await
    }

    pub(crate) async fn allowed(&self, caller: &Caller, action: &'static str, resource: &str) -> bool {
        self.identity.authorize(caller, &[aws::Access::new(action, resource)]).await.is_ok()
    }

    /// Makes a role that `trust` may assume and that may do what `policy` says.
    pub(crate) async fn role(&self, name: &str, trust: &str, policy: Option<&str>) {
        let trust =
            format!(r#"{{"Statement":{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{trust}}}}}"#);
        let form =
            form(&[("Action", "CreateRole"), ("RoleName", name), ("AssumeRolePolicyDocument", &trust)]);
        self.iam(&form).await.unwrap();
        if let Some(policy) = policy {
            self.role_policy(name, "inline", policy).await;
        }
    }

    pub(crate) async fn role_policy(&self, role: &str, name: &str, statement: &str) {
        let document = document(statement);
        let form = form(&[
            ("Action", "PutRolePolicy"),
            ("RoleName", role),
            ("PolicyName", name),
            ("PolicyDocument", &document),
        ]);
        self.iam(&form).await.unwrap();
    }
}

pub(crate) fn document(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#)
}

pub(crate) fn form(parameters: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect()
    };
    let pairs: Vec<_> = parameters.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect();
    pairs.join("&")
}

/// The text of the first element of that name.
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let start = xml.find(&open).unwrap_or_else(|| panic!("no {name} in {xml}")) + open.len();
    &xml[start..start + xml[start..].find(&close).unwrap()]
}
