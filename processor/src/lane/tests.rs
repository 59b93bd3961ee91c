//! A lane's bookkeeping, over a sink that does what the test says.

use std::sync::{Arc, Mutex};

use lease_manager::SequenceNumber;

use super::*;
use crate::batch::testing::{At, BatchBuilder};
use crate::batch::{Malformed, ShardContext};
use crate::budget::Budget;
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
    terms: Terms,
}

impl Rig {
    fn new(position: Checkpoint, budget: usize) -> Rig {
        let sink = Arc::new(Held::default());
        let lane = Lane::new(
            LaneName::parse("lane").unwrap(),
            sink.clone(),
            Budget::new(budget).share(),
            position,
        );
        let terms = Terms { lease: LeaseCheck::new(|| true), progress: Arc::new(Notify::new()) };
        Rig { sink, lane, terms }
    }

    fn try_take(&mut self, batch: &Arc<Batch>) -> Result<(), NoRoom> {
        let permit = self.lane.permit_for(batch)?;
        self.lane.take(batch, permit, &self.terms);
        Ok(())
    }

    fn take(&mut self, batch: &Arc<Batch>) {
        self.try_take(batch).expect("room");
    }
}

#[test]
fn o1_a_lane_that_has_all_of_an_ended_shard_takes_nothing_again() {
    let mut rig = Rig::new(place(4, 0), 1_000);
    rig.take(&batch(&[(5, 0), (6, 0)], None));
    assert!(rig.lane.has_all() && !rig.lane.ended());
    // The live reader begins anew for another lane, from the start of the shard.
    rig.take(&batch(&[(3, 0), (4, 0), (5, 0)], Some(5)));
    rig.take(&batch(&[(6, 0)], None));
    let held = rig.sink.take();
    assert_eq!(held.len(), 1, "5 and 6 are in flight, once");
    held[0].ack.settle(2);
    rig.lane.advance().unwrap();
    assert!(rig.lane.ended());
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
fn c3_without_budget_nothing_is_taken_and_without_a_sink_it_waits_in_the_queue() {
    let mut rig = Rig::new(Checkpoint::TrimHorizon, 60);
    rig.take(&batch(&[(1, 0), (2, 0)], Some(2)));
    assert_eq!(rig.try_take(&batch(&[(3, 0), (4, 0)], Some(4))), Err(NoRoom), "30 is for all");
    assert_eq!(rig.lane.in_flight_bytes(), 20);
    rig.sink.set_full(true);
    rig.take(&batch(&[(3, 0)], Some(3)));
    assert!(rig.lane.is_queued() && !rig.lane.pump());
    let first = rig.sink.take();
    first[0].ack.settle(2);
    drop(first);
    rig.sink.set_full(false);
    assert!(rig.lane.pump());
    assert_eq!(rig.sink.take().len(), 1);
}

#[test]
fn a_detached_lane_keeps_what_its_sink_holds_and_goes_on_behind_that() {
    let mut rig = Rig::new(Checkpoint::TrimHorizon, 1_000);
    rig.take(&batch(&[(1, 0), (2, 1)], Some(2)));
    rig.sink.set_full(true);
    rig.take(&batch(&[(3, 0)], Some(5)));
    rig.take(&batch(&[], Some(6)));
    assert_eq!(*rig.lane.end(), place(6, 0));
    assert_eq!(rig.lane.free_queue(), Some(1_003), "when the first of it arrived");
    assert_eq!((rig.lane.end(), rig.lane.in_flight_bytes()), (&place(2, 1), 20));
    assert!(!rig.lane.is_queued());
    rig.sink.set_full(false);
    rig.take(&batch(&[(2, 0), (2, 1), (2, 2), (3, 0)], Some(5)));
    let held = rig.sink.take();
    assert_eq!(held[1].entries().len(), 2, "what was taken is left out");
    held[0].ack.settle(2);
    held[1].ack.settle(2);
    rig.lane.advance().unwrap();
    assert_eq!(*rig.lane.position(), place(5, 0));
}

#[test]
fn a_lane_is_stuck_when_it_is_full_for_long_and_does_not_move() {
    let longest = Duration::from_secs(2);
    let start = Instant::now();
    let mut rig = Rig::new(Checkpoint::TrimHorizon, 1_000);
    rig.take(&batch(&[(1, 0)], Some(1)));
    assert!(!rig.lane.is_stuck(start + longest * 9, longest), "it is not full");
    rig.sink.set_full(true);
    rig.take(&batch(&[(2, 0)], Some(2)));
    assert!(!rig.lane.is_stuck(start, longest));
    rig.sink.take()[0].ack.settle(1);
    assert!(rig.lane.advance().unwrap().records);
    assert!(!rig.lane.is_stuck(start + longest, longest), "it moved on");
    assert!(rig.lane.is_stuck(start + longest * 2, longest));
    rig.lane.free_queue();
    assert!(!rig.lane.is_stuck(start + longest * 9, longest));
    assert!(rig.lane.is_ready());
}

#[test]
fn a_lane_that_frees_its_queue_stands_where_it_stood() {
    let mut rig = Rig::new(place(1, 0), 1_000);
    rig.take(&batch(&[(2, 0)], Some(2)));
    rig.sink.set_full(true);
    rig.take(&batch(&[(3, 0)], Some(3)));
    rig.lane.free_queue();
    assert_eq!(*rig.lane.position(), place(1, 0), "its sink still works on 2");
    assert_eq!(*rig.lane.end(), place(2, 0), "3 is to be read again");
}

#[test]
fn the_first_owed_of_a_batch_is_the_first_that_was_not_taken() {
    let rig = Rig::new(place(2, 0), 1_000);
    assert_eq!(rig.lane.first_owed_ms(&batch(&[(2, 0), (3, 0), (4, 0)], Some(4))), Some(1_003));
    assert_eq!(rig.lane.first_owed_ms(&batch(&[(2, 0)], Some(4))), None);
}

#[test]
fn a_loss_is_kept_by_another_sink_before_the_lane_moves_past_it() {
    let mut rig = Rig::new(place(3, 0), 1_000);
    let keeper = Arc::new(Held::default());
    rig.lane.take_loss(&batch(&[(9, 7)], Some(9)), 500, keeper.clone(), &rig.terms);
    rig.take(&batch(&[(9, 0)], Some(9)));
    assert_eq!(*rig.lane.end(), place(9, 0));
    rig.sink.take()[0].ack.settle(1);
    rig.lane.advance().unwrap();
    assert_eq!(*rig.lane.position(), place(3, 0), "the loss is not written down");
    keeper.take()[0].ack.settle(1);
    rig.lane.advance().unwrap();
    assert_eq!(*rig.lane.position(), place(9, 0));
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

mod seams {
    use super::*;
    use crate::lane::seam::Seam;

    fn cut(places: &[(u64, u32)], upto: Option<u64>, asked_after: bool) -> (bool, Batch) {
        let mut batch = Arc::into_inner(batch(places, upto)).unwrap();
        let met = Seam::new(number(5)).cut(&mut batch, asked_after);
        (met, batch)
    }

    #[test]
    fn a_record_at_or_beyond_the_seam_meets_it_and_what_lies_beyond_is_cut_off() {
        let (met, batch) = cut(&[(3, 0), (4, 0)], Some(4), true);
        assert!(!met && batch.entries.len() == 2);
        let (met, batch) = cut(&[(4, 0), (5, 0), (5, 1)], Some(5), true);
        assert!(met && batch.entries.len() == 3, "all parts of an aggregate lie before it");
        let (met, batch) = cut(&[(4, 0), (6, 0), (7, 0)], Some(7), true);
        assert!(met && batch.entries.len() == 1);
        assert_eq!(batch.upto, Some(number(5)), "it ends at the seam");
        let (met, batch) = cut(&[], Some(5), false);
        assert!(met && batch.entries.is_empty(), "the continuation says how far it is");
    }

    #[test]
    fn an_empty_answer_at_the_tip_meets_it_only_if_it_was_asked_for_afterwards() {
        let empty = |asked_after, behind_ms| {
            let mut batch = Arc::into_inner(batch(&[], Some(1))).unwrap();
            (batch.upto, batch.millis_behind_latest) = (None, behind_ms);
            Seam::new(number(5)).cut(&mut batch, asked_after)
        };
        assert!(empty(true, 0));
        assert!(!empty(false, 0), "it may be older than the seam");
        assert!(!empty(true, 700), "there is more");
    }

    #[test]
    fn the_end_of_the_shard_meets_it_and_is_left_to_the_live_reader() {
        let (met, batch) = cut(&[(4, 0)], None, true);
        assert!(met && !batch.shard_ended && batch.entries.len() == 1);
    }

    #[test]
    fn what_waits_behind_the_gate_is_charged_and_taken_in_order_once_it_opens() {
        let mut rig = Rig::new(place(4, 0), 90);
        let mut seam = Seam::new(number(5));
        assert_eq!(seam.hold(&rig.lane, &batch(&[(6, 0)], Some(6))), Ok(()));
        assert_eq!(seam.hold(&rig.lane, &batch(&[(7, 0), (8, 0)], Some(8))), Ok(()));
        assert_eq!(seam.hold(&rig.lane, &batch(&[(9, 0), (10, 0)], Some(10))), Err(NoRoom));
        rig.take(&batch(&[(5, 0)], Some(5)));
        seam.open(&mut rig.lane, &rig.terms);
        let held = rig.sink.take();
        let first = |held: &LaneBatch| held.batch.place(&held.entries()[0]).to_place().0;
        assert_eq!(held.iter().map(first).collect::<Vec<_>>(), [5, 6, 7].map(number));
        held.iter().for_each(|batch| batch.ack.settle(batch.entries().len()));
        rig.lane.advance().unwrap();
        assert_eq!(*rig.lane.position(), place(8, 0));
    }
    #[test]
    fn o1_what_was_read_beyond_the_seam_before_it_was_fixed_is_not_taken_twice() {
        let mut rig = Rig::new(place(4, 0), 1_000);
        // The catch-up reader is ahead of the live one, which has handed out 5 when the seam is fixed.
        rig.take(&batch(&[(5, 0), (6, 0), (7, 0)], Some(7)));
        let mut seam = Seam::new(number(5));
        assert_eq!(seam.hold(&rig.lane, &batch(&[(6, 0)], Some(6))), Ok(()));
        assert_eq!(seam.hold(&rig.lane, &batch(&[(7, 0), (8, 0)], Some(8))), Ok(()));
        seam.open(&mut rig.lane, &rig.terms);
        let held = rig.sink.take();
        let offered = |held: &LaneBatch| {
            let places = held.entries().iter().map(|entry| held.batch.place(entry).to_place().0);
            places.collect::<Vec<_>>()
        };
        let all: Vec<_> = held.iter().flat_map(offered).collect();
        assert_eq!(all, [5, 6, 7, 8].map(number));
        held.iter().for_each(|batch| batch.ack.settle(batch.entries().len()));
        rig.lane.advance().unwrap();
        assert_eq!(*rig.lane.position(), place(8, 0));
    }
}
