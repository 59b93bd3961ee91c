//! A JSON document as a plain tree, to compare with: members stay in order and numbers stay as they are written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What is nested deeper is not compared.
const MAX_DEPTH: usize = 40;

pub(crate) enum Json<'a> {
    /// A string without its escapes.
    String(String),
    /// Anything else that holds nothing: as it is written.
    Plain(&'a str),
    Array(Vec<Json<'a>>),
    Object(Vec<(String, Json<'a>)>),
}

/// Why there is no tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTree {
    /// It is no JSON.
    Broken,
    /// It is JSON that readers may understand in different ways: deep, with half a surrogate pair, or a key that comes twice.
    Debatable,
}

impl<'a> Json<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Json<'a>, NoTree> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| NoTree::Broken)?;
        tree(raw.get(), MAX_DEPTH)
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Json<'a>> {
        let Json::Object(members) = self else { return None };
        members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(crate) fn element(&self, index: usize) -> Option<&Json<'a>> {
        let Json::Array(elements) = self else { return None };
        elements.get(index)
    }
}

/// `raw` is one valid document.
fn tree(raw: &str, depth: usize) -> Result<Json<'_>, NoTree> {
    let below = depth.checked_sub(1).ok_or(NoTree::Debatable)?;
    match raw.as_bytes()[0] {
        b'"' => serde_json::from_str(raw).map(Json::String).map_err(|_| NoTree::Debatable),
        b'[' => {
            let elements: Vec<&RawValue> =
                serde_json::from_str(raw).map_err(|_| NoTree::Debatable)?;
            elements
                .into_iter()
                .map(|e| tree(e.get(), below))
                .collect::<Result<_, _>>()
                .map(Json::Array)
        }
        b'{' => {
            let Members(members) = serde_json::from_str(raw).map_err(|_| NoTree::Debatable)?;
            let mut keys: Vec<&String> = members.iter().map(|(key, _)| key).collect();
            keys.sort_unstable();
            if keys.windows(2).any(|two| two[0] == two[1]) {
                return Err(NoTree::Debatable);
            }
            let members = members.into_iter();
            let members = members.map(|(key, value)| Ok((key, tree(value.get(), below)?)));
            members.collect::<Result<_, _>>().map(Json::Object)
        }
        _ => Ok(Json::Plain(raw)),
    }
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        json.deserialize_map(InOrder)
    }
}
