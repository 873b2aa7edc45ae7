//! The deletion of topics: marked first, so that a crash midway is made up for; then stopped on every broker; and taken out of
//! the znodes only when no broker has a replica any more.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use troupe_protocol::kafka::errors::ErrorCode;

use super::admin::SharedCluster;
use super::answers::Answers;
use super::stored::{StoredTopic, write_all};
use super::topics::AdminError;
use crate::coordination::client::Write;
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::metadata::BrokerId;

/// The pause before a broker is ordered again that did not do as ordered: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often a topic's znodes are listed again because somebody changed them meanwhile.
const REMOVAL_ATTEMPTS: usize = 10;

/// A deletion under way.
struct Deletion {
    topic: StoredTopic,
    /// What the brokers make of it.
    answers: Answers,
    /// The epoch of the office that it was begun in.
    epoch: i32,
}

/// Deletes topics. Goes on when the patience of the client is over.
pub(super) async fn delete_topics(
    cluster: &SharedCluster,
    names: Vec<String>,
    patience: Duration,
) -> Result<(), AdminError> {
    let client = cluster.lock().await.client()?;
    let deletion = actix_rt::spawn(mark_and_delete(Rc::clone(cluster), names.clone()));
    let done = async {
        let died = |_| AdminError::from(ErrorCode::UnknownServerError);
        deletion.await.map_err(died)??;
        // Some wait for brokers that are away; that is no reason to keep anything of this request.
        for name in &names {
            until_unmarked(&client, name).await?;
        }
        Ok(())
    };
    let in_time = tokio::time::timeout(patience, done).await;
    in_time.unwrap_or_else(|_| Err(ErrorCode::RequestTimedOut.into()))
}

async fn mark_and_delete(cluster: SharedCluster, names: Vec<String>) -> Result<(), AdminError> {
    let (client, claimed) = {
        let mut locked = cluster.lock().await;
        let office = locked.office()?;
        // The marks are noticed as if a tool had made them, and these are not to be deleted twice.
        let mut claimed: BTreeSet<String> = names.iter().cloned().collect();
        claimed.retain(|name| office.deleting.insert(name.clone()));
        (locked.client()?, claimed)
    };
    let paths: Vec<String> = names.iter().map(|name| paths::delete_topic(name)).collect();
    // Some may be marked already, by a tool or before a crash: the others are marked all the same.
    let marks = paths.iter().map(|path| client.create_if_missing(path, b""));
    let begun = match try_join_all(marks).await {
        Ok(_) => begin(&cluster, &claimed).await,
        Err(error) => Err(error),
    };
    match begun {
        Ok(deletions) => Ok(carry_all_through(&cluster, deletions).await?),
        Err(error) => {
            if let Ok(office) = cluster.lock().await.office() {
                office.deleting.retain(|name| !claimed.contains(name));
            }
            Err(error.into())
        }
    }
}

/// Waits until somebody else has deleted a topic.
async fn until_unmarked(client: &CoordinationClient, name: &str) -> Result<(), CoordinationError> {
    let path = paths::delete_topic(name);
    loop {
        let watcher = client.watch(&path).await?;
        if client.get(&path).await?.is_none() {
            return Ok(());
        }
        watcher.changed().await;
    }
}

/// Deletes every topic that carries the mark, but for those that somebody else deletes already and those that have to wait for
/// a broker.
pub(super) async fn finish_deletions(cluster: &SharedCluster) -> Result<(), CoordinationError> {
    let deletions = begin(cluster, &BTreeSet::new()).await?;
    carry_all_through(cluster, deletions).await
}

/// Orders the replicas of marked topics to stop. What is `claimed` was set aside by the caller, and is either begun now or free
/// for others.
async fn begin(
    cluster: &SharedCluster,
    claimed: &BTreeSet<String>,
) -> Result<Vec<Deletion>, CoordinationError> {
    let mut locked = cluster.lock().await;
    let client = locked.client()?;
    let marked = client.children(paths::DELETE_TOPICS).await?;
    let may_delete = locked.may_delete();
    let office = locked.office()?;
    if !may_delete {
        for name in marked {
            client.delete(&paths::delete_topic(&name)).await?;
        }
        office.deleting.retain(|name| !claimed.contains(name));
        return Ok(Vec::new());
    }
    let doomed = office.doomed(&client, &marked, claimed).await?;
    office.deleting.retain(|name| !claimed.contains(name));
    let deletions = doomed.into_iter().map(|topic| {
        office.topics.remove(&topic.name);
        office.deleting.insert(topic.name.clone());
        Deletion {
            answers: office.take_down(&topic, None),
            epoch: office.epoch,
            topic,
        }
    });
    Ok(deletions.collect())
}

async fn carry_all_through(
    cluster: &SharedCluster,
    deletions: Vec<Deletion>,
) -> Result<(), CoordinationError> {
    let deletions = deletions.into_iter().map(|deletion| async move {
        let (name, epoch) = (deletion.topic.name.clone(), deletion.epoch);
        let done = carry_through(cluster, deletion).await;
        if done.is_err()
            && let Ok(office) = cluster.lock().await.office()
            && office.epoch == epoch
        {
            office.postpone(&name);
        }
        done
    });
    join_all(deletions).await.into_iter().collect()
}

/// Sees a deletion through: whoever did not stop its replicas is ordered again, and when nobody has one any more the znodes go.
/// It ends early when a broker with a replica goes, and is begun anew when that one is back.
async fn carry_through(
    cluster: &SharedCluster,
    deletion: Deletion,
) -> Result<(), CoordinationError> {
    let Deletion {
        topic,
        mut answers,
        epoch,
    } = deletion;
    let mut pause = FIRST_PAUSE;
    loop {
        let mut failed = answers.failed().await;
        if !failed.is_empty() {
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
        let mut locked = cluster.lock().await;
        let client = locked.client()?;
        let office = locked.office()?;
        if office.epoch != epoch {
            return Ok(());
        }
        let is_gone = |id: &BrokerId| !office.brokers.contains_key(id);
        if failed.iter().any(|id| topic.is_on(*id) && is_gone(id)) {
            office.postpone(&topic.name);
            return Ok(());
        }
        // Who is gone and has no replica hears of it in the end, or when it is back later still.
        failed.retain(|id| office.brokers.contains_key(id));
        if failed.is_empty() {
            let epoch_version = office.epoch_version;
            drop(locked);
            remove_znodes(&client, epoch_version, &topic.name).await?;
            if let Ok(office) = cluster.lock().await.office()
                && office.epoch == epoch
            {
                // Somebody may have come back who was not told when it began.
                office.inform_of_deletion(std::slice::from_ref(&topic), None);
                office.deleting.remove(&topic.name);
            }
            return Ok(());
        }
        tracing::warn!(
            "topic {} is not gone from brokers {failed:?}; they are ordered again",
            topic.name
        );
        answers = office.take_down(&topic, Some(&failed));
    }
}

/// Removes all that the znodes say of a topic, as long as this is still the office of the controller: the configuration first,
/// because a topic of the same name may come as soon as this one is gone, and the mark last.
async fn remove_znodes(
    client: &CoordinationClient,
    epoch_version: i32,
    name: &str,
) -> Result<(), CoordinationError> {
    let mut removed = Ok(());
    for _ in 0..REMOVAL_ATTEMPTS {
        let mut writes = Vec::new();
        for path in [
            paths::config("topics", name),
            paths::topic(name),
            paths::delete_topic(name),
        ] {
            let tree = client.tree(&path).await?;
            writes.extend(tree.into_iter().rev().map(Write::Delete));
        }
        removed = write_all(client, epoch_version, &writes).await;
        // Somebody deletes along, or has put something in between.
        if !matches!(removed, Err(CoordinationError::Transaction { .. })) {
            break;
        }
    }
    removed
}
