//! The grammar of statements.

use bytes::Bytes;

use super::lexer::{Token, tokens};
use super::{MAX_NESTING, MAX_STATEMENT, Returning, Select, Statement, malformed};
use crate::Error;
use crate::expr::update::Source;
use crate::expr::{Comparator, Condition, Operand, Path, Step, Update};
use crate::value::{AttributeValue, Attributes, Kind, MAX_DEPTH, Number, encode_value};

pub(super) fn parse(text: &str, parameters: Vec<AttributeValue>) -> Result<Statement, Error> {
    if text.chars().count() > MAX_STATEMENT {
        return Err(Error::Validation(format!(
            "Statement is longer than the maximum of {MAX_STATEMENT} characters"
        )));
    }
    let mut parser =
        Parser { tokens: tokens(text)?, at: 0, parameters: parameters.into_iter(), missing: false, depth: 0 };
    let statement = parser.statement()?;
    parser.eat(";");
    if *parser.peek() != Token::End {
        return Err(parser.unexpected());
    }
    if parser.missing || parser.parameters.next().is_some() {
        return Err(Error::validation("Number of parameters in request and statement don't match."));
    }
    Ok(statement)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    parameters: std::vec::IntoIter<AttributeValue>,
    /// There were more `?` than parameters.
    missing: bool,
    depth: usize,
}

/// A projected or compared thing: a path or a value.
enum Term {
    Operand(Operand),
    Condition(Condition),
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn second(&self) -> &Token {
        self.tokens.get(self.at + 1).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    fn unexpected(&self) -> Error {
        match self.peek() {
            Token::Word(text) | Token::Number(text) => malformed(format_args!("Unexpected token: {text}")),
            Token::Quoted(text) => malformed(format_args!("Unexpected token: \"{text}\"")),
            Token::Text(text) => malformed(format_args!("Unexpected token: '{text}'")),
            Token::Sign(sign) => malformed(format_args!("Unexpected token: {sign}")),
            Token::End => malformed("Unexpected end of statement"),
        }
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Error> {
        if self.eat(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn expect_word(&mut self, word: &str) -> Result<(), Error> {
        if self.eat_word(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth >= MAX_NESTING {
            return Err(malformed(format_args!("it nests too deep; the maximum is {MAX_NESTING} levels")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn statement(&mut self) -> Result<Statement, Error> {
        if self.is_word("SELECT") {
            return self.select().map(Statement::Select);
        }
        if self.eat_word("EXISTS") {
            self.expect("(")?;
            let select = self.select()?;
            self.expect(")")?;
            return Ok(Statement::Exists(select));
        }
        if self.eat_word("INSERT") {
            self.expect_word("INTO")?;
            let table = self.name()?;
            self.expect_word("VALUE")?;
            return match self.value()? {
                AttributeValue::M(item) => Ok(Statement::Insert { table, item }),
                _ => Err(malformed("INSERT takes a tuple")),
            };
        }
        if self.eat_word("UPDATE") {
            return self.update();
        }
        if self.eat_word("DELETE") {
            self.expect_word("FROM")?;
            let table = self.name()?;
            let conditions = self.conditions()?;
            let returning = self.returning()?;
            if !matches!(returning, Returning::Nothing | Returning::AllOld) {
                return Err(malformed("DELETE can return ALL OLD * only"));
            }
            return Ok(Statement::Delete { table, conditions, returning });
        }
        Err(self.unexpected())
    }

    fn select(&mut self) -> Result<Select, Error> {
        self.expect_word("SELECT")?;
        let mut columns = Vec::new();
        if !self.eat("*") {
            loop {
                let path = self.path()?;
                let name = column_name(&path);
                if columns.iter().any(|(other, _)| *other == name) {
                    return Err(malformed(format_args!("{name} is selected twice")));
                }
                columns.push((name, path));
                if !self.eat(",") {
                    break;
                }
            }
        }
        self.expect_word("FROM")?;
        let table = self.name()?;
        let index = if self.eat(".") { Some(self.name()?) } else { None };
        let conditions = self.conditions()?;
        let mut order = Vec::new();
        if self.eat_word("ORDER") {
            self.expect_word("BY")?;
            loop {
                let name = self.name()?;
                let descending = self.eat_word("DESC");
                if !descending {
                    self.eat_word("ASC");
                }
                order.push((name, descending));
                if !self.eat(",") {
                    break;
                }
            }
        }
        Ok(Select { table, index, columns, conditions, order })
    }

    fn update(&mut self) -> Result<Statement, Error> {
        let table = self.name()?;
        let mut update = Update::default();
        loop {
            if self.eat_word("SET") {
                loop {
                    self.set(&mut update)?;
                    if !self.eat(",") {
                        break;
                    }
                }
            } else if self.eat_word("REMOVE") {
                loop {
                    let path = self.path()?;
                    update.remove(path);
                    if !self.eat(",") {
                        break;
                    }
                }
            } else {
                break;
            }
        }
        if update.paths().next().is_none() {
            return Err(self.unexpected());
        }
        update.check_paths()?;
        let conditions = self.conditions()?;
        let returning = self.returning()?;
        Ok(Statement::Update { table, update, conditions, returning })
    }

    fn set(&mut self, update: &mut Update) -> Result<(), Error> {
        let path = self.path()?;
        self.expect("=")?;
        for (function, adds) in [("set_add", true), ("set_delete", false)] {
            if self.is_word(function) && *self.second() == Token::Sign("(") {
                self.at += 2;
                let whole = self.path()?;
                self.expect(",")?;
                let value = self.value()?;
                self.expect(")")?;
                if whole != path || !matches!(value.kind(), Kind::Ss | Kind::Ns | Kind::Bs) {
                    return Err(malformed(format_args!("{function} takes the path that is set, and a set")));
                }
                if adds {
                    update.add(path, value);
                } else {
                    update.delete(path, value);
                }
                return Ok(());
            }
        }
        let source = self.source()?;
        update.set_source(path, source);
        Ok(())
    }

    fn source(&mut self) -> Result<Source, Error> {
        let depth = self.depth;
        let source = self.sum();
        self.depth = depth;
        source
    }

    fn sum(&mut self) -> Result<Source, Error> {
        let mut left = self.source_term()?;
        loop {
            let join = if self.eat("+") {
                Source::Plus
            } else if self.eat("-") {
                Source::Minus
            } else {
                return Ok(left);
            };
            // Each one is deeper than the one before.
            self.depth += 1;
            if self.depth > MAX_NESTING {
                return Err(malformed("it calculates too much"));
            }
            left = join(Box::new(left), Box::new(self.source_term()?));
        }
    }

    fn source_term(&mut self) -> Result<Source, Error> {
        if *self.second() == Token::Sign("(") {
            for function in ["list_append", "if_not_exists"] {
                if self.is_word(function) {
                    self.at += 2;
                    return self.nested(|parser| {
                        let first = parser.source()?;
                        parser.expect(",")?;
                        let second = Box::new(parser.source()?);
                        parser.expect(")")?;
                        match first {
                            first if function == "list_append" => {
                                Ok(Source::ListAppend(Box::new(first), second))
                            }
                            Source::Path(path) => Ok(Source::IfNotExists(path, second)),
                            _ => Err(malformed("if_not_exists takes a path")),
                        }
                    });
                }
            }
        }
        if self.begins_value() { self.value().map(Source::Value) } else { self.path().map(Source::Path) }
    }

    fn returning(&mut self) -> Result<Returning, Error> {
        if !self.eat_word("RETURNING") {
            return Ok(Returning::Nothing);
        }
        let all = self.eat_word("ALL");
        if !all {
            self.expect_word("MODIFIED")?;
        }
        let old = self.eat_word("OLD");
        if !old {
            self.expect_word("NEW")?;
        }
        self.expect("*")?;
        Ok(match (all, old) {
            (true, true) => Returning::AllOld,
            (true, false) => Returning::AllNew,
            (false, true) => Returning::ModifiedOld,
            (false, false) => Returning::ModifiedNew,
        })
    }

    /// WHERE, as conditions that all must hold.
    fn conditions(&mut self) -> Result<Vec<Condition>, Error> {
        if !self.eat_word("WHERE") {
            return Ok(Vec::new());
        }
        Ok(match self.or()? {
            Condition::And(parts) => parts,
            other => vec![other],
        })
    }

    fn or(&mut self) -> Result<Condition, Error> {
        let first = self.and()?;
        let mut parts = vec![first];
        while self.eat_word("OR") {
            parts.push(self.and()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Or(parts) })
    }

    fn and(&mut self) -> Result<Condition, Error> {
        let mut parts = Vec::new();
        loop {
            // `a AND (b AND c)` are three conditions.
            match self.not()? {
                Condition::And(inner) => parts.extend(inner),
                other => parts.push(other),
            }
            if !self.eat_word("AND") {
                break;
            }
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::And(parts) })
    }

    fn not(&mut self) -> Result<Condition, Error> {
        if self.eat_word("NOT") {
            let inner = self.nested(Self::not)?;
            return Ok(Condition::Not(Box::new(inner)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Condition, Error> {
        let left = match self.term()? {
            Term::Condition(condition) => return Ok(condition),
            Term::Operand(operand) => operand,
        };
        let comparator = match self.peek() {
            Token::Sign("=") => Some(Comparator::Eq),
            Token::Sign("<>" | "!=") => Some(Comparator::Ne),
            Token::Sign("<") => Some(Comparator::Lt),
            Token::Sign("<=") => Some(Comparator::Le),
            Token::Sign(">") => Some(Comparator::Gt),
            Token::Sign(">=") => Some(Comparator::Ge),
            _ => None,
        };
        if let Some(comparator) = comparator {
            self.at += 1;
            let right = self.operand()?;
            return Ok(Condition::Compare(comparator, left, right));
        }
        if self.eat_word("IS") {
            let negated = self.eat_word("NOT");
            let Operand::Path(path) = left else { return Err(malformed("IS takes a path")) };
            let condition = if self.eat_word("MISSING") {
                Condition::NotExists(path)
            } else {
                self.expect_word("NULL")?;
                Condition::Type(Operand::Path(path), Kind::Null)
            };
            return Ok(if negated { Condition::Not(Box::new(condition)) } else { condition });
        }
        let negated = self.eat_word("NOT");
        let condition = if self.eat_word("BETWEEN") {
            let low = self.operand()?;
            self.expect_word("AND")?;
            Condition::Between(left, low, self.operand()?)
        } else if self.eat_word("IN") {
            let close = if self.eat("[") {
                "]"
            } else {
                self.expect("(")?;
                ")"
            };
            let mut candidates = vec![self.operand()?];
            while self.eat(",") {
                candidates.push(self.operand()?);
            }
            self.expect(close)?;
            if candidates.len() > 100 {
                return Err(malformed("IN takes at most 100 values"));
            }
            Condition::In(left, candidates)
        } else {
            return Err(self.unexpected());
        };
        Ok(if negated { Condition::Not(Box::new(condition)) } else { condition })
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        match self.term()? {
            Term::Operand(operand) => Ok(operand),
            Term::Condition(_) => Err(self.unexpected()),
        }
    }

    /// A path, a value, a function, or something in parentheses.
    fn term(&mut self) -> Result<Term, Error> {
        if self.eat("(") {
            return self.nested(|parser| {
                let inner = parser.or()?;
                parser.expect(")")?;
                Ok(Term::Condition(inner))
            });
        }
        if let (Token::Word(name), Token::Sign("(")) = (self.peek().clone(), self.second()) {
            self.at += 2;
            return self.nested(|parser| parser.call(&name.to_ascii_lowercase()));
        }
        Ok(Term::Operand(if self.begins_value() {
            literal(&self.value()?)
        } else {
            Operand::Path(self.path()?)
        }))
    }

    fn call(&mut self, name: &str) -> Result<Term, Error> {
        let first = self.operand()?;
        if name == "size" {
            self.expect(")")?;
            return Ok(Term::Operand(Operand::Size(Box::new(first))));
        }
        if name == "attribute_exists" || name == "attribute_not_exists" || name == "missing" {
            self.expect(")")?;
            let Operand::Path(path) = first else {
                return Err(malformed(format_args!("{name} takes a path")));
            };
            return Ok(Term::Condition(if name == "attribute_exists" {
                Condition::Exists(path)
            } else {
                Condition::NotExists(path)
            }));
        }
        self.expect(",")?;
        let second = self.operand()?;
        self.expect(")")?;
        let condition = match name {
            "begins_with" => Condition::BeginsWith(first, second),
            "contains" => Condition::Contains(first, second),
            "attribute_type" => {
                let Operand::Literal(encoded) = &second else {
                    return Err(malformed("attribute_type takes the name of a type"));
                };
                let view = crate::value::ValueView::of(encoded);
                let kind = str::from_utf8(view.scalar()).ok().and_then(Kind::from_name);
                let kind = kind.ok_or_else(|| malformed("attribute_type takes the name of a type"))?;
                Condition::Type(first, kind)
            }
            _ => return Err(malformed(format_args!("No such function: {name}"))),
        };
        Ok(Term::Condition(condition))
    }

    /// The name of a table, an index or a key.
    fn name(&mut self) -> Result<String, Error> {
        match self.next() {
            Token::Word(name) | Token::Quoted(name) => Ok(name),
            _ => {
                self.at = self.at.saturating_sub(1);
                Err(self.unexpected())
            }
        }
    }

    fn path(&mut self) -> Result<Path, Error> {
        if !matches!(self.peek(), Token::Word(_) | Token::Quoted(_)) {
            return Err(self.unexpected());
        }
        let head = self.name()?;
        let mut rest = Vec::new();
        loop {
            if self.eat(".") {
                rest.push(Step::Field(self.name()?));
            } else if self.eat("[") {
                match self.next() {
                    Token::Number(digits) => rest.push(Step::Index(digits.parse().map_err(|_| {
                        malformed(format_args!("List index is not within the allowable range: {digits}"))
                    })?)),
                    Token::Text(name) => rest.push(Step::Field(name)),
                    _ => {
                        self.at = self.at.saturating_sub(1);
                        return Err(self.unexpected());
                    }
                }
                self.expect("]")?;
            } else {
                break;
            }
            if rest.len() > MAX_DEPTH {
                return Err(malformed("The document path has too many nesting elements"));
            }
        }
        Ok(Path { head, rest })
    }

    /// Whether a value, not a path, comes next.
    fn begins_value(&self) -> bool {
        match self.peek() {
            Token::Text(_) | Token::Number(_) => true,
            Token::Sign(sign) => matches!(*sign, "?" | "[" | "{" | "<<" | "-" | "+"),
            Token::Word(word) => ["TRUE", "FALSE", "NULL"].iter().any(|w| w.eq_ignore_ascii_case(word)),
            Token::Quoted(_) | Token::End => false,
        }
    }

    fn value(&mut self) -> Result<AttributeValue, Error> {
        let value = self.nested(Self::value_at)?;
        if value.depth() > MAX_DEPTH {
            return Err(Error::validation("Nesting Levels have exceeded supported limits"));
        }
        Ok(value)
    }

    fn value_at(&mut self) -> Result<AttributeValue, Error> {
        match self.next() {
            Token::Text(text) => Ok(AttributeValue::S(text)),
            Token::Number(text) => number(&text),
            Token::Word(word) if word.eq_ignore_ascii_case("TRUE") => Ok(AttributeValue::Bool(true)),
            Token::Word(word) if word.eq_ignore_ascii_case("FALSE") => Ok(AttributeValue::Bool(false)),
            Token::Word(word) if word.eq_ignore_ascii_case("NULL") => Ok(AttributeValue::Null),
            Token::Sign(sign @ ("-" | "+")) => match self.next() {
                Token::Number(text) => number(&format!("{sign}{text}")),
                _ => {
                    self.at = self.at.saturating_sub(1);
                    Err(self.unexpected())
                }
            },
            Token::Sign("?") => Ok(self.parameters.next().unwrap_or_else(|| {
                self.missing = true;
                AttributeValue::Null
            })),
            Token::Sign("[") => Ok(AttributeValue::L(self.list("]")?)),
            Token::Sign("<<") => {
                let members = self.list(">>")?;
                set(members)
            }
            Token::Sign("{") => self.tuple(),
            _ => {
                self.at = self.at.saturating_sub(1);
                Err(self.unexpected())
            }
        }
    }

    fn list(&mut self, close: &str) -> Result<Vec<AttributeValue>, Error> {
        let mut out = Vec::new();
        if self.eat(close) {
            return Ok(out);
        }
        loop {
            out.push(self.nested(Self::value_at)?);
            if self.eat(close) {
                return Ok(out);
            }
            self.expect(",")?;
        }
    }

    fn tuple(&mut self) -> Result<AttributeValue, Error> {
        let mut out = Attributes::new();
        if self.eat("}") {
            return Ok(AttributeValue::M(out));
        }
        loop {
            let name = match self.next() {
                Token::Text(name) | Token::Quoted(name) => name,
                _ => {
                    self.at = self.at.saturating_sub(1);
                    return Err(self.unexpected());
                }
            };
            self.expect(":")?;
            let value = self.nested(Self::value_at)?;
            if out.insert(name.clone(), value).is_some() {
                return Err(malformed(format_args!("The attribute {name} is given twice")));
            }
            if self.eat("}") {
                return Ok(AttributeValue::M(out));
            }
            self.expect(",")?;
        }
    }
}

/// The name under which a projected path appears: its last step.
fn column_name(path: &Path) -> String {
    let mut name = path.head.clone();
    for step in &path.rest {
        match step {
            Step::Field(field) => name = field.clone(),
            Step::Index(index) => name = format!("{name}[{index}]"),
        }
    }
    name
}

fn number(text: &str) -> Result<AttributeValue, Error> {
    Number::parse(text).map(AttributeValue::N).map_err(|error| Error::Validation(error.to_string()))
}

fn literal(value: &AttributeValue) -> Operand {
    let mut encoded = Vec::new();
    encode_value(value, &mut encoded);
    Operand::Literal(encoded.into())
}

/// A set of the kind of its members.
fn set(members: Vec<AttributeValue>) -> Result<AttributeValue, Error> {
    let wrong = || malformed("A set takes texts, numbers or binaries, all of one type, without duplicates");
    fn sorted<T: Ord>(mut members: Vec<T>) -> Option<Vec<T>> {
        members.sort_unstable();
        members.windows(2).all(|pair| pair[0] != pair[1]).then_some(members)
    }
    let Some(first) = members.first() else { return Err(malformed("A set may not be empty")) };
    let set = match first.kind() {
        Kind::S => {
            let texts = members.into_iter().map(|member| match member {
                AttributeValue::S(text) => Some(text),
                _ => None,
            });
            texts.collect::<Option<Vec<_>>>().and_then(sorted).map(AttributeValue::Ss)
        }
        Kind::N => {
            let numbers = members.into_iter().map(|member| match member {
                AttributeValue::N(number) => Some(number),
                _ => None,
            });
            numbers.collect::<Option<Vec<_>>>().and_then(sorted).map(AttributeValue::Ns)
        }
        Kind::B => {
            let binaries = members.into_iter().map(|member| match member {
                AttributeValue::B(bytes) => Some(bytes),
                _ => None,
            });
            binaries.collect::<Option<Vec<Bytes>>>().and_then(sorted).map(AttributeValue::Bs)
        }
        _ => None,
    };
    set.ok_or_else(wrong)
}
