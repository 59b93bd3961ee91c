//! The readers of events and answers, against examples and against simd-json.

mod oracle;

use super::*;
use crate::arena::RawRecord;

fn shard() -> ShardContext {
    ShardContext {
        stream_arn: Arc::from("arn:s"),
        shard_id: Arc::from("shardId-000000000000"),
        fence: 1,
        starting_hash_key: 0,
        ending_hash_key: u128::MAX,
    }
}

fn read_event(payload: &str) -> Result<Event, EnvelopeError> {
    event(payload.as_bytes(), payload.len(), &shard())
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

impl Event {
    fn data(&self, index: usize) -> &[u8] {
        self.records.spans[index].data.bytes(&self.records.arena)
    }

    fn key(&self, index: usize) -> &str {
        self.records.spans[index].partition_key.text(&self.records.arena)
    }
}

#[test]
fn records_lie_in_one_arena_with_their_keys_unescaped() {
    let long = vec![7u8; 100_000];
    let records = [
        record(1, "a\"b\u{fc}\n", b"one"),
        record(2, "same", b""),
        record(3, "same", &long),
        record(4, "last", b"{\"x\":1}"),
    ];
    let event = read_event(&event_of(&records)).unwrap();
    assert_eq!(event.continuation.as_ref().unwrap().as_str(), "77");
    assert_eq!((event.millis_behind_latest, event.children.len()), (1200, 0));
    let keys: Vec<&str> = (0..4).map(|n| event.key(n)).collect();
    assert_eq!(keys, ["a\"b\u{fc}\n", "same", "same", "last"]);
    let spans: &[RawRecord] = &event.records.spans;
    assert_eq!(spans[1].partition_key, spans[2].partition_key, "a run of one key shares it");
    assert_eq!(event.data(0), b"one");
    assert!(event.data(1).is_empty());
    assert_eq!(event.data(2), long);
    assert_eq!(event.data(3), b"{\"x\":1}");
    assert!(spans.iter().all(|r| r.arrived_at_ms == 1_517_363_399_650));
    assert_eq!(event.records.last_sequence().unwrap().as_str(), "4");
}

#[test]
fn an_event_without_records_moves_on_and_what_is_optional_may_be_absent() {
    let empty = read_event(&event_of(&[])).unwrap();
    assert!(empty.records.is_empty() && empty.continuation.is_some());
    assert_eq!(empty.records.last_sequence(), None);
    for keyless in ["", "\"PartitionKey\":null,"] {
        let keyless = record(1, "k", b"x").replace("\"PartitionKey\":\"k\",", keyless);
        assert_eq!(read_event(&event_of(&[keyless])).unwrap().key(0), "");
    }
    let negative = event_of(&[]).replace("1200", "-1");
    assert_eq!(read_event(&negative).unwrap().millis_behind_latest, 0);
    let silent = event_of(&[]).replace("\"MillisBehindLatest\":1200,", "");
    assert_eq!(read_event(&silent).unwrap().millis_behind_latest, 0);
}

#[test]
fn white_space_order_and_escapes_change_nothing() {
    let spread = " {\n\t\"MillisBehindLatest\" : 5 , \"Records\" : [ { \"Data\" : \"eFwv\" ,\r\n \
        \"\\u0050artitionKey\" : \"\\ud83d\\ude00\" , \"ApproximateArrivalTimestamp\" : 1 , \"SequenceNumber\" : \"\\u0031\" \
        } ] , \"Continuation\\u0053equenceNumber\" : \"9\" } ";
    // Base64 with an escaped slash: `eC8v`, written `eC8v` and with `\/`.
    let slash = spread.replace("eFwv", "\\/\\/8=");
    let event = read_event(&slash).unwrap();
    assert_eq!((event.data(0), event.key(0)), (&b"\xff\xff"[..], "\u{1f600}"));
    assert_eq!(event.records.last_sequence().unwrap().as_str(), "1");
    assert_eq!((event.continuation.unwrap().as_str(), event.millis_behind_latest), ("9", 5));
}

#[test]
fn a_shard_ends_with_children_and_never_without() {
    let end = r#"{"Records":[],"MillisBehindLatest":0,"ChildShards":[
        {"ShardId":"shardId-000000000001","ParentShards":["shardId-000000000000"],
         "HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"99"}}]}"#;
    let event = read_event(end).unwrap();
    assert_eq!(event.continuation, None);
    assert_eq!(event.children[0].shard_id.as_str(), "shardId-000000000001");
    assert_eq!(event.children[0].parents[0].as_str(), "shardId-000000000000");
    assert_eq!(event.children[0].ending_hash_key, "99");
    let neither = r#"{"Records":[],"MillisBehindLatest":0,"ChildShards":[]}"#;
    let neither = read_event(neither).unwrap_err();
    assert!(matches!(neither, EnvelopeError::NoContinuation { .. }), "{neither}");
    let nameless =
        read_event(&end.replace("\"ShardId\":\"shardId-000000000001\",", "")).unwrap_err();
    assert!(nameless.to_string().contains("child shards: missing field"), "{nameless}");
}

#[test]
fn what_is_no_event_is_an_error_that_says_where() {
    let good = event_of(&[record(1, "k", b"x")]);
    for (payload, words) in [
        ("", "the end at line 1 column 1, where an object is wanted"),
        ("[]", "`[` at line 1 column 1, where an object is wanted"),
        (&good[..good.len() - 1], "cannot be read: the end"),
        (&format!("{good}x"), "`x` at line 1"),
        (r#"{"ContinuationSequenceNumber":"1"}"#, "where a member `Records` is wanted"),
        (&good.replace("\"Data\":\"eA==\"", "\"Data\":\"eA\""), "not base64"),
        (&good.replace("\"Data\":\"eA==\"", "\"Data\":\"\\u00zz\""), "not base64"),
        (
            &good.replace("\"Data\":\"eA==\",", ""),
            "record 0 of a SubscribeToShardEvent has no Data",
        ),
        (&good.replace("\"Data\":\"eA==\"", "\"Data\":7"), "a string of base64 is wanted"),
        (&good.replace("\"SequenceNumber\":\"1\"", "\"SequenceNumber\":\"x\""), "record 0"),
        (&good.replace("\"SequenceNumber\":\"1\",", ""), "no SequenceNumber"),
        (&good.replace("1517363399.65", "1517363399.65x"), "`x` at line 1"),
        (&good.replace("1517363399.65", "null"), "a time in seconds"),
        (&good.replace("\"77\"", "\"-7\""), "as continuation"),
        (&good.replace("1200", "1.5"), "a whole number of ms"),
    ] {
        let error = read_event(payload).unwrap_err().to_string();
        assert!(error.contains(words), "{payload}: {error}");
    }
}

#[test]
fn an_answer_of_get_records_goes_on_with_its_iterator_until_the_shard_ends() {
    let records = format!("[{}]", record(7, "k", b"{}"));
    let body =
        format!(r#"{{"NextShardIterator":"AAAA+/=","MillisBehindLatest":3,"Records":{records}}}"#);
    let polled = get_records(body.as_bytes()).unwrap();
    assert_eq!(polled.next_shard_iterator.as_deref(), Some("AAAA+/="));
    assert_eq!((polled.records.len(), polled.millis_behind_latest), (1, 3));
    assert_eq!(polled.records.last_sequence().unwrap().as_str(), "7");
    for end in ["\"NextShardIterator\":null,", ""] {
        let body = body.replace("\"NextShardIterator\":\"AAAA+/=\",", end);
        assert_eq!(get_records(body.as_bytes()).unwrap().next_shard_iterator, None);
    }
    let error = get_records(b"{}").unwrap_err().to_string();
    assert!(error.starts_with("an answer of GetRecords of 2 bytes cannot be read"), "{error}");
}

#[test]
fn an_exception_is_quoted_and_nonsense_is_cut() {
    assert_eq!(exception_message(br#"{"message":"gone"}"#), "gone");
    assert_eq!(exception_message(br#"{"Message":"gone"}"#), "gone");
    assert_eq!(exception_message(&[b'x'; 1000]).len(), 200);
}
