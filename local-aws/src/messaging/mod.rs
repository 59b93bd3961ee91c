//! Catchers for what is sent on: SQS queues, SNS topics, EventBridge buses, and the roles of STS.
//!
//! They keep what comes, in memory and bounded, and hand it on where a topic or a rule says so, to queues of their own. FIFO queues keep
//! groups in order and forget a repeated deduplication id after five minutes. Operations and JSON bodies go in (what came as a
//! query was translated at the door), an [`Answer`] comes out. Start at [`Messaging::handle`].

mod events;
mod pattern;
mod queue;
mod receive;
mod roles;
mod sns;
mod sqs;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Notify;

use self::events::Bus;
use self::queue::Queue;
use self::sns::Topic;
use crate::clock::Clock;
use crate::dispatch::Service;
use crate::wire::Answer;

/// Queues, topics, buses and roles, of each so many at most.
const MOST_OF_A_KIND: usize = 1_000;

/// Queues, topics, buses and roles of one account; cheap to clone.
#[derive(Clone)]
pub(crate) struct Messaging {
    shared: Arc<Shared>,
}

struct Shared {
    account: String,
    region: String,
    clock: Clock,
    // A mutex rather than an owner task, as in Kinesis: calls are short, and none waits inside.
    state: Mutex<State>,
    /// Something came into a queue.
    arrived: Notify,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<String, Queue>,
    topics: BTreeMap<String, Topic>,
    buses: BTreeMap<String, Bus>,
    /// By role, what its trust policy asks for.
    trusts: BTreeMap<String, String>,
    /// Counts everything that is given an id, so that a run that is repeated gives the same ids.
    ids: u64,
}

/// Why a call is refused.
#[derive(Debug)]
struct Refused {
    code: &'static str,
    message: String,
}

impl Refused {
    fn new(code: &'static str, message: impl Into<String>) -> Refused {
        Refused { code, message: message.into() }
    }
}

type Told = Result<Value, Refused>;

impl Messaging {
    pub(crate) fn new(account: &str, region: &str, clock: Clock) -> Messaging {
        let mut state = State::default();
        state.buses.insert("default".to_owned(), Bus::default());
        Messaging {
            shared: Arc::new(Shared {
                account: account.to_owned(),
                region: region.to_owned(),
                clock,
                state: Mutex::new(state),
                arrived: Notify::new(),
            }),
        }
    }

    /// Answers one call of SQS, SNS, EventBridge or STS.
    pub(crate) async fn handle(&self, service: Service, operation: &str, body: &Bytes) -> Answer {
        let told = match service {
            Service::Sqs if operation == "ReceiveMessage" => self.receive(body).await,
            Service::Sqs => self.sqs(operation, body),
            Service::Sns => self.sns(operation, body),
            Service::EventBridge => self.eventbridge(operation, body),
            _ => self.sts(operation, body),
        };
        match told {
            Ok(answer) => Answer::ok(answer.to_string()),
            Err(refused) => {
                let status = if refused.code == "AccessDenied" { 403 } else { 400 };
                Answer::error(status, refused.code, &refused.message)
            }
        }
    }

    /// From now on this role is assumed only with this external id.
    pub(crate) fn trust(&self, role_arn: &str, external_id: &str) {
        self.enter().trusts.insert(role_arn.to_owned(), external_id.to_owned());
    }

    fn enter(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> i64 {
        self.shared.clock.now_ms()
    }

    fn arn(&self, service: &str, name: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{name}", self.shared.region, self.shared.account)
    }
}

impl State {
    fn next_id(&mut self) -> String {
        self.ids += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.ids)
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body)
        .map_err(|error| Refused::new("SerializationException", error.to_string()))
}

fn unknown(operation: &str) -> Refused {
    Refused::new("UnknownOperationException", format!("{operation} is not served here"))
}

/// Refuses one more of a kind when there are too many.
fn has_room(count: usize) -> Result<(), Refused> {
    let message = format!("{MOST_OF_A_KIND} are there already");
    (count < MOST_OF_A_KIND).then_some(()).ok_or_else(|| Refused::new("LimitExceeded", message))
}

/// The last part of a URL or an ARN.
fn name_in(text: &str) -> &str {
    text.rsplit(['/', ':']).next().unwrap_or(text)
}

impl fmt::Debug for Messaging {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Messaging").finish_non_exhaustive()
    }
}
