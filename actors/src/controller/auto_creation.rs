//! Topics that brokers create by themselves: those that clients ask for and miss, and Kafka's internal ones.
//!
//! The controller does so at once. Any other broker writes the topic into the znodes, as tools did, upon which the controller
//! brings it up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::ControllerHandle;
use super::admin::{already_exists, refuse_marked};
use super::stored::StoredTopic;
use super::topics::{AdminError, NewTopic, plan_topic};
use crate::config::BrokerConfig;
use crate::coordination::{CoordinationError, SharedSession, paths};
use crate::metadata::MetadataImage;

/// How long other brokers have; whoever asks is told to ask again then.
const PATIENCE: Duration = Duration::from_secs(5);

/// Creates topics on any broker.
pub struct AutoTopicCreation {
    controller: ControllerHandle,
    session: SharedSession,
    config: watch::Receiver<Arc<BrokerConfig>>,
    image: watch::Receiver<Arc<MetadataImage>>,
    /// Where the next topic's first leader goes, so that leaders spread.
    next_placement: AtomicUsize,
}

impl AutoTopicCreation {
    /// Creates topics through this broker's controller while that is in office, else through the znodes.
    pub fn new(
        controller: ControllerHandle,
        session: SharedSession,
        config: watch::Receiver<Arc<BrokerConfig>>,
        image: watch::Receiver<Arc<MetadataImage>>,
    ) -> Self {
        Self {
            controller,
            session,
            config,
            image,
            next_placement: AtomicUsize::new(0),
        }
    }

    /// Creates topics: for each why not, when it can't be used now.
    pub async fn create(&self, topics: Vec<NewTopic>) -> Vec<Result<(), AdminError>> {
        let outcomes = self
            .controller
            .create_topics(topics.clone(), false, PATIENCE)
            .await;
        let outcomes = topics
            .iter()
            .zip(outcomes)
            .map(|(topic, outcome)| async move {
                match outcome {
                    Err(error) if error.code == ErrorCode::NotController => {
                        self.write_and_wait(topic).await
                    }
                    other => other.map(|_| ()),
                }
            });
        join_all(outcomes).await
    }

    async fn write_and_wait(&self, topic: &NewTopic) -> Result<(), AdminError> {
        match self.write(topic).await {
            // Somebody else was faster; it may not be known here yet.
            Err(error) if error.code == ErrorCode::TopicAlreadyExists => {}
            other => other?,
        }
        let mut image = self.image.clone();
        let known = image.wait_for(|image| image.topic(&topic.name).is_some());
        match tokio::time::timeout(PATIENCE, known).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ErrorCode::LeaderNotAvailable.into()),
        }
    }

    async fn write(&self, topic: &NewTopic) -> Result<(), AdminError> {
        let start = self.next_placement.fetch_add(1, Ordering::Relaxed);
        let image = Arc::clone(&self.image.borrow());
        let config = Arc::clone(&self.config.borrow());
        let plan = plan_topic(topic, &image, &config, start)?;
        let client = self.session.lend()?;
        refuse_marked(&client, &plan.name).await?;
        let config_path = paths::config("topics", &plan.name);
        let config_exists = client.get(&config_path).await?.is_some();
        let stored = StoredTopic::planned(&plan, Uuid::new_v4());
        let writes = stored.writes(&plan.overrides, config_exists);
        match client.transaction(&writes).await {
            Err(CoordinationError::Transaction {
                source: zookeeper_client::Error::NodeExists,
                ..
            }) => Err(already_exists(&plan.name)),
            other => Ok(other.map(|_| ())?),
        }
    }
}
