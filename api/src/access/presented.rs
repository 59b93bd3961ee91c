//! The key or token that a request carries: pure, and before anything is looked up. The two are told
//! apart by their form.

use http::{HeaderMap, HeaderName, header};
use store::ApiKey;

use super::oauth::looks_like_one;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// A scheme that is compared without regard to case (RFC 9110, 11.1).
const BEARER: &str = "bearer ";

/// Why there is no usable key. For the log; the client hears the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// None was given.
    Missing,
    /// Two were given: which one counts would be a guess.
    Several,
    /// What was given is no key of this service.
    Malformed,
}

/// What a request carries.
#[derive(Debug)]
pub(crate) enum Presented<'h> {
    /// An API key, checked for form and checksum.
    Key(ApiKey),
    /// What has the form of an access token.
    Token(&'h str),
}

/// The one credential of a request: a key from `x-api-key` or `Authorization: Bearer`, or, where
/// `tokens` are taken at all, an access token from the latter.
pub(crate) fn credential(headers: &HeaderMap, tokens: bool) -> Result<Presented<'_>, Unusable> {
    let plain = headers.get_all(X_API_KEY).iter();
    let bearer = headers.get_all(header::AUTHORIZATION).iter();
    let mut texts = plain
        .map(|value| (false, value.to_str().ok().map(str::trim)))
        .chain(bearer.map(|value| (tokens, value.to_str().ok().and_then(after_bearer))));
    let (may_be_token, first) = texts.next().ok_or(Unusable::Missing)?;
    if texts.next().is_some() {
        return Err(Unusable::Several);
    }
    let text = first.ok_or(Unusable::Malformed)?;
    if may_be_token && looks_like_one(text) {
        return Ok(Presented::Token(text));
    }
    ApiKey::parse(text).map(Presented::Key).map_err(|_| Unusable::Malformed)
}

fn after_bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_key() -> ApiKey {
        ApiKey::generate(&mut |bytes: &mut [u8]| bytes.fill(7))
    }

    fn read(fields: &[(&'static str, &str)]) -> Result<String, Unusable> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        credential(&headers, true).map(|presented| match presented {
            Presented::Key(key) => key.expose().to_owned(),
            Presented::Token(text) => format!("token {text}"),
        })
    }

    #[test]
    fn a_key_comes_in_either_field() {
        let text = a_key().expose().to_owned();
        assert_eq!(read(&[("x-api-key", &text)]), Ok(text.clone()));
        assert_eq!(read(&[("authorization", &format!("bEaReR  {text}"))]), Ok(text));
    }

    #[test]
    fn a_token_is_told_by_its_form_and_comes_as_bearer_alone() {
        assert_eq!(read(&[("authorization", "Bearer a.b.c")]), Ok("token a.b.c".to_owned()));
        for bad in [
            ("x-api-key", "a.b.c"),
            ("authorization", "Bearer a.b"),
            ("authorization", "Bearer a.b.c.d.e"),
            ("authorization", "DPoP a.b.c"),
        ] {
            assert_eq!(read(&[bad]), Err(Unusable::Malformed), "{bad:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer a.b.c".parse().unwrap());
        assert_eq!(credential(&headers, false).unwrap_err(), Unusable::Malformed);
    }

    #[test]
    fn two_keys_are_none() {
        let text = a_key().expose().to_owned();
        let both = [("x-api-key", text.as_str()), ("authorization", &format!("Bearer {text}"))];
        assert_eq!(read(&both), Err(Unusable::Several));
        assert_eq!(read(&[("x-api-key", &text), ("x-api-key", &text)]), Err(Unusable::Several));
        let mixed = [("x-api-key", text.as_str()), ("authorization", "Bearer a.b.c")];
        assert_eq!(read(&mixed), Err(Unusable::Several));
    }

    #[test]
    fn what_has_not_the_form_is_refused_before_any_look_up() {
        let text = a_key().expose().to_owned();
        let mut typo = text.clone();
        typo.replace_range(25..26, "!");
        assert_eq!(read(&[]), Err(Unusable::Missing));
        for bad in [
            ("x-api-key", ""),
            ("x-api-key", typo.as_str()),
            ("authorization", text.as_str()),
            ("authorization", "Basic dXNlcg=="),
        ] {
            assert_eq!(read(&[bad]), Err(Unusable::Malformed), "{bad:?}");
        }
    }
}
