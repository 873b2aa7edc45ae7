//! Reads a partition of an internal topic from its start to its end.

use tokio::sync::oneshot;
use troupe_protocol::kafka::errors::ErrorCode;

use crate::partition::PartitionHandle;
use crate::partition::messages::{Read, ReadResult, Reader};

/// Why a partition can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("the partition answers {0}")]
    Partition(#[from] ErrorCode),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Hands the whole log to `take`, about `max_bytes` of whole batches at a time. `take` returns the offset after the last
/// batch that it could read.
///
/// Only for actors on the thread of that partition: files are read here and now.
pub(crate) async fn replay(
    partition: &PartitionHandle,
    max_bytes: usize,
    mut take: impl FnMut(&[u8]) -> Option<i64>,
) -> Result<(), ReplayError> {
    let mut offset = partition.progress().log_start_offset;
    loop {
        let (reply, answer) = oneshot::channel();
        let read = Read {
            offset,
            max_bytes: max_bytes as u64,
            at_least_one: true,
            reader: Reader::Debug,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            reply,
        };
        partition.send(read).await?;
        let ReadResult { error, records, .. } =
            answer.await.map_err(|_| ErrorCode::KafkaStorageError)?;
        if error.is_error() {
            return Err(error.into());
        }
        let Some(records) = records.filter(|records| records.len > 0) else {
            return Ok(());
        };
        let next = take(&records.read()?);
        // Where nothing can be read, the next offset may do.
        offset = next.unwrap_or(offset).max(offset.saturating_add(1));
    }
}
