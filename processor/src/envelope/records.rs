//! The member `Records`: where nearly all bytes are.
//!
//! The data of a record is found by its closing quote and checked by the base64 decoder alone. All
//! other strings are short.

use lease_manager::SequenceNumber;

use super::Stop;
use crate::arena::{RawRecord, Records, Span, append};
use crate::buffer::Buffer;
use crate::json::{Broken, Scanner, Text};

/// About how many bytes of an event stand around the data of a record: a first guess at how many
/// records there are.
const AROUND_DATA_BYTES: usize = 200;
/// A guess may cost this many records' worth of room, no more.
const MAX_GUESSED_RECORDS: usize = 4096;

/// Reads the records that the scanner stands before.
pub(super) fn read(scanner: &mut Scanner<'_>) -> Result<Records, Stop> {
    let text_bytes = scanner.text().len();
    // Base64 is four characters for three bytes. What else of a record is kept is less than what
    // stands around it, but for the longest partition keys: then the arena grows.
    let arena = Buffer::with_room(text_bytes / 4 * 3).into_bytes();
    let mut records = Records { arena, spans: Vec::new() };
    let mut order = Order::default();
    scanner.expect(b'[', "an array of records")?;
    let mut first = true;
    while scanner.more(first, b']')? {
        first = false;
        let begin = scanner.at();
        let record = record(scanner, &mut records, &mut order)?;
        if records.spans.is_empty() {
            let size = (scanner.at() - begin).max(AROUND_DATA_BYTES);
            records.spans.reserve((text_bytes / size + 1).min(MAX_GUESSED_RECORDS));
        }
        records.spans.push(record);
    }
    Ok(records)
}

/// What of a record has been read.
#[derive(Default)]
struct Draft {
    sequence: Option<Span>,
    partition_key: Option<Span>,
    arrived_at_ms: Option<i64>,
    data: Option<Span>,
}

fn record(
    scanner: &mut Scanner<'_>,
    records: &mut Records,
    order: &mut Order,
) -> Result<RawRecord, Stop> {
    let index = records.len();
    let mut draft = Draft::default();
    scanner.expect(b'{', "a record")?;
    let mut place = 0;
    while scanner.more(place == 0, b'}')? {
        let name = order.member(scanner, place)?;
        place += 1;
        match name {
            Name::Data => draft.data = Some(data(scanner, index, &mut records.arena)?),
            Name::SequenceNumber => draft.sequence = Some(sequence(scanner, index, records)?),
            Name::PartitionKey => draft.partition_key = Some(partition_key(scanner, records)?),
            Name::Arrival => draft.arrived_at_ms = Some(arrival_ms(scanner)?),
            Name::Unknown => scanner.skip()?,
        }
    }
    let missing = |what: &str| Stop::Record { index, detail: format!("no {what}") };
    Ok(RawRecord {
        sequence: draft.sequence.ok_or_else(|| missing("SequenceNumber"))?,
        // A stream may distribute records without one.
        partition_key: draft.partition_key.unwrap_or_default(),
        arrived_at_ms: draft.arrived_at_ms.ok_or_else(|| missing("ApproximateArrivalTimestamp"))?,
        data: draft.data.ok_or_else(|| missing("Data"))?,
    })
}

#[derive(Debug, Clone, Copy, Default)]
enum Name {
    Data,
    SequenceNumber,
    PartitionKey,
    Arrival,
    #[default]
    Unknown,
}

/// In which order the members of the record before came: whoever writes records writes all alike, so the next name is
/// mostly known before it is read.
#[derive(Debug, Default)]
struct Order([Name; 8]);

impl Order {
    /// The name of the member at this place of a record, and passes over its colon.
    #[inline(always)]
    fn member(&mut self, scanner: &mut Scanner<'_>, place: usize) -> Result<Name, Broken> {
        let likely = self.0.get(place).copied().unwrap_or_default();
        let is_it = match likely {
            Name::Data => scanner.likely(br#""Data":"#),
            Name::SequenceNumber => scanner.likely(br#""SequenceNumber":"#),
            Name::PartitionKey => scanner.likely(br#""PartitionKey":"#),
            Name::Arrival => scanner.likely(br#""ApproximateArrivalTimestamp":"#),
            Name::Unknown => false,
        };
        if is_it {
            return Ok(likely);
        }
        let key = scanner.key()?;
        let name = if key.has_escapes() { name_with_escapes(key) } else { name(key.raw()) };
        if let Some(place) = self.0.get_mut(place) {
            *place = name;
        }
        Ok(name)
    }
}

fn name(key: &[u8]) -> Name {
    match key {
        b"Data" => Name::Data,
        b"SequenceNumber" => Name::SequenceNumber,
        b"PartitionKey" => Name::PartitionKey,
        b"ApproximateArrivalTimestamp" => Name::Arrival,
        _ => Name::Unknown,
    }
}

fn name_with_escapes(key: Text<'_>) -> Name {
    key.meaning().map_or(Name::Unknown, |meaning| name(meaning.as_bytes()))
}

/// Decodes the data to the end of the arena.
fn data(scanner: &mut Scanner<'_>, index: usize, arena: &mut Vec<u8>) -> Result<Span, Stop> {
    if scanner.peek() != b'"' {
        return Ok(scanner.wanted("a string of base64")?);
    }
    let start = arena.len();
    let written = scanner.string_unchecked()?;
    if let Err(error) = base64_simd::STANDARD.decode_append(written, arena) {
        arena.truncate(start);
        decode_escaped(written, arena).ok_or_else(|| Stop::Record {
            index,
            detail: format!("data that is not base64: {error}"),
        })?;
    }
    Ok(Span::new(start, arena.len() - start))
}

/// Base64 has no character that must be escaped, but a `/` may be.
#[cold]
fn decode_escaped(written: &[u8], arena: &mut Vec<u8>) -> Option<()> {
    if !written.contains(&b'\\') {
        return None;
    }
    let quoted = [b"\"", written, b"\""].concat();
    let text = Scanner::new(&quoted).string().ok()?;
    base64_simd::STANDARD.decode_append(text.meaning()?.as_bytes(), arena).ok()?;
    Some(())
}

fn sequence(scanner: &mut Scanner<'_>, index: usize, records: &mut Records) -> Result<Span, Stop> {
    let wrong = |detail: String| Stop::Record { index, detail };
    if scanner.peek() == b'"'
        && let Some(digits) = scanner.digits_string()
    {
        SequenceNumber::check(digits).map_err(|e| wrong(e.to_string()))?;
        return Ok(append(&mut records.arena, digits));
    }
    let text = string(scanner)?;
    let meaning = text.meaning().ok_or_else(|| wrong("a SequenceNumber that is no text".into()))?;
    SequenceNumber::check(&*meaning).map_err(|e| wrong(e.to_string()))?;
    Ok(append(&mut records.arena, meaning.as_bytes()))
}

/// Runs of records with one key are common: they share it.
fn partition_key(scanner: &mut Scanner<'_>, records: &mut Records) -> Result<Span, Stop> {
    if scanner.is_null()? {
        return Ok(Span::default());
    }
    let index = records.len();
    let no_text = || Stop::Record { index, detail: "a PartitionKey that is no text".to_owned() };
    let meaning = string(scanner)?.meaning_bytes().ok_or_else(no_text)?;
    match records.spans.last().map(|previous| previous.partition_key) {
        Some(span) if span.bytes(&records.arena) == &*meaning => Ok(span),
        _ => Ok(append(&mut records.arena, &meaning)),
    }
}

fn string<'a>(scanner: &mut Scanner<'a>) -> Result<Text<'a>, Broken> {
    match scanner.peek() {
        b'"' => scanner.string(),
        _ => scanner.wanted("a string"),
    }
}

/// Seconds since 1970 with a fraction, as ms.
fn arrival_ms(scanner: &mut Scanner<'_>) -> Result<i64, Broken> {
    let before = scanner.clone();
    let ms = match scanner.peek() {
        b'-' | b'0'..=b'9' => ms_of_seconds(scanner.number()?),
        _ => None,
    };
    match ms {
        Some(ms) => Ok(ms),
        None => before.wanted("a time in seconds"),
    }
}

fn ms_of_seconds(number: &[u8]) -> Option<i64> {
    exact_ms(number).or_else(|| {
        let seconds: f64 = str::from_utf8(number).ok()?.parse().ok()?;
        let ms = (seconds * 1000.0).round();
        ms.is_finite().then_some(ms as i64)
    })
}

/// The number's ms when it is written with up to three digits behind the point, as is the rule.
fn exact_ms(number: &[u8]) -> Option<i64> {
    let (mut value, mut point) = (0, number.len());
    for (at, byte) in number.iter().enumerate() {
        match byte {
            b'0'..=b'9' if at < 16 => value = value * 10 + i64::from(byte - b'0'),
            b'.' => point = at,
            _ => return None,
        }
    }
    let fraction = number.len().saturating_sub(point + 1);
    let scale = [1000, 100, 10, 1].get(fraction)?;
    (point <= 12).then(|| value * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_ms_however_they_are_written() {
        for (text, ms) in [
            ("1517363399.65", 1_517_363_399_650),
            ("1517363399.651", 1_517_363_399_651),
            ("1517363399", 1_517_363_399_000),
            ("1.517363399651E9", 1_517_363_399_651),
            ("151736339965", 151_736_339_965_000),
            ("1517363399651", 1_517_363_399_651_000),
            ("1517363399.6512", 1_517_363_399_651),
            ("1517363399.6516", 1_517_363_399_652),
            ("0", 0),
            ("-1.5", -1500),
        ] {
            assert_eq!(ms_of_seconds(text.as_bytes()), Some(ms), "{text}");
        }
        assert_eq!(ms_of_seconds(b"1e999"), None);
    }
}
