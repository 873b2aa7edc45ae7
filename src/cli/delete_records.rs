//! `troupe delete-records`: deletes the records before the offsets of a JSON file, as kafka-delete-records does.
//!
//! Differs from Kafka 3.9: partitions are told in order; one that nobody leads is told at once and not after a minute.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use troupe_protocol::kafka::messages::{BrokerId, DeleteRecordsRequest};

use super::client::{AdminClient, ClientError, topic_name};
use super::log_offsets::Partition;
use super::tool::{self, Brokers, ToolError};
use super::{exceptions, output};

/// How long the broker may take, in milliseconds.
const TIMEOUT_MS: i32 = 30_000;

/// Delete the records of partitions before given offsets.
#[derive(Debug, Args)]
pub(crate) struct DeleteRecordsCommand {
    #[command(flatten)]
    brokers: Brokers,
    /// The offsets: {"partitions": [{"topic": "foo", "partition": 1, "offset": 1}], "version": 1}.
    #[arg(long, value_name = "FILE")]
    offset_json_file: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(command: DeleteRecordsCommand) -> ExitCode {
    tool::run("", execute(command))
}

async fn execute(command: DeleteRecordsCommand) -> Result<(), ToolError> {
    command.brokers.check()?;
    let file = command.offset_json_file.as_deref();
    let file = file.ok_or_else(|| ToolError::missing("offset-json-file"))?;
    let offsets = parse(&tool::read_file(file)?)?;
    let mut client = command.brokers.connect().await?;
    output::line("Executing records delete operation");
    let results = delete(&mut client, &offsets).await?;
    output::line("Records delete operation completed:");
    for ((topic, partition), result) in results {
        match result {
            Ok(low) => output::line(format_args!(
                "partition: {topic}-{partition}\tlow_watermark: {low}"
            )),
            Err(error) => {
                output::line(format_args!(
                    "partition: {topic}-{partition}\terror: {error}"
                ));
            }
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<BTreeMap<Partition, i64>, ToolError> {
    let json: Value = serde_json::from_str(text)
        .map_err(|_| ToolError::told("The input string is not a valid JSON"))?;
    match json.get("version") {
        Some(version) if version.as_i64() != Some(1) => {
            return Err(ToolError::told(format!(
                "Not supported version field value {version}"
            )));
        }
        _ => {}
    }
    let partitions = json.get("partitions").and_then(Value::as_array);
    let partitions = partitions.ok_or_else(|| ToolError::told("Missing partitions field"))?;
    let mut offsets = BTreeMap::new();
    let mut twice = Vec::new();
    for entry in partitions {
        let (partition, offset) = read_entry(entry).ok_or_else(|| {
            ToolError::told(format!("Not a topic, a partition and an offset: {entry}"))
        })?;
        if offsets.insert(partition.clone(), offset).is_some() {
            twice.push(format!("{}-{}", partition.0, partition.1));
        }
    }
    twice.dedup();
    match twice.is_empty() {
        true => Ok(offsets),
        false => Err(ToolError::told(format!(
            "Offset json file contains duplicate topic partitions: {}",
            twice.join(",")
        ))),
    }
}

fn read_entry(entry: &Value) -> Option<(Partition, i64)> {
    let topic = entry.get("topic")?.as_str()?.to_owned();
    let partition = i32::try_from(entry.get("partition")?.as_i64()?).ok()?;
    Some(((topic, partition), entry.get("offset")?.as_i64()?))
}

/// The new beginning of a partition, or why there is none.
type Deletion = Result<i64, String>;

async fn delete(
    client: &mut AdminClient,
    offsets: &BTreeMap<Partition, i64>,
) -> Result<BTreeMap<Partition, Deletion>, ToolError> {
    let missing = exceptions::told(ErrorCode::UnknownTopicOrPartition.code(), None);
    let mut results: BTreeMap<_, Deletion> = offsets
        .keys()
        .map(|partition| (partition.clone(), Err(missing.clone())))
        .collect();
    let mut topics: Vec<_> = offsets.keys().map(|(topic, _)| topic.clone()).collect();
    topics.dedup();
    let metadata = client.metadata(Some(topics)).await?;
    let mut led: BTreeMap<BrokerId, Vec<Partition>> = BTreeMap::new();
    for topic in metadata.topics {
        let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
        for told in topic.partitions {
            let partition = (name.clone(), told.partition_index);
            if let Some(result) = results.get_mut(&partition) {
                *result = Err(exceptions::told(ErrorCode::LeaderNotAvailable.code(), None));
                led.entry(told.leader_id).or_default().push(partition);
            }
        }
    }
    for broker in metadata.brokers {
        let Some(partitions) = led.remove(&broker.node_id) else {
            continue;
        };
        let request = request(partitions, offsets);
        let answer = client
            .broker(&broker.host, broker.port)
            .await?
            .call(request)
            .await?;
        for topic in answer.topics {
            for told in topic.partitions {
                let partition = (topic.name.to_string(), told.partition_index);
                let result = match ClientError::check(told.error_code, None) {
                    Ok(()) => Ok(told.low_watermark),
                    Err(_) => Err(exceptions::told(told.error_code, None)),
                };
                results.insert(partition, result);
            }
        }
    }
    Ok(results)
}

fn request(partitions: Vec<Partition>, offsets: &BTreeMap<Partition, i64>) -> DeleteRecordsRequest {
    let mut topics: BTreeMap<String, Vec<DeleteRecordsPartition>> = BTreeMap::new();
    for partition in partitions {
        let offset = offsets.get(&partition).copied().unwrap_or_default();
        let (topic, index) = partition;
        let asked = DeleteRecordsPartition::default().with_partition_index(index);
        topics
            .entry(topic)
            .or_default()
            .push(asked.with_offset(offset));
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        let topic = DeleteRecordsTopic::default().with_name(topic_name(name));
        topic.with_partitions(partitions)
    });
    DeleteRecordsRequest::default()
        .with_topics(topics.collect())
        .with_timeout_ms(TIMEOUT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_each_partition_once() {
        let offsets = parse(r#"{"partitions":[{"topic":"a","partition":1,"offset":7}]}"#).unwrap();
        assert_eq!(offsets, [(("a".to_owned(), 1), 7)].into());
        let error = |text| parse(text).unwrap_err().to_string();
        assert_eq!(error("{"), "The input string is not a valid JSON");
        assert_eq!(error("{}"), "Missing partitions field");
        assert_eq!(
            error(r#"{"version":2}"#),
            "Not supported version field value 2"
        );
        let twice = r#"{"topic":"a","partition":1,"offset":7}"#;
        assert_eq!(
            error(&format!(
                r#"{{"partitions":[{twice},{twice}],"version":1}}"#
            )),
            "Offset json file contains duplicate topic partitions: a-1"
        );
    }
}
