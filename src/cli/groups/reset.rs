//! `--reset-offsets`: works out new offsets for groups without members, shows them, and commits them with `--execute`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::client::{AdminClient, ClientError};
use super::super::exceptions;
use super::super::log_offsets::{self, EARLIEST, LATEST, LogOffset, NO_OFFSET};
use super::super::output;
use super::flags::{GroupsCommand, TargetFlags, UsageError};
use super::group::{self, DEAD, EMPTY};
use super::offsets;
use super::partitions::{self, Partition, Selection, TopicArgument};
use super::plan::{self, Plan};
use super::{GroupError, say_error, table, times};

/// Says on standard error that nothing will change.
pub(super) fn warn_of_dry_run() {
    output::error(
        "WARN: No action will be performed as the --execute option is missing. In a future major release, the \
         default behavior of this command will be to prompt the user before executing the reset rather than doing a \
         dry run. You should add the --dry-run option explicitly if you are scripting this command and want to keep \
         the current default behavior without prompting.",
    );
}

/// What is to be reset, and where to.
pub(super) struct Reset {
    /// `None` for whatever the group has committed.
    topics: Option<Vec<TopicArgument>>,
    target: Target,
    execute: bool,
    export: bool,
    only_group: Option<String>,
}

/// Where offsets are reset to.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Offset(i64),
    Earliest,
    Latest,
    Current,
    ShiftBy(i64),
    /// In milliseconds since 1970.
    Time(i64),
    Plan(Plan),
}

impl Reset {
    /// Reads the flags, which must have been checked, and the file of `--from-file`.
    pub(super) fn from_flags(command: &GroupsCommand) -> Result<Self, GroupError> {
        let only_group = match &command.groups[..] {
            [group] => Some(group.clone()),
            _ => None,
        };
        let topics = command.topics.iter().map(|text| TopicArgument::parse(text));
        let topics = topics.collect::<Result<Vec<_>, UsageError>>()?;
        Ok(Self {
            topics: (!command.all_topics).then_some(topics),
            target: Target::from_flags(&command.target, only_group.as_deref())?,
            execute: command.execute,
            export: command.export,
            only_group,
        })
    }
}

impl Target {
    fn from_flags(flags: &TargetFlags, only_group: Option<&str>) -> Result<Self, GroupError> {
        if let Some(offset) = flags.to_offset {
            return Ok(Target::Offset(offset));
        }
        if let Some(text) = &flags.to_datetime {
            return times::datetime_ms(text)
                .map(Target::Time)
                .map_err(GroupError::Argument);
        }
        if let Some(text) = &flags.by_duration {
            let duration_ms = times::duration_ms(text).map_err(GroupError::Argument)?;
            return Ok(Target::Time(now_ms().saturating_sub(duration_ms)));
        }
        if let Some(shift) = flags.shift_by {
            return Ok(Target::ShiftBy(shift));
        }
        if let Some(path) = &flags.from_file {
            let shown = path.display();
            let text = std::fs::read_to_string(path).map_err(|error| {
                GroupError::Argument(format!("Unable to read file {shown}: {error}"))
            })?;
            let plan = plan::parse(&text, only_group)
                .map_err(|problem| GroupError::Argument(format!("{shown}: {problem}")))?;
            return Ok(Target::Plan(plan));
        }
        Ok(match flags {
            TargetFlags {
                to_earliest: true, ..
            } => Target::Earliest,
            TargetFlags {
                to_latest: true, ..
            } => Target::Latest,
            _ => Target::Current,
        })
    }
}

fn now_ms() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

/// Resets the groups that have no members, and shows their new offsets.
pub(super) async fn reset(
    client: &mut AdminClient,
    reset: &Reset,
    groups: Vec<String>,
) -> Result<(), GroupError> {
    let mut plan = Plan::new();
    for name in groups {
        let state = group::fetch(client, &name).await?.state;
        let mut offsets = BTreeMap::new();
        if [EMPTY, DEAD].contains(&&*state) {
            offsets = prepare(client, reset, &name).await?;
            if reset.execute && !offsets.is_empty() {
                offsets::commit(client, &name, &offsets).await?;
            }
        } else {
            say_error(&format!(
                "Assignments can only be reset if the group '{name}' is inactive, but the current state is {state}."
            ));
        }
        plan.insert(name, offsets);
    }
    if reset.export {
        output::line(plan::export(&plan, reset.only_group.is_some()));
    } else {
        print(&plan);
    }
    Ok(())
}

fn print(plan: &Plan) {
    let columns = [
        ("GROUP", Some(30)),
        ("TOPIC", Some(30)),
        ("PARTITION", Some(10)),
        ("NEW-OFFSET", Some(15)),
    ];
    let row = |group: &String, ((topic, partition), offset): (&Partition, &i64)| {
        vec![
            group.clone(),
            topic.clone(),
            partition.to_string(),
            offset.to_string(),
        ]
    };
    let offsets = plan.iter();
    let rows = offsets.flat_map(|(group, offsets)| offsets.iter().map(move |at| row(group, at)));
    table::print(&columns, &rows.collect::<Vec<_>>());
}

/// Works out the new offsets of a group.
async fn prepare(
    client: &mut AdminClient,
    reset: &Reset,
    group: &str,
) -> Result<BTreeMap<Partition, i64>, GroupError> {
    if let Target::Plan(plan) = &reset.target {
        let Some(offsets) = plan.get(group) else {
            say_error(&format!("No reset plan for group {group} found"));
            return Ok(BTreeMap::new());
        };
        return in_range(client, offsets.clone()).await;
    }
    let committed = offsets::committed(client, group).await?;
    let partitions = match &reset.topics {
        None => committed.keys().cloned().collect(),
        Some(topics) => selected(client, topics).await?,
    };
    match &reset.target {
        Target::Offset(offset) => {
            let wanted = partitions.into_iter().map(|partition| (partition, *offset));
            in_range(client, wanted.collect()).await
        }
        Target::ShiftBy(shift) => in_range(client, shifted(&partitions, &committed, *shift)?).await,
        Target::Earliest => known(log_offsets::of_logs(client, &partitions, EARLIEST).await?),
        Target::Latest => known(log_offsets::of_logs(client, &partitions, LATEST).await?),
        Target::Time(timestamp) => at_time(client, &partitions, *timestamp).await,
        Target::Current | Target::Plan(_) => current(client, partitions, &committed).await,
    }
}

async fn selected(
    client: &mut AdminClient,
    topics: &[TopicArgument],
) -> Result<BTreeSet<Partition>, GroupError> {
    let Selection { partitions, failed } = partitions::select(client, topics).await?;
    match failed.into_values().next() {
        Some(error) => Err(error.into()),
        None => Ok(partitions),
    }
}

fn shifted(
    partitions: &BTreeSet<Partition>,
    committed: &BTreeMap<Partition, i64>,
    shift: i64,
) -> Result<BTreeMap<Partition, i64>, UsageError> {
    let shifted = |partition: &Partition| match committed.get(partition) {
        Some(offset) => Ok((partition.clone(), offset.saturating_add(shift))),
        None => Err(UsageError(format!(
            "Cannot shift offset for partition {} since there is no current committed offset",
            partitions::show(partition)
        ))),
    };
    partitions.iter().map(shifted).collect()
}

/// Keeps what is committed, and takes the end where nothing is.
async fn current(
    client: &mut AdminClient,
    mut partitions: BTreeSet<Partition>,
    committed: &BTreeMap<Partition, i64>,
) -> Result<BTreeMap<Partition, i64>, GroupError> {
    let kept = committed
        .iter()
        .filter(|(partition, _)| partitions.contains(*partition));
    let kept: BTreeMap<_, _> = kept
        .map(|(partition, offset)| (partition.clone(), *offset))
        .collect();
    partitions.retain(|partition| !kept.contains_key(partition));
    let mut offsets = known(log_offsets::of_logs(client, &partitions, LATEST).await?)?;
    offsets.extend(kept);
    Ok(offsets)
}

/// Takes the first record from a time on, and the end where there is none.
async fn at_time(
    client: &mut AdminClient,
    partitions: &BTreeSet<Partition>,
    timestamp: i64,
) -> Result<BTreeMap<Partition, i64>, GroupError> {
    let mut offsets = known(log_offsets::of_logs(client, partitions, timestamp).await?)?;
    let missing = offsets.iter().filter(|(_, offset)| **offset == NO_OFFSET);
    let missing: BTreeSet<Partition> = missing.map(|(partition, _)| partition.clone()).collect();
    for (topic, partition) in &missing {
        output::line(format_args!(
            "\nWarn: Partition {partition} from topic {topic} is empty. Falling back to latest known offset."
        ));
    }
    offsets.extend(known(
        log_offsets::of_logs(client, &missing, LATEST).await?,
    )?);
    Ok(offsets)
}

/// Takes offsets that every leader could tell.
fn known(offsets: BTreeMap<Partition, LogOffset>) -> Result<BTreeMap<Partition, i64>, GroupError> {
    let known = |(partition, offset): (Partition, LogOffset)| match offset {
        Ok(offset) => Ok((partition, offset)),
        Err(code) => {
            let reason = match ClientError::check(code.code(), None) {
                Ok(()) => String::new(),
                Err(error) => exceptions::named(&error),
            };
            let shown = partitions::show(&partition);
            Err(GroupError::Argument(format!("{reason} ({shown})")))
        }
    };
    offsets.into_iter().map(known).collect()
}

/// Brings offsets into the range that the logs have.
async fn in_range(
    client: &mut AdminClient,
    wanted: BTreeMap<Partition, i64>,
) -> Result<BTreeMap<Partition, i64>, GroupError> {
    let partitions = wanted.keys().cloned().collect();
    let earliest = known(log_offsets::of_logs(client, &partitions, EARLIEST).await?)?;
    let latest = known(log_offsets::of_logs(client, &partitions, LATEST).await?)?;
    let mut offsets = BTreeMap::new();
    for (partition, wanted) in wanted {
        let bound = |offsets: &BTreeMap<Partition, i64>| offsets.get(&partition).copied();
        let start = bound(&earliest).unwrap_or(wanted);
        let end = bound(&latest).unwrap_or(wanted);
        let (offset, problem) = clamp(wanted, start, end);
        if let Some(problem) = problem {
            output::error(format_args!(
                "WARN New offset ({wanted}) is {problem} offset for topic partition {}. Value will be set to {offset}",
                partitions::show(&partition)
            ));
        }
        offsets.insert(partition, offset);
    }
    Ok(offsets)
}

/// Brings an offset between the beginning and the end of a log, and tells what was wrong with it.
fn clamp(offset: i64, start: i64, end: i64) -> (i64, Option<&'static str>) {
    if offset > end {
        (end, Some("higher than latest"))
    } else if offset < start {
        (start, Some("lower than earliest"))
    } else {
        (offset, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_brought_into_the_log() {
        assert_eq!(clamp(5, 2, 7), (5, None));
        assert_eq!(clamp(2, 2, 7), (2, None));
        assert_eq!(clamp(7, 2, 7), (7, None));
        assert_eq!(clamp(8, 2, 7), (7, Some("higher than latest")));
        assert_eq!(clamp(-1, 2, 7), (2, Some("lower than earliest")));
    }

    #[test]
    fn only_what_is_committed_can_be_shifted() {
        let at = |partition| ("t".to_owned(), partition);
        let committed = [(at(0), 5), (at(1), i64::MAX)].into();
        assert_eq!(
            shifted(&[at(0), at(1)].into(), &committed, 3).unwrap(),
            [(at(0), 8), (at(1), i64::MAX)].into()
        );
        assert_eq!(
            shifted(&[at(0), at(2)].into(), &committed, 3)
                .unwrap_err()
                .0,
            "Cannot shift offset for partition t-2 since there is no current committed offset"
        );
    }

    #[test]
    fn a_duration_counts_back_from_now() {
        let flags = TargetFlags {
            by_duration: Some("PT1H".to_owned()),
            ..TargetFlags::default()
        };
        let before = now_ms();
        let Ok(Target::Time(time)) = Target::from_flags(&flags, None) else {
            panic!("not a time");
        };
        assert!((before..=now_ms()).contains(&(time + 3_600_000)));
    }
}
