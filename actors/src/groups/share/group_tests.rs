//! Share groups: single rules, and random heartbeats on simulated time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::assignor::{Assignment, Topic};
use super::group::{JOIN_EPOCH, LEAVE_EPOCH, ShareBeat, ShareGroup, ShareHeartbeat};
use super::records::ShareRecord;

const SESSION_TIMEOUT_MS: i64 = 1_000;

fn beat(member: &str, epoch: i32, topics: Option<&[&str]>) -> ShareHeartbeat {
    ShareHeartbeat {
        member_id: member.into(),
        member_epoch: epoch,
        rack_id: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        topics: topics.map(|topics| topics.iter().map(|&topic| topic.to_owned()).collect()),
        session_timeout_ms: SESSION_TIMEOUT_MS,
        max_size: 3,
    }
}

fn topic(partitions: i32) -> impl Fn(&str) -> Option<Topic> {
    move |name| {
        (name == "t").then_some(Topic {
            id: Uuid::from_u128(1),
            partitions,
        })
    }
}

fn send(group: &mut ShareGroup, beat: ShareHeartbeat) -> Result<ShareBeat, ErrorCode> {
    group.heartbeat(beat, 0, topic(1)).map(|(beat, _)| beat)
}

fn assigned(partitions: &[i32]) -> Option<Assignment> {
    let partitions: BTreeSet<i32> = partitions.iter().copied().collect();
    Some(Assignment::from([(Uuid::from_u128(1), partitions)]))
}

#[test]
fn two_members_share_a_partition() {
    let mut group = ShareGroup::new();
    let first = send(&mut group, beat("a", JOIN_EPOCH, Some(&["t"]))).unwrap();
    assert_eq!((first.member_epoch, first.assignment), (1, assigned(&[0])));
    let second = send(&mut group, beat("b", JOIN_EPOCH, Some(&["t"]))).unwrap();
    assert_eq!(
        (second.member_epoch, second.assignment),
        (2, assigned(&[0]))
    );
    // Nothing changed for the first but the epoch.
    let first = send(&mut group, beat("a", 1, None)).unwrap();
    assert_eq!((first.member_epoch, first.assignment), (2, None));
    // The answer may have been lost.
    assert_eq!(
        send(&mut group, beat("a", 1, None)).unwrap().member_epoch,
        2
    );
    assert_eq!(group.state(), "Stable");
}

#[test]
fn unknown_and_fenced_members_are_told() {
    let mut group = ShareGroup::new();
    let unknown = Err(ErrorCode::UnknownMemberId);
    assert_eq!(send(&mut group, beat("a", 1, None)), unknown);
    assert_eq!(send(&mut group, beat("a", LEAVE_EPOCH, None)), unknown);
    send(&mut group, beat("a", JOIN_EPOCH, Some(&["t"]))).unwrap();
    let fenced = Err(ErrorCode::FencedMemberEpoch);
    assert_eq!(send(&mut group, beat("a", 7, None)), fenced);
    for member in ["b", "c"] {
        send(&mut group, beat(member, JOIN_EPOCH, Some(&["t"]))).unwrap();
    }
    assert_eq!(
        send(&mut group, beat("d", JOIN_EPOCH, Some(&["t"]))),
        Err(ErrorCode::GroupMaxSizeReached)
    );
}

#[test]
fn a_topic_that_grows_is_noticed() {
    let mut group = ShareGroup::new();
    let join = beat("a", JOIN_EPOCH, Some(&["t"]));
    let (joined, _) = group.heartbeat(join, 0, |_| None).unwrap();
    assert_eq!(joined.assignment, Some(Assignment::new()));
    let (first, _) = group.heartbeat(beat("a", 1, None), 0, topic(1)).unwrap();
    assert_eq!(first.assignment, assigned(&[0]));
    let again = group.heartbeat(beat("a", 2, None), 0, topic(2)).unwrap();
    assert_eq!(again.0.assignment, assigned(&[0, 1]));
}

#[test]
fn silent_members_and_those_that_leave_are_out() {
    let mut group = ShareGroup::new();
    for member in ["a", "b"] {
        send(&mut group, beat(member, JOIN_EPOCH, Some(&["t"]))).unwrap();
    }
    send(&mut group, beat("b", LEAVE_EPOCH, None)).unwrap();
    assert_eq!(group.kill(), Err(ErrorCode::NonEmptyGroup));
    assert_eq!(group.next_deadline_ms(), Some(SESSION_TIMEOUT_MS));
    assert!(group.tick(SESSION_TIMEOUT_MS - 1).0.is_empty());
    assert_eq!(group.tick(SESSION_TIMEOUT_MS).0, [Arc::from("a")]);
    assert_eq!(group.state(), "Empty");
    group.kill().unwrap();
    assert_eq!(group.kill(), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(
        send(&mut group, beat("a", JOIN_EPOCH, Some(&["t"]))),
        Err(ErrorCode::CoordinatorNotAvailable)
    );
    group.revive();
    assert_eq!(group.state(), "Empty");
}

#[derive(Debug, Clone)]
enum Action {
    Join(u8, bool),
    Beat(u8),
    Leave(u8),
    Wait(i64),
    Grow,
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => (0u8..4, any::<bool>()).prop_map(|(member, subscribed)| Action::Join(member, subscribed)),
        4 => (0u8..4).prop_map(Action::Beat),
        1 => (0u8..4).prop_map(Action::Leave),
        1 => (0i64..1_200).prop_map(Action::Wait),
        1 => Just(Action::Grow),
    ]
}

proptest! {
    #[test]
    fn members_agree_with_the_group_and_the_log_gives_it_back(actions in prop::collection::vec(actions(), 0..60)) {
        let mut group = ShareGroup::new();
        let mut log: Vec<ShareRecord> = Vec::new();
        let mut known: BTreeMap<u8, (i32, Assignment)> = BTreeMap::new();
        let (mut now_ms, mut partitions) = (0, 1);
        for action in actions {
            let epoch_before = group.epoch();
            let (member, heartbeat) = match action {
                Action::Join(member, subscribed) => {
                    let topics: &[&str] = if subscribed { &["t"] } else { &[] };
                    (member, beat(&member.to_string(), JOIN_EPOCH, Some(topics)))
                }
                Action::Beat(member) => {
                    let epoch = known.get(&member).map_or(1, |(epoch, _)| *epoch);
                    (member, beat(&member.to_string(), epoch, None))
                }
                Action::Leave(member) => (member, beat(&member.to_string(), LEAVE_EPOCH, None)),
                Action::Wait(ms) => {
                    now_ms += ms;
                    let (expired, records) = group.tick(now_ms);
                    for id in expired {
                        known.remove(&id.parse::<u8>().unwrap());
                    }
                    log.extend(records);
                    continue;
                }
                Action::Grow => {
                    partitions += 1;
                    continue;
                }
            };
            let leaves = heartbeat.member_epoch == LEAVE_EPOCH;
            match group.heartbeat(heartbeat, now_ms, topic(partitions)) {
                Ok((answer, records)) => {
                    log.extend(records);
                    if leaves {
                        prop_assert!(known.remove(&member).is_some());
                        continue;
                    }
                    let entry = known.entry(member).or_default();
                    prop_assert!(answer.member_epoch >= entry.0);
                    entry.0 = answer.member_epoch;
                    if let Some(assignment) = answer.assignment {
                        entry.1 = assignment;
                    }
                    let id: Arc<str> = member.to_string().into();
                    let of_group = group.members().find(|(name, _)| **name == id).unwrap().1;
                    prop_assert_eq!(&of_group.assigned, &entry.1);
                    prop_assert_eq!(of_group.epoch, group.epoch());
                }
                Err(ErrorCode::GroupMaxSizeReached) => prop_assert_eq!(known.len(), 3),
                Err(error) => {
                    prop_assert_eq!(error, ErrorCode::UnknownMemberId);
                    prop_assert!(!known.contains_key(&member));
                }
            }
            prop_assert!(group.epoch() >= epoch_before);
        }
        let mut restored = ShareGroup::new();
        for record in log {
            restored.replay(record);
        }
        prop_assert_eq!(restored.epoch(), group.epoch());
        prop_assert_eq!(restored.assignment_epoch(), group.assignment_epoch());
        let members = |group: &ShareGroup| -> Vec<_> {
            group.members().map(|(id, member)| {
                let mut member = member.clone();
                member.expires_ms = 0;
                (Arc::clone(id), member)
            }).collect()
        };
        prop_assert_eq!(members(&restored), members(&group));
    }
}
