//! An embedded Kinesis and DynamoDB, and catchers for SQS, SNS and EventBridge, that speak the AWS wire, in process and on loopback.
//!
//! It never verifies a signature, never talks to the real AWS, and knows nothing of the product that is tested against it: callers
//! reach it through real AWS SDK clients only, so it cannot be helpful to them.
//!
//! # Two ways in, one dispatcher
//!
//! - [`LocalAws::http_client`] is an HTTP client for SDK clients: a call runs in the task that makes it, without a socket, and a
//!   subscription's event stream is handed over as it is. With tokio's time paused a run is fast, and with one seed the same each time.
//! - [`LocalAws::serve`] answers HTTP/1.1 and HTTP/2 (prior knowledge, no TLS) on a listener: the `aws` CLI, boto3, a KCL with CBOR
//!   switched off, or our own processes. Under `/_local/` it also takes faults and tells counters (see `control.rs`).
//!
//! Both end in [`LocalAws::dispatch`]: the checks that AWS makes first (`dispatch/`), what goes wrong on purpose (`faults/`), then the
//! service (`apply.rs`): `dynamodb/` is a thin wire over the library dynoxide, `kinesis/` and `messaging/` are ours.
//!
//! # Time
//!
//! [`Options::epoch`] is taken once; from there on tokio's clock moves everything: arrival times, expiries, limits, idle events. A
//! simulation whose runtimes must agree gives its own [`Clock`]. Expired DynamoDB items stay until [`LocalAws::sweep_expired`], as
//! the service may keep them; a server sweeps every ten minutes.
//!
//! # Faults
//!
//! [`Faults::inject`] takes a [`Fault`]: which calls (service, operation, table or stream, caller) and which [`Effect`]: a throttle, a
//! lost reply, a late write, a partition and so on. A caller is the access key id that signed: give each worker its own.
//!
//! ```
//! use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
//! use local_aws::{Effect, Fault, LocalAws, Options, Service};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aws = LocalAws::new(Options::default())?;
//! let config = aws_sdk_dynamodb::Config::builder()
//!     .behavior_version(BehaviorVersion::latest())
//!     .region(Region::new("us-east-1"))
//!     .credentials_provider(Credentials::from_keys("worker-1", "any", None))
//!     .http_client(aws.http_client())
//!     .build();
//! let dynamodb = aws_sdk_dynamodb::Client::from_conf(config);
//! let throttle = Fault::new(Service::Dynamodb, Effect::Throttle);
//! aws.faults().inject(throttle.operation("ListTables").times(1));
//! dynamodb.list_tables().send().await?; // the SDK tries again
//! assert_eq!(aws.calls()[0].calls, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # What happens on the wire
//!
//! [`Options::tap`] is shown each call, answer and piece of a stream, and each item that DynamoDB writes, as it happens.
//!
//! # Limits
//!
//! Bodies of 16 MiB, 2,048 connections of 1,024 streams, 32 KiB of headers; each service adds its own. Table ARNs carry the account
//! and region of the engine, whatever [`Options`] says.
//!
//! Start reading at [`LocalAws::dispatch`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
mod calls;
mod clock;
mod connector;
mod control;
mod dispatch;
mod dynamodb;
mod faults;
mod kinesis;
mod messaging;
mod serve;
mod tap;
mod wire;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderValue;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::apply::Services;
use crate::calls::Calls;
use crate::dispatch::{Call, query};
use crate::dynamodb::DynamoDb;
use crate::kinesis::Kinesis;
use crate::messaging::Messaging;
use crate::wire::Answer;

pub use crate::calls::CallCount;
pub use crate::clock::Clock;
pub use crate::dispatch::Service;
pub use crate::faults::{Effect, Fault, FaultId, Faults};
pub use crate::kinesis::KinesisOptions;
pub use crate::tap::{Seen, Tap, Traced};
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
    /// Is shown everything on the wire.
    pub tap: Option<Tap>,
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
            tap: None,
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
    services: Services,
    calls: Calls,
    seed: u64,
    requests: AtomicU64,
}

impl LocalAws {
    /// An AWS with no streams and, in memory, no tables.
    ///
    /// # Errors
    /// When the file of the tables cannot be opened.
    pub fn new(options: Options) -> Result<Self, LocalAwsError> {
        let clock = options.clock.unwrap_or_else(|| Clock::starting_at(options.epoch));
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
            clock.clone(),
        );
        let messaging = Messaging::new(&options.account, &options.region, clock.clone());
        Ok(Self(Arc::new(Inner {
            services: Services {
                dynamodb,
                kinesis,
                messaging,
                clock,
                faults: Faults::new(options.seed),
                tap: options.tap,
                shown: faults::Shown::default(),
            },
            calls: Calls::default(),
            seed: options.seed,
            requests: AtomicU64::new(0),
        })))
    }

    /// An HTTP client for real SDK clients of any endpoint: their calls are answered here, in the task that makes them.
    #[must_use]
    pub fn http_client(&self) -> SharedHttpClient {
        SharedHttpClient::new(connector::InProcess::new(self.clone()))
    }

    /// Serves HTTP/1.1 and HTTP/2 (prior knowledge) on `listener`, AWS calls and the control endpoint under `/_local/`, until `stop`.
    ///
    /// # Errors
    /// When the listener is unusable.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        serve::run(self.clone(), listener, stop).await
    }

    /// What goes wrong on purpose.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.services.faults
    }

    /// How often each operation was called, in the order of service, operation and resource.
    #[must_use]
    pub fn calls(&self) -> Vec<CallCount> {
        self.0.calls.snapshot()
    }

    /// From now on STS lets this role be assumed only with this external id, as its trust policy would say. Other roles are assumed by
    /// anyone.
    pub fn trust(&self, role_arn: &str, external_id: &str) {
        self.0.services.messaging.trust(role_arn, external_id);
    }

    /// Answers one AWS call.
    ///
    /// # Errors
    /// [`ConnectionCut`] when a fault took the connection away.
    pub async fn dispatch(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<BodyStream>, ConnectionCut> {
        let call = match Call::parse(request) {
            Ok(call) => call,
            Err(refusal) => return Ok(self.respond(None, refusal)),
        };
        self.0.calls.count(&call);
        self.0.services.show(&call, Seen::Called);
        let plan = self.0.services.faults.plan(&call);
        if !plan.delay.is_zero() {
            tokio::time::sleep(plan.delay).await;
        }
        let services = &self.0.services;
        services.land_late_calls().await;
        let answer = match plan.effect {
            None => services.apply(&call).await,
            Some(effect) => services
                .apply_under(effect, &call)
                .await
                .inspect_err(|ConnectionCut| services.show(&call, Seen::Cut))?,
        };
        Ok(self.respond(Some(call), answer))
    }

    /// Deletes the DynamoDB items whose time to live has passed, as the service does at some later time; returns how many.
    ///
    /// # Errors
    /// The engine's own message.
    pub async fn sweep_expired(&self) -> Result<usize, String> {
        let swept = self.0.services.dynamodb.sweep_expired().await;
        swept.map_err(|error| error.to_string())
    }

    fn respond(&self, call: Option<Call>, answer: Answer) -> http::Response<BodyStream> {
        let service = call.as_ref().map(|call| call.service);
        if let Some(call) = &call {
            let (status, body) = match &answer {
                Answer::Json { status, body } => (*status, body.clone()),
                Answer::Stream(_) => (200, Bytes::new()),
            };
            self.0.services.show(call, Seen::Answered { status, body: &body });
        }
        let content_type = service.unwrap_or(Service::Kinesis).content_type();
        let request_id = self.next_request_id();
        let mut checksum = None;
        let mut response = match (answer, call) {
            (Answer::Json { status, body }, Some(call)) if call.service.speaks_query() => {
                let body = query::encode(call.service, &call.operation, status, &body, &request_id);
                wire::response(status, content_type, BodyStream::whole(body))
            }
            (Answer::Json { status, body }, _) => {
                checksum = (service == Some(Service::Dynamodb)).then(|| crc32fast::hash(&body));
                wire::response(status, content_type, BodyStream::whole(body))
            }
            (Answer::Stream(frames), None) => {
                let frames = frames.map(Ok).boxed();
                wire::response(200, wire::EVENT_STREAM, BodyStream::pieces(frames))
            }
            (Answer::Stream(frames), Some(call)) => {
                let services = &self.0.services;
                let guarded =
                    faults::guard(frames, services.faults.clone(), call, services.tap.clone());
                wire::response(200, wire::EVENT_STREAM, BodyStream::pieces(guarded))
            }
        };
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            headers.insert("x-amzn-requestid", id);
        }
        if let Some(checksum) = checksum {
            headers.insert("x-amz-crc32", HeaderValue::from(checksum));
        }
        response
    }

    /// In the form of a UUID, but counted: a run that is repeated gives the same ids.
    fn next_request_id(&self) -> String {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        let seed = self.0.seed;
        format!("{:08x}-{:04x}-4000-8000-{number:012x}", seed & 0xffff_ffff, (seed >> 32) & 0xffff)
    }
}

impl fmt::Debug for LocalAws {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LocalAws").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
