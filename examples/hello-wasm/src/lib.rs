//! A function that is a WebAssembly component: it greets whoever asks at its URL, and notes every object that is put
//! into its bucket.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

struct Hello;

wasip2::http::proxy::export!(Hello with_types_in wasip2);

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let answer = match request.method() {
            // What is not HTTP comes as a CloudEvent: the event's kind in a header, the event as the body.
            Method::Post => header(&request, "ce-type").map(|kind| {
                let event = body(&request);
                println!("{kind}: {event}");
                format!("{{\"noted\":\"{kind}\"}}")
            }),
            Method::Get => {
                let path = request.path_with_query().unwrap_or_default();
                let name = path
                    .split_once("name=")
                    .map_or("world", |(_, rest)| rest.split('&').next().unwrap_or_default());
                let greeting = std::env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
                Some(format!("{{\"message\":\"{greeting}, {}!\"}}", plain(name)))
            }
            _ => None,
        };
        match answer {
            Some(json) => respond(out, 200, &json),
            None => respond(out, 405, "{\"message\":\"GET this\"}"),
        }
    }
}

/// Letters, digits and spaces: what is greeted is not trusted.
fn plain(text: &str) -> String {
    text.replace('+', " ").chars().filter(|c| c.is_alphanumeric() || *c == ' ').take(50).collect()
}

fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    let values = request.headers().get(name);
    values.into_iter().next().and_then(|value| String::from_utf8(value).ok())
}

fn body(request: &IncomingRequest) -> String {
    let Ok(body) = request.consume() else { return String::new() };
    let Ok(stream) = body.stream() else { return String::new() };
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(65_536) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                eprintln!("the body ended early: {}", error.to_debug_string());
                break;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn respond(out: ResponseOutparam, status: u16, json: &str) {
    let headers = Fields::new();
    let _ = headers.set("content-type", &[b"application/json".to_vec()]);
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let body = response.body().expect("it is asked for once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("it is asked for once");
    let _ = stream.blocking_write_and_flush(json.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
