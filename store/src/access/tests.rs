//! Who may do what, and clients and keys over a real SDK client and an embedded DynamoDB.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::StoreError;
use crate::testing::{APP, NOW, dynamodb, entity, integration, random};

const DAY_MS: i64 = 24 * 3_600 * 1_000;

fn pepper() -> Pepper {
    Pepper::new(&[9; 32]).unwrap()
}

pub(super) fn client(id: &str, grants: Vec<Grant>) -> Client {
    Client {
        id: ClientId::parse(id).unwrap(),
        name: "Seismology".to_owned(),
        grants,
        limits: Some(ClientLimits {
            rate_per_second: Some(50),
            burst: Some(100),
            ..ClientLimits::default()
        }),
        enabled: true,
        created_at_ms: NOW,
        version: 0,
    }
}

fn grant(integration_name: Option<&str>, action: Action, prefix: Option<&str>) -> Grant {
    let scope = integration_name.map_or(GrantScope::All, |name| GrantScope::One(integration(name)));
    Grant { entity_prefix: prefix.map(str::to_owned), ..Grant::new(scope, action) }
}

pub(super) fn change(at_ms: i64) -> Change<'static> {
    Change { by: "operator ada", at_ms }
}

pub(super) async fn store() -> AccessStore {
    let (_aws, client) = dynamodb().await;
    AccessStore::new(client, APP, pepper())
}

#[test]
fn nothing_is_allowed_that_is_not_granted() {
    let quakes = integration("quakes");
    let (us, ci) = (entity("us-west"), entity("ci"));
    let one = client("a", vec![grant(Some("quakes"), Action::Read, Some("us"))]);
    let ask = |who: &Client, action, integration: &IntegrationName, entity| {
        authorise(who, action, integration, entity)
    };
    assert_eq!(ask(&one, Action::Read, &quakes, Some(&us)), Decision::Allowed { grant: 0 });
    let outside = Decision::Denied(Denial::EntityOutsideGrant);
    assert_eq!(ask(&one, Action::Read, &quakes, Some(&ci)), outside);
    assert_eq!(ask(&one, Action::Read, &quakes, None), outside, "a part is not the whole");
    let no_grant = Decision::Denied(Denial::NoGrant);
    assert_eq!(ask(&one, Action::Publish, &quakes, Some(&us)), no_grant);
    assert_eq!(ask(&one, Action::Read, &integration("flights"), Some(&us)), no_grant);
    assert_eq!(ask(&client("b", vec![]), Action::Read, &quakes, Some(&us)), no_grant);
    let disabled = Client { enabled: false, ..one.clone() };
    assert_eq!(
        ask(&disabled, Action::Read, &quakes, Some(&us)),
        Decision::Denied(Denial::ClientDisabled)
    );
    assert!(one.may_see(Action::Read, &quakes) && !one.may_see(Action::Subscribe, &quakes));
    assert!(!disabled.may_see(Action::Read, &quakes));
}

#[test]
fn the_grant_matrix_allows_exactly_what_any_grant_covers() {
    let scopes = [None, Some("quakes"), Some("flights")];
    let actions = [Action::Read, Action::Publish, Action::Subscribe];
    let prefixes = [None, Some(""), Some("us"), Some("us-west")];
    for scope in scopes {
        for granted in actions {
            for prefix in prefixes {
                let who = client("a", vec![grant(scope, granted, prefix)]);
                for asked in actions {
                    for name in ["quakes", "flights"] {
                        for about in ["us-west", "us", "ci", "u"] {
                            let expected = asked == granted
                                && scope.is_none_or(|s| s == name)
                                && prefix.is_none_or(|p| about.starts_with(p));
                            let found =
                                authorise(&who, asked, &integration(name), Some(&entity(about)));
                            assert_eq!(
                                found.is_allowed(),
                                expected,
                                "{scope:?} {granted:?} {prefix:?} {asked:?} {name} {about}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_key_has_its_form_and_its_checksum() {
    let key = ApiKey::generate(&mut random(1));
    let text = key.expose().to_owned();
    assert_eq!(text.len(), 59);
    assert!(text.starts_with("sg_live_") && text.as_bytes()[20] == b'_');
    assert_eq!(ApiKey::parse(&text).unwrap().id(), key.id());
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
        assert!(ApiKey::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "character {at}");
    }
    for bad in ["", "sg_live_", &text[1..], &format!("{text}0"), &"\u{e4}".repeat(30)] {
        assert_eq!(ApiKey::parse(bad).unwrap_err(), ApiKeyError);
    }
}

#[test]
fn keys_are_drawn_evenly_and_never_twice() {
    let mut bytes = random(5);
    let keys: BTreeSet<String> =
        (0..200).map(|_| ApiKey::generate(&mut bytes).expose().to_owned()).collect();
    assert_eq!(keys.len(), 200);
    let letters = base62(62_000, &mut bytes);
    let of_z = letters.bytes().filter(|b| *b == b'z').count();
    assert!((850..1_150).contains(&of_z), "{of_z}");
}

#[test]
fn debug_shows_no_key_no_hash_and_no_pepper() {
    let key = ApiKey::generate(&mut random(1));
    let secret = &key.expose()[21..];
    let shown = format!("{key:?} {:?} {:?}", pepper(), pepper().hash(&key));
    assert!(shown.contains(key.id().as_str()) && !shown.contains(secret), "{shown}");
    assert!(Pepper::new(&[0; 31]).is_none());
}

#[tokio::test]
async fn a_client_comes_back_and_changes_once_per_version() {
    let store = store().await;
    let grants =
        vec![grant(Some("quakes"), Action::Read, Some("us")), grant(None, Action::Publish, None)];
    let stored = store.put_client(&client("cl_1", grants), &change(NOW)).await.unwrap();
    assert_eq!(store.get_client(&stored.id).await.unwrap(), Some(stored.clone()));
    assert_eq!(store.list_clients().await.unwrap(), std::slice::from_ref(&stored));
    let renamed = Client { name: "Geology".to_owned(), ..stored.clone() };
    assert_eq!(store.put_client(&renamed, &change(NOW + 1)).await.unwrap().version, 2);
    assert!(store.put_client(&stored, &change(NOW + 2)).await.unwrap_err().is_conflict());
    assert_eq!(store.epoch().await.unwrap(), 2);
}

#[tokio::test]
async fn a_key_works_until_it_expires_or_is_revoked() {
    let store = store().await;
    let owner = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    let key = ApiKey::generate(&mut random(1));
    let made =
        store.issue_key(key.clone(), &owner.id, &KeyTerms::new("ci"), &change(NOW)).await.unwrap();
    assert_eq!(made.record.expires_at_ms, NOW + 90 * DAY_MS);
    let record = store.get_key(key.id()).await.unwrap().unwrap();
    assert_eq!(record, made.record);
    assert_eq!(record.check(&key, store.pepper(), NOW, None), KeyCheck::Valid);
    assert_eq!(record.check(&key, store.pepper(), NOW + 90 * DAY_MS, None), KeyCheck::Expired);
    let other = ApiKey::generate(&mut random(2));
    assert_eq!(record.check(&other, store.pepper(), NOW, None), KeyCheck::WrongSecret);
    let other_pepper = Pepper::new(&[8; 32]).unwrap();
    assert_eq!(record.check(&key, &other_pepper, NOW, None), KeyCheck::WrongSecret);
    assert!(store.revoke_key(key.id(), &change(NOW + 5)).await.unwrap());
    assert!(!store.revoke_key(key.id(), &change(NOW + 6)).await.unwrap());
    let record = store.get_key(key.id()).await.unwrap().unwrap();
    assert_eq!(record.revoked_at_ms, Some(NOW + 5));
    assert_eq!(record.check(&key, store.pepper(), NOW, None), KeyCheck::Revoked);
    assert!(!store.revoke_key(other.id(), &change(NOW)).await.unwrap());
}

#[tokio::test]
async fn a_client_has_several_keys_and_none_without_it() {
    let store = store().await;
    let owner = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    let mut bytes = random(1);
    for label in ["old", "new"] {
        let key = ApiKey::generate(&mut bytes);
        let hour = Some(Duration::from_secs(3_600));
        let terms = KeyTerms { lifetime: hour, ..KeyTerms::new(label) };
        store.issue_key(key, &owner.id, &terms, &change(NOW)).await.unwrap();
    }
    let labels: BTreeSet<String> =
        store.list_keys(&owner.id).await.unwrap().into_iter().map(|k| k.label).collect();
    assert_eq!(labels, BTreeSet::from(["new".to_owned(), "old".to_owned()]));
    let nobody = ClientId::parse("cl_2").unwrap();
    let key = ApiKey::generate(&mut bytes);
    let error =
        store.issue_key(key.clone(), &nobody, &KeyTerms::new("x"), &change(NOW)).await.unwrap_err();
    assert!(error.is_conflict() && error.to_string().contains("cl_2"), "{error}");
    let lifetime = Some(Duration::from_secs(u64::MAX / 1_000));
    let terms = KeyTerms { lifetime, ..KeyTerms::new("x") };
    let error = store.issue_key(key, &owner.id, &terms, &change(NOW)).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid { .. }));
}

#[test]
fn what_a_client_reaches_is_exactly_what_it_is_allowed() {
    let mut rng = fastrand::Rng::with_seed(5);
    let quakes = integration("quakes");
    let word = |rng: &mut fastrand::Rng, max| -> String {
        (0..rng.usize(0..=max)).map(|_| rng.choice(['a', 'b', 'é']).unwrap()).collect()
    };
    for _ in 0..2_000 {
        let grants = (0..rng.usize(0..5)).map(|_| {
            let name = rng.choice([None, Some("quakes"), Some("flights")]).unwrap();
            let action = rng.choice([Action::Subscribe, Action::Read]).unwrap();
            let prefix = rng.bool().then(|| word(&mut rng, 3));
            grant(name, action, prefix.as_deref())
        });
        let grants: Vec<Grant> = grants.collect();
        let who = Client { enabled: rng.u8(..) > 20, ..client("a", grants) };
        let within = word(&mut rng, 2);
        let reach = who.reach(Action::Subscribe, &quakes, &within);
        for _ in 0..20 {
            let name = format!("{}x", word(&mut rng, 5));
            let allowed = name.starts_with(&within)
                && authorise(&who, Action::Subscribe, &quakes, Some(&entity(&name))).is_allowed();
            let covering = reach.iter().filter(|prefix| name.starts_with(**prefix)).count();
            assert_eq!(
                covering,
                usize::from(allowed),
                "{name} within {within:?}: {reach:?} {who:?}"
            );
        }
    }
}

#[tokio::test]
async fn every_change_is_in_the_audit_and_bumps_the_epoch() {
    let store = store().await;
    let owner = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    let key = ApiKey::generate(&mut random(1));
    store.issue_key(key.clone(), &owner.id, &KeyTerms::new("ci"), &change(NOW + 1)).await.unwrap();
    store.revoke_key(key.id(), &change(NOW + 2)).await.unwrap();
    assert!(store.delete_client(&owner.id, &change(NOW + 3)).await.unwrap());
    assert!(!store.delete_client(&owner.id, &change(NOW + 4)).await.unwrap());
    assert_eq!(store.get_client(&owner.id).await.unwrap(), None);
    let entries = store.audit(NOW / DAY_MS).await.unwrap();
    let actions: Vec<&str> = entries.iter().map(|e| e.action.as_str()).collect();
    assert_eq!(actions, ["client.create", "key.issue", "key.revoke", "client.delete"]);
    assert_eq!((entries[1].by.as_str(), entries[1].at_ms), ("operator ada", NOW + 1));
    assert_eq!(entries[1].subject, key.id().as_str());
    assert_eq!(store.epoch().await.unwrap(), 4);
    assert!(store.audit(0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deleted_clients_id_and_keys_never_come_back() {
    let store = store().await;
    let owner = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    let key = ApiKey::generate(&mut random(1));
    store.issue_key(key.clone(), &owner.id, &KeyTerms::new("ci"), &change(NOW)).await.unwrap();
    assert!(store.delete_client(&owner.id, &change(NOW)).await.unwrap());
    let again = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap_err();
    assert!(again.is_conflict(), "{again}");
    assert!(store.put_client(&owner, &change(NOW)).await.unwrap_err().is_conflict());
    let other = ApiKey::generate(&mut random(2));
    let issued = store.issue_key(other, &owner.id, &KeyTerms::new("ci"), &change(NOW)).await;
    assert!(issued.unwrap_err().is_conflict());
    assert!(store.list_clients().await.unwrap().is_empty());
    assert!(store.get_key(key.id()).await.unwrap().is_some(), "kept, to be explained");
}

#[tokio::test]
async fn an_issuers_client_is_one_client_of_ours_until_it_is_unbound() {
    let store = store().await;
    let one = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    let other = store.put_client(&client("cl_2", vec![]), &change(NOW)).await.unwrap();
    let (issuer, name) = ("https://login.example/realms/a", "partner app/1");
    let before = store.epoch().await.unwrap();
    let bound = store.bind_oauth(&one.id, issuer, name, &change(NOW + 1)).await.unwrap();
    assert_eq!(store.epoch().await.unwrap(), before + 1);
    assert_eq!(store.get_oauth(issuer, name).await.unwrap(), Some(bound.clone()));
    assert_eq!(store.get_oauth("https://login.example/realms/b", name).await.unwrap(), None);
    assert_eq!(store.list_oauth(&one.id).await.unwrap(), std::slice::from_ref(&bound));
    let twice = store.bind_oauth(&other.id, issuer, name, &change(NOW)).await.unwrap_err();
    assert!(twice.is_conflict() && twice.to_string().contains("bound already"), "{twice}");
    assert_eq!(
        store.unbind_oauth(issuer, name, None, &change(NOW + 2)).await.unwrap(),
        Some(bound)
    );
    assert_eq!(store.unbind_oauth(issuer, name, None, &change(NOW + 3)).await.unwrap(), None);
    assert!(store.list_oauth(&one.id).await.unwrap().is_empty());
    assert_eq!(store.epoch().await.unwrap(), before + 2);
    store.bind_oauth(&other.id, issuer, name, &change(NOW + 4)).await.unwrap();
    let audit = store.audit(NOW / DAY_MS).await.unwrap();
    let last = audit.last().unwrap();
    assert_eq!(last.action, "oauth.bind");
    assert_eq!(last.subject, format!("cl_2 = {name} of {issuer}"));
}

#[tokio::test]
async fn what_cannot_be_an_issuers_client_is_refused_and_never_asked_for() {
    let store = store().await;
    let one = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    let (long_issuer, long_client) = ("h".repeat(513), "c".repeat(257));
    for (issuer, name) in [
        ("", "a"),
        ("https://a b", "a"),
        ("https://a", ""),
        ("https://a", "a\nb"),
        (long_issuer.as_str(), "a"),
        ("https://a", long_client.as_str()),
    ] {
        let error = store.bind_oauth(&one.id, issuer, name, &change(NOW)).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{issuer} {name}: {error}");
        assert_eq!(store.get_oauth(issuer, name).await.unwrap(), None);
    }
    let nobody = ClientId::parse("cl_9").unwrap();
    let error = store.bind_oauth(&nobody, "https://a", "a", &change(NOW)).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    let (issuer, name) = ("h".repeat(512), "\u{e4}".repeat(128));
    store.bind_oauth(&one.id, &issuer, &name, &change(NOW)).await.unwrap();
    assert!(store.get_oauth(&issuer, &name).await.unwrap().is_some());
}

#[tokio::test]
async fn a_rotation_makes_a_key_and_ends_the_others_in_one_step() {
    let store = store().await;
    let owner = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    let stranger = store.put_client(&client("cl_2", vec![]), &change(NOW)).await.unwrap();
    let mut bytes = random(1);
    let mut issue = async |of: &ClientId| {
        let key = ApiKey::generate(&mut bytes);
        store.issue_key(key, of, &KeyTerms::new("x"), &change(NOW)).await.unwrap().record.id
    };
    let (one, two, theirs) =
        (issue(&owner.id).await, issue(&owner.id).await, issue(&stranger.id).await);
    let mut bytes = random(2);
    let mut rotate = async |keys: &[KeyId], until_ms| {
        let (key, terms) = (ApiKey::generate(&mut bytes), KeyTerms::new("new"));
        let replaced = Replaced { keys, until_ms };
        store.replace_keys(key, &owner.id, &terms, replaced, &change(NOW + 1)).await
    };
    let old = [one.clone(), two.clone()];
    let made = rotate(&old, NOW + 1_000).await.unwrap();
    for id in &old {
        let record = store.get_key(id).await.unwrap().unwrap();
        assert!(record.is_live(NOW + 999) && !record.is_live(NOW + 1_000));
    }
    assert!(store.get_key(&made.record.id).await.unwrap().unwrap().is_live(NOW + 1_000));
    for (keys, until_ms) in [
        (std::slice::from_ref(&theirs), NOW),
        (std::slice::from_ref(&one), NOW + 2_000),
        (std::slice::from_ref(&KeyId::parse("nobodyskey00").unwrap()), NOW),
    ] {
        assert!(rotate(keys, until_ms).await.unwrap_err().is_conflict(), "{keys:?}");
    }
    assert_eq!(store.list_keys(&owner.id).await.unwrap().len(), 3);
    assert!(store.get_key(&theirs).await.unwrap().unwrap().is_live(NOW + 1_000));
    let actions: Vec<String> =
        store.audit(NOW / DAY_MS).await.unwrap().into_iter().map(|e| e.action).collect();
    assert_eq!(actions.iter().filter(|action| *action == "key.end").count(), 2);
}

#[tokio::test]
async fn a_key_is_good_from_its_networks_only() {
    let store = store().await;
    let owner = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    let key = ApiKey::generate(&mut random(1));
    let networks = ["10.1.0.0/16", "2001:db8::/32"].map(|text| text.parse().unwrap());
    let terms = KeyTerms { networks: networks.into(), ..KeyTerms::new("office") };
    store.issue_key(key.clone(), &owner.id, &terms, &change(NOW)).await.unwrap();
    let record = store.get_key(key.id()).await.unwrap().unwrap();
    assert_eq!(record.networks, networks);
    let check = |address: Option<&str>| {
        record.check(&key, store.pepper(), NOW, address.map(|text| text.parse().unwrap()))
    };
    assert_eq!(check(Some("10.1.2.3")), KeyCheck::Valid);
    assert_eq!(check(Some("2001:db8::7")), KeyCheck::Valid);
    assert_eq!(check(Some("10.2.0.1")), KeyCheck::WrongNetwork);
    assert_eq!(check(None), KeyCheck::WrongNetwork);
}

#[tokio::test]
async fn the_use_of_a_key_is_noted_beside_it_and_changes_no_epoch() {
    let store = store().await;
    let owner = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    let key = ApiKey::generate(&mut random(1));
    store.issue_key(key.clone(), &owner.id, &KeyTerms::new("ci"), &change(NOW)).await.unwrap();
    let epoch = store.epoch().await.unwrap();
    assert_eq!(store.last_key_use(key.id()).await.unwrap(), None);
    store.note_key_use(key.id(), NOW + 7).await.unwrap();
    assert_eq!(store.last_key_use(key.id()).await.unwrap(), Some(NOW + 7));
    assert_eq!(store.epoch().await.unwrap(), epoch);
    assert!(store.get_key(key.id()).await.unwrap().is_some());
}
