//! What is no message goes to the dead letters with its bytes and the reason, and holds nothing up.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::child::{file, run};
use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor, earthquakes};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_records_become_dead_letters_and_the_lanes_go_on() {
    let platform = Platform::start().await;
    let processor = Processor::start(&platform).await;
    let good: Vec<_> = earthquakes().into_iter().take(100).collect();
    let bad = malformed();
    let mixed: Vec<_> = good[..50]
        .iter()
        .cloned()
        .chain(bad.iter().map(|(_, data)| ("key".to_owned(), data.clone())))
        .chain(good[50..].iter().cloned())
        .collect();
    platform.aws.put("earthquakes", &mixed).await;
    platform.everything_arrived(good.len()).await;

    eventually("every malformed record is a dead letter", async || {
        match platform.dead_letters().await.len() {
            letters if letters == bad.len() => Ok(()),
            letters => Err(format!("{letters} of {} dead letters", bad.len())),
        }
    })
    .await;
    let letters = platform.dead_letters().await;
    let found: BTreeMap<_, _> =
        letters.iter().map(|letter| (letter.payload.clone(), letter.reason.clone())).collect();
    let expected: BTreeMap<_, _> =
        bad.iter().map(|(reason, data)| (data.clone(), (*reason).to_owned())).collect();
    for (data, reason) in &expected {
        assert_eq!(
            found.get(data),
            Some(reason),
            "{}",
            String::from_utf8_lossy(&data[..data.len().min(60)])
        );
    }
    assert!(letters.iter().all(|letter| !letter.detail.is_empty()), "each says what was found");

    // The lanes went past them: nothing is unsettled.
    processor.lanes_are_idle().await;
    redriven(&platform, good.len(), bad.len()).await;
    assert_eq!(processor.stop().await.code, Some(0));
}

/// An operator lists them, and sends them again once one of them is allowed: that one arrives, the others stay.
async fn redriven(platform: &Platform, good: usize, bad: usize) {
    let lenient = std::fs::read_to_string(&platform.config).expect("the configuration");
    let lenient = lenient.replace("max_message_bytes = \"64KiB\"", "max_message_bytes = \"1MiB\"");
    let lenient = file(platform.scratch(), "lenient.toml", &lenient);
    let json = async |args: &[&str], code: i32| -> Value {
        let all = [&["deliveries"][..], args, &["--output", "json", "--config", &lenient]].concat();
        let ended = run(&all).await;
        assert_eq!(ended.code, Some(code), "{args:?}: {:#?} {:#?}", ended.stdout, ended.log);
        serde_json::from_str(&ended.stdout.join("\n")).expect("JSON")
    };
    let listed = json(&["list"], 0).await;
    assert_eq!(listed["dead_letters"].as_array().expect("letters").len(), bad);
    let listed = json(&["list", "--reason", "missing-field", "--since", "1h"], 0).await;
    let letter = &listed["dead_letters"][0];
    assert!(letter["payload"].as_str().expect("text").contains("1517363399650"), "{letter:#}");
    assert!(letter["detail"].as_str().expect("words").contains("/properties/net"), "{letter:#}");
    assert!(letter["fence"].as_u64().is_some_and(|fence| fence > 0), "{letter:#}");
    let select = ["redrive", "--reason", "too-large"];
    let planned = json(&[&select[..], &["--dry-run"]].concat(), 0).await;
    assert_eq!((&planned["sent"], &planned["dry_run"]), (&1.into(), &true.into()), "{planned:#}");
    assert_eq!(platform.dead_letters().await.len(), bad, "nothing was done yet");
    let sent = json(&select, 0).await;
    assert_eq!((&sent["stored"], &sent["parked"]), (&1.into(), &1.into()), "{sent:#}");
    platform.everything_arrived(good + 1).await;
    let stay = json(&["redrive", "--all"], 3).await;
    assert_eq!(stay["stay"].as_array().expect("those that stay").len(), bad - 1, "{stay:#}");
    assert!(stay["stay"][0]["why"].as_str().expect("words").starts_with("still "), "{stay:#}");
    assert_eq!(platform.dead_letters().await.len(), bad - 1);
}

/// One record of each kind that is no message, with the reason it must get.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let mut broken_aggregate =
        std::fs::read("../tests/data/kpl/aggregate-python.bin").expect("the sample aggregate");
    let last = broken_aggregate.len() - 1;
    broken_aggregate[last] ^= 0xff;
    let padding = "x".repeat(70 * 1024);
    vec![
        ("not-json", b"this is not JSON".to_vec()),
        ("not-json", br#"{"properties":{"net":"us","time":1}"#.to_vec()),
        ("invalid-utf8", b"{\"properties\":{\"net\":\"\xff\xfe\",\"time\":1},\"id\":\"x\"}".to_vec()),
        ("too-large", format!(r#"{{"type":"Feature","id":"x","properties":{{"net":"us","time":1,"pad":"{padding}"}}}}"#).into_bytes()),
        ("missing-field", br#"{"type":"Feature","id":"x","properties":{"time":1517363399650}}"#.to_vec()),
        ("broken-aggregate", broken_aggregate),
        ("empty", Vec::new()),
    ]
}
