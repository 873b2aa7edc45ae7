//! Reads and writes `meta.properties`, which ties a log directory to its broker and cluster.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// The broker and cluster of a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    /// The broker.
    pub broker_id: i32,
    /// The cluster; missing in what brokers before 0.10.1 wrote.
    pub cluster_id: Option<String>,
}

/// Why a log directory's `meta.properties` stops the start. Each message names the way out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetaError {
    /// It is no properties file, or a value in it is none of its kind.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// It is of a version that is not 0.
    #[error(
        "has version {0}, and only 0 is known (1 is a broker of a KRaft cluster): choose another log directory"
    )]
    Version(String),
    /// The directory is another broker's.
    #[error(
        "belongs to broker {found}, and this is broker {expected}: set broker.id={found} or choose another log directory"
    )]
    Broker {
        /// The broker in the file.
        found: i32,
        /// The broker that is starting.
        expected: i32,
    },
    /// The directory is another cluster's.
    #[error(
        "belongs to cluster {found}, and this is cluster {expected}: choose another log directory, or another zookeeper.connect"
    )]
    Cluster {
        /// The cluster in the file.
        found: String,
        /// The cluster that the coordination service names.
        expected: String,
    },
    /// Two log directories are of different brokers.
    #[error("belongs to broker {found}, and {} to broker {other}: give the broker only its own log directories", other_dir.display())]
    Disagree {
        /// The broker in the file.
        found: i32,
        /// The broker in the other directory's file.
        other: i32,
        /// The other directory.
        other_dir: PathBuf,
    },
}

impl MetaProperties {
    /// Reads the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetaError> {
        let properties = java_properties::read(bytes)
            .map_err(|error| MetaError::Unreadable(error.to_string()))?;
        let version = properties
            .get("version")
            .map_or("none", |version| version.trim());
        if version != "0" {
            return Err(MetaError::Version(version.to_owned()));
        }
        let broker_id = properties.get("broker.id").map_or("none", |id| id.trim());
        let broker_id = broker_id
            .parse()
            .map_err(|_| MetaError::Unreadable(format!("broker.id is {broker_id}")))?;
        let cluster_id = properties.get("cluster.id").map(|id| id.trim().to_owned());
        Ok(Self {
            broker_id,
            cluster_id: cluster_id.filter(|id| !id.is_empty()),
        })
    }

    /// Writes the file's bytes.
    pub fn render(&self) -> String {
        let cluster = self
            .cluster_id
            .iter()
            .map(|id| format!("cluster.id={id}\n"));
        let cluster: String = cluster.collect();
        format!("{cluster}version=0\nbroker.id={}\n", self.broker_id)
    }

    /// Compares with the broker and cluster that are starting.
    ///
    /// # Errors
    /// `Broker` or `Cluster` when they are others.
    pub fn check(&self, broker_id: i32, cluster_id: &str) -> Result<(), MetaError> {
        if self.broker_id != broker_id {
            return Err(MetaError::Broker {
                found: self.broker_id,
                expected: broker_id,
            });
        }
        match &self.cluster_id {
            Some(found) if found != cluster_id => Err(MetaError::Cluster {
                found: found.clone(),
                expected: cluster_id.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Returns what all log directories of a broker say; `None` when all are new.
    ///
    /// # Errors
    /// `Disagree`, with the directory, when they are of different brokers.
    pub fn common<'a>(
        dirs: impl IntoIterator<Item = (&'a Path, Option<&'a MetaProperties>)>,
    ) -> Result<Option<MetaProperties>, (PathBuf, MetaError)> {
        let mut common: Option<(&Path, &MetaProperties)> = None;
        for (dir, meta) in dirs {
            let Some(meta) = meta else { continue };
            match common {
                Some((other_dir, other)) if other.broker_id != meta.broker_id => {
                    let other_dir = other_dir.to_owned();
                    let (found, other) = (meta.broker_id, other.broker_id);
                    return Err((
                        dir.to_owned(),
                        MetaError::Disagree {
                            found,
                            other,
                            other_dir,
                        },
                    ));
                }
                Some((_, other)) if other.cluster_id.is_some() => {}
                _ => common = Some((dir, meta)),
            }
        }
        Ok(common.map(|(_, meta)| meta.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(broker_id: i32, cluster_id: Option<&str>) -> MetaProperties {
        MetaProperties {
            broker_id,
            cluster_id: cluster_id.map(str::to_owned),
        }
    }

    #[test]
    fn reads_what_kafka_writes() {
        let text = "#\n#Mon Nov 23 12:00:00 UTC 2026\ncluster.id=ncPkNaY9Sp-xAcFFuuWoRQ\nversion=0\nbroker.id=7\n";
        let expected = meta(7, Some("ncPkNaY9Sp-xAcFFuuWoRQ"));
        assert_eq!(MetaProperties::parse(text.as_bytes()), Ok(expected.clone()));
        assert_eq!(
            expected.render(),
            "cluster.id=ncPkNaY9Sp-xAcFFuuWoRQ\nversion=0\nbroker.id=7\n"
        );
        assert_eq!(
            MetaProperties::parse(expected.render().as_bytes()),
            Ok(expected)
        );
        assert_eq!(
            MetaProperties::parse(b"version=0\nbroker.id=0\n"),
            Ok(meta(0, None))
        );
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in ["", "version=1\nnode.id=1\n", "version=x\nbroker.id=1\n"] {
            let error = MetaProperties::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, MetaError::Version(_)), "{text}");
        }
        for text in [
            "version=0\n",
            "version=0\nbroker.id=x\n",
            "version=0\nbroker.id=1\n\\u00zz",
        ] {
            let error = MetaProperties::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, MetaError::Unreadable(_)), "{text}");
        }
    }

    #[test]
    fn another_broker_or_cluster_is_named() {
        assert_eq!(meta(1, Some("a")).check(1, "a"), Ok(()));
        assert_eq!(meta(1, None).check(1, "a"), Ok(()));
        let error = meta(1, Some("a")).check(2, "a").unwrap_err();
        assert!(error.to_string().contains("set broker.id=1"), "{error}");
        let error = meta(1, Some("a")).check(1, "b").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("belongs to cluster a, and this is cluster b"),
            "{error}"
        );
    }

    #[test]
    fn directories_must_agree() {
        let (one, two) = (Path::new("/one"), Path::new("/two"));
        let (first, second) = (meta(1, None), meta(1, Some("a")));
        assert_eq!(MetaProperties::common([(one, None), (two, None)]), Ok(None));
        let common = MetaProperties::common([(one, Some(&first)), (two, Some(&second))]);
        assert_eq!(common, Ok(Some(second)));
        let other = meta(2, None);
        let (dir, error) =
            MetaProperties::common([(one, Some(&first)), (two, Some(&other))]).unwrap_err();
        assert_eq!(dir, two);
        assert!(
            error
                .to_string()
                .contains("belongs to broker 2, and /one to broker 1"),
            "{error}"
        );
    }
}
