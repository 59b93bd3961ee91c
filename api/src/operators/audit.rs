//! A line of the log (target `audit`) for every request that an operator made, or tried to make: who, what, and how it
//! ended. Never a body, a token, a path or a query. What changes access is written down durably besides, by `store`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use super::tokens::OperatorName;
use crate::access::{Limiter, limiter};
use crate::metrics;

/// Lines a second of those who were not let in. Nobody guesses 256 bits, but scanners try.
const REFUSED_PER_SECOND: u32 = 10;
/// Stands where there is nothing to say.
const NOTHING: &str = "-";

/// Writes lines; of refusals not too many.
#[derive(Debug)]
pub(super) struct Audit {
    refused: Limiter,
    /// Lines that were left out since the last one that was written.
    left_out: AtomicU64,
}

/// One request of an operator. Its line is written when it is dropped, so that there is one of a request that was cut
/// off, too.
#[derive(Debug)]
pub(super) struct Entry {
    audit: Arc<Audit>,
    id: String,
    method: &'static str,
    route: String,
    peer: Option<IpAddr>,
    operator: Option<OperatorName>,
    /// Why it was not let in.
    refused: Option<&'static str>,
    status: Option<StatusCode>,
}

impl Audit {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            refused: limiter(REFUSED_PER_SECOND, REFUSED_PER_SECOND),
            left_out: AtomicU64::new(0),
        })
    }
}

impl Entry {
    pub(super) fn new(
        audit: Arc<Audit>,
        id: &str,
        method: &'static str,
        route: &str,
        peer: Option<IpAddr>,
    ) -> Self {
        let (id, route) = (id.to_owned(), route.to_owned());
        Self { audit, id, method, route, peer, operator: None, refused: None, status: None }
    }

    /// It is this operator's.
    pub(super) fn of(mut self, operator: OperatorName) -> Self {
        self.operator = Some(operator);
        self
    }

    /// It was not let in; whose it is where that is known.
    pub(super) fn refused(mut self, reason: &'static str, operator: Option<&OperatorName>) {
        self.operator = operator.cloned();
        self.refused = Some(reason);
    }

    /// It was answered.
    pub(super) fn answered(mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// How it ended, in a word.
    fn reason(&self) -> &str {
        match (self.refused, &self.status) {
            (Some(reason), _) => reason,
            (None, Some(status)) => status.as_str(),
            (None, None) => "cut-off",
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let is_written = self.refused.is_none() || self.audit.refused.check().is_ok();
        metrics::audited("operator", is_written);
        if !is_written {
            self.audit.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let peer = self.peer.map(|peer| peer.to_string());
        tracing::info!(
            target: "audit",
            log = "audit",
            decision = "operator",
            reason = self.reason(),
            operator = self.operator.as_ref().map_or(NOTHING, OperatorName::as_str),
            peer = peer.as_deref().unwrap_or(NOTHING),
            method = self.method,
            route = self.route,
            request_id = self.id,
            left_out = self.audit.left_out.swap(0, Ordering::Relaxed),
            "an operator asked"
        );
    }
}
