//! An embedded Kinesis and DynamoDB that speak the AWS wire, in process and on loopback.
//!
//! It never verifies a signature, never talks to the real AWS, and knows nothing of the product that is tested against it: callers
//! reach it through real AWS SDK clients only. Its time is tokio's, so a test may pause it.
//!
//! Start reading at [`LocalAws::dispatch`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clock;
mod connector;
mod dispatch;
mod dynamodb;
mod kinesis;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::dispatch::Call;
use crate::dynamodb::DynamoDb;
use crate::kinesis::Kinesis;
use crate::wire::Answer;

pub use crate::clock::Clock;
pub use crate::dispatch::Service;
pub use crate::kinesis::KinesisOptions;
pub use crate::wire::BodyStream;

/// How a [`LocalAws`] is built.
#[derive(Debug, Clone)]
pub struct Options {
    /// The twelve digits of the account in every ARN.
    pub account: String,
    /// The region in every ARN.
    pub region: String,
    /// Limits and intervals of Kinesis.
    pub kinesis: KinesisOptions,
    /// Where DynamoDB keeps its tables; `None` is memory.
    pub dynamodb_path: Option<PathBuf>,
    /// Seed of everything random: shard ids never, request ids and chances of faults always.
    pub seed: u64,
    /// The wall time at the moment of [`LocalAws::new`]; tokio's clock moves it on.
    pub epoch: SystemTime,
    /// A clock to use instead of `epoch` and tokio's, for several runtimes that share one time.
    pub clock: Option<Clock>,
}

impl Default for Options {
    fn default() -> Self {
        // This crate stands for the world outside, so it is the one library that may take the time from there, once.
        #[allow(clippy::disallowed_methods)]
        let epoch = SystemTime::now();
        Self {
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            kinesis: KinesisOptions::default(),
            dynamodb_path: None,
            seed: 0,
            epoch,
            clock: None,
        }
    }
}

/// Why a [`LocalAws`] could not be built.
#[derive(Debug, thiserror::Error)]
pub enum LocalAwsError {
    /// The tables could not be opened or created.
    #[error("open DynamoDB tables at {path}: {reason}")]
    OpenTables {
        /// The file, or "memory".
        path: String,
        /// What the engine said.
        reason: String,
    },
}

/// The connection is gone before an answer came; whether the call was applied is not known to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection was cut before the answer")]
pub struct ConnectionCut;

/// The stand-in itself. Cheap to clone: all clones are one AWS.
#[derive(Clone)]
pub struct LocalAws(Arc<Inner>);

struct Inner {
    dynamodb: DynamoDb,
    kinesis: Kinesis,
    seed: u64,
    requests: AtomicU64,
}

impl LocalAws {
    /// An AWS with no streams and, in memory, no tables.
    ///
    /// # Errors
    /// When the file of the tables cannot be opened.
    pub fn new(options: Options) -> Result<Self, LocalAwsError> {
        let clock = options
            .clock
            .unwrap_or_else(|| Clock::starting_at(options.epoch));
        let dynamodb = match &options.dynamodb_path {
            None => DynamoDb::in_memory(clock.clone()),
            Some(path) => DynamoDb::open(path),
        };
        let dynamodb = dynamodb.map_err(|error| LocalAwsError::OpenTables {
            path: options
                .dynamodb_path
                .map_or_else(|| "memory".to_owned(), |path| path.display().to_string()),
            reason: error.to_string(),
        })?;
        let kinesis = Kinesis::new(
            options.kinesis,
            &options.account,
            &options.region,
            options.seed,
            clock,
        );
        Ok(Self(Arc::new(Inner {
            dynamodb,
            kinesis,
            seed: options.seed,
            requests: AtomicU64::new(0),
        })))
    }

    /// An HTTP client for real SDK clients of any endpoint: their calls are answered here, in the task that makes them.
    #[must_use]
    pub fn http_client(&self) -> SharedHttpClient {
        SharedHttpClient::new(connector::InProcess::new(self.clone()))
    }

    /// Answers one AWS call.
    ///
    /// # Errors
    /// [`ConnectionCut`] when a fault took the connection away.
    pub async fn dispatch(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<BodyStream>, ConnectionCut> {
        let (service, answer) = match Call::parse(request) {
            Ok(call) => (Some(call.service), self.apply(&call).await),
            Err(refusal) => (None, refusal),
        };
        Ok(self.respond(service, answer))
    }

    async fn apply(&self, call: &Call) -> Answer {
        match call.service {
            Service::Dynamodb => self.0.dynamodb.handle(&call.operation, call.body.clone()).await,
            Service::Kinesis => self.0.kinesis.handle(&call.operation, call.body.clone()).await,
        }
    }

    /// Deletes the DynamoDB items whose time to live has passed, as the service does at some later time; returns how many.
    ///
    /// # Errors
    /// The engine's own message.
    pub async fn sweep_expired(&self) -> Result<usize, String> {
        let swept = self.0.dynamodb.sweep_expired().await;
        swept.map_err(|error| error.to_string())
    }

    fn respond(&self, service: Option<Service>, answer: Answer) -> http::Response<BodyStream> {
        let mut headers = HeaderMap::new();
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (self.0.seed >> 32, self.0.seed & 0xffff_ffff);
        let id = format!("{high:08x}-{:04x}-4000-8000-{number:012x}", low & 0xffff);
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert("x-amzn-requestid", id);
        }
        if let (Some(Service::Dynamodb), Answer::Json { body, .. }) = (service, &answer) {
            headers.insert("x-amz-crc32", HeaderValue::from(crc32fast::hash(body)));
        }
        let content_type = service.unwrap_or(Service::Kinesis).content_type();
        let mut response = answer.into_response(content_type);
        response.headers_mut().extend(headers);
        response
    }
}

impl fmt::Debug for LocalAws {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LocalAws").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
