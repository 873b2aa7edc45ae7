//! The files of `troupe reassign-partitions`: what they say, and what may be wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::super::log_offsets::Partition;
use super::super::tool::ToolError;
use super::shown;

/// Where the replicas of each partition are, or go, by the brokers' ids.
pub(super) type Assignment = BTreeMap<Partition, Vec<i32>>;

/// What Kafka writes for a replica that may be in any directory.
const ANY_LOG_DIR: &str = "any";

/// One entry of a file, as it stands there.
pub(super) type Entry = (Partition, Vec<i32>);

fn read(text: &str) -> Result<Value, ToolError> {
    let json: Value = serde_json::from_str(text).map_err(|error| {
        ToolError::told(format!("The input string is not a valid JSON: {error}"))
    })?;
    match json.get("version") {
        Some(version) if version.as_i64() != Some(1) => Err(ToolError::told(format!(
            "Not supported version field value {version}"
        ))),
        _ => Ok(json),
    }
}

fn array<'a>(json: &'a Value, field: &str) -> &'a [Value] {
    let listed = json.get(field).and_then(Value::as_array);
    listed.map_or(&[], Vec::as_slice)
}

/// Reads where partitions are to go.
pub(super) fn reassignment(text: &str) -> Result<Vec<Entry>, ToolError> {
    let json = read(text)?;
    array(&json, "partitions")
        .iter()
        .map(|entry| {
            let malformed =
                || ToolError::told(format!("Not a topic, a partition and replicas: {entry}"));
            let read = read_entry(entry).ok_or_else(malformed)?;
            check_log_dirs(entry, &read)?;
            Ok(read)
        })
        .collect()
}

fn read_entry(entry: &Value) -> Option<Entry> {
    let topic = entry.get("topic")?.as_str()?.to_owned();
    let partition = i32::try_from(entry.get("partition")?.as_i64()?).ok()?;
    let replicas = entry.get("replicas")?.as_array()?.iter();
    let replicas = replicas.map(|id| i32::try_from(id.as_i64()?).ok());
    Some(((topic, partition), replicas.collect::<Option<_>>()?))
}

/// Directories are Kafka's to choose, as they are where a file comes from `--generate`.
fn check_log_dirs(entry: &Value, (partition, replicas): &Entry) -> Result<(), ToolError> {
    let Some(dirs) = entry.get("log_dirs").and_then(Value::as_array) else {
        return Ok(());
    };
    let dirs: Vec<_> = dirs.iter().filter_map(Value::as_str).collect();
    if dirs.len() != replicas.len() {
        let replicas: Vec<_> = replicas.iter().map(i32::to_string).collect();
        return Err(ToolError::told(format!(
            "Size of replicas list [{}] is different from size of log dirs list [{}] for partition {}",
            replicas.join(", "),
            dirs.join(", "),
            shown(partition)
        )));
    }
    match dirs.iter().all(|dir| *dir == ANY_LOG_DIR) {
        true => Ok(()),
        false => Err(ToolError::told(format!(
            "Partition {} names a log directory: only \"{ANY_LOG_DIR}\" can be served",
            shown(partition)
        ))),
    }
}

/// Refuses what cannot be executed: nothing, or the same twice.
pub(super) fn executable(entries: Vec<Entry>) -> Result<Assignment, ToolError> {
    if entries.is_empty() {
        return Err(ToolError::told(
            "Partition reassignment list cannot be empty",
        ));
    }
    if entries.iter().any(|(_, replicas)| replicas.is_empty()) {
        return Err(ToolError::told("Partition replica list cannot be empty"));
    }
    let partitions = twice(entries.iter().map(|(partition, _)| partition));
    if !partitions.is_empty() {
        let partitions: Vec<_> = partitions.into_iter().map(shown).collect();
        return Err(ToolError::told(format!(
            "Partition reassignment contains duplicate topic partitions: {}",
            partitions.join(",")
        )));
    }
    let doubled: Vec<_> = entries
        .iter()
        .map(|(partition, replicas)| (partition, twice(replicas)))
        .filter(|(_, brokers)| !brokers.is_empty())
        .map(|(partition, brokers)| {
            let brokers: Vec<_> = brokers.into_iter().map(i32::to_string).collect();
            format!(
                "{} contains multiple entries for {}",
                shown(partition),
                brokers.join(",")
            )
        })
        .collect();
    match doubled.is_empty() {
        true => Ok(entries.into_iter().collect()),
        false => Err(ToolError::told(format!(
            "Partition replica lists may not contain duplicate entries: {}",
            doubled.join(". ")
        ))),
    }
}

/// Reads the topics to propose for.
pub(super) fn topics(text: &str) -> Result<Vec<String>, ToolError> {
    let json = read(text)?;
    let topic = |entry: &Value| {
        let name = entry.get("topic").and_then(Value::as_str);
        name.map(str::to_owned)
            .ok_or_else(|| ToolError::told(format!("Not a topic: {entry}")))
    };
    let topics: Vec<_> = array(&json, "topics")
        .iter()
        .map(topic)
        .collect::<Result<_, _>>()?;
    let doubled: Vec<_> = twice(&topics).into_iter().cloned().collect();
    match doubled.is_empty() {
        true => Ok(topics),
        false => Err(ToolError::told(format!(
            "List of topics to reassign contains duplicate entries: [{}]",
            doubled.join(", ")
        ))),
    }
}

/// Reads `0,1,2`.
pub(super) fn brokers(text: &str) -> Result<Vec<i32>, ToolError> {
    let number = |part: &str| {
        let invalid = |_| ToolError::told(format!("For input string: \"{part}\""));
        part.parse::<i32>().map_err(invalid)
    };
    let brokers: Vec<_> = text.split(',').map(number).collect::<Result<_, _>>()?;
    let doubled: Vec<_> = twice(&brokers).into_iter().map(i32::to_string).collect();
    match doubled.is_empty() {
        true => Ok(brokers),
        false => Err(ToolError::told(format!(
            "Broker list contains duplicate entries: [{}]",
            doubled.join(", ")
        ))),
    }
}

fn twice<'a, T: Ord>(all: impl IntoIterator<Item = &'a T>) -> BTreeSet<&'a T> {
    let mut seen = BTreeSet::new();
    all.into_iter().filter(|one| !seen.insert(*one)).collect()
}

#[derive(Serialize)]
struct File<'a> {
    version: i32,
    partitions: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    topic: &'a str,
    partition: i32,
    replicas: &'a [i32],
    log_dirs: Vec<&'a str>,
}

/// Writes an assignment as a file that can be executed.
pub(super) fn write(assignment: &Assignment) -> Result<String, ToolError> {
    let row = |((topic, partition), replicas): (&'_ Partition, &'_ Vec<i32>)| {
        (topic.clone(), *partition, replicas.clone())
    };
    let rows: Vec<_> = assignment.iter().map(row).collect();
    let partitions = rows
        .iter()
        .map(|(topic, partition, replicas)| Row {
            topic,
            partition: *partition,
            replicas,
            log_dirs: vec![ANY_LOG_DIR; replicas.len()],
        })
        .collect();
    let file = File {
        version: 1,
        partitions,
    };
    Ok(serde_json::to_string(&file).map_err(std::io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T>(result: Result<T, ToolError>) -> String {
        result
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn what_is_written_can_be_read() {
        let assignment: Assignment = [(("t".to_owned(), 1), vec![2, 0])].into();
        let text = write(&assignment).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"partitions":[{"topic":"t","partition":1,"replicas":[2,0],"log_dirs":["any","any"]}]}"#
        );
        assert_eq!(
            executable(reassignment(&text).unwrap()).unwrap(),
            assignment
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_kafkas_words() {
        let of = |partitions: &str| {
            let text = format!(r#"{{"partitions":[{partitions}]}}"#);
            error(reassignment(&text).and_then(executable))
        };
        assert_eq!(of(""), "Partition reassignment list cannot be empty");
        let row =
            |replicas: &str| format!(r#"{{"topic":"t","partition":0,"replicas":[{replicas}]}}"#);
        assert_eq!(of(&row("")), "Partition replica list cannot be empty");
        assert_eq!(
            of(&format!("{},{}", row("1"), row("2"))),
            "Partition reassignment contains duplicate topic partitions: t-0"
        );
        assert_eq!(
            of(&row("1,2,1")),
            "Partition replica lists may not contain duplicate entries: t-0 contains multiple entries for 1"
        );
        assert_eq!(
            of(r#"{"topic":"t","partition":0,"replicas":[1,2],"log_dirs":["any"]}"#),
            "Size of replicas list [1, 2] is different from size of log dirs list [any] for partition t-0"
        );
        assert_eq!(
            error(brokers("0,1,0")),
            "Broker list contains duplicate entries: [0]"
        );
        assert_eq!(
            error(topics(r#"{"topics":[{"topic":"a"},{"topic":"a"}]}"#)),
            "List of topics to reassign contains duplicate entries: [a]"
        );
        assert_eq!(
            error(topics(r#"{"version":7}"#)),
            "Not supported version field value 7"
        );
    }
}
