//! The grammar of condition, filter and key condition expressions, before names mean anything.

use super::lexer::{Token, Tokens};
use super::path::RawPath;
use super::{MAX_NESTING, check_operators};
use crate::Error;

/// An operand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Term<'a> {
    Path(RawPath<'a>),
    Value(&'a str),
    Call(Call<'a>),
}

/// A function and its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: Vec<Term<'a>>,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparator {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Comparator {
    fn of(token: Token<'_>) -> Option<Self> {
        Some(match token {
            Token::Sign("=") => Self::Eq,
            Token::Sign("<>") => Self::Ne,
            Token::Sign("<") => Self::Lt,
            Token::Sign("<=") => Self::Le,
            Token::Sign(">") => Self::Gt,
            Token::Sign(">=") => Self::Ge,
            _ => return None,
        })
    }

    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "<>",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }

    /// The comparison with its sides exchanged.
    pub(crate) fn mirrored(self) -> Self {
        match self {
            Self::Eq | Self::Ne => self,
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
        }
    }
}

/// A condition as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node<'a> {
    Compare(Comparator, Term<'a>, Term<'a>),
    Between(Term<'a>, Term<'a>, Term<'a>),
    In(Term<'a>, Vec<Term<'a>>),
    Call(Call<'a>),
    And(Vec<Node<'a>>),
    Or(Vec<Node<'a>>),
    Not(Box<Node<'a>>),
}

/// A whole condition.
#[derive(Debug)]
pub(crate) struct Syntax<'a> {
    pub(crate) root: Node<'a>,
    /// Parentheses directly within parentheses, which DynamoDB refuses.
    pub(crate) redundant_parentheses: bool,
}

/// Reads a condition.
pub(crate) fn parse(text: &str) -> Result<Syntax<'_>, Error> {
    let mut parser = Parser {
        tokens: Tokens::new(text)?,
        depth: 0,
        operators: 0,
        redundant_parentheses: false,
        last_group: None,
    };
    let root = parser.whole()?;
    if parser.tokens.peek() != Token::End {
        return Err(parser.tokens.unexpected());
    }
    check_operators(parser.operators)?;
    Ok(Syntax { root, redundant_parentheses: parser.redundant_parentheses })
}

/// In parentheses there may be a condition or an operand; which one is known only at their end.
enum Parsed<'a> {
    Condition(Node<'a>),
    Term(Term<'a>),
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    depth: usize,
    operators: usize,
    redundant_parentheses: bool,
    /// First and last token (excluded) of the parentheses closed last.
    last_group: Option<(usize, usize)>,
}

/// What has been read of a condition, or of one in parentheses.
#[derive(Default)]
struct Group<'a> {
    /// Its first token.
    start: usize,
    /// What OR joins.
    any: Vec<Node<'a>>,
    /// What AND joins.
    all: Vec<Node<'a>>,
    /// How many NOT stand before what comes next.
    negations: usize,
}

const KEYWORDS: [&str; 5] = ["AND", "OR", "NOT", "BETWEEN", "IN"];

impl<'a> Parser<'a> {
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth >= MAX_NESTING {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// A condition is wanted: a call is one, another operand is not.
    fn condition(&self, parsed: Parsed<'a>) -> Result<Node<'a>, Error> {
        match parsed {
            Parsed::Condition(node) => Ok(node),
            Parsed::Term(Term::Call(call)) => Ok(Node::Call(call)),
            Parsed::Term(_) => Err(self.tokens.unexpected()),
        }
    }

    /// A whole condition. Parentheses that are open are kept on the heap, since tools write conditions that nest deep.
    fn whole(&mut self) -> Result<Node<'a>, Error> {
        let mut outer: Vec<Group<'a>> = Vec::new();
        let mut group = Group::default();
        loop {
            while self.tokens.eat_word("NOT") {
                self.operators += 1;
                group.negations += 1;
            }
            if self.tokens.eat("(") {
                if outer.len() + self.depth >= MAX_NESTING || group.negations > MAX_NESTING {
                    return Err(self.too_deep());
                }
                outer.push(std::mem::take(&mut group));
                group.start = self.tokens.position();
                continue;
            }
            let mut parsed = self.operand().map(Parsed::Term)?;
            loop {
                if let Parsed::Term(left) = parsed {
                    parsed = self.comparison(left)?;
                }
                if group.negations > 0 {
                    if group.negations > MAX_NESTING {
                        return Err(self.too_deep());
                    }
                    let mut node = self.condition(parsed)?;
                    for _ in 0..std::mem::take(&mut group.negations) {
                        node = Node::Not(Box::new(node));
                    }
                    parsed = Parsed::Condition(node);
                }
                if self.tokens.eat_word("AND") {
                    self.operators += 1;
                    group.all.push(self.condition(parsed)?);
                    break;
                }
                if !group.all.is_empty() {
                    group.all.push(self.condition(parsed)?);
                    parsed = Parsed::Condition(Node::And(std::mem::take(&mut group.all)));
                }
                if self.tokens.eat_word("OR") {
                    self.operators += 1;
                    group.any.push(self.condition(parsed)?);
                    break;
                }
                if !group.any.is_empty() {
                    group.any.push(self.condition(parsed)?);
                    parsed = Parsed::Condition(Node::Or(std::mem::take(&mut group.any)));
                }
                let Some(enclosing) = outer.pop() else { return self.condition(parsed) };
                // `((a = b))`: what stands within is one group itself, from its first token to its last.
                let place = (group.start, self.tokens.position());
                self.redundant_parentheses |= self.last_group == Some(place);
                self.last_group = Some((place.0 - 1, place.1 + 1));
                self.tokens.expect(")")?;
                group = enclosing;
            }
        }
    }

    fn too_deep(&self) -> Error {
        Error::Validation(format!("The expression nests too deep; the maximum is {MAX_NESTING} levels"))
    }

    /// What an operand is the beginning of: a comparison, or nothing more.
    fn comparison(&mut self, left: Term<'a>) -> Result<Parsed<'a>, Error> {
        if let Some(comparator) = Comparator::of(self.tokens.peek()) {
            self.tokens.next();
            self.operators += 1;
            let right = self.operand()?;
            return Ok(Parsed::Condition(Node::Compare(comparator, left, right)));
        }
        if self.tokens.eat_word("BETWEEN") {
            self.operators += 1;
            let low = self.operand()?;
            if !self.tokens.eat_word("AND") {
                return Err(self.tokens.unexpected());
            }
            let high = self.operand()?;
            return Ok(Parsed::Condition(Node::Between(left, low, high)));
        }
        if self.tokens.eat_word("IN") {
            self.operators += 1;
            self.tokens.expect("(")?;
            let candidates = self.arguments()?;
            return Ok(Parsed::Condition(Node::In(left, candidates)));
        }
        Ok(Parsed::Term(left))
    }

    fn operand(&mut self) -> Result<Term<'a>, Error> {
        match (self.tokens.peek(), self.tokens.peek_second()) {
            (Token::Sign("("), second) => {
                self.tokens.next();
                let inner = self.nested(Self::operand)?;
                self.tokens.expect(")")?;
                self.redundant_parentheses |= second == Token::Sign("(");
                Ok(inner)
            }
            (Token::Value(value), _) => {
                self.tokens.next();
                Ok(Term::Value(value))
            }
            (Token::Word(word), _) if KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word)) => {
                Err(self.tokens.unexpected())
            }
            (Token::Word(name), Token::Sign("(")) => {
                self.operators += 1;
                self.tokens.next();
                self.tokens.next();
                let arguments = self.arguments()?;
                Ok(Term::Call(Call { name, arguments }))
            }
            _ => RawPath::parse(&mut self.tokens).map(Term::Path),
        }
    }

    /// Operands up to the closing parenthesis; the opening one has been taken.
    fn arguments(&mut self) -> Result<Vec<Term<'a>>, Error> {
        self.nested(|parser| {
            let mut arguments = vec![parser.operand()?];
            while parser.tokens.eat(",") {
                arguments.push(parser.operand()?);
            }
            parser.tokens.expect(")")?;
            Ok(arguments)
        })
    }
}
