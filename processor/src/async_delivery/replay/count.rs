//! The dry run: what a replay of a range would park, counted by reading, without writing anything.

use std::sync::Arc;

use aws_smithy_async::time::SharedTimeSource;
use store::{MessageId, ReplayCounts, ReplayPart, SubscriptionId, SubscriptionSnapshot};

use super::plan::Window;
use super::scan::{Scan, ScanParts};
use super::shards;
use super::wish::Wish;
use crate::budget::Budget;
use crate::decode::DecodeOptions;
use crate::fan_out::FanOutOptions;
use crate::integration::Integrations;
use crate::polling::PollingOptions;
use crate::reader::{KinesisClients, Readers, StreamOptions};

/// Bytes that a dry run may hold.
const BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// What is counted, and by what.
pub struct DryRun {
    /// For whom.
    pub subscription: SubscriptionId,
    /// From when on, in ms since 1970.
    pub from_ms: i64,
    /// Until when, itself left out.
    pub to_ms: i64,
    /// Only these; empty means all.
    pub only: Vec<MessageId>,
    /// ARNs of the streams.
    pub streams: Vec<String>,
    /// How they are reached.
    pub kinesis: KinesisClients,
    /// How they are polled.
    pub polling: PollingOptions,
    /// Messages by their class.
    pub integrations: Arc<Integrations>,
    /// How records become messages.
    pub decode: DecodeOptions,
    /// The subscriptions and their owners as they are now.
    pub subscriptions: Arc<SubscriptionSnapshot>,
    /// The wall clock.
    pub time: SharedTimeSource,
    /// Of jitter.
    pub seed: u64,
}

/// Counts what a replay would read and match; nothing is parked. `progress` is told of the counts, how many shards are
/// read to their end, and how many there are.
///
/// # Errors
/// In words, when the subscription gets nothing as things stand, or a shard cannot be read.
pub async fn count_replay(
    run: DryRun,
    mut progress: impl FnMut(ReplayCounts, usize, usize),
) -> Result<ReplayCounts, String> {
    let mut wish = Wish::of(&run.subscription, &run.subscriptions, &run.integrations)?;
    let window = Window { from_ms: run.from_ms, to_ms: run.to_ms };
    let streams: Vec<StreamOptions> = run.streams.iter().map(StreamOptions::polling).collect();
    let budget = Budget::new(BUDGET_BYTES);
    let readers = Arc::new(Readers::new(
        FanOutOptions::default(),
        run.polling,
        run.kinesis,
        budget.clone(),
        run.time.clone(),
        &streams,
    ));
    let shards = shards::list(&readers).await?;
    let mut parts: Vec<ReplayPart> = shards.keys().cloned().map(ReplayPart::new).collect();
    let (integrations, decode) = (Arc::clone(&run.integrations), run.decode);
    let scan = ScanParts { readers, budget, integrations, decode, time: run.time, seed: run.seed };
    let mut scan = Scan::new(scan, window, shards);
    let mut counts = ReplayCounts::default();
    while scan.open(&mut parts) {
        for (part, answer) in scan.round().await? {
            let Some(answer) = answer else {
                parts[part].is_done = true;
                continue;
            };
            for entry in answer.entries().iter().filter(|entry| window.has(entry.arrived_at_ms)) {
                counts.read += 1;
                let message = answer.batch.message(entry, &run.integrations);
                let wanted = message.is_some_and(|message| {
                    (run.only.is_empty() || run.only.contains(&message.id))
                        && wish.wants(&message, &run.integrations)
                });
                counts.matched += u64::from(wanted);
            }
            parts[part].is_done = answer.is_last;
        }
        let done = parts.iter().filter(|part| part.is_done).count();
        progress(counts, done, parts.len());
        if !run.only.is_empty() && counts.matched >= run.only.len() as u64 {
            break;
        }
    }
    Ok(counts)
}
