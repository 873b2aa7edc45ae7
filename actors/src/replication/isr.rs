//! Changes of in-sync sets: the leaders of this broker propose them, and they count once they are in the coordination
//! service.
//!
//! A change is written on the condition that nobody wrote the partition's state since the leader learned of it. The
//! controller is told by a notification, one for all changes that are written together.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::coordination::client::Write;
use crate::coordination::schema::{self, PartitionName, PartitionState, to_json};
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::metadata::BrokerId;
use crate::partition::TopicPartition;

/// Changes that wait to be written at most. A leader that finds no room tries again later.
const QUEUE: usize = 1024;
/// Changes that are written at once, at most.
const AT_ONCE: usize = 256;
/// How often a change is tried whose partition is written by others at the same time.
const ATTEMPTS: usize = 5;
/// Stands for whatever version a znode has.
const ANY_VERSION: i32 = -1;
/// Time before a notification is written again that could not be.
const RETRY: Duration = Duration::from_secs(1);

/// Takes proposals; without room for one, its leader proposes it again later.
pub type IsrChanges = mpsc::Sender<IsrChange>;

/// What a leader wants written.
#[derive(Debug)]
pub struct IsrChange {
    /// Which partition.
    pub topic_partition: TopicPartition,
    /// Epoch of the leadership that proposes it.
    pub leader_epoch: i32,
    /// Version of the partition's state that it changes.
    pub partition_epoch: i32,
    /// The in-sync replicas from then on.
    pub isr: Vec<i32>,
    /// The answer; when it is dropped, nobody knows whether the change was written.
    pub reply: oneshot::Sender<Result<IsrChanged, IsrRefused>>,
}

/// The in-sync set as it is written down now: the proposed one, or another that was written before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrChanged {
    /// Version of the partition's state.
    pub partition_epoch: i32,
    /// The in-sync replicas.
    pub isr: Vec<i32>,
}

/// Why a change was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsrRefused {
    /// Another leadership is written down: there will be orders.
    Superseded,
    /// It could not be written, as when who was to join is gone, or nobody knows whether it was: to be tried again.
    Unavailable,
}

/// Makes the queue between the leaders and the task that writes.
pub fn channel() -> (IsrChanges, mpsc::Receiver<IsrChange>) {
    mpsc::channel(QUEUE)
}

/// Writes the changes that this broker's leaders propose, until there are no leaders any more.
///
/// `session` lends the broker's session, and nothing while there is none.
pub async fn write(
    mut changes: mpsc::Receiver<IsrChange>,
    broker_id: BrokerId,
    session: impl Fn() -> Option<CoordinationClient>,
) {
    let mut untold = BTreeSet::new();
    loop {
        let mut proposed = Vec::new();
        let next = changes.recv_many(&mut proposed, AT_ONCE);
        // Who waits to be told waits no longer than that for others.
        let closed = match untold.is_empty() {
            true => next.await == 0,
            false => timeout(RETRY, next).await == Ok(0),
        };
        if closed {
            return;
        }
        let Some(client) = session() else {
            for change in proposed {
                let _ = change.reply.send(Err(IsrRefused::Unavailable));
            }
            continue;
        };
        let written = join_all(
            proposed
                .into_iter()
                .map(|change| write_one(&client, broker_id, change)),
        );
        untold.extend(written.await.into_iter().flatten());
        if !untold.is_empty() {
            match tell(&client, &untold).await {
                Ok(()) => untold.clear(),
                Err(error) => {
                    tracing::warn!(
                        "the controller is not told of changed in-sync replicas yet: {error}"
                    );
                }
            }
        }
    }
}

/// Writes one change and answers it; returns its partition when there is something to tell.
async fn write_one(
    client: &CoordinationClient,
    broker_id: BrokerId,
    change: IsrChange,
) -> Option<TopicPartition> {
    let answer = try_write(client, broker_id, &change)
        .await
        .unwrap_or_else(|error| {
            let partition = &change.topic_partition;
            tracing::warn!(%partition, "cannot write the in-sync replicas: {error}");
            Err(IsrRefused::Unavailable)
        });
    let written = answer.is_ok();
    // A leader that is gone needs no answer.
    let _ = change.reply.send(answer);
    written.then_some(change.topic_partition)
}

async fn try_write(
    client: &CoordinationClient,
    broker_id: BrokerId,
    change: &IsrChange,
) -> Result<Result<IsrChanged, IsrRefused>, CoordinationError> {
    let TopicPartition { topic, partition } = &change.topic_partition;
    let path = paths::partition_state(topic, *partition);
    for _ in 0..ATTEMPTS {
        let found = client.get_json::<PartitionState>(&path).await?;
        let found = found.map(|(state, stat)| (state, stat.version));
        let before = found.as_ref().map(|(state, _)| state.isr.clone());
        let (state, version) = match judge(broker_id, change, found) {
            Step::Write(state, version) => (state, version),
            Step::Answer(answer) => return Ok(answer),
        };
        let mut writes = vec![Write::Set(path.clone(), to_json(&state), Some(version))];
        let known = before.unwrap_or_default();
        let joining = state.isr.iter().filter(|id| !known.contains(id));
        // Whoever is gone meanwhile is in sync with nobody (KIP-841).
        writes.extend(joining.map(|id| Write::Check(paths::broker(*id), ANY_VERSION)));
        match client.transaction(&writes).await {
            Ok(_) => {
                return Ok(Ok(IsrChanged {
                    partition_epoch: version.saturating_add(1),
                    isr: state.isr,
                }));
            }
            // Another was quicker, or this very write was sent twice: what is there says which.
            Err(CoordinationError::Transaction { index: 0, .. }) => {}
            Err(CoordinationError::Transaction { .. }) => return Ok(Err(IsrRefused::Unavailable)),
            Err(error) => return Err(error),
        }
    }
    Ok(Err(IsrRefused::Unavailable))
}

/// What is to be done for a change.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// To write this in the place of that version.
    Write(PartitionState, i32),
    /// There is nothing to write.
    Answer(Result<IsrChanged, IsrRefused>),
}

/// Decides by what is written down, with its version.
fn judge(broker_id: BrokerId, change: &IsrChange, found: Option<(PartitionState, i32)>) -> Step {
    let ours = |state: &PartitionState| {
        state.leader == broker_id && state.leader_epoch == change.leader_epoch
    };
    match found {
        Some((state, version)) if ours(&state) => {
            if version == change.partition_epoch {
                let isr = change.isr.clone();
                return Step::Write(PartitionState { isr, ..state }, version);
            }
            // The proposed set, when an earlier attempt wrote it without an answer. Any other one of this leadership
            // counts as well: the leader goes on from there.
            Step::Answer(Ok(IsrChanged {
                partition_epoch: version,
                isr: state.isr,
            }))
        }
        // Another leadership, or a topic that is being deleted.
        _ => Step::Answer(Err(IsrRefused::Superseded)),
    }
}

/// Tells the controller which partitions changed.
async fn tell(
    client: &CoordinationClient,
    changed: &BTreeSet<TopicPartition>,
) -> Result<(), CoordinationError> {
    let partitions = changed.iter().map(|changed| PartitionName {
        topic: changed.topic.to_string(),
        partition: changed.partition,
    });
    let notification = schema::IsrChange {
        version: 1,
        partitions: partitions.collect(),
    };
    client
        .create_sequential(paths::ISR_CHANGE_PREFIX, &to_json(&notification))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: BrokerId = 1;

    fn change() -> IsrChange {
        IsrChange {
            topic_partition: TopicPartition::new("t", 0),
            leader_epoch: 3,
            partition_epoch: 7,
            isr: vec![1, 2],
            reply: oneshot::channel().0,
        }
    }

    fn state(leader: i32, leader_epoch: i32, isr: &[i32]) -> PartitionState {
        PartitionState {
            controller_epoch: 9,
            leader,
            version: 1,
            leader_epoch,
            isr: isr.to_vec(),
        }
    }

    #[test]
    fn a_change_is_written_over_what_its_leader_knows() {
        let step = judge(BROKER, &change(), Some((state(BROKER, 3, &[1]), 7)));
        assert_eq!(step, Step::Write(state(BROKER, 3, &[1, 2]), 7));
    }

    #[test]
    fn what_was_written_meanwhile_in_the_same_leadership_counts() {
        for isr in [&[1, 2][..], &[1], &[1, 3]] {
            let step = judge(BROKER, &change(), Some((state(BROKER, 3, isr), 8)));
            let changed = IsrChanged {
                partition_epoch: 8,
                isr: isr.to_vec(),
            };
            assert_eq!(step, Step::Answer(Ok(changed)), "{isr:?}");
        }
    }

    #[test]
    fn another_leadership_is_not_written_over() {
        for found in [
            Some((state(BROKER, 4, &[1]), 7)),
            Some((state(BROKER, 4, &[1, 2]), 8)),
            Some((state(2, 3, &[1, 2]), 7)),
            Some((state(-1, 4, &[1]), 8)),
            None,
        ] {
            let step = judge(BROKER, &change(), found.clone());
            let refused = Step::Answer(Err(IsrRefused::Superseded));
            assert_eq!(step, refused, "{found:?}");
        }
    }
}
