//! One look into a message: its integration, its entity and its time.
//!
//! The message is walked once ([`super::walk`]); what the configured pointers found is compared and
//! read here. What comes out as a [`Route`] is one valid JSON document in UTF-8.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use store::{DeadReason, Entity};

use super::walk::{Stretch, walk};
use crate::batch::Malformed;
use crate::integration::{
    FieldValue, Integration, Integrations, Pointer, Rule, SlotId, Tree, parse_rfc3339_ms,
};
use crate::json::Scanner;

/// What the stream says about a record, for the defaults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) partition_key: &'a str,
    pub(crate) arrived_at_ms: i64,
}

/// Where a message belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// Index into the compiled integrations.
    pub(crate) integration: usize,
    pub(crate) entity: EntityAt,
    pub(crate) time_ms: i64,
}

/// Where a message's entity stands; within the limits of [`Entity`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntityAt {
    /// In this range of the payload, as it is.
    Payload(Range<usize>),
    /// It is the record's partition key.
    PartitionKey,
    /// In the payload, written with escapes.
    Escaped(String),
}

/// What a walk writes into; made once for many messages.
#[derive(Debug)]
pub(crate) struct Scratch {
    found: Vec<Option<Stretch>>,
}

impl Scratch {
    pub(crate) fn new(integrations: &Integrations) -> Scratch {
        Scratch { found: vec![None; integrations.tree().slots()] }
    }
}

/// Finds a user record's route, or why it is not a message.
pub(crate) fn route(
    integrations: &Integrations,
    scratch: &mut Scratch,
    payload: &[u8],
    arrival: Arrival<'_>,
) -> Result<Route, Malformed> {
    let text = read(integrations.tree(), scratch, payload).map_err(|(reason, detail)| {
        let integration = integrations.default_integration().name().clone();
        Malformed { reason, detail, integration }
    })?;
    let message = Message { text, found: &scratch.found };
    let is_cloud_event = matches!(
        message.value(integrations.cloud_event().specversion),
        Some(FieldValue::String(_))
    );
    let index = matching(integrations.rules(), &message, is_cloud_event);
    let integration = integrations.get(index);
    let found = Found { integrations, integration, index, message, is_cloud_event, arrival };
    found.route().map_err(|(reason, detail)| Malformed {
        reason,
        detail,
        integration: integration.name().clone(),
    })
}

/// A reason and its words.
type Defect = (DeadReason, String);

/// Reads the whole message; the values asked for are in `scratch` afterwards.
fn read<'a>(tree: &Tree, scratch: &mut Scratch, payload: &'a [u8]) -> Result<&'a str, Defect> {
    if payload.is_empty() {
        return Err((DeadReason::Empty, "the record has no bytes".to_owned()));
    }
    let text = str::from_utf8(payload).map_err(|e| {
        let at = e.valid_up_to();
        (DeadReason::InvalidUtf8, format!("not UTF-8: byte {at} is 0x{:02x}", payload[at]))
    })?;
    walk(tree, payload, &mut scratch.found).map_err(|broken| {
        let detail = format!("not one JSON document: {}", broken.describe(payload));
        (DeadReason::NotJson, detail)
    })?;
    Ok(text)
}

/// The first integration whose conditions all hold; the last one has none.
fn matching(rules: &[Rule], message: &Message<'_>, is_cloud_event: bool) -> usize {
    let holds = |rule: &Rule| {
        (is_cloud_event || !rule.only_cloud_events)
            && rule.conditions.iter().all(|(slot, test)| test.holds(message.value(*slot).as_ref()))
    };
    rules.iter().position(holds).unwrap_or(rules.len() - 1)
}

/// A message that was read, and what was found in it.
struct Message<'a> {
    text: &'a str,
    found: &'a [Option<Stretch>],
}

impl<'a> Message<'a> {
    fn value(&self, slot: SlotId) -> Option<FieldValue<'a>> {
        let raw = &self.text[self.found[slot.0]?.range()];
        Some(match raw.as_bytes()[0] {
            b'"' => FieldValue::String(unquoted(raw)),
            b'{' => FieldValue::Object,
            b'[' => FieldValue::Array,
            b't' => FieldValue::Bool(true),
            b'f' => FieldValue::Bool(false),
            b'n' => FieldValue::Null,
            _ => FieldValue::Number(raw),
        })
    }
}

/// The content of a JSON string. Half a surrogate pair, which is JSON and not Unicode, stays as
/// it is written.
fn unquoted(raw: &str) -> Cow<'_, str> {
    let inside = &raw[1..raw.len() - 1];
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    let text = Scanner::new(raw.as_bytes()).string().ok();
    let meaning = text.and_then(|text| text.meaning().map(Cow::into_owned));
    meaning.map_or(Cow::Borrowed(inside), Cow::Owned)
}

/// A message whose integration is known.
struct Found<'a> {
    integrations: &'a Integrations,
    integration: &'a Integration,
    index: usize,
    message: Message<'a>,
    is_cloud_event: bool,
    arrival: Arrival<'a>,
}

impl Found<'_> {
    fn route(&self) -> Result<Route, Defect> {
        self.check_size()?;
        self.check_required()?;
        Ok(Route { integration: self.index, entity: self.entity()?, time_ms: self.time_ms()? })
    }

    fn rule(&self) -> &Rule {
        &self.integrations.rules()[self.index]
    }

    fn check_size(&self) -> Result<(), Defect> {
        let (bytes, max) = (self.message.text.len(), self.integration.max_message_bytes());
        if bytes <= max {
            return Ok(());
        }
        let name = self.integration.name();
        Err((
            DeadReason::TooLarge,
            format!("{bytes} bytes; integration `{name}` allows {max} (max_message_bytes)"),
        ))
    }

    fn check_required(&self) -> Result<(), Defect> {
        let pointers = self.integration.required().iter();
        for (pointer, slot) in pointers.zip(&self.rule().required) {
            let state = match self.message.value(*slot) {
                None => "not there",
                Some(FieldValue::Null) => "null",
                Some(_) => continue,
            };
            let detail = format!("the required field {pointer} is {state}");
            return Err((DeadReason::MissingField, detail));
        }
        Ok(())
    }

    fn entity(&self) -> Result<EntityAt, Defect> {
        if let (Some(pointer), Some(slot)) = (self.integration.entity(), self.rule().entity) {
            let text = configured_entity(pointer, self.message.value(slot))?;
            check_entity(&format_args!("the value at {pointer}"), &text)?;
            return Ok(self.entity_at(text));
        }
        if self.is_cloud_event
            && let Some(FieldValue::String(subject)) =
                self.message.value(self.integrations.cloud_event().subject)
            && !subject.is_empty()
        {
            check_entity("the CloudEvent's subject", &subject)?;
            return Ok(self.entity_at(subject));
        }
        check_entity("the partition key", self.arrival.partition_key)?;
        Ok(EntityAt::PartitionKey)
    }

    fn entity_at(&self, text: Cow<'_, str>) -> EntityAt {
        match text {
            Cow::Borrowed(text) => {
                let start = text.as_ptr().addr() - self.message.text.as_ptr().addr();
                EntityAt::Payload(start..start + text.len())
            }
            Cow::Owned(text) => EntityAt::Escaped(text),
        }
    }

    /// The configured field, else a CloudEvent's `time`, else the arrival. A configured field that
    /// is there and not a time is a defect; an attribute that nobody asked for is not.
    fn time_ms(&self) -> Result<i64, Defect> {
        if let (Some(field), Some((slot, format))) = (self.integration.time(), self.rule().time) {
            match self.message.value(slot) {
                None | Some(FieldValue::Null) => {}
                Some(value) => {
                    return format.parse(&value).map_err(|wrong| {
                        let detail = format!("the time at {} {}", field.pointer, wrong.0);
                        (DeadReason::InvalidField, detail)
                    });
                }
            }
        }
        let event_time = match self.is_cloud_event {
            true => self.message.value(self.integrations.cloud_event().time),
            false => None,
        };
        match event_time {
            Some(FieldValue::String(time)) => {
                Ok(parse_rfc3339_ms(&time).unwrap_or(self.arrival.arrived_at_ms))
            }
            _ => Ok(self.arrival.arrived_at_ms),
        }
    }
}

/// The entity where the configuration says that it is.
fn configured_entity<'a>(
    pointer: &Pointer,
    value: Option<FieldValue<'a>>,
) -> Result<Cow<'a, str>, Defect> {
    let missing = |state: &str| {
        Err((DeadReason::MissingField, format!("the entity at {pointer} is {state}")))
    };
    match value {
        Some(FieldValue::String(text)) => Ok(text),
        Some(FieldValue::Number(text)) => Ok(Cow::Borrowed(text)),
        None => missing("not there"),
        Some(FieldValue::Null) => missing("null"),
        Some(other) => {
            let kind = other.kind();
            let detail =
                format!("the entity at {pointer} is {kind}; a string or a number is needed");
            Err((DeadReason::InvalidField, detail))
        }
    }
}

fn check_entity(what: &(impl fmt::Display + ?Sized), text: &str) -> Result<(), Defect> {
    Entity::check(text)
        .map_err(|e| (DeadReason::InvalidField, format!("{what} cannot be the entity: {e}")))
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod route_tests;
