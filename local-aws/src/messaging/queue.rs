//! One queue: what is in it, what is in flight, and what was seen in the last five minutes. Pure; times are passed in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

/// How long a FIFO queue knows a deduplication id again.
const DEDUPLICATION_MS: i64 = 5 * 60 * 1_000;
/// Messages that a queue holds at most; more are refused.
const MOST_MESSAGES: usize = 200_000;

/// A queue and its settings.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) fifo: bool,
    /// Without a deduplication id, the body's hash is it.
    pub(super) content_based: bool,
    pub(super) visibility_ms: i64,
    /// The largest message in bytes.
    pub(super) most_bytes: usize,
    pub(super) created_ms: i64,
    messages: VecDeque<Kept>,
    /// By deduplication id: the receipt of the message that had it, and until when it is known.
    seen: BTreeMap<String, (Sent, i64)>,
    sequence: u128,
    receipts: u64,
}

/// What a sender gives.
#[derive(Debug, Clone, Default)]
pub(super) struct New {
    pub(super) body: String,
    pub(super) attributes: Map<String, Value>,
    pub(super) group: Option<String>,
    pub(super) deduplication: Option<String>,
    pub(super) delay_ms: i64,
}

/// What a sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) message_id: String,
    /// Only of FIFO queues.
    pub(super) sequence: Option<String>,
}

/// A message in the queue.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) sent: Sent,
    pub(super) new: New,
    pub(super) sent_ms: i64,
    pub(super) receives: u32,
    pub(super) receipt: String,
    visible_at_ms: i64,
}

impl Queue {
    pub(super) fn new(fifo: bool, created_ms: i64) -> Queue {
        Queue {
            fifo,
            content_based: false,
            visibility_ms: 30_000,
            most_bytes: 1_048_576,
            created_ms,
            messages: VecDeque::new(),
            seen: BTreeMap::new(),
            sequence: 18_849_496_460_467_696_128,
            receipts: 0,
        }
    }

    /// Keeps a message, or recognises it: a FIFO queue answers a repeated id as it did the first time. `None`: it is full.
    pub(super) fn send(&mut self, new: New, message_id: String, now_ms: i64) -> Option<Sent> {
        self.seen.retain(|_, (_, until_ms)| *until_ms > now_ms);
        let id = new.deduplication.clone().filter(|_| self.fifo);
        if let Some((sent, _)) = id.as_ref().and_then(|id| self.seen.get(id)) {
            return Some(sent.clone());
        }
        if self.messages.len() >= MOST_MESSAGES {
            return None;
        }
        let sequence = self.fifo.then(|| {
            self.sequence += 256;
            self.sequence.to_string()
        });
        let sent = Sent { message_id, sequence };
        if let Some(id) = id {
            self.seen.insert(id, (sent.clone(), now_ms + DEDUPLICATION_MS));
        }
        let visible_at_ms = now_ms.saturating_add(new.delay_ms);
        self.messages.push_back(Kept {
            sent: sent.clone(),
            new,
            sent_ms: now_ms,
            receives: 0,
            receipt: String::new(),
            visible_at_ms,
        });
        Some(sent)
    }

    /// Hands out up to `most` messages, which nobody else gets for `visibility_ms`. Of a FIFO queue's group none is handed out
    /// while an earlier one is in flight.
    pub(super) fn receive(&mut self, most: usize, visibility_ms: i64, now_ms: i64) -> Vec<Kept> {
        let (mut given, mut blocked) = (Vec::new(), BTreeSet::new());
        for kept in &mut self.messages {
            if given.len() == most {
                break;
            }
            let group = kept.new.group.clone().filter(|_| self.fifo);
            if group.as_ref().is_some_and(|group| blocked.contains(group)) {
                continue;
            }
            if kept.visible_at_ms > now_ms {
                blocked.extend(group);
                continue;
            }
            self.receipts += 1;
            kept.receipt = format!("receipt-{}", self.receipts);
            kept.receives += 1;
            kept.visible_at_ms = now_ms.saturating_add(visibility_ms);
            given.push(kept.clone());
        }
        given
    }

    /// Removes what was handed out under this receipt.
    pub(super) fn delete(&mut self, receipt: &str) {
        self.messages.retain(|kept| kept.receipt != receipt || receipt.is_empty());
    }

    /// Changes how long what was handed out stays hidden; false if there is nothing under this receipt.
    pub(super) fn hide(&mut self, receipt: &str, visibility_ms: i64, now_ms: i64) -> bool {
        let kept = self.messages.iter_mut().find(|kept| kept.receipt == receipt);
        let visible_at_ms = now_ms.saturating_add(visibility_ms);
        kept.map(|kept| kept.visible_at_ms = visible_at_ms).is_some()
    }

    pub(super) fn purge(&mut self) {
        self.messages.clear();
    }

    /// How many can be received, and how many are in flight or delayed.
    pub(super) fn counts(&self, now_ms: i64) -> (usize, usize) {
        let visible = self.messages.iter().filter(|kept| kept.visible_at_ms <= now_ms).count();
        (visible, self.messages.len() - visible)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(body: &str, group: &str, deduplication: &str) -> New {
        New {
            body: body.to_owned(),
            group: Some(group.to_owned()),
            deduplication: Some(deduplication.to_owned()),
            ..New::default()
        }
    }

    fn bodies(given: &[Kept]) -> Vec<&str> {
        given.iter().map(|kept| kept.new.body.as_str()).collect()
    }

    #[test]
    fn a_group_waits_for_its_earlier_message_and_others_do_not() {
        let mut queue = Queue::new(true, 0);
        for (index, (body, group)) in
            [("a1", "a"), ("a2", "a"), ("b1", "b")].into_iter().enumerate()
        {
            queue.send(new(body, group, body), index.to_string(), 0).unwrap();
        }
        let first = queue.receive(1, 1_000, 0);
        assert_eq!(bodies(&first), ["a1"]);
        assert_eq!(bodies(&queue.receive(10, 1_000, 0)), ["b1"]);
        queue.delete(&first[0].receipt);
        assert_eq!(bodies(&queue.receive(10, 1_000, 0)), ["a2"]);
        assert_eq!(
            bodies(&queue.receive(10, 1_000, 1_000)),
            ["a2", "b1"],
            "they are visible again"
        );
    }

    #[test]
    fn a_repeated_id_is_known_for_five_minutes() {
        let mut queue = Queue::new(true, 0);
        let first = queue.send(new("a", "g", "id"), "1".to_owned(), 0).unwrap();
        let again = queue.send(new("b", "g", "id"), "2".to_owned(), DEDUPLICATION_MS - 1).unwrap();
        assert_eq!(first, again);
        assert_eq!(queue.counts(0), (1, 0));
        let later = queue.send(new("c", "g", "id"), "3".to_owned(), DEDUPLICATION_MS).unwrap();
        assert_ne!(first.sequence, later.sequence);
        assert_eq!(queue.counts(DEDUPLICATION_MS), (2, 0));
    }
}
