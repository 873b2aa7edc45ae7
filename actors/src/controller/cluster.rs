//! The controller's work: what it writes, in which order, and what it publishes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream;
use tokio::sync::{oneshot, watch};
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::membership::Membership;
use super::stored::{StoredTopic, write_all};
use super::topics::{AdminError, NewTopic, TopicPlan, plan_partitions, plan_topic};
use crate::config::{BrokerConfig, TopicConfig};
use crate::coordination::schema::{ProducerIdBlock, TopicAssignment, to_json};
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::log_manager::LogManagerHandle;
use crate::metadata::{
    BrokerId, BrokerNode, MetadataImage, NO_LEADER, PartitionImage, TopicImage, is_internal,
};
use crate::partition::messages::{BecomeLeader, Resign, UpdateConfig};
use crate::partition::{PartitionHandle, TopicPartition};

/// Topics that are read at once when a controller starts.
const TOPICS_AT_ONCE: usize = 64;

/// Producer ids that a broker takes at a time, as Kafka does.
const PRODUCER_IDS_PER_BLOCK: i64 = 1_000;

/// The cluster as its controller runs it.
pub(super) struct Cluster {
    pub(super) broker_id: BrokerId,
    pub(super) config: watch::Sender<Arc<BrokerConfig>>,
    pub(super) coordination: CoordinationClient,
    pub(super) logs: LogManagerHandle,
    pub(super) image: watch::Sender<Arc<MetadataImage>>,
    pub(super) controller_epoch: i32,
    /// Where the next topic's first leader goes, so that leaders spread.
    pub(super) next_placement: usize,
}

impl From<CoordinationError> for AdminError {
    fn from(error: CoordinationError) -> Self {
        tracing::error!("{error}");
        Self::new(ErrorCode::UnknownServerError, error.to_string())
    }
}

impl Cluster {
    fn current(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    fn broker_config(&self) -> Arc<BrokerConfig> {
        Arc::clone(&self.config.borrow())
    }

    /// Changes what everyone sees.
    pub(super) fn publish(&self, change: impl FnOnce(&mut MetadataImage)) {
        self.image.send_modify(|image| {
            let mut next = MetadataImage::clone(image);
            change(&mut next);
            *image = Arc::new(next);
        });
    }

    /// Takes up the controller's office: this broker is alive, and so are its partitions.
    pub(super) async fn take_office(
        &mut self,
        node: BrokerNode,
        membership: Membership,
    ) -> Result<(), CoordinationError> {
        self.controller_epoch = membership.controller_epoch;
        let node = Arc::new(BrokerNode {
            epoch: membership.broker_epoch,
            ..node
        });
        self.publish(|image| {
            image.controller_id = node.id;
            image.brokers = BTreeMap::from([(node.id, node)]);
        });
        self.read_groups().await?;
        self.finish_deletions().await?;
        let names = self.coordination.children(paths::TOPICS).await?;
        let topics = self.read_topics(&names).await?;
        self.bring_up(topics, true).await
    }

    /// Leaves all offices, with the session that they were held by: somebody else may have been elected meanwhile.
    pub(super) async fn leave_office(&self) {
        self.publish(|image| image.depose(self.broker_id));
        let replicas = self.logs.partitions();
        let resignations = replicas.iter().map(|replica| async move {
            // One that is gone leads nothing either.
            let _ = replica.ask(|reply| Resign { reply }).await;
        });
        join_all(resignations).await;
    }

    async fn read_topics(&self, names: &[String]) -> Result<Vec<StoredTopic>, CoordinationError> {
        let image = self.current();
        let reads = names.iter().map(|name| {
            let known_id = image.topic(name).map(|topic| topic.id);
            StoredTopic::read(&self.coordination, name, known_id)
        });
        let mut reads = stream::iter(reads).buffer_unordered(TOPICS_AT_ONCE);
        let mut topics = Vec::new();
        while let Some(topic) = reads.next().await {
            match topic {
                Ok(topic) => topics.extend(topic),
                Err(CoordinationError::Malformed(error)) => {
                    tracing::error!("{error}; the topic stays offline until it is mended");
                }
                Err(error) => return Err(error),
            }
        }
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// Elects leaders, opens the replicas that are this broker's, and publishes the result.
    async fn bring_up(
        &self,
        mut topics: Vec<StoredTopic>,
        restarted: bool,
    ) -> Result<(), CoordinationError> {
        let live: BTreeSet<BrokerId> = self.current().brokers.keys().copied().collect();
        let mut writes = Vec::new();
        for topic in &mut topics {
            writes.extend(topic.elect(&live, self.controller_epoch, restarted));
        }
        write_all(&self.coordination, &writes).await?;
        self.open_and_publish(topics).await;
        Ok(())
    }

    async fn open_and_publish(&self, topics: Vec<StoredTopic>) {
        let images = join_all(topics.iter().map(|topic| self.open_topic(topic))).await;
        self.publish(|image| {
            for topic in images {
                image.put_topic(Arc::new(topic));
            }
        });
    }

    async fn open_topic(&self, topic: &StoredTopic) -> TopicImage {
        let config = Arc::new(self.topic_config(&topic.name, &topic.overrides));
        let name: Arc<str> = topic.name.as_str().into();
        let partitions = topic.assignment.iter().map(|(&partition, replicas)| {
            self.open_partition(topic, &name, partition, replicas, &config)
        });
        TopicImage {
            id: topic.id,
            is_internal: is_internal(&name),
            overrides: topic.overrides.clone(),
            partitions: join_all(partitions).await,
            config,
            name,
        }
    }

    /// Computes a topic's configuration; overrides that make no sense are ignored, loudly.
    pub(super) fn topic_config(
        &self,
        name: &str,
        overrides: &BTreeMap<String, String>,
    ) -> TopicConfig {
        let broker = self.broker_config();
        TopicConfig::parse(overrides, &broker).unwrap_or_else(|error| {
            tracing::error!(
                "topic {name}: {error}; its configuration is the broker's until that is mended"
            );
            broker.topic_defaults.clone()
        })
    }

    async fn open_partition(
        &self,
        topic: &StoredTopic,
        name: &Arc<str>,
        partition: i32,
        replicas: &[BrokerId],
        config: &Arc<TopicConfig>,
    ) -> PartitionImage {
        let state = topic.states.get(&partition);
        let local = if replicas.contains(&self.broker_id) {
            let topic_partition = TopicPartition {
                topic: Arc::clone(name),
                partition,
            };
            self.open_replica(topic_partition, topic.id, config).await
        } else {
            None
        };
        let image = PartitionImage {
            leader: state.map_or(NO_LEADER, |state| state.leader),
            leader_epoch: state.map_or(0, |state| state.leader_epoch),
            replicas: replicas.to_vec(),
            isr: state.map(|state| state.isr.clone()).unwrap_or_default(),
            local,
        };
        match &image.local {
            Some(replica) if image.leader == self.broker_id => lead(replica, &image).await,
            _ => {}
        }
        image
    }

    async fn open_replica(
        &self,
        topic_partition: TopicPartition,
        id: Uuid,
        config: &Arc<TopicConfig>,
    ) -> Option<PartitionHandle> {
        let label = topic_partition.to_string();
        match self
            .logs
            .open(topic_partition, id, Arc::clone(config))
            .await
        {
            Ok(replica) => Some(replica),
            Err(error) => {
                tracing::error!("partition {label} can't be opened: {error}");
                None
            }
        }
    }

    /// Creates topics; each succeeds or fails alone.
    pub(super) async fn create_topics(
        &mut self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Vec<Result<(TopicPlan, Uuid), AdminError>> {
        let image = self.current();
        let config = self.broker_config();
        let mut outcomes = Vec::with_capacity(topics.len());
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for topic in &topics {
            *times.entry(&topic.name).or_default() += 1;
        }
        for topic in &topics {
            self.next_placement = self.next_placement.wrapping_add(1);
            // Which of several is meant nobody knows: none is created.
            let plan = if times.get(topic.name.as_str()) == Some(&1) {
                plan_topic(topic, &image, &config, self.next_placement)
            } else {
                let message = format!("Duplicate topic name: {}", topic.name);
                Err(AdminError::new(ErrorCode::InvalidRequest, message))
            };
            outcomes.push(plan.map(|plan| (plan, Uuid::nil())));
        }
        if validate_only {
            return outcomes;
        }
        for (_, id) in outcomes.iter_mut().flatten() {
            *id = Uuid::new_v4();
        }
        let created = join_all(outcomes.iter().map(|outcome| self.write_topic(outcome))).await;
        let mut stored = Vec::new();
        for (outcome, created) in outcomes.iter_mut().zip(created) {
            match created {
                Ok(topic) => stored.extend(topic),
                Err(error) => *outcome = Err(error),
            }
        }
        self.open_and_publish(stored).await;
        outcomes
    }

    /// Writes all of a topic, its elected leaders included, in one transaction where that fits.
    async fn write_topic(
        &self,
        outcome: &Result<(TopicPlan, Uuid), AdminError>,
    ) -> Result<Option<StoredTopic>, AdminError> {
        let Ok((plan, id)) = outcome else {
            return Ok(None);
        };
        let mut topic = StoredTopic::planned(plan, *id);
        let config_path = paths::config("topics", &plan.name);
        let config_exists = self.coordination.get(&config_path).await?.is_some();
        let live = self.current().brokers.keys().copied().collect();
        let mut writes = topic.writes(config_exists);
        writes.extend(topic.elect(&live, self.controller_epoch, false));
        match write_all(&self.coordination, &writes).await {
            Err(CoordinationError::Transaction {
                source: zookeeper_client::Error::NodeExists,
                ..
            }) => {
                let message = format!("Topic '{}' already exists.", plan.name);
                Err(AdminError::new(ErrorCode::TopicAlreadyExists, message))
            }
            other => Ok(other.map(|()| Some(topic))?),
        }
    }

    /// Adds partitions to a topic.
    pub(super) async fn create_partitions(
        &mut self,
        name: &str,
        count: i32,
        chosen: &[Vec<BrokerId>],
        validate_only: bool,
    ) -> Result<(), AdminError> {
        self.next_placement = self.next_placement.wrapping_add(1);
        let added = plan_partitions(name, count, chosen, &self.current(), self.next_placement)?;
        if validate_only {
            return Ok(());
        }
        let known_id = self.current().topic(name).map(|topic| topic.id);
        let Some(mut topic) = StoredTopic::read(&self.coordination, name, known_id).await? else {
            return Err(ErrorCode::UnknownTopicOrPartition.into());
        };
        topic.assignment.extend(added);
        let live = self.current().brokers.keys().copied().collect();
        let mut writes = vec![topic.rewrite()];
        writes.extend(topic.elect(&live, self.controller_epoch, false));
        write_all(&self.coordination, &writes).await?;
        self.open_and_publish(vec![topic]).await;
        Ok(())
    }

    /// Deletes topics: marked first, so that a crash midway is made up for at the next start.
    pub(super) async fn delete_topics(&self, names: &[String]) -> Result<(), CoordinationError> {
        let paths: Vec<String> = names.iter().map(|name| paths::delete_topic(name)).collect();
        // Some may be marked already, by a tool or before a crash: the others are marked all the same.
        try_join_all(
            paths
                .iter()
                .map(|path| self.coordination.create_if_missing(path, b"")),
        )
        .await?;
        self.finish_deletions().await
    }

    /// Deletes every topic that carries the mark.
    pub(super) async fn finish_deletions(&self) -> Result<(), CoordinationError> {
        let marked = self.coordination.children(paths::DELETE_TOPICS).await?;
        let deleted = join_all(marked.iter().map(|name| self.delete_topic(name))).await;
        deleted.into_iter().collect()
    }

    async fn delete_topic(&self, name: &str) -> Result<(), CoordinationError> {
        if self.broker_config().delete_topic_enable {
            let topic = self.current().topic(name).map(Arc::clone);
            self.publish(|image| image.remove_topic(name));
            match topic {
                Some(topic) => self.delete_replicas(local_replicas(&topic)).await,
                // A deletion that a crash cut short goes on before anything of the topic is opened.
                None if self.coordination.get(&paths::topic(name)).await?.is_some() => {
                    let mut unopened = self.logs.unopened().await;
                    unopened.retain(|partition| &*partition.topic == name);
                    self.delete_replicas(unopened.iter()).await;
                }
                None => {}
            }
            self.coordination.delete_tree(&paths::topic(name)).await?;
            self.coordination
                .delete(&paths::config("topics", name))
                .await?;
        }
        self.coordination.delete(&paths::delete_topic(name)).await
    }

    async fn delete_replicas(&self, replicas: impl Iterator<Item = &TopicPartition>) {
        let deletions = replicas.map(|topic_partition| async move {
            if let Err(error) = self.logs.delete(topic_partition).await {
                tracing::error!("{topic_partition} can't be deleted: {error}");
            }
        });
        join_all(deletions).await;
    }

    /// Takes up what tools have changed in the znodes behind the controller's back.
    pub(super) async fn synchronise(&self) -> Result<(), CoordinationError> {
        self.finish_deletions().await?;
        let names = self.coordination.children(paths::TOPICS).await?;
        let image = self.current();
        let (known, new): (Vec<String>, Vec<String>) = names
            .into_iter()
            .partition(|name| image.topic(name).is_some());
        let topics = self.read_topics(&new).await?;
        self.bring_up(topics, false).await?;
        let known: BTreeSet<String> = known.into_iter().collect();
        for gone in image.topics().filter(|topic| !known.contains(&*topic.name)) {
            tracing::warn!(
                "topic {} has lost its znode; it is served no more, and its replicas here are put aside",
                gone.name
            );
            self.publish(|image| image.remove_topic(&gone.name));
            for replica in local_replicas(gone) {
                if let Err(error) = self.logs.put_aside(replica).await {
                    tracing::error!("{replica} can't be put aside: {error}");
                }
            }
        }
        Ok(())
    }

    /// Takes up what tools made of topics that are known: more partitions, or, by old ones, no id any more.
    pub(super) async fn compare(
        &self,
        found: &[(String, TopicAssignment)],
    ) -> Result<(), CoordinationError> {
        for (name, assignment) in found {
            let differs = self.current().topic(name).is_some_and(|known| {
                assignment.partitions.len() > known.partitions.len()
                    || assignment.topic_id.is_none()
            });
            if differs {
                match self.refresh_topic(name).await {
                    Err(CoordinationError::Malformed(error)) => {
                        tracing::error!("{error}; the topic is served as it was");
                    }
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Reads one topic's znodes again: its partitions may have become more, its overrides others.
    pub(super) async fn refresh_topic(&self, name: &str) -> Result<(), CoordinationError> {
        let Some(known) = self.current().topic(name).map(Arc::clone) else {
            return Ok(());
        };
        let Some(topic) = StoredTopic::read(&self.coordination, name, Some(known.id)).await? else {
            return Ok(());
        };
        let config = Arc::new(self.topic_config(name, &topic.overrides));
        for replica in known
            .partitions
            .iter()
            .filter_map(|partition| partition.local.as_ref())
        {
            let config = Arc::clone(&config);
            // One that is gone has no use for it.
            let _ = replica.send(UpdateConfig { config }).await;
        }
        if topic.assignment.len() > known.partitions.len() {
            return self.bring_up(vec![topic], false).await;
        }
        self.publish(|image| {
            image.put_topic(Arc::new(TopicImage {
                name: Arc::clone(&known.name),
                id: known.id,
                is_internal: known.is_internal,
                partitions: known.partitions.clone(),
                overrides: topic.overrides,
                config,
            }));
        });
        Ok(())
    }

    /// Takes the next block of producer ids for this broker: the first and the last.
    pub(super) async fn allocate_producer_ids(&self) -> Result<(i64, i64), CoordinationError> {
        loop {
            let path = paths::PRODUCER_ID_BLOCK;
            let (start, version) = match self.coordination.get(path).await? {
                Some((data, stat)) if data.is_empty() => (0, Some(stat.version)),
                Some((data, stat)) => {
                    let block: ProducerIdBlock =
                        crate::coordination::schema::from_json(path, &data)?;
                    let end: i64 = block.block_end.parse().unwrap_or(i64::MAX - 1);
                    (end.saturating_add(1), Some(stat.version))
                }
                None => (0, None),
            };
            let end = start.saturating_add(PRODUCER_IDS_PER_BLOCK - 1);
            let block = to_json(&ProducerIdBlock {
                version: 1,
                broker: self.broker_id,
                block_start: start.to_string(),
                block_end: end.to_string(),
            });
            if version.is_none() {
                self.coordination.create_if_missing(path, b"").await?;
                continue;
            }
            match self.coordination.set(path, &block, version).await {
                Ok(_) => return Ok((start, end)),
                // Another broker took that block; the next one may be ours.
                Err(CoordinationError::Service(zookeeper_client::Error::BadVersion)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Lists what of a topic is on this broker.
fn local_replicas(topic: &TopicImage) -> impl Iterator<Item = &TopicPartition> {
    let local = topic
        .partitions
        .iter()
        .filter_map(|partition| partition.local.as_ref());
    local.map(PartitionHandle::topic_partition)
}

async fn lead(replica: &PartitionHandle, image: &PartitionImage) {
    let (reply, answer) = oneshot::channel();
    let order = BecomeLeader {
        leader_epoch: image.leader_epoch,
        partition_epoch: 0,
        isr: image.isr.clone(),
        replicas: image.replicas.clone(),
        reply,
    };
    let outcome = match replica.send(order).await {
        Ok(()) => answer.await.unwrap_or(Err(ErrorCode::KafkaStorageError)),
        Err(code) => Err(code),
    };
    if let Err(code) = outcome {
        tracing::error!("a replica does not take its leadership: {}", code.name());
    }
}
