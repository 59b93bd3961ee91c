//! A certificate for the demo's HTTPS: self-signed, for this machine's loopback names, never reused.

use rcgen::{CertificateParams, DnType, KeyPair, SanType};

/// PEM of a fresh certificate and its private key.
pub(crate) struct SelfSigned {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl std::fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SelfSigned")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// Makes a certificate for `localhost` and 127.0.0.1.
pub(crate) fn self_signed() -> Result<SelfSigned, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.subject_alt_names.push(SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
    params.distinguished_name.push(DnType::CommonName, "sluicegate demo");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(SelfSigned { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}
