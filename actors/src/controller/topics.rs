//! What may be created: the checks of CreateTopics and CreatePartitions, before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use troupe_protocol::kafka::errors::ErrorCode;

use super::assignment::{self, Place, PlacementError};
use crate::config::{BrokerConfig, TopicConfig};
use crate::metadata::{BrokerId, MetadataImage, names_collide, topic_name_error};

/// A refusal: a code, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminError {
    /// What the client is told.
    pub code: ErrorCode,
    /// Why.
    pub message: String,
}

impl AdminError {
    /// Refuses with a sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<ErrorCode> for AdminError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }
}

impl From<PlacementError> for AdminError {
    fn from(error: PlacementError) -> Self {
        let code = match error {
            PlacementError::Partitions => ErrorCode::InvalidPartitions,
            PlacementError::SomeRacks => ErrorCode::UnknownServerError,
            PlacementError::ReplicationFactor | PlacementError::TooFewBrokers { .. } => {
                ErrorCode::InvalidReplicationFactor
            }
        };
        Self::new(code, error.to_string())
    }
}

/// A topic as somebody asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the broker's default, or when `assignment` is given.
    pub partitions: i32,
    /// How many replicas each; -1 likewise.
    pub replication_factor: i32,
    /// Replicas by partition, when the asker chooses them.
    pub assignment: Vec<(i32, Vec<BrokerId>)>,
    /// Configuration; a value that is missing is an error, as in Kafka.
    pub config: BTreeMap<String, Option<String>>,
}

/// A topic as it will be.
#[derive(Debug, Clone)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// Replicas by partition, dense from 0.
    pub assignment: BTreeMap<i32, Vec<BrokerId>>,
    /// What it overrides.
    pub overrides: BTreeMap<String, String>,
    /// The configuration that results.
    pub config: TopicConfig,
}

/// Checks a new topic and places its partitions.
pub fn plan_topic(
    new: &NewTopic,
    image: &MetadataImage,
    config: &BrokerConfig,
    start: usize,
) -> Result<TopicPlan, AdminError> {
    if let Some(message) = topic_name_error(&new.name) {
        return Err(AdminError::new(ErrorCode::InvalidTopicException, message));
    }
    if image.topic(&new.name).is_some() {
        let message = format!("Topic '{}' already exists.", new.name);
        return Err(AdminError::new(ErrorCode::TopicAlreadyExists, message));
    }
    if let Some(other) = image
        .topics()
        .find(|topic| names_collide(&topic.name, &new.name))
    {
        let message = format!(
            "Topic '{}' collides with existing topics: {}",
            new.name, other.name
        );
        return Err(AdminError::new(ErrorCode::InvalidTopicException, message));
    }
    let overrides = required_values(&new.config)?;
    let topic_config = TopicConfig::parse(&overrides, config)
        .map_err(|error| AdminError::new(ErrorCode::InvalidConfig, error.to_string()))?;
    Ok(TopicPlan {
        name: new.name.clone(),
        assignment: place(new, image, config, start)?,
        overrides,
        config: topic_config,
    })
}

fn required_values(
    config: &BTreeMap<String, Option<String>>,
) -> Result<BTreeMap<String, String>, AdminError> {
    let missing: Vec<&str> = config
        .iter()
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if !missing.is_empty() {
        let message = format!(
            "Null value not supported for topic configs: {}",
            missing.join(",")
        );
        return Err(AdminError::new(ErrorCode::InvalidConfig, message));
    }
    Ok(config
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect())
}

fn place(
    new: &NewTopic,
    image: &MetadataImage,
    config: &BrokerConfig,
    start: usize,
) -> Result<BTreeMap<i32, Vec<BrokerId>>, AdminError> {
    if new.assignment.is_empty() {
        let or_default = |given: i32, default: i32| if given == -1 { default } else { given };
        let brokers = places(image);
        let partitions = or_default(new.partitions, config.num_partitions);
        let replicas = or_default(
            new.replication_factor,
            i32::from(config.default_replication_factor),
        );
        return Ok(assignment::assign(
            &brokers, 0, partitions, replicas, start,
        )?);
    }
    if new.partitions != -1 || new.replication_factor != -1 {
        let message = "Both numPartitions or replicationFactor and replicasAssignments were set. \
                       Both cannot be used at the same time.";
        return Err(AdminError::new(ErrorCode::InvalidRequest, message));
    }
    let mut assignment = BTreeMap::new();
    for (partition, brokers) in &new.assignment {
        if assignment.insert(*partition, brokers.clone()).is_some() {
            let message =
                format!("Found multiple manual partition assignments for partition {partition}");
            return Err(AdminError::new(
                ErrorCode::InvalidReplicaAssignment,
                message,
            ));
        }
    }
    check_assignment(&assignment, 0, image)?;
    Ok(assignment)
}

/// Lists where replicas can go.
fn places(image: &MetadataImage) -> Vec<Place<'_>> {
    let brokers = image.brokers.values();
    brokers
        .map(|broker| Place {
            id: broker.id,
            rack: broker.rack.as_deref(),
        })
        .collect()
}

/// Checks an assignment that somebody chose: dense from `first`, equally many distinct replicas each, known brokers.
pub fn check_assignment(
    assignment: &BTreeMap<i32, Vec<BrokerId>>,
    first: i32,
    image: &MetadataImage,
) -> Result<(), AdminError> {
    let invalid = |message: String| AdminError::new(ErrorCode::InvalidReplicaAssignment, message);
    let replicas = assignment.values().next().map_or(0, Vec::len);
    for (expected, (&partition, brokers)) in (first..).zip(assignment) {
        if partition != expected {
            return Err(invalid(format!(
                "partitions should be a consecutive {first}-based integer sequence"
            )));
        }
        let distinct: BTreeSet<BrokerId> = brokers.iter().copied().collect();
        if brokers.is_empty() || distinct.len() != brokers.len() {
            return Err(invalid(format!(
                "Duplicate or no brokers in the replica assignment of partition {partition}: {brokers:?}"
            )));
        }
        if brokers.len() != replicas {
            return Err(invalid(format!(
                "Inconsistent replication factor between partitions, partition {partition} has {} while others have {replicas}",
                brokers.len()
            )));
        }
        if let Some(unknown) = distinct.iter().find(|id| !image.brokers.contains_key(id)) {
            return Err(invalid(format!(
                "Unknown broker(s) in the replica assignment of partition {partition}: {unknown}"
            )));
        }
    }
    Ok(())
}

/// Places the partitions that a topic gets in addition.
pub fn plan_partitions(
    name: &str,
    count: i32,
    chosen: &[Vec<BrokerId>],
    image: &MetadataImage,
) -> Result<BTreeMap<i32, Vec<BrokerId>>, AdminError> {
    let topic = image.topic(name).ok_or_else(|| {
        AdminError::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("The topic '{name}' does not exist."),
        )
    })?;
    let existing = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let invalid = |message: String| AdminError::new(ErrorCode::InvalidPartitions, message);
    if count == existing {
        return Err(invalid(format!(
            "Topic already has {existing} partition(s)."
        )));
    }
    if count < existing {
        return Err(invalid(format!(
            "The topic {name} currently has {existing} partition(s); {count} would not be an increase."
        )));
    }
    let added = count - existing;
    if chosen.is_empty() {
        let brokers = places(image);
        let like = topic.partition(0).map_or(&[][..], |first| &first.replicas);
        let replicas = i32::try_from(like.len().max(1)).unwrap_or(i32::MAX);
        // Leaders go on round robin from the first partition's.
        let first = like.first().copied();
        let start = first.and_then(|first| brokers.iter().position(|place| place.id >= first));
        let start = start.unwrap_or(0);
        return Ok(assignment::assign(
            &brokers, existing, added, replicas, start,
        )?);
    }
    if i32::try_from(chosen.len()) != Ok(added) {
        return Err(AdminError::new(
            ErrorCode::InvalidReplicaAssignment,
            format!(
                "Increasing the number of partitions by {added} but {} assignments provided.",
                chosen.len()
            ),
        ));
    }
    let assignment = (existing..).zip(chosen.iter().cloned()).collect();
    check_assignment(&assignment, existing, image)?;
    Ok(assignment)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::metadata::{BrokerNode, PartitionImage, TopicImage};

    /// Brokers 0 and 1, and the topic `there` with two partitions.
    fn image() -> MetadataImage {
        let mut image = MetadataImage::of_cluster("cluster".into());
        for id in [0, 1] {
            let node = BrokerNode {
                id,
                endpoints: Vec::new(),
                rack: None,
                epoch: 0,
            };
            image.brokers.insert(id, Arc::new(node));
        }
        let partition = PartitionImage {
            leader: 0,
            leader_epoch: 0,
            replicas: vec![0],
            isr: vec![0],
            local: None,
        };
        image.put_topic(Arc::new(TopicImage {
            name: "there".into(),
            id: Uuid::nil(),
            is_internal: false,
            config: Arc::new(TopicConfig::default()),
            overrides: BTreeMap::new(),
            partitions: vec![partition.clone(), partition],
        }));
        image
    }

    fn topic(name: &str, partitions: i32, replication_factor: i32) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            partitions,
            replication_factor,
            ..NewTopic::default()
        }
    }

    fn assigned(assignment: &[(i32, &[BrokerId])]) -> NewTopic {
        NewTopic {
            assignment: assignment
                .iter()
                .map(|(partition, brokers)| (*partition, brokers.to_vec()))
                .collect(),
            ..topic("t", -1, -1)
        }
    }

    fn refusal(new: &NewTopic) -> ErrorCode {
        plan_topic(new, &image(), &BrokerConfig::default(), 0)
            .expect_err("refused")
            .code
    }

    #[test]
    fn minus_one_stands_for_the_brokers_defaults() {
        let plan = plan_topic(&topic("t", -1, -1), &image(), &BrokerConfig::default(), 0);
        let assignment = plan.expect("a plan").assignment;
        assert_eq!((assignment.len(), assignment[&0].len()), (1, 1));
    }

    #[test]
    fn what_cannot_be_created_gets_kafkas_error() {
        assert_eq!(
            refusal(&topic("a b", 1, 1)),
            ErrorCode::InvalidTopicException
        );
        assert_eq!(
            refusal(&topic("there", 1, 1)),
            ErrorCode::TopicAlreadyExists
        );
        assert_eq!(refusal(&topic("t", 0, 1)), ErrorCode::InvalidPartitions);
        assert_eq!(refusal(&topic("t", -2, 1)), ErrorCode::InvalidPartitions);
        assert_eq!(
            refusal(&topic("t", 1, 0)),
            ErrorCode::InvalidReplicationFactor
        );
        assert_eq!(
            refusal(&topic("t", 1, 3)),
            ErrorCode::InvalidReplicationFactor
        );
        for (name, value) in [("retention.ms", "x"), ("retention.years", "1")] {
            let mut new = topic("t", 1, 1);
            new.config.insert(name.to_owned(), Some(value.to_owned()));
            assert_eq!(refusal(&new), ErrorCode::InvalidConfig, "{name}");
        }
    }

    #[test]
    fn a_chosen_assignment_has_to_make_sense() {
        let good = assigned(&[(1, &[1, 0]), (0, &[0, 1])]);
        let plan = plan_topic(&good, &image(), &BrokerConfig::default(), 0);
        assert_eq!(plan.expect("a plan").assignment[&1], [1, 0]);
        let bad: &[&[(i32, &[BrokerId])]] = &[
            &[(1, &[0])],
            &[(0, &[0]), (0, &[1])],
            &[(0, &[0]), (2, &[1])],
            &[(0, &[0]), (1, &[0, 1])],
            &[(0, &[0, 0])],
            &[(0, &[])],
            &[(0, &[7])],
        ];
        for assignment in bad {
            let code = refusal(&assigned(assignment));
            assert_eq!(code, ErrorCode::InvalidReplicaAssignment, "{assignment:?}");
        }
        let refused = plan_topic(
            &assigned(&[(0, &[7])]),
            &image(),
            &BrokerConfig::default(),
            0,
        );
        let message = refused.expect_err("refused").message;
        assert!(
            message.contains("Unknown broker") && message.contains('7'),
            "{message}"
        );
        let both = NewTopic {
            partitions: 1,
            ..assigned(&[(0, &[0])])
        };
        assert_eq!(refusal(&both), ErrorCode::InvalidRequest);
    }

    #[test]
    fn partitions_only_grow() {
        let plan = |count, chosen: &[Vec<BrokerId>]| {
            plan_partitions("there", count, chosen, &image()).map_err(|error| error.code)
        };
        assert_eq!(plan(2, &[]), Err(ErrorCode::InvalidPartitions));
        assert_eq!(plan(1, &[]), Err(ErrorCode::InvalidPartitions));
        let grown = plan(4, &[]).expect("a plan");
        assert_eq!(grown.into_keys().collect::<Vec<_>>(), [2, 3]);
        let chosen = plan(3, &[vec![1]]).expect("a plan");
        assert_eq!(chosen, BTreeMap::from([(2, vec![1])]));
        let unknown = plan(3, &[vec![7]]);
        assert_eq!(unknown, Err(ErrorCode::InvalidReplicaAssignment));
        let too_few = plan(4, &[vec![1]]);
        assert_eq!(too_few, Err(ErrorCode::InvalidReplicaAssignment));
    }
}
