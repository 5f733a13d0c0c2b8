//! Errors in the shape that each protocol gives them.
//!
//! Sources: the Smithy specifications of awsJson1_0, awsJson1_1, restJson1, restXml and awsQuery; Amazon S3 API
//! reference, "REST error responses".

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use types::{ErrorKind, RequestId};

use crate::xml::Xml;
use crate::{Error, Protocol, Response, body};

/// What an error answer needs to know of the request.
#[derive(Debug, Clone, Copy)]
pub struct ErrorContext<'a> {
    /// The shape.
    pub protocol: Protocol,
    /// The service's XML namespace, or the prefix of its error names in JSON; may be empty.
    pub namespace: &'a str,
    /// The request.
    pub request_id: RequestId,
    /// The path that was asked for, which S3 names.
    pub resource: &'a str,
    /// It was a HEAD: the answer has no body.
    pub head: bool,
}

/// The answer to a request that failed.
pub fn render(error: &Error, context: &ErrorContext<'_>) -> Response {
    let bytes = match context.protocol {
        _ if context.head => Vec::new(),
        Protocol::Json10 | Protocol::Json11 => json(error, Some(context.namespace)),
        Protocol::RestJson => json(error, None),
        Protocol::RestXml => s3(error, context).into_bytes(),
        Protocol::Query => query(error, context).into_bytes(),
    };
    let mut response = Response::new(body::full(bytes));
    let status = http::StatusCode::from_u16(error.status);
    *response.status_mut() = status.unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if !context.head {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(context.protocol)));
    }
    if let Some(more) = &error.headers {
        headers.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    match context.protocol {
        Protocol::Json10 | Protocol::Json11 | Protocol::RestJson => {
            if let Ok(code) = HeaderValue::from_str(&error.code) {
                headers.insert(HeaderName::from_static("x-amzn-errortype"), code);
            }
        }
        Protocol::RestXml | Protocol::Query => {}
    }
    request_id_headers(headers, context.protocol, context.request_id);
    response
}

/// The content type of a protocol's answers.
pub fn content_type(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Json10 => "application/x-amz-json-1.0",
        Protocol::Json11 => "application/x-amz-json-1.1",
        Protocol::RestJson => "application/json",
        Protocol::RestXml => "application/xml",
        Protocol::Query => "text/xml",
    }
}

/// Says in an answer's headers which request it answers.
pub fn request_id_headers(headers: &mut HeaderMap, protocol: Protocol, id: RequestId) {
    let value = HeaderValue::from_str(&id.to_string()).expect("a UUID is ASCII");
    if protocol == Protocol::RestXml {
        headers.insert(HeaderName::from_static("x-amz-id-2"), value.clone());
        headers.insert(HeaderName::from_static("x-amz-request-id"), value);
    } else {
        headers.insert(HeaderName::from_static("x-amzn-requestid"), value);
    }
}

/// What the names of errors begin with that AWS's own framework gives.
const CORAL: &str = "com.amazon.coral.service";

fn json(error: &Error, namespace: Option<&str>) -> Vec<u8> {
    let mut object = Map::new();
    if let Some(namespace) = namespace {
        let name = if namespace.is_empty() {
            error.code.to_string()
        } else {
            // Errors that are found before a request reaches the service are not in its model.
            let namespace = match &*error.code {
                "ValidationException" => "com.amazon.coral.validate",
                "SerializationException" | "UnknownOperationException" | "AccessDeniedException" => CORAL,
                _ if error.kind == ErrorKind::Unauthenticated => CORAL,
                _ => namespace,
            };
            format!("{namespace}#{}", error.code)
        };
        object.insert("__type".to_owned(), Value::String(name));
    }
    let message = if error.capital_message { "Message" } else { "message" };
    // Some errors have no words.
    if !error.message.is_empty() {
        object.insert(message.to_owned(), Value::String(error.message.clone()));
    }
    for (name, value) in &error.fields {
        object.insert((*name).to_owned(), value.clone());
    }
    serde_json::to_vec(&object).expect("a map with string keys is JSON")
}

fn s3(error: &Error, context: &ErrorContext<'_>) -> String {
    let id = context.request_id.to_string();
    let mut xml = Xml::document();
    xml.element("Error", |xml| {
        xml.text("Code", &error.code);
        xml.text("Message", &error.message);
        fields(xml, error);
        if error.fields.is_empty() {
            xml.text("Resource", context.resource);
        }
        xml.text("RequestId", &id);
        xml.text("HostId", &id);
    });
    xml.finish()
}

fn query(error: &Error, context: &ErrorContext<'_>) -> String {
    let mut xml = Xml::document();
    let namespace = [("xmlns", context.namespace)];
    let attributes: &[(&str, &str)] = if context.namespace.is_empty() { &[] } else { &namespace };
    xml.element_with("ErrorResponse", attributes, |xml| {
        xml.element("Error", |xml| {
            xml.text("Type", if error.status >= 500 { "Receiver" } else { "Sender" });
            xml.text("Code", &error.code);
            xml.text("Message", &error.message);
            fields(xml, error);
        });
        xml.text("RequestId", &context.request_id.to_string());
    });
    xml.finish()
}

fn fields(xml: &mut Xml, error: &Error) {
    for (name, value) in &error.fields {
        match value {
            Value::String(text) => xml.text(name, text),
            other => xml.value(name, other),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use types::SystemEnv;

    use super::*;

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn context(protocol: Protocol, namespace: &str) -> ErrorContext<'_> {
        let request_id = RequestId::new(&*SystemEnv::new());
        ErrorContext { protocol, namespace, request_id, resource: "/photos/a&b", head: false }
    }

    #[tokio::test]
    async fn each_protocol_has_its_shape() {
        let error = Error::new(ErrorKind::NotFound, "NoSuchThing", "it is <gone>");
        let c = context(Protocol::Json10, "com.amazonaws.dynamodb.v20120810");
        let response = render(&error.clone().with_status(400), &c);
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["x-amzn-errortype"], "NoSuchThing");
        assert_eq!(response.headers()["content-type"], "application/x-amz-json-1.0");
        assert_eq!(response.headers()["x-amzn-requestid"], c.request_id.to_string());
        let expected =
            r#"{"__type":"com.amazonaws.dynamodb.v20120810#NoSuchThing","message":"it is <gone>"}"#;
        assert_eq!(text(response).await, expected);

        let mut lambda = error.clone().with_field("Type", "User");
        lambda.capital_message = true;
        let response = render(&lambda, &context(Protocol::RestJson, ""));
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(text(response).await, r#"{"Message":"it is <gone>","Type":"User"}"#);

        let c = context(Protocol::RestXml, "");
        let response = render(&error.clone().with_field("BucketName", "photos"), &c);
        assert_eq!(response.headers()["x-amz-request-id"], c.request_id.to_string());
        assert!(response.headers().contains_key("x-amz-id-2"));
        let id = c.request_id;
        let expected = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchThing</Code><Message>it is \
             &lt;gone&gt;</Message><BucketName>photos</BucketName><RequestId>{id}</RequestId><HostId>{id}</HostId>\
             </Error>"
        );
        assert_eq!(text(response).await, expected);
        let head = render(&error, &ErrorContext { head: true, ..c });
        assert_eq!(head.status(), 404);
        assert_eq!(text(head).await, "");

        let c = context(Protocol::Query, "https://iam.amazonaws.com/doc/2010-05-08/");
        let response = render(&error, &c);
        assert_eq!(response.headers()["content-type"], "text/xml");
        let expected = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ErrorResponse \
             xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><Error><Type>Sender</Type><Code>NoSuchThing</Code>\
             <Message>it is &lt;gone&gt;</Message></Error><RequestId>{}</RequestId></ErrorResponse>",
            c.request_id
        );
        assert_eq!(text(response).await, expected);
    }
}
