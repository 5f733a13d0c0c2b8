//! Evaluates conditions on items as they are stored: nothing is rebuilt.

use smallvec::SmallVec;

use super::condition::{Condition, Operand};
use super::syntax::Comparator;
use crate::value::{AttributeValue, ItemView, Kind, Number, Sequence, ValueView, encode_value};

/// What an operand comes to.
enum Resolved<'v> {
    View(ValueView<'v>),
    Computed(SmallVec<[u8; 32]>),
}

impl Resolved<'_> {
    fn view(&self) -> ValueView<'_> {
        match self {
            Self::View(view) => *view,
            Self::Computed(encoded) => ValueView::of(encoded),
        }
    }
}

fn resolve<'v>(operand: &'v Operand, item: ItemView<'v>) -> Option<Resolved<'v>> {
    match operand {
        Operand::Path(path) => path.find(item).map(Resolved::View),
        Operand::Literal(encoded) => Some(Resolved::View(ValueView::of(encoded))),
        Operand::Size(inner) => {
            let size = size_of(resolve(inner, item)?.view())?;
            let mut encoded = Vec::with_capacity(32);
            encode_value(&AttributeValue::N(Number::from_len(size)), &mut encoded);
            Some(Resolved::Computed(SmallVec::from_vec(encoded)))
        }
    }
}

/// The length of text (as Java counts it, in UTF-16 units), bytes of binary values, members of the others;
/// numbers and the like have no size.
fn size_of(value: ValueView<'_>) -> Option<usize> {
    match value.kind() {
        // Each character is one unit, those of four bytes are two; all other bytes go on with one.
        Kind::S => Some(
            value
                .scalar()
                .iter()
                .map(|byte| usize::from(byte & 0xC0 != 0x80) + usize::from(*byte >= 0xF0))
                .sum(),
        ),
        Kind::B => Some(value.scalar().len()),
        _ => value.count(),
    }
}

/// The order of two scalars of one type; the order of their bytes.
fn compare(one: ValueView<'_>, two: ValueView<'_>) -> Option<std::cmp::Ordering> {
    let ordered = one.kind() == two.kind() && matches!(one.kind(), Kind::S | Kind::N | Kind::B);
    ordered.then(|| one.scalar().cmp(two.scalar()))
}

fn contains(whole: ValueView<'_>, part: ValueView<'_>) -> bool {
    match (whole.kind(), part.kind()) {
        (Kind::S, Kind::S) | (Kind::B, Kind::B) => {
            memchr::memmem::find(whole.scalar(), part.scalar()).is_some()
        }
        (Kind::Ss, Kind::S) | (Kind::Ns, Kind::N) | (Kind::Bs, Kind::B) => match whole.sequence() {
            Some(Sequence::Members(mut members)) => members.any(|member| member == part.scalar()),
            _ => false,
        },
        (Kind::L, _) => match whole.sequence() {
            Some(Sequence::Elements(mut elements)) => elements.any(|element| element.equals(part)),
            _ => false,
        },
        _ => false,
    }
}

impl Condition {
    /// Whether it holds for an item; for none, with [`ItemView::ABSENT`].
    pub(crate) fn holds(&self, item: ItemView<'_>) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.holds(item)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(item)),
            Self::Not(inner) => !inner.holds(item),
            Self::Exists(path) => path.find(item).is_some(),
            Self::NotExists(path) => path.find(item).is_none(),
            Self::Type(operand, kind) => {
                resolve(operand, item).is_some_and(|value| value.view().kind() == *kind)
            }
            Self::Compare(comparator, one, two) => {
                let pair = (resolve(one, item), resolve(two, item));
                let (Some(one), Some(two)) = pair else { return *comparator == Comparator::Ne };
                let (one, two) = (one.view(), two.view());
                match comparator {
                    Comparator::Eq => one.equals(two),
                    Comparator::Ne => !one.equals(two),
                    Comparator::Lt => compare(one, two).is_some_and(|order| order.is_lt()),
                    Comparator::Le => compare(one, two).is_some_and(|order| order.is_le()),
                    Comparator::Gt => compare(one, two).is_some_and(|order| order.is_gt()),
                    Comparator::Ge => compare(one, two).is_some_and(|order| order.is_ge()),
                }
            }
            Self::Between(value, low, high) => {
                let bounds = (resolve(value, item), resolve(low, item), resolve(high, item));
                let (Some(value), Some(low), Some(high)) = bounds else { return false };
                compare(low.view(), value.view()).is_some_and(|order| order.is_le())
                    && compare(value.view(), high.view()).is_some_and(|order| order.is_le())
            }
            Self::In(value, candidates) => resolve(value, item).is_some_and(|value| {
                candidates.iter().any(|candidate| {
                    resolve(candidate, item).is_some_and(|other| value.view().equals(other.view()))
                })
            }),
            Self::BeginsWith(whole, part) => {
                let (Some(whole), Some(part)) = (resolve(whole, item), resolve(part, item)) else {
                    return false;
                };
                let (whole, part) = (whole.view(), part.view());
                whole.kind() == part.kind()
                    && matches!(whole.kind(), Kind::S | Kind::B)
                    && whole.scalar().starts_with(part.scalar())
            }
            Self::Contains(whole, part) => {
                let (Some(whole), Some(part)) = (resolve(whole, item), resolve(part, item)) else {
                    return false;
                };
                contains(whole.view(), part.view())
            }
        }
    }
}
