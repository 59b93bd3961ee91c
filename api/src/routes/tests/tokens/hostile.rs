//! Hostile tokens: one table, every one refused for the reason that it is there for, and all of them
//! answered alike.

use std::sync::Arc;

use aws_smithy_async::time::SharedTimeSource;
use serde_json::{Value, json};
use store::Client;

use super::super::access::shown;
use super::{API, CHANGE, ISSUER, KEYS, NOW_MS, NOW_S, claims, options, reads, with, world};
use crate::access::oauth::{Rejected, TokenFault, Tokens};
use crate::testing::forge::{Forge, base64, compact};

/// What a token is, the token, and why it is refused; `None`: by who it was given to.
type Row = (&'static str, String, Option<TokenFault>);

fn hmac(key: &[u8], signed: &[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    ring::hmac::sign(&key, signed).as_ref().to_vec()
}

/// A good token's parts.
fn parts(forge: &Forge) -> [String; 3] {
    let token = forge.token("ES256", "ec", &claims());
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

fn malformed(forge: &Forge) -> Vec<Row> {
    let [header, payload, signature] = parts(forge);
    let payload_text = claims().to_string();
    let header_text = r#"{"alg":"ES256","typ":"at+jwt","kid":"ec"}"#;
    let sign = |signed: &[u8]| forge.sign("ES256", signed);
    let twice = payload_text.replacen('{', r#"{"client_id":"somebody","#, 1);
    let deep_twice = payload_text.replacen('{', r#"{"x":{"a":1,"a":2},"#, 1);
    let algorithms = r#"{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"ec"}"#;
    let huge = with(json!({ "x": "y".repeat(9_000) }));
    // The last character carries bits that mean nothing; set, they would be another text of the same
    // signature.
    let mut loose = signature.clone();
    let last = loose.pop().unwrap();
    loose.push(char::from(last as u8 + 1));
    let rows = vec![
        ("two empty parts", "..".to_owned()),
        ("no signature", format!("{header}.{payload}.")),
        ("an empty payload", format!("{header}..{signature}")),
        ("an empty header", format!(".{payload}.{signature}")),
        ("padding", format!("{header}.{payload}.{signature}==")),
        ("bits that mean nothing", format!("{header}.{payload}.{loose}")),
        ("the other alphabet", format!("{header}.{payload}.{}", "+/".repeat(43))),
        ("a character of no alphabet", format!("{header}.{payload}!.{signature}")),
        ("a line inside", format!("{header}.{payload}\t.{signature}")),
        ("huge", forge.token("ES256", "ec", &huge)),
        ("a huge header", compact(&format!("{{\"x\":\"{}\"}}", "y".repeat(2_000)), "{}", sign)),
        ("a huge signature", format!("{header}.{payload}.{}", "A".repeat(1_000))),
        ("a client twice", compact(header_text, &twice, sign)),
        ("a member twice, deep inside", compact(header_text, &deep_twice, sign)),
        ("an algorithm twice", compact(algorithms, &payload_text, sign)),
        ("no object", compact(header_text, "[]", sign)),
        ("no JSON", compact(header_text, "client_id=partner", sign)),
        ("something behind the JSON", compact(header_text, &format!("{payload_text}{{}}"), sign)),
    ];
    let malformed = Some(TokenFault::Malformed);
    rows.into_iter().map(|(what, token)| (what, token, malformed)).collect()
}

fn headers(forge: &Forge, other: &Forge) -> Vec<Row> {
    let sign = |algorithm: &'static str| move |signed: &[u8]| forge.sign(algorithm, signed);
    let header = |members: Value| {
        let mut header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": "ec" });
        header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        header
    };
    let es256 =
        |members| compact(&header(members).to_string(), &claims().to_string(), sign("ES256"));
    let unsigned = |name: &str| {
        let header = header(json!({ "alg": name }));
        compact(&header.to_string(), &claims().to_string(), |_| vec![0; 64])
    };
    let key = &other.key_set()["keys"][1];
    let mut rows = Vec::new();
    for name in ["none", "None", "NONE", "nOnE", "", "ES256 ", "es256", "RS512", "HS512"] {
        rows.push(("an algorithm that is none of ours", unsigned(name), TokenFault::Algorithm));
    }
    rows.push(("a number as algorithm", es256(json!({ "alg": 7 })), TokenFault::Algorithm));
    for key in [forge.rsa_public(), pem(&forge.rsa_public()), b"secret".to_vec()] {
        let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": "rsa" });
        let token = compact(&header.to_string(), &claims().to_string(), |s| hmac(&key, s));
        rows.push(("HS256 with what is public", token, TokenFault::Algorithm));
    }
    for (what, members) in [
        ("an unknown extension", json!({ "crit": ["exp"], "exp": 1 })),
        ("no extension", json!({ "crit": [] })),
        ("a payload that is not encoded", json!({ "b64": false, "crit": ["b64"] })),
        ("a key of its own", json!({ "jwk": key })),
        ("an address of keys", json!({ "jku": "https://evil.example/keys" })),
        ("an address of certificates", json!({ "x5u": "http://169.254.169.254/latest" })),
        ("certificates of its own", json!({ "x5c": ["MIIB"] })),
        ("a compressed payload", json!({ "zip": "DEF" })),
        ("a kid that is no text", json!({ "kid": ["ec"] })),
        ("an empty kid", json!({ "kid": "" })),
        ("a long kid", json!({ "kid": "k".repeat(257) })),
    ] {
        rows.push((what, es256(members), TokenFault::Header));
    }
    for kind in [json!("id+jwt"), json!("dpop+jwt"), json!("logout+jwt"), json!(""), json!(1)] {
        rows.push(("another type", es256(json!({ "typ": kind })), TokenFault::Type));
    }
    let untyped = json!({ "alg": "ES256", "kid": "ec" });
    rows.push(("no type", forge.token_of(&untyped, &claims()), TokenFault::Type));
    for kid in [
        "../../../../etc/passwd",
        "/dev/null",
        "https://evil.example/key",
        "' OR 1=1 --",
        "ec' UNION SELECT 'k",
        "ec\0",
        "EC",
        "shared",
        "p384",
        "enc",
        "rs512",
    ] {
        rows.push(("a kid of no key", es256(json!({ "kid": kid })), TokenFault::UnknownKey));
    }
    let unnamed = json!({ "alg": "ES384", "typ": "at+jwt", "kid": "p384" });
    rows.push(("a wrong curve", forge.token_of(&unnamed, &claims()), TokenFault::Algorithm));
    rows.into_iter().map(|(what, token, fault)| (what, token, Some(fault))).collect()
}

fn pem(der: &[u8]) -> Vec<u8> {
    let text = data_encoding::BASE64.encode(der);
    format!("-----BEGIN RSA PUBLIC KEY-----\n{text}\n-----END RSA PUBLIC KEY-----\n").into_bytes()
}

fn signatures(forge: &Forge, other: &Forge) -> Vec<Row> {
    let [header, _, signature] = parts(forge);
    let of = |algorithm: &str, kid: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        let header = json!({ "alg": algorithm, "typ": "at+jwt", "kid": kid }).to_string();
        compact(&header, &claims().to_string(), |signed| sign(signed))
    };
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 1].to_vec();
    let half = |zero_first: bool, mut bytes: Vec<u8>| {
        let part = if zero_first { 0..32 } else { 32..64 };
        bytes[part].fill(0);
        bytes
    };
    let other_payload = base64(with(json!({ "client_id": "admin" })).to_string());
    let rows = vec![
        ("another payload", format!("{header}.{other_payload}.{signature}")),
        ("another issuer's key", other.token("ES256", "ec", &claims())),
        ("another issuer's RSA key", other.token("RS256", "rsa", &claims())),
        ("another issuer's Ed25519 key", other.token("EdDSA", "ed", &claims())),
        ("ES256, cut", of("ES256", "ec", &|s| cut(forge.sign("ES256", s)))),
        ("RS256, cut", of("RS256", "rsa", &|s| cut(forge.sign("RS256", s)))),
        ("EdDSA, cut", of("EdDSA", "ed", &|s| cut(forge.sign("EdDSA", s)))),
        ("ES256 in DER", of("ES256", "ec", &|s| forge.sign("ES256-DER", s))),
        ("r is zero", of("ES256", "ec", &|s| half(true, forge.sign("ES256", s)))),
        ("s is zero", of("ES256", "ec", &|s| half(false, forge.sign("ES256", s)))),
        ("r and s are zero", of("ES256", "ec", &|_| vec![0; 64])),
        ("a longer curve's", of("ES256", "ec", &|s| forge.sign("ES384", s))),
        ("RS256 as PS256", of("PS256", "rsa", &|s| forge.sign("RS256", s))),
        ("PS256 as RS256", of("RS256", "rsa", &|s| forge.sign("PS256", s))),
        ("an HMAC as RS256", of("RS256", "rsa", &|s| hmac(&forge.rsa_public(), s))),
        ("RSA zeros", of("RS256", "rsa", &|_| vec![0; 256])),
    ];
    let mut rows: Vec<Row> =
        rows.into_iter().map(|(what, token)| (what, token, Some(TokenFault::Signature))).collect();
    for (algorithm, kid) in [("RS256", "ec"), ("ES256", "rsa"), ("EdDSA", "ec"), ("ES256", "ed")] {
        let token = of(algorithm, kid, &|s| forge.sign(algorithm, s));
        rows.push(("a key of another kind", token, Some(TokenFault::UnknownKey)));
    }
    rows
}

fn contents() -> Vec<(&'static str, Value, Option<TokenFault>)> {
    use TokenFault::{Audience, Binding, Claims, Expired, IdToken, Issuer, NotYet};
    let thumbprint = base64([7; 32]);
    vec![
        ("another issuer", json!({ "iss": "https://login.example/realms/b" }), Some(Issuer)),
        ("a slash more", json!({ "iss": format!("{ISSUER}/") }), Some(Issuer)),
        ("other capitals", json!({ "iss": ISSUER.to_uppercase() }), Some(Issuer)),
        ("several issuers", json!({ "iss": [ISSUER] }), Some(Issuer)),
        ("no issuer", json!({ "iss": null }), Some(Issuer)),
        ("another audience", json!({ "aud": "https://other.example" }), Some(Audience)),
        ("a beginning of the audience", json!({ "aud": &API[..10] }), Some(Audience)),
        ("no audience", json!({ "aud": null }), Some(Audience)),
        ("an audience of no text", json!({ "aud": [API, 7] }), Some(Claims)),
        ("no audiences", json!({ "aud": [] }), Some(Claims)),
        ("an object as audience", json!({ "aud": { "0": API } }), Some(Claims)),
        ("expired", json!({ "exp": NOW_S - 31 }), Some(Expired)),
        ("expired long ago", json!({ "exp": 0 }), Some(Expired)),
        ("no end", json!({ "exp": null }), Some(Claims)),
        ("an end of text", json!({ "exp": (NOW_S + 60).to_string() }), Some(Claims)),
        ("an end beyond all time", json!({ "exp": 1e300 }), Some(Claims)),
        ("an end before all time", json!({ "exp": -1 }), Some(Claims)),
        ("not yet", json!({ "nbf": NOW_S + 31 }), Some(NotYet)),
        ("from the future", json!({ "iat": NOW_S + 31 }), Some(NotYet)),
        ("a beginning of text", json!({ "nbf": "0" }), Some(Claims)),
        ("made after its end", json!({ "iat": NOW_S + 9, "exp": NOW_S + 5 }), Some(Claims)),
        ("an id token's nonce", json!({ "nonce": "n" }), Some(IdToken)),
        ("an id token's hash", json!({ "at_hash": "h" }), Some(IdToken)),
        ("a logout token", json!({ "events": {} }), Some(IdToken)),
        ("Cognito's id token", json!({ "token_use": "id" }), Some(IdToken)),
        ("Keycloak's refresh token", json!({ "typ": "Refresh" }), Some(IdToken)),
        ("a scope that is a list", json!({ "scope": ["integration:quakes:read"] }), Some(Claims)),
        ("a scope that is a number", json!({ "scope": 1 }), Some(Claims)),
        ("no client", json!({ "client_id": null }), Some(Claims)),
        ("an empty client", json!({ "client_id": "" }), Some(Claims)),
        ("a client that is a list", json!({ "client_id": ["partner"] }), Some(Claims)),
        ("a long client", json!({ "client_id": "c".repeat(257) }), Some(Claims)),
        ("a client of nobody", json!({ "client_id": "somebody" }), None),
        ("a client of a client that is off", json!({ "client_id": "off" }), None),
        ("bound to a certificate", json!({ "cnf": { "x5t#S256": thumbprint } }), None),
        ("bound to a key", json!({ "cnf": { "jkt": thumbprint } }), Some(Binding)),
        ("bound to nothing", json!({ "cnf": {} }), Some(Binding)),
        ("bound to half a certificate", json!({ "cnf": { "x5t#S256": "AAAA" } }), Some(Binding)),
        ("bound twice", json!({ "cnf": { "x5t#S256": thumbprint, "jkt": "x" } }), Some(Binding)),
    ]
}

#[tokio::test]
async fn hostile_tokens_are_all_refused_and_all_alike() {
    let (mut world, forge, _) = world(vec![reads("quakes")]).await;
    let other = Forge::new(1);
    let (off, _) = world.client("off", vec![reads("quakes")]).await;
    world.access.put_client(&Client { enabled: false, ..off.clone() }, &CHANGE).await.unwrap();
    world.access.bind_oauth(&off.id, ISSUER, "off", &CHANGE).await.unwrap();

    let mut rows = malformed(&forge);
    rows.extend(headers(&forge, &other));
    rows.extend(signatures(&forge, &other));
    for (what, changes, fault) in contents() {
        rows.push((what, forge.token("ES256", "ec", &with(changes)), fault));
    }
    assert!(rows.len() > 100, "{}", rows.len());

    // The same issuer beside the router, to see why.
    let time = SharedTimeSource::new(world.wall.clone());
    let tokens = Tokens::new(&options(), &(Arc::new(world.published.clone()) as _), &time);
    let nothing = world.send(http::Request::get("/v1/me")).await;
    nothing.problem(401);
    for (what, token, fault) in rows {
        let verified = tokens.verify(&token, NOW_MS).await.map(|_| ());
        assert_eq!(verified, fault.map_or(Ok(()), |f| Err(Rejected::Fault(f))), "{what}: {token}");
        for _ in 0..2 {
            let answer = world.with_token("/v1/me", &token).await;
            assert_eq!(shown(&answer), shown(&nothing), "{what}: {token}");
        }
    }
    assert_eq!(
        world.with_token("/v1/me", &forge.token("ES256", "ec", &claims())).await.status,
        200
    );
    assert_eq!(world.published.fetches(KEYS), 2, "one of each");
}
