//! What a controller has in mind while it is in office: the cluster, and the channels to its brokers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::answers::Answers;
use super::changes::Changes;
use super::channel::{BrokerChannel, Channels};
use super::reassignment::Assignment;
use super::stored::{Electorate, StoredState, StoredTopic};
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::metadata::{BrokerId, BrokerNode, NO_LEADER};
use crate::partition::TopicPartition;
use crate::replica_manager::orders::{
    Authority, EPOCH_DURING_DELETION, LEADER_DURING_DELETION, LeaderAndIsr, LiveLeader, Order,
    PartitionOrder, Scope, StopReplica, StoppedReplica, TopicOrder, UpdateMetadata,
};

/// Partitions by topic.
pub(super) type Partitions = BTreeMap<String, BTreeSet<i32>>;

/// A live broker.
pub(super) struct LiveBroker {
    pub(super) node: Arc<BrokerNode>,
    pub(super) channel: BrokerChannel,
}

/// Who came and went.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    /// Those that were not there.
    pub(super) came: BTreeSet<BrokerId>,
    /// Those that have registered again.
    pub(super) restarted: BTreeSet<BrokerId>,
    /// Those that are gone.
    pub(super) went: BTreeSet<BrokerId>,
}

/// The cluster, as its controller knows it.
pub(super) struct Office {
    /// The controller.
    pub(super) broker_id: BrokerId,
    /// The epoch of the office.
    pub(super) epoch: i32,
    /// The version of `/controller_epoch`, by which writes are fenced.
    pub(super) epoch_version: i32,
    /// Who is alive.
    pub(super) brokers: BTreeMap<BrokerId, LiveBroker>,
    /// All topics that are not being deleted.
    pub(super) topics: BTreeMap<String, StoredTopic>,
    /// Brokers that are about to stop.
    pub(super) leaving: BTreeSet<BrokerId>,
    /// Topics that are being deleted right now.
    pub(super) deleting: BTreeSet<String>,
    /// Where channels come from.
    pub(super) channels: Channels,
    /// Whether there are topics that are not in mind: their znodes make no sense, or they are marked for deletion. What
    /// is said of all topics is not all then, and brokers must not take the others for gone.
    pub(super) left_out: bool,
    /// Who came and went without that anything followed from it yet.
    pub(super) unsettled: Change,
    /// Reassignments that old tools have written into `/admin/reassign_partitions` and that are under way.
    pub(super) tasks: BTreeMap<TopicPartition, Vec<BrokerId>>,
}

impl Office {
    /// Returns who may be elected.
    pub(super) fn electorate(&self, restarted: &BTreeSet<BrokerId>) -> Electorate {
        Electorate {
            live: self.brokers.keys().copied().collect(),
            registered: self.registered(),
            restarted: restarted.clone(),
            leaving: self.leaving.clone(),
            controller_epoch: self.epoch,
            unclean: BTreeSet::new(),
        }
    }

    /// Says by which transaction each live broker is registered.
    fn registered(&self) -> BTreeMap<BrokerId, i64> {
        let brokers = self.brokers.iter();
        brokers.map(|(&id, live)| (id, live.node.epoch)).collect()
    }

    /// Lists all partitions.
    pub(super) fn all(&self) -> Partitions {
        let topics = self.topics.iter();
        topics
            .map(|(name, topic)| (name.clone(), topic.assignment.keys().copied().collect()))
            .collect()
    }

    /// Lists all partitions, one by one.
    pub(super) fn all_by_name(&self) -> Vec<TopicPartition> {
        let topics = self.topics.values();
        topics
            .flat_map(|topic| {
                let numbers = topic.assignment.keys();
                numbers.map(|&number| TopicPartition::new(topic.name.as_str(), number))
            })
            .collect()
    }

    /// Says which of the topics that are marked can be deleted now: those whose brokers are all there. A mark without a
    /// topic is removed.
    pub(super) async fn doomed(
        &self,
        client: &CoordinationClient,
        marked: &[String],
        claimed: &BTreeSet<String>,
    ) -> Result<Vec<StoredTopic>, CoordinationError> {
        let mut doomed = Vec::new();
        for name in marked {
            if self.deleting.contains(name) && !claimed.contains(name) {
                continue;
            }
            // One that is not in mind was being deleted when a controller died.
            let topic = match self.topics.get(name) {
                Some(topic) => Some(topic.clone()),
                None => match StoredTopic::read(client, name, None).await {
                    Err(CoordinationError::Malformed(error)) => {
                        tracing::error!("{error}; the topic can't be deleted until that is mended");
                        continue;
                    }
                    other => other?,
                },
            };
            let Some(topic) = topic else {
                client.delete(&paths::config("topics", name)).await?;
                client.delete(&paths::delete_topic(name)).await?;
                continue;
            };
            let assigned = topic.assignment.values();
            let mut replicas = assigned.flat_map(|assigned| &assigned.replicas);
            if replicas.all(|id| self.brokers.contains_key(id)) {
                doomed.push(topic);
            } else {
                tracing::info!("topic {name} is deleted when all brokers that have it are there");
            }
        }
        Ok(doomed)
    }

    /// Has the replicas of partitions lead or follow: on all live brokers, or on those that are named.
    pub(super) fn lead_and_follow(
        &mut self,
        partitions: &Partitions,
        new: bool,
        only: Option<&BTreeSet<BrokerId>>,
    ) -> Answers {
        let mut answers = Answers::default();
        for broker in self.among_live(only) {
            if let Some(order) = self.leader_and_isr(broker, partitions, new) {
                self.send(broker, &mut answers, order);
            }
        }
        answers
    }

    /// Lists those brokers that are alive; of all, when none are named.
    fn among_live(&self, only: Option<&BTreeSet<BrokerId>>) -> Vec<BrokerId> {
        let live = self.brokers.keys().copied();
        live.filter(|id| only.is_none_or(|only| only.contains(id)))
            .collect()
    }

    fn leader_and_isr(
        &self,
        broker: BrokerId,
        partitions: &Partitions,
        new: bool,
    ) -> Option<Order> {
        let topics = self.topics_for(partitions, new, |replicas, stored| {
            replicas.contains(&broker) && stored.is_some()
        });
        if topics.is_empty() {
            return None;
        }
        let leaders: BTreeSet<BrokerId> = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| partition.leader))
            .collect();
        let leaders = leaders.iter().filter_map(|id| self.brokers.get(id));
        Some(Order::LeaderAndIsr(LeaderAndIsr {
            authority: self.authority_over(broker)?,
            topics,
            live_leaders: leaders
                .filter_map(|leader| {
                    let endpoint = leader.node.endpoint(&self.channels.listener)?;
                    Some(LiveLeader {
                        id: leader.node.id,
                        host: endpoint.host.clone(),
                        port: endpoint.port,
                    })
                })
                .collect(),
        }))
    }

    /// Lists what a broker leads although others have it too.
    pub(super) fn still_led_by(&self, broker: BrokerId) -> Vec<TopicPartition> {
        let mut led = Vec::new();
        for topic in self.topics.values() {
            for (number, stored) in &topic.states {
                let assigned = topic.assignment.get(number);
                let shared = assigned.is_some_and(|assigned| assigned.replicas.len() > 1);
                if stored.state.leader == broker && shared {
                    led.push(TopicPartition::new(topic.name.as_str(), *number));
                }
            }
        }
        led
    }

    fn authority_over(&self, broker: BrokerId) -> Option<Authority> {
        Some(Authority {
            controller_id: self.broker_id,
            controller_epoch: self.epoch,
            broker_epoch: self.brokers.get(&broker)?.node.epoch,
        })
    }

    /// Tells every broker what the partitions are, and who is alive.
    pub(super) fn inform(&mut self, partitions: &Partitions) -> Answers {
        let topics = self.topics_for(partitions, false, |_, _| true);
        self.update(&topics, Scope::Changes, None)
    }

    /// Tells every broker but some what the partitions are, and who is alive.
    pub(super) fn inform_others(
        &mut self,
        partitions: &Partitions,
        but: &BTreeSet<BrokerId>,
    ) -> Answers {
        let topics = self.topics_for(partitions, false, |_, _| true);
        let others = self.brokers.keys().copied().filter(|id| !but.contains(id));
        let others = others.collect();
        self.update(&topics, Scope::Changes, Some(&others))
    }

    /// Tells brokers what all partitions are, and that there are no others where that is known.
    pub(super) fn inform_of_all(&mut self, only: Option<&BTreeSet<BrokerId>>) -> Answers {
        let topics = self.topics_for(&self.all(), false, |_, _| true);
        self.update(&topics, Scope::All, only)
    }

    /// Tells brokers that topics go: all, or those that are named.
    pub(super) fn inform_of_deletion(
        &mut self,
        topics: &[StoredTopic],
        only: Option<&BTreeSet<BrokerId>>,
    ) -> Answers {
        let going = topics.iter().map(|topic| {
            let partitions = topic.assignment.keys().map(|&partition| PartitionOrder {
                leader: LEADER_DURING_DELETION,
                ..partition_order(topic, partition, false)
            });
            TopicOrder {
                name: topic.name.as_str().into(),
                id: topic.id,
                partitions: partitions.collect(),
            }
        });
        self.update(&going.collect::<Vec<_>>(), Scope::Changes, only)
    }

    /// Has replicas of topics stop: all, or those on the brokers that are named.
    pub(super) fn stop(
        &mut self,
        topics: &[StoredTopic],
        delete: bool,
        only: Option<&BTreeSet<BrokerId>>,
    ) -> Answers {
        let mut answers = Answers::default();
        for broker in self.among_live(only) {
            let replicas = topics.iter().flat_map(|topic| {
                let here = topic.assignment.iter();
                here.filter(|(_, assigned)| assigned.replicas.contains(&broker))
                    .map(|(&partition, _)| StoppedReplica {
                        topic_partition: TopicPartition::new(topic.name.as_str(), partition),
                        leader_epoch: EPOCH_DURING_DELETION,
                        delete,
                    })
            });
            self.stop_replicas(broker, replicas.collect(), &mut answers);
        }
        answers
    }

    /// Has a topic go from brokers: from all, or from those that are named.
    pub(super) fn take_down(
        &mut self,
        topic: &StoredTopic,
        only: Option<&BTreeSet<BrokerId>>,
    ) -> Answers {
        let topic = std::slice::from_ref(topic);
        let told = self.inform_of_deletion(topic, only);
        told.and(self.stop(topic, true, only))
    }

    /// Leaves the rest of a deletion for later. The topic is still marked, and some of its replicas are still there.
    pub(super) fn postpone(&mut self, topic: &str) {
        self.deleting.remove(topic);
        self.left_out = true;
    }

    /// Has a broker that is about to stop follow nobody any more, so that it does not come back into in-sync sets.
    pub(super) fn stop_following(&mut self, broker: BrokerId) -> Answers {
        let mut replicas = Vec::new();
        for topic in self.topics.values() {
            for (&partition, stored) in &topic.states {
                let assigned = topic.assignment.get(&partition);
                let here = assigned.is_some_and(|assigned| assigned.replicas.contains(&broker));
                if here && stored.state.leader != broker {
                    replicas.push(StoppedReplica {
                        topic_partition: TopicPartition::new(topic.name.as_str(), partition),
                        leader_epoch: stored.state.leader_epoch,
                        delete: false,
                    });
                }
            }
        }
        let mut answers = Answers::default();
        self.stop_replicas(broker, replicas, &mut answers);
        answers
    }

    /// Has brokers do what follows from a change, and tells everyone of it.
    pub(super) fn carry_out(&mut self, changes: &Changes) -> Answers {
        if changes.is_empty() {
            return Answers::default();
        }
        let led = self.lead_and_follow(&changes.partitions, false, None);
        let informed = self.inform(&changes.partitions);
        led.and(informed).and(self.drop_replicas(changes))
    }

    /// Has brokers delete the replicas that a change takes from them.
    pub(super) fn drop_replicas(&mut self, changes: &Changes) -> Answers {
        let mut answers = Answers::default();
        for (&broker, replicas) in &changes.dropped {
            self.stop_replicas(broker, replicas.clone(), &mut answers);
        }
        answers
    }

    fn stop_replicas(
        &mut self,
        broker: BrokerId,
        replicas: Vec<StoppedReplica>,
        answers: &mut Answers,
    ) {
        let authority = self.authority_over(broker);
        if let Some(authority) = authority.filter(|_| !replicas.is_empty()) {
            let order = StopReplica {
                authority,
                replicas,
            };
            self.send(broker, answers, Order::StopReplica(order));
        }
    }

    fn update(
        &mut self,
        topics: &[TopicOrder],
        scope: Scope,
        only: Option<&BTreeSet<BrokerId>>,
    ) -> Answers {
        let mut answers = Answers::default();
        for broker in self.among_live(only) {
            if let Some(order) = self.update_metadata(broker, topics.to_vec(), scope) {
                self.send(broker, &mut answers, order);
            }
        }
        answers
    }

    fn update_metadata(
        &self,
        broker: BrokerId,
        topics: Vec<TopicOrder>,
        scope: Scope,
    ) -> Option<Order> {
        let brokers = self.brokers.values();
        Some(Order::UpdateMetadata(UpdateMetadata {
            authority: self.authority_over(broker)?,
            topics,
            brokers: brokers.map(|live| Arc::clone(&live.node)).collect(),
            scope: match scope {
                Scope::All if self.left_out || !self.deleting.is_empty() => Scope::Known,
                scope => scope,
            },
        }))
    }

    fn send(&mut self, broker: BrokerId, answers: &mut Answers, order: Order) {
        let Some(live) = self.brokers.get(&broker) else {
            return;
        };
        match live.channel.send(order) {
            Ok(answer) => answers.push(broker, answer),
            Err(full) => self.start_over(broker, answers, full.0),
        }
    }

    /// Gives up the orders that wait for a broker that does not keep up: it gets the whole state instead.
    fn start_over(&mut self, broker: BrokerId, answers: &mut Answers, last: Order) {
        tracing::warn!(
            "broker {broker} does not keep up with its orders; it gets all of them anew"
        );
        let all = self.all();
        let everything = [
            self.leader_and_isr(broker, &all, false),
            self.update_metadata(
                broker,
                self.topics_for(&all, false, |_, _| true),
                Scope::All,
            ),
            Some(last).filter(|last| matches!(last, Order::StopReplica(_))),
        ];
        let channels = &self.channels;
        let Some(live) = self.brokers.get_mut(&broker) else {
            return;
        };
        live.channel = channels.open(&live.node);
        for order in everything.into_iter().flatten() {
            if let Ok(answer) = live.channel.send(order) {
                answers.push(broker, answer);
            }
        }
    }

    fn topics_for(
        &self,
        partitions: &Partitions,
        new: bool,
        concerned: impl Fn(&[BrokerId], Option<&StoredState>) -> bool,
    ) -> Vec<TopicOrder> {
        let mut orders = Vec::new();
        for (name, numbers) in partitions {
            let Some(topic) = self.topics.get(name) else {
                continue;
            };
            let concerned = numbers.iter().filter(|number| {
                let assigned = topic.assignment.get(number);
                assigned
                    .is_some_and(|assigned| concerned(&assigned.replicas, topic.states.get(number)))
            });
            let partitions: Vec<PartitionOrder> = concerned
                .map(|&number| partition_order(topic, number, new))
                .collect();
            if !partitions.is_empty() {
                orders.push(TopicOrder {
                    name: name.as_str().into(),
                    id: topic.id,
                    partitions,
                });
            }
        }
        orders
    }
}

fn partition_order(topic: &StoredTopic, partition: i32, is_new: bool) -> PartitionOrder {
    let stored = topic.states.get(&partition);
    let state = stored.map(|stored| &stored.state);
    let assigned = topic.assignment.get(&partition).cloned();
    let Assignment {
        replicas,
        adding,
        removing,
    } = assigned.unwrap_or_default();
    PartitionOrder {
        partition,
        leader: state.map_or(NO_LEADER, |state| state.leader),
        leader_epoch: state.map_or(0, |state| state.leader_epoch),
        isr: state.map(|state| state.isr.clone()).unwrap_or_default(),
        partition_epoch: stored.map_or(0, |stored| stored.version),
        replicas,
        adding_replicas: adding,
        removing_replicas: removing,
        is_new,
    }
}
