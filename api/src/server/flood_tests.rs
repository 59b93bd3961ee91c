//! What clients can do with HTTP/2 that no client does in good faith: bounded, cut, and at nobody else's cost. Nothing is timed:
//! the clock is paused, and goes on when every side waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::streams::{PIECE_BYTES, Streams, taken};
use super::tests::{Running, reloader};
use crate::options::{Limits, Transport};
use crate::testing::raw::{
    CANCEL, CONTINUATION, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, REFUSED_STREAM, RST_STREAM,
    Raw, SETTINGS, field, frame, request,
};
use crate::testing::{Certificate, Http};

const GET: u8 = 2;

async fn running() -> (Certificate, Running) {
    let certificate = Certificate::new();
    let transport = Transport::Tls(reloader(&certificate));
    let running = Running::start(transport, Limits::default()).await;
    (certificate, running)
}

/// Somebody else is answered.
async fn others_are_answered(certificate: &Certificate, running: &Running) {
    let stream = certificate.connect(running.address, &["h2"]).await.unwrap();
    assert_eq!(Http::over_tls(stream).await.get("/").await.unwrap().body(), "fast");
}

/// Streams `1, 3, ..`: as many as that.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

#[tokio::test(start_paused = true)]
async fn streams_without_a_window_are_reset_in_time_and_only_so_many_are_taken() {
    let (certificate, running) = running().await;
    let limits = Limits::default();
    let mut raw = Raw::connect(&certificate, running.address, 0).await;
    let began = Instant::now();
    for stream in streams(limits.max_streams_per_connection + 20) {
        raw.send(&request(stream, GET, "/", &[], true)).await.unwrap();
    }
    others_are_answered(&certificate, &running).await;
    let (mut answered, mut refused, mut cut) = (0, 0, 0);
    while cut < limits.max_streams_per_connection {
        let frame = raw.next().await.expect("the connection goes on");
        match frame.kind {
            HEADERS => answered += 1,
            RST_STREAM if frame.code() == REFUSED_STREAM => refused += 1,
            RST_STREAM if frame.code() == CANCEL => cut += 1,
            RST_STREAM => panic!("{frame:?}"),
            _ => {}
        }
    }
    assert_eq!((answered, refused), (limits.max_streams_per_connection, 20));
    assert!(began.elapsed() >= limits.write_stall_timeout, "{:?}", began.elapsed());
    others_are_answered(&certificate, &running).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_an_answer_that_is_not_taken_no_more_is_made() {
    let (certificate, running) = running().await;
    let mut raw = Raw::connect(&certificate, running.address, 1).await;
    for stream in streams(50) {
        raw.send(&request(stream, GET, "/endless", &[], true)).await.unwrap();
    }
    for _ in 0..50 {
        assert_eq!(raw.next_of(RST_STREAM).await.unwrap().code(), CANCEL);
    }
    let made = running.made.load(Ordering::Relaxed);
    assert_eq!(
        made, 50,
        "one piece is with the connection, another waits, both of the first frame"
    );
    running.stop().await;
}

#[tokio::test]
async fn answers_are_handed_over_in_pieces_that_keep_nothing_else_alive() {
    let whole: Bytes = (0..100_000u32).map(|n| n as u8).collect::<Vec<_>>().into();
    let (told, mut pieces) = tokio::sync::mpsc::channel(1);
    let body = Body::from(whole.clone());
    hyper::rt::Executor::execute(
        &Streams { stall: Limits::default().write_stall_timeout },
        async move {
            let mut body = taken(http::Response::new(body)).into_body();
            assert_eq!(axum::body::HttpBody::size_hint(&body).exact(), Some(100_000));
            let mut all = Vec::new();
            while let Some(frame) = body.frame().await {
                all.push(frame.unwrap().into_data().unwrap());
            }
            told.send(all).await.unwrap();
        },
    );
    let pieces = pieces.recv().await.unwrap();
    assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
    let range = whole.as_ptr_range();
    assert!(pieces.iter().all(|piece| !range.contains(&piece.as_ptr())));
    assert_eq!(pieces.concat(), whole);
}

/// CVE-2023-44487.
#[tokio::test(start_paused = true)]
async fn who_opens_streams_and_resets_them_at_once_is_sent_away() {
    let (certificate, running) = running().await;
    let mut raw = Raw::connect(&certificate, running.address, 65_535).await;
    let mut flood = Vec::new();
    for stream in streams(20_000) {
        flood.extend(request(stream, GET, "/", &[], true));
        flood.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    // It may end in the middle of it.
    let _ = raw.send(&flood).await;
    assert_eq!(raw.next_of(GOAWAY).await.map(|frame| frame.code()), Some(ENHANCE_YOUR_CALM));
    while raw.next().await.is_some() {}
    others_are_answered(&certificate, &running).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_without_an_end_is_not_collected() {
    let (certificate, running) = running().await;
    let mut raw = Raw::connect(&certificate, running.address, 65_535).await;
    let block: Vec<u8> = (0..100).flat_map(|_| field("x-more", &"y".repeat(120))).collect();
    let mut sent = raw.send(&frame(HEADERS, 0, 1, &[0x82, 0x87, 0x84])).await;
    let mut frames = 0;
    while sent.is_ok() {
        sent = raw.send(&frame(CONTINUATION, 0, 1, &block)).await;
        frames += 1;
        assert!(frames < 1_000, "13 MB of one head are taken");
    }
    others_are_answered(&certificate, &running).await;
    running.stop().await;
}

/// What is answered frame by frame is not collected for one who reads no answers.
#[tokio::test(start_paused = true)]
async fn who_floods_with_pings_or_settings_and_reads_nothing_is_cut() {
    let (certificate, running) = running().await;
    for flood in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let mut raw = Raw::connect(&certificate, running.address, 65_535).await;
        let many = flood.repeat(4_000);
        let mut bytes = 0;
        while raw.send(&many).await.is_ok() {
            bytes += many.len();
            assert!(bytes < 256 * 1024 * 1024, "no end of it");
        }
        others_are_answered(&certificate, &running).await;
    }
    running.stop().await;
}

/// A frame of 64 KiB after the other, and how many were made.
pub(super) fn endless(made: Arc<AtomicUsize>) -> Body {
    Body::from_stream(futures::stream::repeat_with(move || {
        made.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 64 * 1024]))
    }))
}
