//! What a tap is shown of calls, answers, writes and streams.

use std::sync::{Arc, Mutex};

use super::*;
use crate::{Effect, Fault, Seen, Service, Tap, Traced};

/// An AWS whose tap notes everything in a line each.
fn tapped() -> (LocalAws, Client, Arc<Mutex<Vec<String>>>) {
    let noted = Arc::<Mutex<Vec<String>>>::default();
    let notes = Arc::clone(&noted);
    let tap = Tap::new(move |traced: &Traced<'_>| {
        let number = |item: &serde_json::Value| item["n"]["N"].as_str().map(str::to_owned);
        let seen = match &traced.seen {
            Seen::Called => "called".to_owned(),
            Seen::Wrote { table, item } => format!("wrote {table} {:?}", number(item)),
            Seen::Deleted { table, key } => format!("deleted {table} {}", key["pk"]["S"]),
            Seen::Answered { status, .. } => format!("answered {status}"),
            Seen::Frame(_) => "frame".to_owned(),
            Seen::Cut => "cut".to_owned(),
        };
        notes.lock().unwrap().push(format!("{} {} {seen}", traced.caller, traced.operation));
    });
    let aws = LocalAws::new(Options { tap: Some(tap), ..Options::default() }).unwrap();
    let client = client_as(&aws, "tester");
    (aws, client, noted)
}

fn taken(noted: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *noted.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_tap_sees_calls_writes_and_answers_in_their_order() {
    let (aws, client, noted) = tapped();
    create_table(&client, "items").await;
    taken(&noted);
    add_one(&client).await.unwrap();
    let update = "tester UpdateItem";
    let expected =
        ["called", "wrote items Some(\"1\")", "answered 200"].map(|e| format!("{update} {e}"));
    assert_eq!(taken(&noted), expected);

    aws.faults().inject(Fault::new(Service::Dynamodb, Effect::LostReply).times(1));
    add_one(&client).await.unwrap_err();
    let expected = ["called", "wrote items Some(\"2\")", "cut"].map(|e| format!("{update} {e}"));
    assert_eq!(taken(&noted), expected);

    let put = client.put_item().table_name("items").item("pk", string("b")).item("sk", string("1"));
    put.condition_expression("attribute_exists(pk)").send().await.unwrap_err();
    assert_eq!(taken(&noted), ["tester PutItem called", "tester PutItem answered 400"]);

    let delete = client.delete_item().table_name("items");
    delete.key("pk", string("a")).key("sk", string("1")).send().await.unwrap();
    assert_eq!(taken(&noted)[1], "tester DeleteItem deleted items \"a\"");
}

#[tokio::test(start_paused = true)]
async fn a_late_write_is_seen_when_it_lands() {
    let (aws, client, noted) = tapped();
    create_table(&client, "items").await;
    let late = Effect::LateApply(Duration::from_secs(5));
    aws.faults().inject(Fault::new(Service::Dynamodb, late).operation("UpdateItem").times(1));
    add_one(&client).await.unwrap_err();
    taken(&noted);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(counter(&client).await, 1);
    let expected = ["GetItem called", "UpdateItem wrote items Some(\"1\")", "GetItem answered 200"];
    assert_eq!(taken(&noted), expected.map(|event| format!("tester {event}")));
}

#[tokio::test(start_paused = true)]
async fn every_item_of_a_batch_is_seen_but_those_that_came_back() {
    let (aws, client, noted) = tapped();
    create_table(&client, "items").await;
    aws.faults().inject(Fault::new(Service::Dynamodb, Effect::Partial(0.5)).times(1));
    taken(&noted);
    let requests = (0..10).map(put_request).collect();
    let batch = client.batch_write_item().request_items("items", requests);
    let left = batch.send().await.unwrap().unprocessed_items.unwrap()["items"].len();
    let wrote = taken(&noted).iter().filter(|line| line.contains("wrote items")).count();
    assert_eq!(wrote + left, 10);
    assert!(wrote > 0 && left > 0);
}
