//! Topics as the znodes hold them: read, elected for, written back.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use uuid::Uuid;

use super::reassignment::Assignment;
use super::topics::TopicPlan;
use crate::coordination::client::{Result, Write};
use crate::coordination::schema::{
    ConfigOverrides, MalformedZnode, PartitionState, TopicAssignment, to_json,
};
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::metadata::{BrokerId, NO_LEADER};
use crate::uuid_text::{decode_id, encode_id};

/// Stands for whatever version a znode has.
const ANY_VERSION: i32 = -1;

/// Writes per transaction at most: a transaction has to fit into ZooKeeper's 1 MiB.
const WRITES_PER_TRANSACTION: usize = 1_000;

/// The state of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredState {
    /// The state.
    pub state: PartitionState,
    /// The version of its znode.
    pub version: i32,
    /// The transaction that wrote it; the greatest number for one that this controller wrote, which has seen all that came
    /// before.
    pub zxid: i64,
}

impl StoredState {
    /// Makes a first state, which is not written yet.
    pub(super) fn new(state: PartitionState) -> Self {
        Self {
            state,
            version: 0,
            zxid: i64::MAX,
        }
    }

    /// Takes another state, and says so when records may be lost by it.
    pub(super) fn lead(&mut self, next: PartitionState, topic: &str, partition: i32) {
        if next.leader != NO_LEADER && !self.state.isr.contains(&next.leader) {
            tracing::warn!(
                "{topic}-{partition}: broker {} leads though it was not in sync; what only {:?} had is lost",
                next.leader,
                self.state.isr
            );
        }
        self.state = next;
    }
}

/// Brokers as elections see them.
#[derive(Debug, Clone, Default)]
pub(super) struct Electorate {
    /// Those that are alive.
    pub live: BTreeSet<BrokerId>,
    /// By which transactions they are registered. Who registered after a state was written has restarted since, also when
    /// there was no controller to see it.
    pub registered: BTreeMap<BrokerId, i64>,
    /// Those of them that may have lost the end of their logs.
    pub restarted: BTreeSet<BrokerId>,
    /// Those of them that are about to stop.
    pub leaving: BTreeSet<BrokerId>,
    /// The epoch of who elects.
    pub controller_epoch: i32,
    /// Topics that may be led by somebody who is not in sync when nobody else is there.
    pub unclean: BTreeSet<String>,
}

/// A topic and the states of its partitions.
#[derive(Debug, Clone)]
pub(super) struct StoredTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Replicas by partition.
    pub assignment: BTreeMap<i32, Assignment>,
    /// State by partition; missing where nobody was elected yet.
    pub states: BTreeMap<i32, StoredState>,
    /// Whether the parent of the partitions' znodes is there.
    has_partitions_node: bool,
    /// Partitions that have a node, which is the parent of their state.
    parents: BTreeSet<i32>,
}

impl StoredTopic {
    /// Makes a topic out of a plan; nothing is written yet.
    pub(super) fn planned(plan: &TopicPlan, id: Uuid) -> Self {
        Self {
            name: plan.name.clone(),
            id,
            assignment: settled(plan.assignment.clone()),
            states: BTreeMap::new(),
            has_partitions_node: false,
            parents: BTreeSet::new(),
        }
    }

    /// Makes a topic out of partitions from 0 on.
    #[cfg(test)]
    pub(super) fn of(
        name: &str,
        partitions: impl Iterator<Item = (Assignment, PartitionState)>,
    ) -> Self {
        let mut topic = Self {
            name: name.to_owned(),
            id: Uuid::nil(),
            assignment: BTreeMap::new(),
            states: BTreeMap::new(),
            has_partitions_node: true,
            parents: BTreeSet::new(),
        };
        for (partition, (assignment, state)) in (0..).zip(partitions) {
            topic.assignment.insert(partition, assignment);
            topic.states.insert(partition, StoredState::new(state));
            topic.parents.insert(partition);
        }
        topic
    }

    /// Reads a topic; `None` when there is none of that name. `known_id` is put back when an old tool dropped the id.
    pub(super) async fn read(
        client: &CoordinationClient,
        name: &str,
        known_id: Option<Uuid>,
    ) -> Result<Option<Self>> {
        let path = paths::topic(name);
        let Some((mut node, stat)) = client.get_json::<TopicAssignment>(&path).await? else {
            return Ok(None);
        };
        let stored_id = node.topic_id.as_deref().and_then(decode_id);
        let id = stored_id.or(known_id).unwrap_or_else(Uuid::new_v4);
        if stored_id.is_none() {
            node.topic_id = Some(encode_id(id));
            node.version = 3;
            client
                .set(&path, &to_json(&node), Some(stat.version))
                .await?;
        }
        let assignment = assignment_of(node);
        let dense = (0..)
            .zip(assignment.keys())
            .all(|(due, &found)| due == found);
        if !dense {
            // By their place they would be taken for each other.
            return Err(CoordinationError::Malformed(MalformedZnode {
                path,
                content: format!("partitions {:?}", assignment.keys()),
                reason: "one is missing".to_owned(),
            }));
        }
        let mut topic = Self {
            name: name.to_owned(),
            id,
            assignment,
            states: BTreeMap::new(),
            has_partitions_node: false,
            parents: BTreeSet::new(),
        };
        topic.refresh(client).await?;
        Ok(Some(topic))
    }

    async fn read_states(
        client: &CoordinationClient,
        name: &str,
        assignment: &BTreeMap<i32, Assignment>,
    ) -> Result<BTreeMap<i32, StoredState>> {
        let states = assignment.keys().map(|&partition| async move {
            let path = paths::partition_state(name, partition);
            match client.get_json::<PartitionState>(&path).await {
                Ok(state) => Ok((partition, state)),
                Err(error) => Err((partition, error)),
            }
        });
        let replicas_of = |partition| {
            let assignment = assignment.get(&partition);
            assignment.map_or_else(Vec::new, |assignment| assignment.replicas.clone())
        };
        let mut found = BTreeMap::new();
        for state in join_all(states).await {
            match state {
                Ok((partition, Some((state, stat)))) => {
                    let stored = StoredState {
                        state,
                        version: stat.version,
                        zxid: stat.mzxid,
                    };
                    found.insert(partition, stored);
                }
                Ok((_, None)) => {}
                // Edited by hand into nonsense: that partition is elected for anew, the others are not harmed.
                Err((partition, CoordinationError::Malformed(error))) => {
                    tracing::error!("{error}; electing anew");
                    let state = PartitionState::lost(replicas_of(partition));
                    found.insert(
                        partition,
                        StoredState {
                            state,
                            version: ANY_VERSION,
                            zxid: i64::MAX,
                        },
                    );
                }
                Err((_, error)) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Writes the topic's own node and its configuration.
    pub(super) fn writes(
        &self,
        overrides: &BTreeMap<String, String>,
        config_exists: bool,
    ) -> Vec<Write> {
        let config = to_json(&ConfigOverrides {
            version: 1,
            config: overrides.clone(),
        });
        let config_path = paths::config("topics", &self.name);
        vec![
            if config_exists {
                Write::Set(config_path, config, None)
            } else {
                Write::Create(config_path, config)
            },
            Write::Create(paths::topic(&self.name), to_json(&self.node())),
        ]
    }

    fn node(&self) -> TopicAssignment {
        let those = |of: fn(&Assignment) -> &Vec<BrokerId>| {
            let all = self.assignment.iter();
            all.map(move |(partition, assignment)| (partition.to_string(), of(assignment).clone()))
        };
        let some = |(_, replicas): &(String, Vec<BrokerId>)| !replicas.is_empty();
        TopicAssignment {
            removing_replicas: those(|found| &found.removing).filter(some).collect(),
            partitions: those(|found| &found.replicas).collect(),
            topic_id: Some(encode_id(self.id)),
            adding_replicas: those(|found| &found.adding).filter(some).collect(),
            version: 3,
        }
    }

    /// Lists the brokers that lead its partitions.
    pub(super) fn leaders(&self) -> BTreeSet<BrokerId> {
        let states = self.states.values();
        states.map(|stored| stored.state.leader).collect()
    }

    /// Reads the nodes and states of the partitions again.
    pub(super) async fn refresh(&mut self, client: &CoordinationClient) -> Result<()> {
        let path = paths::partitions(&self.name);
        self.has_partitions_node = client.get(&path).await?.is_some();
        if !self.has_partitions_node {
            self.parents.clear();
            self.states.clear();
            return Ok(());
        }
        let names = client.children(&path).await?;
        self.parents = names.iter().filter_map(|name| name.parse().ok()).collect();
        self.states = Self::read_states(client, &self.name, &self.assignment).await?;
        Ok(())
    }

    /// Returns what has to be written to make this topic of what it was `before`.
    pub(super) fn writes_since(&mut self, before: &Self) -> Vec<Write> {
        let mut writes = Vec::new();
        if self.assignment != before.assignment {
            let path = paths::topic(&self.name);
            writes.push(Write::Set(path, to_json(&self.node()), None));
        }
        for (&partition, stored) in &mut self.states {
            let path = paths::partition_state(&self.name, partition);
            let content = to_json(&stored.state);
            let Some(earlier) = before.states.get(&partition) else {
                if !self.has_partitions_node {
                    writes.push(Write::Create(paths::partitions(&self.name), Vec::new()));
                    self.has_partitions_node = true;
                }
                // It may be there without a state: a long list is written in several transactions.
                if self.parents.insert(partition) {
                    let parent = paths::partition(&self.name, partition);
                    writes.push(Write::Create(parent, Vec::new()));
                }
                writes.push(Write::Create(path, content));
                continue;
            };
            if stored.state != earlier.state {
                let expected = Some(stored.version).filter(|version| *version != ANY_VERSION);
                writes.push(Write::Set(path, content, expected));
                stored.version = stored.version.saturating_add(1);
                stored.zxid = i64::MAX;
            }
        }
        writes
    }
}

/// Makes assignments that are not on their way to others.
pub(super) fn settled(replicas: BTreeMap<i32, Vec<BrokerId>>) -> BTreeMap<i32, Assignment> {
    let replicas = replicas.into_iter();
    replicas
        .map(|(partition, replicas)| (partition, Assignment::settled(replicas)))
        .collect()
}

/// Reads the assignments out of a topic's node.
fn assignment_of(mut node: TopicAssignment) -> BTreeMap<i32, Assignment> {
    let partitions = node.partitions.into_iter();
    partitions
        .filter_map(|(partition, replicas)| {
            let adding = node.adding_replicas.remove(&partition).unwrap_or_default();
            let removing = node.removing_replicas.remove(&partition);
            let assignment = Assignment {
                replicas,
                adding,
                removing: removing.unwrap_or_default(),
            };
            Some((partition.parse().ok()?, assignment))
        })
        .collect()
}

/// Writes a long list in as few transactions as ZooKeeper's limit allows, in order, as long as this is still the office of
/// the controller who writes: `epoch_version` is the version of `/controller_epoch`.
///
/// # Errors
/// `Fenced` when another one has come.
pub(super) async fn write_all(
    client: &CoordinationClient,
    epoch_version: i32,
    writes: &[Write],
) -> Result<()> {
    for chunk in writes.chunks(WRITES_PER_TRANSACTION) {
        let check = Write::Check(paths::CONTROLLER_EPOCH.to_owned(), epoch_version);
        let fenced: Vec<Write> = [check].into_iter().chain(chunk.iter().cloned()).collect();
        match client.transaction(&fenced).await {
            Err(CoordinationError::Transaction { index: 0, .. }) => {
                return Err(CoordinationError::Fenced);
            }
            other => other?,
        };
    }
    Ok(())
}
