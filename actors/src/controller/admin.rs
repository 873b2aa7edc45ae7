//! What clients ask of the controller: topics that come and grow, and brokers that go.
//!
//! The cluster is locked while the znodes are written and the orders given, not while other brokers carry them out: one that
//! hangs does not stop the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::answers::Answers;
use super::cluster::Cluster;
use super::office::Partitions;
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
    let image = locked.current();
    let added = plan_partitions(name, count, chosen, &image)?;
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
