//! How far behind a lane is, and how far deliveries got, as others see it.

use super::*;

#[test]
fn a_lane_is_behind_by_its_oldest_record_or_by_what_is_still_to_be_read_for_it() {
    let stats = ShardStats::new([300, 900], Duration::from_secs(20), 1_000);
    let status = |now_ms| stats.lane_status(0, "lane", now_ms);
    assert_eq!(status(1_000).behind_ms, 700, "as the last owner left it");
    let live = LaneFigures {
        fed: Fed::Live,
        oldest_unsettled_ms: Some(1_500),
        unread_since_ms: 0,
        in_flight_bytes: 9,
    };
    stats.read(3, 20, 2_000);
    stats.lane(0, live);
    assert_eq!((status(2_000).behind_ms, status(2_000).time_to_loss_ms), (500, 19_500));
    stats.lane(0, LaneFigures { oldest_unsettled_ms: None, ..live });
    let silent = status(2_000 + HEARD_MS);
    assert_eq!(silent.behind_ms, 20, "nothing came, as the service said it would be");
    let silent = status(2_001 + HEARD_MS);
    assert_eq!(silent.behind_ms, 10_021, "the service would have said something");
    let fed = Fed::Detached;
    stats.lane(0, LaneFigures { fed, oldest_unsettled_ms: None, unread_since_ms: 1_700, ..live });
    let left = status(31_700);
    assert_eq!((left.feed, left.behind_ms, left.time_to_loss_ms), ("detached", 30_000, 0));
    stats.lane(0, LaneFigures { fed: Fed::Done, oldest_unsettled_ms: None, ..live });
    assert_eq!(status(1_000_000).behind_ms, 0);
}

#[test]
fn a_reader_that_starts_anew_is_as_far_behind_as_what_it_starts_with() {
    let stats = ShardStats::new([0, 0], Duration::from_secs(20), 1_000);
    stats.read(3, 0, 2_000);
    assert_eq!(stats.reader_behind_ms(2_000), 0);
    stats.restarted(500, 2_000);
    assert_eq!(stats.reader_behind_ms(2_000), 1_500, "the old reader's words are void");
}

#[test]
fn how_far_deliveries_got_is_taken_once_also_of_a_shard_that_left() {
    let registry = Arc::new(Registry::default());
    let shard = |id: &str| ShardContext {
        stream_arn: "arn".into(),
        shard_id: id.into(),
        fence: 1,
        starting_hash_key: 0,
        ending_hash_key: u128::MAX,
    };
    let enter = |id| registry.enter(&shard(id), [0, 0], Duration::from_secs(60), 0);
    let (one, two) = (enter("one"), enter("two"));
    let at = |n: &str| Checkpoint::At {
        sequence: lease_manager::SequenceNumber::parse(n).unwrap(),
        sub_sequence: 3,
    };
    one.settled(&Checkpoint::TrimHorizon, 1);
    assert!(registry.take_marks().is_empty(), "nothing is settled yet");
    one.settled(&at("7"), 5);
    one.settled(&at("7"), 9);
    two.settled(&Checkpoint::ShardEnd, 6);
    drop(two);
    let mark = |shard_id: &str, upto: Option<(&str, u64)>, at_ms| Mark {
        stream_arn: "arn".to_owned(),
        shard_id: shard_id.to_owned(),
        upto: upto.map(|(sequence, index)| (sequence.to_owned(), index)),
        at_ms,
    };
    assert_eq!(registry.take_marks(), [mark("one", Some(("7", 3)), 5), mark("two", None, 6)]);
    one.settled(&at("7"), 10);
    assert!(registry.take_marks().is_empty(), "no further");
    one.settled(&at("8"), 11);
    assert_eq!(registry.take_marks(), [mark("one", Some(("8", 3)), 11)]);
}
