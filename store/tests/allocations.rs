//! Filters cost no allocation for a message once their buffers have grown, counted by the allocator.
//!
//! It is the only test of this binary: another one beside it would be counted too.
#![allow(clippy::unwrap_used)]

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use store::pattern::{Answers, Pattern, PatternSet, Reader};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const QUAKES: &str = include_str!("../../tests/data/earthquakes.ndjson");

const PATTERNS: [&str; 4] = [
    r#"{"properties":{"net":["us","ak"],"mag":[{"numeric":[">=",2.5]}]}}"#,
    r#"{"$or":[{"properties":{"place":[{"suffix":{"equals-ignore-case":"ALASKA"}}]}},{"id":[{"wildcard":"n*1*"}]}]}"#,
    r#"{"geometry":{"coordinates":[{"numeric":["<",-150]}],"nothing":[{"exists":false}]}}"#,
    r#"{"properties":{"types":[{"anything-but":{"wildcard":"*,dyfi,*"}}],"felt":[null]}}"#,
];

#[test]
fn a_message_is_filtered_without_an_allocation() {
    let patterns = PATTERNS.map(|json| Pattern::parse(json).unwrap());
    let set = PatternSet::new((0..).zip(patterns));
    let (mut reader, mut answers) = (Reader::default(), Answers::default());
    let (mut found, mut matched) = (Vec::new(), 0);
    let mut pass = || {
        let region = Region::new(ALLOCATOR);
        for quake in QUAKES.lines() {
            found.clear();
            set.matching(&reader.read(quake.as_bytes()).unwrap(), &mut answers, &mut found);
            matched += found.len();
        }
        region.change()
    };
    let first = pass();
    assert!(first.allocations > 0, "the allocator counts");
    let second = pass();
    assert_eq!((second.allocations, second.reallocations, second.deallocations), (0, 0, 0));
    assert!(matched > 1_000, "{matched}");
}
