//! What a webhook shows and in which form it comes, over real sockets on loopback.

use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;

use super::*;

/// A receiver that answers every request of this path so, and everything else with 200.
async fn answering(path: &'static str, status: u16, body: &'static str) -> Receiver {
    let answer = move |request: &Request<()>| {
        let mut response = Response::new(Full::default());
        if request.uri().path() == path {
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            *response.body_mut() = Full::new(Bytes::from_static(body.as_bytes()));
        }
        response
    };
    Receiver::start(None, Arc::new(answer)).await
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
}

#[tokio::test]
async fn static_headers_and_fixed_authorization_go_with_every_message() {
    let receiver = Receiver::answering(200).await;
    let settings = json!({
        "headers": { "X-Api-Key": "k3y" },
        "auth": { "basic": { "user": "me", "password": "pw" } },
    });
    assert_eq!(Sent::with(settings, &receiver).outcome().await, Outcome::Accepted);
    let (headers, body) = receiver.got.lock().unwrap()[0].clone();
    assert_eq!(text(&headers, "x-api-key"), "k3y");
    assert_eq!(text(&headers, "authorization"), "Basic bWU6cHc=");
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&body, &headers).unwrap();
}

#[tokio::test]
async fn what_its_client_entered_does_not_reach_the_places_that_operators_vouch_for() {
    let receiver = Receiver::answering(200).await;
    let mut sent = Sent::with(json!({}), &receiver);
    sent.public_only = true;
    let failure = sent.failure().await;
    assert!(failure.detail.contains("refused"), "{}", failure.detail);
    assert!(receiver.got.lock().unwrap().is_empty());
    sent.public_only = false;
    assert_eq!(sent.outcome().await, Outcome::Accepted);
}

#[tokio::test]
async fn what_a_receiver_echoes_is_kept_without_our_secrets() {
    let echo = |request: &Request<()>| {
        let mut body = String::from("you sent: ");
        for (name, value) in request.headers() {
            body.push_str(&format!("{name}={} ", value.to_str().unwrap()));
        }
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response
    };
    let receiver = Receiver::start(None, Arc::new(echo)).await;
    let settings = json!({
        "headers": { "x-api-key": "k3y-s3cret" },
        "auth": { "bearer": { "token": "t0ken-s3cret" } },
    });
    let failure = Sent::with(settings, &receiver).failure().await;
    assert!(failure.detail.contains("you sent") && failure.detail.contains("[redacted]"));
    assert!(!failure.detail.contains("s3cret"), "{}", failure.detail);
}

#[tokio::test]
async fn every_form_is_signed_as_it_is_sent() {
    for (form, content_type) in [
        ("raw", "application/json"),
        ("cloudevents-structured", "application/cloudevents+json"),
        ("cloudevents-binary", "application/json"),
        ("cloudevents-batch", "application/cloudevents-batch+json"),
    ] {
        let receiver = Receiver::answering(200).await;
        let webhook = Sent::with(json!({ "form": form }), &receiver).webhook();
        let outcomes = webhook.attempt(vec![Outgoing { message: message(), attempt: 2 }]).await;
        assert_eq!(outcomes, [Outcome::Accepted], "{form}");
        let (headers, body) = receiver.got.lock().unwrap()[0].clone();
        standardwebhooks::Webhook::new(SECRET).unwrap().verify(&body, &headers).unwrap();
        assert_eq!(text(&headers, "content-type"), content_type);
        assert_eq!(text(&headers, "sluicegate-attempt"), "2");
        let binary = form == "cloudevents-binary";
        assert_eq!(text(&headers, "ce-subject"), if binary { "us" } else { "" });
    }
}

#[tokio::test]
async fn a_batch_is_one_request_whose_answer_settles_all() {
    for (status, kind) in
        [(200, None), (500, Some(FailureKind::Unhealthy)), (410, Some(FailureKind::Gone))]
    {
        let receiver = Receiver::answering(status).await;
        let webhook = Sent::with(json!({ "form": "cloudevents-batch" }), &receiver).webhook();
        assert_eq!(webhook.most_at_once(), BATCH);
        let outcomes = webhook.attempt(vec![Outgoing { message: message(), attempt: 1 }; 7]).await;
        assert_eq!((outcomes.len(), receiver.requests()), (7, 1));
        for outcome in outcomes {
            let found = match outcome {
                Outcome::Failed(failure) => Some(failure.kind),
                _ => None,
            };
            assert_eq!(found, kind);
        }
        let (_, body) = receiver.got.lock().unwrap()[0].clone();
        let events: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(events.as_array().unwrap().len(), 7);
    }
}

#[tokio::test]
async fn a_thin_webhook_without_the_apis_address_waits_and_says_what_is_missing() {
    let receiver = Receiver::answering(200).await;
    let failure = Sent::with(json!({ "form": "thin" }), &receiver).failure().await;
    assert_eq!((failure.kind, receiver.requests()), (FailureKind::Unreachable, 0));
    assert!(failure.detail.contains("api.public_url"), "{}", failure.detail);
}

fn oauth(endpoint: &Receiver) -> Value {
    json!({ "auth": { "oauth": {
        "token_url": format!("http://{}/token", endpoint.address),
        "client_id": "me", "client_secret": "s3cret",
    } } })
}

const TOKEN: &str = r#"{"access_token":"t0ken","token_type":"Bearer","expires_in":3600}"#;

#[tokio::test]
async fn a_fetched_token_is_kept_until_the_receiver_refuses_it() {
    let endpoint = answering("/token", 200, TOKEN).await;
    let receiver = Receiver::answering(200).await;
    let webhook = Sent::with(oauth(&endpoint), &receiver).webhook();
    for _ in 0..3 {
        assert_eq!(attempt(&webhook, 1).await, Outcome::Accepted);
    }
    assert_eq!((endpoint.requests(), receiver.requests()), (1, 3));
    assert_eq!(text(&receiver.got.lock().unwrap()[0].0, "authorization"), "Bearer t0ken");

    let refusing = Receiver::answering(401).await;
    let webhook = Sent::with(oauth(&endpoint), &refusing).webhook();
    for _ in 0..2 {
        let Outcome::Failed(failure) = attempt(&webhook, 1).await else { panic!("refused") };
        assert_eq!(failure.kind, FailureKind::Refused, "it is tried again on the schedule");
    }
    assert_eq!(endpoint.requests(), 3, "each refusal had a token of its own");
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let receiver = Receiver::answering(200).await;
    let denying = answering("/token", 401, r#"{"error":"invalid_client"}"#).await;
    let failure = Sent::with(oauth(&denying), &receiver).failure().await;
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(failure.detail.contains("401") && failure.detail.contains("invalid_client"));

    // The token endpoint obeys the guard: this one is on a port that nobody vouched for.
    let elsewhere = answering("/token", 200, TOKEN).await;
    let mut guarded = Sent::with(oauth(&elsewhere), &receiver);
    let vouched: &'static str = Box::leak(receiver.address.to_string().into_boxed_str());
    guarded.allowed = Box::leak(Box::new([vouched]));
    let failure = guarded.failure().await;
    assert!(failure.detail.contains("https is required"), "{}", failure.detail);
    assert_eq!((elsewhere.requests(), receiver.requests()), (0, 0));
}

/// A certificate of its own making, with its key, both in PEM.
fn made(name: &str) -> (rcgen::CertifiedKey<rcgen::KeyPair>, String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    (made, certificate, key)
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_receiver_that_asks() {
    let (server, _, _) = made("localhost");
    let (client, certificate, key) = made("sluicegate.example");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(client.cert.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![server.cert.der().clone()],
            PrivateKeyDer::try_from(server.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let ok = |_: &Request<()>| Response::new(Full::default());
    let receiver = Receiver::start(Some(TlsAcceptor::from(Arc::new(config))), Arc::new(ok)).await;
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(server.cert.der().clone()).unwrap();
    let sent = |settings: Value| Sent {
        roots: trusted.clone(),
        settings,
        allowed: &["127.0.0.0/8", "::1"],
        ..Sent::to(format!("https://localhost:{}/", receiver.address.port()))
    };
    let nothing_shown = sent(json!({})).failure().await;
    assert_eq!((nothing_shown.kind, receiver.requests()), (FailureKind::Unreachable, 0));
    let shown = json!({ "client_certificate": { "certificates": certificate, "key": key } });
    assert_eq!(sent(shown).outcome().await, Outcome::Accepted);

    let (_, _, other_key) = made("sluicegate.example");
    let mixed = json!({ "client_certificate": { "certificates": certificate, "key": other_key } });
    let failure = sent(mixed).failure().await;
    assert!(failure.detail.contains("client certificate"), "{}", failure.detail);
    assert_eq!(receiver.requests(), 1);
}
