//! `[api.oauth]`: whose access tokens are taken, and how the issuers' keys are fetched.

use std::time::Duration;

use api::{Algorithm, ClientClaim, Issuer, OAuthOptions};

use super::section::Section;
use super::sections::seconds;
use crate::clients::is_loopback;

const URL: &str = "an https URL, such as \"https://login.example.com/realms/partners\" (http only to this machine)";
const ALGORITHM: &str = "one of \"RS256\", \"ES256\", \"PS256\" and \"EdDSA\"";

pub(super) fn read(section: &mut Section<'_>) -> OAuthOptions {
    let default = OAuthOptions::default();
    let options = OAuthOptions {
        refresh_interval: section.duration(
            "refresh_interval",
            default.refresh_interval,
            seconds(10)..=seconds(24 * 3_600),
        ),
        min_refresh_interval: section.duration(
            "min_refresh_interval",
            default.min_refresh_interval,
            seconds(1)..=seconds(600),
        ),
        max_stale: section.duration(
            "max_stale",
            default.max_stale,
            seconds(60)..=seconds(30 * 24 * 3_600),
        ),
        fetch_timeout: section.duration(
            "fetch_timeout",
            default.fetch_timeout,
            Duration::from_millis(100)..=seconds(60),
        ),
        issuers: section.sections("issuers", issuer),
    };
    if options.max_stale < options.refresh_interval {
        let found = format!("{:?}", options.max_stale);
        section.refuse("max_stale", found, "refresh_interval or more");
    }
    for (at, issuer) in options.issuers.iter().enumerate() {
        if options.issuers[..at].iter().any(|before| before.issuer == issuer.issuer) {
            section.refuse("issuers", format!("{} twice", issuer.issuer), "every issuer once");
        }
    }
    options
}

fn issuer(section: &mut Section<'_>) -> Option<Issuer> {
    let default = Issuer::new("");
    let claims = [ClientClaim::ClientId, ClientClaim::Azp, ClientClaim::Sub];
    let claims = claims.map(|claim| (claim.name(), claim));
    let name = section.optional("issuer", URL, url);
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let quoted = |text: &String| toml::Value::String(text.clone()).to_string();
    let audiences = section.list("audiences", Vec::new(), "a name of this API", text, quoted);
    let without_audience = section.boolean("without_audience", false);
    let issuer = Issuer {
        client_claim: section.choice("client_claim", default.client_claim, &claims),
        algorithms: section.list(
            "algorithms",
            default.algorithms,
            ALGORITHM,
            Algorithm::parse,
            |algorithm| format!("\"{}\"", algorithm.name()),
        ),
        jwks_uri: section.optional("jwks_uri", URL, url),
        untyped: section.boolean("untyped", default.untyped),
        scope_prefix: section.parsed("scope_prefix", String::new(), "a text", |text| {
            (!text.contains(' ')).then(|| text.to_owned())
        }),
        leeway: section.duration("leeway", default.leeway, Duration::ZERO..=seconds(60)),
        audiences,
        issuer: name.unwrap_or_default(),
    };
    if issuer.issuer.is_empty() {
        section.missing("issuer", URL);
        return None;
    }
    if issuer.algorithms.is_empty() {
        section.refuse("algorithms", "none", format!("at least {ALGORITHM}"));
        return None;
    }
    match (issuer.audiences.is_empty(), without_audience) {
        (true, false) => {
            let needed = "the names that tokens for this API have in `aud`; or without_audience = true, which takes tokens that have none, and only those";
            section.missing("audiences", needed);
            None
        }
        (false, true) => {
            section.refuse("without_audience", "true beside audiences", "one of the two");
            None
        }
        _ => Some(issuer),
    }
}

/// Where keys may come from.
fn url(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    let is_safe = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_loopback(text),
        _ => false,
    };
    (has_host && is_safe && uri.query().is_none() && text.len() <= 512).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in ["https://a.example/realms/x", "http://127.0.0.1:9/x", "http://localhost"] {
            assert_eq!(url(good).as_deref(), Some(good));
        }
        for bad in ["http://a.example", "a.example", "file:///etc/x", "https://", "https://a/?x=1"]
        {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
}
