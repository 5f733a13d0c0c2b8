//! Parameters that many operations share, and their constraints (IAM API reference, "IAM and STS quotas").

use std::collections::BTreeMap;

use aws::query::Form;
use aws::xml::Xml;

use crate::Error;
use crate::call::invalid;

/// A name of letters, digits and `+=,.@_-`, of at most `most` characters.
pub(super) fn name(form: &mut Form, parameter: &str, most: usize) -> Result<String, aws::Error> {
    let name = form.require(parameter)?;
    check_name(&name, parameter, most)?;
    Ok(name)
}

pub(super) fn check_name(name: &str, parameter: &str, most: usize) -> Result<(), aws::Error> {
    let mut member = parameter.to_owned();
    member[..1].make_ascii_lowercase();
    if name.is_empty() || name.len() > most {
        return Err(invalid(format!(
            "1 validation error detected: Value '{name}' at '{member}' failed to satisfy constraint: Member \
             must have length from 1 to {most}"
        )));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b)) {
        return Err(invalid(format!(
            "The specified value for {member} is invalid. It must contain only alphanumeric characters and/or \
             the following: +=,.@_-"
        )));
    }
    Ok(())
}

/// A path, `/` if none is given.
pub(super) fn path(form: &mut Form) -> Result<String, aws::Error> {
    let path = form.take("Path").unwrap_or_else(|| "/".to_owned());
    let valid = path.starts_with('/')
        && path.ends_with('/')
        && path.len() <= 512
        && !path.contains("//")
        && path.bytes().all(|b| b.is_ascii_graphic());
    if !valid {
        let message = "The specified value for path is invalid. It must begin and end with / and contain only \
                       alphanumeric characters and/or / characters.";
        return Err(invalid(message));
    }
    Ok(path)
}

/// Tags: keys of 1 to 128 characters, values of up to 256, at most 50.
pub(super) fn tags(form: &mut Form) -> Result<BTreeMap<String, String>, aws::Error> {
    // An empty list is sent as an empty parameter.
    form.take("Tags");
    let mut tags = BTreeMap::new();
    for mut tag in form.take_structures("Tags") {
        let (key, value) = (tag.require("Key")?, tag.take("Value").unwrap_or_default());
        tag.finish()?;
        if !(1..=128).contains(&key.chars().count()) || value.chars().count() > 256 {
            return Err(invalid(format!(
                "The tag `{key}` is too long: keys have 1 to 128 characters, values up to 256."
            )));
        }
        if tags.insert(key, value).is_some() {
            let message = "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
            return Err(Error::InvalidInput(message.into()).into());
        }
    }
    Ok(tags)
}

pub(super) fn check_tag_count(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > 50 {
        return Err(Error::LimitExceeded("The number of tags has reached the maximum limit.".into()));
    }
    Ok(())
}

/// Which part of a list is wanted.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

impl Page {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        let limit = form.take_parsed("MaxItems")?.unwrap_or(100);
        if !(1..=1000).contains(&limit) {
            return Err(invalid(format!(
                "1 validation error detected: Value '{limit}' at 'maxItems' failed to satisfy constraint: \
                 Member must be between 1 and 1000"
            )));
        }
        Ok(Self { after: form.take("Marker"), limit })
    }

    /// The wanted part of a list in memory; a marker is the last name that was seen.
    pub(super) fn of<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        name: impl Fn(&T) -> &str,
    ) -> (Vec<T>, Option<String>) {
        let after = |item: &T| self.after.as_deref().is_none_or(|after| name(item) > after);
        let mut page: Vec<T> = items.into_iter().filter(after).take(self.limit + 1).collect();
        let more = page.len() > self.limit;
        page.truncate(self.limit);
        let marker = page.last().filter(|_| more).map(|item| name(item).to_owned());
        (page, marker)
    }
}

/// `IsTruncated` and `Marker`.
pub(super) fn write_page_end(xml: &mut Xml, marker: Option<&String>) {
    xml.value("IsTruncated", marker.is_some());
    xml.optional("Marker", marker);
}

/// A document as answers hold it: percent-encoded (RFC 3986).
pub(super) fn encode_document(document: &str) -> String {
    const PLAIN: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(document, PLAIN).to_string()
}

pub(super) fn write_tags(xml: &mut Xml, tags: &BTreeMap<String, String>) {
    xml.list("Tags", tags, |xml, (key, value)| {
        xml.text("Key", key);
        xml.text("Value", value);
    });
}
