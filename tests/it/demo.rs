//! The demo as a user meets it: the printed lines work when pasted, and every event goes the whole way.

use serde_json::Value;

use crate::harness::child::{Sluicegate, run_in_shell};

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_curl_lines_work_and_every_event_goes_the_whole_way() {
    let mut demo =
        Sluicegate::start(&["demo", "--once", "--rate", "500", "--listen", "127.0.0.1:0"]);
    let welcome = demo.lines_until("receiver").await;
    let lines: Vec<_> =
        welcome.iter().map(|line| line.trim()).filter(|line| line.starts_with("curl ")).collect();
    assert!(lines.len() >= 3, "ready-made lines: {welcome:#?}");
    for line in &lines {
        assert!(!line.contains(" -k"), "the certificate is verified, not waved through: {line}");
    }
    let published = if !run_in_shell("sh", &["-c", "command -v curl"]).await.status.success() {
        println!("skipped the pasting: curl is not installed");
        0
    } else {
        let latest = lines
            .iter()
            .find(|line| line.contains("/latest"))
            .expect("a line for the newest event");
        let message =
            crate::harness::eventually("an earthquake comes back over HTTPS", async || {
                let answer = paste(latest).await;
                answer["data"]["properties"]["title"]
                    .as_str()
                    .map(str::to_owned)
                    .ok_or(answer.to_string())
            })
            .await;
        println!("over HTTPS: {message}");
        for line in &lines {
            let answer = paste(line).await;
            assert!(answer["status"].is_null(), "{line}\n{answer}");
        }
        lines.iter().filter(|line| line.contains(" -d ")).count()
    };
    let stored = format!("stored {} ", 1_707 + published);
    let mut log = demo.lines_until(&stored).await;
    // The line that says that all are stored may be the one that says that all are verified.
    let verified = format!("verified {} duplicates 0", 1_707 + published);
    if !log.iter().any(|line| line.contains(&verified)) {
        log.extend(demo.lines_until(&verified).await);
    }
    let verified = log.iter().filter(|line| line.contains("signature verified")).count();
    assert!(verified > 0, "the receiver's log shows verified signatures");
    let ended = demo.terminate().await;
    assert_eq!(ended.code, Some(0), "a clean end: {:#?}", ended.stdout);
}

/// Runs a printed line in a shell, as a person who pastes it.
async fn paste(line: &str) -> Value {
    let output = run_in_shell("sh", &["-c", line]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}
