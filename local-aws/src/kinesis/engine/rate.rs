//! A token bucket that is refilled by the clock it is shown. Pure: it neither waits nor reads time.

/// Holds at most one second's worth of tokens; may go into debt, which delays what comes after.
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket {
    per_second: i64,
    /// Thousandths of a token, so that a millisecond refills a whole number.
    level: i64,
    at_ms: i64,
}

impl TokenBucket {
    pub(crate) fn full(per_second: u32, now_ms: i64) -> Self {
        let per_second = i64::from(per_second).max(1);
        Self { per_second, level: per_second * 1000, at_ms: now_ms }
    }

    fn refill(&mut self, now_ms: i64) {
        let elapsed_ms = (now_ms - self.at_ms).max(0);
        self.at_ms = self.at_ms.max(now_ms);
        self.level = self
            .level
            .saturating_add(elapsed_ms.saturating_mul(self.per_second))
            .min(self.per_second * 1000);
    }

    /// Whether `cost` can be taken now. Something larger than the bucket is let through when the bucket is full.
    pub(crate) fn has(&mut self, cost: usize, now_ms: i64) -> bool {
        self.refill(now_ms);
        self.level >= thousandths(cost) || self.level == self.per_second * 1000
    }

    /// Takes `cost`, into debt if need be.
    pub(crate) fn take(&mut self, cost: usize) {
        self.level = self.level.saturating_sub(thousandths(cost));
    }

    /// Takes `cost` if it is there.
    pub(crate) fn try_take(&mut self, cost: usize, now_ms: i64) -> bool {
        let allowed = self.has(cost, now_ms);
        if allowed {
            self.take(cost);
        }
        allowed
    }

    /// Whether nothing is owed.
    pub(crate) fn is_clear(&mut self, now_ms: i64) -> bool {
        self.refill(now_ms);
        self.level > 0
    }

    /// Takes what a read gave out. A read larger than a second's worth counts in full from this moment: ten seconds' worth keeps
    /// the next read waiting for ten seconds.
    pub(crate) fn charge_read(&mut self, cost: usize) {
        if thousandths(cost) > self.per_second * 1000 {
            self.level = self.level.min(0);
        }
        self.take(cost);
    }

    /// Milliseconds until nothing is owed.
    pub(crate) fn clear_in_ms(&mut self, now_ms: i64) -> u64 {
        self.refill(now_ms);
        let owed = 1_i64.saturating_sub(self.level).max(0);
        u64::try_from((owed + self.per_second - 1) / self.per_second).unwrap_or(0)
    }
}

fn thousandths(cost: usize) -> i64 {
    i64::try_from(cost).unwrap_or(i64::MAX / 1000).saturating_mul(1000)
}
