//! The load of consumer groups: commits as fast as they are answered, and many members that do nothing but live.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    OffsetCommitRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::side::Side;
use crate::support::process::HANG_GUARD;
use crate::support::requests::topic_name;
use crate::support::wire::Wire;

const FIND_COORDINATOR: i16 = 3;
const OFFSET_COMMIT: i16 = 7;
/// The last one that lets a member in at its first request (KIP-394).
const JOIN_GROUP: i16 = 3;
const SYNC_GROUP: i16 = 2;
const HEARTBEAT: i16 = 2;

/// Groups that commit at a time, each on a connection of its own.
const COMMITTERS: usize = 8;
/// Commits of each that come first and are not counted.
const WARM_UP: usize = 500;

/// Lets this process have a connection for each member.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be as high as the hard one");
}

/// Commits an offset again and again in several groups, and returns the commits per second of all.
pub(crate) fn commits_per_second(side: &Side, topic: &str, each: usize) -> f64 {
    let mut committers: Vec<Wire> = (0..COMMITTERS)
        .map(|number| {
            let mut wire = Wire::connect(side.server());
            wait_for_coordinator(&mut wire, &group_name("committer", number));
            wire
        })
        .collect();
    let mut run = |count: usize| {
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for (number, wire) in committers.iter_mut().enumerate() {
                scope.spawn(move || commit(wire, &group_name("committer", number), topic, count));
            }
        });
        begin.elapsed()
    };
    run(WARM_UP);
    (COMMITTERS * each) as f64 / run(each).as_secs_f64()
}

fn commit(wire: &mut Wire, group: &GroupId, topic: &str, count: usize) {
    for offset in 0..count {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset as i64);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group.clone())
            .with_topics(vec![topic]);
        let response = wire.call(OFFSET_COMMIT, &request);
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
    }
}

/// Members that have joined their groups.
pub(crate) struct Members(Vec<Member>);

struct Member {
    wire: Wire,
    group: GroupId,
    id: StrBytes,
    generation: i32,
}

impl Members {
    /// Lets `groups` groups of `members` members each form, all at once.
    pub(crate) fn join(side: &Side, groups: usize, members: usize) -> Members {
        wait_for_coordinator(
            &mut Wire::connect(side.server()),
            &group_name("idle", groups),
        );
        let mut joining: Vec<Member> = (0..groups * members)
            .map(|number| Member {
                wire: Wire::connect(side.server()),
                group: group_name("idle", number % groups),
                id: StrBytes::default(),
                generation: -1,
            })
            .collect();
        for member in &mut joining {
            member.wire.send(JOIN_GROUP, &join_request(&member.group));
        }
        let assignments: Vec<_> = joining
            .iter_mut()
            .map(|member| {
                let (_, joined) = member.wire.receive::<JoinGroupRequest>(JOIN_GROUP);
                assert_eq!(joined.error_code, 0);
                member.id = joined.member_id.clone();
                member.generation = joined.generation_id;
                assignments(&joined)
            })
            .collect();
        for (member, assignments) in joining.iter_mut().zip(assignments) {
            let request = SyncGroupRequest::default()
                .with_group_id(member.group.clone())
                .with_generation_id(member.generation)
                .with_member_id(member.id.clone())
                .with_assignments(assignments);
            member.wire.send(SYNC_GROUP, &request);
        }
        for member in &mut joining {
            let (_, synced) = member.wire.receive::<SyncGroupRequest>(SYNC_GROUP);
            assert_eq!(synced.error_code, 0);
        }
        Members(joining)
    }

    /// Lets every member send a heartbeat every three seconds, `count` times.
    pub(crate) fn live(&mut self, count: u32) {
        let begin = Instant::now();
        for number in 0..count {
            let due = begin + Duration::from_secs(3) * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            for member in &mut self.0 {
                let request = HeartbeatRequest::default()
                    .with_group_id(member.group.clone())
                    .with_generation_id(member.generation)
                    .with_member_id(member.id.clone());
                member.wire.send(HEARTBEAT, &request);
            }
            for member in &mut self.0 {
                let (_, alive) = member.wire.receive::<HeartbeatRequest>(HEARTBEAT);
                assert_eq!(alive.error_code, 0);
            }
        }
    }
}

fn join_request(group: &GroupId) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from_static(&[0; 64]));
    JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(45_000)
        .with_rebalance_timeout_ms(300_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol])
}

/// What the leader of a group gives its members; nothing where this one does not lead.
fn assignments(joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
    joined
        .members
        .iter()
        .map(|member| {
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(Bytes::from_static(&[0; 32]))
        })
        .collect()
}

/// Finds the coordinator, and so creates `__consumer_offsets`, until it is there and has loaded the group.
fn wait_for_coordinator(wire: &mut Wire, group: &GroupId) {
    let find = FindCoordinatorRequest::default()
        .with_key(group.0.clone())
        .with_key_type(0);
    let probe = HeartbeatRequest::default().with_group_id(group.clone());
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let found = wire.call(FIND_COORDINATOR, &find).error_code;
        // A group that is not there has no such member, which only a coordinator that has loaded can say.
        const UNKNOWN_MEMBER_ID: i16 = 25;
        if found == 0 && wire.call(HEARTBEAT, &probe).error_code == UNKNOWN_MEMBER_ID {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{} has no coordinator",
            group.as_str()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn group_name(prefix: &str, number: usize) -> GroupId {
    GroupId(StrBytes::from_string(format!("{prefix}-{number}")))
}
