//! Replays as they are shown: for people, for scripts, and as a line of progress. Pure.

use serde_json::{Value, json};
use store::{Replay, ReplayOf, ReplayPart, ReplayPlace, ReplayState};

use crate::deliveries::list::time;
use crate::screen::{aligned, bar};

/// The table of all.
pub(super) fn table(replays: &[Replay]) -> String {
    if replays.is_empty() {
        return "no replays\n".to_owned();
    }
    let head =
        ["REPLAY", "SUBSCRIPTION", "STATE", "WHAT", "READ", "MATCHED", "PARKED", "CREATED", "WHY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(replays.iter().map(|replay| {
        vec![
            replay.id.to_string(),
            replay.subscription.to_string(),
            replay.state.to_string(),
            what(&replay.what),
            replay.counts.read.to_string(),
            replay.counts.matched.to_string(),
            replay.counts.parked.to_string(),
            time(replay.created_at_ms),
            replay.detail.clone(),
        ]
    }));
    aligned(&rows)
}

/// One, with its parts.
pub(super) fn text(replay: &Replay, parts: &[ReplayPart]) -> String {
    let counts = replay.counts;
    let mut rows = vec![
        row("replay", replay.id.to_string()),
        row("subscription", replay.subscription.to_string()),
        row("what", what(&replay.what)),
        row("state", state(replay)),
        row(
            "counts",
            format!("{} read, {} matched, {} made due", counts.read, counts.matched, counts.parked),
        ),
        row("rate", format!("up to {} a second", replay.rate_per_second)),
        row("created", time(replay.created_at_ms)),
    ];
    rows.extend(replay.started_at_ms.map(|ms| row("started", time(ms))));
    rows.extend(replay.ended_at_ms.map(|ms| row("ended", time(ms))));
    rows.extend(replay.runner.clone().map(|worker| row("worker", worker)));
    let mut text = aligned(&rows);
    if !parts.is_empty() {
        let head = ["PART", "STATE", "READ", "MATCHED", "PARKED", "REACHED"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(parts.iter().map(|part| {
            vec![
                part.source.to_string(),
                if part.is_done { "done" } else { "open" }.to_owned(),
                part.counts.read.to_string(),
                part.counts.matched.to_string(),
                part.counts.parked.to_string(),
                part.reached_ms.map_or("-".to_owned(), time),
            ]
        }));
        text.push('\n');
        text.push_str(&aligned(&rows));
    }
    text
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![name.to_owned(), value]
}

fn state(replay: &Replay) -> String {
    match replay.detail.as_str() {
        "" => replay.state.to_string(),
        detail => format!("{}: {detail}", replay.state),
    }
}

/// Everything that is known of it.
pub(super) fn object(replay: &Replay, parts: &[ReplayPart]) -> Value {
    let parts = parts.iter().map(|part| {
        let at = part.at.as_ref().map(|at| match at {
            ReplayPlace::Record(sequence, index) => json!({ "sequence": sequence, "index": index }),
            ReplayPlace::Cursor(cursor) => json!({ "cursor": cursor }),
        });
        json!({
            "part": part.source.to_string(),
            "done": part.is_done,
            "at": at,
            "reached": part.reached_ms.map(time),
            "counts": part.counts,
        })
    });
    json!({
        "id": replay.id,
        "subscription": replay.subscription,
        "what": what_object(&replay.what),
        "state": replay.state,
        "detail": replay.detail,
        "rate_per_second": replay.rate_per_second,
        "worker": replay.runner,
        "counts": replay.counts,
        "created_at": time(replay.created_at_ms),
        "started_at": replay.started_at_ms.map(time),
        "updated_at": time(replay.updated_at_ms),
        "ended_at": replay.ended_at_ms.map(time),
        "parts": parts.collect::<Vec<_>>(),
    })
}

fn what_object(what: &ReplayOf) -> Value {
    match what {
        ReplayOf::Range { from_ms, to_ms, only } => {
            json!({ "from": time(*from_ms), "to": time(*to_ms), "messages": only })
        }
        ReplayOf::Parked => json!({ "status": "parked" }),
        ReplayOf::DeadLettered { only } => {
            json!({ "status": "dead-lettered", "messages": only })
        }
    }
}

fn what(what: &ReplayOf) -> String {
    match what {
        ReplayOf::Range { from_ms, to_ms, only } => {
            let from = if *from_ms == 0 { "the horizon".to_owned() } else { time(*from_ms) };
            let only =
                if only.is_empty() { String::new() } else { format!("{} messages ", only.len()) };
            format!("{only}from {from} to {}", time(*to_ms))
        }
        ReplayOf::Parked => "parked deliveries".to_owned(),
        ReplayOf::DeadLettered { only } if only.is_empty() => "dead letters".to_owned(),
        ReplayOf::DeadLettered { only } => format!("{} dead letters", only.len()),
    }
}

/// How far it is, on one line.
pub(super) fn progress(replay: &Replay, parts: &[ReplayPart]) -> String {
    if replay.state == ReplayState::Queued {
        return "waiting for a processor".to_owned();
    }
    let done = parts.iter().filter(|part| part.is_done).count();
    let (bar, counts) = (bar(replay.share_done(parts)), replay.counts);
    let (matched, read) = (counts.matched, counts.read);
    format!("[{bar}] {done} of {} parts, {matched} matched of {read} read", parts.len())
}

#[cfg(test)]
mod tests {
    use store::{ReplayId, ReplaySource, SubscriptionId};

    use super::*;

    #[test]
    fn progress_is_the_time_that_the_shards_have_reached() {
        let what = ReplayOf::Range { from_ms: 1_000, to_ms: 2_000, only: Vec::new() };
        let (id, subscription) =
            (ReplayId::parse("rpl_a").unwrap(), SubscriptionId::parse("sub_a").unwrap());
        let mut replay = Replay::new(id, subscription, what, 1, 2_000);
        assert_eq!(progress(&replay, &[]), "waiting for a processor");
        replay.state = ReplayState::Running;
        let mut parts =
            vec![ReplayPart::new(ReplaySource::Parked), ReplayPart::new(ReplaySource::Parked)];
        parts[0].is_done = true;
        parts[1].reached_ms = Some(1_500);
        assert!((replay.share_done(&parts) - 0.75).abs() < 1e-9);
        assert!(progress(&replay, &parts).starts_with("[###############-----] 1 of 2 parts"));
        assert_eq!(replay.share_done(&[]), 0.0);
    }
}
