//! Elections that somebody asks for (KIP-183, KIP-460), and those that keep leaders spread.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use actix::{Handler, Message, ResponseFuture};
use troupe_protocol::kafka::errors::ErrorCode;

use super::admin::SharedCluster;
use super::changes::Changes;
use super::cluster::Cluster;
use super::election::{elect_offline, elect_preferred};
use super::stored::{Electorate, StoredState, StoredTopic};
use super::topics::AdminError;
use super::{Controller, ControllerHandle, gone};
use crate::coordination::CoordinationError;
use crate::coordination::schema::PartitionState;
use crate::metadata::{BrokerId, NO_LEADER};
use crate::partition::TopicPartition;

/// How long others have at most to take an election up before its client is answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionKind {
    /// The first replica, if it is in sync.
    Preferred,
    /// Of a partition that nobody leads any live replica, in sync or not: records may be lost.
    Unclean,
}

impl ElectionKind {
    /// Elects; `avoided` may have lost the end of their logs.
    ///
    /// # Errors
    /// ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE, ELIGIBLE_LEADERS_NOT_AVAILABLE.
    fn elect(
        self,
        state: &PartitionState,
        replicas: &[BrokerId],
        live: &BTreeSet<BrokerId>,
        avoided: &BTreeSet<BrokerId>,
        controller_epoch: i32,
    ) -> Result<PartitionState, ErrorCode> {
        let not_needed = match self {
            Self::Preferred => replicas.first() == Some(&state.leader),
            Self::Unclean => live.contains(&state.leader),
        };
        if not_needed {
            return Err(ErrorCode::ElectionNotNeeded);
        }
        let elected = match self {
            Self::Preferred => {
                let electable = live.difference(avoided).copied().collect();
                elect_preferred(state, replicas, &electable, controller_epoch)
            }
            Self::Unclean => {
                let next = elect_offline(state, replicas, live, true, controller_epoch);
                Some(next).filter(|next| next.leader != NO_LEADER)
            }
        };
        elected.ok_or(self.without_candidate())
    }

    fn without_candidate(self) -> ErrorCode {
        match self {
            Self::Preferred => ErrorCode::PreferredLeaderNotAvailable,
            Self::Unclean => ErrorCode::EligibleLeadersNotAvailable,
        }
    }
}

impl StoredTopic {
    fn elect_on_demand(
        &mut self,
        partition: i32,
        kind: ElectionKind,
        electorate: &Electorate,
    ) -> Result<(), ErrorCode> {
        let assignment = self.assignment.get(&partition);
        let assignment = assignment.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let stored = self.states.get_mut(&partition);
        let stored: &mut StoredState = stored.ok_or(kind.without_candidate())?;
        let next = kind.elect(
            &stored.state,
            &assignment.replicas,
            &electorate.live,
            &electorate.avoided(stored),
            electorate.controller_epoch,
        )?;
        stored.lead(next, &self.name, partition);
        Ok(())
    }
}

/// Lists what each broker that leads too little should lead again: those that lead less of what they are preferred for than
/// all but `percentage`. A partition on its way to other brokers is left alone.
fn imbalanced<'a>(
    topics: impl Iterator<Item = &'a StoredTopic>,
    percentage: u32,
) -> Vec<TopicPartition> {
    let mut preferred = BTreeMap::<BrokerId, (u64, Vec<TopicPartition>)>::new();
    for topic in topics {
        for (&partition, assignment) in &topic.assignment {
            let Some(&first) = assignment.replicas.first() else {
                continue;
            };
            let (all, elsewhere) = preferred.entry(first).or_default();
            *all += 1;
            let stored = topic.states.get(&partition);
            if !assignment.is_reassigning() && stored.is_some_and(|it| it.state.leader != first) {
                elsewhere.push(TopicPartition::new(topic.name.as_str(), partition));
            }
        }
    }
    let too_few = preferred.into_values().filter(|(all, elsewhere)| {
        let count = u64::try_from(elsewhere.len()).unwrap_or(u64::MAX);
        count.saturating_mul(100) > all.saturating_mul(percentage.into())
    });
    too_few.flat_map(|(_, elsewhere)| elsewhere).collect()
}

/// What came of what was asked for each partition.
pub(super) type Outcomes<E> = BTreeMap<TopicPartition, Result<(), E>>;

impl Cluster {
    /// Changes partitions, each for itself, by `decide`; returns what that said of each, and what follows.
    pub(super) async fn change_each<E: From<ErrorCode>>(
        &mut self,
        asked: Vec<TopicPartition>,
        mut decide: impl FnMut(&mut StoredTopic, &TopicPartition, &Electorate) -> Result<(), E>,
    ) -> Result<(Outcomes<E>, Changes), CoordinationError> {
        let office = self.office()?;
        let mut outcomes = Outcomes::new();
        let mut by_topic = BTreeMap::<String, Vec<TopicPartition>>::new();
        for partition in asked {
            let code = if office.deleting.contains(&*partition.topic) {
                ErrorCode::InvalidTopicException
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            let of_topic = by_topic.entry(partition.topic.to_string()).or_default();
            of_topic.push(partition.clone());
            outcomes.insert(partition, Err(code.into()));
        }
        let topics = by_topic.keys().filter_map(|name| office.topics.get(name));
        let topics: Vec<StoredTopic> = topics.cloned().collect();
        let electorate = office.electorate(&BTreeSet::new());
        let decide = |topic: &mut StoredTopic| {
            for partition in by_topic.get(&topic.name).into_iter().flatten() {
                outcomes.insert(partition.clone(), decide(topic, partition, &electorate));
            }
        };
        let changes = self.change(topics, decide).await?;
        Ok((outcomes, changes))
    }

    /// Elects for partitions, each for itself; for all, when none are named.
    pub(super) async fn elect_on_demand(
        &mut self,
        kind: ElectionKind,
        asked: Option<Vec<TopicPartition>>,
    ) -> Result<(Outcomes<ErrorCode>, Changes), CoordinationError> {
        let asked = match asked {
            Some(asked) => asked,
            None => self.office()?.all_by_name(),
        };
        self.change_each(asked, |topic, partition, electorate| {
            topic.elect_on_demand(partition.partition, kind, electorate)
        })
        .await
    }
}

/// Elects, and answers when everyone knows, or the patience of the client is over.
async fn elect_leaders(
    cluster: &SharedCluster,
    order: ElectLeaders,
) -> Result<Outcomes<ErrorCode>, AdminError> {
    let mut locked = cluster.lock().await;
    let (outcomes, changes) = locked.elect_on_demand(order.kind, order.partitions).await?;
    let own = locked.broker_id;
    let answers = locked.office()?.carry_out(&changes);
    drop(locked);
    // One that does not answer is not waited for: the client would not hear of any election.
    answers.wait(own, order.patience.min(PATIENCE)).await;
    Ok(outcomes)
}

/// Gives leaderships back to their preferred leaders, again and again, where this broker is the controller.
pub(super) async fn keep_balanced(cluster: SharedCluster) {
    let config = cluster.lock().await.broker_config();
    if !config.auto_leader_rebalance_enable {
        return;
    }
    let interval = Duration::from_secs(config.leader_imbalance_check_interval_seconds);
    loop {
        tokio::time::sleep(interval).await;
        let balanced = balance(&cluster, config.leader_imbalance_per_broker_percentage).await;
        if let Err(error) = balanced {
            tracing::error!("leaders are not spread anew: {}", error.message);
        }
    }
}

async fn balance(cluster: &SharedCluster, percentage: u32) -> Result<(), AdminError> {
    let mut locked = cluster.lock().await;
    let Some(office) = &locked.office else {
        return Ok(());
    };
    let partitions = imbalanced(office.topics.values(), percentage);
    let (_, changes) = locked
        .elect_on_demand(ElectionKind::Preferred, Some(partitions))
        .await?;
    let moved: usize = changes.partitions.values().map(BTreeSet::len).sum();
    if moved > 0 {
        tracing::info!("{moved} partitions go back to their preferred leaders");
    }
    locked.office()?.carry_out(&changes);
    Ok(())
}

/// Elects leaders on demand.
#[derive(Message)]
#[rtype(result = "Result<Outcomes<ErrorCode>, AdminError>")]
struct ElectLeaders {
    kind: ElectionKind,
    partitions: Option<Vec<TopicPartition>>,
    patience: Duration,
}

impl Handler<ElectLeaders> for Controller {
    type Result = ResponseFuture<Result<Outcomes<ErrorCode>, AdminError>>;

    fn handle(&mut self, order: ElectLeaders, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move { elect_leaders(&cluster, order).await })
    }
}

impl ControllerHandle {
    /// Elects leaders for partitions, each for itself; for all, when none are named. Other brokers have as long as
    /// `patience`, and no longer than 5 seconds, to take it up.
    ///
    /// # Errors
    /// NOT_CONTROLLER; for each partition UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION when its topic is being
    /// deleted, ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE, ELIGIBLE_LEADERS_NOT_AVAILABLE.
    pub async fn elect_leaders(
        &self,
        kind: ElectionKind,
        partitions: Option<Vec<TopicPartition>>,
        patience: Duration,
    ) -> Result<Outcomes<ErrorCode>, AdminError> {
        let order = ElectLeaders {
            kind,
            partitions,
            patience,
        };
        self.addr.send(order).await.map_err(gone)?
    }
}

#[cfg(test)]
mod tests {
    use super::super::reassignment::Assignment;
    use super::*;

    fn state(leader: BrokerId, isr: &[BrokerId]) -> PartitionState {
        PartitionState {
            controller_epoch: 1,
            leader,
            version: 1,
            leader_epoch: 4,
            isr: isr.to_vec(),
        }
    }

    fn topic(partitions: &[(&[BrokerId], BrokerId)]) -> StoredTopic {
        let partitions = partitions.iter().map(|(replicas, leader)| {
            let assignment = Assignment::settled(replicas.to_vec());
            (assignment, state(*leader, replicas))
        });
        StoredTopic::of("t", partitions)
    }

    #[test]
    fn each_kind_of_election_says_why_nobody_is_elected() {
        use ElectionKind::{Preferred, Unclean};
        use ErrorCode::{
            ElectionNotNeeded, EligibleLeadersNotAvailable, PreferredLeaderNotAvailable,
        };
        for (kind, leader, isr, live, expected) in [
            (Preferred, 2, &[1, 2][..], &[1, 2][..], Ok((1, vec![1, 2]))),
            (Preferred, 1, &[1, 2], &[1, 2], Err(ElectionNotNeeded)),
            (
                Preferred,
                2,
                &[1, 2],
                &[2],
                Err(PreferredLeaderNotAvailable),
            ),
            (
                Preferred,
                2,
                &[2],
                &[1, 2],
                Err(PreferredLeaderNotAvailable),
            ),
            // 3 has just come back: it may lack what the others have.
            (
                Preferred,
                2,
                &[1, 2],
                &[2, 3],
                Err(PreferredLeaderNotAvailable),
            ),
            (Unclean, -1, &[1], &[2], Ok((2, vec![2]))),
            (Unclean, 2, &[2], &[2], Err(ElectionNotNeeded)),
            (Unclean, -1, &[1], &[3], Err(EligibleLeadersNotAvailable)),
        ] {
            let live = live.iter().copied().collect();
            let avoided = BTreeSet::from([3]);
            let elected = kind.elect(&state(leader, isr), &[1, 2], &live, &avoided, 9);
            let elected = elected.map(|next| (next.leader, next.isr));
            assert_eq!(elected, expected, "{kind:?} {leader} {isr:?} {live:?}");
        }
    }

    #[test]
    fn what_cannot_be_elected_for_stays_as_it_is() {
        let mut topic = topic(&[(&[1, 2], 2)]);
        let electorate = Electorate {
            live: BTreeSet::from([1, 2]),
            ..Electorate::default()
        };
        let mut elect =
            |partition| topic.elect_on_demand(partition, ElectionKind::Preferred, &electorate);
        assert_eq!(elect(1), Err(ErrorCode::UnknownTopicOrPartition));
        assert_eq!(elect(0), Ok(()));
        assert_eq!(elect(0), Err(ErrorCode::ElectionNotNeeded));
        assert_eq!(topic.leaders(), BTreeSet::from([1]));
    }

    #[test]
    fn a_broker_that_leads_too_little_gets_all_back() {
        let topic = topic(&[
            (&[1, 2], 1),
            (&[1, 2], 2),
            (&[2, 1], 2),
            (&[1, 2], 1),
            (&[1, 2], 1),
        ]);
        let partition = TopicPartition::new("t", 1);
        assert_eq!(imbalanced([&topic].into_iter(), 24), [partition]);
        // One of four is not more than a quarter.
        assert_eq!(imbalanced([&topic].into_iter(), 25), []);
    }
}
