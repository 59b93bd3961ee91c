//! Where a message says when it happened, and in which form.
//!
//! All results are ms since 1970 within the years 1 to 9999; nothing here reads a clock.

use serde::{Deserialize, Serialize};

use super::condition::FieldValue;
use super::{Pointer, units};

/// 0001-01-01T00:00:00Z in ms since 1970.
const FIRST_MS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z in ms since 1970.
const LAST_MS: i64 = 253_402_300_799_999;

/// `{ pointer = "/time", format = "rfc3339" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeField {
    /// Where it is.
    pub pointer: Pointer,
    /// How it is written.
    pub format: TimeFormat,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeFormat {
    /// Milliseconds since 1970, as a number or a string of one.
    EpochMs,
    /// Seconds since 1970, with or without a fraction, as a number or a string of one.
    EpochS,
    /// `2018-01-31T01:49:59.650Z`, with any offset.
    Rfc3339,
}

/// Why a value is not a time, in words that follow "the time at /pointer".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeError(pub(crate) String);

impl TimeFormat {
    /// Reads a time: ms since 1970.
    pub(crate) fn parse(self, value: &FieldValue<'_>) -> Result<i64, TimeError> {
        let wrong = |found: &str| TimeError(format!("is {found}; {} is needed", self.wanted()));
        let text = match (self, value) {
            (_, FieldValue::String(s)) => s.as_ref(),
            (TimeFormat::EpochMs | TimeFormat::EpochS, FieldValue::Number(n)) => n,
            (_, other) => return Err(wrong(other.kind())),
        };
        let ms = match self {
            TimeFormat::EpochMs => scaled(text, 1),
            TimeFormat::EpochS => scaled(text, 1000),
            TimeFormat::Rfc3339 => parse_rfc3339_ms(text),
        };
        match ms {
            Some(ms) if (FIRST_MS..=LAST_MS).contains(&ms) => Ok(ms),
            Some(_) => Err(wrong(&format!("`{}`, outside the years 1 to 9999", units::cut(text)))),
            None => Err(wrong(&format!("`{}`", units::cut(text)))),
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            TimeFormat::EpochMs => "a number of milliseconds since 1970 (epoch-ms)",
            TimeFormat::EpochS => "a number of seconds since 1970 (epoch-s)",
            TimeFormat::Rfc3339 => "a time like 2018-01-31T01:49:59Z (rfc3339)",
        }
    }
}

/// A number times `scale`, rounded down to a whole one; whole texts stay exact.
fn scaled(text: &str, scale: i64) -> Option<i64> {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(scale);
    }
    // "inf" and "nan" are numbers to `parse`, but not to JSON.
    if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
        return None;
    }
    // Rounded to the microsecond first: 1.001 s is 1000.9999… in binary, and means 1001 ms.
    let ms = (text.parse::<f64>().ok()? * scale as f64 * 1000.0).round() / 1000.0;
    (ms.abs() < 1e15).then(|| ms.floor() as i64)
}

/// An RFC 3339 time as ms since 1970. Fractions beyond ms are cut; a leap second counts as the
/// next second.
pub(crate) fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let at = |i: usize, wanted: &[u8]| bytes.get(i).is_some_and(|b| wanted.contains(b));
    if !(at(4, b"-") && at(7, b"-") && at(10, b"Tt ") && at(13, b":") && at(16, b":")) {
        return None;
    }
    let (year, month, day) = (digits(bytes, 0, 4)?, digits(bytes, 5, 2)?, digits(bytes, 8, 2)?);
    let (hour, minute) = (digits(bytes, 11, 2)?, digits(bytes, 14, 2)?);
    let second = digits(bytes, 17, 2)?;
    let days = days_since_1970(year, month, day)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_ms, rest) = fraction(&bytes[19..])?;
    let offset_minutes = offset(rest)?;
    let minutes = (days * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1000 + fraction_ms)
}

/// The number in `len` ASCII digits at `from`.
fn digits(bytes: &[u8], from: usize, len: usize) -> Option<i64> {
    bytes
        .get(from..from + len)?
        .iter()
        .try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

/// `.` and digits, or nothing: the ms in it and what follows.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b".") else {
        return Some((0, bytes));
    };
    let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let ms = (0..3).fold(0, |ms, i| ms * 10 + if i < len { i64::from(rest[i] - b'0') } else { 0 });
    (len > 0).then(|| (ms, &rest[len..]))
}

/// `Z` or `±hh:mm`, in minutes.
fn offset(bytes: &[u8]) -> Option<i64> {
    match bytes {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (digits(bytes, 1, 2)?, digits(bytes, 4, 2)?);
            let total = hours * 60 + minutes;
            (hours < 24 && minutes < 60).then(|| if *sign == b'-' { -total } else { total })
        }
        _ => None,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar; `None` for a day that is not one.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day < 1 || day > month_days || year < 1 {
        return None;
    }
    // Years are counted from March, so that the leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_month = (153 * m + 2) / 5;
    Some(y * 365 + y / 4 - y / 100 + y / 400 + before_month + day - 1 - 719_468)
}
