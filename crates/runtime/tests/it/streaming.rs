//! Answers that are written piece by piece.

use std::time::Duration;

use functions::{Instance, InvokeRequest, Piece, ResponseHead, RunError};
use serde_json::{Value, json};

use crate::support::{House, ask, event, invoke, program, stream};

/// What the pieces are together: the content type, whether the function streams, and the body.
fn read(pieces: Vec<Piece>) -> (Option<String>, bool, Vec<u8>) {
    let mut pieces = pieces.into_iter();
    let Some(Piece::Head(ResponseHead::Runtime { content_type, streaming })) = pieces.next() else {
        panic!("no head first")
    };
    let mut body = Vec::new();
    for piece in pieces {
        let Piece::Body(data) = piece else { panic!("a second head") };
        body.extend_from_slice(&data);
    }
    (content_type, streaming, body)
}

async fn node(house: &House, text: &str) -> Box<dyn Instance> {
    house.start("nodejs20.x", "app.mjs", text).await.unwrap().instance
}

fn minute(payload: &str) -> InvokeRequest {
    event(payload, Duration::from_secs(60))
}

#[tokio::test(flavor = "multi_thread")]
async fn node_streams() {
    let house = House::new().await;
    let text = "import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  if (event.http) stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { a: 'b' } });
  else stream.setContentType('text/plain');
  if (event.early) throw new RangeError('too early');
  if (event.pipe) return pipeline(Readable.from(['one ', 'two ', 'three']), stream);
  stream.write('hello ');
  if (event.late) {
    await new Promise((resolve) => stream.write(event.late, resolve));
    throw new RangeError('tö late');
  }
  stream.write(context.awsRequestId);
  if (!event.open) stream.end();
});";
    let mut f = node(&house, text).await;
    for round in 0..2 {
        let (result, pieces) = stream(&mut f, minute("{\"pipe\":true}")).await;
        let result = result.unwrap();
        assert_eq!((result.function_error, result.payload.len()), (None, 0), "{round}");
        assert_eq!(read(pieces), (Some("text/plain".into()), true, b"one two three".to_vec()));

        let (result, pieces) = stream(&mut f, minute("{\"http\":1}")).await;
        assert_eq!(result.unwrap().function_error, None);
        let (content_type, _, body) = read(pieces);
        assert_eq!(content_type.as_deref(), Some("application/vnd.awslambda.http-integration-response"));
        let (prelude, body) = body.split_at(body.windows(8).position(|part| part == [0; 8]).unwrap());
        assert_eq!(
            serde_json::from_slice::<Value>(prelude).unwrap(),
            json!({"statusCode": 201, "headers": {"a": "b"}})
        );
        assert!(body.starts_with(b"\0\0\0\0\0\0\0\0hello "), "{body:?}");
    }
    // What nobody ended ends when nothing can come any more.
    let (result, pieces) = stream(&mut f, minute("{\"open\":1}")).await;
    assert_eq!(result.unwrap().function_error, None);
    assert_eq!(read(pieces).2.len(), 6 + 36);

    let (result, pieces) = stream(&mut f, minute("{\"late\":\"and\"}")).await;
    let result = result.unwrap();
    assert_eq!(result.function_error.as_deref(), Some("Unhandled"));
    let error: Value = serde_json::from_slice(&result.payload).unwrap();
    assert_eq!((&error["errorType"], &error["errorMessage"]), (&json!("RangeError"), &json!("tö late")));
    assert_eq!(read(pieces).2, b"hello and");

    let (result, pieces) = stream(&mut f, minute("{\"early\":1}")).await;
    let result = result.unwrap();
    assert_eq!(result.function_error.as_deref(), Some("Unhandled"));
    assert!(String::from_utf8_lossy(&result.payload).contains("too early"));
    assert!(pieces.is_empty());

    // Without a stream it is collected.
    let result = invoke(&mut f, "{\"pipe\":1}").await;
    assert_eq!((&result.payload[..], result.function_error), (&b"one two three"[..], None));
    let result = invoke(&mut f, "{\"late\":\"!\"}").await;
    assert_eq!(result.function_error.as_deref(), Some("Unhandled"));
    assert!(String::from_utf8_lossy(&result.payload).contains("late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_waits_for_its_reader_and_may_write_more_than_a_whole_answer_holds() {
    let house = House::new().await;
    let text = "import { once } from 'node:events';
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  for (let n = 0; n < event; n++) if (!stream.write(Buffer.alloc(1 << 20, 'x'))) await once(stream, 'drain');
  stream.end();
});";
    let mut f = node(&house, text).await;
    {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let request = InvokeRequest { stream: Some(sender), ..minute("40") };
        let invoked = f.invoke(request);
        tokio::pin!(invoked);
        let head = tokio::select! {
            _ = &mut invoked => panic!("nobody has read it"),
            head = receiver.recv() => head,
        };
        assert!(matches!(head, Some(Piece::Head(_))));
        // More than all buffers on the way hold is still with the function.
        assert!(tokio::time::timeout(Duration::from_millis(500), &mut invoked).await.is_err());
        let read = async {
            let mut length = 0;
            while let Some(Piece::Body(data)) = receiver.recv().await {
                length += data.len();
            }
            length
        };
        let (result, length) = tokio::join!(invoked, read);
        assert_eq!((result.unwrap().function_error, length), (None, 40 << 20));
    }

    // A reader that goes away is not the function's affair.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    drop(receiver);
    let result = f.invoke(InvokeRequest { stream: Some(sender), ..minute("40") }).await.unwrap();
    assert_eq!(result.function_error, None);

    let result = invoke(&mut f, "7").await;
    assert!(String::from_utf8_lossy(&result.payload).contains("Function.ResponseSizeTooLarge"));
    let (result, _) = stream(&mut f, minute("201")).await;
    let result = result.unwrap();
    assert!(String::from_utf8_lossy(&result.payload).contains("209715200 bytes"), "{:?}", result.payload);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_streamed_comes_as_one_piece() {
    let house = House::new().await;
    let mut f = house.python("def handler(event, context):\n    return {'got': event['a']}").await;
    let (result, pieces) = stream(&mut f, minute("{\"a\": 1}")).await;
    assert!(result.unwrap().payload.is_empty());
    assert_eq!(pieces.len(), 2);
    assert_eq!(read(pieces), (Some("application/json".into()), false, b"{\"got\": 1}".to_vec()));
    let (result, pieces) = stream(&mut f, minute("{}")).await;
    assert_eq!(result.unwrap().function_error.as_deref(), Some("Unhandled"));
    assert!(pieces.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_the_function_has_to() {
    let house = House::new().await;
    let text = "export const handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.write('begun');
  if (event === 'exit') setTimeout(() => process.kill(process.pid, 'SIGKILL'), 50);
  await new Promise((resolve) => setTimeout(resolve, 1000000));
});";
    let mut f = node(&house, text).await;
    let (result, pieces) = stream(&mut f, event("0", Duration::from_millis(700))).await;
    assert!(matches!(result, Err(RunError::Timeout { .. })), "{result:?}");
    assert_eq!(read(pieces).2, b"begun");
    let mut f = node(&house, text).await;
    let (result, pieces) = stream(&mut f, minute("\"exit\"")).await;
    assert!(matches!(result, Err(RunError::Exited { .. })), "{result:?}");
    assert_eq!(read(pieces).2, b"begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_api_takes_streams_by_the_letter() {
    let house = House::new().await;
    let text = program(
        "import socket
host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
while True:
    id, event = next_event()
    path = f'/2018-06-01/runtime/invocation/{id}/response'
    mode = {'Lambda-Runtime-Function-Response-Mode': event.get('mode', 'streaming'), 'Transfer-Encoding': 'chunked'}
    if event.get('raw'):
        line = socket.create_connection((host, int(port)))
        line.sendall(f'POST {path} HTTP/1.1\\r\\nHost: x\\r\\nLambda-Runtime-Function-Response-Mode: streaming\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n'.encode() + event['raw'].encode())
        if not event['raw'].endswith('\\r\\n\\r\\n'): line.shutdown(socket.SHUT_WR)
        line.recv(4096)
        line.close()
        continue
    status = call('POST', path, iter([b'a', b'b']), mode)[0]
    if status != 202: print('refused', status)
    again = call('POST', path, '{}')
    assert again[0] in (400, 403), again",
    );
    let mut f = house.start("provided.al2023", "bootstrap", &text).await.unwrap().instance;
    let (result, pieces) = stream(&mut f, minute("{}")).await;
    assert_eq!(result.unwrap().function_error, None);
    assert_eq!(read(pieces), (None, true, b"ab".to_vec()));
    let result = invoke(&mut f, "{\"mode\": \"other\"}").await;
    assert!(String::from_utf8_lossy(&result.payload).contains("Runtime.InvalidResponseModeHeader"));

    // A stream that breaks off, and a runtime that goes on.
    let (result, pieces) = stream(&mut f, minute("{\"raw\": \"3\\r\\nabc\\r\\n5\\r\\nde\"}")).await;
    let result = result.unwrap();
    assert!(String::from_utf8_lossy(&result.payload).contains("Runtime.TruncatedResponse"), "{result:?}");
    assert_eq!(read(pieces).2[..3], *b"abc");

    let trailers = "3\r\nabc\r\n0\r\nLambda-Runtime-Function-Error-Type: My.Error\r\n\
                    Lambda-Runtime-Function-Error-Body: eyJlcnJvck1lc3NhZ2UiOiJubyJ9\r\n\r\n";
    let (result, pieces) = stream(&mut f, minute(&json!({ "raw": trailers }).to_string())).await;
    let result = result.unwrap();
    assert_eq!(&result.payload[..], b"{\"errorMessage\":\"no\"}");
    assert_eq!((result.function_error.as_deref(), &read(pieces).2[..]), (Some("Unhandled"), &b"abc"[..]));
    assert_eq!(ask_whole(&mut f).await, "ab");
}

async fn ask_whole(f: &mut Box<dyn Instance>) -> String {
    String::from_utf8(invoke(f, "{}").await.payload.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_do_not_stream_are_as_before_beside_awslambda() {
    let house = House::new().await;
    let text = "export const handler = async () => Object.keys(awslambda);";
    let mut f = node(&house, text).await;
    assert_eq!(ask(&mut f, "{}").await, json!(["streamifyResponse", "HttpResponseStream"]));
}
