//! The modelled DynamoDB: it evaluates the very condition and update texts that production sends, on one item.
//!
//! It knows the terms that `change.rs` writes and panics on any other, so that a new kind of term cannot pass unnoticed.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::change::Write;
use crate::item::{Item, LEASE_KEY};

/// True if the write's condition holds for the item (empty: there is none).
pub(super) fn holds(write: &Write, item: &Item) -> bool {
    let terms = write.condition.split(" AND ").filter(|term| !term.is_empty());
    let holds = |term: &str| {
        let attribute = |name: &str| item.get(resolve(&write.names, name));
        let argument = |function| term.strip_prefix(function)?.strip_suffix(')');
        if let Some(name) = argument("attribute_not_exists(") {
            return attribute(name).is_none();
        }
        if let Some(name) = argument("attribute_exists(") {
            return attribute(name).is_some();
        }
        let (name, value) = term.split_once(" = ").expect("a term that the model knows");
        attribute(name) == Some(resolve(&write.values, value))
    };
    terms.map(holds).collect::<Vec<_>>().into_iter().all(|held| held)
}

/// The item after the write's update.
pub(super) fn updated(write: &Write, item: &Item) -> Item {
    let mut item = item.clone();
    let key = AttributeValue::S(write.key.as_str().to_owned());
    item.insert(LEASE_KEY.to_owned(), key);
    let (sets, removes) = write.update.split_once(" REMOVE ").unwrap_or((&write.update, ""));
    let sets = sets.strip_prefix("SET ").expect("an update that sets");
    for set in sets.split(", ") {
        let (name, value) = set.split_once(" = ").expect("a plain assignment");
        let value = resolve(&write.values, value).clone();
        item.insert(resolve(&write.names, name).clone(), value);
    }
    for name in removes.split(", ").filter(|name| !name.is_empty()) {
        item.remove(resolve(&write.names, name));
    }
    item
}

fn resolve<'a, V>(placeholders: &'a HashMap<String, V>, placeholder: &str) -> &'a V {
    placeholders.get(placeholder).expect("every placeholder is defined")
}
