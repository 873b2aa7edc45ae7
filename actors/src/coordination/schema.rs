//! What Kafka's znodes hold: compact JSON, with every number within 32 bits because the oldest readers know no others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A znode whose content makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("znode {path} holds {content:?}: {reason}")]
pub struct MalformedZnode {
    /// Which znode.
    pub path: String,
    /// Its content, as text.
    pub content: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads JSON out of a znode.
pub fn from_json<'a, T: Deserialize<'a>>(path: &str, data: &'a [u8]) -> Result<T, MalformedZnode> {
    serde_json::from_slice(data).map_err(|error| MalformedZnode {
        path: path.to_owned(),
        content: String::from_utf8_lossy(data).chars().take(200).collect(),
        reason: error.to_string(),
    })
}

/// Writes JSON for a znode.
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    // Maps with string keys and plain fields: there is nothing in them that JSON can't hold.
    serde_json::to_vec(value).unwrap_or_default()
}

/// `/brokers/ids/N`, version 5 (Kafka 2.7 on), readable back to 0.8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRegistration {
    /// Listener name to security protocol.
    #[serde(default)]
    pub listener_security_protocol_map: BTreeMap<String, String>,
    /// `LISTENER://host:port`, one each.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Rack, left out when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// Port of JMX; -1 for none.
    pub jmx_port: i32,
    /// Always empty; version 5 wants it.
    #[serde(default)]
    pub features: BTreeMap<String, String>,
    /// Host of the plaintext listener, for the oldest clients.
    pub host: Option<String>,
    /// When the broker registered: milliseconds since the epoch, as a string.
    pub timestamp: String,
    /// Port of the plaintext listener, for the oldest clients.
    pub port: i32,
    /// 5.
    pub version: i32,
}

/// `/brokers/topics/T`, version 3 (Kafka 2.8 on); older versions lack the id and the reassignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicAssignment {
    /// Replicas that a reassignment removes, by partition.
    #[serde(default)]
    pub removing_replicas: BTreeMap<String, Vec<i32>>,
    /// Replicas by partition; the first one is the preferred leader.
    pub partitions: BTreeMap<String, Vec<i32>>,
    /// The topic's id: 22 characters of URL-safe base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Replicas that a reassignment adds, by partition.
    #[serde(default)]
    pub adding_replicas: BTreeMap<String, Vec<i32>>,
    /// 3, or less when an old tool wrote it.
    pub version: i32,
}

/// `/brokers/topics/T/partitions/P/state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Epoch of the controller that wrote it.
    pub controller_epoch: i32,
    /// The leader, -1 for none.
    pub leader: i32,
    /// 1.
    pub version: i32,
    /// Grows with each change of the leader or by the controller.
    pub leader_epoch: i32,
    /// In-sync replicas.
    pub isr: Vec<i32>,
}

/// `/controller`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerRegistration {
    /// 1.
    pub version: i32,
    /// The broker that leads.
    pub brokerid: i32,
    /// Since when: milliseconds since the epoch, as a string.
    pub timestamp: String,
}

/// `/config/<kind>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigOverrides {
    /// 1.
    pub version: i32,
    /// Only what somebody set: the oldest tools refuse names that they don't know.
    pub config: BTreeMap<String, String>,
}

/// `/config/changes/config_change_N`, as Kafka 0.10.1 and later write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// 2.
    pub version: i32,
    /// `topics/T`, `brokers/N`, …
    pub entity_path: String,
}

/// `/isr_change_notification/isr_change_N`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrChange {
    /// 1.
    pub version: i32,
    /// The partitions whose in-sync sets have changed.
    pub partitions: Vec<PartitionName>,
}

/// A partition, as the controller's notices and tasks name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionName {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

/// `/admin/preferred_replica_election`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferredElection {
    /// 1.
    pub version: i32,
    /// The partitions that their preferred leaders are to lead.
    pub partitions: Vec<PartitionName>,
}

/// `/admin/reassign_partitions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReassignmentTasks {
    /// 1.
    pub version: i32,
    /// What is to go where, and is not there yet.
    pub partitions: Vec<ReassignmentTask>,
}

/// One partition that is to go to other brokers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReassignmentTask {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The brokers.
    pub replicas: Vec<i32>,
}

/// `/cluster/id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterId {
    /// "1": a string, unlike everywhere else.
    pub version: String,
    /// 22 characters of URL-safe base64.
    pub id: String,
}

/// `/latest_producer_id_block`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdBlock {
    /// 1.
    pub version: i32,
    /// The broker that took the block.
    pub broker: i32,
    /// First id, as a string.
    pub block_start: String,
    /// Last id, as a string.
    pub block_end: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_written_by_a_tool_of_2015_is_read() {
        let topic: TopicAssignment = from_json(
            "/brokers/topics/t",
            br#"{"version":1,"partitions":{"1":[0],"0":[1,0]}}"#,
        )
        .unwrap();
        assert_eq!(topic.partitions["0"], [1, 0]);
        assert_eq!(topic.topic_id, None);
    }

    #[test]
    fn a_state_is_written_as_kafka_writes_it() {
        let state = PartitionState {
            controller_epoch: 7,
            leader: 1,
            version: 1,
            leader_epoch: 3,
            isr: vec![1, 2],
        };
        assert_eq!(
            String::from_utf8(to_json(&state)).unwrap(),
            r#"{"controller_epoch":7,"leader":1,"version":1,"leader_epoch":3,"isr":[1,2]}"#
        );
    }

    #[test]
    fn nonsense_names_its_znode() {
        let error = from_json::<PartitionState>("/brokers/topics/t/partitions/0/state", b"[]")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/brokers/topics/t/partitions/0/state"),
            "{error}"
        );
        assert!(error.contains("[]"), "{error}");
    }
}
