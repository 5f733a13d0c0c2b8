//! Tokens of statements.

use super::malformed;
use crate::Error;

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A bare name or keyword.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// Text in single quotes.
    Text(String),
    /// A number, unsigned.
    Number(String),
    /// A sign.
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 24] = [
    "<<", ">>", "<=", ">=", "<>", "!=", "<", ">", "=", "(", ")", "[", "]", "{", "}", ",", ".", ":", "*", "?",
    "+", "-", ";", "|",
];

/// Splits a statement.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut out = Vec::with_capacity(text.len() / 4 + 1);
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { break };
        let (token, len) = match first {
            '\'' | '"' => {
                let (content, len) = quoted(rest, first)?;
                (if first == '"' { Token::Quoted(content) } else { Token::Text(content) }, len)
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let len = run(rest, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'));
                (Token::Word(rest[..len].to_owned()), len)
            }
            '0'..='9' => {
                let len = number(rest);
                (Token::Number(rest[..len].to_owned()), len)
            }
            _ => {
                let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
                let sign = sign.ok_or_else(|| malformed(format_args!("unexpected character `{first}`")))?;
                (Token::Sign(sign), sign.len())
            }
        };
        out.push(token);
        rest = &rest[len..];
    }
    out.push(Token::End);
    Ok(out)
}

fn run(text: &str, part: impl Fn(char) -> bool) -> usize {
    text.find(|c| !part(c)).unwrap_or(text.len())
}

/// The length of digits, perhaps a fraction, perhaps an exponent.
fn number(text: &str) -> usize {
    let digits = |from: usize| from + run(&text[from..], |c| c.is_ascii_digit());
    let mut len = digits(0);
    if text[len..].starts_with('.') && text[len + 1..].starts_with(|c: char| c.is_ascii_digit()) {
        len = digits(len + 1);
    }
    if text[len..].starts_with(['e', 'E']) {
        let sign = usize::from(text[len + 1..].starts_with(['+', '-']));
        if text[len + 1 + sign..].starts_with(|c: char| c.is_ascii_digit()) {
            len = digits(len + 1 + sign);
        }
    }
    len
}

/// What stands between quotes, in which a doubled quote is one; and the length with them.
fn quoted(text: &str, quote: char) -> Result<(String, usize), Error> {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            content.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            content.push(quote);
        } else {
            return Ok((content, at + 1));
        }
    }
    Err(malformed(format_args!("a {quote} is not closed")))
}
