//! DeleteRecords: moves the start of partitions forward (KIP-107).

use futures_util::future::join_all;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::delete_records_request::DeleteRecordsPartition;
use troupe_protocol::kafka::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use troupe_protocol::kafka::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::leaders::led_here;
use crate::gateway::request::RequestContext;
use crate::metadata::MetadataImage;
use crate::partition::Answer;
use crate::partition::messages::DeleteRecords;

/// Asks the partitions, all at once.
pub(crate) async fn handle(
    cx: RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let image = cx.broker.image();
    let topics = request.topics.iter().map(|topic| async {
        let (cx, image, name) = (&cx, &*image, topic.name.as_str());
        let partitions = topic.partitions.iter().map(|partition| async {
            let deleted = delete(cx, image, name, partition).await;
            let error = deleted.err().unwrap_or(ErrorCode::None);
            DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_low_watermark(deleted.unwrap_or(-1))
                .with_error_code(error.code())
        });
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(join_all(partitions).await)
    });
    DeleteRecordsResponse::default().with_topics(join_all(topics).await)
}

/// Returns the low watermark. A topic that is only compacted keeps its records: POLICY_VIOLATION.
async fn delete(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &str,
    partition: &DeleteRecordsPartition,
) -> Answer<i64> {
    let handle = led_here(cx, image, topic, partition.partition_index)?;
    let deletable = image
        .topic(topic)
        .is_some_and(|topic| topic.config.cleanup_policy.delete);
    if !deletable {
        return Err(ErrorCode::PolicyViolation);
    }
    let before_offset = partition.offset;
    handle
        .ask(|reply| DeleteRecords {
            before_offset,
            reply,
        })
        .await
}
