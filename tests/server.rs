//! The program as a person or a script meets it: what it prints, what it refuses, how it stops.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::net::{TcpListener, TcpStream};
use std::path::Path;

use kafka_protocol::messages::MetadataRequest;
use rdkafka::producer::BaseRecord;
use rustix::process::Signal;
use support::clients::{Producer, create_topic, read_whole};
use support::process::Process;
use support::server::{Server, announced_ports, troupe};
use support::wire::Wire;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn says_where_it_listens_and_keeps_its_data() {
    let server = Server::start();
    assert!(
        server.port() != 0 && server.zookeeper_port() != 0,
        "{}",
        server.said()
    );
    // Where its data is, and what to type next.
    server.wait_until_said(text(server.directory()));
    server.wait_until_said("troupe topics --create");
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_ok());
    assert!(TcpStream::connect(("127.0.0.1", server.zookeeper_port())).is_ok());
    let properties =
        std::fs::read_to_string(server.log_directory().join("meta.properties")).unwrap();
    for key in ["version=0", "broker.id=0", "cluster.id="] {
        assert!(
            properties.lines().any(|line| line.starts_with(key)),
            "{properties}"
        );
    }
}

#[test]
fn is_the_default_command() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = troupe();
    command.args([
        "--data",
        text(directory.path()),
        "--port",
        "0",
        "--zookeeper-port",
        "0",
    ]);
    let process = Process::spawn("troupe", command);
    process
        .wait_for(|stdout, _| announced_ports(stdout, true))
        .unwrap();
    assert!(process.terminate().status.success());
}

#[test]
fn reads_a_properties_file_and_overrides() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("server.properties");
    let logs = directory.path().join("kafka-logs");
    let lines = format!(
        "broker.id=7\nlisteners=PLAINTEXT://127.0.0.1:0\nlog.dirs={}\nnum.partitions=4\nno.such.key=1\n\
         num.recovery.threads.per.data.dir=1\n",
        logs.display()
    );
    std::fs::write(&file, lines).unwrap();
    let mut command = troupe();
    command.args([
        "server",
        text(&file),
        "--zookeeper-port",
        "0",
        "--override",
        "num.partitions=3",
    ]);
    command.env("KAFKA_MESSAGE_MAX_BYTES", "3000");
    command.current_dir(directory.path());
    let process = Process::spawn("troupe", command);
    let (port, _) = process
        .wait_for(|stdout, _| announced_ports(stdout, true))
        .unwrap();
    let warning = process
        .wait_for(|_, stderr| {
            stderr
                .lines()
                .find(|line| line.contains("no.such.key"))
                .map(str::to_owned)
        })
        .expect("a warning about the unknown key");
    assert!(
        warning.contains("server.properties") && warning.contains('5'),
        "file and line are named: {warning}"
    );

    let mut wire = Wire::connect_to("127.0.0.1", port);
    let metadata = wire.call(9, &MetadataRequest::default().with_topics(None));
    assert_eq!(metadata.brokers[0].node_id.0, 7);
    let asked = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
        .with_name(Some(support::requests::topic_name("made")));
    let made = MetadataRequest::default()
        .with_topics(Some(vec![asked]))
        .with_allow_auto_topic_creation(true);
    let metadata = wire.call(9, &made);
    assert_eq!(
        metadata.topics[0].error_code, 0,
        "usable when it is first answered"
    );
    assert_eq!(
        metadata.topics[0].partitions.len(),
        3,
        "the override wins over the file"
    );
    assert!(logs.join("made-2").is_dir());
    let large = support::records::batch(&[&[b'x'; 5000]]);
    let response = wire.call(
        support::requests::PRODUCE,
        &support::requests::produce("made", 0, 1, large),
    );
    assert_eq!(
        support::requests::produced(&response).error_code,
        10,
        "the limit of the environment holds"
    );
    assert!(process.terminate().status.success());
}

#[test]
fn a_signal_ends_it_cleanly() {
    let mut server = Server::start();
    create_topic(&server, "kept", 1, &[]);
    let directory = server.log_directory();
    let clean = directory.join(".kafka_cleanshutdown");
    for (round, signal) in [Signal::TERM, Signal::INT].into_iter().enumerate() {
        let mut producer = Producer::new(&server, &[("enable.idempotence", "true")]);
        producer.send(
            BaseRecord::<[u8], [u8]>::to("kept")
                .partition(0)
                .payload(b"x"),
        );
        producer.flush_all_taken();
        assert!(!clean.exists(), "a running broker is not shut down");
        // A client stays connected: it is not waited for.
        let _idle = Wire::connect(&server);
        let output = server.signal(signal);
        assert!(output.status.success(), "{signal:?}: {}", output.text());
        assert!(
            clean.exists(),
            "{signal:?} leaves the mark of a clean shutdown"
        );
        let checkpoint =
            std::fs::read_to_string(directory.join("recovery-point-offset-checkpoint")).unwrap();
        let expected = format!("kept 0 {}", round + 1);
        assert!(
            checkpoint.lines().any(|line| line == expected),
            "{expected}: {checkpoint}"
        );
        server.restart();
        assert_eq!(read_whole(&server, "kept", 0, &[]).len(), round + 1);
    }
    server.kill();
    assert!(!clean.exists(), "a killed broker leaves none");
}

#[test]
fn advertises_the_address_that_the_client_reached() {
    let server = Server::start();
    let mut hosts = vec![("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")];
    if TcpListener::bind("[::1]:0").is_ok() {
        hosts.push(("::1", "::1"));
    }
    for (reached, advertised) in hosts {
        let metadata =
            Wire::connect_to(reached, server.port()).call(9, &MetadataRequest::default());
        assert_eq!(metadata.brokers[0].host.as_str(), advertised);
        assert_eq!(metadata.brokers[0].port, i32::from(server.port()));
    }
    let fixed = Server::with()
        .set("advertised.listeners", "PLAINTEXT://broker.example:9999")
        .start();
    let metadata = Wire::connect(&fixed).call(9, &MetadataRequest::default());
    assert_eq!(
        (metadata.brokers[0].host.as_str(), metadata.brokers[0].port),
        ("broker.example", 9999)
    );
}

#[test]
fn coordination_is_laid_out_as_kafkas() {
    let server = Server::start();
    create_topic(&server, "laid-out", 2, &[("retention.ms", "1234567")]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let address = format!("127.0.0.1:{}", server.zookeeper_port());
    let client = runtime
        .block_on(zookeeper_client::Client::connect(&address))
        .unwrap();
    let json = |path: &str| -> serde_json::Value {
        let (data, _) = runtime
            .block_on(client.get_data(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_slice(&data).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let registration = json("/brokers/ids/0");
    assert!(registration["host"].is_string(), "{registration}");
    assert_eq!(registration["port"], server.port());
    assert!(
        registration["endpoints"][0]
            .as_str()
            .unwrap()
            .starts_with("PLAINTEXT://"),
        "{registration}"
    );
    assert_eq!(json("/controller")["brokerid"], 0);
    let topic = json("/brokers/topics/laid-out");
    assert_eq!(topic["partitions"], serde_json::json!({"0": [0], "1": [0]}));
    assert!(topic["topic_id"].is_string(), "{topic}");
    let state = json("/brokers/topics/laid-out/partitions/1/state");
    assert_eq!(
        (&state["leader"], &state["isr"]),
        (&serde_json::json!(0), &serde_json::json!([0]))
    );
    assert_eq!(
        json("/config/topics/laid-out")["config"],
        serde_json::json!({"retention.ms": "1234567"})
    );
}
