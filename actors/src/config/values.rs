//! The values that were given, and where each came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::typed::FromText;
use super::{ConfigKey, InvalidConfig, table};

/// Where a value was given; the strongest comes last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A line of `server.properties`, counted from 1.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Override,
    /// A setting of all brokers, changed while running.
    DynamicDefault,
    /// A setting of this broker, changed while running.
    DynamicBroker,
}

impl Origin {
    /// Orders origins of different kinds; the stronger is higher.
    fn strength(&self) -> u8 {
        match self {
            Self::File { .. } => 0,
            Self::Environment(_) => 1,
            Self::Override => 2,
            Self::DynamicDefault => 3,
            Self::DynamicBroker => 4,
        }
    }

    /// Returns whether the value was there at start.
    pub fn is_static(&self) -> bool {
        self.strength() <= Self::Override.strength()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Override => f.write_str("command line"),
            Self::DynamicDefault => f.write_str("dynamic configuration of all brokers"),
            Self::DynamicBroker => f.write_str("dynamic configuration of this broker"),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The text as it was given.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

/// The broker-level values that were given, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, Vec<Given>>);

impl Values {
    /// Sets a value. Where it is read, the strongest origin wins; of equal origins the later.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>, origin: Origin) {
        let layers = self.0.entry(name.into()).or_default();
        layers.retain(|given| given.origin.strength() != origin.strength());
        let place = layers.partition_point(|given| given.origin.strength() > origin.strength());
        layers.insert(
            place,
            Given {
                value: value.into(),
                origin,
            },
        );
    }

    /// Returns what counts for a key.
    pub fn given(&self, name: &str) -> Option<&Given> {
        self.layers(name).first()
    }

    /// Returns everything that was given for a key, the strongest first.
    pub fn layers(&self, name: &str) -> &[Given] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns these values without what was changed while running.
    pub fn without_dynamic(&self) -> Self {
        let mut values = self.0.clone();
        values
            .values_mut()
            .for_each(|layers| layers.retain(|given| given.origin.is_static()));
        values.retain(|_, layers| !layers.is_empty());
        Self(values)
    }

    /// Returns the given text of a key.
    pub fn given_text(&self, name: &str) -> Option<&str> {
        self.given(name).map(|given| given.value.as_str())
    }

    /// Returns the text of a key: as given, or its default.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given_text(name)
            .or_else(|| table::broker_key(name)?.default)
    }

    /// Iterates over what counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Given)> {
        self.0
            .iter()
            .filter_map(|(name, layers)| Some((name.as_str(), layers.first()?)))
    }

    /// Checks each given value against its key, if it has one. The first bad one is the error, with its origin.
    pub(super) fn validate(
        &self,
        key: impl Fn(&str) -> Option<&'static ConfigKey>,
    ) -> Result<(), (InvalidConfig, Origin)> {
        for (name, given) in self.iter() {
            if let Some(key) = key(name) {
                key.validate(&given.value)
                    .map_err(|error| (error, given.origin.clone()))?;
            }
        }
        Ok(())
    }

    /// Reads a key as a type. Values are validated before, so nothing is lost by falling back to the type's default.
    pub(super) fn read<T: FromText>(&self, name: &str) -> T {
        self.try_read(name).unwrap_or_default()
    }

    pub(super) fn try_read<T: FromText>(&self, name: &str) -> Option<T> {
        self.text(name)
            .map_or_else(|| Some(T::default()), T::from_text)
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Values {
    /// Takes pairs of key and value as if given by `--override`.
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut values = Self::default();
        for (name, value) in pairs {
            values.set(name, value, Origin::Override);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(line: usize) -> Origin {
        Origin::File {
            path: Path::new("server.properties").into(),
            line,
        }
    }

    #[test]
    fn the_stronger_origin_wins_in_any_order() {
        let mut values = Values::default();
        values.set("num.partitions", "3", Origin::Override);
        values.set(
            "num.partitions",
            "2",
            Origin::Environment("KAFKA_NUM_PARTITIONS".into()),
        );
        values.set("num.partitions", "1", file(4));
        assert_eq!(values.given_text("num.partitions"), Some("3"));
    }

    #[test]
    fn of_equal_origins_the_later_wins() {
        let mut values = Values::default();
        values.set("num.partitions", "1", file(1));
        values.set("num.partitions", "2", file(9));
        assert_eq!(
            values.given("num.partitions").map(|given| &given.origin),
            Some(&file(9))
        );
    }

    #[test]
    fn a_bad_value_names_where_it_stands() {
        let mut values = Values::default();
        values.set("num.partitions", "many", file(7));
        let (error, origin) = values.validate(table::broker_key).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Invalid value many for configuration num.partitions: Not a number of type INT"
        );
        assert_eq!(origin.to_string(), "server.properties, line 7");
    }
}
