//! What has arrived: per shard, when each record came first, and how many came again.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::harness::receiver::Arrival;

/// Deliveries by shard.
pub struct Handled {
    shards: Vec<Shard>,
    /// Every record that came again: its shard and its number.
    again: Vec<(usize, usize)>,
}

#[derive(Default, Clone)]
struct Shard {
    /// When each record came first, by its number.
    first: Vec<Option<Instant>>,
    /// The same in the order of arrival.
    news: Vec<Instant>,
}

impl Handled {
    pub fn of_shards(shards: usize) -> Handled {
        Handled { shards: vec![Shard::default(); shards], again: Vec::new() }
    }

    pub fn absorb(&mut self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            let record: Value = serde_json::from_slice(&arrival.body).expect("JSON");
            let number = |name: &str| {
                let number = record["properties"][name].as_u64().expect("a number");
                usize::try_from(number).expect("small")
            };
            let (of, record) = (number("shard"), number("number"));
            let shard = &mut self.shards[of];
            if shard.first.len() <= record {
                shard.first.resize(record + 1, None);
            }
            if shard.first[record].is_some() {
                self.again.push((of, record));
            } else {
                shard.first[record] = Some(arrival.at);
                shard.news.push(arrival.at);
            }
        }
    }

    /// How many records came again so far.
    pub fn duplicates(&self) -> usize {
        self.again.len()
    }

    /// Which came again after so many had.
    pub fn again_after(&self, count: usize) -> &[(usize, usize)] {
        &self.again[count..]
    }

    /// The shards that have not seen each of their first `count` records.
    pub fn incomplete(&self, count: usize) -> Vec<String> {
        let missing = |(n, shard): (usize, &Shard)| {
            let there = shard.first.iter().take(count).flatten().count();
            (there < count).then(|| format!("shard {n}: {there} of {count}"))
        };
        self.shards.iter().enumerate().filter_map(missing).collect()
    }

    /// The shards of whose records from number `first` on none has come.
    pub fn silent_since(&self, first: usize) -> Vec<usize> {
        let silent =
            |(_, shard): &(usize, &Shard)| !shard.first.iter().skip(first).any(Option::is_some);
        self.shards.iter().enumerate().filter(silent).map(|(n, _)| n).collect()
    }

    /// The longest time without news of a shard that reaches into `from..to`.
    pub fn gap(&self, shard: usize, from: Instant, to: Instant) -> Duration {
        longest(&self.shards[shard].news, from, to)
    }
}

fn longest(news: &[Instant], from: Instant, to: Instant) -> Duration {
    let pairs = news.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[test]
fn a_gap_counts_where_it_reaches_into_the_phase() {
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let news: Vec<Instant> = [0, 9, 10, 16, 17, 40].map(at).to_vec();
    let longest = |from, to| longest(&news, at(from), at(to)).as_secs();
    assert_eq!(longest(10, 17), 6, "neither what ended before nor what began afterwards");
    assert_eq!(longest(8, 11), 9, "what had begun before counts whole");
    assert_eq!(longest(17, 18), 23, "and so does what ends later");
    assert_eq!(longest(41, 50), 0);
}
