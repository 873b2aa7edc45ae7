//! `--describe`: committed offsets and lag, members, or the state.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use troupe_protocol::kafka::messages::find_coordinator_response::Coordinator;

use super::super::client::{AdminClient, ClientError};
use super::super::log_offsets::{self, LATEST};
use super::super::output;
use super::flags::GroupsCommand;
use super::group::{self, DEAD, EMPTY, Group, Member};
use super::offsets;
use super::partitions::Partition;
use super::table::{self, Column};
use super::{GroupError, MISSING, assignment, say_error};

/// Prints the groups, each in a table of its own.
pub(super) async fn describe(
    client: &mut AdminClient,
    command: &GroupsCommand,
    groups: Vec<String>,
) -> Result<(), GroupError> {
    // By their names, and each of them once, as Kafka's tool has it.
    for name in groups.into_iter().collect::<BTreeSet<_>>() {
        let group = group::fetch(client, &name).await?;
        say_state(&group);
        let exists = group.state != DEAD;
        if command.members {
            // Kafka's tool has this table of a group that does not exist as well.
            print_members(&group, command.verbose);
        } else if command.state.is_some() && exists {
            print_state(&group);
        } else if exists {
            print_offsets(client, &group).await?;
        }
    }
    Ok(())
}

/// Says what is particular about a group's state.
fn say_state(group: &Group) {
    let name = &group.name;
    match group.state.as_str() {
        DEAD => say_error(&format!("Consumer group '{name}' does not exist.")),
        EMPTY => output::error(format_args!(
            "\nConsumer group '{name}' has no active members."
        )),
        "PreparingRebalance" | "CompletingRebalance" | "Assigning" | "Reconciling" => {
            output::error(format_args!(
                "\nWarning: Consumer group '{name}' is rebalancing."
            ));
        }
        _ => {}
    }
}

async fn print_offsets(client: &mut AdminClient, group: &Group) -> Result<(), ClientError> {
    let committed = offsets::committed(client, &group.name).await?;
    let mut partitions: BTreeSet<Partition> = committed.keys().cloned().collect();
    for member in &group.members {
        for (topic, numbers) in &member.assignment {
            partitions.extend(numbers.iter().map(|number| (topic.clone(), *number)));
        }
    }
    if partitions.is_empty() {
        return Ok(());
    }
    let ends = log_offsets::of_logs(client, &partitions, LATEST).await?;
    let ends = ends
        .into_iter()
        .filter_map(|(at, end)| Some((at, end.ok()?)));
    let columns = [
        ("GROUP", Some(15)),
        ("TOPIC", Some(15)),
        ("PARTITION", Some(10)),
        ("CURRENT-OFFSET", Some(15)),
        ("LOG-END-OFFSET", Some(15)),
        ("LAG", Some(15)),
        ("CONSUMER-ID", Some(15)),
        ("HOST", Some(15)),
        ("CLIENT-ID", None),
    ];
    let rows = offset_rows(group, &committed, &ends.collect(), partitions);
    table::print(&columns, &rows);
    Ok(())
}

/// Makes a row of each partition: first those of the members with the most, last those that nobody has.
fn offset_rows(
    group: &Group,
    committed: &BTreeMap<Partition, i64>,
    ends: &BTreeMap<Partition, i64>,
    mut partitions: BTreeSet<Partition>,
) -> Vec<Vec<String>> {
    let row = |partition: &Partition, owner: [&str; 3]| {
        let current = committed.get(partition).copied();
        let end = ends.get(partition).copied();
        let lag = current
            .zip(end)
            .map(|(current, end)| end.saturating_sub(current));
        let show =
            |offset: Option<i64>| offset.map_or(MISSING.to_owned(), |offset| offset.to_string());
        let (topic, number) = partition;
        let mut row = vec![group.name.clone(), topic.clone(), number.to_string()];
        row.extend([current, end, lag].map(show));
        row.extend(owner.map(str::to_owned));
        row
    };
    let mut members: Vec<_> = group.members.iter().collect();
    members.sort_by_key(|member| Reverse(member.partition_count()));
    let mut rows = Vec::new();
    for member in members {
        for (topic, numbers) in &member.assignment {
            for number in numbers {
                let partition = (topic.clone(), *number);
                partitions.remove(&partition);
                let owner = [&*member.consumer_id, &*member.host, &*member.client_id];
                rows.push(row(&partition, owner));
            }
        }
    }
    rows.extend(
        partitions
            .iter()
            .map(|partition| row(partition, [MISSING; 3])),
    );
    rows
}

fn print_members(group: &Group, verbose: bool) {
    let (columns, rows) = member_table(group, verbose);
    table::print(&columns, &rows);
}

fn member_table(group: &Group, verbose: bool) -> (Vec<Column>, Vec<Vec<String>>) {
    let mut members = group.members.iter();
    let has_static = members.any(|member| !member.instance_id.is_empty());
    let mut columns: Vec<Column> = vec![("GROUP", Some(15)), ("CONSUMER-ID", Some(15))];
    columns.extend(has_static.then_some(("GROUP-INSTANCE-ID", Some(17))));
    columns.extend([("HOST", Some(15)), ("CLIENT-ID", Some(15))]);
    // The last column is empty without --verbose, but Kafka's tool has the space before it.
    let last = if verbose { "ASSIGNMENT" } else { "" };
    columns.extend([("#PARTITIONS", Some(15)), (last, None)]);
    let row = |member: &Member| {
        let mut row = vec![group.name.clone(), member.consumer_id.clone()];
        row.extend(has_static.then(|| member.instance_id.clone()));
        row.extend([member.host.clone(), member.client_id.clone()]);
        row.push(member.partition_count().to_string());
        row.push(match verbose {
            false => String::new(),
            true if member.assignment.is_empty() => MISSING.to_owned(),
            true => assignment::show(&member.assignment),
        });
        row
    };
    (columns, group.members.iter().map(row).collect())
}

fn print_state(group: &Group) {
    let columns = [
        ("GROUP", Some(25)),
        ("COORDINATOR (ID)", Some(25)),
        ("ASSIGNMENT-STRATEGY", Some(20)),
        ("STATE", Some(15)),
        ("#MEMBERS", None),
    ];
    let Coordinator {
        host,
        port,
        node_id,
        ..
    } = &group.coordinator;
    let row = vec![
        group.name.clone(),
        format!("{}:{port}  ({})", &**host, node_id.0),
        group.strategy.clone(),
        group.state.clone(),
        group.members.len().to_string(),
    ];
    table::print(&columns, &[row]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_that_is_unknown_is_not_zero() {
        let member = |id: &str, partitions: &[i32]| Member {
            consumer_id: id.to_owned(),
            instance_id: String::new(),
            host: "/127.0.0.1".to_owned(),
            client_id: "c".to_owned(),
            assignment: [("t".to_owned(), partitions.to_vec())].into(),
        };
        let group = Group {
            name: "g".to_owned(),
            coordinator: Coordinator::default(),
            state: "Stable".to_owned(),
            strategy: "range".to_owned(),
            members: vec![member("a", &[2]), member("b", &[0, 1])],
        };
        let at = |partition| ("t".to_owned(), partition);
        let committed = [(at(0), 3), (at(2), 4), (at(3), 5)].into();
        let ends = [(at(0), 3), (at(1), 7), (at(3), 9)].into();
        let rows = offset_rows(&group, &committed, &ends, (0..4).map(at).collect());
        let shown: Vec<_> = rows.iter().map(|row| row[2..7].join(" ")).collect();
        assert_eq!(shown, ["0 3 3 0 b", "1 - 7 - b", "2 4 - - a", "3 5 9 4 -"]);
    }
}
