//! Listeners: `NAME://host:port` lists, and the older `port` and `host.name`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::key::list;
use super::{InvalidConfig, Values};

/// How a listener secures its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Nothing.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL within TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// Returns Kafka's name of the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

impl FromStr for SecurityProtocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [
            Self::Plaintext,
            Self::Ssl,
            Self::SaslPlaintext,
            Self::SaslSsl,
        ]
        .into_iter()
        .find(|protocol| protocol.name().eq_ignore_ascii_case(text))
        .ok_or(())
    }
}

/// An address that is listened on, or told to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name of the listener, in upper case; often that of its protocol.
    pub name: String,
    /// How connections are secured.
    pub protocol: SecurityProtocol,
    /// Host name or address, without the brackets of IPv6; empty for all interfaces.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
}

impl Listener {
    /// Returns the host under which other brokers know it: without one, all brokers are on this machine.
    pub fn registered_host(&self) -> &str {
        match self.host.as_str() {
            "" => "localhost",
            host => host,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, host, port, ..
        } = self;
        if host.contains(':') {
            write!(f, "{name}://[{host}]:{port}")
        } else {
            write!(f, "{name}://{host}:{port}")
        }
    }
}

/// Reads `listeners`, or else `host.name` and `port`.
pub(super) fn listeners(values: &Values) -> Result<Vec<Listener>, InvalidConfig> {
    let protocols = protocol_map(values)?;
    if values.given("listeners").is_none()
        && (values.given("port").is_some() || values.given("host.name").is_some())
    {
        return Ok(vec![plaintext(values, "host.name", "port")?]);
    }
    let text = values.text("listeners").unwrap_or_default();
    let listeners = parse("listeners", text, &protocols)?;
    if listeners.is_empty() {
        return Err(InvalidConfig::value(
            "listeners",
            text,
            "at least one NAME://host:port",
        ));
    }
    for (index, listener) in listeners.iter().enumerate() {
        let earlier = listeners.iter().take(index);
        if earlier.clone().any(|other| other.name == listener.name) {
            return Err(InvalidConfig::value(
                "listeners",
                text,
                "each listener must have a different name",
            ));
        }
        let taken = |other: &Listener| {
            other.port == listener.port && other.host == listener.host && other.port != 0
        };
        if earlier.clone().any(taken) {
            return Err(InvalidConfig::value(
                "listeners",
                text,
                "each listener must have a different port",
            ));
        }
    }
    Ok(listeners)
}

/// Reads `advertised.listeners`, or else `advertised.host.name` and `advertised.port`.
///
/// Empty when none is given: then each client is told the address at which it reached the broker.
pub(super) fn advertised(values: &Values) -> Result<Vec<Listener>, InvalidConfig> {
    let protocols = protocol_map(values)?;
    if let Some(text) = values.given_text("advertised.listeners") {
        let listeners = parse("advertised.listeners", text, &protocols)?;
        if listeners
            .iter()
            .any(|listener| ["", "0.0.0.0", "::"].contains(&listener.host.as_str()))
        {
            let expected = "an address that clients can connect to, not that of all interfaces";
            return Err(InvalidConfig::value("advertised.listeners", text, expected));
        }
        return Ok(listeners);
    }
    if values.given("advertised.host.name").is_some() {
        let mut listener = plaintext(values, "advertised.host.name", "advertised.port")?;
        if values.given("advertised.port").is_none() {
            listener.port = listeners(values)?
                .first()
                .map_or(listener.port, |first| first.port);
        }
        return Ok(vec![listener]);
    }
    Ok(Vec::new())
}

/// Returns the name of the listener that brokers use among themselves.
pub(super) fn inter_broker(
    values: &Values,
    listeners: &[Listener],
) -> Result<String, InvalidConfig> {
    let (key, name) = match values.given_text("inter.broker.listener.name") {
        Some(name) => (
            "inter.broker.listener.name",
            name.trim().to_ascii_uppercase(),
        ),
        None => match values.given_text("security.inter.broker.protocol") {
            Some(protocol) => (
                "security.inter.broker.protocol",
                protocol.trim().to_ascii_uppercase(),
            ),
            None => return Ok(first_plaintext(listeners)),
        },
    };
    if listeners.iter().any(|listener| listener.name == name) {
        return Ok(name);
    }
    let known: Vec<_> = listeners
        .iter()
        .map(|listener| listener.name.as_str())
        .collect();
    Err(InvalidConfig::value(
        key,
        &name,
        format!("one of the listeners: {}", known.join(", ")),
    ))
}

fn first_plaintext(listeners: &[Listener]) -> String {
    let plaintext = listeners
        .iter()
        .find(|listener| listener.protocol == SecurityProtocol::Plaintext);
    plaintext
        .or(listeners.first())
        .map(|listener| listener.name.clone())
        .unwrap_or_default()
}

fn plaintext(values: &Values, host_key: &str, port_key: &str) -> Result<Listener, InvalidConfig> {
    let text = values.text(port_key).unwrap_or("9092").trim();
    let port = text
        .parse()
        .map_err(|_| InvalidConfig::value(port_key, text, "a port between 0 and 65535"))?;
    let host = values.text(host_key).unwrap_or_default().trim();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Ok(Listener {
        name: "PLAINTEXT".to_owned(),
        protocol: SecurityProtocol::Plaintext,
        host: host.to_owned(),
        port,
    })
}

fn protocol_map(values: &Values) -> Result<BTreeMap<String, SecurityProtocol>, InvalidConfig> {
    let text = values
        .text("listener.security.protocol.map")
        .unwrap_or_default();
    let pair = |element: &str| {
        let (name, protocol) = element.split_once(':')?;
        Some((
            name.trim().to_ascii_uppercase(),
            protocol.trim().parse().ok()?,
        ))
    };
    let expected =
        "NAME:PROTOCOL,... where PROTOCOL is one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL";
    list(text)
        .map(|element| {
            pair(element).ok_or_else(|| {
                InvalidConfig::value("listener.security.protocol.map", element, expected)
            })
        })
        .collect()
}

fn parse(
    key: &str,
    text: &str,
    protocols: &BTreeMap<String, SecurityProtocol>,
) -> Result<Vec<Listener>, InvalidConfig> {
    list(text)
        .map(|element| {
            let form = || {
                InvalidConfig::value(
                    key,
                    element,
                    "NAME://host:port, for example PLAINTEXT://:9092",
                )
            };
            let (name, address) = element.split_once("://").ok_or_else(form)?;
            let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
            let port = port
                .parse()
                .map_err(|_| InvalidConfig::value(key, element, "a port between 0 and 65535"))?;
            let host = match host.strip_prefix('[') {
                Some(host) => host.strip_suffix(']').ok_or_else(form)?,
                None if host.contains(':') => return Err(form()),
                None => host,
            };
            let name = name.to_ascii_uppercase();
            let Some(&protocol) = protocols.get(&name) else {
                let expected = format!("No security protocol defined for listener {name}");
                return Err(InvalidConfig::value(key, element, expected));
            };
            Ok(Listener {
                name,
                protocol,
                host: host.to_owned(),
                port,
            })
        })
        .collect()
}
