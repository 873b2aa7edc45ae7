//! `troupe get-offsets`: tells where logs end, begin, or are at a time, as kafka-get-offsets and GetOffsetShell do.
//!
//! Differs from Kafka 3.9: an unreachable broker is reported at once and not after a minute.

use std::collections::BTreeSet;
use std::ops::Range;
use std::process::ExitCode;

use clap::Args;
use regex::Regex;
use troupe_protocol::kafka::messages::MetadataResponse;

use super::log_offsets::{self, EARLIEST, LATEST, NO_OFFSET, Partition};
use super::tool::{self, Brokers, ToolError};
use super::{exceptions, include_list, output, zookeeper};

/// The timestamps with a meaning of their own (KIP-734, KIP-405, KIP-1005).
const SPECIAL_TIMES: [(&str, i64); 5] = [
    ("latest", LATEST),
    ("earliest", EARLIEST),
    ("max-timestamp", -3),
    ("earliest-local", -4),
    ("latest-tiered", -5),
];

/// Tell the offsets of partitions.
#[derive(Debug, Args)]
pub(crate) struct GetOffsetsCommand {
    #[command(flatten)]
    brokers: Brokers,
    /// The topic, a regular expression; all without it.
    #[arg(long)]
    topic: Option<String>,
    /// The partitions: 0,1,2; all without it.
    #[arg(long, value_name = "IDS")]
    partitions: Option<String>,
    /// Topics with partitions: topic1:1,topic2:0-3,topic3,topic4:5-,topic5:-3.
    #[arg(long, value_name = "PATTERNS")]
    topic_partitions: Option<String>,
    /// Milliseconds since 1970, or latest (-1), earliest (-2), max-timestamp (-3), earliest-local (-4), latest-tiered (-5).
    #[arg(long, default_value = "latest", allow_negative_numbers = true)]
    time: String,
    /// Leave out topics such as __consumer_offsets.
    #[arg(long)]
    exclude_internal_topics: bool,
    /// Of older Kafkas: the same as --bootstrap-server.
    #[arg(long, value_name = "SERVERS", hide_short_help = true)]
    broker_list: Option<String>,
    /// Of older Kafkas: does nothing, there is one offset.
    #[arg(long, value_name = "N", hide = true)]
    offsets: Option<i32>,
    /// Of older Kafkas: does nothing.
    #[arg(long, value_name = "MS", hide = true)]
    max_wait_ms: Option<i32>,
}

/// Runs the command.
pub(crate) fn run(command: GetOffsetsCommand) -> ExitCode {
    tool::run("Error occurred: ", execute(command))
}

async fn execute(mut command: GetOffsetsCommand) -> Result<(), ToolError> {
    heed_old_flags(&mut command);
    if command.brokers.check().is_err() {
        return Err(ToolError::told(
            "Missing required option(s) [bootstrap-server]",
        ));
    }
    let timestamp = timestamp(&command.time)?;
    let rules = rules(&command)?;
    let mut client = command.brokers.connect().await?;
    let metadata = client.metadata(None).await?;
    let partitions = matching(&metadata, &rules, command.exclude_internal_topics);
    if partitions.is_empty() {
        let text = "Could not match any topic-partitions with the specified filters";
        return Err(ToolError::told(text));
    }
    let offsets = log_offsets::of_logs(&mut client, &partitions, timestamp).await?;
    let mut offsets: Vec<_> = offsets
        .into_iter()
        .map(|((topic, partition), offset)| {
            (format!("{topic}-{partition}"), topic, partition, offset)
        })
        .collect();
    // By the text, as Kafka does: t-10 comes before t-2.
    offsets.sort();
    for (name, topic, partition, offset) in offsets {
        match offset {
            Ok(NO_OFFSET) => {}
            Ok(offset) => output::line(format_args!("{topic}:{partition}:{offset}")),
            Err(code) => output::error(format_args!(
                "Skip getting offsets for topic-partition {name} due to error: {}",
                exceptions::told(code.code(), None)
            )),
        }
    }
    Ok(())
}

/// Takes the flags of older Kafkas for those of today, and says which these are.
fn heed_old_flags(command: &mut GetOffsetsCommand) {
    if let Some(servers) = &command.broker_list {
        zookeeper::hint("--broker-list", &format!("--bootstrap-server {servers}"));
        let servers = Some(servers.clone());
        command.brokers.bootstrap_server = command.brokers.bootstrap_server.take().or(servers);
    }
    if command.offsets.is_some() || command.max_wait_ms.is_some() {
        zookeeper::hint(
            "--offsets or --max-wait-ms",
            "neither: there is one offset for a time",
        );
    }
}

fn timestamp(text: &str) -> Result<i64, ToolError> {
    if let Some((_, timestamp)) = SPECIAL_TIMES.iter().find(|(name, _)| *name == text) {
        return Ok(*timestamp);
    }
    text.parse().map_err(|_| {
        ToolError::told(format!(
            "Malformed time argument {text}. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / \
             -4 or earliest-local / -5 or latest-tiered, or a specified long format timestamp"
        ))
    })
}

/// Which partitions of which topics are meant.
#[derive(Debug)]
struct Rule {
    topic: Regex,
    partitions: Partitions,
}

#[derive(Debug, PartialEq, Eq)]
enum Partitions {
    All,
    These(BTreeSet<i32>),
    Between(Range<i32>),
}

impl Partitions {
    fn contains(&self, partition: i32) -> bool {
        match self {
            Partitions::All => true,
            Partitions::These(these) => these.contains(&partition),
            Partitions::Between(range) => range.contains(&partition),
        }
    }
}

fn rules(command: &GetOffsetsCommand) -> Result<Vec<Rule>, ToolError> {
    if let Some(patterns) = &command.topic_partitions {
        if command.topic.is_some() || command.partitions.is_some() {
            let text = "--topic-partitions cannot be used with --topic or --partitions";
            return Err(ToolError::told(text));
        }
        return patterns.split(',').map(rule).collect();
    }
    let topic = command.topic.as_deref().unwrap_or(".*");
    let topic = include_list::pattern(topic).map_err(ToolError::Told)?;
    let partitions = match command
        .partitions
        .as_deref()
        .filter(|text| !text.is_empty())
    {
        None => Partitions::All,
        Some(text) => Partitions::These(numbers(text)?),
    };
    Ok(vec![Rule { topic, partitions }])
}

fn numbers(text: &str) -> Result<BTreeSet<i32>, ToolError> {
    let numbers = text.split(',').map(str::parse);
    numbers.collect::<Result<_, _>>().map_err(|_| {
        ToolError::told(format!(
            "--partitions expects a comma separated list of numeric partition ids, but received: {text}"
        ))
    })
}

/// Reads `topic`, `topic:1`, `topic:1-3`, `topic:1-` or `topic:-3`; the topic may be missing.
fn rule(text: &str) -> Result<Rule, ToolError> {
    let invalid = || ToolError::told(format!("Invalid rule specification: {text}"));
    let (topic, partitions) = text.split_once(':').unwrap_or((text, ""));
    let topic = if topic.is_empty() { ".*" } else { topic };
    let topic = include_list::pattern(topic).map_err(ToolError::Told)?;
    let bound = |text: &str, missing: i32| match text {
        "" => Ok(missing),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| invalid())
        }
        _ => Err(invalid()),
    };
    let partitions = match partitions.split_once('-') {
        Some((from, to)) => Partitions::Between(bound(from, 0)?..bound(to, i32::MAX)?),
        None if partitions.is_empty() => Partitions::All,
        None => Partitions::These([bound(partitions, 0)?].into()),
    };
    Ok(Rule { topic, partitions })
}

fn matching(
    metadata: &MetadataResponse,
    rules: &[Rule],
    exclude_internal: bool,
) -> BTreeSet<Partition> {
    let topics = metadata
        .topics
        .iter()
        .filter(|topic| !(exclude_internal && topic.is_internal));
    let all = topics.flat_map(|topic| {
        let name = topic
            .name
            .as_ref()
            .map(|name| name.to_string())
            .unwrap_or_default();
        let partitions = topic.partitions.iter();
        partitions.map(move |told| (name.clone(), told.partition_index))
    });
    all.filter(|(topic, partition)| {
        let mut rules = rules.iter();
        rules.any(|rule| rule.topic.is_match(topic) && rule.partitions.contains(*partition))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_partitions_by_number_and_range() {
        let partitions = |text| rule(text).unwrap().partitions;
        assert_eq!(partitions("t"), Partitions::All);
        assert_eq!(partitions("t:"), Partitions::All);
        assert_eq!(partitions("t:3"), Partitions::These([3].into()));
        assert_eq!(partitions("t:1-3"), Partitions::Between(1..3));
        assert_eq!(partitions(":-3"), Partitions::Between(0..3));
        assert_eq!(partitions("t:5-"), Partitions::Between(5..i32::MAX));
        for text in ["t:x", "t:1:2", "t:+1"] {
            let error = rule(text).unwrap_err().to_string();
            assert_eq!(error, format!("Invalid rule specification: {text}"));
        }
    }

    #[test]
    fn times_have_names_and_numbers() {
        assert_eq!(timestamp("earliest").unwrap(), -2);
        assert_eq!(timestamp("-5").unwrap(), -5);
        assert_eq!(timestamp("1700000000000").unwrap(), 1_700_000_000_000);
        assert!(
            timestamp("soon")
                .unwrap_err()
                .to_string()
                .starts_with("Malformed time argument soon. ")
        );
    }
}
