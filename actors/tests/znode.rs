//! The coordination service as the `zookeeper-client` crate sees it, over a loopback socket.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;
use std::time::Duration;

use troupe_actors::runtime::{Runtime, SystemClock};
use troupe_actors::znode::records::Batch;
use troupe_actors::znode::store::{Contents, MemoryStore, StoreError, ZnodeStore};
use troupe_actors::znode::{Coordination, CoordinationError, ZnodeConfig};
use zookeeper_client::{
    Acls, AddWatchMode, Client, CreateMode, CreateOptions, Error, EventType, SessionState,
};

fn runtime() -> Runtime {
    Runtime::single_threaded(Arc::new(SystemClock::new()))
}

async fn start(directory: &std::path::Path) -> Coordination {
    let mut config = ZnodeConfig::new(directory, 0);
    // Sessions of a fifth of a second, so that expiry can be seen.
    config.tick_time_ms = 100;
    Coordination::start(config, &runtime()).await.unwrap()
}

async fn connect(service: &Coordination) -> Client {
    Client::connect(&format!("127.0.0.1:{}", service.port()))
        .await
        .unwrap()
}

const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

#[actix_rt::test]
async fn nodes_come_change_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let service = start(directory.path()).await;
    let client = connect(&service).await;

    let (created, _) = client.create("/a", b"one", &PERSISTENT).await.unwrap();
    assert_eq!((created.version, created.data_length), (0, 3));
    assert_eq!(
        client.create("/a", b"", &PERSISTENT).await.unwrap_err(),
        Error::NodeExists
    );
    assert_eq!(
        client.create("/b/c", b"", &PERSISTENT).await.unwrap_err(),
        Error::NoNode
    );
    let (data, stat) = client.get_data("/a").await.unwrap();
    assert_eq!((data, stat), (b"one".to_vec(), created));
    let set = client.set_data("/a", b"two", Some(0)).await.unwrap();
    assert_eq!(set.version, 1);
    assert!(set.mzxid > created.mzxid);
    assert_eq!(
        client.set_data("/a", b"", Some(0)).await.unwrap_err(),
        Error::BadVersion
    );
    client.create("/a/b", b"", &PERSISTENT).await.unwrap();
    assert_eq!(
        client.delete("/a", None).await.unwrap_err(),
        Error::NotEmpty
    );
    let (children, stat) = client.get_children("/a").await.unwrap();
    assert_eq!((children, stat.num_children), (vec!["b".to_owned()], 1));
    client.delete("/a/b", Some(0)).await.unwrap();
    let stat = client.check_stat("/a").await.unwrap().unwrap();
    assert_eq!((stat.cversion, stat.num_children), (2, 0));
    assert_eq!(client.check_stat("/none").await.unwrap(), None);
    assert_eq!(client.list_children("/").await.unwrap(), ["a", "zookeeper"]);
    client.sync("/").await.unwrap();
    assert_eq!(client.list_auth_users().await.unwrap()[0].scheme(), "ip");
    service.shutdown().await.unwrap();
}

#[actix_rt::test]
async fn sequential_names_count_every_child_that_ever_was() {
    let directory = tempfile::tempdir().unwrap();
    let service = start(directory.path()).await;
    let client = connect(&service).await;
    let sequential = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    client.create("/q", b"", &PERSISTENT).await.unwrap();
    client.create("/q/plain", b"", &PERSISTENT).await.unwrap();
    client.delete("/q/plain", None).await.unwrap();
    let (_, first) = client.create("/q/n_", b"", &sequential).await.unwrap();
    let (_, second) = client.create("/q/n_", b"", &sequential).await.unwrap();
    assert_eq!((first.into_i64(), second.into_i64()), (1, 2));
    assert_eq!(
        client.list_children("/q").await.unwrap(),
        ["n_0000000001", "n_0000000002"]
    );
    service.shutdown().await.unwrap();
}

#[actix_rt::test]
async fn a_closed_session_takes_its_ephemeral_nodes_along() {
    let directory = tempfile::tempdir().unwrap();
    let service = start(directory.path()).await;
    let (watching, leaving) = (connect(&service).await, connect(&service).await);
    let (stat, _) = leaving.create("/e", b"", &EPHEMERAL).await.unwrap();
    assert_eq!(stat.ephemeral_owner, leaving.session_id().0);
    assert_eq!(
        leaving.create("/e/c", b"", &PERSISTENT).await.unwrap_err(),
        Error::NoChildrenForEphemerals
    );
    let (_, watcher) = watching.check_and_watch_stat("/e").await.unwrap();
    drop(leaving);
    let event = watcher.changed().await;
    assert_eq!(
        (event.event_type, &*event.path),
        (EventType::NodeDeleted, "/e")
    );
    assert_eq!(watching.check_stat("/e").await.unwrap(), None);
    service.shutdown().await.unwrap();
}

#[actix_rt::test]
async fn a_session_is_found_again_after_a_restart_and_expires_if_nobody_comes() {
    let directory = tempfile::tempdir().unwrap();
    let service = start(directory.path()).await;
    let client = Client::connector()
        .with_detached()
        .connect(&format!("127.0.0.1:{}", service.port()))
        .await
        .unwrap();
    client.create("/e", b"", &EPHEMERAL).await.unwrap();
    let session = client.session().clone();
    let mut states = client.state_watcher();
    service.shutdown().await.unwrap();
    assert_eq!(states.changed().await, SessionState::Disconnected);
    drop(client);

    let service = start(directory.path()).await;
    let again = Client::connector()
        .with_session(session.clone())
        .connect(&format!("127.0.0.1:{}", service.port()))
        .await
        .unwrap();
    assert_eq!(again.session_id(), session.id());
    assert_eq!(again.list_ephemerals("/").await.unwrap(), ["/e"]);
    service.shutdown().await.unwrap();
    drop(again);

    let service = start(directory.path()).await;
    let watching = connect(&service).await;
    let (there, watcher) = watching.check_and_watch_stat("/e").await.unwrap();
    if there.is_some() {
        assert_eq!(watcher.changed().await.event_type, EventType::NodeDeleted);
    }
    let refused = Client::connector()
        .with_session(session)
        .connect(&format!("127.0.0.1:{}", service.port()))
        .await;
    assert_eq!(refused.err(), Some(Error::SessionExpired));
    service.shutdown().await.unwrap();
}

#[actix_rt::test]
async fn watches_tell_before_the_new_state_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let service = start(directory.path()).await;
    let (watching, writing) = (connect(&service).await, connect(&service).await);
    let (_, created) = watching.check_and_watch_stat("/w").await.unwrap();
    writing.create("/w", b"", &PERSISTENT).await.unwrap();
    assert_eq!(created.changed().await.event_type, EventType::NodeCreated);

    let (_, _, children) = watching.get_and_watch_children("/w").await.unwrap();
    let (_, _, data) = watching.get_and_watch_data("/w").await.unwrap();
    let mut persistent = watching
        .watch("/w", AddWatchMode::Persistent)
        .await
        .unwrap();
    let mut recursive = watching
        .watch("/", AddWatchMode::PersistentRecursive)
        .await
        .unwrap();
    writing.create("/w/c", b"", &PERSISTENT).await.unwrap();
    writing.set_data("/w", b"new", None).await.unwrap();
    assert_eq!(
        children.changed().await.event_type,
        EventType::NodeChildrenChanged
    );
    assert_eq!(data.changed().await.event_type, EventType::NodeDataChanged);
    for wanted in [EventType::NodeChildrenChanged, EventType::NodeDataChanged] {
        assert_eq!(persistent.changed().await.event_type, wanted);
    }
    for wanted in [
        ("/w/c", EventType::NodeCreated),
        ("/w", EventType::NodeDataChanged),
    ] {
        let event = recursive.changed().await;
        assert_eq!((&*event.path, event.event_type), wanted);
    }
    service.shutdown().await.unwrap();
}

#[actix_rt::test]
async fn a_multi_is_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let service = start(directory.path()).await;
    let client = connect(&service).await;
    let mut writer = client.new_multi_writer();
    writer.add_create("/m", b"", &PERSISTENT).unwrap();
    writer.add_create("/m/e", b"", &EPHEMERAL).unwrap();
    writer.add_set_data("/m/e", b"x", Some(0)).unwrap();
    writer.add_check_version("/m", 0).unwrap();
    let results = writer.commit().await.unwrap();
    assert_eq!(results.len(), 4);
    let (_, stat) = client.get_data("/m/e").await.unwrap();
    assert_eq!((stat.version, stat.czxid), (1, stat.mzxid));

    let mut writer = client.new_multi_writer();
    writer.add_delete("/m/e", None).unwrap();
    writer.add_set_data("/m", b"y", None).unwrap();
    writer.add_check_version("/m", 7).unwrap();
    writer.add_create("/n", b"", &PERSISTENT).unwrap();
    let error = writer.commit().await.unwrap_err();
    assert_eq!(
        error,
        zookeeper_client::MultiWriteError::OperationFailed {
            index: 2,
            source: Error::BadVersion
        }
    );
    assert_eq!(client.get_data("/m/e").await.unwrap().1, stat);
    assert_eq!(client.get_data("/m").await.unwrap().1.version, 0);
    assert_eq!(client.check_stat("/n").await.unwrap(), None);

    let mut reader = client.new_multi_reader();
    reader.add_get_data("/m/e").unwrap();
    reader.add_get_children("/m").unwrap();
    assert_eq!(reader.commit().await.unwrap().len(), 2);
    service.shutdown().await.unwrap();
}

#[actix_rt::test]
async fn a_port_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let service = start(directory.path()).await;
    let (other, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let taken = Coordination::start(ZnodeConfig::new(other.path(), service.port()), &runtime);
    let message = taken.await.err().unwrap().to_string();
    assert!(message.contains(&service.port().to_string()), "{message}");
    let same = Coordination::start(ZnodeConfig::new(directory.path(), 0), &runtime);
    assert!(matches!(
        same.await.err().unwrap(),
        CoordinationError::Store(_)
    ));
    service.shutdown().await.unwrap();
}

#[actix_rt::test]
async fn access_control_lists_are_kept_and_enforced() {
    let directory = tempfile::tempdir().unwrap();
    let service = start(directory.path()).await;
    let (owner, stranger) = (connect(&service).await, connect(&service).await);
    owner.auth("digest", b"me:secret").await.unwrap();
    let mine = CreateMode::Persistent.with_acls(Acls::creator_all());
    owner.create("/mine", b"x", &mine).await.unwrap();
    assert_eq!(owner.get_data("/mine").await.unwrap().0, b"x");
    assert_eq!(stranger.get_data("/mine").await.unwrap_err(), Error::NoAuth);
    assert_eq!(
        stranger.create("/no", b"", &mine).await.unwrap_err(),
        Error::InvalidAcl
    );
    let (acl, _) = owner.get_acl("/mine").await.unwrap();
    assert_eq!(acl[0].scheme(), "digest");
    tokio::time::timeout(Duration::from_secs(20), service.shutdown())
        .await
        .unwrap()
        .unwrap();
}

/// A disk that takes one transaction and is full then.
#[derive(Debug)]
struct FullAfterOne(bool);

impl ZnodeStore for FullAfterOne {
    fn commit(&mut self, _: Batch) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.0, true) {
            return Err(StoreError::Io {
                path: "/full".into(),
                source: std::io::ErrorKind::StorageFull.into(),
            });
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        Ok(Contents::new())
    }
}

#[actix_rt::test]
async fn a_store_that_fails_ends_the_service_loudly() {
    let store = Box::new(FullAfterOne(false));
    let mut service = Coordination::start_with(ZnodeConfig::new("", 0), &runtime(), store)
        .await
        .unwrap();
    // The session is the first transaction.
    let client = connect(&service).await;
    let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
    assert!(client.create("/lost", b"", &persistent).await.is_err());
    let failure = service.failed().await;
    assert!(
        matches!(failure, CoordinationError::Store(StoreError::Io { .. })),
        "{failure}"
    );
    service.shutdown().await.unwrap();
}

/// A disk that has no room for what names this node.
#[derive(Debug, Default)]
struct NoRoomFor(MemoryStore);

impl ZnodeStore for NoRoomFor {
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        if batch.entries.contains_key(&b"n/refused"[..]) {
            return Err(StoreError::Full {
                path: "/full".into(),
                source: std::io::ErrorKind::StorageFull.into(),
            });
        }
        self.0.commit(batch)
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        self.0.contents()
    }
}

#[actix_rt::test]
async fn a_change_that_finds_no_room_is_taken_back_and_the_service_goes_on() {
    let store = Box::new(NoRoomFor::default());
    let service = Coordination::start_with(ZnodeConfig::new("", 0), &runtime(), store)
        .await
        .unwrap();
    let client = connect(&service).await;
    let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create("/before", b"1", &persistent).await.unwrap();
    let refused = client.create("/refused", b"", &persistent).await;
    assert!(matches!(refused, Err(Error::ConnectionLoss)), "{refused:?}");
    // The same session, on another connection.
    let (data, _) = client.get_data("/before").await.unwrap();
    assert_eq!(data, b"1");
    assert_eq!(client.check_stat("/refused").await.unwrap(), None);
    client.create("/after", b"", &persistent).await.unwrap();
    drop(client);
    service.shutdown().await.unwrap();
}
