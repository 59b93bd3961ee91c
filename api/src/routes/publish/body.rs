//! A request's body as messages: what it may be, how it is read, and its lines.

use axum::body::Bytes;
use http::{HeaderMap, header};

use crate::publish::Line;
use crate::routes::problem::Problem;

/// The forms that a body may have.
pub(super) const MEDIA_TYPES: &str = "application/json, application/x-ndjson";

/// How messages stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The body is one message.
    One,
    /// Every line is one.
    Lines,
}

impl Form {
    /// The form that a request's header names.
    pub(super) fn of(headers: &HeaderMap) -> Result<Form, Problem> {
        let refused = |what: &str, found: &str| {
            let found: String = found.chars().take(100).collect();
            let detail =
                format!("{what}: found {found:?}, allowed is {MEDIA_TYPES}, in UTF-8 and as it is");
            Problem::not_postable(detail, MEDIA_TYPES)
        };
        if let Some(coding) = headers.get(header::CONTENT_ENCODING)
            && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(refused("content-encoding", &String::from_utf8_lossy(coding.as_bytes())));
        }
        let value = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let value = String::from_utf8_lossy(value.unwrap_or_default());
        media_type(&value).ok_or_else(|| refused("content-type", &value))
    }

    /// The messages of a body. A line of nothing but white space is none; every line counts.
    pub(super) fn split(self, body: &Bytes) -> Vec<Line> {
        match self {
            Form::One => vec![Line { number: None, payload: trimmed(body, body) }],
            Form::Lines => {
                let lines = (1..).zip(body.split(|byte| *byte == b'\n'));
                lines
                    .map(|(number, line)| Line {
                        number: Some(number),
                        payload: trimmed(body, line),
                    })
                    .filter(|line| !line.payload.is_empty())
                    .collect()
            }
        }
    }
}

fn media_type(value: &str) -> Option<Form> {
    let mut parts = value.split(';').map(str::trim);
    let form = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" => Form::One,
        "application/x-ndjson" => Form::Lines,
        _ => return None,
    };
    let is_utf8 = |part: &str| match part.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    parts.all(is_utf8).then_some(form)
}

/// A part of the body without the white space around it, which is no part of a JSON value. Not copied.
fn trimmed(body: &Bytes, part: &[u8]) -> Bytes {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = part.iter().position(|byte| !is_space(byte)).unwrap_or(part.len());
    let end = part.iter().rposition(|byte| !is_space(byte)).map_or(start, |at| at + 1);
    body.slice_ref(&part[start..end])
}

/// What was announced of a body.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(name: http::HeaderName, value: &'static str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        headers.insert(name, http::HeaderValue::from_static(value));
        Form::of(&headers).ok()
    }

    #[test]
    fn two_media_types_are_taken_in_utf8_and_not_compressed() {
        let of = |value| form(header::CONTENT_TYPE, value);
        assert_eq!(of("application/json"), Some(Form::One));
        assert_eq!(of("Application/JSON; Charset=\"UTF-8\""), Some(Form::One));
        assert_eq!(of("application/x-ndjson ; charset=utf-8"), Some(Form::Lines));
        for bad in ["", "text/plain", "application/jsonx", "application/json; charset=latin1"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(form(header::CONTENT_ENCODING, "gzip"), None);
        assert_eq!(form(header::CONTENT_ENCODING, "identity"), Some(Form::One));
        assert!(Form::of(&HeaderMap::new()).is_err());
    }

    #[test]
    fn lines_keep_their_numbers_and_lose_the_space_around_them() {
        let body = Bytes::from_static(b"{\"a\":1}\r\n\n \t\r\n  [ 1 ]\n7");
        let lines: Vec<_> = Form::Lines.split(&body);
        let seen: Vec<_> =
            lines.iter().map(|line| (line.number.unwrap(), line.payload.as_ref())).collect();
        assert_eq!(seen, [(1, &b"{\"a\":1}"[..]), (4, b"[ 1 ]"), (5, b"7")]);
        let one = Form::One.split(&body);
        assert_eq!((one.len(), one[0].number), (1, None));
        assert_eq!(one[0].payload.len(), body.len());
        assert!(Form::Lines.split(&Bytes::from_static(b"\n \n")).is_empty());
        assert_eq!(Form::One.split(&Bytes::new())[0].payload.len(), 0);
    }
}
