//! What a fetcher does when the leader's log does not have the offset at which a follower's ends.

use std::io;

use troupe_protocol::kafka::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsTopic,
};
use troupe_protocol::kafka::messages::{ListOffsetsRequest, TopicName};

use super::{
    ApiKey, ErrorCode, Fetcher, Outcome, Request, State, TopicPartition, TruncateTo, truncate,
};

const VERSION: i16 = 7;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

impl Fetcher {
    /// Cuts a log off where the leader's ends, or begins it anew where the leader's starts.
    pub(super) async fn find_range(&mut self, name: &TopicPartition) -> io::Result<Outcome> {
        let Some(followee) = self.followees.get(name) else {
            return Ok(Outcome::OutOfRange);
        };
        let (followed, State::At(position)) = (followee.followed.clone(), followee.state) else {
            return Ok(Outcome::OutOfRange);
        };
        let epoch = followed.leader_epoch;
        let end = match self.list_offset(name, epoch, LATEST).await? {
            Ok(end) => end,
            Err(error) => return Ok(Outcome::Retry(error)),
        };
        let own_end = position.log_end_offset;
        if end < own_end {
            // Without epochs to compare: what is beyond the leader's end is not the leader's.
            return Ok(truncate(&followed.replica, epoch, TruncateTo::LogEnd(end)).await);
        }
        let start = match self.list_offset(name, epoch, EARLIEST).await? {
            Ok(start) => start,
            Err(error) => return Ok(Outcome::Retry(error)),
        };
        if start > own_end {
            tracing::info!(partition = %name, own_end, start, "the leader has deleted what comes next");
            return Ok(truncate(&followed.replica, epoch, TruncateTo::StartAt(start)).await);
        }
        // The leader's log has moved meanwhile.
        Ok(Outcome::Retry(ErrorCode::OffsetOutOfRange))
    }

    async fn list_offset(
        &mut self,
        name: &TopicPartition,
        leader_epoch: i32,
        timestamp: i64,
    ) -> io::Result<Result<i64, ErrorCode>> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let partition = ListOffsetsPartition::default()
            .with_partition_index(name.partition)
            .with_current_leader_epoch(leader_epoch)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(TopicName(name.topic.to_string().into()))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(self.settings.broker_id.into())
            .with_topics(vec![topic]);
        let connection = self.connection().await?;
        let body = connection
            .call(ApiKey::ListOffsets, VERSION, |out| {
                let encoded = request.encode(VERSION, out);
                encoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
            })
            .await?;
        let response =
            ListOffsetsRequest::decode_response(VERSION, body.freeze()).map_err(invalid)?;
        let found = response
            .topics
            .first()
            .and_then(|topic| topic.partitions.first());
        let Some(found) = found else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an answer without the partition",
            ));
        };
        Ok(match ErrorCode::from_code(found.error_code) {
            Some(ErrorCode::None) => Ok(found.offset),
            error => Err(error.unwrap_or(ErrorCode::UnknownServerError)),
        })
    }
}
