//! A webhook's form, and that nothing of it shows a secret.

use serde_json::{Value, json};

use super::*;

/// Stands in every place that may hold a secret.
const SECRET: &str = "s3cret-in-clear";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nczNjcmV0LWluLWNsZWFy\n-----END PRIVATE KEY-----\n";

fn settings(auth: Value) -> WebhookSettings {
    let document = json!({
        "form": "cloudevents-batch",
        "headers": { "X-Api-Key": SECRET },
        "auth": auth,
        "client_certificate": { "certificates": CERTIFICATE, "key": KEY },
    });
    serde_json::from_value(document).unwrap()
}

fn oauth() -> Value {
    json!({ "oauth": {
        "token_url": format!("https://login.example/{SECRET}"), "client_id": "me",
        "client_secret": SECRET, "scope": "a b", "place": "body",
    } })
}

fn webhook(auth: Value) -> WebhookDestination {
    let url = WebhookUrl::parse(&format!("https://hooks.example/{SECRET}")).unwrap();
    let secret = SigningSecret::parse("whsec_czNjcmV0LWluLWNsZWFyczNjcmV0LWluLWNsZWFy").unwrap();
    let mut webhook = WebhookDestination::new(url, secret);
    webhook.configure(&settings(auth)).unwrap();
    webhook
}

#[test]
fn everything_comes_back_as_it_was_kept_and_nothing_of_it_shows_a_secret() {
    for auth in [
        oauth(),
        json!({ "basic": { "user": "me", "password": SECRET } }),
        json!({ "bearer": { "token": SECRET } }),
    ] {
        let kept = webhook(auth);
        let text = serde_json::to_string(&WebhookDocument::from(&kept)).unwrap();
        assert!(text.contains(SECRET), "it is kept");
        let read = serde_json::from_str::<WebhookDocument>(&text).unwrap().read().unwrap();
        assert_eq!(read, kept);
        let shown = format!("{kept:?} {kept:#?}");
        for hidden in [SECRET, "czNjcmV0LWluLWNsZWFy", "AAAA"] {
            assert!(!shown.contains(hidden), "{hidden}: {shown}");
        }
        assert!(shown.contains("hooks.example") && shown.contains("x-api-key"), "{shown}");
    }
}

#[test]
fn a_plain_webhook_is_kept_in_the_form_that_it_always_had() {
    let url = WebhookUrl::parse("https://hooks.example/").unwrap();
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let plain = WebhookDestination::new(url, SigningSecret::parse(secret).unwrap());
    let kept = serde_json::to_value(WebhookDocument::from(&plain)).unwrap();
    assert_eq!(kept, json!({ "url": "https://hooks.example/", "secrets": [secret] }));
    assert_eq!(serde_json::from_value::<WebhookDocument>(kept).unwrap().read().unwrap(), plain);
}

#[test]
fn settings_are_taken_whole_or_not_at_all_and_a_refusal_repeats_no_secret() {
    let mut one = webhook(oauth());
    let before = one.clone();
    for (place, wrong) in [
        ("/headers", json!({ "host": SECRET })),
        ("/headers", json!({ "x-a": format!("{SECRET}\n") })),
        ("/auth", json!({ "bearer": { "token": format!("{SECRET} {SECRET}") } })),
        ("/auth", json!({ "basic": { "user": "a:b", "password": SECRET } })),
        ("/client_certificate", json!({ "certificates": SECRET, "key": SECRET })),
    ] {
        let mut document = serde_json::to_value(WebhookSettings::of(&before)).unwrap();
        *document.pointer_mut(place).unwrap() = wrong;
        let settings: WebhookSettings = serde_json::from_value(document).unwrap();
        let error = one.configure(&settings).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
        assert_eq!(one, before);
    }
    one.configure(&WebhookSettings::default()).unwrap();
    assert_eq!((one.form, &one.auth, &one.identity), (BodyForm::Raw, &None, &None));
}
