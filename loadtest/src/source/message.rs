//! The messages: JSON of an exact size, the fields that are routed by in front.
//!
//! A message is a head of fixed width, in which only digits differ, and a body that is the same in all of them.

use super::sequence::ORDINAL_DIGITS;

/// The least bytes of a message: the head, and a body with nothing in it.
pub const MIN_RECORD_BYTES: usize = 160;
/// The most bytes of a record.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// The head with its digits at zero. Its length is a multiple of three, so that its base64 stands alone.
const HEAD: &str = concat!(
    r#"{"kind":"reading","device":"device-0000000000000","time":0000000000000,"#,
    r#""shard":"000000","n":"00000000000000000000",  "#
);
pub(super) const HEAD_BYTES: usize = HEAD.len();
const KEY_AT: usize = 35;
const TIME_AT: usize = 57;
const SHARD_AT: usize = 80;
const N_AT: usize = 93;

/// The first characters of a partition key; [`KEY_DIGITS`] follow.
pub(super) const KEY_PREFIX: &str = "device-";
/// Digits of a key.
pub(super) const KEY_DIGITS: usize = 13;
/// ... of which the last ones are those of the ordinal: so there are 10,000 keys in a shard, taken in turn.
const KEY_ORDINAL_DIGITS: usize = 4;
/// Digits of a time in ms.
pub(super) const TIME_DIGITS: usize = 13;

/// The messages of one size.
#[derive(Debug, Clone)]
pub struct Message {
    body: String,
}

impl Message {
    /// Messages of `bytes`, at least [`MIN_RECORD_BYTES`].
    pub fn new(bytes: usize) -> Message {
        Message { body: body(bytes.max(MIN_RECORD_BYTES) - HEAD_BYTES) }
    }

    /// The message of a place in the stream: always the same one.
    pub fn at(&self, place: super::Position, time_ms: i64) -> String {
        let mut head = Head::new(place.shard);
        head.move_to(place.ordinal, time_ms);
        let mut text = String::from_utf8_lossy(&head.bytes).into_owned();
        text.push_str(&self.body);
        text
    }
}

/// JSON of exactly this size that ends an object: as many readings as fit, and a note.
fn body(bytes: usize) -> String {
    const NOTE: &str = r#"],"note":""#;
    const END: &str = "\"}";
    let mut rng = fastrand::Rng::with_seed(1);
    let mut text = r#""readings":["#.to_owned();
    loop {
        let comma = if text.ends_with('[') { "" } else { "," };
        let value = rng.i32(-4_000..4_000);
        let reading = format!(
            r#"{comma}{{"sensor":"s{:02}","value":{}.{:02},"unit":"C","ok":{}}}"#,
            rng.u8(..100),
            value / 100,
            value.abs() % 100,
            rng.bool()
        );
        if text.len() + reading.len() + NOTE.len() + END.len() > bytes {
            break;
        }
        text.push_str(&reading);
    }
    text.push_str(NOTE);
    while text.len() + END.len() < bytes {
        text.push(rng.alphanumeric());
    }
    text.push_str(END);
    text
}

/// The digits that differ from record to record, moved on without being formatted anew.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) bytes: [u8; HEAD_BYTES],
    ordinal: u64,
    time_ms: i64,
}

impl Head {
    /// At the start of a shard.
    pub(super) fn new(shard: u32) -> Head {
        let mut bytes = [0; HEAD_BYTES];
        bytes.copy_from_slice(HEAD.as_bytes());
        digits(&mut bytes[SHARD_AT..SHARD_AT + 6], u64::from(shard));
        Head { bytes, ordinal: 0, time_ms: 0 }
    }

    /// Says another record of the shard, and when it was written, in ms since 1970.
    pub(super) fn move_to(&mut self, ordinal: u64, time_ms: i64) {
        let n = &mut self.bytes[N_AT..N_AT + ORDINAL_DIGITS];
        match ordinal == self.ordinal + 1 {
            true => increment(n),
            false => digits(n, ordinal),
        }
        self.ordinal = ordinal;
        let from = N_AT + ORDINAL_DIGITS - KEY_ORDINAL_DIGITS;
        let to = KEY_AT + KEY_DIGITS - KEY_ORDINAL_DIGITS;
        self.bytes.copy_within(from..from + KEY_ORDINAL_DIGITS, to);
        if time_ms != self.time_ms {
            digits(&mut self.bytes[TIME_AT..TIME_AT + TIME_DIGITS], time_ms.unsigned_abs());
            self.time_ms = time_ms;
        }
    }

    /// The shard's and the ordinal's digits.
    pub(super) fn place_digits(&self) -> (&[u8], &[u8]) {
        (&self.bytes[SHARD_AT..SHARD_AT + 6], &self.bytes[N_AT..N_AT + ORDINAL_DIGITS])
    }

    pub(super) fn key_digits(&self) -> &[u8] {
        &self.bytes[KEY_AT..KEY_AT + KEY_DIGITS]
    }

    pub(super) fn time_digits(&self) -> &[u8] {
        &self.bytes[TIME_AT..TIME_AT + TIME_DIGITS]
    }
}

/// Writes a number over all of `out`, zeros in front.
pub(super) fn digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn increment(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

#[cfg(test)]
mod tests {
    use super::super::Position;
    use super::*;

    #[test]
    fn a_message_is_json_of_the_wanted_size_that_says_which_it_is() {
        for bytes in [MIN_RECORD_BYTES, 200, 1_000, 10_000, 10_001, 10_002] {
            let message = Message::new(bytes);
            for ordinal in [1, 9, 10, 12_345_678_901] {
                let text = message.at(Position { shard: 42, ordinal }, 1_700_000_000_123);
                assert_eq!(text.len(), bytes);
                let json: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(json["kind"], "reading");
                assert_eq!(json["time"], 1_700_000_000_123_i64);
                assert_eq!(json["shard"], "000042");
                assert_eq!(json["n"], format!("{ordinal:020}"));
                assert_eq!(json["device"], format!("device-{:013}", ordinal % 10_000));
            }
        }
    }

    #[test]
    fn moving_on_says_the_same_as_starting_there() {
        let mut moved = Head::new(3);
        for ordinal in (1..1_200).chain(9_999_990..10_000_010) {
            let time_ms = i64::try_from(ordinal / 7).unwrap() + 1_700_000_000_000;
            moved.move_to(ordinal, time_ms);
            let mut fresh = Head::new(3);
            fresh.move_to(ordinal, time_ms);
            assert_eq!(moved.bytes, fresh.bytes);
        }
        assert_eq!(HEAD_BYTES % 3, 0);
    }
}
