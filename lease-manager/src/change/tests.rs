use super::*;
use crate::ids::{Incarnation, LeaseCounter, WorkerId};

fn lane(name: &str) -> LaneName {
    LaneName::parse(name).unwrap()
}

fn lanes() -> Vec<LaneName> {
    vec![lane("deliver"), lane("store")]
}

fn at(text: &str) -> Checkpoint {
    Checkpoint::parse(text, 0).unwrap()
}

fn progress(deliver: &str, store: &str) -> Progress {
    let position = |text| LanePosition { behind_ms: 7, ..LanePosition::at(at(text)) };
    Progress {
        lanes: BTreeMap::from([
            (lane("deliver"), position(deliver)),
            (lane("store"), position(store)),
        ]),
        read_to: Some(at(if deliver > store { deliver } else { store })),
        throughput_kbps: Some(1.234_567_89),
    }
}

fn holder(worker: &str) -> Holder {
    Holder { worker: WorkerId::parse(worker).unwrap(), incarnation: Incarnation(9) }
}

fn taken() -> LeaseRecord {
    let fresh = LeaseRecord::new(LeaseKey::parse("shardId-0").unwrap(), Checkpoint::TrimHorizon, 1);
    let take = Change::Take { to: holder("w1"), reason: "unowned".to_owned() };
    after(&fresh, &take, &lanes()).unwrap()
}

#[test]
fn a_take_raises_the_counter_and_clears_what_a_hand_over_of_the_kcl_left() {
    let mut seen = LeaseRecord::new(LeaseKey::parse("shardId-0").unwrap(), at("5"), 1);
    seen.checkpoint_owner = Some(WorkerId::parse("old").unwrap());
    seen.rest.insert("pendingCheckpoint".to_owned(), AttributeValue::S("6".to_owned()));
    seen.rest.insert("theirs".to_owned(), AttributeValue::Bool(true));
    let take = Change::Take { to: holder("w1"), reason: "owner-dead".to_owned() };
    let next = after(&seen, &take, &lanes()).unwrap();
    assert_eq!(next.counter, LeaseCounter(1));
    assert_eq!(next.granted_to(), Some(Incarnation(9)));
    assert_eq!((next.owner_switches, next.rev), (1, Some(1)));
    let write = write(&seen, next);
    assert!(write.update.contains("REMOVE"));
    let touched: Vec<_> = write.names.values().map(String::as_str).collect();
    assert!(touched.contains(&"checkpointOwner") && touched.contains(&"pendingCheckpoint"));
    assert!(!touched.contains(&"theirs") && !touched.contains(&"leaseKey"));
}

#[test]
fn every_write_is_conditional_on_rev_owner_and_counter() {
    let seen = taken();
    let next =
        after(&seen, &Change::Checkpoint { progress: progress("7", "9") }, &lanes()).unwrap();
    assert_eq!(next.counter, seen.counter);
    let write = write(&seen, next);
    assert_eq!(
        write.condition,
        "#seenCounter = :seenCounter AND #seenOwner = :seenOwner AND #seenRev = :seenRev"
    );
    assert_eq!(write.values[":seenRev"], number(1));

    let mut kcl = seen;
    (kcl.rev, kcl.owner) = (None, None);
    let condition = Condition::unchanged(&kcl).text;
    assert!(condition.contains("attribute_not_exists(#seenOwner)"));
    assert!(condition.contains("attribute_not_exists(#seenRev)"));
}

#[test]
fn the_checkpoint_is_the_smallest_lane_and_no_lane_goes_back() {
    let seen =
        after(&taken(), &Change::Checkpoint { progress: progress("7", "9") }, &lanes()).unwrap();
    assert_eq!(seen.checkpoint, at("7"));
    assert_eq!(seen.owner_switches, 0);
    assert_eq!(seen.throughput_kbps, Some(1.234_568));
    let back = after(&seen, &Change::Checkpoint { progress: progress("7", "8") }, &lanes());
    assert!(matches!(back, Err(ChangeError::LaneGoesBack { .. })), "{back:?}");

    // A report that does not know the throughput leaves it as it was, and so does giving the lease away.
    let unknown = Change::Checkpoint { progress: Progress::default() };
    assert_eq!(after(&seen, &unknown, &lanes()).unwrap().throughput_kbps, Some(1.234_568));

    // A lane that is left out stays where it is.
    let mut only_deliver = progress("12", "12");
    only_deliver.lanes.remove(&lane("store"));
    let next = after(&seen, &Change::Checkpoint { progress: only_deliver }, &lanes()).unwrap();
    assert_eq!(next.checkpoint, at("9"));
}

#[test]
fn a_hand_over_moves_checkpoint_owner_and_counter_in_one_write() {
    let seen = taken();
    let to = holder("w2");
    let change = Change::HandOver {
        progress: progress("7", "8"),
        to,
        reason: "move".to_owned(),
        declined: false,
    };
    let next = after(&seen, &change, &lanes()).unwrap();
    assert_eq!(next.owner.as_ref().unwrap().as_str(), "w2");
    assert_eq!((next.counter, &next.checkpoint), (seen.counter.next(), &at("7")));

    let change = Change::Release {
        progress: progress("7", "8"),
        reason: "stop".to_owned(),
        declined: false,
    };
    let next = after(&seen, &change, &lanes()).unwrap();
    assert_eq!((next.granted_to(), next.counter), (None, seen.counter.next()));
    assert_eq!(next.owner, None);
}

#[test]
fn a_shard_is_finished_only_after_its_children_have_leases_and_every_lane_ended() {
    let end = progress("SHARD_END", "SHARD_END");
    let seen = taken();
    let early = after(&seen, &Change::Finish { progress: end.clone() }, &lanes());
    assert_eq!(early, Err(ChangeError::EndNotRead));
    let early = after(&seen, &Change::Checkpoint { progress: end.clone() }, &lanes());
    assert_eq!(early, Err(ChangeError::EndNotRead));

    let children = BTreeSet::from([ShardId::parse("shardId-1").unwrap()]);
    let seen = after(&seen, &Change::ReaderEnded { children }, &lanes()).unwrap();
    let half = after(&seen, &Change::Finish { progress: progress("SHARD_END", "3") }, &lanes());
    assert_eq!(half, Err(ChangeError::NotEnded(lane("store"))));
    let done = after(&seen, &Change::Finish { progress: end }, &lanes()).unwrap();
    assert!(done.is_finished());
    assert_eq!(done.counter, seen.counter.next());
}

#[test]
fn a_trimmed_shard_is_finished_and_says_so() {
    let seen =
        after(&taken(), &Change::Checkpoint { progress: progress("7", "9") }, &lanes()).unwrap();
    let next = after(&seen, &Change::Trim, &lanes()).unwrap();
    assert!(next.is_finished() && next.owner.is_none());
    assert_eq!(next.reason.as_deref(), Some("trimmed"));
    assert_eq!(next.believed_lanes(&lanes())[&lane("store")].checkpoint, Checkpoint::ShardEnd);
}

fn set(seen: &LeaseRecord, to: &[(&str, &str)]) -> Result<LeaseRecord, ChangeError> {
    let to = to.iter().map(|(name, text)| (lane(name), at(text))).collect();
    after(seen, &Change::SetCheckpoint { lanes: to, start_at_ms: None }, &lanes())
}

#[test]
fn an_operator_sets_the_lanes_back_and_fences_the_owner() {
    let mut seen =
        after(&taken(), &Change::Checkpoint { progress: progress("7", "9") }, &lanes()).unwrap();
    seen.checkpoint_owner = Some(WorkerId::parse("old").unwrap());
    seen.rest.insert("pendingCheckpoint".to_owned(), AttributeValue::S("8".to_owned()));
    let next = set(&seen, &[("deliver", "3"), ("store", "5")]).unwrap();
    assert_eq!((next.counter, next.rev), (seen.counter.next(), Some(3)));
    assert_eq!(
        (next.owner.clone(), next.granted_to(), next.checkpoint_owner.clone()),
        (None, None, None)
    );
    assert_eq!((next.checkpoint.clone(), next.read_to.clone()), (at("3"), None));
    assert_eq!(next.believed_lanes(&lanes())[&lane("store")].checkpoint, at("5"));
    assert_eq!(next.reason.as_deref(), Some("operator:set-checkpoint"));
    assert!(!next.rest.contains_key("pendingCheckpoint"));
    // What the owner still writes is refused: its condition names the old counter.
    let late =
        after(&seen, &Change::Checkpoint { progress: progress("8", "9") }, &lanes()).unwrap();
    assert_ne!(write(&seen, late).values[":seenCounter"], number(next.counter));
}

#[test]
fn one_lane_can_be_set_alone_only_among_sequence_numbers() {
    let seen =
        after(&taken(), &Change::Checkpoint { progress: progress("7", "9") }, &lanes()).unwrap();
    // The lane that is left out stays, and the checkpoint is the smaller one.
    let next = set(&seen, &[("deliver", "20")]).unwrap();
    assert_eq!(next.checkpoint, at("9"));
    let next = set(&seen, &[("deliver", "TRIM_HORIZON")]).unwrap();
    assert_eq!(next.checkpoint, Checkpoint::TrimHorizon);
    for newest in ["LATEST", "AT_TIMESTAMP"] {
        let odd = set(&seen, &[("deliver", newest)]);
        assert!(matches!(odd, Err(ChangeError::NotComparable { .. })), "{odd:?}");
    }
    // The other lane has acknowledged nothing: the lease's start time is also its own.
    let odd = set(&taken(), &[("deliver", "20")]);
    assert!(matches!(odd, Err(ChangeError::NotComparable { .. })), "{odd:?}");
    let both = set(&taken(), &[("deliver", "LATEST"), ("store", "LATEST")]).unwrap();
    assert_eq!(both.checkpoint, Checkpoint::Latest);
}

#[test]
fn what_has_ended_is_not_set_back_and_nothing_is_ended_by_hand() {
    let children = BTreeSet::from([ShardId::parse("shardId-1").unwrap()]);
    let seen = after(&taken(), &Change::ReaderEnded { children }, &lanes()).unwrap();
    let half = Change::Checkpoint { progress: progress("SHARD_END", "9") };
    let seen = after(&seen, &half, &lanes()).unwrap();
    let ended = set(&seen, &[("deliver", "3")]);
    assert_eq!(ended, Err(ChangeError::AlreadyEnded(lane("deliver"))));
    assert_eq!(set(&seen, &[("store", "SHARD_END")]), Err(ChangeError::EndIsNotSet));
    assert_eq!(set(&seen, &[("other", "3")]), Err(ChangeError::UnknownLane(lane("other"))));
    // The children keep their leases: that the end was read stays noted.
    let next = set(&seen, &[("store", "3")]).unwrap();
    assert_eq!((next.checkpoint, next.read_to), (at("3"), Some(Checkpoint::ShardEnd)));
}

#[test]
fn a_set_checkpoint_carries_the_start_time_and_an_adopted_lease_gets_one() {
    let to = lanes().into_iter().map(|lane| (lane, Checkpoint::AtTimestamp)).collect();
    let change = Change::SetCheckpoint { lanes: to, start_at_ms: Some(99) };
    let next = after(&taken(), &change, &lanes()).unwrap();
    assert_eq!((next.checkpoint, next.start_at_ms), (Checkpoint::AtTimestamp, Some(99)));

    let mut kcl = taken();
    (kcl.rev, kcl.start_at_ms) = (None, None);
    let adopted = after(&kcl, &Change::Adopt { start_at_ms: 5 }, &lanes()).unwrap();
    let expected = LeaseRecord { rev: Some(1), start_at_ms: Some(5), ..kcl };
    assert_eq!(adopted, expected);
}
