//! A synthetic stream, a processor with small budgets, and sinks that can be dead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use loadtest::source::{Options, Position, Source};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plot;
use super::samples::{FEEDS, PIPELINES, Phase, Sample, Samples, rss_bytes};
use crate::harness::aws::text;
use crate::harness::platform::{APP, Platform, Processor, STREAM};
use crate::harness::{PATIENCE, eventually, http_json};

/// What each of the three budgets may hold: the least that a configuration may say.
const BUDGET_MIB: u64 = 27;
const RECORD_BYTES: usize = 1_000;
/// Attempts beside each other to one destination, unless its subscription says otherwise.
const CONCURRENCY: u64 = 16;

/// How large and how long.
#[derive(Debug, Clone)]
pub struct Scale {
    shards: u32,
    bytes_per_second: u64,
    before: Duration,
    dead: Duration,
    recovery: Duration,
    out: Option<String>,
    /// A `loadtest source --hold` that runs already, of so many shards and records of 1,000 bytes: what came before the subscription
    /// was made would not be its.
    source: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dead {
    Store,
    Delivery,
    Both,
}

impl Scale {
    /// As the environment says, or so many shards and bytes a second for each.
    #[allow(clippy::disallowed_methods, reason = "how large and how long is said from outside")]
    pub fn from_environment(shards: u32, bytes_per_second: u64) -> Scale {
        let number = |name: &str| {
            std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"))
        };
        let seconds = |name, default| Duration::from_secs(number(name).unwrap_or(default));
        Scale {
            shards: number("PRESSURE_SHARDS").map_or(shards, |shards| shards as u32),
            bytes_per_second: number("PRESSURE_RATE").unwrap_or(bytes_per_second),
            before: seconds("PRESSURE_BEFORE_SECONDS", 4),
            dead: seconds("PRESSURE_DEAD_SECONDS", 8),
            recovery: seconds("PRESSURE_RECOVERY_SECONDS", 6),
            out: std::env::var("PRESSURE_OUT").ok(),
            source: std::env::var("PRESSURE_SOURCE").ok(),
        }
    }
}

pub struct Stage {
    name: String,
    scale: Scale,
    dead: Dead,
    platform: Platform,
    stop_source: CancellationToken,
    processor: Option<Processor>,
    owners: BTreeMap<String, (String, String)>,
    started: Instant,
    samples: Samples,
}

impl Stage {
    /// The processor owns every shard, and nothing is wrong yet.
    pub async fn set(name: &str, scale: &Scale, dead: Dead) -> Stage {
        let platform = Platform::start().await;
        let stop_source = CancellationToken::new();
        let endpoint = match &scale.source {
            Some(endpoint) => {
                http_json("POST", &format!("{endpoint}/loadtest/go"), None).await;
                endpoint.clone()
            }
            None => start_source(scale, stop_source.clone()).await,
        };
        let budget = format!("{BUDGET_MIB}MiB");
        let set = [
            format!("aws.kinesis_endpoint_url={endpoint}"),
            format!("memory.sync_store={budget}"),
            format!("memory.async_delivery={budget}"),
            format!("memory.reading={budget}"),
        ];
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let processor = Some(Processor::start_with(&platform, &set).await);
        let mut stage = Stage {
            name: name.to_owned(),
            scale: scale.clone(),
            dead,
            platform,
            stop_source,
            processor,
            owners: BTreeMap::new(),
            started: Instant::now(),
            samples: Samples::default(),
        };
        let shards = stage.scale.shards as usize;
        eventually("every shard is read", async || {
            let state = stage.processor().state().await;
            match state["processor"]["shards"].as_array().map_or(0, Vec::len) {
                read if read == shards => Ok(()),
                read => Err(format!("{read} of {shards}")),
            }
        })
        .await;
        stage.owners = stage.owners().await;
        stage
    }

    fn processor(&self) -> &Processor {
        self.processor.as_ref().expect("it runs")
    }

    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    pub fn budget_bytes(&self) -> u64 {
        BUDGET_MIB * super::MIB
    }

    /// Before, the time with dead sinks, and the recovery.
    pub async fn run(&mut self) {
        self.started = Instant::now();
        self.watch(Phase::Before, self.scale.before).await;
        let faults = self.kill_sinks().await;
        self.watch(Phase::Dead, self.scale.dead).await;
        for fault in faults {
            self.platform.clear(fault).await;
        }
        if self.dead != Dead::Store {
            self.platform.receiver.start_again().await;
        }
        self.watch(Phase::Recovery, self.scale.recovery).await;
    }

    /// Calls to a dead table are never answered; a dead receiver refuses connections.
    async fn kill_sinks(&mut self) -> Vec<Value> {
        let mut tables = Vec::new();
        if self.dead != Dead::Delivery {
            tables.push("messages");
        }
        if self.dead != Dead::Store {
            tables.push("deliveries");
            self.platform.receiver.stop().await;
        }
        let mut faults = Vec::new();
        for table in tables {
            let resource = self.platform.table(table);
            let fault =
                json!({ "service": "dynamodb", "resource": resource, "effect": "unanswered" });
            faults.push(self.platform.inject(fault).await);
        }
        faults
    }

    async fn watch(&mut self, phase: Phase, time: Duration) {
        let until = Instant::now() + time;
        let mut each_second = tokio::time::interval(Duration::from_secs(1));
        while Instant::now() < until {
            each_second.tick().await;
            self.look(phase).await;
        }
    }

    async fn look(&mut self, phase: Phase) {
        // A child whose log nobody reads waits.
        self.processor.as_mut().expect("it runs").log();
        let state = self.processor().state().await;
        let rss = rss_bytes(self.processor().pid());
        let at_s = self.started.elapsed().as_secs_f64();
        let sample = Sample::of(at_s, phase, rss, &state);
        if self.samples.0.len().is_multiple_of(30) {
            let [store, delivery] = sample.feeds;
            println!(
                "{} {at_s:5.0} s {phase:?}: {} MiB, lanes {FEEDS:?} of the store {store:?}, of deliveries {delivery:?}",
                self.name,
                rss / super::MIB
            );
        }
        self.samples.0.push(sample);
    }

    /// Every lane has caught up and met the live reader.
    pub async fn until_all_lanes_are_live(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.look(Phase::Recovery).await;
            if self.samples.0.last().is_some_and(Sample::all_live) {
                return;
            }
            assert!(Instant::now() < deadline, "{:?}", self.samples.0.last());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn owners(&self) -> BTreeMap<String, (String, String)> {
        let owner = |item: &crate::harness::aws::Item| {
            let counter = item.get("leaseCounter")?.as_n().ok()?.clone();
            let owner = text(item, "leaseOwner")?.to_owned();
            Some((text(item, "leaseKey")?.to_owned(), (owner, counter)))
        };
        self.platform.leases().await.iter().filter_map(owner).collect()
    }

    /// No lease was lost or given up meanwhile.
    pub async fn leases_stayed(&self) {
        assert_eq!(self.owners().await, self.owners, "leases changed hands");
    }

    /// C2, P1: after a stop in good order, all that lies at or below a lane's position is stored; or delivered or parked.
    pub async fn all_is_there(&mut self) {
        let ended = self.processor.take().expect("it runs").stop().await;
        assert_eq!(
            ended.code,
            Some(0),
            "{:#?}",
            ended.log.iter().rev().take(20).collect::<Vec<_>>()
        );
        self.stop_source.cancel();
        let stored: BTreeSet<Position> =
            self.platform.stored().await.values().map(|message| place(&message.payload)).collect();
        let mut delivered: BTreeSet<Position> = self
            .platform
            .receiver
            .ledger()
            .deliveries
            .values()
            .map(|(_, body)| place(body))
            .collect();
        delivered.extend(self.platform.parked_payloads().await.iter().map(|body| place(body)));
        // What a range covers is settled, and stays in the stream until the destination has it.
        let ranges = self.platform.range_begins().await;
        let ranges: Vec<Position> =
            ranges.iter().map(|begin| Position::parse(begin).expect("a place")).collect();
        let is_covered = |place: &Position| {
            ranges.iter().any(|begin| begin.shard == place.shard && begin.ordinal <= place.ordinal)
        };
        for (pipeline, there) in PIPELINES.into_iter().zip([&stored, &delivered]) {
            let is_there = |place: &Position| {
                there.contains(place) || (pipeline == PIPELINES[1] && is_covered(place))
            };
            let positions = self.platform.positions(pipeline).await;
            let mut settled = 0;
            for sequence in positions.values() {
                let end = Position::parse(sequence.as_str()).expect("a place");
                let missing = (1..=end.ordinal)
                    .map(|ordinal| Position { ordinal, ..end })
                    .find(|place| !is_there(place));
                assert_eq!(missing, None, "{pipeline} is at {end:?}");
                settled += end.ordinal;
            }
            assert!(settled > 0, "{pipeline} got nowhere");
            println!(
                "{}: {pipeline} settled {settled} records in {} of {} shards, none is missing",
                self.name,
                positions.len(),
                self.scale.shards
            );
        }
    }

    /// The lanes met without overlap: the receiver got nothing twice, but for the attempts that were under way when it was cut.
    pub async fn nothing_was_read_twice(&self) {
        let ledger = self.platform.receiver.ledger();
        let under_way = if self.dead == Dead::Store { 0 } else { CONCURRENCY };
        assert!(ledger.duplicates() <= under_way, "{} duplicates", ledger.duplicates());
        assert_eq!(ledger.changed_bodies, 0);
    }

    /// Prints what was seen, and writes samples and plot where that is wanted.
    pub fn tell(&self) {
        println!("{}: {:?}", self.name, self.scale);
        for phase in [Phase::Before, Phase::Dead, Phase::Recovery] {
            let of_phase = self.samples.0.iter().filter(|sample| sample.phase == phase);
            let rss = of_phase.map(|sample| sample.rss_bytes).max().unwrap_or(0) / super::MIB;
            let lags = PIPELINES.map(|pipeline| self.samples.lag(pipeline, phase));
            println!(
                "  {phase:?}: {rss} MiB at most; behind: store {:?}, deliveries {:?}",
                lags[0], lags[1]
            );
        }
        if let Some(out) = &self.scale.out {
            let file = |ending: &str| format!("{out}/{APP}-{}.{ending}", self.name);
            let samples = serde_json::to_string(&self.samples).expect("JSON");
            std::fs::write(file("json"), samples).expect("written");
            let ceiling = 3 * self.budget_bytes() + super::BESIDE_BUDGETS;
            std::fs::write(file("svg"), plot::svg(&self.name, &self.samples, ceiling))
                .expect("written");
        }
    }
}

/// Starts a synthetic stream; its endpoint.
async fn start_source(scale: &Scale, stop: CancellationToken) -> String {
    let options = Options {
        stream: STREAM.to_owned(),
        shards: scale.shards,
        record_bytes: RECORD_BYTES,
        bytes_per_second: Some(scale.bytes_per_second),
        ..Options::default()
    };
    let source = Source::bind(options, SharedTimeSource::default()).await.expect("a source");
    let endpoint = source.endpoint_url();
    tokio::spawn(source.run(stop));
    endpoint
}

/// Which record of the synthetic stream a message is.
fn place(payload: &[u8]) -> Position {
    let message: Value = serde_json::from_slice(payload).expect("JSON");
    let number = |field: &str| message[field].as_str().expect("digits").parse::<u64>();
    Position {
        shard: number("shard").expect("a number") as u32,
        ordinal: number("n").expect("a number"),
    }
}
