//! What requests have in common: the stream they name, blobs, times and tokens.

use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::kinesis::engine::Engine;
use crate::kinesis::error::Refusal;

/// Requests that name a stream by name or ARN; every such struct gets the three members for that and `stream()`.
macro_rules! stream_requests {
    ($( $(#[$doc:meta])* $name:ident { $( $(#[$attribute:meta])* $field:ident : $kind:ty ),* $(,)? } )*) => { $(
        $(#[$doc])*
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "PascalCase", deny_unknown_fields)]
        pub(super) struct $name {
            stream_name: Option<String>,
            #[serde(rename = "StreamARN")]
            stream_arn: Option<String>,
            #[serde(rename = "StreamId")]
            _stream_id: Option<serde::de::IgnoredAny>,
            $( $(#[$attribute])* $field: $kind, )*
        }

        impl $name {
            fn stream(&self) -> $crate::kinesis::ops::request::StreamRef<'_> {
                $crate::kinesis::ops::request::StreamRef {
                    name: self.stream_name.as_deref(),
                    arn: self.stream_arn.as_deref(),
                }
            }
        }
    )* };
}
pub(super) use stream_requests;

/// The stream a request names.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamRef<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) arn: Option<&'a str>,
}

impl StreamRef<'_> {
    /// Whether the request names a stream at all.
    pub(super) fn is_given(&self) -> bool {
        self.name.is_some() || self.arn.is_some()
    }

    /// The stream's name; an ARN must be of this account and region, and agree with the name when both are given.
    pub(super) fn resolve(&self, engine: &Engine) -> Result<String, Refusal> {
        let named = self.name.map(valid_name).transpose()?;
        let Some(arn) = self.arn else {
            return named.map(str::to_owned).ok_or_else(|| {
                Refusal::InvalidArgument(
                    "Either StreamName or StreamARN must be provided.".to_owned(),
                )
            });
        };
        let from_arn = stream_of_arn(engine, arn)?;
        if named.is_some_and(|name| name != from_arn) {
            return Err(Refusal::InvalidArgument(format!(
                "StreamName {} and StreamARN {arn} do not name the same stream.",
                named.unwrap_or_default()
            )));
        }
        Ok(from_arn.to_owned())
    }
}

/// The stream's name in its ARN; what follows it (a consumer) is not looked at.
pub(super) fn stream_of_arn<'a>(engine: &Engine, arn: &'a str) -> Result<&'a str, Refusal> {
    let prefix = engine.stream_arn("");
    let rest = arn.strip_prefix(prefix.as_str()).ok_or_else(|| {
        Refusal::ResourceNotFound(format!(
            "{arn} is not of account {} in {}.",
            engine.account, engine.region
        ))
    })?;
    valid_name(rest.split('/').next().unwrap_or(rest))
}

/// A name of a stream or a consumer.
pub(super) fn valid_name(name: &str) -> Result<&str, Refusal> {
    let valid = (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    valid.then_some(name).ok_or_else(|| {
        Refusal::constraint(
            "name",
            name,
            "satisfy regular expression pattern: [a-zA-Z0-9_.-]{1,128}",
        )
    })
}

/// A count inside the range that the API allows.
pub(super) fn within(member: &str, value: u32, least: u32, most: u32) -> Result<u32, Refusal> {
    if value < least {
        let rule = format!("have value greater than or equal to {least}");
        return Err(Refusal::constraint(member, value, &rule));
    }
    if value > most {
        let rule = format!("have value less than or equal to {most}");
        return Err(Refusal::constraint(member, value, &rule));
    }
    Ok(value)
}

/// The end of a call that only asks whether it would succeed.
pub(super) fn dry_run(requested: Option<bool>) -> Result<(), Refusal> {
    if requested == Some(true) {
        return Err(Refusal::DryRun(
            "Request would have succeeded, but DryRun flag is set.".to_owned(),
        ));
    }
    Ok(())
}

/// Bytes that travel as base64.
#[derive(Debug, Clone)]
pub(super) struct Blob(pub(super) Bytes);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;
        impl Visitor<'_> for Base64 {
            type Value = Blob;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a base64 string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
                base64_simd::STANDARD
                    .decode_to_vec(text)
                    .map(|bytes| Blob(bytes.into()))
                    .map_err(|_| E::custom("a blob is not base64"))
            }
        }
        deserializer.deserialize_str(Base64)
    }
}

/// A time: seconds since the epoch with a fraction on the wire, milliseconds here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp(pub(super) i64);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Ok(Self((seconds * 1000.0).round() as i64))
    }
}
