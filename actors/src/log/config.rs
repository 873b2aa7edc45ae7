//! What a log needs to know of its topic's configuration.

/// Plain values, named as the topic configurations that they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// A batch that would make a segment longer starts a new one.
    pub segment_bytes: u64,
    /// A segment whose first batch is older than this takes no more.
    pub segment_ms: i64,
    /// At most so much sooner, another amount for each segment, so that not all roll at once.
    pub segment_jitter_ms: i64,
    /// The size of an index file while it is written to.
    pub segment_index_bytes: u64,
    /// An index entry is made after more than so many bytes.
    pub index_interval_bytes: u64,
    /// Records older than this are deleted; -1 for never.
    pub retention_ms: i64,
    /// The oldest segments are deleted while the rest is at least this long; -1 for never.
    pub retention_bytes: i64,
    /// How long deleted files stay.
    pub file_delete_delay_ms: i64,
    /// Whether a segment takes its disk blocks in advance.
    pub preallocate: bool,
    /// Whether `cleanup.policy` has `delete`: if not, only what lies below the log start offset goes.
    pub cleanup_delete: bool,
    /// Whether `cleanup.policy` has `compact`.
    pub cleanup_compact: bool,
    /// How long tombstones and markers stay after they were first compacted.
    pub delete_retention_ms: i64,
    /// Segments with a record younger than this are not compacted.
    pub min_compaction_lag_ms: i64,
    /// The log is due for compaction once a record that was never compacted is older than this.
    pub max_compaction_lag_ms: i64,
    /// The log is due for compaction when more than this share of it was never compacted.
    pub min_cleanable_dirty_ratio: f64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            preallocate: false,
            cleanup_delete: true,
            cleanup_compact: false,
            delete_retention_ms: 86_400_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
        }
    }
}
