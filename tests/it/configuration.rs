//! A bad configuration is refused before anything starts: exit code 2, the key, the line, what is allowed.

use crate::harness::child::{file, run};
use crate::harness::platform::Scratch;

/// A configuration, and what the refusal must name.
struct Case {
    what: &'static str,
    text: &'static str,
    says: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        what: "an unknown key",
        text: "[app]\nname = \"demo\"\n\n[checkpoint]\nintervall = \"5s\"\n",
        says: &["intervall", "5", "interval"],
    },
    Case {
        what: "a wrong type",
        text: "[app]\nname = \"demo\"\n\n[checkpoint]\ninterval = true\n",
        says: &["checkpoint.interval", "5", "100ms"],
    },
    Case {
        what: "a bad pointer",
        text: "[app]\nname = \"demo\"\n\n[[integrations]]\nname = \"quakes\"\nentity = \"properties/net\"\n",
        says: &["entity", "6", "properties/net", "/"],
    },
    Case {
        what: "a negative number",
        text: "[app]\nname = \"demo\"\n\n[sync_store]\nmax_parallel = -4\n",
        says: &["max_parallel", "5", "-4"],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_refused_with_key_line_and_what_is_allowed() {
    let scratch = Scratch::new("configuration");
    for case in CASES {
        let config = file(scratch.path(), "sluicegate.toml", case.text);
        for command in ["processor", "api", "init"] {
            let ended = run(&[command, "--config", &config]).await;
            let log = ended.log.join("\n");
            assert_eq!(ended.code, Some(2), "{command} with {}: {log}", case.what);
            for word in case.says {
                assert!(
                    log.contains(word),
                    "{command} with {} does not say {word:?}:\n{log}",
                    case.what
                );
            }
            assert!(ended.stdout.is_empty(), "refusals go to standard error");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_and_a_bad_flag_are_refused_alike() {
    let missing = run(&["processor", "--config", "/nonexistent/sluicegate.toml"]).await;
    assert_eq!(missing.code, Some(2));
    assert!(missing.log.join("\n").contains("/nonexistent/sluicegate.toml"));
    let flag = run(&["processor", "--confg", "x"]).await;
    assert_eq!(flag.code, Some(2));
    assert!(flag.log.join("\n").contains("--config"), "a suggestion: {:?}", flag.log);
}
