//! What changed of a table between two commits: each item once, as it was at the first and at the second.
//!
//! The history is in the order of changes and not of keys, so the changes are gathered by key in rows of their own, in
//! three steps: the first change of each key in the span says what was there before it; the first one after the span
//! says what was there at its end; for what did not change since, the item says it. Only then is anything written.
//! Each step can be done again: what is gathered stays as it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::key::{after, prefix_end};
use store::{Key, Range, Read, Write};

use super::Stop;
use super::export::{Export, File, Row};
use super::rows::{EXPORT_CHANGES, EXPORTS, ExportChange, Span, Step, export_change_key};
use crate::history::{Past, version_of};
use crate::tables::{history_prefix, items_prefix};
use crate::value::{ItemView, project_item};

/// Rows handled by one commit.
const ROWS: usize = 128;
const ROWS_BYTES: usize = 1 << 20;

impl Export<'_> {
    /// Gathers and writes what changed.
    pub(super) async fn write_changes(&mut self) -> Result<(), Stop> {
        while let Some(step) = self.record.span.as_ref().map(|span| span.step) {
            match step {
                Step::Gather => {
                    let (first, last) = self.bounds();
                    self.gather(first, last).await?;
                    self.enter(Step::Settle).await?;
                }
                Step::Settle => {
                    let last = self.last_change().await?;
                    self.settle(last).await?;
                    self.enter(Step::Write).await?;
                }
                Step::Write => return self.write_gathered().await,
            }
        }
        Ok(())
    }

    /// The first and the last commit of the span.
    fn bounds(&self) -> (u64, u64) {
        let first = self.record.span.as_ref().map_or(u64::MAX, |span| span.from_version.saturating_add(1));
        (first, self.record.version)
    }

    async fn enter(&mut self, step: Step) -> Result<(), Stop> {
        if let Some(span) = &mut self.record.span {
            span.step = step;
        }
        self.record.from = None;
        self.node.store.write(vec![EXPORTS.put(self.record.key(self.account), &self.record)]).await?;
        Ok(())
    }

    /// The rows of the history from one commit to another, beginning at `from` if that is given.
    fn history(&self, first: u64, last: u64, from: Option<&Vec<u8>>) -> Option<Range> {
        let at = |version: u64| {
            let mut writer = history_prefix(self.account, self.record.table_id);
            writer.u64(version);
            writer.finish()
        };
        let start = from.map_or_else(|| at(first), |from| Key::from(from.clone()));
        let end = at(last.saturating_add(1));
        let range = Range { start, end, limit: ROWS, limit_bytes: ROWS_BYTES, reverse: false };
        (range.start < range.end).then_some(range)
    }

    async fn last_change(&self) -> Result<u64, Stop> {
        let start = history_prefix(self.account, self.record.table_id).finish();
        let end = prefix_end(&start);
        let range = Range { start, end, limit: 1, limit_bytes: 1, reverse: true };
        let page = self.node.store.scan(range).await?;
        Ok(page.first().map(|entry| version_of(&entry.key)).transpose()?.unwrap_or(0))
    }

    fn change_key(&self, tail: &[u8]) -> Key {
        export_change_key(self.account, &self.record.id, tail)
    }

    /// What is gathered of those keys.
    async fn gathered(&self, tails: &[Bytes]) -> Result<BTreeMap<Bytes, ExportChange>, Stop> {
        let reads = tails.iter().map(|tail| Read::Key(self.change_key(tail))).collect();
        let pages = self.node.store.read(reads).await?;
        let mut found = BTreeMap::new();
        for (tail, page) in tails.iter().zip(&pages) {
            if let Some(row) = EXPORT_CHANGES.first(page)? {
                found.insert(tail.clone(), row.value);
            }
        }
        Ok(found)
    }

    /// Notes what each key was before its first change in the span.
    async fn gather(&mut self, first: u64, last: u64) -> Result<(), Stop> {
        while let Some(range) = self.history(first, last, self.record.from.as_ref()) {
            let found = self.node.store.read(vec![self.table_read(), Read::Range(range)]).await?;
            self.check(&found[0])?;
            let mut rows = Vec::with_capacity(found[1].entries.len());
            for entry in &found[1].entries {
                rows.push(Past::decode(&entry.value)?);
            }
            let tails: Vec<_> = rows.iter().map(|row| row.tail.clone()).collect();
            let mut changes = self.gathered(&tails).await?;
            for row in rows {
                let at_ms = row.at.as_millisecond();
                let old = row.item.map(|(_, item)| item);
                let change = changes.entry(row.tail).or_insert(ExportChange { at_ms, old, new: None });
                change.at_ms = at_ms;
            }
            let end = found[1].entries.last().filter(|_| found[1].more).map(|last| after(&last.key));
            let done = end.is_none();
            self.record.from = end.map(|key| key.to_vec());
            self.save(changes).await?;
            if done {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Keeps what was gathered, and where the work stands.
    async fn save(&self, changes: BTreeMap<Bytes, ExportChange>) -> Result<(), Stop> {
        let puts = changes.iter().map(|(tail, change)| EXPORT_CHANGES.put(self.change_key(tail), change));
        let mut writes: Vec<Write> = puts.collect();
        writes.push(EXPORTS.put(self.record.key(self.account), &self.record));
        self.node.store.write(writes).await?;
        Ok(())
    }

    /// Notes what each key was at the end of the span, from its first change after it, up to a commit.
    async fn settle(&mut self, last: u64) -> Result<(), Stop> {
        let first = self.record.version + 1;
        let settled = |this: &Self| this.record.span.as_ref().and_then(|span| span.settled.clone());
        while let Some(range) = self.history(first, last, settled(self).as_ref()) {
            let end = range.end.clone();
            let found = self.node.store.read(vec![self.table_read(), Read::Range(range)]).await?;
            self.check(&found[0])?;
            let mut rows = Vec::with_capacity(found[1].entries.len());
            for entry in &found[1].entries {
                rows.push(Past::decode(&entry.value)?);
            }
            let tails: Vec<_> = rows.iter().map(|row| row.tail.clone()).collect();
            let mut changes = self.gathered(&tails).await?;
            for row in rows {
                if let Some(change) = changes.get_mut(&row.tail) {
                    change.new.get_or_insert_with(|| row.item.map(|(_, item)| item));
                }
            }
            let next = found[1].entries.last().filter(|_| found[1].more).map(|last| after(&last.key));
            if let Some(span) = &mut self.record.span {
                span.settled = Some(next.unwrap_or(end).to_vec());
            }
            self.save(changes).await?;
        }
        Ok(())
    }

    /// Writes what is gathered, in files.
    async fn write_gathered(&mut self) -> Result<(), Stop> {
        let prefix = self.change_key(&[]);
        let end = prefix_end(&prefix);
        loop {
            let mut start = self.record.from.clone().map_or_else(|| prefix.clone(), Key::from);
            let mut file = File::new();
            while start < end && !file.is_full() {
                let range =
                    Range { start, end: end.clone(), limit: ROWS, limit_bytes: ROWS_BYTES, reverse: false };
                let page = self.node.store.scan(range).await?;
                let last = page.entries.last().filter(|_| page.more);
                start = last.map_or_else(|| end.clone(), |last| after(&last.key));
                let tails: Vec<_> =
                    page.entries.iter().map(|entry| entry.key.slice(prefix.len()..)).collect();
                file = file.add(self.rows(tails).await?).await?;
            }
            let done = start >= end;
            self.keep(file, true, Some(start.to_vec())).await?;
            if done {
                return Ok(());
            }
        }
    }

    /// The lines of those keys.
    async fn rows(&mut self, tails: Vec<Bytes>) -> Result<Vec<Row>, Stop> {
        let mut changes = self.gathered(&tails).await?;
        let open: Vec<_> =
            changes.iter().filter(|(_, change)| change.new.is_none()).map(|(tail, _)| tail.clone()).collect();
        let mut reads = vec![self.table_read(), self.last_change_read()];
        reads.extend(open.iter().map(|tail| {
            let mut writer = items_prefix(self.account, self.record.table_id);
            writer.raw(tail);
            Read::Key(writer.finish())
        }));
        let pages = self.node.store.read(reads).await?;
        self.check(&pages[0])?;
        let mut changed_since = false;
        for (tail, page) in open.iter().zip(&pages[2..]) {
            match page.first().filter(|entry| entry.version.0 <= self.record.version) {
                Some(entry) => {
                    if let Some(change) = changes.get_mut(tail) {
                        change.new = Some(Some(entry.value.clone()));
                    }
                }
                None => changed_since = true,
            }
        }
        if changed_since {
            // What is not there as it was has changed up to this snapshot, or was not there at the end of the span.
            let last = pages[1].first().map(|entry| version_of(&entry.key)).transpose()?.unwrap_or(0);
            self.settle(last).await?;
            let settled = self.gathered(&open).await?;
            for (tail, change) in settled {
                if let Some(open) = changes.get_mut(&tail) {
                    open.new.get_or_insert(change.new.flatten());
                }
            }
        }
        let with_old = self.record.span.as_ref().is_some_and(|span: &Span| span.with_old);
        let names = self.key_names().await?;
        let mut rows = Vec::with_capacity(changes.len());
        for change in changes.into_values() {
            let new = change.new.flatten();
            // Made and deleted within the span, or changed back: nothing has changed.
            if new == change.old {
                continue;
            }
            let Some(some) = new.as_ref().or(change.old.as_ref()) else { continue };
            let view = ItemView::new(some).map_err(store::Error::from)?;
            let keys = project_item(view, |name| names.iter().any(|key| key.as_bytes() == name));
            let old = change.old.filter(|_| with_old);
            rows.push(Row::Change { at_ms: change.at_ms, keys, new, old });
        }
        Ok(rows)
    }
}
