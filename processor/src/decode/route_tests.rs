//! The walk against serde_json's tree, which may build what the walk must not.

use std::fmt::Write as _;

use fastrand::Rng;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;
use crate::integration::Integration;

const KEYS: [&str; 8] = ["a", "b", "0", "1", "a/b", "~", "é", "long-key-of-a-message"];

/// A document with keys that come twice, escapes and white space where they are allowed.
fn document(rng: &mut Rng, depth: u32, out: &mut String) {
    out.push_str(["", " ", "\n\t"][rng.usize(..3)]);
    match rng.u32(..if depth == 0 { 6 } else { 10 }) {
        0 => out.push_str("null"),
        1 => out.push_str(if rng.bool() { "true" } else { "false" }),
        2 => write!(out, "{}", rng.i64(-1000..1000)).unwrap(),
        3 => write!(out, "{}.5e2", rng.i64(-9..9)).unwrap(),
        4 => out.push_str(r#""plain""#),
        5 => out.push_str(r#""esc\"aped \u00fc\n""#),
        6 | 7 => {
            out.push('[');
            for i in 0..rng.u32(..4) {
                out.push_str(if i > 0 { "," } else { "" });
                document(rng, depth - 1, out);
            }
            out.push(']');
        }
        _ => {
            out.push('{');
            for i in 0..rng.u32(..6) {
                out.push_str(if i > 0 { " ," } else { "" });
                out.push_str(&key(rng));
                out.push_str(" :");
                document(rng, depth - 1, out);
            }
            out.push('}');
        }
    }
    out.push_str(["", " "][rng.usize(..2)]);
}

/// A key, sometimes with its first character escaped.
fn key(rng: &mut Rng) -> String {
    let key = KEYS[rng.usize(..KEYS.len())];
    let first = key.chars().next().unwrap();
    if rng.bool() {
        return format!("\"{key}\"");
    }
    format!("\"\\u{:04x}{}\"", u32::from(first), &key[first.len_utf8()..])
}

fn pointer(rng: &mut Rng) -> String {
    let mut pointer = String::new();
    for _ in 0..rng.u32(1..=4) {
        let token = KEYS[rng.usize(..KEYS.len())].replace('~', "~0").replace('/', "~1");
        write!(pointer, "/{token}").unwrap();
    }
    pointer
}

fn same(found: Option<&FieldValue<'_>>, wanted: Option<&Value>) -> bool {
    match (found, wanted) {
        (None, None) | (Some(FieldValue::Null), Some(Value::Null)) => true,
        (Some(FieldValue::Bool(found)), Some(Value::Bool(wanted))) => found == wanted,
        (Some(FieldValue::String(found)), Some(Value::String(wanted))) => found == wanted,
        (Some(FieldValue::Number(found)), Some(Value::Number(wanted))) => {
            found.parse::<f64>().ok() == wanted.as_f64()
        }
        (Some(FieldValue::Array), Some(Value::Array(_))) => true,
        (Some(FieldValue::Object), Some(Value::Object(_))) => true,
        _ => false,
    }
}

#[test]
fn the_walk_finds_what_a_tree_would_show() {
    let mut rng = Rng::with_seed(1);
    let (mut hits, mut text) = (0, String::new());
    for _ in 0..300 {
        let mut pointers: Vec<String> = (0..rng.usize(1..12)).map(|_| pointer(&mut rng)).collect();
        pointers.sort();
        pointers.dedup();
        let required = serde_json::to_string(&pointers).unwrap();
        let default = format!(r#"{{"name":"default","required":{required}}}"#);
        let integration: Integration = serde_json::from_str(&default).unwrap();
        let integrations = Integrations::compile(vec![integration]).unwrap();
        let mut scratch = Scratch::new(&integrations);
        for _ in 0..40 {
            text.clear();
            document(&mut rng, 5, &mut text);
            let tree: Value = serde_json::from_str(&text).unwrap();
            read(&integrations, &mut scratch, text.as_bytes(), false).unwrap();
            let message = Message { text: &text, found: &scratch.found };
            for (pointer, slot) in pointers.iter().zip(&integrations.rules()[0].required) {
                let (found, wanted) = (message.value(*slot), tree.pointer(pointer));
                assert!(same(found.as_ref(), wanted), "{pointer} in {text}: {found:?}, {wanted:?}");
                hits += usize::from(wanted.is_some());
            }
        }
    }
    assert!(hits > 1000, "{hits}");
}

#[test]
fn damaged_messages_are_malformed_exactly_when_they_are_no_json() {
    let quakes = include_str!("../../../tests/data/earthquakes.ndjson");
    let mut rng = Rng::with_seed(2);
    let integrations = Integrations::compile(Vec::new()).unwrap();
    let mut scratch = Scratch::new(&integrations);
    let mut refused = 0;
    for line in quakes.lines() {
        let mut bytes = line.as_bytes().to_vec();
        for _ in 0..rng.u32(1..4) {
            let at = rng.usize(..bytes.len());
            match rng.u32(..3) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes[at] = *rng.choice(b"{}[]\",:\\0e").unwrap(),
                _ => drop(bytes.remove(at)),
            }
        }
        let valid = str::from_utf8(&bytes)
            .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        let read = read(&integrations, &mut scratch, &bytes, false);
        assert_eq!(read.is_ok(), valid, "{}", String::from_utf8_lossy(&bytes));
        refused += usize::from(!valid);
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn where_routing_stops_it_has_the_route_of_the_whole_message() {
    let configured = r#"[
        {"name":"blasts","match":[{"pointer":"/properties/type","in":["quarry blast","explosion"]}],
         "entity":"/properties/net","time":{"pointer":"/properties/time","format":"epoch-ms"}},
        {"name":"small","match":[{"pointer":"/properties/mag","exists":true},{"pointer":"/properties/felt","equals":1}],
         "entity":"/properties/net","time":{"pointer":"/properties/time","format":"epoch-ms"}},
        {"name":"quakes","match":[{"pointer":"/type","equals":"Feature"}],
         "entity":"/properties/net","time":{"pointer":"/properties/updated","format":"epoch-ms"},"required":["/properties/sig"]}]"#;
    let integrations = Integrations::compile(serde_json::from_str(configured).unwrap()).unwrap();
    let mut scratch = Scratch::new(&integrations);
    let arrival = Arrival { partition_key: b"key", arrived_at_ms: 42 };
    let quakes = include_str!("../../../tests/data/earthquakes.ndjson");
    let mut stopped = 0;
    for line in quakes.lines() {
        let early = route(&integrations, &mut scratch, line.as_bytes(), arrival).unwrap();
        let whole = route_as_read(&integrations, &mut scratch, line.as_bytes(), arrival, false);
        let whole = whole.unwrap();
        assert!(whole.is_whole);
        stopped += usize::from(!early.is_whole);
        assert_eq!(Route { is_whole: true, ..early }, whole, "{line}");
    }
    assert!(stopped > 1500, "{stopped}");
}
