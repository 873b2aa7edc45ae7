//! What follows from single events.

use std::collections::BTreeSet;

use super::model::{Model, name, topic};
use super::*;
use crate::metadata::NO_LEADER;

/// Leader, leader epoch and in-sync replicas.
fn state(model: &Model, topic: &str, partition: i32) -> (BrokerId, i32, Vec<BrokerId>) {
    let stored = model.stored(&name(topic, partition)).unwrap();
    (stored.leader, stored.leader_epoch, stored.isr)
}

fn replica_orders(orders: &Orders, broker: BrokerId) -> Vec<ReplicaOrder> {
    let orders = orders.get(&broker).into_iter().flatten();
    let replicas = orders.filter_map(|order| match order {
        Order::LeaderAndIsr(replicas) => Some(replicas.clone()),
        _ => None,
    });
    replicas.flatten().collect()
}

#[test]
fn a_new_topic_is_elected_for_and_its_replicas_are_new() {
    let mut model = Model::with_brokers(&[1, 2]);
    let orders = model.create("t", topic(&[&[1, 2], &[3, 2], &[3]]));
    assert_eq!(state(&model, "t", 0), (1, 0, vec![1, 2]));
    assert_eq!(state(&model, "t", 1), (2, 0, vec![2]));
    assert_eq!(model.stored(&name("t", 2)), None);
    let told = replica_orders(&orders, 2);
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|order| order.is_new), "{told:?}");
    assert_eq!(told[1].info.offline_replicas, [3]);
    model.came(&[3]);
    assert_eq!(state(&model, "t", 2), (3, 0, vec![3]));
}

#[test]
fn who_goes_is_replaced_and_leaves_the_in_sync_set() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    model.create("t", topic(&[&[1, 2, 3], &[2, 1]]));
    let orders = model.went(&[1]);
    assert_eq!(state(&model, "t", 0), (2, 1, vec![2, 3]));
    assert_eq!(state(&model, "t", 1), (2, 1, vec![2]));
    let told = replica_orders(&orders, 3);
    assert_eq!(told.len(), 1);
    assert!(!told[0].is_new);
    assert_eq!((told[0].info.leader, told[0].info.zk_version), (2, 1));
}

#[test]
fn the_last_one_in_sync_is_kept_and_leads_again() {
    let mut model = Model::with_brokers(&[1, 2]);
    model.create("t", topic(&[&[1, 2]]));
    model.went(&[1]);
    model.went(&[2]);
    assert_eq!(state(&model, "t", 0), (NO_LEADER, 2, vec![2]));
    model.came(&[1]);
    assert_eq!(state(&model, "t", 0), (NO_LEADER, 2, vec![2]));
    model.came(&[2]);
    assert_eq!(state(&model, "t", 0), (2, 3, vec![2]));
}

#[test]
fn two_that_go_at_once_both_stay_in_sync() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    model.create("t", topic(&[&[1, 2]]));
    model.went(&[1, 2]);
    assert_eq!(state(&model, "t", 0), (NO_LEADER, 1, vec![1, 2]));
    model.came(&[2]);
    assert_eq!(state(&model, "t", 0), (2, 2, vec![2]));
}

#[test]
fn who_comes_back_in_between_is_replaced_all_the_same() {
    let mut model = Model::with_brokers(&[1, 2]);
    model.create("t", topic(&[&[1, 2], &[1]]));
    let orders = model.came(&[1]);
    assert_eq!(state(&model, "t", 0), (2, 1, vec![2]));
    // Went, and was elected again: one write, two epochs.
    assert_eq!(state(&model, "t", 1), (1, 2, vec![1]));
    assert_eq!(model.stored(&name("t", 1)).unwrap().zk_version, 1);
    assert_eq!(replica_orders(&orders, 1).len(), 2);
    assert!(matches!(orders[&1][0], Order::UpdateMetadata { .. }));
}

#[test]
fn a_topic_may_prefer_availability() {
    let mut model = Model::with_brokers(&[1, 2]);
    let mut read = topic(&[&[1, 2]]);
    read.topic.unclean_election = true;
    model.create("t", read);
    model.went(&[2]);
    model.came(&[2]);
    let mut brokers = model.context.brokers.clone();
    brokers.remove(&1);
    let plan = decide(&model.context, Event::BrokersRead(brokers));
    assert_eq!(plan.unclean, BTreeSet::from([name("t", 0)]));
    model.went(&[1]);
    assert_eq!(state(&model, "t", 0), (2, 2, vec![2]));
}

#[test]
fn what_a_leader_has_written_is_told_to_all_but_orders_nobody() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    model.create("t", topic(&[&[1, 2]]));
    model.leader_writes(&name("t", 0), &[1]);
    let orders = model.read([name("t", 0)]);
    assert!(replica_orders(&orders, 2).is_empty());
    assert_eq!(orders.len(), 3);
}

#[test]
fn a_lost_write_harms_no_other_and_is_decided_on_again() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    model.create("t", topic(&[&[1, 2, 3], &[1, 2, 3]]));
    model.leader_writes(&name("t", 0), &[1, 3]);
    let mut brokers = model.context.brokers.clone();
    brokers.remove(&1);
    let plan = decide(&model.context, Event::BrokersRead(brokers));
    let applied = applied(&model.context, plan, &[false, true]);
    assert_eq!(applied.context.stale, BTreeSet::from([name("t", 0)]));
    assert_eq!(applied.context.leader(&name("t", 1)), 2);
    let told = replica_orders(&applied.orders, 3);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].info.partition, name("t", 1));
    model.went(&[1]);
    assert_eq!(state(&model, "t", 0), (3, 1, vec![3]));
    assert_eq!(state(&model, "t", 1), (2, 1, vec![2, 3]));
}

#[test]
fn a_lost_write_that_is_needed_no_more_leaves_nobody_untold() {
    let mut model = Model::with_brokers(&[1]);
    model.create("t", topic(&[&[1, 2]]));
    let mut brokers = model.context.brokers.clone();
    brokers.remove(&1);
    let plan = decide(&model.context, Event::BrokersRead(brokers));
    let lost = applied(&model.context, plan, &[false]).context;
    let stored = model.stored(&name("t", 0)).unwrap();
    let mut context = lost.clone();
    context.brokers = model.context.brokers.clone();
    let states = BTreeMap::from([(name("t", 0), stored)]);
    let plan = decide(&context, Event::StatesRead(states));
    assert!(plan.steps.is_empty());
    let orders = applied(&context, plan, &[]).orders;
    assert_eq!(replica_orders(&orders, 1).len(), 1);
}

#[test]
fn more_partitions_are_taken_up_and_fewer_are_not() {
    let mut model = Model::with_brokers(&[1, 2]);
    model.create("t", topic(&[&[1, 2]]));
    model.create("t", topic(&[&[2, 1], &[2, 1]]));
    assert_eq!(state(&model, "t", 1), (2, 0, vec![2, 1]));
    let kept = &model.context.partition(&name("t", 0)).unwrap().assignment;
    assert_eq!(kept.replicas, [1, 2]);
    let (data, version) = &model.znodes["/brokers/topics/t"];
    let data = String::from_utf8_lossy(data);
    assert!(
        data.contains(r#""partitions":{"0":[1,2],"1":[2,1]}"#),
        "{data}"
    );
    assert_eq!(*version, 1);
    let mut read = topic(&[&[1, 2]]);
    read.topic.zk_version = 1;
    model.create("t", read);
    assert_eq!(model.context.topics["t"].partitions.len(), 2);
}

#[test]
fn a_new_controller_tells_everyone_everything_and_changes_only_what_it_must() {
    let mut model = Model::with_brokers(&[1, 2]);
    model.create("t", topic(&[&[1, 2], &[2, 1]]));
    model.context.controller_epoch = 2;
    let orders = model.perform(Event::TookOffice {
        restarted: BTreeSet::new(),
    });
    assert_eq!(state(&model, "t", 0), (1, 0, vec![1, 2]));
    for broker in [1, 2] {
        let told = replica_orders(&orders, broker);
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|order| !order.is_new), "{told:?}");
    }
    model.perform(Event::TookOffice {
        restarted: BTreeSet::from([1]),
    });
    assert_eq!(state(&model, "t", 0), (2, 1, vec![2]));
    let stored = model.stored(&name("t", 0)).unwrap();
    assert_eq!(stored.controller_epoch, 2);
}
