//! The typed configuration of a topic.

use std::collections::BTreeMap;

use super::typed::{FromText, typed};
use super::{BrokerConfig, ConfigKey, InvalidConfig, Values, list, table};

/// What happens to old records; both may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted by time and size.
    pub delete: bool,
    /// Of each key only the latest record is kept.
    pub compact: bool,
}

impl Default for CleanupPolicy {
    fn default() -> Self {
        Self {
            delete: true,
            compact: false,
        }
    }
}

impl FromText for CleanupPolicy {
    fn from_text(text: &str) -> Option<Self> {
        let holds = |policy| list(text).any(|element| element == policy);
        Some(Self {
            delete: holds("delete"),
            compact: holds("compact"),
        })
    }
}

/// How batches are compressed in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    #[default]
    Producer,
    /// Not at all.
    Uncompressed,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl FromText for CompressionType {
    fn from_text(text: &str) -> Option<Self> {
        Some(match text.trim() {
            "producer" => Self::Producer,
            "uncompressed" => Self::Uncompressed,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }
}

/// Whose clock stamps the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's, at append.
    LogAppendTime,
}

impl FromText for TimestampType {
    fn from_text(text: &str) -> Option<Self> {
        match text.trim() {
            "CreateTime" => Some(Self::CreateTime),
            "LogAppendTime" => Some(Self::LogAppendTime),
            _ => None,
        }
    }
}

typed! {
    /// How a topic is kept: its overrides over the broker's values over the defaults.
    ///
    /// Times are in milliseconds, sizes in bytes; -1 means no limit.
    #[derive(Clone, Debug, PartialEq)]
    pub struct TopicConfig reads Resolved<'_> {
        cleanup_policy: CleanupPolicy = "cleanup.policy",
        compression_type: CompressionType = "compression.type",
        compression_gzip_level: i32 = "compression.gzip.level",
        compression_lz4_level: i32 = "compression.lz4.level",
        compression_zstd_level: i32 = "compression.zstd.level",
        delete_retention_ms: i64 = "delete.retention.ms",
        file_delete_delay_ms: i64 = "file.delete.delay.ms",
        flush_messages: i64 = "flush.messages",
        flush_ms: i64 = "flush.ms",
        index_interval_bytes: u64 = "index.interval.bytes",
        max_compaction_lag_ms: i64 = "max.compaction.lag.ms",
        max_message_bytes: usize = "max.message.bytes",
        message_downconversion_enable: bool = "message.downconversion.enable",
        message_timestamp_type: TimestampType = "message.timestamp.type",
        min_cleanable_dirty_ratio: f64 = "min.cleanable.dirty.ratio",
        min_compaction_lag_ms: i64 = "min.compaction.lag.ms",
        min_insync_replicas: usize = "min.insync.replicas",
        preallocate: bool = "preallocate",
        retention_bytes: i64 = "retention.bytes",
        retention_ms: i64 = "retention.ms",
        segment_bytes: u64 = "segment.bytes",
        segment_index_bytes: u64 = "segment.index.bytes",
        segment_jitter_ms: i64 = "segment.jitter.ms",
        segment_ms: i64 = "segment.ms",
        unclean_leader_election_enable: bool = "unclean.leader.election.enable",
    } and TimestampBounds {
        /// How far a record's time may lie after the broker's.
        message_timestamp_after_max_ms: i64,
        /// How far a record's time may lie before the broker's.
        message_timestamp_before_max_ms: i64,
    }
}

impl TopicConfig {
    /// Computes a topic's configuration from its overrides, which are checked, and the broker's values.
    pub fn parse(
        overrides: &BTreeMap<String, String>,
        broker: &BrokerConfig,
    ) -> Result<Self, InvalidConfig> {
        Self::resolve(overrides, &broker.values)
    }

    /// Computes what a topic without overrides has.
    pub(super) fn defaults(values: &Values) -> Result<Self, InvalidConfig> {
        Self::resolve(&BTreeMap::new(), values)
    }

    fn resolve(
        overrides: &BTreeMap<String, String>,
        values: &Values,
    ) -> Result<Self, InvalidConfig> {
        for (name, value) in overrides {
            let unknown = || InvalidConfig::UnknownName { name: name.clone() };
            table::topic_key(name)
                .ok_or_else(unknown)?
                .validate(value)?;
        }
        let source = Resolved { overrides, values };
        let config = Self::from_source(&source);
        let (min, max) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
        if min > max {
            return Err(InvalidConfig::Conflict(format!(
                "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
            )));
        }
        Ok(config)
    }

    fn from_source(source: &Resolved<'_>) -> Self {
        Self::assemble(source, TimestampBounds::from_source(source))
    }
}

impl TimestampBounds {
    /// Obeys the older `message.timestamp.difference.max.ms` where its two successors are not set (KIP-937).
    fn from_source(source: &Resolved<'_>) -> Self {
        let difference = source.read("message.timestamp.difference.max.ms");
        let bound = |name| {
            Some(source.read(name))
                .filter(|&bound| bound != i64::MAX)
                .unwrap_or(difference)
        };
        Self {
            message_timestamp_after_max_ms: bound("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: bound("message.timestamp.before.max.ms"),
        }
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self::from_source(&Resolved {
            overrides: &BTreeMap::new(),
            values: &Values::default(),
        })
    }
}

/// Answers topic keys by override, by broker key, by default.
pub(super) struct Resolved<'a> {
    pub(super) overrides: &'a BTreeMap<String, String>,
    pub(super) values: &'a Values,
}

impl Resolved<'_> {
    pub(super) fn text(&self, name: &str) -> Option<String> {
        if let Some(value) = self.overrides.get(name) {
            return Some(value.clone());
        }
        let key = table::topic_key(name)?;
        broker_level(key, self.values).or_else(|| key.default.map(str::to_owned))
    }

    fn read<T: FromText>(&self, name: &str) -> T {
        self.try_read(name).unwrap_or_default()
    }

    fn try_read<T: FromText>(&self, name: &str) -> Option<T> {
        self.text(name)
            .map_or_else(|| Some(T::default()), |text| T::from_text(&text))
    }
}

/// Returns what the broker keys behind a topic key say, in the unit of the topic key.
fn broker_level(key: &ConfigKey, values: &Values) -> Option<String> {
    key.synonyms
        .iter()
        .find_map(|&(name, factor)| converted(values.given_text(name)?, factor))
}

/// Converts a number to the unit of the topic key; negative numbers all mean no limit.
pub(super) fn converted(text: &str, factor: i64) -> Option<String> {
    if factor == 1 {
        return Some(text.trim().to_owned());
    }
    let number: i64 = text.trim().parse().ok()?;
    Some(
        if number < 0 {
            -1
        } else {
            number.saturating_mul(factor)
        }
        .to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(
        overrides: &[(&str, &str)],
        broker: &[(&str, &str)],
    ) -> Result<TopicConfig, InvalidConfig> {
        let pairs = overrides
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        TopicConfig::resolve(&pairs.collect(), &broker.iter().copied().collect())
    }

    #[test]
    fn every_default_fits_its_field() {
        let (overrides, values) = (BTreeMap::new(), Values::default());
        let source = Resolved {
            overrides: &overrides,
            values: &values,
        };
        assert_eq!(TopicConfig::misfits(&source), Vec::<&str>::new());
    }

    #[test]
    fn defaults_are_those_of_kafka() {
        let config = TopicConfig::default();
        assert_eq!(
            (
                config.segment_bytes,
                config.retention_ms,
                config.retention_bytes
            ),
            (1 << 30, 604_800_000, -1)
        );
        assert_eq!(
            config.cleanup_policy,
            CleanupPolicy {
                delete: true,
                compact: false
            }
        );
        assert_eq!(
            (config.max_message_bytes, config.flush_messages),
            (1_048_588, i64::MAX)
        );
        assert_eq!(topic(&[], &[]), Ok(config));
    }

    #[test]
    fn an_override_wins_over_the_broker_and_the_broker_over_the_default() {
        let broker = [
            ("log.segment.bytes", "1000"),
            ("log.index.interval.bytes", "77"),
        ];
        let config = topic(&[("segment.bytes", "500")], &broker).unwrap();
        assert_eq!(
            (
                config.segment_bytes,
                config.index_interval_bytes,
                config.segment_index_bytes
            ),
            (500, 77, 10_485_760)
        );
    }

    #[test]
    fn the_finer_unit_wins() {
        let retention = |broker: &[(&str, &str)]| topic(&[], broker).unwrap().retention_ms;
        assert_eq!(retention(&[("log.retention.hours", "2")]), 7_200_000);
        assert_eq!(
            retention(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]),
            180_000
        );
        assert_eq!(
            retention(&[("log.retention.minutes", "3"), ("log.retention.ms", "4")]),
            4
        );
        assert_eq!(retention(&[("log.retention.hours", "-1")]), -1);
    }

    #[test]
    fn policies_combine() {
        let policy =
            |text| topic(&[("cleanup.policy", text)], &[]).map(|config| config.cleanup_policy);
        assert_eq!(
            policy("compact, delete"),
            Ok(CleanupPolicy {
                delete: true,
                compact: true
            })
        );
        assert_eq!(
            policy("compact"),
            Ok(CleanupPolicy {
                delete: false,
                compact: true
            })
        );
    }

    #[test]
    fn the_older_timestamp_bound_stands_in_for_both() {
        let config = topic(
            &[
                ("message.timestamp.difference.max.ms", "5"),
                ("message.timestamp.after.max.ms", "9"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(
            (
                config.message_timestamp_before_max_ms,
                config.message_timestamp_after_max_ms
            ),
            (5, 9)
        );
    }

    #[test]
    fn errors_read_as_those_of_kafka() {
        let error = |name, value| topic(&[(name, value)], &[]).unwrap_err().to_string();
        assert_eq!(
            error("retention.sm", "1"),
            "Unknown topic config name: retention.sm"
        );
        assert_eq!(
            error("retention.ms", "-2"),
            "Invalid value -2 for configuration retention.ms: Value must be at least -1"
        );
        assert_eq!(
            error("retention.ms", "soon"),
            "Invalid value soon for configuration retention.ms: Not a number of type LONG"
        );
        assert_eq!(
            error("cleanup.policy", "delete,shred"),
            "Invalid value shred for configuration cleanup.policy: String must be one of: compact, delete"
        );
        assert_eq!(
            error("preallocate", "yes"),
            "Invalid value yes for configuration preallocate: Expected value to be either true or false"
        );
        assert_eq!(
            error("min.cleanable.dirty.ratio", "1.5"),
            "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1"
        );
        assert_eq!(
            topic(
                &[
                    ("min.compaction.lag.ms", "10"),
                    ("max.compaction.lag.ms", "5")
                ],
                &[]
            )
            .unwrap_err()
            .to_string(),
            "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"
        );
    }
}
