//! Enhanced fan-out: one shard's events, one after the other, over as many subscriptions as it takes.
//!
//! [`FanOut::next`] subscribes, reads, and resumes after the last event's continuation whenever a
//! subscription ends, until the shard itself does. The SDK finds the endpoint, signs and sends;
//! the answer's body is taken over and read here, frame by frame, and `envelope` reads what is in
//! them. What happens after a subscription's end is decided in [`plan`], without I/O.
//!
//! It never looks into a record, never decides who owns the shard, and never takes an error for a
//! shard's end. Start reading at [`FanOut::next`].

mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod metrics;
mod plan;
mod subscribe;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_types::body::SdkBody;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::batch::{RawBatch, ShardContext};
use crate::budget::{Budget, Permit};
use crate::envelope::Event;
use crate::reader::connections::{Connection, Connections};
use crate::reader::consumer::Consumer;
use crate::reader::{ReadError, StartingAt};
use crate::turns::Turns;

use frame::FrameReader;
use plan::{Ended, History, Plan};
use subscribe::Subscription;

/// How shards are subscribed to.
#[derive(Debug, Clone)]
pub struct FanOutOptions {
    /// Subscriptions that the process starts in a second, over all shards.
    pub subscribes_per_second: u32,
    /// An answer to SubscribeToShard may take this long.
    pub subscribe_timeout: Duration,
    /// The pause between two calls for one shard; the service allows one a second.
    pub call_interval: Duration,
    /// For this long after an accepted call the service refuses another one for the same shard.
    pub takeover_interval: Duration,
    /// A subscription on which nothing was heard for this long is dead. The service sends an
    /// event every few seconds, if only an empty one.
    pub inactivity_deadline: Duration,
    /// So many dead subscriptions in a row end the reading.
    pub max_inactive: u32,
    /// The first pause after a failure; it doubles with each further one.
    pub backoff_initial: Duration,
    /// The longest pause after a failure.
    pub backoff_max: Duration,
    /// So many refusals in a row that no waiting will cure (access, arguments, keys) end the reading.
    pub max_refusals: u32,
    /// A frame that declares more bytes than this is not read.
    pub max_frame_bytes: usize,
}

impl Default for FanOutOptions {
    fn default() -> Self {
        FanOutOptions {
            subscribes_per_second: 50,
            subscribe_timeout: Duration::from_secs(30),
            call_interval: Duration::from_secs(1),
            takeover_interval: Duration::from_secs(5),
            inactivity_deadline: Duration::from_secs(35),
            max_inactive: 3,
            backoff_initial: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
            max_refusals: 4,
            max_frame_bytes: 32 * 1024 * 1024,
        }
    }
}

/// What a reader works with beside its shard.
#[derive(Clone)]
pub(crate) struct FanOutParts {
    pub(crate) options: FanOutOptions,
    pub(crate) connections: Connections,
    /// Paces the calls of all shards of the process.
    pub(crate) turns: Turns,
    /// Bytes that frames may hold.
    pub(crate) budget: Budget,
    /// The registered consumer that is subscribed with.
    pub(crate) consumer: Consumer,
}

/// Reads one shard.
pub(crate) struct FanOut {
    parts: FanOutParts,
    /// What the consumer's ARN was at the last call.
    called_as: Arc<str>,
    shard: Arc<ShardContext>,
    /// Where the next subscription starts: behind the last event that was handed out.
    resume: StartingAt,
    history: History,
    phase: Phase,
    jitter: fastrand::Rng,
}

enum Phase {
    /// No subscription; the next one may be asked for then.
    Waiting(Instant),
    /// Asked for. The future is kept here, so that dropping `next` does not drop the call.
    Calling(BoxFuture<'static, Called>),
    /// The consumer was not found: its ARN is asked for again. True when there is another one.
    LookingUp(BoxFuture<'static, bool>, ReadError),
    Live(Box<Subscription>, Connection),
    ShardEnded,
}

/// What came of a call for a subscription.
struct Called {
    at: Instant,
    connection: Connection,
    result: Result<SdkBody, Ended>,
}

impl FanOut {
    /// A reader of `shard` from `start` on. It does nothing before [`FanOut::next`].
    pub(crate) fn new(
        parts: FanOutParts,
        shard: Arc<ShardContext>,
        start: StartingAt,
        seed: u64,
    ) -> FanOut {
        FanOut {
            called_as: parts.consumer.arn(),
            parts,
            shard,
            resume: start,
            history: History::default(),
            phase: Phase::Waiting(Instant::now()),
            jitter: fastrand::Rng::with_seed(seed),
        }
    }

    /// The next event, however many subscriptions it takes. The last one has `shard_ended`.
    ///
    /// Cancel safe: dropping the future loses no event, and the subscription lives on. It must
    /// then be polled again soon or cancelled ([`FanOut::cancel`]): unread bytes hold the
    /// connection's window.
    ///
    /// # Errors
    /// When reading on makes no sense, see [`ReadError`]. Errors that pass are waited for.
    pub(crate) async fn next(&mut self) -> Result<RawBatch, ReadError> {
        loop {
            match &mut self.phase {
                Phase::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    self.phase = Phase::Calling(self.call());
                }
                Phase::Calling(call) => {
                    let called = call.await;
                    self.called(called)?;
                }
                Phase::LookingUp(look_up, error) => {
                    let (found, error) = (look_up.await, error.clone());
                    self.looked_up(found, error)?;
                }
                Phase::Live(subscription, connection) => {
                    let silence = self.parts.options.inactivity_deadline;
                    match subscription.next_event(&self.shard, silence).await {
                        Ok((event, permit)) => {
                            let received_at = subscription.heard();
                            return Ok(self.hand_out(event, permit, received_at));
                        }
                        Err(ended) => {
                            if ended == Ended::Silent {
                                connection.distrust();
                            }
                            self.ended(&ended)?;
                        }
                    }
                }
                Phase::ShardEnded => return Err(ReadError::BehindShardEnd),
            }
        }
    }

    /// Drops the subscription at once, with what it has not handed out. The next
    /// [`FanOut::next`] resumes behind the last event that was.
    pub(crate) fn cancel(&mut self) {
        if matches!(self.phase, Phase::Calling(_) | Phase::Live(..)) {
            // A call that was on its way may have been accepted without our knowing.
            if matches!(self.phase, Phase::Calling(_)) {
                self.history.called(Instant::now());
                self.history.accepted(Instant::now());
            }
            metrics::subscription_ended("cancelled");
            self.phase = Phase::Waiting(self.earliest());
        }
    }

    /// Goes on at another place: the subscription is dropped at once.
    pub(crate) fn restart(&mut self, start: StartingAt) {
        self.cancel();
        self.resume = start;
        if matches!(self.phase, Phase::ShardEnded) {
            self.phase = Phase::Waiting(self.earliest());
        }
    }

    fn earliest(&mut self) -> Instant {
        let at = plan::earliest(&self.history, self.jitter.f64(), &self.parts.options);
        at.unwrap_or_else(Instant::now)
    }

    fn call(&mut self) -> BoxFuture<'static, Called> {
        let FanOutParts { options, connections, turns, consumer, .. } = self.parts.clone();
        let (shard, start) = (Arc::clone(&self.shard), self.resume.clone());
        let limit = options.subscribe_timeout;
        self.called_as = consumer.arn();
        let arn = Arc::clone(&self.called_as);
        Box::pin(async move {
            turns.turn().await;
            let (at, connection) = (Instant::now(), connections.take());
            let client = connection.client();
            let result = subscribe::call(client, &arn, &shard, &start, limit).await;
            if matches!(result, Err(Ended::Unanswered(_))) {
                connection.distrust();
            }
            Called { at, connection, result }
        })
    }

    /// Another ARN of the consumer, if it is that which was not found.
    fn look_up(&self) -> BoxFuture<'static, bool> {
        let FanOutParts { options, connections, consumer, .. } = self.parts.clone();
        let stale = Arc::clone(&self.called_as);
        Box::pin(async move {
            let connection = connections.take();
            consumer.look_up(connection.client(), &stale, options.subscribe_timeout).await
        })
    }

    fn looked_up(&mut self, found: bool, error: ReadError) -> Result<(), ReadError> {
        if found {
            self.phase = Phase::Waiting(self.earliest());
            return Ok(());
        }
        // Asked again all the same, it goes on after a pause.
        self.phase = Phase::Waiting(Instant::now() + self.parts.options.backoff_max);
        Err(error)
    }

    fn called(&mut self, called: Called) -> Result<(), ReadError> {
        self.history.called(called.at);
        match called.result {
            Ok(body) => {
                let now = Instant::now();
                self.history.accepted(now);
                metrics::subscribed();
                tracing::debug!(shard = %self.shard.shard_id, from = %self.resume, "subscribed");
                let most = self.parts.options.max_frame_bytes;
                let frames = FrameReader::new(most, self.parts.budget.clone());
                let subscription = Box::new(Subscription::new(body, frames, now));
                self.phase = Phase::Live(subscription, called.connection);
                Ok(())
            }
            Err(ended) => self.ended(&ended),
        }
    }

    /// Decides what follows a subscription's end, and drops it.
    fn ended(&mut self, ended: &Ended) -> Result<(), ReadError> {
        metrics::subscription_ended(ended.name());
        self.history.ended(ended);
        let now = Instant::now();
        let plan = plan::after(ended, &self.history, now, self.jitter.f64(), &self.parts.options);
        let shard = &self.shard.shard_id;
        match plan {
            Plan::SubscribeAt(at) => {
                let pause_ms = u64::try_from((at - now).as_millis()).unwrap_or(u64::MAX);
                if ended.is_ordinary() {
                    tracing::debug!(%shard, why = %ended, pause_ms, "a subscription ended");
                } else {
                    tracing::warn!(%shard, why = %ended, pause_ms, "a subscription failed; it is tried again");
                }
                self.phase = Phase::Waiting(at);
                Ok(())
            }
            Plan::GiveUp(error @ ReadError::NotFound { .. }) => {
                self.phase = Phase::LookingUp(self.look_up(), error);
                Ok(())
            }
            Plan::GiveUp(error) => {
                // Asked again all the same, it goes on after a pause.
                self.phase = Phase::Waiting(now + self.parts.options.backoff_max);
                Err(error)
            }
        }
    }

    /// Moves the resume position behind the event. Nothing waits between this and the caller.
    fn hand_out(&mut self, event: Event, permit: Permit, received_at: Instant) -> RawBatch {
        self.history.event();
        metrics::event(event.records.len(), event.wire_bytes);
        let shard_ended = event.continuation.is_none();
        match &event.continuation {
            Some(continuation) => self.resume = StartingAt::After(continuation.clone()),
            None => {
                metrics::subscription_ended("shard-end");
                self.phase = Phase::ShardEnded;
            }
        }
        RawBatch {
            shard: Arc::clone(&self.shard),
            records: event.records,
            upto: event.continuation,
            millis_behind_latest: event.millis_behind_latest,
            children: event.children,
            shard_ended,
            wire_bytes: event.wire_bytes,
            received_at,
            permit: Some(permit),
        }
    }
}
