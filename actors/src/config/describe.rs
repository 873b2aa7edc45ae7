//! Answers for DescribeConfigs: each key with its value, where that comes from, and what else was given.

use std::collections::BTreeMap;

use super::topic::Resolved;
use super::{BrokerConfig, ConfigKey, Effect, Kind, Origin, Values, table};

/// Where a value comes from; the numbers are those of DescribeConfigs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// An override of the topic.
    DynamicTopic = 1,
    /// A setting of this broker, changed while running.
    DynamicBroker = 2,
    /// A setting of all brokers, changed while running.
    DynamicDefaultBroker = 3,
    /// `server.properties`, the environment or the command line.
    StaticBroker = 4,
    /// The table.
    Default = 5,
    /// An override of the group.
    DynamicGroup = 8,
}

impl ConfigSource {
    /// Returns the number of the source in DescribeConfigs.
    pub fn code(self) -> i8 {
        self as i8
    }
}

impl From<&Origin> for ConfigSource {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::DynamicBroker => Self::DynamicBroker,
            Origin::DynamicDefault => Self::DynamicDefaultBroker,
            Origin::File { .. } | Origin::Environment(_) | Origin::Override => Self::StaticBroker,
        }
    }
}

/// A key that gives another its value, or would if a stronger one were not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedSynonym {
    /// The name of the key.
    pub name: String,
    /// Its value; nothing for a secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
}

/// A key as DescribeConfigs tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The name of the key.
    pub name: String,
    /// Its value; nothing for a secret, or where nothing is set.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it needs a restart to change.
    pub read_only: bool,
    /// Whether the value is a secret.
    pub sensitive: bool,
    /// The type; [`Kind::code`] is what is sent.
    pub kind: Kind,
    /// What the key does, and whether it does so here.
    pub documentation: String,
    /// Everything that was given for it, the strongest first.
    pub synonyms: Vec<DescribedSynonym>,
}

/// Describes a topic: every topic key, by name.
pub fn topic(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Vec<Described> {
    let resolved = Resolved {
        overrides,
        values: &broker.values,
    };
    table::topic_keys()
        .map(|key| {
            let own = overrides.get(key.name).map(|value| DescribedSynonym {
                name: key.name.to_owned(),
                value: Some(value.clone()),
                source: ConfigSource::DynamicTopic,
            });
            let inherited = key
                .synonyms
                .iter()
                .flat_map(|(name, _)| broker_layers(name, &broker.values));
            let synonyms = own.into_iter().chain(inherited).collect();
            described(key, key.name, resolved.text(key.name), false, synonyms)
        })
        .collect()
}

/// Describes a group: every group key, by name.
pub fn group(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Vec<Described> {
    table::group_keys()
        .map(|key| {
            let own = overrides.get(key.name).map(|value| DescribedSynonym {
                name: key.name.to_owned(),
                value: Some(value.clone()),
                source: ConfigSource::DynamicGroup,
            });
            let inherited = key
                .synonyms
                .iter()
                .flat_map(|(name, _)| broker_layers(name, &broker.values));
            let synonyms: Vec<_> = own.into_iter().chain(inherited).collect();
            let value = synonyms.first().map(|synonym| synonym.value.clone());
            let value = value.unwrap_or_else(|| key.default.map(str::to_owned));
            described(key, key.name, value, false, synonyms)
        })
        .collect()
}

/// Describes a broker: every broker key, by name, and what was given besides.
pub fn broker(config: &BrokerConfig) -> Vec<Described> {
    let values = &config.values;
    let known = table::broker_keys().map(|key| {
        let synonyms = broker_synonyms(key.name)
            .into_iter()
            .flat_map(|name| broker_layers(name, values))
            .collect();
        let value = actual(key.name, config).or_else(|| values.text(key.name).map(str::to_owned));
        described(key, key.name, value, !table::is_dynamic(key.name), synonyms)
    });
    // Keys of a listener are described under their full name.
    let prefixed = values.iter().filter_map(|(name, given)| {
        let key = table::broker_key(name).filter(|key| key.name != name)?;
        let read_only = !table::is_dynamic(name);
        Some(described(
            key,
            name,
            Some(given.value.clone()),
            read_only,
            broker_layers(name, values).collect(),
        ))
    });
    let mut all: Vec<_> = known.chain(prefixed).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// What is in force although nothing, or something else, was given.
fn actual(name: &str, config: &BrokerConfig) -> Option<String> {
    match name {
        "broker.id" | "node.id" => Some(config.broker_id.unwrap_or(-1).to_string()),
        "log.dirs" => Some(
            config
                .log_dirs
                .iter()
                .map(|dir| dir.display().to_string())
                .collect::<Vec<_>>()
                .join(","),
        ),
        _ => None,
    }
}

fn described(
    key: &ConfigKey,
    name: &str,
    value: Option<String>,
    read_only: bool,
    mut synonyms: Vec<DescribedSynonym>,
) -> Described {
    let sensitive = key.is_sensitive();
    if sensitive {
        synonyms.iter_mut().for_each(|synonym| synonym.value = None);
    }
    let mut documentation = key.documentation().to_owned();
    if key.effect == Effect::Ignored {
        documentation.push_str(" Accepted for compatibility; it has no effect in Troupe yet.");
    }
    Described {
        name: name.to_owned(),
        value: value.filter(|_| !sensitive),
        source: synonyms
            .first()
            .map_or(ConfigSource::Default, |synonym| synonym.source),
        read_only,
        sensitive,
        kind: key.kind,
        documentation,
        synonyms,
    }
}

/// Everything given for a broker key, then its default.
fn broker_layers(name: &str, values: &Values) -> impl Iterator<Item = DescribedSynonym> {
    let synonym = |value: &str, source| DescribedSynonym {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        source,
    };
    let layers = values.layers(name);
    let dynamic = layers.iter().filter(|given| !given.origin.is_static());
    let at_start = layers.iter().find(|given| given.origin.is_static());
    let given = dynamic
        .chain(at_start)
        .map(|given| synonym(&given.value, ConfigSource::from(&given.origin)));
    let default = table::broker_key(name)
        .and_then(|key| key.default)
        .map(|value| synonym(value, ConfigSource::Default));
    given.chain(default).collect::<Vec<_>>().into_iter()
}

/// The keys that can stand in for a broker key, itself first: those that stand together behind a topic key.
fn broker_synonyms(name: &'static str) -> Vec<&'static str> {
    let group = table::topic_keys().find_map(|key| {
        let names: Vec<_> = key.synonyms.iter().map(|&(synonym, _)| synonym).collect();
        let at = names.iter().position(|synonym| *synonym == name)?;
        Some(names.into_iter().skip(at).collect())
    });
    group.unwrap_or_else(|| vec![name])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker_config(pairs: &[(&str, &str)]) -> BrokerConfig {
        BrokerConfig::from_values(pairs.iter().copied().collect()).unwrap()
    }

    fn find<'a>(all: &'a [Described], name: &str) -> &'a Described {
        all.iter().find(|described| described.name == name).unwrap()
    }

    fn synonyms(described: &Described) -> Vec<(&str, Option<&str>, ConfigSource)> {
        described
            .synonyms
            .iter()
            .map(|s| (s.name.as_str(), s.value.as_deref(), s.source))
            .collect()
    }

    #[test]
    fn a_topic_key_tells_its_whole_ancestry() {
        let broker = broker_config(&[("log.retention.minutes", "3")]);
        let overrides = BTreeMap::from([("retention.ms".to_owned(), "9".to_owned())]);
        let all = topic(&overrides, &broker);
        let retention = find(&all, "retention.ms");
        assert_eq!(
            (retention.value.as_deref(), retention.source),
            (Some("9"), ConfigSource::DynamicTopic)
        );
        assert_eq!(
            synonyms(retention),
            [
                ("retention.ms", Some("9"), ConfigSource::DynamicTopic),
                (
                    "log.retention.minutes",
                    Some("3"),
                    ConfigSource::StaticBroker
                ),
                ("log.retention.hours", Some("168"), ConfigSource::Default),
            ]
        );
        let inherited = topic(&BTreeMap::new(), &broker);
        let retention = find(&inherited, "retention.ms");
        assert_eq!(
            (retention.value.as_deref(), retention.source),
            (Some("180000"), ConfigSource::StaticBroker)
        );
    }

    #[test]
    fn a_topic_without_overrides_has_no_topic_source() {
        let all = topic(&BTreeMap::new(), &BrokerConfig::default());
        assert!(
            all.iter()
                .all(|described| described.source == ConfigSource::Default)
        );
        assert_eq!(
            find(&all, "retention.ms").value.as_deref(),
            Some("604800000")
        );
        assert!(all.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn secrets_are_hidden() {
        let config = broker_config(&[
            ("ssl.key.password", "hunter2"),
            ("listener.name.x.ssl.keystore.key", "k"),
        ]);
        let all = broker(&config);
        let secret = find(&all, "ssl.key.password");
        assert_eq!(
            (&secret.value, secret.sensitive, secret.source),
            (&None, true, ConfigSource::StaticBroker)
        );
        assert!(!format!("{all:?}").contains("hunter2"));
        assert_eq!(find(&all, "listener.name.x.ssl.keystore.key").value, None);
    }

    #[test]
    fn dynamic_settings_come_before_static_ones() {
        let of_this = BTreeMap::from([("log.retention.ms".to_owned(), "7".to_owned())]);
        let config = broker_config(&[("log.retention.ms", "5")])
            .with_dynamic(&BTreeMap::new(), &of_this)
            .unwrap();
        let all = broker(&config);
        assert_eq!(
            synonyms(find(&all, "log.retention.ms")),
            [
                ("log.retention.ms", Some("7"), ConfigSource::DynamicBroker),
                ("log.retention.ms", Some("5"), ConfigSource::StaticBroker),
                ("log.retention.hours", Some("168"), ConfigSource::Default),
            ]
        );
        assert!(find(&all, "log.dirs").read_only && !find(&all, "log.retention.ms").read_only);
    }

    #[test]
    fn a_key_without_effect_says_so() {
        let all = broker(&BrokerConfig::default());
        assert!(
            find(&all, "ssl.provider")
                .documentation
                .ends_with("it has no effect in Troupe yet.")
        );
        assert!(!find(&all, "log.dirs").documentation.contains("no effect"));
    }
}
