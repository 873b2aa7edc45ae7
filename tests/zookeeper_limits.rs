//! The edges of the coordination service: its limits, what it does not know, its words for operators, and what its clients
//! go through when it is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::java::Jars;
use support::process::{HANG_GUARD, Process};
use support::python;
use support::server::{Kind, Server};
use support::zookeeper::{Apache, Client, Op, Service, four_letter_word, open_acl};
use tempfile::TempDir;
use troupe_protocol::zookeeper::requests::op;

const TIMEOUT_MS: i32 = 20_000;
const NO_NODE: i32 = -101;
const UNIMPLEMENTED: i32 = -6;

/// Starts a service with settings of its own.
fn service(settings: &[&str]) -> (Service, TempDir) {
    let directory = TempDir::new().unwrap();
    let data = format!("dataDir={}", directory.path().display());
    let settings = [&[&data, "clientPort=0"], settings].concat();
    let service = Service::try_start(None, &settings).unwrap_or_else(|said| panic!("{said}"));
    (service, directory)
}

fn create(path: &str, data: &[u8], flags: i32) -> Op {
    Op::Create {
        code: op::CREATE,
        path: path.to_owned(),
        data: Some(data.to_vec()),
        acl: open_acl(),
        flags,
        ttl_ms: 0,
    }
}

#[test]
fn what_it_does_not_know_is_answered_and_ends_nothing() {
    let (service, _directory) = service(&[]);
    let mut client = Client::connect(service.port, TIMEOUT_MS);
    for code in [10, 23, 77, 99, 108, 1_000, i32::MAX, -2, -100] {
        let reply = client.call(&Op::Raw(code, vec![1, 2, 3]));
        assert_eq!(reply.error, UNIMPLEMENTED, "operation {code}");
    }
    assert_eq!(client.call(&create("/after", b"", 0)).error, 0);
}

/// What kazoo sees of a service with three connections at most, and requests of 10,000 bytes.
#[test]
fn kazoo_meets_the_limits() {
    let Some(mut command) = python::program("zookeeper_limits.py") else {
        return;
    };
    let limits = [
        "maxClientCnxns=3",
        "jute.maxbuffer=10000",
        "globalOutstandingLimit=2",
        "minSessionTimeout=5000",
        "maxSessionTimeout=15000",
    ];
    let (service, _directory) = service(&limits);
    command.arg(service.connect());
    let said = Process::spawn("kazoo", command).finish().succeeded();
    assert_eq!(said.stdout().matches("ok ").count(), 4, "{}", said.text());
}

/// The session and its watches outlive a `kill -9` of the service; what happened before the client is back is told first.
#[test]
fn zookeepers_own_client_goes_on_when_the_service_is_killed() {
    let Some(jars) = Jars::find("zookeeper-3.9") else {
        return;
    };
    let mut server = Server::with().kind(Kind::Troupe).start();
    let mut command = jars.program("Reconnection.java");
    command.arg(format!("127.0.0.1:{}", server.zookeeper_port()));
    let client = Process::spawn("zookeeper client", command);
    let said = |text: &'static str| {
        let found = client.wait_for(|stdout, _| stdout.contains(text).then_some(()));
        found.unwrap_or_else(|said| panic!("{text}: {said}"));
    };
    said("ready");

    client.signal(Signal::STOP);
    server.kill();
    server.restart();
    let mut other = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    for change in [
        Op::SetData("/again".to_owned(), Some(b"new".to_vec()), -1),
        create("/again/later", b"", 0),
        Op::Delete("/again/doomed".to_owned(), -1),
    ] {
        assert_eq!(other.call(&change).error, 0, "{change:?}");
    }
    client.signal(Signal::CONT);
    said("caught up");
    // One-shot watches are used up now, the recursive one is not.
    let change = Op::SetData("/again/later".to_owned(), Some(b"x".to_vec()), -1);
    assert_eq!(other.call(&change).error, 0);
    let said = client.finish().succeeded().stdout();
    let expected = "ready\n\
        NodeChildrenChanged /again\nNodeCreated /again/later\nNodeDataChanged /again\nNodeDeleted /again/doomed\n\
        caught up\nrecursive NodeDataChanged /again/later\nthe same session, of new data\nrare operations\n";
    assert_eq!(said, expected);
}

#[test]
fn all_nodes_of_an_expired_session_go_in_one_transaction() {
    let (service, _directory) = service(&[]);
    let mut watcher = Client::connect(service.port, TIMEOUT_MS);
    let mut silent = Client::connect(service.port, 6_000);
    for parent in ["/a", "/b"] {
        assert_eq!(watcher.call(&create(parent, b"", 0)).error, 0);
        for name in ["one", "two"] {
            let path = format!("{parent}/{name}");
            assert_eq!(silent.call(&create(&path, b"", 1)).error, 0);
            assert_eq!(watcher.call(&Op::Exists(path, true)).error, 0);
        }
    }
    let mut gone = BTreeSet::new();
    for _ in 0..4 {
        let event = watcher.receive().expect("an event");
        assert!(event.is_event(), "{}", event.text());
        gone.insert(event.text());
    }
    assert_eq!(gone.len(), 4, "{gone:?}");
    let mut pzxid = |path: &str| {
        let stat = watcher
            .call(&Op::Exists(path.to_owned(), false))
            .text()
            .to_owned();
        let at = stat.find("pzxid ").expect("a pzxid in the Stat");
        stat[at..].split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(pzxid("/a"), pzxid("/b"));
    assert_eq!(
        watcher.call(&Op::Exists("/a/one".to_owned(), false)).error,
        NO_NODE
    );
}

/// A client that sends as fast as it can has to wait while the others are served.
#[test]
fn requests_beyond_the_limit_of_all_wait_and_are_answered() {
    let (service, _directory) = service(&["globalOutstandingLimit=1"]);
    let mut setup = Client::connect(service.port, TIMEOUT_MS);
    assert_eq!(setup.call(&create("/busy", b"", 0)).error, 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(service.port, TIMEOUT_MS);
                for _ in 0..500 {
                    client
                        .send(&Op::SetData("/busy".to_owned(), None, -1))
                        .unwrap();
                }
                for _ in 0..500 {
                    assert_eq!(client.receive().unwrap().error, 0);
                }
            });
        }
    });
    let stat = setup.call(&Op::Exists("/busy".to_owned(), false));
    assert!(stat.text().contains("versions (2000,"), "{}", stat.text());
}

/// What an operator asks, with one client that has an ephemeral node and two watches.
#[test]
fn the_words_for_operators_are_answered_as_by_apache_zookeeper() {
    let Some(apache) = Apache::start() else {
        return;
    };
    let (service, _directory) = service(&["maxClientCnxns=0"]);
    let (ours, theirs) = (words(service.port), words(apache.port()));
    for ((word, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        match *word {
            "mntr" | "conf" | "envi" => {
                let (ours, theirs) = (names(ours), names(theirs));
                let unknown: Vec<_> = ours.difference(&theirs).collect();
                assert!(unknown.is_empty() && ours.len() > 3, "{word}: {unknown:?}");
            }
            "srvr" | "stat" | "cons" => assert_eq!(names(ours), names(theirs), "{word}"),
            "dump" => assert_eq!(ephemerals(ours), ephemerals(theirs)),
            _ => assert_eq!(ours, theirs, "{word}"),
        }
    }
}

/// Returns what is said to each word, without the number of the session.
fn words(port: u16) -> Vec<(&'static str, String)> {
    const WORDS: [&str; 14] = [
        "ruok", "srvr", "stat", "mntr", "conf", "cons", "dump", "envi", "isro", "wchs", "wchc",
        "wchp", "crst", "srst",
    ];
    let mut client = Client::connect(port, TIMEOUT_MS);
    assert_eq!(client.call(&create("/eph", b"", 1)).error, 0);
    assert_eq!(client.call(&Op::GetData("/eph".to_owned(), true)).error, 0);
    assert_eq!(
        client.call(&Op::Exists("/none".to_owned(), true)).error,
        NO_NODE
    );
    let id = format!("0x{:x}", client.session.id);
    let ask = |word| {
        let answer = four_letter_word(port, word).unwrap();
        (word, answer.replace(&id, "ID"))
    };
    WORDS.into_iter().map(ask).collect()
}

/// The names of the lines, which are before a colon, a tabulator, an equals sign or a bracket.
fn names(answer: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let end = line.find([':', '\t', '=', '[']).unwrap_or(line.len());
        line[..end].trim().to_owned()
    };
    let names = answer.lines().map(name);
    names.filter(|name| !name.is_empty()).collect()
}

fn ephemerals(dump: &str) -> Vec<&str> {
    dump.lines()
        .skip_while(|line| !line.starts_with("ephemeral nodes dump"))
        .take_while(|line| !line.starts_with("Connections dump"))
        .collect()
}

/// A connection too many is gone at once, and a place that is left is free again.
#[test]
fn a_place_that_a_client_leaves_is_free_again() {
    let (service, _directory) = service(&["maxClientCnxns=2"]);
    let one = Client::connect(service.port, TIMEOUT_MS);
    let mut two = Client::connect(service.port, TIMEOUT_MS);
    assert!(Client::try_connect(service.port, TIMEOUT_MS).is_err());
    drop(one);
    let deadline = Instant::now() + HANG_GUARD;
    while Client::try_connect(service.port, TIMEOUT_MS).is_err() {
        assert!(Instant::now() < deadline, "the place is not free");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(two.call(&create("/two", b"", 0)).error, 0);
}
