//! `troupe log-dirs`: tells which replicas are in which directories, and how large they are, as kafka-log-dirs does.
//!
//! Differs from Kafka 3.9: brokers, directories and partitions are in order.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::describe_log_dirs_response::DescribeLogDirsResult;
use troupe_protocol::kafka::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::tool::{self, Brokers, ToolError};
use super::{exceptions, output};

/// Describe the log directories of brokers.
#[derive(Debug, Args)]
pub(crate) struct LogDirsCommand {
    #[command(flatten)]
    brokers: Brokers,
    /// Tell directories, replicas and their sizes.
    #[arg(long)]
    describe: bool,
    /// The topics: topic1,topic2; all without it.
    #[arg(
        long,
        value_name = "TOPICS",
        default_value = "",
        hide_default_value = true
    )]
    topic_list: String,
    /// The brokers: 0,1,2; all without it.
    #[arg(
        long,
        value_name = "IDS",
        default_value = "",
        hide_default_value = true
    )]
    broker_list: String,
}

/// The answer, with its fields in the order in which Kafka's tool happens to write them.
#[derive(Debug, Serialize)]
struct Described {
    brokers: Vec<Broker>,
    version: i32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Broker {
    broker: i32,
    log_dirs: Vec<LogDir>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LogDir {
    partitions: Vec<Replica>,
    error: Option<String>,
    log_dir: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replica {
    partition: String,
    size: i64,
    offset_lag: i64,
    is_future: bool,
}

/// Runs the command.
pub(crate) fn run(command: LogDirsCommand) -> ExitCode {
    tool::run("", execute(command))
}

async fn execute(command: LogDirsCommand) -> Result<(), ToolError> {
    command.brokers.check()?;
    if !command.describe {
        return Err(ToolError::missing("describe"));
    }
    let topics: BTreeSet<&str> = listed(&command.topic_list).collect();
    let wanted = broker_ids(&command.broker_list)?;
    let mut client = command.brokers.connect().await?;
    let metadata = client.metadata(Some(Vec::new())).await?;
    let there: BTreeMap<i32, _> = metadata
        .brokers
        .into_iter()
        .map(|broker| (broker.node_id.0, broker))
        .collect();
    let missing: Vec<_> = wanted.iter().filter(|id| !there.contains_key(id)).collect();
    if !missing.is_empty() {
        return Err(ToolError::told(format!(
            "ERROR: The given brokers do not exist from --broker-list: {}. Current existent brokers: {}",
            joined(missing),
            joined(there.keys())
        )));
    }
    let asked = there
        .into_iter()
        .filter(|(id, _)| wanted.is_empty() || wanted.contains(id));
    let mut brokers = Vec::new();
    output::line("Querying brokers for log directories information");
    for (id, broker) in asked {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let connection = client.broker(&broker.host, broker.port).await?;
        let log_dirs = directories(connection.call(request).await?, &topics)?;
        brokers.push(Broker {
            broker: id,
            log_dirs,
        });
    }
    let ids = joined(brokers.iter().map(|broker| broker.broker));
    output::line(format_args!(
        "Received log directory information from brokers {ids}"
    ));
    let described = Described {
        brokers,
        version: 1,
    };
    let json = serde_json::to_string(&described).map_err(std::io::Error::other)?;
    output::line(json);
    Ok(())
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|part| !part.is_empty())
}

fn broker_ids(text: &str) -> Result<BTreeSet<i32>, ToolError> {
    let number = |part: &str| {
        let invalid = |_| ToolError::told(format!("For input string: \"{part}\""));
        part.parse().map_err(invalid)
    };
    listed(text).map(number).collect()
}

fn joined<T: ToString>(ids: impl IntoIterator<Item = T>) -> String {
    let ids: Vec<_> = ids.into_iter().map(|id| id.to_string()).collect();
    ids.join(",")
}

fn directories(
    response: DescribeLogDirsResponse,
    topics: &BTreeSet<&str>,
) -> Result<Vec<LogDir>, ToolError> {
    if ErrorCode::from_code(response.error_code) != Some(ErrorCode::None) {
        return Err(ToolError::Told(exceptions::told(response.error_code, None)));
    }
    let mut directories: Vec<_> = response
        .results
        .into_iter()
        .map(|result| directory(result, topics))
        .collect();
    directories.sort_by(|one, other| one.log_dir.cmp(&other.log_dir));
    Ok(directories)
}

fn directory(result: DescribeLogDirsResult, topics: &BTreeSet<&str>) -> LogDir {
    let error = ErrorCode::from_code(result.error_code).unwrap_or(ErrorCode::UnknownServerError);
    let meant = result
        .topics
        .into_iter()
        .filter(|topic| topics.is_empty() || topics.contains(topic.name.as_str()));
    let mut replicas = BTreeMap::new();
    for topic in meant {
        for told in topic.partitions {
            let replica = Replica {
                partition: format!("{}-{}", topic.name.as_str(), told.partition_index),
                size: told.partition_size,
                offset_lag: told.offset_lag,
                is_future: told.is_future_key,
            };
            replicas.insert((topic.name.to_string(), told.partition_index), replica);
        }
    }
    LogDir {
        partitions: replicas.into_values().collect(),
        error: (error != ErrorCode::None).then(|| exceptions::class(error)),
        log_dir: result.log_dir.to_string(),
    }
}
