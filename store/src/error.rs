//! What can go wrong with a table, and what the caller may do about it.
//!
//! [`StoreError`] names the operation; [`StoreError::class`] says Retry, Skip or Fatal. Every
//! error of the SDK passes through [`StoreError::from_sdk`], the only place that reads its codes.

use std::time::Duration;

use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Longest detail kept in an error: it may travel into logs and dead letters.
const MAX_DETAIL: usize = 400;

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try the same again later; it may or may not have happened.
    Retry,
    /// This item or this precondition is the trouble: the same again gives the same answer.
    Skip,
    /// Nothing will work until an operator changes something (permissions, missing table).
    Fatal,
}

/// An operation of this room that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The table asks for less: slow down and try again.
    #[error("{operation}: throttled by DynamoDB ({detail}); try again more slowly")]
    Throttled {
        /// What was asked.
        operation: &'static str,
        /// DynamoDB's words.
        detail: String,
    },
    /// No answer, or a failure on DynamoDB's side: it may or may not have happened.
    #[error("{operation}: no certain answer from DynamoDB ({detail}); try again")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// DynamoDB's words, or the network's.
        detail: String,
    },
    /// Somebody else changed it first: read again, then decide.
    #[error("{operation}: {what} is not in the expected state; read it again")]
    Conflict {
        /// What was asked.
        operation: &'static str,
        /// Which thing.
        what: String,
    },
    /// DynamoDB refuses the request itself.
    #[error("{operation}: refused by DynamoDB ({code}: {detail})")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// DynamoDB's error code.
        code: String,
        /// DynamoDB's words.
        detail: String,
    },
    /// The table is missing, or this process may not use it.
    #[error(
        "{operation}: not possible as set up ({code}: {detail}); check the tables and the permissions"
    )]
    SetUp {
        /// What was asked.
        operation: &'static str,
        /// DynamoDB's error code.
        code: String,
        /// DynamoDB's words.
        detail: String,
    },
    /// An item that this version cannot read.
    #[error("{operation}: item {item} cannot be read: {detail}")]
    Unreadable {
        /// What was asked.
        operation: &'static str,
        /// Key of the item.
        item: String,
        /// What is missing or wrong.
        detail: String,
    },
    /// The request makes no sense as it stands.
    #[error("{operation}: {detail}")]
    Invalid {
        /// What was asked.
        operation: &'static str,
        /// What was found and what is allowed.
        detail: String,
    },
}

impl StoreError {
    /// What the caller may do.
    pub fn class(&self) -> Class {
        match self {
            StoreError::Throttled { .. } | StoreError::Unavailable { .. } => Class::Retry,
            StoreError::Conflict { .. }
            | StoreError::Refused { .. }
            | StoreError::Unreadable { .. }
            | StoreError::Invalid { .. } => Class::Skip,
            StoreError::SetUp { .. } => Class::Fatal,
        }
    }

    /// True if the precondition of a write did not hold.
    pub fn is_conflict(&self) -> bool {
        matches!(self, StoreError::Conflict { .. })
    }

    /// Reads an error of the SDK: codes first, then where in the exchange it happened.
    pub(crate) fn from_sdk<E, R>(operation: &'static str, error: &SdkError<E, R>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
        SdkError<E, R>: std::error::Error,
    {
        let Some(code) = error.code() else {
            let detail = cut(&DisplayErrorContext(error).to_string());
            return match error {
                SdkError::ConstructionFailure(_) => StoreError::Invalid { operation, detail },
                _ => StoreError::Unavailable { operation, detail },
            };
        };
        let detail = cut(error.message().unwrap_or("no message"));
        from_code(operation, code, detail)
    }
}

/// What an error code of DynamoDB means here.
fn from_code(operation: &'static str, code: &str, detail: String) -> StoreError {
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "LimitExceededException" => StoreError::Throttled { operation, detail },
        "InternalServerError"
        | "InternalServerErrorException"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "TransactionInProgressException"
        | "TransactionConflictException"
        | "ReplicatedWriteConflictException"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "RequestExpired"
        | "ExpiredToken"
        | "ExpiredTokenException" => StoreError::Unavailable { operation, detail },
        "ConditionalCheckFailedException" => {
            StoreError::Conflict { operation, what: "the item".to_owned() }
        }
        "ResourceNotFoundException"
        | "AccessDeniedException"
        | "UnrecognizedClientException"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignatureException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "UnknownOperationException" => {
            StoreError::SetUp { operation, code: code.to_owned(), detail }
        }
        "ValidationException"
        | "ItemCollectionSizeLimitExceededException"
        | "SerializationException"
        | "TransactionCanceledException" => {
            StoreError::Refused { operation, code: code.to_owned(), detail }
        }
        // A code that is not known is not proof that the item is wrong: trying again loses nothing.
        other => StoreError::Unavailable { operation, detail: format!("{other}: {detail}") },
    }
}

/// At most [`MAX_DETAIL`] characters.
fn cut(text: &str) -> String {
    text.chars().take(MAX_DETAIL).collect()
}

/// Pause before round `round` (1-based) of the few bounded repetitions inside this room.
pub(crate) fn pause(round: u32) -> Duration {
    Duration::from_millis(50u64.saturating_mul(1 << round.min(6)).min(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_the_caller_may_do() {
        let class = |code| from_code("put messages", code, String::new()).class();
        assert_eq!(class("ThrottlingException"), Class::Retry);
        assert_eq!(class("InternalServerError"), Class::Retry);
        assert_eq!(class("SomethingNewException"), Class::Retry);
        assert_eq!(class("ConditionalCheckFailedException"), Class::Skip);
        assert_eq!(class("ValidationException"), Class::Skip);
        assert_eq!(class("ResourceNotFoundException"), Class::Fatal);
        assert_eq!(class("AccessDeniedException"), Class::Fatal);
    }

    #[test]
    fn errors_name_the_operation_and_stay_small() {
        let error = from_code("park delivery", "ValidationException", cut(&"x".repeat(10_000)));
        let text = error.to_string();
        assert!(text.starts_with("park delivery: refused by DynamoDB (ValidationException: xxx"));
        assert!(text.len() < 600);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(pause(1), Duration::from_millis(100));
        assert_eq!(pause(40), Duration::from_secs(1));
    }
}
