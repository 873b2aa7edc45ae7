//! `troupe consumer-groups`: what it says next to what Apache Kafka's own tool says, and what it does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};
use support::clients::{Producer, consumer, create_topic};
use support::java::{Kafka, Release};
use support::process::{HANG_GUARD, Output, Process};
use support::server::{Server, troupe};

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const LONG_NAME: &str = "a group with a long name, and a comma";

/// Runs our tool.
fn ours(server: &Server, arguments: &[&str]) -> Output {
    let mut command = troupe();
    command.args(["consumer-groups", "--bootstrap-server", &server.bootstrap()]);
    command.args(arguments);
    Process::spawn("consumer-groups", command).finish()
}

/// Runs our tool, which must succeed, and returns its standard output.
#[track_caller]
fn said(server: &Server, arguments: &[&str]) -> String {
    ours(server, arguments).succeeded().stdout()
}

/// Runs Apache Kafka's tool.
fn apaches(kafka: &Kafka, server: &Server, arguments: &[&str]) -> Output {
    let bootstrap = server.bootstrap();
    kafka.run(
        GROUPS,
        &[&["--bootstrap-server", &bootstrap], arguments].concat(),
    )
}

/// The topics `t` of four partitions with five records each, and `u` of one with three.
fn start() -> Server {
    let server = Server::with()
        .set("group.initial.rebalance.delay.ms", 0)
        .start();
    let mut producer = Producer::new(&server, &[]);
    for (topic, partitions, count) in [("t", 4, 5), ("u", 1, 3)] {
        create_topic(&server, topic, partitions, &[]);
        for partition in 0..partitions {
            for _ in 0..count {
                producer.send(BaseRecord::to(topic).partition(partition).payload(b"value"));
            }
        }
    }
    producer.flush_all_taken();
    server
}

/// Commits offsets for a group without joining it.
fn commit(server: &Server, group: &str, offsets: &[(&str, i32, i64)]) {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in offsets {
        let offset = Offset::Offset(*offset);
        list.add_partition_offset(topic, *partition, offset)
            .unwrap();
    }
    let stranger = consumer(server, &[("group.id", group)]);
    stranger.commit(&list, CommitMode::Sync).unwrap();
}

/// What a group has committed of the partitions of a topic; -1 for nothing.
fn committed(server: &Server, group: &str, topic: &str, partitions: i32) -> Vec<i64> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let stranger = consumer(server, &[("group.id", group)]);
    let committed = stranger.committed_offsets(list, HANG_GUARD).unwrap();
    let elements = committed.elements();
    let offset = |offset| match offset {
        Offset::Offset(offset) => offset,
        Offset::Invalid => -1,
        other => panic!("{other:?}"),
    };
    elements
        .iter()
        .map(|element| offset(element.offset()))
        .collect()
}

/// Lets members join a group, and waits until each of them has so many partitions.
fn join(
    server: &Server,
    group: &str,
    members: &[&[(&str, &str)]],
    counts: &[usize],
) -> Vec<BaseConsumer> {
    let member = |settings: &&[(&str, &str)]| {
        let member = consumer(server, &[&[("group.id", group)], *settings].concat());
        member.subscribe(&["t", "u"]).unwrap();
        member
    };
    let members: Vec<_> = members.iter().map(member).collect();
    let deadline = Instant::now() + HANG_GUARD;
    let assigned = |member: &BaseConsumer| member.assignment().unwrap().count();
    loop {
        for member in &members {
            let _ = member.poll(Duration::from_millis(20));
        }
        let mut sizes: Vec<usize> = members.iter().map(assigned).collect();
        sizes.sort_unstable();
        if sizes == counts {
            return members;
        }
        assert!(Instant::now() < deadline, "{sizes:?}");
    }
}

/// Groups of every kind: with members that have committed, partly or not at all, static ones, without members, with a
/// name that has to be quoted.
fn populate(server: &Server) -> Vec<BaseConsumer> {
    let (one, two) = ([("client.id", "one")], [("client.id", "two")]);
    let mut members = join(server, "active", &[&one, &two], &[2, 3]);
    // Each commits the first of its partitions and not the others.
    for member in &members {
        let assignment = member.assignment().unwrap();
        let elements = assignment.elements();
        let mut first = TopicPartitionList::new();
        first
            .add_partition_offset(
                elements[0].topic(),
                elements[0].partition(),
                Offset::Offset(1),
            )
            .unwrap();
        member.commit(&first, CommitMode::Sync).unwrap();
    }
    members.extend(join(server, "silent", &[&[("client.id", "quiet")]], &[5]));
    let named = [("client.id", "stay"), ("group.instance.id", "instance-1")];
    members.extend(join(server, "static", &[&named], &[5]));
    commit(
        server,
        "idle",
        &[
            ("t", 0, 5),
            ("t", 1, 4),
            ("t", 2, 3),
            ("t", 3, 2),
            ("u", 0, 1),
        ],
    );
    commit(server, "partial", &[("t", 1, 1), ("t", 3, 5)]);
    commit(server, LONG_NAME, &[("u", 0, 2)]);
    members
}

/// Both standard output and error of one tool, so that they compare. Rows of Apache's tool come in the order of a hash
/// table.
fn comparable(release: Release, stdout: &str, stderr: &str) -> Vec<String> {
    // With what Apache's client logs of its own accord, and the traces of its stack, it says the same twice.
    let is_said = |line: &&str| {
        [
            "Consumer group",
            "Warning",
            "WARN",
            "Cannot shift",
            "Invalid",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    };
    let mut lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
    lines.extend(stderr.lines().filter(is_said).map(str::to_owned));
    if release == Release::V3_9 {
        // It ends the rows of --describe before and not after them, so that tables are not set apart.
        lines.retain(|line| !line.is_empty());
    }
    lines.sort();
    lines
}

/// Asserts that both tools say the same, after `adapt` has changed what is known to differ in each line.
#[track_caller]
fn assert_same(kafka: &Kafka, server: &Server, arguments: &[&str], adapt: fn(&str) -> String) {
    let lines = |output: &Output| {
        let adapted = |text: String| {
            text.lines()
                .map(|line| adapt(line) + "\n")
                .collect::<String>()
        };
        comparable(
            kafka.release,
            &adapted(output.stdout()),
            &adapted(output.stderr()),
        )
    };
    let (theirs, ours) = (apaches(kafka, server, arguments), ours(server, arguments));
    let context = format!(
        "{arguments:?}\n{}\n=== ours\n{}",
        theirs.text(),
        ours.text()
    );
    assert_eq!(lines(&theirs), lines(&ours), "{context}");
    assert_eq!(theirs.status.code(), ours.status.code(), "{context}");
}

fn as_it_is(line: &str) -> String {
    line.to_owned()
}

/// One space between the columns, since the widths differ; a strategy that is not known is `-`.
fn narrow(line: &str) -> String {
    let line = line.replace(")                           Empty", ") - Empty");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Without the names of topics in an assignment, which Kafka 3.9 leaves out.
fn without_topics(line: &str) -> String {
    let line = line.replace("t(", "(").replace("u(", "(");
    let (start, assignment) = line.split_at(line.find('(').unwrap_or(line.len()));
    let mut topics: Vec<_> = assignment.split(", ").collect();
    topics.sort_unstable();
    format!("{start}{}", topics.join(", "))
}

/// The words alone, since Kafka 3.9 runs the rows of this table together.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join("\n")
}

/// Without the class of the outer exception.
fn inner_exception(line: &str) -> String {
    line.replace("java.util.concurrent.ExecutionException: ", "")
}

fn both_tools_say_the_same(release: Release) {
    let Some(kafka) = Kafka::find(release) else {
        return;
    };
    let server = start();
    let _members = populate(&server);
    let same = |arguments: &[&str], adapt| assert_same(&kafka, &server, arguments, adapt);
    same(&["--list"], as_it_is);
    same(&["--list", "--state", "--type"], as_it_is);
    same(&["--list", "--state", "empty"], as_it_is);
    same(&["--describe", "--all-groups"], as_it_is);
    same(
        &[
            "--describe",
            "--group",
            "partial",
            "--group",
            "idle",
            "--offsets",
        ],
        as_it_is,
    );
    same(&["--describe", "--all-groups", "--members"], as_it_is);
    let delete = ["--delete", "--group", "missing", "--group", "active"];
    same(&delete, inner_exception);
    let reset = [
        "--reset-offsets",
        "--all-topics",
        "--group",
        "idle",
        "--group",
        LONG_NAME,
    ];
    let to_one = [&reset[..], &["--to-offset", "1"]].concat();
    let csv = [&to_one[..], &["--export", "--dry-run"]].concat();
    same(&csv, as_it_is);
    let state = ["--describe", "--all-groups", "--state"];
    let verbose = ["--describe", "--all-groups", "--members", "--verbose"];
    same(&state, narrow);
    match release {
        Release::V3_9 => {
            // That of 4.1 does not expect that a group may be missing.
            same(&["--describe", "--group", "missing"], as_it_is);
            same(&["--describe", "--group", "missing", "--members"], as_it_is);
            same(&["--describe", "--group", "missing", "--state"], as_it_is);
            same(&verbose, without_topics);
            same(&[&to_one[..], &["--dry-run"]].concat(), words);
        }
        Release::V4_1 | Release::Newest => resetting_and_deleting_is_the_same(&kafka, &server),
    }
    wrong_flags_are_refused_alike(&kafka, &server);
    each_tool_reads_the_plan_of_the_other(&kafka, &server);
}

/// What Kafka 4.1 has lines for that 3.9 runs together.
fn resetting_and_deleting_is_the_same(kafka: &Kafka, server: &Server) {
    let same = |arguments: &[&str]| assert_same(kafka, server, arguments, as_it_is);
    // The first one without --dry-run, which is warned of.
    for (group, flags) in [
        ("idle", "--topic t --to-earliest"),
        ("idle", "--topic t:1,3 --topic u --shift-by -1 --dry-run"),
        (
            "idle",
            "--topic t --to-datetime 2099-01-01T00:00:00.000+02:00 --dry-run",
        ),
        ("idle", "--topic t --to-datetime 2099-01-01 --dry-run"),
        ("idle", "--topic t --by-duration P1DT1H --dry-run"),
        ("idle", "--topic t --by-duration an_hour --dry-run"),
        ("partial", "--topic t --topic u --to-current --dry-run"),
        ("partial", "--topic t --shift-by 1 --dry-run"),
        ("missing", "--topic u --to-latest --dry-run"),
        ("missing", "--all-topics --to-latest --dry-run"),
        ("active", "--topic t --to-earliest --execute"),
        ("idle", "--topic missing --to-earliest --execute"),
        ("idle", "--topic t:1,x --to-earliest --dry-run"),
    ] {
        let flags: Vec<&str> = flags.split(' ').collect();
        same(&[&["--reset-offsets", "--group", group], &flags[..]].concat());
    }
    let delete = |group, topic| ["--delete-offsets", "--group", group, "--topic", topic];
    same(&delete("missing", "t"));
    same(&delete("active", "t"));
    same(&delete("idle", "t:7"));
    same(&delete("idle", "missing"));
    let twice = |group| [&delete(group, "t:1")[..], &["--topic", "u"]].concat();
    same(&twice("idle"));
    assert_eq!(committed(server, "idle", "t", 4), [5, -1, 3, 2]);
}

fn wrong_flags_are_refused_alike(kafka: &Kafka, server: &Server) {
    for arguments in [
        &["--describe", "--group", "a", "--all-groups"][..],
        &["--list", "--describe", "--group", "a", "--state"],
        &["--list", "--state", "unheard-of"],
        &["--list", "--type", "unheard-of"],
        &[
            "--reset-offsets",
            "--group",
            "idle",
            "--to-earliest",
            "--dry-run",
        ],
    ] {
        let (theirs, ours) = (apaches(kafka, server, arguments), ours(server, arguments));
        let first = |output: &Output| output.stderr().lines().next().map(str::to_owned);
        // Kafka 4.1 has its states in the order of a hash table.
        let sorted = |line: Option<String>| {
            let line = line.unwrap_or_default().replace(',', "");
            let mut words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            words.sort();
            words
        };
        assert_eq!(
            sorted(first(&theirs)),
            sorted(first(&ours)),
            "{}",
            theirs.text()
        );
        assert_eq!(
            (theirs.status.code(), ours.status.code()),
            (Some(1), Some(1))
        );
        assert_eq!(ours.stdout(), "");
    }
}

fn each_tool_reads_the_plan_of_the_other(kafka: &Kafka, server: &Server) {
    let file = server.directory().join("plan.csv");
    let file = file.to_str().unwrap();
    let groups = [
        "--reset-offsets",
        "--group",
        "partial",
        "--group",
        LONG_NAME,
    ];
    let export = [
        &groups[..],
        &["--all-topics", "--to-current", "--export", "--dry-run"],
    ]
    .concat();
    let earliest = [&groups[..], &["--all-topics", "--to-earliest", "--execute"]].concat();
    let back = [&groups[..], &["--from-file", file, "--execute"]].concat();
    let offsets = || {
        let partial = committed(server, "partial", "t", 4);
        (partial, committed(server, LONG_NAME, "u", 1))
    };
    let before = offsets();
    fs::write(file, apaches(kafka, server, &export).succeeded().stdout()).unwrap();
    said(server, &earliest);
    assert_eq!(offsets(), (vec![-1, 0, -1, 0], vec![0]));
    said(server, &back);
    assert_eq!(offsets(), before);
    fs::write(file, said(server, &export)).unwrap();
    said(server, &earliest);
    apaches(kafka, server, &back).succeeded();
    assert_eq!(offsets(), before);
}

#[test]
fn ours_and_that_of_kafka_3_9_say_the_same() {
    both_tools_say_the_same(Release::V3_9);
}

#[test]
fn ours_and_that_of_kafka_4_1_say_the_same() {
    both_tools_say_the_same(Release::V4_1);
}

#[test]
fn a_lag_that_is_unknown_is_a_dash() {
    let server = start();
    let _member = join(&server, "g", &[&[("client.id", "c")]], &[5]);
    commit(&server, "h", &[("t", 1, 2)]);
    let described = said(&server, &["--describe", "--group", "g", "--group", "h"]);
    let rows: Vec<Vec<&str>> = described
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let numbers = |group: &str, topic: &str, partition: &str| {
        let found = rows
            .iter()
            .find(|row| row.starts_with(&[group, topic, partition]));
        found.unwrap_or_else(|| panic!("{described}"))[3..6].join(" ")
    };
    // Committed offset, end of the log, lag.
    assert_eq!(numbers("g", "t", "0"), "- 5 -");
    assert_eq!(numbers("g", "u", "0"), "- 3 -");
    assert_eq!(numbers("h", "t", "1"), "2 5 3");
    assert_eq!(
        rows.iter().filter(|row| row.first() == Some(&"h")).count(),
        1,
        "{described}"
    );
}

/// A topic of two partitions whose records are of 2024, and of two hours and one hour ago.
fn start_with_times() -> Server {
    let server = Server::start();
    create_topic(&server, "t", 2, &[("retention.ms", "-1")]);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let hours_ago = |hours: i64| i64::try_from(since_1970.as_millis()).unwrap() - hours * 3_600_000;
    // 00:00 and 01:00 on the first of January.
    let times = [
        1_704_067_200_000,
        1_704_070_800_000,
        hours_ago(2),
        hours_ago(1),
    ];
    let mut producer = Producer::new(&server, &[]);
    for partition in 0..2 {
        for time in times {
            let record = BaseRecord::to("t").partition(partition).timestamp(time);
            producer.send(record.payload(b"value"));
        }
    }
    producer.flush_all_taken();
    server
}

#[test]
fn offsets_are_reset_as_each_scenario_has_it() {
    let server = start_with_times();
    let reset = |rest: &str, before: [i64; 2], expected: [i64; 2]| {
        commit(&server, "g", &[("t", 0, before[0]), ("t", 1, before[1])]);
        let arguments = ["--reset-offsets", "--group", "g"];
        let rest: Vec<&str> = rest.split(' ').collect();
        let arguments = [&arguments[..], &rest].concat();
        for dry in [&["--dry-run"][..], &[]] {
            let shown = said(&server, &[&arguments[..], dry].concat());
            assert!(shown.contains("NEW-OFFSET"), "{shown}");
            assert_eq!(
                committed(&server, "g", "t", 2),
                before,
                "{arguments:?} changed something"
            );
        }
        said(&server, &[&arguments[..], &["--execute"]].concat());
        assert_eq!(committed(&server, "g", "t", 2), expected, "{arguments:?}");
    };
    reset("--topic t --to-earliest", [3, 2], [0, 0]);
    reset("--topic t --to-latest", [3, 2], [4, 4]);
    reset("--topic t:1 --to-latest", [3, 2], [3, 4]);
    reset("--all-topics --to-offset 1", [3, 2], [1, 1]);
    reset("--all-topics --to-offset 9", [3, 2], [4, 4]);
    reset("--all-topics --to-offset -9", [3, 2], [0, 0]);
    reset("--topic t --shift-by -1", [3, 2], [2, 1]);
    reset("--topic t --shift-by 2", [3, 2], [4, 4]);
    reset("--topic t --to-current", [3, 2], [3, 2]);
    reset(
        "--topic t --to-datetime 2024-01-01T00:30:00.000",
        [3, 2],
        [1, 1],
    );
    reset(
        "--topic t --to-datetime 2024-01-01T02:30:00.000+02:00",
        [3, 2],
        [1, 1],
    );
    reset(
        "--topic t --to-datetime 2024-01-01T01:00:00.000Z",
        [3, 2],
        [1, 1],
    );
    reset(
        "--topic t:0 --to-datetime 2099-01-01T00:00:00.000",
        [3, 2],
        [4, 2],
    );
    reset("--topic t --by-duration PT1H30M", [0, 0], [3, 3]);
    reset("--topic t --by-duration P1D", [0, 0], [2, 2]);
    reset("--topic t --by-duration PT0S", [0, 0], [4, 4]);
}

#[test]
fn a_group_that_never_committed_can_be_reset() {
    let server = start();
    let reset = [
        "--reset-offsets",
        "--group",
        "new",
        "--topic",
        "t:0,2",
        "--to-offset",
        "3",
    ];
    said(&server, &[&reset[..], &["--execute"]].concat());
    assert_eq!(committed(&server, "new", "t", 4), [3, -1, 3, -1]);
    let current = [
        "--reset-offsets",
        "--group",
        "new",
        "--topic",
        "t",
        "--to-current",
        "--execute",
    ];
    said(&server, &current);
    assert_eq!(committed(&server, "new", "t", 4), [3, 5, 3, 5]);
}

#[test]
fn an_export_is_read_back() {
    let server = start();
    let file = server.directory().join("offsets.csv");
    let path = file.to_str().unwrap();
    for groups in [&["g"][..], &["g", "h"]] {
        let mut reset = vec!["--reset-offsets"];
        for group in groups {
            commit(&server, group, &[("t", 0, 1), ("t", 2, 4), ("u", 0, 2)]);
            reset.extend(["--group", group]);
        }
        let export = [
            &reset[..],
            &["--all-topics", "--to-current", "--export", "--dry-run"],
        ]
        .concat();
        let exported = said(&server, &export);
        let first = if groups.len() == 1 {
            "t,0,1"
        } else {
            "g,t,0,1"
        };
        assert_eq!(exported.lines().next(), Some(first), "{exported}");
        fs::write(&file, &exported).unwrap();
        said(
            &server,
            &[&reset[..], &["--all-topics", "--to-latest", "--execute"]].concat(),
        );
        assert_eq!(committed(&server, "g", "t", 4), [5, -1, 5, -1]);
        said(
            &server,
            &[&reset[..], &["--from-file", path, "--execute"]].concat(),
        );
        for group in groups {
            assert_eq!(committed(&server, group, "t", 4), [1, -1, 4, -1]);
            assert_eq!(committed(&server, group, "u", 1), [2]);
        }
    }
    fs::write(&file, "t,0,1\nt,nothing\n").unwrap();
    let read = [
        "--reset-offsets",
        "--group",
        "g",
        "--from-file",
        path,
        "--execute",
    ];
    let refused = said(&server, &read);
    assert!(
        refused.contains("line 2 is not topic,partition,offset: t,nothing"),
        "{refused}"
    );
    assert_eq!(committed(&server, "g", "t", 4), [1, -1, 4, -1]);
}

#[test]
fn a_group_with_members_is_left_alone() {
    let server = start();
    let members = join(&server, "g", &[&[]], &[5]);
    let reset = [
        "--reset-offsets",
        "--group",
        "g",
        "--all-topics",
        "--to-latest",
        "--execute",
    ];
    let refusal = said(&server, &reset);
    let expected = "\nError: Assignments can only be reset if the group 'g' is inactive, but the current state is Stable.\n";
    assert!(refusal.starts_with(expected), "{refusal}");
    let refusal = said(&server, &["--delete", "--group", "g"]);
    assert_eq!(
        refusal,
        "\nError: Deletion of some consumer groups failed:\n* Group 'g' could not be deleted due to: \
         org.apache.kafka.common.errors.GroupNotEmptyException: The group is not empty.\n"
    );
    drop(members);
    commit(&server, "g", &[("t", 0, 1)]);
    assert_eq!(
        said(&server, &["--delete", "--group", "g"]),
        "Deletion of requested consumer groups ('g') was successful.\n"
    );
    assert_eq!(said(&server, &["--list"]), "");
}

#[test]
fn flags_of_older_kafkas_work_with_one_hint() {
    let server = start();
    commit(&server, "g", &[("t", 0, 1)]);
    let zookeeper = format!("127.0.0.1:{}", server.zookeeper_port());
    let mut command = troupe();
    command.args(["consumer-groups", "--zookeeper", &zookeeper, "--list"]);
    let output = Process::spawn("consumer-groups", command)
        .finish()
        .succeeded();
    assert_eq!(output.stdout(), "g\n");
    assert_eq!(
        output.stderr().matches("Hint: --zookeeper").count(),
        1,
        "{}",
        output.text()
    );
    let output = ours(&server, &["--new-consumer", "--describe", "--group", "g"]).succeeded();
    assert!(
        output.stdout().contains("CURRENT-OFFSET"),
        "{}",
        output.text()
    );
    assert_eq!(
        output.stderr().matches("Hint: --new-consumer").count(),
        1,
        "{}",
        output.text()
    );
}

#[test]
fn a_broker_that_is_not_there_is_named_at_once() {
    let mut command = troupe();
    command.args([
        "consumer-groups",
        "--bootstrap-server",
        "127.0.0.1:1",
        "--list",
    ]);
    let output = Process::spawn("consumer-groups", command).finish();
    let expected =
        "\nError: Executing consumer group command failed due to Cannot connect to 127.0.0.1:1: ";
    assert!(output.stdout().starts_with(expected), "{}", output.text());
    // Kafka's tool leaves with 0 as well.
    assert_eq!(output.status.code(), Some(0));
}
