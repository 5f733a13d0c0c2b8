//! What a table itself says about a right to it, or to an index or a stream of it: its tags, as condition keys.
//!
//! Invariant: a right is decided on by the table as it is, not as it was: the row comes from the [cache](crate::table),
//! which whoever changes what is looked at here makes forget the table, once that is written.

use aws::Access;

use crate::Error;
use crate::service::{Node, Scope};

/// What belongs to a table and is guarded by it.
const PARTS: [&str; 2] = ["index/", "stream/"];

/// The table that an ARN is of, or of whose index or stream.
fn table_of<'a>(arn: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = arn.strip_prefix(prefix)?;
    match rest.split_once('/') {
        None => Some(rest),
        Some((table, part)) => PARTS.iter().any(|kind| part.starts_with(kind)).then_some(table),
    }
}

/// Has rights to a table say what it says.
pub(crate) async fn describe(node: &Node, scope: &Scope, needs: &mut [Access]) -> Result<(), Error> {
    let prefix = scope.table_arn("");
    for need in needs {
        let Some(name) = table_of(&need.resource, &prefix) else { continue };
        let Some(table) = node.cache.get(&node.store, scope.account, name).await? else { continue };
        for (key, value) in &table.record.tags {
            need.context.push((format!("aws:ResourceTag/{key}").into(), vec![value.clone()]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_indexes_and_streams_are_guarded() {
        let prefix = "arn:aws:dynamodb:us-east-1:000000000000:table/";
        for (rest, table) in [
            ("t", Some("t")),
            ("t/index/i", Some("t")),
            ("t/stream/2026", Some("t")),
            ("t/stream/*", Some("t")),
            ("t/backup/b", None),
            ("t/export/e", None),
        ] {
            assert_eq!(table_of(&format!("{prefix}{rest}"), prefix), table);
        }
        assert_eq!(table_of("*", prefix), None);
        assert_eq!(table_of("arn:aws:dynamodb:us-east-1:111111111111:table/t", prefix), None);
    }
}
