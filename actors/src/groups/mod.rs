//! Consumer groups and their offsets, kept in `__consumer_offsets` as Kafka keeps them.
//!
//! [`group`] is the classic group as a pure state machine, [`offsets`] what it has committed, [`records`] how both are
//! stored. [`GroupCoordinators`] finds the actor that a group lives in.

mod coordinator;
mod coordinators;
mod entry;
pub mod group;
#[cfg(test)]
mod group_tests;
pub mod join;
mod loader;
pub mod member;
#[cfg(test)]
mod model_tests;
pub mod offsets;
pub mod rebalance;
pub mod records;
pub(crate) mod requests;
pub mod session;
#[cfg(test)]
mod testing;
mod timers;
mod writes;

pub use coordinators::GroupCoordinators;

/// The topic that groups are stored in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Returns the partition of `__consumer_offsets` that a group belongs to, by its id's hash as Java makes it.
pub fn partition_of(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| {
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
    fn groups_are_spread_by_javas_hash() {
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
