//! A worker's item in the fleet table: its life, its heartbeat, its load, and the mail that others leave for it.
//!
//! This is the attribute form and its reader; `fleet_table.rs` does the I/O.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;

use crate::ids::{Incarnation, LeaseCounter, LeaseKey, WorkerId};
use crate::item::{Item, number};

pub(crate) const PK: &str = "pk";
pub(crate) const SK: &str = "workerId";
pub(crate) const INCARNATION: &str = "incarnation";
pub(crate) const BEAT: &str = "beat";
pub(crate) const STATE: &str = "state";
pub(crate) const ASKS: &str = "asks";
pub(crate) const EXPIRES_AT: &str = "expiresAt";
const STARTED_AT: &str = "startedAt";
const VERSION: &str = "version";
const MAX_LEASES: &str = "maxLeases";
const LEASES: &str = "leases";
const HEALTH: &str = "health";
const PLANS: &str = "plans";
const THROUGHPUT: &str = "throughputKBps";
const CPU: &str = "cpuPercent";
const MEMORY: &str = "memoryBytes";
const IN_FLIGHT: &str = "inFlightBytes";
/// Of an ask to move: the worker to move to.
const TO: &str = "to";

/// Items of the fleet table are spread over this many partitions.
const PARTITIONS: u64 = 16;

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It has said that it is here.
    Joining,
    /// It works.
    Active,
    /// It hands its leases over.
    Draining,
    /// It ended in good order.
    Stopped,
    /// Others declared it dead.
    Dead,
}

impl WorkerState {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Joining, Self::Active, Self::Draining, Self::Stopped, Self::Dead];
        all.into_iter().find(|state| state.word() == text)
    }

    /// True while the worker's heartbeat is expected.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Joining | Self::Active | Self::Draining)
    }
}

/// What a worker carries, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Load {
    /// Share of the CPU it may use, in percent.
    pub cpu_percent: f64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Bytes of records read and not yet settled.
    pub in_flight_bytes: u64,
}

/// What a worker cannot reach, and why, by the dependency's name; empty when it can do its work.
pub type Health = BTreeMap<String, String>;

/// A worker says so much about what ails it: names, and characters of each name and reason.
const MAX_AILMENTS: usize = 16;
const MAX_AILMENT_CHARS: usize = 200;

/// A worker's item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkerRecord {
    pub(crate) id: WorkerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) beat: u64,
    pub(crate) state: WorkerState,
    pub(crate) started_at_ms: i64,
    pub(crate) version: String,
    pub(crate) max_leases: u64,
    pub(crate) leases: u64,
    /// Kilobytes a second over all its shards, as their leases say.
    pub(crate) throughput_kbps: f64,
    pub(crate) load: Load,
    /// What the worker cannot reach, and why: by dependency.
    pub(crate) health: Health,
    /// The plans that it made and carried out as leader in this life.
    pub(crate) plans: u64,
    pub(crate) asks: BTreeMap<LeaseKey, Ask>,
}

/// What others ask of a worker about one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The lease was given to the worker, under this counter.
    Assigned { counter: LeaseCounter },
    /// The worker should drain the lease that it holds under this counter and hand it over: to `to`, or else to whoever is
    /// best when it happens.
    Move { counter: LeaseCounter, to: Option<WorkerId> },
}

/// The figures that a worker says with every heartbeat.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Figures {
    pub(crate) leases: u64,
    pub(crate) throughput_kbps: f64,
    pub(crate) load: Load,
    pub(crate) health: Health,
    pub(crate) plans: u64,
}

impl Figures {
    pub(crate) fn attributes(&self) -> [(&'static str, AttributeValue); 7] {
        [
            (LEASES, number(self.leases)),
            (HEALTH, health_value(&self.health)),
            (PLANS, number(self.plans)),
            (THROUGHPUT, finite(self.throughput_kbps)),
            (CPU, finite(self.load.cpu_percent)),
            (MEMORY, number(self.load.memory_bytes)),
            (IN_FLIGHT, number(self.load.in_flight_bytes)),
        ]
    }
}

fn health_value(health: &Health) -> AttributeValue {
    let cut = |text: &str| text.chars().take(MAX_AILMENT_CHARS).collect::<String>();
    let ailment = |(name, why): (&String, &String)| (cut(name), AttributeValue::S(cut(why)));
    AttributeValue::M(health.iter().take(MAX_AILMENTS).map(ailment).collect())
}

fn read_health(value: &AttributeValue) -> Option<Health> {
    let ailment =
        |(name, why): (&String, &AttributeValue)| Some((name.clone(), why.as_s().ok()?.clone()));
    value.as_m().ok()?.iter().map(ailment).collect()
}

/// DynamoDB has no infinity and no "not a number".
fn finite(figure: f64) -> AttributeValue {
    let figure = if figure.is_finite() { figure.clamp(0.0, 1e15) } else { 0.0 };
    number((figure * 1e3).round() / 1e3)
}

/// The item's primary key.
pub(crate) fn primary_key(worker: &WorkerId) -> Item {
    // FNV-1a: small, and the same for ever on every machine.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = worker.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, step);
    Item::from([
        (PK.to_owned(), AttributeValue::S(format!("worker#{}", hash % PARTITIONS))),
        (SK.to_owned(), AttributeValue::S(worker.as_str().to_owned())),
    ])
}

impl WorkerRecord {
    /// A life that begins.
    pub(crate) fn joining(id: WorkerId, incarnation: Incarnation, started_at_ms: i64) -> Self {
        Self {
            id,
            incarnation,
            beat: 0,
            state: WorkerState::Joining,
            started_at_ms,
            version: String::new(),
            max_leases: 0,
            leases: 0,
            throughput_kbps: 0.0,
            load: Load::default(),
            health: Health::new(),
            plans: 0,
            asks: BTreeMap::new(),
        }
    }

    /// Reads an item; `None` if it is no worker's, or of a version that this one cannot read.
    pub(crate) fn from_item(item: &Item) -> Option<Self> {
        let text = |name: &str| item.get(name).and_then(|v| v.as_s().ok());
        let int = |name: &str| -> Option<u64> { item.get(name)?.as_n().ok()?.parse().ok() };
        let figure = |name: &str| -> f64 {
            let digits = item.get(name).and_then(|v| v.as_n().ok());
            digits.and_then(|d| d.parse().ok()).unwrap_or(0.0)
        };
        if !text(PK)?.starts_with("worker#") {
            return None;
        }
        let asks = item.get(ASKS).and_then(|v| v.as_m().ok());
        Some(Self {
            id: WorkerId::parse(text(SK)?.clone()).ok()?,
            incarnation: Incarnation(int(INCARNATION)?),
            beat: int(BEAT)?,
            state: WorkerState::parse(text(STATE)?)?,
            started_at_ms: i64::try_from(int(STARTED_AT)?).ok()?,
            version: text(VERSION).cloned().unwrap_or_default(),
            max_leases: int(MAX_LEASES)?,
            leases: int(LEASES).unwrap_or(0),
            throughput_kbps: figure(THROUGHPUT),
            health: item.get(HEALTH).and_then(read_health).unwrap_or_default(),
            plans: int(PLANS).unwrap_or(0),
            load: Load {
                cpu_percent: figure(CPU),
                memory_bytes: int(MEMORY).unwrap_or(0),
                in_flight_bytes: int(IN_FLIGHT).unwrap_or(0),
            },
            asks: asks.map(read_asks).unwrap_or_default(),
        })
    }

    /// The item of a worker that has just come.
    pub(crate) fn to_item(&self) -> Item {
        let text = |t: &str| AttributeValue::S(t.to_owned());
        let mut item = primary_key(&self.id);
        item.insert(INCARNATION.to_owned(), number(self.incarnation));
        item.insert(BEAT.to_owned(), number(self.beat));
        item.insert(STATE.to_owned(), text(self.state.word()));
        item.insert(STARTED_AT.to_owned(), number(self.started_at_ms));
        item.insert(VERSION.to_owned(), text(&self.version));
        item.insert(MAX_LEASES.to_owned(), number(self.max_leases));
        let asks = self.asks.iter().map(|(key, ask)| (key.as_str().to_owned(), ask.value()));
        item.insert(ASKS.to_owned(), AttributeValue::M(asks.collect()));
        let figures = Figures {
            leases: self.leases,
            throughput_kbps: self.throughput_kbps,
            load: self.load,
            health: self.health.clone(),
            plans: self.plans,
        };
        item.extend(figures.attributes().map(|(name, value)| (name.to_owned(), value)));
        item
    }
}

impl Ask {
    /// The counter of the holding that the ask is about: it means nothing to any other.
    pub(crate) fn counter(&self) -> LeaseCounter {
        match self {
            Self::Assigned { counter } | Self::Move { counter, .. } => *counter,
        }
    }

    pub(crate) fn value(&self) -> AttributeValue {
        let text = |t: &str| AttributeValue::S(t.to_owned());
        let (ask, to) = match self {
            Self::Assigned { .. } => ("assigned", None),
            Self::Move { to, .. } => ("move", to.as_ref()),
        };
        let fields = [("ask", text(ask)), ("counter", number(self.counter()))];
        let to = to.map(|to| (TO.to_owned(), text(to.as_str())));
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        AttributeValue::M(fields.into_iter().chain(to).collect())
    }

    fn parse(value: &AttributeValue) -> Option<Self> {
        let fields = value.as_m().ok()?;
        let counter = LeaseCounter(fields.get("counter")?.as_n().ok()?.parse().ok()?);
        match fields.get("ask")?.as_s().ok()?.as_str() {
            "assigned" => Some(Self::Assigned { counter }),
            "move" => {
                let to = fields.get(TO).map(|to| WorkerId::parse(to.as_s().ok()?.clone()).ok());
                Some(Self::Move { counter, to: to.map_or(Some(None), |to| to.map(Some))? })
            }
            _ => None,
        }
    }
}

/// An ask that this version does not understand is left out: whoever asked finds out and plans afresh.
fn read_asks(asks: &HashMap<String, AttributeValue>) -> BTreeMap<LeaseKey, Ask> {
    let read = |(key, value): (&String, &AttributeValue)| {
        Some((LeaseKey::parse(key.clone()).ok()?, Ask::parse(value)?))
    };
    asks.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> WorkerRecord {
        let key = |text: &str| LeaseKey::parse(text).unwrap();
        let counter = LeaseCounter(3);
        let id = |name: &str| WorkerId::parse(name).unwrap();
        WorkerRecord {
            beat: 9,
            state: WorkerState::Active,
            version: "0.1.0".to_owned(),
            max_leases: 10,
            leases: 2,
            throughput_kbps: 7.25,
            load: Load { cpu_percent: 12.5, in_flight_bytes: 7, ..Load::default() },
            health: Health::from([("kinesis".to_owned(), "no answer".to_owned())]),
            plans: 4,
            asks: BTreeMap::from([
                (key("shardId-7"), Ask::Assigned { counter }),
                (key("shardId-8"), Ask::Move { counter, to: None }),
                (key("shardId-9"), Ask::Move { counter, to: Some(id("w2")) }),
            ]),
            ..WorkerRecord::joining(id("w1"), Incarnation(4), 123)
        }
    }

    #[test]
    fn a_worker_survives_its_item() {
        assert_eq!(WorkerRecord::from_item(&worker().to_item()), Some(worker()));
    }

    #[test]
    fn an_item_of_another_kind_is_passed_over() {
        let mut item = worker().to_item();
        item.insert(STATE.to_owned(), AttributeValue::S("dreaming".to_owned()));
        assert_eq!(WorkerRecord::from_item(&item), None);
        let mut item = worker().to_item();
        item.insert(PK.to_owned(), AttributeValue::S("command#1".to_owned()));
        assert_eq!(WorkerRecord::from_item(&item), None);
    }

    #[test]
    fn figures_that_dynamodb_cannot_hold_become_zero() {
        let mut odd = worker();
        odd.throughput_kbps = f64::NAN;
        assert_eq!(WorkerRecord::from_item(&odd.to_item()).unwrap().throughput_kbps, 0.0);
    }
}
