//! Projections: the parts of an item to answer with, written straight from its stored form.

use std::collections::BTreeMap;

use super::lexer::{Token, Tokens};
use super::path::{Path, RawPath, Step, check_overlap};
use super::{Faults, Placeholders, named};
use crate::Error;
use crate::value::{ItemView, Sequence, ValueView};
use crate::wire::write;

/// Ranks of faults, most important first.
mod rank {
    pub(super) const RESERVED: u8 = 0;
    pub(super) const UNDEFINED: u8 = 1;
    pub(super) const OVERLAP: u8 = 2;
    pub(super) const CONFLICT: u8 = 3;
}

/// Paths, and the names under which what they lead to appears.
pub(crate) type Columns = Vec<(String, Path)>;

/// Paths, merged into a tree.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Projection {
    fields: BTreeMap<String, Branch>,
    /// Of a SELECT: each path and the name under which it appears. The fields are then the paths' attributes.
    columns: Columns,
}

#[derive(Debug, Clone, PartialEq)]
enum Branch {
    Whole,
    Fields(BTreeMap<String, Branch>),
    Indices(BTreeMap<u32, Branch>),
}

impl Projection {
    /// Reads a projection expression.
    pub(crate) fn parse(text: &str, placeholders: &mut Placeholders<'_>) -> Result<Self, Error> {
        named("ProjectionExpression", Self::parse_unnamed(text, placeholders))
    }

    fn parse_unnamed(text: &str, placeholders: &mut Placeholders<'_>) -> Result<Self, Error> {
        let mut tokens = Tokens::new(text)?;
        let mut raw = vec![RawPath::parse(&mut tokens)?];
        while tokens.eat(",") {
            raw.push(RawPath::parse(&mut tokens)?);
        }
        if tokens.peek() != Token::End {
            return Err(tokens.unexpected());
        }
        let mut faults = Faults::default();
        let mut paths = Vec::with_capacity(raw.len());
        for path in raw {
            paths.push(path.resolve(placeholders, (rank::RESERVED, rank::UNDEFINED), &mut faults));
        }
        check_overlap(&paths.iter().collect::<Vec<_>>(), (rank::OVERLAP, rank::CONFLICT), &mut faults);
        faults.finish()?;
        Ok(Self::of(&paths))
    }

    /// A projection on paths that neither overlap nor conflict.
    pub(crate) fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        let mut fields = BTreeMap::new();
        for path in paths {
            add(&mut fields, path.head.clone(), &path.rest);
        }
        Self { fields, columns: Vec::new() }
    }

    /// A projection of paths to names of their own.
    pub(crate) fn columns(columns: &[(String, Path)]) -> Self {
        let fields = columns.iter().map(|(_, path)| (path.head.clone(), Branch::Whole)).collect();
        Self { fields, columns: columns.to_vec() }
    }

    /// The attributes of which it takes parts only.
    pub(crate) fn nested_heads(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|(_, branch)| **branch != Branch::Whole).map(|(name, _)| name.as_str())
    }

    /// The attributes it takes anything of.
    pub(crate) fn heads(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// Appends the projected item.
    pub(crate) fn write(&self, out: &mut Vec<u8>, item: ItemView<'_>) {
        out.push(b'{');
        let begin = out.len();
        if !self.columns.is_empty() {
            for (name, path) in &self.columns {
                if let Some(value) = path.find(item) {
                    write_field(out, begin, name, value, &Branch::Whole);
                }
            }
            out.push(b'}');
            return;
        }
        for (name, branch) in &self.fields {
            if let Some(value) = item.get(name) {
                write_field(out, begin, name, value, branch);
            }
        }
        out.push(b'}');
    }

    /// Whether the projected item has any attribute.
    pub(crate) fn matches(&self, item: ItemView<'_>) -> bool {
        let mut out = Vec::new();
        self.write(&mut out, item);
        out.len() > 2
    }
}

fn add<K: Ord>(branches: &mut BTreeMap<K, Branch>, key: K, rest: &[Step]) {
    let Some((step, rest)) = rest.split_first() else {
        branches.insert(key, Branch::Whole);
        return;
    };
    match step {
        Step::Field(name) => {
            let branch = branches.entry(key).or_insert_with(|| Branch::Fields(BTreeMap::new()));
            if let Branch::Fields(fields) = branch {
                add(fields, name.clone(), rest);
            }
        }
        Step::Index(index) => {
            let branch = branches.entry(key).or_insert_with(|| Branch::Indices(BTreeMap::new()));
            if let Branch::Indices(indices) = branch {
                add(indices, *index, rest);
            }
        }
    }
}

/// Writes a comma if needed, the name and the value; nothing if the branch finds nothing.
fn write_field(out: &mut Vec<u8>, begin: usize, name: &str, value: ValueView<'_>, branch: &Branch) {
    let undo = out.len();
    if undo > begin {
        out.push(b',');
    }
    write::key(out, name);
    if !write_branch(out, value, branch) {
        out.truncate(undo);
    }
}

fn write_branch(out: &mut Vec<u8>, value: ValueView<'_>, branch: &Branch) -> bool {
    match (branch, value.sequence()) {
        (Branch::Whole, _) => {
            write::value(out, value);
            true
        }
        (Branch::Fields(fields), Some(Sequence::Named(named))) => {
            out.extend_from_slice(b"{\"M\":{");
            let begin = out.len();
            for (name, branch) in fields {
                if let Some(value) = named.find(name) {
                    write_field(out, begin, name, value, branch);
                }
            }
            let found = out.len() > begin;
            out.extend_from_slice(b"}}");
            found
        }
        (Branch::Indices(indices), Some(Sequence::Elements(elements))) => {
            out.extend_from_slice(b"{\"L\":[");
            let begin = out.len();
            for (at, value) in (0..).zip(elements) {
                let Some(branch) = indices.get(&at) else { continue };
                let undo = out.len();
                if undo > begin {
                    out.push(b',');
                }
                if !write_branch(out, value, branch) {
                    out.truncate(undo);
                }
            }
            let found = out.len() > begin;
            out.extend_from_slice(b"]}");
            found
        }
        _ => false,
    }
}
