//! Subscriptions with filters get what a plain evaluation says, over the whole wire.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::child::run;
use crate::harness::eventually;
use crate::harness::platform::{EARTHQUAKES, Platform, Processor, earthquakes};
use crate::harness::receiver::Receiver;

/// Strong ones of two networks, or those that somebody felt.
const STRONG_OR_FELT: &str = r#"{"type":["Feature"],"$or":[
    {"properties":{"net":["us","ak"],"mag":[{"numeric":[">=",4.5]}]}},
    {"properties":{"felt":[{"anything-but":null}],"cdi":[{"numeric":[">",0]}]}}]}"#;

/// In the far west, and looked at by nobody yet.
const FAR_WEST: &str = r#"{"geometry":{"type":["Point"],"coordinates":[{"numeric":["<",-150]}]},
    "properties":{"status":[{"anything-but":["reviewed"]}],"place":[{"suffix":"Alaska"}]}}"#;

fn strong_or_felt(event: &Value) -> bool {
    let of = &event["properties"];
    let strong = ["us", "ak"].contains(&of["net"].as_str().unwrap())
        && of["mag"].as_f64().is_some_and(|mag| mag >= 4.5);
    let felt = !of["felt"].is_null() && of["cdi"].as_f64().is_some_and(|cdi| cdi > 0.0);
    strong || felt
}

fn far_west(event: &Value) -> bool {
    let (of, at) = (&event["properties"], &event["geometry"]["coordinates"]);
    at.as_array().unwrap().iter().any(|n| n.as_f64().is_some_and(|n| n < -150.0))
        && of["status"] != "reviewed"
        && of["place"].as_str().is_some_and(|place| place.ends_with("Alaska"))
}

fn blast(event: &Value) -> bool {
    ["quarry blast", "explosion"].contains(&event["properties"]["type"].as_str().unwrap())
}

/// Has a subscription made for the receiver, of messages that these arguments choose.
async fn subscribe(config: &str, receiver: &Receiver, chosen: &[&str]) {
    let url = receiver.url();
    let init = ["init", "--config", config, "--dev", "--output", "json", "--webhook", &url];
    let made = run(&[&init[..], chosen].concat()).await;
    assert_eq!(made.code, Some(0), "{:#?}", made.log);
    let made: Value = serde_json::from_str(&made.stdout.join("\n")).expect("JSON");
    receiver.expect_secret(made["dev"]["signing_secret"].as_str().expect("a secret"));
}

/// The configuration, with the event type where these messages have it, and the receivers allowed.
fn configure(platform: &Platform, receivers: &[&Receiver]) {
    let text = std::fs::read_to_string(&platform.config).expect("the configuration");
    let allowed: Vec<_> = receivers.iter().map(|r| format!("\"{}\", ", r.authority())).collect();
    let text = text
        .replace("allowed_private = [", &format!("allowed_private = [{}", allowed.concat()))
        .replace("[[integrations]]", "[[integrations]]\ntype = \"/properties/type\"");
    std::fs::write(&platform.config, text).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_with_filters_get_what_a_plain_evaluation_says() {
    let platform = Platform::start().await;
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let [strong, west, blasts] = &receivers;
    configure(&platform, &[strong, west, blasts]);
    subscribe(&platform.config, strong, &["--filter", STRONG_OR_FELT]).await;
    subscribe(&platform.config, west, &["--filter", FAR_WEST]).await;
    let types = ["--event-type", "quarry blast", "--event-type", "explosion"];
    subscribe(&platform.config, blasts, &types).await;
    let processor = Processor::start(&platform).await;
    let events = earthquakes();
    platform.aws.put("earthquakes", &events).await;
    platform.everything_arrived(EARTHQUAKES).await;
    processor.lanes_are_idle().await;

    let plainly: [fn(&Value) -> bool; 3] = [strong_or_felt, far_west, blast];
    for (receiver, plainly) in receivers.iter().zip(plainly) {
        let wanted = events.iter().map(|(_, data)| data.clone());
        let wanted = wanted.filter(|data| plainly(&serde_json::from_slice(data).expect("JSON")));
        let wanted: Vec<Vec<u8>> = wanted.collect();
        assert!((5..1_500).contains(&wanted.len()), "{} chosen", wanted.len());
        eventually("a subscription has what it asked for", async || {
            let arrived = receiver.ledger().messages();
            if arrived >= wanted.len() { Ok(()) } else { Err(format!("{arrived} arrived")) }
        })
        .await;
        assert_eq!(counted(receiver), counted_all(wanted));
        assert_eq!(receiver.ledger().unverified, 0);
    }
    assert_eq!(processor.stop().await.code, Some(0));
    assert_eq!(platform.dead_letters().await.len(), 0);
}

/// The bodies that arrived, by how many different messages had them.
fn counted(receiver: &Receiver) -> BTreeMap<Vec<u8>, usize> {
    let ledger = receiver.ledger();
    counted_all(ledger.deliveries.into_values().map(|(_, body)| body.to_vec()))
}

fn counted_all(bodies: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<Vec<u8>, usize> {
    let mut counted = BTreeMap::new();
    for body in bodies {
        *counted.entry(body).or_default() += 1;
    }
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_tried_out_on_a_file_and_refused_with_its_place() {
    let file = "../tests/data/earthquakes.ndjson";
    let passed = run(&["filter", FAR_WEST, file]).await;
    assert_eq!((passed.code, passed.log.len()), (Some(0), 0), "{:#?}", passed.log);
    let plainly = earthquakes().into_iter().map(|(_, data)| data);
    let plainly = plainly.filter(|data| far_west(&serde_json::from_slice(data).expect("JSON")));
    let plainly: Vec<_> = plainly.map(|data| String::from_utf8(data).expect("UTF-8")).collect();
    assert_eq!(passed.stdout, plainly);
    let refused = run(&["filter", r#"{"properties":{"mag":[{"numeric":[">"]}]}}"#, file]).await;
    assert_eq!(refused.code, Some(2));
    let said = refused.log.join("\n");
    assert!(said.contains("/properties/mag/0/numeric") && said.contains("an array of 1"), "{said}");
}
