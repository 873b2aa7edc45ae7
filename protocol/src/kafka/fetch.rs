//! Fetch: requests decoded and responses encoded by hand.

use std::ops::RangeInclusive;

/// The versions that the codec knows.
pub const VERSIONS: RangeInclusive<i16> = 4..=18;
