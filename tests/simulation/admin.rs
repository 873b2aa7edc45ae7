//! An administrator, who makes the topics.

use std::time::Duration;

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use tokio::time::sleep;

use crate::history::Partition;
use crate::wire::{Client, topic_name};

const TOPIC_ALREADY_EXISTS: i16 = 36;

/// Who administers.
pub struct Admin {
    pub client: Client,
}

impl Admin {
    /// Makes the topic of these partitions.
    pub async fn run(mut self, partitions: Vec<Partition>) -> turmoil::Result {
        let Some(first) = partitions.first() else {
            return Ok(());
        };
        let count = i32::try_from(partitions.len()).expect("few");
        self.create(&first.topic, count).await;
        Ok(())
    }

    /// Makes a topic, however often it takes.
    async fn create(&mut self, topic: &str, partitions: i32) {
        let topic = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(3);
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(2_000)
            .with_topics(vec![topic]);
        loop {
            if let Some(controller) = self.client.controller().await
                && let Ok(answer) = self.client.ask(controller, 5, &request).await
                && let Some(topic) = answer.topics.first()
                && matches!(topic.error_code, 0 | TOPIC_ALREADY_EXISTS)
            {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}
