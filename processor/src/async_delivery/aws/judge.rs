//! What the services' answers mean for a message: whose fault it is, and whether trying again can help. Pure.
//!
//! A call that is refused because of the sender (no permission, no such queue) says something about the whole
//! destination, so it counts against it; one that is refused because of what it carries does not.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::failure;
use crate::async_delivery::outcome::{Failure, FailureKind};

/// What a call as a whole met.
pub(super) fn call<E>(error: &SdkError<E, HttpResponse>) -> Failure
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let kind = match error {
        SdkError::TimeoutError(_) => FailureKind::TimedOut,
        SdkError::DispatchFailure(dispatch) if dispatch.is_timeout() => FailureKind::TimedOut,
        SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => FailureKind::Unreachable,
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            let (code, message) = (plain(meta.code()), meta.message().unwrap_or_default());
            let kind = of_call(code, message, service.raw().status().as_u16());
            return failure(kind, format!("{code}: {message}"));
        }
        // No credentials, above all.
        _ => FailureKind::Unhealthy,
    };
    failure(kind, DisplayErrorContext(error).to_string())
}

/// What a call's answer says of one entry.
pub(super) fn entry(code: &str, message: &str, sender_fault: bool) -> Failure {
    let code = plain(Some(code));
    let kind = if is_throttle(code) {
        FailureKind::Overloaded
    } else if is_of_the_message(code) || says_too_large(message) {
        FailureKind::Unsendable
    } else if sender_fault {
        FailureKind::Refused
    } else {
        FailureKind::Unhealthy
    };
    failure(kind, format!("{code}: {message}"))
}

fn of_call(code: &str, message: &str, status: u16) -> FailureKind {
    if is_throttle(code) || status == 429 {
        FailureKind::Overloaded
    } else if status >= 500 {
        FailureKind::Unhealthy
    } else if is_of_the_message(code) || says_too_large(message) {
        FailureKind::Unsendable
    } else if is_of_the_request(code) {
        FailureKind::Refused
    } else {
        FailureKind::Unhealthy
    }
}

/// `AWS.SimpleQueueService.NonExistentQueue` and `NonExistentQueue` are one code.
fn plain(code: Option<&str>) -> &str {
    let code = code.unwrap_or("no code");
    code.rsplit(['.', '#']).next().unwrap_or(code)
}

fn is_throttle(code: &str) -> bool {
    code.contains("Throttl") || matches!(code, "RequestLimitExceeded" | "TooManyRequestsException")
}

/// Trying again with the same message can never help.
fn is_of_the_message(code: &str) -> bool {
    matches!(
        code,
        "InvalidMessageContents" | "MalformedDetail" | "InvalidJson" | "BatchRequestTooLong"
    )
}

/// Something in the request is not as it should be: which, only its text says.
fn is_of_the_request(code: &str) -> bool {
    matches!(
        code,
        "InvalidParameter"
            | "InvalidParameterValue"
            | "ParameterValueInvalid"
            | "InvalidArgument"
            | "MissingParameter"
            | "ValidationError"
            | "ValidationException"
            | "SerializationException"
            | "UnsupportedOperation"
    )
}

/// All three services report a message above a limit that was set lower than their own under a code that
/// means many things. A text that is not recognised costs attempts, nothing else.
fn says_too_large(message: &str) -> bool {
    ["must be shorter than", "too long", "too large", "over the limit"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_the_destination_counts_against_it_and_what_concerns_the_message_does_not() {
        for (code, message, status, expected) in [
            ("ThrottlingException", "", 400, FailureKind::Overloaded),
            ("RequestThrottled", "", 403, FailureKind::Overloaded),
            ("AccessDenied", "", 403, FailureKind::Unhealthy),
            ("NonExistentQueue", "", 400, FailureKind::Unhealthy),
            ("InternalFailure", "", 500, FailureKind::Unhealthy),
            ("InvalidParameterValue", "not a group", 400, FailureKind::Refused),
            (
                "InvalidParameterValue",
                "Reason: Message must be shorter than 262144 bytes.",
                400,
                FailureKind::Unsendable,
            ),
            ("InvalidMessageContents", "", 400, FailureKind::Unsendable),
        ] {
            assert_eq!(of_call(code, message, status), expected, "{code} {message}");
        }
    }

    #[test]
    fn an_entry_is_refused_for_the_senders_fault_and_tried_again_for_the_services() {
        let kind = |code, message, fault| entry(code, message, fault).kind;
        assert_eq!(kind("InternalError", "", false), FailureKind::Unhealthy);
        assert_eq!(kind("ThrottlingException", "", true), FailureKind::Overloaded);
        assert_eq!(kind("AccessDenied", "", true), FailureKind::Refused);
        assert_eq!(kind("MalformedDetail", "", true), FailureKind::Unsendable);
        let namespaced = entry("AWS.SimpleQueueService.InvalidMessageContents", "bad", true);
        assert_eq!(namespaced.kind, FailureKind::Unsendable);
        assert_eq!(namespaced.detail, "InvalidMessageContents: bad");
    }

    #[test]
    fn what_a_service_says_is_kept_within_bounds() {
        assert_eq!(entry("X", &"é".repeat(10_000), true).detail.chars().count(), 256);
    }
}
