//! Reads YAML (of which JSON is a subset) into a [`Node`], with CloudFormation's short intrinsics.
//!
//! Invariant: what is built is bounded in depth and in nodes, aliases expanded, whatever the text says.

use std::collections::HashMap;

use indexmap::IndexMap;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::node::{At, Node, Problem, Value};

/// Deepest nesting; real templates stay below 30.
const MAX_DEPTH: usize = 100;
/// Most nodes, aliases expanded. A template of a megabyte has fewer.
const MAX_NODES: usize = 200_000;
/// Most that aliases may add, by [`Node::weight`].
const MAX_ALIASED: usize = 4 << 20;

/// The short intrinsics: `!Sub` is `Fn::Sub`, and so on.
const SHORT: &[&str] = &[
    "And",
    "Base64",
    "Cidr",
    "Equals",
    "FindInMap",
    "ForEach",
    "GetAtt",
    "GetAZs",
    "If",
    "ImportValue",
    "Join",
    "Length",
    "Not",
    "Or",
    "Select",
    "Split",
    "Sub",
    "ToJsonString",
    "Transform",
];

/// Reads a document.
pub(crate) fn read(text: &str) -> Result<Node, Problem> {
    // JSON may hold tabs between tokens and surrogate pairs in strings, which YAML does not allow.
    let json =
        text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let tidy;
    let text = if json && (text.contains('\t') || text.contains("\\u") || text.contains("\\/")) {
        tidy = tidy_json(text);
        &tidy
    } else {
        text
    };
    let characters = text.chars().collect();
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        characters,
        anchors: HashMap::new(),
        nodes: 0,
        aliased: 0,
    };
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd | Event::DocumentEnd, span) => {
                return Err(problem(span, "the template is empty"));
            }
            (event, span) => {
                let root = reader.node(event, span, 0)?;
                loop {
                    match reader.next()? {
                        (Event::StreamEnd, _) => return Ok(root),
                        (Event::DocumentEnd | Event::Nothing, _) => {}
                        (_, span) => {
                            return Err(problem(span, "a template is one document; a second begins here"));
                        }
                    }
                }
            }
        }
    }
}

/// Valid JSON with tabs as spaces and escapes resolved as far as YAML does not know them; lines stay lines.
fn tidy_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(quote) = rest.find('"') {
        out.push_str(&rest[..quote].replace('\t', " "));
        let body = &rest[quote..];
        let mut end = 1;
        let bytes = body.as_bytes();
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let literal = &body[..=end.min(body.len() - 1)];
        match serde_json::from_str::<String>(literal) {
            // YAML's double-quoted form of text without exotic escapes is JSON's.
            Ok(value) => out.push_str(&serde_json::Value::String(value).to_string()),
            Err(_) => out.push_str(literal),
        }
        rest = &body[literal.len()..];
    }
    out.push_str(&rest.replace('\t', " "));
    out
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    characters: Vec<char>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    aliased: usize,
}

fn at(span: Span) -> At {
    At { line: span.start.line(), column: span.start.col() + 1 }
}

fn problem(span: Span, message: impl Into<String>) -> Problem {
    Problem { at: at(span), message: message.into() }
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let mark = error.marker();
                let at = At { line: mark.line(), column: mark.col() + 1 };
                Err(Problem { at, message: format!("not well-formed: {}", error.info()) })
            }
            None => Err(Problem { at: At::default(), message: "the template ends early".into() }),
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(problem(span, format!("the template has more than {MAX_NODES} values")));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        if depth > MAX_DEPTH {
            return Err(problem(span, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let before = self.nodes;
        self.count(1, span)?;
        let (value, anchor, tag) = match event {
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id) else {
                    return Err(problem(span, "an alias refers to something that is not complete yet"));
                };
                self.aliased += node.weight();
                if self.aliased > MAX_ALIASED {
                    let message = format!("what aliases stand for is more than {MAX_ALIASED} bytes");
                    return Err(problem(span, message));
                }
                let (node, size) = (node.clone(), *size);
                self.count(size, span)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = if plain { resolve(&text) } else { Value::String(text.into_owned()) };
                (value, anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (Value::List(items), anchor, tag)
            }
            Event::MappingStart(anchor, tag) => (Value::Map(self.mapping(depth)?), anchor, tag),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(problem(span, "a value is missing here")),
        };
        let scalar = !matches!(value, Value::List(_) | Value::Map(_));
        let mut node = Node::new(value, at(span));
        if scalar && span.end.index() > span.start.index() {
            let end = self.scalar_end(span.start.index(), span.end.index());
            node.span = Some((span.start.index(), end));
        }
        if let Some(tag) = tag {
            node = tagged(node, &tag, span)?;
        }
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    /// Where a scalar of one line ends: the parser counts what follows it, too.
    fn scalar_end(&self, start: usize, end: usize) -> usize {
        let text = &self.characters[start..end.min(self.characters.len())];
        let quote = text.first().copied().filter(|c| matches!(c, '\'' | '"'));
        let mut at = 1;
        while let (Some(quote), Some(c)) = (quote, text.get(at)) {
            match c {
                '\\' if quote == '"' => at += 2,
                c if *c == quote && quote == '\'' && text.get(at + 1) == Some(&quote) => at += 2,
                c if *c == quote => return start + at + 1,
                _ => at += 1,
            }
        }
        let comment = text.windows(2).position(|pair| pair[0].is_whitespace() && pair[1] == '#');
        let text = &text[..comment.unwrap_or(text.len())];
        start + text.iter().rposition(|c| !c.is_whitespace()).map_or(0, |last| last + 1)
    }

    fn mapping(&mut self, depth: usize) -> Result<IndexMap<String, Node>, Problem> {
        let mut map = IndexMap::new();
        loop {
            let (event, key_span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(map);
            }
            let key = self.node(event, key_span, depth + 1)?;
            let Some(name) = key.scalar_text() else {
                return Err(problem(key_span, "a key must be text"));
            };
            if name == "<<" {
                return Err(problem(key_span, "merge keys (`<<`) are not supported in templates"));
            }
            let (event, span) = self.next()?;
            let mut value = self.node(event, span, depth + 1)?;
            value.at = at(key_span);
            if map.contains_key(&name) {
                return Err(problem(key_span, format!("the key `{name}` is there twice")));
            }
            map.insert(name, value);
        }
    }
}

fn tagged(node: Node, tag: &Tag, span: Span) -> Result<Node, Problem> {
    if tag.is_yaml_core_schema() && tag.suffix == "str" {
        return Ok(node);
    }
    let at = node.at;
    let name = match tag.suffix.as_str() {
        _ if tag.handle != "!" => None,
        "Ref" => Some("Ref".to_owned()),
        "Condition" => Some("Condition".to_owned()),
        short if SHORT.contains(&short) => Some(format!("Fn::{short}")),
        _ => None,
    };
    let Some(name) = name else {
        return Err(problem(span, format!("the tag `{tag}` is not an intrinsic function")));
    };
    let argument = match (&*name, &node.value) {
        ("Fn::GetAtt", Value::String(text)) => match text.split_once('.') {
            Some((resource, attribute)) => {
                Node::list(vec![Node::text(resource, at), Node::text(attribute, at)], at)
            }
            None => return Err(problem(span, "`!GetAtt` needs `LogicalId.Attribute`")),
        },
        _ => node,
    };
    Ok(Node::map([(name, argument)], at))
}

/// A plain scalar, by the rules of YAML 1.1 that CloudFormation follows. Digits with a leading zero (account
/// ids) and dates stay text.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && digits.bytes().filter(|&b| b == b'.').count() <= 1
        && !(digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0."));
    if numeric {
        let text = text.strip_prefix('+').unwrap_or(text).trim_end_matches('.');
        if let Ok(number) = serde_json::from_str(text) {
            return Value::Number(number);
        }
    }
    Value::String(text.to_owned())
}
