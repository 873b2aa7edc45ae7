//! `--describe`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use troupe_actors::uuid_text::{decode_id, encode_id};
use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::messages::describe_configs_request::DescribeConfigsResource;
use troupe_protocol::kafka::messages::list_partition_reassignments_response::OngoingPartitionReassignment;
use troupe_protocol::kafka::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use troupe_protocol::kafka::messages::{
    BrokerId, DescribeConfigsRequest, ListPartitionReassignmentsRequest, MetadataResponse,
};
use uuid::Uuid;

use super::super::client::{AdminClient, ClientError};
use super::super::output;
use super::flags::TopicsCommand;
use super::{TopicError, existing};

/// The code of a topic among configuration resources.
const TOPIC_RESOURCE: i8 = 2;
/// The source of values that nobody set (KIP-226).
const DEFAULT_SOURCE: i8 = 5;

/// A topic's values by name, and which of them were set.
#[derive(Default)]
struct Configs {
    set: Vec<(String, String)>,
    min_insync_replicas: usize,
}

/// Partitions that are moving, by topic and number.
type Reassignments = BTreeMap<(String, i32), OngoingPartitionReassignment>;

/// Prints the topics that match.
pub(super) async fn describe(
    client: &mut AdminClient,
    command: &TopicsCommand,
) -> Result<(), TopicError> {
    let metadata = match &command.topic_id {
        Some(id) => by_id(client, command, id).await?,
        None => by_name(client, command).await?,
    };
    let (live, mut topics) = metadata;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = topics.iter().map(name).collect();
    let configs = configs(client, &names).await?;
    let reassignments = reassignments(client).await?;
    for topic in &mut topics {
        ClientError::check(topic.error_code, None)?;
        topic
            .partitions
            .sort_by_key(|partition| partition.partition_index);
        let name = name(topic);
        let none = Configs::default();
        let configs = configs.get(&name).unwrap_or(&none);
        if !command.selects_partitions()
            && (!command.topics_with_overrides || !configs.set.is_empty())
        {
            output::line(TopicLine {
                topic,
                name: &name,
                configs,
                reassignments: &reassignments,
            });
        }
        if command.topics_with_overrides {
            continue;
        }
        for partition in &topic.partitions {
            let reassignment = reassignments.get(&(name.clone(), partition.partition_index));
            if command.selects(partition, reassignment, configs.min_insync_replicas, &live) {
                output::line(PartitionLine {
                    name: &name,
                    partition,
                    reassignment,
                });
            }
        }
    }
    Ok(())
}

type LiveAndTopics = (BTreeSet<BrokerId>, Vec<MetadataResponseTopic>);

async fn by_name(
    client: &mut AdminClient,
    command: &TopicsCommand,
) -> Result<LiveAndTopics, TopicError> {
    let names = existing(client, command).await?;
    if names.is_empty() {
        return Ok(Default::default());
    }
    let metadata = client.metadata(Some(names)).await?;
    Ok(live_and_topics(metadata))
}

async fn by_id(
    client: &mut AdminClient,
    command: &TopicsCommand,
    id: &str,
) -> Result<LiveAndTopics, TopicError> {
    let expected = "expected the 22 characters of a topic id";
    let wanted = decode_id(id)
        .ok_or_else(|| TopicError::Argument(format!("Invalid topic id `{id}`: {expected}")))?;
    let mut metadata = client.metadata(None).await?;
    metadata.topics.retain(|topic| topic.topic_id == wanted);
    if metadata.topics.is_empty() && !command.if_exists {
        return Err(TopicError::NoTopicId(id.to_owned()));
    }
    Ok(live_and_topics(metadata))
}

fn live_and_topics(metadata: MetadataResponse) -> LiveAndTopics {
    let live = metadata.brokers.iter().map(|broker| broker.node_id);
    (live.collect(), metadata.topics)
}

fn name(topic: &MetadataResponseTopic) -> String {
    topic
        .name
        .as_ref()
        .map(|name| name.to_string())
        .unwrap_or_default()
}

async fn configs(
    client: &mut AdminClient,
    names: &[String],
) -> Result<BTreeMap<String, Configs>, TopicError> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let resource = |name: &String| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(StrBytes::from_string(name.clone()))
            .with_configuration_keys(None)
    };
    let request =
        DescribeConfigsRequest::default().with_resources(names.iter().map(resource).collect());
    let mut configs = BTreeMap::new();
    for result in client.any().call(request).await?.results {
        ClientError::check(result.error_code, result.error_message.as_ref())?;
        let mut of_topic = Configs::default();
        for config in result.configs {
            let value = config.value.as_deref().unwrap_or("null");
            if &*config.name == "min.insync.replicas" {
                of_topic.min_insync_replicas = value.parse().unwrap_or_default();
            }
            if config.config_source != DEFAULT_SOURCE {
                of_topic
                    .set
                    .push((config.name.to_string(), value.to_owned()));
            }
        }
        configs.insert(result.resource_name.to_string(), of_topic);
    }
    Ok(configs)
}

/// A cluster that cannot move partitions has none that move.
async fn reassignments(client: &mut AdminClient) -> Result<Reassignments, TopicError> {
    if !client.supports::<ListPartitionReassignmentsRequest>() {
        return Ok(Reassignments::new());
    }
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let response = client.controller().await?.call(request).await?;
    ClientError::check(response.error_code, response.error_message.as_ref())?;
    let topics = response.topics.into_iter();
    let partitions = topics.flat_map(|topic| {
        let name = topic.name.to_string();
        topic
            .partitions
            .into_iter()
            .map(move |partition| ((name.clone(), partition.partition_index), partition))
    });
    Ok(partitions.collect())
}

impl TopicsCommand {
    /// Returns whether only some partitions are asked for, and no topic lines.
    fn selects_partitions(&self) -> bool {
        self.under_replicated_partitions
            || self.unavailable_partitions
            || self.at_min_isr_partitions
            || self.under_min_isr_partitions
    }

    fn selects(
        &self,
        partition: &MetadataResponsePartition,
        reassignment: Option<&OngoingPartitionReassignment>,
        min_insync_replicas: usize,
        live: &BTreeSet<BrokerId>,
    ) -> bool {
        let in_sync = partition.isr_nodes.len();
        !self.selects_partitions()
            || self.under_replicated_partitions
                && in_sync < replication_factor(partition, reassignment)
            || self.unavailable_partitions && !live.contains(&partition.leader_id)
            || self.at_min_isr_partitions && in_sync == min_insync_replicas
            || self.under_min_isr_partitions && in_sync < min_insync_replicas
    }
}

/// Replicas that are being added do not count yet.
fn replication_factor(
    partition: &MetadataResponsePartition,
    reassignment: Option<&OngoingPartitionReassignment>,
) -> usize {
    let replicas = partition.replica_nodes.len();
    reassignment.map_or(replicas, |moving| {
        replicas.saturating_sub(moving.adding_replicas.len())
    })
}

struct TopicLine<'a> {
    topic: &'a MetadataResponseTopic,
    name: &'a str,
    configs: &'a Configs,
    reassignments: &'a Reassignments,
}

impl Display for TopicLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            name,
            configs,
            reassignments,
        } = self;
        write!(f, "Topic: {name}")?;
        if topic.topic_id != Uuid::nil() {
            write!(f, "\tTopicId: {}", encode_id(topic.topic_id))?;
        }
        let factor = topic.partitions.first().map_or(0, |first| {
            replication_factor(
                first,
                reassignments.get(&((*name).to_owned(), first.partition_index)),
            )
        });
        write!(
            f,
            "\tPartitionCount: {}\tReplicationFactor: {factor}\tConfigs: ",
            topic.partitions.len()
        )?;
        let set: Vec<_> = configs
            .set
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        f.write_str(&set.join(","))
    }
}

struct PartitionLine<'a> {
    name: &'a str,
    partition: &'a MetadataResponsePartition,
    reassignment: Option<&'a OngoingPartitionReassignment>,
}

impl Display for PartitionLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            partition,
            reassignment,
        } = self;
        write!(
            f,
            "\tTopic: {name}\tPartition: {}\tLeader: ",
            partition.partition_index
        )?;
        match partition.leader_id {
            BrokerId(leader) if leader >= 0 => write!(f, "{leader}")?,
            _ => f.write_str("none")?,
        }
        write!(
            f,
            "\tReplicas: {}\tIsr: {}",
            ids(&partition.replica_nodes),
            ids(&partition.isr_nodes)
        )?;
        if let Some(moving) = reassignment {
            let (adding, removing) = (ids(&moving.adding_replicas), ids(&moving.removing_replicas));
            write!(
                f,
                "\tAdding Replicas: {adding}\tRemoving Replicas: {removing}"
            )?;
        }
        // Eligible leader replicas (KIP-966) are known to KRaft controllers only.
        f.write_str("\tElr: N/A\tLastKnownElr: N/A")
    }
}

fn ids(brokers: &[BrokerId]) -> String {
    brokers
        .iter()
        .map(|broker| broker.0.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(leader: i32, replicas: &[i32], isr: &[i32]) -> MetadataResponsePartition {
        let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
        MetadataResponsePartition::default()
            .with_leader_id(BrokerId(leader))
            .with_replica_nodes(brokers(replicas))
            .with_isr_nodes(brokers(isr))
    }

    #[test]
    fn lines_are_those_of_kafka() {
        let topic = MetadataResponseTopic::default()
            .with_topic_id(Uuid::from_u128(1))
            .with_partitions(vec![partition(1, &[1, 2], &[1])]);
        let set = vec![
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("retention.ms".to_owned(), "1".to_owned()),
        ];
        let configs = Configs {
            set,
            min_insync_replicas: 1,
        };
        let line = TopicLine {
            topic: &topic,
            name: "t",
            configs: &configs,
            reassignments: &Reassignments::new(),
        };
        assert_eq!(
            line.to_string(),
            "Topic: t\tTopicId: AAAAAAAAAAAAAAAAAAAAAQ\tPartitionCount: 1\tReplicationFactor: 2\tConfigs: \
             cleanup.policy=compact,retention.ms=1"
        );
        let line = PartitionLine {
            name: "t",
            partition: &partition(-1, &[1, 2], &[]),
            reassignment: None,
        };
        assert_eq!(
            line.to_string(),
            "\tTopic: t\tPartition: 0\tLeader: none\tReplicas: 1,2\tIsr: \tElr: N/A\tLastKnownElr: N/A"
        );
    }

    #[test]
    fn a_moving_partition_tells_where() {
        let moving = OngoingPartitionReassignment::default()
            .with_adding_replicas(vec![BrokerId(3)])
            .with_removing_replicas(vec![BrokerId(1)]);
        let partition = partition(1, &[3, 1, 2], &[1, 2]);
        let line = PartitionLine {
            name: "t",
            partition: &partition,
            reassignment: Some(&moving),
        };
        let line = line.to_string();
        assert!(
            line.contains("\tIsr: 1,2\tAdding Replicas: 3\tRemoving Replicas: 1\tElr: N/A"),
            "{line}"
        );
        assert_eq!(replication_factor(&partition, Some(&moving)), 2);
    }

    #[test]
    fn filters_select_partitions() {
        let live = BTreeSet::from([BrokerId(1)]);
        let selects = |command: &TopicsCommand, partition: &MetadataResponsePartition| {
            command.selects(partition, None, 2, &live)
        };
        let (whole, short) = (partition(1, &[1, 2], &[1, 2]), partition(2, &[1, 2], &[2]));
        let none = TopicsCommand::default();
        assert!(selects(&none, &whole) && selects(&none, &short));
        let under = TopicsCommand {
            under_replicated_partitions: true,
            ..TopicsCommand::default()
        };
        assert!(!selects(&under, &whole) && selects(&under, &short));
        let unavailable = TopicsCommand {
            unavailable_partitions: true,
            ..TopicsCommand::default()
        };
        assert!(!selects(&unavailable, &whole) && selects(&unavailable, &short));
        let at_min = TopicsCommand {
            at_min_isr_partitions: true,
            ..TopicsCommand::default()
        };
        assert!(selects(&at_min, &whole) && !selects(&at_min, &short));
        let under_min = TopicsCommand {
            under_min_isr_partitions: true,
            ..TopicsCommand::default()
        };
        assert!(!selects(&under_min, &whole) && selects(&under_min, &short));
    }
}
