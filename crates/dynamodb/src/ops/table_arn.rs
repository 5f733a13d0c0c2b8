//! ARNs of what belongs to a table: `arn:...:table/<name>/<kind>/<id>`.

use crate::Error;
use crate::service::Scope;
use crate::wire::Constraints;

/// Such an ARN as it was given, taken apart. Whether it is the caller's own is for its reader to see.
pub(super) struct TableArn {
    pub(super) arn: String,
    pub(super) table: String,
    pub(super) id: String,
}

impl TableArn {
    /// Reads it; `at` is the parameter, `called` what an error calls it.
    pub(super) fn parse(
        arn: Option<String>,
        at: &str,
        kind: &str,
        called: &str,
        scope: &Scope,
    ) -> Result<Self, Error> {
        let mut constraints = Constraints::default();
        constraints.required(arn.as_ref(), at);
        let arn = arn.unwrap_or_default();
        if !constraints.any() {
            constraints.text_len(&arn, at, 37, 1024);
        }
        constraints.finish()?;
        let invalid = || Error::Validation(format!("Invalid {called}: {arn}"));
        let parsed: types::Arn = arn.parse().map_err(|_| invalid())?;
        let rest = parsed.resource.strip_prefix("table/").ok_or_else(invalid)?;
        let (table, id) = rest.split_once(&format!("/{kind}/")).ok_or_else(invalid)?;
        let (table, id) = (scope.table_name(table)?, id.to_owned());
        Ok(Self { arn, table, id })
    }
}
