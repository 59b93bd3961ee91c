//! From an HTTP request to the service that answers it: the checks that AWS makes before an operation runs.
//!
//! It knows targets, headers, protocols and limits, and no operation's meaning. Signatures are not verified. Start at [`Call::parse`].

pub(crate) mod query;
mod resources;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{HeaderMap, Method, header};

use crate::wire::Answer;

/// The largest request body (both services refuse bigger ones; `PutRecords` of 10 MiB is 14 MB in base64).
pub(crate) const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// A service of this stand-in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Amazon DynamoDB.
    Dynamodb,
    /// Amazon Kinesis Data Streams.
    Kinesis,
    /// Amazon SQS.
    Sqs,
    /// Amazon SNS.
    Sns,
    /// Amazon EventBridge.
    EventBridge,
    /// AWS Security Token Service.
    Sts,
}

impl Service {
    /// The content type of its answers.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Dynamodb | Self::Sqs => "application/x-amz-json-1.0",
            Self::Kinesis | Self::EventBridge => "application/x-amz-json-1.1",
            Self::Sns | Self::Sts => "text/xml",
        }
    }

    /// It is asked in forms and answers in XML, see [`query`].
    pub(crate) fn speaks_query(self) -> bool {
        matches!(self, Self::Sns | Self::Sts)
    }

    /// How it says that it is asked too much.
    pub(crate) fn throttled(self) -> Answer {
        let code = match self {
            Self::Dynamodb | Self::Kinesis => "ProvisionedThroughputExceededException",
            Self::Sqs => "RequestThrottled",
            Self::Sns => "Throttled",
            Self::EventBridge => "ThrottlingException",
            Self::Sts => "Throttling",
        };
        Answer::error(400, code, "Rate exceeded")
    }

    /// How it says that it failed itself.
    pub(crate) fn internal_error(self) -> Answer {
        let code = match self {
            Self::Dynamodb => "InternalServerError",
            Self::Kinesis | Self::Sts => "InternalFailure",
            Self::Sqs | Self::Sns => "InternalError",
            Self::EventBridge => "InternalException",
        };
        Answer::error(500, code, "Internal server error")
    }
}

/// What was asked of which service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) service: Service,
    pub(crate) operation: String,
    /// The access key id of the signature: who is calling.
    pub(crate) caller: String,
    /// The tables, streams, queues, topics or buses that the body names.
    pub(crate) resources: Vec<String>,
    pub(crate) body: Bytes,
}

impl Call {
    /// The call in a request, or the answer that AWS gives to such a request.
    pub(crate) fn parse(request: http::Request<Bytes>) -> Result<Self, Answer> {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST || parts.uri.path() != "/" {
            return Err(Answer::error(
                404,
                "UnknownOperationException",
                &format!("{} {} is nothing here", parts.method, parts.uri.path()),
            ));
        }
        if body.len() > MAX_BODY_BYTES {
            let message =
                format!("the request has {} bytes, allowed are {MAX_BODY_BYTES}", body.len());
            return Err(Answer::error(413, "RequestEntityTooLargeException", &message));
        }
        let (service, operation, body) = if media_type(&parts.headers) == query::FORM {
            query::decode(&body).ok_or_else(|| {
                Answer::error(400, "InvalidAction", "no form of a service and version served here")
            })?
        } else {
            let (service, operation) = target(&parts.headers)?;
            check_content_type(&parts.headers)?;
            (service, operation, body)
        };
        Ok(Self {
            service,
            operation,
            caller: caller(&parts.headers)?,
            resources: resources::of(&body),
            body,
        })
    }
}

fn target(headers: &HeaderMap) -> Result<(Service, String), Answer> {
    let target = text(headers, "x-amz-target").unwrap_or_default();
    let known = match target.split_once('.') {
        Some(("DynamoDB_20120810" | "DynamoDBStreams_20120810", operation)) => {
            Some((Service::Dynamodb, operation))
        }
        Some(("Kinesis_20131202", operation)) => Some((Service::Kinesis, operation)),
        Some(("AmazonSQS", operation)) => Some((Service::Sqs, operation)),
        Some(("AWSEvents", operation)) => Some((Service::EventBridge, operation)),
        _ => None,
    };
    known
        .filter(|(_, operation)| !operation.is_empty() && operation.len() <= 128)
        .map(|(service, operation)| (service, operation.to_owned()))
        .ok_or_else(|| Answer::error(400, "UnknownOperationException", "unknown x-amz-target"))
}

fn media_type(headers: &HeaderMap) -> &str {
    let given = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim()
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Answer> {
    let media_type = media_type(headers);
    if matches!(
        media_type,
        "application/x-amz-json-1.0" | "application/x-amz-json-1.1" | "application/json"
    ) {
        return Ok(());
    }
    let message =
        format!("content type {media_type:?} is not served, only JSON is (switch CBOR off)");
    Err(Answer::error(400, "SerializationException", &message))
}

/// The access key id in `Authorization: AWS4-HMAC-SHA256 Credential=KEY/date/region/service/aws4_request, ...`.
fn caller(headers: &HeaderMap) -> Result<String, Answer> {
    let authorization = text(headers, header::AUTHORIZATION.as_str()).ok_or_else(|| {
        Answer::error(
            400,
            "com.amazon.coral.service#MissingAuthenticationTokenException",
            "Request is missing Authentication Token",
        )
    })?;
    let credential =
        authorization.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
    credential.map(str::to_owned).ok_or_else(|| {
        Answer::error(
            400,
            "com.amazon.coral.service#IncompleteSignatureException",
            "Authorization header requires 'Credential' parameter.",
        )
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
