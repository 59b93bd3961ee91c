//! Payloads that do not fit into an item: kept in part items beside their head.
//!
//! Part items have partitions of their own (`#part#<name>#<n>`; no integration's name starts with
//! `#`), so no page ever meets them and one large payload does not crowd into one partition. They are
//! written before their head and removed after it: a head that can be seen can be read whole.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{DeleteRequest, KeysAndAttributes, WriteRequest};
use bytes::{Bytes, BytesMut};

use crate::batch::{BatchWriter, Planned, wire_bytes};
use crate::error::{StoreError, pause};
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, b, key, n};
use crate::messages::{Key, PutOutcome, RetryReason};
use crate::metrics;

/// Bytes of payload in one part, and in an item that needs none (DynamoDB's limit is 400 KiB with all attributes).
pub(crate) const PART_BYTES: usize = 380 * 1024;
/// Parts of one payload: 14.8 MiB, more than the largest record of Kinesis.
const MAX_PARTS: usize = 40;
/// Rounds in which parts left out by a call are written or read again.
const MAX_ROUNDS: u32 = 8;
const SORT: &str = "part";
const DATA: &str = "data";
const PARTS: &str = "parts";
const NAME: &str = "partsName";
const BYTES: &str = "payloadBytes";

/// Where a payload in parts is: kept in its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartsRef {
    name: String,
    count: usize,
    bytes: usize,
}

impl PartsRef {
    /// Length of the whole payload.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes it into a head.
    pub(crate) fn write_to(&self, item: &mut Item) {
        item.insert(PARTS.to_owned(), n(self.count));
        item.insert(NAME.to_owned(), crate::item::s(self.name.clone()));
        item.insert(BYTES.to_owned(), n(self.bytes));
    }

    /// A head's payload from the attribute of this name; empty yet, with where it is, if it is in parts.
    pub(crate) fn take_payload(
        reader: &mut ItemReader,
        attribute: &'static str,
    ) -> Result<(Bytes, Option<PartsRef>), StoreError> {
        let parts = PartsRef::read_from(reader)?;
        match (reader.take_bytes(attribute)?, &parts) {
            (Some(payload), _) => Ok((payload, parts)),
            (None, Some(_)) => Ok((Bytes::new(), parts)),
            (None, None) => Err(reader.unreadable("payload is missing")),
        }
    }

    /// Reads it from a head, if its payload is in parts.
    pub(crate) fn read_from(reader: &ItemReader) -> Result<Option<PartsRef>, StoreError> {
        let Some(count) = reader.optional_number(PARTS)? else {
            return Ok(None);
        };
        if !(1..=MAX_PARTS).contains(&count) {
            return Err(
                reader.unreadable(format!("{PARTS} is {count}, 1 to {MAX_PARTS} is allowed"))
            );
        }
        let bytes = reader.number(BYTES)?;
        Ok(Some(PartsRef { name: reader.text(NAME)?.to_owned(), count, bytes }))
    }

    fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        (0..self.count).map(|part| part_key(&self.name, part))
    }
}

/// The parts of a payload as slices of it.
fn split(payload: &Bytes) -> Vec<Bytes> {
    (0..payload.len().div_ceil(PART_BYTES))
        .map(|part| payload.slice(part * PART_BYTES..payload.len().min((part + 1) * PART_BYTES)))
        .collect()
}

fn part_key(name: &str, part: usize) -> Key {
    Key { partition: format!("#part#{name}#{part:03}"), sort: SORT.to_owned() }
}

/// Writes, reads and removes payloads in parts, in one table.
#[derive(Clone, Debug)]
pub(crate) struct PartStore {
    client: Client,
    table: String,
    writer: BatchWriter,
    kind: &'static str,
}

impl PartStore {
    pub(crate) fn new(client: Client, table: String, kind: &'static str) -> PartStore {
        let writer = BatchWriter::new(client.clone(), table.clone(), "part", "put parts");
        PartStore { client, table, writer, kind }
    }

    /// Writes all parts of a payload. `name` must be unique to this payload; a name that is
    /// the same for every writing of it leaves no parts behind when it is repeated. The error is the outcome of the item that the payload belongs to.
    pub(crate) async fn write(
        &self,
        name: &str,
        payload: &Bytes,
        expires_at_s: i64,
    ) -> Result<PartsRef, PutOutcome> {
        let slices = split(payload);
        if slices.len() > MAX_PARTS {
            let (found, allowed) = (payload.len(), MAX_PARTS * PART_BYTES);
            return Err(PutOutcome::Rejected(format!(
                "payload of {found} bytes: up to {allowed} can be stored"
            )));
        }
        metrics::parted(self.kind, slices.len());
        let mut open: Vec<usize> = (0..slices.len()).collect();
        for round in 1..=MAX_ROUNDS {
            let planned: Vec<Planned> = open
                .iter()
                .map(|part| Planned {
                    key: part_key(name, *part),
                    wire_bytes: wire_bytes(slices[*part].len()),
                })
                .collect();
            let outcomes = {
                let build = |at: usize| part_item(name, open[at], &slices[open[at]], expires_at_s);
                self.writer.write(&planned, &build).await
            };
            let Some(reason) = outcomes.iter().find_map(unfinished) else {
                return Ok(PartsRef {
                    name: name.to_owned(),
                    count: slices.len(),
                    bytes: payload.len(),
                });
            };
            if round == MAX_ROUNDS || matches!(reason, PutOutcome::Rejected(_)) {
                return Err(reason.clone());
            }
            let left = open.into_iter().zip(&outcomes).filter(|(_, o)| unfinished(o).is_some());
            open = left.map(|(part, _)| part).collect();
            tokio::time::sleep(pause(round)).await;
        }
        Err(PutOutcome::Retry(RetryReason::Unprocessed))
    }

    /// Reads a payload back whole.
    pub(crate) async fn read(
        &self,
        operation: &'static str,
        parts: &PartsRef,
        consistent: bool,
    ) -> Result<Bytes, StoreError> {
        let mut found: HashMap<String, Bytes> = HashMap::with_capacity(parts.count);
        let mut keys: Vec<Item> = parts.keys().map(|k| key(k.partition, k.sort)).collect();
        let mut round = 0;
        while !keys.is_empty() {
            round += 1;
            keys = self.read_round(operation, keys, consistent, &mut found).await?;
            if keys.is_empty() {
                break;
            }
            if round == MAX_ROUNDS {
                let detail = format!(
                    "{} of {} parts left out after {round} rounds",
                    keys.len(),
                    parts.count
                );
                return Err(StoreError::Throttled { operation, detail });
            }
            tokio::time::sleep(pause(round)).await;
        }
        assemble(operation, parts, &found)
    }

    /// One call; gives the keys that it left out.
    async fn read_round(
        &self,
        operation: &'static str,
        keys: Vec<Item>,
        consistent: bool,
        found: &mut HashMap<String, Bytes>,
    ) -> Result<Vec<Item>, StoreError> {
        let invalid = |e: aws_sdk_dynamodb::error::BuildError| StoreError::Invalid {
            operation,
            detail: e.to_string(),
        };
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(consistent)
            .build()
            .map_err(invalid)?;
        let answer = self
            .client
            .batch_get_item()
            .request_items(&self.table, wanted)
            .send()
            .await
            .map_err(|e| StoreError::from_sdk(operation, &e))?;
        for item in answer.responses.unwrap_or_default().into_values().flatten() {
            let mut reader = ItemReader::new(operation, item);
            let partition = reader.text(PK)?.to_owned();
            let data = reader.take_bytes(DATA)?.unwrap_or_default();
            found.insert(partition, data);
        }
        let left_out = answer.unprocessed_keys.unwrap_or_default();
        Ok(left_out.into_values().flat_map(|k| k.keys).collect())
    }

    /// Removes the parts after their head is gone. What is left behind by a failure expires by TTL.
    pub(crate) async fn remove(
        &self,
        operation: &'static str,
        parts: &PartsRef,
    ) -> Result<(), StoreError> {
        let keys: Vec<Key> = parts.keys().collect();
        for call in keys.chunks(25) {
            let requests: Vec<WriteRequest> = call.iter().map(delete_request).collect();
            self.client
                .batch_write_item()
                .request_items(&self.table, requests)
                .send()
                .await
                .map_err(|e| StoreError::from_sdk(operation, &e))?;
        }
        Ok(())
    }
}

fn delete_request(part: &Key) -> WriteRequest {
    let keys = key(part.partition.clone(), part.sort.clone());
    // The builder refuses only a missing key, which is given here.
    let delete = DeleteRequest::builder().set_key(Some(keys)).build().ok();
    WriteRequest::builder().set_delete_request(delete).build()
}

fn unfinished(outcome: &PutOutcome) -> Option<&PutOutcome> {
    (*outcome != PutOutcome::Stored).then_some(outcome)
}

fn part_item(name: &str, part: usize, data: &Bytes, expires_at_s: i64) -> Item {
    let at = part_key(name, part);
    let mut item = key(at.partition, at.sort);
    item.insert(DATA.to_owned(), b(data));
    item.insert(EXPIRES_AT.to_owned(), n(expires_at_s));
    item
}

/// Puts the parts together, or says what is missing.
fn assemble(
    operation: &'static str,
    parts: &PartsRef,
    found: &HashMap<String, Bytes>,
) -> Result<Bytes, StoreError> {
    let unreadable = |detail| StoreError::Unreadable {
        operation,
        item: format!("#part#{}", parts.name),
        detail,
    };
    let mut whole = BytesMut::with_capacity(parts.bytes.min(MAX_PARTS * PART_BYTES));
    for (index, at) in parts.keys().enumerate() {
        let data = found
            .get(&at.partition)
            .ok_or_else(|| unreadable(format!("part {index} of {} is missing", parts.count)))?;
        whole.extend_from_slice(data);
    }
    if whole.len() == parts.bytes {
        Ok(whole.freeze())
    } else {
        Err(unreadable(format!("{} bytes found, {} expected", whole.len(), parts.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_payload_and_no_more() {
        for (length, count) in
            [(1, 1), (PART_BYTES, 1), (PART_BYTES + 1, 2), (10 * 1024 * 1024, 27)]
        {
            let payload = Bytes::from(vec![7; length]);
            let slices = split(&payload);
            assert_eq!(slices.len(), count);
            assert_eq!(slices.iter().map(Bytes::len).sum::<usize>(), length);
        }
    }

    #[test]
    fn a_missing_part_is_an_error_and_never_a_shorter_payload() {
        let parts = PartsRef { name: "msg_x".to_owned(), count: 2, bytes: 3 };
        let mut found = HashMap::from([("#part#msg_x#000".to_owned(), Bytes::from_static(b"ab"))]);
        let error = assemble("get message", &parts, &found).unwrap_err();
        assert!(error.to_string().contains("part 1 of 2 is missing"), "{error}");
        found.insert("#part#msg_x#001".to_owned(), Bytes::from_static(b"c"));
        assert_eq!(assemble("get message", &parts, &found).unwrap(), "abc");
        found.insert("#part#msg_x#001".to_owned(), Bytes::from_static(b"cd"));
        assert!(assemble("get message", &parts, &found).is_err());
    }
}
