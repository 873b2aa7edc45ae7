//! The configuration table: every key that Kafka 0.8 to 4.1 knows, and Troupe's own few.
//!
//! Names, types, defaults and limits are those of Kafka 3.9, then 4.1 for what came later, then older releases
//! for what has gone.

mod cluster;
mod coordinators;
mod group;
mod logs;
mod network;
mod operation;
mod replication;
mod security;
mod topic;
mod troupe;

use super::key::find;
use super::{ConfigKey, Update};

const BROKER: [&[ConfigKey]; 8] = [
    cluster::CLUSTER,
    coordinators::COORDINATORS,
    logs::LOGS,
    network::NETWORK,
    operation::OPERATION,
    replication::REPLICATION,
    security::SECURITY,
    troupe::TROUPE,
];

/// Returns every broker key.
pub fn broker_keys() -> impl Iterator<Item = &'static ConfigKey> {
    BROKER.into_iter().flatten()
}

/// Returns every topic key, by name.
pub fn topic_keys() -> impl Iterator<Item = &'static ConfigKey> {
    topic::TOPIC.iter()
}

/// Returns every group key, by name.
pub fn group_keys() -> impl Iterator<Item = &'static ConfigKey> {
    group::GROUP.iter()
}

/// Finds a group key.
pub fn group_key(name: &str) -> Option<&'static ConfigKey> {
    find(group::GROUP, name)
}

/// Finds a broker key. A key with the prefix of a listener (`listener.name.internal.ssl.…`) is the key after it.
pub fn broker_key(name: &str) -> Option<&'static ConfigKey> {
    let name = without_listener(name);
    BROKER.into_iter().find_map(|keys| find(keys, name))
}

/// Finds a topic key.
pub fn topic_key(name: &str) -> Option<&'static ConfigKey> {
    find(topic::TOPIC, name)
}

/// Tells whether a broker key takes effect while the broker runs: those that are defaults of topics do.
pub fn is_dynamic(name: &str) -> bool {
    let feeds_topics = || {
        topic_keys()
            .flat_map(|key| key.synonyms)
            .any(|(synonym, _)| *synonym == name)
    };
    broker_key(name).is_some_and(|key| key.update != Update::ReadOnly) && feeds_topics()
}

/// Returns whether a name belongs to a plug-in of Kafka's, which names its own keys.
pub fn is_extension(name: &str) -> bool {
    let listener_key = name.starts_with("listener.name.") && without_listener(name) != name;
    listener_key
        || ["rsm.config.", "rlmm.config.", "config.providers"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Cuts `listener.name.<listener>.` and, for SASL, `<mechanism>.` off a name (KIP-103, KIP-226).
fn without_listener(name: &str) -> &str {
    let Some((_, key)) = name
        .strip_prefix("listener.name.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return name;
    };
    match key.split_once('.') {
        Some((_, rest)) if rest.starts_with("sasl.") => rest,
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_unique() {
        for keys in BROKER.into_iter().chain([topic::TOPIC, group::GROUP]) {
            assert!(
                keys.is_sorted_by(|a, b| a.name < b.name),
                "after {:?}",
                keys.first().map(|key| key.name)
            );
        }
        let names: std::collections::BTreeSet<_> = broker_keys().map(|key| key.name).collect();
        assert_eq!(names.len(), broker_keys().count());
    }

    #[test]
    fn every_default_is_allowed() {
        for key in broker_keys().chain(topic_keys()).chain(group_keys()) {
            if let Some(default) = key.default.filter(|default| !default.is_empty()) {
                assert_eq!(key.validate(default), Ok(()), "{}", key.name);
            }
        }
    }

    #[test]
    fn synonyms_are_broker_keys() {
        for (name, _) in topic_keys()
            .chain(group_keys())
            .flat_map(|key| key.synonyms)
        {
            assert!(broker_key(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_key_is_documented() {
        for key in broker_keys().chain(topic_keys()) {
            assert!(key.documentation().ends_with('.'), "{}", key.name);
        }
    }

    #[test]
    fn a_listener_prefix_does_not_hide_the_key() {
        let key = |name| broker_key(name).map(|key| key.name);
        assert_eq!(
            key("listener.name.internal.ssl.keystore.location"),
            Some("ssl.keystore.location")
        );
        assert_eq!(
            key("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config"),
            Some("sasl.jaas.config")
        );
        assert_eq!(key("listener.name.internal.nonsense"), None);
    }

    #[test]
    fn defaults_of_topics_are_dynamic_and_ports_are_not() {
        assert!(is_dynamic("log.retention.ms"));
        assert!(!is_dynamic("listeners"));
        assert!(!is_dynamic("num.network.threads"));
    }
}
