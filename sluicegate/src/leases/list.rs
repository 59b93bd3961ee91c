//! The list of leases and workers, for people. Pure.

use std::collections::BTreeSet;

use lease_manager::operate::{LeaseRow, Pulse, State, Survey, WorkerRow, span};
use lease_manager::{Checkpoint, LaneName};

use super::count;
use crate::screen::aligned;

/// Longer checkpoints are shortened in the middle: their first digits say the era, their last the record.
const LONGEST: usize = 20;

/// The whole list.
pub(super) fn text(survey: &Survey) -> String {
    let (leases, workers) = (survey.leases(), survey.workers());
    let mut text = lease_table(&leases);
    text.push('\n');
    text.push_str(&worker_table(&workers));
    text.push_str(&totals(&leases));
    for bad in &survey.unreadable {
        text.push_str(&format!("cannot be read, its shard is not consumed: {bad}\n"));
    }
    if survey.others > 0 {
        let items = count(survey.others, "item", "items");
        text.push_str(&format!("left alone: {items} of the table, of another kind than leases\n"));
    }
    text
}

fn lease_table(leases: &[LeaseRow]) -> String {
    let lanes: BTreeSet<&LaneName> = leases.iter().flat_map(|lease| lease.lanes.keys()).collect();
    let several = leases.iter().any(|lease| lease.stream.is_some());
    let mut head = Vec::from(["SHARD", "OWNER", "STATE"].map(str::to_owned));
    if several {
        head.insert(0, "STREAM".to_owned());
    }
    head.extend(lanes.iter().map(|lane| format!("{} LAG", lane.as_str().to_uppercase())));
    head.extend(["CHECKPOINT", "KB/S", "COUNTER", "WHY"].map(str::to_owned));
    let mut rows = vec![head];
    for lease in leases {
        let mut row = Vec::new();
        if several {
            row.push(lease.stream.clone().unwrap_or_default());
        }
        row.push(lease.shard.to_string());
        row.push(lease.owner.as_ref().map_or("-".to_owned(), ToString::to_string));
        row.push(state(lease.state));
        row.extend(lanes.iter().map(|lane| lag(lease, lane)));
        row.push(short(&lease.checkpoint.to_string()));
        row.push(format!("{:.1}", lease.throughput_kbps));
        row.push(lease.counter.to_string());
        row.push(lease.reason.clone().unwrap_or_else(|| "-".to_owned()));
        rows.push(row);
    }
    aligned(&rows)
}

/// What needs a look is marked.
fn state(state: State) -> String {
    let marked = matches!(
        state,
        State::Orphan | State::Silent | State::Trimmed | State::NotConfigured | State::Foreign
    );
    format!("{}{}", state.word(), if marked { " !" } else { "" })
}

fn lag(lease: &LeaseRow, lane: &LaneName) -> String {
    match lease.lanes.get(lane) {
        None => "-".to_owned(),
        Some(at) if at.checkpoint == Checkpoint::ShardEnd => "ended".to_owned(),
        Some(at) if !at.checkpoint.has_moved() => "not started".to_owned(),
        Some(_) if !lease.lag_is_known => "?".to_owned(),
        Some(at) => span(at.behind_ms),
    }
}

fn worker_table(workers: &[WorkerRow]) -> String {
    if workers.is_empty() {
        return "no worker has ever joined this fleet\n".to_owned();
    }
    let head = ["WORKER", "STATE", "HEARTBEAT", "LEASES", "KB/S", "VERSION", ""];
    let mut rows = vec![Vec::from(head.map(str::to_owned))];
    for worker in workers {
        rows.push(vec![
            worker.worker.to_string(),
            worker.state.word().to_owned(),
            match worker.pulse {
                Pulse::Moves => "moves".to_owned(),
                Pulse::Still { for_ms } => format!("still for {} !", span(for_ms)),
                Pulse::Ended => "-".to_owned(),
            },
            worker.leases.to_string(),
            format!("{:.1}", worker.throughput_kbps),
            worker.version.clone(),
            if worker.leads { "leads".to_owned() } else { String::new() },
        ]);
    }
    aligned(&rows)
}

fn totals(leases: &[LeaseRow]) -> String {
    let of = |states: &[State]| leases.iter().filter(|l| states.contains(&l.state)).count();
    let read = of(&[State::Owned, State::Moving, State::Draining]);
    let ended = of(&[State::Finished, State::Trimmed]);
    let waiting = of(&[State::Waiting]);
    let not = leases.len() - read - ended - waiting;
    let mut text = format!(
        "\n{}: {read} being read, {waiting} waiting for parents, {ended} ended, {not} not being read",
        count(leases.len(), "lease", "leases")
    );
    text.push_str(if not > 0 { " (`sluicegate leases why SHARD` says why)\n" } else { "\n" });
    text
}

fn short(text: &str) -> String {
    if text.len() <= LONGEST || !text.is_ascii() {
        return text.to_owned();
    }
    format!("{}…{}", &text[..6], &text[text.len() - 12..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_checkpoints_are_shortened() {
        assert_eq!(short("TRIM_HORIZON"), "TRIM_HORIZON");
        let sequence = "49680475440023163748699713370519592995543668602328580114";
        assert_eq!(short(sequence), "496804…602328580114");
    }

    #[test]
    fn what_needs_a_look_is_marked() {
        assert_eq!(state(State::Owned), "owned");
        assert_eq!(state(State::Orphan), "orphan !");
        assert_eq!(state(State::Finished), "finished");
    }
}
