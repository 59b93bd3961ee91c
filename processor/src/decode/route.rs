//! One look into a message: its integration, its entity and its time.
//!
//! The message is walked once ([`super::walk`]), no further than the route needs; what the
//! configured pointers found is compared and read here. What comes out as a [`Route`] is UTF-8, and
//! JSON as far as it was read ([`Route::is_whole`]).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use store::{DeadReason, Entity};

use super::walk::{Stretch, walk};
use crate::batch::Malformed;
use crate::integration::{
    FieldValue, Integration, Integrations, Pointer, Rule, SlotId, parse_rfc3339_ms,
};
use crate::json::{Broken, Scanner};

/// What the stream says about a record, for the defaults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    /// UTF-8.
    pub(crate) partition_key: &'a [u8],
    pub(crate) arrived_at_ms: i64,
}

/// Where a message belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// Index into the compiled integrations.
    pub(crate) integration: usize,
    pub(crate) entity: EntityAt,
    pub(crate) time_ms: i64,
    /// All of the message was read, and is JSON. Otherwise [`read_to_end`] tells.
    pub(crate) is_whole: bool,
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
    let route = route_as_read(integrations, scratch, payload, arrival, true);
    match route {
        // What is malformed anyway is read to its end: that it is no JSON goes before all else.
        Err(_) => route_as_read(integrations, scratch, payload, arrival, false),
        route => route,
    }
}

fn route_as_read(
    integrations: &Integrations,
    scratch: &mut Scratch,
    payload: &[u8],
    arrival: Arrival<'_>,
    may_stop: bool,
) -> Result<Route, Malformed> {
    let (text, decided) =
        read(integrations, scratch, payload, may_stop).map_err(|(reason, detail)| {
            let integration = integrations.default_integration().name().clone();
            Malformed { reason, detail, integration }
        })?;
    let message = Message { text, found: &scratch.found };
    let is_cloud_event = message.first_byte(integrations.cloud_event().specversion) == Some(b'"');
    let is_whole = decided.is_none();
    let index = decided.unwrap_or_else(|| matching(integrations.rules(), &message, is_cloud_event));
    let integration = integrations.get(index);
    let found =
        Found { integrations, integration, index, message, is_cloud_event, is_whole, arrival };
    found.route().map_err(|(reason, detail)| Malformed {
        reason,
        detail,
        integration: integration.name().clone(),
    })
}

/// A reason and its words.
type Defect = (DeadReason, String);

/// Reads the message, up to where its route is decided if it `may_stop` there; the values asked for
/// are in `scratch` afterwards. With the index of the integration if it stopped; `None` when it was read to its end.
fn read<'a>(
    integrations: &Integrations,
    scratch: &mut Scratch,
    payload: &'a [u8],
    may_stop: bool,
) -> Result<(&'a str, Option<usize>), Defect> {
    if payload.is_empty() {
        return Err((DeadReason::Empty, "the record has no bytes".to_owned()));
    }
    let text = simdutf8::compat::from_utf8(payload).map_err(|e| {
        let at = e.valid_up_to();
        (DeadReason::InvalidUtf8, format!("not UTF-8: byte {at} is 0x{:02x}", payload[at]))
    })?;
    let mut decision = Decision { integrations, text, candidate: 0 };
    let is_enough = |found: &[Option<Stretch>], slot| may_stop && decision.is_made(found, slot);
    match walk(integrations.tree(), payload, &mut scratch.found, is_enough) {
        Ok(is_whole) => Ok((text, (!is_whole).then_some(decision.candidate))),
        Err(broken) => Err((DeadReason::NotJson, not_json(broken, payload))),
    }
}

/// Reads all of a message, whose routing may have stopped before its end: why it is not JSON.
pub(crate) fn read_to_end(payload: &[u8]) -> Result<(), String> {
    let mut scanner = Scanner::new(payload);
    scanner.skip().and_then(|()| scanner.end()).map_err(|broken| not_json(broken, payload))
}

fn not_json(broken: Broken, payload: &[u8]) -> String {
    format!("not one JSON document: {}", broken.describe(payload))
}

/// Whether what was found of a message decides its route, whatever else is in it.
struct Decision<'a> {
    integrations: &'a Integrations,
    text: &'a str,
    /// The first integration that was not refuted.
    candidate: usize,
}

impl Decision<'_> {
    /// `slot` is what was found last.
    fn is_made(&mut self, found: &[Option<Stretch>], slot: SlotId) -> bool {
        let message = Message { text: self.text, found };
        let mut is_news = self.may_refute(slot);
        while let Some(rule) = self.integrations.rules().get(self.candidate) {
            let is_complete = is_complete(rule, &message);
            if !is_news && !is_complete {
                return false;
            }
            match self.holds(rule, &message) {
                None => return false,
                Some(true) => return is_complete,
                Some(false) => self.candidate += 1,
            }
            is_news = true;
        }
        false
    }

    /// Whether the candidate's conditions look at this.
    fn may_refute(&self, slot: SlotId) -> bool {
        self.integrations.rules().get(self.candidate).is_some_and(|rule| {
            rule.conditions.iter().any(|(asked, _)| *asked == slot)
                || rule.only_cloud_events && slot == self.integrations.cloud_event().specversion
        })
    }

    /// `None` while that is open: a field that was not found yet may still come.
    fn holds(&self, rule: &Rule, message: &Message<'_>) -> Option<bool> {
        let mut is_open = false;
        if rule.only_cloud_events {
            match message.first_byte(self.integrations.cloud_event().specversion) {
                Some(b'"') => {}
                Some(_) => return Some(false),
                None => is_open = true,
            }
        }
        for (slot, test) in &rule.conditions {
            match message.value(*slot) {
                Some(value) if !test.holds(Some(&value)) => return Some(false),
                Some(_) => {}
                None => is_open = true,
            }
        }
        (!is_open).then_some(true)
    }
}

/// All that the integration asks for is there, so nothing falls back to something else.
fn is_complete(rule: &Rule, message: &Message<'_>) -> bool {
    let is_there = |slot: SlotId| message.found[slot.0].is_some();
    let has_time = || match rule.time {
        Some((slot, _)) => message.first_byte(slot).is_some_and(|byte| byte != b'n'),
        None => false,
    };
    rule.entity.is_some_and(is_there) && rule.required.iter().copied().all(is_there) && has_time()
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
    /// The first byte of a value that is there, which says of what kind it is.
    fn first_byte(&self, slot: SlotId) -> Option<u8> {
        Some(self.text.as_bytes()[self.found[slot.0]?.range().start])
    }

    fn value(&self, slot: SlotId) -> Option<FieldValue<'a>> {
        let stretch = self.found[slot.0]?;
        let raw = &self.text[stretch.range()];
        Some(match raw.as_bytes()[0] {
            b'"' if stretch.has_escapes => FieldValue::String(unescaped(raw)),
            b'"' => FieldValue::String(Cow::Borrowed(&raw[1..raw.len() - 1])),
            b'{' => FieldValue::Object,
            b'[' => FieldValue::Array,
            b't' => FieldValue::Bool(true),
            b'f' => FieldValue::Bool(false),
            b'n' => FieldValue::Null,
            _ => FieldValue::Number(raw),
        })
    }
}

/// The content of a JSON string with escapes. Half a surrogate pair, which is JSON and not Unicode, stays as
/// it is written.
#[cold]
fn unescaped(raw: &str) -> Cow<'_, str> {
    let inside = &raw[1..raw.len() - 1];
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
    is_whole: bool,
    arrival: Arrival<'a>,
}

impl Found<'_> {
    fn route(&self) -> Result<Route, Defect> {
        self.check_size()?;
        self.check_required()?;
        Ok(Route {
            integration: self.index,
            entity: self.entity()?,
            time_ms: self.time_ms()?,
            is_whole: self.is_whole,
        })
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
            check_entity(&format_args!("the value at {pointer}"), text.as_bytes())?;
            return Ok(self.entity_at(text));
        }
        if self.is_cloud_event
            && let Some(FieldValue::String(subject)) =
                self.message.value(self.integrations.cloud_event().subject)
            && !subject.is_empty()
        {
            check_entity("the CloudEvent's subject", subject.as_bytes())?;
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

fn check_entity(what: &(impl fmt::Display + ?Sized), text: &[u8]) -> Result<(), Defect> {
    Entity::check(text)
        .map_err(|e| (DeadReason::InvalidField, format!("{what} cannot be the entity: {e}")))
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod route_tests;
