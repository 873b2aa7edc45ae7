//! What a decision has to write, and what of it has come true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;

use super::context::{ClusterContext, Leadership, Partition, Topic};
use super::orders::{self, Orders};
use crate::coordination::client::Write;
use crate::coordination::paths;
use crate::coordination::schema::{TopicAssignment, to_json};
use crate::metadata::BrokerId;
use crate::partition::TopicPartition;
use crate::uuid_text::encode_id;

/// What is to be done after an event. Steps are independent of each other and written in this order.
#[derive(Debug)]
pub struct Plan {
    /// What to write.
    pub steps: Vec<Step>,
    /// What was asked for and won't be done, and why.
    pub refused: BTreeMap<TopicPartition, ErrorCode>,
    /// Partitions that get a leader which was not in sync.
    pub unclean: BTreeSet<TopicPartition>,
    /// Brokers that know nothing yet.
    pub(super) greeted: BTreeSet<BrokerId>,
    /// The topics as the znodes hold them.
    pub(super) base: BTreeMap<Arc<str>, Arc<Topic>>,
    /// The cluster as it is when every step has succeeded.
    pub(super) after: ClusterContext,
}

/// What is written together or not at all, and fails alone.
#[derive(Debug)]
pub enum Step {
    /// A transaction, which the controller epoch's check comes before.
    Transaction {
        /// Empty nodes that have to be there first; those that are missing are created, parents first.
        parents: Vec<String>,
        /// The writes.
        writes: Vec<Write>,
        /// The topic whose nodes these are.
        topic: Arc<str>,
        /// The partitions that change.
        partitions: BTreeSet<i32>,
        /// Whether the topic's own node is among the writes.
        assigns: bool,
    },
    /// All replicas of a topic are gone: its node with everything below goes, then its configuration, then the mark.
    DeleteTopic(Arc<str>),
    /// A topic is marked that does not exist: the mark goes.
    Unmark(Arc<str>),
}

/// What has become of a plan.
#[derive(Debug)]
pub struct Applied {
    /// The cluster as it is now. Whatever is in its `stale` is to be read again, for [`super::Event::StatesRead`].
    pub context: ClusterContext,
    /// Topics whose own node was written by somebody else meanwhile: to be read again, for
    /// [`super::Event::TopicsRead`].
    pub stale_topics: BTreeSet<Arc<str>>,
    /// What the brokers are to be told.
    pub orders: Orders,
}

/// Finds what to write: where `after` differs from what the znodes hold. Numbers the versions in `after` accordingly.
pub(super) fn steps(
    base: &BTreeMap<Arc<str>, Arc<Topic>>,
    after: &mut ClusterContext,
    rewritten: &BTreeSet<Arc<str>>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, topic) in &mut after.topics {
        let Some(stored) = base.get(name) else {
            continue;
        };
        let rewrite = rewritten.contains(name);
        if !rewrite && Arc::ptr_eq(stored, topic) {
            continue;
        }
        topic_steps(name, stored, Arc::make_mut(topic), rewrite, &mut steps);
    }
    for name in after.deletions.keys() {
        if !after.topics.contains_key(name) {
            steps.push(Step::Unmark(Arc::clone(name)));
        } else if after.waits_for(name).is_none() {
            steps.push(Step::DeleteTopic(Arc::clone(name)));
        }
    }
    steps
}

fn topic_steps(
    name: &Arc<str>,
    stored: &Topic,
    topic: &mut Topic,
    rewrite: bool,
    steps: &mut Vec<Step>,
) {
    let reassigned = |number: &i32, partition: &Partition| {
        let stored = stored.partitions.get(number);
        stored.is_none_or(|stored| stored.assignment != partition.assignment)
    };
    let assigns = rewrite
        || topic
            .partitions
            .iter()
            .any(|(number, partition)| reassigned(number, partition));
    // An assignment and the state that goes with it are written together: neither is right without the other.
    let mut together = Changes::default();
    for (&number, partition) in &mut topic.partitions {
        let assigned = reassigned(&number, partition);
        let mut alone = Changes::default();
        let changes = if assigned { &mut together } else { &mut alone };
        let before = stored.partitions.get(&number);
        let before = before.and_then(|before| before.leadership.as_ref());
        if assigned {
            changes.partitions.insert(number);
        }
        if let Some(leadership) = &mut partition.leadership {
            changes.state(name, number, before, leadership);
        }
        if !alone.partitions.is_empty() {
            steps.push(alone.step(name, false));
        }
    }
    if assigns {
        let node = to_json(&node(topic));
        let write = Write::Set(paths::topic(name), node, Some(topic.zk_version));
        topic.zk_version = topic.zk_version.saturating_add(1);
        together.writes.push(write);
        steps.push(together.step(name, true));
    }
}

#[derive(Default)]
struct Changes {
    parents: Vec<String>,
    writes: Vec<Write>,
    partitions: BTreeSet<i32>,
}

impl Changes {
    fn state(
        &mut self,
        topic: &str,
        number: i32,
        before: Option<&Leadership>,
        now: &mut Leadership,
    ) {
        let path = paths::partition_state(topic, number);
        match before {
            Some(before) if before == now => return,
            Some(before) => {
                now.zk_version = before.zk_version.saturating_add(1);
                let write = Write::Set(path, to_json(&now.znode()), Some(before.zk_version));
                self.writes.push(write);
            }
            None => {
                now.zk_version = 0;
                self.parents.push(paths::partitions(topic));
                self.parents.push(paths::partition(topic, number));
                self.writes.push(Write::Create(path, to_json(&now.znode())));
            }
        }
        self.partitions.insert(number);
    }

    fn step(self, topic: &Arc<str>, assigns: bool) -> Step {
        Step::Transaction {
            parents: self.parents,
            writes: self.writes,
            topic: Arc::clone(topic),
            partitions: self.partitions,
            assigns,
        }
    }
}

/// Returns the content of a topic's own znode.
fn node(topic: &Topic) -> TopicAssignment {
    let listed = |list: fn(&Partition) -> &Vec<BrokerId>| -> BTreeMap<String, Vec<BrokerId>> {
        let partitions = topic.partitions.iter();
        partitions
            .map(|(number, partition)| (number.to_string(), list(partition).clone()))
            .collect()
    };
    let under_way = |list: fn(&Partition) -> &Vec<BrokerId>| {
        let mut lists = listed(list);
        lists.retain(|_, replicas| !replicas.is_empty());
        lists
    };
    TopicAssignment {
        removing_replicas: under_way(|partition| &partition.assignment.removing),
        partitions: listed(|partition| &partition.assignment.replicas),
        topic_id: Some(encode_id(topic.id)),
        adding_replicas: under_way(|partition| &partition.assignment.adding),
        version: 3,
    }
}

/// Takes note of which steps were written, and finds what the brokers are to be told of it.
///
/// `written` has one entry for each step of the plan, `false` where somebody else has changed a node before (BADVERSION,
/// NODEEXISTS, NONODE). `before` is what the plan was made from. When the check of the controller's epoch has failed,
/// the office is lost, and this is not to be called.
pub fn applied(before: &ClusterContext, plan: Plan, written: &[bool]) -> Applied {
    let Plan {
        steps,
        greeted,
        base,
        mut after,
        ..
    } = plan;
    let mut stale_topics = BTreeSet::new();
    let written = written.iter().copied().chain(std::iter::repeat(false));
    for (step, written) in steps.into_iter().zip(written) {
        match step {
            Step::Transaction {
                topic,
                partitions,
                assigns,
                ..
            } if !written => {
                take_back(&mut after, &base, &topic, &partitions, assigns);
                if assigns {
                    stale_topics.insert(topic);
                }
            }
            Step::DeleteTopic(topic) | Step::Unmark(topic) if written => {
                after.topics.remove(&topic);
                after.deletions.remove(&topic);
                after.stale.retain(|partition| partition.topic != topic);
            }
            _ => {}
        }
    }
    after.forget_early_removals();
    let orders = orders::between(before, &after, &greeted);
    Applied {
        context: after,
        stale_topics,
        orders,
    }
}

fn take_back(
    after: &mut ClusterContext,
    base: &BTreeMap<Arc<str>, Arc<Topic>>,
    name: &Arc<str>,
    partitions: &BTreeSet<i32>,
    assigns: bool,
) {
    let (Some(topic), Some(stored)) = (after.topics.get_mut(name), base.get(name)) else {
        return;
    };
    let topic = Arc::make_mut(topic);
    if assigns {
        topic.zk_version = stored.zk_version;
    }
    for &number in partitions {
        if let Some(stored) = stored.partitions.get(&number) {
            topic.partitions.insert(number, stored.clone());
        }
        let name = TopicPartition::new(Arc::clone(name), number);
        after.stale.insert(name);
    }
}
