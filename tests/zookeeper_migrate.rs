//! `troupe zookeeper-migrate`: from the embedded service to Apache ZooKeeper and back, with a broker that goes along.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use rdkafka::producer::BaseRecord;
use support::clients::{Producer, assign_from_beginning, consumer, create_topic, read};
use support::process::{Output, Process};
use support::server::{Kind, Server, troupe};
use support::zookeeper::{Apache, Auth, Client, Op, Service, open_acl};
use troupe_protocol::zookeeper::requests::op;
use troupe_protocol::zookeeper::{Acl, Id};

fn migrate(from: &str, to: &str, flags: &[&str]) -> Output {
    let mut command = troupe();
    command.args(["zookeeper-migrate", "--from", from, "--to", to]);
    command.args(flags);
    Process::spawn("troupe zookeeper-migrate", command).finish()
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", output.text());
    output.stderr()
}

fn auth() -> Op {
    Op::Auth(Auth {
        scheme: "digest",
        proof: "user:password",
    })
}

fn create(path: &str, data: Option<&[u8]>) -> Op {
    Op::Create {
        code: op::CREATE,
        path: path.to_owned(),
        data: data.map(<[u8]>::to_vec),
        acl: open_acl(),
        flags: 0,
        ttl_ms: 0,
    }
}

fn create_as(path: &str, code: i32, flags: i32, ttl_ms: i64, acl: Vec<Acl>) -> Op {
    Op::Create {
        code,
        path: path.to_owned(),
        data: Some(b"data".to_vec()),
        acl,
        flags,
        ttl_ms,
    }
}

fn acl(perms: i32, scheme: &str, id: &str) -> Vec<Acl> {
    vec![Acl {
        perms,
        id: Id::new(scheme, id),
    }]
}

#[track_caller]
fn done(client: &mut Client, op: &Op) {
    let reply = client.call(op);
    assert_eq!(reply.error, 0, "{op:?}: {}", reply.text());
}

/// Whatever a service says of some paths: data, ACL, kind, children.
fn shown(port: u16, paths: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut client = Client::connect(port, 10_000);
    done(&mut client, &auth());
    let mut ask = |path: &str| {
        let replies = [
            Op::GetData(path.to_owned(), false),
            Op::GetAcl(path.to_owned()),
            Op::GetChildren(path.to_owned(), false),
        ];
        replies.map(|op| {
            // What comes after it is of the moment: transactions, times, versions.
            let text = client.call(&op).text();
            text.split(" {czxid").next().unwrap().to_owned()
        })
    };
    let shown = paths
        .iter()
        .map(|path| ((*path).to_owned(), ask(path).to_vec()))
        .collect();
    client.call(&Op::Close);
    shown
}

const PATHS: [&str; 10] = [
    "/app",
    "/app/null",
    "/app/empty",
    "/app/bytes",
    "/app/closed",
    "/app/closed/below",
    "/app/container",
    "/app/container/child",
    "/app/brief",
    "/app/eph",
];

fn make_tree(client: &mut Client) {
    done(client, &auth());
    done(client, &create("/app", None));
    done(client, &create("/app/null", None));
    done(client, &create("/app/empty", Some(b"")));
    done(client, &create("/app/bytes", Some(&[0, 255, 10])));
    done(client, &create("/app/closed", Some(b"secret")));
    done(client, &create("/app/closed/below", Some(b"open")));
    done(
        client,
        &Op::SetAcl("/app/closed".to_owned(), acl(31, "auth", ""), -1),
    );
    done(
        client,
        &create_as("/app/container", op::CREATE_CONTAINER, 4, 0, open_acl()),
    );
    done(client, &create("/app/container/child", None));
    done(
        client,
        &create_as(
            "/app/brief",
            op::CREATE_TTL,
            5,
            3_600_000,
            acl(1, "world", "anyone"),
        ),
    );
    done(client, &create_as("/app/eph", op::CREATE, 1, 0, open_acl()));
    for _ in 0..3 {
        done(
            client,
            &create_as("/app/seq-", op::CREATE, 2, 0, open_acl()),
        );
    }
    done(client, &Op::Delete("/app/seq-0000000008".to_owned(), -1));
}

#[test]
fn a_tree_goes_to_apache_zookeeper_and_back() {
    let Some(apache) = Apache::start() else {
        return;
    };
    let (first, last) = (Service::start(), Service::start());
    let mut client = Client::connect(first.port, 30_000);
    make_tree(&mut client);
    let there = format!("127.0.0.1:{}", apache.port());
    let with_auth = ["--auth", "digest:user:password"];
    let out = migrate(&first.connect(), &there, &with_auth).succeeded();
    assert!(
        out.stdout()
            .contains("Left out /app/eph, which is ephemeral"),
        "{}",
        out.text()
    );
    let out = migrate(&there, &last.connect(), &with_auth).succeeded();
    assert!(!out.stdout().contains("Left out"), "{}", out.text());

    client.call(&Op::Close);
    let expected = shown(first.port, &PATHS);
    assert_eq!(shown(apache.port(), &PATHS), expected);
    assert_eq!(shown(last.port, &PATHS), expected);
    // Later nodes are numbered after those that were copied.
    for port in [apache.port(), last.port] {
        let mut client = Client::connect(port, 10_000);
        let reply = client.call(&create_as("/app/seq-", op::CREATE, 2, 0, open_acl()));
        assert!(
            reply.text().contains("/app/seq-0000000010"),
            "{}",
            reply.text()
        );
    }
}

#[test]
fn what_would_do_harm_is_refused() {
    let (source, target) = (Service::start(), Service::start());
    let mut client = Client::connect(source.port, 30_000);
    done(&mut client, &create("/a", Some(b"1")));
    let (from, to) = (source.connect(), target.connect());

    let dry = migrate(&from, &to, &["--dry-run"]).succeeded();
    let expected = format!("/a (1 bytes)\nWould copy 1 znodes with 1 bytes from {from} to {to}\n");
    assert_eq!(dry.stdout(), expected);
    assert!(shown(target.port, &["/a"])["/a"][0].starts_with("error -101"));

    let copied = migrate(&from, &format!("{to}/deep/er"), &[]).succeeded();
    assert!(
        copied.stdout().starts_with("Copied 1 znodes with 1 bytes"),
        "{}",
        copied.text()
    );
    let again = migrate(&from, &format!("{to}/deep/er"), &[]);
    let expected = format!(
        "Error: {to}/deep/er is not empty: it has a; choose another chroot, or copy over it with --force\n"
    );
    assert_eq!(refusal(&again), expected);
    done(
        &mut client,
        &Op::SetData("/a".to_owned(), Some(b"22".to_vec()), -1),
    );
    migrate(&from, &format!("{to}/deep/er"), &["--force"]).succeeded();
    let found = &shown(target.port, &["/deep/er/a"])["/deep/er/a"][0];
    assert!(found.contains("\"22\""), "{found}");

    done(
        &mut client,
        &create_as(
            "/closed",
            op::CREATE,
            0,
            0,
            acl(1, "digest", "user:tpUq/4Pn5A64fVZyQ0gOJ8ZWqkY="),
        ),
    );
    let masked = migrate(&from, &format!("{to}/other"), &[]);
    assert!(refusal(&masked).contains("/closed"), "{}", masked.text());
    let none = format!("127.0.0.1:{}", support::server::free_port());
    let said = refusal(&migrate(&none, &to, &[]));
    assert_eq!(said, format!("Error: cannot reach {none}\n"));
    assert_eq!(
        refusal(&migrate(&format!("{from}/nowhere"), &to, &["--dry-run"])),
        format!("Error: {from}/nowhere does not exist\n")
    );
}

/// The broker keeps its topics, and its records, when its coordination moves.
#[test]
fn a_broker_moves_to_apache_zookeeper_and_back() {
    let Some(apache) = Apache::start() else {
        return;
    };
    let service = Service::start();
    let (here, there) = (
        format!("{}/kafka", service.connect()),
        format!("127.0.0.1:{}/moved", apache.port()),
    );
    let mut server = Server::with()
        .kind(Kind::Troupe)
        .set("zookeeper.connect", &here)
        .start();
    create_topic(&server, "kept", 2, &[("retention.ms", "86400000")]);
    produce(&server, 10);
    let described = describe(&server);

    let said = refusal(&migrate(&here, &there, &[]));
    assert_eq!(
        said,
        format!("Error: {here} has live brokers (1001); stop them first\n")
    );
    server.terminate().succeeded();
    migrate(&here, &there, &[]).succeeded();
    server.set("zookeeper.connect", &there);
    server.restart();
    assert_eq!(describe(&server), described);
    produce(&server, 10);

    server.terminate().succeeded();
    migrate(&there, &format!("{}/back", service.connect()), &[]).succeeded();
    server.set("zookeeper.connect", format!("{}/back", service.connect()));
    server.restart();
    assert_eq!(describe(&server), described);
    let consumer = consumer(&server, &[]);
    assign_from_beginning(&consumer, &[("kept", 0)]);
    assert_eq!(read(&consumer, 20).len(), 20);
}

fn produce(server: &Server, count: usize) {
    let mut producer = Producer::new(server, &[]);
    for _ in 0..count {
        producer.send(
            BaseRecord::to("kept")
                .partition(0)
                .key(&b""[..])
                .payload(&b"x"[..]),
        );
    }
    producer.flush_all_taken();
}

/// With the id of the topic.
fn describe(server: &Server) -> String {
    let mut command = troupe();
    let bootstrap = server.bootstrap();
    command.args([
        "topics",
        "--describe",
        "--topic",
        "kept",
        "--bootstrap-server",
        &bootstrap,
    ]);
    let text = Process::spawn("troupe topics", command)
        .finish()
        .succeeded()
        .stdout();
    assert!(
        text.contains("TopicId: ") && text.contains("retention.ms=86400000"),
        "{text}"
    );
    text
}
