//! The service as the pipeline sees it: a request in, an authorised operation, an answer out.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws::chunked::Trailers;
use aws::{
    Access, Api, Body, Caller, Operation, Protocol, Request, RequestContext, Response, Signed, Traced,
};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use types::{ErrorKind, Principal};

use crate::access::{RequestFacts, Sides};
use crate::checksum::{Expected, Hashers};
use crate::ops::MAX_XML_BYTES;
use crate::ops::post::{Fields, PostObject};
use crate::route::{Answer, BodyKind, COPY_SOURCE, Query, Route, copy_source};
use crate::said::{Said, ToDelete};
use crate::service::{Cx, Inner, S3, State};
use crate::website::{self, Visit};
use crate::{Error, access_log, cors, dialect, encryption, form, notify, refuse, schema};

#[async_trait]
impl Api for S3 {
    fn signing_name(&self) -> &'static str {
        "s3"
    }

    fn protocol(&self) -> Protocol {
        Protocol::RestXml
    }

    async fn holds(&self, path: &str) -> Result<bool, aws::Error> {
        let (bucket, _) = bucket_and_key(path)?;
        Ok(self.inner.home(&bucket).await?.is_some())
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, aws::Error> {
        let Request { mut head, body, context } = request;
        if head.method == Method::OPTIONS {
            return self.preflight(&head).await;
        }
        if website::is_asked(&head.headers) {
            return self.visit(head, context).await;
        }
        let query = Query::parse(head.uri.query().unwrap_or_default());
        if let Some(boundary) = form_boundary(&head) {
            return self.post(head, &boundary, body, context).await;
        }
        let route = Route::of(&head.method, head.uri.path(), &query, &head.headers)?;
        refuse::check(&head.headers)?;
        encryption::check(&head.headers, matches!(route.name, "GetObject" | "HeadObject"))?;
        let trailers = head.extensions.remove::<Trailers>();
        let signed = head.extensions.remove::<Signed>();
        let mut body = Some(body);
        let mut xml = None;
        let (mut said, mut unreadable) = (Said::Nothing, None);
        if Said::matters(route.name) {
            let bytes = collect(body.take().unwrap_or_else(|| aws::body::full(""))).await?;
            match Said::read(route.name, &bytes) {
                Ok(read) => said = read,
                Err(error) => unreadable = Some(error),
            }
            xml = Some(bytes);
        }
        let home = match &route.bucket {
            Some(bucket) => self.inner.home(bucket).await?,
            None => None,
        };
        let source = if head.headers.contains_key(COPY_SOURCE) && route.key.is_some() {
            Some(copy_source(&head.headers)?.bucket)
        } else {
            None
        };
        let source_home = match &source {
            None => None,
            Some(bucket) if route.bucket.as_ref() == Some(bucket) => home.clone(),
            Some(bucket) => self.inner.home(bucket).await?,
        };
        if let (Some(bucket), None, Principal::Anonymous) = (&route.bucket, &home, &context.caller.principal)
        {
            return Err(Error::NoSuchBucket(bucket.clone()).into());
        }
        let access = route.access(&query, &head.headers, &said, self.inner.env.now())?;
        let sides = Sides {
            inner: &self.inner,
            caller: &context.caller,
            headers: &head.headers,
            facts: RequestFacts { operation: route.name, signed },
            homes: [
                route.bucket.as_deref().zip(home.as_deref()),
                source.as_deref().zip(source_home.as_deref()),
            ],
        };
        let access = sides.guard(access).await?;
        let (access, denied) = match route.name {
            "DeleteObjects" => self.permitted(&context.caller, access, said.deletions()).await?,
            _ => (access, HashMap::new()),
        };
        let cors =
            home.as_ref().and_then(|home| cors::of_request(&home.cors, head.method.as_str(), &head.headers));
        let state = State {
            caused: Arc::default(),
            context,
            route,
            signed,
            home,
            source_home,
            denied,
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers.clone(),
            trailers,
            body: Mutex::new(body),
            answer: Mutex::default(),
            failure: Mutex::default(),
            facts: Mutex::default(),
        };
        let protocol = self.protocol.clone();
        let cx = Cx { inner: self.inner.clone(), state: Arc::new(state) };
        Ok(Box::new(S3Operation { protocol, cx, head, access, cors, xml, unreadable }))
    }
}

/// The boundary of a form that is sent to a bucket.
fn form_boundary(head: &http::request::Parts) -> Option<String> {
    let content_type = head.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let to_bucket = head.method == Method::POST && head.uri.query().unwrap_or_default().is_empty();
    to_bucket.then(|| form::boundary(content_type)).flatten()
}

/// The bucket and the key in a path.
fn bucket_and_key(path: &str) -> Result<(String, String), Error> {
    let path = percent_encoding::percent_decode_str(path).decode_utf8().map_err(|_| Error::InvalidUri)?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    Ok((bucket.to_owned(), key.to_owned()))
}

impl S3 {
    /// The rights to delete those keys that the caller may delete, and why it may not delete the others.
    async fn permitted(
        &self,
        caller: &Caller,
        access: Vec<Access>,
        deleted: &[ToDelete],
    ) -> Result<(Vec<Access>, HashMap<(String, Option<String>), String>), aws::Error> {
        let authorizer = &self.inner.rights.authorizer;
        let mut denied = HashMap::new();
        if caller.principal == Principal::Anonymous || authorizer.authorize(caller, &access).await.is_ok() {
            return Ok((access, denied));
        }
        let mut allowed = Vec::new();
        for (object, needs) in deleted.iter().zip(access.chunks(access.len() / deleted.len())) {
            match authorizer.authorize(caller, needs).await {
                Ok(()) => allowed.extend_from_slice(needs),
                Err(error) if error.kind == ErrorKind::Denied => {
                    denied.insert((object.key.clone(), object.version.clone()), error.message);
                }
                Err(error) => return Err(error),
            }
        }
        // Who may delete none of them is refused as a whole: nothing goes on without a right.
        if allowed.is_empty() {
            return Ok((access, HashMap::new()));
        }
        Ok((allowed, denied))
    }

    /// A browser's request to a web site.
    async fn visit(
        &self,
        head: http::request::Parts,
        context: RequestContext,
    ) -> Result<Box<dyn Operation>, aws::Error> {
        let (bucket, key) = bucket_and_key(head.uri.path())?;
        let home = self.inner.home(&bucket).await?;
        let (method, headers, inner) = (head.method, head.headers, self.inner.clone());
        Ok(Box::new(Visit { inner, method, headers, bucket, key, home, context }))
    }

    /// An upload by a form.
    async fn post(
        &self,
        head: http::request::Parts,
        boundary: &str,
        body: Body,
        mut context: RequestContext,
    ) -> Result<Box<dyn Operation>, aws::Error> {
        let (bucket, rest) = bucket_and_key(head.uri.path())?;
        if !rest.is_empty() {
            return Err(Error::MethodNotAllowed.into());
        }
        let home = self.inner.home(&bucket).await?.ok_or_else(|| Error::NoSuchBucket(bucket.clone()))?;
        let (fields, file) = Fields::of(form::read(boundary, body).await?);
        let (signed, lengths) = fields.authenticate(&self.inner, &bucket, &context.caller).await?;
        let (signer, signed) = signed.unzip();
        if let Some(signer) = &signer {
            context.caller = signer.clone();
        }
        let headers = fields.headers()?;
        refuse::check(&headers)?;
        encryption::check(&headers, false)?;
        let route = Route::post(bucket.clone(), fields.key()?);
        let said = Said::Tags(fields.tags(&headers)?);
        let mut told = headers.clone();
        told.remove("x-amz-tagging");
        let access = route.access(&Query::parse(""), &told, &said, self.inner.env.now())?;
        let homes = [Some((&*bucket, &*home)), None];
        let facts = RequestFacts { operation: route.name, signed };
        let sides =
            Sides { inner: &self.inner, caller: &context.caller, headers: &head.headers, facts, homes };
        let access = sides.guard(access).await?;
        let cors = cors::of_request(&home.cors, "POST", &head.headers);
        let state = State {
            caused: Arc::default(),
            context,
            route,
            signed,
            home: Some(home),
            source_home: None,
            denied: HashMap::new(),
            query: String::new(),
            headers,
            trailers: None,
            body: Mutex::default(),
            answer: Mutex::default(),
            failure: Mutex::default(),
            facts: Mutex::default(),
        };
        let cx = Cx { inner: self.inner.clone(), state: Arc::new(state) };
        Ok(Box::new(PostObject { cx, fields, file, signer, lengths, access, cors }))
    }

    /// A browser's question whether it may send a request.
    async fn preflight(&self, head: &http::request::Parts) -> Result<Box<dyn Operation>, aws::Error> {
        let path = percent_encoding::percent_decode_str(head.uri.path()).decode_utf8_lossy();
        let bucket = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let home = self.inner.home(bucket).await?.ok_or_else(|| Error::NoSuchBucket(bucket.to_owned()))?;
        Ok(Box::new(Preflight { answer: cors::preflight(&home.cors, &head.headers)? }))
    }
}

/// A browser's question that is answered with yes.
struct Preflight {
    answer: HeaderMap,
}

#[async_trait]
impl Operation for Preflight {
    fn name(&self) -> &'static str {
        "PreflightRequest"
    }

    /// It says nothing that the bucket's owner did not want told to everybody.
    fn access(&self) -> Vec<Access> {
        Vec::new()
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        let mut response = Response::new(aws::body::full(""));
        response.headers_mut().extend(self.answer);
        Ok(response)
    }
}

async fn collect(body: Body) -> Result<Bytes, aws::Error> {
    aws::body::collect(body, MAX_XML_BYTES).await.map_err(|error| match error.kind {
        ErrorKind::TooLarge => {
            aws::Error::new(ErrorKind::TooLarge, "MaxMessageLengthExceeded", "Your request was too big.")
                .with_status(400)
        }
        _ => error,
    })
}

/// A request that has been read.
struct S3Operation {
    protocol: s3s::service::S3Service,
    cx: Cx,
    head: http::request::Parts,
    access: Vec<Access>,
    /// What the answer says to a page of another origin.
    cors: Option<HeaderMap>,
    /// The body, where the rights depended on it.
    xml: Option<Bytes>,
    /// What is wrong with that: told to those only who have the right.
    unreadable: Option<Error>,
}

#[async_trait]
impl Operation for S3Operation {
    fn name(&self) -> &'static str {
        self.cx.state.route.name
    }

    fn access(&self) -> Vec<Access> {
        self.access.clone()
    }

    fn headers(&self) -> Option<HeaderMap> {
        self.cors.clone()
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        let (inner, state) = (self.cx.inner.clone(), self.cx.state.clone());
        let asked = state.is_logged().then(|| access_log::RequestLine::of(&self.head));
        let result = match self.answer().await {
            Err(error) if &*error.code == "NoSuchKey" => Err(unknown_key(&inner, &state, error).await),
            result => result,
        };
        if let Some(asked) = asked {
            access_log::record(&inner, &state, &asked, &result);
        }
        result
    }
}

/// The error for a key that is not there: whether it is, is for those to know who may list.
async fn unknown_key(inner: &Arc<Inner>, state: &State, error: aws::Error) -> aws::Error {
    if !matches!(state.route.name, "GetObject" | "HeadObject" | "GetObjectAttributes") {
        return error;
    }
    let caller = &state.context.caller;
    let homes = [state.route.bucket.as_deref().zip(state.home.as_deref()), None];
    let facts = RequestFacts { operation: state.route.name, signed: state.signed };
    let sides = Sides { inner, caller, headers: &state.headers, facts, homes };
    match sides.may(Access::new("s3:ListBucket", state.route.bucket_arn())).await {
        Ok(true) => error,
        Ok(false) => Error::AccessDenied.into(),
        Err(failure) => failure,
    }
}

impl S3Operation {
    async fn answer(self) -> Result<Response, aws::Error> {
        if let Some(error) = self.unreadable {
            return Err(error.into());
        }
        let state = self.cx.state.clone();
        let mut response = match state.route.answer {
            Answer::Operation => self.call().await?,
            Answer::Nothing(_) => {
                self.cx.owner().await?;
                aws::json::empty(204)
            }
            Answer::Absent(_, code, message) => {
                self.cx.owner().await?;
                let bucket = self.cx.bucket().to_owned();
                return Err(Error::Absent { code, message, bucket }.into());
            }
        };
        let id = notify::host_id(state.context.request_id);
        if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert("x-amz-id-2", id);
        }
        if state.caused.load(Ordering::Relaxed) {
            response.extensions_mut().insert(Traced);
        }
        Ok(response)
    }
}

impl S3Operation {
    /// Has the protocol crate read the input, call the operation and write the output.
    async fn call(self) -> Result<Response, aws::Error> {
        let Self { protocol, cx, mut head, xml, .. } = self;
        let state = cx.state;
        let body = match (state.route.body, xml) {
            (_, Some(xml)) => verified(&state, xml)?,
            (BodyKind::Xml, None) => {
                let body = state.body.lock().expect("no holder of this lock panics").take();
                let bytes = collect(body.unwrap_or_else(|| aws::body::full(""))).await?;
                // Checksum headers of this one are those of the object, not of the body.
                if state.route.name == "CompleteMultipartUpload" { bytes } else { verified(&state, bytes)? }
            }
            (BodyKind::None | BodyKind::Object, None) => Bytes::new(),
        };
        schema::check(state.route.name, &body)?;
        dialect::strip(&mut head.headers, state.route.body, body.len());
        let mut request = http::Request::from_parts(head, s3s::Body::from(body));
        request.extensions_mut().insert(state.clone());
        let answer = protocol.call(request).await;
        if let Some(failure) = state.failure.lock().expect("no holder of this lock panics").take() {
            return Err(failure);
        }
        let answer = answer.map_err(|error| {
            let error: aws::BodyError = error.into();
            aws::Error::internal(&error)
        })?;
        dialect::answer(&state, answer)
    }
}

/// Operations that are refused without a digest of their document.
const DIGESTED: &[&str] = &[
    "DeleteObjects",
    "PutBucketCors",
    "PutBucketLifecycleConfiguration",
    "PutBucketTagging",
    "PutObjectLegalHold",
    "PutObjectLockConfiguration",
    "PutObjectRetention",
    "PutObjectTagging",
];

/// An XML body whose digests, if any were given, are those of its bytes.
fn verified(state: &State, xml: Bytes) -> Result<Bytes, Error> {
    let expected = Expected::read(&state.headers)?;
    if expected.is_empty() && DIGESTED.contains(&state.route.name) {
        return Err(Error::invalid_request(
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        ));
    }
    let mut hashers = Hashers::new(expected.algorithm);
    hashers.update(&xml);
    expected.verify(&hashers.finish(), state.trailers.as_ref())?;
    Ok(xml)
}
