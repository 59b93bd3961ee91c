//! Who asks and how much: keys to clients ([`authenticator`]), clients to budgets ([`gate`]). What
//! a client may see is decided in `backend`; nothing here knows routes.

mod authenticator;
mod epoch;
mod gate;
mod generations;
mod presented;

use std::sync::{Arc, Mutex};

use store::{Client, ClientId};

pub(crate) use authenticator::{Authenticator, Refused};
use gate::Gate;
pub(crate) use gate::{Admission, Refusal, Standing, write_fields};
use generations::Generations;

use crate::options::ClientLimits;

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
