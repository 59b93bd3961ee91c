//! What the service's errors mean to a reader. Pure.

use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// An error of the service, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) detail: String,
    /// It came inside a stream that had been accepted.
    pub(crate) in_stream: bool,
}

/// What a refusal means for the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A subscription of the same consumer is in the way, for seconds.
    InUse,
    /// The shard iterator is older than five minutes.
    Expired,
    /// The stream, consumer or shard does not exist.
    NotFound,
    /// Somebody has to change something first.
    Denied,
    /// More was asked for than there is, by us or by others.
    Throttled,
    /// The service is unwell.
    Busy,
}

impl Refusal {
    pub(crate) fn meaning(&self) -> Meaning {
        match self.code.as_str() {
            "ResourceInUseException" => Meaning::InUse,
            "ExpiredIteratorException" => Meaning::Expired,
            "ResourceNotFoundException" => Meaning::NotFound,
            "AccessDeniedException"
            | "InvalidArgumentException"
            | "ValidationException"
            | "KMSAccessDeniedException"
            | "KMSDisabledException"
            | "KMSInvalidStateException"
            | "KMSNotFoundException"
            | "KMSOptInRequired" => Meaning::Denied,
            "ProvisionedThroughputExceededException"
            | "LimitExceededException"
            | "KMSThrottlingException"
            | "ThrottlingException" => Meaning::Throttled,
            // InternalFailureException and whatever else a service or a proxy may answer: it passes.
            _ => Meaning::Busy,
        }
    }
}

impl Meaning {
    /// The name for metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Meaning::InUse => "in-use",
            Meaning::Expired => "expired-iterator",
            Meaning::NotFound => "not-found",
            Meaning::Denied => "denied",
            Meaning::Throttled => "throttled",
            Meaning::Busy => "busy",
        }
    }
}

/// What the SDK says of a call that failed: a named error of the service, or, in words, a failed
/// connection.
pub(crate) fn refusal<E>(error: &SdkError<E>) -> Result<Refusal, String>
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    match error.as_service_error().and_then(ProvideErrorMetadata::code) {
        Some(code) => Ok(Refusal {
            code: code.to_owned(),
            detail: error.message().unwrap_or("no message").to_owned(),
            in_stream: false,
        }),
        None => Err(DisplayErrorContext(error).to_string()),
    }
}
