//! `troupe transactions`: what it says next to what Apache Kafka's own tool says, and what it does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use kafka_protocol::messages::TransactionalId;
use kafka_protocol::protocol::StrBytes;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use support::clients::create_topic;
use support::java::{Kafka, Release};
use support::process::{HANG_GUARD, Output, Process};
use support::records::{Producer, transactional_batch_of};
use support::requests::{PRODUCE, offset_at, produce, produced, stable_offset};
use support::server::{Server, troupe};
use support::wire::Wire;

const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
/// A producer that no coordinator knows.
const STRANGER: i64 = 4_000_000;

fn ours(server: &Server, arguments: &[&str]) -> Output {
    let mut command = troupe();
    command.args(["transactions", "--bootstrap-server", &server.bootstrap()]);
    command.args(arguments);
    Process::spawn("transactions", command).finish()
}

fn apaches(kafka: &Kafka, server: &Server, arguments: &[&str]) -> Output {
    let bootstrap = server.bootstrap();
    let all = [&["--bootstrap-server", &bootstrap], arguments].concat();
    kafka.run(TRANSACTIONS, &all)
}

/// The lines of an output in any order, without what depends on the moment: how long a transaction has been open.
fn lines(output: &Output) -> Vec<String> {
    let stdout = output.stdout();
    let mut lines = stdout.lines();
    let headers: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let duration = headers
        .iter()
        .position(|header| header.trim() == "TransactionDurationMs");
    let row = |line: &str| {
        let cells = line.split('\t').enumerate();
        let told = cells.map(|(column, cell)| match Some(column) == duration {
            true if cell.trim() != "None" => "…".to_owned(),
            _ => in_order(cell),
        });
        told.collect::<Vec<_>>().join("\t")
    };
    let mut rows: Vec<String> = lines.map(row).collect();
    rows.sort();
    rows.insert(0, headers.join("\t"));
    rows
}

/// Puts what commas separate in order: Java's sets have none.
fn in_order(cell: &str) -> String {
    let mut parts: Vec<&str> = cell.trim_end().split(',').collect();
    parts.sort_unstable();
    format!("{:<width$}", parts.join(","), width = cell.chars().count())
}

/// Runs both tools, which must say the same.
#[track_caller]
fn same(kafka: &Kafka, server: &Server, arguments: &[&str]) -> Vec<String> {
    let (ours, theirs) = (
        ours(server, arguments).succeeded(),
        apaches(kafka, server, arguments).succeeded(),
    );
    assert_eq!(lines(&ours), lines(&theirs), "{arguments:?}");
    lines(&ours)
}

/// Runs both tools, which must fail with the same words.
#[track_caller]
fn both_fail(kafka: &Kafka, server: &Server, arguments: &[&str]) {
    let (ours, theirs) = (ours(server, arguments), apaches(kafka, server, arguments));
    assert_eq!(ours.status.code(), Some(1), "{}", ours.text());
    assert_eq!(theirs.status.code(), Some(1), "{}", theirs.text());
    let said = theirs.stderr();
    let told = said.lines().find(|line| !line.is_empty()).unwrap();
    assert_eq!(ours.stderr().trim_end(), told, "{arguments:?}");
}

/// A server with topic `t` of two partitions.
fn start() -> Server {
    let server = Server::with()
        // So that a transaction can be made to hang.
        .set("transaction.partition.verification.enable", false)
        .start();
    create_topic(&server, "t", 2, &[]);
    server
}

fn transactional(server: &Server, id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", server.bootstrap())
        .set("transactional.id", id)
        .create()
        .unwrap();
    producer.init_transactions(HANG_GUARD).unwrap();
    producer
}

fn send(producer: &BaseProducer, partition: i32) {
    let record = BaseRecord::<(), str>::to("t").partition(partition);
    let sent = producer.send(record.payload("value"));
    sent.map_err(|(error, _)| error).unwrap();
    producer.flush(HANG_GUARD).unwrap();
}

/// Leaves one transaction committed, one open and one that is as good as not there.
fn three(server: &Server) -> Vec<BaseProducer> {
    let ids = ["committed", "open", "a transactional id that is long"];
    let producers: Vec<_> = ids.iter().map(|id| transactional(server, id)).collect();
    producers[0].begin_transaction().unwrap();
    send(&producers[0], 0);
    producers[0].commit_transaction(HANG_GUARD).unwrap();
    producers[1].begin_transaction().unwrap();
    send(&producers[1], 0);
    send(&producers[1], 1);
    producers
}

/// Writes the record of a transaction that no coordinator knows of, long ago; returns its offset.
fn hang(server: &Server, partition: i32) -> i64 {
    let stranger = Producer {
        id: STRANGER,
        epoch: 3,
        sequence: 0,
    };
    let records = transactional_batch_of(&[b"hangs"], stranger);
    let request = produce("t", partition, -1, records)
        .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("stranger"))));
    let response = Wire::connect(server).call(PRODUCE, &request);
    assert_eq!(produced(&response).error_code, 0);
    produced(&response).base_offset
}

#[test]
fn both_tools_say_the_same() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let server = start();
    let listed = same(&kafka, &server, &["list"]);
    assert_eq!(listed.len(), 1, "headers alone: {listed:?}");
    let _producers = three(&server);
    assert_eq!(same(&kafka, &server, &["list"]).len(), 4);
    let long = same(&kafka, &server, &["list", "--duration-filter", "3600000"]);
    assert!(!long.iter().any(|row| row.starts_with("open")), "{long:?}");
    for id in ["committed", "open", "a transactional id that is long"] {
        same(&kafka, &server, &["describe", "--transactional-id", id]);
    }
    for (partition, producers) in [("0", 2), ("1", 1)] {
        let of = [
            "describe-producers",
            "--topic",
            "t",
            "--partition",
            partition,
        ];
        assert_eq!(same(&kafka, &server, &of).len(), 1 + producers);
    }
    both_fail(
        &kafka,
        &server,
        &["describe", "--transactional-id", "nobody"],
    );
    both_fail(&kafka, &server, &["find-hanging"]);
    both_fail(
        &kafka,
        &server,
        &["find-hanging", "--broker-id", "0", "--partition", "0"],
    );
    let at = ["--topic", "t", "--partition", "0"];
    for arguments in [
        &[][..],
        &["--producer-id", "1"],
        &["--producer-id", "1", "--producer-epoch", "0"],
        &["--start-offset", "77"],
    ] {
        both_fail(&kafka, &server, &[&["abort"], &at[..], arguments].concat());
    }
}

#[test]
fn a_hanging_transaction_is_found_and_aborted() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let server = start();
    let _producers = three(&server);
    let offset = hang(&server, 1);
    for search in [
        &["find-hanging", "--topic", "t"][..],
        &["find-hanging", "--topic", "t", "--partition", "1"],
    ] {
        let found = same(&kafka, &server, search);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].contains(&STRANGER.to_string()), "{found:?}");
    }
    let end = |isolated: bool| {
        let mut wire = Wire::connect(&server);
        match isolated {
            true => stable_offset(&mut wire, "t", 1),
            false => offset_at(&mut wire, "t", 1, -1),
        }
    };
    let before = end(false);
    let start_offset = offset.to_string();
    let abort = [
        "abort",
        "--topic",
        "t",
        "--partition",
        "1",
        "--start-offset",
    ];
    let aborted = ours(&server, &[&abort[..], &[&start_offset]].concat());
    assert_eq!(aborted.succeeded().text(), "\n--- stderr\n");
    assert_eq!(end(false), before + 1, "a marker");
    let found = same(&kafka, &server, &["find-hanging", "--topic", "t"]);
    assert_eq!(found.len(), 1);
    // What the open transaction of somebody else holds back stays so.
    assert_eq!(end(true), 0);
    both_fail(&kafka, &server, &[&abort[..], &[&start_offset]].concat());
}
