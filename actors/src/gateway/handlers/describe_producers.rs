//! DescribeProducers: the producers that partitions remember (KIP-664).

use futures_util::future::join_all;
use troupe_protocol::kafka::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use troupe_protocol::kafka::messages::{
    DescribeProducersRequest, DescribeProducersResponse, ProducerId,
};

use super::common::text;
use super::leaders::led_here;
use crate::gateway::request::RequestContext;
use crate::metadata::MetadataImage;
use crate::partition::Answer;
use crate::partition::messages::{DescribeProducers, ProducerDescription};

/// Asks the partitions, all at once.
pub(crate) async fn handle(
    cx: RequestContext,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let image = cx.broker.image();
    let topics = request.topics.iter().map(|topic| async {
        let (cx, image, name) = (&cx, &*image, topic.name.as_str());
        let partitions = topic
            .partition_indexes
            .iter()
            .map(|&index| async move { answer(index, describe(cx, image, name, index).await) });
        TopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(join_all(partitions).await)
    });
    DescribeProducersResponse::default().with_topics(join_all(topics).await)
}

async fn describe(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &str,
    index: i32,
) -> Answer<Vec<ProducerDescription>> {
    led_here(cx, image, topic, index)?
        .ask(|reply| DescribeProducers { reply })
        .await
}

fn answer(index: i32, described: Answer<Vec<ProducerDescription>>) -> PartitionResponse {
    let response = PartitionResponse::default().with_partition_index(index);
    match described {
        Ok(producers) => response.with_active_producers(producers.iter().map(state).collect()),
        Err(error) => response
            .with_error_code(error.code())
            .with_error_message(Some(text(error.message()))),
    }
}

fn state(producer: &ProducerDescription) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.producer_id))
        .with_producer_epoch(i32::from(producer.producer_epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.current_transaction_start_offset)
}
