//! Headers that every call of a webhook carries, as its owner wants. Their values may be secrets.

use std::fmt;

use http::{HeaderName, HeaderValue};

use crate::subscriptions::SubscriptionError;

/// Most headers of one webhook.
const MAX_HEADERS: usize = 20;
/// Longest value, in bytes.
const MAX_VALUE: usize = 1_024;

/// Headers that are the protocol's, or ours.
const RESERVED: &[&str] = &[
    // Hop by hop (RFC 9110 7.6.1, and what was one before), and what frames a request.
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // What the body is, and who sends it.
    "content-encoding",
    "content-type",
    "user-agent",
    // The webhook's authentication has its own place.
    "authorization",
];

/// What headers of ours start with.
const RESERVED_PREFIXES: &[&str] = &["webhook-", "ce-", "sluicegate-"];

/// Up to 20 headers of up to 1,024 bytes. Debug shows their names only.
#[derive(Clone, Default, PartialEq)]
pub struct StaticHeaders(Vec<(HeaderName, HeaderValue)>);

impl StaticHeaders {
    /// Checks and takes names and values.
    pub fn parse<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<StaticHeaders, SubscriptionError> {
        let mut taken: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for (name, value) in headers {
            let refused =
                |detail| SubscriptionError::Header { found: crate::identity::shown(name), detail };
            if taken.len() == MAX_HEADERS {
                return Err(refused("it is one too many: up to 20 are allowed"));
            }
            let parsed = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| refused("it is no name of a header"))?;
            let text = parsed.as_str();
            if RESERVED.contains(&text) {
                return Err(refused("this header is set by the protocol or by Sluicegate"));
            }
            if RESERVED_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
                return Err(refused("webhook-*, ce-* and sluicegate-* are Sluicegate's own"));
            }
            if taken.iter().any(|(other, _)| *other == parsed) {
                return Err(refused("it stands there twice"));
            }
            if value.len() > MAX_VALUE || value.trim() != value {
                return Err(refused("its value has more than 1024 bytes, or spaces around it"));
            }
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| refused("its value has characters that no header may have"))?;
            value.set_sensitive(true);
            taken.push((parsed, value));
        }
        // In one order, so that what is read again equals what was kept.
        taken.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        Ok(StaticHeaders(taken))
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for StaticHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name.as_str())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_ones_own_are_taken() {
        let headers =
            StaticHeaders::parse([("X-Api-Key", "k1"), ("x-tenant", "acme corp")]).unwrap();
        let texts: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(texts, [("x-api-key", "k1"), ("x-tenant", "acme corp")]);
        assert_eq!(format!("{headers:?}"), r#"["x-api-key", "x-tenant"]"#);
    }

    #[test]
    fn the_protocols_headers_and_ours_are_refused_by_name() {
        for name in RESERVED.iter().chain(&[
            "Host",
            "Transfer-Encoding",
            "WEBHOOK-ID",
            "webhook-signature",
            "ce-id",
            "sluicegate-attempt",
            "",
            "x y",
            "x:y",
            "x\r\ny",
            "\u{e4}",
        ]) {
            let error = StaticHeaders::parse([(*name, "v4lue")]).unwrap_err().to_string();
            assert!(error.starts_with("header \"") && !error.contains("v4lue"), "{name}: {error}");
        }
        assert!(StaticHeaders::parse([("x-a", "1"), ("X-A", "2")]).is_err(), "twice");
    }

    #[test]
    fn values_that_could_end_the_header_or_fill_the_request_are_refused_and_not_repeated() {
        let long = "s3cret".repeat(200);
        for value in ["s3cret\r\nx: y", "s3cret\n", " s3cret", "s3cret\0", long.as_str()] {
            let error = StaticHeaders::parse([("x-a", value)]).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        let names: Vec<String> = (0..21).map(|n| format!("x-{n}")).collect();
        assert!(StaticHeaders::parse(names.iter().map(|n| (n.as_str(), "1"))).is_err());
    }
}
