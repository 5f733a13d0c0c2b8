//! Spans, invocations and the list of traces as they are stored: those that were written together and belong
//! together share a row, in a compact form. Rows of format 1 hold one each, as JSON.
//!
//! Invariant: what a row of invocations or of the list holds began within one second ([`window`]), so that a reader who
//! has seen a whole second has seen all that began in it.

use serde::de::DeserializeOwned;
use store::Record;
use types::{AccountId, RequestId, Timestamp, TraceHeader};

use crate::record::{Invocation, Outcome, Span};

/// The second that something began in.
pub(crate) fn window(started_us: i64) -> i64 {
    started_us.div_euclid(1_000_000)
}

/// Spans of one trace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spans(pub(crate) Vec<Span>);

/// Invocations of one function.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Invocations(pub(crate) Vec<Invocation>);

/// Traces that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Traces {
    /// One, whose start and root are in the row's key.
    Named(String),
    /// Several.
    Listed(Vec<TraceStart>),
}

/// The first span seen of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceStart {
    pub(crate) root: String,
    pub(crate) started_us: i64,
    pub(crate) name: String,
}

impl Record for Spans {
    const FORMAT: u8 = 2;

    fn encode(&self, out: &mut Vec<u8>) {
        let Some(first) = self.0.first() else { return };
        let mut out = Writer(out);
        out.number(first.account.number());
        out.text(&first.trace.root);
        for span in &self.0 {
            out.text(&span.id);
            out.optional(span.trace.parent.as_deref());
            out.text(&span.name);
            out.time(span.started_at);
            out.number(span.duration_us);
            out.optional(span.error.as_deref());
        }
    }

    fn decode(format: u8, bytes: &[u8]) -> Result<Self, String> {
        if format == 1 {
            return json(bytes).map(|span| Self(vec![span]));
        }
        let mut reader = Reader(bytes);
        let (account, root) = (reader.account()?, reader.text()?);
        let mut spans = Vec::new();
        while !reader.0.is_empty() {
            let (id, parent) = (reader.text()?, reader.optional()?);
            let trace =
                TraceHeader { root: root.clone(), parent, sampled: true, undecided: false, lineage: None };
            let (name, started_at) = (reader.text()?, reader.time()?);
            let (duration_us, error) = (reader.number()?, reader.optional()?);
            spans.push(Span { account, trace, id, name, started_at, duration_us, error });
        }
        Ok(Self(spans))
    }
}

const OUTCOMES: [Outcome; 4] = [Outcome::Success, Outcome::Error, Outcome::Timeout, Outcome::OutOfMemory];

fn outcome_number(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Success => 0,
        Outcome::Error => 1,
        Outcome::Timeout => 2,
        Outcome::OutOfMemory => 3,
    }
}

impl Record for Invocations {
    const FORMAT: u8 = 2;

    fn encode(&self, out: &mut Vec<u8>) {
        let Some(first) = self.0.first() else { return };
        let mut out = Writer(out);
        out.number(first.account.number());
        out.text(&first.function);
        for row in &self.0 {
            out.text(&row.version);
            out.0.extend_from_slice(row.request_id.as_bytes());
            out.number(row.attempt.into());
            out.time(row.started_at);
            out.number(row.duration_us);
            // One more than it took; none is 0.
            out.number(row.init_us.map_or(0, |us| us.saturating_add(1)));
            out.number(row.billed_ms);
            out.number(row.memory_mb.into());
            out.number(row.max_memory_mb.into());
            out.0.push(
                outcome_number(row.outcome)
                    | u8::from(row.redeliverable) << 4
                    | u8::from(row.trace.sampled) << 5,
            );
            out.text(&row.trace.root);
            out.optional(row.trace.parent.as_deref());
            out.optional(row.trace.lineage.as_deref());
        }
    }

    fn decode(format: u8, bytes: &[u8]) -> Result<Self, String> {
        if format == 1 {
            return json(bytes).map(|row| Self(vec![row]));
        }
        let mut reader = Reader(bytes);
        let (account, function) = (reader.account()?, reader.text()?);
        let mut rows = Vec::new();
        while !reader.0.is_empty() {
            let version = reader.text()?;
            let request_id = RequestId::from_bytes(reader.array()?);
            let (attempt, started_at) = (reader.small()?, reader.time()?);
            let (duration_us, init_us) = (reader.number()?, reader.number()?.checked_sub(1));
            let (billed_ms, memory_mb, max_memory_mb) = (reader.number()?, reader.small()?, reader.small()?);
            let [flags] = reader.array()?;
            let outcome = *OUTCOMES.get(usize::from(flags & 0x0F)).ok_or("it has an unknown outcome")?;
            let (root, parent, lineage) = (reader.text()?, reader.optional()?, reader.optional()?);
            rows.push(Invocation {
                account,
                function: function.clone(),
                version,
                request_id,
                attempt,
                started_at,
                duration_us,
                init_us,
                billed_ms,
                memory_mb,
                max_memory_mb,
                outcome,
                trace: TraceHeader { root, parent, sampled: flags & 0x20 != 0, undecided: false, lineage },
                redeliverable: flags & 0x10 != 0,
            });
        }
        Ok(Self(rows))
    }
}

impl Record for Traces {
    const FORMAT: u8 = 2;

    fn encode(&self, out: &mut Vec<u8>) {
        let traces = match self {
            Self::Listed(traces) => traces,
            Self::Named(_) => unreachable!("rows of format 1 are read and not written"),
        };
        let mut out = Writer(out);
        for trace in traces {
            out.text(&trace.root);
            out.0.extend_from_slice(&trace.started_us.to_le_bytes());
            out.text(&trace.name);
        }
    }

    fn decode(format: u8, bytes: &[u8]) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct Name {
            name: String,
        }
        if format == 1 {
            return json(bytes).map(|Name { name }| Self::Named(name));
        }
        let mut reader = Reader(bytes);
        let mut traces = Vec::new();
        while !reader.0.is_empty() {
            let root = reader.text()?;
            let started_us = i64::from_le_bytes(reader.array()?);
            traces.push(TraceStart { root, started_us, name: reader.text()? });
        }
        Ok(Self::Listed(traces))
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Numbers in LEB128, texts after their length, times in microseconds in 8 bytes.
struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A text after one more than its length; none is 0.
    fn optional(&mut self, text: Option<&str>) {
        let Some(text) = text else { return self.number(0) };
        self.number(text.len() as u64 + 1);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn time(&mut self, time: Timestamp) {
        self.0.extend_from_slice(&time.as_microsecond().to_le_bytes());
    }
}

const CUT: &str = "it is cut short";

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(*head)
    }

    fn number(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("it has a number of more than 64 bits".into())
    }

    fn small(&mut self) -> Result<u32, String> {
        u32::try_from(self.number()?).map_err(|_| "it has a number of more than 32 bits".into())
    }

    fn take(&mut self, len: u64) -> Result<String, String> {
        let len = usize::try_from(len).map_err(|_| CUT)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(CUT)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| "it has a text that is not UTF-8".into())
    }

    fn text(&mut self) -> Result<String, String> {
        let len = self.number()?;
        self.take(len)
    }

    fn optional(&mut self) -> Result<Option<String>, String> {
        match self.number()? {
            0 => Ok(None),
            more => self.take(more - 1).map(Some),
        }
    }

    fn time(&mut self) -> Result<Timestamp, String> {
        let microseconds = i64::from_le_bytes(self.array()?);
        Timestamp::from_microsecond(microseconds).map_err(|_| "it has a time that does not exist".into())
    }

    fn account(&mut self) -> Result<AccountId, String> {
        AccountId::from_number(self.number()?).ok_or_else(|| "it has an account that does not exist".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::SystemEnv;

    fn encoded(record: &impl Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    }

    fn span(name: &str, parent: Option<&str>, error: Option<&str>) -> Span {
        let env = SystemEnv::new();
        let trace = TraceHeader {
            root: "1-00000000-000000000000000000000001".into(),
            parent: parent.map(Into::into),
            ..TraceHeader::new(&*env).decided()
        };
        Span {
            account: AccountId::DEFAULT,
            trace,
            id: "00f067aa0ba902b7".into(),
            name: name.into(),
            started_at: Timestamp::from_microsecond(-1).unwrap(),
            duration_us: u64::MAX,
            error: error.map(Into::into),
        }
    }

    #[test]
    fn what_is_packed_is_what_was_recorded() {
        let env = SystemEnv::new();
        let spans = Spans(vec![span("s3 PutObject", None, Some("")), span("", Some("a"), Some("NoSuchKey"))]);
        let row = |init_us, outcome, redeliverable| Invocation {
            account: AccountId::DEFAULT,
            function: "f".into(),
            version: "$LATEST".into(),
            request_id: RequestId::new(&*env),
            attempt: 2,
            started_at: Timestamp::from_microsecond(env.now().as_microsecond()).unwrap(),
            duration_us: 300,
            init_us,
            billed_ms: 1,
            memory_mb: 10_240,
            max_memory_mb: 0,
            outcome,
            trace: TraceHeader { sampled: init_us.is_some(), ..TraceHeader::new(&*env).decided() },
            redeliverable,
        };
        let rows = OUTCOMES.map(|outcome| row(Some(0), outcome, true)).into_iter();
        let rows = Invocations(rows.chain([row(None, Outcome::Success, false)]).collect());
        let traces = Traces::Listed(vec![TraceStart { root: "r".into(), started_us: -5, name: "n".into() }]);
        let (of_spans, of_rows, of_traces) = (encoded(&spans), encoded(&rows), encoded(&traces));
        assert_eq!(Spans::decode(2, &of_spans).unwrap(), spans);
        assert_eq!(Invocations::decode(2, &of_rows).unwrap(), rows);
        assert_eq!(Traces::decode(2, &of_traces).unwrap(), traces);
        for cut in 1..of_rows.len() {
            let read = Invocations::decode(2, &of_rows[..cut]);
            assert!(read.is_err() || read.is_ok_and(|read| read.0.len() < rows.0.len()), "{cut}");
        }
    }

    #[test]
    fn rows_of_the_first_format_are_read() {
        let old = span("s3 PutObject", Some("a"), None);
        assert_eq!(Spans::decode(1, &serde_json::to_vec(&old).unwrap()).unwrap(), Spans(vec![old]));
        assert_eq!(Traces::decode(1, br#"{"name":"n"}"#).unwrap(), Traces::Named("n".into()));
    }
}
