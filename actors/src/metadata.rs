//! What this broker knows of the cluster: an immutable image, replaced whole by the controller and read by everyone.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::config::{Listener, SecurityProtocol, TopicConfig};
use crate::partition::PartitionHandle;

/// Identifies a broker, as `broker.id` does.
pub type BrokerId = i32;

/// The id that stands for "nobody leads".
pub const NO_LEADER: BrokerId = -1;

/// The cluster at one moment. Cloning costs a pointer per broker and topic.
#[derive(Clone, Default)]
pub struct MetadataImage {
    /// The cluster's id.
    pub cluster_id: Arc<str>,
    /// The broker that leads the cluster, -1 for none.
    pub controller_id: BrokerId,
    /// Live brokers.
    pub brokers: BTreeMap<BrokerId, Arc<BrokerNode>>,
    /// Whether a controller has told of all its topics, and not only of what changes.
    pub is_informed: bool,
    topics: BTreeMap<Arc<str>, Arc<TopicImage>>,
    names: BTreeMap<Uuid, Arc<str>>,
    /// What somebody set for groups, by group id.
    groups: BTreeMap<Arc<str>, Arc<BTreeMap<String, String>>>,
}

impl MetadataImage {
    /// Makes the image of a cluster of which nothing else is known yet.
    pub fn of_cluster(cluster_id: Arc<str>) -> Self {
        Self {
            cluster_id,
            controller_id: NO_LEADER,
            ..Self::default()
        }
    }

    /// Returns the topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// Returns the topic of that id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// Lists the topics by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// Returns one partition.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionImage> {
        self.topic(topic)?.partition(partition)
    }

    /// Adds a topic, or replaces the one of that name.
    pub fn put_topic(&mut self, topic: Arc<TopicImage>) {
        self.remove_topic(&topic.name.clone());
        self.names.insert(topic.id, Arc::clone(&topic.name));
        self.topics.insert(Arc::clone(&topic.name), topic);
    }

    /// Returns what somebody set for a group.
    pub fn group_overrides(&self, group: &str) -> Option<&BTreeMap<String, String>> {
        self.groups.get(group).map(|overrides| &**overrides)
    }

    /// Lists the groups for which somebody set something.
    pub fn configured_groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(|group| &**group)
    }

    /// Sets what counts for a group.
    pub fn put_group_overrides(&mut self, group: &str, overrides: BTreeMap<String, String>) {
        if overrides.is_empty() {
            self.groups.remove(group);
        } else {
            self.groups.insert(group.into(), Arc::new(overrides));
        }
    }

    /// Takes its offices from a broker: the controller's, and all leaderships.
    pub fn depose(&mut self, broker: BrokerId) {
        if self.controller_id == broker {
            self.controller_id = NO_LEADER;
        }
        let leads = |partition: &PartitionImage| partition.leader == broker;
        for topic in self.topics.values_mut() {
            if topic.partitions.iter().any(leads) {
                let partitions = &mut Arc::make_mut(topic).partitions;
                for partition in partitions.iter_mut().filter(|partition| leads(partition)) {
                    partition.leader = NO_LEADER;
                }
            }
        }
    }

    /// Forgets a topic.
    pub fn remove_topic(&mut self, name: &str) {
        if let Some(topic) = self.topics.remove(name) {
            self.names.remove(&topic.id);
        }
    }
}

/// A live broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerNode {
    /// Its id.
    pub id: BrokerId,
    /// Where clients reach it. An empty host stands for "wherever the client reached this broker".
    pub endpoints: Vec<Listener>,
    /// Its rack.
    pub rack: Option<String>,
    /// The zxid of its registration: grows each time that the broker comes back.
    pub epoch: i64,
}

impl BrokerNode {
    /// Returns the address on a listener.
    pub fn endpoint(&self, listener: &str) -> Option<&Listener> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.name == listener)
    }

    /// Returns the first address without encryption, which is all that the oldest clients know of.
    pub fn plaintext_endpoint(&self) -> Option<&Listener> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.protocol == SecurityProtocol::Plaintext)
    }
}

/// A topic.
#[derive(Clone)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its id (KIP-516).
    pub id: Uuid,
    /// Whether Kafka itself keeps its state there.
    pub is_internal: bool,
    /// Its configuration: overrides over the broker's values over the defaults.
    pub config: Arc<TopicConfig>,
    /// What somebody set for this topic.
    pub overrides: BTreeMap<String, String>,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionImage>,
}

impl TopicImage {
    /// Returns one partition.
    pub fn partition(&self, partition: i32) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }
}

/// A partition.
#[derive(Clone)]
pub struct PartitionImage {
    /// The broker that leads, or [`NO_LEADER`].
    pub leader: BrokerId,
    /// Epoch of that leadership.
    pub leader_epoch: i32,
    /// Brokers that keep it; the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
    /// The replica on this broker.
    pub local: Option<PartitionHandle>,
}

/// Names that Kafka keeps to itself.
pub fn is_internal(topic: &str) -> bool {
    matches!(
        topic,
        "__consumer_offsets" | "__transaction_state" | "__share_group_state"
    )
}

/// Longest legal topic name, in characters.
pub const MAX_TOPIC_NAME_LENGTH: usize = 249;

/// Says why a topic can't have this name, in Kafka's words.
pub fn topic_name_error(name: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Some("Topic name is invalid: the empty string is not allowed".to_owned())
    } else if matches!(name, "." | "..") {
        Some("Topic name is invalid: '.' or '..' is not allowed".to_owned())
    } else if name.len() > MAX_TOPIC_NAME_LENGTH {
        Some(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {MAX_TOPIC_NAME_LENGTH}"
        ))
    } else if !name.chars().all(legal) {
        Some(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ))
    } else {
        None
    }
}

/// Tells whether two topics would share their metric names: `.` and `_` are one there.
pub fn names_collide(one: &str, other: &str) -> bool {
    one != other && one.replace('.', "_") == other.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        assert_eq!(topic_name_error("Hello-Kafka_1.2"), None);
        assert_eq!(topic_name_error(&"x".repeat(249)), None);
        for illegal in ["", ".", "..", "a b", "a/b", "é", &"x".repeat(250)] {
            assert!(topic_name_error(illegal).is_some(), "{illegal:?}");
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert!(names_collide("a.b", "a_b"));
        assert!(!names_collide("a.b", "a.b"));
        assert!(!names_collide("a.b", "a.c"));
    }
}
