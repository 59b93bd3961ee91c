//! The address of a webhook's receiver: its form is checked here, where it may lead to is not
//! (whoever connects checks the resolved address).

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use http::Uri;

use super::SubscriptionError;
use crate::identity::shown;

/// Longest URL, in bytes.
const MAX_URL: usize = 2_048;

/// An absolute `https` or `http` URL without user, password and fragment.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WebhookUrl {
    text: Arc<str>,
    uri: Arc<Uri>,
}

impl WebhookUrl {
    /// Checks and takes a URL.
    pub fn parse(text: &str) -> Result<WebhookUrl, SubscriptionError> {
        let refused = |detail| SubscriptionError::Url { found: without_user(text), detail };
        if text.len() > MAX_URL {
            return Err(refused("up to 2048 bytes are allowed"));
        }
        if text.contains('#') {
            return Err(refused("a fragment is not allowed"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('\\') {
            return Err(refused("only printable ASCII without spaces and backslashes is allowed"));
        }
        let uri: Uri = text.parse().map_err(|_| refused("it is not a URL"))?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) {
            return Err(refused(
                "the scheme must be https (or http, where the operator allows it)",
            ));
        }
        let authority = uri.authority().ok_or(refused("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(refused("user and password are not allowed in it"));
        }
        if authority.host().is_empty() || authority.host() == "[]" {
            return Err(refused("it has no host"));
        }
        if !is_host(authority.host()) {
            return Err(refused(
                "the host must be a name of letters, digits, dots and dashes, an IPv4 address, or an IPv6 address in brackets",
            ));
        }
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if !port.is_empty() && authority.port_u16().is_none_or(|p| p == 0) {
            return Err(refused("the port must be 1 to 65535"));
        }
        Ok(WebhookUrl { text: Arc::from(text), uri: Arc::new(uri) })
    }

    /// The URL as given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL in parts.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// True if the connection is to be encrypted.
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The host: a name, an IPv4 address or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// The port, given or the scheme's own.
    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// Scheme, host and port: what may be shown, since paths sometimes carry tokens.
    pub fn origin(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        format!("{scheme}://{}:{}", self.host(), self.port())
    }
}

/// A name or an address by the letter: no zone, no percent-encoding, nothing that one reader takes for another host
/// than the next.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
    }
}

/// What of a refused URL an error may repeat: scheme and host at most, no user, path or query.
fn without_user(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if scheme.is_empty() { shown(host) } else { shown(&format!("{scheme}://{host}")) }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({:?})", self.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_its_parts() {
        let url = WebhookUrl::parse("https://hooks.example.com/in?token=x").unwrap();
        assert_eq!((url.host(), url.port(), url.is_https()), ("hooks.example.com", 443, true));
        assert_eq!(url.as_str(), "https://hooks.example.com/in?token=x");
        assert_eq!(format!("{url:?}"), "WebhookUrl(\"https://hooks.example.com:443\")");
        let plain = WebhookUrl::parse("http://127.0.0.1:8080").unwrap();
        assert_eq!((plain.host(), plain.port(), plain.is_https()), ("127.0.0.1", 8080, false));
        assert_eq!(WebhookUrl::parse("https://[::1]:9/x").unwrap().host(), "[::1]");
    }

    #[test]
    fn odd_forms_are_refused() {
        for bad in [
            "",
            "example.com",
            "/x",
            "ftp://example.com/",
            "https://",
            "https:///x",
            "https://user:pw@example.com/",
            "https://@example.com/",
            "https://example.com/#f",
            "https://example.com\\@evil/",
            "https://exa mple.com/",
            "https://example.com:0/",
            "https://example.com:99999/",
            "https://example.com:/",
            "https://ex\u{e4}mple.com/",
            "javascript:alert(1)",
            "https://[fe80::1%25eth0]/",
            "https://[127.0.0.1]/",
            "https://127%2e0%2e0%2e1/",
            "https://a,b/",
        ] {
            assert!(WebhookUrl::parse(bad).is_err(), "{bad:?}");
        }
        assert!(WebhookUrl::parse(&format!("https://example.com/{}", "a".repeat(2_048))).is_err());
    }

    #[test]
    fn a_refusal_repeats_no_password_and_no_path() {
        let error = WebhookUrl::parse("https://user:hunter2@example.com/tok-abc").unwrap_err();
        assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("tok-abc"));
    }
}
