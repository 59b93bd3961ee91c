//! What crosses the wire, for those who watch it: items as the client has them, and a hash over everything.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use local_aws::{Seen, Traced};
use serde_json::Value;

/// An item as the SDK would give it.
pub fn item(json: &Value) -> BTreeMap<String, AttributeValue> {
    let fields = json.as_object().expect("an item");
    fields.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

fn attribute(json: &Value) -> AttributeValue {
    let (kind, value) = json.as_object().and_then(|tagged| tagged.iter().next()).expect("a value");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let texts = |value: &Value| value.as_array().expect("a set").iter().map(text).collect();
    match kind.as_str() {
        "S" => AttributeValue::S(text(value)),
        "N" => AttributeValue::N(text(value)),
        "B" => AttributeValue::B(Blob::new(bytes(value))),
        "BOOL" => AttributeValue::Bool(value == true),
        "NULL" => AttributeValue::Null(true),
        "SS" => AttributeValue::Ss(texts(value)),
        "NS" => AttributeValue::Ns(texts(value)),
        "L" => AttributeValue::L(value.as_array().expect("a list").iter().map(attribute).collect()),
        "M" => AttributeValue::M(item(value).into_iter().collect()),
        other => panic!("an attribute of type {other}"),
    }
}

/// The bytes of a `B` attribute's text.
pub fn bytes(value: &Value) -> Vec<u8> {
    aws_smithy_types::base64::decode(value.as_str().expect("text")).expect("base64")
}

/// A hash over the whole wire: two runs with the same hash were the same run.
#[derive(Default)]
pub struct Trace {
    hasher: DefaultHasher,
    /// The hash after each event, and what that was.
    events: Vec<(u64, String)>,
}

impl Trace {
    pub fn add(&mut self, at: Duration, traced: &Traced<'_>) {
        let hasher = &mut self.hasher;
        let shown = match &traced.seen {
            Seen::Called => traced.request,
            Seen::Answered { body, .. } => body,
            Seen::Frame(bytes) => bytes,
            Seen::Cut => &b"cut"[..],
            // They follow from the calls.
            Seen::Wrote { .. } | Seen::Deleted { .. } => return,
        };
        (at, traced.caller, traced.service, traced.operation).hash(hasher);
        canonical(shown, hasher);
        let Traced { caller, operation, .. } = traced;
        let shown = String::from_utf8_lossy(shown);
        self.events.push((hasher.finish(), format!("{at:?} {caller} {operation} {shown}")));
    }

    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The first event at which two runs differ, as both saw it.
    pub fn fork<'a>(&'a self, other: &'a Trace) -> Option<(usize, [&'a str; 2])> {
        let mut pairs = self.events.iter().zip(&other.events).enumerate();
        let (index, (mine, theirs)) = pairs.find(|(_, (mine, theirs))| mine.0 != theirs.0)?;
        Some((index, [&mine.1, &theirs.1]))
    }
}

/// The wire of a seed that failed, where that was asked for.
impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.events.iter().for_each(|(_, event)| eprintln!("wire {event}"));
        }
    }
}

/// What libraries draw or date by themselves: tokens of the SDK, identities of the tables that hold everything.
const MASKED: [&str; 3] = ["ClientRequestToken", "CreationDateTime", "TableId"];

/// Maps and sets come in any order: it makes no difference.
fn canonical(body: &[u8], hasher: &mut impl Hasher) {
    match serde_json::from_slice::<Value>(body) {
        Ok(json) => canonical_json(&json, hasher),
        Err(_) => body.hash(hasher),
    }
}

fn canonical_json(json: &Value, hasher: &mut impl Hasher) {
    match json {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in fields {
                if MASKED.contains(&name.as_str()) {
                    continue;
                }
                name.hash(hasher);
                match (name.as_str(), value) {
                    ("SS" | "NS", Value::Array(set)) => {
                        let mut set: Vec<_> = set.iter().filter_map(Value::as_str).collect();
                        set.sort_unstable();
                        set.hash(hasher);
                    }
                    _ => canonical_json(value, hasher),
                }
            }
        }
        Value::Array(values) => {
            values.len().hash(hasher);
            values.iter().for_each(|value| canonical_json(value, hasher));
        }
        other => other.to_string().hash(hasher),
    }
}
