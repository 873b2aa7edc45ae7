//! The answers of brokers to what they were ordered.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use troupe_protocol::kafka::errors::ErrorCode;

use crate::metadata::BrokerId;
use crate::replica_manager::orders::Outcome;

/// The answers to orders that are on their way.
#[derive(Default)]
pub(super) struct Answers {
    pending: Vec<(BrokerId, oneshot::Receiver<Outcome>)>,
}

impl Answers {
    /// Puts the one of a broker to these.
    pub(super) fn push(&mut self, broker: BrokerId, answer: oneshot::Receiver<Outcome>) {
        self.pending.push((broker, answer));
    }

    /// Takes only those of one broker.
    pub(super) fn of(mut self, broker: BrokerId) -> Self {
        self.pending.retain(|(id, _)| *id == broker);
        self
    }

    /// Puts more to these.
    pub(super) fn and(mut self, others: Self) -> Self {
        self.pending.extend(others.pending);
        self
    }

    /// Takes only those of other brokers.
    pub(super) fn without(mut self, brokers: &BTreeSet<BrokerId>) -> Self {
        self.pending.retain(|(id, _)| !brokers.contains(id));
        self
    }

    /// Waits for the answers, no longer than `patience` for other brokers than `own`, and returns who did not answer.
    ///
    /// What this broker does itself is waited for in any case: it is on its way already.
    pub(super) async fn wait(self, own: BrokerId, patience: Duration) -> BTreeSet<BrokerId> {
        let waits = self.pending.into_iter().map(|(broker, answer)| async move {
            let answered = if broker == own {
                answer.await.is_ok()
            } else {
                matches!(tokio::time::timeout(patience, answer).await, Ok(Ok(_)))
            };
            (!answered).then_some(broker)
        });
        join_all(waits).await.into_iter().flatten().collect()
    }

    /// Waits for the answers, however long that takes, and returns who has not done all that was ordered: who is gone, and
    /// who refused the order or failed at a part of it.
    pub(super) async fn failed(self) -> BTreeSet<BrokerId> {
        let waits = self.pending.into_iter().map(|(broker, answer)| async move {
            let done = answer.await.is_ok_and(|outcome| is_done(&outcome));
            (!done).then_some(broker)
        });
        join_all(waits).await.into_iter().flatten().collect()
    }
}

/// Tells whether all of an order was carried out.
fn is_done(outcome: &Outcome) -> bool {
    let mut codes = outcome.replicas.iter().map(|(_, code)| *code);
    outcome.error == ErrorCode::None && codes.all(|code| code == ErrorCode::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::TopicPartition;

    fn replica(code: ErrorCode) -> Outcome {
        Outcome {
            error: ErrorCode::None,
            replicas: vec![
                (TopicPartition::new("t", 0), ErrorCode::None),
                (TopicPartition::new("t", 1), code),
            ],
        }
    }

    #[actix_rt::test]
    async fn an_error_does_not_count_as_done() {
        let mut answers = Answers::default();
        let outcomes = [
            Some(replica(ErrorCode::None)),
            Some(Outcome::of(ErrorCode::None)),
            Some(replica(ErrorCode::KafkaStorageError)),
            Some(Outcome::of(ErrorCode::StaleBrokerEpoch)),
            None,
        ];
        for (broker, outcome) in (1..).zip(outcomes) {
            let (answer, pending) = oneshot::channel();
            answers.push(broker, pending);
            if let Some(outcome) = outcome {
                answer.send(outcome).unwrap();
            }
        }
        assert_eq!(answers.failed().await, BTreeSet::from([3, 4, 5]));
    }
}
