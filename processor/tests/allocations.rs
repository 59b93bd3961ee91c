//! What reading, decoding, routing and handing on costs in allocations, counted by the allocator.
//!
//! It is the only test of this binary: another one beside it would be counted too.

use std::alloc::System;
use std::hint::black_box;

use processor::integration::Integration;
use processor::stages::ReadPath;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const QUAKES: &str = include_str!("../../tests/data/earthquakes.ndjson");

/// The most allocations that a record may cost.
const MOST_A_RECORD: f64 = 0.05;

/// An event of these messages.
fn event(messages: &[&str]) -> Vec<u8> {
    let record = |(n, message): (usize, &&str)| {
        let data = base64_simd::STANDARD.encode_to_string(message);
        format!(
            r#"{{"ApproximateArrivalTimestamp":1517363399.651,"Data":"{data}","PartitionKey":"device-{n}","SequenceNumber":"4959{n:052}"}}"#
        )
    };
    let records: Vec<String> = messages.iter().enumerate().map(record).collect();
    let records = records.join(",");
    format!(
        r#"{{"Records":[{records}],"ContinuationSequenceNumber":"49599","MillisBehindLatest":0}}"#
    )
    .into_bytes()
}

#[test]
fn a_record_costs_next_to_no_allocation_from_the_frame_to_the_lane() {
    let quakes: Vec<Integration> = serde_json::from_str(
        r#"[{"name":"quakes","match":[{"pointer":"/type","equals":"Feature"}],"entity":"/properties/net",
            "time":{"pointer":"/properties/time","format":"epoch-ms"},"required":["/id"]}]"#,
    )
    .unwrap();
    let path = ReadPath::new(quakes).unwrap();
    let lines: Vec<&str> = QUAKES.lines().collect();
    let events: Vec<(Vec<u8>, usize)> =
        lines.chunks(400).map(|lines| (event(lines), lines.len())).collect();
    let count = || {
        let region = Region::new(ALLOCATOR);
        for (payload, records) in &events {
            let batch = path.decode(payload).unwrap();
            assert_eq!(batch.counts(), (*records, 0));
            // Both lanes hold it.
            black_box((batch.share(), batch));
        }
        region.change()
    };
    // The first round warms up what is made once.
    count();
    let change = count();
    assert_eq!(change.allocations, change.deallocations, "nothing is kept: {change:?}");
    let each = (change.allocations + change.reallocations) as f64 / lines.len() as f64;
    assert!(each <= MOST_A_RECORD, "{each:.3} allocations a record: {change:?}");
    assert!(each > 0.0, "the allocator counts");
}
