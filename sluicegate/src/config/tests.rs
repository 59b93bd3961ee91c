//! What a wrong configuration is told, and that the example file tells the truth.

use std::time::Duration;

use super::streams::StreamRef;
use super::*;

const EXAMPLE: &str = include_str!("../../../sluicegate.example.toml");

pub(super) fn load(text: &str) -> Result<Config, ConfigError> {
    load_all(text, &[], &[])
}

fn load_all(text: &str, env: &[(&str, &str)], set: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Config::parse(text, pairs(env).into_iter(), &pairs(set))
        .map_err(|problems| ConfigError::new(Some("sluicegate.toml".into()), text, problems))
}

/// The error's text; every one of `parts` must be in it.
pub(super) fn refused(result: Result<Config, ConfigError>, parts: &[&str]) -> String {
    let error = result.expect_err("must be refused").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing in:\n{error}");
    }
    error
}

fn settings(config: &Config) -> Vec<(String, Option<String>)> {
    let setting = |e: &Effective| (format!("{}.{}", e.section, e.key), e.value.clone());
    config.effective.iter().map(setting).collect()
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let config = load("").unwrap();
    assert_eq!(config.app.name, "sluicegate");
    assert!(config.streams.is_empty());
    assert_eq!(config.integrations.iter().count(), 1, "`default` alone");
}

#[test]
fn the_example_file_says_the_defaults_and_every_key() {
    let defaults = load("").unwrap();
    let example = load(EXAMPLE).unwrap();
    assert_eq!(settings(&example), settings(&defaults));
    // With the comments of keys taken away, every key is there and is right.
    let uncommented: Vec<_> = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') || is_assignment(rest) => rest,
            _ => line,
        })
        .filter(|line| !line.contains("_file = ") && !line.contains("transport = "))
        .collect();
    let full = load(&uncommented.join("\n")).unwrap();
    for (key, _) in settings(&full).iter().filter(|(key, value)| value.is_none() && !is_secret(key))
    {
        assert_eq!(key, "streams[0].arn", "the example does not show it");
    }
    assert_eq!(full.integrations.iter().count(), 2);
    assert_eq!(full.streams[0].stream, StreamRef::Name("events".to_owned()));
}

fn is_assignment(text: &str) -> bool {
    text.split_once(" = ").is_some_and(|(key, _)| {
        !key.is_empty()
            && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    })
}

fn is_secret(key: &str) -> bool {
    key.starts_with("secrets.")
}

#[test]
fn the_lease_figures_are_the_lease_managers_own() {
    let worker = lease_manager::WorkerId::parse("w").unwrap();
    let defaults = lease_manager::Options::new("app", worker, Vec::new(), Vec::new());
    let mut applied = defaults.clone();
    load("").unwrap().leases.apply(&mut applied);
    assert_eq!(format!("{applied:?}"), format!("{defaults:?}"));
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_what_was_meant() {
    let text = "[app]\nname = \"demo\"\n\n[checkpoint]\nintervall = \"5s\"\n";
    let error = refused(
        load(text),
        &[
            "sluicegate.toml, line 5, column 1: checkpoint.intervall: unknown key; did you mean `interval`?",
            "    5 | intervall = \"5s\"\n",
        ],
    );
    assert!(!error.contains("line 2"), "{error}");
    refused(
        load("[chekpoint]\n"),
        &["line 1", "chekpoint: unknown key; did you mean `checkpoint`?"],
    );
    refused(load("name = 1\n"), &["name: unknown key", "known are app, aws, streams"]);
}

#[test]
fn a_wrong_type_says_what_was_found_and_what_is_allowed() {
    let text = "[leases]\nmax_leases = \"many\"\n[api]\nhsts = 1\n[memory]\nsync_store = 5\n[telemetry]\nlog_format = \"xml\"\n";
    refused(
        load(text),
        &[
            "refused for 4 reasons",
            "line 2, column 14: leases.max_leases: found \"many\"; allowed is a whole number from 1 to 100000",
            "max_leases = \"many\"\n      |              ^^^^^^",
            "api.hsts: found the number 1; allowed is true or false",
            "memory.sync_store: found the number 5; allowed is a size",
            "telemetry.log_format: found \"xml\"; allowed is \"auto\" or \"human\" or \"json\"",
        ],
    );
    refused(load("app = 3\n"), &["app: found the number 3; allowed is a table: [app]"]);
    refused(load("[streams]\nname = 3\n"), &["streams[0].name: found the number 3"]);
}

#[test]
fn numbers_sizes_and_durations_out_of_range_are_refused() {
    let text = "[leases]\nmax_leases = -5\ncall_timeout = \"10\"\nplan_interval = \"-1s\"\n[checkpoint]\nreplay_bytes = \"8 MiBs\"\ninterval = 10\n[memory]\nasync_delivery = \"1MiB\"\n";
    refused(
        load(text),
        &[
            "leases.max_leases: found the number -5; allowed is a whole number from 1 to 100000",
            "leases.call_timeout: found \"10\"; allowed is a duration in ms, s, m, h or d, from \"10ms\" to \"1h\"",
            "leases.plan_interval: found \"-1s\"",
            "checkpoint.replay_bytes: found \"8 MiBs\"; allowed is a size in B, KiB, MiB or GiB, from \"64KiB\" to \"1GiB\"",
            "checkpoint.interval: found the number 10; allowed is a duration",
            "memory.async_delivery: found \"1MiB\"; allowed is a size such as \"256MiB\", at least \"27MiB\"",
        ],
    );
    refused(
        load("[leases]\nmax_leases = 99999999999999999999\n"),
        &["max_leases: found the number"],
    );
}

#[test]
fn a_file_that_is_not_toml_is_refused_where_it_breaks() {
    refused(load("[app\nname = \"x\"\n"), &["line 1", "not TOML"]);
    refused(load("[app]\nname = \n"), &["line 2", "not TOML"]);
    refused(load("[app]\nname = \"a\"\nname = \"b\"\n"), &["line 3", "not TOML"]);
}

#[test]
fn integrations_are_read_one_by_one() {
    let text = r#"
[[integrations]]
name = "quakes"
match = [{ pointer = "/properties/type", equals = "earthquake" }]
entity = "properties/net"

[[integrations]]
name = "flights"
match = [{ pointer = "/origin", exists = true }]
retentoin = "3d"

[[integrations]]
name = "Bad Name"
"#;
    refused(
        load(text),
        &[
            "refused for 3 reasons",
            "line 5, column 10: integrations[0]: ",
            "properties/net",
            "line 10, column 1: integrations[1].retentoin: unknown key; did you mean `retention`?",
            "line 13, column 8: integrations[2]: ",
        ],
    );
}

#[test]
fn an_integration_twice_names_the_first() {
    let one = "[[integrations]]\nname = \"a\"\nmatch = [{ pointer = \"/x\", exists = true }]\n";
    refused(
        load(&format!("{one}{one}")),
        &[
            "line 4",
            "integrations[1].name: found \"a\"; allowed is a name of its own: integrations[0] has this one",
        ],
    );
}

#[test]
fn streams_need_one_name_and_come_once() {
    refused(load("[[streams]]\nconsumer = \"c\"\n"), &["streams[0].name: missing"]);
    let both =
        "[[streams]]\nname = \"a\"\narn = \"arn:aws:kinesis:eu-west-1:123456789012:stream/a\"\n";
    refused(load(both), &["line 3", "streams[0].arn", "one of name and arn"]);
    let twice = "[[streams]]\nname = \"a\"\n[[streams]]\nname = \"a\"\n";
    refused(
        load(twice),
        &["line 4", "streams[1].name: found \"a\" again; allowed is every stream once"],
    );
    let a = "[[streams]]\nname = \"a\"\n";
    let mode = load(&format!("{a}mode = \"efo\"\n"));
    refused(mode, &["allowed is \"fan-out\" or \"polling\""]);
    let same = load(&format!("{a}catch_up_consumer = \"sluicegate\"\n"));
    refused(same, &["which is `consumer` as well", "a consumer of its own"]);
    let polled = load(&format!("{a}mode = \"polling\"\ncatch_up_consumer = \"c\"\n")).unwrap();
    assert_eq!((&polled.streams[0].consumer, polled.streams[0].consumers().len()), (&None, 1));
    let config = load("[[streams]]\nname = \"a\"\nstart = 2026-01-31T00:00:00Z\n").unwrap();
    assert_eq!(config.streams[0].start.to_string(), "2026-01-31T00:00:00Z");
}

#[test]
fn lease_times_that_would_be_unsafe_are_refused() {
    let text = "[leases]\nlease_validity = \"5s\"\n";
    refused(
        load(text),
        &["line 2", "lease_validity: found 5s; allowed is less than failure_detection, 4s"],
    );
    let text = "[leases]\nheartbeat_interval = \"2s\"\n";
    refused(
        load(text),
        &["lease_validity: found 3s; allowed is at least two heartbeat_interval: 4s"],
    );
}

#[test]
fn the_environment_lies_over_the_file_and_flags_over_both() {
    let text = "[app]\nname = \"file\"\n[leases]\nmax_leases = 1\ncall_timeout = \"1s\"\n[[streams]]\nname = \"a\"\n";
    let env = [
        ("PATH", "/bin"),
        ("SLUICEGATE_CONFIG", "x.toml"),
        ("SLUICEGATE_SERVICE_HOST", "10.0.0.1"),
        ("SLUICEGATE_PORT_443_TCP", "tcp://10.0.0.1:443"),
        ("SLUICEGATE_APP__NAME", "environment"),
        ("SLUICEGATE_LEASES__MAX_LEASES", "2"),
        ("SLUICEGATE_STREAMS__0__START", "latest"),
        ("SLUICEGATE_STREAMS__1__NAME", "b"),
        ("SLUICEGATE_ASYNC_DELIVERY__ALLOWED_PRIVATE", "127.0.0.1, 10.0.0.0/8"),
        ("SLUICEGATE_API__HSTS", "false"),
    ];
    let config = load_all(text, &env, &[("leases.max_leases", "3")]).unwrap();
    assert_eq!(config.app.name, "environment");
    let streams: Vec<_> =
        config.streams.iter().map(|s| (s.stream.name(), s.start.to_string())).collect();
    assert_eq!(streams, [("a", "latest".to_owned()), ("b", "trim-horizon".to_owned())]);
    assert_eq!(config.pipelines.guard.allowed_private.len(), 2);
    assert!(!config.api.hsts);
    let printed = config.print();
    for line in [
        "name = \"environment\"  # SLUICEGATE_APP__NAME",
        "max_leases = 3  # --set",
        "call_timeout = \"1s\"  # line 5",
        "plan_interval = \"5s\"\n",
    ] {
        assert!(printed.contains(line), "{line:?} is missing in:\n{printed}");
    }
}

#[test]
fn a_bad_override_is_named_by_its_variable() {
    let env = [
        ("SLUICEGATE_LEASES__MAX_LEASES", "-1"),
        ("SLUICEGATE_LEASES__MAX_LEASE", "1"),
        ("SLUICEGATE_APP_NAME", "x"),
        ("SLUICEGATE_APP__NAME__MORE", "x"),
        ("SLUICEGATE_STREAMS__7__NAME", "x"),
    ];
    let set = [("checkpoint.intervall", "1s"), ("app..name", "x")];
    refused(
        load_all("[app]\nname = \"abc\"\n", &env, &set),
        &[
            "environment variable SLUICEGATE_LEASES__MAX_LEASES: leases.max_leases: found \"-1\"; allowed is a whole number",
            "environment variable SLUICEGATE_LEASES__MAX_LEASE: leases.max_lease: unknown key; did you mean `max_leases`?",
            "environment variable SLUICEGATE_APP_NAME: app_name: unknown key",
            "two underscores",
            "environment variable SLUICEGATE_APP__NAME__MORE: app.name.more: found \"abc\"",
            "environment variable SLUICEGATE_STREAMS__7__NAME: streams.7.name: found the path 7.name",
            "--set checkpoint.intervall: checkpoint.intervall: unknown key; did you mean `interval`?",
            "--set app..name: app..name: found an empty part",
        ],
    );
}

#[test]
fn secrets_come_from_the_environment_or_a_file_and_are_never_shown() {
    let value = "correct horse battery staple, and more";
    let config = load_all("", &[("SLUICEGATE_SECRETS__PEPPER", value)], &[]).unwrap();
    assert_eq!(config.secrets.pepper.as_ref().unwrap().expose(), value.as_bytes());
    assert!(!format!("{config:?}").contains("horse") && !config.print().contains("horse"));
    assert!(config.print().contains("# pepper is set by SLUICEGATE_SECRETS__PEPPER and not shown"));

    let path = std::env::temp_dir().join(format!("sluicegate-secret-{}", std::process::id()));
    std::fs::write(&path, format!("{value}\n")).unwrap();
    let text = format!("[secrets]\nlink_signing_key_file = {path:?}\n");
    let config = load(&text).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(config.secrets.link_signing_key.unwrap().expose(), value.as_bytes());
    refused(
        load(&text),
        &["line 2", "secrets.link_signing_key_file: found", "allowed is a file that can be read"],
    );

    let error = refused(
        load(&format!("[secrets]\npepper = \"{value}\"\n")),
        &[
            "line 2",
            "secrets.pepper: a secret stands in the environment (SLUICEGATE_SECRETS__PEPPER) or in a file",
        ],
    );
    assert!(!error.contains("horse"), "{error}");
    let short = load_all("", &[("SLUICEGATE_SECRETS__PEPPER", "horse")], &[]);
    let error = refused(
        short,
        &[
            "SLUICEGATE_SECRETS__PEPPER: secrets.pepper",
            "found 5 bytes; allowed is 32 to 4096 bytes",
        ],
    );
    assert!(!error.contains("horse"), "{error}");
}

#[test]
fn what_a_service_needs_is_required_of_it_alone() {
    let config = load("").unwrap();
    let error = config.require(Service::Api).unwrap_err().to_string();
    for part in [
        "secrets.pepper: missing; needed is at least 32 random bytes in SLUICEGATE_SECRETS__PEPPER",
        "secrets.link_signing_key",
        "api.tls",
    ] {
        assert!(error.contains(part), "{part:?} is missing in:\n{error}");
    }
    let error = config.require(Service::Processor).unwrap_err().to_string();
    assert!(error.contains("streams: missing"), "{error}");
    let config = load("[[streams]]\nname = \"a\"\n").unwrap();
    assert_eq!(config.require(Service::Processor), Ok(()));
    let error = load("[api.tls]\ncert = \"c.pem\"\n");
    refused(error, &["api.tls.key: missing"]);
}

#[test]
fn what_is_printed_gives_the_same_configuration() {
    let text = "[memory]\nsync_store = \"64MiB\"\n[[streams]]\nname = \"a\"\nstart = \"latest\"\n[[integrations]]\nname = \"q\"\nmatch = [{ pointer = \"/t\", equals = \"q\" }]\nentity = \"/e\"\nretention = \"3d\"\n";
    let config = load(text).unwrap();
    let again = load(&config.print()).unwrap();
    assert_eq!(settings(&again), settings(&config));
    assert_eq!(again.written_integrations, config.written_integrations);
    assert_eq!(again.memory.sync_store.of(1), 64 << 20);
    assert_eq!(again.integrations.get(0).retention(), Duration::from_secs(3 * 86_400));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some("/nowhere/sluicegate.toml".as_ref()), std::iter::empty(), &[]);
    refused(error, &["/nowhere/sluicegate.toml: cannot be read"]);
}

#[test]
fn issuers_of_access_tokens_say_whom_they_are_for() {
    let issuer = "[[api.oauth.issuers]]\nissuer = \"https://login.example/a\"\n";
    let read = load(&format!("{issuer}audiences = [\"https://api.example\"]\n")).unwrap();
    let expected = ::api::Issuer {
        audiences: vec!["https://api.example".to_owned()],
        ..::api::Issuer::new("https://login.example/a")
    };
    assert_eq!(read.api.oauth.issuers, [expected]);
    assert!(load(&format!("{issuer}without_audience = true\n")).is_ok());
    refused(load(issuer), &["api.oauth.issuers[0].audiences: missing", "without_audience = true"]);
    let both = format!("{issuer}without_audience = true\naudiences = [\"a\"]\n");
    refused(load(&both), &["line 3", "without_audience", "one of the two"]);
    let algorithm = format!("{issuer}audiences = [\"a\"]\nalgorithms = [\"HS256\"]\n");
    refused(load(&algorithm), &["algorithms: found a list of 1", "RS256"]);
    refused(load("[[api.oauth.issuers]]\naudiences = [\"a\"]\n"), &["issuers[0].issuer: missing"]);
    let plain = "[[api.oauth.issuers]]\nissuer = \"http://login.example\"\naudiences = [\"a\"]\n";
    refused(load(plain), &["line 2", "an https URL"]);
    let one = format!("{issuer}audiences = [\"a\"]\nleeway = \"61s\"\n");
    refused(load(&one), &["leeway: found \"61s\""]);
    let one = format!("{issuer}audiences = [\"a\"]\n");
    refused(load(&format!("{one}{one}")), &["https://login.example/a twice", "every issuer once"]);
}
