//! The index against asking every subscription singly.

use store::pattern::Pattern;
use store::{Action, Client, Grant, GrantScope, Subscription};

use super::*;
use crate::async_delivery::testing::{mandate, owner, subscription};

fn name(name: &str) -> IntegrationName {
    IntegrationName::parse(name).unwrap()
}

/// Integrations of these names; of `typed` the event type is at `/kind`.
fn names(names: &[&str]) -> Vec<Known> {
    let event_type = |n: &str| (n == "typed").then(|| Pointer::parse("/kind").unwrap());
    names.iter().map(|n| Known { name: name(n), event_type: event_type(n) }).collect()
}

fn found_in(
    router: &Router<usize>,
    (integration, entity, arrived_at_ms): (usize, &str, i64),
    payload: &str,
    scratch: &mut Scratch,
) -> Vec<usize> {
    let asked = Asked { integration, entity, arrived_at_ms, payload: payload.as_bytes() };
    let mut all: Vec<usize> = router.matches(asked, scratch).copied().collect();
    all.sort_unstable();
    all
}

fn found(router: &Router<usize>, integration: usize, entity: &str, at: i64) -> Vec<usize> {
    found_in(router, (integration, entity, at), "never looked at", &mut Scratch::default())
}

fn wish(integrations: &[&str], prefix: Option<&str>, from_ms: i64) -> Subscription {
    let mut wish = subscription("sub", "https://receiver.example/");
    wish.integrations = integrations.iter().map(|n| name(n)).collect();
    wish.entity_prefix = prefix.map(str::to_owned);
    wish.created_at_ms = from_ms;
    wish
}

fn granted(wishes: Vec<Subscription>) -> Vec<Mandate> {
    wishes.into_iter().map(|wish| mandate(wish, owner()).unwrap()).collect()
}

#[test]
fn integration_prefix_and_effective_from_decide() {
    let all = granted(vec![
        wish(&[], None, 0),
        wish(&["quakes"], None, 0),
        wish(&["flights"], Some("AB"), 0),
        wish(&["flights"], Some("ABC"), 0),
        wish(&["flights", "quakes"], Some(""), 100),
        wish(&["nobody-knows"], None, 0),
    ]);
    let router = Router::compile(&names(&["flights", "quakes"]), all.iter().zip(0..));
    assert_eq!(found(&router, 0, "ABC", 100), [0, 2, 3, 4]);
    assert_eq!(found(&router, 0, "ABX", 99), [0, 2]);
    assert_eq!(found(&router, 0, "A", 100), [0, 4]);
    assert_eq!(found(&router, 1, "ABC", 100), [0, 1, 4]);
    assert_eq!(found(&router, 7, "ABC", 100), [] as [usize; 0]);
    assert!(Router::<usize>::compile(&names(&["flights"]), [(&all[5], 5)]).is_empty());
}

#[test]
fn prefixes_are_bytes_and_never_split_a_panic() {
    let all = granted(vec![wish(&[], Some("é"), 0), wish(&[], Some("e"), 0)]);
    let router = Router::compile(&names(&["default"]), all.iter().zip(0..));
    assert_eq!(found(&router, 0, "été", 0), [0]);
    assert_eq!(found(&router, 0, "e", 0), [1]);
    assert_eq!(found(&router, 0, "", 0), [] as [usize; 0]);
}

#[test]
fn agrees_with_asking_every_subscription() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut word =
        |max: usize| -> String { (0..rng.usize(0..=max)).map(|_| rng.char('a'..='c')).collect() };
    let wishes: Vec<Subscription> = (0..500).map(|i| wish(&[], Some(&word(4)), i % 50)).collect();
    let all = granted(wishes.clone());
    let router = Router::compile(&names(&["default"]), all.iter().zip(0..));
    for at in 0..200 {
        let entity = word(6);
        let expected: Vec<usize> = (0..all.len())
            .filter(|&i| entity.starts_with(wishes[i].entity_prefix.as_deref().unwrap()))
            .filter(|&i| at >= wishes[i].created_at_ms)
            .collect();
        assert_eq!(found(&router, 0, &entity, at), expected);
    }
}

#[test]
fn a_subscription_gets_what_its_owner_is_granted_once_and_nothing_else() {
    let grant = |name: Option<&str>, action, prefix: &str| {
        let scope =
            name.map_or(GrantScope::All, |n| GrantScope::One(IntegrationName::parse(n).unwrap()));
        Grant { entity_prefix: Some(prefix.to_owned()), ..Grant::new(scope, action) }
    };
    let grants = vec![
        grant(Some("flights"), Action::Subscribe, "AB"),
        grant(Some("flights"), Action::Subscribe, "A"),
        grant(Some("quakes"), Action::Read, ""),
        grant(None, Action::Subscribe, "X"),
    ];
    let bounded = Client { grants, ..owner() };
    let mandates: Vec<Mandate> = [wish(&[], None, 0), wish(&["flights"], Some("AB"), 0)]
        .into_iter()
        .map(|wish| mandate(wish, bounded.clone()).unwrap())
        .collect();
    let router = Router::compile(&names(&["flights", "quakes"]), mandates.iter().zip(0..));
    assert_eq!(found(&router, 0, "ABC", 0), [0, 1]);
    assert_eq!(found(&router, 0, "AC", 0), [0]);
    assert_eq!(found(&router, 0, "XY", 0), [0]);
    assert_eq!(found(&router, 0, "B", 0), [] as [usize; 0]);
    assert_eq!(found(&router, 1, "XY", 0), [0]);
    assert_eq!(found(&router, 1, "ABC", 0), [] as [usize; 0], "to read is not to subscribe");
}

#[test]
fn without_a_standing_owner_there_is_no_mandate() {
    let stranger = Client { id: store::ClientId::parse("other").unwrap(), ..owner() };
    assert!(mandate(wish(&[], None, 0), stranger).is_none());
    assert!(mandate(wish(&[], None, 0), Client { enabled: false, ..owner() }).is_none());
    let off = Subscription { enabled: false, ..wish(&[], None, 0) };
    assert!(mandate(off, owner()).is_none());
}

#[test]
fn event_types_and_filters_narrow_what_is_wanted() {
    let asking = |types: &[&str], filter: Option<&str>| {
        let mut wish = wish(&[], None, 0);
        wish.types = types.iter().map(|&text| text.to_owned()).collect();
        wish.filter = filter.map(|json| Pattern::parse(json).unwrap());
        wish
    };
    let all = granted(vec![
        asking(&[], None),
        asking(&["made", "sold", "made"], None),
        asking(&["made"], Some(r#"{"n":[1]}"#)),
        asking(&[], Some(r#"{"n":[1]}"#)),
        asking(&[], Some(r#"{"n":[{"numeric":["<",5]}]}"#)),
    ]);
    let router = Router::compile(&names(&["typed", "default"]), all.iter().zip(0..));
    let mut scratch = Scratch::default();
    let mut ask = |n, payload| found_in(&router, (n, "e", 0), payload, &mut scratch);
    assert_eq!(ask(0, r#"{"kind":"made","n":1}"#), [0, 1, 2, 3, 4]);
    assert_eq!(ask(0, r#"{"kind":"sold","n":2}"#), [0, 1, 4]);
    assert_eq!(
        ask(0, r#"{"specversion":"1.0","type":"made","n":5}"#),
        [0],
        "its type is elsewhere"
    );
    assert_eq!(ask(0, r#"{"kind":["made"],"n":5}"#), [0], "a type is a string");
    assert_eq!(ask(1, r#"{"specversion":"1.0","type":"made","n":1.0}"#), [0, 1, 2, 3, 4]);
    assert_eq!(ask(1, r#"{"type":"made","n":1}"#), [0, 3, 4], "it is no CloudEvent");
    assert_eq!(ask(1, "[]"), [0]);
}

#[test]
fn what_cannot_be_read_for_its_content_is_not_filtered_out_and_counted() {
    let mut types = wish(&[], None, 0);
    types.types = vec!["made".to_owned(), "sold".to_owned()];
    let mut filter = wish(&[], None, 0);
    filter.filter = Some(Pattern::parse(r#"{"n":[1]}"#).unwrap());
    let all = granted(vec![types, filter, wish(&[], Some("a"), 0)]);
    let router = Router::compile(&names(&["default"]), all.iter().zip(0..));
    let mut scratch = Scratch::default();
    for unreadable in [r#"{"n":1e999}"#, r#"{"n":"\ud800"}"#] {
        assert_eq!(found_in(&router, (0, "b", 0), unreadable, &mut scratch), [0, 1]);
        assert_eq!(scratch.take_unreadable(), 1);
    }
    assert_eq!(found_in(&router, (0, "ab", 0), "{}", &mut scratch), [2]);
    let plain = Router::compile(&names(&["default"]), [(&all[2], 2)]);
    assert_eq!(found_in(&plain, (0, "ab", 0), r#"{"n":1e999}"#, &mut scratch), [2]);
    assert_eq!(scratch.take_unreadable(), 0, "nobody asked");
}

/// A subscription that a seed draws: everything it may ask for, from few values, so that much matches.
fn drawn(rng: &mut fastrand::Rng) -> Subscription {
    let mut drawn = wish(rng.choice([&[][..], &["typed"], &["default"]]).unwrap(), None, 0);
    drawn.entity_prefix = rng.choice([None, Some("a"), Some("ab")]).unwrap().map(str::to_owned);
    drawn.created_at_ms = rng.i64(..3);
    if rng.bool() {
        drawn.types = (0..rng.usize(..3)).map(|_| format!("t{}", rng.u8(..3))).collect();
    }
    if rng.u8(..3) > 0 {
        let (n, m) = (rng.u8(..4), rng.u8(..4));
        let filter = match rng.u8(..6) {
            0 => format!(r#"{{"n":[{n}]}}"#),
            1 => format!(r#"{{"n":[{n},{m}],"in":{{"m":[{m}]}}}}"#),
            2 => format!(r#"{{"in":{{"m":["{n}",{m}]}}}}"#),
            3 => format!(r#"{{"$or":[{{"n":[{n}]}},{{"in":{{"m":[{m}]}}}}]}}"#),
            4 => format!(r#"{{"n":[{{"numeric":[">",{n}]}}],"in":{{"m":[{m}]}}}}"#),
            _ => format!(r#"{{"n":[{{"anything-but":[{n}]}}]}}"#),
        };
        drawn.filter = Some(Pattern::parse(&filter).unwrap());
    }
    drawn
}

/// Asks one subscription.
fn wants(wish: &Subscription, typed: bool, asked: &Asked<'_>) -> bool {
    let integration = name(if typed { "typed" } else { "default" });
    let mut reader = Reader::default();
    let document = reader.read(asked.payload).unwrap();
    let event_type = document.text_at([if typed { "kind" } else { "type" }]);
    (wish.integrations.is_empty() || wish.integrations.contains(&integration))
        && asked.entity.starts_with(wish.entity_prefix.as_deref().unwrap_or_default())
        && asked.arrived_at_ms >= wish.created_at_ms
        && (wish.types.is_empty() || wish.types.iter().any(|t| Some(t.as_str()) == event_type))
        && wish.filter.as_ref().is_none_or(|filter| filter.matches(&document))
}

#[test]
fn with_types_and_filters_it_agrees_with_asking_every_subscription() {
    let mut rng = fastrand::Rng::with_seed(23);
    let wishes: Vec<Subscription> = (0..1_000).map(|_| drawn(&mut rng)).collect();
    let all = granted(wishes.clone());
    let router = Router::compile(&names(&["typed", "default"]), all.iter().zip(0..));
    let (mut scratch, mut matched) = (Scratch::default(), 0);
    for _ in 0..500 {
        let (n, m, kind) = (rng.u8(..5), rng.u8(..5), rng.u8(..4));
        let in_it = if rng.bool() { format!("{m}") } else { format!(r#"["{m}",{n}]"#) };
        let payload = format!(
            r#"{{"specversion":"1.0","type":"t{kind}","kind":"t{m}","n":{n},"in":[{{"m":{in_it}}}]}}"#
        );
        let (typed, arrived_at_ms) = (rng.bool(), rng.i64(..4));
        let entity = rng.choice(["", "a", "abc", "b"]).unwrap();
        let integration = usize::from(!typed);
        let asked = Asked { integration, entity, arrived_at_ms, payload: payload.as_bytes() };
        let singly: Vec<usize> =
            (0..wishes.len()).filter(|&i| wants(&wishes[i], typed, &asked)).collect();
        let place = (integration, entity, arrived_at_ms);
        assert_eq!(found_in(&router, place, &payload, &mut scratch), singly, "{payload}");
        matched += singly.len();
    }
    assert!(matched > 10_000, "{matched}");
    assert_eq!(scratch.take_unreadable(), 0);
}
