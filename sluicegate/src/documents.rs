//! Fetches what issuers of access tokens publish: over HTTPS, within a size, without redirects.

use std::sync::Arc;
use std::time::Duration;

use api::{DocumentError, Documents};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Fetches are minutes apart: no connection is kept for the next one.
const POOL_IDLE: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct HttpsDocuments(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl HttpsDocuments {
    /// `tls` says whose certificates are believed; plain HTTP is for issuers on this machine, and
    /// whoever is asked for decides what is fetched.
    pub(crate) fn new(tls: Arc<rustls::ClientConfig>) -> HttpsDocuments {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(rustls::ClientConfig::clone(&tls))
            .https_or_http()
            .enable_all_versions()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        HttpsDocuments(client)
    }

    async fn fetch(&self, url: &str, max_bytes: usize) -> anyhow::Result<Vec<u8>> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(url)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("sluicegate/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())?;
        let response = self.0.request(request).await?;
        let status = response.status();
        anyhow::ensure!(status == StatusCode::OK, "answered {status}");
        let body = Limited::new(response.into_body(), max_bytes).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error} (up to {max_bytes} bytes)"))?;
        Ok(body.to_bytes().to_vec())
    }
}

impl Documents for HttpsDocuments {
    fn get<'a>(
        &'a self,
        url: &'a str,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, DocumentError>> {
        let fetch = async move {
            let fetched = self.fetch(url, max_bytes).await;
            fetched.map_err(|error| DocumentError(format!("GET {url}: {error:#}")))
        };
        fetch.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Answers one request with this, on loopback.
    async fn answering(answer: String) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4_096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        format!("http://{address}/keys")
    }

    async fn got(answer: String) -> Result<Vec<u8>, DocumentError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let url = answering(answer).await;
        HttpsDocuments::new(Arc::new(tls)).get(&url, 100).await
    }

    #[tokio::test]
    async fn a_document_is_taken_whole_or_not_at_all() {
        let with_body = |status: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        assert_eq!(got(with_body("200 OK", "{}")).await.unwrap(), b"{}");
        let refused = async |answer| got(answer).await.unwrap_err().to_string();
        let error = refused(with_body("200 OK", &"x".repeat(101))).await;
        assert!(error.contains("up to 100 bytes") && error.contains("/keys"), "{error}");
        let error = refused(with_body("404 Not Found", "{}")).await;
        assert!(error.contains("answered 404"), "{error}");
        let away =
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        assert!(refused(away.to_owned()).await.contains("answered 302"));
    }
}
