//! When which group has to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Deadlines of groups, in milliseconds of the monotonic clock.
///
/// A deadline may come too early: heartbeats move the real one away without telling. Then the group is looked at in
/// vain, once per session timeout, and that is all that a heartbeat costs here.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(i64, Arc<str>)>,
    by_group: BTreeMap<Arc<str>, i64>,
}

impl Timers {
    /// Has a group looked at by `deadline_ms` at the latest.
    pub(super) fn set(&mut self, group: &Arc<str>, deadline_ms: i64) {
        match self.by_group.get(group) {
            Some(&earlier_ms) if earlier_ms <= deadline_ms => return,
            Some(&later_ms) => {
                self.by_time.remove(&(later_ms, Arc::clone(group)));
            }
            None => {}
        }
        self.by_group.insert(Arc::clone(group), deadline_ms);
        self.by_time.insert((deadline_ms, Arc::clone(group)));
    }

    /// Returns the first deadline.
    pub(super) fn first(&self) -> Option<i64> {
        self.by_time.first().map(|&(deadline_ms, _)| deadline_ms)
    }

    /// Takes out a group that is due.
    pub(super) fn pop(&mut self, now_ms: i64) -> Option<Arc<str>> {
        self.first().filter(|&deadline_ms| deadline_ms <= now_ms)?;
        let (_, group) = self.by_time.pop_first()?;
        self.by_group.remove(&group);
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_of_a_group_counts() {
        let mut timers = Timers::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        timers.set(&a, 10);
        timers.set(&b, 7);
        timers.set(&a, 20);
        timers.set(&b, 5);
        assert_eq!(timers.first(), Some(5));
        assert_eq!(timers.pop(4), None);
        assert_eq!(timers.pop(10), Some(b));
        assert_eq!(timers.pop(10), Some(Arc::clone(&a)));
        assert_eq!(timers.pop(i64::MAX), None);
        timers.set(&a, 20);
        assert_eq!(timers.first(), Some(20));
    }
}
