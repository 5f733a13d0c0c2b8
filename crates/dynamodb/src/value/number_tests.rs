//! Numbers against an independent implementation: digit strings, added as on paper.

use proptest::prelude::*;

use super::*;

fn number(text: &str) -> Number {
    text.parse_number()
}

trait ParseNumber {
    fn parse_number(&self) -> Number;
}

impl ParseNumber for str {
    fn parse_number(&self) -> Number {
        Number::parse(self).unwrap()
    }
}

#[test]
fn text_is_canonical() {
    let nines = "9".repeat(38);
    for (input, output) in [
        ("0", "0"),
        ("-0", "0"),
        ("0e500", "0"),
        ("+1", "1"),
        ("007", "7"),
        ("1.0", "1"),
        ("1.50", "1.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-0.001", "-0.001"),
        ("1e3", "1000"),
        ("123E-2", "1.23"),
        ("1e-3", "0.001"),
        ("100", "100"),
        (nines.as_str(), nines.as_str()),
        (
            "3.14159265358979323846264338327950288419",
            "3.1415926535897932384626433832795028841900000".trim_end_matches('0'),
        ),
    ] {
        let expected = Number::parse(output);
        assert_eq!(Number::parse(input), expected, "{input}");
        if let Ok(number) = expected {
            assert_eq!(number.to_string(), output, "{input}");
        }
    }
    assert_eq!(number("1e125").to_string(), format!("1{}", "0".repeat(125)));
    assert_eq!(number("1e-130").to_string(), format!("0.{}1", "0".repeat(129)));
}

#[test]
fn what_does_not_fit_is_refused() {
    for bad in [" 1", "1 ", "abc", "1e", "--1", "1.2.3", "0x10", "NaN", "Infinity", ".", "-", "1e1.5", "१"]
    {
        assert_eq!(Number::parse(bad), Err(NumberError::NotNumeric(bad.into())), "{bad}");
    }
    assert_eq!(Number::parse(""), Err(NumberError::Empty));
    assert_eq!(Number::parse("1e126"), Err(NumberError::Overflow));
    assert_eq!(Number::parse("1e99999999999999999999999"), Err(NumberError::Overflow));
    assert_eq!(Number::parse("1e-131"), Err(NumberError::Underflow));
    assert_eq!(Number::parse(&"1".repeat(39)), Err(NumberError::Precision));
    assert_eq!(Number::parse(&format!("1{}", "0".repeat(100))).unwrap(), number("1e100"));
    assert!(Number::parse("9.9999999999999999999999999999999999999e125").is_ok());
}

#[test]
fn sums_are_exact_or_refused() {
    assert_eq!(number("0.1").add(number("0.2")).unwrap(), number("0.3"));
    assert_eq!(number("1").subtract(number("1")).unwrap(), Number::ZERO);
    assert_eq!(number("1e38").subtract(number("1")).unwrap().to_string(), "9".repeat(38));
    assert_eq!(number(&"9".repeat(38)).add(number("1")).unwrap(), number("1e38"));
    assert_eq!(number("1e38").add(number("1")), Err(NumberError::Precision));
    assert_eq!(number("1e125").add(number("-1e-130")), Err(NumberError::Precision));
    assert_eq!(number("9e125").add(number("9e125")), Err(NumberError::Overflow));
    assert_eq!(number("1.1e-130").subtract(number("1e-130")), Err(NumberError::Underflow));
    assert_eq!(Number::ZERO.subtract(number("5")).unwrap(), number("-5"));
}

#[test]
fn sizes_follow_the_rule() {
    for (text, size) in
        [("0", 1), ("1", 2), ("10", 2), ("12", 2), ("123", 3), ("1.1", 3), ("-5", 3), ("0.05", 2)]
    {
        assert_eq!(number(text).size_bytes(), size, "{text}");
    }
}

/// A number as a sign and a digit string whose last digit is worth 10^-200, which holds any of ours exactly.
fn paper(number: Number) -> (bool, Vec<u8>) {
    let text = number.to_string();
    let (negative, text) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole:0>140}{fraction:0<200}");
    (negative, digits.bytes().map(|digit| digit - b'0').collect())
}

fn paper_add(a: &(bool, Vec<u8>), b: &(bool, Vec<u8>)) -> (bool, Vec<u8>) {
    let mut out = vec![0u8; a.1.len()];
    if a.0 == b.0 {
        let mut carry = 0;
        for i in (0..out.len()).rev() {
            let sum = a.1[i] + b.1[i] + carry;
            out[i] = sum % 10;
            carry = sum / 10;
        }
        (a.0, out)
    } else {
        let (large, small) = if a.1 >= b.1 { (a, b) } else { (b, a) };
        let mut borrow = 0i8;
        for i in (0..out.len()).rev() {
            let difference = large.1[i].cast_signed() - small.1[i].cast_signed() - borrow;
            borrow = i8::from(difference < 0);
            out[i] = (difference + 10 * borrow).cast_unsigned();
        }
        (large.0 && out.iter().any(|&d| d != 0), out)
    }
}

fn any_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        ("-?[0-9]{1,38}", -130i64..90)
            .prop_filter_map("range", |(m, e)| Number::parse(&format!("{m}e{e}")).ok()),
        "-?[0-9]{1,3}(\\.[0-9]{1,2})?".prop_map(|text| Number::parse(&text).unwrap()),
        ("-?[1-9]", 36i64..40).prop_map(|(m, e)| Number::parse(&format!("{m}e{e}")).unwrap()),
        "-?9{36,38}".prop_map(|text| Number::parse(&text).unwrap()),
    ]
}

proptest! {
    #[test]
    fn text_round_trips(a in any_number()) {
        prop_assert_eq!(Number::parse(&a.to_string()).unwrap(), a);
    }

    #[test]
    fn encoding_round_trips_and_keeps_order(a in any_number(), b in any_number()) {
        let encode = |n: Number| { let mut out = Vec::new(); n.encode(&mut out); out };
        prop_assert_eq!(Number::decode(&encode(a)), Some(a));
        prop_assert_eq!(Number::encoded_len(&[encode(a), encode(b)].concat()), Some(encode(a).len()));
        prop_assert_eq!(encode(a).cmp(&encode(b)), a.cmp(&b));
        // It ends itself: no encoding is the beginning of another.
        prop_assert!(a == b || !encode(b).starts_with(&encode(a)));
    }

    #[test]
    fn order_is_that_of_paper(a in any_number(), b in any_number()) {
        let signed = |(negative, digits): (bool, Vec<u8>)| {
            digits.iter().map(|&d| if negative { -i16::from(d) } else { i16::from(d) }).collect::<Vec<_>>()
        };
        prop_assert_eq!(a.cmp(&b), signed(paper(a)).cmp(&signed(paper(b))));
    }

    #[test]
    fn sums_are_those_of_paper(a in any_number(), b in any_number()) {
        let expected = paper_add(&paper(a), &paper(b));
        match a.add(b) {
            Ok(sum) => prop_assert_eq!(paper(sum), expected),
            Err(NumberError::Precision) => {
                let first = expected.1.iter().position(|&d| d != 0).unwrap();
                let last = expected.1.iter().rposition(|&d| d != 0).unwrap();
                prop_assert!(last - first >= 38);
            }
            Err(NumberError::Overflow) => prop_assert!(expected.1[..14].iter().any(|&d| d != 0)),
            Err(NumberError::Underflow) => prop_assert!(expected.1[..140 + 130].iter().all(|&d| d == 0)),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn garbage_never_panics(text in "\\PC{0,12}", bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
        let _ = Number::parse(&text);
        let _ = Number::decode(&bytes);
    }
}
