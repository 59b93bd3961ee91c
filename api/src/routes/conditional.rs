//! Conditional requests: strong entity tags and `If-None-Match` (RFC 9110, 13.1.2). Pure.

use http::{HeaderMap, header};

/// Tags that are compared in one request; a longer list is taken as if nothing matched.
const MAX_TAGS: usize = 64;

/// The tag of what is shown of a message: the message never changes under its id, but not everybody sees all of it.
pub(crate) fn tag(version: &str) -> String {
    format!("\"{version}\"")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_NONE_MATCH, http::HeaderValue::from_static(value));
        }
        none_match(&headers, &tag("msg_a"))
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
