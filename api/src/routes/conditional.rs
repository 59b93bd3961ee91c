//! Conditional requests: strong entity tags, `If-None-Match` and `If-Match` (RFC 9110, 13.1). Pure.

use http::{HeaderMap, header};

/// Tags that are compared in one request; a longer list is taken as if nothing matched.
const MAX_TAGS: usize = 64;

/// The tag of what is shown of a message: the message never changes under its id, but not everybody sees all of it.
pub(crate) fn tag(version: &str) -> String {
    ["\"", version, "\""].concat()
}

/// Whether the client already has what `tag` stands for.
pub(crate) fn none_match(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .take(MAX_TAGS)
        .map(str::trim)
        .any(|found| found == "*" || found.strip_prefix("W/").unwrap_or(found) == tag)
}

/// Whether a change may be made to what has this `tag` now: the client asked for no certain version, or for this one.
pub(crate) fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let mut given = headers.get_all(header::IF_MATCH).iter().peekable();
    given.peek().is_none()
        || given
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .take(MAX_TAGS)
            .map(str::trim)
            .any(|found| found == "*" || found == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, http::HeaderValue::from_static(value));
        }
        headers
    }

    fn matches(values: &[&'static str]) -> bool {
        none_match(&headers(header::IF_NONE_MATCH, values), &tag("msg_a"))
    }

    #[test]
    fn a_change_is_held_to_the_version_that_was_read_and_to_no_weak_one() {
        let may =
            |values: &[&'static str]| super::matches(&headers(header::IF_MATCH, values), "\"3\"");
        assert!(may(&[]) && may(&["*"]) && may(&["\"2\", \"3\""]));
        assert!(!may(&["\"2\""]) && !may(&["W/\"3\""]) && !may(&["3"]) && !may(&[""]));
    }

    #[test]
    fn a_tag_is_found_in_any_list_strong_or_weak() {
        assert!(matches(&["\"msg_a\""]));
        assert!(matches(&["\"x\", W/\"msg_a\""]));
        assert!(matches(&["\"x\"", "\"msg_a\""]));
        assert!(matches(&["*"]));
    }

    #[test]
    fn anything_else_is_no_match() {
        assert!(!matches(&[]));
        assert!(!matches(&["\"msg_b\"", "msg_a", ""]));
    }
}
