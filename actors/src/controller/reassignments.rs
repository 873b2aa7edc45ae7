//! Partitions that go to other brokers because somebody asks for it (KIP-455).
//!
//! What is written into the topic's znode is all that there is of a reassignment: it goes on by [`StoredTopic::settle`],
//! also under another controller.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::{Handler, Message, ResponseFuture};
use troupe_protocol::kafka::errors::ErrorCode;

use super::admin::SharedCluster;
use super::changes::Changes;
use super::cluster::Cluster;
use super::election::next;
use super::on_demand::Outcomes;
use super::reassignment::Assignment;
use super::stored::{Electorate, StoredTopic};
use super::topics::AdminError;
use super::{Controller, ControllerHandle, gone};
use crate::coordination::CoordinationError;
use crate::metadata::BrokerId;
use crate::partition::TopicPartition;

/// Where partitions are to go; nowhere stands for back.
pub type Reassignments = BTreeMap<TopicPartition, Option<Vec<BrokerId>>>;

impl StoredTopic {
    /// Has a partition go to other brokers, or back.
    fn reassign(
        &mut self,
        partition: i32,
        targets: Option<&[BrokerId]>,
        electorate: &Electorate,
    ) -> Result<(), AdminError> {
        let assignment = self.assignment.get_mut(&partition);
        let assignment = assignment.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let stored = self.states.get_mut(&partition);
        let isr = stored.as_ref().map(|stored| stored.state.isr.clone());
        let isr = isr.unwrap_or_default();
        let (live, electable) = (&electorate.live, electorate.electable());
        let towards = assignment.towards(targets, &isr, live, &electable)?;
        if towards == *assignment {
            return Ok(());
        }
        *assignment = towards;
        if let Some(stored) = stored {
            // Replicas take a new assignment only with a new leader epoch.
            let leader = stored.state.leader;
            stored.state = next(&stored.state, leader, isr, electorate.controller_epoch);
        }
        Ok(())
    }
}

impl Cluster {
    /// Has partitions go to other brokers, each for itself.
    pub(super) async fn reassign(
        &mut self,
        asked: &Reassignments,
    ) -> Result<(Outcomes<AdminError>, Changes), CoordinationError> {
        let partitions = asked.keys().cloned().collect();
        self.change_each(partitions, |topic, partition, electorate| {
            let targets = asked.get(partition).and_then(Option::as_deref);
            topic.reassign(partition.partition, targets, electorate)?;
            // It may end at once.
            topic.settle(electorate);
            Ok(())
        })
        .await
    }
}

async fn alter(
    cluster: &SharedCluster,
    order: AlterReassignments,
) -> Result<Outcomes<AdminError>, AdminError> {
    let mut locked = cluster.lock().await;
    let (outcomes, changes) = locked.reassign(&order.0).await?;
    let answers = locked.office()?.carry_out(&changes);
    // What was asked for in the old way may be out of date by that.
    locked.take_up_tasks().await?;
    let own = locked.broker_id;
    drop(locked);
    answers.of(own).wait(own, Duration::ZERO).await;
    Ok(outcomes)
}

async fn list(
    cluster: &SharedCluster,
    asked: Option<Vec<TopicPartition>>,
) -> Result<Underway, AdminError> {
    let mut locked = cluster.lock().await;
    let office = locked.office()?;
    let asked = asked.unwrap_or_else(|| office.all_by_name());
    let found = asked.into_iter().filter_map(|partition| {
        let topic = office.topics.get(&*partition.topic)?;
        let assignment = topic.assignment.get(&partition.partition)?;
        let underway = assignment.is_reassigning();
        underway.then(|| (partition, assignment.clone()))
    });
    Ok(found.collect())
}

/// Partitions that are on their way.
type Underway = BTreeMap<TopicPartition, Assignment>;

/// Has partitions go to other brokers, or back.
#[derive(Message)]
#[rtype(result = "Result<Outcomes<AdminError>, AdminError>")]
struct AlterReassignments(Reassignments);

impl Handler<AlterReassignments> for Controller {
    type Result = ResponseFuture<Result<Outcomes<AdminError>, AdminError>>;

    fn handle(&mut self, order: AlterReassignments, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move { alter(&cluster, order).await })
    }
}

/// Lists what is on its way to other brokers.
#[derive(Message)]
#[rtype(result = "Result<Underway, AdminError>")]
struct ListReassignments(Option<Vec<TopicPartition>>);

impl Handler<ListReassignments> for Controller {
    type Result = ResponseFuture<Result<Underway, AdminError>>;

    fn handle(&mut self, order: ListReassignments, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move { list(&cluster, order.0).await })
    }
}

impl ControllerHandle {
    /// Has partitions go to other brokers, each for itself, in place of where they are going already. Answers when that is
    /// written and ordered, not when they are there.
    ///
    /// # Errors
    /// NOT_CONTROLLER; for each partition UNKNOWN_TOPIC_OR_PARTITION, INVALID_REPLICA_ASSIGNMENT,
    /// NO_REASSIGNMENT_IN_PROGRESS, INVALID_TOPIC_EXCEPTION when its topic is being deleted.
    pub async fn alter_reassignments(
        &self,
        asked: Reassignments,
    ) -> Result<Outcomes<AdminError>, AdminError> {
        let order = AlterReassignments(asked);
        self.addr.send(order).await.map_err(gone)?
    }

    /// Lists those partitions, of all or of some, that are on their way to other brokers.
    ///
    /// # Errors
    /// NOT_CONTROLLER.
    pub async fn list_reassignments(
        &self,
        asked: Option<Vec<TopicPartition>>,
    ) -> Result<Underway, AdminError> {
        self.addr
            .send(ListReassignments(asked))
            .await
            .map_err(gone)?
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::coordination::schema::PartitionState;

    fn electorate(live: &[BrokerId]) -> Electorate {
        Electorate {
            live: live.iter().copied().collect(),
            controller_epoch: 9,
            ..Electorate::default()
        }
    }

    fn topic(replicas: &[BrokerId], leader: BrokerId, isr: &[BrokerId]) -> StoredTopic {
        let state = PartitionState {
            controller_epoch: 1,
            leader,
            version: 1,
            leader_epoch: 4,
            isr: isr.to_vec(),
        };
        let assignment = Assignment::settled(replicas.to_vec());
        StoredTopic::of("t", [(assignment, state)].into_iter())
    }

    /// Has a partition go somewhere, as the controller does it.
    fn go(topic: &mut StoredTopic, targets: Option<&[BrokerId]>, live: &[BrokerId]) -> Changes {
        let before = topic.clone();
        let electorate = electorate(live);
        topic.reassign(0, targets, &electorate).expect("possible");
        topic.settle(&electorate);
        let mut changes = Changes::default();
        changes.note(&before, topic);
        changes
    }

    /// Has replicas in sync, as their leader says it, and the controller takes that up.
    fn in_sync(topic: &mut StoredTopic, isr: &[BrokerId], live: &[BrokerId]) -> Changes {
        let stored = topic.states.get_mut(&0).expect("a state");
        stored.state.isr = isr.to_vec();
        let before = topic.clone();
        topic.settle(&electorate(live));
        let mut changes = Changes::default();
        changes.note(&before, topic);
        changes
    }

    fn found(topic: &StoredTopic) -> (Vec<BrokerId>, BrokerId, Vec<BrokerId>) {
        let state = &topic.states[&0].state;
        let replicas = topic.assignment[&0].replicas.clone();
        (replicas, state.leader, state.isr.clone())
    }

    fn dropped(changes: &Changes) -> BTreeSet<BrokerId> {
        let deleted = |stops: &&Vec<_>| !Vec::is_empty(stops);
        let dropped = changes.dropped.iter();
        dropped
            .filter(|(_, stops)| deleted(stops))
            .map(|(id, _)| *id)
            .collect()
    }

    #[test]
    fn a_partition_is_where_it_goes_when_all_have_caught_up() {
        let live = &[1, 2, 3, 4];
        let mut topic = topic(&[1, 2], 1, &[1, 2]);
        let changes = go(&mut topic, Some(&[3, 4]), live);
        assert_eq!(found(&topic), (vec![3, 4, 1, 2], 1, vec![1, 2]));
        assert_eq!(topic.states[&0].state.leader_epoch, 5);
        assert_eq!(dropped(&changes), BTreeSet::new());
        in_sync(&mut topic, &[1, 2, 3], live);
        assert_eq!(found(&topic), (vec![3, 4, 1, 2], 1, vec![1, 2, 3]));
        let changes = in_sync(&mut topic, &[1, 2, 3, 4], live);
        assert_eq!(found(&topic), (vec![3, 4], 3, vec![3, 4]));
        assert!(!topic.is_reassigning());
        assert_eq!(dropped(&changes), BTreeSet::from([1, 2]));
        // What has come to its end is left alone.
        assert!(in_sync(&mut topic, &[3, 4], live).is_empty());
    }

    #[test]
    fn it_goes_on_while_brokers_die_and_back_when_that_is_asked_for() {
        let mut topic = topic(&[1, 2], 1, &[1, 2]);
        go(&mut topic, Some(&[3]), &[1, 2, 3]);
        in_sync(&mut topic, &[1, 2], &[2, 3]);
        assert_eq!(found(&topic), (vec![3, 1, 2], 2, vec![2]));
        let changes = go(&mut topic, None, &[2, 3]);
        assert_eq!(found(&topic), (vec![1, 2], 2, vec![2]));
        assert_eq!(dropped(&changes), BTreeSet::from([3]));
        let refused = topic.reassign(0, None, &electorate(&[1, 2]));
        let code = refused.expect_err("it goes nowhere").code;
        assert_eq!(code, ErrorCode::NoReassignmentInProgress);
    }

    #[test]
    fn fewer_replicas_or_another_order_need_no_waiting() {
        let mut topic = topic(&[1, 2, 3], 1, &[1, 2, 3]);
        let changes = go(&mut topic, Some(&[3, 2]), &[1, 2, 3]);
        assert_eq!(found(&topic), (vec![3, 2], 3, vec![2, 3]));
        assert_eq!(dropped(&changes), BTreeSet::from([1]));
        let changes = go(&mut topic, Some(&[2, 3]), &[1, 2, 3]);
        assert_eq!(found(&topic), (vec![2, 3], 3, vec![2, 3]));
        assert!(!changes.is_empty());
        assert!(go(&mut topic, Some(&[2, 3]), &[1, 2, 3]).is_empty());
    }
}
