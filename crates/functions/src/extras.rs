//! What the platform offers a function beyond Lambda, set by environment variables of its configuration: so it is
//! set by every client and template, and belongs to the version that it was published with.

use std::collections::BTreeMap;
use std::time::Duration;

/// Under which key an invocation runs once.
const IDEMPOTENCY_KEY: &str = "HAWKER_IDEMPOTENCY_KEY";
/// For how long, in seconds.
const IDEMPOTENCY_WINDOW: &str = "HAWKER_IDEMPOTENCY_WINDOW_SECONDS";

/// The names there are.
pub(crate) const NAMES: &[&str] =
    &[IDEMPOTENCY_KEY, IDEMPOTENCY_WINDOW, "HAWKER_INSTANCE_REUSE", "HAWKER_OUTGOING_HOSTS"];

/// The longest window: a week.
const MOST_WINDOW: u64 = 7 * 86_400;

/// Where the key of an idempotent invocation comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// The `Idempotency-Key` header.
    Header,
    /// The id of the event or message; for an event without one, the id of the request that brought it.
    EventId,
    /// A place in the payload: the members on the way to it.
    Path(Vec<String>),
}

/// What a function asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extras {
    /// The key under which it runs once, and for how long.
    pub(crate) idempotency: Option<(KeySource, Duration)>,
}

impl Extras {
    /// Reads what concerns the invoke path; the runtime reads its own. The error says what is wrong.
    pub(crate) fn read(environment: &BTreeMap<String, String>) -> Result<Self, String> {
        if let Some(reuse) = environment.get("HAWKER_INSTANCE_REUSE")
            && reuse != "true"
            && reuse != "false"
        {
            return Err(format!("HAWKER_INSTANCE_REUSE is true or false, not `{reuse}`."));
        }
        let window = match environment.get(IDEMPOTENCY_WINDOW) {
            None => Duration::from_secs(3600),
            Some(text) => {
                let seconds = text.parse().ok().filter(|seconds| (1..=MOST_WINDOW).contains(seconds));
                Duration::from_secs(seconds.ok_or_else(|| {
                    format!(
                        "{IDEMPOTENCY_WINDOW} is a number of seconds from 1 to {MOST_WINDOW}, not `{text}`."
                    )
                })?)
            }
        };
        let source = match environment.get(IDEMPOTENCY_KEY).map(String::as_str) {
            None if environment.contains_key(IDEMPOTENCY_WINDOW) => {
                return Err(format!("{IDEMPOTENCY_WINDOW} is of use with {IDEMPOTENCY_KEY} alone."));
            }
            None => None,
            Some("header") => Some(KeySource::Header),
            Some("event-id") => Some(KeySource::EventId),
            Some(path) => Some(KeySource::Path(parse_path(path).ok_or_else(|| {
                format!(
                    "{IDEMPOTENCY_KEY} is `header`, `event-id` or a path into the payload such as `$.order.id` or \
                     `$.Records[0].messageId`, not `{path}`."
                )
            })?)),
        };
        Ok(Self { idempotency: source.map(|source| (source, window)) })
    }
}

/// `$.a.b[0].c` as its members; numbers are members of arrays.
fn parse_path(path: &str) -> Option<Vec<String>> {
    let mut members = Vec::new();
    for part in path.strip_prefix("$.")?.split('.') {
        let mut pieces = part.split('[');
        let name = pieces.next().filter(|name| !name.is_empty())?;
        members.push(name.to_owned());
        for index in pieces {
            let index = index.strip_suffix(']')?;
            index.parse::<u32>().ok()?;
            members.push(index.to_owned());
        }
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Extras, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Extras::read(&variables.iter().map(owned).collect())
    }

    #[test]
    fn keys_come_from_where_the_function_says() {
        assert_eq!(read(&[]), Ok(Extras::default()));
        let path = read(&[("HAWKER_IDEMPOTENCY_KEY", "$.Records[0].id")]).unwrap().idempotency.unwrap();
        let members = ["Records", "0", "id"].map(str::to_owned);
        assert_eq!(path, (KeySource::Path(members.into()), Duration::from_secs(3600)));
        let header =
            read(&[("HAWKER_IDEMPOTENCY_KEY", "header"), ("HAWKER_IDEMPOTENCY_WINDOW_SECONDS", "5")])
                .unwrap();
        assert_eq!(header.idempotency, Some((KeySource::Header, Duration::from_secs(5))));
        for wrong in ["", "$", "$.", "$.a[", "$.a[x]", "a.b", "$.a..b"] {
            assert!(read(&[("HAWKER_IDEMPOTENCY_KEY", wrong)]).is_err(), "{wrong}");
        }
        for wrong in ["0", "604801", "x"] {
            let window = ("HAWKER_IDEMPOTENCY_WINDOW_SECONDS", wrong);
            assert!(read(&[("HAWKER_IDEMPOTENCY_KEY", "header"), window]).is_err(), "{wrong}");
        }
        assert!(read(&[("HAWKER_IDEMPOTENCY_WINDOW_SECONDS", "5")]).is_err());
    }
}
