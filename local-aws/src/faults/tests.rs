use super::*;
use bytes::Bytes;

fn call(operation: &str, table: &str, caller: &str) -> Call {
    Call {
        service: Service::Dynamodb,
        operation: operation.to_owned(),
        caller: caller.to_owned(),
        resources: vec![table.to_owned()],
        body: Bytes::new(),
    }
}

#[test]
fn a_fault_hits_the_calls_it_names_as_often_as_it_says() {
    let faults = Faults::new(1);
    let fault = Fault::new(Service::Dynamodb, Effect::Throttle)
        .operation("UpdateItem")
        .resource("leases")
        .caller("w-1")
        .times(2);
    faults.inject(fault);
    for other in [
        call("GetItem", "leases", "w-1"),
        call("UpdateItem", "messages", "w-1"),
        call("UpdateItem", "leases", "w-2"),
    ] {
        assert_eq!(faults.plan(&other).effect, None);
    }
    let hit = call("UpdateItem", "leases", "w-1");
    assert_eq!(faults.plan(&hit).effect, Some(Effect::Throttle));
    assert_eq!(faults.plan(&hit).effect, Some(Effect::Throttle));
    assert_eq!(faults.plan(&hit).effect, None);
    assert!(faults.active().is_empty());
}

#[test]
fn latencies_add_up_and_leave_room_for_one_other_effect() {
    let faults = Faults::new(1);
    let latency = |ms| Fault::new(Service::Dynamodb, Effect::Latency(Duration::from_millis(ms)));
    faults.inject(latency(10));
    faults.inject(Fault::new(Service::Dynamodb, Effect::InternalError));
    faults.inject(latency(5));
    faults.inject(Fault::new(Service::Dynamodb, Effect::Throttle).times(1));
    let plan = faults.plan(&call("GetItem", "t", "w"));
    assert_eq!(plan.delay, Duration::from_millis(15));
    assert_eq!(plan.effect, Some(Effect::InternalError));
    assert_eq!(faults.active().len(), 4, "the throttle was not used up");
}

#[test]
fn chances_come_from_the_seed() {
    let pattern = |seed| {
        let faults = Faults::new(seed);
        faults.inject(Fault::new(Service::Dynamodb, Effect::Throttle).chance(0.5));
        let hit = |_| faults.plan(&call("GetItem", "t", "w")).effect.is_some();
        (0..64).map(hit).collect::<Vec<_>>()
    };
    assert_eq!(pattern(7), pattern(7));
    assert_ne!(pattern(7), pattern(8));
    assert!((16..48).contains(&pattern(7).iter().filter(|hit| **hit).count()));
}

#[test]
fn a_fault_reads_back_from_the_json_that_it_is_written_as() {
    let fault = Fault::new(Service::Kinesis, Effect::Latency(Duration::from_millis(20))).times(3);
    let json = serde_json::to_string(&fault).unwrap();
    assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), fault);

    let short = r#"{"service":"dynamodb","operation":"PutItem","effect":"lost_reply"}"#;
    let expected = Fault::new(Service::Dynamodb, Effect::LostReply).operation("PutItem");
    assert_eq!(serde_json::from_str::<Fault>(short).unwrap(), expected);

    let typo = r#"{"service":"dynamodb","operaton":"PutItem","effect":"lost_reply"}"#;
    assert!(serde_json::from_str::<Fault>(typo).is_err());
}

#[test]
fn late_calls_come_due_in_the_order_of_their_moments() {
    let faults = Faults::new(1);
    faults.postpone(30, call("C", "t", "w"));
    faults.postpone(10, call("A", "t", "w"));
    faults.postpone(20, call("B", "t", "w"));
    let names = |calls: Vec<Call>| calls.into_iter().map(|c| c.operation).collect::<String>();
    assert_eq!(names(faults.take_due(9)), "");
    assert_eq!(names(faults.take_due(20)), "AB");
    assert_eq!(names(faults.take_due(100)), "C");
    assert_eq!(names(faults.take_due(100)), "");
}

#[test]
fn a_partial_write_applies_some_items_and_gives_the_others_back() {
    let mut rng = fastrand::Rng::with_seed(3);
    let body = br#"{"RequestItems":{"a":[{"n":1},{"n":2},{"n":3}],"b":[{"n":4}]}}"#;
    for _ in 0..50 {
        let partial = Partial::divide("BatchWriteItem", body, 0.4, &mut rng).unwrap();
        let applied = partial.applied.clone().map_or(0, |body| count_n(&body));
        let answer = partial.complete(b"{}").unwrap();
        assert!(answer.starts_with(b"{\"UnprocessedItems\""));
        let failed = count_n(&answer);
        assert!(failed >= 1);
        assert_eq!(applied + failed, 4);
    }
}

fn count_n(json: &[u8]) -> usize {
    std::str::from_utf8(json).unwrap().matches("\"n\":").count()
}

#[test]
fn failed_records_stand_in_the_answer_where_they_stood_in_the_request() {
    let mut rng = fastrand::Rng::with_seed(3);
    let body = br#"{"StreamName":"s","Records":[{"Data":"0"},{"Data":"1"},{"Data":"2"}]}"#;
    let partial = Partial::divide("PutRecords", body, 0.3, &mut rng).unwrap();
    let request: serde_json::Value =
        serde_json::from_slice(&partial.applied.clone().unwrap()).unwrap();
    let applied = request["Records"].as_array().unwrap().clone();
    let served: Vec<_> =
        applied.iter().map(|r| serde_json::json!({"SequenceNumber": r["Data"]})).collect();
    let answer = serde_json::json!({"FailedRecordCount": 0, "Records": served}).to_string();
    let answer: serde_json::Value =
        serde_json::from_slice(&partial.complete(answer.as_bytes()).unwrap()).unwrap();
    let records = answer["Records"].as_array().unwrap();
    assert_eq!(records.len(), 3);
    assert_eq!(answer["FailedRecordCount"], 3 - applied.len());
    for (index, record) in records.iter().enumerate() {
        let number = record["SequenceNumber"].as_str();
        assert!(record["ErrorCode"].is_string() || number == Some(&index.to_string()));
    }
}
