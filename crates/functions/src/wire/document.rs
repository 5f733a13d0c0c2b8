//! What is wrong with a request's document, as this service's errors say it.

use aws::document::Wrong;
use serde::de::DeserializeOwned;

use crate::Error;

/// Reads the members of a request. An empty body is `{}`.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    aws::document::read(body).map_err(|wrong| match wrong {
        Wrong::Form(message) => Error::Serialization(message),
        Wrong::Rules(broken) => Error::Validation(broken),
        Wrong::Unknown(path) => Error::Unsupported(format!("{path} is not supported by this node.")),
    })
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;
    use crate::wire::input::{CreateFunction, FunctionUrlConfig};

    fn fault<T: DeserializeOwned + fmt::Debug>(body: &str) -> (String, String) {
        let error = aws::Error::from(read::<T>(body.as_bytes()).unwrap_err());
        (error.code.into_owned(), error.message)
    }

    #[test]
    fn faults_name_members_and_not_types() {
        let null = "1 validation error detected: Value null at 'role' failed to satisfy constraint: Member must not \
                    be null";
        for body in [r#"{"FunctionName":"f","Code":{}}"#, r#"{"FunctionName":"f","Code":{},"Role":null}"#] {
            assert_eq!(fault::<CreateFunction>(body), ("ValidationException".into(), null.into()), "{body}");
        }
        for (body, message) in [
            ("[1]", "Start of list found where not expected"),
            (r#"{"FunctionName":5}"#, "Unexpected value type in payload: NUMBER_VALUE"),
            (r#"{"Timeout":"5"}"#, "Unexpected value type in payload: STRING_VALUE"),
            (r#"{"Role":{}}"#, "Start of structure or map found where not expected."),
            ("{", "The request's body is not a JSON document"),
        ] {
            let expected = ("SerializationException".to_owned(), message.to_owned());
            assert_eq!(fault::<CreateFunction>(body), expected, "{body}");
        }
        let (code, message) = fault::<CreateFunction>(r#"{"Code":{"Zip":""}}"#);
        assert_eq!(code, "InvalidParameterValueException");
        assert_eq!(message, "Code.Zip is not supported by this node.");
        let (code, message) = fault::<FunctionUrlConfig>(r#"{"Cors":{"MaxAge":-1}}"#);
        assert!(code == "ValidationException" && message.contains("'-1' at 'cors.maxAge'"), "{message}");
    }
}
