//! Classic groups by example, each rule of Kafka's coordinator once.

use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::kafka::errors::ErrorCode;

use super::group::{Group, GroupConfig, Now};
use super::join::{JoinRequest, NEW_MEMBER_JOIN_TIMEOUT_MS};
use super::offsets::{CommittedOffset, Offsets};
use super::session::SyncRequest;
use super::testing::{
    Driver, REBALANCE_TIMEOUT_MS, SESSION_TIMEOUT_MS, assignment_of, config, request,
};

fn new(protocols: &[&str]) -> JoinRequest {
    request("", protocols)
}

fn fixed(instance: &str) -> JoinRequest {
    JoinRequest {
        instance_id: Some(instance.into()),
        ..new(&["range"])
    }
}

fn session() -> i64 {
    SESSION_TIMEOUT_MS.into()
}

#[test]
fn a_lone_member_joins_and_syncs() {
    let mut group = Driver::new(config());
    let join = group.join(new(&["range"]));
    let joined = group.joined(join).clone();
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, 1));
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(&joined.members[0].metadata[..], b"for range");
    let sync = group.sync(&joined.member_id);
    assert_eq!(group.syncs[&sync], None, "answered before it was stored");
    let stored = group.store(Ok(())).unwrap();
    assert_eq!(stored.generation, 1);
    assert_eq!(
        stored.members[0].assignment,
        assignment_of(&joined.member_id)
    );
    assert_eq!(
        group.synced(sync).assignment,
        assignment_of(&joined.member_id)
    );
    assert_eq!(group.state(), "Stable");
}

#[test]
fn a_member_of_today_is_told_its_id_first() {
    let mut group = Driver::new(config());
    let required = JoinRequest {
        member_id_required: true,
        ..new(&["range"])
    };
    let first = group.join(required.clone());
    let told = group.joined(first).clone();
    assert_eq!(told.error, ErrorCode::MemberIdRequired);
    assert_eq!(&*told.member_id, "m1");
    assert_eq!(group.group.members().count(), 0);
    let second = group.join(JoinRequest {
        member_id: told.member_id,
        ..required
    });
    assert_eq!(group.joined(second).error, ErrorCode::None);
    assert_eq!(&*group.joined(second).member_id, "m1");
}

#[test]
fn an_id_that_nobody_joins_with_is_forgotten() {
    let mut group = Driver::new(config());
    group.join(JoinRequest {
        member_id_required: true,
        ..new(&["range"])
    });
    assert!(!group.group.is_idle());
    group.advance(session());
    assert!(group.group.is_idle());
    let late = group.join(request("m1", &["range"]));
    assert_eq!(group.joined(late).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_join_is_checked() {
    let mut group = Driver::new(config());
    let mut refused = |request: JoinRequest| {
        let join = group.join(request);
        let joined = group.joined(join);
        assert_eq!(joined.generation, -1);
        joined.error
    };
    let timeout = |session_timeout_ms| JoinRequest {
        session_timeout_ms,
        ..new(&["range"])
    };
    assert_eq!(refused(timeout(5_999)), ErrorCode::InvalidSessionTimeout);
    assert_eq!(
        refused(timeout(1_800_001)),
        ErrorCode::InvalidSessionTimeout
    );
    assert_eq!(refused(new(&[])), ErrorCode::InconsistentGroupProtocol);
    assert_eq!(
        refused(request("nobody", &["range"])),
        ErrorCode::UnknownMemberId
    );
    let untyped = JoinRequest {
        protocol_type: "".into(),
        ..new(&["range"])
    };
    assert_eq!(refused(untyped), ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn who_shares_no_protocol_stays_out() {
    let (mut group, _) = Driver::stable(vec![new(&["range"])]);
    let other_protocol = group.join(new(&["sticky"]));
    let other_type = group.join(JoinRequest {
        protocol_type: "connect".into(),
        ..new(&["range"])
    });
    for join in [other_protocol, other_type] {
        assert_eq!(
            group.joined(join).error,
            ErrorCode::InconsistentGroupProtocol
        );
    }
    assert_eq!(group.state(), "Stable");
}

#[test]
fn the_protocol_with_most_votes_among_the_common_ones_wins() {
    let (group, _) = Driver::stable(vec![
        new(&["own", "sticky", "range"]),
        new(&["range", "sticky"]),
        new(&["sticky", "range"]),
    ]);
    assert_eq!(&*group.group.describe().protocol, "sticky");
}

#[test]
fn a_fresh_group_waits_for_more_members_as_long_as_they_come() {
    let mut group = Driver::new(GroupConfig {
        initial_rebalance_delay_ms: 3_000,
        ..config()
    });
    let first = group.join(new(&["range"]));
    group.advance(2_000);
    let second = group.join(new(&["range"]));
    group.advance(1_000);
    assert_eq!(group.joins[&first], None, "ended although somebody came");
    group.advance(2_999);
    assert_eq!(group.joins[&first], None);
    group.advance(1);
    assert_eq!(group.joined(first).members.len(), 2);
    assert_eq!(group.joined(second).members.len(), 0);
    assert_eq!(group.joined(second).leader, group.joined(first).member_id);
}

#[test]
fn the_wait_for_more_members_ends_at_the_rebalance_timeout() {
    let mut group = Driver::new(GroupConfig {
        initial_rebalance_delay_ms: 40_000,
        ..config()
    });
    let first = group.join(new(&["range"]));
    group.join(new(&["range"]));
    group.advance(40_000);
    group.join(new(&["range"]));
    group.advance(19_999);
    assert_eq!(group.joins[&first], None);
    group.advance(1);
    assert_eq!(group.joined(first).members.len(), 3);
}

#[test]
fn a_newcomer_makes_the_others_join_again() {
    let (mut group, ids) = Driver::stable(vec![new(&["range"])]);
    let newcomer = group.join(new(&["range"]));
    assert_eq!(group.state(), "PreparingRebalance");
    assert_eq!(
        group.heartbeat(&ids[0]),
        Err(ErrorCode::RebalanceInProgress)
    );
    assert_eq!(group.joins[&newcomer], None);
    let sync = group.sync(&ids[0]);
    assert_eq!(group.synced(sync).error, ErrorCode::RebalanceInProgress);
    let again = group.join(request(&ids[0], &["range"]));
    assert_eq!(group.joined(again).generation, 2);
    assert_eq!(group.joined(again).members.len(), 2, "the leader stays");
    assert_eq!(group.joined(newcomer).generation, 2);
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    let (mut group, ids) = Driver::stable(vec![new(&["range"]), new(&["range"])]);
    let again = group.join(request(&ids[1], &["sticky", "range"]));
    for _ in 0..8 {
        // The leader lives, but does not join.
        group.advance(i64::from(REBALANCE_TIMEOUT_MS) / 8);
        let _ = group.heartbeat(&ids[0]);
    }
    let joined = group.joined(again);
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, 2));
    assert_eq!(joined.leader, ids[1], "the leader is who has joined");
    assert_eq!(group.heartbeat(&ids[0]), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_lost_answer_is_given_again_without_a_rebalance() {
    let (mut group, ids) = Driver::stable(vec![new(&["range"]), new(&["range"])]);
    let follower = group.join(request(&ids[1], &["range"]));
    assert_eq!(group.state(), "Stable");
    assert_eq!(group.joined(follower).generation, 1);
    assert!(group.joined(follower).members.is_empty());
    let sync = group.sync(&ids[1]);
    assert_eq!(group.synced(sync).assignment, assignment_of(&ids[1]));
    // The leader joins again to assign anew.
    let leader = group.join(request(&ids[0], &["range"]));
    assert_eq!(group.joins[&leader], None);
    assert_eq!(group.state(), "PreparingRebalance");
    // While the leader assigns, everyone may ask again.
    group.join(request(&ids[1], &["range"]));
    assert_eq!(group.state(), "CompletingRebalance");
    let leader = group.join(request(&ids[0], &["range"]));
    assert_eq!(group.joined(leader).members.len(), 2);
    assert_eq!(group.state(), "CompletingRebalance");
}

#[test]
fn a_silent_member_is_out_after_its_session_timeout() {
    let (mut group, ids) = Driver::stable(vec![new(&["range"]), new(&["range"])]);
    group.advance(session() - 1);
    assert_eq!(group.heartbeat(&ids[0]), Ok(()));
    group.advance(1);
    assert_eq!(
        group.heartbeat(&ids[0]),
        Err(ErrorCode::RebalanceInProgress)
    );
    assert_eq!(group.heartbeat(&ids[1]), Err(ErrorCode::UnknownMemberId));
    let again = group.join(request(&ids[0], &["range"]));
    assert_eq!(group.joined(again).members.len(), 1);
}

#[test]
fn the_join_of_a_newcomer_does_not_wait_for_ever() {
    let (mut group, _) = Driver::stable(vec![JoinRequest {
        rebalance_timeout_ms: i32::MAX,
        session_timeout_ms: 1_800_000,
        ..new(&["range"])
    }]);
    let newcomer = group.join(new(&["range"]));
    group.advance(NEW_MEMBER_JOIN_TIMEOUT_MS - 1);
    assert_eq!(group.joins[&newcomer], None);
    group.advance(1);
    assert_eq!(group.joined(newcomer).error, ErrorCode::UnknownMemberId);
}

#[test]
fn who_joins_but_does_not_sync_is_out() {
    let mut group = Driver::new(config());
    let join = group.join(new(&["range"]));
    let id = Arc::clone(&group.joined(join).member_id);
    for _ in 0..8 {
        group.advance(i64::from(REBALANCE_TIMEOUT_MS) / 8);
        let _ = group.heartbeat(&id);
    }
    assert_eq!(group.heartbeat(&id), Err(ErrorCode::UnknownMemberId));
    assert_eq!(group.state(), "Empty");
}

#[test]
fn the_last_to_leave_empties_the_group() {
    let (mut group, ids) = Driver::stable(vec![new(&["range"]), new(&["range"])]);
    assert_eq!(group.leave("nobody"), Err(ErrorCode::UnknownMemberId));
    assert_eq!(group.leave(&ids[0]), Ok(()));
    assert_eq!(group.state(), "PreparingRebalance");
    assert_eq!(group.leave(&ids[1]), Ok(()));
    assert_eq!(group.state(), "Empty");
    let stored = group.store(Ok(())).unwrap();
    assert_eq!((stored.generation, stored.protocol), (2, None));
    assert_eq!(stored.protocol_type, "consumer");
    assert!(stored.members.is_empty());
}

#[test]
fn generations_are_fenced() {
    let (mut group, ids) = Driver::stable(vec![new(&["range"])]);
    let stale = |group: &mut Driver, generation| {
        group.run(|group, step| group.heartbeat(&ids[0], None, generation, step))
    };
    assert_eq!(stale(&mut group, 0), Err(ErrorCode::IllegalGeneration));
    assert_eq!(stale(&mut group, 2), Err(ErrorCode::IllegalGeneration));
    let sync = group.start_sync(SyncRequest {
        member_id: Arc::clone(&ids[0]),
        instance_id: None,
        generation: 0,
        protocol_type: None,
        protocol: None,
        assignment: Default::default(),
    });
    assert_eq!(group.synced(sync).error, ErrorCode::IllegalGeneration);
    let commit = group.run(|group, step| group.check_commit(&ids[0], None, 0, step));
    assert_eq!(commit, Err(ErrorCode::IllegalGeneration));
}

#[test]
fn a_sync_must_name_the_chosen_protocol() {
    let (mut group, ids) = Driver::stable(vec![new(&["range"])]);
    let mut error = |protocol_type: &str, protocol: &str| {
        let sync = group.start_sync(SyncRequest {
            member_id: Arc::clone(&ids[0]),
            instance_id: None,
            generation: 1,
            protocol_type: Some(protocol_type.into()),
            protocol: Some(protocol.into()),
            assignment: Default::default(),
        });
        group.synced(sync).error
    };
    assert_eq!(error("consumer", "range"), ErrorCode::None);
    assert_eq!(
        error("connect", "range"),
        ErrorCode::InconsistentGroupProtocol
    );
    assert_eq!(
        error("consumer", "sticky"),
        ErrorCode::InconsistentGroupProtocol
    );
}

#[test]
fn who_commits_is_checked() {
    let mut empty = Driver::new(config());
    let commit = |driver: &mut Driver, id: &str, generation| {
        driver.run(|group, step| group.check_commit(id, None, generation, step))
    };
    assert_eq!(commit(&mut empty, "", -1), Ok(()));
    assert_eq!(commit(&mut empty, "m", 1), Err(ErrorCode::UnknownMemberId));
    let (mut group, ids) = Driver::stable(vec![new(&["range"])]);
    assert_eq!(commit(&mut group, "", -1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(commit(&mut group, &ids[0], 1), Ok(()));
    group.join(new(&["range"]));
    assert_eq!(commit(&mut group, &ids[0], 1), Ok(()), "while others join");
    group.join(request(&ids[0], &["range"]));
    assert_eq!(
        commit(&mut group, &ids[0], 2),
        Err(ErrorCode::RebalanceInProgress),
        "while the leader assigns"
    );
}

#[test]
fn an_assignment_that_cannot_be_stored_is_made_again() {
    let mut group = Driver::new(config());
    let join = group.join(new(&["range"]));
    let id = Arc::clone(&group.joined(join).member_id);
    let sync = group.sync(&id);
    group.store(Err(ErrorCode::NotCoordinator));
    assert_eq!(group.synced(sync).error, ErrorCode::NotCoordinator);
    assert_eq!(group.state(), "PreparingRebalance");
    let again = group.join(request(&id, &["range"]));
    assert_eq!(group.joined(again).generation, 2);
}

#[test]
fn an_assignment_of_an_earlier_generation_is_dropped() {
    let (mut group, ids) = Driver::stable(vec![new(&["range"])]);
    group.join(request(&ids[0], &["range"]));
    let sync = group.sync(&ids[0]);
    let newcomer = group.join(new(&["range"]));
    assert_eq!(group.synced(sync).error, ErrorCode::RebalanceInProgress);
    group.store(Ok(()));
    assert_eq!(group.state(), "PreparingRebalance");
    assert_eq!(group.joins[&newcomer], None);
}

#[test]
fn a_full_group_takes_nobody_more() {
    let mut group = Driver::new(GroupConfig {
        max_size: 1,
        ..config()
    });
    let first = group.join(new(&["range"]));
    let id = Arc::clone(&group.joined(first).member_id);
    let second = group.join(new(&["range"]));
    assert_eq!(group.joined(second).error, ErrorCode::GroupMaxSizeReached);
    let again = group.join(request(&id, &["range"]));
    assert_eq!(group.joined(again).error, ErrorCode::None);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let (mut group, ids) = Driver::stable(vec![fixed("a"), fixed("b")]);
    for (instance, id) in [("a", &ids[0]), ("b", &ids[1])] {
        let join = group.join(fixed(instance));
        assert_eq!(group.joins[&join], None, "answered before it was stored");
        let stored = group.store(Ok(())).unwrap();
        let joined = group.joined(join).clone();
        assert_eq!((joined.error, joined.generation), (ErrorCode::None, 1));
        assert_eq!(group.state(), "Stable");
        assert!(stored.members.iter().any(|m| m.id == *joined.member_id));
        assert_eq!(joined.skip_assignment, instance == "a");
        assert_eq!(joined.members.len(), if instance == "a" { 2 } else { 0 });
        let sync = group.sync(&joined.member_id);
        assert_eq!(group.synced(sync).assignment, assignment_of(id));
        let fenced = group.run(|group, step| group.heartbeat(id, Some(instance), 1, step));
        assert_eq!(fenced, Err(ErrorCode::FencedInstanceId));
    }
}

#[test]
fn a_static_leader_that_knows_no_skipping_is_not_told_that_it_leads() {
    let (mut group, ids) = Driver::stable(vec![fixed("a")]);
    let join = group.join(JoinRequest {
        can_skip_assignment: false,
        ..fixed("a")
    });
    group.store(Ok(()));
    let joined = group.joined(join);
    assert_eq!(joined.leader, ids[0]);
    assert_ne!(joined.member_id, ids[0]);
    assert!(joined.members.is_empty());
}

#[test]
fn a_static_member_whose_new_id_cannot_be_stored_keeps_the_old_one() {
    let (mut group, ids) = Driver::stable(vec![fixed("a")]);
    let join = group.join(fixed("a"));
    group.store(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(group.joined(join).error, ErrorCode::CoordinatorNotAvailable);
    let alive = group.run(|group, step| group.heartbeat(&ids[0], Some("a"), 1, step));
    assert_eq!(alive, Ok(()));
}

#[test]
fn a_static_member_with_another_protocol_makes_a_rebalance() {
    let (mut group, _) = Driver::stable(vec![JoinRequest {
        instance_id: Some("a".into()),
        ..new(&["range", "sticky"])
    }]);
    let join = group.join(JoinRequest {
        instance_id: Some("a".into()),
        ..new(&["sticky", "range"])
    });
    assert_eq!(group.joined(join).generation, 2);
    assert_eq!(group.joined(join).protocol.as_deref(), Some("sticky"));
}

#[test]
fn two_static_members_of_one_name_fence_each_other() {
    let (mut group, _) = Driver::stable(vec![new(&["range"])]);
    let first = group.join(fixed("a"));
    assert_eq!(group.joins[&first], None);
    let second = group.join(fixed("a"));
    assert_eq!(group.joined(first).error, ErrorCode::FencedInstanceId);
    assert_eq!(group.joins[&second], None);
}

#[test]
fn a_static_member_stays_until_its_session_ends() {
    let (mut group, ids) = Driver::stable(vec![
        new(&["range"]),
        JoinRequest {
            session_timeout_ms: 1_000_000,
            ..fixed("b")
        },
    ]);
    let again = group.join(request(&ids[0], &["range"]));
    group.advance(REBALANCE_TIMEOUT_MS.into());
    assert_eq!(group.joined(again).members.len(), 2);
    let gone = group.run(|group, step| group.leave("", Some("b"), step));
    assert_eq!(gone, Ok(()));
    assert_eq!(group.state(), "PreparingRebalance");
}

#[test]
fn a_group_comes_back_as_it_was_stored() {
    let (mut before, _) = Driver::stable(vec![fixed("a"), new(&["range"])]);
    let join = before.join(fixed("a"));
    let value = before.store(Ok(())).unwrap();
    let now = Now {
        wall_ms: 0,
        monotonic_ms: 7,
    };
    let mut after = Driver::new(config());
    after.group = Group::restored("g".into(), value, now);
    let id = Arc::clone(&before.joined(join).member_id);
    assert_eq!(after.group.describe(), before.group.describe());
    assert_eq!(after.heartbeat(&id), Ok(()));
    let fenced = after.run(|group, step| group.heartbeat("x", Some("a"), 1, step));
    assert_eq!(fenced, Err(ErrorCode::FencedInstanceId));
    // The one that spoke did so at 0, by the driver's clock; the other's session began with the restart.
    assert_eq!(after.group.next_deadline_ms(), Some(session()));
}

#[test]
fn offsets_of_topics_that_members_read_are_kept() {
    let subscription = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
    let mut consumer = new(&["range"]);
    consumer.protocols[0].metadata = subscription;
    let (mut group, ids) = Driver::stable(vec![consumer]);
    let mut offsets = Offsets::default();
    for topic in ["t", "u"] {
        let committed = CommittedOffset {
            offset: 1,
            leader_epoch: -1,
            metadata: "".into(),
            committed_ms: 0,
            expires_ms: None,
        };
        offsets.put((topic.into(), 0), committed);
    }
    let deletable = group.group.deletable(["t", "u"].into_iter());
    assert_eq!(
        deletable,
        Ok(vec![Err(ErrorCode::GroupSubscribedToTopic), Ok(())])
    );
    assert_eq!(group.group.kill(), Err(ErrorCode::NonEmptyGroup));
    let expired = |group: &Driver, now_ms| {
        let (from, subscribed) = group.group.retention().unwrap();
        let expired = offsets.expired(from, 1_000, now_ms, &subscribed);
        expired
            .iter()
            .map(|(t, _)| t.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(expired(&group, 1_000), ["u"]);
    // Once everyone has left, retention counts from then, for all.
    group.advance(5_000);
    assert_eq!(group.leave(&ids[0]), Ok(()));
    let left_ms = group.now_ms;
    assert_eq!(expired(&group, left_ms + 999), [""; 0]);
    assert_eq!(expired(&group, left_ms + 1_000), ["t", "u"]);
    assert_eq!(group.group.kill(), Ok(()));
    let late = group.join(new(&["range"]));
    assert_eq!(group.joined(late).error, ErrorCode::CoordinatorNotAvailable);
}
