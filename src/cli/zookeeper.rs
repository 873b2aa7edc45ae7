//! What the older tools did with `--zookeeper`: finds a broker through its registration.

use serde_json::Value;
use zookeeper_client::Client;

use super::output;

/// Tells why no broker was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    #[error("Cannot reach the coordination service at {0}: {1}")]
    Unreachable(String, zookeeper_client::Error),
    #[error("No broker is registered at {0}")]
    NoBroker(String),
}

/// Returns `host:port` of every broker registered at a connection string such as `localhost:2181/chroot`.
pub(crate) async fn brokers(connect: &str) -> Result<Vec<String>, DiscoveryError> {
    let unreachable = |error| DiscoveryError::Unreachable(connect.to_owned(), error);
    let client = Client::connect(&with_ports(connect))
        .await
        .map_err(unreachable)?;
    let mut brokers = Vec::new();
    for id in client
        .list_children("/brokers/ids")
        .await
        .unwrap_or_default()
    {
        let registration = client.get_data(&format!("/brokers/ids/{id}")).await;
        brokers.extend(registration.ok().and_then(|(data, _)| address(&data)));
    }
    if brokers.is_empty() {
        return Err(DiscoveryError::NoBroker(connect.to_owned()));
    }
    Ok(brokers)
}

/// Gives servers without a port the usual one.
fn with_ports(connect: &str) -> String {
    let (servers, chroot) = connect
        .find('/')
        .map_or((connect, ""), |at| connect.split_at(at));
    let server = |server: &str| {
        let has_port = server
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if has_port {
            server.to_owned()
        } else {
            format!("{server}:2181")
        }
    };
    let servers: Vec<_> = servers.split(',').map(|text| server(text.trim())).collect();
    format!("{}{}", servers.join(","), chroot.trim_end_matches('/'))
}

fn address(registration: &[u8]) -> Option<String> {
    let registration: Value = serde_json::from_slice(registration).ok()?;
    let host = registration.get("host")?.as_str()?;
    let port = registration
        .get("port")?
        .as_u64()
        .filter(|port| *port > 0)?;
    Some(if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}

/// Teaches the modern form of an old flag.
pub(crate) fn hint(old_flag: &str, modern: &str) {
    output::error(format_args!(
        "Hint: {old_flag} is of an older Kafka; today one writes {modern}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_gives_an_address() {
        let registration = br#"{"version":4,"host":"broker1","port":9092,"endpoints":["PLAINTEXT://broker1:9092"]}"#;
        assert_eq!(address(registration).as_deref(), Some("broker1:9092"));
        assert_eq!(
            address(br#"{"host":"::1","port":9092}"#).as_deref(),
            Some("[::1]:9092")
        );
        assert_eq!(address(br#"{"host":null,"port":-1}"#), None);
        assert_eq!(address(b"nonsense"), None);
    }

    #[test]
    fn the_usual_port_is_filled_in() {
        assert_eq!(with_ports("localhost"), "localhost:2181");
        assert_eq!(with_ports("a:1, b/kafka/"), "a:1,b:2181/kafka");
    }
}
