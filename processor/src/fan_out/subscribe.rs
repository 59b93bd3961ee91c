//! One subscription: the call through the SDK, and the events in the body that comes back.
//!
//! Calls are not retried by the SDK: `plan` paces them.

use std::time::Duration;

use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::error::DisplayErrorContext;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::batch::ShardContext;
use crate::budget::Permit;
use crate::envelope::{self, Event};

use super::frame::{Frame, FrameError, FrameReader, Kind};
use super::plan::Ended;
use crate::reader::StartingAt;
use crate::reader::refusal::{Refusal, refusal};
use crate::reader::taken_body::TakenBody;

/// Asks for a subscription.
pub(super) async fn call(
    client: aws_sdk_kinesis::Client,
    consumer_arn: &str,
    shard: &ShardContext,
    start: &StartingAt,
    limit: Duration,
) -> Result<SdkBody, Ended> {
    let body = TakenBody::new("");
    let call = client
        .subscribe_to_shard()
        .consumer_arn(consumer_arn)
        .shard_id(&*shard.shard_id)
        .starting_position(start.to_wire())
        .customize()
        .config_override(
            aws_sdk_kinesis::config::Builder::new().retry_config(RetryConfig::disabled()),
        )
        .interceptor(body.clone());
    match tokio::time::timeout(limit, call.send()).await {
        Err(_) => Err(Ended::Unanswered(limit)),
        Ok(Err(error)) => Err(refusal(&error).map_or_else(Ended::Cut, Ended::Refused)),
        Ok(Ok(_)) => body.take().ok_or_else(|| Ended::Broken("the answer has no body".to_owned())),
    }
}

/// An accepted subscription.
pub(super) struct Subscription {
    body: SdkBody,
    frames: FrameReader,
    /// When bytes came last.
    heard: Instant,
}

impl Subscription {
    /// The body of an accepted call; `frames` is new.
    pub(super) fn new(body: SdkBody, frames: FrameReader, now: Instant) -> Subscription {
        Subscription { body, frames, heard: now }
    }

    /// When bytes came last.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// The next event, and what it was charged. Cancel safe: what was read stays here.
    pub(super) async fn next_event(
        &mut self,
        shard: &ShardContext,
        silence: Duration,
    ) -> Result<(Event, Permit), Ended> {
        loop {
            let frame = self.frames.next().map_err(|error| match error {
                FrameError::NoRoom { bytes } => Ended::NoRoom { bytes },
                broken => Ended::Broken(broken.to_string()),
            })?;
            match frame {
                Some(frame) => {
                    if let Some(event) = read(&frame, shard)? {
                        return Ok((event, frame.into_permit()));
                    }
                }
                None => self.fill(silence).await?,
            }
        }
    }

    /// Reads more of the body. What is there counts, however late it is read: only after that is
    /// the silence measured.
    async fn fill(&mut self, silence: Duration) -> Result<(), Ended> {
        match tokio::time::timeout_at(self.heard + silence, self.body.frame()).await {
            Err(_) => Err(Ended::Silent),
            Ok(None) if self.frames.is_between_frames() => Err(Ended::Expired),
            Ok(None) => Err(Ended::Cut("the stream ended inside a frame".to_owned())),
            Ok(Some(Err(error))) => Err(Ended::Cut(DisplayErrorContext(&*error).to_string())),
            Ok(Some(Ok(part))) => {
                self.heard = Instant::now();
                if let Ok(data) = part.into_data() {
                    self.frames.push(data);
                }
                Ok(())
            }
        }
    }
}

/// What a frame says: an event, or nothing that matters here, or the stream's end.
fn read(frame: &Frame, shard: &ShardContext) -> Result<Option<Event>, Ended> {
    match frame.kind() {
        Kind::Event => match envelope::event(frame.payload(), frame.wire_bytes(), shard) {
            Ok(event) => Ok(Some(event)),
            Err(error) => Err(Ended::Broken(error.to_string())),
        },
        Kind::Other => Ok(None),
        Kind::Exception { code } => Err(Ended::Refused(Refusal {
            code: code.clone(),
            detail: envelope::exception_message(frame.payload()),
            in_stream: true,
        })),
        Kind::Error { code, message } => Err(Ended::Refused(Refusal {
            code: code.clone(),
            detail: message.clone(),
            in_stream: true,
        })),
    }
}
