//! Writing many items with few calls, once, with an outcome for each.
//!
//! Calls of at most 25 items and 4 MB, a key never twice in a call. A call that DynamoDB refuses as
//! a whole is bisected down to the item that it refuses. What a call leaves out is reported, not
//! repeated. Planning ([`plan_calls`]) is pure; [`BatchWriter::write`] does the I/O.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use futures::future::FutureExt;
use futures::stream::{self, StreamExt};

use crate::error::StoreError;
use crate::item::{Item, PK, SK};
use crate::messages::{Key, PutOutcome, RetryReason};
use crate::metrics;

/// Items that one call may have.
const MAX_ITEMS: usize = 25;
/// Bytes that one call may have on the wire. DynamoDB takes 16 MB; a request is in memory several times
/// while it is made, and four times as many calls cost next to nothing.
const MAX_CALL_BYTES: usize = 4_000_000;
/// Calls of one `write` under way at once.
const MAX_PARALLEL: usize = 2;

/// An item to write: its key, and what it weighs on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) key: Key,
    pub(crate) wire_bytes: usize,
}

/// What a payload of this length and its attributes weigh on the wire, in base64.
pub(crate) fn wire_bytes(payload: usize) -> usize {
    payload.div_ceil(3) * 4 + 2_048
}

/// Which items go into which call. Items of a key that was seen before go into none and share the
/// outcome of the first.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    calls: Vec<Vec<usize>>,
    /// For each item: the item whose outcome it has.
    same_as: Vec<usize>,
}

/// Packs items into calls, in order.
fn plan_calls(items: &[Planned]) -> Plan {
    let mut first: HashMap<&Key, usize> = HashMap::with_capacity(items.len());
    let mut plan = Plan { calls: Vec::new(), same_as: Vec::with_capacity(items.len()) };
    let mut call: Vec<usize> = Vec::new();
    let mut bytes = 0usize;
    for (index, item) in items.iter().enumerate() {
        let owner = *first.entry(&item.key).or_insert(index);
        plan.same_as.push(owner);
        if owner != index {
            continue;
        }
        let full = call.len() == MAX_ITEMS || bytes + item.wire_bytes > MAX_CALL_BYTES;
        if full && !call.is_empty() {
            plan.calls.push(std::mem::take(&mut call));
            bytes = 0;
        }
        call.push(index);
        bytes += item.wire_bytes;
    }
    if !call.is_empty() {
        plan.calls.push(call);
    }
    plan
}

/// What an error of a whole call means for its items; `None`: some item is refused, look for it.
fn outcome_of_call(error: &StoreError) -> Option<PutOutcome> {
    let reason = match error {
        StoreError::Throttled { .. } => RetryReason::Throttled,
        StoreError::Unavailable { detail, .. } => RetryReason::Unavailable(detail.clone()),
        StoreError::SetUp { code, detail, .. } => RetryReason::Refused(format!("{code}: {detail}")),
        _ => return None,
    };
    Some(PutOutcome::Retry(reason))
}

/// Writes items into one table.
#[derive(Clone, Debug)]
pub(crate) struct BatchWriter {
    client: Client,
    table: String,
    kind: &'static str,
    operation: &'static str,
}

impl BatchWriter {
    pub(crate) fn new(
        client: Client,
        table: String,
        kind: &'static str,
        operation: &'static str,
    ) -> BatchWriter {
        BatchWriter { client, table, kind, operation }
    }

    /// Writes each item once. `build` makes the item at an index, again if a call is bisected: so
    /// the everyday call copies no payload.
    pub(crate) async fn write(
        &self,
        items: &[Planned],
        build: &(dyn Fn(usize) -> Item + Send + Sync),
    ) -> Vec<PutOutcome> {
        let plan = plan_calls(items);
        let unknown = || PutOutcome::Retry(RetryReason::Unprocessed);
        let mut outcomes: Vec<PutOutcome> = items.iter().map(|_| unknown()).collect();
        let calls: Vec<_> = plan
            .calls
            .into_iter()
            .map(|call| self.write_call(items, build, call).boxed())
            .collect();
        let mut done = stream::iter(calls).buffer_unordered(MAX_PARALLEL);
        while let Some(written) = done.next().await {
            for (index, outcome) in written {
                outcomes[index] = outcome;
            }
        }
        for (index, owner) in plan.same_as.into_iter().enumerate() {
            if owner != index {
                outcomes[index] = outcomes[owner].clone();
            }
        }
        metrics::written(self.kind, &outcomes);
        outcomes
    }

    /// One call; when DynamoDB refuses it as a whole, its halves, down to the item.
    async fn write_call(
        &self,
        items: &[Planned],
        build: &(dyn Fn(usize) -> Item + Send + Sync),
        call: Vec<usize>,
    ) -> Vec<(usize, PutOutcome)> {
        let mut outcomes = Vec::with_capacity(call.len());
        let mut open = vec![call];
        while let Some(mut call) = open.pop() {
            match self.send(&call, build).await {
                Ok(left_out) => outcomes.extend(call.into_iter().map(|index| {
                    let outcome = if !left_out.is_empty() && left_out.contains(&items[index].key) {
                        PutOutcome::Retry(RetryReason::Unprocessed)
                    } else {
                        PutOutcome::Stored
                    };
                    (index, outcome)
                })),
                Err(error) => match outcome_of_call(&error) {
                    Some(outcome) => {
                        outcomes.extend(call.into_iter().map(|index| (index, outcome.clone())));
                    }
                    None if call.len() == 1 => {
                        outcomes.extend(
                            call.into_iter()
                                .map(|index| (index, PutOutcome::Rejected(error.to_string()))),
                        );
                    }
                    None => {
                        let second = call.split_off(call.len() / 2);
                        open.push(second);
                        open.push(call);
                    }
                },
            }
        }
        outcomes
    }

    /// Sends one call and gives the keys that it left out.
    async fn send(
        &self,
        call: &[usize],
        build: &(dyn Fn(usize) -> Item + Send + Sync),
    ) -> Result<HashSet<Key>, StoreError> {
        metrics::batch_call(self.kind, call.len());
        let requests: Vec<WriteRequest> =
            call.iter().map(|index| put_request(build(*index))).collect();
        let answer = self
            .client
            .batch_write_item()
            .request_items(&self.table, requests)
            .send()
            .await
            .map_err(|e| StoreError::from_sdk(self.operation, &e))?;
        let left_out = answer.unprocessed_items.unwrap_or_default();
        Ok(left_out.into_values().flatten().filter_map(|r| key_of(&r)).collect())
    }
}

fn put_request(item: Item) -> WriteRequest {
    // The builder refuses only a missing item, which is given here.
    let put = PutRequest::builder().set_item(Some(item)).build().ok();
    WriteRequest::builder().set_put_request(put).build()
}

fn key_of(request: &WriteRequest) -> Option<Key> {
    let item = request.put_request()?.item();
    let part = |name| item.get(name).and_then(|v| v.as_s().ok()).cloned();
    Some(Key { partition: part(PK)?, sort: part(SK)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(key: usize, wire_bytes: usize) -> Planned {
        let key = Key { partition: "p".to_owned(), sort: key.to_string() };
        Planned { key, wire_bytes }
    }

    #[test]
    fn calls_hold_25_items_and_4_megabytes() {
        let small: Vec<Planned> = (0..60).map(|i| planned(i, 1_000)).collect();
        let lengths: Vec<usize> = plan_calls(&small).calls.iter().map(Vec::len).collect();
        assert_eq!(lengths, [25, 25, 10]);
        let large: Vec<Planned> = (0..4).map(|i| planned(i, 1_900_000)).collect();
        let lengths: Vec<usize> = plan_calls(&large).calls.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 2]);
        assert!(plan_calls(&[]).calls.is_empty());
    }

    #[test]
    fn an_item_larger_than_a_call_still_gets_its_own() {
        let plan = plan_calls(&[planned(0, 10), planned(1, 20_000_000), planned(2, 10)]);
        assert_eq!(plan.calls, [vec![0], vec![1], vec![2]]);
    }

    #[test]
    fn a_key_is_written_once_and_its_outcome_shared() {
        let plan = plan_calls(&[planned(7, 1), planned(8, 1), planned(7, 1)]);
        assert_eq!(plan.calls, [vec![0, 1]]);
        assert_eq!(plan.same_as, [0, 1, 0]);
    }
}
