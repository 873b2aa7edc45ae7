//! Whether the state of a partition makes sense: anybody with a shell may have written its znode.

use std::collections::BTreeSet;

use crate::coordination::schema::{MalformedZnode, PartitionState, from_json};
use crate::metadata::{BrokerId, NO_LEADER};

/// Reads the state of a partition that has these replicas.
///
/// # Errors
/// What the znode should hold, when it holds something else.
pub(super) fn read(
    path: &str,
    data: &[u8],
    replicas: &[BrokerId],
) -> Result<PartitionState, MalformedZnode> {
    let state: PartitionState = from_json(path, data)?;
    match expected(&state, replicas) {
        None => Ok(state),
        Some(reason) => Err(MalformedZnode {
            path: path.to_owned(),
            content: String::from_utf8_lossy(data).into_owned(),
            reason,
        }),
    }
}

/// Says what is expected instead of a state that makes no sense.
fn expected(state: &PartitionState, replicas: &[BrokerId]) -> Option<String> {
    let PartitionState {
        leader,
        leader_epoch,
        isr,
        ..
    } = state;
    let distinct: BTreeSet<BrokerId> = isr.iter().copied().collect();
    if *leader_epoch < 0 {
        return Some("expected a leader_epoch from 0 on".to_owned());
    }
    if isr.is_empty() || distinct.len() != isr.len() || !isr.iter().all(|id| replicas.contains(id))
    {
        return Some(format!(
            "expected an isr of some of the replicas {replicas:?}"
        ));
    }
    if *leader != NO_LEADER && !isr.contains(leader) {
        return Some(format!(
            "expected a leader out of the isr {isr:?}, or {NO_LEADER} for none"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/brokers/topics/t/partitions/0/state";

    fn told(data: &str) -> Option<String> {
        let read = read(PATH, data.as_bytes(), &[1, 2, 3]);
        read.err().map(|error| error.to_string())
    }

    fn state(leader: BrokerId, leader_epoch: i32, isr: &str) -> String {
        format!(
            r#"{{"controller_epoch":1,"leader":{leader},"version":1,"leader_epoch":{leader_epoch},"isr":{isr}}}"#
        )
    }

    #[test]
    fn what_a_controller_writes_makes_sense() {
        for good in [
            state(1, 0, "[1]"),
            state(3, 7, "[2,3]"),
            state(NO_LEADER, 7, "[2]"),
        ] {
            assert_eq!(told(&good), None, "{good}");
        }
    }

    #[test]
    fn what_nobody_can_be_elected_by_is_refused() {
        let bad = [
            (String::new(), "EOF"),
            ("[]".to_owned(), "invalid"),
            (r#"{"leader":1}"#.to_owned(), "missing field"),
            (state(9, 0, "[1]"), "expected a leader out of the isr [1]"),
            (state(-7, 0, "[1]"), "expected a leader"),
            (state(2, 0, "[1]"), "expected a leader"),
            (state(1, 0, "[1,9]"), "some of the replicas [1, 2, 3]"),
            (state(1, 0, "[1,1]"), "expected an isr"),
            (state(NO_LEADER, 0, "[]"), "expected an isr"),
            (state(1, -1, "[1]"), "expected a leader_epoch"),
        ];
        for (data, reason) in bad {
            let told = told(&data).expect("refused");
            assert!(told.contains(PATH), "{told}");
            assert!(told.contains(reason), "{told}");
        }
    }
}
