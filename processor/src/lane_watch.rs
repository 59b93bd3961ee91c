//! Lanes that are behind, summed up for the log: one line when it begins, one a minute, one when it is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::service::PIPELINES;

/// So often a state that lasts is said again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct LaneWatch {
    told: [Option<Instant>; 2],
}

/// What is to be said of a pipeline.
#[derive(Debug, PartialEq, Eq)]
enum Say {
    Nothing,
    Behind,
    Over,
}

impl LaneWatch {
    /// Looks at how many of `lanes` lanes of each pipeline are detached or catching up.
    pub(crate) fn look(&mut self, behind: [usize; 2], lanes: usize, now: Instant) {
        for (index, pipeline) in PIPELINES.into_iter().enumerate() {
            let behind = behind[index];
            match self.say(index, behind, now) {
                Say::Nothing => {}
                Say::Behind => tracing::warn!(
                    pipeline,
                    behind,
                    lanes,
                    "lanes have no room or catch up; the other pipeline goes on"
                ),
                Say::Over => tracing::info!(pipeline, lanes, "all lanes are at the tip again"),
            }
        }
    }

    fn say(&mut self, index: usize, behind: usize, now: Instant) -> Say {
        let told = &mut self.told[index];
        match (*told, behind) {
            (None, 0) => Say::Nothing,
            (Some(_), 0) => {
                *told = None;
                Say::Over
            }
            (Some(at), _) if now - at < AGAIN_AFTER => Say::Nothing,
            _ => {
                *told = Some(now);
                Say::Behind
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_said_when_it_begins_once_a_minute_and_when_it_is_over() {
        let start = Instant::now();
        let mut watch = LaneWatch::default();
        assert_eq!(watch.say(0, 0, start), Say::Nothing);
        assert_eq!(watch.say(0, 3, start), Say::Behind);
        assert_eq!(watch.say(0, 9, start + AGAIN_AFTER / 2), Say::Nothing);
        assert_eq!(watch.say(1, 1, start), Say::Behind, "each pipeline by itself");
        assert_eq!(watch.say(0, 9, start + AGAIN_AFTER), Say::Behind);
        assert_eq!(watch.say(0, 0, start + AGAIN_AFTER), Say::Over);
        assert_eq!(watch.say(0, 0, start + AGAIN_AFTER), Say::Nothing);
    }
}
