//! Producers that wait for an offset to be reached: by the high watermark (acks=all), or by a flush.
//!
//! Pure: who is released is decided here, what they are told by the caller.

use std::collections::BTreeMap;

use super::Reply;
use super::messages::{Acks, Appended};

/// Below this many waiters nobody looks for abandoned ones.
const PURGE_AT_LEAST: usize = 64;

/// A producer that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    /// What it will be told.
    pub(super) appended: Appended,
    /// What it asked for.
    pub(super) acks: Acks,
    /// Where it hears.
    pub(super) reply: Reply<Appended>,
}

/// Waiters by the offset that has to be reached.
///
/// Those that gave up (their end of the reply is closed) are dropped whenever the number has doubled, so the number
/// stays within twice that of the requests that are really in flight.
#[derive(Debug)]
pub(super) struct Waiters {
    /// The number breaks ties in order of arrival.
    waiting: BTreeMap<(i64, u64), Waiter>,
    arrived: u64,
    purge_at: usize,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            arrived: 0,
            purge_at: PURGE_AT_LEAST,
        }
    }
}

impl Waiters {
    /// Adds one that waits until `offset` is reached.
    pub(super) fn add(&mut self, offset: i64, waiter: Waiter) {
        if self.waiting.len() >= self.purge_at {
            self.waiting.retain(|_, waiter| !waiter.reply.is_closed());
            self.purge_at = (2 * self.waiting.len()).max(PURGE_AT_LEAST);
        }
        self.waiting.insert((offset, self.arrived), waiter);
        self.arrived += 1;
    }

    /// Takes out the next one whose offset is at most `reached`: lowest offset first, then order of arrival.
    pub(super) fn release(&mut self, reached: i64) -> Option<(i64, Waiter)> {
        let next = self.waiting.first_entry()?;
        let offset = next.key().0;
        (offset <= reached).then(|| (offset, next.remove()))
    }

    /// Takes out everyone.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiter> {
        std::mem::take(&mut self.waiting).into_values()
    }

    /// Tells whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::sync::oneshot;

    fn waiter(base_offset: i64) -> (Waiter, oneshot::Receiver<super::super::Answer<Appended>>) {
        let (reply, answer) = oneshot::channel();
        let appended = Appended {
            base_offset,
            log_append_time_ms: -1,
            log_start_offset: 0,
        };
        let acks = Acks::All;
        (
            Waiter {
                appended,
                acks,
                reply,
            },
            answer,
        )
    }

    fn released(waiters: &mut Waiters, reached: i64) -> Vec<i64> {
        std::iter::from_fn(|| waiters.release(reached))
            .map(|(offset, _)| offset)
            .collect()
    }

    #[test]
    fn those_who_gave_up_are_not_kept() {
        let mut waiters = Waiters::default();
        for offset in 0..100_000 {
            // The answer's end is dropped at once.
            waiters.add(offset, waiter(offset).0);
        }
        assert!(waiters.len() <= PURGE_AT_LEAST, "{}", waiters.len());
    }

    #[test]
    fn one_offset_is_released_in_order_of_arrival() {
        let mut waiters = Waiters::default();
        for base_offset in [7, 3, 5] {
            waiters.add(10, waiter(base_offset).0);
        }
        let order: Vec<_> = std::iter::from_fn(|| waiters.release(10))
            .map(|(_, waiter)| waiter.appended.base_offset)
            .collect();
        assert_eq!(order, [7, 3, 5]);
    }

    proptest! {
        #[test]
        fn exactly_those_at_or_below_are_released(offsets in prop::collection::vec(0i64..50, 0..60), reached in 0i64..50) {
            let mut waiters = Waiters::default();
            let mut answers = Vec::new();
            for &offset in &offsets {
                let (waiter, answer) = waiter(offset);
                answers.push(answer);
                waiters.add(offset, waiter);
            }
            let mut expected: Vec<_> = offsets.iter().copied().filter(|&offset| offset <= reached).collect();
            expected.sort_unstable();
            prop_assert_eq!(released(&mut waiters, reached), expected.clone());
            prop_assert_eq!(waiters.len(), offsets.len() - expected.len());
        }
    }
}
