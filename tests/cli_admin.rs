//! The tools of administrators: what each says next to what Apache Kafka's own tool says of the same broker.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use rdkafka::producer::BaseRecord;
use serde_json::Value;
use support::clients::{Producer, create_topic};
use support::java::{Kafka, Release};
use support::process::{Output, Process};
use support::server::{Server, troupe};

/// A tool of Troupe, and the class of Kafka's.
#[derive(Clone, Copy)]
struct Tool {
    name: &'static str,
    class: &'static str,
}

const BROKER_API_VERSIONS: Tool = Tool {
    name: "broker-api-versions",
    class: "kafka.admin.BrokerApiVersionsCommand",
};
const CLUSTER: Tool = Tool {
    name: "cluster",
    class: "org.apache.kafka.tools.ClusterTool",
};
const CONFIGS: Tool = Tool {
    name: "configs",
    class: "kafka.admin.ConfigCommand",
};
const DELETE_RECORDS: Tool = Tool {
    name: "delete-records",
    class: "org.apache.kafka.tools.DeleteRecordsCommand",
};
const GET_OFFSETS: Tool = Tool {
    name: "get-offsets",
    class: "org.apache.kafka.tools.GetOffsetShell",
};
const LOG_DIRS: Tool = Tool {
    name: "log-dirs",
    class: "org.apache.kafka.tools.LogDirsCommand",
};

fn ours(tool: Tool, arguments: &[&str]) -> Output {
    let mut command = troupe();
    command.arg(tool.name).args(arguments);
    Process::spawn(tool.name, command).finish()
}

/// Runs both tools, which must leave with the same code, say the same, and complain with the same line.
#[track_caller]
fn same(kafka: &Kafka, tool: Tool, arguments: &[&str]) -> Output {
    let (ours, theirs) = (ours(tool, arguments), kafka.run(tool.class, arguments));
    let said = |output: &Output| {
        let stderr = output.stderr();
        // Log lines begin with their time.
        let mut complaints = stderr.lines();
        let complaint = complaints.find(|line| !line.is_empty() && !line.starts_with('['));
        (
            output.status.code(),
            output.stdout(),
            complaint.map(str::to_owned),
        )
    };
    assert_eq!(said(&ours), said(&theirs), "{arguments:?}");
    ours
}

/// A broker with topic `t`, of three partitions with 3, 2 and no records.
fn start() -> Server {
    let server = Server::start();
    // Its records are of 1970.
    create_topic(&server, "t", 3, &[("retention.ms", "-1")]);
    let mut producer = Producer::new(&server, &[]);
    for (partition, timestamp) in [(0, 1_000), (0, 9_000), (0, 5_000), (1, 1_000), (1, 2_000)] {
        let record = BaseRecord::to("t").partition(partition).key(&b"k"[..]);
        producer.send(record.payload(&b"v"[..]).timestamp(timestamp));
    }
    producer.flush_all_taken();
    server
}

fn kafka() -> Option<Kafka> {
    Kafka::find(Release::V3_9)
}

#[test]
fn offsets_are_told_as_by_kafkas_tool() {
    let Some(kafka) = kafka() else {
        return;
    };
    let server = start();
    create_topic(&server, "ten", 11, &[]);
    let bootstrap = server.bootstrap();
    let at = |more: &[&'static str]| {
        let arguments = [&["--bootstrap-server", &bootstrap], more].concat();
        same(&kafka, GET_OFFSETS, &arguments).stdout()
    };
    assert_eq!(at(&["--topic", "t"]), "t:0:3\nt:1:2\nt:2:0\n");
    let all = at(&[]);
    assert!(all.contains("ten:1:0\nten:10:0\nten:2:0\n"), "{all}");
    let asked: [&[&str]; 8] = [
        &["--topic", "t", "--time", "-2"],
        &["--topic", "t", "--time", "max-timestamp"],
        &["--topic", "t", "--time", "2000", "--partitions", "0,1"],
        &["--topic-partitions", "t:1-,ten:-2,x:7"],
        &["--topic-partitions", "t:1", "--topic", "t"],
        &["--topic", "nobody"],
        &["--topic", "t", "--time", "soon"],
        &["--topic", "t", "--partitions", "x"],
    ];
    for more in asked {
        at(more);
    }
    same(&kafka, GET_OFFSETS, &["--topic", "t"]);

    // As handouts of 2015 have it.
    let old = ["--broker-list", &bootstrap, "--topic", "t", "--time", "-1"];
    let old = ours(GET_OFFSETS, &[&old[..], &["--offsets", "1"]].concat()).succeeded();
    assert_eq!(old.stdout(), "t:0:3\nt:1:2\nt:2:0\n");
    let hint = format!(
        "Hint: --broker-list is of an older Kafka; today one writes --bootstrap-server {bootstrap}\n"
    );
    assert!(old.stderr().starts_with(&hint), "{}", old.stderr());
    let mut script = std::process::Command::new("bin/kafka-run-class.sh");
    script.env("TROUPE", env!("CARGO_BIN_EXE_troupe"));
    script.args(["kafka.tools.GetOffsetShell", "--broker-list", &bootstrap]);
    script.args(["--topic", "t"]);
    let said = Process::spawn("script", script).finish().succeeded();
    assert_eq!(said.stdout(), "t:0:3\nt:1:2\nt:2:0\n");
}

#[test]
fn records_are_deleted_as_by_kafkas_tool() {
    let Some(kafka) = kafka() else {
        return;
    };
    let server = start();
    let bootstrap = server.bootstrap();
    let file = server.directory().join("offsets.json");
    let file = file.to_str().unwrap();
    let delete = |json: &str| {
        std::fs::write(file, json).unwrap();
        let arguments = ["--bootstrap-server", &bootstrap, "--offset-json-file", file];
        same(&kafka, DELETE_RECORDS, &arguments).stdout()
    };
    let one = |offset: i64| {
        format!(r#"{{"partitions":[{{"topic":"t","partition":0,"offset":{offset}}}]}}"#)
    };
    assert_eq!(
        delete(&one(2)),
        "Executing records delete operation\nRecords delete operation completed:\n\
         partition: t-0\tlow_watermark: 2\n"
    );
    assert!(delete(&one(-1)).ends_with("partition: t-0\tlow_watermark: 3\n"));
    assert!(delete(&one(99)).contains("error: org.apache.kafka.common.errors.OffsetOutOfRange"));
    delete("{}");
    delete(r#"{"version":2,"partitions":[]}"#);
    let entry = r#"{"topic":"t","partition":0,"offset":1}"#;
    delete(&format!(r#"{{"partitions":[{entry},{entry}]}}"#));
    same(&kafka, DELETE_RECORDS, &["--bootstrap-server", &bootstrap]);
}

#[test]
fn log_directories_are_described_as_by_kafkas_tool() {
    let Some(kafka) = kafka() else {
        return;
    };
    let server = start();
    create_topic(&server, "other", 1, &[]);
    let bootstrap = server.bootstrap();
    let described = |more: &[&'static str]| {
        let arguments = [&["--bootstrap-server", &bootstrap, "--describe"], more].concat();
        let said = |output: Output| {
            let stdout = output.succeeded().stdout();
            let (told, json) = stdout.trim_end().rsplit_once('\n').unwrap();
            (told.to_owned(), json.to_owned())
        };
        let (ours, theirs) = (
            said(ours(LOG_DIRS, &arguments)),
            said(kafka.run(LOG_DIRS.class, &arguments)),
        );
        assert_eq!(ours.0, theirs.0);
        // The same letters, but that Kafka has the partitions in no order.
        assert_eq!(letters(&ours.1), letters(&theirs.1));
        let json: Value = serde_json::from_str(&ours.1).unwrap();
        assert_eq!(
            in_order(json),
            in_order(serde_json::from_str(&theirs.1).unwrap())
        );
        ours.1
    };
    assert_eq!(described(&[]).matches("\"partition\":").count(), 4);
    let some = described(&["--topic-list", "t,,nobody", "--broker-list", "0"]);
    assert_eq!(some.matches("\"partition\":").count(), 3);
    let missing = [
        "--bootstrap-server",
        &bootstrap,
        "--describe",
        "--broker-list",
        "0,7",
    ];
    same(&kafka, LOG_DIRS, &missing);
    same(&kafka, LOG_DIRS, &["--bootstrap-server", &bootstrap]);
    same(&kafka, LOG_DIRS, &["--describe"]);
}

fn letters(text: &str) -> Vec<char> {
    let mut letters: Vec<_> = text.chars().collect();
    letters.sort_unstable();
    letters
}

fn in_order(mut json: Value) -> Value {
    let partitions = json["brokers"][0]["logDirs"][0]["partitions"].as_array_mut();
    partitions
        .unwrap()
        .sort_by_key(|replica| replica["partition"].to_string());
    json
}

#[test]
fn api_versions_are_told_as_by_kafkas_tool() {
    let Some(kafka) = kafka() else {
        return;
    };
    let server = Server::start();
    let bootstrap = server.bootstrap();
    let arguments = ["--bootstrap-server", &bootstrap];
    let theirs = kafka.run(BROKER_API_VERSIONS.class, &arguments).succeeded();
    let ours = ours(BROKER_API_VERSIONS, &arguments).succeeded().stdout();
    let known = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.trim_end_matches(','))
            // What only one of them has a name for; what either can use is its own.
            .filter(|line| !line.contains("UNKNOWN(") && !line.contains("ListC"))
            .map(|line| line.split(" [").next().unwrap().to_owned())
            .collect()
    };
    let (mine, expected) = (known(&ours), known(&theirs.stdout()));
    assert_eq!(mine.first(), expected.first());
    let is_client_api = |line: &&String| {
        const BETWEEN_BROKERS: [&str; 8] = [
            "Envelope(",
            "AddRaftVoter(",
            "RemoveRaftVoter(",
            "InitializeShare",
            "ReadShare",
            "WriteShare",
            "DeleteShareGroupState(",
            "DescribeShareGroupOffsets(",
        ];
        !BETWEEN_BROKERS.iter().any(|name| line.contains(name))
            && !line.contains("ShareGroupOffsets(")
    };
    let mine: Vec<_> = mine.iter().filter(is_client_api).collect();
    let expected: Vec<_> = expected.iter().filter(is_client_api).collect();
    assert!(mine.len() > 60, "{ours}");
    assert_eq!(mine, expected);
    same(&kafka, BROKER_API_VERSIONS, &["--command-config", "none"]);
}

#[test]
fn the_cluster_is_told_of_as_by_kafkas_tool() {
    let (Some(kafka), Some(newer)) = (kafka(), Kafka::find(Release::V4_1)) else {
        return;
    };
    let server = Server::start();
    let bootstrap = server.bootstrap();
    let at = ["--bootstrap-server", &bootstrap];
    let id = same(&kafka, CLUSTER, &[&["cluster-id"], &at[..]].concat());
    assert!(id.stdout().starts_with("Cluster ID: "), "{}", id.text());
    same(&kafka, CLUSTER, &["cluster-id", "-b", &bootstrap]);
    same(
        &kafka,
        CLUSTER,
        &[&["unregister", "--id", "9"], &at[..]].concat(),
    );
    let listed = ours(CLUSTER, &[&["list-endpoints"], &at[..]].concat()).succeeded();
    let theirs = newer.run(CLUSTER.class, &[&["list-endpoints"], &at[..]].concat());
    assert_eq!(listed.stdout(), theirs.succeeded().stdout());
    assert_eq!(ours(CLUSTER, &["cluster-id"]).status.code(), Some(1));
}

#[test]
fn configurations_are_described_and_altered_as_by_kafkas_tool() {
    let Some(kafka) = kafka() else {
        return;
    };
    let server = start();
    let bootstrap = server.bootstrap();
    let both = |more: &[&'static str]| {
        let arguments = [&["--bootstrap-server", &bootstrap], more].concat();
        same(&kafka, CONFIGS, &arguments).stdout()
    };
    // Each is done twice, once by either.
    let altered = both(&[
        "--alter",
        "--entity-type",
        "topics",
        "--entity-name",
        "t",
        "--add-config",
        "retention.ms=1000,cleanup.policy=[compact,delete]",
    ]);
    assert_eq!(altered, "Completed updating config for topic t.\n");
    let shown = both(&["--describe", "--topic", "t"]);
    assert!(
        shown.contains("  cleanup.policy=compact,delete sensitive=false synonyms={"),
        "{shown}"
    );
    let of_all = both(&["--describe", "--entity-type", "topics"]);
    assert_eq!(of_all, shown);
    assert!(both(&["--describe", "--topic", "t", "--all"]).contains("  segment.bytes=1073741824"));
    let changes: [&[&str]; 3] = [
        &[
            "--alter",
            "--entity-type",
            "brokers",
            "--entity-default",
            "--add-config",
            "log.retention.ms=5000000",
        ],
        &["--describe", "--entity-type", "brokers"],
        &["--describe", "--broker", "0", "--all"],
    ];
    for more in changes {
        both(more);
    }
    let delete = ["--alter", "--topic", "t", "--delete-config", "retention.ms"];
    let at = ["--bootstrap-server", &bootstrap];
    ours(CONFIGS, &[&at[..], &delete].concat()).succeeded();
    assert!(!both(&["--describe", "--topic", "t"]).contains("retention.ms"));
}

#[test]
fn configurations_that_make_no_sense_are_refused_as_by_kafkas_tool() {
    let Some(kafka) = kafka() else {
        return;
    };
    let server = start();
    let bootstrap = server.bootstrap();
    let refused: [&[&str]; 13] = [
        &["--describe"],
        &["--describe", "--alter"],
        &["--describe", "--entity-type", "nonsense"],
        &["--describe", "--topic", "t", "--add-config", "a=b"],
        &["--alter", "--entity-type", "topics"],
        &["--alter", "--entity-type", "brokers", "--add-config", "a=b"],
        &["--alter", "--topic", "t"],
        &["--alter", "--topic", "t", "--add-config", "retention.ms"],
        &["--alter", "--topic", "t", "--add-config", "a b=1"],
        &[
            "--alter",
            "--topic",
            "t",
            "--delete-config",
            "segment.bytes",
        ],
        &["--alter", "--topic", "t", "--add-config", "nonsense=1"],
        &[
            "--describe",
            "--entity-type",
            "brokers",
            "--entity-name",
            "x",
        ],
        &["--describe", "--topic", "gone"],
    ];
    for more in refused {
        let arguments = [&["--bootstrap-server", &bootstrap], more].concat();
        same(&kafka, CONFIGS, &arguments);
    }
}

/// As handouts had it before the tool could ask a broker.
#[test]
fn configurations_are_altered_through_a_zookeeper() {
    let server = start();
    let zookeeper = format!("localhost:{}", server.zookeeper_port());
    let run = |more: &[&str]| {
        let entity = [
            "--zookeeper",
            &zookeeper,
            "--entity-type",
            "topics",
            "--entity-name",
            "t",
        ];
        ours(CONFIGS, &[&entity, more].concat()).succeeded()
    };
    let altered = run(&["--alter", "--add-config", "retention.ms=60000"]);
    assert_eq!(
        altered.stdout(),
        "Completed Updating config for entity: topic 't'.\n"
    );
    assert!(
        altered
            .stderr()
            .starts_with("Hint: --zookeeper is of an older Kafka")
    );
    assert_eq!(
        run(&["--describe"]).stdout(),
        "Configs for topic 't' are retention.ms=60000\n"
    );
}

/// Every wrapper of these tools finds its tool.
#[test]
fn each_script_runs_its_tool() {
    for tool in [
        BROKER_API_VERSIONS,
        CLUSTER,
        CONFIGS,
        DELETE_RECORDS,
        GET_OFFSETS,
        LOG_DIRS,
    ] {
        let script = format!("bin/kafka-{}.sh", tool.name);
        let mut command = std::process::Command::new(Path::new(&script));
        command
            .env("TROUPE", env!("CARGO_BIN_EXE_troupe"))
            .arg("--help");
        let said = Process::spawn(&script, command).finish().succeeded();
        let usage = format!("Usage: troupe {}", tool.name);
        assert!(said.stdout().contains(&usage), "{script}: {}", said.text());
    }
}
