//! The bytes that requests of all connections together may hold in memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes shared by every connection when `queued.max.request.bytes` is not set.
const DEFAULT_BYTES: u32 = 256 * 1024 * 1024;
/// Frames up to this size have half of the budget to themselves.
const ORDINARY_FRAME: usize = 1024 * 1024;

/// Hands out bytes to frames and takes them back; who finds too few waits in line.
///
/// A frame is paid for when its size is known, long before it is there. So that a few clients that announce huge frames
/// and then stall cannot stop everyone else, ordinary and large frames draw on a half of their own.
#[derive(Debug, Clone)]
pub(crate) struct ByteBudget {
    ordinary: Lane,
    large: Lane,
}

#[derive(Debug, Clone)]
struct Lane {
    semaphore: Arc<Semaphore>,
    total: u32,
}

impl Lane {
    fn new(total: u32) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }
}

/// Bytes taken from the budget; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Reservation {
    _permit: Option<OwnedSemaphorePermit>,
}

impl ByteBudget {
    /// Makes a budget of `queued.max.request.bytes`; 0 and below stand for the default.
    pub(crate) fn new(queued_max_request_bytes: i64) -> Self {
        let total = match queued_max_request_bytes {
            ..=0 => DEFAULT_BYTES,
            bytes => u32::try_from(bytes).unwrap_or(u32::MAX),
        };
        let ordinary = total.div_ceil(2);
        Self {
            ordinary: Lane::new(ordinary),
            large: Lane::new((total - ordinary).max(1)),
        }
    }

    /// Waits until `bytes` are free and takes them.
    ///
    /// A frame larger than its half of the budget takes all of that: it proceeds, alone of its kind. Dropping the future
    /// gives its place in line up.
    pub(crate) async fn reserve(&self, bytes: usize) -> Reservation {
        let lane = if bytes <= ORDINARY_FRAME {
            &self.ordinary
        } else {
            &self.large
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(lane.total);
        // The semaphore is never closed, so there always is a permit.
        let permit = Arc::clone(&lane.semaphore)
            .acquire_many_owned(bytes)
            .await
            .ok();
        Reservation { _permit: permit }
    }

    /// Returns how many bytes nobody holds.
    #[cfg(test)]
    pub(crate) fn available(&self) -> usize {
        self.ordinary.semaphore.available_permits() + self.large.semaphore.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[actix_rt::test]
    async fn a_frame_waits_until_there_is_room_and_gives_it_back() {
        let budget = ByteBudget::new(200);
        let first = budget.reserve(80).await;
        assert!(budget.reserve(21).now_or_never().is_none());
        drop(first);
        let second = budget.reserve(21).now_or_never();
        assert!(second.is_some());
        assert_eq!(budget.available(), 179);
    }

    #[actix_rt::test]
    async fn a_frame_larger_than_the_budget_proceeds_alone() {
        let budget = ByteBudget::new(200);
        let small = budget.reserve(1).await;
        assert!(budget.reserve(1_000).now_or_never().is_none());
        drop(small);
        let large = budget.reserve(1_000).now_or_never();
        assert!(large.is_some());
        assert_eq!(budget.available(), 100);
    }

    #[actix_rt::test]
    async fn large_frames_that_stall_do_not_hold_up_ordinary_ones() {
        let budget = ByteBudget::new(8 * 1024 * 1024);
        let stalled = budget.reserve(100 * 1024 * 1024).await;
        assert!(budget.reserve(ORDINARY_FRAME + 1).now_or_never().is_none());
        assert!(budget.reserve(ORDINARY_FRAME).now_or_never().is_some());
        drop(stalled);
        assert_eq!(budget.available(), 8 * 1024 * 1024);
    }

    #[test]
    fn without_a_limit_there_is_one_all_the_same() {
        assert_eq!(ByteBudget::new(-1).available(), DEFAULT_BYTES as usize);
    }
}
