//! Group keys, each with the broker key that stands in for it (KIP-848, KIP-932).

use super::super::key::{Check, ConfigKey, keys};

/// Every key that a group can override.
pub(super) const GROUP: &[ConfigKey] = keys! {
    /// Where a share group begins in a partition that it never read: latest, earliest or by_duration:PnDTnHnMn.nS.
    "share.auto.offset.reset" String = "latest", Check::Any, ClusterWide, Used;
    /// How often members of the share group heartbeat.
    "share.heartbeat.interval.ms" Int = "5000", Check::Min(1), ClusterWide, Used
        <- [("group.share.heartbeat.interval.ms", 1)];
    /// Whether the share group gets records of transactions that are not committed.
    "share.isolation.level" String = "read_uncommitted", Check::OneOf(&["read_uncommitted", "read_committed"]), ClusterWide, Used;
    /// How long a member of the share group holds a record.
    "share.record.lock.duration.ms" Int = "30000", Check::Min(1000), ClusterWide, Used
        <- [("group.share.record.lock.duration.ms", 1)];
    /// After how long without heartbeat a member of the share group is out.
    "share.session.timeout.ms" Int = "45000", Check::Min(1), ClusterWide, Used
        <- [("group.share.session.timeout.ms", 1)];
};
