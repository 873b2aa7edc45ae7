//! The typed configuration of a group: its overrides over the broker's values.

use std::collections::BTreeMap;

use super::{BrokerConfig, InvalidConfig, table};
use crate::share::OffsetReset;

/// What a share group is told to be. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSettings {
    /// `share.auto.offset.reset`
    pub auto_offset_reset: OffsetReset,
    /// `share.isolation.level`
    pub read_committed: bool,
    /// `share.record.lock.duration.ms`
    pub record_lock_duration_ms: i64,
    /// `share.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `share.session.timeout.ms`
    pub session_timeout_ms: i32,
}

impl GroupSettings {
    /// Reads the settings of a group. Values are checked before they are stored; one that does not fit any more counts
    /// as not given, and one that is out of the broker's bounds as the nearest that is not.
    pub fn of(overrides: Option<&BTreeMap<String, String>>, broker: &BrokerConfig) -> Self {
        let text = |name| Some(overrides?.get(name)?.trim());
        let number = |name, given: i32, least: i32, most: i32| {
            let own = text(name).and_then(|text| text.parse().ok());
            own.unwrap_or(given).clamp(least, most.max(least))
        };
        let reset = text("share.auto.offset.reset").and_then(OffsetReset::parse);
        Self {
            auto_offset_reset: reset.unwrap_or(OffsetReset::Latest),
            read_committed: text("share.isolation.level") == Some("read_committed"),
            record_lock_duration_ms: number(
                "share.record.lock.duration.ms",
                broker.group_share_record_lock_duration_ms,
                broker
                    .group_share_min_record_lock_duration_ms
                    .min(broker.group_share_record_lock_duration_ms),
                broker.group_share_max_record_lock_duration_ms,
            )
            .into(),
            heartbeat_interval_ms: number(
                "share.heartbeat.interval.ms",
                broker.group_share_heartbeat_interval_ms,
                broker
                    .group_share_min_heartbeat_interval_ms
                    .min(broker.group_share_heartbeat_interval_ms),
                broker.group_share_max_heartbeat_interval_ms,
            ),
            session_timeout_ms: number(
                "share.session.timeout.ms",
                broker.group_share_session_timeout_ms,
                broker
                    .group_share_min_session_timeout_ms
                    .min(broker.group_share_session_timeout_ms),
                broker.group_share_max_session_timeout_ms,
            ),
        }
    }

    /// Checks overrides before they are stored.
    pub fn check(
        overrides: &BTreeMap<String, String>,
        broker: &BrokerConfig,
    ) -> Result<(), InvalidConfig> {
        for (name, value) in overrides {
            let key = table::group_key(name).ok_or_else(|| {
                InvalidConfig::Conflict(format!("Unknown group config name: {name}"))
            })?;
            key.validate(value)?;
            if name == "share.auto.offset.reset" && OffsetReset::parse(value.trim()).is_none() {
                let expected = "Invalid share.auto.offset.reset strategy";
                return Err(InvalidConfig::value(name, value, expected));
            }
            for (bound, limit, is_least) in bounds(name, broker) {
                let number: i64 = value.trim().parse().unwrap_or(0);
                if (is_least && number < limit) || (!is_least && number > limit) {
                    let relation = if is_least { "greater" } else { "less" };
                    return Err(InvalidConfig::Conflict(format!(
                        "{name} must be {relation} than or equal to {bound}"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Lists the broker's bounds of a group key: the key, its value, and whether it is the least.
fn bounds(name: &str, broker: &BrokerConfig) -> Vec<(&'static str, i64, bool)> {
    let (least, most) = match name {
        "share.heartbeat.interval.ms" => (
            (
                "group.share.min.heartbeat.interval.ms",
                broker.group_share_min_heartbeat_interval_ms,
            ),
            (
                "group.share.max.heartbeat.interval.ms",
                broker.group_share_max_heartbeat_interval_ms,
            ),
        ),
        "share.record.lock.duration.ms" => (
            (
                "group.share.min.record.lock.duration.ms",
                broker.group_share_min_record_lock_duration_ms,
            ),
            (
                "group.share.max.record.lock.duration.ms",
                broker.group_share_max_record_lock_duration_ms,
            ),
        ),
        "share.session.timeout.ms" => (
            (
                "group.share.min.session.timeout.ms",
                broker.group_share_min_session_timeout_ms,
            ),
            (
                "group.share.max.session.timeout.ms",
                broker.group_share_max_session_timeout_ms,
            ),
        ),
        _ => return Vec::new(),
    };
    vec![
        (least.0, least.1.into(), true),
        (most.0, most.1.into(), false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_group_has_the_brokers_values_unless_it_has_its_own() {
        let broker = BrokerConfig::default();
        let inherited = GroupSettings::of(None, &broker);
        assert_eq!(inherited.auto_offset_reset, OffsetReset::Latest);
        assert_eq!(inherited.record_lock_duration_ms, 30_000);
        assert_eq!(inherited.session_timeout_ms, 45_000);
        let own = overrides("share.record.lock.duration.ms", "20000");
        let own = GroupSettings::of(Some(&own), &broker);
        assert_eq!(own.record_lock_duration_ms, 20_000);
        let own = overrides("share.auto.offset.reset", "earliest");
        let own = GroupSettings::of(Some(&own), &broker);
        assert_eq!(own.auto_offset_reset, OffsetReset::Earliest);
    }

    #[test]
    fn values_are_checked() {
        let check = |name, value| {
            let checked = GroupSettings::check(&overrides(name, value), &BrokerConfig::default());
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check("share.auto.offset.reset", "by_duration:PT1H"), Ok(()));
        for (name, value, part) in [
            ("share.auto.offset.reset", "none", "strategy"),
            ("share.isolation.level", "dirty", "String must be one of"),
            ("share.record.lock.duration.ms", "2000", "min.record.lock"),
            ("share.record.lock.duration.ms", "90000", "max.record.lock"),
            ("share.session.timeout.ms", "x", "Not a number"),
            ("retention.ms", "1", "Unknown group config name"),
        ] {
            let error = check(name, value).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
