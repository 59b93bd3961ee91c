//! Keys that rotate, issuers that are down, floods of unknown keys: in paused time, with fetches
//! counted.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::forge::{Forge, Published};

const ISSUER: &str = "https://login.example";
const KEYS: &str = "https://login.example/keys";
const NOW_MS: i64 = 1_795_435_200_000;
const TEN: Duration = Duration::from_secs(10);

/// A wall clock that goes as tokio's does.
#[derive(Debug)]
struct Wall(Instant);

impl TimeSource for Wall {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(NOW_MS as u64) + self.0.elapsed()
    }
}

fn tokens(published: &Published, change: impl FnOnce(&mut OAuthOptions)) -> Arc<Tokens> {
    let issuer = Issuer { jwks_uri: Some(KEYS.to_owned()), ..Issuer::new(ISSUER) };
    let mut options = OAuthOptions { issuers: vec![issuer], ..OAuthOptions::default() };
    change(&mut options);
    let documents: Arc<dyn Documents> = Arc::new(published.clone());
    let time = SharedTimeSource::new(Wall(Instant::now()));
    Arc::new(Tokens::new(&options, &documents, &time))
}

/// A token that never ends.
fn token(forge: &Forge, kid: &str) -> String {
    let claims = json!({ "iss": ISSUER, "client_id": "c", "exp": 200_000_000_000_u64 });
    forge.token("ES256", kid, &claims)
}

/// The elliptic key of an issuer, alone, under this name.
fn published_as(forge: &Forge, kid: &str) -> Value {
    let mut key = forge.key_set()["keys"][1].clone();
    key["kid"] = kid.into();
    json!({ "keys": [key] })
}

async fn verdict(tokens: &Tokens, token: &str) -> Result<(), Rejected> {
    tokens.verify(token, NOW_MS).await.map(|_| ())
}

fn fault(fault: TokenFault) -> Result<(), Rejected> {
    Err(Rejected::Fault(fault))
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_fetched_when_a_token_names_it_and_the_old_one_goes() {
    let published = Published::default();
    let (old, new) = (Forge::new(0), Forge::new(1));
    published.put(KEYS, &published_as(&old, "2025"));
    let tokens = tokens(&published, |_| {});
    let first = tokens.verify(&token(&old, "2025"), NOW_MS).await.unwrap();
    assert!(tokens.still_hold(&first, NOW_MS));

    published.put(KEYS, &published_as(&new, "2026"));
    assert_eq!(verdict(&tokens, &token(&new, "2026")).await, fault(TokenFault::UnknownKey));
    tokio::time::advance(TEN).await;
    assert_eq!(verdict(&tokens, &token(&new, "2026")).await, Ok(()));
    assert!(!tokens.still_hold(&first, NOW_MS), "what the old key signed is verified again");
    assert_eq!(verdict(&tokens, &token(&old, "2025")).await, fault(TokenFault::UnknownKey));
    assert_eq!(published.fetches(KEYS), 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_keys_again_make_nobody_verify_again() {
    let published = Published::default();
    let forge = Forge::new(0);
    published.put(KEYS, &published_as(&forge, "k"));
    let tokens = tokens(&published, |_| {});
    let verified = tokens.verify(&token(&forge, "k"), NOW_MS).await.unwrap();
    tokio::time::advance(TEN).await;
    assert_eq!(verdict(&tokens, &token(&forge, "other")).await, fault(TokenFault::UnknownKey));
    assert_eq!(published.fetches(KEYS), 2);
    assert!(tokens.still_hold(&verified, NOW_MS));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_fetches_once_in_ten_seconds() {
    let published = Published::default();
    let forge = Forge::new(0);
    published.put(KEYS, &published_as(&forge, "k"));
    let tokens = tokens(&published, |_| {});
    for second in 0..100 {
        for n in 0..20 {
            let unknown = token(&forge, &format!("unknown-{second}-{n}"));
            assert_eq!(verdict(&tokens, &unknown).await, fault(TokenFault::UnknownKey));
        }
        assert_eq!(verdict(&tokens, &token(&forge, "k")).await, Ok(()));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(published.fetches(KEYS), 10);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_good_fetches_nothing() {
    let published = Published::default();
    let forge = Forge::new(0);
    let tokens = tokens(&published, |_| {});
    let expired = forge.token("ES256", "k", &json!({ "iss": ISSUER, "client_id": "c", "exp": 1 }));
    assert_eq!(verdict(&tokens, &expired).await, fault(TokenFault::Expired));
    let stranger = json!({ "iss": "https://evil.example", "client_id": "c", "exp": 2e11 });
    let stranger = forge.token("ES256", "k", &stranger);
    assert_eq!(verdict(&tokens, &stranger).await, fault(TokenFault::Issuer));
    assert_eq!(published.fetches(KEYS), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_one_fetch_and_only_so_many_of_them() {
    let published = Published::default();
    let forge = Forge::new(0);
    published.hangs(true);
    let tokens = tokens(&published, |_| {});
    let text = token(&forge, "k");
    let asking = (0..100).map(|_| {
        let (tokens, text) = (Arc::clone(&tokens), text.clone());
        tokio::spawn(async move { verdict(&tokens, &text).await })
    });
    let started = Instant::now();
    let verdicts = futures::future::join_all(asking).await;
    let overloaded = verdicts.iter().filter(|v| *v.as_ref().unwrap() == Err(Rejected::Overloaded));
    assert_eq!(overloaded.count(), 36);
    let unavailable =
        verdicts.iter().filter(|v| *v.as_ref().unwrap() == Err(Rejected::Unavailable));
    assert_eq!(unavailable.count(), 64);
    assert_eq!((published.fetches(KEYS), started.elapsed()), (1, Duration::from_secs(5)));
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_does_not_end_the_fetch_for_the_others() {
    let published = Published::default();
    let forge = Forge::new(0);
    published.put(KEYS, &published_as(&forge, "k"));
    let tokens = tokens(&published, |_| {});
    let text = token(&forge, "k");
    {
        let asking = tokens.verify(&text, NOW_MS);
        tokio::pin!(asking);
        assert!(futures::poll!(asking.as_mut()).is_pending());
    }
    assert_eq!(verdict(&tokens, &text).await, Ok(()));
    assert_eq!(published.fetches(KEYS), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_outlive_their_issuer_for_a_day_and_no_longer() {
    let published = Published::default();
    let forge = Forge::new(0);
    published.put(KEYS, &published_as(&forge, "k"));
    let tokens = tokens(&published, |_| {});
    let stop = CancellationToken::new();
    let following = {
        let (tokens, stop) = (Arc::clone(&tokens), stop.clone());
        tokio::spawn(async move { tokens.follow(stop).await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(published.fetches(KEYS), 1, "before anyone asks");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(published.fetches(KEYS), 7, "every ten minutes");
    let verified = tokens.verify(&token(&forge, "k"), NOW_MS).await.unwrap();

    published.down(true);
    tokio::time::sleep(Duration::from_secs(24 * 3_600 - 700)).await;
    assert_eq!(verdict(&tokens, &token(&forge, "k")).await, Ok(()));
    assert!(tokens.still_hold(&verified, NOW_MS));
    tokio::time::sleep(Duration::from_secs(701)).await;
    assert_eq!(verdict(&tokens, &token(&forge, "k")).await, Err(Rejected::Unavailable));
    assert!(!tokens.still_hold(&verified, NOW_MS));

    published.down(false);
    tokio::time::sleep(TEN).await;
    assert_eq!(verdict(&tokens, &token(&forge, "k")).await, Ok(()));
    stop.cancel();
    following.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_are_found_where_the_issuer_says_if_it_is_the_issuer_who_says_it() {
    let forge = Forge::new(0);
    let at = "https://login.example/.well-known/openid-configuration";
    for (document, expected) in [
        (json!({ "issuer": ISSUER, "jwks_uri": KEYS }), Ok(())),
        (json!({ "issuer": "https://evil.example", "jwks_uri": KEYS }), Err(Rejected::Unavailable)),
        (
            json!({ "issuer": ISSUER, "jwks_uri": "http://login.example/keys" }),
            Err(Rejected::Unavailable),
        ),
        (
            json!({ "issuer": ISSUER, "jwks_uri": "http://127.0.0.1/keys" }),
            Err(Rejected::Unavailable),
        ),
        (json!({ "issuer": ISSUER, "jwks_uri": "file:///etc/passwd" }), Err(Rejected::Unavailable)),
        (json!({ "issuer": ISSUER }), Err(Rejected::Unavailable)),
        (json!([]), Err(Rejected::Unavailable)),
    ] {
        let published = Published::default();
        published.put(at, &document);
        for keys in [KEYS, "http://login.example/keys", "http://127.0.0.1/keys"] {
            published.put(keys, &published_as(&forge, "k"));
        }
        let tokens = tokens(&published, |options| options.issuers[0].jwks_uri = None);
        assert_eq!(verdict(&tokens, &token(&forge, "k")).await, expected, "{document}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_no_key_set_leaves_the_keys_as_they_were() {
    let published = Published::default();
    let forge = Forge::new(0);
    published.put(KEYS, &published_as(&forge, "k"));
    let tokens = tokens(&published, |_| {});
    assert_eq!(verdict(&tokens, &token(&forge, "k")).await, Ok(()));
    let huge = json!({ "keys": [], "x": "y".repeat(300_000) });
    for bad in [json!({}), json!({ "keys": {} }), json!({ "keys": [] }), json!([]), huge] {
        published.put(KEYS, &bad);
        tokio::time::advance(TEN).await;
        assert_eq!(verdict(&tokens, &token(&forge, "x")).await, fault(TokenFault::UnknownKey));
        assert_eq!(verdict(&tokens, &token(&forge, "k")).await, Ok(()));
    }
    assert_eq!(published.fetches(KEYS), 6);
}

/// One text is one token: nothing that differs from a good one is good, not even in bits that mean nothing.
#[tokio::test(start_paused = true)]
async fn no_token_with_one_character_changed_left_out_or_added_is_taken() {
    let published = Published::default();
    let forge = Forge::new(0);
    published.put(KEYS, &forge.key_set());
    let tokens = tokens(&published, |options| {
        let all = ["RS256", "PS256", "ES256", "EdDSA"];
        options.issuers[0].algorithms = all.map(|name| Algorithm::parse(name).unwrap()).into();
    });
    let claims = json!({ "iss": ISSUER, "client_id": "c", "exp": 200_000_000_000_u64 });
    let mut tried = 0;
    for (algorithm, kid) in [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")] {
        let good = forge.token(algorithm, kid, &claims);
        assert_eq!(verdict(&tokens, &good).await, Ok(()));
        for at in 0..good.len() {
            let (before, after) = (&good[..at], &good[at + 1..]);
            // The next character, so that the lowest bits change, too.
            let next = char::from(good.as_bytes()[at] + 1);
            let others = [next, 'A', '_', '.', '=', ' '].map(String::from);
            let changed = others.iter().map(|other| format!("{before}{other}{after}"));
            let added = format!("{before}A{}", &good[at..]);
            for bad in changed.chain([format!("{before}{after}"), added]) {
                if bad != good {
                    assert!(verdict(&tokens, &bad).await.is_err(), "{algorithm} {at}: {bad}");
                    tried += 1;
                }
            }
        }
        assert!(verdict(&tokens, &format!("{good}A")).await.is_err());
    }
    assert!(tried > 5_000, "{tried}");
}

#[test]
fn weak_and_odd_keys_are_passed_over() {
    let set = |key: Value| {
        jwk::KeySet::read(json!({ "keys": [key] }).to_string().as_bytes()).unwrap().len()
    };
    let good = Forge::new(0).key_set()["keys"].clone();
    let with = |n: usize, name: &str, value: Value| {
        let mut key = good[n].clone();
        key[name] = value;
        set(key)
    };
    use crate::testing::forge::base64;
    assert_eq!(with(0, "kid", "x".into()), 1);
    assert_eq!(with(0, "n", base64([255; 128]).into()), 0, "1,024 bits");
    assert_eq!(with(0, "n", base64([255; 1_024]).into()), 0, "8,192 bits");
    assert_eq!(with(0, "n", base64([vec![0], vec![255; 256]].concat()).into()), 1, "a zero before");
    assert_eq!(with(0, "n", "+".into()), 0);
    assert_eq!(with(0, "use", "enc".into()), 0);
    assert_eq!(with(0, "use", 1.into()), 0);
    assert_eq!(with(0, "key_ops", json!(["sign"])), 0);
    assert_eq!(with(0, "kid", "k".repeat(257).into()), 0);
    assert_eq!(with(1, "x", base64([1; 31]).into()), 0);
    assert_eq!(with(1, "crv", "secp256k1".into()), 0);
    assert_eq!(with(2, "x", base64([1; 33]).into()), 0);
    assert_eq!(set(json!("key")), 0);
}
