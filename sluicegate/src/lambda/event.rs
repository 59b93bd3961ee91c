//! From an event to the request that a client made: the same request that a socket would have brought.
//!
//! Events are told apart by what only one kind has. Their form is `lambda_http`'s; the request is made here, because its own
//! loses what this API needs (decision 0025).

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request};
use lambda_http::aws_lambda_events::alb::AlbTargetGroupRequest;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest};
use lambda_http::aws_lambda_events::query_map::QueryMap;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::target;

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What an HTTP API calls the stage that does not stand in paths.
const DEFAULT_STAGE: &str = "$default";
/// In the host names of function URLs, and in no other's.
const FUNCTION_URL: &str = ".lambda-url.";

/// Bytes that Lambda takes of an answer, and that a load balancer does.
const OF_LAMBDA: usize = 6 * 1024 * 1024;
const OF_LOAD_BALANCER: usize = 1024 * 1024;
/// Of these, for what stands around a body.
const AROUND: usize = 32 * 1024;

/// Who sent an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// An HTTP API of API Gateway, payload format 2.0.
    HttpApi,
    /// The same, with payload format 1.0.
    HttpApiInFormat1,
    /// A function URL.
    FunctionUrl,
    /// A REST API of API Gateway.
    RestApi,
    /// An Application Load Balancer.
    LoadBalancer,
}

impl Sender {
    /// Whether it decodes base64 without being set up for it.
    pub(super) fn takes_base64(self) -> bool {
        !matches!(self, Sender::RestApi | Sender::HttpApiInFormat1)
    }

    /// What the body of an answer may have so that the answer fits, whatever is in it: base64 makes it longer by a third; as text
    /// each of its bytes may be two.
    pub(super) fn max_answer_bytes(self) -> usize {
        match self {
            Sender::LoadBalancer => (OF_LOAD_BALANCER - AROUND) / 4 * 3,
            Sender::HttpApi | Sender::FunctionUrl => (OF_LAMBDA - AROUND) / 4 * 3,
            Sender::RestApi | Sender::HttpApiInFormat1 => (OF_LAMBDA - AROUND) / 2,
        }
    }
}

/// What an event asks.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) from: Sender,
    pub(super) request: Request<Bytes>,
    /// The other end of the sender's connection.
    pub(super) address: Option<IpAddr>,
}

/// An event that is no request.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventError {
    /// It is of none of the kinds. Not a word of its content, which may hold a key.
    #[error(
        "this function takes events of API Gateway (HTTP and REST APIs), function URLs and Application Load Balancers; this one is none of them, at line {line}, column {column}"
    )]
    Unknown { line: usize, column: usize },
    /// What it says cannot be a request.
    #[error("the event's {0} cannot be one of a request")]
    Unusable(&'static str),
}

impl From<serde_json::Error> for EventError {
    fn from(error: serde_json::Error) -> Self {
        Self::Unknown { line: error.line(), column: error.column() }
    }
}

/// What tells the kinds apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'e> {
    #[serde(borrow, default)]
    version: Option<std::borrow::Cow<'e, str>>,
    request_context: ContextShape<'e>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContextShape<'e> {
    elb: Option<IgnoredAny>,
    http: Option<IgnoredAny>,
    #[serde(borrow, default)]
    domain_name: Option<std::borrow::Cow<'e, str>>,
}

/// Reads an event.
pub(super) fn read(text: &str) -> Result<Asked, EventError> {
    let shape: Shape<'_> = serde_json::from_str(text)?;
    let context = &shape.request_context;
    if context.elb.is_some() {
        return of_load_balancer(serde_json::from_str(text)?);
    }
    if context.http.is_some() {
        let host = context.domain_name.as_deref().unwrap_or_default();
        let from = if host.contains(FUNCTION_URL) { Sender::FunctionUrl } else { Sender::HttpApi };
        return of_format_2(serde_json::from_str(text)?, from);
    }
    // REST APIs say nothing of a version.
    let from = match shape.version.as_deref() {
        Some("1.0") => Sender::HttpApiInFormat1,
        _ => Sender::RestApi,
    };
    of_format_1(serde_json::from_str(text)?, from)
}

fn of_format_2(event: ApiGatewayV2httpRequest, from: Sender) -> Result<Asked, EventError> {
    let context = event.request_context;
    let path = event.raw_path.unwrap_or_default();
    let path = match from {
        Sender::HttpApi => target::decoded_path(&path, stage(context.stage.as_deref())),
        _ => target::encoded_path(&path),
    };
    let query = target::encoded_query(&event.raw_query_string.unwrap_or_default());
    Ok(Asked {
        from,
        address: context.http.source_ip.as_deref().and_then(address),
        request: Parts {
            method: context.http.method,
            target: joined(path, &query),
            headers: event.headers,
            body: event.body,
            is_base64: event.is_base64_encoded,
        }
        .request()?,
    })
}

fn of_format_1(event: ApiGatewayProxyRequest, from: Sender) -> Result<Asked, EventError> {
    let context = event.request_context;
    let path = event.path.unwrap_or_default();
    let path = match from {
        Sender::HttpApiInFormat1 => target::decoded_path(&path, stage(context.stage.as_deref())),
        _ => target::encoded_path(&path),
    };
    let query = target::decoded_parameters(&fuller(
        event.multi_value_query_string_parameters,
        event.query_string_parameters,
    ));
    Ok(Asked {
        from,
        address: context.identity.source_ip.as_deref().and_then(address),
        request: Parts {
            method: event.http_method,
            target: joined(path, &query),
            headers: all(event.multi_value_headers, event.headers),
            body: event.body,
            is_base64: event.is_base64_encoded,
        }
        .request()?,
    })
}

fn of_load_balancer(event: AlbTargetGroupRequest) -> Result<Asked, EventError> {
    let headers = all(event.multi_value_headers, event.headers);
    let query = target::encoded_parameters(&fuller(
        event.multi_value_query_string_parameters,
        event.query_string_parameters,
    ));
    Ok(Asked {
        from: Sender::LoadBalancer,
        address: added_last(&headers),
        request: Parts {
            method: event.http_method,
            target: joined(target::encoded_path(&event.path.unwrap_or_default()), &query),
            headers,
            body: event.body,
            is_base64: event.is_base64_encoded,
        }
        .request()?,
    })
}

/// What a request is made of.
struct Parts {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Option<String>,
    is_base64: bool,
}

impl Parts {
    fn request(self) -> Result<Request<Bytes>, EventError> {
        let body = self.body.unwrap_or_default();
        let body = match self.is_base64 {
            true => data_encoding::BASE64
                .decode(body.as_bytes())
                .map_err(|_| EventError::Unusable("body"))?,
            false => body.into_bytes(),
        };
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target.parse().map_err(|_| EventError::Unusable("path"))?;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

fn joined(mut path: String, query: &str) -> String {
    if !query.is_empty() {
        path.push('?');
        path.push_str(query);
    }
    path
}

fn stage(name: Option<&str>) -> Option<&str> {
    name.filter(|name| !name.is_empty() && *name != DEFAULT_STAGE)
}

/// Every value of every header: where a sender gives each header's last value beside all of them, all of them.
fn all(of_each: HeaderMap, last_of_each: HeaderMap) -> HeaderMap {
    if of_each.is_empty() { last_of_each } else { of_each }
}

fn fuller(of_each: QueryMap, last_of_each: QueryMap) -> QueryMap {
    if of_each.is_empty() { last_of_each } else { of_each }
}

/// The address that a load balancer wrote behind all that stood there already, which is its client's.
fn added_last(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED_FOR).iter().next_back()?;
    address(last.to_str().ok()?.rsplit(',').next()?)
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}
