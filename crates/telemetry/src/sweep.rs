//! Removes what nobody can reach any more: events of deleted or expired logs, old invocations and traces.
//!
//! Rows are removed from where the last sweep stopped, so that no sweep walks over what earlier ones removed.

use store::{Key, Range, Write, key};
use tokio_util::sync::CancellationToken;
use types::AccountId;

use crate::Error;
use crate::chunk::{ChunkId, MAX_SPAN_MS};
use crate::config::Config;
use crate::tables::{
    self, CHUNKS, EXPIRING, GARBAGE, GROUPS, Garbage, INVOCATIONS, POINTERS, SPANS, STREAMS, SWEPT, Swept,
    TRACES, usage_key,
};
use crate::writer::Writer;

/// Rows removed in a commit.
const STEP: usize = 512;

/// One round over everything.
pub(crate) async fn sweep(
    writer: &Writer,
    config: &Config,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let node = AccountId::NODE;
    let all = GARBAGE.range(node, STEP, |k| {
        k.u8(1);
    });
    let mut walk = Walk::new(writer, shutdown, all);
    while let Some(entry) = walk.next().await? {
        let row = GARBAGE.decode(&entry)?;
        garbage(writer, shutdown, &row.value, row.key).await?;
    }
    let all = EXPIRING.range(node, STEP, |k| {
        k.u8(2);
    });
    let mut walk = Walk::new(writer, shutdown, all);
    while let Some(entry) = walk.next().await? {
        let row = EXPIRING.decode(&entry)?.value;
        expire(writer, shutdown, row.account, &row.name).await?;
    }
    let all = SWEPT.range(node, STEP, |k| {
        k.u8(1);
    });
    let mut walk = Walk::new(writer, shutdown, all);
    while let Some(entry) = walk.next().await? {
        account(writer, config, shutdown, SWEPT.decode(&entry)?.value).await?;
    }
    Ok(())
}

/// Goes over a range in steps, until shutdown.
struct Walk<'a> {
    writer: &'a Writer,
    shutdown: &'a CancellationToken,
    range: Range,
    more: bool,
    step: std::vec::IntoIter<store::Entry>,
}

impl<'a> Walk<'a> {
    fn new(writer: &'a Writer, shutdown: &'a CancellationToken, range: Range) -> Self {
        Self { writer, shutdown, range, more: true, step: Vec::new().into_iter() }
    }

    async fn next(&mut self) -> Result<Option<store::Entry>, Error> {
        if self.shutdown.is_cancelled() {
            return Ok(None);
        }
        if self.step.len() == 0 && self.more {
            let page = self.writer.store.scan(self.range.clone()).await?;
            if let Some(last) = page.entries.last() {
                self.range.start = key::after(&last.key);
            }
            self.more = page.more;
            self.step = page.entries.into_iter();
        }
        Ok(self.step.next())
    }
}

/// Removes a range; `also` names what goes with each row. True unless it was interrupted.
async fn remove(
    writer: &Writer,
    shutdown: &CancellationToken,
    mut range: Range,
    also: impl Fn(&store::Entry) -> Result<Vec<Key>, Error>,
) -> Result<bool, Error> {
    range.limit = STEP;
    loop {
        if shutdown.is_cancelled() {
            return Ok(false);
        }
        let page = writer.store.scan(range.clone()).await?;
        let Some(last) = page.entries.last() else { return Ok(true) };
        range.start = key::after(&last.key);
        let mut writes = Vec::with_capacity(page.entries.len() * 2);
        for entry in &page.entries {
            writes.extend(also(entry)?.into_iter().map(Write::Delete));
            writes.push(Write::Delete(entry.key.clone()));
        }
        writer.store.write(writes).await?;
        if !page.more {
            return Ok(true);
        }
    }
}

async fn garbage(
    writer: &Writer,
    shutdown: &CancellationToken,
    row: &Garbage,
    row_key: Key,
) -> Result<(), Error> {
    let (account, group) = (row.account, row.group);
    let chunks = CHUNKS.range(account, STEP, |k| {
        k.u8(0).u64(group);
        if let Some(stream) = row.stream {
            k.u64(stream);
        }
    });
    let pointer = |entry: &store::Entry| {
        let id = ChunkId::from_key(&entry.key).ok_or(Error::Corrupt("a key"))?;
        Ok(vec![id.in_group(account, group)])
    };
    let mut done = remove(writer, shutdown, chunks, pointer).await?;
    if row.stream.is_none() {
        let streams = STREAMS.range(account, STEP, |k| {
            k.u64(group);
        });
        done &= remove(writer, shutdown, streams, |_| Ok(Vec::new())).await?;
    }
    if done {
        writer.store.write(vec![Write::Delete(row_key)]).await?;
    }
    Ok(())
}

async fn expire(
    writer: &Writer,
    shutdown: &CancellationToken,
    account: AccountId,
    name: &str,
) -> Result<(), Error> {
    let group_key = tables::group(account, name);
    let Some(group) = GROUPS.get(&writer.store, group_key.clone()).await? else { return Ok(()) };
    let group = group.value;
    // A chunk is removed when its last event may not be shown any more.
    let until = group.cutoff_ms(writer.now_ms()) - MAX_SPAN_MS;
    if until <= group.swept_ms {
        return Ok(());
    }
    let bound = |ms: i64| {
        POINTERS.key(account, |k| {
            k.u8(1).u64(group.number).i64(ms);
        })
    };
    let range = Range {
        start: bound(group.swept_ms),
        end: bound(until),
        limit: STEP,
        limit_bytes: 4 << 20,
        reverse: false,
    };
    let chunk = |entry: &store::Entry| {
        let id = ChunkId::from_key(&entry.key).ok_or(Error::Corrupt("a key"))?;
        Ok(vec![id.in_stream(account, group.number, POINTERS.decode(entry)?.value.stream)])
    };
    if remove(writer, shutdown, range, chunk).await? {
        let number = group.number;
        let reads = vec![store::Read::Key(group_key.clone())];
        let decide = move |pages: &[store::Page], _| {
            let mut writes = Vec::new();
            if let Some(mut row) = GROUPS.first(&pages[0])?
                && row.value.number == number
            {
                row.value.swept_ms = until;
                writes.push(GROUPS.put(group_key.clone(), &row.value));
            }
            Ok::<_, Error>((writes, ()))
        };
        writer.store.transact(reads, decide).await?;
    }
    Ok(())
}

async fn account(
    writer: &Writer,
    config: &Config,
    shutdown: &CancellationToken,
    row: Swept,
) -> Result<(), Error> {
    let account = row.account;
    // Whole hours, since invocations are found through the hours of their usage.
    let cutoff_s = writer.env.now().as_second() - i64::from(config.retention_days) * 86_400;
    let (from, until) = (row.until_us.div_euclid(3_600_000_000), cutoff_s.div_euclid(3600));
    if until <= from {
        return Ok(());
    }
    let between =
        |start: Key, end: Key| Range { start, end, limit: STEP, limit_bytes: 4 << 20, reverse: false };
    let hours = between(tables::usage(account, from, ""), tables::usage(account, until, ""));
    let mut walk = Walk::new(writer, shutdown, hours);
    while let Some(entry) = walk.next().await? {
        let (hour, function) = usage_key(&entry.key)?;
        let bound = |hour: i64| {
            INVOCATIONS.key(account, |k| {
                k.u8(0).text(&function).i64(hour * 3_600_000_000);
            })
        };
        let billed = |entry: &store::Entry| {
            let rows = INVOCATIONS.decode(entry)?.value.0;
            let billed = rows.iter().filter(|row| row.redeliverable);
            Ok(billed.map(|row| tables::billed(account, row.request_id, row.attempt)).collect())
        };
        remove(writer, shutdown, between(bound(hour), bound(hour + 1)), billed).await?;
    }
    let (from_us, until_us) = (from * 3_600_000_000, until * 3_600_000_000);
    let traces = between(tables::trace(account, from_us, ""), tables::trace(account, until_us, ""));
    let mut walk = Walk::new(writer, shutdown, traces);
    while let Some(entry) = walk.next().await? {
        let row = TRACES.decode(&entry)?;
        let mut done = true;
        for trace in row.value.starts(&row.key)? {
            let spans = SPANS.range(account, STEP, |k| {
                k.u8(0).text(&trace.root);
            });
            done &= remove(writer, shutdown, spans, |_| Ok(Vec::new())).await?;
        }
        if done {
            writer.store.write(vec![Write::Delete(entry.key)]).await?;
        }
    }
    if !shutdown.is_cancelled() {
        let row = Swept { account, until_us };
        writer.store.write(vec![SWEPT.put(tables::swept(account), &row)]).await?;
    }
    Ok(())
}
