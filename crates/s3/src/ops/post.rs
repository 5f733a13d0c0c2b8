//! PostObject: an upload by an HTML form (Amazon S3 API reference, "POST Object").
//!
//! The fields say what headers say elsewhere; the policy that is signed with them says what they may say. The length of
//! the file is known at its end only: what is not small waits in a blob of its own, sealed under a key that nobody
//! keeps, and is taken in from there like any other body.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use aws::sigv4::{Failure, FormSignature};
use aws::xml::Xml;
use aws::{Access, Body, Caller, Operation, Place, Response, Signed};
use blobs::ByteStream;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::checksum::{Algorithm, Expected, Hashers};
use crate::encryption;
use crate::form::{Form, FormFile};
use crate::garbage::Writing;
use crate::ops::conditions::WriteConditions;
use crate::ops::install::{Install, placed, settled};
use crate::ops::{MAX_KEY_BYTES, MAX_UPLOAD_BYTES, system_headers, tagging, user_metadata, website};
use crate::post_policy::PostPolicy;
use crate::service::{Cx, Inner};
use crate::tables::Object;
use crate::{Error, ingest};

/// Stands for the name of the file, in a key.
const FILE_NAME: &str = "${filename}";

/// A file up to this size is taken in without a detour.
const HELD_BYTES: usize = 1 << 20;

/// Fields that become headers of the same name.
const HEADERS: &[&str] = &[
    "acl",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
];

/// What a form says before its file.
pub(crate) struct Fields {
    fields: Vec<(String, String)>,
    file_name: String,
}

impl Fields {
    /// The fields of a form, and its file.
    pub(crate) fn of(form: Form) -> (Self, FormFile) {
        (Self { fields: form.fields, file_name: form.file_name }, form.file)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// The key that it uploads to.
    pub(crate) fn key(&self) -> Result<String, Error> {
        let key = self.field("key").filter(|key| !key.is_empty());
        let message = "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.";
        let key = key.ok_or_else(|| Error::argument("key", "", message))?;
        let key = key.replace(FILE_NAME, &self.file_name);
        if key.len() > MAX_KEY_BYTES { Err(Error::KeyTooLong { size: key.len() }) } else { Ok(key) }
    }

    /// What an upload by PUT would say in its headers.
    pub(crate) fn headers(&self) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.fields {
            let amazon = name.starts_with("x-amz-")
                && ![
                    "x-amz-algorithm",
                    "x-amz-credential",
                    "x-amz-date",
                    "x-amz-signature",
                    "x-amz-security-token",
                ]
                .contains(&&**name);
            if !amazon && !HEADERS.contains(&&**name) {
                continue;
            }
            let header = if name == "acl" { "x-amz-acl" } else { name };
            let invalid = || Error::argument("field", name.clone(), "The field can not be used");
            let header = HeaderName::try_from(header).map_err(|_| invalid())?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?;
            headers.insert(header, value);
        }
        Ok(headers)
    }

    /// The tags that the object is to have.
    pub(crate) fn tags(&self, headers: &HeaderMap) -> Result<Vec<(String, String)>, Error> {
        match self.field("tagging") {
            Some(xml) => tagging::of_document(xml.as_bytes()),
            None => tagging::of_header(headers.get("x-amz-tagging").and_then(|tags| tags.to_str().ok())),
        }
    }

    /// Who signed it and how, if anybody did; and the sizes that its file may have.
    pub(crate) async fn authenticate(
        &self,
        inner: &Inner,
        bucket: &str,
        caller: &Caller,
    ) -> Result<(Option<(Caller, Signed)>, (u64, u64)), aws::Error> {
        let Some(policy) = self.field("policy") else { return Ok((None, (0, MAX_UPLOAD_BYTES))) };
        let missing = |name: &'static str| {
            let message = format!(
                "Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields."
            );
            Error::argument(name, "", message)
        };
        let field = |name: &'static str| self.field(name).ok_or_else(|| missing(name));
        let refuse = |failure: Failure| failure.into_error(aws::Protocol::RestXml);
        let token = self.field("x-amz-security-token");
        let (now, region) = (inner.env.now(), inner.region.as_str());
        let find = async |id: &str| {
            let unknown = || refuse(Failure::unknown(id, token));
            inner.rights.credentials.find(id, token).await?.ok_or_else(unknown)
        };
        let signed = |version, at| Signed { version, place: Place::Form, at, payload: None };
        let (id, credential, signed) = match self.field("awsaccesskeyid") {
            Some(id) => {
                let credential = find(id).await?;
                let signature = field("signature")?;
                aws::sigv2::verify_form(&credential, token, policy, signature, now).map_err(refuse)?;
                (id, credential, signed(2, None))
            }
            None => {
                let signature = FormSignature {
                    algorithm: field("x-amz-algorithm")?,
                    credential: field("x-amz-credential")?,
                    signature: field("x-amz-signature")?,
                    token,
                    policy,
                };
                let at = aws::sigv4::parse_amz_date(field("x-amz-date")?);
                let id = signature.access_key_id().map_err(refuse)?;
                let credential = find(id).await?;
                signature.verify(&credential, region, now).map_err(refuse)?;
                (id, credential, signed(4, at))
            }
        };
        let policy = PostPolicy::read(policy, now)?;
        // The policy is about the key that there will be, with the file's name in it.
        let mut fields = self.fields.clone();
        for (_, value) in fields.iter_mut().filter(|(name, _)| name == "key") {
            *value = value.replace(FILE_NAME, &self.file_name);
        }
        // The bucket is the one that is asked, whatever a field says.
        fields.retain(|(name, _)| name != "bucket");
        fields.push(("bucket".to_owned(), bucket.to_owned()));
        policy.check(&fields)?;
        let signer = Caller {
            account: credential.principal.account().unwrap_or(caller.account),
            principal: credential.principal,
            access_key_id: Some(id.to_owned()),
            session_policy: credential.session_policy,
            origin: caller.origin.clone(),
        };
        Ok((Some((signer, signed)), policy.lengths()))
    }
}

/// The operation, ready to be authorised.
pub(crate) struct PostObject {
    pub(crate) cx: Cx,
    pub(crate) fields: Fields,
    pub(crate) file: FormFile,
    pub(crate) signer: Option<Caller>,
    pub(crate) lengths: (u64, u64),
    pub(crate) access: Vec<Access>,
    pub(crate) cors: Option<HeaderMap>,
}

#[async_trait]
impl Operation for PostObject {
    fn name(&self) -> &'static str {
        "PostObject"
    }

    fn access(&self) -> Vec<Access> {
        self.access.clone()
    }

    fn caller(&self) -> Option<Caller> {
        self.signer.clone()
    }

    fn headers(&self) -> Option<HeaderMap> {
        self.cors.clone()
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        Ok(self.carry_out().await?)
    }
}

/// A file that was read to its end.
struct File {
    body: Body,
    size: u64,
    /// Where it waits, until it is taken in.
    _waiting: Option<Writing>,
}

fn too_large(size: u64, most: u64) -> Error {
    Error::EntityTooLarge { proposed: size, limit: most }
}

/// Reads the file, of at most `most` bytes.
async fn receive(inner: &Arc<Inner>, mut file: FormFile, most: u64) -> Result<File, Error> {
    let mut held = Vec::new();
    while held.len() <= HELD_BYTES {
        match file.next().await? {
            Some(bytes) => held.extend_from_slice(&bytes),
            None => {
                let size = held.len() as u64;
                return if size > most {
                    Err(too_large(size, most))
                } else {
                    Ok(File { body: aws::body::full(held), size, _waiting: None })
                };
            }
        }
    }
    let waiting = Writing::begin(inner).await?;
    // Of a length that no file has, since its own is not known yet.
    let key = encryption::managed(&inner.master, &*inner.env).key;
    let count = Arc::new(AtomicU64::new(0));
    let first = stream::once(async move { Ok(Bytes::from(held)) });
    let counted = {
        let count = count.clone();
        first.chain(file.into_stream()).map(move |piece| {
            let piece = piece?;
            let size = count.fetch_add(piece.len() as u64, Ordering::Relaxed) + piece.len() as u64;
            if size > most { Err(blobs::Error::Body(Box::new(too_large(size, most)))) } else { Ok(piece) }
        })
    };
    let sealed = key.of_blob(waiting.id, u64::MAX).seal_stream(counted.boxed());
    let stored = inner.blobs.put(waiting.id, sealed).await?;
    let size = count.load(Ordering::Relaxed);
    let sealed: ByteStream = inner.blobs.get(waiting.id, 0..stored).await?;
    let plain = key.of_blob(waiting.id, u64::MAX).open_stream(sealed, 0..size);
    let frames = plain.map_ok(Frame::data).map_err(|error| Box::new(error) as aws::BodyError);
    Ok(File { body: StreamBody::new(frames).boxed_unsync(), size, _waiting: Some(waiting) })
}

impl PostObject {
    async fn carry_out(self) -> Result<Response, Error> {
        let Self { cx, fields, file, lengths: (least, most), .. } = self;
        let cx = &cx;
        let home = cx.home().await?;
        let acl = home.acl_of_new(&cx.state.headers, &cx.state.context.caller)?;
        let seal = cx.seal().await?;
        let metadata = cx.state.headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix("x-amz-meta-")?;
            Some((name.to_owned(), value.to_str().ok()?.to_owned()))
        });
        let metadata = user_metadata(Some(metadata.collect()))?;
        let tags = fields.tags(&cx.state.headers)?;
        let expected = Expected::read(&cx.state.headers)?;
        let algorithm = expected.algorithm.unwrap_or(Algorithm::Crc64Nvme);
        let key = cx.key().to_owned();
        let answer = Answer::asked(&fields, cx, &key)?;
        let (redirect, lock) = (website::redirect(cx)?, cx.lock()?);
        let File { body, size, _waiting } = receive(&cx.inner, file, most.min(MAX_UPLOAD_BYTES)).await?;
        if size < least {
            return Err(Error::UploadTooSmall { proposed: size, limit: least });
        }
        let limit = cx.inner.config.inline_limit_bytes;
        let hashers = Hashers::new([algorithm]);
        let (content, digests) = ingest::body_of(&cx.inner, body, size, limit, hashers, Some(&seal)).await?;
        expected.verify(&digests, None)?;
        let (data, bytes, along) = placed(&content);
        let object = Object {
            size,
            etag: encryption::etag(Some(&seal), &digests),
            modified: cx.now().as_second(),
            data,
            checksum: digests.full(algorithm),
            headers: system_headers(cx),
            metadata,
            tags,
            parts: 0,
            upload: None,
            encryption: Some(seal.encryption.clone()),
            version: None,
            acl,
            redirect,
            lock,
        };
        let etag = object.etag.clone();
        let install = Install {
            owner: home.owner,
            bucket: cx.bucket().to_owned(),
            key,
            object,
            bytes,
            conditions: WriteConditions::default(),
            event: "ObjectCreated:Post",
            cause: cx.cause(),
            at_ms: cx.now().as_millisecond(),
            noise: if home.versioned { cx.noise() } else { 0 },
            unchanged: None,
            along,
            dead: Vec::new(),
        };
        let installed = install.commit(&cx.inner).await?.ok();
        settled(content);
        let mut response = answer.response(&etag);
        let headers = response.headers_mut();
        encryption::show(Some(&seal.encryption), &cx.state.headers, headers);
        if let Some(version) = installed.and_then(crate::ops::install::Installed::shown)
            && let Ok(version) = HeaderValue::from_str(&version)
        {
            headers.insert("x-amz-version-id", version);
        }
        Ok(response)
    }
}

/// How the form wants to be answered.
struct Answer {
    status: StatusCode,
    /// Where the browser is sent.
    redirect: Option<String>,
    bucket: String,
    key: String,
    location: String,
}

impl Answer {
    fn asked(fields: &Fields, cx: &Cx, key: &str) -> Result<Self, Error> {
        let redirect = fields.field("success_action_redirect").or_else(|| fields.field("redirect"));
        let redirect = redirect.filter(|to| to.starts_with("http://") || to.starts_with("https://"));
        let status = match fields.field("success_action_status") {
            Some("200") => StatusCode::OK,
            Some("201") => StatusCode::CREATED,
            Some(_) | None => StatusCode::NO_CONTENT,
        };
        let bucket = cx.bucket().to_owned();
        let encoded = crate::notify::url_encode(key);
        let location = format!("{}/{bucket}/{encoded}", cx.state.context.endpoint);
        Ok(Self { status, redirect: redirect.map(str::to_owned), bucket, key: key.to_owned(), location })
    }

    fn response(self, etag: &str) -> Response {
        let quoted = format!("\"{etag}\"");
        let mut response = Response::new(aws::body::full(""));
        let mut location = self.location.clone();
        *response.status_mut() = self.status;
        if let Some(to) = self.redirect {
            let join = if to.contains('?') { '&' } else { '?' };
            let encode = crate::notify::url_encode;
            location =
                format!("{to}{join}bucket={}&key={}&etag=%22{etag}%22", self.bucket, encode(&self.key));
            *response.status_mut() = StatusCode::SEE_OTHER;
        } else if self.status == StatusCode::CREATED {
            let mut xml = Xml::document();
            xml.element("PostResponse", |xml| {
                xml.text("Location", &self.location);
                xml.text("Bucket", &self.bucket);
                xml.text("Key", &self.key);
                xml.text("ETag", &quoted);
            });
            *response.body_mut() = aws::body::full(xml.finish());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        }
        for (name, value) in [(ETAG, &quoted), (LOCATION, &location)] {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
