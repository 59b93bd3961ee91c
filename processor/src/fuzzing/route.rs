//! The routing decoder, against a tree.

use std::borrow::Cow;
use std::sync::LazyLock;

use store::{DeadReason, Entity};

use super::aggregate::MAGIC;
use super::json::{Json, NoTree};
use super::{ARRIVED_AT_MS, PARTITION_KEY, event_of};
use crate::decode::{DecodeOptions, decode};
use crate::integration::{
    CloudEventAttribute, Condition, Field, FieldValue, Integration, Integrations, Pointer,
    parse_rfc3339_ms,
};

/// Every kind of condition and field, with pointers through each other.
const CONFIGURED: [&str; 6] = [
    r#"{"name":"blasts","match":[{"pointer":"/properties/type","in":["quarry blast","explosion",7,1.5,true]}],
        "entity":"/properties/net","time":{"pointer":"/properties/time","format":"epoch-ms"}}"#,
    r#"{"name":"quakes","match":[{"pointer":"/type","equals":"Feature"},{"pointer":"/type/0","exists":false}],
        "entity":"/properties/net","time":{"pointer":"/properties/time","format":"epoch-ms"},
        "required":["/id","/geometry/coordinates/2"],"max_message_bytes":2000}"#,
    r#"{"name":"flights","match":[{"pointer":"/origin","exists":true},{"pointer":"/delay","exists":true}],
        "entity":"/origin","time":{"pointer":"/date","format":"rfc3339"}}"#,
    r#"{"name":"shop","match":[{"cloud_event":"source","equals":"/shop"},{"cloud_event":"type","prefix":"com."}],
        "entity":"/data/id","required":["/data"],"time":{"pointer":"/time","format":"rfc3339"}}"#,
    r#"{"name":"typed","match":[{"cloud_event":"subject","exists":true}],"time":{"pointer":"/at","format":"epoch-s"}}"#,
    r#"{"name":"odd","match":[{"pointer":"/a~1b/~0/0","equals":1}],"entity":"/a~1b/~0/1","time":{"pointer":"/t","format":"epoch-s"}}"#,
];

/// Each of them first once: routing may stop where the first one that is left has all that it asks for.
static ORDERS: LazyLock<Vec<Integrations>> = LazyLock::new(|| {
    let read = |json: &&str| serde_json::from_str::<Integration>(json).unwrap();
    let order = |first| {
        let mut integrations: Vec<Integration> = CONFIGURED.iter().map(read).collect();
        integrations.rotate_left(first);
        Integrations::compile(integrations).unwrap()
    };
    (0..CONFIGURED.len()).map(order).collect()
});

/// The bytes are a message.
///
/// It gets the route, or is refused for the reason and under the integration, that a reader who first makes a tree of all of it comes to.
pub fn route(payload: &[u8]) {
    if payload.starts_with(&MAGIC) {
        return;
    }
    let json = str::from_utf8(payload).map(Json::parse);
    for integrations in ORDERS.iter() {
        let batch = decode(event_of(payload, u128::MAX), integrations, &DecodeOptions::default());
        let [entry] = batch.entries.as_slice() else { panic!("{:?}", batch.entries) };
        assert_eq!(batch.payload(entry), payload);
        let found = batch.route(entry).map_err(|bad| (bad.reason, bad.integration.clone()));
        let found = found.map(|route| (route.integration, route.entity.to_owned(), route.time_ms));
        let unread = |reason| Err((reason, CONFIGURED.len()));
        let wanted = match &json {
            _ if payload.is_empty() => unread(DeadReason::Empty),
            Err(_) => unread(DeadReason::InvalidUtf8),
            Ok(Err(NoTree::Broken)) => unread(DeadReason::NotJson),
            Ok(Ok(json)) => Message { integrations, json, bytes: payload.len() }.route(),
            Ok(Err(NoTree::Debatable)) => {
                assert!(!matches!(found, Err((DeadReason::NotJson, _))), "it is JSON all the same");
                continue;
            }
        };
        let name = |index: usize| integrations.get(index).name().clone();
        let wanted = wanted.map_err(|(reason, index)| (reason, name(index)));
        assert_eq!(found, wanted, "{}", String::from_utf8_lossy(payload));
    }
}

/// The integration's index, the entity and the time.
type Route = (usize, String, i64);

/// A reason, and the index of the integration whose it is.
type Refused = (DeadReason, usize);

struct Message<'a> {
    integrations: &'a Integrations,
    json: &'a Json<'a>,
    bytes: usize,
}

impl Message<'_> {
    fn route(&self) -> Result<Route, Refused> {
        let holds = |integration: &Integration| {
            integration.conditions.iter().all(|condition| self.holds(condition))
        };
        // The last one has no conditions.
        let index = self.integrations.iter().position(holds).unwrap();
        let integration = self.integrations.get(index);
        let refused = |reason| Err((reason, index));
        if self.bytes > integration.max_message_bytes() {
            return refused(DeadReason::TooLarge);
        }
        let there = |pointer| !matches!(self.at(pointer), None | Some(FieldValue::Null));
        if !integration.required().iter().all(there) {
            return refused(DeadReason::MissingField);
        }
        let entity = self.entity(integration).map_err(|reason| (reason, index))?;
        let time_ms = self.time_ms(integration).map_err(|reason| (reason, index))?;
        Ok((index, entity, time_ms))
    }

    fn holds(&self, condition: &Condition) -> bool {
        match &condition.field {
            Field::Pointer(pointer) => condition.test.holds(self.at(pointer).as_ref()),
            Field::CloudEvent(attribute) => {
                let name = match attribute {
                    CloudEventAttribute::Type => "type",
                    CloudEventAttribute::Source => "source",
                    CloudEventAttribute::Subject => "subject",
                };
                self.is_cloud_event() && condition.test.holds(self.member(name).as_ref())
            }
        }
    }

    fn is_cloud_event(&self) -> bool {
        matches!(self.member("specversion"), Some(FieldValue::String(_)))
    }

    fn entity(&self, integration: &Integration) -> Result<String, DeadReason> {
        let entity = |text: &str| match Entity::parse(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err(DeadReason::InvalidField),
        };
        if let Some(pointer) = integration.entity() {
            return match self.at(pointer) {
                None | Some(FieldValue::Null) => Err(DeadReason::MissingField),
                Some(FieldValue::String(text)) => entity(&text),
                Some(FieldValue::Number(text)) => entity(text),
                Some(_) => Err(DeadReason::InvalidField),
            };
        }
        match self.member("subject") {
            Some(FieldValue::String(subject)) if self.is_cloud_event() && !subject.is_empty() => {
                entity(&subject)
            }
            _ => entity(PARTITION_KEY),
        }
    }

    fn time_ms(&self, integration: &Integration) -> Result<i64, DeadReason> {
        if let Some(field) = integration.time()
            && let Some(value) = self.at(&field.pointer).filter(|value| *value != FieldValue::Null)
        {
            return field.format.parse(&value).map_err(|_| DeadReason::InvalidField);
        }
        Ok(match self.member("time") {
            Some(FieldValue::String(time)) if self.is_cloud_event() => {
                parse_rfc3339_ms(&time).unwrap_or(ARRIVED_AT_MS)
            }
            _ => ARRIVED_AT_MS,
        })
    }

    fn at(&self, pointer: &Pointer) -> Option<FieldValue<'_>> {
        let step = |at, token: &str| match at {
            json @ &Json::Object(_) => json.member(token),
            json => {
                let plain = token == "0" || !token.starts_with(['0', '+']);
                json.element(token.parse().ok().filter(|_| plain)?)
            }
        };
        pointer.tokens().try_fold(self.json, step).map(value)
    }

    fn member(&self, name: &str) -> Option<FieldValue<'_>> {
        self.json.member(name).map(value)
    }
}

fn value<'a>(json: &'a Json<'_>) -> FieldValue<'a> {
    match json {
        Json::String(text) => FieldValue::String(Cow::Borrowed(text)),
        Json::Array(_) => FieldValue::Array,
        Json::Object(_) => FieldValue::Object,
        Json::Plain("null") => FieldValue::Null,
        Json::Plain("true") => FieldValue::Bool(true),
        Json::Plain("false") => FieldValue::Bool(false),
        Json::Plain(number) => FieldValue::Number(number),
    }
}
