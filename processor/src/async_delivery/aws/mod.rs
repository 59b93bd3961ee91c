//! Destinations within AWS: SQS, SNS and EventBridge, several messages a call and each settled on its own.
//!
//! What the three have in common is here: messages become entries, a call's answer becomes an outcome for
//! each, and a call that is refused as a whole is made again message by message, so that one that is at fault
//! does not take the others along. What is each one's own is in its file. Clients are made from what
//! the app gives ([`AwsConfigs`]). Start at [`Batched`].

mod attributes;
mod eventbridge;
mod group;
mod judge;
mod sns;
mod sqs;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_types::SdkConfig;
use futures::future::BoxFuture;
use store::{AssumedRole, ClientId, DeliveryPolicy, Message};
use tokio::time::timeout;

use super::destination::{Capacity, Outgoing, Sender};
use super::outcome::{Failure, FailureKind, Outcome};

pub(super) use eventbridge::EventBridge;
pub(super) use sns::Sns;
pub(super) use sqs::Sqs;

/// Entries that each of the three services takes at once.
const MOST_ENTRIES: usize = 10;
/// Of what a service said, this much is kept, in characters.
const MAX_DETAIL: usize = 256;

/// Which service a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AwsService {
    /// Amazon SQS.
    Sqs,
    /// Amazon SNS.
    Sns,
    /// Amazon EventBridge.
    EventBridge,
}

/// Where a destination is and under whose permission it is written to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwsIdentity {
    /// `None`: the worker's own region.
    pub region: Option<Arc<str>>,
    /// `None`: the worker's own permission.
    pub role: Option<RoleToAssume>,
}

/// A role and what its trust policy asks for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RoleToAssume {
    /// ARN of the role.
    pub arn: Arc<str>,
    /// The external id; never empty, so that nobody has a role assumed that trusts another client.
    pub external_id: Arc<str>,
}

impl fmt::Debug for RoleToAssume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleToAssume").field("arn", &self.arn).finish_non_exhaustive()
    }
}

impl AwsIdentity {
    fn new(region: Option<&str>, role: Option<&AssumedRole>, client: &ClientId) -> AwsIdentity {
        AwsIdentity {
            region: region.map(Arc::from),
            role: role.map(|role| RoleToAssume {
                arn: role.arn().into(),
                external_id: role.external_id().unwrap_or(client.as_str()).into(),
            }),
        }
    }
}

type MakeConfig = dyn Fn(&AwsIdentity, AwsService) -> SdkConfig + Send + Sync;

/// How clients for destinations are configured: HTTP, credentials, endpoint. The app decides all of it.
#[derive(Clone)]
pub struct AwsConfigs(Arc<MakeConfig>);

impl AwsConfigs {
    /// `make` is asked once for each version of a subscription, and must not block.
    pub fn new(
        make: impl Fn(&AwsIdentity, AwsService) -> SdkConfig + Send + Sync + 'static,
    ) -> AwsConfigs {
        AwsConfigs(Arc::new(make))
    }

    /// For where there is no AWS: every call fails before it is made.
    pub fn unreachable() -> AwsConfigs {
        AwsConfigs::new(|_, _| SdkConfig::builder().build())
    }

    fn of(&self, identity: &AwsIdentity, service: AwsService) -> SdkConfig {
        (self.0)(identity, service)
    }
}

impl fmt::Debug for AwsConfigs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsConfigs")
    }
}

/// A service that takes several entries a call.
pub(super) trait Batched: Send + Sync + 'static {
    type Entry: Clone + Send;

    /// What a call that carries several may come to.
    const CAPACITY: Capacity;
    /// The largest message that the service ever takes; one above [`Self::CAPACITY`] is sent alone.
    const LARGEST: usize;

    /// What a message counts for.
    fn size(message: &Message) -> usize;

    /// A message as entry number `index` of its call, or why there can be none.
    fn entry(&self, index: usize, message: &Message) -> Result<Self::Entry, String>;

    /// Makes the call; an error is one of the whole call.
    fn call(&self, entries: Vec<Self::Entry>) -> BoxFuture<'_, Result<Reply, Failure>>;
}

/// What a call said about its entries, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) accepted: Vec<usize>,
    pub(super) failed: Vec<(usize, Failure)>,
}

/// Sends the messages of one subscription to a service.
pub(super) struct AwsSender<B> {
    service: Arc<B>,
    time_limit: Duration,
}

impl<B: Batched> AwsSender<B> {
    pub(super) fn new(service: B, policy: &DeliveryPolicy) -> AwsSender<B> {
        let time_limit = Duration::from_millis(policy.timeout_ms);
        AwsSender { service: Arc::new(service), time_limit }
    }
}

impl<B: Batched> Sender for AwsSender<B> {
    fn attempt(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let (service, limit) = (Arc::clone(&self.service), self.time_limit);
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(batch.len());
            let mut entries = Vec::with_capacity(batch.len());
            for (index, out) in batch.iter().enumerate() {
                match entry(&*service, index, &out.message) {
                    Ok(entry) => {
                        entries.push((index, entry));
                        outcomes.push(silent());
                    }
                    Err(failure) => outcomes.push(Outcome::Failed(failure)),
                }
            }
            let sent: Vec<usize> = entries.iter().map(|(index, _)| *index).collect();
            match timeout(limit, send(&*service, entries, &mut outcomes)).await {
                Ok(()) => {}
                Err(_) => time_out(&sent, &mut outcomes, limit),
            }
            outcomes
        })
    }

    fn most_at_once(&self) -> Capacity {
        B::CAPACITY
    }

    fn size(&self, message: &Message) -> usize {
        B::size(message)
    }
}

fn entry<B: Batched>(service: &B, index: usize, message: &Message) -> Result<B::Entry, Failure> {
    let size = B::size(message);
    let entry = if size > B::LARGEST {
        Err(format!("{size} bytes, where the service takes {}", B::LARGEST))
    } else {
        service.entry(index, message)
    };
    entry.map_err(|detail| failure(FailureKind::Unsendable, detail))
}

/// Makes the call, or one for each entry if all together are refused; in order, one after the other.
async fn send<B: Batched>(service: &B, entries: Vec<(usize, B::Entry)>, outcomes: &mut [Outcome]) {
    let indices: Vec<usize> = entries.iter().map(|(index, _)| *index).collect();
    if indices.is_empty() {
        return;
    }
    let whole = entries.iter().map(|(_, entry)| entry.clone()).collect();
    let refused = match service.call(whole).await {
        Err(failure) if is_refusal(&failure) && indices.len() > 1 => true,
        answer => {
            settle(&indices, answer, outcomes);
            false
        }
    };
    if refused {
        for (index, entry) in entries {
            let answer = service.call(vec![entry]).await;
            settle(&[index], answer, outcomes);
        }
    }
}

/// The fault may lie with one message.
fn is_refusal(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Refused | FailureKind::Unsendable)
}

/// Notes what an answer says about these messages. What it does not speak of stays unknown.
fn settle(indices: &[usize], answer: Result<Reply, Failure>, outcomes: &mut [Outcome]) {
    let mut note = |index: usize, outcome: Outcome| {
        if indices.contains(&index)
            && let Some(slot) = outcomes.get_mut(index)
        {
            *slot = outcome;
        }
    };
    match answer {
        Ok(reply) => {
            reply.accepted.into_iter().for_each(|index| note(index, Outcome::Accepted));
            for (index, failure) in reply.failed {
                note(index, Outcome::Failed(failure));
            }
        }
        Err(failure) => {
            indices.iter().for_each(|index| note(*index, Outcome::Failed(failure.clone())));
        }
    }
}

/// What was not answered in time is not known; what was answered stays so.
fn time_out(sent: &[usize], outcomes: &mut [Outcome], limit: Duration) {
    let late = failure(FailureKind::TimedOut, format!("no answer within {} ms", limit.as_millis()));
    for index in sent {
        if let Some(slot) = outcomes.get_mut(*index).filter(|slot| **slot == silent()) {
            *slot = Outcome::Failed(late.clone());
        }
    }
}

/// Of a message that no answer has spoken of.
fn silent() -> Outcome {
    let detail = "the service's answer does not speak of it";
    Outcome::Failed(failure(FailureKind::Unhealthy, detail.to_owned()))
}

fn failure(kind: FailureKind, detail: String) -> Failure {
    Failure { kind, detail: detail.chars().take(MAX_DETAIL).collect(), retry_after: None }
}
