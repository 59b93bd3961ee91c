//! What the store could not do, as problems.

use http::{HeaderMap, header};
use store::{Class, StoreError};

use crate::metrics;
use crate::routes::problem::Problem;

/// What any call may meet.
pub(super) fn failed(error: StoreError) -> Problem {
    match &error {
        StoreError::Conflict { .. } => changed(),
        StoreError::Invalid { detail, .. } => Problem::bad_request(detail),
        StoreError::Throttled { .. } | StoreError::Unavailable { .. } => {
            metrics::store_failed(error.class());
            tracing::warn!(%error, "an operator's call failed");
            Problem::unavailable(
                "the table cannot be read or changed now; what was asked may have happened",
            )
        }
        StoreError::SetUp { .. } | StoreError::Unreadable { .. } | StoreError::Refused { .. } => {
            metrics::store_failed(error.class());
            tracing::error!(%error, "an operator's call failed");
            match error.class() {
                Class::Fatal => Problem::unavailable(
                    "this process may not use the access table, or there is none: its log says more",
                ),
                _ => Problem::internal(),
            }
        }
    }
}

/// The same of a change that may have been asked for at a certain version.
pub(super) fn conditioned(headers: &HeaderMap, error: StoreError) -> Problem {
    match error.is_conflict() && headers.contains_key(header::IF_MATCH) {
        true => Problem::precondition_failed(),
        false => failed(error),
    }
}

fn changed() -> Problem {
    Problem::conflict("somebody else changed it at the same moment: read it and try again")
}
