//! Who asks and how much: keys and tokens to clients ([`authenticator`]), clients to budgets
//! ([`budget`]). What a client may see is decided in `backend`; nothing here knows routes.

mod authenticator;
mod bearers;
mod budget;
mod epoch;
mod generations;
mod keys;
mod lookups;
pub(crate) mod oauth;
mod presented;
mod reason;
mod uses;

use std::net::IpAddr;

pub(crate) use authenticator::Authenticator;
pub(crate) use budget::allowance::of as limits_of;
pub(crate) use budget::{BytesLeft, DAILY_BYTES, Meter, Standing, write_fields};
pub(crate) use budget::{Gates, Limiter, limiter};
pub(crate) use epoch::EpochView;
pub(crate) use reason::Refused;

/// What the connection of a request shows of its other end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    /// Where the request comes from, as far as that is known.
    pub(crate) address: Option<IpAddr>,
    /// The SHA-256 of the client certificate that it proved to have.
    pub(crate) certificate: Option<oauth::Thumbprint>,
}

/// By which an access token names the certificate that it is bound to (RFC 8705): SHA-256 of its DER.
pub(crate) fn thumbprint(certificate: &[u8]) -> oauth::Thumbprint {
    sha256(certificate)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}
