//! Notes of arrivals in the messages' table, and the messages behind many places at once.
//!
//! As everywhere in this folder nothing is repeated for long: a note that was not taken is its writer's to write again.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::KeysAndAttributes;
use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::arrivals::{self, Arrivals, ArrivalsPage, ArrivalsQuery, Slice, merge, plan_slices};
use super::dynamodb::DynamoMessages;
use super::item::{Head, from_item};
use super::keys::{Key, partition};
use super::{Locator, Message, PutReport};
use crate::batch::Planned;
use crate::error::{StoreError, pause};
use crate::item::{Item, PK, SK, is_expired, key, s};

/// Notes of one partition in one reading.
const SLICE_NOTES: i32 = 50;
/// Partitions read at once.
const PARALLEL: usize = 8;
/// Places that one call of BatchGetItem takes; a hundred would, but they may be 400 KB each.
const CALL_PLACES: usize = 25;
/// Rounds in which places left out by a call are read again.
const MAX_ROUNDS: u32 = 8;

impl DynamoMessages {
    pub(super) async fn put_arrivals(&self, notes: &[Arrivals]) -> PutReport {
        let texts: Vec<String> = notes.iter().map(arrivals::places_text).collect();
        let planned: Vec<Planned> = notes
            .iter()
            .zip(&texts)
            .map(|(note, text)| {
                let (partition, sort) = arrivals::key_of(note);
                // Quotes are escaped on the wire.
                Planned { key: Key { partition, sort }, wire_bytes: text.len() * 2 + 512 }
            })
            .collect();
        let build = |at: usize| arrivals::to_item(&notes[at], texts[at].clone());
        PutReport { outcomes: self.notes.write(&planned, &build).await }
    }

    pub(super) async fn read_arrivals(
        &self,
        query: &ArrivalsQuery,
    ) -> Result<ArrivalsPage, StoreError> {
        let slices = plan_slices(query);
        let reads: Vec<_> =
            slices.partitions.into_iter().map(|at| self.read_slice(query, at).boxed()).collect();
        let read = stream::iter(reads).buffered(PARALLEL).try_collect().await?;
        Ok(merge(read, slices.end))
    }

    async fn read_slice(
        &self,
        query: &ArrivalsQuery,
        partition: String,
    ) -> Result<Slice, StoreError> {
        let call = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk AND #sk > :behind")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", s(partition))
            .expression_attribute_values(":behind", s(query.from.behind()))
            .consistent_read(query.consistent)
            .limit(SLICE_NOTES);
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk("read arrivals", &e))?;
        let more = answer.last_evaluated_key.is_some_and(|key| !key.is_empty());
        let items = answer.items.unwrap_or_default().into_iter();
        let notes = items.map(|item| arrivals::from_item(&query.integration, item));
        Ok(Slice { notes: notes.collect::<Result<_, _>>()?, more })
    }

    /// See [`super::MessageStore::get_many`].
    pub(super) async fn get_first(
        &self,
        places: &[Locator],
        now_ms: i64,
        max_bytes: usize,
    ) -> Result<Vec<Option<Message>>, StoreError> {
        let places = &places[..places.len().min(CALL_PLACES)];
        let mut heads = self.heads(places, false).await?;
        let unseen: Vec<Locator> =
            places.iter().filter(|place| !heads.contains_key(*place)).cloned().collect();
        if !unseen.is_empty() {
            // It was stored a moment ago, and this reading may be of a moment before that.
            heads.extend(self.heads(&unseen, true).await?);
        }
        let (mut found, mut bytes) = (Vec::with_capacity(places.len()), 0);
        for place in places {
            let head = heads.get(place).filter(|head| !is_expired(head.expires_at_s, now_ms));
            let Some(head) = head else {
                found.push(None);
                continue;
            };
            bytes += head.payload_bytes();
            if bytes > max_bytes && found.iter().any(Option::is_some) {
                break;
            }
            found.push(Some(self.complete_one(head.clone(), true).await?));
        }
        Ok(found)
    }

    /// What is at these places now; payloads in parts are not read yet.
    async fn heads(
        &self,
        places: &[Locator],
        consistent: bool,
    ) -> Result<HashMap<Locator, Head>, StoreError> {
        let mut by_key: HashMap<(String, String), &Locator> = places
            .iter()
            .map(|place| {
                ((partition(place.integration(), place.entity()), place.sort().to_owned()), place)
            })
            .collect();
        let mut keys: Vec<Item> =
            by_key.keys().map(|(partition, sort)| key(partition.as_str(), sort.as_str())).collect();
        let mut heads = HashMap::with_capacity(keys.len());
        for round in 1..=MAX_ROUNDS {
            let (items, left_out) = self.read_round(keys, consistent).await?;
            for item in items {
                let head = from_item("get messages", item)?;
                let message = &head.message;
                let key = (partition(&message.integration, &message.entity), head.sort.clone());
                if let Some(place) = by_key.remove(&key) {
                    heads.insert(place.clone(), head);
                }
            }
            if left_out.is_empty() {
                return Ok(heads);
            }
            keys = left_out;
            if round < MAX_ROUNDS {
                tokio::time::sleep(pause(round)).await;
            }
        }
        let detail = format!("{} of {} places left out", keys.len(), places.len());
        Err(StoreError::Throttled { operation: "get messages", detail })
    }

    /// One call: what it found, and the keys that it left out.
    async fn read_round(
        &self,
        keys: Vec<Item>,
        consistent: bool,
    ) -> Result<(Vec<Item>, Vec<Item>), StoreError> {
        let operation = "get messages";
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(consistent)
            .build()
            .map_err(|e| StoreError::Invalid { operation, detail: e.to_string() })?;
        let call = self.client.batch_get_item().request_items(&self.table, wanted);
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        let items = answer.responses.unwrap_or_default().into_values().flatten().collect();
        let left_out = answer.unprocessed_keys.unwrap_or_default();
        Ok((items, left_out.into_values().flat_map(|keys| keys.keys).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ArrivalRow, ArrivalsFrom, MessageStore, PutOutcome, pack_arrivals};
    use super::*;
    use crate::testing::{APP, NOW, dynamodb, integration, kept, message, noise};

    fn query(from: ArrivalsFrom, until_ms: i64) -> ArrivalsQuery {
        ArrivalsQuery { integration: integration("quakes"), from, until_ms, consistent: true }
    }

    fn row(at_ms: i64, number: u32) -> ArrivalRow {
        ArrivalRow { at_ms, writer: u64::MAX, number }
    }

    /// Stores messages `range` about `us` and notes each by itself, a second after the other.
    async fn noted(store: &DynamoMessages, range: std::ops::Range<u32>) -> Vec<Message> {
        let messages: Vec<Message> = range.clone().map(|n| message("us", n, "{}")).collect();
        let items: Vec<_> = messages.iter().cloned().map(kept).collect();
        assert!(store.put(&items).await.outcomes.iter().all(|o| *o == PutOutcome::Stored));
        let notes: Vec<Arrivals> = range
            .zip(&messages)
            .flat_map(|(n, message)| {
                let places = vec![Locator::of(message)];
                pack_arrivals(&message.integration, places, || row(NOW + i64::from(n) * 1_000, n))
            })
            .collect();
        let report = store.announce(&notes).await;
        assert!(report.outcomes.iter().all(|outcome| *outcome == PutOutcome::Stored));
        messages
    }

    #[tokio::test]
    async fn what_was_noted_is_read_in_order_page_by_page_over_minutes() {
        let (_aws, client) = dynamodb().await;
        let store = DynamoMessages::new(client, APP);
        let messages = noted(&store, 0..400).await;
        let (mut from, mut numbers, mut pages) = (ArrivalsFrom::Time(NOW + 5_000), Vec::new(), 0);
        loop {
            let page = store.arrivals(&query(from, NOW + 500_000)).await.unwrap();
            numbers.extend(page.notes.iter().map(|note| note.row.number));
            pages += 1;
            match page.upto {
                Some(upto) => from = upto,
                None => break,
            }
        }
        assert_eq!(numbers, (5..400).collect::<Vec<_>>());
        assert!(pages <= 8, "{pages} pages for seven minutes");
        let behind = ArrivalsFrom::Behind(row(NOW + 398_000, 398));
        let page = store.arrivals(&query(behind, NOW + 500_000)).await.unwrap();
        let [last] = page.notes.as_slice() else { panic!("{page:?}") };
        assert_eq!(last.places, [Locator::of(&messages[399])]);
        let other = ArrivalsQuery { integration: integration("flights"), ..query(from, NOW) };
        assert!(store.arrivals(&other).await.unwrap().notes.is_empty());
    }

    #[tokio::test]
    async fn many_notes_of_one_moment_are_read_to_their_end() {
        let (_aws, client) = dynamodb().await;
        let store = DynamoMessages::new(client, APP);
        let places = vec![Locator::of(&message("us", 0, "{}"))];
        for numbers in (0..500u32).collect::<Vec<_>>().chunks(25) {
            let notes: Vec<Arrivals> = numbers
                .iter()
                .map(|n| Arrivals {
                    integration: integration("quakes"),
                    row: row(NOW, *n),
                    places: places.clone(),
                })
                .collect();
            store.announce(&notes).await;
        }
        let (mut from, mut read) = (ArrivalsFrom::Time(NOW), 0);
        for _ in 0..10 {
            let page = store.arrivals(&query(from, NOW)).await.unwrap();
            read += page.notes.len();
            match page.upto {
                Some(upto) => from = upto,
                None => break,
            }
        }
        assert_eq!(read, 500);
    }

    #[tokio::test]
    async fn messages_behind_places_come_in_their_order_up_to_so_many_bytes() {
        let (_aws, client) = dynamodb().await;
        let store = DynamoMessages::new(client, APP);
        let large = message("us", 1, noise(1024 * 1024));
        let small = message("us", 2, noise(1_000));
        store.put(&[kept(large.clone()), kept(small.clone())]).await;
        let gone = message("us", 3, "x");
        let places = |messages: &[&Message]| -> Vec<Locator> {
            messages.iter().map(|message| Locator::of(message)).collect()
        };
        let all = places(&[&gone, &large, &small, &small]);
        let found = store.get_many(&all, NOW, 16 << 20).await.unwrap();
        let whole = [None, Some(large.clone()), Some(small.clone()), Some(small.clone())];
        assert!(found == whole, "{} found", found.len());
        let found = store.get_many(&all, NOW, 1_000).await.unwrap();
        assert!(found == [None, Some(large)], "one at least, and no more than fit");
        let found = store.get_many(&all[2..], NOW, 1_000).await.unwrap();
        assert!(found == [Some(small)]);
        let many = places(&[&gone; 60]);
        assert_eq!(store.get_many(&many, NOW, 1).await.unwrap().len(), CALL_PLACES);
    }
}
