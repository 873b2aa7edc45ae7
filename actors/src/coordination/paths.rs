//! The one place that spells a path of Kafka's ZooKeeper schema.

/// Persistent nodes that a broker creates at start when they are missing; old tools fail without them.
pub const PERSISTENT: &[&str] = &[
    "/consumers",
    "/brokers",
    BROKER_IDS,
    TOPICS,
    "/config",
    CONFIG_CHANGES,
    "/config/topics",
    GROUP_CONFIGS,
    "/config/clients",
    "/config/users",
    "/config/brokers",
    "/config/ips",
    "/admin",
    DELETE_TOPICS,
    BROKER_SEQUENCE,
    ISR_CHANGES,
    PRODUCER_ID_BLOCK,
    "/log_dir_event_notification",
];

/// Live brokers, one ephemeral child each.
pub const BROKER_IDS: &str = "/brokers/ids";
/// Topics, one child each.
pub const TOPICS: &str = "/brokers/topics";
/// Its version counts generated broker ids.
pub const BROKER_SEQUENCE: &str = "/brokers/seqid";
/// Who is the controller; ephemeral.
pub const CONTROLLER: &str = "/controller";
/// How many controllers there have been, as text.
pub const CONTROLLER_EPOCH: &str = "/controller_epoch";
/// The cluster's id.
pub const CLUSTER_ID: &str = "/cluster/id";
/// The last block of producer ids given to a broker.
pub const PRODUCER_ID_BLOCK: &str = "/latest_producer_id_block";
/// Topics that are to be deleted, one child each.
pub const DELETE_TOPICS: &str = "/admin/delete_topics";
/// Where old tools write which partitions are to go to other brokers.
pub const REASSIGN_PARTITIONS: &str = "/admin/reassign_partitions";
/// Where old tools write which partitions their preferred leaders are to lead.
pub const PREFERRED_ELECTION: &str = "/admin/preferred_replica_election";
/// Notices of in-sync sets that leaders have changed.
pub const ISR_CHANGES: &str = "/isr_change_notification";
/// Prefix of one such notice.
pub const ISR_CHANGE_PREFIX: &str = "/isr_change_notification/isr_change_";
/// What is set for groups, one child each.
pub const GROUP_CONFIGS: &str = "/config/groups";
/// Notices of changed configurations.
pub const CONFIG_CHANGES: &str = "/config/changes";
/// Prefix of one such notice.
pub const CONFIG_CHANGE_PREFIX: &str = "/config/changes/config_change_";

/// Returns a broker's registration.
pub fn broker(id: i32) -> String {
    format!("{BROKER_IDS}/{id}")
}

/// Returns a topic's assignment.
pub fn topic(name: &str) -> String {
    format!("{TOPICS}/{name}")
}

/// Returns the parent of a topic's partitions.
pub fn partitions(topic: &str) -> String {
    format!("{TOPICS}/{topic}/partitions")
}

/// Returns the parent of a partition's state.
pub fn partition(topic: &str, partition: i32) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}")
}

/// Returns a partition's leader and in-sync replicas.
pub fn partition_state(topic: &str, partition: i32) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}/state")
}

/// Returns the overrides of an entity: `kind` is `topics`, `brokers`, …
pub fn config(kind: &str, name: &str) -> String {
    format!("/config/{kind}/{name}")
}

/// Returns the name of a group's znode: what a path or Kafka's tools might take for something else is escaped.
pub fn sanitized(group: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let bytes = group.bytes();
    bytes
        .map(|byte| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Reads the group's id out of the name of its znode.
pub fn desanitized(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(next) = rest.chars().next() {
        let (byte, after) = match rest.strip_prefix('%') {
            Some(escaped) => {
                let (hex, after) = escaped.split_at_checked(2)?;
                (u8::from_str_radix(hex, 16).ok()?, after)
            }
            None => (u8::try_from(next).ok()?, rest.get(next.len_utf8()..)?),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Returns where the oldest consumers keep a group's offset in a partition.
pub fn consumer_offset(group: &str, topic: &str, partition: i32) -> String {
    format!("/consumers/{group}/offsets/{topic}/{partition}")
}

/// Returns the marker that asks for a topic's deletion.
pub fn delete_topic(name: &str) -> String {
    format!("{DELETE_TOPICS}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_any_name_have_a_znode() {
        for group in ["g", "my group/1", "..", "100%", "é𝄞", "a.b-c_d"] {
            let name = sanitized(group);
            assert!(!name.contains('/') && !name.contains('.'), "{name}");
            assert_eq!(desanitized(&name).as_deref(), Some(group));
        }
        assert_eq!(desanitized("%"), None);
        assert_eq!(desanitized("%zz"), None);
    }
}
