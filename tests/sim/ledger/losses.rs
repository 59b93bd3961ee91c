//! What nobody is owed: records that the stream did not keep until they were read, where that was written down or nobody had begun.

use std::time::Duration;

use lease_manager::SequenceNumber;
use local_aws::Traced;
use serde_json::Value;

use super::Ledger;
use crate::leases::lanes;
use crate::receivers::of_subscription;
use crate::starts;

impl Ledger {
    /// A lane wrote down that records between two others passed the stream's retention before it read them. That is so for all of them
    /// that it has not settled, and for it alone.
    pub(super) fn loss(&mut self, at: Duration, by: &str, payload: &str) {
        let loss: Value = serde_json::from_str(payload).expect("JSON");
        let text = |name: &str| loss[name].as_str().expect("text");
        self.tell(at, format!("{by} writes down a loss: {payload}"));
        let lane =
            lanes().iter().position(|lane| lane.as_str() == text("pipeline")).expect("a lane");
        let number = |text: &str| SequenceNumber::parse(text.split(':').next()?).ok();
        let after = number(text("after"));
        let before = loss["before"].as_str().and_then(number);
        let through = loss["through"].as_str().and_then(number);
        let Some(unsettled) = self.unsettled.get(text("shard")) else { return };
        let within = |at: &SequenceNumber| {
            Some(at) > after.as_ref()
                && before.as_ref().is_none_or(|before| at < before)
                && through.as_ref().is_none_or(|through| at <= through)
        };
        let all_gone = before.is_none() && through.is_none();
        let range = unsettled[lane].iter().filter(|(at, _)| within(at));
        let lost: Vec<usize> = range.map(|(_, index)| *index).collect();
        let gone = at.checked_sub(self.retention.unwrap_or(Duration::MAX));
        for index in lost {
            let there = gone.is_none_or(|gone| self.records[index].put_at >= gone);
            // What came after the answer that there is nothing left is not meant.
            if there && all_gone {
                continue;
            }
            if there {
                return self
                    .breaks(at, format!("{by} loses record {index}, which the stream still has"));
            }
            match lane {
                0 => self.pass_by(at, index),
                _ => self.deliveries.lost(index),
            }
        }
    }

    /// What the stream has lost of a range was written down: that is so for all of it that its receiver has not.
    pub(super) fn range_loss(&mut self, at: Duration, by: &str, payload: &str) {
        let loss: Value = serde_json::from_str(payload).expect("JSON");
        self.tell(at, format!("{by} writes down what a range lost: {payload}"));
        let receiver = loss["subscription"].as_str().and_then(of_subscription).expect("a receiver");
        let number = |end: &str| {
            SequenceNumber::parse(loss[end]["sequence"].as_str().expect("text")).expect("a number")
        };
        let (from, before) = (number("from"), number("upto"));
        let shard = loss["shard"].as_str().expect("text");
        let gone = at.checked_sub(self.retention.unwrap_or(Duration::MAX));
        let of_shard = self.by_shard.entry(shard.to_owned()).or_default();
        let lost: Vec<usize> = of_shard.range(from..before).map(|(_, index)| *index).collect();
        for index in lost {
            if gone.is_none_or(|gone| self.records[index].put_at >= gone) {
                let line = format!("{by} loses record {index}, which the stream still has");
                return self.breaks(at, line);
            }
            self.deliveries.lost_to(receiver, index);
        }
    }

    /// Readers of the stream: a shard without parents begins with what it has when it is first read.
    pub fn streamed(&mut self, at: Duration, traced: &Traced<'_>) {
        if let Some(shard) = self.starts.began(traced)
            && !self.leases.parents().contains_key(&*shard)
        {
            self.begins(at, &shard);
        }
        let Some(first) = starts::given(traced).and_then(starts::first_record) else { return };
        let first = SequenceNumber::parse(first).expect("a sequence number");
        let of = self.by_shard.iter().find(|(_, records)| records.contains_key(&first));
        if let Some((shard, _)) = of {
            self.starts.give(shard);
        }
    }

    /// A lease is made, or nothing was read before: who starts at the oldest record is not owed what the stream no longer had by then.
    pub(super) fn begins(&mut self, at: Duration, shard: &str) {
        let gone = self.retention.and_then(|retention| at.checked_sub(retention));
        let (Some(gone), Some([records, _])) = (gone, self.unsettled.get(shard)) else { return };
        let trimmed = records.values().filter(|index| self.records[**index].put_at < gone);
        for index in trimmed.copied().collect::<Vec<_>>() {
            self.pass_by(at, index);
            self.deliveries.lost(index);
        }
    }

    /// The store's lane goes by a record that the stream does not have any more. If somebody stored it before, it is lost to those alone
    /// who tail: nobody noted it.
    fn pass_by(&mut self, at: Duration, index: usize) {
        self.records[index].passed_by = true;
        self.records[index].lost |= self.kept(at, index);
    }
}
