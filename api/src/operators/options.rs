//! What the app decides about the operators' port.

use std::net::SocketAddr;
use std::time::Duration;

use super::tokens::Operator;
use crate::options::Limits;

/// Most operators: a token is compared with all of them.
const MAX_OPERATORS: usize = 100;

/// Everything the app decides about the operators' port.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose ([`super::Handle::address`]).
    pub listen: SocketAddr,
    /// Who may do more than look at figures; none: nobody.
    pub operators: Vec<Operator>,
    /// Ceilings of the port, and, as `client` and `plans`, which limits hold for clients.
    pub limits: Limits,
    /// Seed of the request ids, so that two tasks do not number alike.
    pub seed: u64,
}

impl Options {
    /// No operators, and ceilings for a few people, their scripts and health checks.
    pub fn new(listen: SocketAddr) -> Self {
        let limits = Limits {
            max_connections: 64,
            max_requests_in_flight: 32,
            shutdown_deadline: Duration::from_secs(2),
            max_body_bytes: 256 * 1024,
            ..Limits::default()
        };
        Self { listen, operators: Vec::new(), limits, seed: 0 }
    }

    /// What is wrong with these options, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.operators.len() > MAX_OPERATORS {
            let found = self.operators.len();
            return Err(format!("operators: found {found}, allowed are up to {MAX_OPERATORS}"));
        }
        for (at, operator) in self.operators.iter().enumerate() {
            let same =
                |other: &&Operator| other.name == operator.name || other.digest == operator.digest;
            if let Some(other) = self.operators[..at].iter().find(same) {
                return Err(format!(
                    "operators: found one name or one token twice ({} and {}), allowed is a token of its own for each",
                    other.name.as_str(),
                    operator.name.as_str()
                ));
            }
        }
        Ok(())
    }
}
