//! Producer ids, taken from the cluster a thousand at a time.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::Mutex;
use troupe_protocol::kafka::errors::ErrorCode;

use crate::coordination::schema::{ProducerIdBlock, from_json, to_json};
use crate::coordination::{CoordinationError, SharedSession, paths};
use crate::metadata::BrokerId;

/// Producer ids that a broker takes at a time, as Kafka does.
const PER_BLOCK: i64 = 1_000;

/// Hands out producer ids; clones share one block.
#[derive(Clone)]
pub struct ProducerIds {
    broker_id: BrokerId,
    session: SharedSession,
    /// What is left of the block.
    block: Arc<Mutex<RangeInclusive<i64>>>,
}

impl ProducerIds {
    /// Starts with nothing: the first request takes a block.
    pub fn new(broker_id: BrokerId, session: SharedSession) -> Self {
        #[expect(clippy::reversed_empty_ranges, reason = "an empty block")]
        let nothing = 0..=-1;
        Self {
            broker_id,
            session,
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
        *block = self.take_block().await.map_err(|error| {
            tracing::error!("no producer ids can be had: {error}");
            ErrorCode::CoordinatorLoadInProgress
        })?;
        block.next().ok_or(ErrorCode::CoordinatorLoadInProgress)
    }

    /// Takes the next block for this broker.
    async fn take_block(&self) -> Result<RangeInclusive<i64>, CoordinationError> {
        let client = self.session.lend()?;
        let path = paths::PRODUCER_ID_BLOCK;
        loop {
            let (start, version) = match client.get(path).await? {
                Some((data, stat)) if data.is_empty() => (0, stat.version),
                Some((data, stat)) => {
                    let block: ProducerIdBlock = from_json(path, &data)?;
                    let end: i64 = block.block_end.parse().unwrap_or(i64::MAX - 1);
                    (end.saturating_add(1), stat.version)
                }
                None => {
                    client.create_if_missing(path, b"").await?;
                    continue;
                }
            };
            let end = start.saturating_add(PER_BLOCK - 1);
            let block = to_json(&ProducerIdBlock {
                version: 1,
                broker: self.broker_id,
                block_start: start.to_string(),
                block_end: end.to_string(),
            });
            match client.set(path, &block, Some(version)).await {
                Ok(_) => return Ok(start..=end),
                // Another broker took that block; the next one may be ours.
                Err(CoordinationError::Service(zookeeper_client::Error::BadVersion)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
