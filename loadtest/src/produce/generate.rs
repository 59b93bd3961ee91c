//! Makes messages: JSON objects of a wanted size, with keys of a wanted popularity.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use aws_smithy_async::time::SharedTimeSource;
use bytes::Bytes;

use super::options::{Generate, Size};
use super::source::Message;

/// The generator's state: a position in each key's sequence, and one random stream.
#[derive(Debug)]
pub(crate) struct Generator {
    size: Size,
    popularity: Popularity,
    sequences: Vec<u64>,
    made: u64,
    rng: fastrand::Rng,
    time: SharedTimeSource,
}

impl Generator {
    pub(crate) fn new(options: Generate, rng: fastrand::Rng, time: SharedTimeSource) -> Generator {
        Generator {
            size: options.size,
            popularity: Popularity::new(options.keys, options.skew),
            sequences: vec![0; options.keys as usize],
            made: 0,
            rng,
            time,
        }
    }

    pub(crate) fn next(&mut self) -> Message {
        let rank = self.popularity.draw(&mut self.rng);
        let sequence = self.sequences[rank];
        self.sequences[rank] += 1;
        let n = self.made;
        self.made += 1;
        let time_ms = self.time.now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        let size = match self.size {
            Size::Fixed(size) => size,
            Size::Uniform(low, high) => self.rng.usize(low..=high),
        };
        let key: Arc<str> = format!("key-{rank:06}").into();
        let mut text = format!(
            r#"{{"key":"{key}","sequence":{sequence},"n":{n},"time":{time_ms},"padding":""#
        );
        let padding = size.saturating_sub(text.len() + 2);
        text.extend((0..padding).map(|_| self.rng.alphanumeric()));
        text.push_str("\"}");
        Message { data: Bytes::from(text), key: Some(key), pass: 0 }
    }
}

/// Zipf: the key of rank r (from 0) is drawn in proportion to 1 / (r + 1)^skew.
#[derive(Debug)]
struct Popularity {
    /// For each rank, the weights up to and including it; empty when all are alike.
    cumulated: Vec<f64>,
    keys: usize,
}

impl Popularity {
    fn new(keys: u32, skew: f64) -> Popularity {
        let mut sum = 0.0;
        let cumulated = if skew == 0.0 {
            Vec::new()
        } else {
            let weight = |rank| f64::powf(f64::from(rank), -skew);
            (1..=keys)
                .map(|rank| {
                    sum += weight(rank);
                    sum
                })
                .collect()
        };
        Popularity { cumulated, keys: keys as usize }
    }

    fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        match self.cumulated.last() {
            None => rng.usize(..self.keys),
            Some(total) => {
                let at = rng.f64() * total;
                self.cumulated.partition_point(|c| *c <= at).min(self.keys - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_async::time::StaticTimeSource;

    fn generator(size: Size, keys: u32, skew: f64, seed: u64) -> Generator {
        let time = SharedTimeSource::new(StaticTimeSource::from_secs(1_000));
        Generator::new(Generate { size, keys, skew }, fastrand::Rng::with_seed(seed), time)
    }

    #[test]
    fn messages_are_json_of_the_wanted_size_and_count_their_keys() {
        let mut made = generator(Size::Fixed(300), 3, 0.0, 1);
        let mut next = std::collections::HashMap::new();
        for n in 0..200 {
            let message = made.next();
            assert_eq!(message.data.len(), 300);
            let json: serde_json::Value = serde_json::from_slice(&message.data).unwrap();
            assert_eq!(json["n"], n);
            assert_eq!(json["time"], 1_000_000);
            let key = json["key"].as_str().unwrap().to_owned();
            assert_eq!(message.key.as_deref(), Some(key.as_str()));
            let expected = next.entry(key).or_insert(0);
            assert_eq!(json["sequence"], *expected);
            *expected += 1;
        }
        assert_eq!(next.len(), 3);
    }

    #[test]
    fn a_small_size_keeps_the_fields_and_a_range_is_kept() {
        let message = generator(Size::Fixed(1), 1, 0.0, 1).next();
        serde_json::from_slice::<serde_json::Value>(&message.data).unwrap();
        let mut made = generator(Size::Uniform(200, 210), 1, 0.0, 1);
        assert!((0..500).all(|_| (200..=210).contains(&made.next().data.len())));
    }

    #[test]
    fn skew_makes_the_first_key_as_popular_as_zipf_says() {
        let popularity = Popularity::new(100, 1.0);
        let mut rng = fastrand::Rng::with_seed(7);
        let draws = 100_000;
        let first = (0..draws).filter(|_| popularity.draw(&mut rng) == 0).count() as f64;
        let harmonic: f64 = (1..=100).map(|r| 1.0 / f64::from(r)).sum();
        let expected = f64::from(draws) / harmonic;
        assert!((first - expected).abs() < 0.05 * expected, "{first} of {expected} expected");
    }

    #[test]
    fn the_same_seed_makes_the_same_messages() {
        let run = |seed| {
            let mut made = generator(Size::Uniform(90, 200), 50, 1.2, seed);
            (0..50).map(|_| made.next().data).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
