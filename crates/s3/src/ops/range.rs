//! The `Range` header (RFC 9110, "Range"): one range of bytes; anything else is answered with the whole object.

use std::ops::Range;

/// What a `Range` header comes to for an object of a certain size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: there was no range, or not one that is understood.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that the object does not have.
    Unsatisfiable,
}

/// Reads a `Range` header.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // More than fits is more than any object has.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    match (first, number(first), last, number(last)) {
        ("", _, _, Some(length)) => match length.min(size) {
            0 => Wanted::Unsatisfiable,
            length => Wanted::Part(size - length..size),
        },
        (_, Some(first), "", _) if first < size => Wanted::Part(first..size),
        (_, Some(first), _, Some(last)) if first > last => Wanted::Whole,
        (_, Some(first), _, Some(last)) if first < size => {
            Wanted::Part(first..last.saturating_add(1).min(size))
        }
        (_, Some(_), "", _) | (_, Some(_), _, Some(_)) => Wanted::Unsatisfiable,
        _ => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_come_to_ranges() {
        for (header, expected) in [
            (None, Wanted::Whole),
            (Some("bytes=0-4"), Wanted::Part(0..5)),
            (Some("bytes=5-"), Wanted::Part(5..10)),
            (Some("bytes=-3"), Wanted::Part(7..10)),
            (Some("bytes=-30"), Wanted::Part(0..10)),
            (Some("bytes=8-99999999999999999999999"), Wanted::Part(8..10)),
            (Some("bytes=10-"), Wanted::Unsatisfiable),
            (Some("bytes=-0"), Wanted::Unsatisfiable),
            (Some("bytes=5-4"), Wanted::Whole),
            (Some("bytes=0-1,4-5"), Wanted::Whole),
            (Some("items=0-1"), Wanted::Whole),
            (Some("bytes=a-b"), Wanted::Whole),
        ] {
            assert_eq!(wanted(header, 10), expected, "{header:?}");
        }
        assert_eq!(wanted(Some("bytes=0-0"), 0), Wanted::Unsatisfiable);
        assert_eq!(wanted(Some("bytes=-1"), 0), Wanted::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn ranges_lie_within(header in "bytes=[0-9]{0,3}-[0-9]{0,3}", size in 0_u64..300) {
            if let Wanted::Part(range) = wanted(Some(&header), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn ranges_are_inclusive(first in 0_u64..300, length in 0_u64..300, size in 0_u64..300) {
            let got = wanted(Some(&format!("bytes={first}-{}", first + length)), size);
            let whole: Vec<u64> = (0..size).filter(|at| (first..=first + length).contains(at)).collect();
            match got {
                Wanted::Part(range) => prop_assert_eq!(range.collect::<Vec<_>>(), whole),
                Wanted::Whole | Wanted::Unsatisfiable => prop_assert!(whole.is_empty()),
            }
        }

        #[test]
        fn nothing_panics(header in ".{0,20}", size in any::<u64>()) {
            wanted(Some(&header), size);
        }
    }
}
