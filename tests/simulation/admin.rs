//! An administrator: makes topics and deletes them, and at the end insists on a cluster that is well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    MetadataRequest, MetadataResponse,
};
use kafka_protocol::protocol::Request;
use rand::Rng;
use tokio::time::sleep;

use crate::history::{History, Partition};
use crate::wire::{Client, topic_name};

/// NONE, UNKNOWN_TOPIC_OR_PARTITION, TOPIC_ALREADY_EXISTS: it is done, by this request or by the one before.
const DONE: [i16; 3] = [0, 3, 36];
const UNKNOWN_TOPIC: i16 = 3;
const NOT_CONTROLLER: i16 = 41;
/// Topics at a time at most.
const TOPICS: usize = 6;

/// Who administers.
pub struct Admin {
    client: Client,
    history: History,
    /// The topics that there have to be.
    topics: BTreeSet<String>,
    /// Those of them that may be deleted.
    deletable: Vec<String>,
    /// Topics that may be there or not: a controller that has just come into office knows no topics for a moment, and says
    /// so when it is to delete one.
    doubtful: BTreeSet<String>,
}

impl Admin {
    pub fn new(client: Client, history: History) -> Self {
        Self {
            client,
            history,
            topics: BTreeSet::new(),
            deletable: Vec::new(),
            doubtful: BTreeSet::new(),
        }
    }

    /// Makes the topic of these partitions, then others, which it deletes again; waits for the cluster to be well.
    pub async fn run(mut self, partitions: Vec<Partition>) {
        if let Some(first) = partitions.first() {
            self.create(&first.topic, partitions.len()).await;
            self.deletable.clear();
        }
        let mut names = 0;
        while !self.history.is_ending() {
            let pause = self.client.random.random_range(0..1_000);
            sleep(Duration::from_millis(pause)).await;
            self.history.begin();
            match self.client.random.random::<bool>() {
                true if self.topics.len() < TOPICS => {
                    let partitions = self.client.random.random_range(1..4);
                    names += 1;
                    self.create(&format!("other-{names}"), partitions).await;
                }
                _ => {
                    if let Some(topic) = self.deletable.pop() {
                        self.delete(&topic).await;
                    }
                }
            }
            self.history.finish();
        }
        loop {
            match self.find_fault().await {
                None => return self.history.complain(String::new()),
                Some(fault) => self.history.complain(fault),
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// Makes a topic, however often it takes.
    ///
    /// A request without an answer may still arrive when the topic is deleted, and make it again; such a topic stays.
    async fn create(&mut self, name: &str, partitions: usize) {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(i32::try_from(partitions).expect("few"))
            .with_replication_factor(3);
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(2_000)
            .with_topics(vec![topic]);
        let (code, is_sure) = self
            .insist(5, &request, |answer: &CreateTopicsResponse| {
                Some(answer.topics.first()?.error_code)
            })
            .await;
        tracing::debug!(target: "clients", "created {name}: {code}");
        self.topics.insert(name.to_owned());
        if is_sure {
            self.deletable.push(name.to_owned());
        }
    }

    /// Deletes a topic, however often it takes.
    async fn delete(&mut self, name: &str) {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_timeout_ms(2_000);
        let (code, _) = self
            .insist(4, &request, |answer: &DeleteTopicsResponse| {
                Some(answer.responses.first()?.error_code)
            })
            .await;
        tracing::debug!(target: "clients", "deleted {name}: {code}");
        self.topics.remove(name);
        if code == UNKNOWN_TOPIC {
            self.doubtful.insert(name.to_owned());
        }
    }

    /// Asks the controller until it has done something; returns the error code, and whether each request was answered.
    async fn insist<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        code_of: impl Fn(&R::Response) -> Option<i16>,
    ) -> (i16, bool) {
        let mut is_sure = true;
        loop {
            if let Some(controller) = self.client.controller().await {
                let answer = self.client.ask(controller, version, request).await;
                match answer.ok().and_then(|answer| code_of(&answer)) {
                    Some(code) if DONE.contains(&code) => return (code, is_sure),
                    Some(NOT_CONTROLLER) => {}
                    _ => is_sure = false,
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Says what is not as it has to be: all brokers know all brokers, the same controller and the same topics, and each
    /// partition has a leader with whom all replicas are in sync.
    async fn find_fault(&mut self) -> Option<String> {
        let mut first: Option<MetadataResponse> = None;
        for broker in self.client.brokers() {
            let request = MetadataRequest::default().with_topics(None);
            let Ok(mut answer) = self.client.ask(broker, 9, &request).await else {
                return Some(format!("broker {broker} does not answer"));
            };
            answer.brokers.sort_by_key(|node| node.node_id);
            answer.topics.sort_by_key(|topic| topic.name.clone());
            if let Some(fault) = self.fault_in(&answer) {
                return Some(format!("broker {broker} has {fault}"));
            }
            let first = first.get_or_insert_with(|| answer.clone());
            if *first != answer {
                return Some(format!("brokers have {first:?} and {answer:?}"));
            }
        }
        None
    }

    fn fault_in(&self, answer: &MetadataResponse) -> Option<String> {
        let brokers: Vec<i32> = answer.brokers.iter().map(|node| node.node_id.0).collect();
        if brokers != self.client.brokers() {
            return Some(format!("the brokers {brokers:?}"));
        }
        let topics: BTreeMap<String, &MetadataResponseTopic> = answer
            .topics
            .iter()
            .filter_map(|topic| Some((topic.name.as_ref()?.to_string(), topic)))
            .collect();
        let mut names: Vec<&String> = topics.keys().collect();
        names.retain(|name| !name.starts_with("__") && !self.doubtful.contains(*name));
        if !names.iter().copied().eq(self.topics.iter()) {
            return Some(format!("the topics {names:?} and not {:?}", self.topics));
        }
        let partitions = topics
            .iter()
            .flat_map(|(name, topic)| topic.partitions.iter().map(move |found| (name, found)));
        let mut ill = partitions.filter(|(_, found)| {
            found.leader_id.0 < 0 || found.isr_nodes.len() < found.replica_nodes.len()
        });
        ill.next().map(|(name, found)| {
            let (leader, isr) = (found.leader_id.0, &found.isr_nodes);
            format!(
                "{name}-{} with leader {leader}, in sync {isr:?}",
                found.partition_index
            )
        })
    }
}
