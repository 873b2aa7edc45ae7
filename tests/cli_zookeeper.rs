//! `troupe zookeeper`: the coordination service alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use support::process::Process;
use support::server::{Server, troupe};
use support::zookeeper::{Service, four_letter_word};
use tempfile::TempDir;

fn start(file: &Path, overrides: &[&str]) -> Service {
    Service::try_start(Some(file), overrides).unwrap_or_else(|said| panic!("{said}"))
}

fn properties(directory: &Path, more: &str) -> std::path::PathBuf {
    let file = directory.join("zookeeper.properties");
    let data = directory.join("data");
    let lines = format!("dataDir={}\nclientPort=0\n{more}", data.display());
    std::fs::write(&file, lines).unwrap();
    file
}

#[test]
fn it_says_where_it_is_obeys_its_file_and_stops_in_order() {
    let directory = TempDir::new().unwrap();
    let file = properties(
        directory.path(),
        "tickTime=2000\nmaxClientCnxns=7\nnonsense=1\nsnapCount=5\n4lw.commands.whitelist=ruok,conf\n",
    );
    let service = start(&file, &["maxSessionTimeout=30000"]);
    let data = directory.path().join("data");
    let said = service.process.said();
    let expected = format!(
        "ZooKeeper protocol on localhost:{port}\nData in {}. Next: troupe server --override zookeeper.connect=localhost:{port}\n",
        data.display(),
        port = service.port
    );
    assert!(said.starts_with(&expected), "{said}");
    let unknown = format!(
        "unknown configuration key nonsense ({}, line 5)",
        file.display()
    );
    assert!(said.contains(&unknown), "{said}");
    assert!(
        said.contains("accepted without effect: snapCount"),
        "{said}"
    );

    assert_eq!(four_letter_word(service.port, "ruok").unwrap(), "imok");
    assert_eq!(
        four_letter_word(service.port, "stat").unwrap(),
        "stat is not executed because it is not in the whitelist.\n"
    );
    let conf = four_letter_word(service.port, "conf").unwrap();
    for line in [
        format!("clientPort={}", service.port),
        format!("dataDir={}", data.display()),
        "tickTime=2000".to_owned(),
        "maxClientCnxns=7".to_owned(),
        "minSessionTimeout=4000".to_owned(),
        "maxSessionTimeout=30000".to_owned(),
    ] {
        assert!(conf.lines().any(|said| said == line), "{line} in {conf}");
    }
    let output = service.process.terminate().succeeded();
    assert!(output.stderr().contains("stopped"), "{}", output.stderr());
}

#[test]
fn a_second_one_is_told_who_has_the_directory_or_the_port() {
    let directory = TempDir::new().unwrap();
    let file = properties(directory.path(), "");
    let service = start(&file, &[]);
    let holder = format!("process {} (troupe)", service.process.id());
    let said = Service::try_start(Some(&file), &[]).err().unwrap();
    let expected = format!(
        "{} is in use by {holder};",
        directory.path().join("data").display()
    );
    assert!(said.contains(&expected), "{said}");
    let port = format!("clientPort={}", service.port);
    let other = TempDir::new().unwrap();
    let said = Service::try_start(Some(&properties(other.path(), "")), &[&port])
        .err()
        .unwrap();
    let expected = format!("port {} is held by {holder}", service.port);
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn bad_values_and_ensembles_are_refused_with_their_place() {
    let directory = TempDir::new().unwrap();
    let file = properties(directory.path(), "tickTime=soon\n");
    let said = Service::try_start(Some(&file), &[]).err().unwrap();
    let expected = format!(
        "troupe: {}, line 3: Invalid value soon for configuration tickTime: Not a number of type INT",
        file.display()
    );
    assert!(said.contains(&expected), "{said}");
    let servers = "server.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n";
    let file = properties(directory.path(), servers);
    let said = Service::try_start(Some(&file), &[]).err().unwrap();
    let expected = format!(
        "troupe: {}, line 3: server.1 is one of 3 servers, and Troupe serves from one process alone",
        file.display()
    );
    assert!(said.contains(&expected), "{said}");
    // Apache ZooKeeper takes one server for none, too.
    let file = properties(directory.path(), "server.1=localhost:2888:3888\n");
    start(&file, &[]);
}

/// A broker does not care in whose process its coordination is, and finds it again after it was away.
#[test]
fn a_broker_runs_on_it() {
    let directory = TempDir::new().unwrap();
    let file = properties(directory.path(), "");
    let service = start(&file, &[]);
    let connect = format!("127.0.0.1:{}/kafka", service.port);
    let mut server = Server::with().set("zookeeper.connect", connect).start();
    let mut command = troupe();
    let bootstrap = server.bootstrap();
    command.args(["topics", "--bootstrap-server", &bootstrap]);
    command.args(["--create", "--topic", "kept"]);
    Process::spawn("troupe topics", command)
        .finish()
        .succeeded();
    server.terminate().succeeded();

    let port = format!("clientPort={}", service.port);
    service.process.kill();
    let service = start(&file, &[&port]);
    server.restart();
    let mut command = troupe();
    let bootstrap = server.bootstrap();
    command.args(["topics", "--bootstrap-server", &bootstrap, "--list"]);
    let listed = Process::spawn("troupe topics", command)
        .finish()
        .succeeded();
    assert_eq!(listed.stdout(), "kept\n");
    drop(service);
}
