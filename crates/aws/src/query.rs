//! The Query protocol: a form in, XML out (IAM, STS, CloudFormation).

use std::collections::BTreeMap;

use types::{ErrorKind, RequestId};

use crate::xml::Xml;
use crate::{Error, Response, body};

/// The parameters of a request. Each is taken out as it is read, so that [`Form::finish`] can refuse what
/// nobody asked for.
#[derive(Debug, Clone, Default)]
pub struct Form {
    parameters: BTreeMap<String, String>,
}

impl Form {
    /// Reads a form, or a query string.
    pub fn parse(bytes: &[u8]) -> Self {
        Self { parameters: form_urlencoded::parse(bytes).into_owned().collect() }
    }

    /// Takes an optional parameter.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.parameters.remove(name)
    }

    /// Takes a parameter that must be there.
    pub fn require(&mut self, name: &str) -> Result<String, Error> {
        self.take(name).ok_or_else(|| {
            let message = format!("The request must contain the parameter {name}.");
            Error::new(ErrorKind::Invalid, "MissingParameter", message)
        })
    }

    /// Takes an optional parameter of a type that parses.
    pub fn take_parsed<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, Error> {
        self.take(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    let message = format!("{text} is not a valid value for {name}");
                    Error::new(ErrorKind::Invalid, "ValidationError", message)
                })
            })
            .transpose()
    }

    /// Takes a list of scalars: `Name.member.1`, `Name.member.2`, ...
    pub fn take_list(&mut self, name: &str) -> Vec<String> {
        (1..).map_while(|i| self.take(&format!("{name}.member.{i}"))).collect()
    }

    /// Takes a list of structures: each is a form of its own.
    pub fn take_structures(&mut self, name: &str) -> Vec<Form> {
        (1..)
            .map_while(|i| {
                let prefix = format!("{name}.member.{i}.");
                let names: Vec<_> =
                    self.parameters.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
                let parameters: BTreeMap<_, _> = names
                    .into_iter()
                    .filter_map(|k| self.parameters.remove(&k).map(|v| (k[prefix.len()..].to_owned(), v)))
                    .collect();
                (!parameters.is_empty()).then_some(Form { parameters })
            })
            .collect()
    }

    /// Refuses what was not taken.
    pub fn finish(self) -> Result<(), Error> {
        match self.parameters.into_keys().next() {
            None => Ok(()),
            Some(name) => {
                let message = format!("The parameter {name} is not supported here.");
                Err(Error::new(ErrorKind::Invalid, "ValidationError", message))
            }
        }
    }
}

/// An answer: `<{operation}Response xmlns=..><{operation}Result>` ... `<ResponseMetadata>`. Operations that
/// return nothing pass `None`.
pub fn output(
    operation: &str,
    namespace: &str,
    request_id: RequestId,
    result: Option<&dyn Fn(&mut Xml)>,
) -> Response {
    let mut xml = Xml::document();
    xml.element_with(&format!("{operation}Response"), &[("xmlns", namespace)], |xml| {
        if let Some(result) = result {
            xml.element(&format!("{operation}Result"), |xml| result(xml));
        }
        xml.element("ResponseMetadata", |xml| xml.text("RequestId", &request_id.to_string()));
    });
    let mut response = Response::new(body::full(xml.finish()));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/xml"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_and_leftovers() {
        let mut form = Form::parse(
            b"Action=TagRole&Tags.member.1.Key=a&Tags.member.1.Value=b%20c&Tags.member.2.Key=d&X=1",
        );
        assert_eq!(form.require("Action").unwrap(), "TagRole");
        let mut tags = form.take_structures("Tags");
        assert_eq!(tags.len(), 2);
        assert_eq!(tags[0].take("Value").as_deref(), Some("b c"));
        assert_eq!(form.require("Nope").unwrap_err().code, "MissingParameter");
        assert_eq!(form.finish().unwrap_err().code, "ValidationError");
    }
}
