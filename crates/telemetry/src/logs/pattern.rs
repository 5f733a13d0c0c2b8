//! Filter patterns for unstructured text (CloudWatch Logs user guide, "Filter pattern syntax"): terms, quoted
//! phrases, `-excluded`, `?alternatives`. Patterns for JSON, for columns, and regular expressions are refused.

use super::invalid;
use crate::Error;

/// A compiled filter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

impl Pattern {
    /// Reads a pattern; an empty one matches everything.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut pattern = Self::default();
        let mut rest = text.trim();
        match rest.chars().next() {
            Some('{') => return Err(invalid("JSON filter patterns are not supported here; use terms.")),
            Some('[') => {
                return Err(invalid("Space-delimited filter patterns are not supported here; use terms."));
            }
            _ => {}
        }
        while let Some(first) = rest.chars().next() {
            let list = match first {
                '-' => &mut pattern.none,
                '?' => &mut pattern.any,
                _ => &mut pattern.all,
            };
            if let '-' | '?' = first {
                rest = &rest[1..];
            }
            let term;
            if let Some(quoted) = rest.strip_prefix('"') {
                (term, rest) = phrase(quoted)?;
            } else {
                let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                if word.starts_with('%') {
                    let message = "Regular expressions in filter patterns are not supported here; use terms.";
                    return Err(invalid(message));
                }
                term = word.to_owned();
                rest = after;
            }
            if term.is_empty() {
                return Err(invalid("Invalid filter pattern: an empty term."));
            }
            list.push(term);
            rest = rest.trim_start();
        }
        // With terms that must be there, AWS ignores alternatives.
        if !pattern.all.is_empty() {
            pattern.any.clear();
        }
        Ok(pattern)
    }

    /// Whether a message matches.
    pub(super) fn matches(&self, message: &str) -> bool {
        self.all.iter().all(|term| message.contains(term))
            && (self.any.is_empty() || self.any.iter().any(|term| message.contains(term)))
            && !self.none.iter().any(|term| message.contains(term))
    }
}

/// A phrase up to its closing quote, `\"` and `\\` unescaped, and what follows.
fn phrase(text: &str) -> Result<(String, &str), Error> {
    let mut term = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((term, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => term.push(c),
                Some((_, c)) => term.extend(['\\', c]),
                None => break,
            },
            c => term.push(c),
        }
    }
    Err(invalid("Invalid filter pattern: a quote is not closed."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_phrases_alternatives_and_exclusions() {
        let message = "[ERROR] 400 BAD REQUEST: \"x\" is missing";
        for (pattern, expected) in [
            ("", true),
            ("ERROR", true),
            ("error", false),
            ("ERROR 400", true),
            ("ERROR 404", false),
            ("\"BAD REQUEST\"", true),
            ("\"REQUEST BAD\"", false),
            ("ERROR -400", false),
            ("-WARN", true),
            ("?WARN ?ERROR", true),
            ("?WARN ?INFO", false),
            ("ERROR ?INFO", true),
            ("\"\\\"x\\\" is\"", true),
            ("-\"BAD REQUEST\"", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(message), expected, "{pattern}");
        }
        for bad in ["{ $.level = \"x\" }", "[ip, user]", "%re%", "\"open", "-"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }
}
