//! When a log is flushed: after `flush.messages` records, `flush.ms` after the first unflushed one, or when asked.
//!
//! Pure: one flush runs at a time, and what arrives meanwhile goes with the next one (group commit).

/// What is known of the flushes of one log.
#[derive(Debug, Default)]
pub(super) struct FlushState {
    /// Records appended since the last flush began.
    unflushed: u64,
    running: bool,
    /// Whether the timer of `flush.ms` runs.
    timed: bool,
}

impl FlushState {
    /// Counts appended records. Returns whether they have to be flushed before their producer is answered, which is
    /// when `limit` (`flush.messages`) is reached.
    pub(super) fn appended(&mut self, records: u64, limit: u64) -> bool {
        self.unflushed = self.unflushed.saturating_add(records);
        self.unflushed >= limit
    }

    /// Starts a flush of everything appended so far; false when one is running already.
    pub(super) fn begin(&mut self) -> bool {
        if self.running {
            return false;
        }
        self.running = true;
        self.unflushed = 0;
        true
    }

    /// Takes note that the running flush ended.
    pub(super) fn end(&mut self) {
        self.running = false;
    }

    /// Starts the timer of `flush.ms`; false when it runs already.
    pub(super) fn start_timer(&mut self) -> bool {
        !std::mem::replace(&mut self.timed, true)
    }

    /// Takes note that the timer ran out. Returns whether there is something to flush.
    pub(super) fn timer_ended(&mut self) -> bool {
        self.timed = false;
        self.unflushed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_flushed_before_its_answer_with_a_limit_of_one() {
        let mut flush = FlushState::default();
        assert!(flush.appended(1, 1));
        assert!(flush.begin());
        assert!(flush.appended(1, 1), "a running flush began before");
        assert!(!flush.begin(), "one at a time");
        flush.end();
        assert!(flush.begin());
    }

    #[test]
    fn the_record_that_reaches_the_limit_waits() {
        let mut flush = FlushState::default();
        assert!(!flush.appended(9, 10));
        assert!(flush.appended(1, 10));
        assert!(flush.begin());
        flush.end();
        assert!(!flush.appended(9, 10));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let mut flush = FlushState::default();
        assert!(!flush.appended(1 << 40, i64::MAX as u64));
    }

    #[test]
    fn the_timer_runs_once_and_flushes_what_is_there() {
        let mut flush = FlushState::default();
        flush.appended(1, u64::MAX);
        assert!(flush.start_timer());
        assert!(!flush.start_timer());
        assert!(flush.timer_ended());
        assert!(flush.start_timer());
        assert!(flush.begin());
        assert!(!flush.timer_ended(), "another flush took it along");
    }
}
