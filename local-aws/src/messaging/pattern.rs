//! Which events a rule wants: exact values and prefixes, at any depth. Pure.

use serde_json::Value;

/// Every field of the pattern has one of its values in the event; a list in the event is every one of its members.
pub(super) fn matches(pattern: &Value, event: &Value) -> bool {
    match pattern {
        Value::Object(fields) => fields
            .iter()
            .all(|(name, wanted)| matches(wanted, event.get(name).unwrap_or(&Value::Null))),
        Value::Array(wanted) => match event {
            Value::Array(found) => found.iter().any(|found| is_one_of(wanted, found)),
            found => is_one_of(wanted, found),
        },
        _ => false,
    }
}

fn is_one_of(wanted: &[Value], found: &Value) -> bool {
    wanted.iter().any(|wanted| match wanted.get("prefix").and_then(Value::as_str) {
        Some(prefix) => found.as_str().is_some_and(|text| text.starts_with(prefix)),
        None => wanted == found,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_must_have_one_of_its_values() {
        let event = json!({ "source": "a/b", "resources": ["x", "y"], "detail": { "n": 1 } });
        for (pattern, expected) in [
            (json!({ "source": ["a/b"] }), true),
            (json!({ "source": ["c", { "prefix": "a/" }] }), true),
            (json!({ "source": [{ "prefix": "b" }] }), false),
            (json!({ "resources": ["y"], "detail": { "n": [1, 2] } }), true),
            (json!({ "resources": ["y"], "detail": { "n": [2] } }), false),
            (json!({ "missing": ["y"] }), false),
            (json!({}), true),
        ] {
            assert_eq!(matches(&pattern, &event), expected, "{pattern}");
        }
    }
}
