//! EventBridge: buses, their rules, and the queues that the events of a rule are handed on to.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::pattern::matches;
use super::queue::New;
use super::roles::iso;
use super::{Messaging, Refused, State, Told, has_room, name_in, read, unknown};

/// Entries of one call.
const MOST_ENTRIES: usize = 10;
/// All entries of a call are smaller than this.
const LESS_THAN_BYTES: usize = 1_000_000;
/// What a time counts for.
const TIME_BYTES: usize = 14;

/// A bus.
#[derive(Debug, Default)]
pub(super) struct Bus {
    rules: BTreeMap<String, Rule>,
}

#[derive(Debug)]
struct Rule {
    pattern: Value,
    targets: Vec<Target>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Target {
    id: String,
    arn: String,
    sqs_parameters: Option<Grouped>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Grouped {
    message_group_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRule {
    name: String,
    event_pattern: String,
    event_bus_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutTargets {
    rule: String,
    event_bus_name: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    source: Option<String>,
    detail_type: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    time: Option<f64>,
    event_bus_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateBus {
    name: String,
}

impl Messaging {
    pub(super) fn eventbridge(&self, operation: &str, body: &Bytes) -> Told {
        match operation {
            "CreateEventBus" => {
                let CreateBus { name } = read(body)?;
                let mut state = self.enter();
                has_room(state.buses.len())?;
                let arn = self.arn("events", &format!("event-bus/{name}"));
                state.buses.entry(name).or_default();
                Ok(json!({ "EventBusArn": arn }))
            }
            "PutRule" => self.put_rule(read(body)?),
            "PutTargets" => {
                let PutTargets { rule, event_bus_name, targets } = read(body)?;
                let mut state = self.enter();
                let rules = &mut state.bus(event_bus_name.as_deref())?.rules;
                let found = rules.get_mut(&rule).ok_or_else(|| not_found("rule", &rule))?;
                for target in targets {
                    has_room(found.targets.len())?;
                    found.targets.retain(|known| known.id != target.id);
                    found.targets.push(target);
                }
                Ok(json!({ "FailedEntryCount": 0, "FailedEntries": [] }))
            }
            "PutEvents" => self.put_events(read(body)?),
            _ => Err(unknown(operation)),
        }
    }

    fn put_rule(&self, call: PutRule) -> Told {
        let pattern: Value = serde_json::from_str(&call.event_pattern)
            .map_err(|error| Refused::new("InvalidEventPatternException", error.to_string()))?;
        let arn = self.arn("events", &format!("rule/{}", call.name));
        let mut state = self.enter();
        let rules = &mut state.bus(call.event_bus_name.as_deref())?.rules;
        has_room(rules.len())?;
        rules.insert(call.name, Rule { pattern, targets: Vec::new() });
        Ok(json!({ "RuleArn": arn }))
    }

    fn put_events(&self, PutEvents { entries }: PutEvents) -> Told {
        if !(1..=MOST_ENTRIES).contains(&entries.len()) {
            let message = "1 to 10 entries are allowed in a request.";
            return Err(Refused::new("ValidationException", message));
        }
        if entries.iter().map(Entry::size).sum::<usize>() >= LESS_THAN_BYTES {
            let message = "Total size of the entries in the request is over the limit.";
            return Err(Refused::new("ValidationException", message));
        }
        let now_ms = self.now_ms();
        let mut state = self.enter();
        let mut told = Vec::new();
        for entry in &entries {
            let put = self.event(&mut state, entry, now_ms).and_then(|event| {
                state.hand_event_on(entry.event_bus_name.as_deref(), &event, now_ms)?;
                Ok(json!({ "EventId": event["id"] }))
            });
            told.push(put.unwrap_or_else(
                |Refused { code, message }| json!({ "ErrorCode": code, "ErrorMessage": message }),
            ));
        }
        drop(state);
        self.shared.arrived.notify_waiters();
        let failed = told.iter().filter(|told| told.get("ErrorCode").is_some()).count();
        Ok(json!({ "FailedEntryCount": failed, "Entries": told }))
    }

    /// The event that an entry becomes.
    fn event(&self, state: &mut State, entry: &Entry, now_ms: i64) -> Told {
        let lacks = |name: &str| {
            let message =
                format!("Parameter {name} is not valid. Reason: {name} is a required argument.");
            Refused::new("InvalidArgument", message)
        };
        let detail = entry.detail.as_deref().ok_or_else(|| lacks("Detail"))?;
        let detail: Value = serde_json::from_str(detail)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| Refused::new("MalformedDetail", "Detail is malformed."))?;
        Ok(json!({
            "version": "0",
            "id": state.next_id(),
            "detail-type": entry.detail_type.as_deref().ok_or_else(|| lacks("DetailType"))?,
            "source": entry.source.as_deref().ok_or_else(|| lacks("Source"))?,
            "account": self.shared.account,
            "time": iso(entry.time.map_or(now_ms, |seconds| (seconds * 1_000.0) as i64)),
            "region": self.shared.region,
            "resources": entry.resources,
            "detail": detail,
        }))
    }
}

impl Entry {
    fn size(&self) -> usize {
        let texts = [&self.source, &self.detail_type, &self.detail].into_iter().flatten();
        let texts = texts.chain(&self.resources).map(String::len).sum::<usize>();
        texts + self.time.map_or(0, |_| TIME_BYTES)
    }
}

impl State {
    fn bus(&mut self, name: Option<&str>) -> Result<&mut Bus, Refused> {
        let name = name_in(name.unwrap_or("default"));
        self.buses.get_mut(name).ok_or_else(|| not_found("event bus", name))
    }

    fn hand_event_on(
        &mut self,
        bus: Option<&str>,
        event: &Value,
        now_ms: i64,
    ) -> Result<(), Refused> {
        let rules = self.bus(bus)?.rules.values();
        let targets: Vec<Target> = rules
            .filter(|rule| matches(&rule.pattern, event))
            .flat_map(|rule| rule.targets.iter().cloned())
            .collect();
        for target in targets {
            let queue = name_in(&target.arn).to_owned();
            let group = target.sqs_parameters.map(|of| of.message_group_id);
            let deduplication = group.is_some().then(|| event["id"].as_str().unwrap_or_default());
            let new = New {
                body: event.to_string(),
                group: group.clone(),
                deduplication: deduplication.map(str::to_owned),
                ..New::default()
            };
            if self.queues.contains_key(&queue) {
                self.send(&queue, new, now_ms)?;
            }
        }
        Ok(())
    }
}

fn not_found(what: &str, name: &str) -> Refused {
    Refused::new("ResourceNotFoundException", format!("{what} {name} does not exist."))
}
