//! `messages tail`: follows, and goes on from the last id when it was cut, for as long as it takes.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::address::{self, Base};
use super::args::TailArgs;
use super::client::{Api, Failure};
use super::events::{Event, Events};
use super::show;
use crate::commands::print;
use crate::screen::say;

/// A stream that says nothing for so long is dead: it says something every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// The wait before a stream that ended is opened again, and the longest after failures.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Where one who follows is.
struct Place {
    /// The last id; empty before the first.
    last_id: String,
    /// Messages that may still come.
    left: u64,
}

/// How a stream ended.
enum End {
    /// All that was wanted has come.
    Enough,
    /// It ended, or broke; why, in words.
    Cut(String),
}

/// Follows until as many as wanted have come.
pub(super) async fn run(
    api: &Api,
    base: &Base,
    args: &TailArgs,
    now_ms: i64,
) -> anyhow::Result<Result<(), Failure>> {
    let query = address::query(&[
        ("entity", args.entity.as_ref().map(ToString::to_string)),
        ("from", args.from.map(|from| from.ms(now_ms).to_string())),
    ]);
    let url = base.join(&format!("{}{query}", address::tail_path(&args.integration)));
    let mut place = Place { last_id: String::new(), left: args.limit.unwrap_or(u64::MAX) };
    let mut failures = 0;
    loop {
        let last_id = (!place.last_id.is_empty()).then_some(place.last_id.as_str());
        let why = match api.open(&url, last_id).await {
            Ok(answer) => {
                failures = 0;
                match follow(answer.into_body(), args, &mut place).await? {
                    End::Enough => return Ok(Ok(())),
                    End::Cut(why) => why,
                }
            }
            Err(Failure::NotNow(why, wait)) => {
                failures += 1;
                let wait = wait.unwrap_or_default().min(LONGEST_PAUSE);
                tokio::time::sleep(wait).await;
                why
            }
            Err(refused) => return Ok(Err(refused)),
        };
        let pause = pause(failures);
        say(&format!("{why}; going on in {} s\n", pause.as_secs()));
        tokio::time::sleep(pause).await;
    }
}

/// The wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    PAUSE.saturating_mul(1 << failures.min(4)).min(LONGEST_PAUSE)
}

async fn follow(mut body: Incoming, args: &TailArgs, place: &mut Place) -> anyhow::Result<End> {
    let mut events = Events::default();
    loop {
        let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
            Err(_) => return Ok(End::Cut(format!("silence for {} s", SILENCE.as_secs()))),
            Ok(None) => return Ok(End::Cut("the stream ended".to_owned())),
            Ok(Some(Err(error))) => return Ok(End::Cut(format!("the stream broke: {error}"))),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(bytes) = frame.into_data() else { continue };
        for event in events.take(&bytes)? {
            if let Some(end) = happened(event, args, place)? {
                return Ok(end);
            }
        }
    }
}

fn happened(event: Event, args: &TailArgs, place: &mut Place) -> anyhow::Result<Option<End>> {
    let Event { name, data, id } = event;
    let end = match name.as_str() {
        "" if !data.is_empty() => {
            print(&show::message(&data, args.common.output)?);
            place.left -= 1;
            (place.left == 0).then_some(End::Enough)
        }
        "end" => Some(End::Cut(format!("the API ended it: {data}"))),
        _ => None,
    };
    // What was printed is not asked for again.
    if !id.is_empty() {
        place.last_id = id;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!([0, 1, 3, 99].map(|failures| pause(failures).as_secs()), [1, 2, 8, 15]);
    }
}
