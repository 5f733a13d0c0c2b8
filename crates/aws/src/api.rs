//! The seam between the pipeline and the services.
//!
//! A service turns a request into an operation, which says what rights it needs; the pipeline asks for
//! them; only then is the operation handled. No service checks a signature, and none is reached without one.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use types::{Region, RequestId, Timestamp, TraceHeader};

use crate::sigv4::Payload;
use crate::{Access, Body, Caller, Error};

/// How a service's requests, answers and errors look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// JSON 1.0: operation in `X-Amz-Target`.
    Json10,
    /// JSON 1.1.
    Json11,
    /// JSON bodies, operation in method and path; the error code in `x-amzn-ErrorType`.
    RestJson,
    /// XML bodies, operation in method, path and query (S3).
    RestXml,
    /// A form with `Action=`, XML answers (IAM, STS, CloudFormation).
    Query,
}

/// What is known of every request once it is authenticated.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Who calls.
    pub caller: Caller,
    /// The request's id.
    pub request_id: RequestId,
    /// The trace it belongs to.
    pub trace: TraceHeader,
    /// The node's region.
    pub region: Region,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Scheme and authority by which the client reached us (`http://127.0.0.1:4566`), for URLs in answers.
    pub endpoint: Arc<str>,
}

/// In the extensions of a signed request to S3: how it was signed, which its policies may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The version of the signature: 2 or 4.
    pub version: u8,
    /// Where it was.
    pub place: Place,
    /// When it was made, as far as it says.
    pub at: Option<Timestamp>,
    /// How the body takes part in it, as far as it says.
    pub payload: Option<Payload>,
}

/// Where the signature of a request to S3 was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In `Authorization`.
    Header,
    /// In the query.
    Query,
    /// In a form.
    Form,
}

/// An authenticated request.
#[derive(Debug)]
pub struct Request {
    /// Method, raw path and query, headers. `Authorization`, the session token and the signing query parameters
    /// are gone; `x-amz-*` parameters of a presigned URL are headers; `content-length` is the decoded body's. For
    /// S3 the bucket is in the path, even if the client put it into the host name.
    pub head: http::request::Parts,
    /// The body, decoded from `aws-chunked`, its signature checked as it is read. Trailing checksums are in
    /// `head.extensions` as [`crate::chunked::Trailers`], filled when the body has been read to its end.
    pub body: Body,
    /// Who, and which.
    pub context: RequestContext,
}

/// In an answer's extensions: the request ran a function or caused an event, so its hop belongs to their trace
/// even if nobody asked for one.
#[derive(Debug, Clone, Copy)]
pub struct Traced;

/// An answer.
pub type Response = http::Response<Body>;

/// A service, as the pipeline sees it.
#[async_trait]
pub trait Api: Send + Sync + fmt::Debug {
    /// The name in a signature's scope, such as `dynamodb`: requests are routed by it.
    fn signing_name(&self) -> &'static str;

    /// The protocol, by which the pipeline shapes errors.
    fn protocol(&self) -> Protocol;

    /// For `Json10` and `Json11`: the prefix of `X-Amz-Target` (`DynamoDB_20120810`), by which a request
    /// is routed in which the scope is not known. Others: empty.
    fn target_prefix(&self) -> &'static str {
        ""
    }

    /// The XML namespace of `Query` answers, or for JSON the prefix of error names
    /// (`com.amazonaws.dynamodb.v20120810`). Empty: none.
    fn namespace(&self) -> &'static str {
        ""
    }

    /// Whether requests without a signature reach the [`Authorizer`](crate::Authorizer) as anonymous ones. S3
    /// knows public buckets; others refuse such requests before they are parsed.
    fn accepts_anonymous(&self) -> bool {
        self.protocol() == Protocol::RestXml
    }

    /// For `RestJson`: whether a path is one of this service's. A request without a signature does not say which
    /// service it is for; where a path says it, such a request is refused in the service's own words.
    fn has_path(&self, _path: &str) -> bool {
        false
    }

    /// Whether the first segment of a path names something that this service stores: for S3, which requests without a
    /// signature go to if nothing else is known, and whose buckets may be called as other services' paths begin.
    async fn holds(&self, _path: &str) -> Result<bool, Error> {
        Ok(false)
    }

    /// The largest body that is read before its signature can be verified, for clients that do not name its
    /// hash in a header. At least the largest body that an operation takes.
    fn max_signed_body_bytes(&self) -> usize {
        16 * 1024 * 1024
    }

    /// Reads what the request asks for. Bodies of JSON and Query services are small and are collected here
    /// (with the service's own limit); S3 leaves them streaming. Errors of input are found here where that
    /// needs no stored state.
    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, Error>;
}

/// A typed operation, ready to be authorised and handled.
#[async_trait]
pub trait Operation: Send {
    /// The operation's name as in the service's model, such as `PutItem`.
    fn name(&self) -> &'static str;

    /// The rights it needs: all of them. Empty only for operations that everybody may call
    /// (`GetCallerIdentity`).
    fn access(&self) -> Vec<Access>;

    /// Who it turned out to be from, where the body says so and not the headers (a form with its own signature).
    fn caller(&self) -> Option<Caller> {
        None
    }

    /// Headers that every answer to it has, also one that refuses it.
    fn headers(&self) -> Option<HeaderMap> {
        None
    }

    /// Carries it out.
    async fn handle(self: Box<Self>) -> Result<Response, Error>;
}

/// How one part of the platform calls a service: through the pipeline, as a caller, authorised like any
/// other. Errors come back typed; answers in the service's protocol.
#[async_trait]
pub trait Dispatch: Send + Sync + fmt::Debug {
    /// Calls the service of that signing name. The request looks as it would on the wire, unsigned.
    async fn call(
        &self,
        caller: &Caller,
        trace: &TraceHeader,
        service: &str,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, Error>;
}
