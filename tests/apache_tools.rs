//! Apache Kafka's own command-line programs, of 3.9.1 and 4.1.0, as their scripts in `bin/` start them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use support::clients::create_topic;
use support::java::{Kafka, Release};
use support::server::Server;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const PERFORMANCE: &str = "org.apache.kafka.tools.ProducerPerformance";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";

fn console_producer(kafka: &Kafka) -> &'static str {
    match kafka.release {
        Release::V3_9 => "kafka.tools.ConsoleProducer",
        Release::V4_1 | Release::Newest => "org.apache.kafka.tools.ConsoleProducer",
    }
}

fn broker_api_versions(kafka: &Kafka) -> &'static str {
    match kafka.release {
        Release::V3_9 => "kafka.admin.BrokerApiVersionsCommand",
        Release::V4_1 | Release::Newest => "org.apache.kafka.tools.BrokerApiVersionsCommand",
    }
}

/// Makes one test of each function for each release of the programs.
macro_rules! for_each_release {
    ($($function:ident),* $(,)?) => {
        mod kafka_3_9 {
            $(#[test] fn $function() { super::with_release(super::Release::V3_9, super::$function); })*
        }
        mod kafka_4_1 {
            $(#[test] fn $function() { super::with_release(super::Release::V4_1, super::$function); })*
        }
    };
}

for_each_release![
    topics_are_created_listed_described_altered_and_deleted,
    topic_errors_are_explained,
    the_performance_tool_produces_and_the_offset_tool_counts,
    the_console_producer_and_consumer_talk,
    configurations_are_changed_and_shown,
    records_are_deleted_up_to_an_offset,
    log_directories_are_described,
    api_versions_are_listed,
];

fn with_release(release: Release, test: fn(&Kafka, &Server)) {
    if let Some(kafka) = Kafka::find(release) {
        test(&kafka, &Server::start());
    }
}

/// Runs a program with `--bootstrap-server` and more arguments; it must succeed.
#[track_caller]
fn run(kafka: &Kafka, server: &Server, class: &str, arguments: &[&str]) -> String {
    let bootstrap = server.bootstrap();
    let all = [&["--bootstrap-server", &bootstrap], arguments].concat();
    kafka.run(class, &all).succeeded().stdout()
}

fn topics_are_created_listed_described_altered_and_deleted(kafka: &Kafka, server: &Server) {
    let create = [
        "--create",
        "--topic",
        "words",
        "--partitions",
        "2",
        "--replication-factor",
        "1",
    ];
    let with_config = [&create[..], &["--config", "retention.ms=60000"]].concat();
    assert_eq!(
        run(kafka, server, TOPICS, &with_config),
        "Created topic words.\n"
    );
    assert_eq!(
        run(kafka, server, TOPICS, &["--create", "--topic", "defaults"]),
        "Created topic defaults.\n"
    );
    assert_eq!(run(kafka, server, TOPICS, &["--list"]), "defaults\nwords\n");

    let described = run(kafka, server, TOPICS, &["--describe", "--topic", "words"]);
    let lines: Vec<&str> = described.lines().collect();
    let fields: Vec<&str> = lines[0].split('\t').collect();
    assert_eq!(fields[0], "Topic: words");
    assert!(
        fields[1].starts_with("TopicId: ") && fields[1].len() == 31,
        "{described}"
    );
    assert_eq!(
        &fields[2..],
        [
            "PartitionCount: 2",
            "ReplicationFactor: 1",
            "Configs: retention.ms=60000"
        ]
    );
    assert_eq!(lines.len(), 3, "{described}");
    for (partition, line) in lines[1..].iter().enumerate() {
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(
            fields[..3],
            ["", "Topic: words", &format!("Partition: {partition}")],
            "{described}"
        );
        let id = fields[3].strip_prefix("Leader: ").expect("a leader");
        assert_eq!(
            fields[4..6],
            [format!("Replicas: {id}"), format!("Isr: {id}")],
            "{described}"
        );
        assert!(id.parse::<i32>().is_ok(), "{described}");
    }

    run(
        kafka,
        server,
        TOPICS,
        &["--alter", "--topic", "words", "--partitions", "5"],
    );
    let described = run(kafka, server, TOPICS, &["--describe", "--topic", "words"]);
    assert!(described.contains("PartitionCount: 5"), "{described}");
    assert_eq!(described.lines().count(), 6, "{described}");
    assert!(!described.contains("Leader: none"), "{described}");
    run(kafka, server, TOPICS, &["--delete", "--topic", "words"]);
    assert_eq!(run(kafka, server, TOPICS, &["--list"]), "defaults\n");
}

fn topic_errors_are_explained(kafka: &Kafka, server: &Server) {
    let fails = |arguments: &[&str], message: &str| {
        let bootstrap = server.bootstrap();
        let output = kafka.run(
            TOPICS,
            &[&["--bootstrap-server", &bootstrap], arguments].concat(),
        );
        assert!(!output.status.success(), "{}", output.text());
        assert!(
            output.text().contains(message),
            "{message:?} is not in {}",
            output.text()
        );
    };
    create_topic(server, "taken", 2, &[]);
    fails(
        &["--create", "--topic", "taken"],
        "Topic 'taken' already exists.",
    );
    fails(
        &["--create", "--topic", "no/slash"],
        "InvalidTopicException",
    );
    fails(
        &["--create", "--topic", "wide", "--replication-factor", "3"],
        "InvalidReplicationFactorException",
    );
    fails(
        &["--create", "--topic", "none", "--partitions", "0"],
        "The partitions must be greater than 0",
    );
    fails(
        &[
            "--create",
            "--topic",
            "odd",
            "--config",
            "retention.ms=soon",
        ],
        "retention.ms",
    );
    fails(
        &["--alter", "--topic", "taken", "--partitions", "1"],
        "InvalidPartitionsException",
    );
    fails(
        &["--describe", "--topic", "missing"],
        "does not exist as expected",
    );
    fails(
        &["--delete", "--topic", "missing"],
        "does not exist as expected",
    );
    assert_eq!(run(kafka, server, TOPICS, &["--list"]), "taken\n");
}

fn the_performance_tool_produces_and_the_offset_tool_counts(kafka: &Kafka, server: &Server) {
    create_topic(server, "load", 3, &[]);
    let bootstrap = format!("bootstrap.servers={}", server.bootstrap());
    for acks in ["acks=all", "acks=1", "acks=0"] {
        let arguments = [
            "--topic",
            "load",
            "--num-records",
            "20000",
            "--record-size",
            "100",
            "--throughput",
            "-1",
        ];
        let arguments = [&arguments[..], &["--producer-props", &bootstrap, acks]].concat();
        let output = kafka.run(PERFORMANCE, &arguments).succeeded();
        assert!(
            output.stdout().contains("20000 records sent, "),
            "{acks}: {}",
            output.text()
        );
        assert!(
            !output.text().contains("Exception"),
            "{acks}: {}",
            output.text()
        );
    }
    let sum = |time: &str| -> i64 {
        let lines = run(kafka, server, OFFSETS, &["--topic", "load", "--time", time]);
        assert_eq!(lines.lines().count(), 3, "{lines}");
        lines
            .lines()
            .enumerate()
            .map(|(partition, line)| {
                let offset = line
                    .strip_prefix(&format!("load:{partition}:"))
                    .expect("topic, partition and offset");
                offset.parse::<i64>().unwrap()
            })
            .sum()
    };
    assert_eq!(sum("latest"), 60_000);
    assert_eq!(sum("earliest"), 0);
    assert_eq!(sum("-1"), 60_000);
    let newest = run(
        kafka,
        server,
        OFFSETS,
        &["--topic-partitions", "load:0", "--time", "max-timestamp"],
    );
    assert!(newest.starts_with("load:0:"), "{newest}");
}

fn the_console_producer_and_consumer_talk(kafka: &Kafka, server: &Server) {
    create_topic(server, "talk", 1, &[]);
    let bootstrap = server.bootstrap();
    let produce = ["--bootstrap-server", &bootstrap, "--topic", "talk"];
    kafka
        .run_with_input(console_producer(kafka), &produce, b"hello\nkafka world\n")
        .succeeded();
    let keyed = [
        &produce[..],
        &[
            "--property",
            "parse.key=true",
            "--property",
            "key.separator=:",
        ],
    ]
    .concat();
    kafka
        .run_with_input(console_producer(kafka), &keyed, b"key:value\n")
        .succeeded();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let compressed = [&produce[..], &["--compression-codec", codec]].concat();
        kafka
            .run_with_input(
                console_producer(kafka),
                &compressed,
                format!("{codec}\n").as_bytes(),
            )
            .succeeded();
    }

    let all = "hello\nkafka world\nvalue\ngzip\nsnappy\nlz4\nzstd\n";
    let whole = [
        "--topic",
        "talk",
        "--partition",
        "0",
        "--offset",
        "earliest",
        "--max-messages",
        "7",
    ];
    let arguments = [&["--bootstrap-server", bootstrap.as_str()], &whole[..]].concat();
    let output = kafka.run(CONSOLE_CONSUMER, &arguments).succeeded();
    assert_eq!(output.stdout(), all);
    assert!(
        output.stderr().contains("Processed a total of 7 messages"),
        "{}",
        output.text()
    );

    let from_two = [
        "--topic",
        "talk",
        "--partition",
        "0",
        "--offset",
        "2",
        "--max-messages",
        "1",
    ];
    let printing = [
        "print.key=true",
        "print.offset=true",
        "print.partition=true",
        "print.headers=true",
    ];
    let mut arguments = from_two.to_vec();
    for property in printing {
        arguments.extend(["--property", property]);
    }
    let printed = run(kafka, server, CONSOLE_CONSUMER, &arguments);
    assert_eq!(printed, "Partition:0\tOffset:2\tNO_HEADERS\tkey\tvalue\n");
}

fn configurations_are_changed_and_shown(kafka: &Kafka, server: &Server) {
    create_topic(server, "tuned", 1, &[]);
    let of_topic = ["--entity-type", "topics", "--entity-name", "tuned"];
    let add = [
        &of_topic[..],
        &[
            "--alter",
            "--add-config",
            "retention.ms=1234567,max.message.bytes=2000",
        ],
    ]
    .concat();
    // 4.1 complains on standard output about log4j 1, which these tests start it with.
    let changed = run(kafka, server, CONFIGS, &add);
    assert!(
        changed.ends_with(
            "Completed updating config for topic tuned.
"
        ),
        "{changed}"
    );
    let describe = [&of_topic[..], &["--describe"]].concat();
    let shown = run(kafka, server, CONFIGS, &describe);
    assert!(
        shown.contains("Dynamic configs for topic tuned are:\n"),
        "{shown}"
    );
    let synonyms = "synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=1234567";
    assert!(
        shown.contains(&format!(
            "  retention.ms=1234567 sensitive=false {synonyms}"
        )),
        "{shown}"
    );
    assert!(
        shown.contains("  max.message.bytes=2000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:"),
        "{shown}"
    );

    let delete = [
        &of_topic[..],
        &["--alter", "--delete-config", "retention.ms"],
    ]
    .concat();
    run(kafka, server, CONFIGS, &delete);
    let shown = run(kafka, server, CONFIGS, &describe);
    assert!(!shown.contains("retention.ms"), "{shown}");
    assert!(shown.contains("max.message.bytes=2000"), "{shown}");
    let everything = run(
        kafka,
        server,
        CONFIGS,
        &[&describe[..], &["--all"]].concat(),
    );
    for key in [
        "cleanup.policy=delete",
        "segment.bytes=1073741824",
        "retention.ms=604800000",
    ] {
        assert!(everything.contains(key), "{key} is not in {everything}");
    }
}

fn records_are_deleted_up_to_an_offset(kafka: &Kafka, server: &Server) {
    create_topic(server, "trim", 1, &[]);
    let bootstrap = server.bootstrap();
    let produce = ["--bootstrap-server", &bootstrap, "--topic", "trim"];
    kafka
        .run_with_input(console_producer(kafka), &produce, b"0\n1\n2\n3\n4\n")
        .succeeded();
    let file = server.directory().join("delete-records.json");
    std::fs::write(
        &file,
        r#"{"partitions":[{"topic":"trim","partition":0,"offset":3}],"version":1}"#,
    )
    .unwrap();
    let output = run(
        kafka,
        server,
        DELETE_RECORDS,
        &["--offset-json-file", file.to_str().unwrap()],
    );
    assert!(
        output.contains("partition: trim-0\tlow_watermark: 3"),
        "{output}"
    );
    assert_eq!(
        run(
            kafka,
            server,
            OFFSETS,
            &["--topic", "trim", "--time", "earliest"]
        ),
        "trim:0:3\n"
    );
    let rest = [
        "--topic",
        "trim",
        "--partition",
        "0",
        "--offset",
        "earliest",
        "--max-messages",
        "2",
    ];
    assert_eq!(run(kafka, server, CONSOLE_CONSUMER, &rest), "3\n4\n");
}

fn log_directories_are_described(kafka: &Kafka, server: &Server) {
    create_topic(server, "disk", 2, &[]);
    let output = run(
        kafka,
        server,
        LOG_DIRS,
        &["--describe", "--topic-list", "disk"],
    );
    let json = output
        .lines()
        .find(|line| line.starts_with('{'))
        .expect("a line of JSON");
    let described: serde_json::Value = serde_json::from_str(json).unwrap();
    let directories = described["brokers"][0]["logDirs"].as_array().unwrap();
    assert_eq!(directories.len(), 1, "{described}");
    assert_eq!(
        directories[0]["logDir"].as_str().unwrap(),
        server.log_directory().to_str().unwrap()
    );
    let partitions = directories[0]["partitions"].as_array().unwrap();
    let mut names: Vec<&str> = partitions
        .iter()
        .map(|partition| partition["partition"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["disk-0", "disk-1"]);
}

fn api_versions_are_listed(kafka: &Kafka, server: &Server) {
    let output = run(kafka, server, broker_api_versions(kafka), &[]);
    assert!(
        output.starts_with(&format!("127.0.0.1:{} (id: ", server.port())),
        "{output}"
    );
    for api in [
        "Produce(0): ",
        "Fetch(1): ",
        "ApiVersions(18): ",
        "CreateTopics(19): ",
    ] {
        let line = output.lines().find(|line| line.contains(api)).expect(api);
        assert!(
            line.contains("[usable: ") && !line.contains("UNSUPPORTED"),
            "{line}"
        );
    }
}
