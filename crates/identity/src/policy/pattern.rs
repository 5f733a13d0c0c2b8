//! Patterns of policies: `*`, `?`, and policy variables (IAM user guide, "IAM policy elements: Variables and
//! tags").
//!
//! Matching takes time in proportion to pattern length times text length at worst, whatever the pattern.

use super::context::Context;

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pattern {
    /// `*`
    Any,
    /// No wildcards.
    Exact(Box<str>),
    /// One `*`, at the end.
    Prefix(Box<str>),
    /// Wildcards anywhere.
    Glob(Box<[Elem]>),
    /// With variables.
    Template(Box<[Piece]>),
}

/// One element of a glob.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Elem {
    /// This character.
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
}

/// One element of a template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Elem(Elem),
    /// `${key}` or `${key, 'default'}`; the key in lower case.
    Variable {
        key: Box<str>,
        default: Option<Box<str>>,
    },
}

/// How a pattern is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syntax {
    /// `*` and `?` are wildcards.
    pub(crate) wildcards: bool,
    /// `${...}` is a variable (Version 2012-10-17).
    pub(crate) variables: bool,
    /// The pattern is put in lower case; the text must be, too.
    pub(crate) fold: bool,
}

impl Pattern {
    /// Compiles `text`; the error says what is wrong.
    pub(crate) fn compile(text: &str, syntax: Syntax) -> Result<Self, String> {
        let mut pieces = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if syntax.variables
                && let Some(inside) = rest.strip_prefix("${")
            {
                let (variable, after) = inside
                    .split_once('}')
                    .ok_or_else(|| format!("`{text}` has a variable without its end"))?;
                pieces.push(Self::variable(variable)?);
                rest = after;
                continue;
            }
            rest = &rest[c.len_utf8()..];
            pieces.push(Piece::Elem(match c {
                '*' if syntax.wildcards => Elem::Many,
                '?' if syntax.wildcards => Elem::One,
                c if syntax.fold => Elem::Char(c.to_ascii_lowercase()),
                c => Elem::Char(c),
            }));
        }
        if pieces.iter().any(|p| matches!(p, Piece::Variable { .. })) {
            return Ok(Self::Template(pieces.into()));
        }
        let elems = pieces.into_iter().filter_map(|p| match p {
            Piece::Elem(elem) => Some(elem),
            Piece::Variable { .. } => None,
        });
        Ok(Self::of(elems.collect()))
    }

    fn variable(inside: &str) -> Result<Piece, String> {
        if let "*" | "?" | "$" = inside {
            let c = inside.chars().next().expect("the text is one character");
            return Ok(Piece::Elem(Elem::Char(c)));
        }
        let (key, default) = match inside.split_once(',') {
            None => (inside.trim(), None),
            Some((key, default)) => {
                let default = default.trim().strip_prefix('\'').and_then(|d| d.strip_suffix('\''));
                let default = default
                    .ok_or_else(|| format!("the default of variable `{inside}` must be in single quotes"))?;
                (key.trim(), Some(default.into()))
            }
        };
        let valid = !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic() && !b"${}'*?".contains(&b));
        if !valid {
            return Err(format!("`{inside}` is not a policy variable"));
        }
        Ok(Piece::Variable { key: key.to_ascii_lowercase().into(), default })
    }

    fn of(elems: Vec<Elem>) -> Self {
        let text = |elems: &[Elem]| -> Option<Box<str>> {
            let chars = elems.iter().map(|e| match e {
                Elem::Char(c) => Some(*c),
                Elem::One | Elem::Many => None,
            });
            chars.collect::<Option<String>>().map(Into::into)
        };
        if let Some(exact) = text(&elems) {
            return Self::Exact(exact);
        }
        match elems.split_last() {
            Some((Elem::Many, [])) => Self::Any,
            Some((Elem::Many, head)) => match text(head) {
                Some(prefix) => Self::Prefix(prefix),
                None => Self::Glob(elems.into()),
            },
            _ => Self::Glob(elems.into()),
        }
    }

    /// Whether `text` matches; `None` if a variable has no value and no default.
    pub(crate) fn matches(&self, text: &str, context: &Context<'_>) -> Option<bool> {
        match self {
            Self::Template(pieces) => Some(glob(&resolve(pieces, context)?, text)),
            plain => Some(plain.matches_plain(text)),
        }
    }

    /// Whether `text` matches, for patterns that were compiled without variables.
    pub(crate) fn matches_plain(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Glob(elems) => glob(elems, text),
            Self::Template(_) => false,
        }
    }

    /// Its text with the variables filled in, for patterns without wildcards.
    pub(crate) fn text(&self, context: &Context<'_>) -> Option<String> {
        let from = |elems: &[Elem]| {
            elems
                .iter()
                .map(|e| match e {
                    Elem::Char(c) => *c,
                    Elem::One => '?',
                    Elem::Many => '*',
                })
                .collect()
        };
        match self {
            Self::Any => Some("*".to_owned()),
            Self::Exact(text) => Some(text.to_string()),
            Self::Prefix(text) => Some(format!("{text}*")),
            Self::Glob(elems) => Some(from(elems)),
            Self::Template(pieces) => Some(from(&resolve(pieces, context)?)),
        }
    }
}

/// Puts values in the place of variables. A value's own `*` and `?` are plain characters.
fn resolve(pieces: &[Piece], context: &Context<'_>) -> Option<Vec<Elem>> {
    let mut elems = Vec::with_capacity(pieces.len() + 32);
    for piece in pieces {
        match piece {
            Piece::Elem(elem) => elems.push(*elem),
            Piece::Variable { key, default } => match context.single(key) {
                Some(value) => elems.extend(value.chars().map(Elem::Char)),
                None => elems.extend(default.as_deref()?.chars().map(Elem::Char)),
            },
        }
    }
    Some(elems)
}

/// Greedy matching: when it fails, only the latest `*` takes one character more, for whatever an earlier one
/// could take instead, the latest can take too.
pub(crate) fn glob(elems: &[Elem], text: &str) -> bool {
    let (mut at_elem, mut at_text) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let c = text[at_text..].chars().next();
        match (elems.get(at_elem), c) {
            (Some(Elem::Many), _) => {
                at_elem += 1;
                if at_elem == elems.len() {
                    return true;
                }
                star = Some((at_elem, at_text));
                continue;
            }
            (Some(Elem::Char(want)), Some(c)) if *want == c => {
                at_elem += 1;
                at_text += c.len_utf8();
                continue;
            }
            (Some(Elem::One), Some(c)) => {
                at_elem += 1;
                at_text += c.len_utf8();
                continue;
            }
            (None, None) => return true,
            // The text has ended, and a later start would leave even less of it.
            (Some(Elem::Char(_) | Elem::One), None) => return false,
            (Some(Elem::Char(_)) | None, Some(_)) => {}
        }
        let Some((elem, from)) = star else { return false };
        let Some(c) = text[from..].chars().next() else { return false };
        let from = from + c.len_utf8();
        star = Some((elem, from));
        (at_elem, at_text) = (elem, from);
    }
}

/// A pattern of an ARN, whose six parts are matched one by one (`ArnLike`).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ArnPattern(Vec<Pattern>);

impl ArnPattern {
    /// Compiles `text`.
    pub(crate) fn compile(text: &str, variables: bool) -> Result<Self, String> {
        let syntax = Syntax { wildcards: true, variables, fold: false };
        if text == "*" {
            return Ok(Self(vec![Pattern::Any]));
        }
        let parts = split_arn(text);
        if parts.len() != 6 {
            return Err(format!("`{text}` is not an ARN"));
        }
        parts.into_iter().map(|part| Pattern::compile(part, syntax)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the ARN matches; `None` if a variable has no value and no default.
    pub(crate) fn matches(&self, arn: &str, context: &Context<'_>) -> Option<bool> {
        if let [pattern] = &*self.0 {
            return pattern.matches(arn, context);
        }
        let parts: Vec<_> = arn.splitn(6, ':').collect();
        if parts.len() != 6 {
            return Some(false);
        }
        for (pattern, part) in self.0.iter().zip(parts) {
            if !pattern.matches(part, context)? {
                return Some(false);
            }
        }
        Some(true)
    }
}

/// Splits at the first five colons that are not inside a variable.
fn split_arn(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut inside) = (Vec::with_capacity(6), 0, false);
    for (at, b) in text.bytes().enumerate() {
        match b {
            b'{' if text[..at].ends_with('$') => inside = true,
            b'}' => inside = false,
            b':' if !inside && parts.len() < 5 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}
