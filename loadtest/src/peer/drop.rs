//! A client that drops the body: HTTP (and TLS, where the endpoint has it) and nothing behind it. What no consumer of this
//! transport can be cheaper than.

use bytes::Bytes;
use futures::future::try_join_all;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Found, PeerError, Read};
use crate::wire::{Connection, Endpoint};

/// Reads every shard until its answer ends; counts the bytes of the bodies.
///
/// # Errors
/// When a connection fails or breaks.
pub async fn read(endpoint: Endpoint, found: Found) -> Result<Read, PeerError> {
    let mut connection = Connection::open(&endpoint).await?;
    let mut tasks = Vec::new();
    for shard_id in &found.shard_ids {
        let headers = [
            ("x-amz-target", "Kinesis_20131202.SubscribeToShard"),
            ("content-type", "application/x-amz-json-1.1"),
        ];
        let body = Bytes::from(found.subscribe_body(shard_id));
        let answer = connection.send(Method::POST, "/", &headers, body).await?;
        // What must not be shared lives as long as its answer is read.
        let own = match connection.is_shared() {
            true => None,
            false => Some(std::mem::replace(&mut connection, Connection::open(&endpoint).await?)),
        };
        tasks.push(tokio::spawn(read_body(shard_id.clone(), answer.into_body(), own)));
    }
    let reads = try_join_all(tasks).await?;
    reads.into_iter().sum()
}

async fn read_body(
    shard_id: String,
    mut body: Incoming,
    _own: Option<Connection>,
) -> Result<Read, PeerError> {
    let mut read = Read::default();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => read.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Err(error) => return Err(PeerError::Broken { shard_id, cause: error.to_string() }),
        }
    }
    Ok(read)
}
