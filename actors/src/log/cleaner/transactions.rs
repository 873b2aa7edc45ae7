//! What compaction has to know of transactions: which data was aborted, and which markers are still needed.
//!
//! A marker goes only after all data of its transaction, and then waits as long as a tombstone (KIP-98, KIP-534).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use troupe_protocol::kafka::records::batch::BatchHeader;
use troupe_protocol::kafka::records::control::EndTxnMarker;

use crate::log::txn_index::AbortedTransaction;

/// The transactions at one point of a pass through a log.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Aborted ones that begin later, by first offset.
    to_come: VecDeque<AbortedTransaction>,
    /// Aborted ones that began and have not ended, by producer, and whether data of them was met.
    aborted: BTreeMap<i64, (AbortedTransaction, bool)>,
    /// Producers of data whose transaction was committed.
    committed: BTreeSet<i64>,
    /// Aborted ones whose marker was met after data of theirs.
    ended: Vec<AbortedTransaction>,
}

impl Transactions {
    /// Starts at the beginning of a log with these aborted transactions, which are by first offset.
    pub(super) fn new(aborted: &[AbortedTransaction]) -> Self {
        Self {
            to_come: aborted.iter().copied().collect(),
            ..Self::default()
        }
    }

    /// Passes a batch; `marker` is what a control batch says.
    ///
    /// Returns whether it can be done without: data of an aborted transaction, or the marker of one whose data is gone.
    pub(super) fn pass(&mut self, header: &BatchHeader, marker: Option<EndTxnMarker>) -> bool {
        self.begin_up_to(header.last_offset());
        let producer = header.producer_id;
        if header.attributes.is_control() {
            return match marker {
                // What it said was removed before.
                _ if header.record_count == 0 => true,
                Some(EndTxnMarker { commit: true, .. }) => !self.committed.remove(&producer),
                Some(EndTxnMarker { commit: false, .. }) => match self.aborted.remove(&producer) {
                    Some((aborted, true)) => {
                        self.ended.push(aborted);
                        false
                    }
                    _ => true,
                },
                None => false,
            };
        }
        if !header.attributes.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&producer) {
            // Past its marker a transaction has no more data, should the marker be missing.
            Some((aborted, met)) if header.last_offset() < aborted.last_offset => {
                *met = true;
                true
            }
            _ => {
                self.committed.insert(producer);
                false
            }
        }
    }

    fn begin_up_to(&mut self, offset: i64) {
        while let Some(next) = self.to_come.front().copied() {
            if next.first_offset > offset {
                return;
            }
            self.to_come.pop_front();
            let before = self.aborted.get(&next.producer_id);
            if before.is_none_or(|(before, _)| before.last_offset < next.first_offset) {
                self.aborted.insert(next.producer_id, (next, false));
            }
        }
    }

    /// Returns the aborted transactions that ended since the last call and whose readers still have to be told.
    pub(super) fn take_ended(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::{BatchSpec, batch_header};

    const ABORTED: AbortedTransaction = AbortedTransaction {
        producer_id: 7,
        first_offset: 10,
        last_offset: 20,
        last_stable_offset: 21,
    };

    fn data(producer: i64, base_offset: i64) -> BatchHeader {
        batch_header(&BatchSpec {
            base_offset,
            producer: Some((producer, 0, 0)),
            transactional: true,
            ..BatchSpec::default()
        })
    }

    fn marker(
        producer: i64,
        base_offset: i64,
        commit: bool,
    ) -> (BatchHeader, Option<EndTxnMarker>) {
        let header = batch_header(&BatchSpec {
            base_offset,
            producer: Some((producer, 0, -1)),
            transactional: true,
            control: true,
            commit,
            ..BatchSpec::default()
        });
        let marker = EndTxnMarker {
            commit,
            coordinator_epoch: 3,
        };
        (header, Some(marker))
    }

    fn pass(
        transactions: &mut Transactions,
        (header, marker): (BatchHeader, Option<EndTxnMarker>),
    ) -> bool {
        transactions.pass(&header, marker)
    }

    #[test]
    fn aborted_data_goes_and_its_marker_stays_once_more() {
        let mut transactions = Transactions::new(&[ABORTED]);
        assert!(!transactions.pass(&data(7, 5), None), "before it began");
        assert!(!pass(&mut transactions, marker(7, 6, true)));
        assert!(transactions.pass(&data(7, 10), None));
        assert!(!transactions.pass(&data(8, 11), None), "another producer's");
        assert!(transactions.pass(&data(7, 15), None));
        assert!(!pass(&mut transactions, marker(7, 20, false)));
        assert_eq!(transactions.take_ended(), [ABORTED]);
        assert!(transactions.take_ended().is_empty());
        assert!(!transactions.pass(&data(7, 21), None), "after it ended");
    }

    #[test]
    fn a_marker_without_data_can_go() {
        let mut transactions = Transactions::new(&[ABORTED]);
        assert!(pass(&mut transactions, marker(7, 20, false)));
        assert!(transactions.take_ended().is_empty());
        assert!(pass(&mut transactions, marker(7, 30, true)));
        assert!(!transactions.pass(&data(7, 31), None));
        assert!(!pass(&mut transactions, marker(7, 32, true)));
        assert!(pass(&mut transactions, marker(7, 33, true)));
    }

    #[test]
    fn a_transaction_ends_although_its_marker_is_missing() {
        let mut transactions = Transactions::new(&[ABORTED]);
        assert!(transactions.pass(&data(7, 12), None));
        assert!(!transactions.pass(&data(7, 25), None));
        assert!(!pass(&mut transactions, marker(7, 26, true)));
    }

    #[test]
    fn data_without_a_transaction_stays() {
        let mut transactions = Transactions::new(&[ABORTED]);
        let header = batch_header(&BatchSpec {
            base_offset: 12,
            producer: Some((7, 0, 0)),
            ..BatchSpec::default()
        });
        assert!(!transactions.pass(&header, None));
    }

    #[test]
    fn of_control_batches_only_markers_and_empty_ones_can_go() {
        let mut transactions = Transactions::default();
        let (header, _) = marker(7, 1, true);
        assert!(!transactions.pass(&header, None));
        let empty = BatchHeader {
            record_count: 0,
            ..header
        };
        assert!(transactions.pass(&empty, None));
    }
}
