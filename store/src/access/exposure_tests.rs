//! What grants with row filters and field masks let be seen.

use super::*;
use crate::access::{ClientId, FieldMaskError, GrantScope, MAX_MASK_FIELDS};
use crate::pattern::Pattern;

const ACTIONS: [Action; 2] = [Action::Read, Action::Subscribe];

fn client(grants: Vec<Grant>) -> Client {
    Client {
        id: ClientId::parse("c").unwrap(),
        name: "c".to_owned(),
        grants,
        limits: None,
        enabled: true,
        created_at_ms: 0,
        version: 0,
    }
}

fn grant(filter: Option<&str>, fields: &[&str]) -> Grant {
    Grant {
        filter: filter.map(|json| Pattern::parse(json).unwrap()),
        fields: (!fields.is_empty()).then(|| FieldMask::new(fields).unwrap()),
        ..Grant::new(GrantScope::All, Action::Read)
    }
}

fn seen(who: &Client, action: Action, payload: &str) -> Option<String> {
    let integration = IntegrationName::parse("quakes").unwrap();
    let entity = Entity::parse("ci").unwrap();
    let mut reader = Reader::default();
    match who.exposure(action, &integration, &entity, payload.as_bytes(), &mut reader) {
        Exposure::Hidden => None,
        Exposure::Whole => Some(payload.to_owned()),
        Exposure::Fields(mask) => {
            mask.apply(payload.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
        }
    }
}

fn masked(fields: &[&str], payload: &str) -> Option<String> {
    seen(&client(vec![grant(None, fields)]), Action::Read, payload)
}

#[test]
fn a_mask_copies_what_it_shows_byte_for_byte() {
    let message =
        r#"{ "a": 1.50, "b": {"c": "\u00e9", "d": [1, {"e": 1e2, "f": 0}] }, "g/h~": null }"#;
    let cases: [(&[&str], &str); 8] = [
        (&["/a"], r#"{"a":1.50}"#),
        (&["/b/c"], r#"{"b":{"c":"\u00e9"}}"#),
        (&["/b/d/e"], r#"{"b":{"d":[{"e":1e2}]}}"#),
        (&["/b"], r#"{"b":{"c": "\u00e9", "d": [1, {"e": 1e2, "f": 0}] }}"#),
        (&["/b/c", "/b", "/b/d/e"], r#"{"b":{"c": "\u00e9", "d": [1, {"e": 1e2, "f": 0}] }}"#),
        (&["/g~1h~0"], r#"{"g/h~":null}"#),
        (&["/a/x", "/none", "/b/d/0"], r#"{"b":{"d":[{}]}}"#),
        (&["/g~1h~0", "/a"], r#"{"a":1.50,"g/h~":null}"#),
    ];
    for (fields, expected) in cases {
        assert_eq!(masked(fields, message).as_deref(), Some(expected), "{fields:?}");
    }
}

#[test]
fn a_name_is_compared_as_it_reads_and_a_second_one_is_no_way_around() {
    assert_eq!(masked(&["/a"], r#"{"\u0061":1,"b":2}"#).as_deref(), Some(r#"{"\u0061":1}"#));
    assert_eq!(masked(&["/a"], r#"{"a":1,"b":2,"a":3}"#).as_deref(), Some(r#"{"a":1,"a":3}"#));
    assert_eq!(masked(&["/a/b"], r#"{"a":{"b":1},"a":2}"#).as_deref(), Some(r#"{"a":{"b":1}}"#));
}

#[test]
fn of_what_is_no_object_a_mask_shows_nothing() {
    for message in
        ["17", "\"text\"", "null", "", "{", "{\"a\":1", "\u{feff}{\"a\":1}", "{\"a\":1} x"]
    {
        assert_eq!(masked(&["/a"], message), None, "{message}");
    }
    assert_eq!(masked(&["/a"], "[1,{\"a\":1,\"b\":2}]").as_deref(), Some("[{\"a\":1}]"));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(masked(&["/a"], &deep).is_none_or(|shown| shown.len() < 40));
}

#[test]
fn a_mask_says_what_is_no_field() {
    let none: [&str; 0] = [];
    assert_eq!(FieldMask::new(&none), Err(FieldMaskError::Count { found: 0 }));
    for bad in ["", "a", "/a~2", "/a~", "/a/b~x"] {
        let refused = FieldMask::new(&[bad]);
        assert!(matches!(refused, Err(FieldMaskError::Pointer(_))), "{bad}: {refused:?}");
    }
    assert!(FieldMask::new(&vec!["/a"; MAX_MASK_FIELDS + 1]).is_err());
    assert!(FieldMask::new(&["/a".repeat(33)]).is_err());
    let parsed: FieldMask = serde_json::from_str("[\"/a\",\"/b/c\"]").unwrap();
    assert_eq!(serde_json::to_string(&parsed).unwrap(), "[\"/a\",\"/b/c\"]");
    assert!(serde_json::from_str::<FieldMask>("[]").is_err());
}

#[test]
fn a_filter_shows_the_messages_that_it_describes() {
    let who = client(vec![grant(Some(r#"{"kind":["public"]}"#), &[])]);
    for action in ACTIONS {
        let mut who = who.clone();
        who.grants[0].action = action;
        assert!(seen(&who, action, r#"{"kind":"public","n":1}"#).is_some());
        assert_eq!(seen(&who, action, r#"{"kind":"secret","n":1}"#), None);
        assert_eq!(seen(&who, action, r#"{"n":1}"#), None);
        assert_eq!(seen(&who, action, "no json"), None, "what cannot be read is withheld");
    }
    assert_eq!(seen(&who, Action::Subscribe, r#"{"kind":"public"}"#), None);
    let off = Client { enabled: false, ..who };
    assert_eq!(seen(&off, Action::Read, r#"{"kind":"public"}"#), None);
}

#[test]
fn grants_add_up_and_each_shows_its_fields_of_its_messages_alone() {
    let who = client(vec![
        grant(Some(r#"{"kind":["public"]}"#), &["/kind", "/n"]),
        grant(Some(r#"{"n":[1]}"#), &["/m"]),
        grant(Some(r#"{"open":[true]}"#), &[]),
    ]);
    let cases = [
        (r#"{"kind":"public","n":1,"m":2,"x":3}"#, Some(r#"{"kind":"public","n":1,"m":2}"#)),
        (r#"{"kind":"public","n":2,"m":2,"x":3}"#, Some(r#"{"kind":"public","n":2}"#)),
        (r#"{"kind":"secret","n":1,"m":2}"#, Some(r#"{"m":2}"#)),
        (r#"{"kind":"secret","n":2,"m":2}"#, None),
        (r#"{"kind":"secret","open":true}"#, Some(r#"{"kind":"secret","open":true}"#)),
    ];
    for (message, expected) in cases {
        assert_eq!(seen(&who, Action::Read, message).as_deref(), expected, "{message}");
    }
    let whole = client(vec![grant(None, &["/a"]), grant(None, &[])]);
    assert_eq!(seen(&whole, Action::Read, "no json").as_deref(), Some("no json"));
}

/// A1: whatever the message and the grants, nothing is shown that no grant shows.
#[test]
fn no_drawn_message_shows_a_field_outside_its_mask() {
    let mut rng = fastrand::Rng::with_seed(7);
    let names = ["a", "b", "c"];
    for _ in 0..2_000 {
        let message = drawn(&mut rng, 0);
        let fields: Vec<String> = (0..rng.usize(1..4))
            .map(|_| {
                (0..rng.usize(1..4)).map(|_| format!("/{}", rng.choice(names).unwrap())).collect()
            })
            .collect();
        let mask = FieldMask::new(&fields).unwrap();
        let Some(shown) = mask.apply(message.to_string().as_bytes()) else { continue };
        let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
        let allowed = leaves(&message, "").into_iter().filter(|(path, _)| {
            fields.iter().any(|f| path == f || path.starts_with(&format!("{f}/")))
        });
        let allowed: Vec<_> = allowed.filter(|(_, leaf)| !leaf.is_empty()).collect();
        let found: Vec<_> = leaves(&shown, "").into_iter().filter(|(_, l)| !l.is_empty()).collect();
        assert_eq!(found, allowed, "{fields:?} of {message}");
    }
}

/// A message of objects, arrays and numbers.
fn drawn(rng: &mut fastrand::Rng, depth: u32) -> serde_json::Value {
    match rng.u32(0..if depth == 0 { 1 } else { 4 }) {
        0 if depth < 4 => ["a", "b", "c"]
            .into_iter()
            .map(|name| (name.to_owned(), drawn(rng, depth + 1)))
            .collect(),
        1 if depth < 4 => (0..rng.usize(0..3)).map(|_| drawn(rng, depth + 1)).collect(),
        _ => rng.u32(..).into(),
    }
}

/// Every scalar with its path, arrays passed through; containers count as empty leaves.
fn leaves(value: &serde_json::Value, path: &str) -> Vec<(String, String)> {
    use serde_json::Value;
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| leaves(value, &format!("{path}/{name}")))
            .collect(),
        Value::Array(elements) => elements.iter().flat_map(|e| leaves(e, path)).collect(),
        scalar => vec![(path.to_owned(), scalar.to_string())],
    }
}
