//! The last offset of each key of the part of a log that is being compacted, in bounded memory.
//!
//! Keys are known by 128 bits: two SipHashes with keys drawn for each map, so that nobody can make two keys meet, and
//! by chance they do not. An entry takes 24 bytes, as in Kafka, where it is an MD5.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::Limits;

/// Two hashes of a key, and the offset plus one; all zeros where there is no entry.
type Slot = [u64; 3];
const SLOT_BYTES: u64 = 24;

/// A hash table of fixed size with linear probing.
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    hashers: [RandomState; 2],
    len: usize,
    capacity: usize,
    /// Every record up to here is in the map.
    latest_offset: i64,
}

impl OffsetMap {
    /// Returns a map for so many keys, or fewer when they would take more memory than the limits allow.
    pub(super) fn new(keys: u64, limits: &Limits) -> Self {
        // Half empty, when there is room: most look-ups then touch one line of memory.
        let wanted = keys.max(1).saturating_mul(2);
        let slots = wanted.min(limits.map_bytes / SLOT_BYTES).max(2);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        let capacity = (slots as f64 * limits.load_factor.clamp(0.0, 1.0)) as usize;
        Self {
            // Zeros from the system: memory that is never reached is never taken.
            slots: vec![[0; 3]; slots],
            hashers: [RandomState::new(), RandomState::new()],
            len: 0,
            // One slot stays free, where the search for what is not there ends.
            capacity: capacity.clamp(1, slots - 1),
            latest_offset: -1,
        }
    }

    /// Sets the offset of a key; returns `false`, and does nothing, when the map is full.
    pub(super) fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let (at, hash) = self.find(key);
        let Some(slot) = self.slots.get_mut(at) else {
            return false;
        };
        if slot[2] == 0 {
            if self.len >= self.capacity {
                return false;
            }
            self.len += 1;
        }
        *slot = [hash[0], hash[1], offset.max(0).cast_unsigned() + 1];
        self.latest_offset = offset;
        true
    }

    /// Returns the last offset of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<i64> {
        let (at, _) = self.find(key);
        let offset = self.slots.get(at)?[2].checked_sub(1)?;
        Some(offset.cast_signed())
    }

    /// Finds the slot of a key, or the free one where it would be.
    fn find(&self, key: &[u8]) -> (usize, [u64; 2]) {
        let hash = self.hashers.each_ref().map(|keyed| {
            let mut hasher = keyed.build_hasher();
            hasher.write(key);
            hasher.finish()
        });
        let count = self.slots.len();
        // The high bits of the product are evenly spread below the count.
        let mut at = ((u128::from(hash[0]) * count as u128) >> 64) as usize;
        while let Some(slot) = self.slots.get(at) {
            if slot[2] == 0 || (slot[0] == hash[0] && slot[1] == hash[1]) {
                break;
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        (at, hash)
    }

    /// Takes note that nothing up to `offset` is missing.
    pub(super) fn reaches(&mut self, offset: i64) {
        self.latest_offset = self.latest_offset.max(offset);
    }

    /// Returns the offset up to which every record is in the map; -1 for none.
    pub(super) fn latest_offset(&self) -> i64 {
        self.latest_offset
    }

    /// Returns which part of what the map may hold it holds.
    pub(super) fn utilization(&self) -> f64 {
        self.len as f64 / self.slots.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn limits(map_bytes: u64, load_factor: f64) -> Limits {
        Limits {
            map_bytes,
            load_factor,
            buffer_bytes: 0,
        }
    }

    proptest! {
        #[test]
        fn it_knows_what_a_map_knows(puts in prop::collection::vec(0..40u8, 0..200), slots in 2..64u64) {
            let mut map = OffsetMap::new(1 << 20, &limits(slots * SLOT_BYTES, 1.0));
            let mut model = BTreeMap::new();
            for (offset, key) in (0..).zip(puts) {
                let room = model.contains_key(&key) || (model.len() as u64) < slots - 1;
                prop_assert_eq!(map.put(&[key; 3], offset), room);
                if room {
                    model.insert(key, offset);
                    prop_assert_eq!(map.latest_offset(), offset);
                }
            }
            for key in 0..=255 {
                prop_assert_eq!(map.get(&[key; 3]), model.get(&key).copied());
            }
        }
    }

    #[test]
    fn it_takes_no_more_than_it_may_and_no_more_than_it_needs() {
        let map = OffsetMap::new(u64::MAX, &limits(240, 0.5));
        assert_eq!((map.slots.len(), map.capacity), (10, 5));
        let map = OffsetMap::new(3, &limits(1 << 40, 0.9));
        assert_eq!((map.slots.len(), map.capacity), (6, 5));
        let mut map = OffsetMap::new(0, &limits(0, 0.0));
        assert!(map.put(b"a", 7) && map.put(b"a", 8) && !map.put(b"b", 9));
        assert_eq!((map.get(b"a"), map.get(b"b")), (Some(8), None));
    }

    #[test]
    fn the_empty_key_and_offset_zero_are_like_others() {
        let mut map = OffsetMap::new(10, &limits(1 << 20, 0.9));
        assert_eq!(map.get(b""), None);
        assert!(map.put(b"", 0));
        assert_eq!(map.get(b""), Some(0));
        map.reaches(5);
        assert_eq!(map.latest_offset(), 5);
    }
}
