//! `troupe leader-election`: elects preferred or unclean leaders, as kafka-leader-election does.
//!
//! Differs from Kafka 3.9: partitions are told in order. kafka-preferred-replica-election of Kafka up to 2.x names the brokers
//! by `--zookeeper`, and means preferred leaders and, without a file, all partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::elect_leaders_request::TopicPartitions;
use troupe_protocol::kafka::messages::elect_leaders_response::PartitionResult;
use troupe_protocol::kafka::messages::{ElectLeadersRequest, ElectLeadersResponse};

use super::client::topic_name;
use super::log_offsets::Partition;
use super::tool::{self, Brokers, ToolError};
use super::{exceptions, output};

/// How long the election may take, in milliseconds.
const TIMEOUT_MS: i32 = 30_000;

/// Elect leaders of partitions.
#[derive(Debug, Args)]
pub(crate) struct LeaderElectionCommand {
    #[command(flatten)]
    brokers: Brokers,
    /// A file of settings for the connection.
    #[arg(long = "admin.config", value_name = "FILE")]
    admin_config: Option<PathBuf>,
    /// Which leader: the first replica, or any where no replica in sync is there.
    #[arg(long, value_enum, ignore_case = true, value_name = "TYPE")]
    election_type: Option<ElectionType>,
    /// The topic.
    #[arg(long)]
    topic: Option<String>,
    /// The partition of that topic.
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// The partitions: {"partitions": [{"topic": "foo", "partition": 1}]}.
    #[arg(long, value_name = "FILE")]
    path_to_json_file: Option<PathBuf>,
    /// All partitions.
    #[arg(long)]
    all_topic_partitions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ElectionType {
    Preferred = 0,
    Unclean = 1,
}

impl ElectionType {
    fn name(self) -> &'static str {
        match self {
            ElectionType::Preferred => "PREFERRED",
            ElectionType::Unclean => "UNCLEAN",
        }
    }
}

/// Runs the command.
pub(crate) fn run(command: LeaderElectionCommand) -> ExitCode {
    tool::run("", execute(command))
}

async fn execute(mut command: LeaderElectionCommand) -> Result<(), ToolError> {
    if let Some(file) = command.admin_config.take() {
        command.brokers.command_config.get_or_insert(file);
    }
    let kind = check(&mut command)?;
    let partitions = match (&command.path_to_json_file, command.topic, command.partition) {
        (Some(file), ..) => Some(parse(&tool::read_file(file)?)?),
        (None, Some(topic), Some(partition)) => Some([(topic, partition)].into()),
        _ => None,
    };
    let mut client = command.brokers.connect().await?;
    let request = ElectLeadersRequest::default()
        .with_election_type(kind as i8)
        .with_topic_partitions(partitions.map(by_topic))
        .with_timeout_ms(TIMEOUT_MS);
    let response = client.controller().await?.call(request).await?;
    if ErrorCode::from_code(response.error_code) != Some(ErrorCode::None) {
        return Err(ToolError::Told(exceptions::told(response.error_code, None)));
    }
    tell(kind, response)
}

/// Refuses flags that make no sense; returns the kind of election.
fn check(command: &mut LeaderElectionCommand) -> Result<ElectionType, ToolError> {
    let is_of_old =
        command.brokers.zookeeper.is_some() && command.brokers.bootstrap_server.is_none();
    if is_of_old {
        command.election_type.get_or_insert(ElectionType::Preferred);
        command.all_topic_partitions |=
            command.topic.is_none() && command.path_to_json_file.is_none();
    }
    let missing = [
        (command.brokers.check().is_err(), "bootstrap-server"),
        (command.election_type.is_none(), "election-type"),
    ];
    let missing: Vec<_> = missing
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, flag)| flag)
        .collect();
    let missing_options =
        |flags: &str| ToolError::told(format!("Missing required option(s): {flags}"));
    let (true, Some(kind)) = (missing.is_empty(), command.election_type) else {
        return Err(missing_options(&missing.join(", ")));
    };
    let ways = [
        command.topic.is_some(),
        command.all_topic_partitions,
        command.path_to_json_file.is_some(),
    ];
    if ways.into_iter().filter(|given| *given).count() != 1 {
        return Err(ToolError::told(
            "One and only one of the following options is required: topic, all-topic-partitions, path-to-json-file",
        ));
    }
    match (&command.topic, command.partition) {
        (Some(_), None) => Err(missing_options("partition")),
        (None, Some(_)) => Err(ToolError::told(
            "Option partition is only allowed if topic is used",
        )),
        _ => Ok(kind),
    }
}

fn parse(text: &str) -> Result<BTreeSet<Partition>, ToolError> {
    let json: Value = serde_json::from_str(text)
        .map_err(|_| ToolError::told("Replica election data is empty"))?;
    let listed = json.get("partitions").and_then(Value::as_array);
    let listed = listed
        .ok_or_else(|| ToolError::told("Replica election data is missing \"partitions\" field"))?;
    let mut partitions = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for entry in listed {
        let partition = read_entry(entry)
            .ok_or_else(|| ToolError::told(format!("Not a topic and a partition: {entry}")))?;
        if !partitions.insert(partition.clone()) {
            twice.insert(shown(&partition));
        }
    }
    match twice.is_empty() {
        true => Ok(partitions),
        false => Err(ToolError::told(format!(
            "Replica election data contains duplicate partitions: [{}]",
            twice.into_iter().collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn read_entry(entry: &Value) -> Option<Partition> {
    let partition = i32::try_from(entry.get("partition")?.as_i64()?).ok()?;
    Some((entry.get("topic")?.as_str()?.to_owned(), partition))
}

fn shown((topic, partition): &Partition) -> String {
    format!("{topic}-{partition}")
}

fn by_topic(partitions: BTreeSet<Partition>) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(partition);
    }
    let topic = |(name, partitions)| {
        let topic = TopicPartitions::default().with_topic(topic_name(name));
        topic.with_partitions(partitions)
    };
    topics.into_iter().map(topic).collect()
}

fn tell(kind: ElectionType, response: ElectLeadersResponse) -> Result<(), ToolError> {
    let mut results: BTreeMap<Partition, PartitionResult> = BTreeMap::new();
    for topic in response.replica_election_results {
        for result in topic.partition_result {
            results.insert((topic.topic.to_string(), result.partition_id), result);
        }
    }
    let with = |wanted: ErrorCode| -> Vec<String> {
        let found = results
            .iter()
            .filter(|(_, result)| result.error_code == wanted.code());
        found.map(|(partition, _)| shown(partition)).collect()
    };
    let (elected, unneeded) = (with(ErrorCode::None), with(ErrorCode::ElectionNotNeeded));
    if !elected.is_empty() {
        output::line(format_args!(
            "Successfully completed leader election ({}) for partitions {}",
            kind.name(),
            elected.join(", ")
        ));
    }
    if !unneeded.is_empty() {
        output::line(format_args!(
            "Valid replica already elected for partitions {}",
            unneeded.join(", ")
        ));
    }
    let good = [ErrorCode::None.code(), ErrorCode::ElectionNotNeeded.code()];
    results.retain(|_, result| !good.contains(&result.error_code));
    for (partition, result) in &results {
        output::line(format_args!(
            "Error completing leader election ({}) for partition: {}: {}",
            kind.name(),
            shown(partition),
            exceptions::told(result.error_code, result.error_message.as_ref())
        ));
    }
    match results.len() {
        0 => Ok(()),
        failed => Err(ToolError::told(format!(
            "{failed} replica(s) could not be elected"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_each_partition_once() {
        let one = r#"{"topic":"a","partition":1}"#;
        let partitions = parse(&format!(r#"{{"partitions":[{one}]}}"#)).unwrap();
        assert_eq!(partitions, [("a".to_owned(), 1)].into());
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error(""), "Replica election data is empty");
        assert_eq!(
            error("{}"),
            "Replica election data is missing \"partitions\" field"
        );
        assert_eq!(
            error(&format!(r#"{{"partitions":[{one},{one}]}}"#)),
            "Replica election data contains duplicate partitions: [a-1]"
        );
    }
}
