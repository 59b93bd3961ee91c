//! Many shards over TLS with HTTP/2, on real sockets and in real time.

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::testing::Site;
use super::*;
use crate::fan_out::{FanOut, FanOutOptions};

/// Far more than anything here takes; who waits for so long waits in vain.
const LONG: Duration = Duration::from_secs(60);
const WINDOWS: (u32, u32) = (STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES);

fn options() -> FanOutOptions {
    FanOutOptions {
        subscribes_per_second: 1_000,
        inactivity_deadline: Duration::from_secs(2),
        ..FanOutOptions::default()
    }
}

/// Reads until a record with this text has come; the texts on the way to it.
async fn read_to(reader: &mut FanOut, last: &str) -> Vec<String> {
    let mut all = Vec::new();
    while all.last().is_none_or(|text| text != last) {
        let records = reader.next().await.unwrap().records;
        all.extend(records.spans.iter().map(|r| r.data.text(&records.arena).to_owned()));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_shards_start_in_a_row_over_eight_connections() {
    let site = Site::new(500).await;
    let connections = site.connections(WINDOWS, LONG);
    let options = FanOutOptions { subscribes_per_second: 200, ..options() };
    let began = Instant::now();
    let mut reading = JoinSet::new();
    for mut reader in site.readers(&connections, &options).await {
        reading.spawn(async move {
            reader.next().await.unwrap();
            reader
        });
    }
    let subscribed = timeout(LONG, reading.join_all()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(499) / 200, "{:?}", began.elapsed());
    assert_eq!((subscribed.len(), site.subscribe_calls()), (500, 500));
    assert_eq!((connections.in_use(), site.accepted.lock().unwrap().len()), (8, 8));
}

/// Twenty calls while the first connection does not get on with its handshake, until `meanwhile` is done with the site: how
/// many connections there were when all have read.
async fn twenty_calls(limit: Duration, meanwhile: impl FnOnce(&Site)) -> usize {
    let site = Site::new(20).await;
    site.first_ready.send_replace(1);
    let connections = site.connections(WINDOWS, limit);
    let mut reading = JoinSet::new();
    for mut reader in site.readers(&connections, &options()).await {
        reading.spawn(async move { reader.next().await.map(|_| reader).unwrap() });
    }
    let all_called = async {
        while connections.calls() < 20 || site.accepted.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, all_called).await.unwrap();
    meanwhile(&site);
    timeout(LONG, reading.join_all()).await.unwrap();
    site.accepted.lock().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_connection_is_opened_the_calls_that_may_share_it_wait() {
    let shakes_hands = |site: &Site| site.first_ready.send_modify(|first| *first = 0);
    assert_eq!(twenty_calls(LONG, shakes_hands).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_opening_fails_the_next_call_opens_a_connection() {
    let breaks = |site: &Site| site.accepted.lock().unwrap()[0].task.abort();
    assert_eq!(twenty_calls(LONG, breaks).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_never_ends_holds_up_the_others_for_a_while_only() {
    assert!(twenty_calls(Duration::from_millis(100), |_| ()).await >= 2);
}

/// Of 64 shards on one connection 60 have a megabyte that nobody reads. What comes of the others?
async fn the_others_read_on(windows: (u32, u32), patience: Duration) -> bool {
    let site = Site::new(64).await;
    let connections = site.connections(windows, LONG);
    let mut readers = site.readers(&connections, &options()).await;
    for reader in &mut readers {
        timeout(LONG, reader.next()).await.unwrap().unwrap();
    }
    for shard in 0..60 {
        site.put(shard, 64, vec![b'x'; 1_000_000]).await;
    }
    // Until the windows are full nothing is proven: the server sends what it may in any order.
    let mut others = readers.split_off(60);
    for round in 0..40 {
        let text = format!("round {round}");
        for (shard, reader) in (60..).zip(&mut others) {
            site.put(shard, 64, text.clone().into_bytes()).await;
            if timeout(patience, read_to(reader, &text)).await.is_err() {
                return false;
            }
        }
    }
    assert_eq!(connections.in_use(), 1, "all are on one connection");
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_do_not_hold_up_the_others_on_their_connection() {
    assert!(the_others_read_on(WINDOWS, LONG).await);
    // With the windows that hyper and the SDK begin with they do.
    let windows = (2 << 20, 5 << 20);
    assert!(!the_others_read_on(windows, Duration::from_secs(2)).await);
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It breaks.
    Cut,
    /// Its other end is gone, and nobody says so.
    Frozen,
}

/// Of 70 shards, 64 are on the first connection. What happens to that is no matter to the other six.
async fn only_its_shards_notice(fate: Fate) {
    let site = Site::new(70).await;
    let connections = site.connections(WINDOWS, LONG);
    let mut readers = site.readers(&connections, &options()).await;
    for (shard, reader) in (0..).zip(&mut readers) {
        site.put(shard, 70, b"before".to_vec()).await;
        timeout(LONG, read_to(reader, "before")).await.unwrap();
    }
    assert_eq!((site.subscribe_calls(), connections.in_use()), (70, 2));
    {
        let accepted = site.accepted.lock().unwrap();
        match fate {
            Fate::Cut => accepted[0].task.abort(),
            Fate::Frozen => drop(accepted[0].frozen.send_replace(true)),
        }
    }
    for shard in 0..70 {
        site.put(shard, 70, b"after".to_vec()).await;
    }
    let mut reading = JoinSet::new();
    for (shard, mut reader) in readers.into_iter().enumerate() {
        reading.spawn(async move { (shard, read_to(&mut reader, "after").await, reader) });
    }
    let read = timeout(LONG, reading.join_all()).await.unwrap();
    assert!(read.iter().all(|(_, texts, _)| *texts == ["after"]), "no gap, no repetition");
    // Each of the 64 has subscribed once more; the others go on with what they have.
    assert_eq!(site.subscribe_calls(), 70 + 64, "{fate:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_is_resumed_by_its_shards_alone() {
    only_its_shards_notice(Fate::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_other_end_is_gone_is_left_by_its_shards_alone() {
    only_its_shards_notice(Fate::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_is_left_for_the_next_one() {
    let mut site = Site::new(3).await;
    let connections = site.connections(WINDOWS, LONG);
    let mut readers = site.readers(&connections, &options()).await;
    for reader in &mut readers {
        timeout(LONG, reader.next()).await.unwrap().unwrap();
    }
    site.roll().await;
    for (shard, reader) in (0..).zip(&mut readers) {
        site.put(shard, 3, b"after".to_vec()).await;
        assert_eq!(timeout(LONG, read_to(reader, "after")).await.unwrap(), ["after"]);
    }
}
