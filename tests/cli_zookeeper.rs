//! `troupe zookeeper`: the coordination service alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::json;
use support::process::Process;
use support::server::{Server, troupe};
use support::zookeeper::{Client, Op, Service, four_letter_word, open_acl};
use tempfile::TempDir;
use troupe_protocol::zookeeper::requests::op;

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

fn http(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(port: u16, path: &str) -> (String, String) {
    let answer = http(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn admin(port: u16, command: &str) -> serde_json::Value {
    let (head, body) = get(port, &format!("/commands/{command}"));
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    serde_json::from_str(&body).unwrap()
}

/// With the names and the nesting that the admin server of ZooKeeper 3.9 answered when it was asked the same.
#[test]
fn the_admin_server_answers_when_it_is_asked_for() {
    let directory = TempDir::new().unwrap();
    let file = properties(
        directory.path(),
        "admin.enableServer=true\nadmin.serverPort=0\nadmin.serverAddress=127.0.0.1\ntickTime=2000\n",
    );
    let service = start(&file, &[]);
    let said = service.process.said();
    let line = said
        .lines()
        .find(|line| line.starts_with("Admin commands on "))
        .unwrap();
    let address = line.strip_suffix("/commands").unwrap();
    let port = address.rsplit(':').next().unwrap().parse().unwrap();

    let mut client = Client::connect(service.port, 10_000);
    let session = client.session.id;
    let create = Op::Create {
        code: op::CREATE,
        path: "/eph".to_owned(),
        data: None,
        acl: open_acl(),
        flags: 1,
        ttl_ms: 0,
    };
    assert_eq!(client.call(&create).error, 0);
    assert_eq!(client.call(&Op::GetData("/eph".to_owned(), true)).error, 0);

    assert_eq!(
        admin(port, "ruok"),
        json!({"command": "ruok", "error": null})
    );
    let expected = json!({"read_only": false, "command": "is_read_only", "error": null});
    assert_eq!(admin(port, "isro"), expected);
    let configuration = admin(port, "configuration");
    assert_eq!(configuration["client_port"], service.port);
    assert_eq!(configuration["max_session_timeout"], 40_000);
    let stats = admin(port, "stats");
    assert_eq!(stats["server_stats"]["num_alive_client_connections"], 1);
    assert_eq!(stats["connections"][0]["session_id"], session);
    assert_eq!(admin(port, "monitor")["ephemerals_count"], 1);
    let watches = &admin(port, "watches")["session_id_to_watched_paths"];
    assert_eq!(watches[session.to_string()], json!(["/eph"]));
    assert_eq!(
        admin(port, "wchp")["path_to_session_ids"]["/eph"],
        json!([session])
    );
    assert_eq!(admin(port, "watch_summary")["num_total_watches"], 1);
    let dump = &admin(port, "dump")["session_id_to_ephemeral_paths"];
    assert_eq!(dump[session.to_string()], json!(["/eph"]));
    let expected = json!({"command": "nonsense", "error": "Unknown command: nonsense"});
    assert_eq!(admin(port, "nonsense"), expected);

    let (head, links) = get(port, "/commands");
    assert!(head.contains("content-type: text/html"), "{head}");
    assert!(
        links.contains("<a href=\"/commands/monitor\">monitor</a>"),
        "{links}"
    );
    assert!(get(port, "/").0.starts_with("HTTP/1.1 404"));
    let post = http(
        port,
        "POST /commands/ruok HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    assert!(http(port, "\u{0}nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
}
