//! Requests to the coordinator of a group or of a transactional id, wherever it is.

use std::time::Duration;

use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::{Request, StrBytes};
use rand::Rng;
use tokio::time::sleep;

use crate::history::Partition;
use crate::wire::Client;

const NONE: i16 = 0;
/// UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT,
/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, NOT_ENOUGH_REPLICAS,
/// NOT_ENOUGH_REPLICAS_AFTER_APPEND, OUT_OF_ORDER_SEQUENCE_NUMBER from a leader of the past, CONCURRENT_TRANSACTIONS,
/// KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
pub const RETRIABLE: [i16; 14] = [3, 5, 6, 7, 14, 15, 16, 19, 20, 45, 51, 56, 74, 75];

/// What is coordinated.
#[derive(Debug, Clone, Copy)]
#[repr(i8)]
pub enum Kind {
    Group = 0,
    Transaction = 1,
}

/// What became of a request.
pub struct Done<T> {
    /// The answer, or the error code that says that it is not done.
    pub answer: Result<T, i16>,
    /// How many requests had no answer: they may be done as well, or still be.
    pub unanswered: u32,
}

/// Asks the coordinator of a group or of a transactional id.
pub struct Coordinator {
    pub client: Client,
    kind: Kind,
    key: StrBytes,
    /// Where it was found last.
    found: Option<i32>,
}

impl Coordinator {
    pub fn new(client: Client, kind: Kind, key: &str) -> Self {
        Self {
            client,
            kind,
            key: StrBytes::from_string(key.to_owned()),
            found: None,
        }
    }

    /// Returns the group or the transactional id.
    pub fn key(&self) -> StrBytes {
        self.key.clone()
    }

    /// Waits until there is a partition, for which all brokers had to be there: the topic of the coordinator gets no more
    /// replicas than there are brokers when the first one asks for it.
    pub async fn wait_for(&mut self, partition: &Partition) {
        while self.client.leader(partition).await.is_none() {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks until it has done something, or says for good that it does not.
    pub async fn ask<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        code_of: impl Fn(&R::Response) -> Option<i16>,
    ) -> Done<R::Response> {
        let mut unanswered = 0;
        loop {
            if self.found.is_none() {
                self.found = self.find().await;
            }
            if let Some(coordinator) = self.found {
                let answer = self.client.ask(coordinator, version, request).await.ok();
                let code = answer.as_ref().and_then(&code_of);
                match (answer, code) {
                    (Some(answer), Some(NONE)) => {
                        let answer = Ok(answer);
                        return Done { answer, unanswered };
                    }
                    (_, Some(code)) if !RETRIABLE.contains(&code) => {
                        let answer = Err(code);
                        return Done { answer, unanswered };
                    }
                    (_, Some(code)) => {
                        tracing::debug!(target: "clients", code, "not coordinated");
                        // What could not be stored in time may be stored later.
                        unanswered += u32::from(matches!(code, 7 | 15 | 20));
                    }
                    (_, None) => unanswered += 1,
                }
                self.found = None;
            }
            let pause = self.client.random.random_range(20..200);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn find(&mut self) -> Option<i32> {
        let request = FindCoordinatorRequest::default()
            .with_key(self.key())
            .with_key_type(self.kind as i8);
        let broker = self.client.anyone();
        let answer = self.client.ask(broker, 3, &request).await.ok()?;
        (answer.error_code == NONE).then_some(answer.node_id.0)
    }
}
