//! Gives each message its partition key, its hash key and its recorded time, and breaks the share
//! that is to be malformed. No I/O.

use std::sync::Arc;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use serde_json::Value;

use super::options::{HashKeys, Keys, Options, Pace, TimeField, TimeUnit};
use super::queue::UserMessage;
use super::schedule::Recorded;
use super::shard_map::stable_hash;
use super::source::Message;
use super::stats::Counters;

/// Most characters of a partition key.
const MAX_KEY_CHARS: usize = 256;

/// The random stream that keys and breakages are drawn from.
#[derive(Debug)]
pub(crate) struct Stamp {
    rng: fastrand::Rng,
}

impl Stamp {
    pub(crate) fn new(seed: u64) -> Stamp {
        // Another stream than the generator's, which is seeded with `seed` itself.
        Stamp { rng: fastrand::Rng::with_seed(seed.wrapping_add(0x9e37_79b9)) }
    }

    /// The message as it is sent, and what it says about its time.
    pub(crate) fn stamp(
        &mut self,
        options: &Options,
        message: Message,
        counters: &Counters,
    ) -> (UserMessage, Recorded) {
        let needs_json = matches!(options.keys, Keys::Pointer(_))
            || matches!(options.pace, Pace::Recorded { .. });
        let json = needs_json.then(|| serde_json::from_slice(&message.data).ok()).flatten();
        let time_ms = match &options.pace {
            Pace::Recorded { time, .. } => json.as_ref().and_then(|json| recorded_ms(json, time)),
            _ => None,
        };
        let recorded = Recorded { pass: message.pass, time_ms };
        let partition_key = self.partition_key(&options.keys, &message, json.as_ref(), counters);
        let explicit_hash_key = match options.hash_keys {
            HashKeys::FromPartitionKey => None,
            HashKeys::PerKey => Some(stable_hash(options.seed, &partition_key)),
            HashKeys::Random => Some(self.rng.u128(..)),
        };
        let mut data = message.data;
        if options.malformed_share > 0.0 && self.rng.f64() < options.malformed_share {
            Counters::add(&counters.messages_malformed, 1);
            data = spoil(&data, self.rng.u8(..));
        }
        (UserMessage { partition_key, explicit_hash_key, data }, recorded)
    }

    fn partition_key(
        &mut self,
        keys: &Keys,
        message: &Message,
        json: Option<&Value>,
        counters: &Counters,
    ) -> Arc<str> {
        let key = match keys {
            Keys::Random => None,
            Keys::Generated => message.key.clone(),
            Keys::Pointer(pointer) => {
                let key = json.and_then(|json| pointer.find(json)).and_then(key_text);
                Counters::add(&counters.messages_without_key, usize::from(key.is_none()));
                key
            }
        };
        key.unwrap_or_else(|| format!("{:016x}", self.rng.u64(..)).into())
    }
}

/// A value as a partition key: 1 to 256 characters.
fn key_text(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.chars().take(MAX_KEY_CHARS).collect::<String>().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(value) => Some(value.to_string().into()),
        _ => None,
    }
}

/// When a message says it happened, in ms since 1970.
fn recorded_ms(json: &Value, field: &TimeField) -> Option<i64> {
    let value = field.pointer.find(json)?;
    match field.unit {
        TimeUnit::Seconds => value.as_f64().map(|seconds| (seconds * 1000.0) as i64),
        TimeUnit::Milliseconds => value.as_i64().or_else(|| value.as_f64().map(|ms| ms as i64)),
        TimeUnit::Rfc3339 => {
            let time = DateTime::from_str(value.as_str()?, Format::DateTimeWithOffset).ok()?;
            time.to_millis().ok()
        }
    }
}

/// The message, broken in one of four ways.
fn spoil(data: &Bytes, how: u8) -> Bytes {
    match how % 4 {
        0 => data.slice(..data.len() / 2),
        1 => Bytes::from_static(b"this is not JSON"),
        2 => Bytes::from_static(b"{}"),
        _ => Bytes::from([b"{\"text\":\"".as_slice(), &[0xff, 0xfe], b"\"}"].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(unit: TimeUnit) -> TimeField {
        TimeField { pointer: "/at".parse().unwrap(), unit }
    }

    #[test]
    fn times_are_read_in_each_unit() {
        let ms = |json, unit| recorded_ms(&json, &field(unit));
        let json = |at: Value| serde_json::json!({ "at": at });
        assert_eq!(ms(json(1_500.into()), TimeUnit::Milliseconds), Some(1_500));
        assert_eq!(ms(json(1.5.into()), TimeUnit::Seconds), Some(1_500));
        assert_eq!(ms(json("1970-01-01T00:00:01.5Z".into()), TimeUnit::Rfc3339), Some(1_500));
        assert_eq!(ms(json("1970-01-01T01:00:00+01:00".into()), TimeUnit::Rfc3339), Some(0));
        assert_eq!(ms(json("soon".into()), TimeUnit::Rfc3339), None);
        assert_eq!(ms(json(Value::Null), TimeUnit::Milliseconds), None);
    }

    #[test]
    fn a_key_is_what_can_be_text_and_at_most_256_characters() {
        assert_eq!(key_text(&"uw".into()).as_deref(), Some("uw"));
        assert_eq!(key_text(&7.into()).as_deref(), Some("7"));
        assert_eq!(key_text(&"".into()), None);
        assert_eq!(key_text(&Value::Null), None);
        let long = key_text(&"\u{e9}".repeat(300).into()).unwrap();
        assert_eq!(long.chars().count(), 256);
    }

    #[test]
    fn every_way_of_breaking_leaves_something_that_is_no_message() {
        let data = Bytes::from_static(b"{\"entity\":\"a\"}");
        for how in 0..4 {
            let broken = spoil(&data, how);
            let entity = serde_json::from_slice::<Value>(&broken)
                .ok()
                .and_then(|json| json.get("entity").cloned());
            assert_eq!(entity, None, "{broken:?}");
        }
    }
}
