//! The certificate in use: from PEM, replaced while connections are open; and whether clients are asked
//! for theirs. Never writes files and makes no certificate.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// The largest PEM file that is read, in bytes.
const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// A certificate or key that cannot be used; the one in use stays in use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text of the chain cannot be read.
    #[error(
        "certificate: found {0}, allowed is PEM with at least one CERTIFICATE, the server's own first"
    )]
    Certificate(String),
    /// The PEM text of the key cannot be read. Says nothing of its content.
    #[error("private key: allowed is PEM with one PKCS#8, PKCS#1 or SEC1 PRIVATE KEY")]
    PrivateKey,
    /// Chain and key do not make a usable pair.
    #[error("certificate and private key: {0}")]
    Pair(#[from] rustls::Error),
    /// A file cannot be read.
    #[error("read {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
}

/// A TLS configuration that can be replaced: new handshakes use the new one, open connections keep
/// theirs.
#[derive(Clone)]
pub struct TlsReloader {
    config: Arc<ArcSwap<ServerConfig>>,
    clients: ClientCertificates,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not.
    #[default]
    Ignored,
    /// They are, and need not have one. Whoever shows one proves to have its key; who it is from is
    /// not asked: it counts only for access tokens that are bound to it (RFC 8705).
    Requested,
}

impl fmt::Debug for TlsReloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsReloader { .. }")
    }
}

impl TlsReloader {
    /// Takes a PEM chain (the server's certificate first) and its PEM private key.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        clients: ClientCertificates,
    ) -> Result<Self, TlsError> {
        let config = Arc::new(ArcSwap::from(server_config(chain, key, clients)?));
        Ok(Self { config, clients })
    }

    /// The same from files.
    pub async fn from_files(
        chain: &Path,
        key: &Path,
        clients: ClientCertificates,
    ) -> Result<Self, TlsError> {
        Self::from_pem(&read_pem(chain).await?, &read_pem(key).await?, clients)
    }

    /// Uses this pair from now on; on an error the old one stays.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.config.store(server_config(chain, key, self.clients)?);
        Ok(())
    }

    /// Looks at the two files every `interval` and uses their content once it changed and fits
    /// together. Ends with `stop`.
    pub async fn follow_files(
        &self,
        chain: &Path,
        key: &Path,
        interval: Duration,
        stop: CancellationToken,
    ) {
        let mut in_use = None;
        loop {
            let found = match (read_pem(chain).await, read_pem(key).await) {
                (Ok(chain), Ok(key)) => Ok((chain, key)),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            match found {
                Ok(pair) if in_use.as_ref() != Some(&pair) => {
                    let outcome = self.replace(&pair.0, &pair.1);
                    note_reload(&outcome);
                    // A half-written pair is not remembered, so the next look tries again.
                    in_use = outcome.is_ok().then_some(pair);
                }
                Ok(_) => {}
                Err(error) => note_reload(&Err(error)),
            }
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }
}

fn note_reload(outcome: &Result<(), TlsError>) {
    metrics::certificate_loaded(outcome.is_ok());
    match outcome {
        Ok(()) => tracing::info!("certificate loaded"),
        Err(error) => tracing::warn!(%error, "certificate not loaded: the one in use stays"),
    }
}

async fn read_pem(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::File { path: path.to_owned(), error };
    let size = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if size > MAX_PEM_BYTES {
        let text = format!("found {size} bytes, allowed are up to {MAX_PEM_BYTES}");
        return Err(failed(std::io::Error::other(text)));
    }
    tokio::fs::read(path).await.map_err(failed)
}

fn server_config(
    chain: &[u8],
    key: &[u8],
    clients: ClientCertificates,
) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("none".to_owned()));
    }
    // The parser's own error may quote the input, which is secret here.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::PrivateKey)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let config = match clients {
        ClientCertificates::Ignored => config.with_no_client_auth(),
        ClientCertificates::Requested => config.with_client_cert_verifier(Arc::new(Possession)),
    };
    let mut config = config.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// Takes every client certificate whose key the client proves to have, and clients without one.
#[derive(Debug)]
struct Possession;

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Who made it says nothing here, and its time neither: a token is bound to this very one.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
