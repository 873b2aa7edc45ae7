//! No version is advertised that does not work: every advertised version of every API is asked for, and its reply is
//! one of that version.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_topic_partitions_request;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    AlterConfigsRequest, ApiVersionsRequest, BrokerId, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeProducersRequest, DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest,
    GroupId, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    SyncGroupRequest, alter_configs_request,
};
use kafka_protocol::protocol::{Message as _, Request, StrBytes};
use support::clients::create_topic;
use support::records::{batch, records};
use support::requests::{create_topic_request, fetch, fetched, produce, produced, topic_name};
use support::server::{Kind, Server};
use support::wire::Wire;

/// A broker with a topic `t` of one partition, and what it advertises.
struct Advertised {
    server: Server,
    ranges: BTreeMap<i16, (i16, i16)>,
}

impl Advertised {
    fn start() -> Advertised {
        let server = Server::with()
            .set("group.initial.rebalance.delay.ms", 0)
            .start();
        create_topic(&server, "t", 1, &[]);
        let response = Wire::connect(&server).call(0, &ApiVersionsRequest::default());
        let ranges = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        Advertised { server, ranges }
    }

    /// The advertised versions that this client can speak: at least the newest that both know.
    fn versions<R: Request>(&self) -> impl Iterator<Item = i16> + use<R> {
        let (least, most) = *self
            .ranges
            .get(&R::KEY)
            .unwrap_or_else(|| panic!("API {} is not advertised", R::KEY));
        let range = least.max(R::VERSIONS.min)..=most.min(R::VERSIONS.max);
        assert!(
            !range.is_empty(),
            "API {}: {least} to {most} is nothing that a client speaks",
            R::KEY
        );
        range
    }

    /// Sends a request at every version and checks each reply.
    fn each<R: Request>(&self, request: impl Fn(i16) -> R, check: impl Fn(i16, &R::Response)) {
        let mut wire = Wire::connect(&self.server);
        for version in self.versions::<R>() {
            eprintln!("API {} version {version}", R::KEY);
            check(version, &wire.call(version, &request(version)));
        }
    }
}

#[test]
fn records_pass_at_every_version() {
    let advertised = Advertised::start();
    let mut stored = 0;
    for version in advertised.versions::<ProduceRequest>() {
        // From version 13 on topics have ids here: what is new there is for another client.
        if version > 12 {
            continue;
        }
        let mut wire = Wire::connect(&advertised.server);
        let value = format!("produced by version {version}");
        let response = wire.call(version, &produce("t", 0, -1, batch(&[value.as_bytes()])));
        let partition = produced(&response);
        assert_eq!(
            (partition.error_code, partition.base_offset),
            (0, stored),
            "Produce version {version}"
        );
        stored += 1;
    }
    let mut wire = Wire::connect(&advertised.server);
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let id = wire
        .call(
            12,
            &MetadataRequest::default().with_topics(Some(vec![asked])),
        )
        .topics[0]
        .topic_id;
    for version in advertised.versions::<FetchRequest>() {
        let mut request = fetch("t", 0, 0, 0);
        if version >= 13 {
            request.topics[0].topic = Default::default();
            request.topics[0].topic_id = id;
        }
        if version >= 15 {
            request.replica_id = BrokerId(-1);
        }
        let (error, bytes) = fetched(&wire.call(version, &request));
        assert_eq!(error, 0, "Fetch version {version}");
        assert_eq!(
            records(bytes).len(),
            usize::try_from(stored).unwrap(),
            "Fetch version {version}"
        );
    }
}

#[test]
fn offsets_are_listed_at_every_version() {
    let advertised = Advertised::start();
    let mut wire = Wire::connect(&advertised.server);
    wire.call(9, &produce("t", 0, -1, batch(&[b"one", b"two"])));
    for (timestamp, expected) in [(-1, 2), (-2, 0)] {
        let asked = ListOffsetsPartition::default()
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        advertised.each(
            |_| request.clone(),
            |_, response| {
                let partition = &response.topics[0].partitions[0];
                assert_eq!((partition.error_code, partition.offset), (0, expected));
            },
        );
    }
    let asked = OffsetForLeaderPartition::default()
        .with_current_leader_epoch(-1)
        .with_leader_epoch(0);
    let topic = OffsetForLeaderTopic::default()
        .with_topic(topic_name("t"))
        .with_partitions(vec![asked]);
    advertised.each(
        |_| {
            OffsetForLeaderEpochRequest::default()
                .with_replica_id(BrokerId(-2))
                .with_topics(vec![topic.clone()])
        },
        |_, response| {
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.end_offset), (0, 2));
        },
    );
}

#[test]
fn topics_are_administered_at_every_version() {
    let advertised = Advertised::start();
    advertised.each(
        |version| create_topic_request(&format!("made-{version}"), 2),
        |_, response| assert_eq!(response.topics[0].error_code, 0),
    );
    advertised.each(
        |_| create_topic_request("t", 1),
        |_, response| assert_eq!(response.topics[0].error_code, 36, "TOPIC_ALREADY_EXISTS"),
    );
    advertised.each(
        |version| {
            let made = topic_name(&format!(
                "made-{}",
                advertised.versions::<CreateTopicsRequest>().last().unwrap()
            ));
            let grown = CreatePartitionsTopic::default()
                .with_name(made)
                .with_count(3 + i32::from(version))
                .with_assignments(None);
            CreatePartitionsRequest::default()
                .with_timeout_ms(30_000)
                .with_topics(vec![grown])
        },
        |_, response| assert_eq!(response.results[0].error_code, 0),
    );
    let mut names = advertised
        .versions::<CreateTopicsRequest>()
        .map(|version| topic_name(&format!("made-{version}")));
    let mut wire = Wire::connect(&advertised.server);
    for version in advertised.versions::<DeleteTopicsRequest>() {
        let Some(name) = names.next() else { break };
        let mut request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
        if version >= 6 {
            request = request.with_topics(vec![DeleteTopicState::default().with_name(Some(name))]);
        } else {
            request = request.with_topic_names(vec![name]);
        }
        assert_eq!(
            wire.call(version, &request).responses[0].error_code,
            0,
            "DeleteTopics version {version}"
        );
    }
}

#[test]
fn configurations_are_read_and_changed_at_every_version() {
    let advertised = Advertised::start();
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name("t".into());
    let described = |expected: &str| {
        advertised.each(
            |_| DescribeConfigsRequest::default().with_resources(vec![resource.clone()]),
            |_, response| {
                let result = &response.results[0];
                assert_eq!(result.error_code, 0);
                let retention = result
                    .configs
                    .iter()
                    .find(|config| config.name.as_str() == "retention.ms")
                    .unwrap();
                assert_eq!(retention.value.as_deref(), Some(expected));
            },
        );
    };
    described("604800000");
    let value = Some(StrBytes::from_static_str("1000"));
    let config = AlterableConfig::default()
        .with_name("retention.ms".into())
        .with_value(value);
    let altered = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name("t".into());
    advertised.each(
        |_| {
            let resource = altered.clone().with_configs(vec![config.clone()]);
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
        },
        |_, response| assert_eq!(response.responses[0].error_code, 0),
    );
    described("1000");
    // The older request replaces all of a topic's configuration: with nothing.
    let altered = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name("t".into());
    advertised.each(
        |_| AlterConfigsRequest::default().with_resources(vec![altered.clone()]),
        |_, response| assert_eq!(response.responses[0].error_code, 0),
    );
    described("604800000");
}

#[test]
fn what_there_is_is_described_at_every_version() {
    let advertised = Advertised::start();
    advertised.each(
        |version| {
            let all = if version == 0 { Some(Vec::new()) } else { None };
            MetadataRequest::default().with_topics(all)
        },
        |_, response| {
            assert_eq!(response.brokers.len(), 1);
            assert_eq!(response.topics.len(), 1);
            assert_eq!(response.topics[0].partitions.len(), 1);
        },
    );
    advertised.each(
        |_| DescribeClusterRequest::default(),
        |_, response| {
            assert_eq!(response.brokers.len(), 1);
            assert!(!response.cluster_id.is_empty());
        },
    );
    advertised.each(
        |_| DescribeLogDirsRequest::default().with_topics(None),
        |_, response| {
            let directory = &response.results[0];
            assert_eq!(directory.error_code, 0);
            assert_eq!(directory.topics.len(), 1);
        },
    );
    advertised.each(
        |_| {
            let topic = TopicRequest::default()
                .with_name(topic_name("t"))
                .with_partition_indexes(vec![0]);
            DescribeProducersRequest::default().with_topics(vec![topic])
        },
        |_, response| assert_eq!(response.topics[0].partitions[0].error_code, 0),
    );
    if advertised
        .ranges
        .contains_key(&DescribeTopicPartitionsRequest::KEY)
    {
        advertised.each(
            |_| {
                let topic = describe_topic_partitions_request::TopicRequest::default()
                    .with_name(topic_name("t"));
                DescribeTopicPartitionsRequest::default()
                    .with_topics(vec![topic])
                    .with_response_partition_limit(100)
            },
            |_, response| assert_eq!(response.topics[0].partitions.len(), 1),
        );
    }
}

#[test]
fn producer_ids_are_given_at_every_version() {
    let advertised = Advertised::start();
    let init = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000);
    let mut wire = Wire::connect(&advertised.server);
    while wire.call(0, &init).error_code == 14 {
        // COORDINATOR_LOAD_IN_PROGRESS: Kafka is still taking its first block of ids.
        assert_eq!(advertised.server.kind(), Kind::Kafka);
    }
    advertised.each(
        |_| init.clone(),
        |_, response| assert_eq!((response.error_code, response.producer_epoch), (0, 0)),
    );
}

#[test]
fn records_are_deleted_at_every_version() {
    let advertised = Advertised::start();
    advertised.each(
        |_| {
            let asked = DeleteRecordsPartition::default().with_offset(0);
            let topic = DeleteRecordsTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![asked]);
            DeleteRecordsRequest::default()
                .with_timeout_ms(30_000)
                .with_topics(vec![topic])
        },
        |_, response| {
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.low_watermark), (0, 0));
        },
    );
}

/// A group of one member, from its first request to its deletion, once for each version of JoinGroup; where another
/// request has fewer versions, with its newest.
#[test]
fn groups_live_at_every_version() {
    let advertised = Advertised::start();
    advertised.each(
        |version| {
            let request = FindCoordinatorRequest::default();
            match version {
                0..=3 => request.with_key("g".into()),
                _ => request.with_coordinator_keys(vec!["g".into()]),
            }
        },
        |version, response| match version {
            0..=3 => assert_eq!(response.error_code, 0),
            _ => assert_eq!(response.coordinators[0].error_code, 0),
        },
    );
    let mut wire = Wire::connect(&advertised.server);
    for version in advertised.versions::<JoinGroupRequest>() {
        let group = GroupId(StrBytes::from_string(format!("g{version}")));
        let newest = |key: i16| version.min(advertised.ranges[&key].1);
        let member = join(&mut wire, version, &group);
        sync(&mut wire, newest(SyncGroupRequest::KEY), &group, &member);
        let heartbeat = HeartbeatRequest::default()
            .with_group_id(group.clone())
            .with_generation_id(1)
            .with_member_id(member.clone());
        let version = newest(HeartbeatRequest::KEY);
        assert_eq!(wire.call(version, &heartbeat).error_code, 0);
        commit(&mut wire, newest(OffsetCommitRequest::KEY), &group, &member);
        assert_eq!(
            fetch_offset(&mut wire, newest(OffsetFetchRequest::KEY), &group),
            7
        );
        let describe = DescribeGroupsRequest::default().with_groups(vec![group.clone()]);
        let described = wire.call(newest(DescribeGroupsRequest::KEY), &describe);
        assert_eq!(&*described.groups[0].group_state, "Stable");
        assert_eq!(
            &described.groups[0].members[0].member_assignment[..],
            b"mine"
        );
        let listed = wire.call(
            newest(ListGroupsRequest::KEY),
            &ListGroupsRequest::default(),
        );
        assert!(listed.groups.iter().any(|listed| listed.group_id == group));
        leave(&mut wire, newest(LeaveGroupRequest::KEY), &group, &member);
        let delete = DeleteGroupsRequest::default().with_groups_names(vec![group.clone()]);
        let deleted = wire.call(newest(DeleteGroupsRequest::KEY), &delete);
        assert_eq!(deleted.results[0].error_code, 0);
    }
}

/// Joins and returns the member id, after being told it where the version has it so.
fn join(wire: &mut Wire, version: i16, group: &GroupId) -> StrBytes {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name("range".into())
        .with_metadata(Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0"));
    let mut request = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(10_000)
        .with_protocol_type("consumer".into())
        .with_protocols(vec![protocol]);
    if version >= 1 {
        request.rebalance_timeout_ms = 10_000;
    }
    let mut joined = wire.call(version, &request);
    if version >= 4 {
        assert_eq!(joined.error_code, 79, "MEMBER_ID_REQUIRED");
        request.member_id = joined.member_id;
        joined = wire.call(version, &request);
    }
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.members.len(), 1);
    joined.member_id
}

fn sync(wire: &mut Wire, version: i16, group: &GroupId, member: &StrBytes) {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(Bytes::from_static(b"mine"));
    let mut request = SyncGroupRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(1)
        .with_member_id(member.clone())
        .with_assignments(vec![assignment]);
    if version >= 5 {
        request.protocol_type = Some("consumer".into());
        request.protocol_name = Some("range".into());
    }
    let synced = wire.call(version, &request);
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (0, &b"mine"[..])
    );
}

fn commit(wire: &mut Wire, version: i16, group: &GroupId, member: &StrBytes) {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(7)
        .with_committed_metadata(Some("note".into()));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group.clone())
        .with_generation_id_or_member_epoch(1)
        .with_member_id(member.clone())
        .with_topics(vec![topic]);
    let committed = wire.call(version.max(OffsetCommitRequest::VERSIONS.min), &request);
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
}

fn fetch_offset(wire: &mut Wire, version: i16, group: &GroupId) -> i64 {
    let version = version.max(OffsetFetchRequest::VERSIONS.min);
    if version >= 8 {
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group.clone())
            .with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let fetched = wire.call(version, &request);
        return fetched.groups[0].topics[0].partitions[0].committed_offset;
    }
    let topic = OffsetFetchRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group.clone())
        .with_topics(Some(vec![topic]));
    let fetched = wire.call(version, &request);
    fetched.topics[0].partitions[0].committed_offset
}

fn leave(wire: &mut Wire, version: i16, group: &GroupId, member: &StrBytes) {
    let request = LeaveGroupRequest::default().with_group_id(group.clone());
    let request = if version >= 3 {
        let leaving = MemberIdentity::default().with_member_id(member.clone());
        request.with_members(vec![leaving])
    } else {
        request.with_member_id(member.clone())
    };
    let left = wire.call(version, &request);
    assert_eq!(left.error_code, 0);
    assert!(left.members.iter().all(|member| member.error_code == 0));
}
