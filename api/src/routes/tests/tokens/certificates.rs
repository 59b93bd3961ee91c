//! Tokens bound to a client certificate (RFC 8705), over real TLS.

use http::Request;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{reads, with, world_with};
use crate::testing::forge::base64;
use crate::testing::{Certificate, Http};
use crate::{ClientCertificates, TlsReloader, Transport};

/// What `GET /v1/me` answers over one connection, twice: the second time the token is known.
async fn asked(mut http: Http, token: &str) -> u16 {
    let ask = || Request::get("/v1/me").header("authorization", format!("Bearer {token}"));
    let first = http.send(ask()).await.unwrap().status();
    assert_eq!(first, http.send(ask()).await.unwrap().status());
    first.as_u16()
}

async fn bound_tokens(listener: ClientCertificates) -> Vec<u16> {
    let (server, mine, other) = (Certificate::new(), Certificate::new(), Certificate::new());
    let (chain, key) = (server.chain_pem.as_bytes(), server.key_pem.as_bytes());
    let tls = TlsReloader::from_pem(chain, key, listener).unwrap();
    let change = |options: &mut crate::Options| options.transport = Transport::Tls(tls);
    let (mut world, forge, _) = world_with(vec![reads("quakes")], change).await;
    let thumbprint = base64(ring::digest::digest(&ring::digest::SHA256, &mine.der));
    let bound = with(json!({ "cnf": { "x5t#S256": thumbprint } }));
    let (bound, free) =
        (forge.token("ES256", "ec", &bound), forge.token("ES256", "ec", &with(json!({}))));
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.service.take().unwrap().run(stop.clone()));
    let address = world.handle.address();

    let mut answers = Vec::new();
    for version in [&TLS13, &TLS12] {
        for client in [&mine, &other] {
            let stream = server.connect_as(address, client, version).await.unwrap();
            answers.push(asked(Http::over(stream, false).await, &bound).await);
        }
    }
    // Certificates are public: without the key there is no connection.
    let thief = Certificate { der: mine.der.clone(), ..Certificate::new() };
    if let Ok(stream) = server.connect_as(address, &thief, &TLS13).await {
        let refused = Http::over(stream, false).await.get("/v1/me").await;
        assert_eq!(refused.is_ok(), listener == ClientCertificates::Ignored);
    }
    for token in [&bound, &free] {
        let without = server.connect(address, &["h2"]).await.unwrap();
        answers.push(asked(Http::over_tls(without).await, token).await);
    }
    stop.cancel();
    running.await.unwrap();
    answers
}

#[tokio::test]
async fn a_bound_token_is_good_only_where_its_certificate_is_shown() {
    let answers = bound_tokens(ClientCertificates::Requested).await;
    assert_eq!(answers, [200, 401, 200, 401, 401, 200]);
}

#[tokio::test]
async fn a_listener_that_asks_for_no_certificate_takes_no_bound_token() {
    let answers = bound_tokens(ClientCertificates::Ignored).await;
    assert_eq!(answers, [401, 401, 401, 401, 401, 200]);
}
