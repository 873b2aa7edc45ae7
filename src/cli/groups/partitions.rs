//! Which partitions `--topic` means.

use std::collections::{BTreeMap, BTreeSet};

use super::super::client::{AdminClient, ClientError};
use super::flags::UsageError;

pub(super) use super::super::log_offsets::Partition;

/// Shows a partition as Kafka does: `topic-0`.
pub(super) fn show((topic, partition): &Partition) -> String {
    format!("{topic}-{partition}")
}

/// One `--topic`: all partitions of a topic, or those that are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicArgument {
    topic: String,
    partitions: Option<Vec<i32>>,
}

impl TopicArgument {
    /// Reads `topic` or `topic:0,1`.
    pub(super) fn parse(text: &str) -> Result<Self, UsageError> {
        if !text.contains(':') {
            return Ok(Self {
                topic: text.to_owned(),
                partitions: None,
            });
        }
        // As Java's `split` has it: what is empty at the end does not count.
        let parts: Vec<_> = text.trim_end_matches(':').split(':').collect();
        let [topic, partitions] = parts[..] else {
            return Err(UsageError(format!(
                "Invalid topic arg '{text}', expected topic name and partitions"
            )));
        };
        let number = |number: &str| {
            let invalid = |_| {
                UsageError(format!(
                    "Invalid partition '{number}' specified in topic arg '{text}''"
                ))
            };
            number.parse().map_err(invalid)
        };
        let partitions: Result<Vec<i32>, _> = partitions.split(',').map(number).collect();
        Ok(Self {
            topic: topic.to_owned(),
            partitions: Some(partitions?),
        })
    }
}

/// What `--topic` means in a cluster.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// The partitions. Those that were named may not exist.
    pub(super) partitions: BTreeSet<Partition>,
    /// Why a topic has none.
    pub(super) failed: BTreeMap<String, ClientError>,
}

/// Asks which partitions the topics have.
pub(super) async fn select(
    client: &mut AdminClient,
    arguments: &[TopicArgument],
) -> Result<Selection, ClientError> {
    let mut selection = Selection::default();
    let mut whole = BTreeSet::new();
    for TopicArgument { topic, partitions } in arguments {
        match partitions {
            Some(numbers) => {
                let named = numbers.iter().map(|number| (topic.clone(), *number));
                selection.partitions.extend(named);
            }
            None => drop(whole.insert(topic.clone())),
        }
    }
    if whole.is_empty() {
        return Ok(selection);
    }
    for topic in client
        .metadata(Some(whole.into_iter().collect()))
        .await?
        .topics
    {
        let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
        if let Err(error) = ClientError::check(topic.error_code, None) {
            selection.failed.insert(name, error);
            continue;
        }
        let numbers = topic.partitions.iter().map(|told| told.partition_index);
        let all = numbers.map(|number| (name.clone(), number));
        selection.partitions.extend(all);
    }
    Ok(selection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_name_its_partitions() {
        let parse = |text: &str| TopicArgument::parse(text).map_err(|error| error.0);
        let topic = |partitions| TopicArgument {
            topic: "t".to_owned(),
            partitions,
        };
        assert_eq!(parse("t"), Ok(topic(None)));
        assert_eq!(parse("t:0,12"), Ok(topic(Some(vec![0, 12]))));
        let shape =
            |text| format!("Invalid topic arg '{text}', expected topic name and partitions");
        assert_eq!(parse("t:"), Err(shape("t:")));
        assert_eq!(parse("t:1:2"), Err(shape("t:1:2")));
        assert_eq!(
            parse("t:1,x").unwrap_err(),
            "Invalid partition 'x' specified in topic arg 't:1,x''"
        );
    }
}
