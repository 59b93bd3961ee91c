//! Patterns and messages that a seed draws, and the corpus of the fuzz target.

use std::path::Path;

use fastrand::Rng;

use super::*;

const QUAKES: &str = include_str!("../../../../tests/data/earthquakes.ndjson");
const NAMES: [&str; 4] = ["a", "b", "c", "ab"];
const TEXTS: [&str; 6] = ["", "x", "xy", "XY", "yx*", "éx"];
const NUMBERS: [&str; 8] =
    ["0", "1", "1.0", "-1", "2.5", "10e-1", "9007199254740993", "9007199254740992.0"];

fn text(rng: &mut Rng) -> String {
    format!("\"{}\"", rng.choice(TEXTS).unwrap())
}

fn scalar(rng: &mut Rng) -> String {
    match rng.u8(..8) {
        0 => "null".to_owned(),
        1 => rng.bool().to_string(),
        2..5 => rng.choice(NUMBERS).unwrap().to_owned(),
        _ => text(rng),
    }
}

fn list(rng: &mut Rng, most: usize, draw: impl Fn(&mut Rng) -> String) -> String {
    let drawn: Vec<String> = (0..rng.usize(1..=most)).map(|_| draw(rng)).collect();
    format!("[{}]", drawn.join(","))
}

/// With arrays of everything, and keys that come twice.
fn message(rng: &mut Rng, depth: usize) -> String {
    match rng.u8(..10) {
        0..4 if depth > 0 => {
            let member = |rng: &mut Rng| {
                format!("\"{}\":{}", rng.choice(NAMES).unwrap(), message(rng, depth - 1))
            };
            let members: Vec<String> = (0..rng.usize(..4)).map(|_| member(rng)).collect();
            format!("{{{}}}", members.join(","))
        }
        4..6 if depth > 0 => list(rng, 3, |rng| message(rng, depth - 1)),
        6 => "[]".to_owned(),
        _ => scalar(rng),
    }
}

fn whole_message(rng: &mut Rng) -> String {
    let members: Vec<String> =
        NAMES.iter().map(|name| format!("\"{name}\":{}", message(rng, 3))).collect();
    format!("{{{}}}", members[rng.usize(..2)..].join(","))
}

fn operator(rng: &mut Rng) -> String {
    match rng.u8(..10) {
        0 => format!(r#"{{"prefix":{}}}"#, text(rng)),
        1 => format!(r#"{{"suffix":{{"equals-ignore-case":{}}}}}"#, text(rng)),
        2 => format!(r#"{{"equals-ignore-case":{}}}"#, text(rng)),
        3 => format!(r#"{{"wildcard":{}}}"#, text(rng)),
        4 | 5 => format!(r#"{{"exists":{}}}"#, rng.bool()),
        6 => format!(r#"{{"anything-but":{}}}"#, list(rng, 3, scalar)),
        7 => format!(r#"{{"anything-but":{{"prefix":{}}}}}"#, list(rng, 2, text)),
        8 => format!(r#"{{"numeric":[">",{},"<=",9e15]}}"#, rng.choice(NUMBERS).unwrap()),
        _ => format!(
            r#"{{"numeric":["{}",{}]}}"#,
            rng.choice(["=", "<", "<=", ">", ">="]).unwrap(),
            rng.choice(NUMBERS).unwrap()
        ),
    }
}

fn pattern(rng: &mut Rng, depth: usize) -> String {
    let mut names = NAMES.to_vec();
    rng.shuffle(&mut names);
    let mut members = Vec::new();
    for name in &names[..rng.usize(1..3)] {
        let asked = match rng.u8(..3) {
            0 if depth > 0 => pattern(rng, depth - 1),
            1 => list(rng, 4, scalar),
            _ => list(rng, 3, |rng| if rng.bool() { scalar(rng) } else { operator(rng) }),
        };
        members.push(format!("\"{name}\":{asked}"));
    }
    if depth > 0 && rng.u8(..4) == 0 {
        let (one, other) = (pattern(rng, depth - 1), pattern(rng, depth - 1));
        members.push(format!("\"$or\":[{one},{other}]"));
    }
    format!("{{{}}}", members.join(","))
}

#[test]
fn it_agrees_with_a_plain_reader() {
    let mut rng = Rng::with_seed(7);
    let (mut yes, mut no) = (0, 0);
    for _ in 0..20_000 {
        let depth = rng.usize(..3);
        let (pattern, message) = (pattern(&mut rng, depth), whole_message(&mut rng));
        if Pattern::parse(&pattern).is_err() {
            // A range that is drawn empty.
            assert!(error(&pattern).contains("bounds that fit no number"), "{pattern}");
            continue;
        }
        *if matches(&pattern, &message) { &mut yes } else { &mut no } += 1;
    }
    assert!(yes > 1_000 && no > 1_000, "both happen: {yes} match, {no} do not");
}

#[test]
fn a_set_answers_as_each_of_its_patterns() {
    let mut rng = Rng::with_seed(11);
    let mut drawn = || {
        std::iter::from_fn(|| Some(pattern(&mut rng, 2)))
            .find_map(|p| Pattern::parse(&p).ok())
            .unwrap()
    };
    let patterns: Vec<Pattern> = (0..500).map(|_| drawn()).collect();
    let set = PatternSet::new((0..).zip(patterns.iter().cloned()));
    let (mut reader, mut together, mut matched) = (Reader::default(), Vec::new(), 0);
    let mut answers = Answers::default();
    for _ in 0..2_000 {
        let message = whole_message(&mut rng);
        let document = reader.read(message.as_bytes()).unwrap();
        let singly = (0..).zip(&patterns).filter(|(_, pattern)| pattern.matches(&document));
        let singly: Vec<u32> = singly.map(|(number, _)| number).collect();
        together.clear();
        together.push(u32::MAX);
        set.matching(&document, &mut answers, &mut together);
        assert_eq!(together.remove(0), u32::MAX, "what was there stays");
        together.sort_unstable();
        assert_eq!(together, singly, "{message}");
        matched += singly.len();
    }
    assert!(matched > 10_000, "{matched}");
    assert!(!set.is_empty() && PatternSet::default().is_empty());
    let nothing = reader.read(b"{}").unwrap();
    PatternSet::default().matching(&nothing, &mut answers, &mut together);
}

#[test]
fn real_messages_are_filtered_as_a_plain_reader_filters_them() {
    let mut matched = Vec::new();
    for pattern in [
        r#"{"properties":{"net":["us","nc"],"mag":[{"numeric":[">=",4.5]}]}}"#,
        r#"{"properties":{"types":[{"wildcard":"*,moment-tensor,*"}],"tsunami":[1]}}"#,
        r#"{"properties":{"felt":[{"anything-but":null}]},"geometry":{"coordinates":[{"numeric":["<",-150]}]}}"#,
        r#"{"$or":[{"properties":{"type":[{"anything-but":"earthquake"}]}},{"id":[{"prefix":"ak"}]}]}"#,
        r#"{"properties":{"alert":[{"exists":true}],"status":["automatic"]}}"#,
    ] {
        matched.push(QUAKES.lines().filter(|line| matches(pattern, line)).count());
    }
    assert!(matched.iter().all(|n| (1..1_700).contains(n)), "{matched:?}");
}

#[test]
fn filters_hold_over_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../processor/fuzz/corpus/filter");
    let mut inputs: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() > 3, "{inputs:?}");
    let mut rng = Rng::with_seed(5);
    for path in inputs {
        let input = std::fs::read(&path).unwrap();
        fuzzing::filter(&input);
        for _ in 0..200 {
            let mut damaged = input.clone();
            for _ in 0..rng.u32(1..4) {
                let at = rng.usize(..damaged.len());
                match rng.u32(..3) {
                    0 => damaged[at] ^= 1 << rng.u32(..8),
                    1 => damaged[at] = *rng.choice(b"{}[]\",:\\0e-\n*").unwrap(),
                    _ => damaged.insert(at, *rng.choice(b"{}[]\",:\\0e-\n*").unwrap()),
                }
            }
            fuzzing::filter(&damaged);
        }
    }
}
