//! What each part of the language means, case by case.

use super::matches;

/// A pattern, messages that match, messages that do not.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

const EXACT: &[Case] = &[
    (r#"{"a":["x"]}"#, &[r#"{"a":"x","b":1}"#], &[r#"{"a":"X"}"#, r#"{"b":"x"}"#, "{}", r#""x""#]),
    (r#"{"a":["x","y"]}"#, &[r#"{"a":"y"}"#], &[r#"{"a":"z"}"#]),
    (r#"{"a":["x"],"b":[1]}"#, &[r#"{"b":1,"a":"x"}"#], &[r#"{"a":"x"}"#, r#"{"a":"x","b":2}"#]),
    (r#"{"a":[""]}"#, &[r#"{"a":""}"#], &[r#"{"a":null}"#, "{}"]),
    (
        r#"{"a":[null]}"#,
        &[r#"{"a":null}"#],
        &["{}", r#"{"a":"null"}"#, r#"{"a":""}"#, r#"{"a":0}"#],
    ),
    (r#"{"a":[true]}"#, &[r#"{"a":true}"#], &[r#"{"a":"true"}"#, r#"{"a":1}"#, r#"{"a":false}"#]),
    (r#"{"a":["5"]}"#, &[r#"{"a":"5"}"#], &[r#"{"a":5}"#]),
    (r#"{"\u0061":["\u00e9"]}"#, &[r#"{"a":"é"}"#, r#"{"\u0061":"\u00E9"}"#], &[r#"{"a":"e"}"#]),
    (r#"{"":["x"]}"#, &[r#"{"":"x"}"#], &[r#"{"a":"x"}"#]),
    // A key that comes twice: the last one counts.
    (r#"{"a":["x"]}"#, &[r#"{"a":"y","a":"x"}"#], &[r#"{"a":"x","a":"y"}"#]),
];

const NUMBERS: &[Case] = &[
    (
        r#"{"a":[1]}"#,
        &[r#"{"a":1}"#, r#"{"a":1.0}"#, r#"{"a":10e-1}"#],
        &[r#"{"a":1.1}"#, r#"{"a":"1"}"#],
    ),
    (r#"{"a":[5.0e0]}"#, &[r#"{"a":5}"#], &[r#"{"a":-5}"#]),
    (r#"{"a":[0]}"#, &[r#"{"a":-0.0}"#, r#"{"a":-0}"#], &[r#"{"a":0.1}"#, r#"{"a":null}"#]),
    (
        r#"{"a":[9007199254740993]}"#,
        &[r#"{"a":9007199254740993}"#],
        &[r#"{"a":9007199254740992}"#, r#"{"a":9007199254740992.0}"#],
    ),
    (
        r#"{"a":[18446744073709551615]}"#,
        &[r#"{"a":18446744073709551615}"#],
        &[r#"{"a":18446744073709551616}"#],
    ),
    (
        r#"{"a":[18446744073709551617]}"#,
        &[r#"{"a":18446744073709551616}"#],
        &[r#"{"a":18446744073709551615}"#],
    ),
    (
        r#"{"a":[{"numeric":["=",301.8]}]}"#,
        &[r#"{"a":3.018e2}"#],
        &[r#"{"a":301.80001}"#, r#"{"a":"301.8"}"#],
    ),
    (
        r#"{"a":[{"numeric":[">",0,"<=",5]}]}"#,
        &[r#"{"a":5}"#, r#"{"a":1e-9}"#],
        &[r#"{"a":0}"#, r#"{"a":5.1}"#, "{}"],
    ),
    (
        r#"{"a":[{"numeric":["<",10]}]}"#,
        &[r#"{"a":-1e300}"#],
        &[r#"{"a":10}"#, r#"{"a":null}"#, r#"{"a":true}"#],
    ),
    (r#"{"a":[{"numeric":["<=",2,">=",-2]}]}"#, &[r#"{"a":-2}"#], &[r#"{"a":-2.5}"#]),
    (
        r#"{"a":["x",{"numeric":[">",9007199254740992]}]}"#,
        &[r#"{"a":9007199254740993}"#, r#"{"a":"x"}"#],
        &[r#"{"a":9007199254740992.0}"#],
    ),
];

const TEXTS: &[Case] = &[
    (
        r#"{"a":[{"prefix":"us-"}]}"#,
        &[r#"{"a":"us-east-1"}"#, r#"{"a":"us-"}"#],
        &[r#"{"a":"US-"}"#, r#"{"a":"u"}"#, r#"{"a":5}"#, "{}"],
    ),
    (r#"{"a":[{"prefix":""}]}"#, &[r#"{"a":""}"#], &[r#"{"a":null}"#]),
    (
        r#"{"a":[{"suffix":".png"}]}"#,
        &[r#"{"a":"x.png"}"#],
        &[r#"{"a":"x.PNG"}"#, r#"{"a":".pngx"}"#],
    ),
    (
        r#"{"a":[{"prefix":{"equals-ignore-case":"EventB"}}]}"#,
        &[r#"{"a":"eventbridge"}"#],
        &[r#"{"a":"event"}"#],
    ),
    (
        r#"{"a":[{"suffix":{"equals-ignore-case":".png"}}]}"#,
        &[r#"{"a":"X.PNG"}"#],
        &[r#"{"a":"png"}"#],
    ),
    (
        r#"{"a":[{"equals-ignore-case":"NL"}]}"#,
        &[r#"{"a":"nl"}"#, r#"{"a":"Nl"}"#],
        &[r#"{"a":"nld"}"#, r#"{"a":null}"#],
    ),
    (
        r#"{"a":[{"wildcard":"dir/*.png"}]}"#,
        &[r#"{"a":"dir/a/b.png"}"#, r#"{"a":"dir/.png"}"#],
        &[r#"{"a":"dir.png"}"#],
    ),
    (r#"{"a":[{"wildcard":"5\\*3"}]}"#, &[r#"{"a":"5*3"}"#], &[r#"{"a":"5x3"}"#]),
];

const ANYTHING_BUT: &[Case] = &[
    (
        r#"{"a":[{"anything-but":"x"}]}"#,
        &[r#"{"a":"y"}"#, r#"{"a":5}"#, r#"{"a":null}"#],
        &[r#"{"a":"x"}"#, "{}", r#"{"a":{}}"#],
    ),
    (r#"{"a":[{"anything-but":["x","y"]}]}"#, &[r#"{"a":"z"}"#], &[r#"{"a":"y"}"#]),
    (
        r#"{"a":[{"anything-but":[100,200.0]}]}"#,
        &[r#"{"a":300}"#],
        &[r#"{"a":1e2}"#, r#"{"a":200}"#],
    ),
    (r#"{"a":[{"anything-but":null}]}"#, &[r#"{"a":0}"#], &[r#"{"a":null}"#, "{}"]),
    (
        r#"{"a":[{"anything-but":{"prefix":"init"}}]}"#,
        &[r#"{"a":"running"}"#, r#"{"a":5}"#],
        &[r#"{"a":"initial"}"#, "{}"],
    ),
    (
        r#"{"a":[{"anything-but":{"suffix":["ed","ing"]}}]}"#,
        &[r#"{"a":"run"}"#],
        &[r#"{"a":"stopped"}"#],
    ),
    (
        r#"{"a":[{"anything-but":{"equals-ignore-case":["A","b"]}}]}"#,
        &[r#"{"a":"c"}"#],
        &[r#"{"a":"a"}"#, r#"{"a":"B"}"#],
    ),
    (
        r#"{"a":[{"anything-but":{"wildcard":"*/lib/*"}}]}"#,
        &[r#"{"a":"/usr/bin"}"#],
        &[r#"{"a":"/usr/lib/x"}"#],
    ),
    // One element that is something else is enough.
    (
        r#"{"a":[{"anything-but":"x"}]}"#,
        &[r#"{"a":["x","y"]}"#],
        &[r#"{"a":["x"]}"#, r#"{"a":[]}"#],
    ),
];

const EXISTS: &[Case] = &[
    (
        r#"{"a":[{"exists":true}]}"#,
        &[r#"{"a":null}"#, r#"{"a":""}"#, r#"{"a":[[1]]}"#],
        &["{}", r#"{"a":{"b":1}}"#, r#"{"a":[]}"#, r#"{"a":{}}"#],
    ),
    (
        r#"{"a":[{"exists":false}]}"#,
        &["{}", r#"{"a":{"b":1}}"#, r#"{"a":[]}"#, "5", "[]"],
        &[r#"{"a":null}"#, r#"{"a":[{},5]}"#],
    ),
    (
        r#"{"a":{"b":[{"exists":false}]}}"#,
        &["{}", r#"{"a":5}"#, r#"{"a":{}}"#],
        &[r#"{"a":{"b":1}}"#, r#"{"a":[{"b":1},{"c":1}]}"#],
    ),
    (r#"{"a":["x",{"exists":false}]}"#, &["{}", r#"{"a":"x"}"#], &[r#"{"a":"y"}"#]),
    (r#"{"a":["x"],"b":[{"exists":false}]}"#, &[r#"{"a":"x"}"#], &[r#"{"a":"x","b":0}"#, "{}"]),
];

const NESTED: &[Case] = &[
    (
        r#"{"d":{"s":["x"]}}"#,
        &[r#"{"d":{"s":"x"}}"#],
        &[r#"{"d.s":"x"}"#, r#"{"d":"x"}"#, r#"{"s":"x"}"#],
    ),
    // A name with a dot is one name.
    (r#"{"d.s":["x"]}"#, &[r#"{"d.s":"x"}"#], &[r#"{"d":{"s":"x"}}"#]),
    (
        r#"{"r":["x"]}"#,
        &[r#"{"r":["y","x"]}"#, r#"{"r":[["x"]]}"#],
        &[r#"{"r":["y"]}"#, r#"{"r":[{"r":"x"}]}"#],
    ),
    (
        r#"{"e":{"first":["Anna"]}}"#,
        &[r#"{"e":[{"first":"John"},{"first":"Anna"}]}"#, r#"{"e":[[{"first":"Anna"}]]}"#],
        &[r#"{"e":["Anna"]}"#],
    ),
    // Never pieced together from two elements.
    (
        r#"{"e":{"first":["Anna"],"last":["Jones"]}}"#,
        &[r#"{"e":[{"first":"Anna","last":"Jones"}]}"#],
        &[r#"{"e":[{"first":"Anna","last":"Smith"},{"first":"Peter","last":"Jones"}]}"#],
    ),
    (r#"{"a":["x"]}"#, &[r#"[{"a":"y"},{"a":"x"}]"#], &["[]"]),
];

const OR: &[Case] = &[
    (
        r#"{"s":["m"],"$or":[{"a":[1]},{"b":[2]}]}"#,
        &[r#"{"s":"m","a":1}"#, r#"{"s":"m","b":2}"#],
        &[r#"{"s":"m"}"#, r#"{"a":1}"#],
    ),
    (
        r#"{"$or":[{"a":[1],"b":[2]},{"c":[3]}]}"#,
        &[r#"{"a":1,"b":2}"#, r#"{"c":3}"#],
        &[r#"{"a":1}"#],
    ),
    (
        r#"{"d":{"$or":[{"a":[1]},{"b":[{"exists":false}]}]}}"#,
        &[r#"{"d":{"a":1,"b":1}}"#, "{}"],
        &[r#"{"d":{"b":1}}"#],
    ),
    (r#"{"$or":[{"a":[1]},{"$or":[{"b":[1]},{"c":[1]}]}]}"#, &[r#"{"c":1}"#], &[r#"{"c":2}"#]),
    (r#"{"$or":[{"prefix":["x"]},{"numeric":[1]}]}"#, &[r#"{"prefix":"x"}"#], &[r#"{"a":"x"}"#]),
];

#[test]
fn every_part_of_the_language_means_what_the_table_says() {
    for (pattern, yes, no) in [EXACT, NUMBERS, TEXTS, ANYTHING_BUT, EXISTS, NESTED, OR].concat() {
        for message in yes {
            assert!(matches(pattern, message), "{pattern} does not match {message}");
        }
        for message in no {
            assert!(!matches(pattern, message), "{pattern} matches {message}");
        }
    }
}
