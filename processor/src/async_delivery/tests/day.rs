//! A destination that is down for a day: what is kept meanwhile, how it is caught up with, and what becomes of it when the stream
//! keeps less than a day.
//!
//! Of 1,000 messages a second one in 1,500 is put, and of a limit of 30,000 deliveries a second there is one in 1,500 as well: what is kept
//! depends on neither, which `ten_minutes_at_the_full_rate` shows at the full rate. Everything else is as in production, probes each
//! quarter of a minute included. The tables are printed by `--nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use store::{DeadReason, Subscription, SubscriptionId};
use tokio::time::{Instant, sleep};

use super::{SOON, secs};
use crate::async_delivery::options::CourierOptions;
use crate::async_delivery::testing::{Behaviour, Offered, World, shard, subscription};
use crate::batch::{LeaseCheck, ShardContext};
use crate::clock::wall_ms;

const HOST: &str = "receiver.example";
const SHARDS: usize = 4;
const KEYS: u64 = 40;
const MINUTES: u64 = 24 * 60;
/// Put in a minute, over all shards.
const PER_MINUTE: u64 = 40;
/// Deliveries a second.
const RATE: u32 = 20;

fn receiver() -> Subscription {
    let mut sub = subscription("sub", "https://receiver.example/");
    sub.policy.rate_per_second = Some(RATE);
    // One at a time, so that what is read in order arrives in order.
    sub.policy.concurrency = 1;
    sub
}

struct Day {
    world: World,
    /// The number of the next message.
    next: u64,
    lease: LeaseCheck,
}

impl Day {
    async fn with(sub: Subscription, options: CourierOptions) -> Day {
        // Nobody changes the subscriptions, so that they need not be looked at each second.
        let options = CourierOptions {
            watch_interval: secs(60),
            max_view_age: secs(600),
            sweep_interval: secs(300),
            ..options
        };
        let world = World::with_options(&[sub], options).await;
        Day { world, next: 0, lease: LeaseCheck::new(|| true) }
    }

    /// So many messages more, in every shard those of its keys.
    async fn put(&mut self, messages: u64) -> Vec<Offered> {
        let mut shards = vec![Vec::new(); SHARDS];
        for n in self.next..self.next + messages {
            let key = n % KEYS;
            let record = (format!("key-{key}"), format!("{{\"number\":{n}}}"));
            shards[key as usize % SHARDS].push(record);
        }
        self.next += messages;
        let mut all = Vec::new();
        for (number, records) in shards.iter().enumerate() {
            let shard_id = format!("shardId-{number:012}").into();
            let context = ShardContext { shard_id, ..shard() };
            let (batch, offered) = self.world.batch_in(context, records, &self.lease);
            self.world.handle.accept(batch).expect("the courier has room");
            all.push(offered);
        }
        all
    }

    /// A minute while the destination is down: every message is settled at once.
    async fn minute_of_outage(&mut self, keep: Option<Duration>) {
        let began = Instant::now();
        for offered in self.put(PER_MINUTE).await {
            self.world.settled(&offered, SOON).await;
        }
        if let Some(keep) = keep {
            self.world.stream.trim(wall_ms(&self.world.time) - keep.as_millis() as i64);
        }
        sleep(secs(60).saturating_sub(began.elapsed())).await;
    }

    /// What the table has for the destination: open ranges and parked messages.
    async fn kept(&self) -> (usize, usize) {
        let id = SubscriptionId::parse("sub").unwrap();
        let ranges = self.world.deliveries.list_ranges(&id).await.unwrap();
        (ranges.len(), self.world.parked("sub").await)
    }

    fn delivered(&self) -> u64 {
        self.world.handle.stats().destinations[0].delivered
    }

    /// The destination takes messages again, and others are put meanwhile; until nothing is open or parked. Prints how it goes.
    async fn catch_up(&mut self, within: Duration) -> Duration {
        self.world.receivers.set(HOST, Behaviour::Accepts);
        let began = Instant::now();
        println!("   minute  delivered  ranges  parked");
        for minute in 0.. {
            let kept = self.kept().await;
            if minute % 5 == 0 || kept == (0, 0) {
                println!("{minute:>9} {:>10} {:>7} {:>7}", self.delivered(), kept.0, kept.1);
            }
            if kept == (0, 0) {
                break;
            }
            assert!(began.elapsed() < within, "not caught up with in {within:?}");
            self.put(PER_MINUTE).await;
            sleep(secs(60)).await;
        }
        began.elapsed()
    }

    /// How often each message was accepted. Panics if those of a key were not in order, but for the ones in `parked`.
    fn taken(&self, parked: &BTreeSet<String>) -> BTreeMap<u64, u32> {
        let mut taken = BTreeMap::new();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for got in self.world.receivers.got(HOST).into_iter().filter(|got| got.accepted) {
            let body: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
            let number = body["number"].as_u64().unwrap();
            *taken.entry(number).or_default() += 1;
            if !parked.contains(&got.id) {
                let before = last.insert(number % KEYS, number);
                assert!(before.is_none_or(|before| before < number), "{before:?}, then {number}");
            }
        }
        taken
    }

    /// The ids of what is parked: that comes when it is due, whatever was delivered since.
    async fn parked(&self) -> BTreeSet<String> {
        let id = SubscriptionId::parse("sub").unwrap();
        let page = self.world.deliveries.list(&id, None, 1_000).await.unwrap();
        page.deliveries.into_iter().map(|parked| parked.key.message.to_string()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_of_outage_keeps_one_item_a_shard_and_is_caught_up_with_at_the_rate_in_order() {
    let mut day = Day::with(receiver(), CourierOptions::new("worker")).await;
    day.world.stream.keep_for(secs(7 * 24 * 3_600));
    day.world.receivers.set(HOST, Behaviour::IsDown);
    println!("     hour  messages  ranges  parked  batches in hand");
    for minute in 0..MINUTES {
        day.minute_of_outage(None).await;
        if minute == 0 || (minute + 1) % 120 == 0 {
            let ((ranges, parked), hand) =
                (day.kept().await, day.world.handle.stats().batches_in_hand);
            println!(
                "{:>9.2} {:>15} {ranges:>7} {parked:>7} {hand:>16}",
                (minute + 1) as f64 / 60.0,
                day.next
            );
            assert_eq!((ranges, hand), (SHARDS, 0));
            // Those that made the breaker open, and a few for which it might have failed.
            assert!(parked < 20, "{parked} are parked");
        }
    }
    let (backlog, parked) = (day.next, day.parked().await);
    let free = RATE as f64 - PER_MINUTE as f64 / 60.0;
    let at_its_rate = Duration::from_secs_f64(backlog as f64 / free);
    let took = day.catch_up(at_its_rate.mul_f64(1.1)).await;
    println!(
        "{backlog} messages behind, caught up in {took:?}; at the rate it is {at_its_rate:?}; {} reads",
        day.world.stream.reads()
    );
    assert!(took > at_its_rate.mul_f64(0.95), "{took:?}: faster than it asked for");
    let taken = day.taken(&parked);
    assert_eq!(taken.len() as u64, day.next, "all are delivered");
    let twice = taken.values().filter(|times| **times > 1).count();
    assert!(twice < 20, "{twice} are delivered twice");
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_at_the_full_rate_keep_as_much_as_a_day_at_a_thousandth_of_it() {
    let mut day = Day::with(receiver(), CourierOptions::new("worker")).await;
    day.world.receivers.set(HOST, Behaviour::IsDown);
    for _ in 0..600 {
        for offered in day.put(1_000).await {
            day.world.settled(&offered, SOON).await;
        }
        sleep(secs(1)).await;
    }
    let (ranges, parked) = day.kept().await;
    println!("{} messages: {ranges} ranges, {parked} parked", day.next);
    assert!(ranges == SHARDS && parked < 20, "{ranges} ranges, {parked} parked");
    assert_eq!(day.world.handle.stats().batches_in_hand, 0);
}

#[tokio::test(start_paused = true)]
async fn a_day_of_outage_is_parked_up_to_the_cap_and_told_where_the_stream_keeps_half_a_day() {
    const CAP: usize = 200;
    let options = CourierOptions { spill_cap: CAP, ..CourierOptions::new("worker") };
    let mut day = Day::with(receiver(), options).await;
    let keep = secs(12 * 3_600);
    day.world.stream.keep_for(keep);
    day.world.receivers.set(HOST, Behaviour::IsDown);
    println!("     hour  messages  ranges  parked  letters");
    for minute in 0..MINUTES {
        day.minute_of_outage(Some(keep)).await;
        if (minute + 1) % 60 == 0 && minute > 9 * 60 {
            let ((ranges, parked), letters) =
                (day.kept().await, day.world.dead_letters().await.len());
            println!(
                "{:>9.2} {:>15} {ranges:>7} {parked:>7} {letters:>8}",
                (minute + 1) as f64 / 60.0,
                day.next
            );
            assert!(
                ranges == SHARDS && parked <= CAP + CAP / 20 * SHARDS,
                "{ranges} ranges, {parked} parked"
            );
        }
    }
    let parked = day.parked().await;
    day.catch_up(secs(24 * 3_600)).await;
    let letters = day.world.dead_letters().await;
    assert!(letters.iter().all(|letter| letter.reason == DeadReason::RangeGivenUp), "{letters:?}");
    let told = letters.iter().map(|letter| {
        let told: serde_json::Value = serde_json::from_slice(&letter.payload).unwrap();
        told["messages"].as_u64().expect("counted")
    });
    let (given_up, count) = (told.sum::<u64>(), letters.len());
    let taken = day.taken(&parked);
    println!(
        "{} messages, {} delivered, {given_up} given up in {count} letters",
        day.next,
        taken.len()
    );
    assert_eq!(taken.len() as u64 + given_up, day.next, "delivered or told");
    assert!(parked.len() >= CAP && given_up > 0 && count < 100);
}
