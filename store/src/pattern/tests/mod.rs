//! The language by examples: what matches, what does not, what is refused and how; and drawn at random against a
//! reader that is plain and slow.

mod drawn;
mod table;

use super::*;

/// Whether the pattern matches the message; the plain reader has to agree.
fn matches(pattern: &str, message: &str) -> bool {
    let pattern = Pattern::parse(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
    let mut reader = Reader::default();
    let found = pattern.matches(&reader.read(message.as_bytes()).unwrap());
    assert_eq!(
        fuzzing::plainly(pattern.as_json(), message),
        Some(found),
        "{pattern} about {message}"
    );
    found
}

const PAGE: &str = include_str!("../../../../docs/filters.md");

#[test]
fn what_the_page_says_is_true() {
    let message = PAGE.split("```json").nth(1).unwrap().split("```").next().unwrap();
    let rows: Vec<&str> =
        PAGE.lines().filter(|l| l.starts_with("| `{") || l.starts_with("| `\"")).collect();
    assert_eq!(rows.len(), 11, "{rows:#?}");
    for row in rows {
        let example = row.rsplit('|').nth(1).unwrap().trim().trim_matches('`');
        assert!(matches(example, message), "{row}");
    }
    for refused in [
        r#"{"properties":{"mag":[{"numeric":[">"]}]}}"#,
        r#"{"properties":{"net":"uw"}}"#,
        r#"{"id":[{"prefx":"uw"}]}"#,
    ] {
        let said = error(refused);
        assert!(PAGE.contains(&format!("    {said}\n")), "{said}");
    }
    for limit in [
        "8,192",
        "16",
        "64",
        "512",
        "8, never two beside each other",
        "100, each of 1 to 256 bytes",
    ] {
        assert!(PAGE.contains(&format!("| {limit} |")), "{limit}");
    }
    let limits = (MAX_PATTERN_BYTES, MAX_PATTERN_DEPTH, MAX_PATTERN_FIELDS);
    assert_eq!(limits, (8_192, 16, 64));
    assert_eq!((MAX_PATTERN_ALTERNATIVES, MAX_WILDCARDS), (512, 8));
}

fn error(pattern: &str) -> String {
    Pattern::parse(pattern).expect_err(pattern).to_string()
}

#[test]
fn errors_name_the_place_what_was_found_and_what_is_allowed() {
    for (pattern, wanted) in [
        ("", "the filter is not JSON: "),
        (r#"{"a":["#, "the filter is not JSON: "),
        (r#"{"a":[1e999]}"#, "the filter is not JSON: InvalidNumber"),
        ("[]", "the filter at its top: found an empty array; an object of at least one field"),
        ("{}", "the filter at its top: found an empty object; an object of at least one field"),
        (r#"{"a":{}}"#, "the filter at `/a`: found an empty object; an object of at least one"),
        (r#"{"a":"x"}"#, "the filter at `/a`: found \"x\"; an array of alternatives is allowed"),
        (r#"{"a":[]}"#, "the filter at `/a`: found an empty array; an array of alternatives"),
        (r#"{"a/b":{"~":[[1]]}}"#, "the filter at `/a~1b/~0/0`: found an array of 1; a string, a"),
        (r#"{"a":[{"prefix":"x","suffix":"y"}]}"#, "the filter at `/a/0`: found an object of 2; "),
        (
            r#"{"a":[{"cidr":"10.0.0.0/8"}]}"#,
            "the filter at `/a/0/cidr`: found no operator; the op",
        ),
        (
            r#"{"a":[{"prefix":5}]}"#,
            "the filter at `/a/0/prefix`: found 5; a string is allowed, or",
        ),
        (r#"{"a":[{"prefix":{"suffix":"x"}}]}"#, "the filter at `/a/0/prefix`: found an object of"),
        (r#"{"a":["x",{"exists":1}]}"#, "the filter at `/a/1/exists`: found 1; true or false"),
        (r#"{"a":[{"numeric":[">"]}]}"#, "the filter at `/a/0/numeric`: found an array of 1; one"),
        (r#"{"a":[{"numeric":["~",1]}]}"#, "the filter at `/a/0/numeric`: found an array of 2; on"),
        (r#"{"a":[{"numeric":[">",1,">",2]}]}"#, "found an array of 4; two comparisons must bound"),
        (r#"{"a":[{"numeric":[">",2,"<",1]}]}"#, "found bounds that fit no number; two compariso"),
        (r#"{"a":[{"anything-but":[]}]}"#, "`/a/0/anything-but`: found an empty array; a string"),
        (
            r#"{"a":[{"anything-but":{"numeric":1}}]}"#,
            "`/a/0/anything-but/numeric`: found no opera",
        ),
        (r#"{"a":[{"anything-but":{"prefix":[]}}]}"#, "`/a/0/anything-but/prefix`: found an empty"),
        (
            r#"{"a":[{"wildcard":"a**"}]}"#,
            "found \"a**\"; one `*` beside another says nothing more",
        ),
        (
            r#"{"$or":[{"a":[1]}]}"#,
            "the filter at `/$or`: found an array of 1; an array of at leas",
        ),
        (r#"{"$or":[{"a":[1]},5]}"#, "the filter at `/$or/1`: found 5; an object of at least one"),
        (r#"{"a":[1],"a":[2]}"#, "the filter at `/a`: found this field twice; each field once"),
    ] {
        let found = error(pattern);
        assert!(found.contains(wanted), "{pattern}:\n{found}\n{wanted}");
    }
}

#[test]
fn a_pattern_is_bounded() {
    let long = format!(r#"{{"a":["{}"]}}"#, "x".repeat(MAX_PATTERN_BYTES));
    assert!(error(&long).ends_with("bytes: up to 8192 are allowed"), "{}", error(&long));
    let nested = |n: usize| format!("{}[1]{}", r#"{"a":"#.repeat(n), "}".repeat(n));
    assert!(Pattern::parse(&nested(MAX_PATTERN_DEPTH)).is_ok());
    assert_eq!(
        error(&nested(MAX_PATTERN_DEPTH + 1)),
        "the filter has 17 levels: up to 16 are allowed"
    );
    let fields = |n: usize| {
        let fields: Vec<_> = (0..n).map(|n| format!(r#""f{n}":[{{"exists":false}}]"#)).collect();
        format!("{{{}}}", fields.join(","))
    };
    assert!(matches(&fields(MAX_PATTERN_FIELDS), r#"{"f":1}"#));
    assert!(!matches(&fields(MAX_PATTERN_FIELDS), r#"{"f63":1}"#));
    assert_eq!(
        error(&fields(MAX_PATTERN_FIELDS + 1)),
        "the filter has 65 fields: up to 64 are allowed"
    );
    let wide = |n: usize| format!(r#"{{"a":[1{}]}}"#, ",1".repeat(n - 1));
    assert!(Pattern::parse(&wide(MAX_PATTERN_ALTERNATIVES)).is_ok());
    assert!(error(&wide(MAX_PATTERN_ALTERNATIVES + 1)).contains("513 alternatives"));
}

#[test]
fn a_pattern_is_written_as_it_was_given() {
    let json = r#"{ "b": [1.50, {"exists": true}], "a": ["\u0041"] }"#;
    let pattern = Pattern::parse(json).unwrap();
    assert_eq!(serde_json::to_string(&pattern).unwrap(), json);
    assert_eq!(serde_json::from_str::<Pattern>(json).unwrap(), pattern);
    let value = serde_json::to_value(&pattern).unwrap();
    assert_eq!(value["a"][0], "A");
    let again: Pattern = serde_json::from_value(value).unwrap();
    let mut reader = Reader::default();
    assert!(again.matches(&reader.read(br#"{"a":"A","b":15e-1}"#).unwrap()));
    assert_eq!(format!("{pattern:?}"), format!("Pattern({json:?})"));
    let refused = serde_json::from_str::<Pattern>(r#"{"a":1}"#).unwrap_err();
    assert!(refused.to_string().contains("the filter at `/a`"), "{refused}");
}

#[test]
fn what_no_document_can_be_made_of_is_said_and_spoils_nothing() {
    let mut reader = Reader::default();
    let pattern = Pattern::parse(r#"{"a":["x"]}"#).unwrap();
    for unreadable in [
        &b""[..],
        b"{",
        b"{\"a\":\"\xff\"}",
        br#"{"a":1e999}"#,
        br#"{"a":"\ud800"}"#,
        "[".repeat(2_000).as_bytes(),
        format!("{}{}", "[".repeat(1_100), "]".repeat(1_100)).as_bytes(),
    ] {
        let error = reader.read(unreadable).expect_err("no document");
        assert!(!error.detail.is_empty());
        assert!(pattern.matches(&reader.read(br#"{"a":"x"}"#).unwrap()), "the next one is read");
    }
    let deep = format!(r#"{{"a":{}"x"{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    assert!(pattern.matches(&reader.read(deep.as_bytes()).unwrap()));
    let large = format!(r#"{{"pad":"{}","a":"x"}}"#, "p".repeat(1 << 20));
    assert!(pattern.matches(&reader.read(large.as_bytes()).unwrap()));
    assert!(!pattern.matches(&reader.read(br#"{"a":"y"}"#).unwrap()));
    assert!(format!("{reader:?}").len() < 60, "what grew was let go of: {reader:?}");
}

#[test]
fn a_text_is_found_by_its_pointer() {
    let mut reader = Reader::default();
    let document =
        reader.read(br#"{"a":{"b":["x",{"c":"y"}]},"n":1,"t":"first","t":"last"}"#).unwrap();
    let at = |pointer: &str| document.text_at(pointer.split('/').skip(1)).map(str::to_owned);
    assert_eq!(at("/a/b/0").as_deref(), Some("x"));
    assert_eq!(at("/a/b/1/c").as_deref(), Some("y"));
    assert_eq!(at("/t").as_deref(), Some("last"));
    for none in ["/a", "/n", "/a/b/2", "/a/b/01", "/a/b/+0", "/z/z"] {
        assert_eq!(at(none), None, "{none}");
    }
}

#[test]
fn a_hostile_message_costs_what_its_length_does() {
    // Each element asks whether a path is absent that leads through all of them.
    let pattern = r#"{"a":{"b":[{"exists":false}],"c":["x"]}}"#;
    let pattern = Pattern::parse(pattern).unwrap();
    let elements = vec![r#"{"c":"x"}"#; 50_000].join(",");
    let message = format!(r#"{{"a":[{elements},{{"b":1}}]}}"#);
    let mut reader = Reader::default();
    let document = reader.read(message.as_bytes()).unwrap();
    // 50,000 looks at 50,000 elements would take minutes in a test build.
    assert!(!pattern.matches(&document));
}
