//! Where messages are, for those who tail an integration: what is settled in the store is in a note that a reader finds.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use store::{ARRIVALS_WITHIN, ArrivalRow};

use crate::world::EPOCH;

/// The notes that a reader finds.
#[derive(Default)]
pub struct Notes {
    /// Sort key and entity of every message in them.
    places: BTreeSet<(String, String)>,
    /// Notes that were written.
    written: u64,
}

impl Notes {
    /// True if this item is a note. One that came too late for its time is none that anybody looks for.
    pub fn wrote(&mut self, at: Duration, item: &Value) -> bool {
        let text = |name: &str| item[name]["S"].as_str().unwrap_or_default();
        if !text("pk").starts_with("#arrivals#") {
            return false;
        }
        let row = ArrivalRow::parse(text("sk")).expect("the key of a note");
        let noted_at = Duration::from_millis(u64::try_from(row.at_ms).expect("a time")) - EPOCH;
        if at <= noted_at + ARRIVALS_WITHIN {
            let places: Vec<(String, String)> =
                serde_json::from_str(text("places")).expect("places");
            self.places.extend(places);
            self.written += 1;
        }
        true
    }

    /// Whether a message with these keys is in a note.
    pub fn has(&self, (entity, sort): &(String, String)) -> bool {
        self.places.contains(&(sort.clone(), entity.clone()))
    }

    /// Notes that a reader finds.
    pub fn written(&self) -> u64 {
        self.written
    }
}
