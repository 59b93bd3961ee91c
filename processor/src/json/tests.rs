//! The scanner against serde_json, which is as strict.

use fastrand::Rng;
use serde::de::IgnoredAny;

use super::*;

fn is_json(text: &[u8]) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.skip().and_then(|()| scanner.end()).is_ok()
}

#[test]
fn what_is_passed_over_is_json_and_nothing_else() {
    for good in [
        "null",
        " true ",
        "-0",
        "0.5e-3",
        "1E+9",
        "\"\"",
        "\"a\\u00fC\\\\\\/\\n\"",
        "[]",
        "{}",
        "[[],{},[{}]]",
        "{\"a\":[1,2,{\"b\":null}],\"a\":\"\u{fc}\"}",
        "\t[\r1\n, 2 ] ",
        "\"twelve bytes and\\\" more than that\"",
    ] {
        assert!(is_json(good.as_bytes()), "{good}");
    }
    for bad in [
        "",
        " ",
        "nul",
        "nulll",
        "tru",
        "01",
        "1.",
        ".5",
        "1e",
        "-",
        "+1",
        "0x1",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u123g\"",
        "\"\u{1}\"",
        "\"tab\tin a long string\"",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "{1:2}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "[}",
        "{]",
        "[1}",
        "{\"a\":1]",
        "1 2",
        "[]]",
        "\u{feff}1",
        "'a'",
        "NaN",
        "//\n1",
    ] {
        assert!(!is_json(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn nesting_is_followed_exactly_and_without_recursion() {
    for depth in [1, 63, 64, 65, 127, 128, 129, 1000, 200_000] {
        let mut rng = Rng::with_seed(depth as u64);
        let kinds: Vec<bool> = (0..depth).map(|_| rng.bool()).collect();
        let mut text: String = kinds.iter().map(|o| if *o { "{\"k\":" } else { "[" }).collect();
        text.push('1');
        text.extend(kinds.iter().rev().map(|is_object| if *is_object { '}' } else { ']' }));
        assert!(is_json(text.as_bytes()), "{depth}");
        assert!(!is_json(&text.as_bytes()[..text.len() - 1]), "{depth}");
        let at = text.len() - 1 - rng.usize(..depth);
        let mut wrong = text.into_bytes();
        wrong[at] = if wrong[at] == b'}' { b']' } else { b'}' };
        assert!(!is_json(&wrong), "{depth}");
    }
}

#[test]
fn where_a_text_is_broken_is_said_in_lines_and_columns() {
    let text = b"{\"a\":1,\n \"b\":x}";
    let broken = Scanner::new(text).skip().unwrap_err();
    assert_eq!(broken.describe(text), "`x` at line 2 column 6, where a value is wanted");
    let broken = Scanner::new(b"[1").skip().unwrap_err();
    assert_eq!(broken.describe(b"[1"), "the end at line 1 column 3, where `,` or `]` is wanted");
}

#[test]
fn strings_mean_what_serde_json_reads() {
    let mut rng = Rng::with_seed(5);
    let parts = [
        "a",
        "\\n",
        "\\\"",
        "\\\\",
        "\\/",
        "\\u00fc",
        "\\ud83d\\ude00",
        "ü",
        "😀",
        "\\ud83d",
        "\\udc00 ",
    ];
    for _ in 0..5000 {
        let inside: String = (0..rng.usize(..6)).map(|_| rng.choice(parts).unwrap()).collect();
        let quoted = format!("\"{inside}\"");
        let text = Scanner::new(quoted.as_bytes()).string().unwrap();
        assert_eq!(text.raw(), inside.as_bytes());
        let wanted = serde_json::from_str::<String>(&quoted).ok();
        assert_eq!(text.meaning().map(String::from), wanted, "{quoted}");
        let unchecked = Scanner::new(quoted.as_bytes()).string_unchecked().unwrap();
        assert_eq!(unchecked, inside.as_bytes());
    }
}

#[test]
fn damaged_texts_are_refused_exactly_when_serde_json_refuses_them() {
    let quakes = include_str!("../../../tests/data/earthquakes.ndjson");
    let mut rng = Rng::with_seed(6);
    let mut refused = 0;
    for line in quakes.lines() {
        let mut bytes = line.as_bytes().to_vec();
        for _ in 0..rng.u32(1..4) {
            let at = rng.usize(..bytes.len());
            match rng.u32(..3) {
                0 => bytes[at] = rng.u8(..0x80),
                1 => bytes[at] = *rng.choice(b"{}[]\",:\\0e").unwrap(),
                _ => drop(bytes.remove(at)),
            }
        }
        let Ok(text) = str::from_utf8(&bytes) else { continue };
        let valid = serde_json::from_str::<IgnoredAny>(text).is_ok();
        assert_eq!(is_json(&bytes), valid, "{text}");
        refused += usize::from(!valid);
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn a_string_of_digits_is_taken_whole_or_not_at_all() {
    let taken = |text: &str| {
        let mut scanner = Scanner::new(text.as_bytes());
        let digits = scanner.digits_string().map(|digits| digits.escape_ascii().to_string());
        (digits, scanner.at())
    };
    let digits = "49590338271490256608559692538361571095921575989136588898";
    for end in 1..=digits.len() {
        let whole = format!("\"{}\",", &digits[..end]);
        assert_eq!(taken(&whole), (Some(digits[..end].to_owned()), end + 2));
    }
    for other in ["\"\"", "\"12a\"", "\"12\\u0033\"", "\"12", "12\"", "\"", "", "\"1 2\""] {
        assert_eq!(taken(other), (None, 0), "{other}");
    }
}
