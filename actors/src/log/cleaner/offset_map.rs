//! The last offset of each key of the part of a log that is being compacted, in bounded memory.
//!
//! Keys are known by 128 bits: two SipHashes with keys drawn for each map, so that nobody can make two keys meet, and
//! by chance they do not. An entry takes 24 bytes, as in Kafka, where it is an MD5.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::Limits;

/// Two hashes of a key, and the offset plus one; all zeros where there is no entry.
type Slot = [u64; 3];
const SLOT_BYTES: u64 = 24;
/// How much larger a table becomes when it grows. While it does, the old one takes a quarter more.
const GROWTH: usize = 4;
/// What fits a processor's cache is large enough to begin with.
const SLOTS_MIN: usize = 1 << 12;

/// A hash table with linear probing, which grows with its keys: they may be few in a log of many records, and a small
/// table stays in the processor's caches.
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    /// How far it may grow.
    slots_max: usize,
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
        let slots_max = usize::try_from(slots).unwrap_or(usize::MAX);
        let capacity = (slots_max as f64 * limits.load_factor.clamp(0.0, 1.0)) as usize;
        Self {
            slots: vec![[0; 3]; size_above(SLOTS_MIN - 1, slots_max)],
            slots_max,
            hashers: [RandomState::new(), RandomState::new()],
            len: 0,
            // One slot stays free, where the search for what is not there ends.
            capacity: capacity.clamp(1, slots_max - 1),
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
        if self.len > self.slots.len() / 2 && self.slots.len() < self.slots_max {
            self.grow();
        }
        true
    }

    fn grow(&mut self) {
        let size = size_above(self.slots.len(), self.slots_max);
        let old = std::mem::replace(&mut self.slots, vec![[0; 3]; size]);
        for slot in old {
            if slot[2] > 0 {
                let at = self.find_hash([slot[0], slot[1]]);
                if let Some(free) = self.slots.get_mut(at) {
                    *free = slot;
                }
            }
        }
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
        (self.find_hash(hash), hash)
    }

    fn find_hash(&self, hash: [u64; 2]) -> usize {
        let count = self.slots.len();
        // The high bits of the product are evenly spread below the count.
        let mut at = ((u128::from(hash[0]) * count as u128) >> 64) as usize;
        while let Some(slot) = self.slots.get(at) {
            if slot[2] == 0 || (slot[0] == hash[0] && slot[1] == hash[1]) {
                break;
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        at
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
        self.len as f64 / self.slots_max as f64
    }
}

/// The smallest size above another on the way to the largest; the largest, when there is none.
fn size_above(size: usize, largest: usize) -> usize {
    let mut next = largest;
    while next / GROWTH > size {
        next /= GROWTH;
    }
    next
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
    fn it_grows_with_its_keys_and_forgets_none() {
        let mut map = OffsetMap::new(1_000_000, &limits(1 << 40, 0.9));
        let mut sizes = vec![map.slots.len()];
        for number in 0..300_000_i64 {
            assert!(map.put(&number.to_be_bytes(), number));
            assert!(map.len * 2 <= map.slots.len() || map.slots.len() == map.slots_max);
            sizes.push(map.slots.len());
        }
        sizes.dedup();
        assert_eq!(sizes, [7_812, 31_250, 125_000, 500_000, 2_000_000]);
        for number in 0..300_000_i64 {
            assert_eq!(map.get(&number.to_be_bytes()), Some(number));
        }
        assert_eq!(map.get(&300_000_i64.to_be_bytes()), None);
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
