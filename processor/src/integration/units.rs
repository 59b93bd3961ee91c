//! How sizes and durations are written in the configuration.
//!
//! A size is a number of bytes or a text with a binary unit; a duration is a text with a unit.

use std::time::Duration;

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serializer};

/// The first 64 bytes of a text, for an error.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}

/// `"30d"`: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
pub(super) mod duration {
    use super::*;

    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    const WANTED: &str = "a duration of at least one second, like \"30s\", \"36h\" or \"30d\"";

    pub(in super::super) fn deserialize<'de, D>(deserializer: D) -> Result<Duration, D::Error>
    where
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &WANTED))
    }

    fn parse(text: &str) -> Option<Duration> {
        let (count, unit) = split(text)?;
        let ms = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let ms = count.checked_mul(ms)?;
        // Ten thousand years: beyond it, an expiry cannot be written down.
        (1000..=10_000 * 366 * 86_400_000).contains(&ms).then(|| Duration::from_millis(ms))
    }

    pub(in super::super) fn serialize<S>(value: &Duration, out: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        let (unit, size) = UNITS.iter().rev().find(|(_, size)| ms % size == 0).unwrap_or(&UNITS[0]);
        out.collect_str(&format_args!("{}{unit}", ms / size))
    }
}

/// `262144` or `"256KiB"`.
pub(super) mod byte_size {
    use super::*;

    const UNITS: [(&str, u64); 4] =
        [("B", 1), ("KiB", 1024), ("MiB", 1024 * 1024), ("GiB", 1024 * 1024 * 1024)];
    const WANTED: &str = "a size from 1 byte to 10 MiB, like 65536, \"256KiB\" or \"1MiB\"";
    /// The largest record of a Kinesis stream.
    const MAX: u64 = 10 * 1024 * 1024;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Bytes(i64),
        Text(String),
    }

    pub(in super::super) fn deserialize<'de, D>(deserializer: D) -> Result<usize, D::Error>
    where
        D: Deserializer<'de>,
    {
        let form = Form::deserialize(deserializer)
            .map_err(|_| D::Error::custom(format_args!("expected {WANTED}")))?;
        let (bytes, found) = match &form {
            Form::Bytes(n) => (u64::try_from(*n).ok(), Unexpected::Signed(*n)),
            Form::Text(text) => (parse(text), Unexpected::Str(text)),
        };
        bytes
            .filter(|b| (1..=MAX).contains(b))
            .and_then(|b| usize::try_from(b).ok())
            .ok_or_else(|| D::Error::invalid_value(found, &WANTED))
    }

    fn parse(text: &str) -> Option<u64> {
        let (count, unit) = split(text)?;
        count.checked_mul(UNITS.iter().find(|(name, _)| *name == unit)?.1)
    }

    pub(in super::super) fn serialize<S>(value: &usize, out: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        out.serialize_u64(*value as u64)
    }
}

/// A whole number and the unit behind it, with or without a space between them.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    Some((count.parse().ok()?, unit.trim_start()))
}
