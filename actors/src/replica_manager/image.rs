//! What UpdateMetadata makes of the image: pure, but for the handles of the local replicas.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::orders::{LEADER_DURING_DELETION, TopicOrder};
use crate::config::TopicConfig;
use crate::metadata::{BrokerId, BrokerNode, NO_LEADER, PartitionImage, TopicImage, is_internal};
use crate::partition::{PartitionHandle, TopicPartition};

/// Partitions of a topic at most: a number beyond is not believed.
const MAX_PARTITIONS: usize = 200_000;

/// Tells whether an order takes a topic away.
pub(super) fn is_going(topic: &TopicOrder) -> bool {
    let mut leaders = topic.partitions.iter().map(|partition| partition.leader);
    !topic.partitions.is_empty() && leaders.all(|leader| leader == LEADER_DURING_DELETION)
}

/// Lists the live brokers. Of itself a broker knows better than the controller at which addresses it can be reached.
pub(super) fn brokers(
    live: &[Arc<BrokerNode>],
    own: &BrokerNode,
) -> BTreeMap<BrokerId, Arc<BrokerNode>> {
    let own = Arc::new(own.clone());
    let known = |node: &Arc<BrokerNode>| {
        let node = if node.id == own.id { &own } else { node };
        (node.id, Arc::clone(node))
    };
    live.iter().map(known).collect()
}

/// A topic on its way into the image.
pub(super) struct Known {
    id: Uuid,
    overrides: BTreeMap<String, String>,
    config: Arc<TopicConfig>,
    partitions: Vec<PartitionImage>,
}

impl Known {
    /// Starts from what is published.
    pub(super) fn of(topic: &TopicImage) -> Self {
        Self {
            id: topic.id,
            overrides: topic.overrides.clone(),
            config: Arc::clone(&topic.config),
            partitions: topic.partitions.clone(),
        }
    }

    /// Starts with a topic that nobody knows yet.
    pub(super) fn new(
        id: Uuid,
        overrides: BTreeMap<String, String>,
        config: Arc<TopicConfig>,
    ) -> Self {
        Self {
            id,
            overrides,
            config,
            partitions: Vec::new(),
        }
    }

    /// Takes over what the controller says of partitions; `local` finds the replicas that are here.
    pub(super) fn apply(
        &mut self,
        order: &TopicOrder,
        broker: BrokerId,
        local: impl Fn(&TopicPartition) -> Option<PartitionHandle>,
    ) {
        for partition in &order.partitions {
            let number = partition.partition;
            let Ok(index) = usize::try_from(number) else {
                continue;
            };
            if index >= MAX_PARTITIONS {
                continue;
            }
            if self.partitions.len() <= index {
                // The controller speaks of a new topic as a whole; whatever it leaves out has no leader.
                self.partitions.resize_with(index + 1, nobody);
            }
            let Some(slot) = self.partitions.get_mut(index) else {
                continue;
            };
            let topic_partition = TopicPartition {
                topic: Arc::clone(&order.name),
                partition: number,
            };
            let here = partition.replicas.contains(&broker);
            *slot = PartitionImage {
                leader: partition.leader,
                leader_epoch: partition.leader_epoch,
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
                local: if here { local(&topic_partition) } else { None },
            };
        }
    }

    /// Makes the topic's image.
    pub(super) fn into_image(self, name: &Arc<str>) -> TopicImage {
        TopicImage {
            name: Arc::clone(name),
            id: self.id,
            is_internal: is_internal(name),
            config: self.config,
            overrides: self.overrides,
            partitions: self.partitions,
        }
    }
}

fn nobody() -> PartitionImage {
    PartitionImage {
        leader: NO_LEADER,
        leader_epoch: 0,
        replicas: Vec::new(),
        isr: Vec::new(),
        local: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Listener, SecurityProtocol};
    use crate::replica_manager::orders::PartitionOrder;

    fn partition(partition: i32, leader: BrokerId) -> PartitionOrder {
        PartitionOrder {
            partition,
            leader,
            leader_epoch: 3,
            isr: vec![1, 2],
            partition_epoch: 0,
            replicas: vec![1, 2],
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            is_new: false,
        }
    }

    fn topic(partitions: Vec<PartitionOrder>) -> TopicOrder {
        TopicOrder {
            name: "t".into(),
            id: Uuid::from_u128(7),
            partitions,
        }
    }

    fn leaders(known: Known) -> Vec<BrokerId> {
        let image = known.into_image(&"t".into());
        image.partitions.iter().map(|found| found.leader).collect()
    }

    #[test]
    fn what_an_order_leaves_out_stays_as_it_was() {
        let mut known = Known::new(Uuid::nil(), BTreeMap::new(), Arc::default());
        known.apply(&topic(vec![partition(0, 1), partition(1, 2)]), 1, |_| None);
        known.apply(&topic(vec![partition(1, 1)]), 1, |_| None);
        assert_eq!(leaders(known), [1, 1]);
    }

    #[test]
    fn partitions_that_nobody_spoke_of_have_no_leader() {
        let mut known = Known::new(Uuid::nil(), BTreeMap::new(), Arc::default());
        known.apply(&topic(vec![partition(2, 1)]), 1, |_| None);
        assert_eq!(leaders(known), [NO_LEADER, NO_LEADER, 1]);
    }

    #[test]
    fn only_replicas_of_this_broker_are_looked_for() {
        let mut known = Known::new(Uuid::nil(), BTreeMap::new(), Arc::default());
        let order = topic(vec![partition(0, 1)]);
        known.apply(&order, 3, |_| unreachable!("broker 3 has no replica"));
        assert_eq!(leaders(known), [1]);
    }

    #[test]
    fn a_topic_goes_when_all_its_partitions_do() {
        let going = partition(0, LEADER_DURING_DELETION);
        assert!(is_going(&topic(vec![going.clone()])));
        assert!(!is_going(&topic(vec![going, partition(1, 1)])));
    }

    #[test]
    fn a_broker_knows_its_own_addresses_best() {
        let node = |id, host: &str| BrokerNode {
            id,
            endpoints: vec![Listener {
                name: "PLAINTEXT".to_owned(),
                protocol: SecurityProtocol::Plaintext,
                host: host.to_owned(),
                port: 9092,
            }],
            rack: None,
            epoch: 5,
        };
        let told = [Arc::new(node(1, "localhost")), Arc::new(node(2, "other"))];
        let found = brokers(&told, &node(1, ""));
        let hosts: Vec<_> = found
            .values()
            .map(|found| &*found.endpoints[0].host)
            .collect();
        assert_eq!(hosts, ["", "other"]);
        // One that is not alive is not made so.
        assert_eq!(brokers(&told[1..], &node(1, "")).len(), 1);
    }
}
