//! One shard, two pipelines, one checkpoint.
//!
//! A `ShardConsumer` per owned lease reads its shard through enhanced fan-out or by polling,
//! looks into each record once and offers every batch to two lanes: `sync-store` keeps messages
//! queryable, `async-delivery` pushes them. A lane's position moves over what is settled in it,
//! and both positions are written together, in one conditional write of the lease.
//!
//! It never decides who owns a shard (`lease-manager` does), never creates tables, and never
//! holds one lane up for the other. Start reading at `shard_consumer`, then `batch`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ailment;
mod arena;
mod async_delivery;
mod batch;
mod budget;
mod buffer;
mod clock;
mod decode;
mod envelope;
mod examine;
mod fan_out;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
pub mod integration;
mod json;
mod lane;
mod lane_start;
mod lane_watch;
mod latency;
mod marker;
mod metrics;
mod null_sink;
mod polling;
mod reader;
mod redrive;
mod service;
mod shard_consumer;
#[doc(hidden)]
pub mod stages;
mod status;
mod sync_store;
mod turns;

pub use async_delivery::{
    AddressClass, Allowance, Answer, AwsConfigs, AwsIdentity, AwsService, BadAllowance,
    BreakerPolicy, BreakerState, Channel, CourierOptions, CourierStats, DestinationStats, DryRun,
    Guard, HttpTransports, MessageLinks, Outlets, Refusal, RoleToAssume, Transport, TransportError,
    Transports, check_identity, count_replay, hash_key_of, wanted_by,
};
pub use decode::{DecodeOptions, OutOfRange};
pub use examine::{Unfit, examine};
pub use fan_out::FanOutOptions;
pub use handle::ProcessorHandle;
pub use latency::LatencyStatus;
pub use null_sink::SinkMode;
pub use polling::PollingOptions;
pub use reader::{KinesisClients, ReadHttp, ReadMode, StreamOptions};
pub use redrive::{Reread, RereadMessage, reread};
pub use service::{Exit, Options, PIPELINES, Processor, Stores};
pub use shard_consumer::ShardConsumerOptions;
pub use status::{LaneStatus, ProcessorStatus, ShardStatus};
pub use sync_store::{SyncStoreOptions, SyncStoreStatus};
