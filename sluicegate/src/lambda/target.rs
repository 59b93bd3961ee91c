//! Path and query of a request as its client wrote them, from what each sender makes of them. Pure.
//!
//! What arrives encoded stays as it is, byte for byte. What a sender has decoded is encoded again by what paths of this API
//! look like: the one part that may hold a `/` is an entity.

use std::fmt::Write;

use lambda_http::aws_lambda_events::query_map::QueryMap;

const INTEGRATIONS: &str = "/v1/integrations/";
const ENTITIES: &str = "/entities/";
/// What may stand behind an entity.
const OF_ENTITIES: [&str; 2] = ["/messages", "/latest"];

/// A path that arrived encoded; what may not stand in a path as it is, is encoded.
pub(super) fn encoded_path(path: &str) -> String {
    let mut written = escaped(path, |byte| is_path(byte) || byte == b'%');
    if !written.starts_with('/') {
        written.insert(0, '/');
    }
    written
}

/// A path that arrived decoded, and with the name of the stage in front unless that is the default one.
pub(super) fn decoded_path(path: &str, stage: Option<&str>) -> String {
    let path = stage.map_or(path, |stage| without_stage(path, stage));
    if let Some((integration, entity, rest)) = entity_in(path) {
        return format!(
            "{INTEGRATIONS}{}{ENTITIES}{}{rest}",
            segment(integration),
            segment(entity)
        );
    }
    let segments: Vec<String> = path.trim_start_matches('/').split('/').map(segment).collect();
    format!("/{}", segments.join("/"))
}

/// A query that arrived encoded.
pub(super) fn encoded_query(query: &str) -> String {
    escaped(query, is_query)
}

/// Parameters whose names and values arrived encoded, several of a name in order.
pub(super) fn encoded_parameters(parameters: &QueryMap) -> String {
    joined(parameters, encoded_query)
}

/// Parameters whose names and values arrived decoded.
pub(super) fn decoded_parameters(parameters: &QueryMap) -> String {
    joined(parameters, segment)
}

fn without_stage<'p>(path: &'p str, stage: &str) -> &'p str {
    let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(stage));
    match rest {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// Integration, entity and what follows, of a decoded path that has an entity.
fn entity_in(path: &str) -> Option<(&str, &str, &str)> {
    let (integration, rest) = path.strip_prefix(INTEGRATIONS)?.split_once(ENTITIES)?;
    let found = OF_ENTITIES.iter().find_map(|end| Some((rest.strip_suffix(end)?, *end)));
    let (entity, end) = found?;
    (!integration.contains('/') && !entity.is_empty()).then_some((integration, entity, end))
}

/// By name, so that the same event is always the same request.
fn joined(parameters: &QueryMap, write: impl Fn(&str) -> String) -> String {
    let mut pairs: Vec<(&str, &str)> = parameters.iter().collect();
    pairs.sort_by_key(|(name, _)| *name);
    let pairs = pairs.into_iter().map(|(name, value)| format!("{}={}", write(name), write(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Text as one segment of a path, or as a name or value of a query.
fn segment(text: &str) -> String {
    escaped(text, is_unreserved)
}

fn escaped(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            written.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(written, "%{byte:02X}");
        }
    }
    written
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// What may stand in a path (RFC 3986, 3.3), but for `%`.
fn is_path(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@/".contains(&byte)
}

fn is_query(byte: u8) -> bool {
    is_path(byte) || b"?%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn what_arrived_encoded_stays_as_it_is() {
        for path in
            ["/v1/integrations/q/entities/a%2Fb%25%20%c3%84+~/latest", "/", "/a//b/../%2e%2e"]
        {
            assert_eq!(encoded_path(path), path);
        }
        assert_eq!(encoded_path("/a b?c#d\"é"), "/a%20b%3Fc%23d%22%C3%A9");
        assert_eq!(encoded_path(""), "/");
        assert_eq!(encoded_query("from=a%2Bb+c&x=1&x=2&y"), "from=a%2Bb+c&x=1&x=2&y");
        assert_eq!(encoded_query("a=b c#d"), "a=b%20c%23d");
    }

    #[test]
    fn an_entity_that_arrived_decoded_is_one_segment_again_whatever_is_in_it() {
        let path = |entity: &str| format!("/v1/integrations/quakes/entities/{entity}/latest");
        for (decoded, encoded) in [
            ("ci", "ci"),
            ("a/b", "a%2Fb"),
            ("100%", "100%25"),
            ("%2F", "%252F"),
            ("a+b c", "a%2Bb%20c"),
            ("Ä/é", "%C3%84%2F%C3%A9"),
            ("a/latest", "a%2Flatest"),
            ("/entities/", "%2Fentities%2F"),
            ("..", ".."),
        ] {
            assert_eq!(decoded_path(&path(decoded), None), path(encoded), "{decoded}");
        }
        let messages = "/v1/integrations/quakes/entities/a/latest/messages";
        let encoded = "/v1/integrations/quakes/entities/a%2Flatest/messages";
        assert_eq!(decoded_path(messages, None), encoded);
    }

    #[test]
    fn other_paths_that_arrived_decoded_keep_their_segments() {
        for path in ["/v1/me", "/", "/v1/integrations/quakes/messages/vRQ9-_F8", "/v1//me"] {
            assert_eq!(decoded_path(path, None), path);
        }
        assert_eq!(decoded_path("", None), "/");
        let without = "/v1/integrations/a/b/entities/c/latest";
        assert_eq!(decoded_path(without, None), without, "no integration has a slash");
        assert_eq!(
            decoded_path("/v1/integrations/q/entities//latest", None).matches('/').count(),
            6
        );
    }

    #[test]
    fn a_stage_is_taken_off_once_and_only_as_a_whole() {
        for (path, without) in [
            ("/prod/v1/me", "/v1/me"),
            ("/prod", "/"),
            ("/prod/", "/"),
            ("/production/v1/me", "/production/v1/me"),
            ("/v1/me", "/v1/me"),
            ("/prod/prod/v1/me", "/prod/v1/me"),
        ] {
            assert_eq!(decoded_path(path, Some("prod")), without);
        }
    }

    #[test]
    fn parameters_are_a_query_again() {
        let map = |pairs: &[(&str, &[&str])]| {
            let owned = |values: &[&str]| values.iter().map(ToString::to_string).collect();
            let pairs = pairs.iter().map(|(name, values)| (name.to_string(), owned(values)));
            QueryMap::from(pairs.collect::<HashMap<String, Vec<String>>>())
        };
        let decoded = map(&[("to", &["2026-01-01T00:00:00+01:00"]), ("cursor", &["a&b=c%", "d"])]);
        assert_eq!(
            decoded_parameters(&decoded),
            "cursor=a%26b%3Dc%25&cursor=d&to=2026-01-01T00%3A00%3A00%2B01%3A00"
        );
        let encoded = map(&[("to", &["a%2Bb+c"]), ("limit", &["5"])]);
        assert_eq!(encoded_parameters(&encoded), "limit=5&to=a%2Bb+c");
        assert_eq!(decoded_parameters(&QueryMap::default()), "");
    }
}
