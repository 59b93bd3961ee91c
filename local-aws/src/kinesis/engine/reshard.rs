//! Splitting and merging: the open shards tile the ring before and after, and every child's numbers are above its parents'.

use super::hash_range::{HashRange, uniform};
use super::shard::{Parents, seconds};
use super::stream::Stream;
use crate::kinesis::error::Refusal;

impl Stream {
    /// Splits an open shard at a hash key; returns the children's indexes.
    pub(crate) fn split(
        &mut self,
        shard_id: &str,
        at: u128,
        now_ms: i64,
    ) -> Result<[u32; 2], Refusal> {
        let (name, account) = (self.name.clone(), self.account.clone());
        let shard = self.shard_by_id(shard_id, now_ms)?;
        if shard.closed.is_some() {
            return Err(already_resharded(shard_id, &name, &account));
        }
        let range = shard.range;
        let index = shard.index;
        let (lower, upper) = range.split(at).ok_or_else(|| {
            Refusal::InvalidArgument(format!(
                "NewStartingHashKey {at} used in SplitShard() on shard {shard_id} in stream {name} under account {account} is not both greater than one plus the shard's StartingHashKey {} and less than the shard's EndingHashKey {}.",
                range.start, range.end
            ))
        })?;
        self.split_at(index, lower, upper, now_ms)
    }

    fn split_at(
        &mut self,
        index: u32,
        lower: HashRange,
        upper: HashRange,
        now_ms: i64,
    ) -> Result<[u32; 2], Refusal> {
        let (at_ms, epoch_s) = self.child_birth(&[index], now_ms)?;
        let parents = Parents { parent: Some(index), adjacent: None };
        self.open.remove(&lower.start);
        let children = [lower, upper].map(|range| self.add_shard(parents, range, at_ms, epoch_s));
        self.close(index, at_ms, &children);
        Ok(children)
    }

    /// Merges two open, adjacent shards; returns the child's index.
    pub(crate) fn merge(
        &mut self,
        shard_id: &str,
        adjacent_id: &str,
        now_ms: i64,
    ) -> Result<u32, Refusal> {
        let (name, account) = (self.name.clone(), self.account.clone());
        let mut found = [(0, HashRange { start: 0, end: 0 }); 2];
        for (slot, id) in found.iter_mut().zip([shard_id, adjacent_id]) {
            let shard = self.shard_by_id(id, now_ms)?;
            if shard.closed.is_some() {
                return Err(already_resharded(id, &name, &account));
            }
            *slot = (shard.index, shard.range);
        }
        let [(first, first_range), (second, second_range)] = found;
        let joined = first_range.join(second_range).ok_or_else(|| {
            Refusal::InvalidArgument(format!(
                "Shards {shard_id} and {adjacent_id} in stream {name} under account {account} are not an adjacent pair of shards eligible for merging"
            ))
        })?;
        self.merge_into([first, second], joined, now_ms)
    }

    fn merge_into(
        &mut self,
        pair: [u32; 2],
        joined: HashRange,
        now_ms: i64,
    ) -> Result<u32, Refusal> {
        let (at_ms, epoch_s) = self.child_birth(&pair, now_ms)?;
        let parents = Parents { parent: Some(pair[0]), adjacent: Some(pair[1]) };
        for index in pair {
            if let Some(shard) = self.shards.get(&index) {
                self.open.remove(&shard.range.start);
            }
        }
        let child = self.add_shard(parents, joined, at_ms, epoch_s);
        for index in pair {
            self.close(index, at_ms, &[child]);
        }
        Ok(child)
    }

    /// Splits and merges until the ring is cut into `target` equal ranges. As in the service, shards may come and go on the way.
    pub(crate) fn scale(&mut self, target: u32, now_ms: i64) -> Result<(), Refusal> {
        let wanted = uniform(target);
        for start in wanted.iter().map(|range| range.start) {
            let Some((_, index)) = self.open.range(..=start).next_back() else {
                continue;
            };
            let index = *index;
            let Some(range) = self.shards.get(&index).map(|shard| shard.range) else {
                continue;
            };
            if range.start < start {
                let lower = HashRange { end: start - 1, ..range };
                let upper = HashRange { start, ..range };
                self.split_at(index, lower, upper, now_ms)?;
            }
        }
        for range in wanted {
            self.merge_within(range, now_ms)?;
        }
        Ok(())
    }

    /// Counts a scaling against those of the last `window_ms`.
    pub(crate) fn count_scaling(
        &mut self,
        most: usize,
        window_ms: i64,
        enforce: bool,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        self.scaled_at_ms.retain(|at_ms| now_ms - at_ms < window_ms);
        if enforce && self.scaled_at_ms.len() >= most {
            return Err(Refusal::LimitExceeded(format!(
                "Stream {} under account {} has been scaled {most} times in the last {} hours.",
                self.name,
                self.account,
                window_ms / super::stream::HOUR_MS
            )));
        }
        if self.scaled_at_ms.len() >= most {
            self.scaled_at_ms.pop_front();
        }
        self.scaled_at_ms.push_back(now_ms);
        Ok(())
    }

    /// Merges the open shards inside a range into one.
    fn merge_within(&mut self, range: HashRange, now_ms: i64) -> Result<(), Refusal> {
        loop {
            let pieces: Vec<u32> =
                self.open.range(range.start..=range.end).take(2).map(|(_, index)| *index).collect();
            let [first, second] = pieces[..] else {
                return Ok(());
            };
            let joined = match (self.shards.get(&first), self.shards.get(&second)) {
                (Some(lower), Some(upper)) => lower.range.join(upper.range),
                _ => None,
            };
            let joined = joined.ok_or_else(|| {
                Refusal::Internal(format!("shards {first} and {second} do not touch"))
            })?;
            self.merge_into([first, second], joined, now_ms)?;
        }
    }

    /// When a child of these shards begins, and the second its sequence numbers begin with.
    fn child_birth(&self, parents: &[u32], now_ms: i64) -> Result<(i64, u64), Refusal> {
        let mut at_ms = now_ms;
        let mut epoch_s = seconds(now_ms);
        for index in parents {
            let parent = self
                .shards
                .get(index)
                .ok_or_else(|| Refusal::Internal(format!("shard {index} is open but missing")))?;
            at_ms = at_ms.max(parent.closing_time(now_ms));
            epoch_s = epoch_s.max(parent.epoch_s + 1);
        }
        Ok((at_ms, epoch_s))
    }

    fn close(&mut self, index: u32, at_ms: i64, children: &[u32]) {
        if let Some(shard) = self.shards.get_mut(&index) {
            shard.close(at_ms, children.to_vec());
        }
    }
}

fn already_resharded(shard_id: &str, stream: &str, account: &str) -> Refusal {
    Refusal::InvalidArgument(format!(
        "Shard {shard_id} in stream {stream} under account {account} has already been merged or split, and thus is not eligible for merging or splitting."
    ))
}
