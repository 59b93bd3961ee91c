//! The corpus of `processor/fuzz` through every target, each input also damaged in ways that a seed draws.

use std::path::Path;

use fastrand::Rng;

const DAMAGED: u64 = 100;

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() > 3, "{inputs:?}");
    for path in inputs {
        let input = std::fs::read(&path).unwrap();
        check(&input);
        (0..DAMAGED).for_each(|seed| check(&damaged(&input, seed)));
    }
}

fn damaged(input: &[u8], seed: u64) -> Vec<u8> {
    let (mut rng, mut bytes) = (Rng::with_seed(seed), input.to_vec());
    for _ in 0..rng.u32(1..4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = rng.usize(..bytes.len());
        match rng.u32(..4) {
            0 => bytes[at] ^= 1 << rng.u32(..8),
            1 => bytes[at] = *rng.choice(b"{}[]\",:\\0e-\x00\x80\xff").unwrap(),
            2 => drop(bytes.drain(at..(at + rng.usize(1..8)).min(bytes.len()))),
            _ => {
                let piece = bytes[at..(at + rng.usize(1..32)).min(bytes.len())].to_vec();
                let to = rng.usize(..=bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

#[test]
fn frames_hold_over_the_corpus() {
    run("frames", super::frames);
}

#[test]
fn events_hold_over_the_corpus() {
    run("event", super::event);
}

#[test]
fn answers_hold_over_the_corpus() {
    run("answer", super::answer);
}

#[test]
fn aggregates_hold_over_the_corpus() {
    run("aggregate", super::aggregate);
}

#[test]
fn routes_hold_over_the_corpus() {
    run("route", super::route);
}
