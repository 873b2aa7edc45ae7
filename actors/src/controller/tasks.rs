//! What old tools ask for in `/admin`: reassignments, and elections of preferred leaders.
//!
//! A reassignment stays in its znode until it has come to its end, because the tools look there for it.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::on_demand::ElectionKind;
use super::reassignments::Reassignments;
use crate::coordination::schema::{
    PreferredElection, ReassignmentTask, ReassignmentTasks, to_json,
};
use crate::coordination::{CoordinationError, paths};
use crate::metadata::BrokerId;
use crate::partition::TopicPartition;

impl Cluster {
    /// Starts what is new in `/admin/reassign_partitions`, and takes out what is there or goes elsewhere by now.
    pub(super) async fn take_up_tasks(&mut self) -> Result<(), CoordinationError> {
        let client = self.client()?;
        let path = paths::REASSIGN_PARTITIONS;
        let (written, stat) = match client.get_json::<ReassignmentTasks>(path).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(CoordinationError::Malformed(error)) => {
                tracing::error!("{error}; nothing is reassigned by it");
                return client.delete(path).await;
            }
            Err(error) => return Err(error),
        };
        let count = written.partitions.len();
        let mut tasks: BTreeMap<TopicPartition, Vec<BrokerId>> = BTreeMap::new();
        for task in written.partitions {
            tasks.insert(
                TopicPartition::new(task.topic, task.partition),
                task.replicas,
            );
        }
        self.start_tasks(&tasks).await?;
        let office = self.office()?;
        tasks.retain(|partition, replicas| {
            let topic = office.topics.get(&*partition.topic);
            let assignment = topic.and_then(|topic| topic.assignment.get(&partition.partition));
            assignment.is_some_and(|it| it.is_reassigning() && it.targets() == *replicas)
        });
        office.tasks = tasks.clone();
        if tasks.is_empty() {
            return client.delete(path).await;
        }
        if tasks.len() < count {
            let partitions = tasks
                .into_iter()
                .map(|(partition, replicas)| ReassignmentTask {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    replicas,
                });
            let rest = ReassignmentTasks {
                version: 1,
                partitions: partitions.collect(),
            };
            client
                .set(path, &to_json(&rest), Some(stat.version))
                .await?;
        }
        Ok(())
    }

    /// Starts those that were not started before.
    async fn start_tasks(
        &mut self,
        tasks: &BTreeMap<TopicPartition, Vec<BrokerId>>,
    ) -> Result<(), CoordinationError> {
        let office = self.office()?;
        let new = tasks
            .iter()
            .filter(|(partition, replicas)| office.tasks.get(*partition) != Some(*replicas));
        let new: Reassignments = new
            .map(|(partition, replicas)| (partition.clone(), Some(replicas.clone())))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let (outcomes, changes) = self.reassign(&new).await?;
        for (partition, outcome) in outcomes {
            if let Err(error) = outcome {
                tracing::error!("{partition} can't be reassigned: {}", error.message);
            }
        }
        self.office()?.carry_out(&changes);
        Ok(())
    }

    /// Has preferred leaders lead what `/admin/preferred_replica_election` names.
    pub(super) async fn take_up_preferred_election(&mut self) -> Result<(), CoordinationError> {
        let client = self.client()?;
        let path = paths::PREFERRED_ELECTION;
        let asked = match client.get_json::<PreferredElection>(path).await {
            Ok(Some((asked, _))) => asked.partitions,
            Ok(None) => return Ok(()),
            Err(CoordinationError::Malformed(error)) => {
                tracing::error!("{error}; nobody is elected by it");
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let asked = asked.into_iter();
        let asked = asked.map(|name| TopicPartition::new(name.topic, name.partition));
        let asked = Some(asked.collect());
        let (outcomes, changes) = self.elect_on_demand(ElectionKind::Preferred, asked).await?;
        for (partition, outcome) in outcomes {
            if let Err(code) = outcome {
                tracing::info!("{partition}: {}", code.message());
            }
        }
        self.office()?.carry_out(&changes);
        client.delete(path).await
    }
}
