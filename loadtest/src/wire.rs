//! One HTTP connection without an SDK: HTTP/1.1 over a socket, or HTTP/2 over TLS.
//!
//! It signs nothing and retries nothing, so it is of use towards a stand-in alone. Start at [`Connection::open`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Where to connect to.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `http://127.0.0.1:4567`, or https.
    pub url: String,
    /// PEM of the authorities to trust, for https.
    pub ca_pem: Option<String>,
}

/// What went wrong on the wire.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The endpoint is no URL that can be connected to.
    #[error("{url}: {problem}")]
    Endpoint {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No connection: is the other side running?
    #[error("cannot connect to {url}: {cause}")]
    Connect {
        /// The endpoint.
        url: String,
        /// What the system, or the handshake, said.
        cause: String,
    },
    /// A call failed.
    #[error("{path}: {cause}")]
    Call {
        /// What was called.
        path: String,
        /// What came instead of an answer.
        cause: String,
    },
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    authority: String,
}

#[derive(Debug)]
enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Endpoint {
    /// Host and port, and whether TLS is spoken there.
    ///
    /// # Errors
    /// When the URL has no host, or another scheme than http and https.
    pub fn address(&self) -> Result<(String, u16, bool), WireError> {
        let bad = |problem: &str| WireError::Endpoint {
            url: self.url.clone(),
            problem: problem.to_owned(),
        };
        let uri: Uri = self.url.parse().map_err(|_| bad("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("not http:// or https://")),
        };
        let host = uri.host().ok_or_else(|| bad("no host"))?;
        Ok((host.to_owned(), uri.port_u16().unwrap_or(if tls { 443 } else { 80 }), tls))
    }

    fn connector(&self) -> Result<TlsConnector, WireError> {
        let bad = |problem: String| WireError::Endpoint { url: self.url.clone(), problem };
        let mut roots = RootCertStore::empty();
        for certificate in
            CertificateDer::pem_slice_iter(self.ca_pem.as_deref().unwrap_or_default().as_bytes())
        {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl Connection {
    /// Connects, and shakes hands where TLS is spoken.
    ///
    /// # Errors
    /// When nobody answers, or the certificate is not trusted.
    pub async fn open(endpoint: &Endpoint) -> Result<Connection, WireError> {
        let (host, port, tls) = endpoint.address()?;
        let cause = |cause: String| WireError::Connect { url: endpoint.url.clone(), cause };
        let authority = format!("{host}:{port}");
        let opened = async {
            let socket = TcpStream::connect((host.as_str(), port))
                .await
                .map_err(|e| cause(e.to_string()))?;
            socket.set_nodelay(true).map_err(|e| cause(e.to_string()))?;
            if !tls {
                let (sender, connection) = http1::handshake(TokioIo::new(socket))
                    .await
                    .map_err(|e| cause(e.to_string()))?;
                tokio::spawn(connection);
                return Ok(Sender::One(sender));
            }
            let name = ServerName::try_from(host.clone()).map_err(|e| cause(e.to_string()))?;
            let socket = endpoint
                .connector()?
                .connect(name, socket)
                .await
                .map_err(|e| cause(e.to_string()))?;
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
                .await
                .map_err(|e| cause(e.to_string()))?;
            tokio::spawn(connection);
            Ok(Sender::Two(sender))
        };
        let sender = match tokio::time::timeout(CONNECT_TIMEOUT, opened).await {
            Ok(sender) => sender?,
            Err(_) => return Err(cause(format!("nothing within {} s", CONNECT_TIMEOUT.as_secs()))),
        };
        Ok(Connection { sender, authority })
    }

    /// True when calls may be answered beside each other.
    pub fn is_shared(&self) -> bool {
        matches!(self.sender, Sender::Two(_))
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// When the connection ends first, or the answer is no success.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, WireError> {
        let failed = |cause: String| WireError::Call { path: path.to_owned(), cause };
        let mut request = Request::builder().method(method);
        request = match self.sender {
            Sender::One(_) => request.uri(path).header(header::HOST, &self.authority),
            Sender::Two(_) => request.uri(format!("https://{}{path}", self.authority)),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|e| failed(e.to_string()))?;
        let answer = async {
            match &mut self.sender {
                // Ready again once the answer before was read to its end.
                Sender::One(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Two(sender) => sender.send_request(request).await,
            }
        };
        let answer = match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|e| failed(e.to_string()))?,
            Err(_) => {
                return Err(failed(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())));
            }
        };
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(failed(answer.status().to_string())),
        }
    }

    /// Sends a request and reads its answer as JSON.
    ///
    /// # Errors
    /// As [`Connection::send`], or when the answer is something else.
    pub async fn json(
        &mut self,
        method: Method,
        path: &str,
    ) -> Result<serde_json::Value, WireError> {
        let answer = self.send(method, path, &[], Bytes::new()).await?;
        let failed = |cause: String| WireError::Call { path: path.to_owned(), cause };
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
    }
}
