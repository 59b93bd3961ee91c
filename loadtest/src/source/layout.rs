//! Events that are encoded once and patched for ever: all records have the same width, so only digits move.
//!
//! A [`Layout`] holds the frame of a full event. [`Layout::event`] takes a buffer with a copy of it from the pool, writes
//! the digits of its records into place, the end behind the last of them, the lengths and the sums; once the connection
//! has sent it, the buffer comes back by itself. [`Layout::page`] makes the answer to GetRecords in the same way.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use base64_simd::AsOut;
use bytes::Bytes;

use super::message::{HEAD_BYTES, Head, KEY_DIGITS, KEY_PREFIX, Message, TIME_DIGITS};
use super::sequence::{Position, SHARD_AT};

/// Total length, headers' length, and the CRC of both.
const PRELUDE_BYTES: usize = 12;
const CRC_BYTES: usize = 4;
const STRING_HEADER: u8 = 7;
const OPENING: &[u8] = b"{\"Records\":[";
/// What the end of an event or an answer takes at most, and the sum behind it.
const TAIL_BYTES: usize = 192;
/// Buffers that are kept for later.
const MAX_SPARE: usize = 256;

/// Where the parts of a record stand in it.
#[derive(Debug)]
struct Offsets {
    sequence: usize,
    arrival: usize,
    data: usize,
    key: usize,
}

/// The frame of a full event.
#[derive(Debug)]
pub(super) struct Layout {
    template: Arc<[u8]>,
    /// Where the payload begins.
    payload: usize,
    /// Where the first record begins.
    records: usize,
    /// From one record to the next, the comma between them included.
    stride: usize,
    offsets: Offsets,
    count: usize,
    spare: Arc<Spare>,
}

/// Records in a row, and what is said about them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// The first record's place.
    pub(super) first: Position,
    /// How many; at most what the layout holds.
    pub(super) records: usize,
    /// How far behind the tip the reader is then.
    pub(super) millis_behind_latest: u64,
}

impl Run {
    /// The last record's place; the one in front of the first where there are none.
    pub(super) fn last(&self) -> Position {
        let ordinal = (self.first.ordinal + self.records as u64).saturating_sub(1);
        Position { ordinal, ..self.first }
    }
}

impl Layout {
    /// The layout of events of `count` records.
    pub(super) fn new(message: &Message, count: usize) -> Layout {
        let mut template = vec![0; PRELUDE_BYTES];
        for (name, value) in [
            (":event-type", "SubscribeToShardEvent"),
            (":content-type", "application/x-amz-json-1.1"),
            (":message-type", "event"),
        ] {
            push_header(&mut template, name, value);
        }
        let headers = template.len() - PRELUDE_BYTES;
        template[4..8].copy_from_slice(&(headers as u32).to_be_bytes());
        let payload = template.len();
        template.extend_from_slice(OPENING);
        let records = template.len();
        let (record, offsets) = record(message);
        for _ in 0..count {
            template.extend_from_slice(record.as_bytes());
        }
        template.resize(template.len() + TAIL_BYTES, 0);
        let template: Arc<[u8]> = template.into();
        let stride = record.len();
        let spare = Arc::new(Spare::default());
        Layout { template, payload, records, stride, offsets, count, spare }
    }

    /// Records of a full event.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The frame of an event. `arrival_ms` says when the record of an ordinal was written.
    pub(super) fn event(&self, run: Run, arrival_ms: impl Fn(u64) -> i64) -> Bytes {
        let continuation = run.last();
        let tail = format!(
            "],\"MillisBehindLatest\":{},\"ContinuationSequenceNumber\":\"{continuation}\"}}",
            run.millis_behind_latest
        );
        let (mut buffer, payload) = self.fill(run, &tail, arrival_ms);
        seal(&mut buffer.bytes, payload.end);
        Bytes::from_owner(buffer).slice(..payload.end + CRC_BYTES)
    }

    /// The answer to GetRecords.
    pub(super) fn page(&self, run: Run, next: &str, arrival_ms: impl Fn(u64) -> i64) -> Bytes {
        let tail = format!(
            "],\"MillisBehindLatest\":{},\"NextShardIterator\":\"{next}\"}}",
            run.millis_behind_latest
        );
        let (buffer, payload) = self.fill(run, &tail, arrival_ms);
        Bytes::from_owner(buffer).slice(payload)
    }

    /// A buffer with these records and this end, and where its payload is.
    fn fill(
        &self,
        run: Run,
        tail: &str,
        arrival_ms: impl Fn(u64) -> i64,
    ) -> (Buffer, Range<usize>) {
        debug_assert!(run.records <= self.count && tail.len() + CRC_BYTES <= TAIL_BYTES);
        let mut buffer = self.buffer();
        let mut head = Head::new(run.first.shard);
        let records = &mut buffer.bytes[self.records..];
        for (record, ordinal) in
            records.chunks_exact_mut(self.stride).take(run.records).zip(run.first.ordinal..)
        {
            head.move_to(ordinal, arrival_ms(ordinal));
            self.offsets.stamp(record, &head);
        }
        // The last record's comma makes room for the end.
        let end = self.records + (run.records * self.stride).saturating_sub(1);
        buffer.bytes[end..end + tail.len()].copy_from_slice(tail.as_bytes());
        buffer.spoiled_at = end;
        (buffer, self.payload..end + tail.len())
    }

    /// A copy of the template: one that was sent before, if there is one.
    fn buffer(&self) -> Buffer {
        let spare = self.spare.take();
        let (mut bytes, spoiled_at) = spare.unwrap_or_else(|| (self.template.to_vec(), 0));
        let spoiled = spoiled_at..(spoiled_at + TAIL_BYTES).min(bytes.len());
        bytes[spoiled.clone()].copy_from_slice(&self.template[spoiled]);
        Buffer { bytes, spoiled_at, home: Arc::clone(&self.spare) }
    }
}

impl Offsets {
    /// Writes the digits of the record that `head` stands at.
    fn stamp(&self, record: &mut [u8], head: &Head) {
        let (shard, ordinal) = head.place_digits();
        let at = self.sequence + SHARD_AT;
        record[at..at + shard.len()].copy_from_slice(shard);
        let at = at + shard.len();
        record[at..at + ordinal.len()].copy_from_slice(ordinal);
        // Seconds, a point, milliseconds.
        let (seconds, millis) = head.time_digits().split_at(TIME_DIGITS - 3);
        record[self.arrival..self.arrival + seconds.len()].copy_from_slice(seconds);
        let at = self.arrival + seconds.len() + 1;
        record[at..at + millis.len()].copy_from_slice(millis);
        record[self.key..self.key + KEY_DIGITS].copy_from_slice(head.key_digits());
        let data = &mut record[self.data..self.data + HEAD_BYTES / 3 * 4];
        let _ = base64_simd::STANDARD.encode(&head.bytes, data.as_out());
    }
}

/// A record with its digits at zero and a comma behind it, and where they stand.
fn record(message: &Message) -> (String, Offsets) {
    let data = message.at(Position { shard: 0, ordinal: 0 }, 0);
    let mut text = r#"{"SequenceNumber":""#.to_owned();
    let sequence = text.len();
    text.push_str(&Position { shard: 0, ordinal: 0 }.to_string());
    text.push_str(r#"","ApproximateArrivalTimestamp":"#);
    let arrival = text.len();
    text.push_str(r#"0000000000.000,"Data":""#);
    let encoded = text.len();
    base64_simd::STANDARD.encode_append(data.as_bytes(), &mut text);
    text.push_str(r#"","PartitionKey":""#);
    text.push_str(KEY_PREFIX);
    let key = text.len();
    text.push_str(&"0".repeat(KEY_DIGITS));
    text.push_str(r#""},"#);
    (text, Offsets { sequence, arrival, data: encoded, key })
}

fn push_header(frame: &mut Vec<u8>, name: &str, value: &str) {
    // Names and values are short constants, so the casts lose nothing.
    frame.push(name.len() as u8);
    frame.extend_from_slice(name.as_bytes());
    frame.push(STRING_HEADER);
    frame.extend_from_slice(&(value.len() as u16).to_be_bytes());
    frame.extend_from_slice(value.as_bytes());
}

/// Fills in the total length and the sums of a frame whose payload ends at `end`.
fn seal(frame: &mut [u8], end: usize) {
    frame[..4].copy_from_slice(&((end + CRC_BYTES) as u32).to_be_bytes());
    let prelude = crc32fast::hash(&frame[..8]);
    frame[8..PRELUDE_BYTES].copy_from_slice(&prelude.to_be_bytes());
    let message = crc32fast::hash(&frame[..end]);
    frame[end..end + CRC_BYTES].copy_from_slice(&message.to_be_bytes());
}

/// The frame that opens every subscription.
pub(super) fn initial_response() -> Bytes {
    let mut frame = vec![0; PRELUDE_BYTES];
    for (name, value) in [
        (":event-type", "initial-response"),
        (":content-type", "application/x-amz-json-1.1"),
        (":message-type", "event"),
    ] {
        push_header(&mut frame, name, value);
    }
    let headers = frame.len() - PRELUDE_BYTES;
    frame[4..8].copy_from_slice(&(headers as u32).to_be_bytes());
    frame.extend_from_slice(b"{}");
    let end = frame.len();
    frame.resize(end + CRC_BYTES, 0);
    seal(&mut frame, end);
    frame.into()
}

/// Buffers that were sent: a frame, and where its end stood. The lock is held for a push or a pop.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<(Vec<u8>, usize)>>);

impl Spare {
    fn take(&self) -> Option<(Vec<u8>, usize)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, bytes: Vec<u8>, spoiled_at: usize) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE {
            spare.push((bytes, spoiled_at));
        }
    }
}

/// A frame on its way; goes home once the last reference to its bytes is gone.
struct Buffer {
    bytes: Vec<u8>,
    spoiled_at: usize,
    home: Arc<Spare>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.bytes), self.spoiled_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 1_700_000_000_123;

    fn arrival(ordinal: u64) -> i64 {
        START_MS + i64::try_from(ordinal / 3).unwrap()
    }

    fn run(ordinal: u64, records: usize) -> Run {
        Run { first: Position { shard: 7, ordinal }, records, millis_behind_latest: 5 }
    }

    /// Checks a payload against what its records must be.
    fn check(payload: &[u8], bytes: usize, run: Run) -> serde_json::Value {
        let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
        let records = json["Records"].as_array().unwrap();
        assert_eq!(records.len(), run.records);
        let message = Message::new(bytes);
        for (record, ordinal) in records.iter().zip(run.first.ordinal..) {
            let place = Position { ordinal, ..run.first };
            assert_eq!(record["SequenceNumber"], place.to_string());
            let seconds = record["ApproximateArrivalTimestamp"].as_f64().unwrap();
            assert_eq!((seconds * 1000.0).round() as i64, arrival(ordinal));
            let data = record["Data"].as_str().unwrap();
            let data = base64_simd::STANDARD.decode_to_vec(data).unwrap();
            assert_eq!(String::from_utf8(data).unwrap(), message.at(place, arrival(ordinal)));
            assert_eq!(record["PartitionKey"], format!("device-{:013}", ordinal % 10_000));
        }
        assert_eq!(json["MillisBehindLatest"], 5);
        json
    }

    fn payload(frame: &Bytes) -> &[u8] {
        let be = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        assert_eq!(be(0) as usize, frame.len());
        assert_eq!(be(8), crc32fast::hash(&frame[..8]));
        let end = frame.len() - CRC_BYTES;
        assert_eq!(be(end), crc32fast::hash(&frame[..end]));
        &frame[PRELUDE_BYTES + be(4) as usize..end]
    }

    #[test]
    fn every_event_is_sealed_and_holds_the_records_that_it_is_asked_for() {
        for (bytes, count) in [(160, 40), (200, 7), (1_000, 3), (10_000, 1), (200, 0)] {
            let layout = Layout::new(&Message::new(bytes), count);
            let mut ordinal = 1;
            // Short and full ones in turn, through the same buffer.
            for records in [count, count / 2, 0, count, 1.min(count), count] {
                let run = run(ordinal, records);
                let frame = layout.event(run, arrival);
                let json = check(payload(&frame), bytes, run);
                assert_eq!(json["ContinuationSequenceNumber"], run.last().to_string());
                ordinal += records as u64;
            }
            assert_eq!(layout.spare.0.lock().unwrap().len(), 1);
        }
    }

    #[test]
    fn a_page_holds_the_same_records_as_an_event() {
        let layout = Layout::new(&Message::new(500), 10);
        let run = run(9_998, 4);
        let json = check(&layout.page(run, "token", arrival), 500, run);
        assert_eq!(json["NextShardIterator"], "token");
        assert!(json.get("ContinuationSequenceNumber").is_none());
    }

    #[test]
    fn a_buffer_that_is_still_on_its_way_is_not_written_to() {
        let layout = Layout::new(&Message::new(200), 2);
        let first = layout.event(run(1, 2), arrival);
        let copy = first.to_vec();
        let second = layout.event(run(3, 2), arrival);
        assert_eq!(first, copy);
        assert_ne!(first, second);
    }

    #[test]
    fn the_opening_frame_is_sealed() {
        assert_eq!(payload(&initial_response()), b"{}");
    }
}
