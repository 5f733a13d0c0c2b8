//! Records of streams that are older than they are kept, and streams that ended so long ago.

use store::key::after;
use store::{Error, Range, Stored, Write};
use types::{AccountId, Timestamp};

use super::{BATCH, Sweeper};
use crate::stream::{ChangeRecord, Position, RETENTION, records_from};
use crate::tables::{
    STREAM_HEADS, STREAMS, StreamHead, StreamRecord, stream_head_key, stream_records_prefix,
};

/// Streams looked up at a time.
const STREAMS_AT_A_TIME: usize = 100;

impl Sweeper {
    /// Trims every stream of every account.
    pub(super) async fn trim_streams(&self) -> Result<(), Error> {
        let mut from = AccountId::DEFAULT;
        while let Some(account) = self.node.store.next_account(STREAMS.id(), from).await? {
            let mut range = STREAMS.range(account, STREAMS_AT_A_TIME, |_| {});
            loop {
                let (streams, more) = STREAMS.scan(&self.node.store, range.clone()).await?;
                let Some(last) = streams.last() else { break };
                range.start = after(&last.key);
                for stream in &streams {
                    self.trim(account, stream).await?;
                }
                if !more {
                    break;
                }
            }
            from = AccountId::from_number(account.number() + 1).unwrap_or(AccountId::NODE);
        }
        Ok(())
    }

    async fn trim(&self, account: AccountId, row: &Stored<StreamRecord>) -> Result<(), Error> {
        let stream = &row.value;
        let horizon = self.node.env.now() - RETENTION;
        if stream.closed.is_some_and(|(at, _)| at < horizon) {
            self.remove_all(stream_records_prefix(account, stream.id).finish()).await?;
            let head = Write::Delete(stream_head_key(account, stream.id));
            self.node.store.write(vec![head, Write::Delete(row.key.clone())]).await?;
            return Ok(());
        }
        let head_key = stream_head_key(account, stream.id);
        let head = STREAM_HEADS.get(&self.node.store, head_key.clone()).await?.map(|row| row.value);
        let mut position =
            head.map_or(Position::new(stream.id, 0), |head| Position::new(head.version, head.ordinal));
        // Mostly the first record says that there is nothing to trim.
        let mut limit = 1;
        loop {
            let (start, end) = records_from(account, stream.id, position);
            let range = Range { start, end, limit, limit_bytes: 1 << 20, reverse: false };
            limit = BATCH;
            let page = self.node.store.scan(range).await?;
            let mut writes = Vec::new();
            for entry in &page.entries {
                if !is_older(&entry.value, horizon)? {
                    break;
                }
                position = Position::of_key(&entry.key)
                    .map_err(|error| Error::Corrupt {
                        table: "ddb_stream_records",
                        reason: error.to_string(),
                    })?
                    .next();
                writes.push(Write::Delete(entry.key.clone()));
            }
            let done = writes.len() < page.entries.len() || !page.more;
            if !writes.is_empty() {
                let (version, ordinal) = position.parts();
                writes.push(STREAM_HEADS.put(head_key.clone(), &StreamHead { version, ordinal }));
                self.node.store.write(writes).await?;
            }
            if done {
                return Ok(());
            }
        }
    }
}

fn is_older(record: &bytes::Bytes, horizon: Timestamp) -> Result<bool, Error> {
    Ok(ChangeRecord::decode(record)?.at < horizon)
}
