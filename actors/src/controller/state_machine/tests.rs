//! What follows from single events.

use std::collections::BTreeSet;

use troupe_protocol::kafka::errors::ErrorCode;

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
fn who_comes_back_is_not_told_of_what_is_to_be_read_again() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    model.create("t", topic(&[&[1, 2, 3], &[2, 3]]));
    let restarted = BTreeSet::from([1]);
    let plan = decide(&model.context, Event::TookOffice { restarted });
    assert_eq!(plan.steps.len(), 1);
    let orders = applied(&model.context, plan, &[false]).orders;
    let told = replica_orders(&orders, 3);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].info.partition, name("t", 1));
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
    let states = BTreeMap::from([(name("t", 0), Some(stored))]);
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

#[test]
fn asked_elections_are_done_or_refused_in_kafkas_words() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    model.create("t", topic(&[&[1, 2], &[3], &[2, 1]]));
    model.went(&[1]);
    model.came(&[1]);
    model.leader_writes(&name("t", 0), &[2, 1]);
    model.read([name("t", 0)]);
    model.went(&[3]);
    let all = BTreeSet::from([name("t", 0), name("t", 1), name("t", 2), name("u", 0)]);
    model.ask(Event::PreferredAsked(all.clone()));
    assert_eq!(state(&model, "t", 0), (1, 2, vec![2, 1]));
    let refused = BTreeMap::from([
        (name("t", 1), ErrorCode::PreferredLeaderNotAvailable),
        (name("t", 2), ErrorCode::ElectionNotNeeded),
        (name("u", 0), ErrorCode::UnknownTopicOrPartition),
    ]);
    assert_eq!(model.refused, refused);
    model.ask(Event::UncleanAsked(all));
    let refused = BTreeMap::from([
        (name("t", 0), ErrorCode::ElectionNotNeeded),
        (name("t", 1), ErrorCode::EligibleLeadersNotAvailable),
        (name("t", 2), ErrorCode::ElectionNotNeeded),
        (name("u", 0), ErrorCode::UnknownTopicOrPartition),
    ]);
    assert_eq!(model.refused, refused);
}

#[test]
fn a_replica_that_lacks_records_leads_when_that_is_asked_for() {
    let mut model = Model::with_brokers(&[1, 2]);
    model.create("t", topic(&[&[1, 2]]));
    model.went(&[2]);
    model.came(&[2]);
    model.went(&[1]);
    assert_eq!(state(&model, "t", 0), (NO_LEADER, 2, vec![1]));
    let asked = BTreeSet::from([name("t", 0)]);
    let plan = decide(&model.context, Event::UncleanAsked(asked.clone()));
    assert_eq!(plan.unclean, asked);
    model.ask(Event::UncleanAsked(asked));
    assert_eq!(state(&model, "t", 0), (2, 3, vec![2]));
}

#[test]
fn leaders_are_given_back_above_the_percentage() {
    let mut model = Model::with_brokers(&[1, 2]);
    model.create("t", topic(&[&[1, 2], &[1, 2], &[1, 2], &[1, 2]]));
    for number in 0..4 {
        let name = name("t", number);
        if number == 0 {
            let mut read = model.stored(&name).unwrap();
            read.leader = 2;
            read.leader_epoch = 1;
            let partition = model.context.partition_mut(&name).unwrap();
            partition.leadership = Some(read);
        }
    }
    let steps = |percentage| {
        let plan = decide(&model.context, Event::BalanceDue { percentage });
        plan.steps.len()
    };
    assert_eq!((steps(25), steps(24)), (0, 1));
}

#[test]
fn a_broker_that_stops_hands_over_what_it_can() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    model.create("t", topic(&[&[1, 2], &[2, 1], &[1], &[1, 4]]));
    let orders = model.ask(Event::ShutdownAsked(1));
    assert_eq!(state(&model, "t", 0), (2, 1, vec![2]));
    assert_eq!(state(&model, "t", 1), (2, 1, vec![2]));
    assert_eq!(state(&model, "t", 2), (1, 0, vec![1]));
    assert_eq!(model.context.still_led_by(1), [name("t", 3)]);
    let stopped = orders[&1].iter().find_map(|order| match order {
        Order::StopReplica(stopped) => Some(stopped.clone()),
        _ => None,
    });
    let stopped: Vec<_> = stopped
        .unwrap()
        .into_iter()
        .map(|stop| (stop.partition, stop.delete))
        .collect();
    assert_eq!(stopped, [(name("t", 0), false), (name("t", 1), false)]);
    // Somebody catches up at last.
    model.came(&[4]);
    model.leader_writes(&name("t", 3), &[1, 4]);
    model.read([name("t", 3)]);
    assert_eq!(state(&model, "t", 3), (4, 1, vec![4]));
    assert!(model.context.still_led_by(1).is_empty());
    model.came(&[1]);
    assert!(model.context.shutting_down.is_empty());
}

fn moved(targets: Option<&[BrokerId]>) -> Event {
    let targets = targets.map(<[BrokerId]>::to_vec);
    Event::ReassignmentAsked(BTreeMap::from([(name("t", 0), targets)]))
}

#[test]
fn a_partition_moves_when_its_new_replicas_have_caught_up() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    model.create("t", topic(&[&[1, 2]]));
    let orders = model.ask(moved(Some(&[3, 2])));
    assert_eq!(state(&model, "t", 0), (1, 1, vec![1, 2]));
    let told = replica_orders(&orders, 3);
    assert!(told[0].is_new);
    assert_eq!(
        (&told[0].adding_replicas[..], &told[0].removing_replicas[..]),
        (&[3][..], &[1][..])
    );
    let (data, _) = &model.znodes["/brokers/topics/t"];
    let node: serde_json::Value = serde_json::from_slice(data).unwrap();
    assert_eq!(node["adding_replicas"]["0"], serde_json::json!([3]));
    assert_eq!(node["partitions"]["0"], serde_json::json!([3, 2, 1]));
    model.leader_writes(&name("t", 0), &[1, 2, 3]);
    let orders = model.read([name("t", 0)]);
    assert_eq!(state(&model, "t", 0), (3, 2, vec![2, 3]));
    let settled = &model.context.partition(&name("t", 0)).unwrap().assignment;
    assert_eq!(*settled, Assignment::settled(vec![3, 2]));
    let stop = StopOrder {
        partition: name("t", 0),
        leader_epoch: 2,
        delete: true,
    };
    assert!(orders[&1].contains(&Order::StopReplica(vec![stop])));
}

#[test]
fn a_move_is_cancelled_or_refused() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    model.create("t", topic(&[&[1]]));
    for (asked, code) in [
        (moved(None), ErrorCode::NoReassignmentInProgress),
        (moved(Some(&[])), ErrorCode::InvalidReplicaAssignment),
        (moved(Some(&[1, 1])), ErrorCode::InvalidReplicaAssignment),
        (moved(Some(&[4])), ErrorCode::InvalidReplicaAssignment),
    ] {
        model.ask(asked);
        assert_eq!(model.refused, BTreeMap::from([(name("t", 0), code)]));
    }
    model.ask(moved(Some(&[3])));
    model.leader_writes(&name("t", 0), &[1]);
    model.ask(moved(None));
    let settled = &model.context.partition(&name("t", 0)).unwrap().assignment;
    assert_eq!(*settled, Assignment::settled(vec![1]));
    assert_eq!(state(&model, "t", 0).2, [1]);
}

#[test]
fn an_assignment_and_its_state_are_lost_together() {
    let mut model = Model::with_brokers(&[1, 2]);
    model.create("t", topic(&[&[1]]));
    let plan = decide(&model.context, moved(Some(&[2])));
    assert_eq!(plan.steps.len(), 1);
    let lost = applied(&model.context, plan, &[false]);
    assert_eq!(lost.stale_topics, BTreeSet::from(["t".into()]));
    assert!(lost.orders.is_empty());
    assert_eq!(lost.context.topics, model.context.topics);
}

#[test]
fn a_deletion_waits_for_moves_and_for_brokers_that_are_away() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    model.create("t", topic(&[&[1, 2]]));
    model.ask(moved(Some(&[1, 3])));
    model.delete(&["t", "unknown"]);
    assert!(!model.context.deletions.contains_key("unknown"));
    assert_eq!(
        model.context.waits_for("t"),
        Some(Wait::Reassignment(vec![0]))
    );
    model.leader_writes(&name("t", 0), &[1, 2, 3]);
    model.read([name("t", 0)]);
    assert_eq!(model.context.waits_for("t"), Some(Wait::Answers));
    model.went(&[3]);
    // Nobody is elected for what goes.
    assert_eq!(state(&model, "t", 0), (1, 2, vec![1, 3]));
    let away = BTreeSet::from([3]);
    assert_eq!(
        model.context.waits_for("t"),
        Some(Wait::Offline(away.clone()))
    );
    model.answer_deletions(true);
    let orders = model.came(&[3]);
    let stop = StopOrder {
        partition: name("t", 0),
        leader_epoch: -2,
        delete: true,
    };
    assert!(orders[&3].contains(&Order::StopReplica(vec![stop])));
    model.answer_deletions(false);
    assert_eq!(model.context.waits_for("t"), Some(Wait::Failed(away)));
    model.came(&[3]);
    model.answer_deletions(true);
    assert!(model.context.topics.is_empty() && model.context.deletions.is_empty());
    assert!(model.znodes.is_empty(), "{:?}", model.znodes);
}

#[test]
fn a_state_that_somebody_removed_does_not_begin_anew() {
    let mut model = Model::with_brokers(&[1, 2]);
    model.create("t", topic(&[&[1, 2]]));
    model.lose_state(&name("t", 0));
    model.went(&[1]);
    assert_eq!(state(&model, "t", 0), (2, 2, vec![2]));
}

#[test]
fn a_topic_whose_node_is_gone_is_served_no_more() {
    let mut model = Model::with_brokers(&[1]);
    model.create("t", topic(&[&[1]]));
    model.znodes.clear();
    let orders = model.perform(Event::TopicsGone(BTreeSet::from(["t".into()])));
    let stop = StopOrder {
        partition: name("t", 0),
        leader_epoch: 0,
        delete: false,
    };
    assert_eq!(orders[&1][1], Order::StopReplica(vec![stop]));
    assert!(
        matches!(&orders[&1][0], Order::UpdateMetadata { partitions, .. } if partitions[0].leader == -2)
    );
}

#[test]
fn a_deletion_that_follows_a_move_also_reaches_who_was_moved_away() {
    let mut model = Model::with_brokers(&[1, 2]);
    model.create("t", topic(&[&[1]]));
    model.ask(moved(Some(&[2])));
    model.delete(&["t"]);
    model.leader_writes(&name("t", 0), &[1, 2]);
    let states = BTreeMap::from([(name("t", 0), model.stored(&name("t", 0)))]);
    let plan = decide(&model.context, Event::StatesRead(states.clone()));
    // The move's end is lost: nothing is deleted yet.
    let lost = applied(&model.context, plan, &[false]);
    let stops = |order: &Order| matches!(order, Order::StopReplica(_));
    assert!(
        !lost.orders.values().flatten().any(stops),
        "{:?}",
        lost.orders
    );
    let orders = model.perform(Event::StatesRead(states));
    for broker in [1, 2] {
        assert!(orders[&broker].iter().any(stops), "{broker}: {orders:?}");
    }
}
