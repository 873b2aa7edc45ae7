//! Consumer groups as their coordinator tells of them, and as librdkafka's members see them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::process::{HANG_GUARD, Process};
use super::server::{Server, troupe};

/// Waits until a group has exactly so many members, with so many partitions each in ascending order.
#[track_caller]
pub fn wait_for_members(server: &Server, group: &str, counts: &[usize]) {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let mut command = troupe();
        command.args(["consumer-groups", "--bootstrap-server", &server.bootstrap()]);
        command.args(["--describe", "--group", group, "--members"]);
        let output = Process::spawn("consumer-groups", command).finish();
        let stdout = output.stdout();
        let rows = stdout
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|row| row.first() == Some(&group));
        let mut sizes: Vec<usize> = rows.filter_map(|row| row.last()?.parse().ok()).collect();
        sizes.sort_unstable();
        if sizes == counts {
            return;
        }
        assert!(Instant::now() < deadline, "{}", output.text());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The partitions of its topic that a member has now.
pub fn assigned(member: &BaseConsumer) -> BTreeSet<i32> {
    let assignment = member.assignment().unwrap();
    let elements = assignment.elements();
    elements.iter().map(|element| element.partition()).collect()
}

/// Polls members until they have so many partitions, the fewest first, and each partition once.
#[track_caller]
pub fn settle(members: &[&BaseConsumer], counts: &[usize]) -> Vec<BTreeSet<i32>> {
    let deadline = Instant::now() + HANG_GUARD;
    let all: usize = counts.iter().sum();
    loop {
        for member in members {
            // Records come too; they can be read again from what is committed.
            let _ = member.poll(Duration::from_millis(20));
        }
        let assignments: Vec<_> = members.iter().map(|member| assigned(member)).collect();
        let together: BTreeSet<i32> = assignments.iter().flatten().copied().collect();
        let mut sizes: Vec<usize> = assignments.iter().map(BTreeSet::len).collect();
        sizes.sort_unstable();
        if sizes == counts && together.len() == all {
            return assignments;
        }
        assert!(Instant::now() < deadline, "{assignments:?}");
    }
}

/// Polls a static member that is back until it has partitions. The others are not polled, so that they could not take
/// part in a rebalance; this would wait for one.
#[track_caller]
pub fn wait_for_assignment(member: &BaseConsumer) {
    let deadline = Instant::now() + HANG_GUARD;
    while assigned(member).is_empty() {
        let _ = member.poll(Duration::from_millis(20));
        assert!(Instant::now() < deadline, "the member gets nothing");
    }
}
