//! The engine alone: numbers, ranges, reshards, budgets.

use std::collections::BTreeMap;

use super::hash_range::{hash_key, uniform};
use super::sequence::{LAST_ORDINAL, Parts};
use super::*;

const NOW_MS: i64 = 1_763_900_000_123;
const LIMITS: Limits =
    Limits { enforce: false, stream_bytes: usize::MAX, transition_ms: 0, retention_ms: None };

fn stream_of(shard_count: u32) -> Stream {
    let spec = StreamSpec {
        account: "000000000000".to_owned(),
        name: "orders".to_owned(),
        arn: "arn:aws:kinesis:us-east-1:000000000000:stream/orders".to_owned(),
        mode: Mode::Provisioned,
        shard_count,
        max_record_kib: 1024,
        distribution: Distribution::UserPartitionKey,
        tags: BTreeMap::new(),
    };
    Stream::new(spec, 1, NOW_MS, NOW_MS)
}

fn record(key: &str, bytes: usize) -> NewRecord {
    NewRecord { partition_key: key.into(), explicit_hash_key: None, data: vec![7; bytes].into() }
}

fn put(stream: &mut Stream, key: &str, now_ms: i64) -> Placed {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut outcomes = stream.put_all(vec![record(key, 10)], &LIMITS, &mut rng, now_ms);
    outcomes.remove(0).unwrap()
}

/// The open shards tile the ring, and every record so far can be told apart by number.
fn assert_tiles(stream: &Stream) {
    let mut open: Vec<&Shard> =
        stream.shards.values().filter(|shard| shard.closed.is_none()).collect();
    open.sort_by_key(|shard| shard.range.start);
    assert_eq!(open.len(), stream.open_shards());
    assert_eq!(open.first().unwrap().range.start, 0);
    assert_eq!(open.last().unwrap().range.end, u128::MAX);
    for pair in open.windows(2) {
        assert_eq!(pair[0].range.end + 1, pair[1].range.start);
    }
}

/// Every child begins above the end of each parent, in number and in time.
fn assert_lineage(stream: &Stream) {
    for shard in stream.shards.values() {
        for parent in [shard.parents.parent, shard.parents.adjacent].into_iter().flatten() {
            let closed = stream.shards[&parent].closed.as_ref().unwrap();
            assert!(shard.starting() > closed.ending);
            assert!(shard.created_at_ms >= closed.at_ms);
            assert!(closed.children.contains(&shard.index));
        }
    }
}

#[test]
fn a_sequence_number_has_the_form_of_the_service() {
    let parts = Parts {
        shard_epoch_s: 1_763_900_000,
        shard_index: 4711,
        ordinal: 42,
        pad: 0,
        at_s: 1_763_900_001,
    };
    let sequence = SequenceNumber::new(parts);
    let text = sequence.to_string();
    assert_eq!(text.len(), 56);
    assert!(text.starts_with("49"), "{text}");
    assert_eq!(SequenceNumber::parse(&text), Some(sequence));
    assert_eq!(sequence.parts(), Some(parts));
}

#[test]
fn sequence_numbers_survive_text_and_keep_their_order() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut numbers: Vec<SequenceNumber> = (0..500)
        .map(|_| {
            SequenceNumber::new(Parts {
                shard_epoch_s: rng.u64(0..1 << 36),
                shard_index: rng.u32(..),
                ordinal: rng.u64(..=LAST_ORDINAL),
                pad: rng.u8(0..2),
                at_s: rng.u64(0..1 << 36),
            })
        })
        .collect();
    numbers.sort_unstable();
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    // All of one length, so the order of the texts is the order of the numbers.
    assert!(texts.iter().all(|text| text.len() == 56));
    assert!(texts.is_sorted());
    for (number, text) in numbers.iter().zip(&texts) {
        assert_eq!(SequenceNumber::parse(text), Some(*number));
        assert!(number.next() > *number);
    }
}

#[test]
fn what_is_no_sequence_number_is_refused() {
    for text in ["", "00", "01", "-1", "12a", " 1", "LATEST"] {
        assert_eq!(SequenceNumber::parse(text), None, "{text:?}");
    }
    assert_eq!(SequenceNumber::parse(&"9".repeat(129)), None);
    assert_eq!(SequenceNumber::parse("0"), Some(SequenceNumber::ZERO));
    assert_eq!(SequenceNumber::parse("12").unwrap().parts(), None);
}

#[test]
fn uniform_ranges_tile_the_ring() {
    for count in [1, 2, 3, 4, 7, 100, 1000] {
        let ranges = uniform(count);
        assert_eq!(ranges.len(), count as usize);
        assert_eq!(ranges[0].start, 0);
        assert_eq!(ranges.last().unwrap().end, u128::MAX);
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].end + 1, pair[1].start);
        }
    }
    assert_eq!(uniform(2)[1].start, 1 << 127);
}

#[test]
fn a_partition_key_falls_where_its_md5_says() {
    // md5("") as the RFC gives it.
    assert_eq!(hash_key(""), 0xd41d_8cd9_8f00_b204_e980_0998_ecf8_427e);
    let mut stream = stream_of(4);
    for key in ["a", "b", "c", "d", "e", "f"] {
        let shard = put(&mut stream, key, NOW_MS).shard;
        let range = stream.shards[&shard].range;
        assert!((range.start..=range.end).contains(&hash_key(key)));
    }
}

#[test]
fn random_reshards_always_tile_the_ring_and_numbers_rise() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut stream = stream_of(rng.u32(1..5));
        let mut now_ms = NOW_MS;
        let mut last = BTreeMap::new();
        for _ in 0..60 {
            now_ms += i64::from(rng.u16(0..3)) * 400;
            reshard_somehow(&mut stream, &mut rng, now_ms);
            assert_tiles(&stream);
            for key in ["x", "y", "z"] {
                let placed = put(&mut stream, key, now_ms);
                let before = last.insert(key, placed.sequence);
                assert!(before.is_none_or(|before| before < placed.sequence));
            }
        }
        assert_lineage(&stream);
    }
}

fn reshard_somehow(stream: &mut Stream, rng: &mut fastrand::Rng, now_ms: i64) {
    let open: Vec<(u128, String)> = stream
        .shards
        .values()
        .filter(|shard| shard.closed.is_none())
        .map(|shard| (shard.range.start, shard.id.to_string()))
        .collect();
    match rng.u8(0..3) {
        0 => {
            let (_, id) = rng.choice(&open).unwrap();
            let range = stream.shard_by_id(id, now_ms).unwrap().range;
            if range.end - range.start > 10 {
                let at = rng.u128(range.start + 2..range.end);
                stream.split(id, at, now_ms).unwrap();
            }
        }
        1 if open.len() > 1 => {
            let mut sorted = open;
            sorted.sort();
            let first = rng.usize(0..sorted.len() - 1);
            let (lower, upper) = (&sorted[first].1, &sorted[first + 1].1);
            stream.merge(upper, lower, now_ms).unwrap();
        }
        _ => stream.scale(rng.u32(1..9), now_ms).unwrap(),
    }
}

#[test]
fn scaling_ends_in_equal_shards() {
    let mut stream = stream_of(2);
    for target in [3, 6, 4, 2, 1] {
        stream.scale(target, NOW_MS).unwrap();
        let mut open: Vec<HashRange> = stream
            .shards
            .values()
            .filter(|shard| shard.closed.is_none())
            .map(|shard| shard.range)
            .collect();
        open.sort_by_key(|range| range.start);
        assert_eq!(open, uniform(target));
    }
}

#[test]
fn only_open_adjacent_shards_merge_and_only_inner_keys_split() {
    let mut stream = stream_of(3);
    let id = |index| shard_id(index);
    assert!(matches!(stream.merge(&id(0), &id(2), NOW_MS), Err(Refusal::InvalidArgument(_))));
    assert!(matches!(stream.split(&id(0), 1, NOW_MS), Err(Refusal::InvalidArgument(_))));
    assert!(matches!(stream.split(&id(9), 1 << 100, NOW_MS), Err(Refusal::ResourceNotFound(_))));
    stream.split(&id(0), 1 << 100, NOW_MS).unwrap();
    assert!(matches!(stream.split(&id(0), 1 << 99, NOW_MS), Err(Refusal::InvalidArgument(_))));
}

#[test]
fn a_closed_shard_outlives_its_last_record_by_the_retention() {
    let mut stream = stream_of(1);
    put(&mut stream, "a", NOW_MS);
    stream.split(&shard_id(0), 1 << 127, NOW_MS + 1000).unwrap();
    let day_ms = 24 * 3_600_000;
    stream.expire_shards(NOW_MS + day_ms + 1000);
    assert!(stream.shards.contains_key(&0));
    stream.expire_shards(NOW_MS + day_ms + 1001);
    assert!(!stream.shards.contains_key(&0));
    assert_eq!(stream.bytes(), 0);
    assert!(matches!(
        stream.shard_by_id(&shard_id(0), NOW_MS + day_ms + 1001),
        Err(Refusal::ResourceNotFound(_))
    ));
}

#[test]
fn records_past_retention_are_not_read() {
    let mut stream = stream_of(1);
    put(&mut stream, "old", NOW_MS);
    put(&mut stream, "new", NOW_MS + 5000);
    let later_ms = NOW_MS + 24 * 3_600_000 + 1;
    let shard = stream.shard_mut(0, later_ms).unwrap();
    let page = shard.read(SequenceNumber::ZERO, 10, 1000, later_ms);
    assert_eq!(page.records.len(), 1);
    assert_eq!(&*page.records[0].partition_key, "new");
    stream.retention_ms = Some(5_000);
    let later_ms = NOW_MS + 10_001;
    let shard = stream.shard_mut(0, later_ms).unwrap();
    assert!(shard.read(SequenceNumber::ZERO, 10, 1000, later_ms).records.is_empty());
}

#[test]
fn a_full_stream_drops_its_oldest_records_only() {
    let mut stream = stream_of(2);
    let limits = Limits { stream_bytes: 20_000, ..LIMITS };
    let mut rng = fastrand::Rng::with_seed(3);
    let mut last = None;
    for index in 0..100 {
        let batch = vec![record(&format!("key-{index}"), 1000)];
        last = stream.put_all(batch, &limits, &mut rng, NOW_MS + index).pop();
        assert!(stream.bytes() <= 20_000);
    }
    let placed = last.unwrap().unwrap();
    let shard = &stream.shards[&placed.shard];
    let page = shard.read(placed.sequence, 10, 1 << 20, NOW_MS);
    assert_eq!(page.records.len(), 1);
}

#[test]
fn a_page_is_bounded_by_records_and_bytes_and_says_how_far_behind_it_is() {
    let mut stream = stream_of(1);
    for index in 0..5 {
        put(&mut stream, "k", NOW_MS + index * 1000);
    }
    let now_ms = NOW_MS + 10_000;
    let shard = stream.shard_mut(0, now_ms).unwrap();
    let page = shard.read(SequenceNumber::ZERO, 2, 1000, now_ms);
    assert_eq!((page.records.len(), page.behind_ms), (2, 9000));
    // 11 bytes each: two fit in 30, and one always does.
    assert_eq!(shard.read(page.next, 10, 30, now_ms).records.len(), 2);
    assert_eq!(shard.read(page.next, 10, 1, now_ms).records.len(), 1);
    let rest = shard.read(page.next, 10, 1000, now_ms);
    assert_eq!((rest.records.len(), rest.behind_ms), (3, 0));
    assert!(!rest.ended);
}

#[test]
fn a_continuation_lies_between_the_last_record_and_the_next() {
    let mut stream = stream_of(1);
    let first = put(&mut stream, "k", NOW_MS).sequence;
    let idle = stream.shards[&0].idle_continuation(NOW_MS + 60_000);
    let second = put(&mut stream, "k", NOW_MS + 61_000).sequence;
    assert!(first < idle && idle < second);
    assert!(stream.shards[&0].owns(idle));
    let page = stream.shards[&0].read(idle.next(), 10, 1000, NOW_MS);
    assert_eq!(page.records[0].sequence, second);
}

#[test]
fn a_bucket_refills_by_the_clock_and_debt_delays() {
    let mut bucket = TokenBucket::full(10, 0);
    assert!((0..10).all(|_| bucket.try_take(1, 0)));
    assert!(!bucket.try_take(1, 0));
    assert!(bucket.try_take(1, 100));
    // Larger than the bucket: only when it is full.
    assert!(!bucket.try_take(50, 500));
    assert!(bucket.try_take(50, 2000));
    assert_eq!(bucket.clear_in_ms(2000), 4001);
    assert!(!bucket.is_clear(6000));
    assert!(bucket.is_clear(6001));
}

#[test]
fn a_large_read_holds_back_the_next_for_as_long_as_it_takes_to_pay_for_it() {
    let mut bucket = TokenBucket::full(READ_BYTES_PER_SECOND, 0);
    bucket.charge_read(10 << 20);
    assert!(!bucket.is_clear(5000));
    assert!(bucket.is_clear(5001));
}
