//! Followers in a world where notes are found late, clocks differ and processes end at any moment: everybody gets every
//! message, and only once as long as everybody writes his notes once.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use local_aws::LocalAws;
use store::{
    ARRIVALS_SKEW, ARRIVALS_WITHIN, ArrivalRow, DynamoMessages, IntegrationName, Locator, Message,
    MessageStore, Signer, StoreItem, pack_arrivals,
};
use tokio::time::{Instant, sleep};

use super::{Feeds, Follower, Place, Position, Step};
use crate::routes::tests::{dynamodb, message};

/// A wall clock that goes as time does.
#[derive(Debug)]
struct Running(Instant);

impl TimeSource for Running {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_435_200) + self.0.elapsed()
    }
}

fn quakes() -> IntegrationName {
    IntegrationName::parse("quakes").unwrap()
}

/// A writer of notes whose clock is off, and whose notes are found late.
struct Writer {
    store: DynamoMessages,
    time: SharedTimeSource,
    id: u64,
    number: u32,
    skew_ms: i64,
    rng: fastrand::Rng,
}

impl Writer {
    /// Stores and notes its share of the messages, at times of its own.
    async fn write(mut self, numbers: Vec<u32>) {
        let mut rest = &numbers[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.rng.usize(1..=rest.len().min(40)));
            rest = later;
            sleep(Duration::from_millis(self.rng.u64(0..800))).await;
            let messages: Vec<Message> = now.iter().map(|n| message("quakes", "ci", *n)).collect();
            let item = |message: &Message| StoreItem {
                message: message.clone(),
                retention: Duration::from_secs(7_200),
                fence: 1,
            };
            for chunk in messages.chunks(25) {
                self.store.put(&chunk.iter().map(item).collect::<Vec<_>>()).await;
            }
            let wall = self.time.now().duration_since(UNIX_EPOCH).unwrap();
            let at_ms = i64::try_from(wall.as_millis()).unwrap() + self.skew_ms;
            let (writer, number) = (self.id, self.number);
            // A number in ten is never written: a call that failed.
            self.number += 1 + u32::from(self.rng.u32(0..10) == 0);
            let places = messages.iter().map(Locator::of).collect();
            let notes = pack_arrivals(&quakes(), places, || ArrivalRow { at_ms, writer, number });
            let store = self.store.clone();
            let late = self.rng.u64(0..ARRIVALS_WITHIN.as_millis() as u64);
            // The next note does not wait for this one.
            tokio::spawn(async move {
                sleep(Duration::from_millis(late)).await;
                store.announce(&notes).await;
            });
        }
    }
}

/// One who follows, is cut at random, and goes on at another process.
struct Reader {
    processes: Vec<Feeds>,
    signer: Signer,
    rng: fastrand::Rng,
    wanted: usize,
}

impl Reader {
    fn lacks(&self, got: &[u32]) -> bool {
        got.iter().collect::<std::collections::BTreeSet<_>>().len() < self.wanted
    }

    async fn follow(mut self, place: Place) -> Vec<u32> {
        let mut got = Vec::new();
        let mut cursor = place.encode(&self.signer, &quakes());
        while self.lacks(&got) {
            let at = self.rng.usize(0..self.processes.len());
            let position = Position::decode(&self.signer, &quakes(), &cursor).unwrap();
            let mut follower = Follower::from_position(&self.processes[at], &quakes(), position);
            let life = Instant::now() + Duration::from_millis(self.rng.u64(0..8_000));
            let mut events = self.rng.usize(1..200);
            while events > 0 && self.lacks(&got) {
                let step = tokio::time::timeout_at(life, follower.next()).await;
                let Ok(step) = step else { break };
                let Step::Given(given) = step else { panic!("nothing fails here") };
                for (message, place) in given.messages().take(events) {
                    got.push(message.position.sequence.parse::<u32>().unwrap() - 1_000_000);
                    cursor = place.encode(&self.signer, &quakes());
                    events -= 1;
                }
            }
            if events > 0 {
                cursor = follower.place().encode(&self.signer, &quakes());
            }
        }
        got
    }
}

async fn world_of(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let aws = LocalAws::new(local_aws::Options::default()).unwrap();
    let client = dynamodb(&aws);
    store::create_tables(&client, "test").await.unwrap();
    let store = DynamoMessages::new(client, "test");
    let time = SharedTimeSource::new(Running(Instant::now()));
    let feeds = || Feeds::new(Arc::new(store.clone()), time.clone(), 16 << 20);
    let processes: Vec<Feeds> = (0..3).map(|_| feeds()).collect();
    let first = Follower::from_now(&processes[0], &quakes()).await.unwrap();
    let (writers, each) = (rng.u32(1..5), 300);
    let total = writers * each;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let reader = Reader {
                processes: processes.clone(),
                signer: Signer::new(&[7; 32]).unwrap(),
                rng: rng.fork(),
                wanted: total as usize,
            };
            tokio::spawn(reader.follow(first.place()))
        })
        .collect();
    let skew_ms = ARRIVALS_SKEW.as_millis() as i64;
    for id in 0..writers {
        let writer = Writer {
            store: store.clone(),
            time: time.clone(),
            id: u64::from(id),
            number: rng.u32(0..1_000),
            skew_ms: rng.i64(-skew_ms + 1_100..skew_ms),
            rng: rng.fork(),
        };
        tokio::spawn(writer.write((id * each..(id + 1) * each).collect()));
    }
    for reader in readers {
        let limit = Duration::from_secs(3_000);
        let got = tokio::time::timeout(limit, reader).await.expect("all of it").unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let twice: Vec<_> = got.iter().filter(|n| !seen.insert(**n)).collect();
        let missing: Vec<_> = (0..total).filter(|n| !seen.contains(n)).collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:?} are missing, {twice:?} came twice");
        assert!(twice.is_empty(), "seed {seed}: {twice:?} came twice");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_cut_at_any_moment_and_goes_on_anywhere_gets_every_message_once() {
    for seed in 0..12 {
        world_of(seed).await;
    }
}
