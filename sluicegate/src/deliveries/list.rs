//! Dead letters and open ranges as they are shown: tables for people, objects for scripts. Pure.

use aws_smithy_types::date_time::{DateTime, Format};
use data_encoding::BASE64;
use serde_json::{Value, json};
use store::{DeadLetter, MessageId, OpenRange, SubscriptionId};

use crate::screen::aligned;

/// Longer words are cut in the table; JSON has them whole.
const LONGEST: usize = 60;

/// The table.
pub(super) fn text(letters: &[DeadLetter], more: bool) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let head = [
        "INTEGRATION",
        "GIVEN UP",
        "REASON",
        "SUBSCRIPTION",
        "ATTEMPTS",
        "BYTES",
        "MESSAGE",
        "WHY",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(letters.iter().map(|letter| {
        vec![
            letter.integration.to_string(),
            time(letter.at_ms),
            letter.reason.code().to_owned(),
            letter.subscription.as_ref().map_or("-".to_owned(), SubscriptionId::to_string),
            letter.attempts.to_string(),
            letter.payload.len().to_string(),
            MessageId::derive(&letter.position).to_string(),
            cut(&letter.detail),
        ]
    }));
    let mut text = aligned(&rows);
    let more = if more { "; there are more: --limit" } else { "" };
    text.push_str(&format!("\n{} shown{more}\n", letters.len()));
    text
}

/// A letter with everything that is kept of it. A payload that is no text is in base64.
pub(super) fn object(letter: &DeadLetter) -> Value {
    let (payload, encoding) = match std::str::from_utf8(&letter.payload) {
        Ok(text) => (text.to_owned(), "text"),
        Err(_) => (BASE64.encode(&letter.payload), "base64"),
    };
    let position = &letter.position;
    json!({
        "message": MessageId::derive(position).as_str(),
        "integration": letter.integration.as_str(),
        "reason": letter.reason.code(),
        "detail": letter.detail,
        "subscription": letter.subscription.as_ref().map(SubscriptionId::as_str),
        "attempts": letter.attempts,
        "fence": letter.fence,
        "stream": &*position.stream_arn,
        "shard": &*position.shard_id,
        "sequence": &*position.sequence,
        "index": position.index,
        "partition_key": &*letter.partition_key,
        "arrived_at": time(letter.arrived_at_ms),
        "given_up_at": time(letter.at_ms),
        "payload": payload,
        "payload_encoding": encoding,
    })
}

/// The ranges that are open: what waits in the stream for whom, for how long, and until when. Nothing when there are none.
pub(super) fn ranges_text(ranges: &[OpenRange], now_ms: i64) -> String {
    if ranges.is_empty() {
        return String::new();
    }
    let head = ["SUBSCRIPTION", "SHARD", "FROM", "OPEN FOR", "TIME TO LOSS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(ranges.iter().map(|range| {
        vec![
            range.subscription.to_string(),
            range.shard_id.to_string(),
            time(range.from.arrived_at_ms),
            span(now_ms.saturating_sub(range.opened_at_ms)),
            span(range.lost_at_ms.saturating_sub(now_ms)),
        ]
    }));
    let count = ranges.len();
    format!(
        "\nopen ranges: owed from there on, kept by the stream\n{}\n{count} open\n",
        aligned(&rows)
    )
}

/// A range with everything that is kept of it.
pub(super) fn range_object(range: &OpenRange, now_ms: i64) -> Value {
    json!({
        "subscription": range.subscription.as_str(),
        "stream": &*range.stream_arn,
        "shard": &*range.shard_id,
        "from": {
            "sequence": &*range.from.sequence,
            "index": range.from.index,
            "arrived_at": time(range.from.arrived_at_ms),
        },
        "opened_at": time(range.opened_at_ms),
        "age_ms": now_ms.saturating_sub(range.opened_at_ms),
        "time_to_loss_ms": range.lost_at_ms.saturating_sub(now_ms),
        "version": range.version,
        "fence": range.fence,
    })
}

/// A span of time in its two largest units; what is over is `-`.
fn span(ms: i64) -> String {
    if ms < 0 {
        return "-".to_owned();
    }
    let seconds = ms / 1_000;
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let shown = parts.iter().skip(first).take(2).map(|(count, unit)| format!("{count}{unit}"));
    shown.collect::<Vec<_>>().join(" ")
}

pub(crate) fn time(ms: i64) -> String {
    let at = DateTime::from_millis(ms);
    at.fmt(Format::DateTime).unwrap_or_else(|_| format!("{ms} ms since 1970"))
}

fn cut(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_at_characters_and_stay_on_their_line() {
        assert_eq!(cut("a\nb\u{1b}[2J"), "a b [2J");
        assert_eq!(cut(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
        assert_eq!(time(1_500), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn a_range_says_for_whom_from_where_and_how_long_it_is_there() {
        let range = OpenRange {
            subscription: SubscriptionId::parse("sub_a").unwrap(),
            stream_arn: "arn".into(),
            shard_id: "shardId-000000000001".into(),
            hash_keys: (0, 1),
            from: store::RangeStart { sequence: "4959".into(), index: 0, arrived_at_ms: 0 },
            opened_at_ms: 60_000,
            lost_at_ms: 86_400_000,
            version: 1,
            fence: 7,
            claim: "w1".to_owned(),
            until_ms: 0,
        };
        let text = ranges_text(std::slice::from_ref(&range), 3_660_000);
        let row = text.lines().find(|line| line.starts_with("sub_a")).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words[..3], ["sub_a", "shardId-000000000001", "1970-01-01T00:00:00Z"]);
        assert_eq!(words[3..], ["1h", "0m", "22h", "59m"]);
        assert_eq!(range_object(&range, 3_660_000)["time_to_loss_ms"], 82_740_000);
        assert_eq!(
            (span(-1).as_str(), span(0).as_str(), span(59_999).as_str()),
            ("-", "0s", "59s")
        );
        assert_eq!(ranges_text(&[], 0), "");
    }
}
