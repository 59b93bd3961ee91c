//! Who asks and how much: keys and tokens to clients ([`authenticator`]), clients to budgets
//! ([`gate`]). What a client may see is decided in `backend`; nothing here knows routes.

mod authenticator;
mod bearers;
mod epoch;
mod gate;
mod generations;
mod keys;
mod lookups;
pub(crate) mod oauth;
mod presented;
mod reason;
mod uses;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use store::{Client, ClientId};

pub(crate) use authenticator::Authenticator;
use gate::Gate;
pub(crate) use gate::{Admission, Refusal, Standing, write_fields};
use generations::Generations;
pub(crate) use reason::Refused;

use crate::options::ClientLimits;

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

/// The gates of the clients seen lately. One that was forgotten starts again with a full burst.
pub(crate) struct Gates {
    defaults: ClientLimits,
    /// Every request takes it for a copy of one `Arc`; never held over an await.
    gates: Mutex<Generations<ClientId, Arc<Gate>>>,
}

impl Gates {
    pub(crate) fn new(defaults: ClientLimits, capacity: usize) -> Self {
        Self { defaults, gates: Mutex::new(Generations::new(capacity)) }
    }

    /// Takes one request out of the client's budget.
    pub(crate) fn admit(&self, client: &Client) -> Result<Admission, Refusal> {
        self.gate(client).admit()
    }

    fn gate(&self, client: &Client) -> Arc<Gate> {
        let limits = effective(client, self.defaults);
        // A poisoned lock still guards a whole map: its operations do not leave one half changed.
        let mut gates = self.gates.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match gates.get(&client.id) {
            Some(gate) if gate.limits() == limits => gate,
            _ => {
                let gate = Arc::new(Gate::new(limits));
                gates.insert(client.id.clone(), Arc::clone(&gate));
                gate
            }
        }
    }
}

/// The limits that hold for a client.
fn effective(client: &Client, defaults: ClientLimits) -> ClientLimits {
    client.limits.map_or(defaults, |own| ClientLimits {
        rate_per_second: own.rate_per_second.max(1),
        burst: own.burst.max(1),
        ..defaults
    })
}
