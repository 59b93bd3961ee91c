//! A lane's bookkeeping, over a sink that does what the test says.

use std::sync::{Arc, Mutex};

use lease_manager::SequenceNumber;

use super::*;
use crate::batch::testing::{At, BatchBuilder};
use crate::batch::{Malformed, ShardContext};
use store::{DeadReason, IntegrationName};

/// Keeps what it accepts until the test takes it; refuses while full.
#[derive(Default)]
struct Held {
    batches: Mutex<Vec<LaneBatch>>,
    full: std::sync::atomic::AtomicBool,
}

impl Held {
    fn take(&self) -> Vec<LaneBatch> {
        std::mem::take(&mut self.batches.lock().unwrap())
    }

    fn set_full(&self, full: bool) {
        self.full.store(full, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Sink for Held {
    fn offer(&self, batch: LaneBatch) -> Result<(), LaneBatch> {
        if self.full.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(batch);
        }
        self.batches.lock().unwrap().push(batch);
        Ok(())
    }
}

fn number(n: u64) -> SequenceNumber {
    SequenceNumber::parse(n.to_string()).unwrap()
}

fn place(sequence: u64, index: u64) -> Checkpoint {
    Checkpoint::At { sequence: number(sequence), sub_sequence: index }
}

fn batch(places: &[(u64, u32)], upto: Option<u64>) -> Arc<Batch> {
    let mut builder = BatchBuilder::new(ShardContext {
        stream_arn: Arc::from("arn"),
        shard_id: Arc::from("shardId-000000000000"),
        consumer_arn: Arc::from("consumer"),
        fence: 1,
        starting_hash_key: 0,
        ending_hash_key: u128::MAX,
    });
    for (sequence, index) in places {
        let at = At {
            sequence: &sequence.to_string(),
            index: *index,
            partition_key: "key",
            arrived_at_ms: 1_000 + *sequence as i64,
        };
        let malformed = Malformed {
            reason: DeadReason::NotJson,
            detail: String::new(),
            integration: IntegrationName::parse("default").unwrap(),
        };
        builder.malformed(at, b"{}", malformed);
    }
    let batch = builder.build(upto.map(number), 10 * places.len());
    Arc::new(Batch { shard_ended: upto.is_none(), ..batch })
}

struct Rig {
    sink: Arc<Held>,
    lane: Lane,
    lease: LeaseCheck,
    progress: Arc<Notify>,
}

impl Rig {
    fn new(position: Checkpoint, budget: usize) -> Rig {
        let sink = Arc::new(Held::default());
        let lane = Lane::new(
            LaneName::parse("lane").unwrap(),
            sink.clone(),
            Budget::new(budget),
            position,
        );
        Rig { sink, lane, lease: LeaseCheck::new(|| true), progress: Arc::new(Notify::new()) }
    }

    fn take(&mut self, batch: &Arc<Batch>) {
        self.lane.take(batch, &self.lease, &self.progress);
    }
}

#[test]
fn c1_the_position_is_the_end_of_the_contiguous_settled_prefix() {
    let mut rig = Rig::new(Checkpoint::TrimHorizon, 1_000);
    rig.take(&batch(&[(1, 0), (2, 0)], Some(2)));
    rig.take(&batch(&[(3, 0)], Some(5)));
    let held = rig.sink.take();
    held[1].ack.settle(1);
    assert_eq!(rig.lane.advance().unwrap(), Advance::default(), "the first batch is not settled");
    assert_eq!(*rig.lane.position(), Checkpoint::TrimHorizon);
    held[0].ack.settle(1);
    assert!(!rig.lane.advance().unwrap().moved, "half of a batch moves nothing");
    held[0].ack.settle(1);
    let advance = rig.lane.advance().unwrap();
    assert_eq!(advance, Advance { records: true, moved: true, bytes: 30 });
    assert_eq!(*rig.lane.position(), place(5, 0), "the continuation lies behind the last record");
}

#[test]
fn the_index_in_an_aggregate_is_kept() {
    let mut rig = Rig::new(Checkpoint::TrimHorizon, 1_000);
    rig.take(&batch(&[(7, 0), (7, 1), (7, 2)], Some(7)));
    rig.sink.take()[0].ack.settle(3);
    rig.lane.advance().unwrap();
    assert_eq!(*rig.lane.position(), place(7, 2));
}

#[test]
fn what_an_earlier_owner_settled_is_not_offered_again() {
    let mut rig = Rig::new(place(7, 1), 1_000);
    rig.take(&batch(&[(6, 0), (7, 0), (7, 1)], Some(7)));
    assert!(rig.sink.take().is_empty());
    rig.lane.advance().unwrap();
    assert_eq!(*rig.lane.position(), place(7, 1), "a position never goes back");
    rig.take(&batch(&[(7, 1), (7, 2), (8, 0)], Some(8)));
    let held = rig.sink.take();
    let places: Vec<_> =
        held[0].entries().iter().map(|e| held[0].batch.place(e).to_place()).collect();
    assert_eq!(places, [(number(7), 2), (number(8), 0)]);
    held[0].ack.settle(2);
    rig.lane.advance().unwrap();
    assert_eq!(*rig.lane.position(), place(8, 0));
}

#[test]
fn an_empty_event_moves_the_position_in_its_turn() {
    let mut rig = Rig::new(Checkpoint::Latest, 1_000);
    rig.take(&batch(&[(1, 0)], Some(1)));
    rig.take(&batch(&[], Some(9)));
    assert!(!rig.lane.advance().unwrap().moved, "not past what is not settled");
    rig.sink.take()[0].ack.settle(1);
    rig.lane.advance().unwrap();
    assert_eq!(*rig.lane.position(), place(9, 0));
    rig.take(&batch(&[], Some(12)));
    let advance = rig.lane.advance().unwrap();
    assert!(advance.moved && !advance.records, "idle movement");
}

#[test]
fn without_budget_or_room_the_batch_waits_in_the_lane() {
    let mut rig = Rig::new(Checkpoint::TrimHorizon, 25);
    rig.take(&batch(&[(1, 0), (2, 0)], Some(2)));
    rig.take(&batch(&[(3, 0)], Some(3)));
    assert!(!rig.lane.has_room(), "20 of 25 bytes are taken, 10 more have no room");
    assert!(!rig.lane.pump());
    let first = rig.sink.take();
    first[0].ack.settle(2);
    drop(first);
    rig.sink.set_full(true);
    assert!(!rig.lane.pump(), "budget, but the sink is full");
    rig.sink.set_full(false);
    assert!(rig.lane.pump());
    assert!(rig.lane.has_room());
    assert_eq!(rig.sink.take().len(), 1);
}

#[test]
fn a_dropped_acknowledgement_is_an_error_with_a_name() {
    let mut rig = Rig::new(Checkpoint::TrimHorizon, 1_000);
    rig.take(&batch(&[(1, 0)], Some(1)));
    drop(rig.sink.take());
    assert_eq!(rig.lane.advance(), Err(AckDropped(LaneName::parse("lane").unwrap())));
    assert_eq!(*rig.lane.position(), Checkpoint::TrimHorizon);
}

#[test]
fn the_lane_ends_when_the_last_batch_is_settled() {
    let mut rig = Rig::new(Checkpoint::TrimHorizon, 1_000);
    rig.take(&batch(&[(1, 0)], Some(1)));
    rig.take(&batch(&[], None));
    rig.lane.advance().unwrap();
    assert!(!rig.lane.ended());
    rig.sink.take()[0].ack.settle(1);
    rig.lane.advance().unwrap();
    assert!(rig.lane.ended());
    assert!(rig.lane.is_idle());
}

#[test]
fn what_no_sink_accepted_can_be_taken_back_and_is_not_settled() {
    let mut rig = Rig::new(Checkpoint::TrimHorizon, 1_000);
    rig.take(&batch(&[(1, 0)], Some(1)));
    rig.sink.set_full(true);
    rig.take(&batch(&[(2, 0), (3, 0)], Some(3)));
    assert_eq!(rig.lane.in_flight_bytes(), 30);
    rig.lane.withdraw();
    rig.lane.withdraw();
    assert_eq!(rig.lane.in_flight_bytes(), 10);
    assert!(rig.lane.has_room() && !rig.lane.is_idle());
    rig.sink.take()[0].ack.settle(1);
    rig.lane.advance().unwrap();
    assert_eq!((rig.lane.position(), rig.lane.is_idle()), (&place(1, 0), true));
}
