//! What clients ask of the controller: topics that come, grow and go.
//!
//! The cluster is locked while the znodes are written and the orders given, not while other brokers carry them out: one that
//! hangs does not stop the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::Mutex;
use tokio::time::Instant;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::cluster::Cluster;
use super::office::{Answers, Partitions};
use super::stored::{StoredTopic, settled, write_all};
use super::topics::{AdminError, NewTopic, TopicPlan, plan_partitions, plan_topic};
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::metadata::BrokerId;
use crate::partition::TopicPartition;

/// How long others have to take over before a broker stops.
const RELIEF: Duration = Duration::from_secs(5);

/// The cluster, as the requests of the controller share it.
pub(super) type SharedCluster = Rc<Mutex<Cluster>>;

/// What became of a topic that was to be created: its plan and its id.
pub(super) type Created = Result<(TopicPlan, Uuid), AdminError>;

/// Plans topics, each for itself.
pub(super) fn plan_topics(cluster: &mut Cluster, topics: &[NewTopic]) -> Vec<Created> {
    let image = cluster.current();
    let config = cluster.broker_config();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let plans = topics.iter().map(|topic| {
        cluster.next_placement = cluster.next_placement.wrapping_add(1);
        // Which of several is meant nobody knows: none is created.
        if times.get(topic.name.as_str()) == Some(&1) {
            let plan = plan_topic(topic, &image, &config, cluster.next_placement)?;
            Ok((plan, Uuid::nil()))
        } else {
            let message = format!("Duplicate topic name: {}", topic.name);
            Err(AdminError::new(ErrorCode::InvalidRequest, message))
        }
    });
    plans.collect()
}

/// Creates topics; each succeeds or fails alone. Answers when they can be used.
pub(super) async fn create_topics(
    cluster: &SharedCluster,
    topics: Vec<NewTopic>,
    validate_only: bool,
    patience: Duration,
) -> Vec<Created> {
    let mut locked = cluster.lock().await;
    if locked.office.is_none() {
        let refused = || Err(AdminError::from(ErrorCode::NotController));
        return topics.iter().map(|_| refused()).collect();
    }
    let own = locked.broker_id;
    let mut outcomes = plan_topics(&mut locked, &topics);
    if validate_only {
        return outcomes;
    }
    for (_, id) in outcomes.iter_mut().flatten() {
        *id = Uuid::new_v4();
    }
    let written = join_all(outcomes.iter().map(|outcome| write_topic(&locked, outcome))).await;
    let mut created = Vec::new();
    for (outcome, written) in outcomes.iter_mut().zip(written) {
        match written {
            Ok(topic) => created.extend(topic),
            Err(error) => *outcome = Err(error),
        }
    }
    let partitions = partitions_of(&created);
    let leaders: BTreeMap<String, BTreeSet<BrokerId>> = created
        .iter()
        .map(|topic| (topic.name.clone(), topic.leaders()))
        .collect();
    let led = take_up(&mut locked, created);
    drop(locked);
    let late = settle(cluster, own, led, &partitions, patience).await;
    for outcome in &mut outcomes {
        let leaders = match outcome {
            Ok((plan, _)) => leaders.get(&plan.name),
            Err(_) => None,
        };
        if leaders.is_some_and(|leaders| !leaders.is_disjoint(&late)) {
            *outcome = Err(ErrorCode::RequestTimedOut.into());
        }
    }
    outcomes
}

/// Has new partitions in mind, and their replicas lead and follow.
fn take_up(cluster: &mut Cluster, topics: Vec<StoredTopic>) -> Answers {
    let Some(office) = &mut cluster.office else {
        return Answers::default();
    };
    let partitions = partitions_of(&topics);
    let named = topics.into_iter().map(|topic| (topic.name.clone(), topic));
    office.topics.extend(named);
    office.lead_and_follow(&partitions, true, None)
}

/// Waits until partitions are led, then tells everyone of them; returns who was not heard of in time. Nobody learns of a
/// partition that can't be used.
async fn settle(
    cluster: &SharedCluster,
    own: BrokerId,
    led: Answers,
    partitions: &Partitions,
    patience: Duration,
) -> BTreeSet<BrokerId> {
    let began = Instant::now();
    let late = led.wait(own, patience).await;
    let informed = cluster.lock().await.announce(partitions);
    let rest = patience.saturating_sub(began.elapsed());
    informed.without(&late).wait(own, rest).await;
    late
}

fn partitions_of(topics: &[StoredTopic]) -> Partitions {
    let all = topics.iter().map(|topic| {
        let numbers = topic.assignment.keys().copied();
        (topic.name.clone(), numbers.collect())
    });
    all.collect()
}

/// Writes all of a topic, its elected leaders included, in one transaction where that fits.
async fn write_topic(
    cluster: &Cluster,
    outcome: &Created,
) -> Result<Option<StoredTopic>, AdminError> {
    let (Ok((plan, id)), Some(office)) = (outcome, &cluster.office) else {
        return Ok(None);
    };
    let client = cluster.client()?;
    refuse_marked(&client, &plan.name).await?;
    let mut topic = StoredTopic::planned(plan, *id);
    let config_path = paths::config("topics", &plan.name);
    let config_exists = client.get(&config_path).await?.is_some();
    let mut writes = topic.writes(&plan.overrides, config_exists);
    let before = topic.clone();
    topic.settle(&office.electorate(&BTreeSet::new()));
    writes.extend(topic.writes_since(&before));
    match write_all(&client, office.epoch_version, &writes).await {
        Err(CoordinationError::Transaction {
            source: zookeeper_client::Error::NodeExists,
            ..
        }) => Err(already_exists(&plan.name)),
        other => Ok(other.map(|()| Some(topic))?),
    }
}

/// Refuses to create a topic as long as its namesake is being deleted: the mark would mean the new one after a crash.
pub(super) async fn refuse_marked(
    client: &CoordinationClient,
    name: &str,
) -> Result<(), AdminError> {
    match client.get(&paths::delete_topic(name)).await? {
        Some(_) => Err(already_exists(name)),
        None => Ok(()),
    }
}

/// Says that there is a topic of that name.
pub(super) fn already_exists(name: &str) -> AdminError {
    let message = format!("Topic '{name}' already exists.");
    AdminError::new(ErrorCode::TopicAlreadyExists, message)
}

/// Adds partitions to a topic.
pub(super) async fn create_partitions(
    cluster: &SharedCluster,
    name: &str,
    count: i32,
    chosen: &[Vec<BrokerId>],
    validate_only: bool,
    patience: Duration,
) -> Result<(), AdminError> {
    let mut locked = cluster.lock().await;
    locked.office()?;
    let own = locked.broker_id;
    locked.next_placement = locked.next_placement.wrapping_add(1);
    let image = locked.current();
    let added = plan_partitions(name, count, chosen, &image, locked.next_placement)?;
    if validate_only {
        return Ok(());
    }
    let numbers = BTreeMap::from([(name.to_owned(), added.keys().copied().collect())]);
    let client = locked.client()?;
    let known_id = image.topic(name).map(|topic| topic.id);
    let Some(mut topic) = StoredTopic::read(&client, name, known_id).await? else {
        return Err(ErrorCode::UnknownTopicOrPartition.into());
    };
    if added
        .keys()
        .any(|number| topic.assignment.contains_key(number))
    {
        let message = "Partitions are being added to this topic already.";
        return Err(AdminError::new(
            ErrorCode::InvalidPartitions,
            message.to_owned(),
        ));
    }
    let before = topic.clone();
    topic.assignment.extend(settled(added));
    let office = locked.office()?;
    topic.settle(&office.electorate(&BTreeSet::new()));
    let writes = topic.writes_since(&before);
    write_all(&client, office.epoch_version, &writes).await?;
    let leaders = topic.leaders();
    office.topics.insert(name.to_owned(), topic);
    let led = office.lead_and_follow(&numbers, true, None);
    drop(locked);
    let late = settle(cluster, own, led, &numbers, patience).await;
    if leaders.is_disjoint(&late) {
        Ok(())
    } else {
        Err(ErrorCode::RequestTimedOut.into())
    }
}

/// Deletes topics: marked first, so that a crash midway is made up for at the next start. Goes on when the patience of the
/// client is over.
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
    let done = match try_join_all(marks).await {
        Ok(_) => finish_deletions(&cluster, &claimed).await,
        Err(error) => Err(error),
    };
    if let Ok(office) = cluster.lock().await.office() {
        office.deleting.retain(|name| !claimed.contains(name));
    }
    Ok(done?)
}

/// Has others lead what a broker leads that is about to stop; returns what nobody else can lead.
pub(super) async fn controlled_shutdown(
    cluster: &SharedCluster,
    broker: BrokerId,
    broker_epoch: i64,
) -> Result<Vec<TopicPartition>, AdminError> {
    let mut locked = cluster.lock().await;
    let own = locked.broker_id;
    let (remaining, answers) = locked.relieve(broker, broker_epoch).await?;
    drop(locked);
    // The others lead before it stops; one that does not answer is not waited for.
    answers.wait(own, RELIEF).await;
    Ok(remaining)
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

/// Deletes every topic that carries the mark, but for those that somebody else deletes already, unless they are `claimed`,
/// and those that have to wait for a broker.
pub(super) async fn finish_deletions(
    cluster: &SharedCluster,
    claimed: &BTreeSet<String>,
) -> Result<(), CoordinationError> {
    let mut locked = cluster.lock().await;
    let own = locked.broker_id;
    let client = locked.client()?;
    let marked = client.children(paths::DELETE_TOPICS).await?;
    if !locked.may_delete() {
        for name in marked {
            client.delete(&paths::delete_topic(&name)).await?;
        }
        return Ok(());
    }
    let office = locked.office()?;
    let doomed = office.doomed(&client, &marked, claimed).await?;
    for topic in &doomed {
        office.topics.remove(&topic.name);
        office.deleting.insert(topic.name.clone());
    }
    let names: Vec<String> = doomed.iter().map(|topic| topic.name.clone()).collect();
    let mut stops = Vec::with_capacity(doomed.len());
    for topic in doomed {
        let told = office.inform_of_deletion(std::slice::from_ref(&topic));
        let stopped = office.stop(std::slice::from_ref(&topic), true);
        stops.push((topic.name, told.and(stopped)));
    }
    drop(locked);
    let deletions = stops.into_iter().map(|(name, answers)| {
        let client = &client;
        async move {
            // One that is gone by now goes on with this when it is back.
            if answers.wait(own, Duration::MAX).await.is_empty() {
                remove_znodes(client, &name).await?;
            }
            Ok(())
        }
    });
    let deleted = join_all(deletions).await;
    if let Ok(office) = cluster.lock().await.office() {
        office.deleting.retain(|name| !names.contains(name));
    }
    deleted.into_iter().collect()
}

async fn remove_znodes(client: &CoordinationClient, name: &str) -> Result<(), CoordinationError> {
    // The configuration first: a topic of the same name may come as soon as this one is gone.
    client.delete(&paths::config("topics", name)).await?;
    client.delete_tree(&paths::topic(name)).await?;
    client.delete(&paths::delete_topic(name)).await
}
