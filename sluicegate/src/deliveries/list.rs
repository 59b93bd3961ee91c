//! Dead letters as they are shown: a table for people, objects for scripts. Pure.

use aws_smithy_types::date_time::{DateTime, Format};
use data_encoding::BASE64;
use serde_json::{Value, json};
use store::{DeadLetter, MessageId, SubscriptionId};

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
}
