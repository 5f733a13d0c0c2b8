//! A node with nothing but a gateway and a service that does what its requests say.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws::live::{Live, LiveEvent};
use aws::{
    Access, Api, Authorizer, Caller, Credential, CredentialSource, Error, Operation, Protocol, Request,
    Response, body, json,
};
use gateway::{Config, Gateway, Options, SpanSink};
use telemetry::Span;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::{AccountId, ErrorKind, Principal, Region, SystemEnv, Timestamp};

pub(crate) const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// A key whose user has no rights.
pub(crate) const POWERLESS: &str = "AKIAPOWERLESS";
/// A key that is there until [`World::revoked`].
pub(crate) const FLEETING: &str = "AKIAFLEETING";
/// A key that has ended.
pub(crate) const ENDED: &str = "ASIAENDED";

/// What tests and services share.
#[derive(Debug)]
pub(crate) struct World {
    /// `wait` operations wait for a permit.
    pub(crate) gate: Semaphore,
    /// Told when a `wait` operation has begun.
    pub(crate) begun: Notify,
    pub(crate) finishes: AtomicUsize,
    /// The fleeting key is gone.
    pub(crate) revoked: AtomicBool,
    pub(crate) spans: Mutex<Vec<Span>>,
}

#[async_trait]
impl SpanSink for World {
    async fn record(&self, span: Span) {
        self.spans.lock().unwrap().push(span);
    }
}

#[derive(Debug)]
struct Keys(Arc<World>);

#[async_trait]
impl CredentialSource for Keys {
    async fn find(&self, id: &str, token: Option<&str>) -> Result<Option<Credential>, Error> {
        let account = AccountId::DEFAULT;
        let user = |name: &str| Principal::User { account, name: name.to_owned(), id: format!("AIDA{name}") };
        let principal = match id {
            KEY => Principal::Root { account },
            FLEETING if !self.0.revoked.load(Ordering::SeqCst) => Principal::Root { account },
            POWERLESS => user("powerless"),
            ENDED => user("ended"),
            _ => return Ok(None),
        };
        Ok(Some(Credential {
            secret_access_key: SECRET.to_owned(),
            session_token: token.filter(|_| id == ENDED).map(str::to_owned),
            expires_at: (id == ENDED).then_some(Timestamp::UNIX_EPOCH),
            principal,
            session_policy: None,
        }))
    }
}

/// Root may do everything; everybody may read what is public.
#[derive(Debug)]
struct Rights;

#[async_trait]
impl Authorizer for Rights {
    async fn authorize(&self, caller: &Caller, needs: &[Access]) -> Result<(), Error> {
        let root = matches!(caller.principal, Principal::Root { .. });
        if root || needs.iter().all(|need| need.resource.ends_with("/public")) {
            return Ok(());
        }
        let message =
            format!("User: {} is not authorized to perform: {}", caller.principal.arn(), needs[0].action);
        Err(Error::new(ErrorKind::Denied, "AccessDeniedException", message))
    }
}

#[derive(Debug)]
struct Service {
    name: &'static str,
    protocol: Protocol,
    world: Arc<World>,
}

/// An operation that is named by the last segment of the path.
struct Act {
    what: String,
    request: Option<Request>,
    resource: String,
    caller: Caller,
    world: Arc<World>,
    read: bytes::Bytes,
}

#[async_trait]
impl Api for Service {
    fn signing_name(&self) -> &'static str {
        self.name
    }

    fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn target_prefix(&self) -> &'static str {
        if self.protocol == Protocol::Json10 { "Ten_20260101" } else { "" }
    }

    fn namespace(&self) -> &'static str {
        match self.protocol {
            Protocol::Json10 => "com.example",
            Protocol::Query => "https://query.example/",
            _ => "",
        }
    }

    fn max_signed_body_bytes(&self) -> usize {
        1024 * 1024
    }

    async fn parse(&self, mut request: Request) -> Result<Box<dyn Operation>, Error> {
        let target = request.head.headers.get("x-amz-target").and_then(|t| t.to_str().ok());
        let path =
            target.map_or(request.head.uri.path(), |target| target.rsplit('.').next().unwrap()).to_owned();
        let what = path.rsplit('/').next().unwrap().to_owned();
        assert_ne!(what, "panic-while-parsing");
        let read = if self.protocol == Protocol::RestXml {
            bytes::Bytes::new()
        } else {
            let body = std::mem::replace(&mut request.body, body::full(""));
            body::collect(body, self.max_signed_body_bytes()).await?
        };
        Ok(Box::new(Act {
            what,
            resource: path,
            caller: request.context.caller.clone(),
            request: Some(request),
            world: self.world.clone(),
            read,
        }))
    }
}

#[async_trait]
impl Operation for Act {
    fn name(&self) -> &'static str {
        "Act"
    }

    fn access(&self) -> Vec<Access> {
        if self.what == "open" { Vec::new() } else { vec![Access::new("test:Act", self.resource.clone())] }
    }

    async fn handle(mut self: Box<Self>) -> Result<Response, Error> {
        let Request { head, body, context } = self.request.take().unwrap();
        match &*self.what {
            "panic" => panic!("as asked"),
            "wait" => {
                self.world.begun.notify_one();
                self.world.gate.acquire().await.unwrap().forget();
                self.world.finishes.fetch_add(1, Ordering::SeqCst);
                Ok(json::empty(204))
            }
            // An event for each permit.
            "live" => {
                let events = futures_util::stream::unfold(self.world, |world| async move {
                    world.gate.acquire().await.unwrap().forget();
                    let event =
                        LiveEvent { name: "tick", token: Some("t1".into()), data: b"{\"n\":1}".to_vec() };
                    Some((event, world))
                });
                let resource = self.resource;
                let needs = move || -> Pin<Box<dyn Future<Output = _> + Send>> {
                    let needs = vec![Access::new("test:Act", resource.clone())];
                    Box::pin(async { Ok(needs) })
                };
                Ok(aws::live::answer(Live { events: Box::pin(events), needs: Box::new(needs) }))
            }
            "fail" => Err(Error::new(ErrorKind::NotFound, "NoSuchThing", "gone").with_field("Thing", "t")),
            "describe" => {
                let headers: HashMap<_, _> =
                    head.headers.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
                Ok(json::output(&serde_json::json!({
                    "uri": head.uri.to_string(),
                    "headers": headers,
                    "caller": self.caller.principal.arn(),
                    "origin": format!("{:?}", self.caller.origin),
                    "endpoint": &*context.endpoint,
                    "trace": context.trace.to_string(),
                })))
            }
            _ => {
                let mut bytes = body::collect(body, 64 * 1024 * 1024).await?;
                if bytes.is_empty() {
                    bytes = self.read;
                }
                let mut response = Response::new(body::full(bytes));
                let trailers = head.extensions.get::<aws::chunked::Trailers>();
                if let Some(crc) = trailers.and_then(|trailers| trailers.get("x-amz-checksum-crc32")) {
                    response.headers_mut().insert("x-amz-checksum-crc32", crc);
                }
                Ok(response)
            }
        }
    }
}

pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) world: Arc<World>,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let world = Arc::new(World {
            gate: Semaphore::new(0),
            begun: Notify::new(),
            finishes: AtomicUsize::new(0),
            revoked: AtomicBool::new(false),
            spans: Mutex::default(),
        });
        let gateway = Gateway::new(Options {
            config,
            region: Region::default(),
            account: AccountId::DEFAULT,
            credentials: Arc::new(Keys(world.clone())),
            authorizer: Arc::new(Rights),
            env: SystemEnv::new(),
            spans: Some(world.clone()),
        });
        for (name, protocol) in [
            ("s3", Protocol::RestXml),
            ("ten", Protocol::Json10),
            ("rest", Protocol::RestJson),
            ("sts", Protocol::Query),
            ("hawker", Protocol::RestJson),
        ] {
            gateway.register(Arc::new(Service { name, protocol, world: world.clone() })).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(gateway.clone().run(listener, stop.clone()));
        Self { addr, gateway, world, stop, running }
    }
}
