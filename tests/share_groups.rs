//! Share groups with Apache Kafka's own `KafkaShareConsumer`: members share a partition, and every record has one end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::share_fetch_request::{
    AcknowledgementBatch, FetchPartition, FetchTopic,
};
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, GroupId, IncrementalAlterConfigsRequest, MetadataRequest,
    ShareAcknowledgeRequest, ShareFetchRequest, ShareFetchResponse, ShareGroupDescribeRequest,
    ShareGroupHeartbeatRequest,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::producer::BaseRecord;
use support::clients::{Producer, create_topic};
use support::java::{Kafka, Release, manifest_dir};
use support::process::{HANG_GUARD, Output, Process};
use support::requests::topic_name;
use support::server::{Options, Server};
use support::wire::Wire;
use uuid::Uuid;

const GROUP: &str = "workers";
const CONSOLE_SHARE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleShareConsumer";
const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const SHARE_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ShareGroupCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const STATE_FORMATTER: &str =
    "org.apache.kafka.tools.consumer.group.share.ShareGroupStateMessageFormatter";
const GROUP_FORMATTER: &str = "org.apache.kafka.tools.consumer.ShareGroupMessageFormatter";

/// A broker with few partitions of the topics that it keeps for itself, so that they are made and read quickly.
fn options() -> Options {
    Server::with()
        .set("offsets.topic.num.partitions", 2)
        .set("share.coordinator.state.topic.num.partitions", 2)
}

/// Starts a broker with a topic of one partition, and has the group begin at its first record.
fn start(options: Options) -> Server {
    let server = options.start();
    create_topic(&server, "t", 1, &[]);
    alter_group(&server, "share.auto.offset.reset", "earliest");
    server
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// Sets a configuration of the group; returns the error code.
fn try_alter_group(server: &Server, name: &str, value: &str) -> i16 {
    const RESOURCE_GROUP: i8 = 32;
    let config = AlterableConfig::default()
        .with_name(text(name))
        .with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(RESOURCE_GROUP)
        .with_resource_name(text(GROUP))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = Wire::connect(server).call(1, &request);
    response.responses[0].error_code
}

fn alter_group(server: &Server, name: &str, value: &str) {
    assert_eq!(try_alter_group(server, name, value), 0);
}

fn produce(server: &Server, values: &[&str]) {
    // Each record in a batch of its own.
    let mut producer = Producer::new(server, &[("batch.num.messages", "1")]);
    for value in values {
        producer.send(BaseRecord::to("t").partition(0).payload(value.as_bytes()));
    }
    producer.flush_all_taken();
}

/// A record as a member was given it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Delivery {
    offset: i64,
    count: i16,
    value: String,
}

fn delivery(offset: i64, count: i16, value: &str) -> Delivery {
    Delivery {
        offset,
        count,
        value: value.to_owned(),
    }
}

fn deliveries(stdout: &str) -> Vec<Delivery> {
    // The last line may not be there as a whole yet.
    let whole = stdout.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let records = whole
        .lines()
        .filter_map(|line| line.strip_prefix("record "));
    records
        .map(|line| {
            let mut fields = line.splitn(3, ' ');
            let mut field = || fields.next().expect("three fields");
            Delivery {
                offset: field().parse().unwrap(),
                count: field().parse().unwrap(),
                value: field().to_owned(),
            }
        })
        .collect()
}

/// A `KafkaShareConsumer` in a process of its own.
struct Member(Process);

impl Member {
    fn start(kafka: &Kafka, server: &Server, mode: &str, settings: &[&str]) -> Member {
        let program = manifest_dir().join("tests/java/ShareMember.java");
        let mut command = kafka.command(program.to_str().unwrap());
        command.args([&server.bootstrap(), GROUP, "t", mode]);
        command.args(settings);
        Member(Process::spawn("ShareMember", command))
    }

    fn deliveries(&self) -> Vec<Delivery> {
        let all = self.0.wait_for(|stdout, _| Some(deliveries(stdout)));
        all.unwrap()
    }

    /// Waits until the member was given so many records.
    #[track_caller]
    fn wait_for(&self, count: usize) -> Vec<Delivery> {
        let enough = |stdout: &str, _: &str| {
            Some(deliveries(stdout)).filter(|records| records.len() >= count)
        };
        self.0
            .wait_for(enough)
            .unwrap_or_else(|said| panic!("{said}"))
    }

    /// Waits until the member has said so.
    #[track_caller]
    fn wait_until_said(&self, line: &str) {
        let found = self
            .0
            .wait_for(|stdout, _| stdout.lines().any(|said| said == line).then_some(()));
        found.unwrap_or_else(|said| panic!("{said}"));
    }

    /// Lets the member acknowledge and leave. Nothing may have failed.
    #[track_caller]
    fn close(self) -> Vec<Delivery> {
        let output = self.0.finish().succeeded();
        let stdout = output.stdout();
        assert!(stdout.ends_with("closed\n"), "{}", output.text());
        let failed = |line: &str| {
            let error = line.strip_prefix("committed ");
            line.starts_with("failed") || error.is_some_and(|error| !error.is_empty())
        };
        assert!(!stdout.lines().any(failed), "{}", output.text());
        deliveries(&stdout)
    }
}

/// Runs one of Kafka's programs with `--bootstrap-server`; it must succeed.
#[track_caller]
fn run(kafka: &Kafka, server: &Server, class: &str, arguments: &[&str]) -> Output {
    let bootstrap = server.bootstrap();
    let all = [&["--bootstrap-server", &bootstrap], arguments].concat();
    kafka.run(class, &all).succeeded()
}

fn two_members_share_one_partition(release: Release) {
    let Some(kafka) = Kafka::find(release) else {
        return;
    };
    let server = start(options());
    let settings = ["max.poll.records=1"];
    let members = [
        Member::start(&kafka, &server, "implicit", &settings),
        Member::start(&kafka, &server, "implicit", &settings),
    ];
    let deadline = Instant::now() + HANG_GUARD;
    let mut produced = 0;
    // The second one may be ready when the first one has read all.
    while members.iter().any(|member| member.deliveries().len() < 3) {
        let values: Vec<String> = (0..50).map(|n| (produced + n).to_string()).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        produce(&server, &values);
        produced += values.len();
        let read = || {
            members
                .iter()
                .map(|one| one.deliveries().len())
                .sum::<usize>()
        };
        while read() < produced {
            assert!(Instant::now() < deadline, "{} of {produced}", read());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let mut all: Vec<Delivery> = members.into_iter().flat_map(Member::close).collect();
    all.sort();
    let expected = (0..produced).map(|n| delivery(i64::try_from(n).unwrap(), 1, &n.to_string()));
    assert_eq!(all, expected.collect::<Vec<_>>(), "each record once");
}

#[test]
fn two_members_of_kafka_4_1_share_one_partition() {
    two_members_share_one_partition(Release::V4_1);
}

#[test]
fn two_members_of_the_newest_clients_share_one_partition() {
    two_members_share_one_partition(Release::Newest);
}

#[test]
fn a_record_is_accepted_released_or_rejected() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let server = start(options());
    produce(&server, &["accept", "release-once", "reject", "release"]);
    let member = Member::start(&kafka, &server, "explicit", &[]);
    let mut seen = member.wait_for(9);
    seen.sort();
    let mut expected = vec![
        delivery(0, 1, "accept"),
        delivery(1, 1, "release-once"),
        delivery(1, 2, "release-once"),
        delivery(2, 1, "reject"),
    ];
    // Released as often as it may be delivered, then given up.
    expected.extend((1..=5).map(|count| delivery(3, count, "release")));
    assert_eq!(seen, expected);
    member.close();
    // Nothing of them is left for anybody else.
    produce(&server, &["accept more"]);
    let other = Member::start(&kafka, &server, "explicit", &[]);
    other.wait_for(1);
    assert_eq!(other.close(), [delivery(4, 1, "accept more")]);
}

#[test]
fn a_record_goes_to_another_when_its_member_is_killed() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let server = start(options().set("group.share.record.lock.duration.ms", 1_000));
    produce(&server, &["accept", "hold"]);
    let member = Member::start(&kafka, &server, "explicit", &[]);
    member.wait_until_said("holding");
    member.0.kill();
    // To this one it says nothing.
    let other = Member::start(&kafka, &server, "implicit", &[]);
    other.wait_for(1);
    assert_eq!(other.close(), [delivery(1, 2, "hold")]);
}

#[test]
fn what_was_acknowledged_survives_the_kill_of_the_broker() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let mut server = start(options());
    produce(&server, &["accept", "reject", "accept", "hold"]);
    let member = Member::start(&kafka, &server, "explicit", &[]);
    member.wait_until_said("holding");
    for _ in 0..2 {
        server.kill();
        server.restart();
    }
    member.0.kill();
    produce(&server, &["accept after the kill"]);
    let other = Member::start(&kafka, &server, "implicit", &[]);
    other.wait_for(2);
    // Locks do not survive, and with them goes the delivery that they were for.
    assert_eq!(
        other.close(),
        [
            delivery(3, 1, "hold"),
            delivery(4, 1, "accept after the kill")
        ]
    );
}

#[test]
fn kafkas_programs_read_and_administer_a_share_group() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let server = options().start();
    create_topic(&server, "t", 1, &[]);
    let group = ["--entity-type", "groups", "--entity-name", GROUP];
    let earliest = [
        "--alter",
        "--add-config",
        "share.auto.offset.reset=earliest",
    ];
    run(&kafka, &server, CONFIGS, &[&earliest[..], &group].concat());
    let described = run(
        &kafka,
        &server,
        CONFIGS,
        &[&["--describe"], &group[..]].concat(),
    );
    let described = described.stdout();
    assert!(
        described.contains("share.auto.offset.reset=earliest"),
        "{described}"
    );

    produce(&server, &["one", "two", "three"]);
    let consume = ["--topic", "t", "--group", GROUP, "--max-messages", "2"];
    let read = run(&kafka, &server, CONSOLE_SHARE_CONSUMER, &consume).stdout();
    assert_eq!(read, "one\ntwo\n");

    let groups = |arguments: &[&str]| run(&kafka, &server, SHARE_GROUPS, arguments).stdout();
    assert!(groups(&["--list"]).lines().any(|line| line == GROUP));
    let of_group = |arguments: &[&str]| groups(&[arguments, &["--group", GROUP]].concat());
    let described = of_group(&["--describe"]);
    assert_row(&described, &[GROUP, "t", "0", "2"]);
    assert_row(&of_group(&["--describe", "--state"]), &[GROUP]);

    let member = Member::start(&kafka, &server, "implicit", &[]);
    assert_eq!(member.wait_for(1), [delivery(2, 1, "three")]);
    let described = of_group(&["--describe", "--members"]);
    assert_row(&described, &[GROUP]);
    assert!(described.contains("t:0"), "{described}");
    member.close();

    let state = stored(&kafka, &server, "__share_group_state", STATE_FORMATTER);
    assert!(
        state.contains(r#""groupId":"workers""#) && state.contains(r#""startOffset":3"#),
        "{state}"
    );
    let metadata = stored(&kafka, &server, "__consumer_offsets", GROUP_FORMATTER);
    assert!(
        metadata.contains(r#""groupId":"workers""#) && metadata.contains(r#""epoch":1"#),
        "{metadata}"
    );

    set_start_offset(&server, 1);
    assert_row(&of_group(&["--describe"]), &[GROUP, "t", "0", "1"]);
    let member = Member::start(&kafka, &server, "implicit", &[]);
    let again = [delivery(1, 1, "two"), delivery(2, 1, "three")];
    assert_eq!(member.wait_for(2), again);
    member.close();
    of_group(&["--delete-offsets", "--topic", "t"]);
    of_group(&["--delete"]);
    assert!(!groups(&["--list"]).lines().any(|line| line == GROUP));
}

/// Sets where the group goes on, which Kafka's program cannot do before 4.2.
fn set_start_offset(server: &Server, start_offset: i64) {
    let partition = AlterShareGroupOffsetsRequestPartition::default()
        .with_partition_index(0)
        .with_start_offset(start_offset);
    let topic = AlterShareGroupOffsetsRequestTopic::default()
        .with_topic_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let request = AlterShareGroupOffsetsRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_topics(vec![topic]);
    let response = Wire::connect(server).call(0, &request);
    assert_eq!(response.error_code, 0);
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
}

#[track_caller]
fn assert_row(table: &str, start: &[&str]) {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect());
    let found = rows.any(|fields: Vec<&str>| fields.starts_with(start));
    assert!(found, "no row {start:?} in {table}");
}

/// Prints the records of an internal topic that a formatter knows.
fn stored(kafka: &Kafka, server: &Server, topic: &str, formatter: &str) -> String {
    let topic = ["--topic", topic, "--from-beginning"];
    let rest = ["--formatter", formatter, "--timeout-ms", "10000"];
    let arguments = [&topic[..], &rest].concat();
    run(kafka, server, CONSOLE_CONSUMER, &arguments).stdout()
}

const MEMBER: &str = "AAECAwQFBgcICQoLDA0ODw";

fn topic_id(wire: &mut Wire) -> Uuid {
    let topic = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
        .with_name(Some(topic_name("t")));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    wire.call(12, &request).topics[0].topic_id
}

fn share_fetch(epoch: i32, topics: Vec<FetchTopic>) -> ShareFetchRequest {
    ShareFetchRequest::default()
        .with_group_id(Some(GroupId(text(GROUP))))
        .with_member_id(Some(text(MEMBER)))
        .with_share_session_epoch(epoch)
        .with_max_wait_ms(10)
        .with_max_bytes(1_000_000)
        .with_max_records(500)
        .with_batch_size(500)
        .with_topics(topics)
}

/// A partition of a topic, with acknowledgements.
fn fetch_topic(id: Uuid, partition: i32, batches: &[(i64, i64, &[i8])]) -> Vec<FetchTopic> {
    let batches = batches.iter().map(|(first, last, types)| {
        AcknowledgementBatch::default()
            .with_first_offset(*first)
            .with_last_offset(*last)
            .with_acknowledge_types(types.to_vec())
    });
    let partition = FetchPartition::default()
        .with_partition_index(partition)
        .with_acknowledgement_batches(batches.collect());
    vec![
        FetchTopic::default()
            .with_topic_id(id)
            .with_partitions(vec![partition]),
    ]
}

/// The only partition of an answer: error, error of acknowledgements, acquired offsets.
fn answered(response: &ShareFetchResponse) -> (i16, i16, Vec<(i64, i64, i16)>) {
    assert_eq!(response.error_code, 0);
    let partition = &response.responses[0].partitions[0];
    let acquired = partition.acquired_records.iter();
    let acquired = acquired.map(|one| (one.first_offset, one.last_offset, one.delivery_count));
    let codes = (partition.error_code, partition.acknowledge_error_code);
    (codes.0, codes.1, acquired.collect())
}

#[test]
fn sessions_and_acknowledgements_are_checked() {
    const INVALID_REQUEST: i16 = 42;
    const UNKNOWN_TOPIC_ID: i16 = 100;
    const INVALID_RECORD_STATE: i16 = 121;
    const SHARE_SESSION_NOT_FOUND: i16 = 122;
    const INVALID_SHARE_SESSION_EPOCH: i16 = 123;
    let server = start(options());
    produce(&server, &["one", "two"]);
    let mut wire = Wire::connect(&server);
    let id = topic_id(&mut wire);
    let mut call = |request: &ShareFetchRequest| wire.call(1, request);
    let refused = |response: ShareFetchResponse| response.error_code;

    assert_eq!(
        refused(call(&share_fetch(1, vec![]))),
        SHARE_SESSION_NOT_FOUND
    );
    assert_eq!(
        refused(call(&share_fetch(-1, vec![]))),
        SHARE_SESSION_NOT_FOUND
    );
    let nobody = share_fetch(0, vec![]).with_member_id(Some(text("nobody")));
    assert_eq!(refused(call(&nobody)), INVALID_REQUEST);
    let early = fetch_topic(id, 0, &[(0, 0, &[1])]);
    assert_eq!(refused(call(&share_fetch(0, early))), INVALID_REQUEST);

    let opened = call(&share_fetch(0, fetch_topic(id, 0, &[])));
    assert_eq!(answered(&opened), (0, 0, vec![(0, 1, 1)]));
    assert!(
        !opened.responses[0].partitions[0]
            .records
            .as_ref()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        refused(call(&share_fetch(7, vec![]))),
        INVALID_SHARE_SESSION_EPOCH
    );
    let mut acknowledged = |epoch: i32, batch: (i64, i64, &[i8])| {
        answered(&call(&share_fetch(epoch, fetch_topic(id, 0, &[batch])))).1
    };
    assert_eq!(acknowledged(1, (0, 0, &[9])), INVALID_REQUEST);
    assert_eq!(acknowledged(2, (0, 1, &[1, 1, 1])), INVALID_REQUEST);
    assert_eq!(acknowledged(3, (0, i64::MAX, &[1])), INVALID_REQUEST);
    assert_eq!(acknowledged(4, (0, 0, &[1])), 0);
    // It is done with already.
    assert_eq!(acknowledged(5, (0, 0, &[1])), 0);
    let stranger = share_fetch(0, fetch_topic(id, 0, &[]))
        .with_member_id(Some(text("AAECAwQFBgcICQoLDA0OEA")));
    assert!(call(&stranger).responses.is_empty());
    let stolen = share_fetch(1, fetch_topic(id, 0, &[(1, 1, &[1])]))
        .with_member_id(stranger.member_id.clone());
    assert_eq!(answered(&call(&stolen)).1, INVALID_RECORD_STATE);
    let unknown =
        share_fetch(2, fetch_topic(Uuid::from_u128(7), 0, &[])).with_member_id(stranger.member_id);
    assert_eq!(answered(&call(&unknown)).0, UNKNOWN_TOPIC_ID);

    // A session that ends gives back what its member holds.
    assert_eq!(refused(call(&share_fetch(-1, vec![]))), 0);
    let again = call(&share_fetch(0, fetch_topic(id, 0, &[])));
    assert_eq!(answered(&again), (0, 0, vec![(1, 1, 1)]));

    let acknowledge = |epoch| {
        ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text(GROUP))))
            .with_member_id(Some(text(MEMBER)))
            .with_share_session_epoch(epoch)
    };
    let mut code = |epoch| wire.call(1, &acknowledge(epoch)).error_code;
    assert_eq!(code(0), INVALID_SHARE_SESSION_EPOCH);
    assert_eq!(code(1), 0);
    assert_eq!(code(1), INVALID_SHARE_SESSION_EPOCH);
    assert_eq!(code(-1), 0);
    assert_eq!(code(2), SHARE_SESSION_NOT_FOUND);
}

#[test]
fn members_and_groups_are_checked() {
    const UNKNOWN_MEMBER_ID: i16 = 25;
    const INVALID_CONFIG: i16 = 40;
    const INVALID_REQUEST: i16 = 42;
    const GROUP_ID_NOT_FOUND: i16 = 69;
    const FENCED_MEMBER_EPOCH: i16 = 110;
    let server = start(options());
    assert_eq!(
        try_alter_group(&server, "share.auto.offset.reset", "sometimes"),
        INVALID_CONFIG
    );
    assert_eq!(
        try_alter_group(&server, "retention.ms", "1"),
        INVALID_CONFIG
    );
    let mut wire = Wire::connect(&server);
    support::requests::find_group_coordinator(&mut wire, GROUP);
    let mut beat = |member: &str, epoch: i32, topics: Option<&[&str]>| {
        let topics = topics.map(|topics| topics.iter().map(|topic| topic_name(topic)).collect());
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_member_id(text(member))
            .with_member_epoch(epoch)
            .with_subscribed_topic_names(topics);
        wire.call(1, &request)
    };
    assert_eq!(beat("a", 1, None).error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(beat("a", 0, None).error_code, INVALID_REQUEST);
    assert_eq!(beat("", 0, Some(&["t"])).error_code, INVALID_REQUEST);
    let joined = beat("a", 0, Some(&["t"]));
    assert_eq!((joined.error_code, joined.member_epoch), (0, 1));
    let assignment = joined.assignment.expect("an assignment");
    assert_eq!(assignment.topic_partitions[0].partitions, [0]);
    assert_eq!(beat("a", 9, None).error_code, FENCED_MEMBER_EPOCH);
    assert_eq!(beat("a", -1, None).member_epoch, -1);
    let describe = ShareGroupDescribeRequest::default()
        .with_group_ids(vec![GroupId(text(GROUP)), GroupId(text("nobody"))]);
    let described = wire.call(1, &describe).groups;
    let states: BTreeSet<&str> = [&*described[0].group_state].into();
    assert_eq!(states, BTreeSet::from(["Empty"]));
    assert_eq!(described[1].error_code, GROUP_ID_NOT_FOUND);
}
