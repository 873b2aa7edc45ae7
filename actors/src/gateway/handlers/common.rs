//! What several answers have in common: addresses, names, and the operations that nobody restricts yet.

use std::net::SocketAddr;
use std::time::Duration;

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::messages::{BrokerId, TopicName};

use crate::config::Listener;
use crate::gateway::request::RequestContext;
use crate::metadata::{BrokerNode, MetadataImage};

/// Says in an answer that operations were not asked for.
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// All operations on a topic, one bit each: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS,
/// ALTER_CONFIGS (KIP-430). Without authorization everybody may do everything.
pub(crate) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;

/// All operations on the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS,
/// IDEMPOTENT_WRITE.
pub(crate) const CLUSTER_OPERATIONS: i32 =
    1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// All operations on a group: READ, DELETE, DESCRIBE.
pub(crate) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

/// Copies a text into an answer.
pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// Copies a topic's name into an answer.
pub(crate) fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}

/// Wraps broker ids as messages want them.
pub(crate) fn broker_ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

/// Returns how long a client waits; a negative time-out is none.
pub(crate) fn patience(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

/// Lists the brokers that this client can reach: those that have the listener through which it asks.
pub(crate) fn reachable_brokers<'a>(
    cx: &'a RequestContext,
    image: &'a MetadataImage,
) -> impl Iterator<Item = (&'a BrokerNode, StrBytes, i32)> {
    // All brokers have to say the same: clients connect anew to one whose name changes.
    let alone = image.brokers.len() < 2;
    image.brokers.values().filter_map(move |broker| {
        let endpoint = broker.endpoint(&cx.listener)?;
        let port = i32::from(endpoint.port);
        let host = match alone {
            true => advertised_host(endpoint, cx.local_addr),
            false => text(endpoint.registered_host()),
        };
        Some((&**broker, host, port))
    })
}

/// Tells a client the host it can reach: the advertised one, or else the address at which it is connected right now.
fn advertised_host(endpoint: &Listener, reached_at: SocketAddr) -> StrBytes {
    if endpoint.host.is_empty() {
        text(&reached_at.ip().to_canonical().to_string())
    } else {
        text(&endpoint.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecurityProtocol;

    fn endpoint(host: &str) -> Listener {
        Listener {
            name: "PLAINTEXT".to_owned(),
            protocol: SecurityProtocol::Plaintext,
            host: host.to_owned(),
            port: 9092,
        }
    }

    #[test]
    fn without_configuration_clients_are_told_where_they_are() {
        let told = |address: &str| advertised_host(&endpoint(""), address.parse().unwrap());
        assert_eq!(&*told("10.1.2.3:9092"), "10.1.2.3");
        assert_eq!(&*told("[::1]:9092"), "::1");
        // An IPv4 client of a socket that listens on both.
        assert_eq!(&*told("[::ffff:127.0.0.1]:9092"), "127.0.0.1");
    }

    #[test]
    fn an_advertised_host_wins() {
        let told = advertised_host(&endpoint("kafka.example"), "10.1.2.3:9092".parse().unwrap());
        assert_eq!(&*told, "kafka.example");
    }

    #[test]
    fn operations_are_those_of_kafka() {
        assert_eq!(TOPIC_OPERATIONS, 3576);
        assert_eq!(CLUSTER_OPERATIONS, 8096);
    }
}
