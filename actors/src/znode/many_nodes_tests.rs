//! A tree of 100,000 nodes, which is taken up whole from the database and from the snapshot.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use bytes::Bytes;
use tempfile::TempDir;
use troupe_protocol::zookeeper::Acl;
use troupe_protocol::zookeeper::connect::{ConnectRequest, PASSWORD_LEN};
use troupe_protocol::zookeeper::multi::{Create, CreateMode, Write};
use troupe_protocol::zookeeper::requests::{Operation, Request, op};

use super::service::{Now, Restoration, Service, Step};
use super::sessions::{ConnectionId, TimeoutRange};
use super::sled_store::SledStore;
use super::store::ZnodeStore;
use super::tree::Tree;

const PARENTS: usize = 100;
const CHILDREN: usize = 999;
const CONNECTION: ConnectionId = 1;
const NOW: Now = Now {
    wall_ms: 1_700_000_000_000,
    monotonic_ms: 1_000,
};

fn open(directory: &Path) -> (SledStore, Service) {
    let timeouts = TimeoutRange::of_tick(3_000);
    SledStore::open(directory, || Restoration::new(timeouts, NOW)).unwrap()
}

/// Node number `number` below a parent: no two have the same path and data.
fn create(path: String) -> Write {
    Write::Create(Create {
        op: op::CREATE,
        data: Some(Bytes::from(format!("the data of {path}"))),
        path: path.into(),
        acl: vec![Acl::open()],
        mode: CreateMode::from_flags(op::CREATE, 0, 0),
    })
}

fn connect(service: &mut Service) -> Step {
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms: 30_000,
        session_id: 0,
        password: Bytes::new(),
        read_only: None,
    };
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    service.connect(CONNECTION, peer, &request, [1; PASSWORD_LEN], NOW)
}

/// Fills a store as clients do, with a thousand nodes in each transaction.
fn fill(directory: &Path) -> (SledStore, Service) {
    let (mut store, mut service) = open(directory);
    store
        .commit(connect(&mut service).batch.expect("a session"))
        .unwrap();
    for parent in 0..PARENTS {
        let parent = format!("/parent-{parent}");
        let mut writes = vec![create(parent.clone())];
        writes.extend((0..CHILDREN).map(|child| create(format!("{parent}/child-{child}"))));
        let request = Request {
            xid: 1,
            operation: Operation::Multi(writes),
        };
        let step = service.request(CONNECTION, &request, NOW);
        store.commit(step.batch.expect("a transaction")).unwrap();
    }
    (store, service)
}

fn expect_same(found: &Tree, expected: &Tree) {
    assert_eq!(found.len(), expected.len());
    assert_eq!(found.data_bytes(), expected.data_bytes());
    let mut open = vec![Bytes::from_static(b"/")];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let node = found.node(&path);
        assert_eq!(node, expected.node(&path), "{path:?}");
        let above = if path == "/" { &[][..] } else { &path[..] };
        let children = node.into_iter().flat_map(|node| node.children.iter());
        open.extend(children.map(|node| Bytes::from([above, b"/", node.name()].concat())));
        seen += 1;
    }
    assert_eq!(seen, expected.len(), "every node is below the root");
}

#[test]
fn a_hundred_thousand_nodes_come_back_from_the_database_and_from_the_snapshot() {
    let directory = TempDir::new().unwrap();
    let (store, filled) = fill(directory.path());
    assert!(filled.tree().len() >= PARENTS * (CHILDREN + 1));
    let snapshot = directory.path().join("snapshot");
    drop(store);

    // The last snapshot is older than the database: what is there comes from the database.
    let (mut store, from_database) = open(directory.path());
    expect_same(from_database.tree(), filled.tree());
    assert_eq!(from_database.zxid(), filled.zxid());
    assert_eq!(from_database.sessions().iter().count(), 1);
    assert!(!directory.path().join("db.corrupt").exists());

    store
        .commit(super::records::Batch::new(filled.zxid() + 1))
        .unwrap();
    store.snapshot().unwrap();
    drop(store);

    // Without the rest, it comes from the snapshot.
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else if path != snapshot {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (_store, from_snapshot) = open(directory.path());
    expect_same(from_snapshot.tree(), filled.tree());
    assert!(
        from_snapshot.zxid() > filled.zxid(),
        "no number comes twice"
    );
    assert_eq!(from_snapshot.sessions().iter().count(), 1);
}
