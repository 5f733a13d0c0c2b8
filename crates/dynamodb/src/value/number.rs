//! DynamoDB's number: exact decimal, 38 significant digits, magnitude 1E-130 to 9.99...E+125 (Developer Guide,
//! "Naming rules and data types", Number).
//!
//! Invariant: the coefficient has at most 38 digits and does not end in zero; zero is coefficient 0, exponent 0.
//! So every value has one representation, one text and one key encoding. Binary floating point is never used.

use std::cmp::Ordering;
use std::fmt;

const MAX_DIGITS: u32 = 38;
const MIN_MAGNITUDE: i64 = -130;
const MAX_MAGNITUDE: i64 = 125;

/// First byte of the encoding, by sign.
const NEGATIVE: u8 = 0;
const ZERO: u8 = 1;
const POSITIVE: u8 = 2;

/// A decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Number {
    negative: bool,
    coefficient: u128,
    /// Power of ten of the coefficient's last digit.
    exponent: i16,
}

/// The text, or the result of a calculation, is not a number that DynamoDB can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NumberError {
    #[error("The parameter cannot be converted to a numeric value")]
    Empty,
    #[error("The parameter cannot be converted to a numeric value: {0}")]
    NotNumeric(String),
    #[error("Number overflow. Attempting to store a number with magnitude larger than supported range")]
    Overflow,
    #[error("Number underflow. Attempting to store a number with magnitude smaller than supported range")]
    Underflow,
    #[error("Attempting to store more than 38 significant digits in a Number")]
    Precision,
}

impl Number {
    pub(crate) const ZERO: Self = Self { negative: false, coefficient: 0, exponent: 0 };

    /// Reads decimal text, with an optional sign, point and exponent.
    pub(crate) fn parse(text: &str) -> Result<Self, NumberError> {
        if text.is_empty() {
            return Err(NumberError::Empty);
        }
        let not_numeric = || NumberError::NotNumeric(text.to_owned());
        let mut bytes = text.as_bytes();
        let negative = bytes[0] == b'-';
        if matches!(bytes[0], b'-' | b'+') {
            bytes = &bytes[1..];
        }
        let mantissa_len = bytes.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(bytes.len());
        let (mantissa, exponent) = bytes.split_at(mantissa_len);
        let exponent = match exponent.split_first() {
            None => 0,
            Some((_, digits)) => parse_exponent(digits).ok_or_else(not_numeric)?,
        };

        let (mut coefficient, mut digits) = (0u128, 0u64);
        let (mut trailing_zeros, mut fraction_digits) = (0u64, 0i64);
        let (mut seen_digit, mut seen_point, mut too_precise) = (false, false, false);
        for &byte in mantissa {
            match byte {
                b'.' if !seen_point => seen_point = true,
                b'0'..=b'9' => {
                    seen_digit = true;
                    fraction_digits += i64::from(seen_point);
                    if byte == b'0' {
                        trailing_zeros += u64::from(digits > 0);
                        continue;
                    }
                    digits += trailing_zeros + 1;
                    if digits > u64::from(MAX_DIGITS) {
                        too_precise = true;
                    } else {
                        let shift = u32::try_from(trailing_zeros + 1).expect("at most 38");
                        coefficient = coefficient * 10u128.pow(shift) + u128::from(byte - b'0');
                    }
                    trailing_zeros = 0;
                }
                _ => return Err(not_numeric()),
            }
        }
        if !seen_digit {
            return Err(not_numeric());
        }
        if digits == 0 {
            return Ok(Self::ZERO);
        }
        let exponent = exponent - fraction_digits + trailing_zeros.cast_signed();
        let magnitude = exponent + digits.cast_signed() - 1;
        if magnitude > MAX_MAGNITUDE {
            return Err(NumberError::Overflow);
        }
        if magnitude < MIN_MAGNITUDE {
            return Err(NumberError::Underflow);
        }
        if too_precise {
            return Err(NumberError::Precision);
        }
        let exponent = i16::try_from(exponent).expect("bounded by the magnitude");
        Ok(Self { negative, coefficient, exponent })
    }

    /// A count.
    pub(crate) fn from_len(len: usize) -> Self {
        let len = u128::try_from(len).expect("a length fits in 128 bits");
        Self::normalise(false, len, 0).expect("a length has fewer than 38 digits")
    }

    /// The whole number nearest to it towards zero, if it has one of 64 bits.
    pub(crate) fn to_i64(self) -> Option<i64> {
        let scale = 10_u128.checked_pow(u32::from(self.exponent.unsigned_abs()));
        let whole = match (self.exponent < 0, scale) {
            // The coefficient is far below such a power of ten.
            (true, None) => 0,
            (true, Some(scale)) => self.coefficient / scale,
            (false, scale) => self.coefficient.checked_mul(scale?)?,
        };
        let whole = i64::try_from(whole).ok()?;
        Some(if self.negative { -whole } else { whole })
    }

    fn normalise(negative: bool, mut coefficient: u128, mut exponent: i64) -> Result<Self, NumberError> {
        if coefficient == 0 {
            return Ok(Self::ZERO);
        }
        while coefficient.is_multiple_of(10) {
            coefficient /= 10;
            exponent += 1;
        }
        let digits = coefficient.ilog10() + 1;
        let magnitude = exponent + i64::from(digits) - 1;
        if magnitude > MAX_MAGNITUDE {
            return Err(NumberError::Overflow);
        }
        if magnitude < MIN_MAGNITUDE {
            return Err(NumberError::Underflow);
        }
        if digits > MAX_DIGITS {
            return Err(NumberError::Precision);
        }
        let exponent = i16::try_from(exponent).expect("bounded by the magnitude");
        Ok(Self { negative, coefficient, exponent })
    }

    /// The exact sum; an error if it needs more than 38 digits or leaves the range.
    pub(crate) fn add(self, other: Self) -> Result<Self, NumberError> {
        if self.coefficient == 0 {
            return Ok(other);
        }
        if other.coefficient == 0 {
            return Ok(self);
        }
        let (high, low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        // Once shifted, `high` ends in zero and `low` does not, so neither does the result: where the shifted
        // coefficient leaves 128 bits (3.4E38) the result has at least 39 digits, whatever the signs.
        let shift = u32::try_from(high.exponent - low.exponent).expect("`high` has the higher exponent");
        let scaled = 10u128
            .checked_pow(shift)
            .and_then(|power| high.coefficient.checked_mul(power))
            .ok_or(NumberError::Precision)?;
        let (negative, coefficient) = if high.negative == low.negative {
            (high.negative, scaled.checked_add(low.coefficient).ok_or(NumberError::Precision)?)
        } else if scaled >= low.coefficient {
            (high.negative, scaled - low.coefficient)
        } else {
            (low.negative, low.coefficient - scaled)
        };
        Self::normalise(negative, coefficient, low.exponent.into())
    }

    /// The exact difference, as [`Self::add`].
    pub(crate) fn subtract(self, other: Self) -> Result<Self, NumberError> {
        self.add(Self { negative: !other.negative && other.coefficient != 0, ..other })
    }

    fn digits(self) -> u32 {
        self.coefficient.checked_ilog10().map_or(0, |log| log + 1)
    }

    /// Power of ten of the first digit.
    fn magnitude(self) -> i64 {
        i64::from(self.exponent) + i64::from(self.digits()) - 1
    }

    /// What it counts for in an item's size: two digits a byte, aligned to the decimal point, and one more; one
    /// more again if negative.
    pub(crate) fn size_bytes(self) -> usize {
        if self.coefficient == 0 {
            return 1;
        }
        let (digits, magnitude) = (self.digits() as usize, self.magnitude());
        let straddles = digits.is_multiple_of(2) && magnitude % 2 == 0;
        1 + digits.div_ceil(2) + usize::from(straddles) + usize::from(self.negative)
    }

    /// Appends an encoding whose byte order is numeric order and which ends itself: a sign byte, the magnitude,
    /// pairs of digits from 1 to 100, and 0; all but the sign inverted if negative.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        if self.coefficient == 0 {
            out.push(ZERO);
            return;
        }
        out.push(if self.negative { NEGATIVE } else { POSITIVE });
        let begin = out.len();
        out.push(u8::try_from(self.magnitude() - MIN_MAGNITUDE).expect("a magnitude has 256 values"));
        let mut buffer = [0; 40];
        let digits = decimal_digits(self.coefficient, &mut buffer);
        for pair in digits.chunks(2) {
            out.push(pair[0] * 10 + pair.get(1).copied().unwrap_or(0) + 1);
        }
        out.push(0);
        if self.negative {
            for byte in &mut out[begin..] {
                *byte = !*byte;
            }
        }
    }

    /// The length of what [`Self::encode`] wrote at the beginning of `bytes`.
    pub(crate) fn encoded_len(bytes: &[u8]) -> Option<usize> {
        let end = match *bytes.first()? {
            ZERO => return Some(1),
            POSITIVE => 0,
            NEGATIVE => 0xFF,
            _ => return None,
        };
        // The magnitude may have any value; no pair has that of the end.
        let pairs = bytes.get(2..)?.iter().position(|&byte| byte == end)?;
        Some(2 + pairs + 1)
    }

    /// Reads what [`Self::encode`] wrote, all of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&sign, rest) = bytes.split_first()?;
        let (negative, flip) = match sign {
            ZERO => return rest.is_empty().then_some(Self::ZERO),
            POSITIVE => (false, 0),
            NEGATIVE => (true, 0xFF),
            _ => return None,
        };
        let (&magnitude, rest) = rest.split_first()?;
        let (&end, pairs) = rest.split_last()?;
        if end ^ flip != 0 || pairs.is_empty() || pairs.len() > 19 {
            return None;
        }
        let mut coefficient = 0u128;
        for &pair in pairs {
            let pair = (pair ^ flip).checked_sub(1).filter(|&pair| pair < 100)?;
            coefficient = coefficient * 100 + u128::from(pair);
        }
        let exponent = i64::from(magnitude ^ flip) + MIN_MAGNITUDE - (pairs.len() as i64 * 2 - 1);
        Self::normalise(negative, coefficient, exponent).ok().filter(|number| number.coefficient != 0)
    }
}

fn parse_exponent(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Far out of range either way: more digits change nothing.
    let value = digits.iter().fold(0i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(1 << 40));
    Some(if negative { -value } else { value })
}

/// The digits of `value`, each from 0 to 9, most significant first.
fn decimal_digits(value: u128, buffer: &mut [u8; 40]) -> &[u8] {
    let mut at = buffer.len();
    let mut high = value;
    while let Err(_) | Ok(10_000_000_000_000_000_000..) = u64::try_from(high) {
        // 19 digits at a time, so that the slow division of 128 bits is rare.
        let mut low = (high % 10_000_000_000_000_000_000) as u64;
        high /= 10_000_000_000_000_000_000;
        for _ in 0..19 {
            at -= 1;
            buffer[at] = (low % 10) as u8;
            low /= 10;
        }
    }
    let mut low = u64::try_from(high).expect("the loop ends below 2^64");
    while low > 0 {
        at -= 1;
        buffer[at] = (low % 10) as u8;
        low /= 10;
    }
    &buffer[at..]
}

impl fmt::Display for Number {
    /// Without an exponent, without needless zeros: as DynamoDB answers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.coefficient == 0 {
            return f.write_str("0");
        }
        if self.negative {
            f.write_str("-")?;
        }
        let mut buffer = [0; 40];
        let len = decimal_digits(self.coefficient, &mut buffer).len();
        let start = buffer.len() - len;
        for digit in &mut buffer[start..] {
            *digit += b'0';
        }
        let digits = std::str::from_utf8(&buffer[start..]).expect("digits are ASCII");
        let zeros = |f: &mut fmt::Formatter<'_>, count: usize| (0..count).try_for_each(|_| f.write_str("0"));
        let Ok(scale) = usize::try_from(-i32::from(self.exponent)) else {
            f.write_str(digits)?;
            return zeros(f, self.exponent.unsigned_abs().into());
        };
        if scale == 0 {
            f.write_str(digits)
        } else if let Some(whole) = len.checked_sub(scale).filter(|&whole| whole > 0) {
            write!(f, "{}.{}", &digits[..whole], &digits[whole..])
        } else {
            f.write_str("0.")?;
            zeros(f, scale - len)?;
            f.write_str(digits)
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |n: &Self| if n.coefficient == 0 { 0 } else { 1 - 2 * i8::from(n.negative) };
        // Scaled to 38 digits, coefficients of one magnitude compare as they are.
        let size = |n: &Self| (n.magnitude(), n.coefficient * 10u128.pow(MAX_DIGITS - n.digits()));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            1 => size(self).cmp(&size(other)),
            _ => size(other).cmp(&size(self)),
        })
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
#[path = "number_tests.rs"]
mod tests;
