//! Requests to one repository of one registry (OCI distribution specification, "Pull"), with the token or the password
//! that it asks for (Docker's "Token Authentication Specification").

use http::{HeaderValue, Response, StatusCode, Uri};
use hyper::body::Incoming;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::challenge::Challenge;
use super::client::{Http, whole};
use super::credentials::Basic;
use super::reference::Reference;
use super::{PullError, is_digest};

const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// What registries take for a manifest at most.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Session<'a> {
    http: &'a Http,
    reference: &'a Reference,
    /// `https://registry.example.com/v2/repository`
    base: String,
    credentials: Option<Basic>,
    /// What the registry wants to see.
    authorization: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        http: &'a Http,
        reference: &'a Reference,
        origin: &str,
        credentials: Option<Basic>,
    ) -> Self {
        let base = format!("{origin}/v2/{}", reference.repository);
        Self { http, reference, base, credentials, authorization: Mutex::default() }
    }

    /// The bytes of a manifest, and its digest.
    pub(super) async fn manifest(
        &self,
        version: &str,
        accept: &'static str,
    ) -> Result<(Vec<u8>, String), PullError> {
        let answer = self.get(&format!("manifests/{version}"), Some(accept)).await?;
        let bytes = whole(answer.into_body(), MAX_MANIFEST_BYTES).await?;
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
        if is_digest(version) && digest != version {
            return Err(self.damaged(version, &digest));
        }
        Ok((bytes, digest))
    }

    /// A blob that is to be read. The reader checks what it gets.
    pub(super) async fn blob(&self, digest: &str) -> Result<Incoming, PullError> {
        Ok(self.get(&format!("blobs/{digest}"), None).await?.into_body())
    }

    pub(super) fn damaged(&self, digest: &str, found: &str) -> PullError {
        PullError::Invalid(format!(
            "{digest} of source image {} is damaged: it is {found}.",
            self.reference.uri
        ))
    }

    async fn get(&self, path: &str, accept: Option<&'static str>) -> Result<Response<Incoming>, PullError> {
        let uri: Uri = format!("{}/{path}", self.base)
            .parse()
            .map_err(|error| PullError::Invalid(format!("{path}: {error}")))?;
        let known = self.authorization.lock().await.clone();
        let mut answer = self.http.get(&uri, accept, known).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let authorization = self.authorize(&answer).await?;
            *self.authorization.lock().await = Some(authorization.clone());
            answer = self.http.get(&uri, accept, Some(authorization)).await?;
        }
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::NOT_FOUND => Err(PullError::Missing(self.reference.uri.clone())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.denied()),
            status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                Err(PullError::Unreachable(format!(
                    "The registry {} can not answer now: {status}.",
                    self.reference.registry
                )))
            }
            status => Err(PullError::Invalid(format!(
                "The registry {} answers {status} for source image {}.",
                self.reference.registry, self.reference.uri
            ))),
        }
    }

    fn denied(&self) -> PullError {
        let registry = &self.reference.registry;
        let why = match &self.credentials {
            Some(_) => "those that this node has for it",
            None => "and this node has none for it",
        };
        PullError::Denied(format!(
            "Lambda does not have permission to access the source image {}. Check the credentials for {registry} \
             ({why}), which the node's operator gives in the file of `hawker serve --registry-credentials`.",
            self.reference.uri
        ))
    }

    /// What the registry asks for.
    async fn authorize(&self, answer: &Response<Incoming>) -> Result<HeaderValue, PullError> {
        match Challenge::of(answer.headers()) {
            Some(Challenge::Basic) => {
                self.credentials.as_ref().map(Basic::header).ok_or_else(|| self.denied())
            }
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service.as_deref()).await,
            None => Err(self.denied()),
        }
    }

    /// A token to read this repository with, and nothing else.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<HeaderValue, PullError> {
        let registry = &self.reference.registry;
        let odd = |why: &str| {
            PullError::Unreachable(format!("The registry {registry} sends to {realm} for a token, {why}."))
        };
        let query = query(service, &self.reference.repository);
        let separator = if realm.contains('?') { '&' } else { '?' };
        let uri: Uri = format!("{realm}{separator}{query}").parse().map_err(|_| odd("which is no URL"))?;
        let credentials = self.credentials.as_ref().map(Basic::header);
        let answer = self.http.get(&uri, None, credentials).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied()),
            _ => return Err(odd("where there is none")),
        }
        let bytes = whole(answer.into_body(), MAX_TOKEN_BYTES).await?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| odd("where there is none"))?;
        let token = token.token.or(token.access_token).ok_or_else(|| odd("where there is none"))?;
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| odd("which can not be sent"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn query(service: Option<&str>, repository: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    query.append_pair("scope", &format!("repository:{repository}:pull"));
    query.finish()
}
