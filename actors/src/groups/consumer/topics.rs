//! The topics of the cluster, as far as groups need to know them.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::metadata::MetadataImage;

/// A topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
}

/// All topics at one moment.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    version: u64,
    by_name: BTreeMap<Arc<str>, Topic>,
    names: BTreeMap<Uuid, Arc<str>>,
}

impl Topics {
    /// Takes the topics out of an image; `None` when they are what they were.
    pub fn changed(&self, image: &MetadataImage) -> Option<Self> {
        let by_name: BTreeMap<Arc<str>, Topic> = image
            .topics()
            .map(|topic| {
                let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                let id = topic.id;
                (Arc::clone(&topic.name), Topic { id, partitions })
            })
            .collect();
        (by_name != self.by_name).then(|| Self::new(self.version.wrapping_add(1), by_name))
    }

    /// Makes a list of topics; another version says that they are others.
    pub fn new(version: u64, by_name: BTreeMap<Arc<str>, Topic>) -> Self {
        let names = by_name.iter();
        let names = names.map(|(name, topic)| (topic.id, Arc::clone(name)));
        Self {
            version,
            names: names.collect(),
            by_name,
        }
    }

    /// Returns the number of this list: another one has another.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the topic of that name.
    pub fn get(&self, name: &str) -> Option<Topic> {
        self.by_name.get(name).copied()
    }

    /// Returns the name of a topic.
    pub fn name(&self, id: Uuid) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// Lists the names.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }
}
