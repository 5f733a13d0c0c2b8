//! The rules of members that the service's model gives as patterns and sets (AWS Lambda API reference).

use crate::Error;
use crate::name::LATEST;

/// A version, an alias or `$LATEST`.
const QUALIFIER: &str = "\\$(LATEST(\\.PUBLISHED)?)|[a-zA-Z0-9-_$]+";
/// The same, of provisioned concurrency.
const PROVISIONED_QUALIFIER: &str = "(|[a-zA-Z0-9$_-]+)";
/// An alias, which alone has a URL of its own.
const URL_QUALIFIER: &str = "((?!^\\d+$)^[0-9a-zA-Z-_]+$)";
/// A function with a URL, or an alias of one.
const URL_FUNCTION: &str = "(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?\
                            (\\d{12}:)?(function:)?([a-zA-Z0-9-_]{1,64})(:((?!\\d+$)[0-9a-zA-Z-_]+))?";
const ARN: &str = "arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1})?:\
                   (\\d{12})?:(.*)";
/// What has tags.
const TAGGABLE: &str = "arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:\\d{12}:\
                        (function:[a-zA-Z0-9-_]+(:(\\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|\
                        code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-\
                        [0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|capacity-provider:[a-zA-Z0-9-_]+)";
/// The runtimes that a layer can be for.
const RUNTIMES: &[&str] = &[
    "nodejs",
    "nodejs4.3",
    "nodejs6.10",
    "nodejs8.10",
    "nodejs10.x",
    "nodejs12.x",
    "nodejs14.x",
    "nodejs16.x",
    "nodejs18.x",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "java8",
    "java8.al2",
    "java11",
    "java17",
    "java21",
    "java25",
    "python2.7",
    "python3.6",
    "python3.7",
    "python3.8",
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "dotnet6",
    "dotnet8",
    "dotnet10",
    "nodejs4.3-edge",
    "go1.x",
    "ruby2.5",
    "ruby2.7",
    "ruby3.2",
    "ruby3.3",
    "ruby3.4",
    "ruby4.0",
    "provided",
    "provided.al2",
    "provided.al2023",
    "nodejs26.x",
    "python3.15",
    "java8.al2023",
    "java11.al2023",
    "java17.al2023",
    "custom",
];
const ARCHITECTURES: &[&str] = &["x86_64", "arm64"];

/// What is wrong with a request: all rules of the service's model that it breaks are told at once, before anything else.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    broken: Vec<String>,
    other: Option<Error>,
}

impl Faults {
    /// A value that was looked at. Where it is wrong that is noted, and another stands in its place until [`finish`]
    /// tells.
    ///
    /// [`finish`]: Self::finish
    pub(crate) fn see<T: Default>(&mut self, looked_at: Result<T, Error>) -> T {
        looked_at.unwrap_or_else(|error| {
            match error {
                Error::Validation(broken) => self.broken.extend(broken),
                other => {
                    self.other.get_or_insert(other);
                }
            }
            T::default()
        })
    }

    /// Refuses the request if something was wrong.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match (self.broken.is_empty(), self.other) {
            (false, _) => Err(Error::Validation(self.broken)),
            (true, Some(other)) => Err(other),
            (true, None) => Ok(()),
        }
    }
}

/// Whether that is a word of names: letters, digits, `-` and `_`.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether that is an account's number.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && is_number(text)
}

fn has_length(value: &str, member: &str, least: usize, most: usize) -> Result<(), Error> {
    let length = value.chars().count();
    let rule = match length {
        _ if length < least => format!("Member must have length greater than or equal to {least}"),
        _ if length > most => format!("Member must have length less than or equal to {most}"),
        _ => return Ok(()),
    };
    Err(Error::constraint(value, member, &rule))
}

/// Checks a version's number, an alias's name or `$LATEST`.
pub(super) fn qualifier(text: &str) -> Result<(), Error> {
    has_length(text, "qualifier", 1, 128)?;
    if text == "$LATEST.PUBLISHED" || is_word(&text.replace('$', "_")) {
        return Ok(());
    }
    Err(Error::pattern(text, "qualifier", QUALIFIER))
}

/// The same, of provisioned concurrency.
pub(super) fn provisioned_qualifier(text: &str) -> Result<(), Error> {
    has_length(text, "qualifier", 1, 128)?;
    if is_word(&text.replace('$', "_")) {
        return Ok(());
    }
    Err(Error::pattern(text, "qualifier", PROVISIONED_QUALIFIER))
}

/// Checks the qualifier of a function with a URL: an alias.
pub(super) fn url_qualifier(text: &str) -> Result<(), Error> {
    has_length(text, "qualifier", 1, 128)?;
    if is_word(text) && !is_number(text) {
        return Ok(());
    }
    Err(Error::pattern(text, "qualifier", URL_QUALIFIER))
}

/// Checks the qualifier in the name of a function with a URL.
pub(super) fn url_function(text: &str, qualifier: Option<&str>) -> Result<(), Error> {
    match qualifier {
        Some(qualifier) if qualifier == LATEST || is_number(qualifier) => {
            Err(Error::pattern(text, "functionName", URL_FUNCTION))
        }
        _ => Ok(()),
    }
}

/// Checks one of a fixed set of values.
pub(crate) fn one_of(value: &str, member: &str, values: &[&str]) -> Result<(), Error> {
    if values.contains(&value) {
        return Ok(());
    }
    let rule = format!("Member must satisfy enum value set: [{}]", values.join(", "));
    Err(Error::constraint(value, member, &rule))
}

/// Checks the runtime that layers are looked for by.
pub(super) fn runtime(value: &str) -> Result<(), Error> {
    one_of(value, "compatibleRuntime", RUNTIMES)
}

/// Checks the architecture that layers are looked for by.
pub(super) fn architecture(value: &str) -> Result<(), Error> {
    one_of(value, "compatibleArchitecture", ARCHITECTURES)
}

/// Checks every item of a list.
fn each_of(values: &[String], member: &str, set: &[&str]) -> Result<(), Error> {
    if values.iter().all(|value| set.contains(&value.as_str())) {
        return Ok(());
    }
    Err(Error::constraint(
        format!("[{}]", values.join(", ")),
        member,
        &format!(
            "Member must satisfy constraint: [Member must satisfy enum value set: [{}]]",
            set.join(", ")
        ),
    ))
}

/// Checks what a layer is for.
pub(crate) fn layer(runtimes: &[String], architectures: &[String]) -> Result<(), Error> {
    let mut faults = Faults::default();
    for (list, member, most, set) in [
        (runtimes, "compatibleRuntimes", 15, RUNTIMES),
        (architectures, "compatibleArchitectures", 2, ARCHITECTURES),
    ] {
        if list.len() > most {
            let rule = format!("Member must have length less than or equal to {most}");
            faults.see(Err::<(), _>(Error::constraint(format!("[{}]", list.join(", ")), member, &rule)));
        }
        faults.see(each_of(list, member, set));
    }
    faults.finish()
}

/// Whether that is the name of a region.
fn is_region(text: &str) -> bool {
    let rest = text.strip_prefix("eusc-").unwrap_or(text);
    let parts: Vec<&str> = rest.split('-').collect();
    let (land, area, number) = match parts.as_slice() {
        [land, area, number] => (land, area, number),
        [land, kind, area, number]
            if *kind == "gov" || (kind.starts_with("iso") && kind.len() <= 4 && is_lower(kind)) =>
        {
            (land, area, number)
        }
        _ => return false,
    };
    land.len() == 2 && is_lower(land) && is_lower(area) && number.len() == 1 && is_number(number)
}

fn is_lower(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase())
}

/// Checks an ARN of anything. `region` is the node's own, whatever it is called.
pub(crate) fn arn(value: &str, member: &str, region: &types::Region) -> Result<(), Error> {
    let parts: Vec<&str> = value.splitn(6, ':').collect();
    let fits = match parts.as_slice() {
        ["arn", partition, service, place, account, resource] => {
            let dashed = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            partition.starts_with("aws")
                && dashed(partition)
                && !service.is_empty()
                && dashed(service)
                && (place.is_empty() || *place == region.as_str() || is_region(place))
                && (account.is_empty() || is_account(account))
                && !resource.contains(['\n', '\r'])
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(Error::pattern(value, member, ARN)) }
}

/// Checks the ARN of what has tags: here that is functions.
pub(super) fn taggable(value: &str, region: &types::Region) -> Result<(), Error> {
    let invalid = || Error::pattern(value, "resource", TAGGABLE);
    arn(value, "resource", region).map_err(|_| invalid())?;
    let parts: Vec<&str> = value.split(':').collect();
    let [_, _, "lambda", place, account, kind, name, qualifier @ ..] = parts.as_slice() else {
        return Err(invalid());
    };
    let is_qualifier = |text: &&str| *text == LATEST || is_word(text);
    let fits = !place.is_empty() && is_account(account) && is_word(name);
    match (*kind, qualifier) {
        ("function", []) if fits => Ok(()),
        ("function", [qualifier]) if fits && is_qualifier(qualifier) => Err(Error::InvalidParameter(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.".into(),
        )),
        ("layer" | "code-signing-config" | "event-source-mapping" | "capacity-provider", []) if fits => {
            Err(Error::Unsupported(format!("Tags of a {kind} are not supported by this node.")))
        }
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualifiers_are_what_the_model_says() {
        for text in ["1", "live", "$LATEST", "$LATEST.PUBLISHED", "a-b_c"] {
            qualifier(text).unwrap();
        }
        for text in ["", "a b", "a.b", "a:b", "é", &"x".repeat(129)] {
            assert!(matches!(qualifier(text), Err(Error::Validation(_))), "{text}");
            assert!(matches!(provisioned_qualifier(text), Err(Error::Validation(_))), "{text}");
        }
        url_qualifier("1x").unwrap();
        for text in ["1", "$LATEST", "a.b"] {
            assert!(matches!(url_qualifier(text), Err(Error::Validation(_))), "{text}");
        }
    }

    #[test]
    fn tags_are_of_functions_by_their_arns() {
        let region = types::Region::new("here");
        let arn = |rest: &str| format!("arn:aws:lambda:here:000000000000:{rest}");
        taggable(&arn("function:f"), &region).unwrap();
        for qualified in ["function:f:live", "function:f:1", "function:f:$LATEST"] {
            let refused = taggable(&arn(qualified), &region);
            assert!(matches!(refused, Err(Error::InvalidParameter(_))), "{qualified}");
        }
        for other in ["layer:l", "event-source-mapping:00000000-0000-4000-8000-000000000000"] {
            assert!(matches!(taggable(&arn(other), &region), Err(Error::Unsupported(_))), "{other}");
        }
        for text in ["f", "function:f", "arn:aws:s3:::f", "arn:aws:lambda:here:1:function:f"] {
            assert!(matches!(taggable(text, &region), Err(Error::Validation(_))), "{text}");
        }
        for rest in ["function", "function:a.b", "function:f:a.b", "function:f:1:2", "foobar:f", "layer:l:1"]
        {
            assert!(matches!(taggable(&arn(rest), &region), Err(Error::Validation(_))), "{rest}");
        }
    }

    #[test]
    fn arns_are_what_the_model_says() {
        let region = types::Region::new("here");
        for text in [
            "arn:aws:s3:::photos",
            "arn:aws:s3:::",
            "arn:aws:sqs:us-east-1:000000000000:q",
            "arn:aws-us-gov:execute-api:us-gov-west-1:000000000000:api/*/GET/a:b",
            "arn:aws:events:us-isob-east-1::rule/x",
            "arn:aws:sqs:here:000000000000:q",
        ] {
            arn(text, "sourceArn", &region).unwrap();
        }
        for text in [
            "",
            "photos",
            "arn:aws:s3",
            "arn:aws:s3:*::photos",
            "arn:aws:sqs:us-east:000000000000:q",
            "arn:aws:sqs:us-east-1:1:q",
            "arn:gcp:s3:::photos",
        ] {
            assert!(matches!(arn(text, "sourceArn", &region), Err(Error::Validation(_))), "{text}");
        }
    }
}
