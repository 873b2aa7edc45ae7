//! What coordinators have in common: they keep their state in the partitions of an internal topic.
//!
//! [`coordinators`] finds them, and [`led`] starts one beside each partition that this broker leads; [`handle`] reaches it,
//! [`replay()`] reads the partition from its start, [`writes`] appends to it, one write at a time; [`fields`] are what its
//! records are made of.

pub(crate) mod coordinators;
pub(crate) mod fields;
pub(crate) mod handle;
pub(crate) mod led;
mod replay;
#[cfg(test)]
mod testing;
pub(crate) mod writes;

pub(crate) use replay::{ReplayError, replay};
#[cfg(test)]
pub(crate) use replay::{Skipped, take_batches};

/// Returns the partition of an internal topic that a key belongs to: by the key's hash as Java makes it.
pub(crate) fn partition_of(key: &str, partitions: i32) -> i32 {
    let hash = key.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // The least integer has no positive counterpart; Kafka takes 0.
    hash.checked_abs()
        .unwrap_or(0)
        .checked_rem(partitions)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_by_javas_hash() {
        // "polygenelubricants".hashCode() is the least integer.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        // "hello".hashCode() is 99162322; "é𝄞".hashCode() counts three UTF-16 units.
        assert_eq!(partition_of("hello", 50), 99_162_322 % 50);
        assert_eq!(
            partition_of("é𝄞", 1_000_000_007),
            0xe9 * 31 * 31 + 0xd834 * 31 + 0xdd1e
        );
        assert_eq!(partition_of("anything", 0), 0);
    }
}
