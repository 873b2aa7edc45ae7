//! Produce: requests decoded and responses encoded by hand.

use std::ops::RangeInclusive;

/// The versions that the codec knows. Message sets (v0 to v2) are not read yet.
pub const VERSIONS: RangeInclusive<i16> = 3..=13;
