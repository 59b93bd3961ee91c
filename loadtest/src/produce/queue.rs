//! Records that wait for a request, and which of them the next request takes. Pure.
//!
//! Where the order within a key counts, a request never holds two records of one key, and a key
//! with a record in flight waits: a record that fails alone can then be tried again in its place.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::aggregate;
use super::options::Options;
use super::shard_map::hash_of;

/// One message with its keys, as it goes into a record.
#[derive(Debug, Clone)]
pub(crate) struct UserMessage {
    pub(crate) partition_key: Arc<str>,
    pub(crate) explicit_hash_key: Option<u128>,
    pub(crate) data: Bytes,
}

impl UserMessage {
    /// The hash key that decides its shard.
    pub(crate) fn hash(&self) -> u128 {
        self.explicit_hash_key.unwrap_or_else(|| hash_of(&self.partition_key))
    }
}

/// One record of a request.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) partition_key: Arc<str>,
    pub(crate) explicit_hash_key: Option<u128>,
    pub(crate) data: Bytes,
    /// Records with the same one keep their order.
    pub(crate) order: Arc<str>,
    /// How many messages the record holds.
    pub(crate) messages: usize,
    /// What an aggregate was made of and for which shard; `None` for a plain record.
    pub(crate) aggregate: Option<(Arc<str>, Vec<UserMessage>)>,
    /// Since when its first message waits.
    pub(crate) since: Instant,
}

impl Unit {
    pub(crate) fn plain(message: UserMessage, since: Instant) -> Unit {
        Unit {
            order: Arc::clone(&message.partition_key),
            partition_key: message.partition_key,
            explicit_hash_key: message.explicit_hash_key,
            data: message.data,
            messages: 1,
            aggregate: None,
            since,
        }
    }

    /// The record of messages that all belong to `shard`; `None` if there are none.
    pub(crate) fn aggregated(
        shard: Arc<str>,
        mut messages: Vec<UserMessage>,
        since: Instant,
    ) -> Option<Unit> {
        if messages.len() <= 1 {
            let mut unit = Unit::plain(messages.pop()?, since);
            unit.order = shard;
            return Some(unit);
        }
        Some(Unit {
            partition_key: Arc::clone(&messages[0].partition_key),
            explicit_hash_key: messages[0].explicit_hash_key,
            data: aggregate::encode(&messages),
            order: Arc::clone(&shard),
            messages: messages.len(),
            aggregate: Some((shard, messages)),
            since,
        })
    }

    /// What the record counts against a request's limit.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// A record that is larger than a request may be.
#[derive(Debug)]
pub(crate) struct TooLarge {
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

/// The waiting records. The caller keeps to [`Queue::has_room`].
#[derive(Debug)]
pub(crate) struct Queue {
    request_records: usize,
    request_bytes: usize,
    queued_records: usize,
    queued_bytes: usize,
    linger: Duration,
    /// `None` where the order within a key does not count; else the keys that have a record in
    /// `ready` or in flight, each with those that wait behind it.
    held: Option<HashMap<Arc<str>, VecDeque<Unit>>>,
    ready: VecDeque<Unit>,
    ready_bytes: usize,
    records: usize,
    bytes: usize,
}

impl Queue {
    pub(crate) fn new(options: &Options) -> Queue {
        Queue {
            request_records: options.request_records,
            request_bytes: options.request_bytes,
            queued_records: options.queued_records,
            queued_bytes: options.queued_bytes,
            linger: options.linger,
            held: options.order_per_key.then(HashMap::new),
            ready: VecDeque::new(),
            ready_bytes: 0,
            records: 0,
            bytes: 0,
        }
    }

    /// Whether one more message may be taken in; `elsewhere` bytes wait outside the queue.
    pub(crate) fn has_room(&self, elsewhere: usize) -> bool {
        self.records < self.queued_records && self.bytes + elsewhere < self.queued_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Takes a record in, unless no request could ever hold it.
    pub(crate) fn push(&mut self, unit: Unit) -> Result<(), TooLarge> {
        if unit.bytes() > self.request_bytes {
            return Err(TooLarge { bytes: unit.bytes(), messages: unit.messages });
        }
        self.records += 1;
        self.bytes += unit.bytes();
        if let Some(held) = &mut self.held {
            if let Some(waiting) = held.get_mut(&unit.order) {
                waiting.push_back(unit);
                return Ok(());
            }
            held.insert(Arc::clone(&unit.order), VecDeque::new());
        }
        self.make_ready(unit);
        Ok(())
    }

    fn make_ready(&mut self, unit: Unit) {
        self.ready_bytes += unit.bytes();
        self.ready.push_back(unit);
    }

    /// The next request's records, if it is full, has waited long enough, or `flush` says so.
    pub(crate) fn take(&mut self, now: Instant, flush: bool) -> Option<Vec<Unit>> {
        let oldest = self.ready.front()?;
        let is_full =
            self.ready.len() >= self.request_records || self.ready_bytes >= self.request_bytes;
        if !(flush || is_full || oldest.since + self.linger <= now) {
            return None;
        }
        let mut units = Vec::with_capacity(self.ready.len().min(self.request_records));
        let mut bytes = 0;
        while units.len() < self.request_records {
            let fits = self.ready.front().is_some_and(|u| bytes + u.bytes() <= self.request_bytes);
            let Some(unit) = self.ready.pop_front_if(|_| fits) else {
                break;
            };
            bytes += unit.bytes();
            units.push(unit);
        }
        self.records -= units.len();
        self.bytes -= bytes;
        self.ready_bytes -= bytes;
        Some(units)
    }

    /// When [`Queue::take`] will have something without further records.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.ready.front().map(|unit| unit.since + self.linger)
    }

    /// A record of this key is no longer in flight: the next one may go.
    pub(crate) fn release(&mut self, order: &Arc<str>) {
        let Some(held) = &mut self.held else { return };
        match held.get_mut(order).and_then(VecDeque::pop_front) {
            Some(next) => self.make_ready(next),
            None => {
                held.remove(order);
            }
        }
    }

    /// Lets go of everything; gives back how many messages that were.
    pub(crate) fn abandon(&mut self) -> usize {
        let waiting = self.held.iter().flat_map(|held| held.values().flatten());
        let messages = self.ready.iter().chain(waiting).map(|unit| unit.messages).sum();
        self.ready.clear();
        self.held = self.held.take().map(|_| HashMap::new());
        (self.records, self.bytes, self.ready_bytes) = (0, 0, 0);
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::StreamRef;
    use super::super::options::{Generate, Size, Source};
    use super::*;

    fn queue(order_per_key: bool) -> Queue {
        let source = Source::Generate(Generate { size: Size::Fixed(1), keys: 1, skew: 0.0 });
        let mut options = Options::new(StreamRef::Name("s".into()), source);
        options.order_per_key = order_per_key;
        options.request_records = 3;
        options.request_bytes = 100;
        options.linger = Duration::from_millis(50);
        options.queued_records = 5;
        Queue::new(&options)
    }

    fn unit(key: &str, data: &'static str, since: Instant) -> Unit {
        let data = Bytes::from_static(data.as_bytes());
        Unit::plain(UserMessage { partition_key: key.into(), explicit_hash_key: None, data }, since)
    }

    fn texts(units: Option<Vec<Unit>>) -> Vec<String> {
        let text =
            |unit: Unit| format!("{}{}", unit.partition_key, String::from_utf8_lossy(&unit.data));
        units.into_iter().flatten().map(text).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_goes_when_full_or_after_the_linger() {
        let (mut queue, now) = (queue(false), Instant::now());
        for data in ["1", "2", "3", "4"] {
            queue.push(unit("k", data, now)).unwrap();
        }
        assert_eq!(texts(queue.take(now, false)), ["k1", "k2", "k3"]);
        assert!(queue.take(now, false).is_none());
        assert_eq!(queue.deadline(), Some(now + Duration::from_millis(50)));
        assert_eq!(texts(queue.take(now + Duration::from_millis(50), false)), ["k4"]);
        assert!(queue.is_empty() && queue.deadline().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_keeps_to_its_bytes_and_refuses_what_never_fits() {
        let (mut queue, now) = (queue(false), Instant::now());
        let sixty = "123456789012345678901234567890123456789012345678901234567890";
        queue.push(unit("a", sixty, now)).unwrap();
        queue.push(unit("b", sixty, now)).unwrap();
        assert_eq!(queue.take(now, false).unwrap().len(), 1);
        assert_eq!(queue.take(now, true).unwrap().len(), 1);
        let data = Bytes::from(vec![0; 101]);
        let message = UserMessage { partition_key: "a".into(), explicit_hash_key: None, data };
        assert!(queue.push(Unit::plain(message, now)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_record_of_a_key_at_a_time_where_order_counts() {
        let (mut queue, now) = (queue(true), Instant::now());
        for (key, data) in [("a", "1"), ("a", "2"), ("b", "1"), ("a", "3")] {
            queue.push(unit(key, data, now)).unwrap();
        }
        assert!(queue.take(now, false).is_none(), "two keys do not fill a request of three");
        assert_eq!(texts(queue.take(now, true)), ["a1", "b1"]);
        assert!(queue.take(now, true).is_none(), "a2 waits for a1");
        queue.release(&"b".into());
        assert!(queue.take(now, true).is_none());
        queue.release(&"a".into());
        assert_eq!(texts(queue.take(now, true)), ["a2"]);
        queue.push(unit("b", "2", now)).unwrap();
        assert_eq!(texts(queue.take(now, true)), ["b2"]);
        assert_eq!(queue.abandon(), 1);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_counted_in_records_and_bytes() {
        let (mut queue, now) = (queue(true), Instant::now());
        assert!(queue.has_room(0) && !queue.has_room(usize::MAX / 2));
        for data in ["1", "2", "3", "4", "5"] {
            assert!(queue.has_room(0));
            queue.push(unit("a", data, now)).unwrap();
        }
        assert!(!queue.has_room(0));
    }
}
