//! Where a question goes: the API's address, and paths and queries behind it. Pure.

use anyhow::Context;
use http::Uri;
use http::uri::Authority;
use store::{Entity, IntegrationName};

use crate::clients::is_loopback;

/// The API: scheme and authority, and nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base(String);

impl Base {
    /// Keys travel with every question: they go over TLS, or stay on this machine.
    pub(super) fn parse(text: &str) -> anyhow::Result<Base> {
        let allowed = "an https URL without a path, such as https://api.example.com (http only towards this machine)";
        let refused = || format!("--url: found {text:?}, allowed is {allowed}");
        let uri: Uri = text.parse().with_context(refused)?;
        let base = Base::of(&uri).with_context(refused)?;
        anyhow::ensure!(matches!(uri.path(), "" | "/") && uri.query().is_none(), refused());
        Ok(base)
    }

    fn of(uri: &Uri) -> Option<Base> {
        let (scheme, authority) = (uri.scheme_str()?, uri.authority().map(Authority::as_str)?);
        let base = format!("{scheme}://{authority}");
        let fits = !authority.contains('@')
            && (scheme == "https" || (scheme == "http" && is_loopback(&base)));
        fits.then_some(Base(base))
    }

    /// A path with its query, behind it.
    pub(super) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

/// Where a link leads: a whole one by itself, or to this base; a path only with one.
pub(super) fn of_link(link: &str, base: Option<&Base>) -> anyhow::Result<String> {
    let allowed = "the `self` of a message, such as https://api.example.com/v1/integrations/orders/messages/AbC...";
    let refused = || format!("LINK: found {link:?}, allowed is {allowed}");
    let uri: Uri = link.parse().with_context(refused)?;
    let is_message = uri.path().starts_with("/v1/integrations/")
        && uri.path().contains("/messages/")
        && uri.query().is_none();
    anyhow::ensure!(is_message, refused());
    let own = match uri.authority() {
        Some(_) => Some(Base::of(&uri).with_context(refused)?),
        None => None,
    };
    match (own, base) {
        (Some(own), Some(base)) if own != *base => {
            anyhow::bail!(
                "LINK leads to {}, but --url is {}: the key is for one of the two",
                own.0,
                base.0
            )
        }
        (Some(base), _) => Ok(base.join(uri.path())),
        (None, Some(base)) => Ok(base.join(uri.path())),
        (None, None) => anyhow::bail!("LINK has no host: say where the API is with --url"),
    }
}

/// Of an entity's messages.
pub(super) fn page_path(integration: &IntegrationName, entity: &Entity) -> String {
    format!("/v1/integrations/{integration}/entities/{}/messages", encoded(entity.as_str()))
}

/// Of an integration's new messages.
pub(super) fn tail_path(integration: &IntegrationName) -> String {
    format!("/v1/integrations/{integration}/tail")
}

/// A query of those that are given, with its question mark; empty without any.
pub(super) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given = pairs.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let pairs: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Percent-encoded, but for what is never special (RFC 3986, 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_over_tls_or_stay_on_this_machine() {
        for good in ["https://api.example.com", "https://10.0.0.1:8443/", "http://127.0.0.1:80"] {
            assert!(Base::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://api.example.com",
            "api.example.com",
            "ftp://127.0.0.1",
            "https://api.example.com/v1",
            "https://user:pw@api.example.com",
            "",
        ] {
            let error = Base::parse(bad).unwrap_err().to_string();
            assert!(error.contains("https://api.example.com (http only"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_link_leads_to_one_message_of_one_api() {
        let base = Base::parse("https://api.example.com").unwrap();
        let path = "/v1/integrations/q/messages/AbC_-";
        let whole = format!("https://api.example.com{path}");
        for (link, base) in [(whole.as_str(), None), (&whole, Some(&base)), (path, Some(&base))] {
            assert_eq!(of_link(link, base).unwrap(), whole);
        }
        assert!(of_link(path, None).unwrap_err().to_string().contains("--url"));
        let other = Base::parse("https://other.example.com").unwrap();
        assert!(of_link(&whole, Some(&other)).unwrap_err().to_string().contains("one of the two"));
        for bad in
            ["https://api.example.com/", "http://api.example.com/v1/integrations/q/messages/A"]
        {
            assert!(of_link(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_travel_encoded() {
        let (name, odd) = (IntegrationName::parse("q").unwrap(), Entity::parse("a/b ?ü").unwrap());
        assert_eq!(
            page_path(&name, &odd),
            "/v1/integrations/q/entities/a%2Fb%20%3F%C3%BC/messages"
        );
        let pairs = [("a", None), ("b", Some("1&2".to_owned())), ("c", Some("x".to_owned()))];
        assert_eq!((query(&pairs), query(&pairs[..1])), ("?b=1%262&c=x".to_owned(), String::new()));
    }
}
