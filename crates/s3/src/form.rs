//! HTML forms (RFC 7578, as browsers send files): the fields first, then the file as it streams.
//!
//! Invariant: what comes before the file is bounded; of the file no more is held than a frame and a boundary.

use aws::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::BodyExt;
use memchr::memmem;

use crate::Error;

/// The most that fields may take, in bytes.
const MAX_FIELDS_BYTES: usize = 20 << 10;
const MAX_FIELDS: usize = 200;

type Frames = stream::BoxStream<'static, Result<Bytes, blobs::Error>>;

/// A form, up to its file.
pub(crate) struct Form {
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) file_name: String,
    pub(crate) file: FormFile,
}

/// The file's bytes, still on their way.
pub(crate) struct FormFile {
    frames: Frames,
    buffer: BytesMut,
    /// What ends it.
    delimiter: Vec<u8>,
}

fn malformed() -> Error {
    Error::MalformedPost
}

/// A parameter of a header's value: `name="value"`.
fn parameter(header: &str, name: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once(';') {
        let after = after.trim_start();
        let (key, value) = after.split_once('=')?;
        let quoted = value.strip_prefix('"');
        let (value, next) = match quoted {
            Some(quoted) => {
                let end = quoted.find('"')?;
                (&quoted[..end], &quoted[end + 1..])
            }
            None => value.split_at(value.find(';').unwrap_or(value.len())),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = next;
    }
    None
}

/// The boundary that a `Content-Type` names, if it is that of a form.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty() && boundary.len() <= 200)
}

impl FormFile {
    async fn more(&mut self) -> Result<bool, Error> {
        match self.frames.try_next().await? {
            Some(frame) => {
                self.buffer.extend_from_slice(&frame);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// What comes before `needle`, which is taken too. At most `limit` bytes are read for it.
    async fn until(&mut self, needle: &[u8], limit: &mut usize) -> Result<Bytes, Error> {
        let mut searched = 0;
        loop {
            if let Some(at) = memmem::find(&self.buffer[searched..], needle) {
                let at = searched + at;
                *limit = limit.checked_sub(at + needle.len()).ok_or(Error::FormFieldsTooLarge)?;
                let before = self.buffer.split_to(at).freeze();
                let _ = self.buffer.split_to(needle.len());
                return Ok(before);
            }
            searched = (self.buffer.len() + 1).saturating_sub(needle.len());
            if self.buffer.len() > *limit {
                return Err(Error::FormFieldsTooLarge);
            }
            if !self.more().await? {
                return Err(malformed());
            }
        }
    }

    /// Whether the boundary follows at once, without the line's end that belongs to it.
    async fn starts_with_boundary(&mut self) -> Result<bool, Error> {
        let bare = self.delimiter[2..].to_vec();
        while self.buffer.len() < bare.len() && bare.starts_with(&self.buffer) {
            if !self.more().await? {
                return Ok(false);
            }
        }
        Ok(self.buffer.starts_with(&bare))
    }

    /// The next bytes of the file; `None` when it has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(at) = memmem::find(&self.buffer, &self.delimiter) {
                if at == 0 {
                    return Ok(None);
                }
                return Ok(Some(self.buffer.split_to(at).freeze()));
            }
            let safe = (self.buffer.len() + 1).saturating_sub(self.delimiter.len());
            if safe > 0 {
                return Ok(Some(self.buffer.split_to(safe).freeze()));
            }
            if !self.more().await? {
                return Err(Error::IncompleteBody);
            }
        }
    }

    /// The rest of the file, as the blob store takes it.
    pub(crate) fn into_stream(self) -> blobs::ByteStream {
        let ours = |error: Error| blobs::Error::Body(Box::new(error));
        stream::try_unfold(self, move |mut file| async move {
            Ok(file.next().await.map_err(ours)?.map(|bytes| (bytes, file)))
        })
        .boxed()
    }
}

/// Reads a form up to its file.
pub(crate) async fn read(boundary: &str, body: Body) -> Result<Form, Error> {
    let frames = body.into_data_stream().map_err(blobs::Error::Body).boxed();
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut file = FormFile { frames, buffer: BytesMut::new(), delimiter: delimiter.clone() };
    let mut limit = MAX_FIELDS_BYTES;
    // The first boundary has nothing before it.
    file.until(format!("--{boundary}\r\n").as_bytes(), &mut limit).await?;
    let mut fields = Vec::new();
    loop {
        let head = file.until(b"\r\n\r\n", &mut limit).await?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let disposition = head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then(|| value.trim().to_owned())
        });
        let disposition = disposition.ok_or_else(malformed)?;
        let name = parameter(&disposition, "name").ok_or_else(malformed)?.to_ascii_lowercase();
        if name == "file" {
            let file_name = parameter(&disposition, "filename").unwrap_or_default();
            // Some browsers sent a path.
            let file_name = file_name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
            // A file without bytes ends where it begins: the line's end before the boundary is that of the head.
            if file.starts_with_boundary().await? {
                file.buffer = BytesMut::from(&delimiter[..]);
            }
            return Ok(Form { fields, file_name, file });
        }
        let value = file.until(&delimiter, &mut limit).await?;
        let value = String::from_utf8(value.to_vec()).map_err(|_| malformed())?;
        fields.push((name, value));
        if fields.len() > MAX_FIELDS {
            return Err(Error::FormFieldsTooLarge);
        }
        // Behind a boundary there is a line's end, or the form's.
        while file.buffer.len() < 2 {
            if !file.more().await? {
                return Err(malformed());
            }
        }
        let end = file.buffer.split_to(2);
        if &end[..] != b"\r\n" {
            return Err(Error::NoFile);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str, size: usize) -> Body {
        let frames: Vec<_> = text
            .as_bytes()
            .chunks(size)
            .map(|chunk| Ok::<_, aws::BodyError>(http_body::Frame::data(Bytes::copy_from_slice(chunk))))
            .collect();
        http_body_util::StreamBody::new(stream::iter(frames)).boxed_unsync()
    }

    #[tokio::test]
    async fn forms_are_read_in_any_pieces() {
        let text = "--x\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\na/${filename}\r\n--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"C:\\b;c.txt\"\r\nContent-Type: text/plain\r\n\r\nhel\r\n--lo\r\n--x--\r\n";
        for size in 1..text.len() {
            let form = read("x", body(text, size)).await.unwrap();
            assert_eq!(form.fields, [("key".to_owned(), "a/${filename}".to_owned())]);
            assert_eq!(form.file_name, "b;c.txt");
            let bytes = form.file.into_stream().try_fold(Vec::new(), |mut all, piece| async move {
                all.extend_from_slice(&piece);
                Ok(all)
            });
            assert_eq!(bytes.await.unwrap(), b"hel\r\n--lo", "{size}");
        }
    }

    #[tokio::test]
    async fn what_is_no_form_is_refused() {
        let field = |value: &str| {
            format!("--x\r\nContent-Disposition: form-data; name=\"k\"\r\n\r\n{value}\r\n--x--\r\n")
        };
        assert!(matches!(read("x", body(&field("v"), 7)).await, Err(Error::NoFile)));
        let long = field(&"v".repeat(MAX_FIELDS_BYTES));
        assert!(matches!(read("x", body(&long, 1000)).await, Err(Error::FormFieldsTooLarge)));
        assert!(read("x", body("nothing of the kind", 5)).await.is_err());
        assert_eq!(boundary("multipart/form-data; boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(boundary("text/plain; boundary=a"), None);
    }
}
