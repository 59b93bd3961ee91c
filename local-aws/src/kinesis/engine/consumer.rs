//! Registered consumers of a stream and their subscriptions: at most one a shard, the newest wins.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::stream::Stream;
use crate::kinesis::error::Refusal;

/// Consumers a stream may have.
const MAX_CONSUMERS: usize = 20;
/// A new subscription to the same shard is refused for so long after the last one was accepted.
const RESUBSCRIBE_MS: i64 = 5_000;

/// Why a live subscription ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A newer subscription of the same consumer took the shard over.
    Replaced,
    /// The consumer was deregistered.
    ConsumerGone,
    /// The stream was deleted.
    StreamGone,
}

/// One registered consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) name: String,
    pub(crate) arn: String,
    pub(crate) created_at_ms: i64,
    pub(crate) tags: BTreeMap<String, String>,
    active_at_ms: i64,
    subscriptions: BTreeMap<u32, Subscription>,
}

/// The last accepted subscription to one shard.
#[derive(Debug)]
struct Subscription {
    accepted_at_ms: i64,
    ended: watch::Sender<Option<Ended>>,
}

/// What an accepted subscription gets.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Becomes `Some` when the subscription ends before its time.
    pub(crate) ended: watch::Receiver<Option<Ended>>,
    /// The service's words for the case that another subscription takes this one over.
    pub(crate) taken_over: String,
}

impl Consumer {
    pub(crate) fn status(&self, now_ms: i64) -> &'static str {
        if now_ms < self.active_at_ms { "CREATING" } else { "ACTIVE" }
    }

    /// Ends every subscription.
    pub(crate) fn end_all(&self, why: Ended) {
        for subscription in self.subscriptions.values() {
            subscription.ended.send_replace(Some(why));
        }
    }
}

impl Stream {
    /// Registers a consumer; its ARN is not that of any earlier consumer of the same name.
    pub(crate) fn register(
        &mut self,
        name: &str,
        tags: BTreeMap<String, String>,
        now_ms: i64,
        active_at_ms: i64,
    ) -> Result<&Consumer, Refusal> {
        if self.consumers.contains_key(name) {
            return Err(Refusal::ResourceInUse(format!(
                "Consumer {name} under stream {} already exists for account {}.",
                self.arn, self.account
            )));
        }
        if self.consumers.len() >= MAX_CONSUMERS {
            return Err(Refusal::LimitExceeded(format!(
                "Stream {} under account {} already has {MAX_CONSUMERS} consumers.",
                self.name, self.account
            )));
        }
        let epoch_s = (now_ms / 1000).max(self.last_consumer_epoch_s + 1);
        self.last_consumer_epoch_s = epoch_s;
        let consumer = Consumer {
            name: name.to_owned(),
            arn: format!("{}/consumer/{name}:{epoch_s}", self.arn),
            created_at_ms: now_ms,
            tags,
            active_at_ms,
            subscriptions: BTreeMap::new(),
        };
        Ok(self.consumers.entry(name.to_owned()).or_insert(consumer))
    }

    /// Removes a consumer; its live subscriptions end.
    pub(crate) fn deregister(&mut self, name: &str) -> Option<Consumer> {
        let consumer = self.consumers.remove(name)?;
        consumer.end_all(Ended::ConsumerGone);
        Some(consumer)
    }

    /// Accepts a subscription of a consumer to a shard, or says why not. An older one learns that it is over.
    pub(crate) fn accept_subscription(
        &mut self,
        consumer_arn: &str,
        shard: u32,
        now_ms: i64,
    ) -> Result<Accepted, Refusal> {
        let (stream, account) = (&self.name, &self.account);
        let consumer = self
            .consumers
            .values_mut()
            .find(|consumer| consumer.arn == consumer_arn)
            .ok_or_else(|| consumer_not_found(consumer_arn))?;
        if consumer.status(now_ms) != "ACTIVE" {
            return Err(Refusal::ResourceInUse(format!(
                "Consumer {consumer_arn} is not in ACTIVE state."
            )));
        }
        if let Some(last) = consumer.subscriptions.get(&shard)
            && now_ms - last.accepted_at_ms < RESUBSCRIBE_MS
        {
            return Err(Refusal::ResourceInUse(another_subscription(
                account,
                stream,
                shard,
                &consumer.name,
            )));
        }
        let (ended, receiver) = watch::channel(None);
        let subscription = Subscription { accepted_at_ms: now_ms, ended };
        if let Some(old) = consumer.subscriptions.insert(shard, subscription) {
            old.ended.send_replace(Some(Ended::Replaced));
        }
        Ok(Accepted {
            ended: receiver,
            taken_over: another_subscription(account, stream, shard, &consumer.name),
        })
    }
}

/// The service's words when a shard is subscribed to twice.
fn another_subscription(account: &str, stream: &str, shard: u32, consumer: &str) -> String {
    format!(
        "Another active subscription exists for this consumer: {account}:{stream}:{}:{consumer}",
        super::shard::shard_id(shard)
    )
}

/// The service's words when a consumer does not exist.
pub(crate) fn consumer_not_found(arn: &str) -> Refusal {
    Refusal::ResourceNotFound(format!("Consumer {arn} not found."))
}
