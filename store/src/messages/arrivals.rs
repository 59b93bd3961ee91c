//! What was stored when: notes of places, kept for an hour, for those who follow a whole integration.
//!
//! Messages are kept by entity, so "everything new of an integration" cannot be asked of them. A writer therefore notes,
//! after it stored messages and before it lets go of them, where they are: one item for many, in a partition of the
//! integration's minute (`#arrivals#<integration>#<minute>#<bucket>`; no integration's name starts with `#`), sorted by
//! the wall clock of the writer, the writer, and a number. Pure but for [`DynamoMessages`](super::DynamoMessages), which carries it out in `feed`.

use std::time::Duration;

use super::keys::{read_time, time_part};
use super::locator::Locator;
use crate::error::StoreError;
use crate::identity::{Entity, IntegrationName};
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, SK, expires_at_s, key, n, s};

/// How long notes can be read.
pub const ARRIVALS_KEPT: Duration = Duration::from_secs(3_600);
/// A note is found in its place so long after its time at the latest. A writer for which it took longer writes another one.
pub const ARRIVALS_WITHIN: Duration = Duration::from_secs(3);
/// Clocks of writers and readers are at most so far apart.
pub const ARRIVALS_SKEW: Duration = Duration::from_secs(5);
/// Beyond the time in which they can be read, for readers whose clock is behind.
const SLACK: Duration = Duration::from_secs(300);
/// Partitions that the notes of one minute are spread over: one takes 1 MB/s, which is about 7,000 messages.
pub(super) const BUCKETS: u32 = 4;
/// Bytes of places in one note (DynamoDB's limit is 400 KiB with all attributes).
const MAX_BYTES: usize = 300 * 1024;
const MINUTE_MS: i64 = 60_000;
const PLACES: &str = "places";

/// Which note. The order is that of keys: by the writer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArrivalRow {
    /// The writer's wall clock when it began to write the note, in ms since 1970.
    pub at_ms: i64,
    /// The writer: a number that no other process draws.
    pub writer: u64,
    /// Counts the writer's notes of the integration.
    pub number: u32,
}

/// A note: these were stored by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// Whose messages they are.
    pub integration: IntegrationName,
    /// Which note it is.
    pub row: ArrivalRow,
    /// Where the messages are.
    pub places: Vec<Locator>,
}

/// From where on notes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrivalsFrom {
    /// From this time on, in ms since 1970.
    Time(i64),
    /// What is sorted behind this one.
    Behind(ArrivalRow),
}

/// A question for the notes of an integration.
#[derive(Clone, Debug)]
pub struct ArrivalsQuery {
    /// Whose.
    pub integration: IntegrationName,
    /// From where on.
    pub from: ArrivalsFrom,
    /// Notes of later minutes are not looked for, in ms since 1970.
    pub until_ms: i64,
    /// Read strongly consistently, at twice the cost.
    pub consistent: bool,
}

/// Some notes in order, none left out between `from` and `upto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivalsPage {
    /// The notes.
    pub notes: Vec<Arrivals>,
    /// Where to go on; `None` if nothing was left until the minute of `until_ms`.
    pub upto: Option<ArrivalsFrom>,
}

impl ArrivalRow {
    fn sort(&self) -> String {
        format!("{}#{:016x}#{:010}", time_part(self.at_ms), self.writer, self.number)
    }

    /// Reads the sort key of a note; `None` if it is none.
    pub fn parse(sort: &str) -> Option<ArrivalRow> {
        let mut parts = sort.split('#');
        let at_ms = read_time(parts.next()?)?;
        let writer = u64::from_str_radix(parts.next()?, 16).ok()?;
        let number = parts.next()?.parse().ok()?;
        Some(ArrivalRow { at_ms, writer, number })
    }
}

impl ArrivalsFrom {
    fn minute(self) -> i64 {
        match self {
            ArrivalsFrom::Time(ms) | ArrivalsFrom::Behind(ArrivalRow { at_ms: ms, .. }) => {
                ms.div_euclid(MINUTE_MS)
            }
        }
    }

    /// Everything that is wanted sorts behind this.
    pub(super) fn behind(self) -> String {
        match self {
            // A time alone sorts before every key that starts with it.
            ArrivalsFrom::Time(ms) => time_part(ms),
            ArrivalsFrom::Behind(row) => row.sort(),
        }
    }
}

/// Places in as few notes as they fit into.
pub fn pack_arrivals(
    integration: &IntegrationName,
    places: Vec<Locator>,
    mut row: impl FnMut() -> ArrivalRow,
) -> Vec<Arrivals> {
    let mut packed: Vec<Arrivals> = Vec::new();
    let mut bytes = MAX_BYTES;
    for place in places {
        // Every character of an entity may have to be escaped; a note with a little room left does no harm.
        let weight = place.sort().len() + place.entity().as_str().len() * 6 + 8;
        bytes += weight;
        match packed.last_mut() {
            Some(last) if bytes <= MAX_BYTES => last.places.push(place),
            _ => {
                bytes = weight;
                let integration = integration.clone();
                packed.push(Arrivals { integration, row: row(), places: vec![place] });
            }
        }
    }
    packed
}

fn partition(integration: &IntegrationName, minute: i64, bucket: u32) -> String {
    format!("#arrivals#{integration}#{minute}#{bucket}")
}

/// The keys of a note.
pub(super) fn key_of(note: &Arrivals) -> (String, String) {
    let minute = note.row.at_ms.div_euclid(MINUTE_MS);
    (partition(&note.integration, minute, note.row.number % BUCKETS), note.row.sort())
}

/// The places of a note as text.
pub(super) fn places_text(note: &Arrivals) -> String {
    let places: Vec<(&str, &str)> =
        note.places.iter().map(|place| (place.sort(), place.entity().as_str())).collect();
    // A list of texts always has a JSON form.
    serde_json::to_string(&places).unwrap_or_default()
}

/// The item of a note.
pub(super) fn to_item(note: &Arrivals, places: String) -> Item {
    let (partition, sort) = key_of(note);
    let mut item = key(partition, sort);
    item.insert(PLACES.to_owned(), s(places));
    let kept = (ARRIVALS_KEPT + SLACK).as_millis();
    item.insert(EXPIRES_AT.to_owned(), n(expires_at_s(note.row.at_ms, kept)));
    item
}

/// Reads an item.
pub(super) fn from_item(integration: &IntegrationName, item: Item) -> Result<Arrivals, StoreError> {
    let reader = ItemReader::new("read arrivals", item);
    let row = ArrivalRow::parse(reader.text(SK)?)
        .ok_or_else(|| reader.unreadable(format!("{SK} of {PK} is not that of a note")))?;
    let places: Vec<(String, String)> = reader.parsed(PLACES, |text| serde_json::from_str(text))?;
    let mut found = Vec::with_capacity(places.len());
    for (sort, entity) in places {
        let entity = Entity::parse(&entity).map_err(|e| reader.unreadable(e.to_string()))?;
        found.push(Locator::from_parts(integration.clone(), entity, sort));
    }
    Ok(Arrivals { integration: integration.clone(), row, places: found })
}

/// The partitions that one reading looks at: those of two minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slices {
    pub(super) partitions: Vec<String>,
    /// Where to go on once all of them are read; `None` if that is all.
    pub(super) end: Option<ArrivalsFrom>,
}

/// What to read for a query.
pub(super) fn plan_slices(query: &ArrivalsQuery) -> Slices {
    let first = query.from.minute();
    let last = query.until_ms.div_euclid(MINUTE_MS).max(first);
    let minutes = first..=last.min(first + 1);
    let end = (last > first + 1).then_some(ArrivalsFrom::Time((first + 2) * MINUTE_MS));
    let buckets = |minute| (0..BUCKETS).map(move |bucket| (minute, bucket));
    let partitions = minutes.flat_map(buckets);
    let partitions =
        partitions.map(|(minute, bucket)| partition(&query.integration, minute, bucket));
    Slices { partitions: partitions.collect(), end }
}

/// What was read of one partition.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) notes: Vec<Arrivals>,
    /// There is more behind them.
    pub(super) more: bool,
}

/// Puts slices together: what is sorted behind the end of one that has more is left for the next reading.
pub(super) fn merge(slices: Vec<Slice>, end: Option<ArrivalsFrom>) -> ArrivalsPage {
    let ends = slices.iter().filter(|slice| slice.more).filter_map(|slice| slice.notes.last());
    let horizon = ends.map(|note| note.row).min();
    let mut notes: Vec<Arrivals> = slices.into_iter().flat_map(|slice| slice.notes).collect();
    notes.retain(|note| horizon.is_none_or(|horizon| note.row <= horizon));
    notes.sort_unstable_by_key(|note| note.row);
    ArrivalsPage { notes, upto: horizon.map(ArrivalsFrom::Behind).or(end) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, integration, message};

    fn row(at_ms: i64, number: u32) -> ArrivalRow {
        ArrivalRow { at_ms, writer: 7, number }
    }

    fn note(at_ms: i64, number: u32) -> Arrivals {
        Arrivals { integration: integration("quakes"), row: row(at_ms, number), places: Vec::new() }
    }

    #[test]
    fn rows_sort_as_their_keys_do_and_read_back() {
        let rows = [row(-5, 9), row(9, 2), row(10, 1), row(10, 11), row(10, u32::MAX)];
        for pair in rows.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].sort() < pair[1].sort());
        }
        let last = ArrivalRow { writer: u64::MAX, ..row(NOW, 3) };
        assert_eq!(ArrivalRow::parse(&last.sort()), Some(last));
        assert!(ArrivalsFrom::Time(10).behind() < rows[2].sort());
        assert_eq!(ArrivalsFrom::Behind(rows[2]).behind(), rows[2].sort());
        assert_eq!(ArrivalRow::parse("x"), None);
    }

    #[test]
    fn a_note_comes_back_as_it_was_made() {
        let odd = Locator::of(&message("a\"\t\u{1}#\u{fc}", 1, "{}"));
        let note = Arrivals { places: vec![odd], ..note(NOW, 5) };
        let item = to_item(&note, places_text(&note));
        assert_eq!(from_item(&note.integration, item).unwrap(), note);
    }

    #[test]
    fn places_are_packed_into_as_few_notes_as_an_item_may_be_large() {
        let places: Vec<Locator> =
            (0..1_000).map(|n| Locator::of(&message(&"\u{1}".repeat(512), n, "{}"))).collect();
        let mut number = 0;
        let next = || {
            number += 1;
            row(NOW, number)
        };
        let packed = pack_arrivals(&integration("quakes"), places.clone(), next);
        assert!(packed.len() > 5 && packed.iter().all(|n| places_text(n).len() <= MAX_BYTES));
        let numbers: Vec<u32> = packed.iter().map(|note| note.row.number).collect();
        assert!(numbers.is_sorted() && numbers.len() == packed.len());
        let unpacked: Vec<Locator> = packed.into_iter().flat_map(|note| note.places).collect();
        assert_eq!(unpacked, places);
        assert!(pack_arrivals(&integration("quakes"), Vec::new(), || row(NOW, 0)).is_empty());
    }

    #[test]
    fn a_reading_looks_at_two_minutes_and_says_where_to_go_on() {
        let query = |from, until_ms| ArrivalsQuery {
            integration: integration("quakes"),
            from,
            until_ms,
            consistent: false,
        };
        let one = plan_slices(&query(ArrivalsFrom::Time(59_999), 59_999));
        assert_eq!(one.partitions.len(), 4);
        assert_eq!((one.partitions[3].as_str(), one.end), ("#arrivals#quakes#0#3", None));
        let two = plan_slices(&query(ArrivalsFrom::Behind(row(59_999, 1)), 60_000));
        assert_eq!((two.partitions.len(), two.end), (8, None));
        let hour = plan_slices(&query(ArrivalsFrom::Time(0), 3_600_000));
        assert_eq!((hour.partitions.len(), hour.end), (8, Some(ArrivalsFrom::Time(120_000))));
        let past = plan_slices(&query(ArrivalsFrom::Time(600_000), 0));
        assert_eq!((past.partitions.len(), past.end), (4, None));
    }

    #[test]
    fn nothing_behind_the_end_of_a_slice_that_has_more_is_taken() {
        let slices = || {
            vec![
                Slice { notes: vec![note(1, 0), note(4, 4)], more: true },
                Slice { notes: vec![note(2, 1), note(3, 5), note(9, 9)], more: false },
                Slice { notes: Vec::new(), more: false },
            ]
        };
        let page = merge(slices(), None);
        let times: Vec<i64> = page.notes.iter().map(|note| note.row.at_ms).collect();
        assert_eq!((times, page.upto), (vec![1, 2, 3, 4], Some(ArrivalsFrom::Behind(row(4, 4)))));
        let mut whole = slices();
        whole[0].more = false;
        let page = merge(whole, Some(ArrivalsFrom::Time(120_000)));
        assert_eq!((page.notes.len(), page.upto), (5, Some(ArrivalsFrom::Time(120_000))));
    }
}
