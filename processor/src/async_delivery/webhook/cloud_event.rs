//! Messages as CloudEvents 1.0: made of what is known of a message, or, where the message is a CloudEvent
//! already, that event as its producer wrote it. Pure.

use std::collections::BTreeMap;

use aws_smithy_types::date_time::{DateTime, Format};
use base64_simd::STANDARD;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use store::Message;

use super::percent::header_value;

/// Most bytes of the attributes of an event that is passed through: they become headers, which receivers limit.
const MAX_ATTRIBUTES_BYTES: usize = 8 * 1024;
/// What the members of an event's JSON that are no attributes are called.
const DATA: [&str; 2] = ["data", "data_base64"];

/// The headers and the body of an event in binary mode.
#[derive(Debug, PartialEq)]
pub(super) struct Binary {
    pub(super) content_type: Option<HeaderValue>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
}

/// A message that is no event itself, as one.
#[derive(Serialize)]
struct Made<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    r#type: String,
    subject: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    time: String,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    partitionkey: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    /// Instead of `data`, should the payload be no JSON after all: nothing is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// The event as one JSON document.
pub(super) fn structured(message: &Message) -> Result<Vec<u8>, serde_json::Error> {
    if Passed::read(&message.payload).is_some() {
        return Ok(message.payload.to_vec());
    }
    let data: Option<&RawValue> = serde_json::from_slice(&message.payload).ok();
    let made = Made {
        data,
        data_base64: data.is_none().then(|| STANDARD.encode_to_string(&message.payload)),
        ..Made::of(message)
    };
    serde_json::to_vec(&made)
}

/// The event with its attributes in headers; `None` if one of them cannot be a header.
pub(super) fn binary(message: &Message) -> Option<Binary> {
    if let Some(binary) = Passed::read(&message.payload).and_then(Passed::binary) {
        return Some(binary);
    }
    let made = Made::of(message);
    let attributes = [
        ("specversion", made.specversion),
        ("id", made.id),
        ("source", &made.source),
        ("type", &made.r#type),
        ("subject", made.subject),
        ("time", &made.time),
        ("partitionkey", made.partitionkey),
    ];
    let there = attributes.into_iter().filter(|(_, value)| !value.is_empty());
    Some(Binary {
        content_type: Some(HeaderValue::from_static(made.datacontenttype)),
        headers: there.map(|(name, value)| header(name, value)).collect::<Option<_>>()?,
        body: message.payload.to_vec(),
    })
}

impl<'a> Made<'a> {
    /// All but the data.
    fn of(message: &'a Message) -> Made<'a> {
        let time = DateTime::from_millis(message.time_ms);
        Made {
            specversion: "1.0",
            id: message.id.as_str(),
            // The API's path of what the message belongs to: the same wherever the API is.
            source: format!("/v1/integrations/{}", message.integration),
            r#type: format!("sluicegate.{}", message.integration),
            subject: message.entity.as_str(),
            // Left out for a year that has no such text.
            time: time.fmt(Format::DateTime).unwrap_or_default(),
            datacontenttype: "application/json",
            partitionkey: &message.partition_key,
            data: None,
            data_base64: None,
        }
    }
}

/// An event that the producer wrote.
struct Passed<'a> {
    attributes: Vec<(String, String)>,
    content_type: Option<String>,
    data: Option<&'a RawValue>,
    data_base64: Option<Vec<u8>>,
}

impl<'a> Passed<'a> {
    /// `None` if the payload is not, by the letter, a CloudEvent 1.0 in JSON: it is data like any other then.
    fn read(payload: &'a [u8]) -> Option<Passed<'a>> {
        let mut members: BTreeMap<String, &'a RawValue> = serde_json::from_slice(payload).ok()?;
        let [data, data_base64] = DATA.map(|name| members.remove(name));
        let data = data.filter(|data| data.get() != "null");
        let data_base64 = match data_base64.filter(|data| data.get() != "null") {
            Some(raw) => {
                let text: String = serde_json::from_str(raw.get()).ok()?;
                Some(STANDARD.decode_to_vec(text).ok()?)
            }
            None => None,
        };
        let mut attributes = Vec::new();
        for (name, raw) in members {
            if let Some(value) = attribute(&name, raw)? {
                attributes.push((name, value));
            }
        }
        let bytes: usize = attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        let value = |wanted: &str| {
            attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        let required = ["id", "source", "type"].iter().all(|name| value(name).is_some());
        let whole = value("specversion") == Some("1.0")
            && required
            && bytes <= MAX_ATTRIBUTES_BYTES
            && !(data.is_some() && data_base64.is_some());
        let content_type = value("datacontenttype").map(str::to_owned);
        attributes.retain(|(name, _)| name != "datacontenttype");
        whole.then_some(Passed { attributes, content_type, data, data_base64 })
    }

    fn binary(self) -> Option<Binary> {
        let is_json = self.content_type.as_deref().is_none_or(is_json);
        let body = match (self.data, self.data_base64) {
            (Some(raw), _) => match serde_json::from_str(raw.get()) {
                // What is no JSON stands in the event as a string (JSON format 3.1.1).
                Ok(Value::String(text)) if !is_json => text.into_bytes(),
                _ => raw.get().as_bytes().to_vec(),
            },
            (None, Some(bytes)) => bytes,
            (None, None) => Vec::new(),
        };
        let content_type = match &self.content_type {
            Some(text) => Some(HeaderValue::from_str(text).ok()?),
            None => self.data.map(|_| HeaderValue::from_static("application/json")),
        };
        let attributes = self.attributes.iter();
        let headers = attributes.map(|(name, value)| header(name, value)).collect::<Option<_>>()?;
        Some(Binary { content_type, headers, body })
    }
}

/// The attribute as text; `Some(None)` if it is absent, `None` if it cannot be one.
fn attribute(name: &str, raw: &RawValue) -> Option<Option<String>> {
    let named = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let value = match serde_json::from_str(raw.get()).ok()? {
        Value::Null => return named.then_some(None),
        Value::String(text) if !text.is_empty() => text,
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) if number.is_i64() => number.to_string(),
        _ => return None,
    };
    named.then_some(Some(value))
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(format!("ce-{name}").as_bytes()).ok()?;
    Some((name, HeaderValue::from_str(&header_value(value)).ok()?))
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

#[cfg(test)]
#[path = "cloud_event_tests.rs"]
mod tests;
