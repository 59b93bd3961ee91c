//! The scanner against simd-json: it must read the same of whatever both read, and refuse the same.

use fastrand::Rng;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireEvent {
    records: Vec<WireRecord>,
    #[serde(default)]
    continuation_sequence_number: Option<String>,
    #[serde(default)]
    millis_behind_latest: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireRecord {
    sequence_number: String,
    approximate_arrival_timestamp: f64,
    data: String,
    #[serde(default)]
    partition_key: Option<String>,
}

/// What of an event matters: the continuation, the ms behind, and of each record its sequence number, key,
/// arrival and data.
type Read = (String, u64, Vec<(String, String, i64, Vec<u8>)>);

fn by_simd_json(payload: &[u8]) -> Option<Read> {
    let mut bytes = payload.to_vec();
    let event: WireEvent = simd_json::serde::from_slice(&mut bytes).ok()?;
    let continuation = event.continuation_sequence_number?;
    SequenceNumber::check(&continuation).ok()?;
    let record = |r: WireRecord| {
        SequenceNumber::check(&r.sequence_number).ok()?;
        let arrived_at_ms = (r.approximate_arrival_timestamp * 1000.0).round() as i64;
        let data = base64_simd::STANDARD.decode_to_vec(r.data).ok()?;
        Some((r.sequence_number, r.partition_key.unwrap_or_default(), arrived_at_ms, data))
    };
    let records: Option<Vec<_>> = event.records.into_iter().map(record).collect();
    Some((continuation, u64::try_from(event.millis_behind_latest).unwrap_or(0), records?))
}

fn by_scanner(payload: &[u8]) -> Option<Read> {
    let event = event(payload, 0, &shard()).ok()?;
    let arena = &event.records.arena;
    let record = |r: &RawRecord| {
        let (sequence, key) = (r.sequence.text(arena), r.partition_key.text(arena));
        (sequence.to_owned(), key.to_owned(), r.arrived_at_ms, r.data.bytes(arena).to_vec())
    };
    let records = event.records.spans.iter().map(record).collect();
    Some((event.continuation?.as_str().to_owned(), event.millis_behind_latest, records))
}

/// A JSON string of the text, each character escaped or not.
fn quoted(rng: &mut Rng, text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        let mut units = [0; 2];
        match rng.u32(..12) {
            0 => out.extend(c.encode_utf16(&mut units).iter().map(|u| format!("\\u{u:04x}"))),
            1 if c == '/' => out.push_str("\\/"),
            _ if matches!(c, '"' | '\\') => out.extend(['\\', c]),
            _ if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

fn space(rng: &mut Rng) -> &'static str {
    ["", "", "", " ", "\n", "\t\r "][rng.usize(..6)]
}

fn object(rng: &mut Rng, mut members: Vec<(&str, String)>) -> String {
    rng.shuffle(&mut members);
    let mut out = String::from("{");
    for (n, (name, value)) in members.iter().enumerate() {
        let comma = if n > 0 { "," } else { "" };
        let name = if rng.u32(..20) == 0 { quoted(rng, name) } else { format!("\"{name}\"") };
        out += &[comma, space(rng), &name, space(rng), ":", space(rng), value, space(rng)].concat();
    }
    out + "}"
}

fn wire_record(rng: &mut Rng) -> String {
    let data: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
    let data = base64_simd::STANDARD.encode_to_string(data);
    let data = if rng.u32(..8) == 0 { quoted(rng, &data) } else { format!("\"{data}\"") };
    let key: String = (0..rng.usize(..40)).map(|_| *rng.choice(KEY_CHARS).unwrap()).collect();
    let mut members = vec![
        ("SequenceNumber", format!("\"{}{}\"", rng.u64(1..), rng.u64(..))),
        ("ApproximateArrivalTimestamp", arrival(rng)),
        ("Data", data),
        ("PartitionKey", quoted(rng, &key)),
    ];
    if rng.bool() {
        members.push(("EncryptionType", "\"NONE\"".to_owned()));
    }
    if rng.u32(..10) == 0 {
        members.push(("Added", r#"{"Data":["]",{"x":-1.5e3},true,null,"\\\""]}"#.to_owned()));
    }
    object(rng, members)
}

const KEY_CHARS: &[char] = &['a', '0', '-', '"', '\\', '/', '\u{1}', '\n', 'ü', '漢', '😀'];

fn arrival(rng: &mut Rng) -> String {
    let ms = rng.i64(0..4_000_000_000_000);
    match rng.u32(..3) {
        0 => format!("{}.{:03}", ms / 1000, ms % 1000),
        1 => format!("{:e}", ms as f64 / 1000.0),
        _ => format!("{}", ms / 1000),
    }
}

fn wire_event(rng: &mut Rng) -> String {
    let records: Vec<String> = (0..rng.usize(..5)).map(|_| wire_record(rng)).collect();
    let records = format!("[{}{}]", space(rng), records.join(", "));
    let members = vec![
        ("Records", records),
        ("ContinuationSequenceNumber", format!("\"{}\"", rng.u64(1..))),
        ("MillisBehindLatest", rng.u32(..).to_string()),
        ("ChildShards", "null".to_owned()),
    ];
    object(rng, members)
}

#[test]
fn whatever_form_an_event_has_both_read_the_same() {
    let mut rng = Rng::with_seed(3);
    for _ in 0..3000 {
        let payload = wire_event(&mut rng);
        let wanted = by_simd_json(payload.as_bytes());
        assert!(wanted.is_some(), "{payload}");
        assert_eq!(by_scanner(payload.as_bytes()), wanted, "{payload}");
    }
}

#[test]
fn of_damaged_events_both_read_the_same_or_nothing() {
    let mut rng = Rng::with_seed(4);
    let (mut refused, mut read) = (0, 0);
    for _ in 0..6000 {
        let mut payload = wire_event(&mut rng).into_bytes();
        for _ in 0..rng.u32(1..3) {
            let at = rng.usize(..payload.len());
            match rng.u32(..4) {
                0 => payload[at] = rng.u8(..),
                1 => payload[at] = *rng.choice(b"{}[]\",:\\0e").unwrap(),
                2 => payload.truncate(at + 1),
                _ => drop(payload.remove(at)),
            }
        }
        let (wanted, found) = (by_simd_json(&payload), by_scanner(&payload));
        let shown = String::from_utf8_lossy(&payload);
        // Bytes that are not UTF-8 in a string that nobody asks for are passed over.
        if wanted.is_some() || str::from_utf8(&payload).is_ok() {
            assert_eq!(found, wanted, "{shown}");
        }
        (refused, read) =
            (refused + usize::from(found.is_none()), read + usize::from(found.is_some()));
    }
    assert!(refused > 1000 && read > 500, "{refused} {read}");
}
