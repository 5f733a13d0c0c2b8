//! The path of a request: limits, identity, rights, the operation, the record. Top to bottom.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use aws::render::{ErrorContext, content_type, render, request_id_headers};
use aws::sigv4::{Failure, Payload, Presented, Source, Verified, strip};
use aws::{
    Api, Caller, Credential, Error, Operation, Origin, Place, Protocol, Request, RequestContext, Response,
    Signed, Traced, body, checked, chunked, sigv2,
};
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderValue};
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use types::{ErrorKind, Principal, SharedEnv, TraceHeader};

use crate::completion::ToItsEnd;
use crate::connection::Connection;
use crate::cross_origin;
use crate::gateway::{Gateway, HELD_UNIT_BYTES, State, no_service};
use crate::inbound::{Counted, Held, Inbound, Outbound};
use crate::live::{Granted, Handshake, Standing, allow_any_origin};
use crate::record::Exchange;
use crate::route::{HEALTH_PATH, bucket_of_host, guess_protocol, put_bucket_in_path, text};

/// How many rights of one request are decided on before others get their turn.
const RIGHTS_AT_ONCE: usize = 16;

/// A denial by the code and status of the protocol: JSON services say `AccessDeniedException`, the others
/// `AccessDenied`.
fn denial(mut error: Error, protocol: Protocol) -> Error {
    if error.kind == ErrorKind::Denied {
        match protocol {
            Protocol::Json10 | Protocol::Json11 => error.status = 400,
            Protocol::RestJson => {}
            Protocol::RestXml | Protocol::Query => error.code = "AccessDenied".into(),
        }
    }
    error
}

/// A request whose caller is known.
struct Authentic {
    api: std::sync::Arc<dyn Api>,
    caller: Caller,
    body: aws::Body,
    /// What its rights hang on; `None` if it is anonymous.
    standing: Option<Standing>,
    /// The memory that its body may fill.
    _held: Held,
}

impl Gateway {
    /// Answers one request.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        connection: &Connection,
        request: http::Request<Incoming>,
    ) -> http::Response<Outbound> {
        let busy = connection.activity.begin();
        let (mut head, incoming) = request.into_parts();
        if head.uri.path() == HEALTH_PATH && head.method == http::Method::GET {
            return health(self.state()).map(|inner| Outbound { inner, _busy: busy });
        }

        let from_function = matches!(connection.origin, Origin::Function(_));
        let named = ["x-amzn-trace-id", "traceparent"].map(|name| text(&head.headers, name));
        let given = TraceHeader::of_request(named[0], named[1]);
        let mut exchange = Exchange::new(&*self.env, given, from_function);
        if let Some(mut response) = self.preflight(&head) {
            dress(&mut response, Protocol::Json10, &exchange);
            return response.map(|inner| Outbound { inner, _busy: busy });
        }
        let mut shape = Shape { protocol: guess_protocol(&head), namespace: "" };
        let is_of_page = cross_origin::is_of_page(&head);
        let uri = head.uri.clone();
        let is_head = head.method == http::Method::HEAD;
        let is_last = expects_in_vain(&head, &incoming);

        let work = self.process(connection, &mut exchange, &mut shape, &mut head, incoming);
        let result = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
            Err(Error::internal(&format!("{} {} panicked", exchange.service, exchange.operation)))
        });

        let (error, mut response) = match result {
            Ok(response) => (None, response),
            Err(error) => {
                let context = ErrorContext {
                    protocol: shape.protocol,
                    namespace: shape.namespace,
                    request_id: exchange.request_id,
                    resource: uri.path(),
                    head: is_head,
                };
                let response = render(&error, &context);
                (Some(error), response)
            }
        };
        allow_any_origin(uri.path(), response.headers_mut());
        if is_of_page {
            cross_origin::let_page_read(shape.protocol, response.headers_mut());
        }
        dress(&mut response, shape.protocol, &exchange);
        let status = response.status().as_u16();
        // Said, so that the client does not send its next request into a connection that is about to end.
        if is_last || status >= 400 && connection.activity.has_unread() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let traced = response.extensions().get::<Traced>().is_some();
        exchange.record(&*self.env, self.spans.as_deref(), status, error.as_ref(), traced).await;
        response.map(|inner| Outbound { inner, _busy: busy })
    }

    /// Everything that can fail.
    async fn process(
        self: &Arc<Self>,
        connection: &Connection,
        exchange: &mut Exchange,
        shape: &mut Shape,
        head: &mut Parts,
        incoming: Incoming,
    ) -> Result<Response, Error> {
        check_head(head)?;
        let handshake = Handshake::take(head, &connection.activity);
        let Authentic { api, caller, body, standing, _held } =
            self.authenticate(connection, exchange, shape, head, incoming).await?;
        if api.signing_name() == "s3"
            && let Some(bucket) = self.bucket_of(head).map(str::to_owned)
        {
            put_bucket_in_path(&mut head.uri, &bucket);
        }
        exchange.caller = Some(caller.clone());
        let context = RequestContext {
            caller,
            request_id: exchange.request_id,
            trace: exchange.inner_trace(),
            region: self.region.clone(),
            received_at: exchange.received_at,
            endpoint: connection.endpoint(&head.headers),
        };
        let (taken, ()) = http::Request::new(()).into_parts();
        let request = Request { head: std::mem::replace(head, taken), body, context };
        let mut response = self.carry_out(&*api, request, &mut exchange.operation).await?;
        match (aws::live::take(&mut response), standing) {
            (None, _) => Ok(response),
            (Some(live), Some(standing)) => self.go_on(live, response, standing, handshake),
            (Some(_), None) => Err(Failure::Missing.into_error(api.protocol())),
        }
    }

    /// Parses, authorises and handles a request whose caller is known. The handler, once begun, runs to its end
    /// even if the client leaves; what comes before it does not.
    pub(crate) async fn carry_out(
        &self,
        api: &dyn Api,
        request: Request,
        name: &mut &'static str,
    ) -> Result<Response, Error> {
        let caller = request.context.caller.clone();
        let operation = api.parse(request).await?;
        *name = operation.name();
        let headers = operation.headers();
        let caller = operation.caller().unwrap_or(caller);
        let result = self.authorized(api, &caller, operation).await;
        let Some(headers) = headers else { return result };
        match result {
            Ok(mut response) => {
                response.headers_mut().extend(headers);
                Ok(response)
            }
            Err(mut error) => {
                error.headers.get_or_insert_default().extend(headers);
                Err(error)
            }
        }
    }

    /// Asks for an operation's rights and handles it.
    async fn authorized(
        &self,
        api: &dyn Api,
        caller: &Caller,
        operation: Box<dyn Operation>,
    ) -> Result<Response, Error> {
        let needs = operation.access();
        for (i, needs) in needs.chunks(RIGHTS_AT_ONCE).enumerate() {
            // A thousand keys under costly policies take their time; others get theirs in between.
            if i > 0 {
                tokio::task::yield_now().await;
            }
            let verdict = self.authorizer.authorize(caller, needs).await;
            verdict.map_err(|error| denial(error, api.protocol()))?;
        }
        let mut response = ToItsEnd::new(operation.handle(), self.detached.clone()).await?;
        if aws::live::is_live(&response) {
            response.extensions_mut().insert(Granted(caller.clone()));
        }
        Ok(response)
    }

    /// Finds the service and establishes who calls.
    async fn authenticate(
        &self,
        connection: &Connection,
        exchange: &mut Exchange,
        shape: &mut Shape,
        head: &mut Parts,
        incoming: Incoming,
    ) -> Result<Authentic, Error> {
        let url = self.function_url(head);
        // A browser asks before it sends the request that is signed; what it asks about may be a signed URL.
        let is_question = head.method == http::Method::OPTIONS;
        if let Some(api) = &url {
            exchange.service = api.signing_name();
            *shape = Shape { protocol: api.protocol(), namespace: api.namespace() };
            // An `Authorization` of another kind is the function's affair.
            if is_question || !is_signed(head) {
                return self.anonymous(connection, api.clone(), shape, head, incoming);
            }
        }
        if is_question {
            return self.admit_anonymous(connection, exchange, shape, head, incoming).await;
        }
        let read = Presented::read(head).map_err(|failure| {
            if url.is_none() {
                shape.protocol = self.protocol_of_path(head);
            }
            failure.into_error(shape.protocol)
        });
        let Some(presented) = read? else {
            if sigv2::is_presented(head) {
                return self.authenticate_v2(connection, exchange, shape, head, incoming).await;
            }
            return self.admit_anonymous(connection, exchange, shape, head, incoming).await;
        };
        let service = presented.service();
        let api = match url {
            Some(api) if service == "lambda" => api,
            Some(_) => return Err(no_service(service)),
            None => self.api(service).ok_or_else(|| no_service(service))?,
        };
        exchange.service = api.signing_name();
        *shape = Shape { protocol: api.protocol(), namespace: api.namespace() };
        let refuse = |failure: Failure| failure.into_error(shape.protocol);

        let now = exchange.received_at;
        self.verifier.precheck(&presented, now).map_err(refuse)?;
        let (access_key_id, token) = (presented.access_key_id(), presented.session_token());
        let credential = self.credential(access_key_id, token, shape.protocol).await?;

        let inbound = self.inbound(connection, incoming, shape.protocol);
        let (inbound, held) = self.counted(&*api, head, inbound)?;
        let mut inbound = Some(inbound);
        let mut whole = None;
        if presented.payload() == Payload::FromBody
            && let Some(inbound) = inbound.take_if(|inbound| !inbound.is_end_stream())
        {
            whole = Some(body::collect(inbound.boxed_unsync(), api.max_signed_body_bytes()).await?);
        }
        let hash = whole.as_ref().map(|bytes| Sha256::digest(bytes).into());
        let verified =
            self.verifier.verify(&presented, head, &credential, now, hash.as_ref()).map_err(refuse)?;

        let standing = Standing {
            access_key_id: access_key_id.to_owned(),
            session_token: token.map(str::to_owned),
            expires_at: credential.expires_at,
        };
        let caller = self.caller(connection, access_key_id, credential);
        let source = presented.source();
        if api.signing_name() == "s3" {
            let at = Some(presented.time());
            let place = if source == Source::Header { Place::Header } else { Place::Query };
            head.extensions.insert(Signed { version: 4, place, at, payload: Some(presented.payload()) });
        }
        strip(head, source);
        let body = match (whole, inbound, verified) {
            (Some(bytes), _, _) => body::full(bytes),
            (None, Some(inbound), Verified::Whole) => inbound.boxed_unsync(),
            (None, Some(inbound), Verified::Sha256(expected)) if inbound.is_end_stream() => {
                checked::check_sha256(&expected, &Sha256::digest([]).into())?;
                inbound.boxed_unsync()
            }
            (None, Some(inbound), Verified::Sha256(expected)) => {
                checked::Checked::new(inbound, expected).boxed_unsync()
            }
            (None, Some(inbound), Verified::Chunked(framing)) => {
                chunked::decode(head, inbound, *framing)?.boxed_unsync()
            }
            (None, None, _) => body::full(""),
        };
        Ok(Authentic { api, caller, body, standing: Some(standing), _held: held })
    }

    /// The same for the old presigned URLs of S3.
    async fn authenticate_v2(
        &self,
        connection: &Connection,
        exchange: &mut Exchange,
        shape: &mut Shape,
        head: &mut Parts,
        incoming: Incoming,
    ) -> Result<Authentic, Error> {
        let api = self.api("s3").ok_or_else(|| no_service("s3"))?;
        exchange.service = api.signing_name();
        *shape = Shape { protocol: api.protocol(), namespace: api.namespace() };
        let refuse = |failure: Failure| failure.into_error(shape.protocol);
        let presented = sigv2::Presented::read(head).map_err(refuse)?;
        let (id, token) = (presented.access_key_id(), presented.session_token());
        let credential = self.credential(id, token, shape.protocol).await?;
        let bucket = self.bucket_of(head);
        presented.verify(head, bucket, &credential, exchange.received_at).map_err(refuse)?;
        let caller = self.caller(connection, id, credential);
        head.extensions.insert(Signed { version: 2, place: Place::Query, at: None, payload: None });
        sigv2::strip(head);
        let body = self.inbound(connection, incoming, shape.protocol).boxed_unsync();
        Ok(Authentic { api, caller, body, standing: None, _held: Held::default() })
    }

    async fn credential(
        &self,
        access_key_id: &str,
        token: Option<&str>,
        protocol: Protocol,
    ) -> Result<Credential, Error> {
        let found = self.credentials.find(access_key_id, token).await?;
        found.ok_or_else(|| Failure::unknown(access_key_id, token).into_error(protocol))
    }

    fn caller(&self, connection: &Connection, access_key_id: &str, credential: Credential) -> Caller {
        Caller {
            account: credential.principal.account().unwrap_or(self.account),
            principal: credential.principal,
            access_key_id: Some(access_key_id.to_owned()),
            origin: connection.origin.clone(),
            session_policy: credential.session_policy,
        }
    }

    /// The bucket in the host name, for S3.
    pub(crate) fn bucket_of<'a>(&self, head: &'a Parts) -> Option<&'a str> {
        bucket_of_host(text(&head.headers, HOST.as_str())?, &self.config.domains)
    }

    /// Lets a request without a signature through to the services that decide themselves.
    async fn admit_anonymous(
        &self,
        connection: &Connection,
        exchange: &mut Exchange,
        shape: &mut Shape,
        head: &mut Parts,
        incoming: Incoming,
    ) -> Result<Authentic, Error> {
        let missing = |shape: &Shape| Failure::Missing.into_error(shape.protocol);
        let api = self.route_unsigned(head).await?.ok_or_else(|| missing(shape))?;
        exchange.service = api.signing_name();
        *shape = Shape { protocol: api.protocol(), namespace: api.namespace() };
        if !api.accepts_anonymous() {
            return Err(missing(shape));
        }
        self.anonymous(connection, api, shape, head, incoming)
    }

    /// A request without a signature, for a service that takes such.
    fn anonymous(
        &self,
        connection: &Connection,
        api: std::sync::Arc<dyn Api>,
        shape: &Shape,
        head: &mut Parts,
        incoming: Incoming,
    ) -> Result<Authentic, Error> {
        let caller = Caller {
            principal: Principal::Anonymous,
            account: self.account,
            access_key_id: None,
            origin: connection.origin.clone(),
            session_policy: None,
        };
        let inbound = self.inbound(connection, incoming, shape.protocol);
        let body = match text(&head.headers, "x-amz-content-sha256") {
            Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER") => {
                chunked::decode(head, inbound, chunked::Framing::unsigned())?.boxed_unsync()
            }
            Some(streaming) if streaming.starts_with("STREAMING-") => {
                return Err(Failure::Missing.into_error(shape.protocol));
            }
            _ => inbound.boxed_unsync(),
        };
        Ok(Authentic { api, caller, body, standing: None, _held: Held::default() })
    }

    fn inbound(&self, connection: &Connection, incoming: Incoming, protocol: Protocol) -> Inbound {
        let (env, timeout): (&SharedEnv, _) = (&self.env, self.config.stall_timeout());
        Inbound::new(incoming, connection.activity.clone(), env, timeout, protocol)
    }

    /// The body of a request that may be kept in memory, and the memory that it takes as it arrives.
    fn counted(&self, api: &dyn Api, head: &Parts, inbound: Inbound) -> Result<(Counted, Held), Error> {
        if api.protocol() == Protocol::RestXml {
            return Ok(Counted::new(inbound, None, &self.env));
        }
        let most = api.max_signed_body_bytes();
        let announced =
            text(&head.headers, CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok());
        if announced.is_some_and(|length| length > most as u64) {
            return Err(Error::too_large(most));
        }
        let all = (self.config.max_held_body_bytes / HELD_UNIT_BYTES).max(1);
        Ok(Counted::new(inbound, Some((self.held.clone(), all)), &self.env))
    }
}

/// Whether a client waits to be told to go on with a body that has no bytes. It is not told so here, since there is
/// nothing to wait for; but botocore, answered at once, misreads the next answer on the connection, which AWS never has
/// it do. So that is the connection's last.
fn expects_in_vain(head: &Parts, incoming: &Incoming) -> bool {
    head.headers.contains_key(EXPECT) && incoming.is_end_stream()
}

/// Whether a request carries a signature of version 4.
fn is_signed(head: &Parts) -> bool {
    text(&head.headers, AUTHORIZATION.as_str()).is_some_and(|value| value.starts_with("AWS4-"))
        || head.uri.query().is_some_and(|query| query.contains("X-Amz-Signature="))
}

/// How errors look, as far as is known.
#[derive(Debug, Clone, Copy)]
struct Shape {
    protocol: Protocol,
    namespace: &'static str,
}

/// What no request may do, signed or not: say twice who it is for or from, or not at all.
fn check_head(head: &Parts) -> Result<(), Error> {
    let count = |name| head.headers.get_all(name).iter().count();
    let hosts = count(HOST);
    let needs_host = head.version >= http::Version::HTTP_11;
    if hosts > 1 || (hosts == 0 && needs_host) || count(AUTHORIZATION) > 1 {
        let message = "A request must have one Host header and at most one Authorization header.";
        return Err(Error::new(ErrorKind::Invalid, "InvalidRequest", message));
    }
    Ok(())
}

/// The headers that every answer has.
fn dress(response: &mut Response, protocol: Protocol, exchange: &Exchange) {
    if !response.headers().contains_key(CONTENT_TYPE) && response.body().size_hint().exact() != Some(0) {
        let value = HeaderValue::from_static(content_type(protocol));
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    request_id_headers(response.headers_mut(), protocol, exchange.request_id);
}

fn health(state: State) -> Response {
    let (status, name) = match state {
        State::Starting => (503, "starting"),
        State::Ready => (200, "ready"),
        State::Stopping => (503, "stopping"),
    };
    let mut response = aws::json::output_with_status(status, &serde_json::json!({ "status": name }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
