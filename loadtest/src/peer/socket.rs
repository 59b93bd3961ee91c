//! The bare socket: a thread a shard that reads 256 KB at a time and looks at nothing. HTTP/1.1 without TLS.

use std::io::{Read as _, Write};
use std::net::TcpStream;

use futures::future::try_join_all;

use super::{Found, PeerError, Read};
use crate::wire::{Endpoint, WireError};

const BUFFER_BYTES: usize = 256 * 1024;

/// Reads every shard until its connection ends; counts the bytes of the wire.
///
/// # Errors
/// When a connection fails, or TLS is wanted.
pub async fn read(endpoint: Endpoint, found: Found) -> Result<Read, PeerError> {
    let (host, port, tls) = endpoint.address()?;
    if tls {
        let problem = "a bare socket speaks no TLS: give an http:// endpoint".to_owned();
        return Err(WireError::Endpoint { url: endpoint.url, problem }.into());
    }
    let threads = found.shard_ids.iter().map(|shard_id| {
        let body = found.subscribe_body(shard_id);
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\
             x-amz-target: Kinesis_20131202.SubscribeToShard\r\n\
             content-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (host, url) = (host.clone(), endpoint.url.clone());
        tokio::task::spawn_blocking(move || {
            let failed =
                |error: std::io::Error| WireError::Connect { url, cause: error.to_string() };
            read_socket(&host, port, request.as_bytes()).map_err(failed)
        })
    });
    let reads = try_join_all(threads.collect::<Vec<_>>()).await?;
    Ok(reads.into_iter().sum::<Result<Read, WireError>>()?)
}

fn read_socket(host: &str, port: u16, request: &[u8]) -> std::io::Result<Read> {
    let mut socket = TcpStream::connect((host, port))?;
    socket.write_all(request)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut read = Read::default();
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(read),
            bytes => read.bytes += bytes as u64,
        }
    }
}
