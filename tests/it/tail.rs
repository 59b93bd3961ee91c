//! Following an integration over real sockets: cut at any moment, resumed at another task, ended when access ends.

use std::collections::BTreeSet;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::harness::PATIENCE;
use crate::harness::child::{Sluicegate, file, run};
use crate::harness::platform::{EARTHQUAKES, Platform, Processor, STREAM, earthquakes};

const TAIL: &str = "/v1/integrations/earthquakes/tail";

/// The platform with an integration that may be followed.
async fn tailed() -> Platform {
    let mut platform = Platform::start().await;
    let text = std::fs::read_to_string(&platform.config).expect("the configuration");
    let text = text.replace("retention = \"1h\"", "retention = \"1h\"\ntail = true");
    platform.config = file(platform.scratch(), "tailed.toml", &text);
    platform
}

/// A task of the API, and where it listens.
async fn api(platform: &Platform, listen: &str) -> (Sluicegate, String) {
    let listen = format!("api.listen={listen}");
    let mut api = Sluicegate::start(&["api", "--config", &platform.config, "--set", &listen]);
    let address = api.line().await.rsplit(' ').next().expect("an address").to_owned();
    (api, address)
}

/// An event of a stream, as far as these tests look at it.
#[derive(Debug, Default)]
struct Event {
    id: String,
    name: String,
    data: String,
}

/// A stream that is read event by event.
struct Stream {
    body: Incoming,
    text: Vec<u8>,
}

impl Stream {
    async fn open(address: &str, key: &str, last_id: &str) -> Stream {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = http::Request::get(format!("http://{address}{TAIL}"))
            .header("x-api-key", key)
            .header("last-event-id", last_id)
            .body(Empty::<Bytes>::new())
            .expect("a request");
        let answer = client.request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        Stream { body: answer.into_body(), text: Vec::new() }
    }

    /// The next block; `None` when the stream ended or broke.
    async fn next(&mut self) -> Option<Event> {
        let end = loop {
            if let Some(at) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                break at;
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("in time");
            self.text.extend_from_slice(frame?.ok()?.data_ref()?);
        };
        let block: Vec<u8> = self.text.drain(..end + 2).collect();
        let mut event = Event::default();
        for line in String::from_utf8(block).expect("UTF-8").lines() {
            match line.split_once(": ") {
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", data)) => event.data += data,
                _ => {}
            }
        }
        Some(event)
    }
}

fn id_of(json: &str) -> String {
    let message: Value = serde_json::from_str(json).expect("JSON");
    message["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_misses_nothing_when_the_task_is_killed_and_goes_on_at_another() {
    let platform = tailed().await;
    let (first, one) = api(&platform, "127.0.0.1:0").await;
    let (second, two) = api(&platform, "127.0.0.1:0").await;
    let mut stream = Stream::open(&one, &platform.api_key, "").await;
    let begun = stream.next().await.expect("a block");
    let mut last_id = begun.id;
    let processor = Processor::start(&platform).await;
    let events = earthquakes();
    let (before, after) = events.split_at(1_000);
    platform.aws.put(STREAM, before).await;

    let mut seen = Vec::new();
    while seen.len() < 300 {
        let event = stream.next().await.expect("an event");
        last_id = event.id;
        if !event.data.is_empty() {
            seen.push(id_of(&event.data));
        }
    }
    first.kill().await;
    // What has come already counts; what was under way does not.
    while let Some(event) = stream.next().await {
        last_id = event.id;
        seen.extend((!event.data.is_empty()).then(|| id_of(&event.data)));
    }
    platform.aws.put(STREAM, after).await;
    let mut stream = Stream::open(&two, &platform.api_key, &last_id).await;
    while seen.iter().collect::<BTreeSet<_>>().len() < EARTHQUAKES {
        let event = stream.next().await.expect("an event");
        assert_eq!(event.name, "", "{event:?}");
        seen.extend((!event.data.is_empty()).then(|| id_of(&event.data)));
    }
    let distinct: BTreeSet<String> = seen.iter().cloned().collect();
    let stored: BTreeSet<String> = platform.stored().await.into_keys().collect();
    assert!(distinct == stored, "every stored message, and no other");
    println!("{} events for {EARTHQUAKES} messages", seen.len());

    // The stream of a task that stops ends in order.
    let stopped = second.terminate();
    let ended = async {
        let mut last = Event::default();
        while let Some(event) = stream.next().await {
            last = event;
        }
        last
    };
    let (stopped, last) = tokio::join!(stopped, ended);
    assert_eq!((stopped.code, last.name.as_str()), (Some(0), "end"), "{:#?}", stopped.log);
    assert!(last.data.contains("draining"), "{last:?}");
    assert_eq!(processor.stop().await.code, Some(0));
}

/// P7, over a socket: how long it took is printed; that it is less than two seconds is held to in paused time.
#[tokio::test(flavor = "multi_thread")]
async fn p7_a_stream_ends_when_its_key_is_revoked() {
    let platform = tailed().await;
    let (api, address) = api(&platform, "127.0.0.1:0").await;
    let mut stream = Stream::open(&address, &platform.api_key, "").await;
    stream.next().await.expect("a block");
    let revoke = ["clients", "revoke", &platform.api_key, "--config", &platform.config];
    assert_eq!(run(&revoke).await.code, Some(0));
    let revoked = tokio::time::Instant::now();
    let mut last = Event::default();
    while let Some(event) = stream.next().await {
        last = event;
    }
    println!("ended after {:?}", revoked.elapsed());
    assert_eq!(last.name, "end");
    assert!(last.data.contains("access-ended"), "{last:?}");
    assert_eq!(api.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_reads_and_follows_through_a_restart_of_the_api() {
    let platform = tailed().await;
    let (first, address) = api(&platform, "127.0.0.1:0").await;
    let key = file(platform.scratch(), "key", &format!("{}\n", platform.api_key));
    let url = format!("http://{address}");
    let common = ["--url", &url, "--key-file", &key, "--output", "json"];
    let args = |args: &[&'static str]| {
        let all = ["messages"].iter().chain(args).chain(&common);
        all.map(|arg| (*arg).to_owned()).collect::<Vec<String>>()
    };
    let owned = args(&["tail", "--integration", "earthquakes", "--from", "10m", "--limit", "1707"]);
    let texts: Vec<&str> = owned.iter().map(String::as_str).collect();
    let mut tail = Sluicegate::start(&texts);
    let processor = Processor::start(&platform).await;
    let events = earthquakes();
    platform.aws.put(STREAM, &events[..500]).await;
    let mut seen: BTreeSet<String> = BTreeSet::new();
    while seen.len() < 200 {
        seen.insert(id_of(&tail.line().await));
    }
    first.kill().await;
    platform.aws.put(STREAM, &events[500..]).await;
    let (second, _) = api(&platform, &address).await;
    let ended = tail.ended().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    seen.extend(ended.stdout.iter().map(|line| id_of(line)));
    assert_eq!(seen.len(), EARTHQUAKES, "each once: {:#?}", ended.log);
    assert!(ended.log.iter().any(|line| line.contains("going on in")), "{:#?}", ended.log);

    let get = |more: &[&'static str]| {
        let owned = args(&[&["get"][..], more].concat());
        async move {
            let texts: Vec<&str> = owned.iter().map(String::as_str).collect();
            run(&texts).await
        }
    };
    let of_entity = ["--integration", "earthquakes", "--entity", "ci", "--limit", "100000"];
    let pages = get(&of_entity).await;
    let networks = events.iter().filter(|(network, _)| network == "ci").count();
    assert_eq!((pages.code, pages.stdout.len()), (Some(0), networks), "{:#?}", pages.log);
    let newest: Value = serde_json::from_str(&pages.stdout[0]).expect("JSON");
    let link = newest["self"].as_str().expect("a link").to_owned();
    let one = [&["messages", "get", &link][..], &common].concat();
    let one = run(&one).await;
    assert_eq!(one.stdout, pages.stdout[..1], "{:#?}", one.log);
    let nothing = get(&["--integration", "flights", "--entity", "x"]).await;
    assert_eq!(nothing.code, Some(3), "{:#?}", nothing.log);
    assert!(nothing.log.join("").contains("404 Not Found"), "{:#?}", nothing.log);
    assert_eq!(second.terminate().await.code, Some(0));
    assert_eq!(processor.stop().await.code, Some(0));
}
