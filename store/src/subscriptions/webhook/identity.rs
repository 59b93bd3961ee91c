//! A client certificate that a webhook shows, where the receiver asks for one (mTLS).

use std::fmt;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use subtle::ConstantTimeEq;

use crate::subscriptions::SubscriptionError;

/// Most bytes of the certificates, and of the key.
const MAX_PEM: usize = 32 * 1024;
/// Most certificates of a chain.
const MAX_CHAIN: usize = 8;

/// A chain of certificates and the private key of the first. Debug shows neither.
#[derive(Clone)]
pub struct ClientIdentity {
    certificates: String,
    key: String,
}

impl ClientIdentity {
    /// Checks and takes two PEM texts: what is no certificate, no key, or too large is refused. Whether they
    /// belong together only TLS can say: see [`certificates`](Self::certificates).
    pub fn parse(certificates: &str, key: &str) -> Result<ClientIdentity, SubscriptionError> {
        let refused = |detail| SubscriptionError::Identity { detail };
        if certificates.len() > MAX_PEM || key.len() > MAX_PEM {
            return Err(refused("certificates and key may have 32 KiB each"));
        }
        let identity =
            ClientIdentity { certificates: certificates.to_owned(), key: key.to_owned() };
        match identity.certificates()?.len() {
            0 => return Err(refused("there is no certificate in it")),
            1..=MAX_CHAIN => {}
            _ => return Err(refused("a chain may have 8 certificates")),
        }
        identity.key().map(|_| identity)
    }

    /// The chain, the client's own certificate first.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, SubscriptionError> {
        let found = CertificateDer::pem_slice_iter(self.certificates.as_bytes());
        found
            .collect::<Result<_, _>>()
            .map_err(|_| SubscriptionError::Identity { detail: "the certificates are not PEM" })
    }

    /// The private key, for TLS alone.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, SubscriptionError> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|_| SubscriptionError::Identity { detail: "the key is no private key in PEM" })
    }

    pub(super) fn texts(&self) -> (&str, &str) {
        (&self.certificates, &self.key)
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(redacted)")
    }
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &ClientIdentity) -> bool {
        let same = self.key.as_bytes().ct_eq(other.key.as_bytes());
        bool::from(same) && self.certificates == other.certificates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form is right; what is inside is nobody's.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";

    #[test]
    fn pem_is_taken_and_all_else_refused_without_repeating_it() {
        let identity = ClientIdentity::parse(CERTIFICATE, KEY).unwrap();
        assert_eq!(identity.certificates().unwrap().len(), 1);
        assert_eq!(format!("{identity:?}"), "ClientIdentity(redacted)");
        let chain = CERTIFICATE.repeat(9);
        let long = "c2VjcmV0".repeat(8_000);
        for (certificates, key) in [
            ("", KEY),
            (KEY, KEY),
            (CERTIFICATE, ""),
            (CERTIFICATE, CERTIFICATE),
            (CERTIFICATE, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0"),
            (chain.as_str(), KEY),
            (CERTIFICATE, long.as_str()),
        ] {
            let error = ClientIdentity::parse(certificates, key).unwrap_err().to_string();
            assert!(!error.contains("c2VjcmV0"), "{error}");
        }
    }
}
