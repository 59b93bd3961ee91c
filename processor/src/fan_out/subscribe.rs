//! One subscription: the call through the SDK, and the events in the body that comes back.
//!
//! The SDK finds the endpoint, signs, sends and reads errors. Of an accepted call an interceptor
//! takes the body away before the SDK would read it, so that our own reader gets it. Calls are
//! not retried by the SDK: `plan` paces them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::batch::ShardContext;
use crate::envelope::{self, Event};

use super::StartingAt;
use super::frame::{Frame, FrameReader, Kind};
use super::plan::{Ended, Refusal};

/// Asks for a subscription. The future owns all it needs.
pub(super) fn call(
    client: aws_sdk_kinesis::Client,
    shard: Arc<ShardContext>,
    start: StartingAt,
    limit: Duration,
) -> BoxFuture<'static, Result<SdkBody, Ended>> {
    let body = TakenBody::default();
    let call = client
        .subscribe_to_shard()
        .consumer_arn(&*shard.consumer_arn)
        .shard_id(&*shard.shard_id)
        .starting_position(start.to_wire())
        .customize()
        .config_override(
            aws_sdk_kinesis::config::Builder::new().retry_config(RetryConfig::disabled()),
        )
        .interceptor(body.clone());
    Box::pin(async move {
        match tokio::time::timeout(limit, call.send()).await {
            Err(_) => Err(Ended::Cut(format!("no answer within {} ms", limit.as_millis()))),
            Ok(Err(error)) => Err(refusal(&error)),
            Ok(Ok(_)) => {
                body.take().ok_or_else(|| Ended::Broken("the answer has no body".to_owned()))
            }
        }
    })
}

/// What the SDK says of a call that failed: a named error of the service, or a failed connection.
fn refusal<E>(error: &SdkError<E>) -> Ended
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    match error.as_service_error().and_then(ProvideErrorMetadata::code) {
        Some(code) => Ended::Refused(Refusal {
            code: code.to_owned(),
            detail: error.message().unwrap_or("no message").to_owned(),
            in_stream: false,
        }),
        None => Ended::Cut(DisplayErrorContext(error).to_string()),
    }
}

/// Where the interceptor of one call puts the body. One per call, never shared between calls.
#[derive(Debug, Clone, Default)]
struct TakenBody {
    /// A mutex because an interceptor is shared and immutable to the SDK; held for one move.
    body: Arc<Mutex<Option<SdkBody>>>,
}

impl TakenBody {
    fn take(&self) -> Option<SdkBody> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for TakenBody {
    fn name(&self) -> &'static str {
        "TakenBody"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            let body = std::mem::replace(response.body_mut(), SdkBody::empty());
            *self.body.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
        Ok(())
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
    pub(super) fn new(body: SdkBody, max_frame_bytes: usize, now: Instant) -> Subscription {
        Subscription { body, frames: FrameReader::new(max_frame_bytes), heard: now }
    }

    /// The next event. Cancel safe: what was read stays here.
    pub(super) async fn next_event(
        &mut self,
        shard: &ShardContext,
        silence: Duration,
    ) -> Result<Event, Ended> {
        loop {
            if let Some(frame) = self.frames.next().map_err(|e| Ended::Broken(e.to_string()))? {
                if let Some(event) = read(&frame, shard)? {
                    return Ok(event);
                }
                continue;
            }
            self.fill(silence).await?;
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
