use std::sync::Arc;

use lease_manager::SequenceNumber;
use md5::{Digest, Md5};
use store::DeadReason;
use tokio::time::Instant;

use super::*;
use crate::arena::Records;
use crate::integration::Integration;

const QUAKES: &str = include_str!("../../../tests/data/earthquakes.ndjson");
const AGGREGATE: &[u8] = include_bytes!("../../../tests/data/kpl/aggregate-python.bin");

fn compile(all: &[&str]) -> Integrations {
    let read = |json: &&str| serde_json::from_str::<Integration>(json).unwrap();
    Integrations::compile(all.iter().map(read).collect()).unwrap()
}

fn quakes() -> Integrations {
    compile(&[
        r#"{"name":"blasts","match":[{"pointer":"/properties/type","in":["quarry blast","explosion"]}],
            "entity":"/properties/net","time":{"pointer":"/properties/time","format":"epoch-ms"}}"#,
        r#"{"name":"quakes","match":[{"pointer":"/type","equals":"Feature"}],"entity":"/properties/net",
            "time":{"pointer":"/properties/time","format":"epoch-ms"},"required":["/id"]}"#,
    ])
}

fn shard(range: std::ops::RangeInclusive<u128>) -> Arc<ShardContext> {
    Arc::new(ShardContext {
        stream_arn: Arc::from("arn:aws:kinesis:us-east-1:000000000000:stream/s"),
        shard_id: Arc::from("shardId-000000000000"),
        fence: 1,
        starting_hash_key: *range.start(),
        ending_hash_key: *range.end(),
    })
}

fn raw(shard: Arc<ShardContext>, payloads: &[&[u8]]) -> RawBatch {
    let mut records = Records::default();
    for (i, data) in payloads.iter().enumerate() {
        let arena = &mut records.arena;
        records.spans.push(RawRecord {
            sequence: append(arena, (100 + i).to_string().as_bytes()),
            partition_key: append(arena, b"key"),
            arrived_at_ms: 42,
            data: append(arena, data),
        });
    }
    RawBatch {
        shard,
        records,
        upto: Some(SequenceNumber::parse("200").unwrap()),
        millis_behind_latest: 7,
        children: Vec::new(),
        shard_ended: false,
        wire_bytes: 1,
        received_at: Instant::now(),
        permit: None,
    }
}

/// What a payload alone in a batch becomes: integration, entity, time.
#[derive(Debug)]
struct Routed {
    integration: usize,
    entity: String,
    time_ms: i64,
}

fn one(integrations: &Integrations, payload: &[u8]) -> Result<Routed, Malformed> {
    let raw = raw(shard(0..=u128::MAX), &[payload]);
    let batch = decode(raw, integrations, &DecodeOptions::default());
    assert_eq!(batch.entries.len(), 1);
    assert_eq!(batch.payload(&batch.entries[0]), payload);
    let route = batch.route(&batch.entries[0]).map_err(Malformed::clone)?;
    let (integration, time_ms) = (route.integration, route.time_ms);
    Ok(Routed { integration, entity: route.entity.to_owned(), time_ms })
}

fn defect(integrations: &Integrations, payload: &[u8]) -> (DeadReason, String, String) {
    let malformed = one(integrations, payload).unwrap_err();
    (malformed.reason, malformed.detail, malformed.integration.to_string())
}

#[test]
fn real_earthquakes_find_their_integration_entity_and_time() {
    let integrations = quakes();
    let lines: Vec<&[u8]> = QUAKES.lines().map(str::as_bytes).collect();
    let batch = decode(raw(shard(0..=u128::MAX), &lines), &integrations, &DecodeOptions::default());
    assert_eq!(batch.entries.len(), 1707);
    assert_eq!((batch.upto.as_ref().unwrap().as_str(), batch.millis_behind_latest), ("200", 7));
    let mut times = Vec::new();
    let mut blasts = 0;
    for (entry, line) in batch.entries.iter().zip(&lines) {
        let route = batch.route(entry).unwrap();
        // An independent reading of the same line.
        let value: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert_eq!(value["properties"]["net"], route.entity);
        assert_eq!(value["properties"]["time"], route.time_ms);
        let blast =
            matches!(value["properties"]["type"].as_str(), Some("quarry blast" | "explosion"));
        assert_eq!(integrations.get(route.integration).name().as_str() == "blasts", blast);
        blasts += usize::from(blast);
        times.push(route.time_ms);
    }
    assert!(blasts > 0 && times.is_sorted());
    assert!(batch.bytes > QUAKES.len());
}

#[test]
fn without_configuration_every_message_has_a_route() {
    let none = Integrations::compile(Vec::new()).unwrap();
    for payload in
        ["{}", "[1,2]", "42", "\"text\"", "null", " true ", QUAKES.lines().next().unwrap()]
    {
        let route = one(&none, payload.as_bytes()).unwrap();
        assert_eq!(
            (route.integration, route.entity.as_str(), route.time_ms),
            (0, "key", 42),
            "{payload}"
        );
    }
}

#[test]
fn what_is_not_one_json_document_in_utf8_is_malformed() {
    let none = Integrations::compile(Vec::new()).unwrap();
    let (reason, _, integration) = defect(&none, b"");
    assert_eq!((reason, integration.as_str()), (DeadReason::Empty, "default"));
    let (reason, detail, _) = defect(&none, b"{\"a\":\"\xff\"}");
    assert_eq!(reason, DeadReason::InvalidUtf8);
    assert!(detail.contains("byte 6 is 0xff"), "{detail}");
    let deep = "[".repeat(200_000);
    for bad in [
        "hello",
        " ",
        "{\"a\":1",
        "{\"a\":1}x",
        "{\"a\":1}\n{\"a\":2}",
        "{'a':1}",
        "[1,]",
        "nul",
        "\u{feff}{}",
        "{\"a\":01}",
        "\"a\u{1}\"",
        deep.as_str(),
    ] {
        let (reason, detail, integration) = defect(&none, bad.as_bytes());
        let shown = &bad[..bad.floor_char_boundary(20)];
        assert_eq!(
            (reason, integration.as_str()),
            (DeadReason::NotJson, "default"),
            "{shown}: {detail}"
        );
        assert!(detail.contains("line 1") || detail.contains("line 2"), "{detail}");
    }
}

#[test]
fn what_is_broken_behind_the_fields_is_malformed_for_all_who_want_the_whole() {
    let integrations = compile(&[r#"{"name":"a","match":[{"pointer":"/kind","equals":"x"}],
        "entity":"/id","time":{"pointer":"/at","format":"epoch-ms"}}"#]);
    let good = br#"{"kind":"x","id":"good","at":5,"rest":[1]}"#;
    let broken = br#"{"kind":"x","id":"broken","at":6,"rest":[1}"#;
    let raw = raw(shard(0..=u128::MAX), &[good, broken, good]);
    let batch = decode(raw, &integrations, &DecodeOptions::default());
    let glance = batch.entries.iter().map(|e| batch.glance(e).unwrap().entity);
    assert_eq!(glance.collect::<Vec<_>>(), ["good", "broken", "good"]);
    let malformed = batch.route(&batch.entries[1]).unwrap_err();
    assert_eq!(
        (malformed.reason, malformed.integration.as_str()),
        (DeadReason::NotJson, "default")
    );
    assert!(malformed.detail.contains("`}` at line 1 column 43"), "{}", malformed.detail);
    assert!(batch.message(&batch.entries[1], &integrations).is_none());
    for whole in [0, 2] {
        assert_eq!(batch.route(&batch.entries[whole]).unwrap().entity, "good");
    }
    // A defect of the fields does not hide that the message is no JSON.
    let both = br#"{"kind":"x","id":"broken","at":"soon","rest":[1}"#;
    assert_eq!(defect(&integrations, both).0, DeadReason::NotJson);
}

#[test]
fn nesting_exhausts_nothing() {
    let nested = format!("{{\"properties\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let route = one(&Integrations::compile(Vec::new()).unwrap(), nested.as_bytes()).unwrap();
    assert_eq!(route.entity.as_str(), "key");
    // Also where pointers lead into it.
    let integrations =
        compile(&[r#"{"name":"a","match":[{"pointer":"/properties/0","exists":true},
        {"pointer":"/properties","exists":true}]}"#]);
    assert_eq!(one(&integrations, nested.as_bytes()).unwrap().integration, 0);
}

#[test]
fn what_an_integration_demands_is_malformed_under_its_name() {
    let integrations = compile(&[
        r#"{"name":"o","match":[{"pointer":"/type","equals":"o"}],"entity":"/id",
        "time":{"pointer":"/at","format":"epoch-ms"},"required":["/amount"],"max_message_bytes":100}"#,
    ]);
    let large = format!(r#"{{"type":"o","id":1,"amount":1,"text":"{}"}}"#, "x".repeat(100));
    let long = format!(r#"{{"type":"o","id":"{}","amount":1}}"#, "x".repeat(60));
    for (payload, reason, words) in [
        (large.as_str(), DeadReason::TooLarge, "allows 100 (max_message_bytes)"),
        (r#"{"type":"o","id":1}"#, DeadReason::MissingField, "field /amount is not there"),
        (r#"{"type":"o","id":1,"amount":null}"#, DeadReason::MissingField, "/amount is null"),
        (r#"{"type":"o","amount":1}"#, DeadReason::MissingField, "the entity at /id is not there"),
        (r#"{"type":"o","id":null,"amount":1}"#, DeadReason::MissingField, "at /id is null"),
        (r#"{"type":"o","id":{},"amount":1}"#, DeadReason::InvalidField, "at /id is an object"),
        (r#"{"type":"o","id":"","amount":1}"#, DeadReason::InvalidField, "0 bytes"),
        (r#"{"type":"o","id":1,"amount":1,"at":"x"}"#, DeadReason::InvalidField, "at /at is `x`"),
    ] {
        let (found, detail, integration) = defect(&integrations, payload.as_bytes());
        assert_eq!((found, integration.as_str()), (reason, "o"), "{payload}: {detail}");
        assert!(detail.contains(words), "{payload}: {detail}");
    }
    assert!(one(&integrations, long.as_bytes()).is_ok());
    let wide = compile(&[r#"{"name":"default","entity":"/id"}"#]);
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(513));
    let (reason, detail, _) = defect(&wide, long.as_bytes());
    assert_eq!(reason, DeadReason::InvalidField);
    assert!(detail.contains("/id") && detail.contains("513 bytes"), "{detail}");
}

#[test]
fn entities_are_strings_without_escapes_or_the_text_of_numbers() {
    let integrations = compile(&[r#"{"name":"default","entity":"/a~1b/0/id"}"#]);
    for (payload, entity) in [
        (r#"{"a/b":[{"id":"plain"}]}"#, "plain"),
        (r#"{"a/b":[{"id":"tab\tand \u00fc \ud83d\ude00"}]}"#, "tab\tand ü 😀"),
        (r#"{"a\/b" : [ { "id" : 12.50 } , {"id":1}]}"#, "12.50"),
        (r#"{"a\u002fb":[{"id":-0}]}"#, "-0"),
        (r#"{"a/b":[{"id":123456789012345678901234567890}]}"#, "123456789012345678901234567890"),
        (r#"{"a/b":[{"id":1e999}]}"#, "1e999"),
        (r#"{"a/b":{"0":{"id":"key"}}}"#, "key"),
        (r#"{"a/b":[{"id":"half \ud83d"}]}"#, r"half \ud83d"),
    ] {
        assert_eq!(
            one(&integrations, payload.as_bytes()).unwrap().entity.as_str(),
            entity,
            "{payload}"
        );
    }
}

#[test]
fn of_a_key_that_comes_twice_the_last_counts() {
    let integrations = compile(&[r#"{"name":"default","entity":"/p/id"}"#]);
    let twice = br#"{"p":{"id":"first"},"q":1,"p":{"id":"second","id":"third"}}"#;
    assert_eq!(one(&integrations, twice).unwrap().entity.as_str(), "third");
    let gone = defect(&integrations, br#"{"p":{"id":"first"},"p":{}}"#);
    assert_eq!(gone.0, DeadReason::MissingField);
    let gone = defect(&integrations, br#"{"p":{"id":"first"},"p":7}"#);
    assert_eq!(gone.0, DeadReason::MissingField);
}

#[test]
fn a_pointer_may_lead_through_what_another_one_ends_at() {
    let integrations = compile(&[
        r#"{"name":"a","match":[{"pointer":"/p","exists":true},{"pointer":"/p/kind","equals":"x"}],
            "entity":"/p/ids/1","required":["/p/ids"]}"#,
    ]);
    let route = one(&integrations, br#"{"p":{"kind":"x","ids":["one","two"]}}"#).unwrap();
    assert_eq!((route.integration, route.entity.as_str()), (0, "two"));
    assert_eq!(one(&integrations, br#"{"p":"scalar"}"#).unwrap().integration, 1);
}

#[test]
fn cloud_events_are_understood_without_configuration() {
    let none = Integrations::compile(Vec::new()).unwrap();
    let event = br#"{"specversion":"1.0","type":"com.example.paid","source":"/shop","id":"1",
        "subject":"order-7","time":"2018-01-31T01:49:59.650Z","data":{}}"#;
    let route = one(&none, event).unwrap();
    assert_eq!((route.entity.as_str(), route.time_ms), ("order-7", 1_517_363_399_650));
    // An attribute nobody asked for cannot make a message malformed.
    let odd = one(&none, br#"{"specversion":"1.0","subject":7,"time":"soon"}"#).unwrap();
    assert_eq!((odd.entity.as_str(), odd.time_ms), ("key", 42));
    // Without `specversion` these are just fields.
    let plain = one(&none, br#"{"subject":"order-7","time":"2018-01-31T01:49:59.650Z"}"#).unwrap();
    assert_eq!((plain.entity.as_str(), plain.time_ms), ("key", 42));
}

#[test]
fn cloud_events_match_by_type_and_source_in_the_order_of_the_configuration() {
    let integrations = compile(&[
        r#"{"name":"shop","match":[{"cloud_event":"source","equals":"/shop"},
            {"cloud_event":"type","prefix":"com.example."}],"entity":"/data/id"}"#,
        r#"{"name":"typed","match":[{"pointer":"/type","exists":true}]}"#,
    ]);
    let name = |payload: &[u8]| {
        let route = one(&integrations, payload).unwrap();
        integrations.get(route.integration).name().to_string()
    };
    assert_eq!(
        name(
            br#"{"specversion":"1.0","type":"com.example.paid","source":"/shop","data":{"id":1}}"#
        ),
        "shop"
    );
    assert_eq!(
        name(br#"{"specversion":"1.0","type":"com.example.paid","source":"/web"}"#),
        "typed"
    );
    assert_eq!(name(br#"{"type":"com.example.paid","source":"/shop"}"#), "typed");
    assert_eq!(name(br#"{"specversion":1,"source":"/shop"}"#), "default");
}

#[test]
fn an_aggregate_of_the_kpl_becomes_its_user_records() {
    let none = Integrations::compile(Vec::new()).unwrap();
    let payload: &[&[u8]] = &[b"{\"before\":1}", AGGREGATE, b"{\"after\":1}"];
    let batch = decode(raw(shard(0..=u128::MAX), payload), &none, &DecodeOptions::default());
    assert_eq!(batch.entries.len(), 52);
    assert!(batch.entries.is_sorted_by(|a, b| batch.place(a) < batch.place(b)));
    for (i, entry) in batch.entries[1..51].iter().enumerate() {
        let (sequence, index) = batch.place(entry).to_place();
        assert_eq!((sequence.as_str(), index), ("101", u32::try_from(i).unwrap()));
        assert_eq!(batch.partition_key(entry), format!("pk{i}"));
        assert!(!batch.payload(entry).is_empty());
        assert_eq!(entry.arrived_at_ms, 42);
    }
}

#[test]
fn user_records_outside_the_shard_are_kept_unless_the_policy_drops_them() {
    let none = Integrations::compile(Vec::new()).unwrap();
    let half = || shard(0..=u128::MAX / 2);
    let kept = decode(raw(half(), &[AGGREGATE]), &none, &DecodeOptions::default());
    assert_eq!(kept.entries.len(), 50);
    let drop = DecodeOptions { out_of_range: OutOfRange::Drop, ..DecodeOptions::default() };
    let inside = decode(raw(half(), &[AGGREGATE]), &none, &drop);
    let lower = |key: &str| u128::from_be_bytes(Md5::digest(key).into()) <= u128::MAX / 2;
    let expected: Vec<u32> = (0..50).filter(|i| lower(&format!("pk{i}"))).collect();
    assert!(!expected.is_empty() && expected.len() < 50);
    assert_eq!(inside.entries.iter().map(|e| e.index).collect::<Vec<_>>(), expected);
}

#[test]
fn a_broken_aggregate_is_one_malformed_entry_with_all_its_bytes() {
    let none = Integrations::compile(Vec::new()).unwrap();
    let mut flipped = AGGREGATE.to_vec();
    flipped[100] ^= 1;
    for (data, words) in [
        (&flipped[..], "digest"),
        (&AGGREGATE[..999], "digest"),
        (&AGGREGATE[..20], "no room"),
        (&AGGREGATE[..4], "no room"),
        (&sealed(b"\xff\xff\xff\xff")[..], "not an AggregatedRecord"),
        (&sealed(b"\x1a\x02\x08\x00")[..], "names partition key 0; there are 0"),
        (&sealed(b"\x0a\x01k\x1a\x02\x08\x00")[..], "user record 0 of a KPL aggregate has no data"),
        (&sealed(b"\x0a\x01k\x1a\x02\x1a\x00")[..], "has no partition_key_index"),
        (&sealed(b"\x0a\x01k\x12\x02-1\x1a\x04\x08\x00\x1a\x00")[..], "`-1`"),
        (
            &sealed(b"\x0a\x01k\x1a\x06\x08\x00\x10\x00\x1a\x00")[..],
            "explicit hash key 0; there are 0",
        ),
    ] {
        let (reason, detail, integration) = defect(&none, data);
        assert_eq!((reason, integration.as_str()), (DeadReason::BrokenAggregate, "default"));
        assert!(detail.contains(words), "{detail}");
    }
}

#[test]
fn an_aggregate_cannot_grow_into_more_than_its_bound() {
    let none = Integrations::compile(Vec::new()).unwrap();
    let mut message = b"\x0a\x01k".to_vec();
    for _ in 0..11 {
        message.extend_from_slice(b"\x1a\x04\x08\x00\x1a\x00");
    }
    let data = sealed(&message);
    let of = |max_user_records| {
        let options = DecodeOptions { max_user_records, ..DecodeOptions::default() };
        let batch = decode(raw(shard(0..=u128::MAX), &[&data]), &none, &options);
        let reasons = batch.entries.iter().map(|e| batch.route(e).unwrap_err().reason);
        reasons.collect::<Vec<_>>()
    };
    // Each of them is empty, and says so for itself.
    assert_eq!(of(11), [DeadReason::Empty; 11]);
    assert_eq!(of(10), [DeadReason::BrokenAggregate]);
}

#[test]
fn an_explicit_hash_key_wins_over_the_partition_key() {
    let data = sealed(b"\x0a\x01k\x12\x0217\x1a\x08\x08\x00\x10\x00\x1a\x02{}");
    let mut splitter = Splitter::default();
    let user = &splitter.split(&data, 10).unwrap()[0];
    assert_eq!(user.hash_key, 17);
    assert_eq!(
        (&data[user.partition_key.clone()], &data[user.data.clone()]),
        (&b"k"[..], &b"{}"[..])
    );
}

/// An aggregate of this protobuf message with the right digest.
fn sealed(message: &[u8]) -> Vec<u8> {
    [&[0xf3, 0x89, 0x9a, 0xc2], message, &Md5::digest(message)[..]].concat()
}
