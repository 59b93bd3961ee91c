//! Every peer reads a whole stream, plain and over TLS, and counts what was sent.

use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::source::{Handle, Options, Source, client};
use crate::wire::Endpoint;

struct World {
    client: Client,
    endpoint: Endpoint,
    handle: Handle,
    found: Found,
    _running: AbortOnDropHandle<()>,
}

async fn world(tls: bool) -> World {
    let options = Options {
        tls,
        shards: 3,
        record_bytes: 500,
        event_bytes: 20_000,
        records_per_shard: Some(2_000),
        ..Options::default()
    };
    let time = SharedTimeSource::new(SystemTimeSource::new());
    let source = Source::bind(options, time).await.unwrap();
    let endpoint =
        Endpoint { url: source.endpoint_url(), ca_pem: source.ca_pem().map(str::to_owned) };
    let client = client(&endpoint.url, endpoint.ca_pem.as_deref());
    let handle = source.handle();
    let running = AbortOnDropHandle::new(tokio::spawn(source.run(CancellationToken::new())));
    let found = find(&client, "load", "peer").await.unwrap();
    assert_eq!(found.shard_ids.len(), 3);
    World { client, endpoint, handle, found, _running: running }
}

#[tokio::test]
async fn the_sdk_counts_every_record() {
    for tls in [false, true] {
        let world = world(tls).await;
        let read = sdk::read(world.client, world.found).await.unwrap();
        assert_eq!(read, Read { records: 6_000, bytes: 3_000_000 });
        assert!(world.handle.sent().complete);
    }
}

#[tokio::test]
async fn a_dropped_body_and_a_bare_socket_are_the_same_bytes() {
    let plain = world(false).await;
    let dropped = drop::read(plain.endpoint.clone(), plain.found.clone()).await.unwrap();
    let wire = socket::read(plain.endpoint, plain.found).await.unwrap();
    let tls = world(true).await;
    let over_tls = drop::read(tls.endpoint.clone(), tls.found.clone()).await.unwrap();
    assert_eq!(dropped, over_tls);
    assert!(dropped.bytes > 4_000_000, "{dropped:?}");
    // The heads of the answers and of the chunks.
    let framing = wire.bytes - dropped.bytes;
    assert!((1..20_000).contains(&framing), "{framing}");
    let refused = socket::read(tls.endpoint, tls.found).await.unwrap_err().to_string();
    assert!(refused.contains("speaks no TLS"), "{refused}");
}
