//! `find-hanging`: open transactions of partitions that no coordinator knows of, or will end there.

use std::collections::{BTreeMap, BTreeSet};

use super::super::client::{AdminClient, ClientError};
use super::flags::HangingFlags;
use super::queries::{self, Partition, ProducerState};
use super::{TransactionError, failed, now_ms, table};

const MINUTE_MS: i64 = 60_000;

/// A transaction that has been open for long.
struct Open {
    partition: Partition,
    producer: ProducerState,
}

/// Refuses flags that do not bound the search.
pub(super) fn check(flags: &HangingFlags) -> Result<(), TransactionError> {
    let usage = |text: &str| Err(TransactionError::Usage(text.to_owned()));
    if flags.topic.is_none() && flags.broker_id.is_none() {
        usage(
            "The `find-hanging` command requires either --topic or --broker-id to limit the scope of the search",
        )
    } else if flags.topic.is_none() && flags.partition.is_some() {
        usage("The --partition argument requires --topic to be provided")
    } else {
        Ok(())
    }
}

pub(super) async fn find(
    client: &mut AdminClient,
    flags: &HangingFlags,
) -> Result<(), TransactionError> {
    let partitions = partitions(client, flags).await?;
    let open = long_open(client, flags, partitions).await?;
    let producers: BTreeSet<i64> = open.iter().map(|one| one.producer.producer_id.0).collect();
    let known = known(client, producers).await?;
    let hangs = |one: &&Open| {
        let partitions = known.get(&one.producer.producer_id.0);
        !partitions.is_some_and(|partitions| partitions.contains(&one.partition))
    };
    let rows: Vec<_> = open.iter().filter(hangs).map(row).collect();
    let headers = [
        "Topic",
        "Partition",
        "ProducerId",
        "ProducerEpoch",
        "CoordinatorEpoch",
        "StartOffset",
        "LastTimestamp",
        "Duration(min)",
    ];
    table::print(&headers, &rows);
    Ok(())
}

/// Returns the partitions to look at.
async fn partitions(
    client: &mut AdminClient,
    flags: &HangingFlags,
) -> Result<Vec<Partition>, TransactionError> {
    if let (Some(topic), Some(index)) = (&flags.topic, flags.partition) {
        return Ok(vec![Partition::new(topic, index)]);
    }
    let topics = flags.topic.clone().map(|topic| vec![topic]);
    let what = match topics {
        Some(_) => "Failed to describe 1 topics",
        None => "Failed to list topics",
    };
    let metadata = client.metadata(topics).await.map_err(failed(what))?;
    let mut partitions = Vec::new();
    for topic in &metadata.topics {
        ClientError::check(topic.error_code, None).map_err(failed(what))?;
        let name = topic.name.as_ref().map(|name| name.to_string());
        for partition in &topic.partitions {
            let here = |id| partition.replica_nodes.iter().any(|node| node.0 == id);
            if flags.broker_id.is_none_or(here) {
                let topic = name.as_deref().unwrap_or_default();
                partitions.push(Partition::new(topic, partition.partition_index));
            }
        }
    }
    partitions.sort();
    Ok(partitions)
}

/// Returns the transactions that have been open for longer than any may take.
async fn long_open(
    client: &mut AdminClient,
    flags: &HangingFlags,
    partitions: Vec<Partition>,
) -> Result<Vec<Open>, TransactionError> {
    let limit_ms = i64::from(flags.max_transaction_timeout) * MINUTE_MS;
    let what = match flags.broker_id {
        Some(id) => format!(
            "Failed to describe producers for {} partitions on broker Optional[{id}]",
            partitions.len()
        ),
        None => format!(
            "Failed to describe producers for {} partitions on broker Optional.empty",
            partitions.len()
        ),
    };
    let mut open = Vec::new();
    for partition in partitions {
        let producers = queries::producers(client, &partition, flags.broker_id).await;
        let now_ms = now_ms();
        for producer in producers.map_err(failed(what.clone()))? {
            let age_ms = now_ms.saturating_sub(producer.last_timestamp);
            if producer.current_txn_start_offset >= 0 && age_ms > limit_ms {
                open.push(Open {
                    partition: partition.clone(),
                    producer,
                });
            }
        }
    }
    Ok(open)
}

/// Returns, for each producer that a coordinator knows, the partitions of its transaction.
async fn known(
    client: &mut AdminClient,
    producers: BTreeSet<i64>,
) -> Result<BTreeMap<i64, BTreeSet<Partition>>, TransactionError> {
    let mut known = BTreeMap::new();
    if producers.is_empty() {
        return Ok(known);
    }
    let ids: Vec<i64> = producers.iter().copied().collect();
    let what = format!("Failed to list transactions for {} producers", ids.len());
    let listed = queries::list(client, None, &ids)
        .await
        .map_err(failed(what))?;
    let listed: Vec<_> = listed
        .into_iter()
        .filter(|one| producers.contains(&one.producer_id))
        .collect();
    for one in &listed {
        match queries::describe(client, &one.transactional_id).await {
            Ok((_, state)) => {
                known.insert(one.producer_id, queries::partitions(&state));
            }
            // It is gone since.
            Err(queries::QueryError::Told(_)) => {}
            Err(error) => {
                let what = format!("Failed to describe {} transactions", listed.len());
                return Err(failed(what)(error));
            }
        }
    }
    Ok(known)
}

fn row(open: &Open) -> Vec<String> {
    let Open {
        partition,
        producer,
    } = open;
    let minutes = now_ms().saturating_sub(producer.last_timestamp) / MINUTE_MS;
    vec![
        partition.topic.clone(),
        partition.index.to_string(),
        producer.producer_id.to_string(),
        producer.producer_epoch.to_string(),
        producer.coordinator_epoch.to_string(),
        producer.current_txn_start_offset.to_string(),
        producer.last_timestamp.to_string(),
        minutes.to_string(),
    ]
}
