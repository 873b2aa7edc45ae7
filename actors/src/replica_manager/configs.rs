//! Configurations: what AlterConfigs and IncrementalAlterConfigs (KIP-339) make of them, and what counts here.
//!
//! Every broker does this by itself: it writes the znodes and a notice of the change, upon which the others read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use troupe_protocol::kafka::errors::ErrorCode;

use super::replicas::{Replicas, TOPICS_AT_ONCE};
use crate::config::{GroupSettings, InvalidConfig, Kind, TopicConfig, list, table};
use crate::controller::topics::AdminError;
use crate::coordination::schema::{ConfigChange, ConfigOverrides, to_json};
use crate::coordination::{CoordinationError, paths};
use crate::metadata::TopicImage;
use crate::partition::messages::UpdateConfig;

/// What a configuration belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// One broker, or with an empty name all of them.
    Broker(String),
    /// A group.
    Group(String),
}

impl ConfigResource {
    fn path(&self) -> String {
        match self {
            Self::Topic(name) => paths::config("topics", name),
            Self::Broker(name) => paths::config("brokers", entity(name)),
            Self::Group(name) => paths::config("groups", &paths::sanitized(name)),
        }
    }

    fn entity_path(&self) -> String {
        match self {
            Self::Topic(name) => format!("topics/{name}"),
            Self::Broker(name) => format!("brokers/{}", entity(name)),
            Self::Group(name) => format!("groups/{}", paths::sanitized(name)),
        }
    }
}

fn entity(broker: &str) -> &str {
    if broker.is_empty() {
        "<default>"
    } else {
        broker
    }
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOp {
    /// Gives it this value.
    Set(String),
    /// Takes the override away.
    Delete,
    /// Adds elements to a list.
    Append(String),
    /// Takes elements out of a list.
    Subtract(String),
}

/// How a configuration changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigAlteration {
    /// Everything that is set from now on; the rest goes back to its default.
    Replace(BTreeMap<String, Option<String>>),
    /// Only these keys.
    Incremental(Vec<(String, ConfigOp)>),
}

/// Computes the overrides after an alteration. `inherited` gives the value of a key that has no override.
pub fn alter(
    overrides: &BTreeMap<String, String>,
    alteration: &ConfigAlteration,
    kind: impl Fn(&str) -> Option<Kind>,
    inherited: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, AdminError> {
    let changes = match alteration {
        ConfigAlteration::Replace(config) => return required(config),
        ConfigAlteration::Incremental(changes) => changes,
    };
    let mut next = overrides.clone();
    for (name, op) in changes {
        let unknown = || invalid(&InvalidConfig::UnknownName { name: name.clone() });
        let is_list = kind(name).ok_or_else(unknown)? == Kind::List;
        let current = || {
            let value = overrides.get(name).cloned().or_else(|| inherited(name));
            value.unwrap_or_default()
        };
        let elements = |text: &str| list(text).map(str::to_owned).collect::<Vec<_>>();
        match op {
            ConfigOp::Set(value) => {
                next.insert(name.clone(), value.clone());
            }
            ConfigOp::Delete => {
                next.remove(name);
            }
            ConfigOp::Append(_) | ConfigOp::Subtract(_) if !is_list => {
                let message =
                    format!("Config value append/subtract is not allowed for config key: {name}");
                return Err(AdminError::new(ErrorCode::InvalidConfig, message));
            }
            ConfigOp::Append(value) => {
                let mut all = elements(&current());
                let new = elements(value);
                all.extend(
                    new.into_iter()
                        .filter(|element| !elements(&current()).contains(element)),
                );
                next.insert(name.clone(), all.join(","));
            }
            ConfigOp::Subtract(value) => {
                let gone = elements(value);
                let mut all = elements(&current());
                all.retain(|element| !gone.contains(element));
                next.insert(name.clone(), all.join(","));
            }
        }
    }
    Ok(next)
}

fn required(
    config: &BTreeMap<String, Option<String>>,
) -> Result<BTreeMap<String, String>, AdminError> {
    config
        .iter()
        .map(|(name, value)| match value {
            Some(value) => Ok((name.clone(), value.clone())),
            None => {
                let message = format!("Null value not supported for : {name}");
                Err(AdminError::new(ErrorCode::InvalidRequest, message))
            }
        })
        .collect()
}

fn invalid(error: &InvalidConfig) -> AdminError {
    AdminError::new(ErrorCode::InvalidConfig, error.to_string())
}

impl Replicas {
    /// Alters the configuration of a topic or of brokers, and makes it count at once.
    pub(super) async fn alter_config(
        &self,
        resource: &ConfigResource,
        alteration: &ConfigAlteration,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        match resource {
            ConfigResource::Topic(name) => {
                self.alter_topic(resource, name, alteration, validate_only)
                    .await
            }
            ConfigResource::Broker(name) => {
                if !name.is_empty() && *name != self.node.id.to_string() {
                    let message = format!(
                        "Unexpected broker id, expected {} or empty string, but received {name}",
                        self.node.id
                    );
                    return Err(AdminError::new(ErrorCode::InvalidRequest, message));
                }
                self.alter_brokers(resource, alteration, validate_only)
                    .await
            }
            ConfigResource::Group(name) => {
                self.alter_group(resource, name, alteration, validate_only)
                    .await
            }
        }
    }

    async fn alter_topic(
        &self,
        resource: &ConfigResource,
        name: &str,
        alteration: &ConfigAlteration,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let Some(topic) = self.image.borrow().topic(name).map(Arc::clone) else {
            let message = format!("The topic '{name}' does not exist.");
            return Err(AdminError::new(ErrorCode::UnknownTopicOrPartition, message));
        };
        let broker = Arc::clone(&self.config.borrow());
        let kind = |key: &str| table::topic_key(key).map(|key| key.kind);
        let inherited = |key: &str| {
            let described = crate::config::describe::topic(&topic.overrides, &broker);
            described.into_iter().find(|found| found.name == key)?.value
        };
        let before = self.to_alter(resource, || topic.overrides.clone()).await?;
        let overrides = alter(&before, alteration, kind, inherited)?;
        TopicConfig::parse(&overrides, &broker).map_err(|error| invalid(&error))?;
        if validate_only {
            return Ok(());
        }
        self.store(resource, overrides).await?;
        Ok(self.refresh_topic(name).await?)
    }

    async fn alter_group(
        &self,
        resource: &ConfigResource,
        name: &str,
        alteration: &ConfigAlteration,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let broker = Arc::clone(&self.config.borrow());
        let published = || {
            let image = self.image.borrow();
            image.group_overrides(name).cloned().unwrap_or_default()
        };
        let before = self.to_alter(resource, published).await?;
        // No key is a list, so that nothing is inherited by being added to.
        let overrides = alter(
            &before,
            alteration,
            |key| Some(table::group_key(key).map_or(Kind::String, |key| key.kind)),
            |_| None,
        )?;
        GroupSettings::check(&overrides, &broker).map_err(|error| invalid(&error))?;
        if validate_only {
            return Ok(());
        }
        self.store(resource, overrides.clone()).await?;
        self.publish(|image| image.put_group_overrides(name, overrides));
        Ok(())
    }

    /// Reads what is set for a group again.
    pub(super) async fn refresh_group(&self, name: &str) -> Result<(), CoordinationError> {
        let resource = ConfigResource::Group(name.to_owned());
        let overrides = self.stored_overrides(&resource).await?;
        self.publish(|image| image.put_group_overrides(name, overrides));
        Ok(())
    }

    /// Reads what is set for all groups.
    pub(super) async fn read_groups(&self) -> Result<(), CoordinationError> {
        let session = self.session.lend()?;
        for node in session.children(paths::GROUP_CONFIGS).await? {
            if let Some(group) = paths::desanitized(&node) {
                self.refresh_group(&group).await?;
            }
        }
        Ok(())
    }

    async fn alter_brokers(
        &self,
        resource: &ConfigResource,
        alteration: &ConfigAlteration,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let mut layers = self.dynamic_layers().await?;
        let layer = layers.layer(resource);
        let broker = Arc::clone(&self.config.borrow());
        let kind = |key: &str| table::broker_key(key).map(|key| key.kind);
        let inherited = |key: &str| broker.values.text(key).map(str::to_owned);
        let overrides = alter(layer, alteration, kind, inherited)?;
        let fixed: Vec<&str> = overrides
            .keys()
            .filter(|key| layer.get(*key) != overrides.get(*key) && !table::is_dynamic(key))
            .map(String::as_str)
            .collect();
        if !fixed.is_empty() {
            let message = format!(
                "Cannot update these configs dynamically: Set({})",
                fixed.join(", ")
            );
            return Err(AdminError::new(ErrorCode::InvalidRequest, message));
        }
        layer.clone_from(&overrides);
        broker
            .with_dynamic(&layers.of_all, &layers.of_this)
            .map_err(|error| invalid(&error))?;
        if validate_only {
            return Ok(());
        }
        self.store(resource, overrides).await?;
        Ok(self.refresh_brokers().await?)
    }

    /// Reads what is set for all brokers, and for this one.
    async fn dynamic_layers(&self) -> Result<DynamicLayers, CoordinationError> {
        let of_this = ConfigResource::Broker(self.node.id.to_string());
        Ok(DynamicLayers {
            of_all: self
                .stored_overrides(&ConfigResource::Broker(String::new()))
                .await?,
            of_this: self.stored_overrides(&of_this).await?,
        })
    }

    pub(super) async fn stored_overrides(
        &self,
        resource: &ConfigResource,
    ) -> Result<BTreeMap<String, String>, CoordinationError> {
        let session = self.session.lend()?;
        let node = session
            .get_json::<ConfigOverrides>(&resource.path())
            .await?;
        Ok(node.map(|(node, _)| node.config).unwrap_or_default())
    }

    /// Reads what is to be altered: what is stored, because somebody else may have changed it just now, or what is published
    /// where that makes no sense.
    async fn to_alter(
        &self,
        resource: &ConfigResource,
        published: impl FnOnce() -> BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, CoordinationError> {
        match self.stored_overrides(resource).await {
            Err(CoordinationError::Malformed(_)) => Ok(published()),
            stored => stored,
        }
    }

    async fn store(
        &self,
        resource: &ConfigResource,
        config: BTreeMap<String, String>,
    ) -> Result<(), CoordinationError> {
        let node = ConfigOverrides { version: 1, config };
        let session = self.session.lend()?;
        session.put_json(&resource.path(), &node).await?;
        let change = ConfigChange {
            version: 2,
            entity_path: resource.entity_path(),
        };
        session
            .create_sequential(paths::CONFIG_CHANGE_PREFIX, &to_json(&change))
            .await
    }

    /// Computes a topic's configuration; overrides that make no sense are ignored, loudly.
    pub(super) fn topic_config(
        &self,
        name: &str,
        overrides: &BTreeMap<String, String>,
    ) -> TopicConfig {
        let broker = Arc::clone(&self.config.borrow());
        TopicConfig::parse(overrides, &broker).unwrap_or_else(|error| {
            tracing::error!(
                "topic {name}: {error}; its configuration is the broker's until that is mended"
            );
            broker.topic_defaults.clone()
        })
    }

    /// Reads what is set for a topic again, and has it count.
    pub(super) async fn refresh_topic(&self, name: &str) -> Result<(), CoordinationError> {
        let Some(known) = self.current().topic(name).map(Arc::clone) else {
            return Ok(());
        };
        let resource = ConfigResource::Topic(name.to_owned());
        let overrides = self.stored_overrides(&resource).await?;
        let config = Arc::new(self.topic_config(name, &overrides));
        for replica in known
            .partitions
            .iter()
            .filter_map(|partition| partition.local.as_ref())
        {
            let config = Arc::clone(&config);
            // One that is gone has no use for it.
            let _ = replica.send(UpdateConfig { config }).await;
        }
        self.publish(|image| {
            image.put_topic(Arc::new(TopicImage {
                name: Arc::clone(&known.name),
                id: known.id,
                is_internal: known.is_internal,
                partitions: known.partitions.clone(),
                overrides,
                config,
            }));
        });
        Ok(())
    }

    /// Reads all again that is set: nobody told of what changed while there was no session.
    pub(super) async fn reread(&self) -> Result<(), CoordinationError> {
        unless_malformed(self.refresh_brokers().await)?;
        unless_malformed(self.read_groups().await)?;
        let image = self.current();
        let reads = image.topics().map(|topic| async move {
            let resource = ConfigResource::Topic(topic.name.to_string());
            (topic, self.stored_overrides(&resource).await)
        });
        let mut reads = stream::iter(reads).buffer_unordered(TOPICS_AT_ONCE);
        while let Some((topic, stored)) = reads.next().await {
            match stored {
                Ok(overrides) if overrides == topic.overrides => {}
                Ok(_) => self.refresh_topic(&topic.name).await?,
                Err(error) => unless_malformed(Err(error))?,
            }
        }
        Ok(())
    }

    /// Reads the brokers' dynamic configuration again, and passes it on to every topic.
    pub(super) async fn refresh_brokers(&self) -> Result<(), CoordinationError> {
        let current = Arc::clone(&self.config.borrow());
        let layers = self.dynamic_layers().await?;
        for name in layers.of_all.keys().chain(layers.of_this.keys()) {
            if !table::is_dynamic(name) {
                tracing::warn!("{name} is set for running brokers, and has no effect on one here");
            }
        }
        let next = match current.with_dynamic(&layers.of_all, &layers.of_this) {
            Ok(next) => next,
            Err(error) => {
                tracing::error!("the stored configuration of the brokers is not applied: {error}");
                return Ok(());
            }
        };
        if next.values == current.values {
            return Ok(());
        }
        self.config.send_replace(Arc::new(next));
        let topics: Vec<String> = {
            let image = self.image.borrow();
            image.topics().map(|topic| topic.name.to_string()).collect()
        };
        for topic in topics {
            self.refresh_topic(&topic).await?;
        }
        Ok(())
    }
}

/// Leaves as it was what can't be read, loudly.
fn unless_malformed(read: Result<(), CoordinationError>) -> Result<(), CoordinationError> {
    match read {
        Err(CoordinationError::Malformed(error)) => {
            tracing::error!("{error}; that configuration stays as it was");
            Ok(())
        }
        other => other,
    }
}

/// What is set for brokers while they run.
struct DynamicLayers {
    of_all: BTreeMap<String, String>,
    of_this: BTreeMap<String, String>,
}

impl DynamicLayers {
    fn layer(&mut self, resource: &ConfigResource) -> &mut BTreeMap<String, String> {
        match resource {
            ConfigResource::Broker(name) if name.is_empty() => &mut self.of_all,
            _ => &mut self.of_this,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn incremental(name: &str, op: ConfigOp) -> Result<BTreeMap<String, String>, AdminError> {
        let before = set(&[("retention.ms", "5"), ("cleanup.policy", "delete")]);
        let alteration = ConfigAlteration::Incremental(vec![(name.to_owned(), op)]);
        alter(
            &before,
            &alteration,
            |key| table::topic_key(key).map(|key| key.kind),
            |_| None,
        )
    }

    #[test]
    fn only_the_named_keys_change() {
        assert_eq!(
            incremental("retention.ms", ConfigOp::Delete),
            Ok(set(&[("cleanup.policy", "delete")]))
        );
        assert_eq!(
            incremental("segment.ms", ConfigOp::Set("7".to_owned())),
            Ok(set(&[
                ("cleanup.policy", "delete"),
                ("retention.ms", "5"),
                ("segment.ms", "7")
            ]))
        );
    }

    #[test]
    fn lists_grow_and_shrink_by_element() {
        let grown = incremental(
            "cleanup.policy",
            ConfigOp::Append("compact,delete".to_owned()),
        );
        assert_eq!(grown.unwrap()["cleanup.policy"], "delete,compact");
        let shrunk = incremental("cleanup.policy", ConfigOp::Subtract("delete".to_owned()));
        assert_eq!(shrunk.unwrap()["cleanup.policy"], "");
    }

    #[test]
    fn numbers_do_not() {
        let error = incremental("retention.ms", ConfigOp::Append("6".to_owned())).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidConfig);
    }

    #[test]
    fn a_replacement_forgets_the_rest() {
        let alteration = ConfigAlteration::Replace(BTreeMap::from([(
            "segment.ms".to_owned(),
            Some("7".to_owned()),
        )]));
        let next = alter(
            &set(&[("retention.ms", "5")]),
            &alteration,
            |_| None,
            |_| None,
        );
        assert_eq!(next, Ok(set(&[("segment.ms", "7")])));
    }
}
