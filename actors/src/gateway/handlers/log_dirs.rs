//! DescribeLogDirs (KIP-113, KIP-827): what the replicas take on this broker's disks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use troupe_protocol::kafka::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use troupe_protocol::kafka::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::common::{text, topic_name};
use crate::gateway::request::RequestContext;
use crate::log_manager::{LogDirDescription, ReplicaDescription};

/// Answers with every log directory and its replicas, or those of them that are asked for.
pub(crate) async fn describe(
    cx: RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let asked: Option<BTreeSet<(String, i32)>> = request.topics.map(|topics| {
        topics
            .iter()
            .flat_map(|topic| {
                let name = topic.topic.to_string();
                topic
                    .partitions
                    .iter()
                    .map(move |&partition| (name.clone(), partition))
            })
            .collect()
    });
    let is_asked = |replica: &ReplicaDescription| {
        asked.as_ref().is_none_or(|asked| {
            let partition = &replica.topic_partition;
            asked.contains(&(partition.topic.to_string(), partition.partition))
        })
    };
    let dirs = cx.broker.logs.describe().await;
    let results = dirs.iter().map(|dir| answer(dir, is_asked));
    DescribeLogDirsResponse::default().with_results(results.collect())
}

fn answer(
    dir: &LogDirDescription,
    is_asked: impl Fn(&ReplicaDescription) -> bool,
) -> DescribeLogDirsResult {
    let mut topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for replica in dir.replicas.iter().filter(|replica| is_asked(replica)) {
        let partition = DescribeLogDirsPartition::default()
            .with_partition_index(replica.topic_partition.partition)
            .with_partition_size(i64::try_from(replica.size_bytes).unwrap_or(i64::MAX))
            .with_offset_lag(0)
            .with_is_future_key(false);
        topics
            .entry(Arc::clone(&replica.topic_partition.topic))
            .or_default()
            .push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        DescribeLogDirsTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions)
    });
    DescribeLogDirsResult::default()
        .with_error_code(dir.error.code())
        .with_log_dir(text(&dir.path.to_string_lossy()))
        .with_topics(topics.collect())
        .with_total_bytes(dir.total_bytes)
        .with_usable_bytes(dir.usable_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::TopicPartition;
    use troupe_protocol::kafka::errors::ErrorCode;

    #[test]
    fn replicas_are_grouped_by_topic_and_filtered() {
        let replica = |topic: &str, partition| ReplicaDescription {
            topic_partition: TopicPartition::new(topic, partition),
            size_bytes: 7,
        };
        let dir = LogDirDescription {
            path: "/data".into(),
            error: ErrorCode::None,
            total_bytes: 100,
            usable_bytes: 50,
            replicas: vec![replica("a", 0), replica("b", 0), replica("a", 1)],
        };
        let answer = answer(&dir, |replica| &*replica.topic_partition.topic == "a");
        assert_eq!(answer.topics.len(), 1);
        let partitions = &answer.topics[0].partitions;
        assert_eq!(
            partitions
                .iter()
                .map(|found| found.partition_index)
                .collect::<Vec<_>>(),
            [0, 1]
        );
        assert_eq!((answer.total_bytes, answer.usable_bytes), (100, 50));
    }
}
