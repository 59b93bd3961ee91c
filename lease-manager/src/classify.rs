//! What an AWS error means for leases. The one place that decides it.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ServiceError;

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The outcome is unknown, or the service is busy: look, then try again.
    Retry,
    /// The condition did not hold: somebody else wrote.
    Lost,
    /// It will not work however often it is tried: a missing table, missing permissions, a malformed request.
    Fatal,
}

/// A call that did not succeed and was not refused by its condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {detail}")]
pub(crate) struct CallError {
    pub(crate) operation: &'static str,
    pub(crate) kind: Kind,
    pub(crate) detail: String,
}

impl CallError {
    pub(crate) fn timeout(operation: &'static str) -> Self {
        Self { operation, kind: Kind::Retry, detail: "no answer in time".to_owned() }
    }

    pub(crate) fn of<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let detail = match error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or("unknown error");
                format!("{code}: {}", service.err().message().unwrap_or("no message"))
            }
            other => chain(other),
        };
        Self { operation, kind: classify(error), detail }
    }

    pub(crate) fn is_fatal(&self) -> bool {
        self.kind == Kind::Fatal
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source.filter(|_| text.len() < 500) {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

pub(crate) fn classify<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Kind {
    match error {
        SdkError::ConstructionFailure(_) => Kind::Fatal,
        SdkError::ServiceError(service) => of_service(service),
        // Timeouts, broken connections, answers that cannot be read: the write may have happened.
        _ => Kind::Retry,
    }
}

fn of_service<E: ProvideErrorMetadata>(error: &ServiceError<E, HttpResponse>) -> Kind {
    match error.err().code().unwrap_or_default() {
        "ConditionalCheckFailedException" => Kind::Lost,
        // Busy, or credentials that are about to be renewed.
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TransactionConflictException"
        | "ReplicatedWriteConflictException"
        | "ResourceInUseException"
        | "InternalServerError"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "ExpiredNextTokenException"
        | "ExpiredTokenException"
        | "RequestExpired" => Kind::Retry,
        _ if error.raw().status().is_server_error() => Kind::Retry,
        _ => Kind::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    fn answered(status: u16, code: &str) -> Kind {
        let response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::empty());
        let error = UpdateItemError::generic(ErrorMetadata::builder().code(code).build());
        classify(&SdkError::service_error(error, response))
    }

    #[test]
    fn busy_is_unknown_and_never_lost() {
        assert_eq!(answered(400, "ProvisionedThroughputExceededException"), Kind::Retry);
        assert_eq!(answered(500, "Something"), Kind::Retry);
        let timeout: SdkError<UpdateItemError, HttpResponse> = SdkError::timeout_error("late");
        assert_eq!(classify(&timeout), Kind::Retry);
    }

    #[test]
    fn a_failed_condition_and_a_hopeless_call_are_told_apart() {
        assert_eq!(answered(400, "ConditionalCheckFailedException"), Kind::Lost);
        assert_eq!(answered(400, "AccessDeniedException"), Kind::Fatal);
        assert_eq!(answered(400, "ResourceNotFoundException"), Kind::Fatal);
    }
}
