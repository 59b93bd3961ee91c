//! The configured streams as AWS knows them: found by the services, made by `init`.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{
    ConsumerStatus, RecordDistributionStrategy, StreamMode, StreamModeDetails, StreamStatus,
};
use processor::StreamOptions;
use serde::Serialize;
use tokio::time::Instant;

use crate::config::Stream;
use crate::preflight::chain;

/// How long a stream or consumer may take to become active.
const ACTIVE_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// A stream as the service describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) arn: String,
    pub(crate) creation_epoch_s: i64,
    /// How long it keeps records.
    pub(crate) retention: Duration,
    /// Records are placed whatever their partition keys are: nothing orders those of one key.
    pub(crate) ignores_partition_keys: bool,
}

/// What `init` made, or found as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) arn: String,
    pub(crate) stream_created: bool,
    /// ARNs of the consumers, and which of them were registered just now.
    pub(crate) consumers: Vec<(String, bool)>,
}

/// A stream that cannot be read as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The stream does not exist.
    #[error(
        "stream {name} does not exist; services never create streams (`sluicegate init --dev` does, for development)"
    )]
    NoStream { name: String },
    /// The consumer is not registered.
    #[error("stream {stream} has no consumer named {consumer}; `sluicegate init` registers it")]
    NoConsumer { stream: String, consumer: String },
    /// It did not become active.
    #[error("{what} is {status} after {} s; it must be ACTIVE", ACTIVE_WITHIN.as_secs())]
    NotActive { what: String, status: String },
    /// The service could not be asked.
    #[error("{operation} for {name}: {detail}")]
    Call { operation: &'static str, name: String, detail: String },
}

/// Finds a stream.
pub(crate) async fn find(kinesis: &Client, name: &str) -> Result<Found, StreamError> {
    stream(kinesis, name).await?.ok_or_else(|| StreamError::NoStream { name: name.to_owned() })
}

/// Finds the ARN of a stream's registered consumer, which must be usable.
pub(crate) async fn find_consumer(
    kinesis: &Client,
    stream: &Found,
    consumer: &str,
) -> Result<String, StreamError> {
    consumer_arn(kinesis, &stream.arn, consumer).await?.ok_or_else(|| StreamError::NoConsumer {
        stream: stream.name.clone(),
        consumer: consumer.to_owned(),
    })
}

/// How a stream is read, and what cannot be promised for it.
#[derive(Debug, Serialize)]
pub(crate) struct StreamState {
    name: String,
    mode: &'static str,
    /// Messages of one key come in order; not where the stream places records whatever their keys are.
    ordered_by_key: bool,
}

impl StreamState {
    /// The state of a stream that is read as configured; says in the log what operators should know.
    pub(crate) fn of(stream: &Stream, found: &Found) -> StreamState {
        if found.ignores_partition_keys {
            tracing::warn!(
                stream = found.name,
                "the stream's record distribution is AUTO, which ignores partition keys: the order of one key's messages cannot be promised"
            );
        }
        StreamState {
            name: found.name.clone(),
            mode: if stream.consumer.is_some() { "fan-out" } else { "polling" },
            ordered_by_key: !found.ignores_partition_keys,
        }
    }
}

/// How the processor is to read a stream; its consumers must be registered.
pub(crate) async fn reading(
    kinesis: &aws_sdk_kinesis::Client,
    stream: &Stream,
    found: &Found,
) -> Result<StreamOptions, StreamError> {
    let mut options = match &stream.consumer {
        Some(consumer) => {
            let consumer_arn = find_consumer(kinesis, found, consumer).await?;
            StreamOptions::fan_out(found.arn.clone(), consumer_arn)
        }
        None => StreamOptions::polling(found.arn.clone()),
    };
    if let Some(consumer) = &stream.catch_up_consumer {
        options.catch_up_consumer_arn = Some(find_consumer(kinesis, found, consumer).await?);
    }
    options.retention = found.retention;
    Ok(options)
}

/// Registers the consumers, and with `shards` creates a missing stream of so many shards.
pub(crate) async fn make(
    kinesis: &Client,
    name: &str,
    consumers: &[String],
    shards: Option<u32>,
) -> Result<Made, StreamError> {
    let existing = stream(kinesis, name).await?;
    let stream_created = existing.is_none();
    let arn = match (existing, shards) {
        (Some(found), _) => found.arn,
        (None, None) => return Err(StreamError::NoStream { name: name.to_owned() }),
        (None, Some(shards)) => create(kinesis, name, shards).await?,
    };
    let mut made = Vec::with_capacity(consumers.len());
    for consumer in consumers {
        made.push(match consumer_arn(kinesis, &arn, consumer).await? {
            Some(found) => (found, false),
            None => (register(kinesis, &arn, consumer).await?, true),
        });
    }
    Ok(Made { arn, stream_created, consumers: made })
}

async fn stream(kinesis: &Client, name: &str) -> Result<Option<Found>, StreamError> {
    match kinesis.describe_stream_summary().stream_name(name).send().await {
        Ok(answer) => Ok(answer.stream_description_summary().map(|summary| Found {
            name: name.to_owned(),
            arn: summary.stream_arn().to_owned(),
            creation_epoch_s: summary.stream_creation_timestamp().secs(),
            retention: hours(summary.retention_period_hours()),
            ignores_partition_keys: summary
                .record_distribution_strategy()
                .is_some_and(|strategy| *strategy == RecordDistributionStrategy::Auto),
        })),
        Err(error)
            if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) =>
        {
            Ok(None)
        }
        Err(error) => Err(call("DescribeStreamSummary", name, &error)),
    }
}

fn hours(hours: i32) -> Duration {
    Duration::from_secs(u64::try_from(hours).unwrap_or(24) * 3_600)
}

async fn create(kinesis: &Client, name: &str, shards: u32) -> Result<String, StreamError> {
    let mode = StreamModeDetails::builder()
        .stream_mode(StreamMode::Provisioned)
        .build()
        .map_err(|error| call("CreateStream", name, &error))?;
    kinesis
        .create_stream()
        .stream_name(name)
        .shard_count(i32::try_from(shards).unwrap_or(i32::MAX))
        .stream_mode_details(mode)
        .send()
        .await
        .map_err(|error| call("CreateStream", name, &error))?;
    let deadline = Instant::now() + ACTIVE_WITHIN;
    loop {
        let answer = kinesis
            .describe_stream_summary()
            .stream_name(name)
            .send()
            .await
            .map_err(|error| call("DescribeStreamSummary", name, &error))?;
        if let Some(summary) = answer.stream_description_summary() {
            if *summary.stream_status() == StreamStatus::Active {
                return Ok(summary.stream_arn().to_owned());
            }
            if Instant::now() > deadline {
                let status = summary.stream_status().as_str().to_owned();
                return Err(StreamError::NotActive { what: format!("stream {name}"), status });
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The ARN of a consumer that is active; `None` when there is no such consumer.
async fn consumer_arn(
    kinesis: &Client,
    stream_arn: &str,
    consumer: &str,
) -> Result<Option<String>, StreamError> {
    let deadline = Instant::now() + ACTIVE_WITHIN;
    loop {
        let answer = kinesis
            .describe_stream_consumer()
            .stream_arn(stream_arn)
            .consumer_name(consumer)
            .send()
            .await;
        let description = match answer {
            Ok(answer) => answer.consumer_description,
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_resource_not_found_exception()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(call("DescribeStreamConsumer", consumer, &error)),
        };
        let Some(description) = description else { return Ok(None) };
        if *description.consumer_status() == ConsumerStatus::Active {
            return Ok(Some(description.consumer_arn().to_owned()));
        }
        if Instant::now() > deadline {
            let status = description.consumer_status().as_str().to_owned();
            return Err(StreamError::NotActive { what: format!("consumer {consumer}"), status });
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn register(
    kinesis: &Client,
    stream_arn: &str,
    consumer: &str,
) -> Result<String, StreamError> {
    kinesis
        .register_stream_consumer()
        .stream_arn(stream_arn)
        .consumer_name(consumer)
        .send()
        .await
        .map_err(|error| call("RegisterStreamConsumer", consumer, &error))?;
    consumer_arn(kinesis, stream_arn, consumer).await?.ok_or_else(|| StreamError::NoConsumer {
        stream: stream_arn.to_owned(),
        consumer: consumer.to_owned(),
    })
}

fn call(operation: &'static str, name: &str, error: &dyn std::error::Error) -> StreamError {
    StreamError::Call { operation, name: name.to_owned(), detail: chain(error) }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
    use local_aws::LocalAws;

    use super::*;

    fn client(aws: &LocalAws) -> Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::from_keys("operator", "secret", None))
            .http_client(aws.http_client());
        Client::from_conf(config.build())
    }

    #[tokio::test]
    async fn consumers_are_registered_once_and_a_polled_stream_needs_none() {
        let kinesis = client(&LocalAws::new(local_aws::Options::default()).unwrap());
        let polled = make(&kinesis, "polled", &[], Some(1)).await.unwrap();
        assert!(polled.stream_created && polled.consumers.is_empty());
        let names = ["live".to_owned(), "behind".to_owned()];
        let first = make(&kinesis, "pushed", &names, Some(1)).await.unwrap();
        let again = make(&kinesis, "pushed", &names, None).await.unwrap();
        let made = |made: &Made| made.consumers.iter().map(|c| c.1).collect::<Vec<_>>();
        assert_eq!((made(&first), made(&again)), (vec![true, true], vec![false, false]));
        let found = find(&kinesis, "pushed").await.unwrap();
        let live = find_consumer(&kinesis, &found, "live").await.unwrap();
        assert_eq!(live, first.consumers[0].0);
        let missing = find_consumer(&kinesis, &found, "nobody").await.unwrap_err();
        assert!(missing.to_string().contains("`sluicegate init` registers it"), "{missing}");
    }

    #[tokio::test]
    async fn a_stream_that_ignores_partition_keys_is_known_by_its_distribution() {
        let kinesis = client(&LocalAws::new(local_aws::Options::default()).unwrap());
        make(&kinesis, "s", &[], Some(1)).await.unwrap();
        let found = find(&kinesis, "s").await.unwrap();
        assert!(!found.ignores_partition_keys);
        assert_eq!(found.retention, Duration::from_secs(24 * 3_600));
        let update = kinesis.update_stream_record_distribution_strategy().stream_arn(found.arn);
        let auto = RecordDistributionStrategy::Auto;
        update.record_distribution_strategy(auto).send().await.unwrap();
        assert!(find(&kinesis, "s").await.unwrap().ignores_partition_keys);
    }
}
