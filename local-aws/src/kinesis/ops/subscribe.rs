//! SubscribeToShard: a pushed stream of events.
//!
//! A subscription holds a cursor and nothing of the backlog: each frame is made when the connection asks for it, so a client that
//! does not read costs no memory. It waits on the shard's own signal, never on a polling timer.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::event_stream::{Frame, initial_response};
use super::read::{Start, StartType, children_of};
use super::request::{Timestamp, dry_run, stream_of_arn};
use super::shape::ChildShape;
use super::{parse, record_json};
use crate::kinesis::Kinesis;
use crate::kinesis::engine::{
    Accepted, Ended, Page, READ_BYTES_PER_SECOND, SequenceNumber, TokenBucket, consumer_not_found,
};
use crate::kinesis::error::Refusal;
use crate::wire::Answer;

/// Bytes of records in one event, but for one record that is larger.
const EVENT_BYTES: usize = 1 << 20;
/// Records in one event.
const EVENT_RECORDS: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct SubscribeToShard {
    #[serde(rename = "ConsumerARN")]
    consumer_arn: String,
    shard_id: String,
    starting_position: StartingPosition,
    dry_run: Option<bool>,
    #[serde(rename = "StreamId")]
    _stream_id: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct StartingPosition {
    r#type: StartType,
    sequence_number: Option<String>,
    timestamp: Option<Timestamp>,
}

/// Accepts a subscription, or says why not.
pub(super) fn subscribe_to_shard(kinesis: &Kinesis, body: &[u8]) -> Result<Answer, Refusal> {
    let request: SubscribeToShard = parse(body)?;
    let subscription = accept(kinesis, &request)?;
    let frames = futures::stream::unfold(subscription, |mut subscription| async move {
        let frame = subscription.next_frame().await?;
        Some((frame, subscription))
    });
    // Fused: a body may be polled once more after its end, for trailers.
    Ok(Answer::Stream(frames.fuse().boxed()))
}

fn accept(kinesis: &Kinesis, request: &SubscribeToShard) -> Result<Subscription, Refusal> {
    let (mut engine, now_ms) = kinesis.enter();
    let arn = &request.consumer_arn;
    let name = stream_of_arn(&engine, arn)?.to_owned();
    let account = engine.account.clone();
    let enforce = engine.limits.enforce;
    let stream = engine.live_stream(&name, now_ms).map_err(|_| consumer_not_found(arn))?;
    let generation = stream.generation;
    let shard = stream.shard_by_id(&request.shard_id, now_ms)?;
    let position = &request.starting_position;
    let start = Start {
        r#type: position.r#type,
        sequence: position.sequence_number.as_deref(),
        timestamp: position.timestamp,
        operation: "SubscribeToShard",
    };
    let cursor = start.cursor(shard, &name, &account, now_ms)?;
    let (index, changed) = (shard.index, shard.watch());
    dry_run(request.dry_run)?;
    let Accepted { ended, taken_over } = stream.accept_subscription(arn, index, now_ms)?;
    let options = kinesis.options();
    let now = Instant::now();
    Ok(Subscription {
        consumer: arn.clone(),
        stream: name,
        generation,
        shard: index,
        cursor,
        changed,
        ended,
        taken_over,
        phase: Phase::Opening,
        expires_at: now + options.subscription_lifetime,
        idle_at: now,
        pace: enforce.then(|| TokenBucket::full(READ_BYTES_PER_SECOND, now_ms)),
        kinesis: kinesis.clone(),
    })
}

/// Where a subscription is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing sent yet.
    Opening,
    /// Events flow.
    Live,
    /// The last frame is sent.
    Over,
}

/// What the engine has for a subscription at a moment.
enum Found {
    /// Records, the end of the shard, or a due sign of life.
    Event { page: Page, continuation: Option<SequenceNumber>, children: Vec<ChildShape> },
    /// Nothing before this long from now, or before the shard changes.
    Nothing { wait: Duration },
    /// The stream or shard does not exist any more.
    Gone(Refusal),
}

/// One live subscription: a cursor and what ends it.
struct Subscription {
    kinesis: Kinesis,
    consumer: String,
    stream: String,
    generation: u64,
    shard: u32,
    cursor: SequenceNumber,
    changed: watch::Receiver<()>,
    ended: watch::Receiver<Option<Ended>>,
    taken_over: String,
    phase: Phase,
    expires_at: Instant,
    /// When an empty event is due.
    idle_at: Instant,
    /// 2 MiB a second, where limits are enforced.
    pace: Option<TokenBucket>,
}

impl Subscription {
    /// The next frame, or `None` once the stream has ended.
    async fn next_frame(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Over => return None,
            Phase::Opening => {
                self.phase = Phase::Live;
                return Some(initial_response());
            }
            Phase::Live => {}
        }
        loop {
            let ended = *self.ended.borrow_and_update();
            if let Some(why) = ended {
                let refusal = self.refusal(why);
                return Some(self.fail(&refusal));
            }
            if Instant::now() >= self.expires_at {
                self.phase = Phase::Over;
                return None;
            }
            // Seen before looking, so that a change while looking wakes the wait below.
            self.changed.borrow_and_update();
            let wait = match self.look() {
                Found::Gone(refusal) => return Some(self.fail(&refusal)),
                Found::Nothing { wait } => wait,
                Found::Event { page, continuation, children } => {
                    return Some(match event(&page, continuation, &children) {
                        Ok(frame) => frame,
                        Err(refusal) => self.fail(&refusal),
                    });
                }
            };
            self.wait(wait).await;
        }
    }

    /// Waits for the end of the subscription, something new in the shard, or `most`.
    async fn wait(&mut self, most: Duration) {
        let wake_at = self.expires_at.min(Instant::now() + most);
        let paced = self.pace_wait() > Duration::ZERO;
        tokio::select! {
            biased;
            // Errors mean that the other side is gone; the next look finds out what that is.
            _ = self.ended.changed() => {}
            _ = self.changed.changed(), if !paced => {}
            () = tokio::time::sleep_until(wake_at) => {}
        }
    }

    fn pace_wait(&mut self) -> Duration {
        let now_ms = self.kinesis.shared.clock.now_ms();
        let owed_ms = self.pace.as_mut().map_or(0, |pace| pace.clear_in_ms(now_ms));
        Duration::from_millis(owed_ms)
    }

    /// Reads from the cursor on and moves it.
    fn look(&mut self) -> Found {
        let owed = self.pace_wait();
        if owed > Duration::ZERO {
            return Found::Nothing { wait: owed };
        }
        let kinesis = self.kinesis.clone();
        let (mut engine, now_ms) = kinesis.enter();
        let gone = Refusal::ResourceNotFound(format!(
            "Shard {} in stream {} under account {} does not exist.",
            crate::kinesis::engine::shard_id(self.shard),
            self.stream,
            engine.account
        ));
        let stream = match engine.live_stream(&self.stream, now_ms) {
            Ok(stream) if stream.generation == self.generation => stream,
            _ => return Found::Gone(gone),
        };
        let Some(shard) = stream.shard_mut(self.shard, now_ms) else {
            return Found::Gone(gone);
        };
        let page = shard.read(self.cursor, EVENT_RECORDS, EVENT_BYTES, now_ms);
        let now = Instant::now();
        if page.records.is_empty() && !page.ended && now < self.idle_at {
            return Found::Nothing { wait: self.idle_at - now };
        }
        self.idle_at = now + self.kinesis.options().idle_event_interval;
        self.cursor = page.next;
        let continuation = match page.records.last() {
            _ if page.ended => None,
            Some(last) => Some(last.sequence),
            None => Some(shard.idle_continuation(now_ms)),
        };
        let children = if page.ended {
            self.phase = Phase::Over;
            children_of(stream, self.shard)
        } else {
            Vec::new()
        };
        if let Some(pace) = &mut self.pace {
            pace.take(page.bytes());
        }
        Found::Event { page, continuation, children }
    }

    fn refusal(&self, why: Ended) -> Refusal {
        match why {
            Ended::Replaced => Refusal::ResourceInUse(self.taken_over.clone()),
            Ended::ConsumerGone => consumer_not_found(&self.consumer),
            Ended::StreamGone => Refusal::ResourceNotFound(format!(
                "Stream {} of consumer {} not found.",
                self.stream, self.consumer
            )),
        }
    }

    fn fail(&mut self, refusal: &Refusal) -> Bytes {
        self.phase = Phase::Over;
        Frame::exception(refusal)
    }
}

/// The frame of one event.
fn event(
    page: &Page,
    continuation: Option<SequenceNumber>,
    children: &[ChildShape],
) -> Result<Bytes, Refusal> {
    let mut frame = Frame::event("SubscribeToShardEvent", record_json::room_for(page));
    let out = frame.payload();
    out.push(b'{');
    record_json::write_page(out, page, children)?;
    if let Some(continuation) = continuation {
        out.extend_from_slice(
            format!(",\"ContinuationSequenceNumber\":\"{continuation}\"").as_bytes(),
        );
    }
    out.push(b'}');
    Ok(frame.finish())
}
