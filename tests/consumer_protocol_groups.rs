//! Groups of the consumer protocol (KIP-848) with librdkafka: members share partitions, take over from each other, and
//! change over from the classic protocol and back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use support::clients::{add_partitions, consumer, create_topic, produce_values};
use support::groups::{assigned, settle, wait_for_assignment};
use support::process::HANG_GUARD;
use support::requests::{find_group_coordinator, topic_name};
use support::server::Server;
use support::wire::Wire;

const PARTITIONS: i32 = 4;
const CONSUMER: &[(&str, &str)] = &[("group.protocol", "consumer")];
const CLASSIC: &[(&str, &str)] = &[
    ("partition.assignment.strategy", "range"),
    ("heartbeat.interval.ms", "100"),
];

/// A broker whose groups move fast, and a topic.
fn start() -> Server {
    let server = Server::with()
        .set("group.initial.rebalance.delay.ms", 0)
        .set("group.consumer.heartbeat.interval.ms", 100)
        .set("group.consumer.session.timeout.ms", 6000)
        .start();
    create_topic(&server, "t", PARTITIONS, &[]);
    server
}

fn member(server: &Server, settings: &[&[(&str, &str)]]) -> BaseConsumer {
    let group = [("group.id", "readers"), ("auto.offset.reset", "earliest")];
    let member = consumer(server, &[&group[..], &settings.concat()].concat());
    member.subscribe(&["t"]).unwrap();
    member
}

#[test]
fn members_share_and_take_over() {
    let server = start();
    let first = member(&server, &[CONSUMER]);
    settle(&[&first], &[4]);
    let second = member(&server, &[CONSUMER]);
    settle(&[&first, &second], &[2, 2]);
    // Closing is leaving: nobody waits for a session to end.
    drop(first);
    settle(&[&second], &[4]);
}

#[test]
fn static_members_come_back_to_their_partitions() {
    let server = start();
    let named = |name| member(&server, &[CONSUMER, &[("group.instance.id", name)]]);
    let (first, second) = (named("one"), named("two"));
    let before = settle(&[&first, &second], &[2, 2]);
    // A static member leaves only for a while when it is closed.
    drop(first);
    let first = named("one");
    wait_for_assignment(&first);
    assert_eq!([assigned(&first), assigned(&second)], *before);
}

#[test]
fn offsets_are_committed_in_the_epoch_of_the_member() {
    let server = start();
    produce_values(&server, "t", PARTITIONS, 1);
    let reader = member(&server, &[CONSUMER, &[("enable.auto.commit", "false")]]);
    let deadline = Instant::now() + HANG_GUARD;
    let mut read = BTreeSet::new();
    while read.len() < 4 {
        if let Some(message) = reader.poll(Duration::from_millis(100)) {
            read.insert(message.unwrap().partition());
        }
        assert!(Instant::now() < deadline, "{read:?}");
    }
    reader.commit_consumer_state(CommitMode::Sync).unwrap();
    drop(reader);
    let next = member(&server, &[CONSUMER]);
    settle(&[&next], &[4]);
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range("t", 0, PARTITIONS - 1);
    let committed = next.committed_offsets(asked, HANG_GUARD).unwrap();
    for element in committed.elements() {
        assert_eq!(element.offset(), Offset::Offset(1));
    }
}

#[test]
fn a_group_changes_over_while_it_reads_and_back() {
    let server = start();
    let (one, two) = (member(&server, &[CLASSIC]), member(&server, &[CLASSIC]));
    settle(&[&one, &two], &[2, 2]);
    let three = member(&server, &[CONSUMER]);
    settle(&[&one, &two, &three], &[1, 1, 2]);
    drop(one);
    settle(&[&two, &three], &[2, 2]);
    let four = member(&server, &[CLASSIC]);
    settle(&[&two, &three, &four], &[1, 1, 2]);
    // The last one of the consumer protocol goes: the classic members assign among themselves again.
    drop(three);
    settle(&[&two, &four], &[2, 2]);
    drop((two, four));
    let last = member(&server, &[CONSUMER]);
    settle(&[&last], &[4]);
}

#[test]
fn new_partitions_are_assigned() {
    let server = start();
    let (one, two) = (member(&server, &[CONSUMER]), member(&server, &[CONSUMER]));
    settle(&[&one, &two], &[2, 2]);
    add_partitions(&server, "t", 6);
    settle(&[&one, &two], &[3, 3]);
}

#[test]
fn a_broker_that_is_killed_keeps_its_groups() {
    let mut server = start();
    let (one, two) = (member(&server, &[CONSUMER]), member(&server, &[CONSUMER]));
    let before = settle(&[&one, &two], &[2, 2]);
    server.kill();
    server.restart();
    // Both are heard of again, and a third one finds them there.
    let three = member(&server, &[CONSUMER]);
    let after = settle(&[&one, &two, &three], &[1, 1, 2]);
    assert!(after[0].is_subset(&before[0]) && after[1].is_subset(&before[1]));
}

fn group_id() -> GroupId {
    GroupId(StrBytes::from_static_str("raw"))
}

/// Connects, after the coordinator is there.
fn connect(server: &Server) -> Wire {
    let mut wire = Wire::connect(server);
    find_group_coordinator(&mut wire, "raw");
    wire
}

/// A heartbeat that joins.
fn joining(member: &'static str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id())
        .with_member_id(StrBytes::from_static_str(member))
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(vec![topic_name("t")]))
        .with_topic_partitions(Some(Vec::new()))
}

/// A heartbeat that says nothing new.
fn beating(member: &'static str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id())
        .with_member_id(StrBytes::from_static_str(member))
        .with_member_epoch(epoch)
}

fn partitions(beat: &ConsumerGroupHeartbeatResponse) -> Vec<i32> {
    let assignment = beat.assignment.as_ref().expect("an assignment");
    let topics = assignment.topic_partitions.iter();
    topics.flat_map(|topic| topic.partitions.clone()).collect()
}

#[test]
fn bad_heartbeats_get_kafkas_errors() {
    let server = start();
    let mut wire = connect(&server);
    let mut error = |request: ConsumerGroupHeartbeatRequest| {
        let response = wire.call(1, &request);
        assert_eq!(response.error_message.is_some(), response.error_code != 0);
        response.error_code
    };
    const INVALID_REQUEST: i16 = 42;
    let text = StrBytes::from_static_str;
    assert_eq!(error(beating("m", 1)), 69, "no such group");
    assert_eq!(error(joining("m")), 0);
    assert_eq!(error(beating("m", 7)), 110, "a newer epoch than there is");
    assert_eq!(error(beating("x", 1)), 25, "no such member");
    assert_eq!(error(beating("x", -1)), 25, "nobody leaves");
    assert_eq!(error(joining("")), INVALID_REQUEST, "no member id");
    assert_eq!(error(beating("m", -7)), INVALID_REQUEST, "no such epoch");
    assert_eq!(error(beating("m", -2)), INVALID_REQUEST, "it is not static");
    let no_group = joining("n").with_group_id(GroupId::default());
    assert_eq!(error(no_group), INVALID_REQUEST);
    let no_topics = joining("n").with_subscribed_topic_names(None);
    assert_eq!(error(no_topics), INVALID_REQUEST);
    let long = StrBytes::from_string("x".repeat(40_000));
    let too_long = joining("n").with_rack_id(Some(long));
    assert_eq!(error(too_long), INVALID_REQUEST);
    let owns = TopicPartitions::default().with_partitions(vec![-1, i32::MAX]);
    let owns = joining("n").with_topic_partitions(Some(vec![owns]));
    assert_eq!(
        error(owns),
        INVALID_REQUEST,
        "it owns something before it joins"
    );
    let assignor = joining("n").with_server_assignor(Some(text("sticky")));
    assert_eq!(error(assignor), 112);
    let pattern = joining("n").with_subscribed_topic_regex(Some(text("(")));
    assert_eq!(error(pattern), 128);
    let named = |member| joining(member).with_instance_id(Some(text("i")));
    assert_eq!(error(named("s1")), 0);
    assert_eq!(error(named("s2")), 111, "the instance is still there");
    let leaves = beating("s1", -2).with_instance_id(Some(text("i")));
    assert_eq!(error(leaves), 0);
    assert_eq!(error(named("s2")), 0);
    let fenced = beating("s1", 2).with_instance_id(Some(text("i")));
    assert_eq!(error(fenced), 82);
    // All of that left the group as it is.
    assert_eq!(error(beating("m", 1)), 0);
}

#[test]
fn brokers_make_member_ids_for_the_first_version() {
    let server = start();
    let mut wire = connect(&server);
    let beat = wire.call(0, &joining(""));
    assert_eq!((beat.error_code, beat.member_epoch), (0, 1));
    assert_eq!(beat.member_id.as_ref().map(|id| id.len()), Some(22));
    assert_eq!(partitions(&beat), [0, 1, 2, 3]);
}

#[test]
fn only_members_in_their_epoch_commit_and_fetch() {
    let server = start();
    let mut wire = connect(&server);
    assert_eq!(partitions(&wire.call(1, &joining("m"))), [0, 1, 2, 3]);
    let mut commit = |version, member, epoch| {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id())
            .with_member_id(StrBytes::from_static_str(member))
            .with_generation_id_or_member_epoch(epoch)
            .with_topics(vec![topic]);
        let response = wire.call(version, &request);
        response.topics[0].partitions[0].error_code
    };
    assert_eq!(commit(9, "m", 1), 0);
    assert_eq!(commit(9, "m", 0), 113, "an older epoch");
    assert_eq!(commit(9, "x", 1), 25, "no such member");
    assert_eq!(commit(9, "", -1), 25, "no member at all");
    assert_eq!(commit(8, "m", 1), 35, "the version knows no epochs");
    let mut fetch = |member, epoch| {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(group_id())
            .with_member_id(member)
            .with_member_epoch(epoch);
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        let response = wire.call(9, &request);
        response.groups[0].error_code
    };
    let member = |id| Some(StrBytes::from_static_str(id));
    assert_eq!(fetch(None, -1), 0);
    assert_eq!(fetch(member("m"), 1), 0);
    assert_eq!(fetch(member("m"), 2), 113);
    assert_eq!(fetch(member("x"), 1), 25);
}

#[test]
fn tools_tell_the_kinds_of_groups_apart() {
    let server = start();
    let mut wire = connect(&server);
    wire.call(1, &joining("m"));
    let mut listed = |kind| {
        let kinds = vec![StrBytes::from_static_str(kind)];
        let response = wire.call(5, &ListGroupsRequest::default().with_types_filter(kinds));
        response.groups
    };
    assert_eq!(listed("classic"), []);
    let expected = ListedGroup::default()
        .with_group_id(group_id())
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_group_state(StrBytes::from_static_str("Stable"))
        .with_group_type(StrBytes::from_static_str("Consumer"));
    assert_eq!(listed("consumer"), [expected]);
    let described =
        |group: GroupId| ConsumerGroupDescribeRequest::default().with_group_ids(vec![group]);
    let group = wire.call(1, &described(group_id())).groups.remove(0);
    let (member, epochs) = (
        &group.members[0],
        (group.group_epoch, group.assignment_epoch),
    );
    assert_eq!(
        (group.error_code, epochs, &*group.assignor_name),
        (0, (1, 1), "uniform")
    );
    assert_eq!((member.member_type, member.member_epoch), (1, 1));
    assert_eq!(member.assignment, member.target_assignment);
    assert_eq!(
        member.assignment.topic_partitions[0].partitions,
        [0, 1, 2, 3]
    );
    let nobody = described(GroupId(StrBytes::from_static_str("nobody")));
    assert_eq!(wire.call(1, &nobody).groups[0].error_code, 69);
    let classic = DescribeGroupsRequest::default().with_groups(vec![group_id()]);
    let old = wire.call(5, &classic).groups.remove(0);
    assert_eq!((old.error_code, &*old.group_state), (0, "Dead"));
    assert_eq!(wire.call(6, &classic).groups[0].error_code, 69);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group_id()]);
    assert_eq!(wire.call(2, &delete).results[0].error_code, 68);
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
    let offset = OffsetDeleteRequest::default()
        .with_group_id(group_id())
        .with_topics(vec![topic]);
    assert_eq!(wire.call(0, &offset).topics[0].partitions[0].error_code, 86);
    assert_eq!(wire.call(1, &beating("m", -1)).member_epoch, -1);
    assert_eq!(wire.call(2, &delete).results[0].error_code, 0);
    assert_eq!(wire.call(2, &delete).results[0].error_code, 69);
}
