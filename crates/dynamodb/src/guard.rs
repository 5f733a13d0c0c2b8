//! What a table itself says about a right to it, or to an index or a stream of it: its tags, as condition keys, and its
//! policy. A stream has a policy of its own.
//!
//! Invariant: a right is decided on by the table as it is, not as it was: the row comes from the [cache](crate::table),
//! which whoever changes what is looked at here makes forget the table, once that is written.

use std::sync::Arc;

use aws::{Access, Guard};

use crate::Error;
use crate::ops::LATEST;
use crate::service::{Node, Scope};
use crate::tables::{STREAMS, stream_key};

/// What an ARN is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    /// The table, or an index, which has the table's policy.
    Table,
    /// The stream of that label.
    Stream(&'a str),
}

/// The table that an ARN is of, or of whose index or stream.
fn table_of<'a>(arn: &'a str, prefix: &str) -> Option<(&'a str, Part<'a>)> {
    let rest = arn.strip_prefix(prefix)?;
    let Some((table, part)) = rest.split_once('/') else { return Some((rest, Part::Table)) };
    match part.split_once('/')? {
        ("index", _) => Some((table, Part::Table)),
        ("stream", label) => Some((table, Part::Stream(label))),
        _ => None,
    }
}

/// Has rights to a table say what it says.
pub(crate) async fn describe(node: &Node, scope: &Scope, needs: &mut [Access]) -> Result<(), Error> {
    let prefix = scope.table_arn("");
    for need in needs {
        let Some((name, part)) = table_of(&need.resource, &prefix) else { continue };
        let table = node.cache.get(&node.store, scope.account, name).await?;
        let policy = match part {
            Part::Table => table.as_ref().and_then(|table| table.policy.clone()),
            // None has this label.
            Part::Stream("*") => None,
            Part::Stream(label) => {
                let latest = table.as_ref().and_then(|table| table.record.stream.as_ref());
                let label = latest.filter(|_| label == LATEST).map_or(label, |stream| &stream.label);
                let row = STREAMS.get(&node.store, stream_key(scope.account, name, label)).await?;
                row.and_then(|row| row.value.policy).map(|policy| Arc::from(policy.document))
            }
        };
        for (key, value) in table.iter().flat_map(|table| &table.record.tags) {
            need.context.push((format!("aws:ResourceTag/{key}").into(), vec![value.clone()]));
        }
        if policy.is_some() {
            let (restricted, granted, decisive) = (false, false, false);
            need.guard =
                Some(Arc::new(Guard { owner: scope.account, policy, restricted, granted, decisive }));
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
            ("t", Some(("t", Part::Table))),
            ("t/index/i", Some(("t", Part::Table))),
            ("t/stream/2026", Some(("t", Part::Stream("2026")))),
            ("t/stream/*", Some(("t", Part::Stream("*")))),
            ("t/backup/b", None),
            ("t/export/e", None),
        ] {
            assert_eq!(table_of(&format!("{prefix}{rest}"), prefix), table);
        }
        assert_eq!(table_of("*", prefix), None);
        assert_eq!(table_of("arn:aws:dynamodb:us-east-1:111111111111:table/t", prefix), None);
    }
}
