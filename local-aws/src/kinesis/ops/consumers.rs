//! Registering, describing, listing and removing a stream's consumers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Nothing;
use super::request::{Timestamp, stream_of_arn, valid_name, within};
use super::shape::WireTime;
use super::token::{self, TOKEN_LIFETIME_MS};
use crate::kinesis::engine::{Consumer, Engine, Stream, consumer_not_found};
use crate::kinesis::error::Refusal;

const TOKEN_KIND: u8 = b'C';
const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Register {
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    consumer_name: String,
    tags: Option<BTreeMap<String, String>>,
    #[serde(rename = "StreamId")]
    _stream_id: Option<serde::de::IgnoredAny>,
}

/// A consumer as registration and lists show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConsumerShape {
    consumer_name: String,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: String,
    consumer_status: &'static str,
    consumer_creation_timestamp: WireTime,
    #[serde(rename = "StreamARN", skip_serializing_if = "Option::is_none")]
    stream_arn: Option<String>,
}

impl ConsumerShape {
    fn of(consumer: &Consumer, now_ms: i64) -> Self {
        Self {
            consumer_name: consumer.name.clone(),
            consumer_arn: consumer.arn.clone(),
            consumer_status: consumer.status(now_ms),
            consumer_creation_timestamp: WireTime(consumer.created_at_ms),
            stream_arn: None,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Registered {
    consumer: ConsumerShape,
}

pub(super) fn register(
    engine: &mut Engine,
    request: Register,
    now_ms: i64,
) -> Result<Registered, Refusal> {
    let stream = stream_of_arn(engine, &request.stream_arn)?;
    let name = valid_name(&request.consumer_name)?;
    let active_at_ms = engine.done_at(now_ms);
    let stream = engine.live_stream(stream, now_ms)?;
    let tags = request.tags.unwrap_or_default();
    let consumer = stream.register(name, tags, now_ms, active_at_ms)?;
    // The service answers CREATING even when it is done a moment later.
    let mut shape = ConsumerShape::of(consumer, now_ms);
    shape.consumer_status = "CREATING";
    Ok(Registered { consumer: shape })
}

/// A consumer by its ARN, or by its stream's ARN and its name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct ConsumerRef {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    consumer_name: Option<String>,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
    #[serde(rename = "StreamId")]
    _stream_id: Option<serde::de::IgnoredAny>,
}

impl ConsumerRef {
    /// The stream and the name of the consumer that the request means.
    fn resolve<'a>(&self, engine: &'a mut Engine) -> Result<(&'a mut Stream, String), Refusal> {
        match (&self.consumer_arn, &self.stream_arn, &self.consumer_name) {
            (Some(arn), None, None) => {
                let name = stream_of_arn(engine, arn)?;
                let stream = engine.stream(name).map_err(|_| consumer_not_found(arn))?;
                let consumer = stream.consumers.values().find(|consumer| &consumer.arn == arn);
                let name = consumer.ok_or_else(|| consumer_not_found(arn))?.name.clone();
                Ok((stream, name))
            }
            (None, Some(arn), Some(name)) => {
                let stream_name = stream_of_arn(engine, arn)?;
                let stream = engine.stream(stream_name)?;
                if !stream.consumers.contains_key(name) {
                    return Err(consumer_not_found(&format!("{arn}/consumer/{name}")));
                }
                Ok((stream, name.clone()))
            }
            _ => Err(Refusal::InvalidArgument(
                "Either ConsumerARN, or StreamARN together with ConsumerName, must be provided."
                    .to_owned(),
            )),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Described {
    consumer_description: ConsumerShape,
}

pub(super) fn describe(
    engine: &mut Engine,
    request: ConsumerRef,
    now_ms: i64,
) -> Result<Described, Refusal> {
    let (stream, name) = request.resolve(engine)?;
    let consumer = stream.consumers.get(&name).ok_or_else(|| consumer_not_found(&name))?;
    let mut shape = ConsumerShape::of(consumer, now_ms);
    shape.stream_arn = Some(stream.arn.clone());
    Ok(Described { consumer_description: shape })
}

pub(super) fn deregister(
    engine: &mut Engine,
    request: ConsumerRef,
    _now_ms: i64,
) -> Result<Nothing, Refusal> {
    let (stream, name) = request.resolve(engine)?;
    stream.deregister(&name);
    Ok(Nothing {})
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct List {
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    next_token: Option<String>,
    max_results: Option<u32>,
    #[serde(rename = "StreamCreationTimestamp")]
    _stream_creation_timestamp: Option<Timestamp>,
    #[serde(rename = "StreamId")]
    _stream_id: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Page {
    after: String,
    issued_at_ms: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    consumers: Vec<ConsumerShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) fn list(engine: &mut Engine, request: List, now_ms: i64) -> Result<Listed, Refusal> {
    let name = stream_of_arn(engine, &request.stream_arn)?;
    let limit = within("maxResults", request.max_results.unwrap_or(DEFAULT_PAGE), 1, MAX_PAGE)?;
    let after = match &request.next_token {
        None => None,
        Some(next_token) => {
            let page: Page = token::open(TOKEN_KIND, next_token)
                .ok_or_else(|| Refusal::InvalidArgument("NextToken is not valid.".to_owned()))?;
            if now_ms - page.issued_at_ms > TOKEN_LIFETIME_MS {
                return Err(Refusal::ExpiredNextToken("NextToken has expired.".to_owned()));
            }
            Some(page.after)
        }
    };
    let stream = engine.stream(name)?;
    let mut rest = stream
        .consumers
        .values()
        .filter(|consumer| after.as_ref().is_none_or(|after| &consumer.name > after));
    let consumers: Vec<ConsumerShape> = rest
        .by_ref()
        .take(limit as usize)
        .map(|consumer| ConsumerShape::of(consumer, now_ms))
        .collect();
    let next_token = match (rest.next(), consumers.last()) {
        (Some(_), Some(last)) => token::seal(
            TOKEN_KIND,
            &Page { after: last.consumer_name.clone(), issued_at_ms: now_ms },
        ),
        _ => None,
    };
    Ok(Listed { consumers, next_token })
}
