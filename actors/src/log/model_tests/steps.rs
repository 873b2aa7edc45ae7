//! What can happen to a log, and how often the model test lets it happen.

use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Append {
        count: i32,
        value_len: usize,
        later_ms: i64,
        new_epoch: bool,
        sequenced: bool,
    },
    /// A producer's records in a transaction.
    AppendTransactional {
        producer: i64,
        later_ms: i64,
    },
    /// The end of that transaction, or a marker for none.
    EndTransaction {
        producer: i64,
        commit: bool,
    },
    /// A transaction index that a crash left with a part of an entry, or without its last bytes.
    TearTransactionIndex {
        segment: u16,
        cut: bool,
    },
    Read {
        at: u16,
        max_bytes: u64,
        bound: u16,
        one: bool,
    },
    FindTime {
        at: u16,
    },
    Truncate {
        at: u16,
    },
    StartAt {
        gap: i64,
    },
    RaiseStart {
        at: u16,
    },
    Retain {
        bytes: i64,
    },
    Flush,
    Reopen,
    /// kill -9, with a torn write if there is one.
    Kill {
        torn: u16,
    },
    /// Power loss.
    Lose {
        keep: u64,
    },
    FlipLogTail {
        back: u16,
        bit: u8,
    },
    FlipIndex {
        at: u16,
        bit: u8,
        time: bool,
    },
    DropIndex {
        segment: u16,
        time: bool,
    },
    FullDisk {
        room: u64,
    },
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (
        1..5i32,
        0..120usize,
        0..50i64,
        prop::bool::weighted(0.1),
        any::<bool>(),
    )
        .prop_map(
            |(count, value_len, later_ms, new_epoch, sequenced)| Step::Append {
                count,
                value_len,
                later_ms,
                new_epoch,
                sequenced,
            },
        );
    let step = prop_oneof![
        20 => append,
        8 => (10..13i64, 0..50i64)
            .prop_map(|(producer, later_ms)| Step::AppendTransactional { producer, later_ms }),
        5 => (10..13i64, any::<bool>())
            .prop_map(|(producer, commit)| Step::EndTransaction { producer, commit }),
        1 => (any::<u16>(), any::<bool>())
            .prop_map(|(segment, cut)| Step::TearTransactionIndex { segment, cut }),
        10 => (any::<u16>(), 0..2000u64, any::<u16>(), any::<bool>())
            .prop_map(|(at, max_bytes, bound, one)| Step::Read { at, max_bytes, bound, one }),
        4 => any::<u16>().prop_map(|at| Step::FindTime { at }),
        1 => any::<u16>().prop_map(|at| Step::Truncate { at }),
        1 => (0..50i64).prop_map(|gap| Step::StartAt { gap }),
        1 => any::<u16>().prop_map(|at| Step::RaiseStart { at }),
        1 => (0..6000i64).prop_map(|bytes| Step::Retain { bytes }),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        2 => any::<u16>().prop_map(|torn| Step::Kill { torn }),
        1 => (0..400u64).prop_map(|keep| Step::Lose { keep }),
        1 => (any::<u16>(), 0..8u8).prop_map(|(back, bit)| Step::FlipLogTail { back, bit }),
        1 => (any::<u16>(), 0..8u8, any::<bool>()).prop_map(|(at, bit, time)| Step::FlipIndex { at, bit, time }),
        1 => (any::<u16>(), any::<bool>()).prop_map(|(segment, time)| Step::DropIndex { segment, time }),
        1 => (0..300u64).prop_map(|room| Step::FullDisk { room }),
    ];
    prop::collection::vec(step, 1..80)
}
