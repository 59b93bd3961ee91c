use std::borrow::Cow;

use super::*;

fn integration(json: &str) -> Integration {
    serde_json::from_str(json).unwrap()
}

fn refused(json: &str) -> String {
    serde_json::from_str::<Integration>(json).unwrap_err().to_string()
}

fn compile(all: &[&str]) -> Result<Integrations, IntegrationError> {
    Integrations::compile(all.iter().map(|json| integration(json)).collect())
}

#[test]
fn a_pointer_is_checked_when_it_is_made() {
    let pointer = Pointer::parse("/a~1b/c~0d//0").unwrap();
    assert_eq!(pointer.tokens().collect::<Vec<_>>(), ["a/b", "c~d", "", "0"]);
    assert_eq!(pointer.to_string(), "/a~1b/c~0d//0");
    assert_eq!(Pointer::parse(""), Err(PointerError::WholeMessage));
    for bad in ["type", "/a~", "/a~2"] {
        let error = Pointer::parse(bad).unwrap_err().to_string();
        assert!(error.contains(bad), "{error}");
    }
    assert!(Pointer::parse("type").unwrap_err().to_string().contains("like `/type`"));
    assert!(Pointer::parse("/a~2").unwrap_err().to_string().contains("`0` (for `~`)"));
    assert!(Pointer::parse(&"/x".repeat(32)).is_ok());
    let deep = Pointer::parse(&"/x".repeat(33)).unwrap_err().to_string();
    assert!(deep.contains("33 levels") && deep.contains("32 levels"), "{deep}");
}

#[test]
fn an_integration_is_read_with_its_defaults_and_written_back() {
    let plain = integration(r#"{"name":"orders","match":[{"pointer":"/type","equals":"order"}]}"#);
    assert_eq!(plain.name().as_str(), "orders");
    assert_eq!(plain.retention(), DEFAULT_RETENTION);
    assert_eq!(plain.max_message_bytes(), DEFAULT_MAX_MESSAGE_BYTES);
    assert!(plain.keeps_messages());
    let full = integration(
        r#"{"name":"quakes","match":[{"pointer":"/properties/type","in":["earthquake",1,true]},
            {"cloud_event":"type","prefix":"com."},{"pointer":"/x","exists":false}],
            "entity":"/properties/net","time":{"pointer":"/properties/time","format":"epoch-ms"},"type":"/properties/type",
            "retention":"36h","max_message_bytes":"256KiB","required":["/id"],"stores":[]}"#,
    );
    assert_eq!(full.retention(), Duration::from_secs(36 * 3600));
    assert_eq!(full.max_message_bytes(), 256 * 1024);
    assert!(!full.keeps_messages());
    assert_eq!(full.event_type().map(Pointer::as_str), Some("/properties/type"));
    let written = serde_json::to_string(&full).unwrap();
    assert!(written.contains(r#""retention":"36h""#), "{written}");
    assert_eq!(integration(&written), full);
}

#[test]
fn what_configuration_cannot_mean_is_said_in_words() {
    for (json, words) in [
        (r#"{"name":"a","mach":[]}"#, "unknown field `mach`"),
        (r#"{"name":"A"}"#, "\"A\""),
        (r#"{"name":"a","entity":"id"}"#, "must begin with `/`"),
        (r#"{"name":"a","retention":"5 weeks"}"#, "5 weeks"),
        (r#"{"name":"a","retention":"0s"}"#, "at least one second"),
        (r#"{"name":"a","max_message_bytes":-1}"#, "integer `-1`"),
        (r#"{"name":"a","max_message_bytes":"11MiB"}"#, "1 byte to 10 MiB"),
        (r#"{"name":"a","max_message_bytes":true}"#, "expected a size"),
        (r#"{"name":"a","stores":["sql"]}"#, "unknown variant `sql`"),
        (r#"{"name":"a","time":{"pointer":"/t","format":"ms"}}"#, "unknown variant `ms`"),
        (r#"{"name":"a","match":[{"equals":1}]}"#, "exactly one field"),
        (r#"{"name":"a","match":[{"pointer":"/a","cloud_event":"type","equals":1}]}"#, "both are"),
        (r#"{"name":"a","match":[{"pointer":"/a"}]}"#, "0 are given"),
        (r#"{"name":"a","match":[{"pointer":"/a","equals":1,"exists":true}]}"#, "2 are given"),
        (r#"{"name":"a","match":[{"pointer":"/a","in":[]}]}"#, "`in` must not be empty"),
        (r#"{"name":"a","match":[{"pointer":"/a","prefix":""}]}"#, "`prefix` must not be empty"),
        (
            r#"{"name":"a","match":[{"cloud_event":"time","exists":true}]}"#,
            "unknown variant `time`",
        ),
    ] {
        let error = refused(json);
        assert!(error.contains(words), "{json}: {error}");
    }
}

#[test]
fn integrations_are_checked_against_each_other() {
    let orders = r#"{"name":"orders","match":[{"pointer":"/type","equals":"order"}]}"#;
    let error = compile(&[orders, r#"{"name":"default"}"#, orders]).unwrap_err();
    let duplicate = IntegrationError::Duplicate {
        name: IntegrationName::parse("orders").unwrap(),
        first: 1,
        second: 3,
    };
    assert_eq!(error, duplicate);
    let error = compile(&[r#"{"name":"all"}"#]).unwrap_err().to_string();
    assert!(error.contains("`all` has no `match`"), "{error}");
    let error = compile(&[r#"{"name":"default","match":[{"pointer":"/a","exists":true}]}"#]);
    assert_eq!(error.unwrap_err(), IntegrationError::DefaultWithCondition);
    let error = compile(&[r#"{"name":"default","required":["/a","/b","/a"]}"#]).unwrap_err();
    assert!(error.to_string().contains("requires `/a` twice"));
    let error = compile(&[r#"{"name":"default","tail":true,"stores":[]}"#]).unwrap_err();
    assert!(error.to_string().contains("`tail`, but is kept in no store"), "{error}");
    assert!(compile(&[r#"{"name":"default","tail":true}"#]).unwrap().get(0).tail());
}

#[test]
fn default_is_always_there_and_always_last() {
    let none = Integrations::compile(Vec::new()).unwrap();
    assert_eq!(none.iter().len(), 1);
    assert_eq!(none.default_integration().name().as_str(), "default");
    let both = compile(&[
        r#"{"name":"default","retention":"1d"}"#,
        r#"{"name":"orders","match":[{"pointer":"/type","equals":"order"}]}"#,
    ])
    .unwrap();
    assert_eq!(both.default_integration().retention(), Duration::from_secs(86_400));
    assert_eq!(both.index_of(both.default_integration().name()), Some(1));
    assert_eq!(both.get(0).name().as_str(), "orders");
}

#[test]
fn the_tree_has_one_slot_for_each_pointer_and_knows_what_lies_below() {
    let pointers = ["/a/b", "/a", "/a/0", "/c", "/a/b"].map(|p| Pointer::parse(p).unwrap());
    let tree = Tree::new(&pointers);
    assert_eq!(tree.slots(), 4);
    let a = tree.child(tree.root(), b"a").unwrap();
    assert_eq!(tree.slots_below(a).len(), 3);
    assert!(!tree.is_leaf(a) && tree.slot(a).is_some());
    assert!(tree.element(a, 0).is_some() && tree.element(a, 1).is_none());
    assert!(tree.child(tree.root(), b"b").is_none());
    let slots: std::collections::BTreeSet<usize> =
        pointers.iter().map(|p| tree.slot_of(p).unwrap().0).collect();
    assert_eq!(slots.len(), 4);
}

#[test]
fn conditions_compare_values_and_never_convert_kinds() {
    let text = |s: &'static str| FieldValue::String(Cow::Borrowed(s));
    let holds = |test: &Test, value: FieldValue<'_>| test.holds(Some(&value));
    let one = Test::Equals(Scalar::Integer(1));
    assert!(holds(&one, FieldValue::Number("1")) && holds(&one, FieldValue::Number("1.0")));
    assert!(!holds(&one, FieldValue::Number("1.5")) && !holds(&one, text("1")));
    // Beyond 2^53 two neighbours are one float: only the text tells them apart.
    let large = Test::Equals(Scalar::Integer(9_007_199_254_740_993));
    assert!(holds(&large, FieldValue::Number("9007199254740993")));
    assert!(!holds(&large, FieldValue::Number("9007199254740992.0")));
    let some =
        Test::In(vec![Scalar::String("uw".to_owned()), Scalar::Float(0.5), Scalar::Bool(true)]);
    assert!(holds(&some, text("uw")) && holds(&some, FieldValue::Number("5e-1")));
    assert!(holds(&some, FieldValue::Bool(true)) && !holds(&some, FieldValue::Bool(false)));
    let prefix = Test::Prefix("com.".to_owned());
    assert!(holds(&prefix, text("com.example")) && !holds(&prefix, text("org")));
    assert!(!holds(&prefix, FieldValue::Number("1")) && !prefix.holds(None));
    let absent = Test::Exists(false);
    assert!(absent.holds(None) && !holds(&absent, FieldValue::Null));
    assert!(holds(&Test::Exists(true), FieldValue::Null) && !Test::Exists(true).holds(None));
}

#[test]
fn times_are_read_in_their_format() {
    let number = |n: &'static str| FieldValue::Number(n);
    let text = |s: &'static str| FieldValue::String(Cow::Borrowed(s));
    for (format, value, ms) in [
        (TimeFormat::EpochMs, number("1517363399650"), 1_517_363_399_650),
        (TimeFormat::EpochMs, text("1517363399650"), 1_517_363_399_650),
        (TimeFormat::EpochMs, number("1517363399650.9"), 1_517_363_399_650),
        (TimeFormat::EpochMs, number("1.5e12"), 1_500_000_000_000),
        (TimeFormat::EpochMs, number("-1"), -1),
        (TimeFormat::EpochS, number("1517363399"), 1_517_363_399_000),
        (TimeFormat::EpochS, number("1517363399.65"), 1_517_363_399_650),
        (TimeFormat::EpochS, number("1.001"), 1001),
        (TimeFormat::Rfc3339, text("1970-01-01T00:00:00Z"), 0),
        (TimeFormat::Rfc3339, text("2018-01-31T01:49:59.650Z"), 1_517_363_399_650),
        (TimeFormat::Rfc3339, text("2018-01-31t03:49:59.6509+02:00"), 1_517_363_399_650),
        (TimeFormat::Rfc3339, text("2018-01-30 17:49:59.65-08:00"), 1_517_363_399_650),
        (TimeFormat::Rfc3339, text("2016-12-31T23:59:60Z"), 1_483_228_800_000),
        (TimeFormat::Rfc3339, text("0001-01-01T00:00:00Z"), -62_135_596_800_000),
        (TimeFormat::Rfc3339, text("9999-12-31T23:59:59.999Z"), 253_402_300_799_999),
    ] {
        assert_eq!(format.parse(&value).map_err(|e| e.0), Ok(ms), "{format:?} {value:?}");
    }
}

#[test]
fn what_is_no_time_is_said_with_what_was_found() {
    let text = |s: &'static str| FieldValue::String(Cow::Borrowed(s));
    for (format, value, words) in [
        (TimeFormat::EpochMs, text("soon"), "`soon`"),
        (TimeFormat::EpochMs, text("nan"), "`nan`"),
        (TimeFormat::EpochMs, FieldValue::Object, "an object"),
        (TimeFormat::EpochMs, FieldValue::Number("1e300"), "`1e300`"),
        (TimeFormat::EpochS, FieldValue::Number("253402300800"), "outside the years"),
        (TimeFormat::EpochS, FieldValue::Number("9223372036854775807"), "epoch-s"),
        (TimeFormat::Rfc3339, FieldValue::Number("1517363399650"), "a number"),
        (TimeFormat::Rfc3339, text("2018-02-29T00:00:00Z"), "rfc3339"),
        (TimeFormat::Rfc3339, text("2018-01-31T01:49:59"), "rfc3339"),
        (TimeFormat::Rfc3339, text("2018-01-31T24:00:00Z"), "rfc3339"),
        (TimeFormat::Rfc3339, text("2018-01-31T01:49:59.Z"), "rfc3339"),
        (TimeFormat::Rfc3339, text("2018-01-31T01:49:59+2:00"), "rfc3339"),
        (TimeFormat::Rfc3339, text("２018-01-31T01:49:59Z"), "rfc3339"),
        (TimeFormat::Rfc3339, text("0000-01-01T00:00:00Z"), "rfc3339"),
    ] {
        let error = format.parse(&value).unwrap_err().0;
        assert!(error.contains(words), "{format:?} {value:?}: {error}");
    }
}

#[test]
fn every_day_of_four_centuries_follows_the_one_before() {
    let mut day = parse_rfc3339_ms("1899-12-31T00:00:00Z").unwrap();
    for year in 1900..2300 {
        for month in 1..=12 {
            for d in 1..=31 {
                if let Some(ms) = parse_rfc3339_ms(&format!("{year}-{month:02}-{d:02}T00:00:00Z")) {
                    assert_eq!(ms, day + 86_400_000, "{year}-{month}-{d}");
                    day = ms;
                }
            }
        }
    }
    assert_eq!(Some(day), parse_rfc3339_ms("2299-12-31T00:00:00Z"));
}
