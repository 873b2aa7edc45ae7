//! Elections that somebody asks for, and the one that keeps leaders spread.

use std::collections::{BTreeMap, BTreeSet};

use troupe_protocol::kafka::errors::ErrorCode;

use super::context::{Leadership, Partition};
use super::draft::Draft;
use crate::controller::election::{self, Elected};
use crate::metadata::BrokerId;
use crate::partition::TopicPartition;

impl Draft {
    /// Has the preferred leader of each lead again.
    pub(super) fn prefer(&mut self, asked: BTreeSet<TopicPartition>) {
        for name in asked {
            let elected = self.preferred(&name);
            self.elect(name, elected);
        }
    }

    fn preferred(&self, name: &TopicPartition) -> Result<Elected, ErrorCode> {
        let (partition, leadership) = self.led(name, ErrorCode::PreferredLeaderNotAvailable)?;
        let replicas = &partition.assignment.replicas;
        if replicas.first() == Some(&leadership.leader) {
            return Err(ErrorCode::ElectionNotNeeded);
        }
        election::preferred(replicas, &leadership.isr, &self.context.electable())
            .ok_or(ErrorCode::PreferredLeaderNotAvailable)
    }

    /// Has some replica of each lead that nobody leads, whatever it has.
    pub(super) fn elect_uncleanly(&mut self, asked: BTreeSet<TopicPartition>) {
        for name in asked {
            let elected = self.uncleanly(&name);
            self.elect(name, elected);
        }
    }

    fn uncleanly(&self, name: &TopicPartition) -> Result<Elected, ErrorCode> {
        let (partition, leadership) = self.led(name, ErrorCode::EligibleLeadersNotAvailable)?;
        if self.context.brokers.contains_key(&leadership.leader) {
            return Err(ErrorCode::ElectionNotNeeded);
        }
        let replicas = &partition.assignment.replicas;
        election::offline(replicas, &leadership.isr, &self.context.electable(), true)
            .ok_or(ErrorCode::EligibleLeadersNotAvailable)
    }

    /// Finds a partition whose leader can be changed; `unled` is the answer for one that was never led.
    fn led(
        &self,
        name: &TopicPartition,
        unled: ErrorCode,
    ) -> Result<(&Partition, &Leadership), ErrorCode> {
        let partition = self.context.partition(name);
        let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if self.context.deletions.contains_key(&name.topic) {
            return Err(ErrorCode::InvalidTopicException);
        }
        let leadership = partition.leadership.as_ref().ok_or(unled)?;
        Ok((partition, leadership))
    }

    fn elect(&mut self, name: TopicPartition, elected: Result<Elected, ErrorCode>) {
        let epoch = self.context.controller_epoch;
        match elected {
            Ok(Elected {
                leader,
                isr,
                unclean,
            }) => {
                let partition = self.context.partition_mut(&name);
                if let Some(leadership) = partition.and_then(|found| found.leadership.as_mut()) {
                    *leadership = leadership.next(leader, isr, epoch);
                }
                if unclean {
                    self.unclean.insert(name);
                }
            }
            Err(code) => _ = self.refused.insert(name, code),
        }
    }

    /// Gives leaderships back to brokers that lead too few of those that they are preferred for.
    pub(super) fn balance(&mut self, percentage: u32) {
        let mut preferred = BTreeMap::<BrokerId, (u64, Vec<TopicPartition>)>::new();
        for (name, _, partition) in self.context.partitions() {
            let replicas = &partition.assignment.replicas;
            let Some(&first) = replicas.first() else {
                continue;
            };
            if self.context.deletions.contains_key(&name.topic) {
                continue;
            }
            let (all, elsewhere) = preferred.entry(first).or_default();
            *all += 1;
            if self.context.leader(&name) != first {
                elsewhere.push(name);
            }
        }
        for (all, elsewhere) in preferred.into_values() {
            let count = u64::try_from(elsewhere.len()).unwrap_or(u64::MAX);
            if count.saturating_mul(100) > all.saturating_mul(percentage.into()) {
                self.give_back(elsewhere);
            }
        }
    }

    /// Nobody has asked for these, so none is refused. A partition on its way to other brokers is left alone.
    fn give_back(&mut self, partitions: Vec<TopicPartition>) {
        for name in partitions {
            let partition = self.context.partition(&name);
            if partition.is_some_and(|found| !found.assignment.is_reassigning())
                && let Ok(elected) = self.preferred(&name)
            {
                self.elect(name, Ok(elected));
            }
        }
    }
}
