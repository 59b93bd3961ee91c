//! From an answer to what the sender of the event takes for one.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use lambda_http::Body;
use lambda_http::aws_lambda_events::alb::AlbTargetGroupResponse;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayV2httpResponse};
use serde::Serialize;

use super::event::Sender;

/// Text up to here goes as text, however much longer JSON makes it.
const SHORT_BYTES: usize = 64 * 1024;

/// An answer in the form of its sender.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Reply {
    Format2(ApiGatewayV2httpResponse),
    Format1(ApiGatewayProxyResponse),
    LoadBalancer(AlbTargetGroupResponse),
}

/// See the module.
pub(super) fn of(to: Sender, response: Response<Bytes>) -> Reply {
    let (head, body) = response.into_parts();
    let mut headers = head.headers;
    // Of the connection, which is the sender's.
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
        headers.remove(name);
    }
    let status_code = i64::from(head.status.as_u16());
    let body = written(to, body);
    let is_base64_encoded = matches!(body, Some(Body::Binary(_)));
    match to {
        Sender::HttpApi | Sender::FunctionUrl => {
            let mut reply = ApiGatewayV2httpResponse::default();
            reply.headers = one_value_each(&headers);
            (reply.status_code, reply.body, reply.is_base64_encoded) =
                (status_code, body, is_base64_encoded);
            Reply::Format2(reply)
        }
        Sender::RestApi | Sender::HttpApiInFormat1 => {
            let mut reply = ApiGatewayProxyResponse::default();
            reply.multi_value_headers = headers;
            (reply.status_code, reply.body, reply.is_base64_encoded) =
                (status_code, body, is_base64_encoded);
            Reply::Format1(reply)
        }
        Sender::LoadBalancer => {
            let mut reply = AlbTargetGroupResponse::default();
            // Which of the two it takes depends on how its target group is set up.
            reply.headers = one_value_each(&headers);
            reply.multi_value_headers = headers;
            let reason = head.status.canonical_reason().unwrap_or_default();
            reply.status_description = Some(format!("{status_code} {reason}"));
            (reply.status_code, reply.body, reply.is_base64_encoded) =
                (status_code, body, is_base64_encoded);
            Reply::LoadBalancer(reply)
        }
    }
}

/// As text where that is possible and not much longer than base64.
fn written(to: Sender, body: Bytes) -> Option<Body> {
    if body.is_empty() {
        return None;
    }
    let Ok(text) = std::str::from_utf8(&body) else { return Some(Body::Binary(body.into())) };
    let is_short = text.len() <= SHORT_BYTES || escaped_bytes(text) <= text.len() / 3 * 4;
    if is_short || !to.takes_base64() {
        Some(Body::Text(text.to_owned()))
    } else {
        Some(Body::Binary(body.into()))
    }
}

/// The bytes that text has inside a JSON string.
fn escaped_bytes(text: &str) -> usize {
    let written = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(written).sum()
}

/// Several values of a header as one, which says the same (RFC 9110, 5.3).
fn one_value_each(headers: &HeaderMap) -> HeaderMap {
    let mut joined = HeaderMap::with_capacity(headers.keys_len());
    for name in headers.keys() {
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(value) = HeaderValue::from_bytes(&values.join(&b", "[..])) {
            joined.insert(name.clone(), value);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ALL: [Sender; 5] = [
        Sender::HttpApi,
        Sender::HttpApiInFormat1,
        Sender::FunctionUrl,
        Sender::RestApi,
        Sender::LoadBalancer,
    ];

    fn reply(to: Sender, status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Value {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        serde_json::to_value(of(to, response.body(body.into()).unwrap())).unwrap()
    }

    #[test]
    fn each_sender_gets_every_value_of_every_header_in_its_form() {
        let two = [("vary", "a"), ("vary", "b"), ("etag", "\"x\""), ("content-length", "2")];
        for to in [Sender::HttpApi, Sender::FunctionUrl] {
            let reply = reply(to, 200, &two, "{}");
            assert_eq!(reply["headers"], json!({ "vary": "a, b", "etag": "\"x\"" }));
            assert_eq!((&reply["body"], &reply["isBase64Encoded"]), (&json!("{}"), &json!(false)));
        }
        let every = json!({ "vary": ["a", "b"], "etag": ["\"x\""] });
        for to in [Sender::RestApi, Sender::HttpApiInFormat1] {
            let reply = reply(to, 200, &two, "{}");
            assert_eq!((&reply["headers"], &reply["multiValueHeaders"]), (&json!({}), &every));
        }
        let reply = reply(Sender::LoadBalancer, 404, &two, "{}");
        assert_eq!(
            (&reply["headers"]["vary"], &reply["multiValueHeaders"]),
            (&json!("a, b"), &every)
        );
        assert_eq!(reply["statusDescription"], "404 Not Found");
    }

    #[test]
    fn an_answer_without_a_body_has_none() {
        for to in ALL {
            let reply = reply(to, 304, &[("etag", "\"x\"")], "");
            assert_eq!(
                (&reply["statusCode"], &reply["isBase64Encoded"]),
                (&json!(304), &json!(false))
            );
            assert_eq!(reply.get("body"), None);
        }
    }

    #[test]
    fn what_is_no_text_goes_as_base64() {
        for to in ALL {
            let reply = reply(to, 200, &[], &b"\xff\x00"[..]);
            assert_eq!((&reply["body"], &reply["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
        }
    }

    /// The worst that a body of the largest size can be: quotes alone.
    #[test]
    fn the_largest_answer_fits_whatever_is_in_it() {
        for to in ALL {
            let limit = if to == Sender::LoadBalancer { 1024 * 1024 } else { 6 * 1024 * 1024 };
            let body = "\"".repeat(to.max_answer_bytes());
            let reply = reply(to, 200, &[("link", &"x".repeat(8_000))], body);
            assert_eq!(reply["isBase64Encoded"], to.takes_base64());
            let bytes = reply.to_string().len();
            assert!(bytes <= limit && bytes > limit - 40_000, "{to:?}: {bytes}");
            let plain = "x".repeat(to.max_answer_bytes());
            assert_eq!(of_text(to, plain), Value::Bool(false), "{to:?}: shorter as text");
        }
    }

    fn of_text(to: Sender, body: String) -> Value {
        reply(to, 200, &[], body)["isBase64Encoded"].clone()
    }
}
