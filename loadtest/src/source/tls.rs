//! TLS of the source: a certificate for this machine's loopback names, made anew at every start, and HTTP/2 by ALPN.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What serves TLS, and what a client has to trust.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// PEM of the certificate, which is its own authority.
    pub(super) ca_pem: String,
}

/// Makes a certificate for `localhost` and 127.0.0.1.
///
/// # Errors
/// When the machine gives no random numbers.
pub(super) fn make() -> Result<Tls, Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    params.distinguished_name.push(DnType::CommonName, "loadtest source");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem: certificate.pem() })
}
