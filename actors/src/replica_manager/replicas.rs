//! Carrying orders out: which replicas there are, what they do, and what is published of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::configs::ConfigResource;
use super::fence::Fence;
use super::image;
use super::orders::{
    Authority, EPOCH_DURING_DELETION, LeaderAndIsr, LiveLeader, NO_EPOCH, Order, Outcome,
    PartitionOrder, Scope, StopReplica, StoppedReplica, TopicOrder, UpdateMetadata,
};
use crate::config::{BrokerConfig, TopicConfig};
use crate::controller::membership;
use crate::coordination::schema::TopicAssignment;
use crate::coordination::{CoordinationError, SharedSession, paths};
use crate::log_manager::LogManagerHandle;
use crate::metadata::{BrokerNode, MetadataImage, TopicImage, topic_name_error};
use crate::partition::messages::{BecomeFollower, BecomeLeader, Resign};
use crate::partition::{Answer, PartitionHandle, TopicPartition};
use crate::replication::Fetchers;
use crate::uuid_text::decode_id;

/// Topics that are opened at once.
pub(super) const TOPICS_AT_ONCE: usize = 64;

/// This broker's part of the cluster.
pub(super) struct Replicas {
    pub(super) node: BrokerNode,
    pub(super) config: watch::Sender<Arc<BrokerConfig>>,
    pub(super) session: SharedSession,
    pub(super) logs: LogManagerHandle,
    pub(super) fetchers: Fetchers,
    pub(super) image: watch::Sender<Arc<MetadataImage>>,
    pub(super) fence: Fence,
    /// What is set for topics of which there are replicas, but which are not published yet.
    pub(super) overrides: BTreeMap<Arc<str>, BTreeMap<String, String>>,
}

impl Replicas {
    pub(super) fn current(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    /// Changes what everyone sees.
    pub(super) fn publish(&self, change: impl FnOnce(&mut MetadataImage)) {
        self.image.send_modify(|image| {
            let mut next = MetadataImage::clone(image);
            change(&mut next);
            *image = Arc::new(next);
        });
    }

    /// Takes the epoch of a new registration: orders to earlier ones are void.
    pub(super) fn registered(&mut self, broker_epoch: i64) {
        self.fence.registered(broker_epoch);
        self.node.epoch = broker_epoch;
    }

    /// Leaves all offices: somebody else may have been elected meanwhile.
    pub(super) async fn resign(&mut self) {
        self.fence.deregistered();
        self.publish(|image| image.depose(self.node.id));
        let replicas = self.logs.partitions();
        tracing::info!(
            "{} replicas lead no more, until there are orders",
            replicas.len()
        );
        let resignations = replicas.iter().map(|replica| async move {
            // One that is gone leads nothing either.
            let _ = replica.ask(|reply| Resign { reply }).await;
        });
        join_all(resignations).await;
    }

    /// Carries an order out, unless it is one of the past.
    pub(super) async fn carry_out(&mut self, order: Order) -> Outcome {
        if let Err(code) = self.admit(order.authority()).await {
            tracing::warn!("an order of a controller is refused: {}", code.name());
            return Outcome::of(code);
        }
        let done = match order {
            Order::LeaderAndIsr(order) => self.lead_and_follow(order).await,
            Order::UpdateMetadata(order) => self.update(order).await,
            Order::StopReplica(order) => Ok(self.stop(order).await),
        };
        done.unwrap_or_else(|error| {
            tracing::error!("an order of the controller can't be carried out: {error}");
            Outcome::of(ErrorCode::UnknownServerError)
        })
    }

    /// Lets an order of this authority pass, or says why not.
    async fn admit(&mut self, authority: &Authority) -> Result<(), ErrorCode> {
        if self.fence.is_new(authority) && !self.has_been_in_office(authority).await? {
            tracing::error!(
                "an order claims to be of controller {} in epoch {}, which nobody has been elected for",
                authority.controller_id,
                authority.controller_epoch
            );
            return Err(ErrorCode::StaleControllerEpoch);
        }
        self.fence.pass(authority)
    }

    /// Tells whether there has been an election for that epoch. Whoever could make brokers believe in a later one would lock out
    /// the real controller.
    async fn has_been_in_office(&self, authority: &Authority) -> Answer<bool> {
        let known = async {
            let client = self.session.lend()?;
            let epoch = membership::controller_epoch(&client).await?;
            if epoch.is_some_and(|epoch| epoch >= authority.controller_epoch) {
                return Ok(true);
            }
            // What a server of an ensemble answers may be of the past.
            client.catch_up(paths::CONTROLLER_EPOCH).await?;
            let epoch = membership::controller_epoch(&client).await?;
            Ok(epoch.is_some_and(|epoch| epoch >= authority.controller_epoch))
        };
        known.await.map_err(|error: CoordinationError| {
            tracing::error!("nobody knows who is the controller: {error}");
            ErrorCode::UnknownServerError
        })
    }

    async fn lead_and_follow(&mut self, order: LeaderAndIsr) -> Result<Outcome, CoordinationError> {
        self.learn_overrides(&order.topics).await?;
        let mut outcome = Outcome::of(ErrorCode::None);
        let leaders = &order.live_leaders;
        let topics = order.topics.iter();
        let topics = topics.map(|topic| self.apply_topic(topic, leaders));
        let mut topics = stream::iter(topics).buffer_unordered(TOPICS_AT_ONCE);
        while let Some(replicas) = topics.next().await {
            outcome.replicas.extend(replicas?);
        }
        Ok(outcome)
    }

    async fn apply_topic(
        &self,
        topic: &TopicOrder,
        leaders: &[LiveLeader],
    ) -> Result<Vec<(TopicPartition, ErrorCode)>, CoordinationError> {
        let id = self.id_of(topic).await?;
        let config = match self.current().topic(&topic.name) {
            Some(known) => Arc::clone(&known.config),
            None => {
                let none = BTreeMap::new();
                let overrides = self.overrides.get(&topic.name).unwrap_or(&none);
                Arc::new(self.topic_config(&topic.name, overrides))
            }
        };
        let replicas = topic.partitions.iter().map(|partition| async {
            let topic_partition = TopicPartition {
                topic: Arc::clone(&topic.name),
                partition: partition.partition,
            };
            let applied = match self.open(&topic_partition, id, &config, partition).await {
                Ok(replica) => self.give_role(replica, partition, leaders).await,
                Err(code) => Err(code),
            };
            if let Err(code) = applied {
                tracing::error!("{topic_partition} does not do as ordered: {}", code.name());
            }
            (topic_partition, applied.err().unwrap_or(ErrorCode::None))
        });
        Ok(join_all(replicas).await)
    }

    /// Opens the replica, or makes it.
    async fn open(
        &self,
        topic_partition: &TopicPartition,
        id: Uuid,
        config: &Arc<TopicConfig>,
        order: &PartitionOrder,
    ) -> Answer<PartitionHandle> {
        if !order.replicas.contains(&self.node.id) {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        // It becomes the name of a directory.
        if topic_name_error(&topic_partition.topic).is_some() || topic_partition.partition < 0 {
            return Err(ErrorCode::InvalidTopicException);
        }
        self.logs
            .open(topic_partition.clone(), id, Arc::clone(config))
            .await
    }

    /// Has a replica lead, or follow whoever leads.
    async fn give_role(
        &self,
        replica: PartitionHandle,
        order: &PartitionOrder,
        leaders: &[LiveLeader],
    ) -> Answer<()> {
        if order.leader == self.node.id {
            self.fetchers.unfollow(replica.topic_partition());
            return lead(&replica, order).await;
        }
        follow(&replica, order).await?;
        match leaders.iter().find(|leader| leader.id == order.leader) {
            Some(leader) => {
                let epoch = order.leader_epoch;
                self.fetchers
                    .follow(replica, leader.id, &leader.address(), epoch);
            }
            // Until somebody leads there is nobody to copy from.
            None => self.fetchers.unfollow(replica.topic_partition()),
        }
        Ok(())
    }

    /// Returns the id of a topic; orders of old controllers do not name it.
    async fn id_of(&self, topic: &TopicOrder) -> Result<Uuid, CoordinationError> {
        if !topic.id.is_nil() {
            return Ok(topic.id);
        }
        if let Some(known) = self.current().topic(&topic.name) {
            return Ok(known.id);
        }
        let path = paths::topic(&topic.name);
        let client = self.session.lend()?;
        let node = client.get_json::<TopicAssignment>(&path).await?;
        let stored = node.and_then(|(node, _)| node.topic_id);
        Ok(stored.as_deref().and_then(decode_id).unwrap_or_default())
    }

    /// Reads what is set for topics that are not known yet.
    async fn learn_overrides(&mut self, topics: &[TopicOrder]) -> Result<(), CoordinationError> {
        let image = self.current();
        let unknown = topics.iter().filter(|topic| {
            image.topic(&topic.name).is_none() && !self.overrides.contains_key(&topic.name)
        });
        let reads = unknown.map(|topic| async {
            let resource = ConfigResource::Topic(topic.name.to_string());
            let overrides = match self.stored_overrides(&resource).await {
                Err(CoordinationError::Malformed(error)) => {
                    tracing::error!("{error}; nothing counts as set until that is mended");
                    BTreeMap::new()
                }
                other => other?,
            };
            Ok::<_, CoordinationError>((Arc::clone(&topic.name), overrides))
        });
        let reads: Vec<_> = stream::iter(reads)
            .buffer_unordered(TOPICS_AT_ONCE)
            .collect()
            .await;
        for read in reads {
            let (name, overrides) = read?;
            self.overrides.insert(name, overrides);
        }
        Ok(())
    }

    async fn update(&mut self, order: UpdateMetadata) -> Result<Outcome, CoordinationError> {
        let kept: Vec<TopicOrder> = order
            .topics
            .iter()
            .filter(|topic| !image::is_going(topic))
            .cloned()
            .collect();
        self.learn_overrides(&kept).await?;
        let current = self.current();
        let mut images = Vec::with_capacity(kept.len());
        for topic in &kept {
            let local = |topic_partition: &TopicPartition| self.logs.get(topic_partition);
            let known = current.topic(&topic.name);
            let known = known.filter(|known| topic.id.is_nil() || known.id == topic.id);
            let mut next = match known {
                Some(known) => image::Known::of(known),
                None => {
                    let overrides = self.overrides.get(&topic.name).cloned().unwrap_or_default();
                    let config = Arc::new(self.topic_config(&topic.name, &overrides));
                    image::Known::new(self.id_of(topic).await?, overrides, config)
                }
            };
            next.apply(topic, self.node.id, local);
            images.push(next.into_image(&topic.name));
        }
        let gone = self.unnamed(&order);
        self.publish(|next| {
            next.controller_id = order.authority.controller_id;
            next.is_informed |= order.scope != Scope::Changes;
            next.brokers = image::brokers(&order.brokers, &self.node);
            for topic in order.topics.iter().filter(|topic| image::is_going(topic)) {
                next.remove_topic(&topic.name);
            }
            for name in gone.iter().map(|topic| &topic.name) {
                next.remove_topic(name);
            }
            for topic in images {
                next.put_topic(Arc::new(topic));
            }
        });
        for topic in gone {
            tracing::warn!(
                "topic {} is no more; its replicas are put aside",
                topic.name
            );
            let local = topic
                .partitions
                .iter()
                .filter_map(|found| found.local.as_ref());
            for replica in local.map(PartitionHandle::topic_partition) {
                self.fetchers.unfollow(replica);
                if let Err(code) = self.logs.put_aside(replica).await {
                    tracing::error!("{replica} can't be put aside: {}", code.name());
                }
            }
        }
        for topic in &order.topics {
            self.overrides.remove(&topic.name);
        }
        Ok(Outcome::of(ErrorCode::None))
    }

    /// Lists what is published and, by an order that names all topics, should not be.
    fn unnamed(&self, order: &UpdateMetadata) -> Vec<Arc<TopicImage>> {
        if order.scope != Scope::All {
            return Vec::new();
        }
        let named: BTreeSet<&str> = order.topics.iter().map(|topic| &*topic.name).collect();
        let image = self.current();
        let gone = image.topics().filter(|topic| !named.contains(&*topic.name));
        gone.map(Arc::clone).collect()
    }

    async fn stop(&self, order: StopReplica) -> Outcome {
        let image = self.current();
        let stops = order.replicas.into_iter().map(|replica| async {
            let done = self.stop_replica(&image, &replica).await;
            if let Err(code) = done {
                let name = &replica.topic_partition;
                tracing::error!("{name} can't be stopped: {}", code.name());
            }
            (
                replica.topic_partition,
                done.err().unwrap_or(ErrorCode::None),
            )
        });
        let replicas = join_all(stops).await;
        let stopped = replicas.iter().filter(|(_, code)| *code == ErrorCode::None);
        let stopped: Vec<String> = stopped.map(|(name, _)| name.to_string()).collect();
        tracing::info!("stopped by order of the controller: {}", stopped.join(", "));
        Outcome {
            error: ErrorCode::None,
            replicas,
        }
    }

    async fn stop_replica(&self, image: &MetadataImage, stopped: &StoppedReplica) -> Answer<()> {
        let name = &stopped.topic_partition;
        let current = self.logs.get(name);
        let current = current.map_or(NO_EPOCH, |replica| replica.progress().leader_epoch);
        if is_fenced(stopped.leader_epoch, current) {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        self.fetchers.unfollow(name);
        let done = if stopped.delete {
            self.logs.delete(name).await
        } else if image.topic(&name.topic).is_none() {
            tracing::warn!("{name} is of a topic that is no more; it is put aside");
            self.logs.put_aside(name).await
        } else {
            Ok(())
        };
        match done {
            // What is not there has been stopped already.
            Err(ErrorCode::UnknownTopicOrPartition) => Ok(()),
            other => other,
        }
    }
}

/// Tells whether an order to stop is of an older leadership than the replica is in.
fn is_fenced(ordered: i32, current: i32) -> bool {
    ![EPOCH_DURING_DELETION, NO_EPOCH].contains(&ordered) && ordered < current
}

async fn lead(replica: &PartitionHandle, order: &PartitionOrder) -> Answer<()> {
    let order = |reply| BecomeLeader {
        leader_epoch: order.leader_epoch,
        partition_epoch: order.partition_epoch,
        isr: order.isr.clone(),
        replicas: order.replicas.clone(),
        reply,
    };
    as_ordered(replica.ask(order).await)
}

async fn follow(replica: &PartitionHandle, order: &PartitionOrder) -> Answer<()> {
    let order = |reply| BecomeFollower {
        leader: order.leader,
        leader_epoch: order.leader_epoch,
        reply,
    };
    as_ordered(replica.ask(order).await)
}

/// Says of an older leadership what Kafka does: whoever orders that is a controller of the past.
fn as_ordered(done: Answer<()>) -> Answer<()> {
    done.map_err(|code| match code {
        ErrorCode::FencedLeaderEpoch => ErrorCode::StaleControllerEpoch,
        code => code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_older_leadership_is_fenced() {
        for current in [NO_EPOCH, 0, 5] {
            assert!(!is_fenced(EPOCH_DURING_DELETION, current));
            assert!(!is_fenced(NO_EPOCH, current));
        }
        assert!(is_fenced(4, 5));
        assert!(!is_fenced(5, 5));
        assert!(!is_fenced(6, 5));
    }
}
