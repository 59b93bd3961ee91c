//! `sluicegate leases`, run as an operator runs it: beside live processors, and over a table that a KCL wrote.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use serde_json::Value;

use crate::harness::aws::{Item, text};
use crate::harness::child::{Ended, run};
use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor, earthquakes};

/// Events that are written; enough for both shards to have some.
const EVENTS: usize = 200;
const REFUSED: Option<i32> = Some(3);

async fn leases(platform: &Platform, args: &[&str]) -> Ended {
    let all = [&["leases"][..], args, &["--config", &platform.config]].concat();
    run(&all).await
}

async fn done(platform: &Platform, args: &[&str]) -> String {
    let ended = leases(platform, args).await;
    assert_eq!(ended.code, Some(0), "{args:?}: {:#?} {:#?}", ended.stdout, ended.log);
    ended.stdout.join("\n")
}

async fn refused(platform: &Platform, args: &[&str], says: &str) {
    let ended = leases(platform, args).await;
    let log = ended.log.join("\n");
    assert_eq!(ended.code, REFUSED, "{args:?}: {:#?} {log}", ended.stdout);
    assert!(log.contains(says), "{says:?}: {log}");
}

/// Each shard's owner, as the list says, once `wanted` holds of it.
async fn owners(
    platform: &Platform,
    what: &str,
    wanted: impl Fn(&BTreeMap<String, String>) -> bool,
) -> BTreeMap<String, String> {
    eventually(what, async || {
        let list = done(platform, &["list", "--output", "json"]).await;
        let list: Value = serde_json::from_str(&list).expect("JSON");
        let pair = |lease: &Value| {
            let owned = lease["state"] == "owned";
            let owner = lease["owner"].as_str().filter(|_| owned).unwrap_or("nobody");
            (lease["shard"].as_str().expect("a shard").to_owned(), owner.to_owned())
        };
        let owners = list["leases"].as_array().expect("leases").iter().map(pair).collect();
        if wanted(&owners) { Ok(owners) } else { Err(format!("{list:#}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_why_moves_a_shard_and_has_it_read_again() {
    let platform = Platform::start().await;
    let first = Processor::start_as(&platform, "worker-1").await;
    platform.aws.put("earthquakes", &earthquakes()[..EVENTS]).await;
    platform.everything_arrived(EVENTS).await;
    let second = Processor::start_as(&platform, "worker-2").await;
    let has_one = |owners: &BTreeMap<String, String>, worker: &str| {
        owners.values().filter(|owner| *owner == worker).count() == 1
    };
    let shared = |owners: &BTreeMap<String, String>| {
        has_one(owners, "worker-1") && has_one(owners, "worker-2")
    };
    let owners_now = owners(&platform, "each worker has a shard", shared).await;
    let (shard, _) = owners_now.iter().find(|(_, owner)| *owner == "worker-1").expect("one");

    let list = done(&platform, &["list"]).await;
    assert!(list.contains("2 leases: 2 being read"), "{list}");
    let why = done(&platform, &["why", shard]).await;
    assert!(why.contains(&format!("{shard} is owned by worker-1")), "{why}");
    assert!(why.contains("its heartbeat moved") && why.contains("Lane sync-store"), "{why}");
    let number = shard.trim_start_matches("shardId-");
    assert_eq!(done(&platform, &["why", number]).await.lines().next(), why.lines().next());

    refused(&platform, &["set-checkpoint", shard, "trim-horizon"], "worker-1").await;
    let force = ["set-checkpoint", shard, "trim-horizon", "--force"];
    refused(&platform, &force, "there is no terminal to ask at").await;
    refused(&platform, &["release", shard, "--to", "nobody"], "workers that can: worker-2").await;
    let released = done(&platform, &["release", shard, "--to", "worker-2"]).await;
    assert!(released.contains(&format!("{shard} is now owned by worker-2")), "{released}");

    let before = platform.receiver.ledger();
    assert_eq!(before.duplicates(), 0, "a hand-over repeats nothing");
    let set = done(&platform, &["set-checkpoint", shard, "trim-horizon", "--force", "--yes"]).await;
    assert!(set.contains("would be read again: everything from the oldest"), "{set}");
    assert!(set.contains("worker-2 owns it: the lease is taken from it"), "{set}");
    let of_shard = platform.positions("sync-store").await;
    eventually("the shard's events are delivered again", async || {
        match platform.receiver.ledger().duplicates() {
            0 => Err(format!("no event came again; positions {of_shard:?}")),
            again => Ok(again),
        }
    })
    .await;
    let owned = |owners: &BTreeMap<String, String>| owners.values().all(|owner| owner != "nobody");
    owners(&platform, "the shard has an owner again", owned).await;
    assert_eq!(platform.stored_count().await, EVENTS, "what was stored is not stored twice");
    assert_eq!(platform.dead_letters().await.len(), 0);

    assert_eq!(leases(&platform, &["why", "shardId-7"]).await.code, Some(1));
    assert_eq!(leases(&platform, &["set-checkpoint", shard, "soon"]).await.code, Some(2));
    for processor in [first, second] {
        let ended = processor.stop().await;
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    }
    let why = done(&platform, &["why", shard]).await;
    assert!(why.contains("is not being read") && why.contains("until a worker starts"), "{why}");
}

/// The attribute form as the DynamoDB API writes it in JSON.
fn attribute(json: &Value) -> AttributeValue {
    let (kind, value) = json.as_object().and_then(|object| object.iter().next()).expect("typed");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    match kind.as_str() {
        "S" => AttributeValue::S(text(value)),
        "N" => AttributeValue::N(text(value)),
        "SS" => AttributeValue::Ss(value.as_array().expect("a set").iter().map(text).collect()),
        other => panic!("attribute type {other}"),
    }
}

/// Makes a table as an old library does, without an index, and fills it with what a library 3 wrote.
async fn library_table(platform: &Platform, table: &str) {
    let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash);
    let attribute_ = AttributeDefinition::builder().attribute_name("leaseKey");
    let attribute_ = attribute_.attribute_type(ScalarAttributeType::S);
    let create = platform.aws.dynamodb.create_table().table_name(table);
    let create = create.billing_mode(BillingMode::PayPerRequest).key_schema(key.build().unwrap());
    create.attribute_definitions(attribute_.build().unwrap()).send().await.expect("made");
    let dump = std::fs::read_to_string("../tests/data/kcl/lease-table-dump.json").expect("there");
    let dump: Value = serde_json::from_str(&dump).expect("JSON");
    let items = &dump["polling_after_graceful_shutdown"]["app-poll"]["Items"];
    for json in items.as_array().expect("items") {
        let pairs = json.as_object().expect("an item").iter();
        let item: Item = pairs.map(|(name, value)| (name.clone(), attribute(value))).collect();
        let put = platform.aws.dynamodb.put_item().table_name(table).set_item(Some(item));
        put.send().await.expect("put");
    }
}

async fn items(platform: &Platform, table: &str) -> BTreeMap<String, Item> {
    let items = platform.aws.scan(table).await;
    items
        .into_iter()
        .map(|item| (text(&item, "leaseKey").expect("a key").to_owned(), item))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_the_kcl_is_adopted_in_place_or_copied_and_never_while_it_runs() {
    let platform = Platform::start().await;
    library_table(&platform, "library").await;
    let before = items(&platform, "library").await;
    let adopt = ["adopt-kcl", "--table", "library", "--wait", "2s"];
    let in_place = [&adopt[..], &["--set", "app.name=library"]].concat();
    let list = done(&platform, &["list", "--set", "app.name=library"]).await;
    assert!(list.contains("foreign !") && list.contains("4 leases: 0 being read"), "{list}");
    let dry = done(&platform, &[&in_place[..], &["--dry-run"]].concat()).await;
    assert!(
        dry.contains("table library, in place") && dry.contains("nothing was written"),
        "{dry}"
    );
    let tables = platform.aws.dynamodb.list_tables().send().await.expect("tables");
    assert!(!tables.table_names().contains(&"library-fleet".to_owned()));

    let told = done(&platform, &in_place).await;
    assert!(told.contains("library-fleet created"), "{told}");
    assert_eq!(items(&platform, "library").await, before, "no attribute was touched");
    let table = platform.aws.dynamodb.describe_table().table_name("library").send().await;
    let table = table.expect("described").table.expect("a table");
    assert_eq!(table.global_secondary_indexes().len(), 1, "the index was added");

    let told = done(&platform, &adopt).await;
    assert!(told.contains("copied into wire") && told.contains("4 leases written"), "{told}");
    for (key, copy) in items(&platform, "wire").await {
        assert_eq!(copy["checkpoint"], before[&key]["checkpoint"], "{key}");
        assert_eq!(copy.get("leaseOwner"), None, "{key}");
    }

    let client = platform.aws.dynamodb.clone();
    let renewing = tokio::spawn(async move {
        loop {
            let key = AttributeValue::S("shardId-000000000002".to_owned());
            let one = AttributeValue::N("1".to_owned());
            let renew = client.update_item().table_name("library").key("leaseKey", key);
            let renew = renew.update_expression("SET leaseCounter = leaseCounter + :one");
            renew.expression_attribute_values(":one", one).send().await.expect("renewed");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    refused(&platform, &in_place, "the Kinesis Client Library still runs").await;
    renewing.abort();
    let missing = leases(&platform, &["adopt-kcl", "--table", "nowhere", "--wait", "1s"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.log.join("\n").contains("nowhere"), "{:?}", missing.log);
}
