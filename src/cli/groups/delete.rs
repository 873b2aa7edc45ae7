//! `--delete` and `--delete-offsets`.

use std::collections::BTreeMap;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use troupe_protocol::kafka::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};

use super::super::client::{AdminClient, ClientError, Connection, topic_name};
use super::super::coordinator::{self, Kind, group_id};
use super::super::exceptions;
use super::super::output;
use super::partitions::{self, Partition, Selection, TopicArgument};
use super::{MISSING, say_error, table};

/// Deletes groups; one that cannot be deleted is no failure of the command, as with Kafka.
pub(super) async fn groups(
    client: &mut AdminClient,
    groups: Vec<String>,
) -> Result<(), ClientError> {
    let (mut deleted, mut failed) = (Vec::new(), Vec::new());
    for group in groups {
        match delete(client, &group).await {
            Ok(()) => deleted.push(format!("'{group}'")),
            Err(error) => failed.push(format!(
                "* Group '{group}' could not be deleted due to: {}",
                exceptions::named(&error)
            )),
        }
    }
    let deleted = deleted.join(", ");
    if failed.is_empty() {
        output::line(format_args!(
            "Deletion of requested consumer groups ({deleted}) was successful."
        ));
        return Ok(());
    }
    say_error("Deletion of some consumer groups failed:");
    failed.into_iter().for_each(output::line);
    if !deleted.is_empty() {
        output::line(format_args!(
            "\nThese consumer groups were deleted successfully: {deleted}"
        ));
    }
    Ok(())
}

async fn delete(client: &mut AdminClient, group: &str) -> Result<(), ClientError> {
    let request =
        |_: &Connection| DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    let code = |response: &DeleteGroupsResponse| {
        let result = response.results.first();
        result.map_or(0, |result| result.error_code)
    };
    coordinator::ask(client, Kind::Group, group, request, code).await?;
    Ok(())
}

/// Deletes what a group has committed of topics, and tells partition by partition how that went.
pub(super) async fn offsets(
    client: &mut AdminClient,
    group: &str,
    topics: &[TopicArgument],
) -> Result<(), ClientError> {
    let Selection { partitions, failed } = partitions::select(client, topics).await?;
    let mut statuses: BTreeMap<Partition, Result<(), ClientError>> = BTreeMap::new();
    let outcome = match delete_offsets(client, group, partitions.iter().cloned()).await {
        Ok(results) => {
            let codes = results.values().copied().find(|code| *code != 0);
            let checked = |(at, code)| (at, ClientError::check(code, None));
            statuses.extend(results.into_iter().map(checked));
            ClientError::check(codes.unwrap_or_default(), None)
        }
        Err(error) => {
            for partition in partitions {
                let code = error.code().unwrap_or(ErrorCode::UnknownServerError);
                statuses.insert(partition, ClientError::check(code.code(), None));
            }
            Err(error)
        }
    };
    match outcome {
        Ok(()) => output::line(format_args!(
            "Request succeeded for deleting offsets from group {group}."
        )),
        Err(error) => say_error(&summary(&error)),
    }
    // Of topics that are not there no partition is known.
    let unknown = failed.into_iter();
    statuses.extend(unknown.map(|(topic, error)| ((topic, -1), Err(error))));
    print(&statuses);
    Ok(())
}

fn summary(error: &ClientError) -> String {
    match error.code() {
        Some(
            ErrorCode::GroupSubscribedToTopic
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::UnknownTopicOrPartition,
        ) => "Encountered some partition-level error, see the follow-up details.".to_owned(),
        Some(_) => exceptions::text(error),
        None => format!("Encountered some unknown error: {error}"),
    }
}

fn print(statuses: &BTreeMap<Partition, Result<(), ClientError>>) {
    let columns = [
        ("TOPIC", Some(15)),
        ("PARTITION", Some(10)),
        ("STATUS", Some(15)),
    ];
    let row = |((topic, partition), status): (&Partition, &Result<(), ClientError>)| {
        let partition = match partition {
            0.. => partition.to_string(),
            _ => MISSING.to_owned(),
        };
        let status = match status {
            Ok(()) => "Successful".to_owned(),
            Err(error) => format!("Error: {}", exceptions::named(error)),
        };
        vec![topic.clone(), partition, status]
    };
    table::print(&columns, &statuses.iter().map(row).collect::<Vec<_>>());
}

async fn delete_offsets(
    client: &mut AdminClient,
    group: &str,
    partitions: impl Iterator<Item = Partition>,
) -> Result<BTreeMap<Partition, i16>, ClientError> {
    let mut topics: BTreeMap<String, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for (topic, partition) in partitions {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(partition);
        topics.entry(topic).or_default().push(partition);
    }
    let topic = |(name, partitions): (&String, &Vec<_>)| {
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(name.clone()))
            .with_partitions(partitions.clone())
    };
    let request = |_: &Connection| {
        OffsetDeleteRequest::default()
            .with_group_id(group_id(group))
            .with_topics(topics.iter().map(topic).collect())
    };
    let code = |response: &OffsetDeleteResponse| response.error_code;
    let (_, response) = coordinator::ask(client, Kind::Group, group, request, code).await?;
    let mut results = BTreeMap::new();
    for topic in response.topics {
        for told in topic.partitions {
            let partition = (topic.name.to_string(), told.partition_index);
            results.insert(partition, told.error_code);
        }
    }
    Ok(results)
}
