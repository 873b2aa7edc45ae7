//! The controller's work: what it writes, in which order, and what it orders of its brokers then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;

use super::answers::Answers;
use super::changes::Changes;
use super::channel::Channels;
use super::membership::{self, Election};
use super::office::{Change, LiveBroker, Office, Partitions};
use super::stored::{Electorate, StoredTopic, write_all};
use super::topics::AdminError;
use crate::config::{BrokerConfig, TopicConfig};
use crate::coordination::client::Write;
use crate::coordination::schema::{ConfigOverrides, IsrChange, PartitionName, TopicAssignment};
use crate::coordination::{CoordinationClient, CoordinationError, SharedSession, paths};
use crate::metadata::{BrokerId, MetadataImage};
use crate::partition::TopicPartition;
use crate::replica_manager::orders::NO_BROKER_EPOCH;

/// Topics that are read at once when a controller starts.
const TOPICS_AT_ONCE: usize = 64;

/// How often an election is held again because a leader changed its in-sync set meanwhile.
const ELECTION_ATTEMPTS: usize = 10;

/// The cluster as its controller runs it.
pub(super) struct Cluster {
    pub(super) broker_id: BrokerId,
    pub(super) config: watch::Receiver<Arc<BrokerConfig>>,
    pub(super) session: SharedSession,
    pub(super) image: watch::Receiver<Arc<MetadataImage>>,
    pub(super) channels: Channels,
    /// Nothing while another broker is the controller.
    pub(super) office: Option<Office>,
    /// Where the next topic's first leader goes, so that leaders spread.
    pub(super) next_placement: usize,
}

impl From<CoordinationError> for AdminError {
    fn from(error: CoordinationError) -> Self {
        if matches!(error, CoordinationError::Fenced) {
            return ErrorCode::NotController.into();
        }
        tracing::error!("{error}");
        Self::new(ErrorCode::UnknownServerError, error.to_string())
    }
}

impl Cluster {
    pub(super) fn current(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    pub(super) fn broker_config(&self) -> Arc<BrokerConfig> {
        Arc::clone(&self.config.borrow())
    }

    pub(super) fn client(&self) -> Result<CoordinationClient, CoordinationError> {
        self.session.lend()
    }

    pub(super) fn office(&mut self) -> Result<&mut Office, CoordinationError> {
        self.office.as_mut().ok_or(CoordinationError::Fenced)
    }

    /// Leaves the office; all that was in mind is out of date from now on.
    pub(super) fn resign(&mut self) {
        if let Some(office) = self.office.take() {
            tracing::info!("no controller any more, after epoch {}", office.epoch);
        }
    }

    /// Takes up the office that was won; `restarted` tells that this broker has just come up.
    pub(super) async fn take_office(
        &mut self,
        election: Election,
        restarted: bool,
    ) -> Result<(), CoordinationError> {
        let taken = self.try_take_office(election, restarted).await;
        if taken.is_err() {
            self.resign();
        }
        taken
    }

    async fn try_take_office(
        &mut self,
        election: Election,
        restarted: bool,
    ) -> Result<(), CoordinationError> {
        let own = self.broker_id;
        self.office = Some(Office {
            broker_id: own,
            epoch: election.epoch,
            epoch_version: election.epoch_version,
            brokers: BTreeMap::new(),
            topics: BTreeMap::new(),
            leaving: BTreeSet::new(),
            deleting: BTreeSet::new(),
            left_out: false,
            channels: self.channels.clone(),
            unsettled: Change::default(),
            tasks: BTreeMap::new(),
        });
        let restarted = BTreeSet::from_iter(restarted.then_some(own));
        self.meet_brokers().await?;
        // Before anyone leads, everyone knows who is there.
        self.office()?.inform(&Partitions::new());
        let client = self.client()?;
        let mut names = client.children(paths::TOPICS).await?;
        let there = names.len();
        let marked = client.children(paths::DELETE_TOPICS).await?;
        names.retain(|name| !(self.may_delete() && marked.contains(name)));
        let topics = self.read_topics(&names).await?;
        let left_out = topics.len() < there;
        let changes = self.settle(topics, &restarted).await?;
        let office = self.office()?;
        office.left_out = left_out;
        office.unsettled = Change::default();
        let all = office.all();
        let led = office.lead_and_follow(&all, false, None);
        let informed = office.inform_of_all(None);
        office.drop_replicas(&changes);
        led.and(informed).of(own).wait(own, Duration::ZERO).await;
        Ok(())
    }

    /// Tells whether topics may be deleted at all.
    pub(super) fn may_delete(&self) -> bool {
        self.broker_config().delete_topic_enable
    }

    /// Reads who is alive, and opens channels to them.
    async fn meet_brokers(&mut self) -> Result<(), CoordinationError> {
        let found = membership::live_brokers(&self.client()?).await?;
        let office = self.office()?;
        let change = &mut office.unsettled;
        for node in found.values() {
            let known = office.brokers.get(&node.id);
            match known {
                Some(known) if known.node.epoch == node.epoch => continue,
                Some(_) => change.restarted.insert(node.id),
                None => change.came.insert(node.id),
            };
            office.leaving.remove(&node.id);
            let node = Arc::new(node.clone());
            let channel = office.channels.open(&node);
            office.brokers.insert(node.id, LiveBroker { node, channel });
        }
        let gone: Vec<BrokerId> = office.brokers.keys().copied().collect();
        for id in gone.into_iter().filter(|id| !found.contains_key(id)) {
            office.brokers.remove(&id);
            office.leaving.remove(&id);
            change.went.insert(id);
        }
        Ok(())
    }

    /// Takes up that brokers came or went.
    pub(super) async fn brokers_changed(&mut self) -> Result<(), CoordinationError> {
        self.meet_brokers().await?;
        let Change {
            came,
            restarted,
            went,
        } = self.office()?.unsettled.clone();
        if came.is_empty() && restarted.is_empty() && went.is_empty() {
            return Ok(());
        }
        tracing::info!("brokers came: {came:?}, came back: {restarted:?}, went: {went:?}");
        let topics = self.office()?.topics.values().cloned().collect();
        let back: BTreeSet<BrokerId> = came.union(&restarted).copied().collect();
        let changes = self.settle(topics, &restarted).await?;
        let office = self.office()?;
        office.lead_and_follow(&changes.partitions, false, None);
        let all = office.all();
        office.lead_and_follow(&all, false, Some(&back));
        // Who is back learns all at once: a part of it would look like the whole.
        office.inform_others(&changes.partitions, &back);
        office.inform_of_all(Some(&back));
        office.drop_replicas(&changes);
        office.unsettled = Change::default();
        Ok(())
    }

    pub(super) async fn read_topics(
        &self,
        names: &[String],
    ) -> Result<Vec<StoredTopic>, CoordinationError> {
        let client = self.client()?;
        let image = self.current();
        let reads = names.iter().map(|name| {
            let known_id = image.topic(name).map(|topic| topic.id);
            StoredTopic::read(&client, name, known_id)
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
        Ok(topics)
    }

    /// Elects leaders for topics wherever it takes one, and ends reassignments that have come to their end.
    pub(super) async fn settle(
        &mut self,
        topics: Vec<StoredTopic>,
        restarted: &BTreeSet<BrokerId>,
    ) -> Result<Changes, CoordinationError> {
        let mut electorate = self.office()?.electorate(restarted);
        electorate.unclean = self.accepting_loss(&topics, &electorate).await?;
        self.change(topics, |topic| topic.settle(&electorate)).await
    }

    /// Lists the topics without anybody in sync where somebody else may lead.
    async fn accepting_loss(
        &self,
        topics: &[StoredTopic],
        electorate: &Electorate,
    ) -> Result<BTreeSet<String>, CoordinationError> {
        let (client, config) = (&self.client()?, &self.broker_config());
        let stuck = topics.iter().filter(|topic| topic.is_stuck(electorate));
        let reads = stuck.map(|topic| async move {
            // What this broker knows of configurations may be older than its office.
            let path = paths::config("topics", &topic.name);
            let stored = match client.get_json::<ConfigOverrides>(&path).await {
                Err(CoordinationError::Malformed(error)) => {
                    tracing::error!("{error}; no records are given up");
                    return Ok::<_, CoordinationError>(None);
                }
                other => other?,
            };
            let overrides = stored.map(|(stored, _)| stored.config).unwrap_or_default();
            let parsed = TopicConfig::parse(&overrides, config);
            let accepts = parsed.is_ok_and(|config| config.unclean_leader_election_enable);
            Ok(accepts.then(|| topic.name.clone()))
        });
        let mut reads = stream::iter(reads).buffer_unordered(TOPICS_AT_ONCE);
        let mut accepting = BTreeSet::new();
        while let Some(found) = reads.next().await {
            accepting.extend(found?);
        }
        Ok(accepting)
    }

    /// Changes topics, writes that, and has the result in mind. `decide` is asked again when a leader has changed its
    /// in-sync set meanwhile.
    pub(super) async fn change(
        &mut self,
        mut topics: Vec<StoredTopic>,
        mut decide: impl FnMut(&mut StoredTopic),
    ) -> Result<Changes, CoordinationError> {
        let client = self.client()?;
        let office = self.office()?;
        for _ in 0..ELECTION_ATTEMPTS {
            let mut next = topics.clone();
            let mut writes: Vec<Write> = Vec::new();
            for (topic, before) in next.iter_mut().zip(&topics) {
                decide(topic);
                writes.extend(topic.writes_since(before));
            }
            match write_all(&client, office.epoch_version, &writes).await {
                Ok(()) => {
                    let mut changes = Changes::default();
                    for (topic, read) in next.into_iter().zip(&topics) {
                        changes.note(office.topics.get(&topic.name).unwrap_or(read), &topic);
                        office.topics.insert(topic.name.clone(), topic);
                    }
                    return Ok(changes);
                }
                Err(CoordinationError::Transaction { .. }) => {
                    for topic in &mut topics {
                        topic.refresh(&client).await?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(CoordinationError::Service(
            zookeeper_client::Error::BadVersion,
        ))
    }

    /// Elects for topics that are new here, and has their replicas lead and follow.
    pub(super) async fn bring_up(
        &mut self,
        topics: Vec<StoredTopic>,
    ) -> Result<(), CoordinationError> {
        let names = topics.iter().map(|topic| topic.name.clone());
        let names: Vec<String> = names.collect();
        self.settle(topics, &BTreeSet::new()).await?;
        let own = self.broker_id;
        let office = self.office()?;
        let mut partitions = office.all();
        partitions.retain(|name, _| names.contains(name));
        let led = office.lead_and_follow(&partitions, true, None);
        let informed = office.inform(&partitions);
        led.and(informed).of(own).wait(own, Duration::ZERO).await;
        Ok(())
    }

    /// Takes up what tools have changed in the znodes behind the controller's back.
    pub(super) async fn topics_changed(&mut self) -> Result<(), CoordinationError> {
        let client = self.client()?;
        let names = client.children(paths::TOPICS).await?;
        let marked = client.children(paths::DELETE_TOPICS).await?;
        let office = self.office()?;
        let (known, mut new): (BTreeSet<String>, BTreeSet<String>) = names
            .into_iter()
            .partition(|name| office.topics.contains_key(name));
        let gone: Vec<StoredTopic> = office
            .topics
            .values()
            .filter(|topic| !known.contains(&topic.name))
            .cloned()
            .collect();
        for topic in &gone {
            tracing::warn!(
                "topic {} has lost its znode; it is served no more, and its replicas are put aside",
                topic.name
            );
            office.topics.remove(&topic.name);
        }
        if !gone.is_empty() {
            let answers = office.inform_of_deletion(&gone, None);
            let stopped = office.stop(&gone, false, None);
            let own = self.broker_id;
            answers.and(stopped).of(own).wait(own, Duration::ZERO).await;
        }
        new.retain(|name| !(self.may_delete() && marked.contains(name)));
        let new: Vec<String> = new.into_iter().collect();
        let topics = self.read_topics(&new).await?;
        if !topics.is_empty() {
            self.bring_up(topics).await?;
        }
        Ok(())
    }

    /// Takes up what tools made of topics that are known: more partitions, or, by old ones, no id any more.
    pub(super) async fn compare(
        &mut self,
        found: &[(String, TopicAssignment)],
    ) -> Result<(), CoordinationError> {
        let client = self.client()?;
        for (name, assignment) in found {
            let Some(known) = self.office()?.topics.get(name) else {
                continue;
            };
            let grown = assignment.partitions.len() > known.assignment.len();
            if !grown && assignment.topic_id.is_some() {
                continue;
            }
            match StoredTopic::read(&client, name, Some(known.id)).await {
                Ok(Some(topic)) if grown => self.bring_up(vec![topic]).await?,
                Ok(_) => {}
                Err(CoordinationError::Malformed(error)) => {
                    tracing::error!("{error}; the topic is served as it was");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Has others lead what a broker leads that is about to stop; returns what nobody else can lead now, and the orders
    /// that are on their way.
    pub(super) async fn relieve(
        &mut self,
        broker: BrokerId,
        broker_epoch: i64,
    ) -> Result<(Vec<TopicPartition>, Answers), AdminError> {
        let office = self.office()?;
        let Some(live) = office.brokers.get(&broker) else {
            return Err(ErrorCode::BrokerNotAvailable.into());
        };
        if broker_epoch != NO_BROKER_EPOCH && broker_epoch < live.node.epoch {
            return Err(ErrorCode::StaleBrokerEpoch.into());
        }
        office.leaving.insert(broker);
        let topics = office.topics.values().cloned().collect();
        let changes = self.settle(topics, &BTreeSet::new()).await?;
        let office = self.office()?;
        let ordered = office.carry_out(&changes);
        let answers = ordered.and(office.stop_following(broker));
        Ok((office.still_led_by(broker), answers))
    }

    /// Takes up that leaders have changed in-sync sets, and tells everyone.
    pub(super) async fn isr_changed(&mut self) -> Result<(), CoordinationError> {
        let client = self.client()?;
        let mut changed = Partitions::new();
        let mut paths = Vec::new();
        for notice in client.children(paths::ISR_CHANGES).await? {
            let path = format!("{}/{notice}", paths::ISR_CHANGES);
            match client.get_json::<IsrChange>(&path).await {
                Ok(found) => {
                    let named = found.into_iter().flat_map(|(change, _)| change.partitions);
                    for PartitionName { topic, partition } in named {
                        changed.entry(topic).or_default().insert(partition);
                    }
                }
                Err(CoordinationError::Malformed(error)) => tracing::warn!("{error}"),
                Err(error) => return Err(error),
            }
            paths.push(path);
        }
        let office = self.office()?;
        for name in changed.keys() {
            if let Some(topic) = office.topics.get_mut(name) {
                topic.refresh(&client).await?;
            }
        }
        if !changed.is_empty() {
            office.inform(&changed);
        }
        self.go_on_with_reassignments(&changed).await?;
        for path in paths {
            client.delete(&path).await?;
        }
        Ok(())
    }

    /// Ends reassignments where all targets have caught up now.
    async fn go_on_with_reassignments(
        &mut self,
        changed: &Partitions,
    ) -> Result<(), CoordinationError> {
        let office = self.office()?;
        let topics = changed.keys().filter_map(|name| office.topics.get(name));
        let topics: Vec<StoredTopic> = topics
            .filter(|topic| topic.is_reassigning())
            .cloned()
            .collect();
        let changes = self.settle(topics, &BTreeSet::new()).await?;
        self.office()?.carry_out(&changes);
        Ok(())
    }

    /// Lists the znodes of states that make no sense.
    pub(super) fn senseless_states(&self) -> Vec<String> {
        let topics = self.office.iter().flat_map(|office| office.topics.values());
        topics.flat_map(StoredTopic::senseless_states).collect()
    }

    /// Takes up what became of states that made no sense: partitions are led as these say now, or elected for when they are
    /// gone.
    pub(super) async fn states_changed(&mut self) -> Result<(), CoordinationError> {
        let client = self.client()?;
        let topics = self.office()?.topics.values();
        let senseless = topics.filter(|topic| !topic.senseless.is_empty());
        let mut topics: Vec<StoredTopic> = senseless.cloned().collect();
        for topic in &mut topics {
            topic.refresh(&client).await?;
        }
        let changes = self.settle(topics, &BTreeSet::new()).await?;
        self.office()?.carry_out(&changes);
        Ok(())
    }

    /// Tells everyone what has become of partitions.
    pub(super) fn announce(&mut self, partitions: &Partitions) -> Answers {
        match &mut self.office {
            Some(office) => office.inform(partitions),
            None => Answers::default(),
        }
    }
}
