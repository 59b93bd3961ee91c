//! The key that a request carries: pure, and before anything is looked up.

use http::{HeaderMap, HeaderName, header};
use store::ApiKey;

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

/// The one key of a request, from `x-api-key` or `Authorization: Bearer`, checked for form and
/// checksum.
pub(crate) fn key(headers: &HeaderMap) -> Result<ApiKey, Unusable> {
    let plain = headers.get_all(X_API_KEY).iter();
    let bearer = headers.get_all(header::AUTHORIZATION).iter();
    let mut texts = plain
        .map(|value| value.to_str().ok().map(str::trim))
        .chain(bearer.map(|value| value.to_str().ok().and_then(after_bearer)));
    let first = texts.next().ok_or(Unusable::Missing)?;
    if texts.next().is_some() {
        return Err(Unusable::Several);
    }
    let text = first.ok_or(Unusable::Malformed)?;
    ApiKey::parse(text).map_err(|_| Unusable::Malformed)
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
        key(&headers).map(|key| key.expose().to_owned())
    }

    #[test]
    fn a_key_comes_in_either_field() {
        let text = a_key().expose().to_owned();
        assert_eq!(read(&[("x-api-key", &text)]), Ok(text.clone()));
        assert_eq!(read(&[("authorization", &format!("bEaReR  {text}"))]), Ok(text));
    }

    #[test]
    fn two_keys_are_none() {
        let text = a_key().expose().to_owned();
        let both = [("x-api-key", text.as_str()), ("authorization", &format!("Bearer {text}"))];
        assert_eq!(read(&both), Err(Unusable::Several));
        assert_eq!(read(&[("x-api-key", &text), ("x-api-key", &text)]), Err(Unusable::Several));
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
