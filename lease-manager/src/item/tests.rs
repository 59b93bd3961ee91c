use super::*;

fn attribute(json: &serde_json::Value) -> AttributeValue {
    let (kind, value) = json.as_object().unwrap().iter().next().unwrap();
    let text = || value.as_str().unwrap().to_owned();
    let strings = || value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned());
    match kind.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "SS" => AttributeValue::Ss(strings().collect()),
        "M" => AttributeValue::M(item(value)),
        "L" => AttributeValue::L(value.as_array().unwrap().iter().map(attribute).collect()),
        other => panic!("attribute type {other}"),
    }
}

/// An item in the form in which the DynamoDB API writes it in JSON.
pub(crate) fn item(json: &serde_json::Value) -> Item {
    json.as_object().unwrap().iter().map(|(k, v)| (k.clone(), attribute(v))).collect()
}

#[test]
fn every_lease_that_a_running_kcl_wrote_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/kcl/lease-table-dump.json");
    let dump: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut leases = 0;
    for (moment, tables) in dump.as_object().unwrap() {
        for (name, table) in tables.as_object().unwrap() {
            if table["KeySchema"][0]["AttributeName"] != LEASE_KEY {
                continue;
            }
            for json in table["Items"].as_array().unwrap() {
                let stored = item(json);
                let record = LeaseRecord::from_item(stored.clone());
                let record = record.unwrap_or_else(|e| panic!("{moment} {name}: {e}")).unwrap();
                assert_eq!(record.rev, None);
                assert_eq!(record.granted_to(), None);
                assert!(record.hash_range.is_some());
                assert!(record.rest.is_empty(), "{:?}", record.rest);
                let again = LeaseRecord::from_item(record.to_item()).unwrap().unwrap();
                assert_eq!(again, record);
                assert_eq!(
                    stored.keys().collect::<BTreeSet<_>>(),
                    record.to_item().keys().collect()
                );
                leases += 1;
            }
        }
    }
    assert!(leases >= 8, "the dump holds at least two tables of four leases, found {leases}");
}

fn minimal() -> Item {
    Item::from([
        (LEASE_KEY.to_owned(), AttributeValue::S("shardId-0".to_owned())),
        (COUNTER.to_owned(), number(3)),
        (CHECKPOINT.to_owned(), AttributeValue::S("TRIM_HORIZON".to_owned())),
    ])
}

#[test]
fn unknown_attributes_are_kept_and_foreign_items_passed_over() {
    let mut stored = minimal();
    stored.insert("pendingCheckpointState".to_owned(), number(0));
    stored.insert("theirs".to_owned(), AttributeValue::Bool(true));
    let record = LeaseRecord::from_item(stored).unwrap().unwrap();
    assert_eq!(record.rest.len(), 2);
    assert_eq!(record.to_item()["theirs"], AttributeValue::Bool(true));

    let mut leader = minimal();
    leader.insert(ENTITY_TYPE.to_owned(), AttributeValue::S("LEADER".to_owned()));
    assert_eq!(LeaseRecord::from_item(leader).unwrap(), None);
}

#[test]
fn what_would_have_to_be_guessed_is_an_error_that_names_it() {
    let mut bad = minimal();
    bad.remove(CHECKPOINT);
    let error = LeaseRecord::from_item(bad).unwrap_err();
    assert_eq!((error.key.as_str(), error.attribute), ("shardId-0", CHECKPOINT));
    let mut bad = minimal();
    bad.insert(COUNTER.to_owned(), AttributeValue::S("3".to_owned()));
    assert_eq!(LeaseRecord::from_item(bad).unwrap_err().attribute, COUNTER);
}

#[test]
fn lanes_are_believed_only_while_their_smallest_is_the_checkpoint() {
    let lane = |name: &str| LaneName::parse(name).unwrap();
    let at = |n: &str| Checkpoint::parse(n, 0).unwrap();
    let mut record = LeaseRecord::new(LeaseKey::parse("shardId-0").unwrap(), at("10"), 5);
    record.stream_created_at_s = Some(1_700_000_000);
    let position = |n: &str| LanePosition {
        checkpoint: at(n),
        behind_ms: 4,
        unsettled_since_ms: Some(1_800_000_000_000),
    };
    record.lanes =
        BTreeMap::from([(lane("store"), position("20")), (lane("deliver"), position("10"))]);
    let read = LeaseRecord::from_item(record.to_item()).unwrap().unwrap();
    assert_eq!(read, record, "it survives its item");
    let mut record = read;
    let wanted = [lane("store"), lane("deliver"), lane("new")];
    let lanes = record.believed_lanes(&wanted);
    assert_eq!(lanes[&lane("store")], position("20"));
    assert_eq!(lanes[&lane("new")].checkpoint, at("10"));

    // Another library moved the checkpoint: every lane starts there, even the one that was ahead.
    record.checkpoint = at("15");
    assert!(record.believed_lanes(&wanted).values().all(|lane| lane.checkpoint == at("15")));
}

#[test]
fn a_grant_is_believed_only_while_its_counter_is_the_leases() {
    let mut record = LeaseRecord::from_item(minimal()).unwrap().unwrap();
    record.grant = Some(Grant { counter: LeaseCounter(3), incarnation: Incarnation(77) });
    let mut record = LeaseRecord::from_item(record.to_item()).unwrap().unwrap();
    assert_eq!(record.granted_to(), Some(Incarnation(77)));
    record.counter = LeaseCounter(4);
    assert_eq!(record.granted_to(), None);
}
