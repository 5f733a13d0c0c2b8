//! Queues, as functions use them: where events go that failed, and what wakes functions. They are reached like any other
//! service, with the rights of a function's own role.

use aws::{Caller, Dispatch};
use bytes::Bytes;
use serde_json::{Value, json};
use types::{Arn, ErrorKind, TraceHeader};

use crate::Error;

/// The URL of a queue, by which requests inside the node name it.
pub(crate) fn queue_url(arn: &Arn) -> String {
    format!("http://localhost/{}/{}", arn.account, arn.resource)
}

/// A request to the service of queues; `body` without the queue's URL.
pub fn queue_request(
    arn: &Arn,
    operation: &str,
    mut body: Value,
) -> Result<http::Request<Bytes>, aws::Error> {
    body["QueueUrl"] = json!(queue_url(arn));
    http::Request::post("/")
        .header("x-amz-target", format!("AmazonSQS.{operation}"))
        .header(http::header::CONTENT_TYPE, "application/x-amz-json-1.0")
        .body(Bytes::from(body.to_string()))
        .map_err(|error| aws::Error::internal(&error))
}

/// The ARN of a queue; an error that names `member` if there can be none with that ARN here.
pub(crate) fn queue_arn(text: &str, member: &str) -> Result<Arn, Error> {
    let invalid = || Error::InvalidParameter(format!("The provided {member} is invalid: {text}"));
    let arn: Arn = text.parse().map_err(|_| invalid())?;
    match arn.service.as_str() {
        "sqs" if arn.resource.ends_with(".fifo") => Err(Error::Unsupported(format!(
            "{member} {text} is not supported by this node: it has no FIFO queues."
        ))),
        "sqs" if arn.account.len() == 12 && !arn.resource.contains([':', '/']) => Ok(arn),
        "sns" => Err(Error::Unsupported(format!(
            "{member} {text} is not supported by this node: it has no topics; use a queue of Amazon SQS."
        ))),
        _ => Err(invalid()),
    }
}

/// Whether an ARN is that of a queue.
pub fn is_queue(arn: &str) -> bool {
    arn.starts_with("arn:aws:sqs:")
}

/// Sees that a caller may send to a queue, and that it is there: a batch without messages asks for the right and does
/// nothing.
pub(crate) async fn check_sender(
    dispatch: &dyn Dispatch,
    caller: &Caller,
    trace: &TraceHeader,
    arn: &Arn,
) -> Result<(), aws::Error> {
    let request = queue_request(arn, "SendMessageBatch", json!({ "Entries": [] }))?;
    let refused = match dispatch.call(caller, trace, "sqs", request).await {
        Ok(_) => return Ok(()),
        Err(error) if error.code == "EmptyBatchRequest" => return Ok(()),
        Err(error) => error,
    };
    match refused.kind {
        ErrorKind::Denied => Err(Error::InvalidParameter(format!(
            "The function execution role does not have permissions to call SendMessage on SQS ({arn})"
        ))
        .into()),
        ErrorKind::NotFound => {
            Err(Error::InvalidParameter(format!("The queue {arn} does not exist.")).into())
        }
        ErrorKind::Invalid
        | ErrorKind::Conflict
        | ErrorKind::PreconditionFailed
        | ErrorKind::Unauthenticated
        | ErrorKind::Throttled
        | ErrorKind::TooLarge
        | ErrorKind::Timeout
        | ErrorKind::Unsupported
        | ErrorKind::Unavailable
        | ErrorKind::Internal => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_known_by_their_arns() {
        let arn = queue_arn("arn:aws:sqs:us-east-1:000000000000:q", "TargetArn").unwrap();
        assert_eq!(queue_url(&arn), "http://localhost/000000000000/q");
        for (bad, word) in [
            ("arn:aws:sns:us-east-1:000000000000:t", "no topics"),
            ("arn:aws:sqs:us-east-1:000000000000:q.fifo", "FIFO"),
            ("arn:aws:s3:::b", "invalid"),
            ("q", "invalid"),
        ] {
            assert!(queue_arn(bad, "TargetArn").unwrap_err().to_string().contains(word), "{bad}");
        }
    }
}
