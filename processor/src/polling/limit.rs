//! How many records to ask for, so that an answer is neither tiny nor huge. Pure.

/// What an answer should have on the wire.
const TARGET_BYTES: usize = 1024 * 1024;
/// The service's own limit.
const MOST: usize = 10_000;
/// Before anything is known. Records of 10 KiB make a good answer of it.
const FIRST: usize = 100;

/// Follows the size of a shard's records: up at once, down slowly.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit {
    bytes_per_record: Option<f64>,
}

impl Limit {
    /// Records to ask for: at least one, whatever its size.
    pub(super) fn records(&self) -> i32 {
        let records = self
            .bytes_per_record
            .map_or(FIRST, |bytes| ((TARGET_BYTES as f64 / bytes) as usize).clamp(1, MOST));
        i32::try_from(records).unwrap_or(1)
    }

    /// An answer of so many bytes came, or was too large to be taken.
    pub(super) fn answered(&mut self, records: usize, wire_bytes: usize) {
        if records == 0 {
            return;
        }
        let found = wire_bytes as f64 / records as f64;
        let known = self.bytes_per_record.unwrap_or(found);
        self.bytes_per_record = Some(found.max(known * 0.75 + found * 0.25));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stays_near_the_target_unless_one_record_is_larger() {
        let mut limit = Limit::default();
        assert_eq!(limit.records(), 100);
        limit.answered(0, 60);
        assert_eq!(limit.records(), 100, "an empty answer says nothing");
        limit.answered(100, 100 * 1_500);
        assert_eq!(limit.records(), 699);
        limit.answered(1, 14 << 20);
        assert_eq!(limit.records(), 1);
        for _ in 0..60 {
            let records = usize::try_from(limit.records()).unwrap();
            limit.answered(records, records * 1_500);
        }
        assert!((690..=699).contains(&limit.records()), "{}", limit.records());
        limit.answered(1, 1);
        limit.answered(10_000, 10_000);
        assert!(limit.records() <= 10_000);
    }
}
