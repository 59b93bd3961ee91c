//! Why somebody was not recognised: bounded words for the log and the metric. Only [`Refused`] reaches
//! the one who asked.

use store::{KeyCheck, StoreError};

use super::lookups::LookupError;
use super::oauth::{Rejected, TokenFault};
use super::presented::Unusable;

/// Why nobody was let in. Only the kind reaches the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Whoever asks has not proven who they are; always answered alike.
    Unauthenticated,
    /// Too many unknown or failing keys at the moment; known ones still work.
    Overloaded,
    /// The store, or an issuer, does not answer, so nobody can be recognised.
    Unavailable,
}

/// Why a key or a token was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Unusable(Unusable),
    UnknownKey,
    Check(KeyCheck),
    ClientGone,
    ClientDisabled,
    Token(TokenFault),
}

/// What came of a key or a token that was not taken.
#[derive(Debug)]
pub(super) enum Denied {
    /// It is not good.
    Because(Reason),
    /// Too many like it.
    Overloaded,
    /// The store does not say.
    Store(StoreError),
    /// Its issuer's keys are not there.
    NoIssuerKeys,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unusable(Unusable::Missing) => "missing",
            Self::Unusable(Unusable::Several) => "several",
            Self::Unusable(Unusable::Malformed) => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::Check(KeyCheck::Valid) => "valid",
            Self::Check(KeyCheck::WrongSecret) => "wrong-secret",
            Self::Check(KeyCheck::Expired) => "expired",
            Self::Check(KeyCheck::Revoked) => "revoked",
            Self::Check(KeyCheck::WrongNetwork) => "wrong-network",
            Self::ClientGone => "client-gone",
            Self::ClientDisabled => "client-disabled",
            Self::Token(fault) => fault.as_str(),
        }
    }
}

impl From<Reason> for Denied {
    fn from(reason: Reason) -> Self {
        Self::Because(reason)
    }
}

impl From<TokenFault> for Denied {
    fn from(fault: TokenFault) -> Self {
        Self::Because(Reason::Token(fault))
    }
}

impl From<Rejected> for Denied {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Fault(fault) => fault.into(),
            Rejected::Unavailable => Self::NoIssuerKeys,
            Rejected::Overloaded => Self::Overloaded,
        }
    }
}

impl From<LookupError> for Denied {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Limited => Self::Overloaded,
            LookupError::Store(error) => Self::Store(error),
        }
    }
}
