//! Why a call is refused: the exceptions of the Kinesis API, each with the message that the caller sees.

use thiserror::Error;

use crate::wire::Answer;

/// A refused call. The variant is the exception's name on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// The stream, shard or consumer does not exist, or not yet, or not any more.
    #[error("ResourceNotFoundException: {0}")]
    ResourceNotFound(String),
    /// The resource exists but is busy with something else.
    #[error("ResourceInUseException: {0}")]
    ResourceInUse(String),
    /// A value is well formed but makes no sense here.
    #[error("InvalidArgumentException: {0}")]
    InvalidArgument(String),
    /// An account or stream quota, or the rate of a control call.
    #[error("LimitExceededException: {0}")]
    LimitExceeded(String),
    /// A shard's read or write limit.
    #[error("ProvisionedThroughputExceededException: {0}")]
    ThroughputExceeded(String),
    /// A shard iterator older than five minutes.
    #[error("ExpiredIteratorException: {0}")]
    ExpiredIterator(String),
    /// A `NextToken` older than five minutes.
    #[error("ExpiredNextTokenException: {0}")]
    ExpiredNextToken(String),
    /// A value that breaks the shape of the API.
    #[error("ValidationException: {0}")]
    Validation(String),
    /// A body that is not the JSON the operation takes.
    #[error("SerializationException: {0}")]
    Serialization(String),
    /// An operation that is not implemented here.
    #[error("UnknownOperationException: {0}")]
    UnknownOperation(String),
    /// The call carried `DryRun` and would have succeeded.
    #[error("DryRunOperationException: {0}")]
    DryRun(String),
    /// The stand-in itself failed.
    #[error("InternalFailureException: {0}")]
    Internal(String),
}

impl Refusal {
    /// The exception's name on the wire.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::ResourceNotFound(_) => "ResourceNotFoundException",
            Self::ResourceInUse(_) => "ResourceInUseException",
            Self::InvalidArgument(_) => "InvalidArgumentException",
            Self::LimitExceeded(_) => "LimitExceededException",
            Self::ThroughputExceeded(_) => "ProvisionedThroughputExceededException",
            Self::ExpiredIterator(_) => "ExpiredIteratorException",
            Self::ExpiredNextToken(_) => "ExpiredNextTokenException",
            Self::Validation(_) => "ValidationException",
            Self::Serialization(_) => "SerializationException",
            Self::UnknownOperation(_) => "UnknownOperationException",
            Self::DryRun(_) => "DryRunOperationException",
            Self::Internal(_) => "InternalFailureException",
        }
    }

    /// The message alone, as it stands in the answer.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::ResourceNotFound(message)
            | Self::ResourceInUse(message)
            | Self::InvalidArgument(message)
            | Self::LimitExceeded(message)
            | Self::ThroughputExceeded(message)
            | Self::ExpiredIterator(message)
            | Self::ExpiredNextToken(message)
            | Self::Validation(message)
            | Self::Serialization(message)
            | Self::UnknownOperation(message)
            | Self::DryRun(message)
            | Self::Internal(message) => message,
        }
    }

    /// The refusal as an HTTP answer.
    pub(crate) fn answer(&self) -> Answer {
        let status = if matches!(self, Self::Internal(_)) { 500 } else { 400 };
        Answer::error(status, self.code(), self.message())
    }

    /// A value outside the constraint the API model puts on a member, in the words of the service.
    pub(crate) fn constraint(member: &str, value: impl std::fmt::Display, rule: &str) -> Self {
        Self::Validation(format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must {rule}"
        ))
    }
}
