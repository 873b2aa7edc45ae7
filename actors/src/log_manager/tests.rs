//! The log manager on a file system in memory, and on a real one where locks matter.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::{LogManager, LogManagerHandle, OpenError};
use crate::config::{BrokerConfig, TopicConfig};
use crate::log::checkpoints::read_offsets;
use crate::log::names;
use crate::partition::messages::Acks;
use crate::partition::testing::{BROKER, TestClock, append, batch, lead, values};
use crate::partition::{PartitionHandle, TopicPartition};
use crate::runtime::{Runtime, ThreadPool};
use crate::storage::memory::{Crash, MemoryStorage};
use crate::storage::{Disk, Storage};

const NOW: i64 = 1_700_000_000_000;
const TOPIC: Uuid = Uuid::from_u128(7);

fn config(log_dirs: &str, more: &[(&str, &str)]) -> Arc<BrokerConfig> {
    let pairs = [("log.dirs", log_dirs)]
        .into_iter()
        .chain(more.iter().copied());
    Arc::new(BrokerConfig::from_values(pairs.collect()).unwrap())
}

async fn open(storage: &MemoryStorage, log_dirs: &str) -> Result<LogManagerHandle, OpenError> {
    let runtime = Runtime::single_threaded(TestClock::new(NOW));
    LogManager::open(config(log_dirs, &[]), runtime, Arc::new(storage.clone())).await
}

/// Opens the manager of a broker that knows who it is.
async fn manager(storage: &MemoryStorage, log_dirs: &str) -> LogManagerHandle {
    let manager = open(storage, log_dirs).await.unwrap();
    manager.set_identity(BROKER, "cluster").await.unwrap();
    manager
}

async fn replica(manager: &LogManagerHandle, topic: &str, partition: i32) -> PartitionHandle {
    let topic_partition = TopicPartition::new(topic, partition);
    let config = Arc::new(TopicConfig::default());
    let handle = manager.open(topic_partition, TOPIC, config).await.unwrap();
    lead(&handle, &[BROKER]).await;
    handle
}

async fn produce(partition: &PartitionHandle, value: &str) {
    append(partition, batch(&[value], NOW, None), Acks::All)
        .await
        .unwrap();
}

fn checkpoint(storage: &MemoryStorage, name: &str) -> Vec<(String, i64)> {
    read_offsets(storage, &Path::new("/logs").join(name))
        .unwrap()
        .into_iter()
        .map(|((topic, partition), offset)| (format!("{topic}-{partition}"), offset))
        .collect()
}

fn has(storage: &MemoryStorage, path: &str) -> bool {
    storage.read(Path::new(path)).is_ok()
}

#[actix_rt::test]
async fn a_clean_shutdown_is_found_by_the_next_start() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, "/logs").await;
    assert_eq!(logs.meta(), &super::Identity::default());
    let partition = replica(&logs, "t", 0).await;
    produce(&partition, "a").await;
    assert!(logs.get(partition.topic_partition()).is_some());
    logs.shutdown().await;
    assert!(has(&storage, "/logs/.kafka_cleanshutdown"));
    for name in [names::RECOVERY_POINTS, names::HIGH_WATERMARKS] {
        assert_eq!(
            checkpoint(&storage, name),
            [("t-0".to_owned(), 1)],
            "{name}"
        );
    }
    // What was closed is on disk, whatever happens to the machine.
    storage.crash(Crash::Machine { keep: 0 });
    let logs = manager(&storage, "/logs").await;
    assert_eq!(logs.meta().broker_id, Some(BROKER));
    assert_eq!(logs.meta().cluster_id.as_deref(), Some("cluster"));
    assert!(!has(&storage, "/logs/.kafka_cleanshutdown"));
    assert_eq!(logs.unopened().await, [TopicPartition::new("t", 0)]);
    let partition = replica(&logs, "t", 0).await;
    assert_eq!(values(&partition, 0).await, [(0, "a".to_owned())]);
    assert!(logs.unopened().await.is_empty());
}

#[actix_rt::test]
async fn without_a_shutdown_the_checkpoints_and_the_log_have_everything() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, "/logs").await;
    let partition = replica(&logs, "t", 0).await;
    produce(&partition, "a").await;
    logs.checkpoint().await;
    assert_eq!(
        checkpoint(&storage, names::RECOVERY_POINTS),
        [("t-0".to_owned(), 1)]
    );
    produce(&partition, "b").await;
    storage.crash(Crash::Process);
    let logs = manager(&storage, "/logs").await;
    let partition = replica(&logs, "t", 0).await;
    assert_eq!(
        values(&partition, 0).await,
        [(0, "a".to_owned()), (1, "b".to_owned())]
    );
    storage.crash(Crash::Machine { keep: 0 });
    let logs = manager(&storage, "/logs").await;
    let partition = replica(&logs, "t", 0).await;
    assert_eq!(
        values(&partition, 0).await.first(),
        Some(&(0, "a".to_owned()))
    );
}

#[actix_rt::test]
async fn checkpoints_keep_what_is_not_open() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, "/logs").await;
    for topic in ["t", "u"] {
        produce(&replica(&logs, topic, 0).await, "a").await;
    }
    logs.shutdown().await;
    let logs = manager(&storage, "/logs").await;
    produce(&replica(&logs, "t", 0).await, "b").await;
    logs.shutdown().await;
    let expected = [("t-0".to_owned(), 2), ("u-0".to_owned(), 1)];
    assert_eq!(checkpoint(&storage, names::HIGH_WATERMARKS), expected);
    assert!(has(&storage, "/logs/.kafka_cleanshutdown"));
}

#[actix_rt::test]
async fn deleted_records_stay_deleted() {
    use crate::partition::messages::DeleteRecords;
    let storage = MemoryStorage::new();
    let logs = manager(&storage, "/logs").await;
    let partition = replica(&logs, "t", 0).await;
    for value in ["a", "b"] {
        produce(&partition, value).await;
    }
    partition
        .ask(|reply| DeleteRecords {
            before_offset: 1,
            reply,
        })
        .await
        .unwrap();
    logs.checkpoint().await;
    storage.crash(Crash::Process);
    let logs = manager(&storage, "/logs").await;
    assert_eq!(replica(&logs, "t", 0).await.progress().log_start_offset, 1);
}

#[actix_rt::test]
async fn a_replica_that_failed_keeps_its_directory_from_being_clean() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, "/logs").await;
    let partition = replica(&logs, "t", 0).await;
    storage.limit_room(Some(0));
    append(&partition, batch(&["a"], NOW, None), Acks::All)
        .await
        .unwrap_err();
    storage.limit_room(None);
    logs.shutdown().await;
    assert!(!has(&storage, "/logs/.kafka_cleanshutdown"));
}

#[actix_rt::test]
async fn replicas_go_where_the_fewest_are() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, "/a,/b").await;
    for partition in 0..6 {
        replica(&logs, "t", partition).await;
    }
    let sizes: Vec<_> = logs
        .describe()
        .await
        .iter()
        .map(|dir| dir.replicas.len())
        .collect();
    assert_eq!(sizes, [3, 3]);
    logs.shutdown().await;
    // They stay where they are, in whatever order they are asked for.
    let logs = manager(&storage, "/a,/b").await;
    for partition in (0..6).rev() {
        let expected = if partition % 2 == 0 { "/a" } else { "/b" };
        assert!(
            replica(&logs, "t", partition)
                .await
                .dir()
                .starts_with(expected),
            "{partition}"
        );
    }
}

#[actix_rt::test]
async fn asking_twice_gives_one_replica() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, "/logs").await;
    let ask = || logs.open(TopicPartition::new("t", 0), TOPIC, Arc::default());
    let (first, second) = futures_util::future::join(ask(), ask()).await;
    lead(&first.unwrap(), &[BROKER]).await;
    assert!(
        second.unwrap().progress().is_leader,
        "both are the same actor"
    );
    let other = logs
        .open(
            TopicPartition::new("t", 0),
            Uuid::from_u128(8),
            Arc::default(),
        )
        .await;
    assert_eq!(other.map(|_| ()), Err(ErrorCode::InconsistentTopicId));
}

#[actix_rt::test]
async fn a_deleted_replica_is_gone_and_can_be_made_again() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, "/logs").await;
    let t = TopicPartition::new("t", 0);
    produce(&replica(&logs, "t", 0).await, "a").await;
    logs.delete(&t).await.unwrap();
    assert!(logs.get(&t).is_none());
    assert_eq!(
        logs.delete(&t).await,
        Err(ErrorCode::UnknownTopicOrPartition)
    );
    assert_eq!(replica(&logs, "t", 0).await.progress().log_end_offset, 0);
    logs.shutdown().await;
    let logs = manager(&storage, "/logs").await;
    logs.delete(&t).await.unwrap();
    assert!(logs.unopened().await.is_empty());
    logs.shutdown().await;
    let live = |path: &PathBuf| path.starts_with("/logs/t-0");
    assert!(!storage.paths().iter().any(live), "{:?}", storage.paths());
    assert!(checkpoint(&storage, names::HIGH_WATERMARKS).is_empty());
}

/// Leaves checkpoints behind that speak of a replica of which only the second of two records is there.
async fn with_a_deleted_record(storage: &MemoryStorage) -> LogManagerHandle {
    use crate::partition::messages::DeleteRecords;
    let logs = manager(storage, "/logs").await;
    let partition = replica(&logs, "t", 0).await;
    for value in ["a", "b"] {
        produce(&partition, value).await;
    }
    let before_offset = 2;
    let build = |reply| DeleteRecords {
        before_offset,
        reply,
    };
    partition.ask(build).await.unwrap();
    logs.checkpoint().await;
    logs
}

#[actix_rt::test]
async fn the_checkpoints_of_a_deleted_replica_do_not_count_for_the_next_one_of_its_name() {
    let storage = MemoryStorage::new();
    let logs = with_a_deleted_record(&storage).await;
    logs.delete(&TopicPartition::new("t", 0)).await.unwrap();
    let partition = replica(&logs, "t", 0).await;
    produce(&partition, "new").await;
    storage.crash(Crash::Process);
    let logs = manager(&storage, "/logs").await;
    let partition = replica(&logs, "t", 0).await;
    assert_eq!(values(&partition, 0).await, [(0, "new".to_owned())]);
}

#[actix_rt::test]
async fn nor_when_the_process_died_right_after_the_deletion() {
    let storage = MemoryStorage::new();
    let logs = with_a_deleted_record(&storage).await;
    logs.delete(&TopicPartition::new("t", 0)).await.unwrap();
    storage.crash(Crash::Process);
    let logs = manager(&storage, "/logs").await;
    produce(&replica(&logs, "t", 0).await, "new").await;
    storage.crash(Crash::Process);
    let logs = manager(&storage, "/logs").await;
    let partition = replica(&logs, "t", 0).await;
    assert_eq!(values(&partition, 0).await, [(0, "new".to_owned())]);
}

#[actix_rt::test]
async fn nor_when_the_earlier_replica_is_put_aside() {
    let storage = MemoryStorage::new();
    with_a_deleted_record(&storage).await;
    storage.crash(Crash::Process);
    let t = || TopicPartition::new("t", 0);
    let id = Uuid::from_u128(8);
    let logs = manager(&storage, "/logs").await;
    let partition = logs.open(t(), id, Arc::default()).await.unwrap();
    lead(&partition, &[BROKER]).await;
    produce(&partition, "new").await;
    storage.crash(Crash::Process);
    let logs = manager(&storage, "/logs").await;
    let partition = logs.open(t(), id, Arc::default()).await.unwrap();
    lead(&partition, &[BROKER]).await;
    assert_eq!(values(&partition, 0).await, [(0, "new".to_owned())]);
}

#[actix_rt::test]
async fn a_replica_of_an_earlier_topic_is_put_aside() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, "/logs").await;
    produce(&replica(&logs, "t", 0).await, "a").await;
    logs.shutdown().await;
    let logs = manager(&storage, "/logs").await;
    let t = TopicPartition::new("t", 0);
    let fresh = logs
        .open(t, Uuid::from_u128(8), Arc::default())
        .await
        .unwrap();
    assert_eq!(fresh.progress().log_end_offset, 0);
    assert_eq!(fresh.progress().high_watermark, 0);
    let names = storage.list(Path::new("/logs")).unwrap();
    assert!(
        names.iter().any(|entry| entry.name.ends_with("-stray")),
        "{names:?}"
    );
}

#[actix_rt::test]
async fn other_brokers_and_clusters_are_refused() {
    let storage = MemoryStorage::new();
    manager(&storage, "/logs").await.shutdown().await;
    let runtime = Runtime::single_threaded(TestClock::new(NOW));
    let other = config("/logs", &[("broker.id", "9")]);
    let refused = LogManager::open(other, runtime, Arc::new(storage.clone())).await;
    assert!(
        matches!(
            refused,
            Err(OpenError::Broker {
                found: BROKER,
                expected: 9,
                ..
            })
        ),
        "{refused:?}"
    );
    let logs = open(&storage, "/logs").await.unwrap();
    let refused = logs.set_identity(BROKER, "another").await;
    assert!(
        matches!(refused, Err(OpenError::Cluster { .. })),
        "{refused:?}"
    );
    logs.set_identity(BROKER, "cluster").await.unwrap();
    logs.shutdown().await;
    // A directory of another broker among ours.
    storage.create_dir(Path::new("/other")).unwrap();
    let meta = b"version=0\nbroker.id=5\ncluster.id=cluster\n";
    storage
        .replace(Path::new("/other/meta.properties"), meta)
        .unwrap();
    let refused = open(&storage, "/logs,/other").await;
    assert!(
        matches!(
            refused,
            Err(OpenError::Broker {
                found: 5,
                expected: BROKER,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[actix_rt::test]
async fn two_managers_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path().to_str().unwrap(), &[]);
    let runtime = Runtime::single_threaded(TestClock::new(NOW));
    let first = LogManager::open(config.clone(), runtime.clone(), Arc::new(Disk))
        .await
        .unwrap();
    let second = LogManager::open(config.clone(), runtime.clone(), Arc::new(Disk)).await;
    assert!(matches!(second, Err(OpenError::Locked(_))), "{second:?}");
    first.shutdown().await;
    let third = LogManager::open(config, runtime, Arc::new(Disk)).await;
    third.unwrap().shutdown().await;
}

#[actix_rt::test]
async fn a_directory_that_cannot_be_used_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
    std::fs::write(&bad, "not a directory").unwrap();
    let both = format!("{},{}", bad.display(), good.display());
    let runtime = Runtime::single_threaded(TestClock::new(NOW));
    let logs = LogManager::open(config(&both, &[]), runtime.clone(), Arc::new(Disk))
        .await
        .unwrap();
    logs.set_identity(BROKER, "cluster").await.unwrap();
    produce(&replica(&logs, "t", 0).await, "a").await;
    let described = logs.describe().await;
    let errors: Vec<_> = described.iter().map(|dir| dir.error).collect();
    assert_eq!(errors, [ErrorCode::KafkaStorageError, ErrorCode::None]);
    assert_eq!(
        (&described[1].path, described[1].replicas.len()),
        (&good, 1)
    );
    assert!(described[1].replicas[0].size_bytes > 0 && described[1].total_bytes > 0);
    logs.shutdown().await;
    let alone = config(bad.to_str().unwrap(), &[]);
    let refused = LogManager::open(alone, runtime, Arc::new(Disk)).await;
    assert!(
        matches!(&refused, Err(OpenError::Io { dir, .. }) if *dir == bad),
        "{refused:?}"
    );
}

#[actix_rt::test]
async fn partitions_live_on_the_log_threads() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime {
        logs: ThreadPool::start(2),
        ..Runtime::single_threaded(TestClock::new(NOW))
    };
    let config = config(dir.path().to_str().unwrap(), &[]);
    let logs = LogManager::open(config.clone(), runtime.clone(), Arc::new(Disk))
        .await
        .unwrap();
    logs.set_identity(BROKER, "cluster").await.unwrap();
    for partition in 0..8 {
        produce(&replica(&logs, "t", partition).await, "a").await;
    }
    assert_eq!(logs.partitions().len(), 8);
    logs.shutdown().await;
    assert!(dir.path().join(".kafka_cleanshutdown").exists());
    let logs = LogManager::open(config, runtime.clone(), Arc::new(Disk))
        .await
        .unwrap();
    logs.set_identity(BROKER, "cluster").await.unwrap();
    for partition in 0..8 {
        assert_eq!(
            replica(&logs, "t", partition)
                .await
                .progress()
                .log_end_offset,
            1
        );
    }
    logs.shutdown().await;
    runtime.logs.stop();
}

#[derive(actix::Message)]
#[rtype(result = "()")]
struct Explode;

impl actix::Handler<Explode> for LogManager {
    type Result = ();

    fn handle(&mut self, _: Explode, _: &mut Self::Context) {
        panic!("injected: the log manager panics");
    }
}

#[actix_rt::test]
async fn a_panic_of_the_manager_is_noticed_and_a_stop_is_none() {
    use actix::Actor;
    let runtime = Runtime::single_threaded(TestClock::new(NOW));
    let prepare = || {
        let storage = Arc::new(MemoryStorage::new());
        super::manager::prepare(config("/logs", &[]), runtime.clone(), storage)
    };
    let (manager, _, alive) = prepare().await.unwrap();
    manager.start().send(Explode).await.unwrap_err();
    assert!(alive.await.is_err());
    let (manager, _, alive) = prepare().await.unwrap();
    let (reply, _answer) = tokio::sync::oneshot::channel();
    manager
        .start()
        .send(super::manager::Shutdown { reply })
        .await
        .unwrap();
    assert!(alive.await.is_ok());
}
