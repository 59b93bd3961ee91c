//! A bounded map that forgets what was not used for long: two generations, the older of which is
//! dropped whole.

use std::collections::HashMap;
use std::hash::Hash;

/// Holds at most `capacity` entries (at least two). Everything used since the last change of
/// generation is kept.
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash + Clone, V: Clone> Generations<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { half: (capacity / 2).max(1), young: HashMap::new(), old: HashMap::new() }
    }

    /// The value of `key`, which counts as used.
    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// Keeps `value`, at the cost of the entries that were not used for longest if there is no
    /// room.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// All values, in no order; none counts as used.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.young.values().chain(self.old.values())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_its_capacity() {
        let mut map = Generations::new(10);
        for key in 0..1_000 {
            map.insert(key % 37, key);
            assert!(map.len() <= 10, "{}", map.len());
        }
    }

    #[test]
    fn what_is_used_survives_any_flood_of_others() {
        let mut map = Generations::new(10);
        map.insert(0, "kept");
        for key in 1..1_000 {
            map.insert(key, "flood");
            assert_eq!(map.get(&0), Some("kept"));
        }
        assert_eq!(map.get(&1), None);
    }

    #[test]
    fn a_value_is_replaced_wherever_it_was() {
        let mut map = Generations::new(2);
        map.insert('a', 1);
        map.insert('b', 2);
        map.insert('a', 3);
        assert_eq!((map.get(&'a'), map.get(&'b')), (Some(3), Some(2)));
    }
}
