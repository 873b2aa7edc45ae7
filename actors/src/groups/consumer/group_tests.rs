//! The ways of a consumer group, one by one.

use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;

use super::group::{MigrationPolicy, Refusal};
use super::heartbeat::{Beat, Heartbeat, LEAVE_EPOCH, LEAVE_FOR_A_WHILE_EPOCH};
use super::member::Partitions;
use super::testing::{Driver, beating, classic_join, joining, partitions, read_assignment, topics};
use crate::groups::group::{Group, Now, State};
use crate::groups::session::SyncRequest;
use crate::groups::testing as classic;

#[track_caller]
fn code(result: Result<Beat, Refusal>) -> ErrorCode {
    result.expect_err("a refusal").error
}

fn named(id: &str, instance: &str) -> Heartbeat {
    Heartbeat {
        instance_id: Some(instance.into()),
        ..joining(id, &["t0"])
    }
}

fn leaving(id: &str, instance: Option<&str>, epoch: i32) -> Heartbeat {
    Heartbeat {
        instance_id: instance.map(Arc::from),
        ..beating(id, epoch, None)
    }
}

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut driver = Driver::new(&[3]);
    let beat = driver.beat(&joining("a", &["t0"])).unwrap();
    assert_eq!((beat.member_epoch, beat.heartbeat_interval_ms), (1, 5_000));
    assert_eq!(beat.assignment, Some(partitions(&[0, 1, 2])));
    assert_eq!(driver.group.state_name(), "Stable");
    // As long as nothing changes nothing is told, or stored.
    let log = driver.log.clone();
    let beat = driver.beat(&beating("a", 1, None)).unwrap();
    assert_eq!((beat.member_epoch, beat.assignment), (1, None));
    assert_eq!(driver.log, log);
}

#[test]
fn partitions_go_over_when_they_are_given_back() {
    let mut driver = Driver::stable(1, 4);
    let all = driver.assigned("m0");
    let joined = driver.beat(&joining("m1", &["t0"])).unwrap();
    assert_eq!(
        (joined.member_epoch, joined.assignment),
        (2, Some(Partitions::new()))
    );
    assert_eq!(driver.group.state_name(), "Reconciling");
    // The first one learns that it has to give back, and stays in its epoch until it did.
    let told = driver.beat(&beating("m0", 1, None)).unwrap();
    let kept = told.assignment.unwrap();
    assert_eq!((told.member_epoch, kept.len()), (1, 2));
    assert_eq!(
        driver
            .beat(&beating("m0", 1, Some(&all)))
            .unwrap()
            .member_epoch,
        1
    );
    let waiting = driver
        .beat(&beating("m1", 2, Some(&Partitions::new())))
        .unwrap();
    assert_eq!(waiting.assignment, None);
    let done = driver.beat(&beating("m0", 1, Some(&kept))).unwrap();
    assert_eq!(done.member_epoch, 2);
    let got = driver.beat(&beating("m1", 2, None)).unwrap();
    assert_eq!(got.assignment, Some(&all - &kept));
    assert_eq!(driver.group.state_name(), "Stable");
}

#[test]
fn epochs_fence() {
    let mut driver = Driver::stable(2, 4);
    let (epoch, owned) = (driver.epoch("m0"), driver.assigned("m0"));
    let fenced = |beat: &Heartbeat, driver: &mut Driver| code(driver.beat(beat));
    let ahead = beating("m0", epoch + 1, None);
    assert_eq!(fenced(&ahead, &mut driver), ErrorCode::FencedMemberEpoch);
    let unknown = beating("x", epoch, None);
    assert_eq!(fenced(&unknown, &mut driver), ErrorCode::UnknownMemberId);
    // Something new, so that the epoch moves on.
    driver.beat(&leaving("m1", None, LEAVE_EPOCH)).unwrap();
    driver.beat(&beating("m0", epoch, Some(&owned))).unwrap();
    assert_eq!(driver.epoch("m0"), epoch + 1);
    // The answer got lost: the epoch before is fine for who owns no more than it may.
    let again = driver.beat(&beating("m0", epoch, Some(&owned))).unwrap();
    assert_eq!(again.member_epoch, epoch + 1);
    let silent = beating("m0", epoch, None);
    assert_eq!(fenced(&silent, &mut driver), ErrorCode::FencedMemberEpoch);
    let greedy = beating("m0", epoch, Some(&partitions(&[99])));
    assert_eq!(fenced(&greedy, &mut driver), ErrorCode::FencedMemberEpoch);
    let old = beating("m0", epoch - 1, Some(&owned));
    assert_eq!(fenced(&old, &mut driver), ErrorCode::FencedMemberEpoch);
}

#[test]
fn who_is_silent_or_slow_is_put_out() {
    let mut driver = Driver::stable(1, 4);
    driver.advance(44_999);
    driver.beat(&joining("m1", &["t0"])).unwrap();
    assert_eq!(driver.group.members().count(), 2);
    driver.advance(1);
    assert_eq!(driver.group.members().count(), 1, "m0 was silent");
    driver
        .beat(&beating("m1", driver.epoch("m1"), None))
        .unwrap();
    assert_eq!(driver.assigned("m1").len(), 4);
    // Who has to give back has its rebalance timeout, however often it is heard of.
    driver.beat(&joining("m2", &["t0"])).unwrap();
    for _ in 0..6 {
        let epoch = driver.epoch("m1");
        driver.beat(&beating("m1", epoch, None)).unwrap();
        driver
            .beat(&beating("m2", driver.epoch("m2"), None))
            .unwrap();
        driver.advance(10_000);
    }
    let left: Vec<_> = driver
        .group
        .members()
        .map(|(id, _)| id.to_string())
        .collect();
    assert_eq!(left, ["m2"]);
    driver
        .beat(&beating("m2", driver.epoch("m2"), None))
        .unwrap();
    assert_eq!(driver.assigned("m2").len(), 4);
}

#[test]
fn static_members_come_back() {
    let mut driver = Driver::new(&[4]);
    driver.beat(&named("a", "i")).unwrap();
    let held = code(driver.beat(&named("b", "i")));
    assert_eq!(held, ErrorCode::UnreleasedInstanceId);
    let away = driver
        .beat(&leaving("a", Some("i"), LEAVE_FOR_A_WHILE_EPOCH))
        .unwrap();
    assert_eq!(away.member_epoch, LEAVE_FOR_A_WHILE_EPOCH);
    let epoch = driver.group.epoch();
    let back = driver.beat(&named("b", "i")).unwrap();
    assert_eq!(back.assignment, Some(partitions(&[0, 1, 2, 3])));
    assert_eq!(
        (back.member_epoch, driver.group.epoch()),
        (epoch, epoch),
        "no rebalance"
    );
    let old = Heartbeat {
        instance_id: Some("i".into()),
        ..beating("a", epoch, None)
    };
    assert_eq!(code(driver.beat(&old)), ErrorCode::FencedInstanceId);
    let nobody = leaving("b", Some("j"), LEAVE_EPOCH);
    assert_eq!(code(driver.beat(&nobody)), ErrorCode::UnknownMemberId);
    // Who stays away for longer than its session loses its place.
    driver
        .beat(&leaving("b", Some("i"), LEAVE_FOR_A_WHILE_EPOCH))
        .unwrap();
    driver.advance(45_000);
    assert_eq!(driver.group.state_name(), "Empty");
}

#[test]
fn bad_heartbeats_are_refused() {
    let mut driver = Driver::new(&[1]);
    let good = joining("a", &["t0"]);
    let bad = [
        Heartbeat {
            member_id: " ".into(),
            ..good.clone()
        },
        Heartbeat {
            instance_id: Some("".into()),
            ..good.clone()
        },
        Heartbeat {
            rack_id: Some("".into()),
            ..good.clone()
        },
        Heartbeat {
            rebalance_timeout_ms: None,
            ..good.clone()
        },
        Heartbeat {
            rebalance_timeout_ms: Some(-5),
            ..good.clone()
        },
        Heartbeat {
            owned: None,
            ..good.clone()
        },
        Heartbeat {
            owned: Some(partitions(&[0])),
            ..good.clone()
        },
        Heartbeat {
            topics: None,
            ..good.clone()
        },
        Heartbeat {
            topics: Some([].into()),
            ..good.clone()
        },
        Heartbeat {
            member_epoch: -3,
            ..good.clone()
        },
        Heartbeat {
            member_epoch: LEAVE_FOR_A_WHILE_EPOCH,
            ..good.clone()
        },
    ];
    for beat in bad {
        assert_eq!(
            code(driver.beat(&beat)),
            ErrorCode::InvalidRequest,
            "{beat:?}"
        );
    }
}

#[test]
fn what_the_broker_does_not_offer_is_refused() {
    let mut driver = Driver::new(&[1]);
    let good = joining("a", &["t0"]);
    let assignor = Heartbeat {
        server_assignor: Some("sticky".into()),
        ..good.clone()
    };
    assert_eq!(code(driver.beat(&assignor)), ErrorCode::UnsupportedAssignor);
    let pattern = Heartbeat {
        pattern: Some("[".into()),
        ..good.clone()
    };
    assert_eq!(
        code(driver.beat(&pattern)),
        ErrorCode::InvalidRegularExpression
    );
    driver.config.max_size = 1;
    driver.beat(&good).unwrap();
    let full = code(driver.beat(&joining("b", &["t0"])));
    assert_eq!(full, ErrorCode::GroupMaxSizeReached);
    assert_eq!(driver.group.epoch(), 1);
}

#[test]
fn topics_that_come_grow_and_go_are_followed() {
    let mut driver = Driver::new(&[2]);
    let by_pattern = Heartbeat {
        topics: None,
        pattern: Some("t[01]".into()),
        ..joining("a", &[])
    };
    assert_eq!(
        driver.beat(&by_pattern).unwrap().assignment.unwrap().len(),
        2
    );
    let count = |driver: &mut Driver, version, sizes: &[i32]| {
        driver.topics = topics(version, sizes);
        let (epoch, owned) = (driver.epoch("a"), driver.assigned("a"));
        driver.beat(&beating("a", epoch, Some(&owned))).unwrap();
        let (epoch, owned) = (driver.epoch("a"), driver.assigned("a"));
        driver.beat(&beating("a", epoch, Some(&owned))).unwrap();
        driver.assigned("a").len()
    };
    assert_eq!(count(&mut driver, 2, &[2, 3]), 5, "a new topic");
    assert_eq!(count(&mut driver, 3, &[4, 3]), 7, "more partitions");
    assert_eq!(count(&mut driver, 4, &[4, 0]), 4, "a topic is gone");
    let epoch = driver.group.epoch();
    assert_eq!(
        count(&mut driver, 5, &[4, 0, 9]),
        4,
        "no business of theirs"
    );
    assert_eq!(driver.group.epoch(), epoch);
    // No pattern any more.
    let (owned, topics) = (driver.assigned("a"), Some(["t2".into()].into()));
    let by_name = Heartbeat {
        pattern: Some("".into()),
        topics,
        ..beating("a", driver.epoch("a"), Some(&owned))
    };
    driver.beat(&by_name).unwrap();
    driver.all_acknowledge();
    assert_eq!(driver.assigned("a").len(), 9);
}

#[test]
fn most_votes_choose_the_assignor() {
    let mut driver = Driver::new(&[2]);
    for (id, assignor) in [("a", None), ("b", Some("range")), ("c", Some("range"))] {
        let beat = Heartbeat {
            server_assignor: assignor.map(Arc::from),
            ..joining(id, &["t0"])
        };
        driver.beat(&beat).unwrap();
    }
    assert_eq!(driver.group.assignor(&driver.config).name(), "range");
}

#[test]
fn a_group_comes_back_from_its_records() {
    let mut driver = Driver::stable(2, 5);
    driver.beat(&joining("m2", &["t0"])).unwrap();
    driver
        .beat(&beating("m0", driver.epoch("m0"), None))
        .unwrap();
    let before: Vec<_> = driver.group.snapshot();
    driver.restart();
    assert_eq!(driver.group.snapshot(), before);
    let epoch = driver.group.epoch();
    for _ in 0..3 {
        driver.all_acknowledge();
    }
    assert_eq!(
        (driver.group.state_name(), driver.group.epoch()),
        ("Stable", epoch)
    );
}

#[test]
fn lost_records_are_stored_with_the_next() {
    let mut driver = Driver::stable(2, 4);
    let log = driver.log.clone();
    driver.beat(&leaving("m1", None, LEAVE_EPOCH)).unwrap();
    // That was not stored.
    driver.log = log;
    driver.group.lost_records();
    let (epoch, owned) = (driver.epoch("m0"), driver.assigned("m0"));
    driver.beat(&beating("m0", epoch, Some(&owned))).unwrap();
    let before = driver.group.snapshot();
    driver.restart();
    assert_eq!(driver.group.snapshot(), before);
}

#[test]
fn who_commits_has_to_be_in_its_epoch() {
    let mut driver = Driver::stable(1, 1);
    let check =
        |driver: &Driver, id: &str, epoch, knows| driver.group.check_member_epoch(id, epoch, knows);
    assert_eq!(check(&driver, "m0", 1, true), Ok(()));
    assert_eq!(
        check(&driver, "m0", 0, true),
        Err(ErrorCode::StaleMemberEpoch)
    );
    assert_eq!(
        check(&driver, "x", 1, true),
        Err(ErrorCode::UnknownMemberId)
    );
    assert_eq!(
        check(&driver, "m0", 1, false),
        Err(ErrorCode::UnsupportedVersion)
    );
    let old = classic_join("old", &[]);
    let joined = driver.run(|group, step| group.join(&old, step)).unwrap();
    assert_eq!(check(&driver, "old", joined.generation, false), Ok(()));
    assert_eq!(
        check(&driver, "old", 99, true),
        Err(ErrorCode::IllegalGeneration)
    );
}

fn sync_request(id: &str, generation: i32) -> SyncRequest {
    SyncRequest {
        member_id: id.into(),
        instance_id: None,
        generation,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignment: std::collections::BTreeMap::new(),
    }
}

#[test]
fn classic_members_take_part() {
    let mut driver = Driver::stable(1, 4);
    let join = classic_join("old", &[]);
    let joined = driver.run(|group, step| group.join(&join, step)).unwrap();
    assert_eq!((joined.generation, &*joined.leader), (2, ""));
    let sync = sync_request("old", 2);
    let synced = driver.run(|group, step| group.sync(&sync, step)).unwrap();
    assert!(read_assignment(&synced.assignment, &driver.topics).is_empty());
    let alive = |driver: &mut Driver, generation| {
        driver.run(|group, step| group.classic_heartbeat("old", None, generation, step))
    };
    assert_eq!(
        alive(&mut driver, 2),
        Ok(()),
        "the others have to give back first"
    );
    assert_eq!(alive(&mut driver, 1), Err(ErrorCode::IllegalGeneration));
    for _ in 0..2 {
        let (epoch, owned) = (driver.epoch("m0"), driver.assigned("m0"));
        driver.beat(&beating("m0", epoch, Some(&owned))).unwrap();
    }
    assert_eq!(alive(&mut driver, 2), Err(ErrorCode::RebalanceInProgress));
    let joined = driver.run(|group, step| group.join(&join, step)).unwrap();
    let sync = sync_request("old", joined.generation);
    let synced = driver.run(|group, step| group.sync(&sync, step)).unwrap();
    assert_eq!(read_assignment(&synced.assignment, &driver.topics).len(), 2);
    assert_eq!(driver.group.state_name(), "Stable");
    // The last member of the consumer protocol goes.
    driver.beat(&leaving("m0", None, LEAVE_EPOCH)).unwrap();
    assert!(driver.downgrade);
    let now = Now {
        wall_ms: 0,
        monotonic_ms: 0,
    };
    let group = driver.group.downgraded(&driver.topics, now);
    assert_eq!((group.state(), group.generation()), (State::Stable, 3));
    let member = group.members().next().unwrap();
    assert_eq!(read_assignment(&member.assignment, &driver.topics).len(), 2);
}

#[test]
fn classic_members_that_do_not_come_are_put_out() {
    let mut driver = Driver::stable(1, 4);
    let join = classic_join("old", &[]);
    driver.run(|group, step| group.join(&join, step)).unwrap();
    let short = i64::from(classic::SESSION_TIMEOUT_MS);
    driver.advance(short - 1);
    assert_eq!(driver.group.members().count(), 2);
    driver.advance(1);
    assert_eq!(driver.group.members().count(), 1);
    assert!(
        !driver.downgrade,
        "a member of the consumer protocol is left"
    );
}

#[test]
fn what_does_not_fit_is_refused_to_classic_members() {
    let mut driver = Driver::stable(1, 4);
    let mut refused = |request: crate::groups::join::JoinRequest| {
        let before = driver.group.snapshot();
        let error = driver
            .run(|group, step| group.join(&request, step))
            .unwrap_err();
        assert_eq!(driver.group.snapshot(), before);
        error
    };
    let mut connect = classic_join("c", &[]);
    connect.protocol_type = "connect".into();
    assert_eq!(refused(connect), ErrorCode::InconsistentGroupProtocol);
    let malformed = classic::request("c", &["range"]);
    assert_eq!(refused(malformed), ErrorCode::InconsistentGroupProtocol);
    let mut unnamed = classic_join("", &[]);
    unnamed.member_id_required = true;
    assert_eq!(refused(unnamed), ErrorCode::MemberIdRequired);
}

fn classic_group() -> Group {
    let (driver, _) = classic::Driver::stable(vec![classic_join("", &[]), classic_join("", &[])]);
    driver.group
}

#[test]
fn a_classic_group_is_taken_over_with_what_it_has() {
    let mut driver = Driver::new(&[4]);
    let classic = classic_group();
    let upgraded = driver.run(|_, step| super::group::ConsumerGroup::upgraded(&classic, step));
    // The leader's assignments there are no assignments of consumers.
    assert!(upgraded.is_none());
    let mut members: Vec<_> = classic.members().cloned().collect();
    for (member, numbers) in members.iter_mut().zip([[0, 1], [2, 3]]) {
        let bytes = super::embedded::assignment(&partitions(&numbers), b"\0\x01", &driver.topics);
        member.assignment = bytes.unwrap();
    }
    let members = members
        .into_iter()
        .map(|member| (Arc::clone(&member.id), member));
    let now = Now {
        wall_ms: 0,
        monotonic_ms: 0,
    };
    let classic = Group::of_members("g".into(), 7, members.collect(), now);
    driver.config.migration = MigrationPolicy {
        upgrade: false,
        downgrade: true,
    };
    let forbidden = driver.run(|_, step| super::group::ConsumerGroup::upgraded(&classic, step));
    assert!(forbidden.is_none());
    driver.config.migration.upgrade = true;
    let upgraded = driver.run(|_, step| super::group::ConsumerGroup::upgraded(&classic, step));
    driver.group = upgraded.unwrap();
    assert_eq!(
        (driver.group.epoch(), driver.group.state_name()),
        (7, "Stable")
    );
    let before = driver.group.snapshot();
    driver.restart();
    assert_eq!(driver.group.snapshot(), before);
    driver.beat(&joining("new", &["t0"])).unwrap();
    assert_eq!(driver.group.epoch(), 8);
}
