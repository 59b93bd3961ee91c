//! What each stage of the read path costs, in memory: `cargo bench -p processor`.
//!
//! Real events (USGS earthquakes) are put into messages and records of the sizes wanted. A stage and
//! what it is compared with take turns, so that both meet the same machine; the least of the
//! rounds is printed. One thread does all of it, so elapsed time is CPU time.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Duration;

use processor::integration::Integration;
use processor::stages::ReadPath;
use tokio::time::Instant;

const QUAKES: &str = include_str!("../../tests/data/earthquakes.ndjson");
const AGGREGATE: &[u8] = include_bytes!("../../tests/data/kpl/aggregate-python.bin");
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(12);
const EVENT_BYTES: usize = 400_000;

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    println!("routing: ns a message (least of {rounds})");
    println!("{:<28}{:>10}{:>12}{:>16}{:>8}", "", "bytes", "route", "serde_json", "ratio");
    for bytes in [200, 1_000, 10_000] {
        for first in [true, false] {
            routing(rounds, bytes, first);
        }
    }
    println!("\nevents of {EVENT_BYTES} bytes of data: ns a record, CPU s a GB of data");
    println!("{:<28}{:>10}{:>12}{:>16}{:>8}", "", "records", "ns", "s/GB", "");
    for bytes in [200, 1_000, 10_000] {
        events(rounds, bytes);
    }
    aggregates(rounds);
    checksum(rounds);
}

/// Runs both in turns; the least ns that one call of each took.
fn compare(rounds: usize, mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
    let mut least = (f64::MAX, f64::MAX);
    for _ in 0..rounds {
        least.0 = least.0.min(ns_per_call(&mut one));
        least.1 = least.1.min(ns_per_call(&mut other));
    }
    least
}

fn ns_per_call(call: &mut impl FnMut()) -> f64 {
    let (began, mut calls) = (Instant::now(), 0u32);
    // The clock is looked at so rarely that looking costs nothing.
    let mut step = 1;
    while began.elapsed() < ROUND {
        for _ in 0..step {
            call();
        }
        calls += step;
        step = (calls / 8).max(1);
    }
    began.elapsed().as_nanos() as f64 / f64::from(calls)
}

fn configured() -> Vec<Integration> {
    let all = r#"[
        {"name":"blasts","match":[{"pointer":"/kind","in":["quarry blast","explosion"]}],
         "entity":"/net","time":{"pointer":"/time","format":"epoch-ms"}},
        {"name":"quakes","match":[{"pointer":"/kind","equals":"earthquake"}],
         "entity":"/net","time":{"pointer":"/time","format":"epoch-ms"}}]"#;
    serde_json::from_str(all).expect("integrations")
}

/// Messages of about `bytes` bytes, with the fields that routing asks for before or behind the rest.
fn messages(bytes: usize, fields_first: bool) -> Vec<Vec<u8>> {
    let mut lines = QUAKES.lines().cycle();
    let message = |lines: &mut dyn Iterator<Item = &str>| {
        let fields = r#""kind":"earthquake","net":"us","time":1517363399650"#;
        let mut rest = String::new();
        while rest.len() + fields.len() + 20 < bytes {
            let room = bytes - rest.len() - fields.len() - 20;
            let line = lines.next().unwrap_or_default();
            let comma = if rest.is_empty() { "" } else { "," };
            match line.len() <= room {
                true => rest += &format!("{comma}{line}"),
                // What is left is filled with the beginning of one more event.
                false => {
                    let members = members(line, room);
                    rest += &format!("{comma}{{{members}}}");
                    break;
                }
            }
        }
        let rest = format!("\"events\":[{rest}]");
        let (a, b) = if fields_first { (fields, &*rest) } else { (&*rest, fields) };
        format!("{{{a},{b}}}").into_bytes()
    };
    (0..16).map(|_| message(&mut lines)).collect()
}

/// The properties of an event, as many as fit.
fn members(line: &str, room: usize) -> &str {
    let from = line.find("\"mag\"").unwrap_or_default();
    let properties = &line[from..line.find("},\"geometry\"").unwrap_or(line.len())];
    let most = properties.floor_char_boundary(room);
    match properties.len() <= room {
        true => properties,
        false => &properties[..properties[..most].rfind(",\"").unwrap_or_default()],
    }
}

fn routing(rounds: usize, bytes: usize, fields_first: bool) {
    let messages = messages(bytes, fields_first);
    let mut path = ReadPath::new(configured()).expect("integrations");
    assert!(messages.iter().all(|m| path.route(m) == Some(1_517_363_399_650)));
    let (mut at, mut other_at) = (0, 0);
    let (route, tree) = compare(
        rounds,
        || {
            at = (at + 1) % messages.len();
            black_box(path.route(black_box(&messages[at])));
        },
        || {
            other_at = (other_at + 1) % messages.len();
            let value = serde_json::from_slice::<serde_json::Value>(black_box(&messages[other_at]));
            black_box(value.is_ok_and(|v| v.get("time").is_some()));
        },
    );
    let size = messages.iter().map(Vec::len).sum::<usize>() / messages.len();
    let name = if fields_first { "fields first" } else { "fields last" };
    println!("{name:<28}{size:>10}{route:>12.0}{tree:>16.0}{:>8.1}", tree / route);
}

fn event(bytes: usize) -> (Vec<u8>, usize) {
    let records = EVENT_BYTES / bytes;
    let messages = messages(bytes, true);
    let record = |n: usize| {
        let data = base64_simd::STANDARD.encode_to_string(&messages[n % messages.len()]);
        format!(
            r#"{{"ApproximateArrivalTimestamp":1.517363399651E9,"Data":"{data}","EncryptionType":"NONE","PartitionKey":"device-{n:012}","SequenceNumber":"4959{n:052}"}}"#
        )
    };
    let records_text: Vec<String> = (0..records).map(record).collect();
    let event = format!(
        r#"{{"ChildShards":null,"ContinuationSequenceNumber":"4959{records:052}","MillisBehindLatest":0,"Records":[{}]}}"#,
        records_text.join(",")
    );
    (event.into_bytes(), records)
}

fn events(rounds: usize, bytes: usize) {
    let (payload, records) = event(bytes);
    let path = ReadPath::new(configured()).expect("integrations");
    assert_eq!(path.decode(&payload).expect("an event").counts(), (records, 0));
    let (read, decode) = compare(
        rounds,
        || {
            black_box(path.read(black_box(&payload)));
        },
        || {
            let batch = path.decode(black_box(&payload));
            black_box(batch.map(|batch| batch.share()));
        },
    );
    for (stage, ns) in [("envelope", read), ("envelope, routing, hand-off", decode)] {
        let (each, per_gb) = (ns / records as f64, ns / EVENT_BYTES as f64);
        println!("{stage:<28}{records:>10}{each:>12.0}{per_gb:>16.3}");
    }
}

fn aggregates(rounds: usize) {
    let path = ReadPath::new(configured()).expect("integrations");
    let users = path.split(AGGREGATE);
    let once = || {
        black_box(path.split(black_box(AGGREGATE)));
    };
    let (ns, _) = compare(rounds, once, || ());
    println!("{:<28}{users:>10}{:>12.0}", "KPL split and routing", ns / users as f64);
}

fn checksum(rounds: usize) {
    let (payload, records) = event(1_000);
    let once = || {
        black_box(crc32fast::hash(black_box(&payload)));
    };
    let (ns, _) = compare(rounds, once, || ());
    let each = ns / records as f64;
    println!(
        "{:<28}{records:>10}{each:>12.0}{:>16.3}",
        "a frame's checksum",
        ns / EVENT_BYTES as f64
    );
}
