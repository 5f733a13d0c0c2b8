//! Update expressions: SET, REMOVE, ADD and DELETE, and what they do to an item.

use super::lexer::{Token, Tokens};
use super::path::{Path, RawPath, Step, check_overlap};
use super::projection::Projection;
use super::{Faults, MAX_NESTING, Placeholders, check_operators, misused, named};
use crate::Error;
use crate::value::{AttributeValue, Attributes, Kind, Number, NumberError};

/// Ranks of faults, most important first.
mod rank {
    pub(super) const RESERVED: u8 = 0;
    pub(super) const UNKNOWN_FUNCTION: u8 = 1;
    pub(super) const SECTION: u8 = 2;
    pub(super) const UNDEFINED_NAME: u8 = 3;
    pub(super) const UNDEFINED_VALUE: u8 = 4;
    pub(super) const OVERLAP: u8 = 5;
    pub(super) const CONFLICT: u8 = 6;
    pub(super) const OPERATOR: u8 = 7;
    pub(super) const FUNCTION: u8 = 8;
}

/// What SET sets a path to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    Path(Path),
    Value(AttributeValue),
    IfNotExists(Path, Box<Source>),
    ListAppend(Box<Source>, Box<Source>),
    Plus(Box<Source>, Box<Source>),
    Minus(Box<Source>, Box<Source>),
}

impl Source {
    fn each_path(&self, visit: &mut impl FnMut(&Path)) {
        match self {
            Self::Path(path) => visit(path),
            Self::Value(_) => {}
            Self::IfNotExists(path, otherwise) => {
                visit(path);
                otherwise.each_path(visit);
            }
            Self::ListAppend(one, two) | Self::Plus(one, two) | Self::Minus(one, two) => {
                one.each_path(visit);
                two.each_path(visit);
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Set(Source),
    Remove,
    Add(AttributeValue),
    Delete(AttributeValue),
}

/// An update, ready to be applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Update {
    actions: Vec<(Path, Action)>,
    /// It came as `AttributeUpdates`: lists can be added to, and messages differ.
    legacy: bool,
}

const SECTIONS: [&str; 4] = ["SET", "REMOVE", "ADD", "DELETE"];

impl Update {
    /// Reads an update expression.
    pub(crate) fn parse(text: &str, placeholders: &mut Placeholders<'_>) -> Result<Self, Error> {
        named("UpdateExpression", Self::parse_unnamed(text, placeholders))
    }

    fn parse_unnamed(text: &str, placeholders: &mut Placeholders<'_>) -> Result<Self, Error> {
        let mut parser = Parser {
            tokens: Tokens::new(text)?,
            placeholders,
            faults: Faults::default(),
            actions: Vec::new(),
            depth: 0,
            operators: 0,
        };
        parser.sections()?;
        check_operators(parser.operators)?;
        let Parser { mut faults, actions, .. } = parser;
        let paths: Vec<_> = actions.iter().map(|(path, _)| path).collect();
        check_overlap(&paths, (rank::OVERLAP, rank::CONFLICT), &mut faults);
        faults.finish()?;
        Ok(Self { actions, legacy: false })
    }

    /// An update without actions, which gets those of `AttributeUpdates`.
    pub(crate) fn legacy() -> Self {
        Self { actions: Vec::new(), legacy: true }
    }

    pub(crate) fn set(&mut self, path: Path, value: AttributeValue) {
        self.actions.push((path, Action::Set(Source::Value(value))));
    }

    pub(crate) fn set_source(&mut self, path: Path, source: Source) {
        self.actions.push((path, Action::Set(source)));
    }

    /// The paths that it changes must neither contain each other nor conflict.
    pub(crate) fn check_paths(&self) -> Result<(), Error> {
        let mut faults = Faults::default();
        let paths: Vec<_> = self.paths().collect();
        check_overlap(&paths, (rank::OVERLAP, rank::CONFLICT), &mut faults);
        faults.finish()
    }

    pub(crate) fn remove(&mut self, path: Path) {
        self.actions.push((path, Action::Remove));
    }

    pub(crate) fn add(&mut self, path: Path, value: AttributeValue) {
        self.actions.push((path, Action::Add(value)));
    }

    pub(crate) fn delete(&mut self, path: Path, value: AttributeValue) {
        self.actions.push((path, Action::Delete(value)));
    }

    /// Whether all that it does is to take something away: that leaves nothing where there is no item.
    pub(crate) fn only_takes_away(&self) -> bool {
        let takes_away = |action: &Action| matches!(action, Action::Remove | Action::Delete(_));
        !self.actions.is_empty() && self.actions.iter().all(|(_, action)| takes_away(action))
    }

    /// The paths that it changes.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.actions.iter().map(|(path, _)| path)
    }

    /// Calls `visit` with every path in it: those that it changes, and those that it reads.
    pub(crate) fn each_path(&self, visit: &mut impl FnMut(&Path)) {
        for (path, action) in &self.actions {
            visit(path);
            if let Action::Set(source) = action {
                source.each_path(visit);
            }
        }
    }

    /// The value that a whole attribute is set to, or that is added to it, if the expression says it.
    pub(crate) fn literal(&self, name: &str) -> Option<&AttributeValue> {
        // Of what is calculated, the type is known.
        const NUMBER: &AttributeValue = &AttributeValue::N(Number::ZERO);
        const LIST: &AttributeValue = &AttributeValue::L(Vec::new());
        self.actions.iter().find_map(|(path, action)| match action {
            Action::Set(Source::Plus(..) | Source::Minus(..))
                if path.head == name && path.rest.is_empty() =>
            {
                Some(NUMBER)
            }
            Action::Set(Source::ListAppend(..)) if path.head == name && path.rest.is_empty() => Some(LIST),
            Action::Set(Source::Value(value)) | Action::Add(value) | Action::Delete(value)
                if path.head == name && path.rest.is_empty() =>
            {
                Some(value)
            }
            _ => None,
        })
    }

    /// The paths that it changes, as a projection for UPDATED_OLD and UPDATED_NEW.
    pub(crate) fn projection(&self) -> Projection {
        Projection::of(self.paths())
    }

    /// Applies it. Every value is taken from the item as it was.
    pub(crate) fn apply(&self, item: &mut Attributes) -> Result<(), Error> {
        self.apply_all(item).map_err(|error| match error {
            Error::Validation(_) if self.legacy => Error::validation("Type mismatch for attribute to update"),
            other => other,
        })
    }

    fn apply_all(&self, item: &mut Attributes) -> Result<(), Error> {
        let mut sets = Vec::new();
        let mut removes = Vec::new();
        for (path, action) in &self.actions {
            match action {
                Action::Set(source) => sets.push((path, evaluate(source, item)?)),
                // What an index beyond a list's end meant is not what SET appends to the list.
                Action::Remove if is_beyond(item, path) => {}
                Action::Remove => removes.push(path),
                Action::Add(_) | Action::Delete(_) => {}
            }
        }
        // Indices beyond a list's end append, in the order of the indices.
        sets.sort_by(|a, b| a.0.cmp(b.0));
        for (path, value) in sets {
            set(item, path, value)?;
        }
        let mut changes: Vec<_> = self.actions.iter().collect();
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        for (path, action) in changes {
            match action {
                Action::Add(value) => add(item, path, value, self.legacy)?,
                Action::Delete(value) => delete(item, path, value)?,
                Action::Set(_) | Action::Remove => {}
            }
        }
        // From the last index down, so that each index means what it meant before.
        removes.sort_by(|a, b| b.cmp(a));
        removes.into_iter().try_for_each(|path| remove(item, path))
    }
}

struct Parser<'a, 'p, 'v> {
    tokens: Tokens<'a>,
    placeholders: &'p mut Placeholders<'v>,
    faults: Faults,
    actions: Vec<(Path, Action)>,
    depth: usize,
    operators: usize,
}

impl Parser<'_, '_, '_> {
    fn sections(&mut self) -> Result<(), Error> {
        let mut seen = [false; SECTIONS.len()];
        loop {
            let Some(section) = SECTIONS.iter().position(|word| self.tokens.eat_word(word)) else {
                return Err(self.tokens.unexpected());
            };
            if std::mem::replace(&mut seen[section], true) {
                let word = SECTIONS[section];
                self.faults.note(rank::SECTION, || {
                    format!("The \"{word}\" section can only be used once in an update expression;")
                });
            }
            loop {
                let path = self.path()?;
                let action = match section {
                    0 => {
                        self.tokens.expect("=")?;
                        Action::Set(self.source()?)
                    }
                    1 => Action::Remove,
                    2 => Action::Add(self.change("ADD")?),
                    _ => Action::Delete(self.change("DELETE")?),
                };
                self.operators += 1;
                self.actions.push((path, action));
                if !self.tokens.eat(",") {
                    break;
                }
            }
            if self.tokens.peek() == Token::End {
                return Ok(());
            }
        }
    }

    fn path(&mut self) -> Result<Path, Error> {
        if let Token::Word(word) = self.tokens.peek()
            && SECTIONS.iter().any(|section| section.eq_ignore_ascii_case(word))
        {
            return Err(self.tokens.unexpected());
        }
        let raw = RawPath::parse(&mut self.tokens)?;
        Ok(raw.resolve(self.placeholders, (rank::RESERVED, rank::UNDEFINED_NAME), &mut self.faults))
    }

    fn value(&mut self) -> Result<AttributeValue, Error> {
        let Token::Value(placeholder) = self.tokens.peek() else { return Err(self.tokens.unexpected()) };
        self.tokens.next();
        Ok(self.placeholders.value(placeholder).cloned().unwrap_or_else(|| {
            self.faults.note(rank::UNDEFINED_VALUE, || {
                format!("An expression attribute value used in expression is not defined; attribute value: {placeholder}")
            });
            AttributeValue::Null
        }))
    }

    /// The value of ADD (a number or a set) or DELETE (a set).
    fn change(&mut self, section: &str) -> Result<AttributeValue, Error> {
        let value = self.value()?;
        let kind = value.kind();
        let fits = matches!(kind, Kind::Ss | Kind::Ns | Kind::Bs) || (section == "ADD" && kind == Kind::N);
        if !fits {
            self.faults.note(rank::OPERATOR, || {
                format!(
                    "Incorrect operand type for operator or function; operator: {section}, operand type: {}, typeSet: ALLOWED_FOR_{section}_OPERAND",
                    kind.long_name()
                )
            });
        }
        Ok(value)
    }

    fn source(&mut self) -> Result<Source, Error> {
        let left = self.operand()?;
        for sign in ["+", "-"] {
            if self.tokens.eat(sign) {
                self.operators += 1;
                let right = self.operand()?;
                self.literal_is(sign, &left, Kind::N);
                self.literal_is(sign, &right, Kind::N);
                let (left, right) = (Box::new(left), Box::new(right));
                return Ok(if sign == "+" { Source::Plus(left, right) } else { Source::Minus(left, right) });
            }
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Source, Error> {
        if self.depth >= MAX_NESTING {
            check_operators(self.operators)?;
            return Err(Error::Validation(format!(
                "The expression nests too deep; the maximum is {MAX_NESTING} levels"
            )));
        }
        self.depth += 1;
        let source = match (self.tokens.peek(), self.tokens.peek_second()) {
            (Token::Sign("("), _) => {
                self.tokens.next();
                let source = self.source()?;
                self.tokens.expect(")")?;
                source
            }
            (Token::Value(_), _) => Source::Value(self.value()?),
            (Token::Word(name), Token::Sign("(")) => self.call(name)?,
            _ => Source::Path(self.path()?),
        };
        self.depth -= 1;
        Ok(source)
    }

    fn call(&mut self, name: &str) -> Result<Source, Error> {
        self.operators += 1;
        self.tokens.next();
        self.tokens.next();
        let mut arguments = vec![self.operand()?];
        while self.tokens.eat(",") {
            arguments.push(self.operand()?);
        }
        self.tokens.expect(")")?;
        if !matches!(name, "if_not_exists" | "list_append") {
            self.faults.note(rank::UNKNOWN_FUNCTION, || {
                if super::condition::FUNCTIONS.contains(&name) {
                    return misused(name);
                }
                format!("Invalid function name; function: {name}")
            });
            return Ok(Source::Value(AttributeValue::Null));
        }
        let [first, second] = match <[Source; 2]>::try_from(arguments) {
            Ok(pair) => pair,
            Err(other) => {
                self.faults.note(rank::FUNCTION, || {
                    format!(
                        "Incorrect number of operands for operator or function; operator or function: {name}, number of operands: {}",
                        other.len()
                    )
                });
                return Ok(Source::Value(AttributeValue::Null));
            }
        };
        if name == "list_append" {
            self.literal_is(name, &first, Kind::L);
            self.literal_is(name, &second, Kind::L);
            return Ok(Source::ListAppend(Box::new(first), Box::new(second)));
        }
        let Source::Path(path) = first else {
            self.faults.note(rank::FUNCTION, || {
                format!("Operator or function requires a document path; operator or function: {name}")
            });
            return Ok(second);
        };
        Ok(Source::IfNotExists(path, Box::new(second)))
    }

    /// An operand that is a value must have that type; what a path leads to is not known yet.
    fn literal_is(&mut self, name: &str, source: &Source, wanted: Kind) {
        if let Source::Value(value) = source
            && value.kind() != wanted
        {
            let found = value.kind().name();
            self.faults.note(rank::FUNCTION, || {
                format!("Incorrect operand type for operator or function; operator or function: {name}, operand type: {found}")
            });
        }
    }
}

fn incorrect_type() -> Error {
    Error::validation("An operand in the update expression has an incorrect data type")
}

/// What is calculated has another word for more digits than may be.
fn overflow(error: NumberError) -> Error {
    match error {
        NumberError::Precision => Error::validation(
            "Number overflow. Attempting to store a number with magnitude larger than supported range",
        ),
        other => Error::Validation(other.to_string()),
    }
}

fn invalid_path() -> Error {
    Error::validation("The document path provided in the update expression is invalid for update")
}

fn evaluate(source: &Source, item: &Attributes) -> Result<AttributeValue, Error> {
    let number = |source: &Source| match evaluate(source, item)? {
        AttributeValue::N(number) => Ok(number),
        _ => Err(incorrect_type()),
    };
    let list = |source: &Source| match evaluate(source, item)? {
        AttributeValue::L(list) => Ok(list),
        _ => Err(incorrect_type()),
    };
    let fits = |result: Result<Number, _>| result.map(AttributeValue::N).map_err(overflow);
    match source {
        Source::Value(value) => Ok(value.clone()),
        Source::Path(path) => path.find_in(item).cloned().ok_or_else(|| {
            Error::validation(
                "The provided expression refers to an attribute that does not exist in the item",
            )
        }),
        Source::IfNotExists(path, otherwise) => match path.find_in(item) {
            Some(value) => Ok(value.clone()),
            None => evaluate(otherwise, item),
        },
        Source::ListAppend(first, second) => {
            let mut joined = list(first)?;
            joined.extend(list(second)?);
            Ok(AttributeValue::L(joined))
        }
        Source::Plus(left, right) => fits(number(left)?.add(number(right)?)),
        Source::Minus(left, right) => fits(number(left)?.subtract(number(right)?)),
    }
}

/// The last step of a path, and what it is a step of.
enum Place<'i> {
    Field(&'i mut Attributes, &'i str),
    Index(&'i mut Vec<AttributeValue>, usize),
}

fn place<'i>(item: &'i mut Attributes, path: &'i Path) -> Result<Place<'i>, Error> {
    let Some((last, between)) = path.rest.split_last() else {
        return Ok(Place::Field(item, &path.head));
    };
    let mut value = item.get_mut(&path.head).ok_or_else(invalid_path)?;
    for step in between {
        value = match (step, value) {
            (Step::Field(name), AttributeValue::M(map)) => map.get_mut(name),
            (Step::Index(index), AttributeValue::L(list)) => list.get_mut(*index as usize),
            _ => None,
        }
        .ok_or_else(invalid_path)?;
    }
    match (last, value) {
        (Step::Field(name), AttributeValue::M(map)) => Ok(Place::Field(map, name)),
        (Step::Index(index), AttributeValue::L(list)) => Ok(Place::Index(list, *index as usize)),
        _ => Err(invalid_path()),
    }
}

/// Whether the path ends beyond the end of a list that is there.
fn is_beyond(item: &Attributes, path: &Path) -> bool {
    let Some((Step::Index(index), above)) = path.rest.split_last() else { return false };
    let list = Path { head: path.head.clone(), rest: above.to_vec() };
    matches!(list.find_in(item), Some(AttributeValue::L(list)) if list.len() <= *index as usize)
}

impl<'i> Place<'i> {
    fn get_mut(&mut self) -> Option<&mut AttributeValue> {
        match self {
            Self::Field(map, name) => map.get_mut(*name),
            Self::Index(list, index) => list.get_mut(*index),
        }
    }

    fn put(self, value: AttributeValue) {
        match self {
            Self::Field(map, name) => {
                map.insert(name.to_owned(), value);
            }
            Self::Index(list, index) => match list.get_mut(index) {
                Some(element) => *element = value,
                None => list.push(value),
            },
        }
    }

    fn take(self) {
        match self {
            Self::Field(map, name) => {
                map.remove(name);
            }
            Self::Index(list, index) if index < list.len() => {
                list.remove(index);
            }
            Self::Index(..) => {}
        }
    }
}

fn set(item: &mut Attributes, path: &Path, value: AttributeValue) -> Result<(), Error> {
    place(item, path)?.put(value);
    Ok(())
}

fn remove(item: &mut Attributes, path: &Path) -> Result<(), Error> {
    place(item, path)?.take();
    Ok(())
}

fn union<T: Ord + Clone>(set: &mut Vec<T>, more: &[T]) {
    set.extend_from_slice(more);
    set.sort_unstable();
    set.dedup();
}

fn add(item: &mut Attributes, path: &Path, value: &AttributeValue, to_lists: bool) -> Result<(), Error> {
    let mut place = place(item, path)?;
    let Some(existing) = place.get_mut() else {
        place.put(value.clone());
        return Ok(());
    };
    match (existing, value) {
        (AttributeValue::N(number), AttributeValue::N(more)) => {
            *number = number.add(*more).map_err(overflow)?;
        }
        (AttributeValue::Ss(set), AttributeValue::Ss(more)) => union(set, more),
        (AttributeValue::Ns(set), AttributeValue::Ns(more)) => union(set, more),
        (AttributeValue::Bs(set), AttributeValue::Bs(more)) => union(set, more),
        (AttributeValue::L(list), AttributeValue::L(more)) if to_lists => list.extend_from_slice(more),
        _ => return Err(incorrect_type()),
    }
    Ok(())
}

fn subtract<T: Ord>(set: &mut Vec<T>, less: &[T]) -> bool {
    set.retain(|member| less.binary_search(member).is_err());
    set.is_empty()
}

fn delete(item: &mut Attributes, path: &Path, value: &AttributeValue) -> Result<(), Error> {
    let mut place = place(item, path)?;
    let Some(existing) = place.get_mut() else { return Ok(()) };
    let empty = match (existing, value) {
        (AttributeValue::Ss(set), AttributeValue::Ss(less)) => subtract(set, less),
        (AttributeValue::Ns(set), AttributeValue::Ns(less)) => subtract(set, less),
        (AttributeValue::Bs(set), AttributeValue::Bs(less)) => subtract(set, less),
        _ => return Err(incorrect_type()),
    };
    if empty {
        place.take();
    }
    Ok(())
}
