//! Numbers as they are compared: exactly, as far as 64-bit integers and doubles hold what was written.
//!
//! An integer of 64 bits is itself; everything else is the double that is nearest to it. `1`, `1.0` and
//! `10e-1` are one number; 9007199254740993 and 9007199254740992.0 are two.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// 2^127: from here on a double is no `i128`.
const BEYOND_INTEGERS: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;

/// A finite number. One value has one form, so that equal numbers hash alike.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Integer(i128),
    /// Not an integer, or too large to be held as one.
    Double(f64),
}

impl Number {
    pub(super) fn of(double: f64) -> Number {
        if double.trunc() == double && double.abs() < BEYOND_INTEGERS {
            Number::Integer(double as i128)
        } else {
            Number::Double(double)
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        match (*self, *other) {
            (Number::Integer(a), Number::Integer(b)) => a.cmp(&b),
            (Number::Double(a), Number::Double(b)) => a.total_cmp(&b),
            (Number::Integer(a), Number::Double(b)) => integer_to_double(a, b),
            (Number::Double(a), Number::Integer(b)) => integer_to_double(b, a).reverse(),
        }
    }
}

/// The double is no integer, or beyond all integers: they are never equal.
fn integer_to_double(integer: i128, double: f64) -> Ordering {
    if double.abs() >= BEYOND_INTEGERS {
        return if double > 0.0 { Ordering::Less } else { Ordering::Greater };
    }
    if integer <= double.floor() as i128 { Ordering::Less } else { Ordering::Greater }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Number::Integer(integer) => integer.hash(state),
            Number::Double(double) => double.to_bits().hash(state),
        }
    }
}

/// Numbers between bounds; a bound that is not there does not bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Range {
    pub(super) from: Option<Bound>,
    pub(super) to: Option<Bound>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bound {
    pub(super) number: Number,
    /// The number itself is within.
    pub(super) is_within: bool,
}

impl Bound {
    fn allows(self, order: Ordering, side: Ordering) -> bool {
        order == side || (order == Ordering::Equal && self.is_within)
    }
}

impl Range {
    pub(super) fn holds(&self, number: Number) -> bool {
        self.from.is_none_or(|b| b.allows(number.cmp(&b.number), Ordering::Greater))
            && self.to.is_none_or(|b| b.allows(number.cmp(&b.number), Ordering::Less))
    }

    /// Numbers may lie in it.
    pub(super) fn is_possible(&self) -> bool {
        match (self.from, self.to) {
            (Some(from), Some(to)) if from.number == to.number => from.is_within && to.is_within,
            (Some(from), Some(to)) => from.number < to.number,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_exactly() {
        let int = Number::Integer;
        assert_eq!(Number::of(1.0), int(1));
        assert_eq!(Number::of(-0.0), int(0));
        assert_eq!(Number::of(1e20), int(100_000_000_000_000_000_000));
        assert_ne!(int(9_007_199_254_740_993), Number::of(9_007_199_254_740_992.0));
        assert!(int(0) < Number::of(0.1) && Number::of(0.1) < int(1));
        assert!(int(-1) < Number::of(-0.1) && Number::of(-0.1) < int(0));
        assert!(int(i128::from(u64::MAX)) < Number::of(1.0e300));
        assert!(Number::of(-1.0e300) < int(i128::from(i64::MIN)));
        assert!(Number::of(0.1) < Number::of(0.2) && Number::of(-2.5) < Number::of(-1.5));
    }

    #[test]
    fn bounds_are_within_or_not() {
        let bound = |n, is_within| Some(Bound { number: Number::of(n), is_within });
        let range = Range { from: bound(0.0, false), to: bound(5.0, true) };
        assert!(!range.holds(Number::of(0.0)) && range.holds(Number::of(0.001)));
        assert!(range.holds(Number::of(5.0)) && !range.holds(Number::of(5.001)));
        assert!(range.is_possible());
        assert!(!Range { from: bound(5.0, true), to: bound(5.0, false) }.is_possible());
        assert!(Range { from: bound(5.0, true), to: bound(5.0, true) }.is_possible());
        assert!(!Range { from: bound(6.0, true), to: bound(5.0, true) }.is_possible());
    }
}
