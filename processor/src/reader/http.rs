//! The HTTP client that shards are read with: an SDK connector over hyper, with windows of our own.
//!
//! HTTP/2's flow control counts bytes that came and were not read: of each stream, and of all streams
//! of a connection together. Where the connection's window is smaller than its streams' windows
//! together, a few streams that nobody reads for a moment stop all the others. Here it is as large as
//! all of them, so that no stream can hold up another, and each is small: a shard sends 2 MiB a second,
//! for which 128 KiB are enough up to 60 ms of round trip, and unread bytes are memory. Pings tell
//! a connection whose other end is gone. The SDK's own connector lets nobody set any of this.

mod opening;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector as TcpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connections::CALLS_PER_CONNECTION;
use opening::Opening;

/// What of one stream may be unread.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// What of all of them together may be.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * CALLS_PER_CONNECTION as u32;
/// A connection on which nothing comes is asked for a sign of life this often ...
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// ... and is dead when none comes for so long.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without calls is kept this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// An HTTP client with one connection to a host over HTTP/2 (one a call over HTTP/1.1).
#[derive(Clone)]
pub struct ReadHttp {
    client: Client<HttpsConnector<TcpConnector>, SdkBody>,
    opening: Arc<Opening>,
}

impl ReadHttp {
    /// A client that verifies servers by `tls`, whose protocols (ALPN) are set here. It opens nothing yet.
    /// `connect_timeout` is for TCP alone; for as long do further calls wait for a connection that is being opened.
    pub fn new(tls: rustls::ClientConfig, connect_timeout: Duration) -> ReadHttp {
        ReadHttp::with_windows(tls, connect_timeout, STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES)
    }

    fn with_windows(
        tls: rustls::ClientConfig,
        connect_timeout: Duration,
        stream_window: u32,
        connection_window: u32,
    ) -> ReadHttp {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_initial_stream_window_size(stream_window)
            .http2_initial_connection_window_size(connection_window)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(https);
        ReadHttp { client, opening: Arc::new(Opening::new(connect_timeout)) }
    }
}

impl fmt::Debug for ReadHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadHttp")
    }
}

impl HttpClient for ReadHttp {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        // The SDK's time limits are not needed: every call that is made through here has one of its own.
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for ReadHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let ReadHttp { client, opening } = self.clone();
        HttpConnectorFuture::new(async move {
            let mut request =
                request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let connected = capture_connection(&mut request);
            let answered = opening.send(connected, client.request(request)).await;
            let response = answered.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
