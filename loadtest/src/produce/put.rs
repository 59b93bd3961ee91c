//! Sends one request until each of its records is settled: acknowledged, failed or abandoned.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::put_records::{PutRecordsError, PutRecordsOutput};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use tokio_util::sync::CancellationToken;

use super::exit::ProduceError;
use super::names::StreamRef;
use super::queue::Unit;
use super::stats::Counters;

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// What every request of a producer shares.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) client: Client,
    pub(crate) stream: StreamRef,
    pub(crate) attempts: u32,
    pub(crate) attempt_timeout: Duration,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: CancellationToken,
}

/// One request, settled.
#[derive(Debug)]
pub(crate) struct Settled {
    /// Each record with what became of it.
    pub(crate) units: Vec<(Unit, Fate)>,
    /// What makes every further request pointless.
    pub(crate) fatal: Option<ProduceError>,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Acknowledged, in this shard.
    Sent(String),
    /// Given up after all attempts; the last error.
    Failed(String),
    /// The producer was stopped before the stream took it.
    Abandoned,
}

impl Sender {
    /// Sends `units`, and again those that fail, until all are settled or the attempts are used up.
    pub(crate) async fn put(
        self: Arc<Sender>,
        units: Vec<Unit>,
        mut rng: fastrand::Rng,
    ) -> Settled {
        let mut settled = Settled { units: Vec::with_capacity(units.len()), fatal: None };
        let mut left = units;
        for attempt in 1.. {
            let error = match self.attempt(&left).await {
                Attempt::Answered(results) => {
                    let (done, again, error) = sort_out(left, results, &self.counters);
                    settled.units.extend(done);
                    left = again;
                    error
                }
                Attempt::Unanswered(error) => {
                    Counters::add(&self.counters.records_retried, left.len());
                    error
                }
                Attempt::Refused(error) => {
                    settle_all(&mut settled, left, &Fate::Failed(error.to_string()));
                    settled.fatal = Some(error);
                    return settled;
                }
            };
            if left.is_empty() {
                return settled;
            }
            if attempt >= self.attempts {
                settle_all(&mut settled, left, &Fate::Failed(error));
                return settled;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    settle_all(&mut settled, left, &Fate::Abandoned);
                    return settled;
                }
                () = tokio::time::sleep(retry_delay(attempt, &mut rng)) => {}
            }
        }
        settled
    }

    async fn attempt(&self, units: &[Unit]) -> Attempt {
        self.counters.requests.fetch_add(1, Relaxed);
        let entries = match units.iter().map(entry).collect::<Result<Vec<_>, _>>() {
            Ok(entries) => entries,
            Err(error) => return Attempt::Refused(ProduceError::put_records(error.to_string())),
        };
        let call = self.client.put_records().set_records(Some(entries));
        let call = match &self.stream {
            StreamRef::Name(name) => call.stream_name(name),
            StreamRef::Arn(arn) => call.stream_arn(arn),
        };
        match tokio::time::timeout(self.attempt_timeout, call.send()).await {
            Err(_) => Attempt::Unanswered(format!("no answer within {:?}", self.attempt_timeout)),
            Ok(answer) => judge(answer, units.len()),
        }
    }
}

enum Attempt {
    /// One result for each record.
    Answered(Vec<PutRecordsResultEntry>),
    /// Worth another attempt.
    Unanswered(String),
    /// No attempt can succeed.
    Refused(ProduceError),
}

fn entry(
    unit: &Unit,
) -> Result<PutRecordsRequestEntry, aws_smithy_types::error::operation::BuildError> {
    PutRecordsRequestEntry::builder()
        .partition_key(&*unit.partition_key)
        .set_explicit_hash_key(unit.explicit_hash_key.map(|hash| hash.to_string()))
        .data(Blob::new(unit.data.clone()))
        .build()
}

fn judge(answer: Result<PutRecordsOutput, SdkError<PutRecordsError>>, records: usize) -> Attempt {
    match answer {
        Ok(output) if output.records.len() == records => Attempt::Answered(output.records),
        Ok(output) => {
            let found = output.records.len();
            let cause =
                format!("{found} results for {records} records: cannot tell which were taken");
            Attempt::Refused(ProduceError::put_records(cause))
        }
        Err(error) => {
            let is_final = match &error {
                SdkError::ConstructionFailure(_) => true,
                SdkError::ServiceError(service) => {
                    is_final_code(service.err().code().unwrap_or_default())
                }
                _ => false,
            };
            let cause = cause_of(&error);
            match is_final {
                true => Attempt::Refused(ProduceError::put_records(cause)),
                false => Attempt::Unanswered(cause),
            }
        }
    }
}

/// An SDK error in one line: what the service said, or how the call itself failed.
pub(crate) fn cause_of<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if let SdkError::ServiceError(service) = error {
        let code = service.err().code().unwrap_or("an error without a code");
        return format!("{code}: {}", service.err().message().unwrap_or("no message"));
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Errors of a whole request that no further attempt changes.
fn is_final_code(code: &str) -> bool {
    const FINAL: [&str; 14] = [
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidArgumentException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        "KMSOptInRequired",
        "ResourceNotFoundException",
        "UnrecognizedClientException",
        "ValidationException",
    ];
    FINAL.contains(&code)
}

/// Splits records by their results into those that are settled and those to send again.
fn sort_out(
    units: Vec<Unit>,
    results: Vec<PutRecordsResultEntry>,
    counters: &Counters,
) -> (Vec<(Unit, Fate)>, Vec<Unit>, String) {
    let (mut done, mut again, mut last_error) =
        (Vec::with_capacity(units.len()), Vec::new(), String::new());
    for (unit, result) in units.into_iter().zip(results) {
        let Some(code) = result.error_code else {
            done.push((unit, Fate::Sent(result.shard_id.unwrap_or_default())));
            continue;
        };
        let counter = match code.as_str() {
            "ProvisionedThroughputExceededException" => &counters.records_throttled,
            _ => &counters.records_retried,
        };
        Counters::add(counter, 1);
        last_error = format!("{code}: {}", result.error_message.unwrap_or_default());
        again.push(unit);
    }
    (done, again, last_error)
}

fn settle_all(settled: &mut Settled, units: Vec<Unit>, fate: &Fate) {
    settled.units.extend(units.into_iter().map(|unit| (unit, fate.clone())));
}

/// How long to wait after attempt `attempt` (from 1): doubling, with full jitter.
fn retry_delay(attempt: u32, rng: &mut fastrand::Rng) -> Duration {
    let ceiling = FIRST_DELAY.saturating_mul(1 << (attempt - 1).min(16)).min(LONGEST_DELAY);
    ceiling.mul_f64(rng.f64())
}

#[cfg(test)]
mod tests {
    use super::super::queue::UserMessage;
    use super::*;
    use bytes::Bytes;
    use tokio::time::Instant;

    fn unit(key: &str) -> Unit {
        let message =
            UserMessage { partition_key: key.into(), explicit_hash_key: None, data: Bytes::new() };
        Unit::plain(message, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn only_failed_records_are_sent_again_in_their_order() {
        let ok = PutRecordsResultEntry::builder().shard_id("s-1").sequence_number("1").build();
        let throttled = PutRecordsResultEntry::builder()
            .error_code("ProvisionedThroughputExceededException")
            .error_message("slow down")
            .build();
        let broken = PutRecordsResultEntry::builder().error_code("InternalFailure").build();
        let counters = Counters::default();
        let units = vec![unit("a"), unit("b"), unit("c")];
        let (done, again, error) = sort_out(units, vec![throttled, ok, broken], &counters);
        assert_eq!(done.len(), 1);
        assert_eq!((&*done[0].0.partition_key, &done[0].1), ("b", &Fate::Sent("s-1".into())));
        let keys: Vec<_> = again.iter().map(|unit| &*unit.partition_key).collect();
        assert_eq!(keys, ["a", "c"]);
        assert!(error.starts_with("InternalFailure"));
        let stats = counters.read();
        assert_eq!((stats.records_throttled, stats.records_retried), (1, 1));
    }

    #[test]
    fn delays_double_up_to_a_limit_and_spread() {
        let mut rng = fastrand::Rng::with_seed(3);
        for attempt in 1..100 {
            let ceiling = FIRST_DELAY.as_secs_f64() * 2f64.powi(attempt as i32 - 1);
            let delay = retry_delay(attempt, &mut rng);
            assert!(
                delay.as_secs_f64() <= ceiling && delay <= LONGEST_DELAY,
                "{attempt}: {delay:?}"
            );
        }
        let longest = (0..1000).map(|_| retry_delay(20, &mut rng)).max().unwrap();
        assert!(longest > LONGEST_DELAY.mul_f64(0.9));
    }
}
