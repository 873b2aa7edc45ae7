//! `troupe reassign-partitions`: moves partitions to other brokers, as kafka-reassign-partitions does.
//!
//! Differs from Kafka 3.9: proposals know no racks, replicas are not moved between directories of a broker, a failure is
//! told without a stack trace, and moves that only add replicas can be cancelled too.

mod files;
mod flags;
mod queries;
mod throttles;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use troupe_actors::controller::assignment::{self, Place};
use troupe_protocol::kafka::errors::ErrorCode;

use super::client::AdminClient;
use super::log_offsets::Partition;
use super::tool::{self, ToolError};
use super::{exceptions, output};
use files::Assignment;
use flags::Action;
pub(crate) use flags::ReassignPartitionsCommand;

const ONGOING: &str = "Cannot execute because there is an existing partition assignment.  Use --additional to override \
    this and create a new partition assignment in addition to the existing one. The --additional flag can also be used to \
    change the throttle by resubmitting the current reassignment.";
const VERIFY_LATER: &str = "Warning: You must run --verify periodically, until the reassignment completes, to ensure the \
    throttle is removed.";

/// Tells why a command failed.
#[derive(Debug, thiserror::Error)]
enum ReassignError {
    /// What says enough by itself.
    #[error("{0}")]
    Terse(String),
    #[error("Error: {0}")]
    Failed(#[from] ToolError),
}

/// Runs the command. As Kafka's does, it tells on standard output why it failed, and leaves with 1.
pub(crate) fn run(command: &ReassignPartitionsCommand) -> ExitCode {
    let action = match command.action() {
        Ok(action) => action,
        Err(error) => {
            output::error(error);
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(execute(command, action)),
        Err(error) => Err(ToolError::from(error).into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::line(error);
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: &ReassignPartitionsCommand, action: Action) -> Result<(), ReassignError> {
    let file = match action {
        Action::Generate => command.topics_to_move_json_file.as_deref(),
        _ => command.reassignment_json_file.as_deref(),
    };
    let text = file.map(tool::read_file).transpose()?.unwrap_or_default();
    match action {
        Action::Generate => {
            let brokers = files::brokers(command.broker_list.as_deref().unwrap_or_default())?;
            let topics = files::topics(&text)?;
            let mut client = command.brokers.connect().await?;
            Ok(generate(&mut client, topics, &brokers).await?)
        }
        Action::Execute => {
            let proposed = files::executable(files::reassignment(&text)?)?;
            let mut client = command.brokers.connect().await?;
            start(&mut client, command, proposed).await
        }
        Action::Verify => {
            let targets: Assignment = files::reassignment(&text)?.into_iter().collect();
            let mut client = command.brokers.connect().await?;
            Ok(verify(&mut client, &targets, command.preserve_throttles).await?)
        }
        Action::Cancel => {
            let targets: Assignment = files::reassignment(&text)?.into_iter().collect();
            let mut client = command.brokers.connect().await?;
            cancel(&mut client, &targets, command.preserve_throttles).await
        }
        Action::List => {
            let mut client = command.brokers.connect().await?;
            Ok(list(&mut client).await?)
        }
    }
}

/// Shows a partition as Kafka does: `topic-0`.
fn shown((topic, partition): &Partition) -> String {
    format!("{topic}-{partition}")
}

fn joined<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<_> = all.into_iter().map(|one| one.to_string()).collect();
    all.join(",")
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn unknown(what: &str) -> ToolError {
    let class = exceptions::class(ErrorCode::UnknownTopicOrPartition);
    ToolError::told(format!("{class}: {what}"))
}

/// Returns where the topics' partitions are; all topics must be there.
async fn current(
    client: &mut AdminClient,
    topics: BTreeSet<String>,
) -> Result<Assignment, ToolError> {
    let current = queries::replicas(client, topics.clone()).await?;
    let there: BTreeSet<_> = current.keys().map(|(topic, _)| topic).collect();
    match topics.iter().find(|topic| !there.contains(topic)) {
        Some(topic) => Err(unknown(&format!("Topic {topic} not found."))),
        None => Ok(current),
    }
}

async fn generate(
    client: &mut AdminClient,
    topics: Vec<String>,
    brokers: &[i32],
) -> Result<(), ToolError> {
    let current = current(client, topics.into_iter().collect()).await?;
    let there = queries::brokers(client).await?;
    let brokers: Vec<i32> = there
        .into_iter()
        .filter(|id| brokers.contains(id))
        .collect();
    // Somewhere else each time, as in Kafka.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let proposed = propose(&current, &brokers, now.subsec_millis() as usize)?;
    output::line(format_args!(
        "Current partition replica assignment\n{}\n",
        files::write(&current)?
    ));
    output::line(format_args!(
        "Proposed partition reassignment configuration\n{}",
        files::write(&proposed)?
    ));
    Ok(())
}

/// Spreads each topic anew, with as many replicas as its first partition has.
fn propose(current: &Assignment, brokers: &[i32], start: usize) -> Result<Assignment, ToolError> {
    let mut topics: BTreeMap<&String, (i32, usize)> = BTreeMap::new();
    for ((topic, _), replicas) in current {
        topics.entry(topic).or_insert((0, replicas.len())).0 += 1;
    }
    let brokers = brokers.iter().map(|&id| Place { id, rack: None });
    let brokers: Vec<Place<'_>> = brokers.collect();
    let mut proposed = Assignment::new();
    for (topic, (partitions, replicas)) in topics {
        let replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
        let placed = assignment::assign(&brokers, 0, partitions, replicas, start);
        let placed = placed.map_err(|error| ToolError::told(error.to_string()))?;
        proposed.extend(
            placed
                .into_iter()
                .map(|(index, replicas)| ((topic.clone(), index), replicas)),
        );
    }
    Ok(proposed)
}

async fn start(
    client: &mut AdminClient,
    command: &ReassignPartitionsCommand,
    proposed: Assignment,
) -> Result<(), ReassignError> {
    let under_way = queries::moves(client, None).await?;
    if !command.additional && !under_way.is_empty() {
        return Err(ReassignError::Terse(ONGOING.to_owned()));
    }
    let there = queries::brokers(client).await?;
    let mut wanted = proposed.values().flatten();
    if let Some(id) = wanted.find(|id| !there.contains(id)) {
        return Err(ToolError::told(format!("Unknown broker id {id}")).into());
    }
    let mut current = current(
        client,
        proposed.keys().map(|(topic, _)| topic.clone()).collect(),
    )
    .await?;
    current.retain(|partition, _| proposed.contains_key(partition));
    let missing: Vec<_> = proposed
        .keys()
        .filter(|part| !current.contains_key(*part))
        .collect();
    if !missing.is_empty() {
        let missing: Vec<_> = missing.into_iter().map(shown).collect();
        let text = format!("Unable to find partition: {}", missing.join(", "));
        return Err(unknown(&text).into());
    }
    output::line(format_args!(
        "Current partition replica assignment\n\n{}\n\nSave this to use as the --reassignment-json-file option during rollback",
        files::write(&current)?
    ));
    if let Some(bytes) = command.throttle.filter(|bytes| *bytes >= 0) {
        output::line(VERIFY_LATER);
        throttles::limit(client, &under_way, &proposed, &current, bytes).await?;
    }
    let names: Vec<_> = proposed.keys().map(shown).collect();
    let moves = proposed
        .into_iter()
        .map(|(part, replicas)| (part, Some(replicas)));
    let refused = queries::alter(client, moves.collect()).await?;
    if !refused.is_empty() {
        let text = format!("Error reassigning partition(s):\n{}", errors(&refused));
        return Err(ReassignError::Terse(text));
    }
    output::line(format_args!(
        "Successfully started partition reassignment{} for {}",
        plural(names.len()),
        names.join(",")
    ));
    Ok(())
}

fn errors(refused: &BTreeMap<Partition, String>) -> String {
    let lines: Vec<_> = refused
        .iter()
        .map(|(partition, error)| format!("{}: {error}", shown(partition)))
        .collect();
    lines.join("\n")
}

async fn verify(
    client: &mut AdminClient,
    targets: &Assignment,
    preserve_throttles: bool,
) -> Result<(), ToolError> {
    let under_way = queries::moves(client, None).await?;
    let still = targets
        .keys()
        .filter(|partition| !under_way.contains_key(*partition));
    let topics = still.map(|(topic, _)| topic.clone()).collect();
    let current = queries::replicas(client, topics).await?;
    output::line("Status of partition reassignment:");
    for (partition, target) in targets {
        let name = shown(partition);
        let replicas = current.get(partition).map_or(&[][..], Vec::as_slice);
        output::line(if under_way.contains_key(partition) {
            format!("Reassignment of partition {name} is still in progress.")
        } else if replicas == target {
            format!("Reassignment of partition {name} is completed.")
        } else {
            format!(
                "There is no active reassignment of partition {name}, but replica set is {} rather than {}.",
                joined(replicas),
                joined(target)
            )
        });
    }
    // Here Kafka tells of moves between directories.
    output::line("");
    if under_way.is_empty() && !preserve_throttles {
        throttles::clear(client, targets).await?;
    }
    Ok(())
}

async fn cancel(
    client: &mut AdminClient,
    targets: &Assignment,
    preserve_throttles: bool,
) -> Result<(), ReassignError> {
    let under_way = queries::moves(client, Some(targets.keys().cloned().collect())).await?;
    if under_way.is_empty() {
        output::line("None of the specified partition reassignments are active.");
    } else {
        let names: Vec<_> = under_way.keys().map(shown).collect();
        let ends = under_way.into_keys().map(|partition| (partition, None));
        let refused = queries::alter(client, ends.collect()).await?;
        if !refused.is_empty() {
            return Err(ReassignError::Terse(format!(
                "Error cancelling partition reassignment{} for:\n{}",
                plural(refused.len()),
                errors(&refused)
            )));
        }
        output::line(format_args!(
            "Successfully cancelled partition reassignment{} for: {}",
            plural(names.len()),
            names.join(",")
        ));
    }
    // Kafka's tool ends this line no more than this.
    output::prompt("None of the specified partition moves are active.");
    if !preserve_throttles {
        throttles::clear(client, targets).await?;
    }
    Ok(())
}

async fn list(client: &mut AdminClient) -> Result<(), ToolError> {
    let under_way = queries::moves(client, None).await?;
    if under_way.is_empty() {
        output::line("No partition reassignments found.");
        return Ok(());
    }
    output::line("Current partition reassignments:");
    for (partition, found) in under_way {
        let part = |label: &str, ids: &[i32]| match ids.is_empty() {
            true => String::new(),
            false => format!(" {label}: {}.", joined(ids)),
        };
        output::line(format_args!(
            "{}: replicas: {}.{}{}",
            shown(&partition),
            joined(&found.replicas),
            part("adding", &found.adding),
            part("removing", &found.removing)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_spreads_each_topic_over_the_brokers_that_are_named() {
        let partition = |topic: &str, index| (topic.to_owned(), index);
        let current: Assignment = [
            (partition("a", 0), vec![0, 1]),
            (partition("a", 1), vec![1, 0]),
            (partition("b", 0), vec![0]),
        ]
        .into();
        let proposed = propose(&current, &[1, 2], 0).unwrap();
        let expected: Assignment = [
            (partition("a", 0), vec![1, 2]),
            (partition("a", 1), vec![2, 1]),
            (partition("b", 0), vec![1]),
        ]
        .into();
        assert_eq!(proposed, expected);
        let error = propose(&current, &[1], 0).unwrap_err().to_string();
        assert_eq!(
            error,
            "Replication factor: 2 larger than available brokers: 1."
        );
    }
}
