//! Faults: what goes wrong on purpose, for which calls, how often.
//!
//! A [`Fault`] names calls (service, operation, resource, caller) and one [`Effect`]. The services know nothing of it: the dispatcher
//! asks [`Faults::plan`] before a call and acts on the answer. Start at [`Effect`].

mod partial;
mod stale;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::dispatch::{Call, Service};

pub(crate) use partial::Partial;
pub(crate) use stale::Shown;
pub(crate) use stream::guard;

/// Faults that hold at once; one more, and the oldest is dropped.
const MAX_FAULTS: usize = 1_000;
/// Calls waiting to be applied late; more are lost, as a network loses them.
const MAX_LATE_CALLS: usize = 1_000;

/// Names one injected fault until it is cleared or used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FaultId(pub u64);

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Refused as the service throttles (`ProvisionedThroughputExceededException` and the like); not applied.
    Throttle,
    /// A share (0 to 1, at least one) of the items of a `BatchWriteItem`, `BatchGetItem`, `PutRecords`, `SendMessageBatch`,
    /// `PublishBatch` or `PutEvents` is not processed and comes back; the others are. Other operations are not touched.
    Partial(f64),
    /// Refused with any error of the service; not applied.
    Refuse {
        /// HTTP status, 400 or 500.
        status: u16,
        /// The error's code, e.g. `LimitExceededException`.
        code: String,
        /// Its text.
        message: String,
    },
    /// The service fails with HTTP 500 before it applies the call.
    InternalError,
    /// The service applies the call and fails with HTTP 500 all the same.
    ErrorAfterApply,
    /// The call is applied, then the connection is cut: the caller cannot know.
    LostReply,
    /// The call is applied and never answered: the caller runs into its timeout and cannot know.
    Unanswered,
    /// The call is never answered, and applied this long after it was made (by the first call after that moment).
    #[serde(rename = "late_apply_ms", with = "millis")]
    LateApply(Duration),
    /// The call is held up this long. Adds to every other effect.
    #[serde(rename = "latency_ms", with = "millis")]
    Latency(Duration),
    /// The connection is cut at once; not applied.
    Cut,
    /// An eventually consistent read (one without `ConsistentRead`) shows what the same request showed up to ten seconds ago, if it
    /// was made under this effect then. Other calls are not touched.
    StaleRead,
    /// Not applied, never answered; streams that are open stand still until the fault is cleared.
    Partition,
    /// Streams that are open, and that will be opened, are cut.
    CutStream,
    /// Streams that are open, and that will be opened, fall silent for good: a connection whose other end is gone.
    SilenceStream,
}

/// Which calls fail, how, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The service that is called.
    pub service: Service,
    /// The operation, e.g. `UpdateItem`; `None` is every operation.
    #[serde(default)]
    pub operation: Option<String>,
    /// The name of a table, stream, queue, topic, bus or role; `None` is every one. A call that names none (a bare iterator) never matches a name.
    #[serde(default)]
    pub resource: Option<String>,
    /// The access key id that signed the call; `None` is every caller.
    #[serde(default)]
    pub caller: Option<String>,
    /// What happens.
    pub effect: Effect,
    /// How many calls it hits before it is gone; `None` is until it is cleared.
    #[serde(default)]
    pub times: Option<u64>,
    /// The share of matching calls that it hits, 0 to 1, drawn from the seed. Streams that are open ignore it.
    #[serde(default = "always")]
    pub chance: f64,
}

impl Fault {
    /// A fault of every call of `service`, until it is cleared.
    #[must_use]
    pub fn new(service: Service, effect: Effect) -> Self {
        Self {
            service,
            operation: None,
            resource: None,
            caller: None,
            effect,
            times: None,
            chance: 1.0,
        }
    }

    /// Only this operation.
    #[must_use]
    pub fn operation(mut self, operation: &str) -> Self {
        self.operation = Some(operation.to_owned());
        self
    }

    /// Only this table or stream.
    #[must_use]
    pub fn resource(mut self, name: &str) -> Self {
        self.resource = Some(name.to_owned());
        self
    }

    /// Only calls signed with this access key id.
    #[must_use]
    pub fn caller(mut self, access_key_id: &str) -> Self {
        self.caller = Some(access_key_id.to_owned());
        self
    }

    /// Only the next `times` calls that match.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Only this share of the calls that match.
    #[must_use]
    pub fn chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    fn matches(&self, call: &Call) -> bool {
        let wanted = |wanted: &Option<String>, given: &str| {
            wanted.as_deref().is_none_or(|name| name == given)
        };
        self.service == call.service
            && wanted(&self.operation, &call.operation)
            && wanted(&self.caller, &call.caller)
            && self.resource.as_ref().is_none_or(|name| call.resources.contains(name))
            && match self.effect {
                Effect::Partial(_) => Partial::divides(&call.operation),
                Effect::StaleRead => stale::is_eventual(call),
                _ => true,
            }
    }
}

fn always() -> f64 {
    1.0
}

/// What the dispatcher does with one call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// Wait this long first.
    pub(crate) delay: Duration,
    /// Then this, or serve the call.
    pub(crate) effect: Option<Effect>,
}

/// What an open stream does at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    Stalled,
    Silent,
    Cut,
}

/// The faults of one [`LocalAws`](crate::LocalAws). Cheap to clone; all clones are one set.
#[derive(Debug, Clone)]
pub struct Faults {
    // A mutex because injection comes from tests and the control endpoint while calls are planned; it is held for a lookup only.
    state: Arc<Mutex<State>>,
    // Not a watch channel: that wakes its receivers in an order drawn from no seed of ours.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    faults: BTreeMap<FaultId, Fault>,
    next_id: u64,
    rng: fastrand::Rng,
    late: Vec<(i64, Call)>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                faults: BTreeMap::new(),
                next_id: 1,
                rng: fastrand::Rng::with_seed(seed),
                late: Vec::new(),
            })),
            changed: Arc::default(),
        }
    }

    /// Adds a fault; it holds from the next call on, and for open streams at once.
    pub fn inject(&self, fault: Fault) -> FaultId {
        let id = {
            let mut state = self.lock();
            let id = FaultId(state.next_id);
            state.next_id += 1;
            state.faults.insert(id, fault);
            while state.faults.len() > MAX_FAULTS {
                state.faults.pop_first();
            }
            id
        };
        self.changed.notify_waiters();
        id
    }

    /// Takes a fault away; `false` when it was gone already.
    pub fn clear(&self, id: FaultId) -> bool {
        let removed = self.lock().faults.remove(&id).is_some();
        self.changed.notify_waiters();
        removed
    }

    /// Takes all faults away. Calls to be applied late still are.
    pub fn clear_all(&self) {
        self.lock().faults.clear();
        self.changed.notify_waiters();
    }

    /// The faults that still have an effect, oldest first.
    #[must_use]
    pub fn active(&self) -> Vec<(FaultId, Fault)> {
        let state = self.lock();
        let faults = state.faults.iter();
        faults.map(|(id, fault)| (*id, fault.clone())).collect()
    }

    /// Decides one call and uses up what hits it: every latency, and the oldest other fault.
    pub(crate) fn plan(&self, call: &Call) -> Plan {
        let mut plan = Plan { delay: Duration::ZERO, effect: None };
        let state = &mut *self.lock();
        let mut used_up = Vec::new();
        for (id, fault) in &mut state.faults {
            let is_latency = matches!(fault.effect, Effect::Latency(_));
            let of_streams = matches!(fault.effect, Effect::CutStream | Effect::SilenceStream);
            if of_streams || (!is_latency && plan.effect.is_some()) || !fault.matches(call) {
                continue;
            }
            if fault.chance < 1.0 && state.rng.f64() >= fault.chance {
                continue;
            }
            match &fault.effect {
                Effect::Latency(delay) => plan.delay = plan.delay.saturating_add(*delay),
                effect => plan.effect = Some(effect.clone()),
            }
            if use_once(fault) {
                used_up.push(*id);
            }
        }
        for id in used_up {
            state.faults.remove(&id);
        }
        plan
    }

    /// What an open stream that answers `call` does now; a cut or a silence is used up by it.
    pub(crate) fn flow(&self, call: &Call) -> Flow {
        let state = &mut *self.lock();
        let found = state.faults.iter_mut().find(|(_, fault)| {
            let of_streams = matches!(
                fault.effect,
                Effect::CutStream | Effect::SilenceStream | Effect::Partition
            );
            of_streams && fault.matches(call)
        });
        let Some((id, fault)) = found else {
            return Flow::Open;
        };
        if fault.effect == Effect::Partition {
            return Flow::Stalled;
        }
        let flow = if fault.effect == Effect::CutStream { Flow::Cut } else { Flow::Silent };
        let (id, gone) = (*id, use_once(fault));
        if gone {
            state.faults.remove(&id);
        }
        flow
    }

    /// Wakes when the set of faults changes.
    pub(crate) fn changes(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Random numbers for one call, from the seed.
    pub(crate) fn fork_rng(&self) -> fastrand::Rng {
        self.lock().rng.fork()
    }

    /// Keeps a call to be applied at `due_ms`.
    pub(crate) fn postpone(&self, due_ms: i64, call: Call) {
        let mut state = self.lock();
        if state.late.len() < MAX_LATE_CALLS {
            state.late.push((due_ms, call));
        }
    }

    /// The postponed calls whose time has come, earliest first.
    pub(crate) fn take_due(&self, now_ms: i64) -> Vec<Call> {
        let mut state = self.lock();
        if state.late.is_empty() {
            return Vec::new();
        }
        let (mut due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.late).into_iter().partition(|(due_ms, _)| *due_ms <= now_ms);
        state.late = rest;
        due.sort_by_key(|(due_ms, _)| *due_ms);
        due.into_iter().map(|(_, call)| call).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one use; `true` when it was the last.
fn use_once(fault: &mut Fault) -> bool {
    match &mut fault.times {
        None => false,
        Some(left) => {
            *left = left.saturating_sub(1);
            *left == 0
        }
    }
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
