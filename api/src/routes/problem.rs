//! Every error that a client sees: RFC 9457 problem details. It never says more than the client may
//! know.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

/// The media type of every error.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY: &str =
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
const INVALID_FIELD: &str = "urn:sluicegate:problem:invalid-field";
const INVALID_PARAMETER: &str = "urn:sluicegate:problem:invalid-parameter";
const INVALID_MESSAGE: &str = "urn:sluicegate:problem:invalid-message";
const TAIL_OFF: &str = "urn:sluicegate:problem:tail-off";
const CURSOR_EXPIRED: &str = "urn:sluicegate:problem:cursor-expired";
const REQUEST_IN_WORK: &str = "urn:sluicegate:problem:request-in-work";
const NOT_HERE: &str = "urn:sluicegate:problem:not-served-here";
const KEY_REUSED: &str = "urn:sluicegate:problem:idempotency-key-reused";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// One problem: what is answered instead of the resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: Option<String>,
    extensions: Map<String, Value>,
    retry_after_s: Option<u64>,
    /// What a body may be, where it was something else.
    accept_post: Option<&'static str>,
}

impl Problem {
    /// A problem that is fully said by its status code.
    fn plain(status: StatusCode) -> Self {
        Self {
            status,
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            detail: None,
            extensions: Map::new(),
            retry_after_s: None,
            accept_post: None,
        }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_s = Some(whole_seconds_up(wait).max(1));
        self
    }

    /// 400: a parameter, what was found and what is allowed.
    pub(crate) fn invalid_parameter(name: &str, found: &str, allowed: &str) -> Self {
        let found: String = found.chars().take(100).collect();
        let mut problem = Self::plain(StatusCode::BAD_REQUEST)
            .detail(format!("{name}: found {found:?}, allowed is {allowed}"));
        problem.kind = INVALID_PARAMETER;
        problem.title = "Invalid parameter";
        for (key, value) in [("parameter", name), ("found", found.as_str()), ("allowed", allowed)] {
            problem.extensions.insert(key.into(), value.into());
        }
        problem
    }

    /// 400: a field of the body, by its JSON Pointer, with what was found and what is allowed.
    pub(crate) fn invalid_field(pointer: &str, detail: &str) -> Self {
        let mut problem =
            Self::plain(StatusCode::BAD_REQUEST).detail(format!("{pointer}: {detail}"));
        problem.kind = INVALID_FIELD;
        problem.title = "Invalid field";
        problem.extensions.insert("pointer".into(), pointer.into());
        problem
    }

    /// 400: the request as a whole cannot be read.
    pub(crate) fn bad_request(detail: &str) -> Self {
        Self::plain(StatusCode::BAD_REQUEST).detail(detail)
    }

    /// 401, the same for every reason.
    pub(crate) fn unauthorized() -> Self {
        Self::plain(StatusCode::UNAUTHORIZED)
            .detail("a valid API key (x-api-key or Authorization: Bearer) or access token (Authorization: Bearer) is needed")
    }

    /// 401 on the operators' port, the same for every reason.
    pub(crate) fn not_an_operator() -> Self {
        Self::plain(StatusCode::UNAUTHORIZED)
            .detail("an operator's token that works is needed (Authorization: Bearer sgo_...)")
    }

    /// 403: who asks is known, or cannot be, and may not do this; in words.
    pub(crate) fn forbidden(detail: &str) -> Self {
        Self::plain(StatusCode::FORBIDDEN).detail(detail)
    }

    /// 404: it does not exist, or it is not for this client: the two are never told apart.
    pub(crate) fn not_found() -> Self {
        Self::plain(StatusCode::NOT_FOUND)
    }

    /// 405; the caller adds `Allow`.
    pub(crate) fn method_not_allowed() -> Self {
        Self::plain(StatusCode::METHOD_NOT_ALLOWED)
    }

    /// 409: it does not fit the state that things are in; in words.
    pub(crate) fn conflict(detail: &str) -> Self {
        Self::plain(StatusCode::CONFLICT).detail(detail)
    }

    /// 412: the thing is not at the version that the client asked for.
    pub(crate) fn precondition_failed() -> Self {
        Self::plain(StatusCode::PRECONDITION_FAILED)
            .detail("it is not at the version of If-Match: read it again")
    }

    /// 409: the integration is there for this client, but nobody may follow it.
    pub(crate) fn tail_off() -> Self {
        let mut problem = Self::plain(StatusCode::CONFLICT)
            .detail("this integration is not set up to be followed; its operators switch that on with tail = true");
        problem.kind = TAIL_OFF;
        problem.title = "Tail is off";
        problem
    }

    /// 410: what lay behind the cursor is not kept any more, so that going on would leave something out.
    pub(crate) fn cursor_expired() -> Self {
        let mut problem = Self::plain(StatusCode::GONE)
            .detail("the cursor is older than the hour in which a tail can be resumed; read what is missing by entity and time, and begin without a cursor");
        problem.kind = CURSOR_EXPIRED;
        problem.title = "Cursor expired";
        problem
    }

    /// 413: the body is larger than `limit_bytes`.
    pub(crate) fn body_too_large(limit_bytes: u64) -> Self {
        Self::plain(StatusCode::PAYLOAD_TOO_LARGE)
            .detail(format!("the body may have up to {limit_bytes} bytes"))
    }

    /// 414: path and query are longer than `limit_bytes`.
    pub(crate) fn uri_too_long(limit_bytes: usize) -> Self {
        Self::plain(StatusCode::URI_TOO_LONG)
            .detail(format!("path and query may have up to {limit_bytes} bytes"))
    }

    /// 431: the header is larger than `limit_bytes`.
    pub(crate) fn header_too_large(limit_bytes: usize) -> Self {
        Self::plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
            .detail(format!("header names and values together may have up to {limit_bytes} bytes"))
    }

    /// 415: the body is of another media type.
    pub(crate) fn unsupported_media_type(allowed: &str) -> Self {
        Self::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            .detail(format!("a body with content-type {allowed} is allowed"))
    }

    /// 415: what is posted is of a type, or coded in a way, that is not taken; `allowed` are.
    pub(crate) fn not_postable(detail: String, allowed: &'static str) -> Self {
        let mut problem = Self::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE).detail(detail);
        problem.accept_post = Some(allowed);
        problem
    }

    /// 400 or 422: a message that cannot be published, so that none of its request was.
    pub(crate) fn invalid_message(
        status: StatusCode,
        line: Option<usize>,
        reason: &'static str,
        found: &str,
        allowed: &str,
    ) -> Self {
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        let mut problem = Self::plain(status)
            .detail(format!("{place}found {found}, allowed is {allowed}; nothing was sent"));
        problem.kind = INVALID_MESSAGE;
        problem.title = "Invalid message";
        if let Some(line) = line {
            problem.extensions.insert("line".into(), line.into());
        }
        for (key, value) in [("reason", reason), ("found", found), ("allowed", allowed)] {
            problem.extensions.insert(key.into(), value.into());
        }
        problem
    }

    /// 503: no message is known to be taken; `messages` says why of each.
    pub(crate) fn nothing_taken(detail: String, messages: &impl Serialize) -> Self {
        let mut problem = Self::unavailable(&detail);
        problem
            .extensions
            .insert("messages".into(), serde_json::to_value(messages).unwrap_or_default());
        problem
    }

    /// 409: the same request is in work; it may be sent again.
    pub(crate) fn in_work(wait: Duration) -> Self {
        let detail = "a request with this idempotency-key is in work: send it again for its answer";
        let mut problem = Self::plain(StatusCode::CONFLICT).detail(detail).retry_after(wait);
        problem.kind = REQUEST_IN_WORK;
        problem.title = "Request in work";
        problem
    }

    /// 422: the key of another request.
    pub(crate) fn key_reused() -> Self {
        let detail = "this idempotency-key was given to another request: path, query or body differ; nothing was sent";
        let mut problem = Self::plain(StatusCode::UNPROCESSABLE_ENTITY).detail(detail);
        problem.kind = KEY_REUSED;
        problem.title = "Idempotency key reused";
        problem
    }

    /// 429: the client used up these of its policies.
    pub(crate) fn quota_exceeded(policies: &[&'static str], wait: Duration) -> Self {
        let mut problem = Self::plain(StatusCode::TOO_MANY_REQUESTS)
            .detail("more than this client's limits allow")
            .retry_after(wait);
        problem.kind = QUOTA_EXCEEDED;
        problem.title = "Quota exceeded";
        problem.extensions.insert("violated-policies".into(), policies.to_vec().into());
        problem
    }

    /// 501: the request is fine, but cannot be answered by what hosts the API here; another host of it can.
    pub(crate) fn not_here(detail: impl Into<String>) -> Self {
        let mut problem = Self::plain(StatusCode::NOT_IMPLEMENTED).detail(detail);
        problem.kind = NOT_HERE;
        problem.title = "Not served here";
        problem
    }

    /// 503: this server has no room now, through no fault of the client.
    pub(crate) fn reduced_capacity(detail: &str, wait: Duration) -> Self {
        let mut problem =
            Self::plain(StatusCode::SERVICE_UNAVAILABLE).detail(detail).retry_after(wait);
        problem.kind = REDUCED_CAPACITY;
        problem.title = "Temporarily reduced capacity";
        problem
    }

    /// 503: the request was fine, but what is needed to answer it is not reachable now.
    pub(crate) fn unavailable(detail: &str) -> Self {
        Self::plain(StatusCode::SERVICE_UNAVAILABLE)
            .detail(detail)
            .retry_after(Duration::from_secs(1))
    }

    /// 504: no answer within the time that a request has.
    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::plain(StatusCode::GATEWAY_TIMEOUT)
            .detail(format!("no answer within {} ms", limit.as_millis()))
    }

    /// 500: a defect on this side; what it is stands in the log.
    pub(crate) fn internal() -> Self {
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn body(&self) -> Vec<u8> {
        let mut members = Map::new();
        members.insert("type".into(), self.kind.into());
        members.insert("title".into(), self.title.into());
        members.insert("status".into(), self.status.as_u16().into());
        if let Some(detail) = &self.detail {
            members.insert("detail".into(), detail.as_str().into());
        }
        members.extend(self.extensions.clone());
        Value::Object(members).to_string().into_bytes()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(axum::body::Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allowed) = self.accept_post {
            headers.insert(ACCEPT_POST, HeaderValue::from_static(allowed));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"sluicegate\""),
            );
        }
        response
    }
}

/// Leaves our answers alone and replaces an error in other words (the framework's) by the plain
/// problem of its status.
pub(crate) fn normalise(response: Response) -> Response {
    let status = response.status();
    let ours =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == MEDIA_TYPE);
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut replaced = Problem::plain(status).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        replaced.headers_mut().insert(header::ALLOW, allow.clone());
    }
    replaced
}

/// Whole seconds, rounded up, so that a client never comes back too early.
pub(crate) fn whole_seconds_up(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(problem: &Problem) -> Value {
        serde_json::from_slice(&problem.body()).unwrap()
    }

    #[test]
    fn a_bad_parameter_is_named_with_what_was_found_and_what_is_allowed() {
        let body = parsed(&Problem::invalid_parameter("limit", "0", "1 to 500"));
        assert_eq!(body["status"], 400);
        assert_eq!(body["type"], INVALID_PARAMETER);
        assert_eq!(body["parameter"], "limit");
        assert_eq!(body["found"], "0");
        assert_eq!(body["detail"], "limit: found \"0\", allowed is 1 to 500");
    }

    #[test]
    fn what_was_found_is_cut_to_a_bounded_length() {
        let body = parsed(&Problem::invalid_parameter("cursor", &"é".repeat(5_000), "a cursor"));
        assert_eq!(body["found"].as_str().unwrap().chars().count(), 100);
    }

    #[test]
    fn a_used_up_quota_names_its_policies_and_when_to_come_back() {
        let problem = Problem::quota_exceeded(&["requests"], Duration::from_millis(1_200));
        assert_eq!(parsed(&problem)["violated-policies"], serde_json::json!(["requests"]));
        assert_eq!(parsed(&problem)["type"], QUOTA_EXCEEDED);
        assert_eq!(problem.into_response().headers()["retry-after"], "2");
    }

    #[test]
    fn a_refused_key_is_told_how_to_authenticate_and_nothing_else() {
        let response = Problem::unauthorized().into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"sluicegate\"");
        assert_eq!(response.headers()["content-type"], MEDIA_TYPE);
    }
}
