//! Patterns and messages of any bytes: a pattern is answered as a plain and slow reader of the same two texts
//! answers it, singly and in a set.
//!
//! `processor/fuzz` calls [`filter`] with what libFuzzer thinks of, the tests with its corpus and with what
//! a seed draws. Nothing else is built with this.
// A panic is how a fuzz target says what it found.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Answers, Pattern, PatternSet, Reader};

/// The first line is a pattern, the rest is a message.
pub fn filter(input: &[u8]) {
    let (pattern, message) = match input.iter().position(|b| *b == b'\n') {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, &b"{}"[..]),
    };
    let Ok(text) = str::from_utf8(pattern) else { return };
    let Ok(pattern) = Pattern::parse(text) else { return };
    assert_eq!(Pattern::parse(pattern.as_json()).as_ref(), Ok(&pattern));
    let mut reader = Reader::default();
    let Ok(document) = reader.read(message) else { return };
    let found = pattern.matches(&document);
    let mut together = Vec::new();
    let others = [r#"{"a":["x"]}"#, r#"{"a":[1],"b":[2]}"#, text];
    let set = PatternSet::new((0..).zip(others.map(|text| Pattern::parse(text).unwrap())));
    set.matching(&document, &mut Answers::default(), &mut together);
    assert_eq!(together.contains(&2), found, "in a set");
    let message = str::from_utf8(message).expect("what has a document is UTF-8");
    if let Some(wanted) = plainly(text, message) {
        assert_eq!(found, wanted, "{text} about {message}");
    }
}

/// A JSON document as a plain tree, with numbers as they are written.
enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// Whether the message is one that the pattern describes. `None` if one of them is too deep to tell.
pub(super) fn plainly(pattern: &str, message: &str) -> Option<bool> {
    let read = |text| tree(serde_json::from_str(text).expect("it was read before"), 100);
    let (Json::Object(pattern), root) = (read(pattern)?, read(message)?) else { return None };
    Some(Plainly { root: &root }.object(&pattern, Some(&root), &mut Vec::new()))
}

/// Of a key that comes twice the last one stays.
fn tree(raw: &RawValue, depth: usize) -> Option<Json> {
    let below = depth.checked_sub(1)?;
    let text = raw.get();
    Some(match text.as_bytes()[0] {
        b'n' => Json::Null,
        b't' => Json::Bool(true),
        b'f' => Json::Bool(false),
        b'"' => Json::Text(serde_json::from_str(text).ok()?),
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            Json::Array(elements.into_iter().map(|e| tree(e, below)).collect::<Option<_>>()?)
        }
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let members = members.into_iter().map(|(key, value)| Some((key, tree(value, below)?)));
            Json::Object(members.collect::<Option<_>>()?)
        }
        _ => Json::Number(text.to_owned()),
    })
}

struct Plainly<'a> {
    root: &'a Json,
}

impl Plainly<'_> {
    fn object<'p>(
        &self,
        pattern: &'p BTreeMap<String, Json>,
        at: Option<&Json>,
        path: &mut Vec<&'p str>,
    ) -> bool {
        let mut values = Vec::new();
        at.into_iter().for_each(|at| spread(at, &mut values));
        values.retain(|value| matches!(value, Json::Object(_)));
        let objects = values.into_iter().map(Some);
        let mut objects: Vec<Option<&Json>> = objects.collect();
        if objects.is_empty() {
            objects.push(None);
        }
        objects.into_iter().any(|object| self.one(pattern, object, path))
    }

    fn one<'p>(
        &self,
        pattern: &'p BTreeMap<String, Json>,
        object: Option<&Json>,
        path: &mut Vec<&'p str>,
    ) -> bool {
        pattern.iter().all(|(name, asked)| {
            let value = object.and_then(|object| member(object, name));
            match asked {
                Json::Array(patterns) if name == "$or" => patterns.iter().any(|or| match or {
                    Json::Object(or) => self.one(or, object, path),
                    _ => unreachable!("it is a pattern"),
                }),
                Json::Array(alternatives) => {
                    path.push(name);
                    let holds = alternatives.iter().any(|a| self.alternative(a, value, path));
                    path.pop();
                    holds
                }
                Json::Object(inner) => {
                    path.push(name);
                    let holds = self.object(inner, value, path);
                    path.pop();
                    holds
                }
                _ => unreachable!("it is a pattern"),
            }
        })
    }

    fn alternative(&self, alternative: &Json, value: Option<&Json>, path: &[&str]) -> bool {
        let mut values = Vec::new();
        value.into_iter().for_each(|value| spread(value, &mut values));
        values.retain(|value| !matches!(value, Json::Object(_)));
        let Json::Object(operator) = alternative else {
            return values.into_iter().any(|value| equal(value, alternative));
        };
        let (name, operand) = operator.iter().next().expect("one operator");
        if let ("exists", Json::Bool(false)) = (name.as_str(), operand) {
            let mut all = Vec::new();
            paths(self.root, &mut Vec::new(), &mut all);
            return !all.iter().any(|found| found == path);
        }
        values.into_iter().any(|value| holds(name, operand, value))
    }
}

fn holds(operator: &str, operand: &Json, value: &Json) -> bool {
    let text = match value {
        Json::Text(text) => Some(text.as_str()),
        _ => None,
    };
    match (operator, operand) {
        ("exists", _) => true,
        ("prefix", Json::Text(prefix)) => text.is_some_and(|t| t.starts_with(prefix.as_str())),
        ("suffix", Json::Text(suffix)) => text.is_some_and(|t| t.ends_with(suffix.as_str())),
        ("equals-ignore-case", Json::Text(wanted)) => {
            text.is_some_and(|t| lowered(t) == lowered(wanted))
        }
        ("prefix" | "suffix", Json::Object(ignoring)) => {
            let Some(Json::Text(wanted)) = ignoring.get("equals-ignore-case") else { return false };
            let (text, wanted) = (text.map(lowered), lowered(wanted));
            text.is_some_and(|t| match operator {
                "prefix" => t.starts_with(&wanted),
                _ => t.ends_with(&wanted),
            })
        }
        ("wildcard", Json::Text(wildcard)) => {
            let wildcard: Vec<char> = wildcard.chars().collect();
            text.is_some_and(|t| matches_wildcard(&wildcard, &t.chars().collect::<Vec<_>>()))
        }
        ("numeric", Json::Array(parts)) => parts.chunks(2).all(|pair| match (pair, value) {
            ([Json::Text(sign), Json::Number(bound)], Json::Number(number)) => {
                let order = compare(number, bound);
                match order {
                    Ordering::Less => sign.starts_with('<'),
                    Ordering::Equal => sign.ends_with('='),
                    Ordering::Greater => sign.starts_with('>'),
                }
            }
            _ => false,
        }),
        ("anything-but", Json::Array(values)) => !values.iter().any(|v| equal(v, value)),
        ("anything-but", Json::Object(tests)) => !tests.iter().any(|(name, texts)| match texts {
            Json::Array(texts) => texts.iter().any(|text| holds(name, text, value)),
            text => holds(name, text, value),
        }),
        ("anything-but", one) => !equal(one, value),
        _ => unreachable!("it is an operator"),
    }
}

fn lowered(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// By trying every way: short texts only.
fn matches_wildcard(wildcard: &[char], text: &[char]) -> bool {
    match wildcard {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|n| matches_wildcard(rest, &text[n..])),
        ['\\', literal, rest @ ..] | [literal, rest @ ..] => {
            text.first() == Some(literal) && matches_wildcard(rest, &text[1..])
        }
    }
}

fn equal(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Null, Json::Null) => true,
        (Json::Bool(one), Json::Bool(other)) => one == other,
        (Json::Text(one), Json::Text(other)) => one == other,
        (Json::Number(one), Json::Number(other)) => compare(one, other) == Ordering::Equal,
        _ => false,
    }
}

fn compare(one: &str, other: &str) -> Ordering {
    let integer = |text: &str| match (text.parse::<i64>(), text.parse::<u64>()) {
        (Ok(integer), _) => Some(i128::from(integer)),
        (_, Ok(integer)) => Some(i128::from(integer)),
        _ => None,
    };
    let double = |text: &str| text.parse::<f64>().unwrap();
    let mixed = |integer: i128, double: f64| {
        let below = double.floor();
        let rest = if double > below { Ordering::Less } else { Ordering::Equal };
        integer.cmp(&(below as i128)).then(rest)
    };
    match (integer(one), integer(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        (Some(one), None) => mixed(one, double(other)),
        (None, Some(other)) => mixed(other, double(one)).reverse(),
        (None, None) => double(one).partial_cmp(&double(other)).unwrap(),
    }
}

fn spread<'j>(value: &'j Json, values: &mut Vec<&'j Json>) {
    match value {
        Json::Array(elements) => elements.iter().for_each(|element| spread(element, values)),
        value => values.push(value),
    }
}

fn member<'j>(value: &'j Json, name: &str) -> Option<&'j Json> {
    match value {
        Json::Object(members) => members.get(name),
        _ => None,
    }
}

/// The paths of all values.
fn paths<'j>(value: &'j Json, at: &mut Vec<&'j str>, all: &mut Vec<Vec<&'j str>>) {
    match value {
        Json::Array(elements) => elements.iter().for_each(|element| paths(element, at, all)),
        Json::Object(members) => {
            for (name, value) in members {
                at.push(name);
                paths(value, at, all);
                at.pop();
            }
        }
        _ => all.push(at.clone()),
    }
}
