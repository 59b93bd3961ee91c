//! Server-sent events (WHATWG HTML, 9.2) as bytes. Pure.

use axum::response::Response;
use http::{HeaderName, HeaderValue, header};

/// The media type of a stream of events.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Tells proxies that would collect a body (nginx) to let it pass.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// An event without a name: what clients call a message. `id` and `name` have no line ends.
pub(super) fn message(out: &mut Vec<u8>, id: &str, data: &[u8]) {
    field(out, "id", id.as_bytes());
    lines(out, data);
}

/// An event with a name of its own.
pub(super) fn named(out: &mut Vec<u8>, name: &str, id: &str, data: &[u8]) {
    field(out, "event", name.as_bytes());
    message(out, id, data);
}

/// Moves a client's last id, and is no event: it has no data.
pub(super) fn mark(out: &mut Vec<u8>, id: &str) {
    field(out, "id", id.as_bytes());
    out.push(b'\n');
}

/// A line that every client passes over.
pub(super) fn comment(out: &mut Vec<u8>, text: &str) {
    field(out, "", text.as_bytes());
}

/// How long a client waits before it connects again.
pub(super) fn retry(out: &mut Vec<u8>, ms: u32) {
    field(out, "retry", ms.to_string().as_bytes());
}

/// The head of an answer that is a stream of events.
pub(super) fn head(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Data, a field for each of its lines: between the tokens of a JSON text a line may end in any of three ways.
fn lines(out: &mut Vec<u8>, data: &[u8]) {
    data.split(|byte| matches!(byte, b'\n' | b'\r')).for_each(|line| field(out, "data", line));
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn events_have_the_form_of_the_standard() {
        let text = written(|out| message(out, "a1", b"{\"n\":1}"));
        assert_eq!(text, "id: a1\ndata: {\"n\":1}\n\n");
        let text = written(|out| named(out, "end", "a1", b"{}"));
        assert_eq!(text, "event: end\nid: a1\ndata: {}\n\n");
        let text = written(|out| {
            comment(out, "still here");
            mark(out, "a1");
        });
        assert_eq!(text, ": still here\nid: a1\n\n");
        assert_eq!(written(|out| retry(out, 1_000)), "retry: 1000\n");
    }

    #[test]
    fn no_line_of_the_data_is_taken_for_a_field_of_its_own() {
        let text = written(|out| message(out, "a", b"{\r\n\"a\":\rid: 1,\nevent: x}"));
        let own = text.lines().filter(|line| !line.starts_with("data: ") && !line.is_empty());
        assert_eq!(own.collect::<Vec<_>>(), ["id: a"]);
        assert!(text.ends_with("data: event: x}\n\n"));
    }
}
