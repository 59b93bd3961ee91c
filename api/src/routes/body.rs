//! JSON bodies: read within their limit and parsed strictly. What is wrong is said by its place, and values are never
//! repeated: they may be secrets.

use axum::body::Body;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::problem::Problem;

/// What a body may say that it is: JSON, or a merge patch in it (RFC 7396).
const MEDIA_TYPES: &[&str] = &["application/json", "application/merge-patch+json"];

/// The body of a request as a value; `limit_bytes` are held to already.
pub(crate) async fn read<T: DeserializeOwned>(
    limit_bytes: u64,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    let stated = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = stated.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !MEDIA_TYPES.iter().any(|known| known.eq_ignore_ascii_case(media_type)) {
        return Err(Problem::unsupported_media_type("application/json"));
    }
    let bytes = bytes(body, limit_bytes).await?;
    // An array would be taken for the fields in their order.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::bad_request(
            "the body: found anything else, allowed is a JSON object",
        ));
    }
    serde_json::from_slice(&bytes).map_err(|error| not_read(&error))
}

/// The same, where no body at all means the default.
pub(crate) async fn read_or_default<T: DeserializeOwned + Default>(
    limit_bytes: u64,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    match axum::body::HttpBody::is_end_stream(&body) {
        true => Ok(T::default()),
        false => read(limit_bytes, headers, body).await,
    }
}

/// The whole body; `limit_bytes` are held to already.
pub(super) async fn bytes(body: Body, limit_bytes: u64) -> Result<axum::body::Bytes, Problem> {
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(match is_too_large(&error) {
            true => Problem::body_too_large(limit_bytes),
            false => Problem::bad_request("the body did not arrive whole"),
        }),
    }
}

/// Tells `null` from what is not there, in a merge patch.
pub(crate) fn given<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn not_read(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let said = text.split(" at line ").next().unwrap_or_default();
    // Its other messages may repeat a value.
    let what = match said.split_once(", expected ") {
        Some((found, expected)) if found.starts_with("unknown variant") => {
            format!("found another name, allowed is {expected}")
        }
        _ if ["unknown field", "missing field", "duplicate field"]
            .iter()
            .any(|it| said.starts_with(it)) =>
        {
            said.to_owned()
        }
        _ => "this is not JSON of the form that is documented".to_owned(),
    };
    let (line, column) = (error.line(), error.column());
    Problem::bad_request(&format!("the body, at line {line}, column {column}: {what}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Named {
        name: String,
        kind: Option<Kind>,
        tokens: BTreeMap<String, u8>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
        Two,
    }

    #[test]
    fn what_is_wrong_is_said_by_its_place_without_its_value() {
        for (text, said) in [
            (r#"{"nam": 1}"#, "unknown field `nam`, expected one of `name`, `kind`, `tokens`"),
            (r#"{"name": "x"}"#, "missing field `tokens`"),
            (r#"{"name": "x", "tokens": {"a": "s3cret"}}"#, "line 1, column 38: this is not"),
            (r#"{"kind": "s3cret"}"#, "found another name, allowed is `one` or `two`"),
            (r#"{"name": "s3cret"#, "this is not JSON"),
        ] {
            let error = serde_json::from_str::<Named>(text).unwrap_err();
            let problem = format!("{:?}", not_read(&error));
            assert!(problem.contains(said) && !problem.contains("s3cret"), "{text}: {problem}");
        }
    }
}
