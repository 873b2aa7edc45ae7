//! What a log needs to know of its topic's configuration.

/// Plain values, named as the topic configurations that they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        }
    }
}
