//! Sends messages call by call, and again what failed, until all are settled or the time is over.

use std::sync::Arc;
use std::time::Duration;

use api::{Outcome, Outgoing, Refusal};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::put_records::{PutRecordsError, PutRecordsOutput};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use tokio::time::Instant;

use super::metrics;
use super::plan::{Answer, Ledger, Placed, call_time, of_call, of_record, pause};
use crate::preflight::chain;

/// Where messages go, and how.
pub(super) struct Sender<'a> {
    /// Tries a call once.
    pub(super) client: &'a Client,
    pub(super) arn: &'a Arc<str>,
    /// The longest that one call may take.
    pub(super) attempt_timeout: Duration,
}

/// Sends messages and says by `deadline` what became of each. Calls follow each other, so that the messages of one key
/// keep their order as long as none of them fails.
pub(super) async fn put(
    sender: &Sender<'_>,
    messages: Vec<Outgoing>,
    deadline: Instant,
    mut rng: fastrand::Rng,
) -> Vec<Outcome> {
    let mut ledger = Ledger::new(messages);
    for call in ledger.calls() {
        sender.settle(&mut ledger, call, deadline, &mut rng).await;
    }
    ledger.outcomes(sender.arn)
}

impl Sender<'_> {
    async fn settle(
        &self,
        ledger: &mut Ledger,
        mut call: Vec<usize>,
        deadline: Instant,
        rng: &mut fastrand::Rng,
    ) {
        for attempt in 1.. {
            let Some(time) = call_time(Instant::now(), deadline, self.attempt_timeout) else {
                return;
            };
            let (answer, cause) = self.attempt(ledger, &call, time).await;
            metrics::called(answer.word());
            call = ledger.note(call, answer);
            if let Some(cause) = cause {
                let (stream, left) = (self.arn, call.len());
                tracing::warn!(%stream, attempt, left, cause, "published messages were not all taken");
            }
            if call.is_empty() {
                return;
            }
            let again = Instant::now() + pause(attempt, rng);
            if call_time(again, deadline, self.attempt_timeout).is_none() {
                return;
            }
            call.iter().for_each(|index| metrics::again(ledger.refusal(*index)));
            tokio::time::sleep_until(again).await;
        }
    }

    /// One call; with what went wrong, for the log.
    async fn attempt(
        &self,
        ledger: &Ledger,
        call: &[usize],
        time: Duration,
    ) -> (Answer, Option<String>) {
        let entries: Result<Vec<_>, _> =
            call.iter().map(|index| entry(ledger.message(*index))).collect();
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return (Answer::All(Refusal::Rejected), Some(error.to_string())),
        };
        let sent = self.client.put_records().stream_arn(&**self.arn).set_records(Some(entries));
        match tokio::time::timeout(time, sent.send()).await {
            Ok(answer) => judge(answer),
            Err(_) => {
                let cause = format!("no answer within {} ms", time.as_millis());
                (Answer::All(Refusal::Unknown), Some(cause))
            }
        }
    }
}

fn entry(
    message: &Outgoing,
) -> Result<PutRecordsRequestEntry, aws_smithy_types::error::operation::BuildError> {
    PutRecordsRequestEntry::builder()
        .partition_key(&message.partition_key)
        .data(Blob::new(message.payload.to_vec()))
        .build()
}

fn judge(answer: Result<PutRecordsOutput, SdkError<PutRecordsError>>) -> (Answer, Option<String>) {
    let error = match answer {
        Ok(output) => {
            let cause = output.records.iter().find_map(|record| {
                let code = record.error_code.as_deref()?;
                Some(format!("{code}: {}", record.error_message.as_deref().unwrap_or_default()))
            });
            return (Answer::Each(output.records.into_iter().map(placed).collect()), cause);
        }
        Err(error) => error,
    };
    let refusal = match &error {
        SdkError::ConstructionFailure(_) => Refusal::Rejected,
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or_default();
            of_call(code, service.raw().status().as_u16())
        }
        // Cut, or silent: it may have been applied.
        _ => Refusal::Unknown,
    };
    let cause = match error.as_service_error().and_then(|e| Some((e.code()?, e.message()?))) {
        Some((code, message)) => format!("{code}: {message}"),
        None => chain(&error),
    };
    (Answer::All(refusal), Some(cause))
}

fn placed(record: PutRecordsResultEntry) -> Placed {
    match (record.error_code, record.shard_id, record.sequence_number) {
        (Some(code), ..) => Err(of_record(&code)),
        (None, Some(shard_id), Some(sequence)) => Ok((shard_id, sequence)),
        _ => Err(Refusal::Unknown),
    }
}
