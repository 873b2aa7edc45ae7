//! The configuration: Kafka's keys, where their values come from, and the typed view that the code uses.
//!
//! [`table`] defines every key once. [`properties`] gathers values from `--override`, the environment and
//! `server.properties` into [`Values`]; [`BrokerConfig`] and [`TopicConfig`] are what the rest of Troupe reads;
//! [`describe`] answers DescribeConfigs.

mod broker;
pub mod describe;
mod group;
mod key;
mod listeners;
pub mod properties;
pub mod table;
mod topic;
mod typed;
mod values;
pub mod zookeeper;

pub use broker::{BrokerConfig, ZookeeperConnect};
pub use group::GroupSettings;
pub use key::{Check, ConfigKey, Effect, Kind, Synonym, Update, list};
pub use listeners::{Listener, SecurityProtocol};
pub use topic::{CleanupPolicy, CompressionType, TimestampType, TopicConfig};
pub use values::{Given, Origin, Values};

/// Tells why a configuration cannot be used. The text is Kafka's, for tools show it to their user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// No topic has such a key.
    #[error("Unknown topic config name: {name}")]
    UnknownName {
        /// The name that was given.
        name: String,
    },
    /// The value does not fit its key.
    #[error("Invalid value {value} for configuration {name}: {expected}")]
    Value {
        /// Kafka's name of the key.
        name: String,
        /// The value that was given; `[hidden]` for a secret.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// The values of two keys exclude each other.
    #[error("{0}")]
    Conflict(String),
}

impl InvalidConfig {
    /// Makes the error for a value that does not fit its key.
    pub(crate) fn value(name: &str, value: &str, expected: impl Into<String>) -> Self {
        Self::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: expected.into(),
        }
    }

    /// Returns the key at fault, where there is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::UnknownName { name } | Self::Value { name, .. } => Some(name),
            Self::Conflict(_) => None,
        }
    }
}
