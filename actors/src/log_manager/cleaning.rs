//! The decisions of the log cleaners: which log comes next, how much memory it gets, how long to pause.

use std::time::Duration;

use crate::config::BrokerConfig;
use crate::log::cleaner::{Cleanable, Limits};

/// How long a log is left alone after its compaction failed, unless it is corrupt: then for good.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(300);

/// Returns the log of which the largest part was not compacted yet, among those that are due.
pub(super) fn filthiest<T>(logs: impl IntoIterator<Item = (T, Cleanable)>) -> Option<T> {
    logs.into_iter()
        .filter(|(_, cleanable)| cleanable.is_due())
        .max_by(|(_, one), (_, other)| one.dirty_ratio().total_cmp(&other.dirty_ratio()))
        .map(|(log, _)| log)
}

/// Returns each cleaner's share of the memory.
pub(super) fn limits(config: &BrokerConfig) -> Limits {
    let cleaners = config.log_cleaner_threads.max(1);
    Limits {
        map_bytes: config.log_cleaner_dedupe_buffer_size / cleaners as u64,
        load_factor: config.log_cleaner_io_buffer_load_factor,
        // One half for what is read, one for what is written.
        buffer_bytes: config.log_cleaner_io_buffer_size / cleaners / 2,
    }
}

/// Keeps the bytes that all cleaners together read and write below a rate.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: f64,
    /// When everything so far would have been done at exactly that rate.
    due: Duration,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: f64) -> Self {
        Self {
            bytes_per_second,
            due: Duration::ZERO,
        }
    }

    /// Takes note of bytes at the time `now`; returns how long to pause.
    pub(super) fn charge(&mut self, bytes: u64, now: Duration) -> Duration {
        let seconds = bytes as f64 / self.bytes_per_second;
        // A rate of zero would mean never: an hour for each piece says so, and can be stopped.
        let takes = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(3600));
        self.due = self.due.max(now).saturating_add(takes);
        self.due.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(clean_bytes: u64, dirty_bytes: u64, overdue: bool) -> Cleanable {
        Cleanable {
            clean_bytes,
            dirty_bytes,
            overdue,
            min_dirty_ratio: 0.5,
        }
    }

    #[test]
    fn the_filthiest_comes_first() {
        let logs = [log(50, 51, false), log(10, 90, false), log(1, 5, false)];
        assert_eq!(filthiest(logs.into_iter().enumerate()), Some(1));
    }

    #[test]
    fn what_is_not_due_does_not_come() {
        let logs = [log(50, 50, false), log(0, 0, true), log(0, 0, false)];
        assert_eq!(filthiest(logs.into_iter().enumerate()), None);
        let logs = [log(50, 50, false), log(99, 1, true)];
        assert_eq!(filthiest(logs.into_iter().enumerate()), Some(1));
    }

    #[test]
    fn cleaners_share_the_memory() {
        let config = BrokerConfig::from_values(
            [
                ("log.cleaner.threads", "4"),
                ("log.cleaner.dedupe.buffer.size", "4000"),
                ("log.cleaner.io.buffer.size", "800"),
            ]
            .into_iter()
            .collect(),
        )
        .unwrap();
        let limits = limits(&config);
        assert_eq!((limits.map_bytes, limits.buffer_bytes), (1000, 100));
    }

    #[test]
    fn the_rate_is_kept_and_saves_nothing_up() {
        let mut throttle = Throttle::new(100.0);
        let at = Duration::from_secs;
        assert_eq!(throttle.charge(200, at(10)), at(2));
        assert_eq!(throttle.charge(100, at(11)), at(2));
        assert_eq!(throttle.charge(100, at(100)), at(1));
        let mut none = Throttle::new(f64::MAX);
        assert_eq!(none.charge(u64::MAX, at(1)), Duration::ZERO);
        assert_eq!(Throttle::new(0.0).charge(1, at(1)), at(3600));
    }
}
