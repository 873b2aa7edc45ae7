//! Topics as the znodes hold them: read, elected for, written back.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use uuid::Uuid;

use super::reassignment::Assignment;
use super::sense;
use super::topics::TopicPlan;
use crate::coordination::client::{Result, Write};
use crate::coordination::schema::{
    ConfigOverrides, MalformedZnode, PartitionState, TopicAssignment, to_json,
};
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::metadata::{BrokerId, NO_LEADER};
use crate::uuid_text::{decode_id, encode_id};

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
    /// State by partition; missing where nobody was elected yet, and where it makes no sense.
    pub states: BTreeMap<i32, StoredState>,
    /// Partitions whose state makes no sense, with the transaction that wrote it.
    pub senseless: BTreeMap<i32, i64>,
    /// Whether the parent of the partitions' znodes is there.
    has_partitions_node: bool,
    /// Partitions that have a node, which is the parent of their state.
    parents: BTreeSet<i32>,
}

impl StoredTopic {
    /// Tells whether a broker has a replica of it.
    pub(super) fn is_on(&self, id: BrokerId) -> bool {
        let mut assigned = self.assignment.values();
        assigned.any(|assignment| assignment.replicas.contains(&id))
    }

    /// Makes a topic out of a plan; nothing is written yet.
    pub(super) fn planned(plan: &TopicPlan, id: Uuid) -> Self {
        Self {
            name: plan.name.clone(),
            id,
            assignment: settled(plan.assignment.clone()),
            states: BTreeMap::new(),
            senseless: BTreeMap::new(),
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
            senseless: BTreeMap::new(),
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
            senseless: BTreeMap::new(),
            has_partitions_node: false,
            parents: BTreeSet::new(),
        };
        topic.refresh(client).await?;
        Ok(Some(topic))
    }

    /// Reads the states of the partitions. One that makes no sense is refused: there is no state then.
    async fn read_states(&mut self, client: &CoordinationClient) -> Result<()> {
        let reads = self.assignment.keys().map(|&partition| {
            let path = paths::partition_state(&self.name, partition);
            async move { (partition, client.get(&path).await) }
        });
        let mut senseless = BTreeMap::new();
        self.states.clear();
        for (partition, read) in join_all(reads).await {
            let Some((data, stat)) = read? else {
                continue;
            };
            let assigned = self.assignment.get(&partition);
            let replicas = assigned.map_or(&[][..], |assigned| &assigned.replicas);
            let path = paths::partition_state(&self.name, partition);
            match sense::read(&path, &data, replicas) {
                Ok(state) => {
                    let stored = StoredState {
                        state,
                        version: stat.version,
                        zxid: stat.mzxid,
                    };
                    self.states.insert(partition, stored);
                }
                Err(error) => {
                    // Once for each time that it was written.
                    if self.senseless.get(&partition) != Some(&stat.mzxid) {
                        tracing::error!(
                            "{error}; nobody is elected for {}-{partition} until that is mended, or the znode deleted",
                            self.name
                        );
                    }
                    senseless.insert(partition, stat.mzxid);
                }
            }
        }
        self.senseless = senseless;
        Ok(())
    }

    /// Lists the znodes of the states that make no sense.
    pub(super) fn senseless_states(&self) -> impl Iterator<Item = String> {
        let partitions = self.senseless.keys();
        partitions.map(|&partition| paths::partition_state(&self.name, partition))
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
            self.senseless.clear();
            return Ok(());
        }
        let names = client.children(&path).await?;
        self.parents = names.iter().filter_map(|name| name.parse().ok()).collect();
        self.read_states(client).await
    }

    /// Returns what has to be written to make this topic of what it was `before`.
    pub(super) fn writes_since(&mut self, before: &Self) -> Vec<Write> {
        let mut writes = Vec::new();
        let node = Write::Set(paths::topic(&self.name), to_json(&self.node()), None);
        let changed = self.assignment != before.assignment;
        let grows = self.assignment.len() > before.assignment.len();
        // Between two transactions there is no state of a partition that is not assigned, nor one with brokers that are none
        // of the replicas.
        if changed && grows {
            writes.push(node.clone());
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
                writes.push(Write::Set(path, content, Some(stored.version)));
                stored.version = stored.version.saturating_add(1);
                stored.zxid = i64::MAX;
            }
        }
        if changed && !grows {
            writes.push(node);
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
