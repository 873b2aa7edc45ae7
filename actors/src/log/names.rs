//! Spells every name in a log directory: segment files, partition directories, checkpoints.
//!
//! All names are Kafka's, so that its tools and brokers find their way.

use std::path::{Path, PathBuf};

/// Holds the pid of the process that owns a log directory.
pub const LOCK: &str = ".lock";
/// Says that the last owner of a log directory closed every log in it.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Says to which broker and cluster a log directory belongs.
pub const META_PROPERTIES: &str = "meta.properties";
/// Lists, per partition, the offset up to which the log is known to be on disk.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// Lists high watermarks.
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// Lists log start offsets that lie above the first segment's base.
pub const LOG_START_OFFSETS: &str = "log-start-offset-checkpoint";
/// Lists up to where compacted logs were cleaned.
pub const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// Lists a partition's leader epochs and where each began.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// Holds a partition's topic id.
pub const PARTITION_METADATA: &str = "partition.metadata";

/// Marks a file that is to be removed.
pub const DELETED: &str = ".deleted";
/// Marks the unfinished result of a compaction.
pub const CLEANED: &str = ".cleaned";
/// Marks the finished result of a compaction that has not replaced its origin yet.
pub const SWAP: &str = ".swap";

/// The longest name that common file systems take.
const NAME_MAX: usize = 255;

/// What a segment file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// `.log`: record batches.
    Log,
    /// `.index`: offsets to positions.
    Index,
    /// `.timeindex`: timestamps to offsets.
    TimeIndex,
    /// `.txnindex`: aborted transactions.
    TxnIndex,
    /// `.snapshot`: producer state at the offset that the name says.
    Snapshot,
}

impl FileKind {
    /// All kinds.
    pub const ALL: [FileKind; 5] = [
        FileKind::Log,
        FileKind::Index,
        FileKind::TimeIndex,
        FileKind::TxnIndex,
        FileKind::Snapshot,
    ];

    /// Those that hold a segment; a snapshot belongs to an offset.
    pub const OF_SEGMENT: [FileKind; 4] = [
        FileKind::Log,
        FileKind::Index,
        FileKind::TimeIndex,
        FileKind::TxnIndex,
    ];

    /// Returns the file name's ending, with its dot.
    pub fn suffix(self) -> &'static str {
        match self {
            FileKind::Log => ".log",
            FileKind::Index => ".index",
            FileKind::TimeIndex => ".timeindex",
            FileKind::TxnIndex => ".txnindex",
            FileKind::Snapshot => ".snapshot",
        }
    }
}

/// Returns the path of a segment file: twenty digits and a suffix.
pub fn segment_file(dir: &Path, offset: i64, kind: FileKind) -> PathBuf {
    dir.join(format!("{offset:020}{}", kind.suffix()))
}

/// Reads a segment file's name; `None` for any other name, also for those marked deleted, cleaned or swap.
pub fn parse_segment_file(name: &str) -> Option<(i64, FileKind)> {
    let (digits, _) = name.split_once('.')?;
    let suffix = name.get(digits.len()..)?;
    let kind = FileKind::ALL
        .into_iter()
        .find(|kind| kind.suffix() == suffix)?;
    if digits.len() != 20 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, kind))
}

/// Returns `path` with `suffix` after it.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What a partition directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DirKind {
    /// A replica.
    Live,
    /// To be removed: `-delete`.
    Delete,
    /// A replica that the cluster does not know: `-stray`.
    Stray,
    /// A replica that is being moved here from another log directory: `-future`.
    Future,
}

impl DirKind {
    fn suffix(self) -> &'static str {
        match self {
            DirKind::Live => "",
            DirKind::Delete => "-delete",
            DirKind::Stray => "-stray",
            DirKind::Future => "-future",
        }
    }
}

/// A partition directory's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionDir {
    /// The topic; cut off at its end where the whole name would have been too long.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What it is for.
    pub kind: DirKind,
}

/// Returns the name of a replica's directory.
pub fn partition_dir(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// Returns the name that a replica's directory gets for `kind`, with `unique` (128 bits) as 32 hex digits.
///
/// The topic is cut at its end so that the name stays within 255 bytes.
pub fn marked_partition_dir(topic: &str, partition: i32, unique: u128, kind: DirKind) -> String {
    let ending = match kind {
        DirKind::Live => return partition_dir(topic, partition),
        marked => format!("-{partition}.{unique:032x}{}", marked.suffix()),
    };
    let room = NAME_MAX.saturating_sub(ending.len());
    // Topic names are ASCII; a name that is not has no partition directory to begin with.
    let topic = topic.get(..topic.len().min(room)).unwrap_or(topic);
    format!("{topic}{ending}")
}

/// Reads a partition directory's name; `None` when it is not one.
pub fn parse_partition_dir(name: &str) -> Option<PartitionDir> {
    let (name, kind) = unmark(name)?;
    let (topic, partition) = name.rsplit_once('-')?;
    let digits = !partition.is_empty() && partition.bytes().all(|digit| digit.is_ascii_digit());
    if topic.is_empty() || !digits {
        return None;
    }
    Some(PartitionDir {
        topic: topic.to_owned(),
        partition: partition.parse().ok()?,
        kind,
    })
}

fn unmark(name: &str) -> Option<(&str, DirKind)> {
    for kind in [DirKind::Delete, DirKind::Stray, DirKind::Future] {
        if let Some(rest) = name.strip_suffix(kind.suffix()) {
            let (rest, unique) = rest.rsplit_once('.')?;
            let hex = unique.len() == 32 && unique.bytes().all(|digit| digit.is_ascii_hexdigit());
            return hex.then_some((rest, kind));
        }
    }
    Some((name, DirKind::Live))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_files_have_twenty_digits() {
        let path = segment_file(Path::new("/d/t-0"), 368_769, FileKind::TimeIndex);
        assert_eq!(path, Path::new("/d/t-0/00000000000000368769.timeindex"));
        for kind in FileKind::ALL {
            let path = segment_file(Path::new(""), i64::MAX, kind);
            let name = path.to_str().unwrap();
            assert_eq!(parse_segment_file(name), Some((i64::MAX, kind)));
        }
    }

    #[test]
    fn other_files_are_not_segments() {
        for name in [
            "",
            ".log",
            "1.log",
            "00000000000000000000",
            "00000000000000000000.log.deleted",
            "00000000000000000000.snapshot.deleted",
            "99999999999999999999.log",
            "+0000000000000000001.log",
            LEADER_EPOCHS,
            PARTITION_METADATA,
        ] {
            assert_eq!(parse_segment_file(name), None, "{name}");
        }
    }

    #[test]
    fn partition_directories() {
        let parsed = parse_partition_dir("my-topic-12").unwrap();
        assert_eq!(
            (parsed.topic.as_str(), parsed.partition, parsed.kind),
            ("my-topic", 12, DirKind::Live)
        );
        for name in [
            "topic",
            "topic-",
            "-1",
            "topic-x",
            "topic-99999999999",
            "t-1.zz-delete",
        ] {
            assert_eq!(parse_partition_dir(name), None, "{name}");
        }
    }

    #[test]
    fn marked_directories_stay_within_the_limit() {
        let name = marked_partition_dir("t", 3, 0xabc, DirKind::Delete);
        assert_eq!(name, "t-3.00000000000000000000000000000abc-delete");
        assert_eq!(parse_partition_dir(&name).unwrap().kind, DirKind::Delete);
        let long = "x".repeat(249);
        for kind in [DirKind::Delete, DirKind::Stray, DirKind::Future] {
            let name = marked_partition_dir(&long, 100_000, u128::MAX, kind);
            assert_eq!(name.len(), 255);
            let parsed = parse_partition_dir(&name).unwrap();
            assert_eq!((parsed.partition, parsed.kind), (100_000, kind));
        }
    }
}
