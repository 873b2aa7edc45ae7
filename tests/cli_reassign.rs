//! `troupe leader-election` and `troupe reassign-partitions`: what they say next to Apache Kafka's own tools, of one broker
//! of Apache Kafka and of three of Troupe.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use support::clients::create_topic;
use support::cluster::{Trio, create_replicated, leaders, wait_for_isr, wait_for_leaders};
use support::java::{Kafka, Release};
use support::process::{Output, Process};
use support::server::{Kind, Server, troupe};
use tempfile::TempDir;

/// A tool of Troupe, and the class of Kafka's.
#[derive(Clone, Copy)]
struct Tool {
    name: &'static str,
    class: &'static str,
}

const ELECTION: Tool = Tool {
    name: "leader-election",
    class: "org.apache.kafka.tools.LeaderElectionCommand",
};
const REASSIGN: Tool = Tool {
    name: "reassign-partitions",
    class: "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
};

/// Both tools, and the brokers that they speak to.
struct Both {
    kafka: Kafka,
    bootstrap: String,
    directory: TempDir,
}

impl Both {
    fn ours(&self, tool: Tool, arguments: &[&str]) -> Output {
        let mut command = troupe();
        command.args([tool.name, "--bootstrap-server", &self.bootstrap]);
        command.args(arguments);
        Process::spawn(tool.name, command).finish()
    }

    /// Runs both tools, which must leave with the same code, say the same, and complain with the same line.
    #[track_caller]
    fn same(&self, tool: Tool, arguments: &[&str]) -> String {
        let all = [&["--bootstrap-server", &self.bootstrap], arguments].concat();
        let (theirs, ours) = (self.kafka.run(tool.class, &all), self.ours(tool, arguments));
        assert_eq!(said(&ours), said(&theirs), "{arguments:?}");
        ours.stdout()
    }

    /// Writes a file for the tools.
    fn file(&self, name: &str, text: &str) -> String {
        let file = self.directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }
}

/// Exit code, standard output without stack traces, and the first complaint.
fn said(output: &Output) -> (Option<i32>, Vec<String>, Option<String>) {
    let is_trace = |line: &&str| {
        line.starts_with("\tat ") || line.starts_with("Caused by: ") || line.contains("\t... ")
    };
    let stdout = output.stdout();
    let mut lines: Vec<_> = stdout
        .lines()
        .filter(|line| !is_trace(line))
        .map(str::to_owned)
        .collect();
    if let Some(error) = lines.iter().position(|line| line.starts_with("Error: ")) {
        // The exception itself follows.
        lines.truncate(error + 1);
    }
    let stderr = output.stderr();
    let mut complaints = stderr.lines();
    let complaint = complaints.find(|line| !line.is_empty() && !line.starts_with('['));
    (output.status.code(), lines, complaint.map(str::to_owned))
}

fn row(partition: i32, replicas: &str) -> String {
    format!(r#"{{"topic":"t","partition":{partition},"replicas":[{replicas}]}}"#)
}

/// What has nothing to do with which broker it is.
#[test]
fn both_tools_say_the_same_of_an_apache_kafka() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let server = Server::with().kind(Kind::Kafka).start();
    create_topic(&server, "t", 2, &[]);
    let both = Both {
        kafka,
        bootstrap: server.bootstrap(),
        directory: TempDir::new().unwrap(),
    };
    elect(&both);
    refuse_elections(&both);
    refuse_moves(&both);
    let topics = both.file("topics", r#"{"topics":[{"topic":"t"}],"version":1}"#);
    let proposed = both.same(
        REASSIGN,
        &[
            "--generate",
            "--topics-to-move-json-file",
            &topics,
            "--broker-list",
            "0",
        ],
    );
    assert!(
        proposed.ends_with("\"log_dirs\":[\"any\"]}]}\n"),
        "{proposed}"
    );
    let moves = both.file(
        "moves",
        &format!(r#"{{"version":1,"partitions":[{}]}}"#, row(1, "0")),
    );
    let of_file =
        |action: &'static str| both.same(REASSIGN, &[action, "--reassignment-json-file", &moves]);
    assert!(
        of_file("--execute").ends_with("\nSuccessfully started partition reassignment for t-1\n")
    );
    assert!(of_file("--verify").contains("\nReassignment of partition t-1 is completed.\n"));
    of_file("--cancel");
    assert_eq!(
        both.same(REASSIGN, &["--list"]),
        "No partition reassignments found.\n"
    );
    let throttled = both.same(
        REASSIGN,
        &[
            "--execute",
            "--reassignment-json-file",
            &moves,
            "--throttle",
            "5000",
            "--additional",
        ],
    );
    assert!(throttled.contains("\nThe inter-broker throttle limit was set to 5000 B/s\n"));
    let cleared = of_file("--verify");
    assert!(
        cleared.ends_with("\nClearing topic-level throttles on topic t\n"),
        "{cleared}"
    );
}

fn elect(both: &Both) {
    let of_one = [
        "--election-type",
        "preferred",
        "--topic",
        "t",
        "--partition",
        "0",
    ];
    assert_eq!(
        both.same(ELECTION, &of_one),
        "Valid replica already elected for partitions t-0\n"
    );
    let missing = [
        "--election-type",
        "PREFERRED",
        "--topic",
        "t",
        "--partition",
        "9",
    ];
    assert!(
        both.same(ELECTION, &missing)
            .starts_with("Error completing leader election (PREFERRED) for partition: t-9: ")
    );
    let file = both.file(
        "partitions",
        r#"{"partitions":[{"topic":"t","partition":1}]}"#,
    );
    both.same(
        ELECTION,
        &["--election-type", "unclean", "--path-to-json-file", &file],
    );
    both.same(
        ELECTION,
        &["--election-type", "preferred", "--all-topic-partitions"],
    );
}

fn refuse_elections(both: &Both) {
    let refused: [&[&str]; 5] = [
        &[],
        &["--election-type", "preferred"],
        &["--election-type", "preferred", "--topic", "t"],
        &[
            "--election-type",
            "preferred",
            "--all-topic-partitions",
            "--partition",
            "1",
        ],
        &[
            "--election-type",
            "preferred",
            "--all-topic-partitions",
            "--topic",
            "t",
        ],
    ];
    for arguments in refused {
        both.same(ELECTION, arguments);
    }
    let twice = r#"{"topic":"t","partition":1}"#;
    let files = [
        r"{}".to_owned(),
        format!(r#"{{"partitions":[{twice},{twice}]}}"#),
    ];
    for text in files {
        let file = both.file("refused", &text);
        both.same(
            ELECTION,
            &["--election-type", "preferred", "--path-to-json-file", &file],
        );
    }
}

fn refuse_moves(both: &Both) {
    let refused: [&[&str]; 8] = [
        &[],
        &["--list", "--verify"],
        &["--execute"],
        &["--generate", "--broker-list", "0"],
        &["--list", "--throttle", "5"],
        &["--verify", "--reassignment-json-file", "x", "--additional"],
        &["--verify", "--reassignment-json-file", "/does/not/exist"],
        &[
            "--generate",
            "--topics-to-move-json-file",
            "/does/not/exist",
            "--broker-list",
            "0",
        ],
    ];
    for arguments in refused {
        both.same(REASSIGN, arguments);
    }
    let rows = [
        String::new(),
        row(0, ""),
        row(0, "0,0"),
        row(0, "7"),
        row(9, "0"),
        format!("{},{}", row(0, "0"), row(0, "0")),
        r#"{"topic":"gone","partition":0,"replicas":[0]}"#.to_owned(),
    ];
    for rows in rows {
        let file = both.file(
            "refused",
            &format!(r#"{{"version":1,"partitions":[{rows}]}}"#),
        );
        both.same(REASSIGN, &["--execute", "--reassignment-json-file", &file]);
    }
    let file = both.file("refused", &format!(r#"{{"partitions":[{}]}}"#, row(0, "7")));
    // Kafka's tool looks for broker 7 for a minute before it gives up taking its throttles back.
    let verify = [
        "--verify",
        "--preserve-throttles",
        "--reassignment-json-file",
        &file,
    ];
    assert!(both.same(REASSIGN, &verify).contains(
        "There is no active reassignment of partition t-0, but replica set is 0 rather than 7.\n"
    ));
    refuse_proposals(both);
}

fn refuse_proposals(both: &Both) {
    for text in [
        r#"{"topics":[{"topic":"gone"}]}"#,
        r#"{"topics":[{"topic":"t"},{"topic":"t"}]}"#,
    ] {
        let file = both.file("refused", text);
        both.same(
            REASSIGN,
            &[
                "--generate",
                "--topics-to-move-json-file",
                &file,
                "--broker-list",
                "0",
            ],
        );
    }
    let file = both.file("refused", r#"{"topics":[{"topic":"t"}]}"#);
    both.same(
        REASSIGN,
        &[
            "--generate",
            "--topics-to-move-json-file",
            &file,
            "--broker-list",
            "7",
        ],
    );
    both.same(
        REASSIGN,
        &[
            "--generate",
            "--topics-to-move-json-file",
            &file,
            "--broker-list",
            "0,0",
        ],
    );
}

#[test]
fn both_tools_say_the_same_of_elections_in_a_cluster_of_troupe() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let mut trio = Trio::start(&[("zookeeper.session.timeout.ms", "6000")]);
    create_replicated(&trio.brokers[0], "t", &[2, 1]);
    trio.brokers[1].kill();
    wait_for_leaders(&trio.brokers[0], "t", &[1]);
    let both = Both {
        kafka,
        bootstrap: trio.brokers[0].bootstrap(),
        directory: TempDir::new().unwrap(),
    };
    let preferred = [
        "--election-type",
        "preferred",
        "--topic",
        "t",
        "--partition",
        "0",
    ];
    let refused = both.same(ELECTION, &preferred);
    assert!(
        refused.contains("PreferredLeaderNotAvailableException"),
        "{refused}"
    );
    let unknown = [
        "--election-type",
        "unclean",
        "--topic",
        "none",
        "--partition",
        "0",
    ];
    both.same(ELECTION, &unknown);

    trio.brokers[1].restart();
    wait_for_isr(&trio.brokers[0], "t", &[1, 2]);
    let elected = both.ours(ELECTION, &preferred).succeeded().stdout();
    assert_eq!(
        elected,
        "Successfully completed leader election (PREFERRED) for partitions t-0\n"
    );
    assert_eq!(leaders(&trio.brokers[2], "t"), [2]);
    both.same(ELECTION, &preferred);
    both.same(
        ELECTION,
        &["--election-type", "preferred", "--all-topic-partitions"],
    );

    // The script of Kafka up to 2.x.
    let mut script = std::process::Command::new("bin/kafka-preferred-replica-election.sh");
    script.env("TROUPE", env!("CARGO_BIN_EXE_troupe"));
    script.args(["--zookeeper", &trio.service.connect()]);
    let old = Process::spawn("script", script).finish().succeeded();
    assert!(
        old.stderr()
            .starts_with("Hint: --zookeeper is of an older Kafka"),
        "{}",
        old.text()
    );
}

/// Every wrapper of these tools finds its tool.
#[test]
fn each_script_runs_its_tool() {
    for script in [
        "leader-election",
        "reassign-partitions",
        "preferred-replica-election",
    ] {
        let script = format!("bin/kafka-{script}.sh");
        let mut command = std::process::Command::new(Path::new(&script));
        command
            .env("TROUPE", env!("CARGO_BIN_EXE_troupe"))
            .arg("--help");
        let said = Process::spawn(&script, command).finish().succeeded();
        assert!(
            said.stdout().contains("Usage: troupe "),
            "{script}: {}",
            said.text()
        );
    }
}
