//! `--create`.

use std::collections::BTreeMap;

use troupe_actors::config::{BrokerConfig, TopicConfig};
use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use troupe_protocol::kafka::messages::{BrokerId, CreateTopicsRequest};

use super::super::client::{AdminClient, ClientError, topic_name};
use super::super::output;
use super::flags::TopicsCommand;
use super::{OPERATION_TIMEOUT_MS, TopicError};

/// A topic to be created.
pub(super) struct NewTopic {
    name: String,
    /// -1 for the broker's default.
    partitions: i32,
    /// -1 for the broker's default.
    replication_factor: i16,
    assignment: Vec<Vec<i32>>,
    configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// Reads the flags, and refuses what no broker would accept.
    pub(super) fn from_flags(command: &TopicsCommand) -> Result<Self, TopicError> {
        let name = command.topic.clone().unwrap_or_default();
        if name.contains(['.', '_']) {
            output::line(
                "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could \
                 collide. To avoid issues it is best to use either, but not both.",
            );
        }
        if command.partitions.is_some_and(|partitions| partitions < 1) {
            return Err(TopicError::Argument(
                "The partitions must be greater than 0".to_owned(),
            ));
        }
        let factor =
            command
                .replication_factor
                .map_or(Ok(-1), |factor| match i16::try_from(factor) {
                    Ok(factor) if factor >= 1 => Ok(factor),
                    _ => {
                        let message = format!(
                            "The replication factor must be between 1 and {} inclusive",
                            i16::MAX
                        );
                        Err(TopicError::Argument(message))
                    }
                })?;
        let configs = parse_configs(&command.configs)?;
        TopicConfig::parse(&configs, &BrokerConfig::default())?;
        let assignment = command
            .replica_assignment
            .as_deref()
            .map_or(Ok(Vec::new()), parse_assignment)?;
        let assigned = !assignment.is_empty();
        Ok(Self {
            name,
            partitions: command.partitions.filter(|_| !assigned).unwrap_or(-1),
            replication_factor: factor,
            assignment,
            configs,
        })
    }

    fn into_message(self) -> CreatableTopic {
        let assignment = |(index, brokers): (usize, Vec<i32>)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
                .with_broker_ids(brokers.into_iter().map(BrokerId).collect())
        };
        let config = |(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name))
                .with_value(Some(StrBytes::from_string(value)))
        };
        CreatableTopic::default()
            .with_name(topic_name(self.name))
            .with_num_partitions(self.partitions)
            .with_replication_factor(self.replication_factor)
            .with_assignments(
                self.assignment
                    .into_iter()
                    .enumerate()
                    .map(assignment)
                    .collect(),
            )
            .with_configs(self.configs.into_iter().map(config).collect())
    }
}

/// Creates the topic and says so.
pub(super) async fn create(
    client: &mut AdminClient,
    topic: NewTopic,
    if_not_exists: bool,
) -> Result<(), TopicError> {
    let name = topic.name.clone();
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic.into_message()])
        .with_timeout_ms(OPERATION_TIMEOUT_MS);
    for result in client.controller().await?.call(request).await?.topics {
        match ClientError::check(result.error_code, result.error_message.as_ref()) {
            Err(error) if if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
                return Ok(());
            }
            checked => checked?,
        }
    }
    output::line(format_args!("Created topic {name}."));
    Ok(())
}

/// Reads `name=value` pairs.
pub(super) fn parse_configs(pairs: &[String]) -> Result<BTreeMap<String, String>, TopicError> {
    let pair = |text: &String| {
        let form = || {
            let expected = "all configs to be added must be in the format \"key=val\".";
            TopicError::Argument(format!(
                "requirement failed: Invalid topic config: {expected}"
            ))
        };
        let (name, value) = text.split_once('=').ok_or_else(form)?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    pairs.iter().map(pair).collect()
}

/// Reads the brokers of each partition: `0:1,1:0`.
pub(super) fn parse_assignment(text: &str) -> Result<Vec<Vec<i32>>, TopicError> {
    let mut partitions: Vec<Vec<i32>> = Vec::new();
    for (index, partition) in text.split(',').enumerate() {
        let mut brokers: Vec<i32> = Vec::new();
        let mut duplicates: Vec<String> = Vec::new();
        for broker in partition.split(':') {
            let invalid =
                |_| TopicError::Argument(format!("For input string: \"{}\"", broker.trim()));
            let broker = broker.trim().parse().map_err(invalid)?;
            if brokers.contains(&broker) {
                duplicates.push(broker.to_string());
            }
            brokers.push(broker);
        }
        if !duplicates.is_empty() {
            let message = "Partition replica lists may not contain duplicate entries";
            return Err(TopicError::Argument(format!(
                "{message}: {}",
                duplicates.join(",")
            )));
        }
        if partitions
            .first()
            .is_some_and(|first| first.len() != brokers.len())
        {
            return Err(TopicError::Argument(format!(
                "Partition {index} has different replication factor: {brokers:?}"
            )));
        }
        partitions.push(brokers);
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(command: TopicsCommand) -> String {
        NewTopic::from_flags(&command)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_assignment_is_a_list_of_brokers_for_each_partition() {
        assert_eq!(parse_assignment("0:1, 1:0").unwrap(), [[0, 1], [1, 0]]);
        let error = |text| parse_assignment(text).unwrap_err().to_string();
        assert_eq!(
            error("1:1"),
            "Partition replica lists may not contain duplicate entries: 1"
        );
        assert_eq!(
            error("0:1,0"),
            "Partition 1 has different replication factor: [0]"
        );
        assert_eq!(error("x"), "For input string: \"x\"");
    }

    #[test]
    fn what_no_broker_would_accept_is_refused() {
        let command = || TopicsCommand {
            topic: Some("t".into()),
            ..TopicsCommand::default()
        };
        let configs = |config: &str| TopicsCommand {
            configs: vec![config.to_owned()],
            ..command()
        };
        assert_eq!(
            error(configs("bogus=1")),
            "Unknown topic config name: bogus"
        );
        assert_eq!(
            error(configs("bogus")),
            "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\"."
        );
        assert_eq!(
            error(configs("retention.ms=-5")),
            "Invalid value -5 for configuration retention.ms: Value must be at least -1"
        );
        assert_eq!(
            error(TopicsCommand {
                replication_factor: Some(0),
                ..command()
            }),
            "The replication factor must be between 1 and 32767 inclusive"
        );
        assert_eq!(
            error(TopicsCommand {
                partitions: Some(0),
                ..command()
            }),
            "The partitions must be greater than 0"
        );
    }

    #[test]
    fn what_is_not_given_is_left_to_the_broker() {
        let command = TopicsCommand {
            topic: Some("t".into()),
            ..TopicsCommand::default()
        };
        let message = NewTopic::from_flags(&command).unwrap().into_message();
        assert_eq!(
            (message.num_partitions, message.replication_factor),
            (-1, -1)
        );
    }
}
