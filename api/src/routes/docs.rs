//! `/openapi.json` and `/docs`: what this API is, for programs and for people. Without authentication and without the
//! internet: the page, its script and its style come from this process, and a policy lets the browser load nothing else.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::get;
use http::{HeaderName, HeaderValue, header};

use super::{App, openapi};

const HTML: &str = include_str!("docs/page.html");
const SCRIPT: &str = include_str!("docs/page.js");
const STYLE: &str = include_str!("docs/page.css");

/// The page runs its own script, speaks to this server, and is framed by nobody.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const REFERRER_POLICY: HeaderName = header::REFERRER_POLICY;
/// Only for this version, which a browser that asks again is told soon enough.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The document, the page, its script and its style.
pub(super) const PATHS: [&str; 4] = ["/openapi.json", "/docs", "/docs/page.js", "/docs/page.css"];

pub(super) fn routes() -> Router<Arc<App>> {
    let [description, page, script, style] = PATHS;
    Router::new()
        .route(description, get(document))
        .route(page, get(|| async { fixed("text/html; charset=utf-8", HTML) }))
        .route(script, get(|| async { fixed("text/javascript; charset=utf-8", SCRIPT) }))
        .route(style, get(|| async { fixed("text/css; charset=utf-8", STYLE) }))
}

async fn document() -> Response {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let bytes = DOCUMENT.get_or_init(|| Bytes::from(openapi::document()));
    answer("application/json", Body::from(bytes.clone()))
}

fn fixed(media_type: &'static str, text: &'static str) -> Response {
    answer(media_type, Body::from(text))
}

fn answer(media_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, CACHE);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
