//! Producer ids, taken from the cluster a thousand at a time.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::Mutex;
use troupe_protocol::kafka::errors::ErrorCode;

use crate::controller::ControllerHandle;

/// Hands out producer ids; clones share one block.
#[derive(Clone)]
pub struct ProducerIds {
    controller: ControllerHandle,
    /// What is left of the block.
    block: Arc<Mutex<RangeInclusive<i64>>>,
}

impl ProducerIds {
    /// Starts with nothing: the first request takes a block.
    pub fn new(controller: ControllerHandle) -> Self {
        #[expect(clippy::reversed_empty_ranges, reason = "an empty block")]
        let nothing = 0..=-1;
        Self {
            controller,
            block: Arc::new(Mutex::new(nothing)),
        }
    }

    /// Returns an id that no producer of this cluster has had.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS when no block can be had now, as Kafka answers.
    pub async fn next(&self) -> Result<i64, ErrorCode> {
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(id);
        }
        let (first, last) = self
            .controller
            .allocate_producer_ids()
            .await
            .map_err(|_| ErrorCode::CoordinatorLoadInProgress)?;
        *block = first..=last;
        block.next().ok_or(ErrorCode::CoordinatorLoadInProgress)
    }
}
