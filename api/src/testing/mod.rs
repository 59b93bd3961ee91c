//! What this room's tests share: certificates, a client that speaks real HTTP over real TLS, and issuers
//! of tokens.

pub(crate) mod forge;
pub(crate) mod raw;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A self-signed certificate for `localhost`, with what a client needs to trust it.
pub(crate) struct Certificate {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    pub(crate) der: CertificateDer<'static>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        Self {
            chain_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            der: made.cert.der().clone(),
        }
    }

    /// A connector that trusts this certificate alone and offers these protocols.
    pub(crate) fn connector(
        &self,
        alpn: &[&str],
        version: &'static rustls::SupportedProtocolVersion,
    ) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A connection that shows a certificate of the client's own.
    pub(crate) async fn connect_as(
        &self,
        address: SocketAddr,
        client: &Certificate,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(client.key_pem.as_bytes()).unwrap();
        // Not checked here: a thief has the certificate and another key.
        let key = ring::sign::any_supported_type(&key).unwrap();
        let shown = CertifiedKey::new(vec![client.der.clone()], key);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// A TLS 1.3 connection that offers these protocols.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        self.connector(alpn, &rustls::version::TLS13).connect(name, stream).await
    }
}

/// An HTTP client over one connection.
pub(crate) enum Http {
    One(hyper::client::conn::http1::SendRequest<Body>),
    Two(hyper::client::conn::http2::SendRequest<Body>),
}

impl Http {
    /// HTTP/2 if the handshake agreed on it, HTTP/1.1 otherwise.
    pub(crate) async fn over_tls(stream: TlsStream<TcpStream>) -> Self {
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Self::over(stream, two).await
    }

    pub(crate) async fn over<S>(stream: S, two: bool) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        if two {
            let (send, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Self::Two(send)
        } else {
            let (send, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            Self::One(send)
        }
    }

    /// Sends a GET and reads the whole answer.
    pub(crate) async fn get(&mut self, path: &str) -> hyper::Result<Response<Bytes>> {
        self.send(Request::get(path)).await
    }

    /// Sends a request without body and reads the whole answer.
    pub(crate) async fn send(
        &mut self,
        request: http::request::Builder,
    ) -> hyper::Result<Response<Bytes>> {
        let mut request = request.body(Body::empty()).unwrap();
        let response = match self {
            Self::One(send) => {
                send.ready().await?;
                let host = http::HeaderValue::from_static("localhost");
                request.headers_mut().insert("host", host);
                send.send_request(request).await?
            }
            Self::Two(send) => {
                send.ready().await?;
                let absolute = format!("https://localhost{}", request.uri());
                *request.uri_mut() = absolute.parse().unwrap();
                send.send_request(request).await?
            }
        };
        let (parts, body) = response.into_parts();
        Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    }
}
