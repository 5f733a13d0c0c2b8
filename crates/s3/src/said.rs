//! What the body of a request says that rights depend on: read before the request is authorised.

use aws::Access;
use s3s::dto::{Delete, ObjectIdentifier, ObjectLockLegalHold, ObjectLockRetention};
use s3s::xml::Deserialize;
use types::Timestamp;

use crate::Error;
use crate::ops::{MAX_PAGE, seconds, tagging};

/// What was said.
#[derive(Debug)]
pub(crate) enum Said {
    /// Nothing that matters.
    Nothing,
    /// What DeleteObjects is to delete.
    Deletions(Vec<ToDelete>),
    /// The tags of an object.
    Tags(Vec<(String, String)>),
    /// The retention of an object: its mode, and the second in which it ends.
    Retention(Option<String>, Option<i64>),
    /// The legal hold of an object.
    Hold(Option<String>),
}

/// An object that DeleteObjects names.
#[derive(Debug)]
pub(crate) struct ToDelete {
    pub(crate) key: String,
    pub(crate) version: Option<String>,
    pub(crate) e_tag: Option<String>,
}

impl Said {
    /// Whether the body of an operation says something that matters.
    pub(crate) fn matters(operation: &str) -> bool {
        matches!(
            operation,
            "DeleteObjects" | "PutObjectTagging" | "PutObjectRetention" | "PutObjectLegalHold"
        )
    }

    /// Reads the body of such an operation.
    pub(crate) fn read(operation: &str, body: &[u8]) -> Result<Self, Error> {
        Ok(match operation {
            "DeleteObjects" => Self::Deletions(deletions(document(body)?)?),
            "PutObjectTagging" => Self::Tags(tagging::of_document(body)?),
            "PutObjectRetention" => {
                let ObjectLockRetention { mode, retain_until_date } = document(body)?;
                Self::Retention(
                    mode.map(|mode| mode.as_str().to_owned()),
                    retain_until_date.as_ref().and_then(seconds),
                )
            }
            "PutObjectLegalHold" => {
                let ObjectLockLegalHold { status } = document(body)?;
                Self::Hold(status.map(|status| status.as_str().to_owned()))
            }
            _ => Self::Nothing,
        })
    }

    pub(crate) fn deletions(&self) -> &[ToDelete] {
        match self {
            Self::Deletions(deletions) => deletions,
            Self::Nothing | Self::Tags(_) | Self::Retention(..) | Self::Hold(_) => &[],
        }
    }

    /// The right with what was said as condition keys.
    pub(crate) fn tell(&self, access: Access, now: Timestamp) -> Access {
        match self {
            Self::Nothing | Self::Deletions(_) => access,
            Self::Tags(tags) => with_tags(access, tags),
            Self::Retention(mode, until) => {
                let access = with(access, "s3:object-lock-mode", mode.clone());
                with_end(access, until.and_then(|until| Timestamp::from_second(until).ok()), now)
            }
            Self::Hold(status) => with(access, "s3:object-lock-legal-hold", status.clone()),
        }
    }
}

fn document<'xml, T: Deserialize<'xml>>(body: &'xml [u8]) -> Result<T, Error> {
    T::deserialize(&mut s3s::xml::Deserializer::new(body)).map_err(|_| Error::MalformedXml)
}

fn with(access: Access, name: &'static str, value: Option<String>) -> Access {
    match value {
        Some(value) => access.with(name, vec![value]),
        None => access,
    }
}

/// The right with an object's tags as condition keys.
pub(crate) fn with_tags(mut access: Access, tags: &[(String, String)]) -> Access {
    if !tags.is_empty() {
        access = access.with("s3:RequestObjectTagKeys", tags.iter().map(|(key, _)| key.clone()).collect());
    }
    for (key, value) in tags {
        access = access.with(format!("s3:RequestObjectTag/{key}"), vec![value.clone()]);
    }
    access
}

/// The right with the end of a retention as condition keys.
pub(crate) fn with_end(access: Access, until: Option<Timestamp>, now: Timestamp) -> Access {
    let Some(until) = until else { return access };
    let days = (until.as_second() - now.as_second() + 86_399).div_euclid(86_400);
    access
        .with("s3:object-lock-retain-until-date", vec![until.to_string()])
        .with("s3:object-lock-remaining-retention-days", vec![days.to_string()])
}

/// Keys, and the versions that are named with them.
fn deletions(delete: Delete) -> Result<Vec<ToDelete>, Error> {
    let objects = delete.objects;
    if objects.is_empty() || objects.len() > MAX_PAGE || objects.iter().any(|o| o.key.is_empty()) {
        return Err(Error::MalformedXml);
    }
    let to_delete = |object: ObjectIdentifier| ToDelete {
        key: object.key,
        version: object.version_id,
        e_tag: object.e_tag.map(|tag| tag.value().to_owned()),
    };
    Ok(objects.into_iter().map(to_delete).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_to_delete_have_names() {
        let read = |xml: &str| Said::read("DeleteObjects", format!("<Delete>{xml}</Delete>").as_bytes());
        let said = read("<Object><Key>a</Key><ETag>\"1\"</ETag></Object>").unwrap();
        let named = &said.deletions()[0];
        assert_eq!((&*named.key, named.e_tag.as_deref()), ("a", Some("1")));
        for nameless in
            ["", "<Object><Key></Key></Object>", "<Object><Key>a</Key></Object><Object><Key/></Object>"]
        {
            assert!(matches!(read(nameless), Err(Error::MalformedXml)), "{nameless}");
        }
    }

    #[test]
    fn conditions_are_told() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let told = |operation: &str, xml: &str| {
            let access = Access::new("s3:Any", "arn:aws:s3:::b/k");
            let said = Said::read(operation, xml.as_bytes()).unwrap();
            let keys = said.tell(access, now).context.into_iter();
            keys.map(|(name, values)| format!("{name}={}", values.join(","))).collect::<Vec<_>>()
        };
        let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
        assert_eq!(told("PutObjectTagging", tags), ["s3:RequestObjectTagKeys=a", "s3:RequestObjectTag/a=1"]);
        let retention = "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2030-01-02T01:00:00Z</RetainUntilDate></Retention>";
        assert_eq!(
            told("PutObjectRetention", retention),
            [
                "s3:object-lock-mode=GOVERNANCE",
                "s3:object-lock-retain-until-date=2030-01-02T01:00:00Z",
                "s3:object-lock-remaining-retention-days=2"
            ]
        );
        let hold = "<LegalHold><Status>ON</Status></LegalHold>";
        assert_eq!(told("PutObjectLegalHold", hold), ["s3:object-lock-legal-hold=ON"]);
    }
}
