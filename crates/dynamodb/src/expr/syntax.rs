//! The grammar of condition, filter and key condition expressions, before names mean anything.

use super::lexer::{Token, Tokens};
use super::path::RawPath;
use super::{MAX_NESTING, MAX_OPERATORS};
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
    let parsed = parser.or()?;
    let root = parser.condition(parsed)?;
    if parser.tokens.peek() != Token::End {
        return Err(parser.tokens.unexpected());
    }
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

const KEYWORDS: [&str; 5] = ["AND", "OR", "NOT", "BETWEEN", "IN"];

impl<'a> Parser<'a> {
    fn operator(&mut self) -> Result<(), Error> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err(Error::Validation(format!(
                "The expression contains too many operators and functions; the maximum is {MAX_OPERATORS}"
            )));
        }
        Ok(())
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth >= MAX_NESTING {
            return Err(Error::Validation(format!(
                "The expression nests too deep; the maximum is {MAX_NESTING} levels"
            )));
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

    fn or(&mut self) -> Result<Parsed<'a>, Error> {
        self.chain("OR", Self::and, Node::Or)
    }

    fn and(&mut self) -> Result<Parsed<'a>, Error> {
        self.chain("AND", Self::not, Node::And)
    }

    fn chain(
        &mut self,
        word: &str,
        part: impl Fn(&mut Self) -> Result<Parsed<'a>, Error>,
        join: impl FnOnce(Vec<Node<'a>>) -> Node<'a>,
    ) -> Result<Parsed<'a>, Error> {
        let first = part(self)?;
        if !matches!(self.tokens.peek(), Token::Word(found) if found.eq_ignore_ascii_case(word)) {
            return Ok(first);
        }
        let mut parts = vec![self.condition(first)?];
        while self.tokens.eat_word(word) {
            self.operator()?;
            let next = part(self)?;
            parts.push(self.condition(next)?);
        }
        Ok(Parsed::Condition(join(parts)))
    }

    fn not(&mut self) -> Result<Parsed<'a>, Error> {
        if !self.tokens.eat_word("NOT") {
            return self.comparison();
        }
        self.operator()?;
        let inner = self.nested(Self::not)?;
        Ok(Parsed::Condition(Node::Not(Box::new(self.condition(inner)?))))
    }

    fn comparison(&mut self) -> Result<Parsed<'a>, Error> {
        let left = match self.primary()? {
            Parsed::Term(term) => term,
            condition => return Ok(condition),
        };
        if let Some(comparator) = Comparator::of(self.tokens.peek()) {
            self.tokens.next();
            self.operator()?;
            let right = self.operand()?;
            return Ok(Parsed::Condition(Node::Compare(comparator, left, right)));
        }
        if self.tokens.eat_word("BETWEEN") {
            self.operator()?;
            let low = self.operand()?;
            if !self.tokens.eat_word("AND") {
                return Err(self.tokens.unexpected());
            }
            let high = self.operand()?;
            return Ok(Parsed::Condition(Node::Between(left, low, high)));
        }
        if self.tokens.eat_word("IN") {
            self.operator()?;
            self.tokens.expect("(")?;
            let candidates = self.arguments()?;
            return Ok(Parsed::Condition(Node::In(left, candidates)));
        }
        Ok(Parsed::Term(left))
    }

    fn primary(&mut self) -> Result<Parsed<'a>, Error> {
        if !self.tokens.eat("(") {
            return self.operand().map(Parsed::Term);
        }
        let start = self.tokens.position();
        let inner = self.nested(Self::or)?;
        // `((a = b))`: what stands within is one group itself, from its first token to its last.
        let group = (start, self.tokens.position());
        self.redundant_parentheses |= self.last_group == Some(group);
        self.last_group = Some((start - 1, group.1 + 1));
        self.tokens.expect(")")?;
        Ok(inner)
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
                self.operator()?;
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
