//! OffsetForLeaderEpoch: where the records of a leader epoch end (KIP-101, KIP-320).

use futures_util::future::join_all;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use troupe_protocol::kafka::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use troupe_protocol::kafka::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::leaders::led_here;
use crate::gateway::request::RequestContext;
use crate::metadata::MetadataImage;
use crate::partition::{Answer, messages};

/// Asks the partitions, all at once.
pub(crate) async fn handle(
    cx: RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let image = cx.broker.image();
    let topics = request.topics.iter().map(|topic| async {
        let (cx, image, name) = (&cx, &*image, topic.topic.as_str());
        let partitions = topic.partitions.iter().map(|partition| async {
            let found = find(cx, image, name, partition).await;
            let error = found.err().unwrap_or(ErrorCode::None);
            let (leader_epoch, end_offset) = found.unwrap_or((-1, -1));
            EpochEndOffset::default()
                .with_partition(partition.partition)
                .with_error_code(error.code())
                .with_leader_epoch(leader_epoch)
                .with_end_offset(end_offset)
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(join_all(partitions).await)
    });
    OffsetForLeaderEpochResponse::default().with_topics(join_all(topics).await)
}

async fn find(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &str,
    partition: &OffsetForLeaderPartition,
) -> Answer<(i32, i64)> {
    let handle = led_here(cx, image, topic, partition.partition)?;
    let (leader_epoch, current_leader_epoch) =
        (partition.leader_epoch, partition.current_leader_epoch);
    handle
        .ask(|reply| messages::EpochEndOffset {
            leader_epoch,
            current_leader_epoch,
            reply,
        })
        .await
}
