//! Limits for what moves cost: configurations of the brokers and topics that take part (KIP-73).

use std::collections::{BTreeMap, BTreeSet};

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::IncrementalAlterConfigsRequest;
use troupe_protocol::kafka::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};

use super::super::client::AdminClient;
use super::super::log_offsets::Partition;
use super::super::tool::ToolError;
use super::super::{exceptions, output};
use super::files::Assignment;
use super::queries::{self, Move};

const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const LOG_DIRS_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

/// The codes of what has a configuration.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Operations of IncrementalAlterConfigs (KIP-339).
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Which replicas of a topic send, and which receive, as `partition:broker`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Replicas {
    sending: BTreeSet<String>,
    receiving: BTreeSet<String>,
}

/// Limits the moves that are under way and those to come to so many bytes a second.
pub(super) async fn limit(
    client: &mut AdminClient,
    under_way: &BTreeMap<Partition, Move>,
    proposed: &Assignment,
    current: &Assignment,
    bytes: i64,
) -> Result<(), ToolError> {
    let (topics, brokers) = taking_part(under_way, proposed, current);
    for (topic, replicas) in topics {
        let joined =
            |replicas: BTreeSet<String>| replicas.into_iter().collect::<Vec<_>>().join(",");
        let configs = vec![
            (LEADER_REPLICAS, Some(joined(replicas.sending))),
            (FOLLOWER_REPLICAS, Some(joined(replicas.receiving))),
        ];
        alter(client, TOPIC, &topic, configs).await?;
    }
    for broker in brokers {
        let rate = Some(bytes.to_string());
        let configs = vec![(LEADER_RATE, rate.clone()), (FOLLOWER_RATE, rate)];
        alter(client, BROKER, &broker.to_string(), configs).await?;
    }
    output::line(format_args!(
        "The inter-broker throttle limit was set to {bytes} B/s"
    ));
    Ok(())
}

fn taking_part(
    under_way: &BTreeMap<Partition, Move>,
    proposed: &Assignment,
    current: &Assignment,
) -> (BTreeMap<String, Replicas>, BTreeSet<i32>) {
    // From where to where, by partition.
    let mut moves: BTreeMap<&Partition, (BTreeSet<i32>, BTreeSet<i32>)> = BTreeMap::new();
    for (partition, under_way) in under_way {
        let to: BTreeSet<i32> = under_way.adding.iter().copied().collect();
        let from = under_way
            .replicas
            .iter()
            .copied()
            .filter(|id| !to.contains(id));
        moves.insert(partition, (from.collect(), to));
    }
    for (partition, replicas) in proposed {
        let from = match moves.get(partition) {
            Some((from, _)) => from.clone(),
            None => current
                .get(partition)
                .into_iter()
                .flatten()
                .copied()
                .collect(),
        };
        let to = replicas
            .iter()
            .copied()
            .filter(|id| !from.contains(id))
            .collect();
        moves.insert(partition, (from, to));
    }
    let mut topics: BTreeMap<String, Replicas> = BTreeMap::new();
    let mut brokers = BTreeSet::new();
    for ((topic, partition), (from, to)) in moves {
        let replicas = topics.entry(topic.clone()).or_default();
        let shown = |id: &i32| format!("{partition}:{id}");
        replicas.sending.extend(from.iter().map(shown));
        replicas.receiving.extend(to.iter().map(shown));
        brokers.extend(from.into_iter().chain(to));
    }
    (topics, brokers)
}

/// Takes all limits of these partitions' topics, and of all brokers, back.
pub(super) async fn clear(client: &mut AdminClient, targets: &Assignment) -> Result<(), ToolError> {
    let mut brokers = queries::brokers(client).await?;
    brokers.extend(targets.values().flatten());
    let ids: Vec<_> = brokers.iter().map(i32::to_string).collect();
    output::line(format_args!(
        "Clearing broker-level throttles on broker{} {}",
        plural(ids.len()),
        ids.join(",")
    ));
    for id in ids {
        let configs = [LEADER_RATE, FOLLOWER_RATE, LOG_DIRS_RATE].map(|name| (name, None));
        alter(client, BROKER, &id, configs.into()).await?;
    }
    let topics: BTreeSet<_> = targets.keys().map(|(topic, _)| topic.as_str()).collect();
    let topics: Vec<_> = topics.into_iter().collect();
    output::line(format_args!(
        "Clearing topic-level throttles on topic{} {}",
        plural(topics.len()),
        topics.join(",")
    ));
    for topic in topics {
        let configs = [LEADER_REPLICAS, FOLLOWER_REPLICAS].map(|name| (name, None));
        alter(client, TOPIC, topic, configs.into()).await?;
    }
    Ok(())
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Sets configurations, or deletes those without a value. A broker is asked itself.
async fn alter(
    client: &mut AdminClient,
    kind: i8,
    name: &str,
    configs: Vec<(&str, Option<String>)>,
) -> Result<(), ToolError> {
    let config = |(name, value): (&str, Option<String>)| {
        AlterableConfig::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.map(StrBytes::from_string))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_string(name.to_owned()))
        .with_configs(configs.into_iter().map(config).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let metadata = client.metadata(Some(Vec::new())).await?;
    let is_meant = |id: i32| kind == BROKER && id.to_string() == name;
    let broker = metadata
        .brokers
        .into_iter()
        .find(|broker| is_meant(broker.node_id.0));
    let response = match broker {
        Some(broker) => {
            client
                .broker(&broker.host, broker.port)
                .await?
                .call(request)
                .await?
        }
        None => client.any().call(request).await?,
    };
    for result in response.responses {
        if result.error_code != ErrorCode::None.code() {
            let told = exceptions::told(result.error_code, result.error_message.as_ref());
            return Err(ToolError::Told(told));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_and_receives_is_told_for_moves_under_way_and_to_come() {
        let partition = |index| ("t".to_owned(), index);
        let under_way = Move {
            replicas: vec![1, 2, 3],
            adding: vec![3],
            removing: vec![1],
        };
        let under_way = [(partition(0), under_way)].into();
        let proposed = [(partition(0), vec![2, 4]), (partition(1), vec![5, 6])].into();
        let current = [(partition(0), vec![1, 2, 3]), (partition(1), vec![5])].into();
        let (topics, brokers) = taking_part(&under_way, &proposed, &current);
        let set = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let expected = Replicas {
            sending: set(&["0:1", "0:2", "1:5"]),
            receiving: set(&["0:4", "1:6"]),
        };
        assert_eq!(topics, [("t".to_owned(), expected)].into());
        assert_eq!(brokers, [1, 2, 4, 5, 6].into());
    }
}
