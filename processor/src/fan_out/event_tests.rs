use super::super::frame::{FrameReader, frame_tests};
use super::*;

fn shard() -> ShardContext {
    ShardContext {
        stream_arn: Arc::from("arn:s"),
        shard_id: Arc::from("shardId-000000000000"),
        consumer_arn: Arc::from("arn:c"),
        fence: 1,
        starting_hash_key: 0,
        ending_hash_key: u128::MAX,
    }
}

fn read(payload: &str) -> Result<Event, EventError> {
    let mut reader = FrameReader::new(1 << 25);
    reader.push(Bytes::from(frame_tests::event(payload)));
    decode(&mut reader.next().unwrap().unwrap(), &shard())
}

fn record(sequence: u32, key: &str, data: &[u8]) -> String {
    let data = base64_simd::STANDARD.encode_to_string(data);
    let key = serde_json::to_string(key).unwrap();
    format!(
        r#"{{"SequenceNumber":"{sequence}","ApproximateArrivalTimestamp":1517363399.65,"Data":"{data}","PartitionKey":{key},"EncryptionType":"KMS"}}"#
    )
}

fn event_of(records: &[String]) -> String {
    format!(
        r#"{{"Records":[{}],"ContinuationSequenceNumber":"77","MillisBehindLatest":1200,"Added":{{"Later":[1]}}}}"#,
        records.join(",")
    )
}

#[test]
fn records_are_slices_of_one_arena_with_their_keys_unescaped() {
    let long = vec![7u8; 100_000];
    let records = [
        record(1, "a\"b\u{fc}\n", b"one"),
        record(2, "same", b""),
        record(3, "same", &long),
        record(4, "last", b"{\"x\":1}"),
    ];
    // Twice: the second event works with the first one's scratch memory.
    for _ in 0..2 {
        let event = read(&event_of(&records)).unwrap();
        assert_eq!(event.continuation.as_ref().unwrap().as_str(), "77");
        assert_eq!((event.millis_behind_latest, event.children.len()), (1200, 0));
        let keys: Vec<&str> = event.records.iter().map(|r| &*r.partition_key).collect();
        assert_eq!(keys, ["a\"b\u{fc}\n", "same", "same", "last"]);
        assert!(Arc::ptr_eq(&event.records[1].partition_key, &event.records[2].partition_key));
        assert_eq!(event.records[0].data, "one");
        assert!(event.records[1].data.is_empty());
        assert_eq!(event.records[2].data, long);
        assert_eq!(event.records[3].data, "{\"x\":1}");
        assert!(event.records.iter().all(|r| r.arrived_at_ms == 1_517_363_399_650));
        // One arena: the first record's bytes lie right before the third one's.
        let distance =
            event.records[2].data.as_ptr().addr() - event.records[0].data.as_ptr().addr();
        assert_eq!(distance, 3);
    }
}

#[test]
fn an_event_without_records_moves_on_and_whole_seconds_are_times_too() {
    let empty = read(&event_of(&[])).unwrap();
    assert!(empty.records.is_empty() && empty.continuation.is_some());
    let whole = record(1, "k", b"x").replace("1517363399.65", "1517363399");
    assert_eq!(read(&event_of(&[whole])).unwrap().records[0].arrived_at_ms, 1_517_363_399_000);
    let keyless = record(1, "k", b"x").replace("\"PartitionKey\":\"k\",", "");
    assert_eq!(&*read(&event_of(&[keyless])).unwrap().records[0].partition_key, "");
}

#[test]
fn a_shard_ends_with_children_and_never_without() {
    let end = r#"{"Records":[],"MillisBehindLatest":0,"ChildShards":[
        {"ShardId":"shardId-000000000001","ParentShards":["shardId-000000000000"],
         "HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"99"}}]}"#;
    let event = read(end).unwrap();
    assert_eq!(event.continuation, None);
    assert_eq!(event.children[0].shard_id.as_str(), "shardId-000000000001");
    assert_eq!(event.children[0].parents[0].as_str(), "shardId-000000000000");
    assert_eq!(event.children[0].ending_hash_key, "99");
    let neither = read(r#"{"Records":[],"MillisBehindLatest":0,"ChildShards":[]}"#).unwrap_err();
    assert!(matches!(neither, EventError::NoContinuation { .. }), "{neither}");
}

#[test]
fn what_is_no_event_is_an_error_and_spoils_nothing() {
    let good = event_of(&[record(1, "k", b"x")]);
    for (payload, words) in [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        (&good[..good.len() - 1], "cannot be read"),
        (r#"{"ContinuationSequenceNumber":"1"}"#, "cannot be read"),
        (&good.replace("\"Data\":\"eA==\"", "\"Data\":\"eA\""), "not base64"),
        (&good.replace("\"Data\":\"eA==\",", ""), "cannot be read"),
        (&good.replace("\"SequenceNumber\":\"1\"", "\"SequenceNumber\":\"x\""), "record 0"),
        (&good.replace("\"77\"", "\"-7\""), "as continuation"),
    ] {
        let error = read(payload).unwrap_err().to_string();
        assert!(error.contains(words), "{payload}: {error}");
        assert!(read(&good).is_ok());
    }
}

#[test]
fn scratch_memory_of_a_large_event_is_not_kept() {
    let large = event_of(&[record(1, "k", &vec![b'x'; KEPT_UP_TO_BYTES])]);
    assert!(read(&large).is_ok());
    SCRATCH.with_borrow(|scratch| assert!(scratch.tape.is_none()));
    assert!(read(&event_of(&[])).is_ok());
    SCRATCH.with_borrow(|scratch| assert!(scratch.tape.is_some()));
}

#[test]
fn an_exception_is_quoted_and_nonsense_is_cut() {
    assert_eq!(exception_message(br#"{"message":"gone"}"#), "gone");
    assert_eq!(exception_message(br#"{"Message":"gone"}"#), "gone");
    assert_eq!(exception_message(&[b'x'; 1000]).len(), 200);
}
