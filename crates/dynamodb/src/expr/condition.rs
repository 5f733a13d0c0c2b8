//! Conditions and filters: from syntax to something that can be evaluated.

use super::path::Path;
use super::syntax::{self, Call, Comparator, Node, Term};
use super::{Faults, Placeholders, misused, named};
use crate::Error;
use crate::value::{AttributeValue, Kind, ValueView, encode_value};

/// Ranks of faults, most important first.
mod rank {
    pub(super) const PARENTHESES: u8 = 0;
    pub(super) const UNKNOWN_FUNCTION: u8 = 1;
    pub(super) const MISUSED_FUNCTION: u8 = 2;
    pub(super) const RESERVED: u8 = 3;
    pub(super) const UNDEFINED: u8 = 4;
    pub(super) const OPERAND_COUNT: u8 = 5;
    pub(super) const DISTINCT: u8 = 6;
    pub(super) const OPERAND_TYPE: u8 = 7;
}

/// The functions of conditions.
pub(super) const FUNCTIONS: [&str; 6] =
    ["attribute_exists", "attribute_not_exists", "attribute_type", "begins_with", "contains", "size"];

/// The most candidates of IN.
const MAX_IN: usize = 100;

/// An operand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Path(Path),
    /// An encoded value.
    Literal(Box<[u8]>),
    Size(Box<Operand>),
}

/// A condition, ready to be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Compare(Comparator, Operand, Operand),
    Between(Operand, Operand, Operand),
    In(Operand, Vec<Operand>),
    Exists(Path),
    NotExists(Path),
    Type(Operand, Kind),
    BeginsWith(Operand, Operand),
    Contains(Operand, Operand),
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
}

impl Condition {
    /// Reads the expression of that parameter.
    pub(crate) fn parse(
        parameter: &str,
        text: &str,
        placeholders: &mut Placeholders<'_>,
    ) -> Result<Self, Error> {
        named(parameter, Self::parse_unnamed(text, placeholders))
    }

    fn parse_unnamed(text: &str, placeholders: &mut Placeholders<'_>) -> Result<Self, Error> {
        let syntax = syntax::parse(text)?;
        let mut lowering = Lowering {
            placeholders,
            faults: Faults::default(),
            whole: Faults::default(),
            first: Faults::default(),
        };
        if syntax.redundant_parentheses {
            lowering.whole.note(rank::PARENTHESES, || "The expression has redundant parentheses;".into());
        }
        let condition = lowering.node(&syntax.root);
        lowering.whole.finish()?;
        lowering.first.finish()?;
        Ok(condition)
    }

    /// Calls `visit` with every path in it.
    pub(crate) fn each_path(&self, visit: &mut impl FnMut(&Path)) {
        match self {
            Self::Compare(_, a, b) | Self::BeginsWith(a, b) | Self::Contains(a, b) => {
                operand_paths(a, visit);
                operand_paths(b, visit);
            }
            Self::Between(a, b, c) => {
                operand_paths(a, visit);
                operand_paths(b, visit);
                operand_paths(c, visit);
            }
            Self::In(a, candidates) => {
                operand_paths(a, visit);
                candidates.iter().for_each(|candidate| operand_paths(candidate, visit));
            }
            Self::Exists(path) | Self::NotExists(path) => visit(path),
            Self::Type(a, _) => operand_paths(a, visit),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.each_path(visit)),
            Self::Not(inner) => inner.each_path(visit),
        }
    }
}

fn operand_paths(operand: &Operand, visit: &mut impl FnMut(&Path)) {
    match operand {
        Operand::Path(path) => visit(path),
        Operand::Size(inner) => operand_paths(inner, visit),
        Operand::Literal(_) => {}
    }
}

struct Lowering<'p, 'v> {
    placeholders: &'p mut Placeholders<'v>,
    /// Of the comparison or function at hand.
    faults: Faults,
    /// Those that matter wherever they stand.
    whole: Faults,
    /// Of the others, those of the first comparison or function that has any.
    first: Faults,
}

impl Lowering<'_, '_> {
    fn node(&mut self, node: &Node<'_>) -> Condition {
        let condition = self.lower(node);
        if let Some((rank, message)) = std::mem::take(&mut self.faults).worst {
            if rank <= rank::RESERVED {
                self.whole.note(rank, || message);
            } else {
                self.first.note(0, || message);
            }
        }
        condition
    }

    fn lower(&mut self, node: &Node<'_>) -> Condition {
        match node {
            Node::And(parts) => Condition::And(parts.iter().map(|part| self.node(part)).collect()),
            Node::Or(parts) => Condition::Or(parts.iter().map(|part| self.node(part)).collect()),
            Node::Not(inner) => Condition::Not(Box::new(self.node(inner))),
            Node::Compare(comparator, left, right) => {
                let (left, right) = (self.operand(left), self.operand(right));
                self.distinct(comparator.sign(), &left, &right);
                if !matches!(comparator, Comparator::Eq | Comparator::Ne) {
                    self.ordered(comparator.sign(), &left);
                    self.ordered(comparator.sign(), &right);
                }
                Condition::Compare(*comparator, left, right)
            }
            Node::Between(value, low, high) => {
                let (value, low, high) = (self.operand(value), self.operand(low), self.operand(high));
                [&value, &low, &high].into_iter().for_each(|operand| self.ordered("BETWEEN", operand));
                self.bounds(&low, &high);
                Condition::Between(value, low, high)
            }
            Node::In(value, candidates) => {
                if candidates.len() > MAX_IN {
                    self.operand_count("IN", candidates.len());
                }
                let value = self.operand(value);
                let candidates: Vec<_> = candidates.iter().map(|term| self.operand(term)).collect();
                candidates.iter().for_each(|candidate| self.distinct("IN", &value, candidate));
                Condition::In(value, candidates)
            }
            Node::Call(call) => self.call(call),
        }
    }

    /// An operand; of the functions only `size` may be one.
    fn operand(&mut self, term: &Term<'_>) -> Operand {
        match term {
            Term::Path(path) => Operand::Path(path.resolve(
                self.placeholders,
                (rank::RESERVED, rank::UNDEFINED),
                &mut self.faults,
            )),
            Term::Value(placeholder) => self.literal(placeholder),
            Term::Call(call) if call.name == "size" => {
                let arguments = self.operands(call, 1);
                let Some(inner) = arguments.into_iter().next() else { return null() };
                if let Some(kind) = operand_kind(&inner)
                    && matches!(kind, Kind::N | Kind::Bool | Kind::Null)
                {
                    self.operand_type("size", kind.name());
                }
                Operand::Size(Box::new(inner))
            }
            Term::Call(call) => {
                // Its own faults matter too: an unknown function is reported before a misused one.
                self.call(call);
                self.misused(call.name);
                null()
            }
        }
    }

    fn literal(&mut self, placeholder: &str) -> Operand {
        let Some(value) = self.placeholders.value(placeholder) else {
            self.faults.note(rank::UNDEFINED, || {
                format!("An expression attribute value used in expression is not defined; attribute value: {placeholder}")
            });
            return null();
        };
        literal(value)
    }

    /// The arguments of a function that takes `count`; empty if it got another number.
    fn operands(&mut self, call: &Call<'_>, count: usize) -> Vec<Operand> {
        let arguments: Vec<_> = call.arguments.iter().map(|term| self.operand(term)).collect();
        if arguments.len() != count {
            self.operand_count(call.name, arguments.len());
            return Vec::new();
        }
        if let [first, second] = arguments.as_slice() {
            self.distinct(call.name, first, second);
        }
        arguments
    }

    /// A function that is a condition.
    fn call(&mut self, call: &Call<'_>) -> Condition {
        let name = call.name;
        let nothing = Condition::Or(Vec::new());
        match name {
            "attribute_exists" | "attribute_not_exists" => match self.operands(call, 1).pop() {
                Some(Operand::Path(path)) if name == "attribute_exists" => Condition::Exists(path),
                Some(Operand::Path(path)) => Condition::NotExists(path),
                Some(_) => {
                    self.faults.note(rank::OPERAND_TYPE, || {
                        format!("Operator or function requires a document path; operator or function: {name}")
                    });
                    nothing
                }
                None => nothing,
            },
            "attribute_type" => {
                let mut arguments = self.operands(call, 2);
                let (Some(wanted), Some(value)) = (arguments.pop(), arguments.pop()) else { return nothing };
                match self.type_name(&wanted) {
                    Some(kind) => Condition::Type(value, kind),
                    None => nothing,
                }
            }
            "begins_with" | "contains" => {
                let mut arguments = self.operands(call, 2);
                let (Some(part), Some(whole)) = (arguments.pop(), arguments.pop()) else { return nothing };
                if name == "contains" {
                    return Condition::Contains(whole, part);
                }
                for operand in [&whole, &part] {
                    if let Some(kind) = operand_kind(operand)
                        && !matches!(kind, Kind::S | Kind::B)
                    {
                        self.operand_type(name, kind.name());
                    }
                }
                Condition::BeginsWith(whole, part)
            }
            "size" => {
                self.operands(call, 1);
                self.misused(name);
                nothing
            }
            // Of update expressions.
            "if_not_exists" | "list_append" => {
                for term in &call.arguments {
                    self.operand(term);
                }
                self.misused(name);
                nothing
            }
            _ => {
                for term in &call.arguments {
                    self.operand(term);
                }
                self.faults
                    .note(rank::UNKNOWN_FUNCTION, || format!("Invalid function name; function: {name}"));
                nothing
            }
        }
    }

    fn type_name(&mut self, operand: &Operand) -> Option<Kind> {
        let name = "attribute_type";
        let Operand::Literal(encoded) = operand else {
            self.operand_type(name, "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}");
            return None;
        };
        let value = ValueView::of(encoded);
        if value.kind() != Kind::S {
            self.operand_type(name, value.kind().name());
            return None;
        }
        let text = String::from_utf8_lossy(value.scalar());
        let kind = Kind::from_name(&text);
        if kind.is_none() {
            self.faults.note(rank::OPERAND_TYPE, || {
                format!("Invalid attribute type name found; type: {text}, valid types: {{B,NULL,SS,BOOL,L,BS,N,NS,S,M}}")
            });
        }
        kind
    }

    fn misused(&mut self, name: &str) {
        self.faults.note(rank::MISUSED_FUNCTION, || misused(name));
    }

    fn operand_count(&mut self, name: &str, count: usize) {
        self.faults.note(rank::OPERAND_COUNT, || {
            format!("Incorrect number of operands for operator or function; operator or function: {name}, number of operands: {count}")
        });
    }

    fn operand_type(&mut self, name: &str, kind: &str) {
        self.faults.note(rank::OPERAND_TYPE, || {
            format!("Incorrect operand type for operator or function; operator or function: {name}, operand type: {kind}")
        });
    }

    /// Only text, numbers and bytes have an order.
    fn ordered(&mut self, name: &str, operand: &Operand) {
        if let Some(kind) = literal_kind(operand)
            && !matches!(kind, Kind::S | Kind::N | Kind::B)
        {
            self.operand_type(name, kind.name());
        }
    }

    fn distinct(&mut self, name: &str, first: &Operand, second: &Operand) {
        if let (Operand::Path(one), Operand::Path(two)) = (first, second)
            && one == two
        {
            self.faults.note(rank::DISTINCT, || {
                format!("The first operand must be distinct from the remaining operands for this operator or function; operator: {name}, first operand: {one}")
            });
        }
    }

    fn bounds(&mut self, low: &Operand, high: &Operand) {
        let (Operand::Literal(low), Operand::Literal(high)) = (low, high) else { return };
        let (low, high) = (ValueView::of(low), ValueView::of(high));
        let shown = || {
            let mut out = [Vec::new(), Vec::new()];
            for (out, value) in out.iter_mut().zip([low, high]) {
                crate::wire::write::value(out, value);
            }
            let [low, high] = out.map(|json| String::from_utf8_lossy(&json).replace('"', ""));
            format!("lower bound operand: AttributeValue: {low}, upper bound operand: AttributeValue: {high}")
        };
        if low.kind() != high.kind() {
            self.faults.note(rank::OPERAND_TYPE, || {
                format!(
                    "The BETWEEN operator requires same data type for lower and upper bounds; {}",
                    shown()
                )
            });
        } else if low.scalar() > high.scalar() {
            self.faults.note(rank::OPERAND_TYPE, || {
                format!(
                    "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; {}",
                    shown()
                )
            });
        }
    }
}

fn literal(value: &AttributeValue) -> Operand {
    let mut encoded = Vec::new();
    encode_value(value, &mut encoded);
    Operand::Literal(encoded.into())
}

/// Stands where an operand was at fault; the fault keeps it from being evaluated.
fn null() -> Operand {
    literal(&AttributeValue::Null)
}

fn literal_kind(operand: &Operand) -> Option<Kind> {
    match operand {
        Operand::Literal(encoded) => Some(ValueView::of(encoded).kind()),
        Operand::Path(_) | Operand::Size(_) => None,
    }
}

fn operand_kind(operand: &Operand) -> Option<Kind> {
    match operand {
        Operand::Size(_) => Some(Kind::N),
        other => literal_kind(other),
    }
}
