//! `Prefer: wait=N` (RFC 7240): how long a client is willing to wait for something new. Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Preferences that are looked at; what comes behind is passed over, as every preference may be.
const MAX_PREFERENCES: usize = 16;

/// The time that the first `wait` of a request asks for, cut at `longest`. What cannot be read is no preference.
pub(crate) fn wait(headers: &HeaderMap, longest: Duration) -> Option<Duration> {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let preferences = values.flat_map(|value| value.split(',')).take(MAX_PREFERENCES);
    let mut waits = preferences.filter_map(|preference| {
        // What follows a semicolon are parameters of a preference, and `wait` has none.
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        is_wait.then(|| value.trim().trim_matches('"').to_owned())
    });
    let seconds: u64 = waits.next()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(longest))
}

/// Says which time was given.
pub(crate) fn applied(wait: Duration) -> HeaderValue {
    let text = format!("wait={}", wait.as_secs());
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("wait"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(values: &[&'static str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_static(value));
        }
        wait(&headers, Duration::from_secs(20)).map(|wait| wait.as_secs())
    }

    #[test]
    fn the_time_is_read_in_every_form_and_cut_at_the_longest() {
        assert_eq!(asked(&["wait=5"]), Some(5));
        assert_eq!(asked(&["respond-async, WAIT = \"7\"; x=y"]), Some(7));
        assert_eq!(asked(&["respond-async", "wait=3, wait=9"]), Some(3));
        assert_eq!(asked(&["wait=86400"]), Some(20));
        assert_eq!(asked(&["wait=0"]), Some(0));
    }

    #[test]
    fn what_cannot_be_read_is_no_preference() {
        for bad in
            ["", "wait", "wait=", "wait=-1", "wait=1.5", "wait=99999999999999999999", "await=5"]
        {
            assert_eq!(asked(&[bad]), None, "{bad}");
        }
        assert_eq!(asked(&[]), None);
    }
}
