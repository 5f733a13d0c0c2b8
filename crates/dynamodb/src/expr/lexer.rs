//! Tokens of expressions.

use crate::Error;

/// The longest expression, in bytes (Developer Guide, "Service, account, and table quotas").
const MAX_EXPRESSION_BYTES: usize = 4096;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A bare name or keyword.
    Word(&'a str),
    /// `#name`.
    Name(&'a str),
    /// `:value`.
    Value(&'a str),
    /// Digits.
    Digits(&'a str),
    /// A sign.
    Sign(&'static str),
    /// Anything else.
    Unknown,
    /// The end.
    End,
}

const SIGNS: [&str; 15] = ["<=", "<>", ">=", "<", ">", "=", "(", ")", "[", "]", ".", ",", "+", "-", "*"];

/// Tokens, and the place that the parser has reached.
#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    text: &'a str,
    /// Token, first byte, byte after the last.
    tokens: Vec<(Token<'a>, usize, usize)>,
    at: usize,
}

impl<'a> Tokens<'a> {
    /// Splits `text`; the errors have no parameter name in front.
    pub(crate) fn new(text: &'a str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::validation("The expression can not be empty;"));
        }
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(Error::Validation(format!(
                "Expression size has exceeded the maximum allowed size; expression size: {}",
                text.len()
            )));
        }
        let bytes = text.as_bytes();
        let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
        let mut at = 0;
        while at < bytes.len() {
            let rest = &text[at..];
            let run = |from: usize| {
                let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
                from + bytes[at + from..].iter().take_while(|b| is_part(b)).count()
            };
            let (token, len) = match bytes[at] {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    at += 1;
                    continue;
                }
                b'a'..=b'z' | b'A'..=b'Z' => (Token::Word(&rest[..run(0)]), run(0)),
                b'#' if run(1) > 1 => (Token::Name(&rest[..run(1)]), run(1)),
                b':' if run(1) > 1 => (Token::Value(&rest[..run(1)]), run(1)),
                b'0'..=b'9' => {
                    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
                    (Token::Digits(&rest[..len]), len)
                }
                _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                    Some(sign) => (Token::Sign(sign), sign.len()),
                    None => (Token::Unknown, rest.chars().next().map_or(1, char::len_utf8)),
                },
            };
            tokens.push((token, at, at + len));
            at += len;
        }
        tokens.push((Token::End, text.len(), text.len()));
        Ok(Self { text, tokens, at: 0 })
    }

    /// How many tokens have been taken.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next token.
    pub(crate) fn peek(&self) -> Token<'a> {
        self.tokens[self.at].0
    }

    /// The token after the next.
    pub(crate) fn peek_second(&self) -> Token<'a> {
        self.tokens.get(self.at + 1).map_or(Token::End, |token| token.0)
    }

    /// Takes the next token; the end stays.
    pub(crate) fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    /// Takes the next token if it is that sign.
    pub(crate) fn eat(&mut self, sign: &str) -> bool {
        let found = self.peek() == Token::Sign(SIGNS.iter().find(|s| **s == sign).expect("a known sign"));
        self.at += usize::from(found);
        found
    }

    /// Takes the next token if it is that keyword, in any case of letters.
    pub(crate) fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(found) if found.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    /// Takes that sign, or fails.
    pub(crate) fn expect(&mut self, sign: &str) -> Result<(), Error> {
        if self.eat(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The error that the next token may not stand here: it, and what is around it.
    pub(crate) fn unexpected(&self) -> Error {
        let (token, start, end) = self.tokens[self.at];
        let token = if token == Token::End { "<EOF>" } else { &self.text[start..end] };
        let from = self.tokens[self.at.saturating_sub(1)].1;
        let to = self.tokens.get(self.at + 1).map_or(end, |next| next.2);
        let near = &self.text[from..to];
        Error::Validation(format!("Syntax error; token: \"{token}\", near: \"{near}\""))
    }
}
